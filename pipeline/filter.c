/* See filter.h. */
#include "pipeline/filter.h"

#include "base/hot.h"
#include "base/parallel.h"

#include <math.h>
#include <string.h>

enum { HU_MIN = -1024, HU_MAX = 3071, ROW_MAX = 4096, RADIUS_MAX = 32 };

static int32_t axis_size(const Grid *grid, int axis)
{
    return axis == 0 ? grid->nx : axis == 1 ? grid->ny : grid->nz;
}

static Status check_rows(const Grid *grid, Err *err)
{
    if (grid->nx > ROW_MAX || grid->ny > ROW_MAX || grid->nz > ROW_MAX ||
        grid_voxels(grid) > INT32_MAX)
        return err_set(err, ST_LIMIT, "volume of %d x %d x %d voxels is too large to mask",
                       grid->nx, grid->ny, grid->nz);
    return ST_OK;
}

/* ---- smaller copy ---- */

Grid filter_shrink_grid(const Grid *grid, double target_mm)
{
    int32_t n[3];
    Affine vox_from_copy = affine_identity();
    for (int a = 0; a < 3; a++) {
        double factor = target_mm / grid_spacing_mm(grid, a);
        /* Nearly the same spacing: not worth a blur. */
        if (!(factor > 1.1))
            factor = 1;
        n[a] = (int32_t)ceil(axis_size(grid, a) / factor - 1e-6);
        vox_from_copy.m[a][a] = factor;
        vox_from_copy.m[a][3] = 0.5 * (factor - 1);
    }
    return (Grid){n[0], n[1], n[2], affine_mul(grid->lps_from_vox, vox_from_copy)};
}

/* How many voxels of the fine grid one voxel of the copy spans. */
static double axis_factor(const Grid *fine, const Grid *copy, int axis)
{
    return grid_spacing_mm(copy, axis) / grid_spacing_mm(fine, axis);
}

/* Voxel `at` of the copy covers [begin, end) of the fine axis; *ret_weight[k] is the covered part
** of fine voxel first + k. Returns the number of fine voxels. */
enum { SPAN_MAX = 64 };
static int32_t span(double factor, int32_t n_fine, int32_t at, int32_t *ret_first,
                    float ret_weight[SPAN_MAX])
{
    double begin = at * factor, end = begin + factor;
    if (end > n_fine)
        end = n_fine;
    int32_t first = (int32_t)floor(begin + 1e-6), n = 0;
    if (first > n_fine - 1)
        first = n_fine - 1;
    for (int32_t i = first; i < n_fine && i < end - 1e-6 && n < SPAN_MAX; i++) {
        double low = begin > i ? begin : i, high = end < i + 1 ? end : i + 1;
        ret_weight[n++] = (float)(high - low);
    }
    *ret_first = first;
    return n;
}

typedef struct Shrink {
    const VolumeI16 *ct;
    VolumeF32 *copy;
    double factor[3];
    int32_t *x_first, *x_n; /* [copy nx] */
    float *x_weight;        /* [copy nx][SPAN_MAX] */
} Shrink;

HOT_CLONES
static void add_row(const int16_t *row, int32_t n, float weight, float *sum)
{
    for (int32_t x = 0; x < n; x++) {
        int v = row[x] < HU_MIN ? HU_MIN : row[x] > HU_MAX ? HU_MAX : row[x];
        sum[x] += weight * (float)v;
    }
}

static void shrink_slice(void *context, int slice)
{
    const Shrink *s = context;
    const Grid *fine = &s->ct->grid, *copy = &s->copy->grid;
    float wz[SPAN_MAX], wy[SPAN_MAX], sum[ROW_MAX];
    int32_t z0, y0, nz = span(s->factor[2], fine->nz, slice, &z0, wz);
    for (int32_t y = 0; y < copy->ny; y++) {
        int32_t ny = span(s->factor[1], fine->ny, y, &y0, wy);
        memset(sum, 0, sizeof sum[0] * (size_t)fine->nx);
        float total = 0;
        for (int32_t k = 0; k < nz; k++)
            for (int32_t j = 0; j < ny; j++) {
                size_t row = ((size_t)(z0 + k) * (size_t)fine->ny + (size_t)(y0 + j));
                add_row(s->ct->v + row * (size_t)fine->nx, fine->nx, wz[k] * wy[j], sum);
                total += wz[k] * wy[j];
            }
        float *out = s->copy->v + ((size_t)slice * (size_t)copy->ny + (size_t)y) * (size_t)copy->nx;
        for (int32_t x = 0; x < copy->nx; x++) {
            const float *w = s->x_weight + (size_t)x * SPAN_MAX;
            float value = 0, weight = 0;
            for (int32_t i = 0; i < s->x_n[x]; i++) {
                value += w[i] * sum[s->x_first[x] + i];
                weight += w[i];
            }
            out[x] = value / (weight * total);
        }
    }
}

Status filter_shrink(const VolumeI16 *ct, int threads, VolumeF32 *ret, Arena *scratch, Err *err)
{
    TRY(check_rows(&ct->grid, err));
    size_t mark = arena_mark(scratch), nx = (size_t)ret->grid.nx;
    Shrink s = {.ct = ct, .copy = ret};
    s.x_first = arena_alloc(scratch, nx, sizeof *s.x_first, err);
    s.x_n = arena_alloc(scratch, nx, sizeof *s.x_n, err);
    s.x_weight = arena_alloc(scratch, nx * SPAN_MAX, sizeof *s.x_weight, err);
    if (s.x_first == NULL || s.x_n == NULL || s.x_weight == NULL) {
        arena_reset(scratch, mark);
        return ST_LIMIT;
    }
    for (int a = 0; a < 3; a++) {
        s.factor[a] = axis_factor(&ct->grid, &ret->grid, a);
        if (s.factor[a] > SPAN_MAX - 2) {
            arena_reset(scratch, mark);
            return err_set(err, ST_LIMIT, "voxels of %g mm are too small to mask",
                           grid_spacing_mm(&ct->grid, a));
        }
    }
    for (int32_t x = 0; x < ret->grid.nx; x++)
        s.x_n[x] =
            span(s.factor[0], ct->grid.nx, x, &s.x_first[x], s.x_weight + (size_t)x * SPAN_MAX);
    parallel_for(threads, ret->grid.nz, shrink_slice, &s);
    arena_reset(scratch, mark);
    return ST_OK;
}

/* ---- Gaussian ---- */

typedef struct Gauss {
    const float *in;
    float *out;
    int32_t nx, ny, nz;
    int axis;
    int32_t radius;
    float kernel[2 * RADIUS_MAX + 1];
} Gauss;

static int32_t clamp(int32_t i, int32_t n)
{
    return i < 0 ? 0 : i > n - 1 ? n - 1 : i;
}

HOT_CLONES
static void gauss_row(const Gauss *g, const float *in, float *out)
{
    float padded[ROW_MAX + 2 * RADIUS_MAX];
    for (int32_t x = -g->radius; x < g->nx + g->radius; x++)
        padded[x + g->radius] = in[clamp(x, g->nx)];
    memset(out, 0, sizeof *out * (size_t)g->nx);
    for (int32_t k = 0; k <= 2 * g->radius; k++)
        for (int32_t x = 0; x < g->nx; x++)
            /* cppcheck-suppress uninitvar ; all that is read was set above */
            out[x] += g->kernel[k] * padded[x + k];
}

HOT_CLONES
static void gauss_slice(void *context, int slice)
{
    const Gauss *g = context;
    size_t nx = (size_t)g->nx, nxy = nx * (size_t)g->ny, base = (size_t)slice * nxy;
    for (int32_t y = 0; y < g->ny; y++) {
        float *out = g->out + base + (size_t)y * nx;
        if (g->axis == 0) {
            gauss_row(g, g->in + base + (size_t)y * nx, out);
            continue;
        }
        memset(out, 0, sizeof *out * nx);
        for (int32_t k = -g->radius; k <= g->radius; k++) {
            const float *in = g->axis == 1
                                  ? g->in + base + (size_t)clamp(y + k, g->ny) * nx
                                  : g->in + (size_t)clamp(slice + k, g->nz) * nxy + (size_t)y * nx;
            float w = g->kernel[k + g->radius];
            for (size_t x = 0; x < nx; x++)
                out[x] += w * in[x];
        }
    }
}

/* False if this axis needs no smoothing. */
static bool gauss_kernel(double sigma_vox, Gauss *g)
{
    if (sigma_vox < 0.3)
        return false;
    g->radius = (int32_t)ceil(2.5 * sigma_vox);
    if (g->radius > RADIUS_MAX)
        g->radius = RADIUS_MAX;
    double sum = 0, w[2 * RADIUS_MAX + 1] = {0};
    for (int32_t k = -g->radius; k <= g->radius; k++)
        sum += w[k + g->radius] = exp(-0.5 * k * k / (sigma_vox * sigma_vox));
    for (int32_t k = 0; k <= 2 * g->radius; k++)
        g->kernel[k] = (float)(w[k] / sum);
    return true;
}

Status filter_gauss(VolumeF32 *volume, double sigma_mm, int threads, Arena *scratch, Err *err)
{
    const Grid *grid = &volume->grid;
    TRY(check_rows(grid, err));
    size_t mark = arena_mark(scratch), n = grid_voxels(grid);
    float *other = arena_alloc(scratch, n, sizeof *other, err);
    if (other == NULL)
        return ST_LIMIT;
    float *in = volume->v;
    Gauss g = {.nx = grid->nx, .ny = grid->ny, .nz = grid->nz};
    for (g.axis = 0; g.axis < 3; g.axis++) {
        if (!gauss_kernel(sigma_mm / grid_spacing_mm(grid, g.axis), &g))
            continue;
        g.in = in;
        g.out = in == volume->v ? other : volume->v;
        parallel_for(threads, grid->nz, gauss_slice, &g);
        in = g.out;
    }
    if (in != volume->v)
        memcpy(volume->v, in, n * sizeof *in);
    arena_reset(scratch, mark);
    return ST_OK;
}

/* ---- gradient ---- */

typedef struct Gradient {
    const VolumeF32 *volume;
    float low, high, inverse_mm[3];
    float *slice_max; /* [nz] */
    float scale;      /* 0: only the maximum is looked for */
    uint8_t *level;
} Gradient;

static inline float clip(const Gradient *g, float v)
{
    return v < g->low ? g->low : v > g->high ? g->high : v;
}

HOT_CLONES
static void gradient_slice(void *context, int slice)
{
    const Gradient *g = context;
    const Grid *grid = &g->volume->grid;
    const float *v = g->volume->v;
    size_t nx = (size_t)grid->nx, nxy = nx * (size_t)grid->ny;
    float largest = 0;
    for (int32_t y = 0; y < grid->ny; y++) {
        const float *row = v + (size_t)slice * nxy + (size_t)y * nx;
        const float *up = row - (y > 0 ? nx : 0), *down = row + (y < grid->ny - 1 ? nx : 0);
        const float *below = row - (slice > 0 ? nxy : 0);
        const float *above = row + (slice < grid->nz - 1 ? nxy : 0);
        uint8_t *level = g->level + (row - v);
        for (int32_t x = 0; x < grid->nx; x++) {
            int32_t x0 = x > 0 ? x - 1 : 0, x1 = x < grid->nx - 1 ? x + 1 : x;
            float dx = (clip(g, row[x1]) - clip(g, row[x0])) * g->inverse_mm[0];
            float dy = (clip(g, down[x]) - clip(g, up[x])) * g->inverse_mm[1];
            float dz = (clip(g, above[x]) - clip(g, below[x])) * g->inverse_mm[2];
            float magnitude2 = dx * dx + dy * dy + dz * dz;
            if (g->scale > 0)
                level[x] = (uint8_t)(g->scale * sqrtf(sqrtf(magnitude2)) + 0.5f);
            else if (magnitude2 > largest)
                largest = magnitude2;
        }
    }
    if (!(g->scale > 0))
        g->slice_max[slice] = largest;
}

Status filter_gradient(const VolumeF32 *volume, float low, float high, int threads,
                       uint8_t *ret_level, Arena *scratch, Err *err)
{
    size_t mark = arena_mark(scratch);
    Gradient g = {.volume = volume, .low = low, .high = high, .level = ret_level};
    g.slice_max = arena_alloc(scratch, (size_t)volume->grid.nz, sizeof *g.slice_max, err);
    if (g.slice_max == NULL)
        return ST_LIMIT;
    for (int a = 0; a < 3; a++)
        g.inverse_mm[a] = (float)(0.5 / grid_spacing_mm(&volume->grid, a));
    parallel_for(threads, volume->grid.nz, gradient_slice, &g);
    float largest = 0;
    for (int32_t z = 0; z < volume->grid.nz; z++)
        largest = g.slice_max[z] > largest ? g.slice_max[z] : largest;
    if (largest > 0) {
        g.scale = 255.0f / sqrtf(sqrtf(largest));
        parallel_for(threads, volume->grid.nz, gradient_slice, &g);
    } else {
        memset(ret_level, 0, grid_voxels(&volume->grid));
    }
    arena_reset(scratch, mark);
    return ST_OK;
}

/* ---- back to the fine grid ---- */

typedef struct Enlarge {
    const VolumeF32 *copy;
    VolumeU8 *out;
    double factor[3];
    int32_t *x0;  /* [nx] left neighbour in the copy */
    float *right; /* [nx] weight of the right one */
} Enlarge;

/* Position of fine voxel `at` between copy voxels *ret_i and *ret_i + 1. */
static float locate(double factor, int32_t n_copy, int32_t at, int32_t *ret_i)
{
    double c = (at + 0.5) / factor - 0.5;
    c = c < 0 ? 0 : c > n_copy - 1 ? n_copy - 1 : c;
    int32_t i = (int32_t)c;
    if (i > n_copy - 2)
        i = n_copy > 1 ? n_copy - 2 : 0;
    *ret_i = i;
    return (float)(c - i);
}

/* row[0..n) = the copy's rows around (y, z), interpolated; false if it has one sign throughout,
** which is then *ret_sign. */
HOT_CLONES
static bool mix_rows(const Enlarge *e, int32_t y, int32_t z, float *row, bool *ret_sign)
{
    const Grid *c = &e->copy->grid;
    int32_t iy, iz;
    float fy = locate(e->factor[1], c->ny, y, &iy), fz = locate(e->factor[2], c->nz, z, &iz);
    size_t nx = (size_t)c->nx, step_y = c->ny > 1 ? nx : 0,
           step_z = c->nz > 1 ? nx * (size_t)c->ny : 0;
    const float *a = e->copy->v + ((size_t)iz * (size_t)c->ny + (size_t)iy) * nx;
    const float *b = a + step_y, *d = a + step_z, *f = d + step_y;
    int32_t n_inside = 0;
    for (size_t x = 0; x < nx; x++) {
        float low = a[x] + fy * (b[x] - a[x]), high = d[x] + fy * (f[x] - d[x]);
        row[x] = low + fz * (high - low);
        n_inside += row[x] > 0;
    }
    *ret_sign = n_inside > 0;
    return n_inside > 0 && n_inside < c->nx;
}

HOT_CLONES
static void enlarge_slice(void *context, int slice)
{
    const Enlarge *e = context;
    const Grid *grid = &e->out->grid;
    int32_t last = e->copy->grid.nx > 1 ? 1 : 0;
    float row[ROW_MAX];
    for (int32_t y = 0; y < grid->ny; y++) {
        uint8_t *out =
            e->out->v + ((size_t)slice * (size_t)grid->ny + (size_t)y) * (size_t)grid->nx;
        bool sign;
        if (!mix_rows(e, y, slice, row, &sign)) {
            memset(out, sign, (size_t)grid->nx);
            continue;
        }
        for (int32_t x = 0; x < grid->nx; x++) {
            const float *r = row + e->x0[x];
            out[x] = r[0] + e->right[x] * (r[last] - r[0]) > 0;
        }
    }
}

Status filter_enlarge_mask(const VolumeF32 *copy, int threads, VolumeU8 *ret, Arena *scratch,
                           Err *err)
{
    TRY(check_rows(&ret->grid, err));
    size_t mark = arena_mark(scratch), nx = (size_t)ret->grid.nx;
    Enlarge e = {.copy = copy, .out = ret};
    e.x0 = arena_alloc(scratch, nx, sizeof *e.x0, err);
    e.right = arena_alloc(scratch, nx, sizeof *e.right, err);
    if (e.x0 == NULL || e.right == NULL) {
        arena_reset(scratch, mark);
        return ST_LIMIT;
    }
    for (int a = 0; a < 3; a++)
        e.factor[a] = axis_factor(&ret->grid, &copy->grid, a);
    for (int32_t x = 0; x < ret->grid.nx; x++)
        e.right[x] = locate(e.factor[0], copy->grid.nx, x, &e.x0[x]);
    parallel_for(threads, ret->grid.nz, enlarge_slice, &e);
    arena_reset(scratch, mark);
    return ST_OK;
}
