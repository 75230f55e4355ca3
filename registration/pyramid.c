/* Smooth and decimate, one axis after another. See pyramid.h.
**
** Step 1, per source slice: rows are summed into one row of the y-decimated slice (runs along x,
** so it vectorises whatever the type of the source), which is then decimated along x. Step 2, per
** output slice: the sum over source slices. What lies between the steps is at 1.5 mm in plane. */
#include "registration/pyramid.h"

#include "base/hot.h"
#include "base/parallel.h"

#include <math.h>
#include <string.h>

/* Weights that make one output sample from `n_taps` neighbouring source samples. */
typedef struct Taps {
    int n_in, n_out, n_taps;
    int32_t *first; /* [n_out] */
    float *weight;  /* [n_taps][n_out]; 0 where a tap would lie outside */
} Taps;

typedef struct Pass {
    const int16_t *source_i16; /* one of the two sources */
    const float *source_f32;
    int low, high;
    Taps x, y, z;
    float *between; /* [z.n_in][y.n_out][x.n_out] */
    float *ret;     /* [z.n_out][y.n_out][x.n_out] */
} Pass;

static double bspline3(double x)
{
    x = fabs(x);
    if (x >= 2)
        return 0;
    return x < 1 ? 2.0 / 3 - x * x * (1 - x / 2) : (2 - x) * (2 - x) * (2 - x) / 6;
}

static double factor_of(double spacing_mm, double target_mm)
{
    double f = target_mm / spacing_mm;
    return f < 1.01 ? 1.0 : f;
}

static int decimated(int n, double factor)
{
    return (int)floor((n - 1) / factor + 1e-6) + 1;
}

/* Half width of one B-spline piece: its variance is a third of the width squared. */
static double piece_width(double factor)
{
    return factor > 1 ? sqrt(3.0) * 0.5 * sqrt(factor * factor - 1) : 0.5;
}

static Status taps_make(int n_in, double factor, Arena *arena, Taps *ret, Err *err)
{
    double width = piece_width(factor) > 0.5 ? piece_width(factor) : 0.5;
    int reach = (int)floor(2 * width), span = 2 * reach + 2;
    Taps t = {.n_in = n_in, .n_out = decimated(n_in, factor), .n_taps = span < n_in ? span : n_in};
    if (factor <= 1)
        t.n_taps = 1;
    t.first = arena_alloc(arena, (size_t)t.n_out, sizeof *t.first, err);
    if (t.first == NULL)
        return ST_LIMIT;
    t.weight = arena_alloc(arena, (size_t)t.n_taps * (size_t)t.n_out, sizeof *t.weight, err);
    if (t.weight == NULL)
        return ST_LIMIT;
    for (int j = 0; j < t.n_out; j++) {
        double centre = j * factor, sum = 0;
        int first = factor > 1 ? (int)ceil(centre - 2 * width) : j;
        first = first > n_in - t.n_taps ? n_in - t.n_taps : first;
        first = first < 0 ? 0 : first;
        t.first[j] = first;
        for (int i = 0; i < t.n_taps; i++)
            sum += factor > 1 ? bspline3((first + i - centre) / width) : 1;
        for (int i = 0; i < t.n_taps; i++)
            t.weight[i * t.n_out + j] =
                (float)((factor > 1 ? bspline3((first + i - centre) / width) : 1) / sum);
    }
    *ret = t;
    return ST_OK;
}

HOT_CLONES
static void add_row_i16(const int16_t *restrict row, int n, float weight, int low, int high,
                        float *restrict sum)
{
    for (int i = 0; i < n; i++) {
        int v = row[i];
        v = v < low ? low : v;
        v = v > high ? high : v;
        sum[i] += weight * (float)v;
    }
}

HOT_CLONES
static void add_row_f32(const float *restrict row, int n, float weight, float *restrict sum)
{
    for (int i = 0; i < n; i++)
        sum[i] += weight * row[i];
}

HOT_CLONES
static void decimate_row(const float *restrict row, const int32_t *restrict first,
                         const float *restrict weight, int n_taps, int n_out, float *restrict ret)
{
    for (int j = 0; j < n_out; j++)
        ret[j] = 0;
    for (int i = 0; i < n_taps; i++, weight += n_out)
        for (int j = 0; j < n_out; j++)
            ret[j] += weight[j] * row[first[j] + i];
}

static void decimate_in_plane(void *context, int slice)
{
    const Pass *p = context;
    int nx = p->x.n_in, ny = p->y.n_in;
    size_t first_row = (size_t)slice * (size_t)ny;
    float sum[PYRAMID_ROW_MAX];
    for (int j = 0; j < p->y.n_out; j++) {
        memset(sum, 0, (size_t)nx * sizeof *sum);
        for (int i = 0; i < p->y.n_taps; i++) {
            float weight = p->y.weight[i * p->y.n_out + j];
            size_t at = (first_row + (size_t)(p->y.first[j] + i)) * (size_t)nx;
            if (weight > 0 && p->source_i16 != NULL)
                add_row_i16(p->source_i16 + at, nx, weight, p->low, p->high, sum);
            else if (weight > 0)
                add_row_f32(p->source_f32 + at, nx, weight, sum);
        }
        size_t to = ((size_t)slice * (size_t)p->y.n_out + (size_t)j) * (size_t)p->x.n_out;
        decimate_row(sum, p->x.first, p->x.weight, p->x.n_taps, p->x.n_out, p->between + to);
    }
}

static void decimate_across(void *context, int slice)
{
    const Pass *p = context;
    size_t plane = (size_t)p->y.n_out * (size_t)p->x.n_out;
    float *to = p->ret + (size_t)slice * plane;
    memset(to, 0, plane * sizeof *to);
    for (int i = 0; i < p->z.n_taps; i++) {
        float weight = p->z.weight[i * p->z.n_out + slice];
        if (weight > 0)
            add_row_f32(p->between + (size_t)(p->z.first[slice] + i) * plane, (int)plane, weight,
                        to);
    }
}

static Status level_make(const Grid *source, double target_mm, Arena *arena, VolumeF32 *ret,
                         Err *err)
{
    double fx = factor_of(grid_spacing_mm(source, 0), target_mm);
    double fy = factor_of(grid_spacing_mm(source, 1), target_mm);
    double fz = factor_of(grid_spacing_mm(source, 2), target_mm);
    VolumeF32 v = {.grid = {.nx = decimated(source->nx, fx),
                            .ny = decimated(source->ny, fy),
                            .nz = decimated(source->nz, fz),
                            .lps_from_vox = source->lps_from_vox}};
    for (int r = 0; r < 3; r++) {
        v.grid.lps_from_vox.m[r][0] *= fx;
        v.grid.lps_from_vox.m[r][1] *= fy;
        v.grid.lps_from_vox.m[r][2] *= fz;
    }
    if (v.grid.nx > PYRAMID_LEVEL_ROW_MAX || grid_voxels(&v.grid) > INT32_MAX / 8)
        return err_set(err, ST_LIMIT, "volume is too large to register: %d x %d x %d at %g mm",
                       v.grid.nx, v.grid.ny, v.grid.nz, target_mm);
    v.v = arena_alloc(arena, grid_voxels(&v.grid), sizeof *v.v, err);
    if (v.v == NULL)
        return ST_LIMIT;
    *ret = v;
    return ST_OK;
}

static Status level_fill(Pass *pass, const Grid *source, double target_mm, int threads,
                         Arena *arena, const VolumeF32 *level, Err *err)
{
    size_t mark = arena_mark(arena);
    TRY(taps_make(source->nx, factor_of(grid_spacing_mm(source, 0), target_mm), arena, &pass->x,
                  err));
    TRY(taps_make(source->ny, factor_of(grid_spacing_mm(source, 1), target_mm), arena, &pass->y,
                  err));
    TRY(taps_make(source->nz, factor_of(grid_spacing_mm(source, 2), target_mm), arena, &pass->z,
                  err));
    size_t plane = (size_t)level->grid.nx * (size_t)level->grid.ny;
    pass->between = arena_alloc(arena, plane * (size_t)source->nz, sizeof *pass->between, err);
    if (pass->between == NULL)
        return ST_LIMIT;
    pass->ret = level->v;
    parallel_for(threads, source->nz, decimate_in_plane, pass);
    parallel_for(threads, level->grid.nz, decimate_across, pass);
    arena_reset(arena, mark);
    return ST_OK;
}

Status pyramid_build(const VolumeI16 *source, int low, int high, int threads, Arena *arena,
                     Pyramid *ret, Err *err)
{
    static const double spacing_mm[PYRAMID_LEVELS] = {8, 4, 1.5};
    Pyramid p;
    if (source->grid.nx > PYRAMID_ROW_MAX || grid_voxels(&source->grid) == 0)
        return err_set(err, ST_LIMIT, "volume of %d x %d x %d cannot be registered",
                       source->grid.nx, source->grid.ny, source->grid.nz);
    const Grid *from = &source->grid;
    for (int l = PYRAMID_FINE; l >= PYRAMID_8MM; from = &p.level[l--].grid)
        TRY(level_make(from, spacing_mm[l], arena, &p.level[l], err));
    Pass pass = {.source_i16 = source->v, .low = low, .high = high};
    from = &source->grid;
    for (int l = PYRAMID_FINE; l >= PYRAMID_8MM; from = &p.level[l--].grid) {
        if (l < PYRAMID_FINE)
            pass = (Pass){.source_f32 = p.level[l + 1].v};
        TRY(level_fill(&pass, from, spacing_mm[l], threads, arena, &p.level[l], err));
    }
    *ret = p;
    return ST_OK;
}
