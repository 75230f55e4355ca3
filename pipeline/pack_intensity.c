/* The MR's intensities inside a mask: see pack.h. */
#include "pipeline/pack.h"

#include <math.h>
#include <stdlib.h>

#define SAME_VALUE 1e-6f
#define BEYOND_MAX_FRAC 0.2 /* percentiles leave what they say, at most a fifth at each end */
enum { SAMPLES_MAX = 1000000, SLICE_SAMPLES = 4096 };

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static bool is_counted(float value, const uint8_t *mask, size_t i)
{
    return !isnan(value) && (mask == NULL || mask[i] != 0);
}

bool pack_percentiles(const float *values, const uint8_t *mask, size_t n, double low_percent,
                      double high_percent, double *ret_low, double *ret_high)
{
    size_t inside = 0, seen = 0, taken = 0;
    for (size_t i = 0; i < n; i++)
        inside += is_counted(values[i], mask, i);
    size_t step = inside / SAMPLES_MAX + 1, room = inside / step + 1;
    float *sample = malloc(room * sizeof *sample);
    ASSERT(sample != NULL);
    for (size_t i = 0; i < n; i++)
        if (is_counted(values[i], mask, i) && seen++ % step == 0)
            sample[taken++] = values[i];
    bool ok = false;
    if (taken > 0) {
        qsort(sample, taken, sizeof *sample, compare_floats);
        *ret_low = (double)sample[(size_t)((double)(taken - 1) * low_percent / 100)];
        *ret_high = (double)sample[(size_t)((double)(taken - 1) * high_percent / 100)];
        ok = *ret_high > *ret_low;
    }
    free(sample);
    return ok;
}

double pack_one_value_frac(const float *mr, const uint8_t *mask, size_t n)
{
    float taken[SLICE_SAMPLES];
    size_t inside = 0, seen = 0, k = 0, most = 0;
    for (size_t i = 0; i < n; i++)
        inside += mask[i] != 0;
    if (inside == 0)
        return 0;
    size_t stride = inside / SLICE_SAMPLES + 1;
    for (size_t i = 0; i < n; i++)
        if (mask[i] != 0 && seen++ % stride == 0)
            taken[k++] = mr[i];
    qsort(taken, k, sizeof *taken, compare_floats);
    for (size_t i = 0, end = 0; i < k; i++) { /* a constant is one to rounding, once resampled */
        while (end < k && taken[end] - taken[i] <= SAME_VALUE * fabsf(taken[i]))
            end++;
        most = end - i > most ? end - i : most;
    }
    return (double)most / (double)k;
}

Status pack_scale_mr(const PackSpec *spec, const uint8_t *mask, size_t n, float *mr,
                     PackFacts *facts, Err *err)
{
    double low = spec->low, high = spec->high, inside = 0, below = 0, above = 0;
    if (!spec->has_range &&
        !pack_percentiles(mr, mask, n, spec->low_percent, spec->high_percent, &low, &high))
        return err_set(err, ST_PACK_CASE,
                       "percentiles %g and %g of the MR inside the mask are one intensity",
                       spec->low_percent, spec->high_percent);
    for (size_t i = 0; i < n; i++) {
        if (mask[i] == 0) {
            mr[i] = 0;
            continue;
        }
        double v = (double)mr[i];
        inside++;
        below += v < low;
        above += v > high;
        mr[i] = (float)fmin(fmax((v - low) / (high - low), 0), 1);
    }
    facts->mr_low = low;
    facts->mr_high = high;
    if (fmax(below, above) > BEYOND_MAX_FRAC * inside)
        return err_set(err, ST_PACK_CASE,
                       "of the MR inside the mask %.0f %% is below %g and %.0f %% above %g: give "
                       "percentiles, or another --mr-range",
                       100 * below / inside, low, 100 * above / inside, high);
    return ST_OK;
}
