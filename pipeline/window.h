/* HU window and normalisation: HU -> [0,1] -> three channels with ImageNet mean and deviation.
**
** norm = clip((hu - (level - width/2)) / width, 0, 1), DICOM's LINEAR_EXACT ramp (PS3.3
** C.11.2.1.3.2); channel c = (norm - mean[c]) / std[c]. One table over [-1024, 3071] serves all
** voxels of a model's input; what is beyond counts as its end. Outside the mask the window's floor
** is set before normalising. Thread: any. */
#ifndef CT2MR_PIPELINE_WINDOW_H
#define CT2MR_PIPELINE_WINDOW_H

#include "base/err.h"

#include <stdint.h>

enum { WINDOW_HU_MIN = -1024, WINDOW_HU_MAX = 3071, WINDOW_SIZE = 4096 };

typedef struct Window {
    float channel[3][WINDOW_SIZE]; /* [hu + 1024], normalised */
    float floor[3];                /* what norm 0 becomes: outside the mask */
} Window;

/* Errors: USAGE (width not > 0, std not > 0). */
MUST_CHECK Status window_init(double level_hu, double width_hu, const float mean[3],
                              const float std[3], Window *ret, Err *err);
/* One slice of n pixels: ret_x is (3, n). mask may be NULL (all inside). HU are clipped. */
void window_slice(const Window *window, const int16_t *hu, const uint8_t *mask, int32_t n,
                  float *ret_x);
/* norm of one value, 0..1. */
double window_norm(double level_hu, double width_hu, double hu);

typedef struct WindowPreset {
    const char *name;
    double level_hu, width_hu;
} WindowPreset;
/* brain, stroke, subdural, soft, bone; NULL for another name. */
const WindowPreset *window_preset(const char *name);

#endif
