/* pipeline/window.h: known answers, ImageNet's constants, one unit in the last place of float. */
#include "tests/test.h"

#include "pipeline/window.h"

static const float mean[3] = {0.485f, 0.456f, 0.406f}, deviation[3] = {0.229f, 0.224f, 0.225f};
static Window window;

TEST(window_brain_ramp, "level 40 width 80: 0 HU is 0, 20 is 1/4, 40 is 1/2, 80 is 1; clipped")
{
    const int hu[] = {-32768, -1024, -1, 0, 1, 20, 40, 60, 79, 80, 81, 3071, 32767};
    const double want[] = {0, 0, 0, 0, 1.0 / 80, 0.25, 0.5, 0.75, 79.0 / 80, 1, 1, 1, 1};
    for (size_t i = 0; i < sizeof hu / sizeof hu[0]; i++)
        CHECK_NEAR(window_norm(40, 80, hu[i]), want[i], 1e-15);
    CHECK_NEAR(window_norm(3000, 2000, 3500), 0.75, 1e-15); /* beyond what a model is shown */
}

TEST(window_mask_floor_before_normalising, "outside the mask: -2.118 -2.036 -1.804, never 0")
{
    Err err = {0};
    CHECK_OK(window_init(40, 80, mean, deviation, &window, &err), &err);
    const int16_t hu[4] = {40, 40, 2000, -1000};
    const uint8_t mask[4] = {1, 0, 0, 1};
    float x[12];
    window_slice(&window, hu, mask, 4, x);
    const double floor[3] = {-2.1179039, -2.0357143, -1.8044444};
    for (int c = 0; c < 3; c++) {
        CHECK_NEAR(x[c * 4], (0.5 - (double)mean[c]) / (double)deviation[c], 1e-6);
        for (int i = 1; i < 4; i++)
            CHECK_NEAR(x[c * 4 + i], floor[c], 1e-6);
    }
    window_slice(&window, hu, NULL, 4, x);
    CHECK_NEAR(x[1], (0.5 - (double)mean[0]) / (double)deviation[0], 1e-6);
    CHECK_NEAR(x[2], (1 - (double)mean[0]) / (double)deviation[0], 1e-6);
}

TEST(window_is_linear_exact, "PS3.3 LINEAR_EXACT over all 4096 values, not LINEAR; one table")
{
    Err err = {0};
    double largest = 0;
    CHECK_OK(window_init(40, 80, mean, deviation, &window, &err), &err);
    for (int hu = -1024; hu <= 3071; hu++) {
        double y = (hu - 40) / 80.0 + 0.5, want = y < 0 ? 0 : y > 1 ? 1 : y;
        CHECK_NEAR(window_norm(40, 80, hu), want, 1e-15);
        float x[3];
        const int16_t one = (int16_t)hu;
        window_slice(&window, &one, NULL, 1, x);
        for (int c = 0; c < 3; c++)
            CHECK_NEAR(x[c], (want - (double)mean[c]) / (double)deviation[c], 1e-5);
        double linear = (hu - 39.5) / 79 + 0.5; /* LINEAR: c - 0.5, w - 1 */
        linear = linear < 0 ? 0 : linear > 1 ? 1 : linear;
        largest = fmax(largest, fabs(linear - want));
    }
    CHECK(largest > 0.005 && largest < 0.013);
}

TEST(window_floor_of_a_wide_window, "a window that reaches below -1024 HU still masks to norm 0")
{
    Err err = {0};
    CHECK_OK(window_init(0, 4000, mean, deviation, &window, &err), &err);
    const int16_t hu[2] = {-1024, -1024};
    const uint8_t mask[2] = {1, 0};
    float x[6];
    window_slice(&window, hu, mask, 2, x);
    CHECK_NEAR(x[0], (976.0 / 4000 - (double)mean[0]) / (double)deviation[0], 1e-6);
    CHECK_NEAR(x[1], -2.1179039, 1e-6);
}

TEST(window_presets, "the five names and their numbers; another name is none")
{
    const struct {
        const char *name;
        double level, width;
    } want[] = {{"brain", 40, 80},
                {"stroke", 40, 40},
                {"subdural", 80, 200},
                {"soft", 40, 400},
                {"bone", 600, 2800}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        const WindowPreset *p = window_preset(want[i].name);
        CHECK(p != NULL);
        CHECK_NEAR(p->level_hu, want[i].level, 0);
        CHECK_NEAR(p->width_hu, want[i].width, 0);
    }
    CHECK(window_preset("lung") == NULL);
}

TEST(window_refuses_nonsense, "width 0, NaN, deviation 0 are USAGE")
{
    Err err = {0};
    const float zero[3] = {0.2f, 0, 0.2f};
    CHECK_STATUS(window_init(40, 0, mean, deviation, &window, &err), ST_USAGE);
    CHECK_STATUS(window_init(40, -80, mean, deviation, &window, NULL), ST_USAGE);
    CHECK_STATUS(window_init(40, (double)NAN, mean, deviation, &window, NULL), ST_USAGE);
    CHECK_STATUS(window_init(HUGE_VAL, 80, mean, deviation, &window, NULL), ST_USAGE);
    CHECK_STATUS(window_init(40, 80, mean, zero, &window, NULL), ST_USAGE);
}
