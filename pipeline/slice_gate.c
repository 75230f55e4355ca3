/* See slice_gate.h. Every second row and column is looked at: enough for a mean. */
#include "pipeline/slice_gate.h"

#include "base/hot.h"
#include "base/parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CLIP_HU 500
#define TISSUE_HU (-300)
#define FAINT                                                                                      \
    0.25 /* a difference below this part of the median one is air beyond the     \
          head's end */
#define LEAST_HU 2.0
#define JUMP_LIMIT 3.0
#define MISFIT_LIMIT 1.0
#define EXCHANGE_LIMIT 1.15
#define DOUBTFUL 2.0 /* jumps above are looked into */
#define ADDED 1.8    /* a jump with less of one in the tissue itself comes from what was added */
#define MOVE_MAX_MM 2.5
#define MOVE_GAIN 0.7 /* a move explains a jump if that part of it, at most, remains */
enum { HALF = 4, STRIDE = 2, ROW_MAX = 8192, MOVE_MAX_PIXELS = 6 };

typedef struct Steps {
    const VolumeI16 *ct;
    double *near;   /* [nz] |z - z+1| */
    double *far;    /* [nz] |z - z+2| */
    double *bend;   /* [nz] |z+1 - mean of z and z+2| */
    double *tissue; /* [nz] as near, the mean over what is tissue in both slices */
} Steps;

static inline int clip(int16_t hu)
{
    return hu < -CLIP_HU ? -CLIP_HU : hu > CLIP_HU ? CLIP_HU : hu;
}

/* Clipped, every second value; returns how many. */
HOT_CLONES
static int32_t take_row(const int16_t *restrict row, int32_t nx, int32_t *restrict ret)
{
    int32_t n = (nx + STRIDE - 1) / STRIDE;
    for (int32_t x = 0; x < n; x++)
        ret[x] = clip(row[x * STRIDE]);
    return n;
}

HOT_CLONES
static int32_t sum_difference(const int32_t *restrict a, const int32_t *restrict b, int32_t n)
{
    int32_t sum = 0;
    for (int32_t x = 0; x < n; x++)
        sum += abs(a[x] - b[x]);
    return sum;
}

/* Of 2 b - a - c: twice the distance from the mean. */
HOT_CLONES
static int32_t sum_bend(const int32_t *restrict a, const int32_t *restrict b,
                        const int32_t *restrict c, int32_t n)
{
    int32_t sum = 0;
    for (int32_t x = 0; x < n; x++)
        sum += abs(2 * b[x] - a[x] - c[x]);
    return sum;
}

/* Over what is tissue in both; adds to *count how much that is. */
HOT_CLONES
static int32_t sum_tissue(const int32_t *restrict a, const int32_t *restrict b, int32_t n,
                          int32_t *restrict count)
{
    int32_t sum = 0, both = 0;
    for (int32_t x = 0; x < n; x++) {
        int32_t is_both = (a[x] > TISSUE_HU) & (b[x] > TISSUE_HU);
        sum += is_both ? abs(a[x] - b[x]) : 0;
        both += is_both;
    }
    *count += both;
    return sum;
}

static void measure(void *context, int z)
{
    Steps *s = context;
    const Grid *g = &s->ct->grid;
    size_t slice = (size_t)g->nx * (size_t)g->ny;
    bool has_two = z + 2 < g->nz;
    const int16_t *v = s->ct->v + (size_t)z * slice;
    int32_t a[ROW_MAX], b[ROW_MAX], c[ROW_MAX], n = 0, count = 0;
    int64_t near = 0, far = 0, bend = 0, tissue = 0, rows = 0;
    for (int32_t y = 0; y < g->ny; y += STRIDE, rows++) {
        const int16_t *row = v + (size_t)y * (size_t)g->nx;
        n = take_row(row, g->nx, a);
        (void)take_row(row + slice, g->nx, b);
        near += sum_difference(a, b, n);
        tissue += sum_tissue(a, b, n, &count);
        if (!has_two)
            continue;
        (void)take_row(row + 2 * slice, g->nx, c);
        far += sum_difference(a, c, n);
        bend += sum_bend(a, b, c, n);
    }
    double pixels = (double)rows * n;
    s->near[z] = (double)near / pixels;
    s->far[z] = (double)far / pixels;
    s->bend[z] = 0.5 * (double)bend / pixels;
    s->tissue[z] = count > 0 ? (double)tissue / count : 0;
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

/* Of the up to eight values d[i] around i = at, without it. */
static double median_beside(const double *d, int32_t n, int32_t at)
{
    double window[2 * HALF] = {0};
    int32_t m = 0;
    for (int32_t i = at - HALF; i <= at + HALF; i++)
        if (i >= 0 && i < n && i != at)
            window[m++] = d[i];
    return median(window, m);
}

static double over(double a, double b, double least)
{
    return a / (b > least ? b : least);
}

static void find_misfit(const Steps *s, int32_t nz, double faint, SliceFit *ret)
{
    for (int32_t z = 1; z < nz - 1; z++) {
        double ratio = over(s->bend[z - 1], s->far[z - 1], faint);
        if (ratio > ret->misfit) {
            ret->misfit = ratio;
            ret->misfit_at = z;
        }
    }
}

static void find_exchange(const Steps *s, int32_t nz, double faint, SliceFit *ret)
{
    for (int32_t z = 0; z < nz - 1; z++) { /* at the ends only one neighbour can tell */
        double now = (z > 0 ? s->near[z - 1] : 0) + (z + 2 < nz ? s->near[z + 1] : 0);
        double then = (z > 0 ? s->far[z - 1] : 0) + (z + 2 < nz ? s->far[z] : 0);
        double ratio = over(now, then, faint);
        if (ratio > ret->exchange) {
            ret->exchange = ratio;
            ret->exchange_after = z;
        }
    }
}

/* |z - z+1| with slice z + 1 moved by (dx, dy) pixels, without the margin. */
static double moved_difference(const VolumeI16 *ct, int32_t z, int32_t dx, int32_t dy)
{
    const Grid *g = &ct->grid;
    size_t slice = (size_t)g->nx * (size_t)g->ny;
    const int16_t *v = ct->v + (size_t)z * slice;
    int32_t a[ROW_MAX], b[ROW_MAX], n = 0;
    int64_t sum = 0, rows = 0;
    for (int32_t y = MOVE_MAX_PIXELS; y < g->ny - MOVE_MAX_PIXELS; y += STRIDE, rows++) {
        const int16_t *row = v + (size_t)y * (size_t)g->nx + MOVE_MAX_PIXELS;
        n = take_row(row, g->nx - 2 * MOVE_MAX_PIXELS, a);
        (void)take_row(row + slice + (ptrdiff_t)dy * g->nx + dx, g->nx - 2 * MOVE_MAX_PIXELS, b);
        sum += sum_difference(a, b, n);
    }
    return (double)sum / ((double)rows * n);
}

/* The shift in mm after which a jump is gone; 0: there is none. */
static double find_move(const VolumeI16 *ct, int32_t z, double jump)
{
    const Grid *g = &ct->grid;
    if (g->nx < 4 * MOVE_MAX_PIXELS || g->ny < 4 * MOVE_MAX_PIXELS)
        return 0;
    double x_mm = grid_spacing_mm(g, 0), y_mm = grid_spacing_mm(g, 1), best_mm = 0;
    double still = moved_difference(ct, z, 0, 0), best = still;
    for (int32_t dy = -MOVE_MAX_PIXELS; dy <= MOVE_MAX_PIXELS; dy++)
        for (int32_t dx = -MOVE_MAX_PIXELS; dx <= MOVE_MAX_PIXELS; dx++) {
            double mm = hypot(dx * x_mm, dy * y_mm);
            double d = mm <= MOVE_MAX_MM ? moved_difference(ct, z, dx, dy) : still;
            if (d < best) {
                best = d;
                best_mm = mm;
            }
        }
    return best < MOVE_GAIN * still && jump * best <= DOUBTFUL * still ? best_mm : 0;
}

static void find_jump(const Steps *s, int32_t nz, double faint, SliceFit *ret)
{
    int32_t n = nz - 1;
    for (int32_t z = 0; z < n; z++) {
        double ratio = over(s->near[z], median_beside(s->near, n, z), 1);
        if (s->near[z] < faint || ratio <= ret->jump)
            continue;
        if (ratio > DOUBTFUL) {
            if (over(s->tissue[z], median_beside(s->tissue, n, z), 1) < ADDED)
                continue;
            double mm = find_move(s->ct, z, ratio);
            if (mm > 0) {
                ret->moved_mm = mm;
                ret->moved_after = z;
                continue;
            }
        }
        ret->jump = ratio;
        ret->jump_after = z;
    }
}

Status slice_fit(const VolumeI16 *ct, int threads, SliceFit *ret, Err *err)
{
    int32_t nz = ct->grid.nz;
    *ret = (SliceFit){.misfit_at = -1, .exchange_after = -1, .jump_after = -1, .moved_after = -1};
    if (nz < 4)
        return ST_OK;
    if (ct->grid.nx > ROW_MAX)
        return err_set(err, ST_LIMIT, "slices of %d columns, at most %d", ct->grid.nx, ROW_MAX);
    size_t n = (size_t)nz;
    double *d = calloc(5 * n, sizeof *d);
    if (d == NULL)
        return err_set(err, ST_NO_MEMORY, "comparing %d slices", nz);
    Steps s = {ct, d, d + n, d + 2 * n, d + 4 * n};
    double *sorted = d + 3 * n;
    parallel_for(threads, nz - 1, measure, &s);
    memcpy(sorted, s.near, (n - 1) * sizeof *sorted);
    double faint = FAINT * median(sorted, nz - 1);
    memcpy(sorted, s.far, (n - 2) * sizeof *sorted);
    double faint_far = fmax(FAINT * median(sorted, nz - 2), LEAST_HU);
    find_misfit(&s, nz, faint_far, ret);
    find_exchange(&s, nz, faint_far, ret);
    find_jump(&s, nz, faint, ret);
    free(d);
    return ST_OK;
}

Status slice_gate(const VolumeI16 *ct, double max_ratio, int threads, SliceFit *ret, Err *err)
{
    TRY(slice_fit(ct, threads, ret, err));
    double part = max_ratio / JUMP_LIMIT;
    if (ret->misfit > MISFIT_LIMIT * part)
        return err_set(err, ST_SERIES_JUMP,
                       "slice %d is %.2f times as far from the mean of its "
                       "neighbours as these are "
                       "from each other, at most %.2f",
                       ret->misfit_at + 1, ret->misfit, MISFIT_LIMIT * part);
    if (ret->exchange > EXCHANGE_LIMIT * part)
        return err_set(err, ST_SERIES_JUMP,
                       "slices %d and %d fit their neighbours better the other way "
                       "round: %.2f, at "
                       "most %.2f",
                       ret->exchange_after + 1, ret->exchange_after + 2, ret->exchange,
                       EXCHANGE_LIMIT * part);
    if (ret->jump > JUMP_LIMIT * part)
        return err_set(err, ST_SERIES_JUMP,
                       "slices %d and %d differ %.2f times as much as their "
                       "neighbours do, at most %.2f",
                       ret->jump_after + 1, ret->jump_after + 2, ret->jump, JUMP_LIMIT * part);
    return ST_OK;
}
