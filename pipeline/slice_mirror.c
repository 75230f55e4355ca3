/* See slice_gate.h, "mirror". Asked of pairs, so that the ends, a run of mirrored slices and half a
** head are found alike. */
#include "pipeline/slice_gate_int.h"

#include "base/hot.h"
#include "base/parallel.h"

#include <stdlib.h>

enum { ALONG_X = 1, ALONG_Y = 2, WAYS = 4 };

typedef struct Mirrors {
    const VolumeI16 *ct;
    double *least_hu; /* [nz - 1] |z - z+1| with one of them mirrored, the best of three ways */
} Mirrors;

HOT_CLONES
static int32_t sum_difference_back(const int32_t *restrict a, const int32_t *restrict b, int32_t n)
{
    int32_t sum = 0;
    for (int32_t x = 0; x < n; x++)
        sum += abs(a[x] - b[n - 1 - x]);
    return sum;
}

/* Rows and columns are taken from the mirrored slice's other end, so that the same ones meet. */
static void measure(void *context, int z)
{
    Mirrors *m = context;
    const Grid *g = &m->ct->grid;
    size_t nx = (size_t)g->nx, slice = nx * (size_t)g->ny;
    const int16_t *v = m->ct->v + (size_t)z * slice, *next = v + slice;
    int32_t a[SLICE_ROW_MAX], b[SLICE_ROW_MAX], n = 0;
    int32_t odd_x = (g->nx - 1) % SLICE_STRIDE;
    int64_t sum[WAYS] = {0}, rows = 0;
    for (int32_t y = 0; y < g->ny; y += SLICE_STRIDE, rows++) {
        const int16_t *same = next + (size_t)y * nx, *other = next + (size_t)(g->ny - 1 - y) * nx;
        n = slice_take_row(v + (size_t)y * nx, g->nx, a);
        (void)slice_take_row(other, g->nx, b);
        sum[ALONG_Y] += slice_sum_difference(a, b, n);
        (void)slice_take_row(same + odd_x, g->nx - odd_x, b);
        sum[ALONG_X] += sum_difference_back(a, b, n);
        (void)slice_take_row(other + odd_x, g->nx - odd_x, b);
        sum[ALONG_X | ALONG_Y] += sum_difference_back(a, b, n);
    }
    int64_t least = sum[ALONG_X];
    for (int way = ALONG_Y; way < WAYS; way++)
        least = sum[way] < least ? sum[way] : least;
    m->least_hu[z] = (double)least / ((double)rows * n);
}

Status slice_find_mirror(const VolumeI16 *ct, const double *near_hu, const bool *is_head,
                         int threads, SliceFit *ret, Err *err)
{
    int32_t n = ct->grid.nz - 1;
    Mirrors m = {ct, calloc((size_t)n, sizeof *m.least_hu)};
    if (m.least_hu == NULL)
        return err_set(err, ST_NO_MEMORY, "comparing %d slices", ct->grid.nz);
    parallel_for(threads, n, measure, &m);
    for (int32_t z = 0; z < n; z++) {
        double ratio = near_hu[z] / (m.least_hu[z] > 1 ? m.least_hu[z] : 1);
        if (is_head[z] && is_head[z + 1] && ratio > ret->mirror) {
            ret->mirror = ratio;
            ret->mirror_after = z;
        }
    }
    free(m.least_hu);
    return ST_OK;
}
