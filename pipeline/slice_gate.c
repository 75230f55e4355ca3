/* See slice_gate.h. Every second row and column is looked at: enough for a mean. */
#include "pipeline/slice_gate.h"

#include "base/parallel.h"

#include <stdlib.h>

#define CLIP_HU 500
#define FAINT 0.25 /* a step below this part of the median step is the air beyond the head's end */
enum { HALF = 4, STRIDE = 2 };

typedef struct Steps {
    const VolumeI16 *ct;
    double *d; /* [nz - 1] */
} Steps;

static int clip(int16_t hu)
{
    return hu < -CLIP_HU ? -CLIP_HU : hu > CLIP_HU ? CLIP_HU : hu;
}

static void measure(void *context, int z)
{
    Steps *s = context;
    const Grid *g = &s->ct->grid;
    size_t nx = (size_t)g->nx, n = nx * (size_t)g->ny;
    const int16_t *a = s->ct->v + (size_t)z * n, *b = a + n;
    int64_t sum = 0, count = 0;
    for (int32_t y = 0; y < g->ny; y += STRIDE)
        for (size_t x = (size_t)y * nx; x < (size_t)(y + 1) * nx; x += STRIDE, count++)
            sum += abs(clip(b[x]) - clip(a[x]));
    s->d[z] = (double)sum / (double)count;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int32_t n)
{
    qsort(values, (size_t)n, sizeof *values, compare_double);
    return values[n / 2];
}

static double median_beside(const double *d, int32_t n, int32_t at)
{
    double window[2 * HALF] = {0};
    int32_t m = 0;
    for (int32_t i = at - HALF; i <= at + HALF; i++)
        if (i >= 0 && i < n && i != at)
            window[m++] = d[i];
    return median(window, m);
}

Status slice_jump(const VolumeI16 *ct, int threads, SliceJump *ret, Err *err)
{
    int32_t n = ct->grid.nz - 1;
    *ret = (SliceJump){0, -1};
    if (n < 3)
        return ST_OK;
    double *d = calloc(2 * (size_t)n, sizeof *d);
    if (d == NULL)
        return err_set(err, ST_NO_MEMORY, "comparing %d slices", ct->grid.nz);
    Steps steps = {ct, d};
    parallel_for(threads, n, measure, &steps);
    for (int32_t i = 0; i < n; i++)
        d[n + i] = d[i];
    double faint = FAINT * median(d + n, n);
    for (int32_t i = 0; i < n; i++) {
        double beside = median_beside(d, n, i);
        double ratio = d[i] / (beside > 1 ? beside : 1); /* 1 HU: nothing to compare with */
        if (d[i] >= faint && ratio > ret->ratio)
            *ret = (SliceJump){ratio, i};
    }
    free(d);
    return ST_OK;
}

Status slice_gate(const VolumeI16 *ct, double max_ratio, int threads, SliceJump *ret, Err *err)
{
    TRY(slice_jump(ct, threads, ret, err));
    if (ret->ratio <= max_ratio)
        return ST_OK;
    return err_set(
        err, ST_SERIES_JUMP,
        "slices %d and %d differ %.2f times as much as their neighbours do, at most %.2f",
        ret->after + 1, ret->after + 2, ret->ratio, max_ratio);
}
