/* What calibration for int8 looks at: how the outputs of each convolution are spread, and which
** range serves them best. A range that holds the largest output wastes levels on it; one that cuts
** too much saturates. The best in the sense of the mean squared error is found by trying many.
** See dnnl_int.h. */
#include "gpu/dnnl_int.h"

#include <math.h>

enum { TRIED_FROM = OBSERVED_BINS / 16, TRIED_STEP = OBSERVED_BINS / 128 };

void dnnl_observe(const Graph *graph, int32_t value, const unsigned char *values, float top,
                  Observed *observed)
{
    const Value *v = &graph->values[value];
    const float *x = (const float *)(const void *)(values + v->offset_bytes);
    size_t n = (size_t)graph_value_elements(v);
    float largest = observed->largest, scale = top > 0 ? OBSERVED_BINS / top : 0;
    for (size_t i = 0; i < n; i++) {
        float a = fabsf(x[i]);
        largest = a <= largest ? largest : isfinite(a) ? a : INFINITY;
        if (top > 0 && a > 0) {
            float at = a * scale; /* beyond int where top is tiny */
            observed->bins[at < OBSERVED_BINS ? (int)at : OBSERVED_BINS - 1]++;
        }
    }
    observed->largest = largest;
}

/* In units of a bin: what is beyond the range becomes the range, the rest its nearest level. */
static double squared_error(const Observed *observed, int range_bins, int levels)
{
    double step = (double)range_bins / levels, sum = 0;
    for (int k = 0; k < OBSERVED_BINS; k++) {
        double x = k + 0.5;
        double near = x >= range_bins ? range_bins : step * floor(x / step + 0.5);
        sum += (double)observed->bins[k] * (x - near) * (x - near);
    }
    return sum;
}

float dnnl_best_range(const Observed *observed, int levels)
{
    double least = (double)INFINITY;
    int best = OBSERVED_BINS;
    for (int bins = TRIED_FROM; bins <= OBSERVED_BINS; bins += TRIED_STEP) {
        double error = squared_error(observed, bins, levels);
        if (error < least) {
            least = error;
            best = bins;
        }
    }
    return observed->largest * (float)best / OBSERVED_BINS;
}
