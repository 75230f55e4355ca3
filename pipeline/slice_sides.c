/* See slice_gate.h, "sides". What a slice and its mirror image have in common says nothing of the
** side, so it is left out: what remains is the head's asymmetry, which neighbours share. The axis
** of the mirror is each slice's own, the one about which it is most symmetric, so that neither a
** move nor an image that is not centred matters. */
#include "pipeline/slice_gate_int.h"

#include "base/parallel.h"

#include <math.h>
#include <stdlib.h>

#define SEARCH_MM 8.0
#define SEARCH_STEP_MM 1.0
#define SECTION_MM2 4000.0 /* of tissue: less is the head's end, whose asymmetry changes fast */
#define AXIAL_MIN 0.7      /* cosine: sections that are cut otherwise have no middle */
enum { SEARCH_ROWS = 4 };  /* every fourth row is enough to find the axis */

typedef struct Sides {
    const VolumeI16 *ct;
    const bool *is_head;
    double *opposed; /* [nz - 1] */
    int32_t *axis;   /* [nz] column + mirrored column; -1: too little of a head to say */
} Sides;

typedef struct Sums {
    int64_t ab, aa, bb;
} Sums;

/* As slice_take_row(), from column x0 on, of the row mirrored so that column x shows what was at
** axis - x. */
static void take_mirrored(const int16_t *restrict row, int32_t nx, int32_t x0, int32_t axis,
                          int32_t *restrict ret)
{
    int32_t n = (nx + SLICE_STRIDE - 1) / SLICE_STRIDE;
    for (int32_t i = 0; i < n; i++) {
        int32_t x = axis - x0 - i * SLICE_STRIDE;
        ret[i] = x >= 0 && x < nx ? slice_clip(row[x]) : -SLICE_CLIP_HU;
    }
}

/* As slice_take_row(), from column x0 on; what lies outside is air. */
static void take_shifted(const int16_t *restrict row, int32_t nx, int32_t x0, int32_t *restrict ret)
{
    int32_t n = (nx + SLICE_STRIDE - 1) / SLICE_STRIDE;
    for (int32_t i = 0; i < n; i++) {
        int32_t x = x0 + i * SLICE_STRIDE;
        ret[i] = x >= 0 && x < nx ? slice_clip(row[x]) : -SLICE_CLIP_HU;
    }
}

/* Mean column of what is tissue; -1 if that is too little. */
static double middle(const int16_t *v, const Grid *g)
{
    int64_t sum = 0, count = 0;
    for (int32_t y = 0; y < g->ny; y += SLICE_STRIDE)
        for (int32_t x = 0; x < g->nx; x++) {
            int32_t is_tissue = v[(size_t)y * (size_t)g->nx + (size_t)x] > SLICE_TISSUE_HU;
            sum += is_tissue * x;
            count += is_tissue;
        }
    double mm2 = (double)count * SLICE_STRIDE * grid_spacing_mm(g, 0) * grid_spacing_mm(g, 1);
    return mm2 >= SECTION_MM2 ? (double)sum / (double)count : -1;
}

static void find_axis(void *context, int z)
{
    Sides *s = context;
    const Grid *g = &s->ct->grid;
    const int16_t *v = s->ct->v + (size_t)z * (size_t)g->nx * (size_t)g->ny;
    int32_t row[SLICE_ROW_MAX], back[SLICE_ROW_MAX];
    double centre = s->is_head[z] ? middle(v, g) : -1, x_mm = grid_spacing_mm(g, 0);
    s->axis[z] = -1;
    if (centre < 0)
        return;
    int32_t step = (int32_t)fmax(1, floor(SEARCH_STEP_MM / x_mm));
    int32_t n_steps = (int32_t)ceil(SEARCH_MM / (x_mm * step)), first = (int32_t)lrint(2 * centre);
    int64_t best = INT64_MAX;
    for (int32_t k = -n_steps; k <= n_steps; k++) {
        int32_t axis = first + k * step;
        int64_t sum = 0;
        for (int32_t y = 0; y < g->ny; y += SEARCH_ROWS) {
            const int16_t *at = v + (size_t)y * (size_t)g->nx;
            int32_t n = slice_take_row(at, g->nx, row);
            take_mirrored(at, g->nx, 0, axis, back);
            sum += slice_sum_difference(row, back, n);
        }
        if (sum < best && axis >= 0) {
            best = sum;
            s->axis[z] = axis;
        }
    }
}

static void add_products(const int32_t *restrict a, const int32_t *restrict a_back,
                         const int32_t *restrict b, const int32_t *restrict b_back, int32_t n,
                         Sums *sums)
{
    int64_t ab = 0, aa = 0, bb = 0;
    for (int32_t x = 0; x < n; x++) {
        int64_t da = a[x] - a_back[x], db = b[x] - b_back[x];
        ab += da * db;
        aa += da * da;
        bb += db * db;
    }
    sums->ab += ab;
    sums->aa += aa;
    sums->bb += bb;
}

static void measure(void *context, int z)
{
    Sides *s = context;
    if (s->axis[z] < 0 || s->axis[z + 1] < 0)
        return;
    const Grid *g = &s->ct->grid;
    size_t slice = (size_t)g->nx * (size_t)g->ny;
    const int16_t *a = s->ct->v + (size_t)z * slice, *b = a + slice;
    int32_t axis_a = s->axis[z], axis_b = s->axis[z + 1];
    int32_t shift = (int32_t)lrint(0.5 * (axis_b - axis_a)); /* brings the axes together */
    int32_t ra[SLICE_ROW_MAX], rb[SLICE_ROW_MAX], ma[SLICE_ROW_MAX], mb[SLICE_ROW_MAX];
    Sums sums = {0};
    for (int32_t y = 0; y < g->ny; y += SLICE_STRIDE) {
        size_t row = (size_t)y * (size_t)g->nx;
        int32_t n = slice_take_row(a + row, g->nx, ra);
        take_mirrored(a + row, g->nx, 0, axis_a, ma);
        take_shifted(b + row, g->nx, shift, rb);
        take_mirrored(b + row, g->nx, shift, axis_b, mb);
        add_products(ra, ma, rb, mb, n, &sums);
    }
    double norm = sqrt((double)sums.aa) * sqrt((double)sums.bb);
    s->opposed[z] = norm > 0 ? -(double)sums.ab / norm : 0;
}

/* Rows run from side to side, slices from foot to head. */
static bool is_axial(const Grid *g)
{
    return fabs(g->lps_from_vox.m[0][0]) >= AXIAL_MIN * grid_spacing_mm(g, 0) &&
           fabs(g->lps_from_vox.m[2][2]) >= AXIAL_MIN * grid_spacing_mm(g, 2);
}

Status slice_find_sides(const VolumeI16 *ct, const bool *is_head, int threads, SliceFit *ret,
                        Err *err)
{
    int32_t n = ct->grid.nz - 1;
    if (!is_axial(&ct->grid))
        return ST_OK;
    Sides s = {ct, is_head, calloc((size_t)n, sizeof *s.opposed),
               calloc((size_t)n + 1, sizeof *s.axis)};
    Status status = ST_OK;
    if (s.opposed == NULL || s.axis == NULL) {
        status = err_set(err, ST_NO_MEMORY, "comparing %d slices", ct->grid.nz);
    } else {
        parallel_for(threads, n + 1, find_axis, &s);
        parallel_for(threads, n, measure, &s);
        for (int32_t z = 0; z < n; z++)
            if (s.opposed[z] > ret->sides) {
                ret->sides = s.opposed[z];
                ret->sides_after = z;
            }
    }
    free(s.axis);
    free(s.opposed);
    return status;
}
