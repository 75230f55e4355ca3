/* See window.h. */
#include "pipeline/window.h"

#include <math.h>
#include <string.h>

static int clip_hu(int hu)
{
    return hu < WINDOW_HU_MIN ? WINDOW_HU_MIN : hu > WINDOW_HU_MAX ? WINDOW_HU_MAX : hu;
}

double window_norm(double level_hu, double width_hu, double hu)
{
    double norm = (hu - (level_hu - 0.5 * width_hu)) / width_hu;
    return norm < 0 ? 0 : norm > 1 ? 1 : norm;
}

Status window_init(double level_hu, double width_hu, const float mean[3], const float std[3],
                   Window *ret, Err *err)
{
    if (!isfinite(level_hu) || !isfinite(width_hu) || !(width_hu > 0))
        return err_set(err, ST_USAGE, "window level %g width %g: width must be > 0", level_hu,
                       width_hu);
    for (int c = 0; c < 3; c++)
        if (!isfinite(mean[c]) || !(std[c] > 0) || !isfinite(std[c]))
            return err_set(err, ST_USAGE, "channel %d: deviation %g must be > 0", c,
                           (double)std[c]);
    for (int i = 0; i < WINDOW_SIZE; i++) {
        double norm = window_norm(level_hu, width_hu, i + WINDOW_HU_MIN);
        for (int c = 0; c < 3; c++)
            ret->channel[c][i] = (float)((norm - (double)mean[c]) / (double)std[c]);
    }
    for (int c = 0; c < 3; c++)
        ret->floor[c] = (float)(-(double)mean[c] / (double)std[c]);
    return ST_OK;
}

void window_slice(const Window *window, const int16_t *hu, const uint8_t *mask, int32_t n,
                  float *ret_x)
{
    for (int c = 0; c < 3; c++) {
        const float *table = window->channel[c];
        float floor = window->floor[c], *x = ret_x + (size_t)c * (size_t)n;
        for (int32_t i = 0; i < n; i++) {
            float v = table[clip_hu(hu[i]) - WINDOW_HU_MIN];
            x[i] = mask == NULL || mask[i] != 0 ? v : floor;
        }
    }
}

const WindowPreset *window_preset(const char *name)
{
    /* Level and width as radiology uses them; "stroke" is the narrow window for early ischaemia. */
    static const WindowPreset presets[] = {{"brain", 40, 80},
                                           {"stroke", 40, 40},
                                           {"subdural", 80, 200},
                                           {"soft", 40, 400},
                                           {"bone", 600, 2800}};
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++)
        if (strcmp(name, presets[i].name) == 0)
            return &presets[i];
    return NULL;
}
