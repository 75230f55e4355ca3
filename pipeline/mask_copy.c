/* See mask_copy.h. */
#include "pipeline/mask_copy.h"

#include "base/clock.h"
#include "base/parallel.h"
#include "pipeline/components.h"
#include "pipeline/distance.h"
#include "pipeline/filter.h"
#include "pipeline/mask_prior.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#define COPY_SPACING_MM 1.5
#define SMOOTH_MM 0.8
#define FAR_MM 4.0f /* from the surface: beyond, only the sign counts */

double mask_square(double x)
{
    return x * x;
}

static Status make_copy(const VolumeI16 *ct, const MaskReference *reference, int threads,
                        MaskCopy *ret, Arena *scratch, Err *err)
{
    MaskCopy c = {.threads = threads, .scratch = scratch};
    if (ct->grid.nx < 8 || ct->grid.ny < 8 || ct->grid.nz < 3)
        return err_set(err, ST_MASK, "a volume of %d x %d x %d voxels is too small to mask",
                       ct->grid.nx, ct->grid.ny, ct->grid.nz);
    c.hu.grid = filter_shrink_grid(&ct->grid, COPY_SPACING_MM);
    c.whole = c.hu.grid;
    c.n = grid_voxels(&c.hu.grid);
    c.voxel_ml = fabs(affine_det(c.hu.grid.lps_from_vox)) / 1000;
    c.hu.v = arena_alloc(scratch, c.n, sizeof(float), err);
    c.mm2 = arena_alloc(scratch, c.n, sizeof(float), err);
    c.queue = arena_alloc(scratch, c.n, sizeof(int32_t), err);
    c.a = arena_alloc(scratch, c.n, 1, err);
    c.b = arena_alloc(scratch, c.n, 1, err);
    c.level = arena_alloc(scratch, c.n, 1, err);
    c.label = arena_alloc(scratch, c.n, 1, err);
    c.prior = arena_alloc(scratch, c.n, 1, err);
    if (c.hu.v == NULL || c.mm2 == NULL || c.queue == NULL || c.a == NULL || c.b == NULL ||
        c.level == NULL || c.label == NULL || c.prior == NULL)
        return ST_LIMIT;
    TRY(filter_shrink(ct, threads, &c.hu, scratch, err));
    TRY(filter_gauss(&c.hu, SMOOTH_MM, threads, scratch, err));
    if (reference != NULL)
        TRY(mask_prior(reference, &c.hu.grid, threads, c.prior, scratch, err));
    else
        memset(c.prior, 0, c.n);
    *ret = c;
    return ST_OK;
}

void mask_distance(MaskCopy *copy, const uint8_t *mask, bool target, double limit_mm)
{
    distance_squared(&copy->hu.grid, mask, target, limit_mm, copy->threads, copy->mm2);
}

/* Copies between the grid and one that is larger by `pad` on all sides. */
static void copy_padded(const Grid *grid, const int32_t pad[3], const Grid *padded, uint8_t *mask,
                        uint8_t *wide, bool is_out)
{
    for (int32_t z = 0; z < grid->nz; z++)
        for (int32_t y = 0; y < grid->ny; y++) {
            size_t row = (size_t)z * (size_t)grid->ny + (size_t)y;
            size_t wide_row = (size_t)(z + pad[2]) * (size_t)padded->ny + (size_t)(y + pad[1]);
            uint8_t *narrow = mask + row * (size_t)grid->nx;
            uint8_t *w = wide + wide_row * (size_t)padded->nx + (size_t)pad[0];
            if (is_out)
                memcpy(w, narrow, (size_t)grid->nx);
            else
                memcpy(narrow, w, (size_t)grid->nx);
        }
}

Status mask_close(MaskCopy *copy, uint8_t *mask, double radius_mm, Err *err)
{
    /* The ball that may not touch the mask may lie outside the grid, so the grid is padded: else
    ** the slices between vertex and border would be taken for a narrow gap. */
    int32_t pad[3];
    for (int a = 0; a < 3; a++)
        pad[a] = (int32_t)ceil(radius_mm / grid_spacing_mm(&copy->hu.grid, a)) + 1;
    Grid wide = copy->hu.grid;
    wide.nx += 2 * pad[0], wide.ny += 2 * pad[1], wide.nz += 2 * pad[2];
    size_t n = grid_voxels(&wide), mark = arena_mark(copy->scratch);
    uint8_t *m = arena_alloc(copy->scratch, n, 1, err);
    float *mm2 = arena_alloc(copy->scratch, n, sizeof *mm2, err);
    if (m == NULL || mm2 == NULL) {
        arena_reset(copy->scratch, mark);
        return ST_LIMIT;
    }
    memset(m, 0, n);
    copy_padded(&copy->hu.grid, pad, &wide, mask, m, true);
    float r2 = (float)mask_square(radius_mm);
    distance_squared(&wide, m, true, radius_mm, copy->threads, mm2);
    for (size_t i = 0; i < n; i++)
        m[i] = mm2[i] <= r2;
    distance_squared(&wide, m, false, radius_mm, copy->threads, mm2);
    for (size_t i = 0; i < n; i++)
        m[i] = mm2[i] > r2;
    copy_padded(&copy->hu.grid, pad, &wide, mask, m, false);
    arena_reset(copy->scratch, mark);
    return ST_OK;
}

void mask_open(MaskCopy *copy, uint8_t *mask, double radius_mm)
{
    float r2 = (float)mask_square(radius_mm);
    mask_distance(copy, mask, false, radius_mm);
    for (size_t i = 0; i < copy->n; i++)
        mask[i] = copy->mm2[i] > r2;
    (void)component_keep_largest(&copy->hu.grid, mask, copy->queue);
    mask_distance(copy, mask, true, radius_mm);
    for (size_t i = 0; i < copy->n; i++)
        mask[i] = copy->mm2[i] <= r2;
}

/* The voxel axis that runs nearest to the head-feet direction. */
static int head_axis(const Grid *grid)
{
    int best = 2;
    double most = 0;
    for (int a = 0; a < 3; a++) {
        double along = fabs(grid->lps_from_vox.m[2][a]) / grid_spacing_mm(grid, a);
        if (along > most + 1e-6) {
            most = along;
            best = a;
        }
    }
    return best;
}

Status mask_fill(MaskCopy *copy, uint8_t *mask, Err *err)
{
    const Grid *grid = &copy->hu.grid;
    size_t mark = arena_mark(copy->scratch);
    uint8_t *p = arena_alloc(copy->scratch, copy->n, 1, err);
    uint8_t *q = arena_alloc(copy->scratch, copy->n, 1, err);
    if (p == NULL || q == NULL) {
        arena_reset(copy->scratch, mark);
        return ST_LIMIT;
    }
    int axis = head_axis(grid);
    memcpy(p, mask, copy->n);
    memcpy(q, mask, copy->n);
    component_fill_slices(grid, mask, axis, copy->threads, copy->queue);
    component_fill_slices(grid, p, (axis + 1) % 3, copy->threads, copy->queue);
    component_fill_slices(grid, q, (axis + 2) % 3, copy->threads, copy->queue);
    for (size_t i = 0; i < copy->n; i++)
        mask[i] |= p[i] & q[i];
    arena_reset(copy->scratch, mark);
    return ST_OK;
}

bool mask_box(const MaskCopy *copy, const uint8_t *mask, int32_t ret_low[3], int32_t ret_high[3])
{
    const Grid *g = &copy->hu.grid;
    int32_t low[3] = {INT32_MAX, INT32_MAX, INT32_MAX}, high[3] = {-1, -1, -1};
    for (int32_t z = 0; z < g->nz; z++)
        for (int32_t y = 0; y < g->ny; y++) {
            const uint8_t *row = mask + ((size_t)z * (size_t)g->ny + (size_t)y) * (size_t)g->nx;
            int32_t x0 = 0, x1 = g->nx - 1;
            while (x0 <= x1 && row[x0] == 0)
                x0++;
            while (x1 > x0 && row[x1] == 0)
                x1--;
            if (x0 > x1)
                continue;
            const int32_t from[3] = {x0, y, z}, to[3] = {x1, y, z};
            for (int a = 0; a < 3; a++) {
                low[a] = from[a] < low[a] ? from[a] : low[a];
                high[a] = to[a] > high[a] ? to[a] : high[a];
            }
        }
    memcpy(ret_low, low, sizeof low);
    memcpy(ret_high, high, sizeof high);
    return high[0] >= 0;
}

/* Rows of the box to the front, in place: a row never moves towards the end. */
static void crop_rows(void *values, size_t size, const Grid *from, const int32_t first[3],
                      const Grid *to)
{
    unsigned char *v = values;
    for (int32_t z = 0; z < to->nz; z++)
        for (int32_t y = 0; y < to->ny; y++) {
            size_t row = (size_t)(z + first[2]) * (size_t)from->ny + (size_t)(y + first[1]);
            size_t to_row = (size_t)z * (size_t)to->ny + (size_t)y;
            memmove(v + to_row * (size_t)to->nx * size,
                    v + (row * (size_t)from->nx + (size_t)first[0]) * size, (size_t)to->nx * size);
        }
}

void mask_crop(MaskCopy *copy, const int32_t low[3], const int32_t high[3], double margin_mm)
{
    Grid from = copy->hu.grid, to = from;
    int32_t *to_n[3] = {&to.nx, &to.ny, &to.nz}, first[3];
    Affine from_vox = affine_identity();
    for (int a = 0; a < 3; a++) {
        int32_t margin = (int32_t)ceil(margin_mm / grid_spacing_mm(&from, a)) + 1;
        int32_t last = high[a] + margin < *to_n[a] - 1 ? high[a] + margin : *to_n[a] - 1;
        first[a] = low[a] > margin ? low[a] - margin : 0;
        *to_n[a] = last - first[a] + 1;
        from_vox.m[a][3] = first[a];
        copy->first[a] += first[a];
    }
    to.lps_from_vox = affine_mul(from.lps_from_vox, from_vox);
    crop_rows(copy->hu.v, sizeof *copy->hu.v, &from, first, &to);
    crop_rows(copy->mm2, sizeof *copy->mm2, &from, first, &to);
    crop_rows(copy->a, 1, &from, first, &to);
    crop_rows(copy->b, 1, &from, first, &to);
    crop_rows(copy->label, 1, &from, first, &to);
    crop_rows(copy->prior, 1, &from, first, &to);
    copy->hu.grid = to;
    copy->n = grid_voxels(&to);
}

/* Takes back mask_crop(): hu.v on the whole grid again, `outside` beyond the box. */
static void uncrop(MaskCopy *copy, float outside)
{
    const Grid *box = &copy->hu.grid, *whole = &copy->whole;
    const int32_t *first = copy->first;
    for (int32_t z = whole->nz - 1; z >= 0; z--)
        for (int32_t y = whole->ny - 1; y >= 0; y--) {
            int32_t by = y - first[1], bz = z - first[2];
            bool is_in = by >= 0 && by < box->ny && bz >= 0 && bz < box->nz;
            float *row =
                copy->hu.v + ((size_t)z * (size_t)whole->ny + (size_t)y) * (size_t)whole->nx;
            if (is_in)
                memmove(row + first[0],
                        copy->hu.v + ((size_t)bz * (size_t)box->ny + (size_t)by) * (size_t)box->nx,
                        (size_t)box->nx * sizeof *row);
            for (int32_t x = 0; x < whole->nx; x++)
                if (!is_in || x < first[0] || x >= first[0] + box->nx)
                    row[x] = outside;
        }
    copy->hu.grid = *whole;
    copy->n = grid_voxels(whole);
}

int64_t mask_count(const MaskCopy *copy, const uint8_t *mask)
{
    int64_t n = 0;
    for (size_t i = 0; i < copy->n; i++)
        n += mask[i] != 0;
    return n;
}

typedef struct Count {
    const VolumeU8 *mask;
    atomic_llong total;
} Count;

static void count_slice(void *context, int slice)
{
    Count *c = context;
    size_t n = (size_t)c->mask->grid.nx * (size_t)c->mask->grid.ny;
    const uint8_t *m = c->mask->v + (size_t)slice * n;
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += m[i];
    atomic_fetch_add(&c->total, sum);
}

static Status restore(MaskCopy *copy, VolumeU8 *ret, double *ret_ml, Err *err)
{
    /* Signed distance to the surface, up to FAR_MM: it interpolates to a smooth contour where the
    ** mask itself would give blocks. Half a voxel is the way from a voxel's centre to the face it
    ** shares with the other side. */
    float *d = copy->hu.v, far = FAR_MM, half = (float)(0.5 * COPY_SPACING_MM);
    for (size_t i = 0; i < copy->n; i++)
        copy->a[i] = copy->label[i] == 1;
    mask_distance(copy, copy->a, false, (double)FAR_MM + 1);
    for (size_t i = 0; i < copy->n; i++)
        d[i] = fminf(sqrtf(copy->mm2[i]) - half, far);
    mask_distance(copy, copy->a, true, (double)FAR_MM + 1);
    for (size_t i = 0; i < copy->n; i++)
        if (copy->a[i] == 0)
            d[i] = fmaxf(half - sqrtf(copy->mm2[i]), -far);
    TRY(filter_gauss(&copy->hu, SMOOTH_MM, copy->threads, copy->scratch, err));
    uncrop(copy, -far);
    TRY(filter_enlarge_mask(&copy->hu, copy->threads, ret, copy->scratch, err));
    Count count = {.mask = ret};
    parallel_for(copy->threads, ret->grid.nz, count_slice, &count);
    *ret_ml = (double)count.total * fabs(affine_det(ret->grid.lps_from_vox)) / 1000;
    return ST_OK;
}

Status mask_run(const VolumeI16 *ct, const MaskReference *reference, int threads,
                Status (*on_copy)(MaskCopy *copy, Err *err), VolumeU8 *ret, MaskResult *ret_result,
                double *ret_brain_ml, Arena *arena, Arena *scratch, Err *err)
{
    double begin_s = clock_monotonic_s(), ml = 0;
    size_t keep = arena_mark(arena);
    VolumeU8 mask = {ct->grid, arena_alloc(arena, grid_voxels(&ct->grid), 1, err)};
    if (mask.v == NULL)
        return ST_LIMIT;
    size_t mark = arena_mark(scratch);
    MaskCopy copy;
    Status status = make_copy(ct, reference, threads, &copy, scratch, err);
    if (status == ST_OK)
        status = on_copy(&copy, err);
    if (status == ST_OK)
        status = restore(&copy, &mask, &ml, err);
    arena_reset(scratch, mark);
    if (status != ST_OK) {
        arena_reset(arena, keep);
        return status;
    }
    *ret = mask;
    if (ret_brain_ml != NULL)
        *ret_brain_ml = copy.brain_ml;
    *ret_result = (MaskResult){ml, clock_monotonic_s() - begin_s};
    return ST_OK;
}
