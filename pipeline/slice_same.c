/* See slice_gate.h, "same". Slices of equal sums are compared byte by byte. */
#include "pipeline/slice_gate_int.h"

#include "base/hot.h"
#include "base/parallel.h"

#include <stdlib.h>
#include <string.h>

typedef struct Sums {
    const VolumeI16 *ct;
    int64_t *sum;
    int64_t *tissue; /* pixels */
} Sums;

/* Of a row; pixels count by their column. */
HOT_CLONES
static int64_t sum_row(const int16_t *row, int32_t nx, int32_t *ret_tissue)
{
    int64_t sum = 0;
    int32_t tissue = 0;
    for (int32_t x = 0; x < nx; x++) {
        sum += (int64_t)row[x] * (2 * x + 1);
        tissue += row[x] > SLICE_TISSUE_HU;
    }
    *ret_tissue = tissue;
    return sum;
}

static void sum_slice(void *context, int z)
{
    Sums *s = context;
    const Grid *g = &s->ct->grid;
    const int16_t *row = s->ct->v + (size_t)z * (size_t)g->nx * (size_t)g->ny;
    for (int32_t y = 0; y < g->ny; y++, row += g->nx) {
        int32_t tissue;
        s->sum[z] += sum_row(row, g->nx, &tissue) * (2 * y + 1);
        s->tissue[z] += tissue;
    }
}

Status slice_find_same(const VolumeI16 *ct, int threads, SliceFit *ret, Err *err)
{
    const Grid *g = &ct->grid;
    size_t nz = (size_t)g->nz, slice = (size_t)g->nx * (size_t)g->ny;
    Sums s = {ct, calloc(2 * nz, sizeof *s.sum), NULL};
    if (s.sum == NULL)
        return err_set(err, ST_NO_MEMORY, "comparing %d slices", g->nz);
    s.tissue = s.sum + nz;
    parallel_for(threads, g->nz, sum_slice, &s);
    double pixel_mm2 = grid_spacing_mm(g, 0) * grid_spacing_mm(g, 1);
    for (int32_t z = 0; z < g->nz && ret->same < 0; z++) {
        if ((double)s.tissue[z] * pixel_mm2 < SLICE_LEAST_MM2)
            continue;
        for (int32_t k = 0; k < z && ret->same < 0; k++)
            if (s.sum[k] == s.sum[z] && memcmp(ct->v + (size_t)k * slice, ct->v + (size_t)z * slice,
                                               slice * sizeof *ct->v) == 0) {
                ret->same = z;
                ret->same_as = k;
            }
    }
    free(s.sum);
    return ST_OK;
}
