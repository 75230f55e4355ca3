/* See distance.h. */
#include "pipeline/distance.h"

#include "base/err.h"
#include "base/hot.h"
#include "base/parallel.h"

#include <math.h>
#include <string.h>

enum {
    BATCH = 16,     /* columns gathered together: whole cache lines are read and written */
    REACH_MAX = 28, /* voxels to look up and down; beyond, the envelope is faster (measured) */
};

typedef struct Pass {
    const uint8_t *mask;
    bool target;
    float *d;
    int32_t nx, n;       /* length of a row, of a column */
    size_t stride;       /* between voxels of a column */
    size_t slab;         /* between planes of columns */
    double spacing2_mm2; /* of a step along the line */
    int32_t reach;       /* voxels within the limit; > REACH_MAX: use the envelope */
} Pass;

/* ret = (steps * spacing)^2. */
HOT_CLONES
static void square_steps(const int32_t *restrict steps, int32_t n, double spacing2_mm2,
                         float *restrict ret)
{
    for (int32_t x = 0; x < n; x++) {
        double d = steps[x];
        ret[x] = steps[x] < DISTANCE_AXIS_MAX ? (float)(spacing2_mm2 * d * d) : INFINITY;
    }
}

/* Distance along a row: steps to the nearest target, counted from either side. */
static void row_pass(void *context, int row)
{
    const Pass *p = context;
    int32_t n = p->nx, count = DISTANCE_AXIS_MAX, steps[DISTANCE_AXIS_MAX];
    const uint8_t *mask = p->mask + (size_t)row * (size_t)n;
    for (int32_t x = 0; x < n; x++) {
        count = (mask[x] != 0) == p->target ? 0 : count + 1;
        steps[x] = count;
    }
    count = DISTANCE_AXIS_MAX;
    for (int32_t x = n - 1; x >= 0; x--) {
        count = steps[x] < count + 1 ? steps[x] : count + 1;
        steps[x] = count;
    }
    square_steps(steps, n, p->spacing2_mm2, p->d + (size_t)row * (size_t)n);
}

/* f[0..n) -> min over p of f[p] + spacing2 * (q-p)^2, in place. Infinite values carry no parabola.
** v: positions of the envelope's parabolas; z: where each begins to be the lowest. */
static void envelope(float *f, int32_t n, double spacing2_mm2)
{
    int32_t v[DISTANCE_AXIS_MAX], k = -1;
    double z[DISTANCE_AXIS_MAX];
    float h[DISTANCE_AXIS_MAX];
    for (int32_t q = 0; q < n; q++) {
        if (!isfinite(f[q]))
            continue;
        double start = -HUGE_VAL;
        for (; k >= 0; k--) {
            int32_t p = v[k];
            start = 0.5 * (((double)f[q] - (double)h[k]) / (spacing2_mm2 * (q - p)) + (q + p));
            if (start > z[k])
                break;
            start = -HUGE_VAL;
        }
        k++;
        v[k] = q;
        h[k] = f[q];
        z[k] = start;
    }
    if (k < 0)
        return;
    int32_t last = k;
    k = 0;
    for (int32_t q = 0; q < n; q++) {
        while (k < last && z[k + 1] < q)
            k++;
        f[q] = (float)(spacing2_mm2 * (q - v[k]) * (q - v[k]) + (double)h[k]);
    }
}

/* w columns at `at`, one by one. */
static void envelope_batch(const Pass *p, float *at, int32_t w)
{
    float line[BATCH][DISTANCE_AXIS_MAX];
    for (int32_t q = 0; q < p->n; q++)
        for (int32_t c = 0; c < w; c++)
            line[c][q] = at[(size_t)q * p->stride + (size_t)c];
    for (int32_t c = 0; c < w; c++)
        envelope(line[c], p->n, p->spacing2_mm2);
    for (int32_t q = 0; q < p->n; q++)
        for (int32_t c = 0; c < w; c++)
            at[(size_t)q * p->stride + (size_t)c] = line[c][q];
}

static inline float largest(const float v[BATCH])
{
    float most = v[0];
    for (int32_t c = 1; c < BATCH; c++)
        most = v[c] > most ? v[c] : most;
    return most;
}

/* w columns at `at` together: the least of what lies within reach. */
HOT_CLONES
static void near_batch(const Pass *p, float *at, int32_t w)
{
    float in[DISTANCE_AXIS_MAX][BATCH], add[REACH_MAX + 1];
    for (int32_t q = 0; q < p->n; q++)
        for (int32_t c = 0; c < BATCH; c++)
            in[q][c] = c < w ? at[(size_t)q * p->stride + (size_t)c] : INFINITY;
    for (int32_t k = 0; k <= p->reach; k++)
        add[k] = (float)(p->spacing2_mm2 * k * k);
    for (int32_t q = 0; q < p->n; q++) {
        float least[BATCH];
        memcpy(least, in[q], sizeof least);
        float most = INFINITY; /* of least: beyond it no parabola can come lower */
        for (int32_t k = 1; k <= p->reach && add[k] < most; k++) {
            const float *before = in[q - k > 0 ? q - k : 0];
            const float *after = in[q + k < p->n ? q + k : p->n - 1];
            for (int32_t c = 0; c < BATCH; c++) {
                float nearer = before[c] < after[c] ? before[c] : after[c];
                nearer += add[k];
                least[c] = nearer < least[c] ? nearer : least[c];
            }
            most = largest(least);
        }
        memcpy(at + (size_t)q * p->stride, least, sizeof *at * (size_t)w);
    }
}

/* Every column all 0 or all infinite: nothing to do. */
HOT_CLONES
static bool is_flat(const Pass *p, const float *at, int32_t w)
{
    for (int32_t c = 0; c < w; c++)
        if (at[c] > 0 && !isinf(at[c]))
            return false;
    const float *row = at;
    for (int32_t q = 1; q < p->n; q++) {
        int differ = 0;
        row += p->stride;
        for (int32_t c = 0; c < w; c++)
            differ |= row[c] != at[c];
        if (differ)
            return false;
    }
    return true;
}

/* One plane of columns, nx columns of n voxels. */
static void column_pass(void *context, int plane)
{
    const Pass *p = context;
    float *base = p->d + (size_t)plane * p->slab;
    for (int32_t x = 0; x < p->nx; x += BATCH) {
        int32_t w = p->nx - x < BATCH ? p->nx - x : BATCH;
        if (is_flat(p, base + x, w))
            continue;
        if (p->reach <= REACH_MAX)
            near_batch(p, base + x, w);
        else
            envelope_batch(p, base + x, w);
    }
}

static Pass column_of(const Grid *grid, int axis, double limit_mm, float *d)
{
    size_t nx = (size_t)grid->nx, nxy = nx * (size_t)grid->ny;
    double spacing_mm = grid_spacing_mm(grid, axis), reach = ceil(limit_mm / spacing_mm);
    return (Pass){.d = d,
                  .nx = grid->nx,
                  .n = axis == 1 ? grid->ny : grid->nz,
                  .stride = axis == 1 ? nx : nxy,
                  .slab = axis == 1 ? nxy : nx,
                  .spacing2_mm2 = spacing_mm * spacing_mm,
                  .reach = reach <= REACH_MAX ? (int32_t)reach : REACH_MAX + 1};
}

void distance_squared(const Grid *grid, const uint8_t *mask, bool target, double limit_mm,
                      int threads, float *ret_mm2)
{
    ASSERT(grid->nx <= DISTANCE_AXIS_MAX && grid->ny <= DISTANCE_AXIS_MAX &&
           grid->nz <= DISTANCE_AXIS_MAX);
    double dx_mm = grid_spacing_mm(grid, 0);
    Pass rows = {.mask = mask,
                 .target = target,
                 .d = ret_mm2,
                 .nx = grid->nx,
                 .spacing2_mm2 = dx_mm * dx_mm};
    parallel_for(threads, grid->ny * grid->nz, row_pass, &rows);
    Pass ys = column_of(grid, 1, limit_mm, ret_mm2), zs = column_of(grid, 2, limit_mm, ret_mm2);
    parallel_for(threads, grid->nz, column_pass, &ys);
    parallel_for(threads, grid->ny, column_pass, &zs);
}
