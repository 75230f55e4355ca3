/* registration/mutual.h and registration/bias.h: known answers on small images made by formula.
**
** Mutual information of images of two values each is 0 or ln 2 exactly; its gradient is compared
** with central differences (images smooth, fixed inside moving, so that no sample comes or goes);
** a cubic brightness put on an image is taken out again to 5 % (it is estimated with a ridge). */
#include "tests/test.h"

#include "registration/bias.h"
#include "registration/mutual.h"

#include <math.h>

enum { N = 34, INNER = 24 };
#define OFF_MM 1.1 /* off the moving voxels, where a trilinear image has kinks */
#define INNER_AT (1.5 * (N - INNER) + OFF_MM) /* of the inner grid's corner, from the outer's */

static Arena arena;
static Err err;
static float moving[N * N * N], bin[N * N * N];
static uint8_t head[N * N * N];

/* Moving N^3 and fixed n^3 voxels of 3 mm, both centred on the origin. */
static MetricLevel level_of(int n)
{
    MetricLevel level = {.bin = bin, .head = head, .n_head = n * n * n};
    level.moving = (VolumeF32){{N, N, N, affine_identity()}, moving};
    level.fixed = (Grid){n, n, n, affine_identity()};
    for (int a = 0; a < 3; a++) {
        level.moving.grid.lps_from_vox.m[a][a] = level.fixed.lps_from_vox.m[a][a] = 3;
        level.moving.grid.lps_from_vox.m[a][3] = -1.5 * (N - 1);
        level.fixed.lps_from_vox.m[a][3] = -1.5 * (n - 1) + (n < N ? OFF_MM : 0);
    }
    memset(head, 1, sizeof head);
    return level;
}

static void start(void)
{
    CHECK_OK(arena_open((size_t)64 << 20, &arena, &err), &err);
}

/* Fixed by halves along x, moving along the given axis; identity. */
static double information_of_halves(int axis)
{
    MetricLevel level = level_of(N);
    Mutual mutual;
    int i = 0;
    for (int z = 0; z < N; z++)
        for (int y = 0; y < N; y++)
            for (int x = 0; x < N; x++, i++) {
                const int at[3] = {x, y, z};
                bin[i] = x < N / 2 ? 10 : 30;
                moving[i] = at[axis] < N / 2 ? 20 : 80;
            }
    CHECK_OK(mutual_open(&level, 0, 100, &arena, &mutual, &err), &err);
    return -mutual_cost(&mutual, affine_identity(), 1);
}

TEST(mutual_information_of_halves, "one image tells the other: ln 2; nothing about it: 0")
{
    start();
    CHECK_NEAR(information_of_halves(0), log(2), 1e-6);
    CHECK_NEAR(information_of_halves(1), 0, 1e-6);
}

static double wave(double x, double y, double z)
{
    return sin(0.11 * x + 0.2) * cos(0.07 * y) + 0.6 * sin(0.09 * z + 0.05 * x) +
           0.3 * cos(0.2 * y);
}

/* Two smooth images that agree but for a turn. */
static MetricLevel smooth_images(void)
{
    MetricLevel level = level_of(INNER);
    int i = 0;
    for (int z = 0; z < N; z++)
        for (int y = 0; y < N; y++)
            for (int x = 0; x < N; x++, i++)
                moving[i] = (float)(50 + 24 * wave(3 * x, 3 * y, 3 * z));
    i = 0;
    for (int z = 0; z < INNER; z++)
        for (int y = 0; y < INNER; y++)
            for (int x = 0; x < INNER; x++, i++)
                bin[i] = (float)(23 - 10 * wave(3 * x + INNER_AT + 2 + 0.05 * y,
                                                3 * y + INNER_AT - 1, 3 * z + INNER_AT));
    level.centre_lps = (Vec3){4, -2, 1};
    return level;
}

/* The identity with one of the twelve parameters of metric.h changed. */
static Affine changed(const MetricLevel *level, int parameter, double by)
{
    Affine t = affine_identity();
    const double centre[3] = {level->centre_lps.x, level->centre_lps.y, level->centre_lps.z};
    int r = parameter / 4, c = parameter % 4;
    if (c == 3)
        t.m[r][3] = by;
    else {
        t.m[r][c] += by / METRIC_RADIUS_MM;
        t.m[r][3] = -by / METRIC_RADIUS_MM * centre[c];
    }
    return t;
}

TEST(mutual_gradient_is_the_slope, "each of 12 parameters by central differences, to 1 %")
{
    start();
    MetricLevel level = smooth_images();
    Mutual mutual;
    MetricSystem system;
    CHECK_OK(mutual_open(&level, 0, 100, &arena, &mutual, &err), &err);
    (void)mutual_cost(&mutual, affine_identity(), 1);
    mutual_system(&mutual, affine_identity(), 1, &system);
    double most = 0;
    for (int p = 0; p < METRIC_PARAMETERS; p++)
        most = fmax(most, fabs(system.g[p]));
    CHECK(most > 1e-3);
    for (int p = 0; p < METRIC_PARAMETERS; p++) {
        const double by = 0.02;
        double slope = (mutual_cost(&mutual, changed(&level, p, by), 1) -
                        mutual_cost(&mutual, changed(&level, p, -by), 1)) /
                       (2 * by);
        CHECK_NEAR(system.g[p], slope, 0.01 * most);
        CHECK(system.h[p][p] > 0);
        for (int q = 0; q < p; q++)
            CHECK_NEAR(system.h[p][q], system.h[q][p], 1e-9 * system.h[p][p]);
    }
}

TEST(mutual_same_bits_on_any_number_of_threads, "cost, gradient and matrix with 1 and 3 threads")
{
    start();
    MetricLevel level = smooth_images();
    Mutual mutual;
    MetricSystem one, three;
    CHECK_OK(mutual_open(&level, 0, 100, &arena, &mutual, &err), &err);
    double a = mutual_cost(&mutual, affine_identity(), 1);
    mutual_system(&mutual, affine_identity(), 1, &one);
    double b = mutual_cost(&mutual, affine_identity(), 3);
    mutual_system(&mutual, affine_identity(), 3, &three);
    CHECK(memcmp(&a, &b, sizeof a) == 0);
    CHECK(memcmp(&one, &three, sizeof one) == 0);
}

TEST(bias_is_taken_out, "a cubic brightness of 0.7 to 1.5 comes out to 5 %")
{
    start();
    MetricLevel level = smooth_images();
    int i = 0;
    /* fixed and moving: the same image on the inner grid; brightness on the moving one */
    for (int z = 0; z < N; z++)
        for (int y = 0; y < N; y++)
            for (int x = 0; x < N; x++, i++) {
                double u = 2.0 * x / (N - 1) - 1, v = 2.0 * y / (N - 1) - 1,
                       w = 2.0 * z / (N - 1) - 1;
                double m = 30 + 10 * wave(3 * x, 3 * y, 3 * z);
                moving[i] =
                    (float)(m * (1 + 0.2 * u + 0.15 * v * w - 0.1 * u * u * w + 0.1 * v * v));
            }
    i = 0;
    for (int z = 0; z < INNER; z++)
        for (int y = 0; y < INNER; y++)
            for (int x = 0; x < INNER; x++, i++) {
                bin[i] =
                    (float)(23 + 10 * wave(3 * x + INNER_AT, 3 * y + INNER_AT, 3 * z + INNER_AT));
            }
    MetricCost at;
    double before = 0;
    for (int round = 0; round < 6; round++) {
        metric_cost(&level, affine_identity(), 1, &at);
        before = round == 0 ? at.cost : before;
        bias_correct(&level, affine_identity(), &at, 2, &level.moving);
    }
    metric_cost(&level, affine_identity(), 1, &at);
    (void)printf("# cost %.5f -> %.7f\n", before, at.cost);
    CHECK(before > 0.05 && at.cost < 0.01 * before);
    double low = HUGE_VAL, high = 0;
    for (int z = 6; z < N - 6; z++)
        for (int y = 6; y < N - 6; y++)
            for (int x = 6; x < N - 6; x++) {
                double m = 30 + 10 * wave(3 * x, 3 * y, 3 * z);
                double ratio = (double)moving[(z * N + y) * N + x] / m;
                low = fmin(low, ratio);
                high = fmax(high, ratio);
            }
    (void)printf("# ratio %.4f to %.4f\n", low, high);
    CHECK(high < 1.05 * low);
}
