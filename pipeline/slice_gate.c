/* See slice_gate.h. Every second row and column is looked at: enough for a mean. */
#include "pipeline/slice_gate_int.h"

#include "base/hot.h"
#include "base/parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BONE_HU 200
#define FAINT                                                                                      \
    0.25 /* a difference below this part of the median one is air beyond the     \
          head's end */
#define LEAST_HU 2.0
#define JUMP_LIMIT 2.5
#define MISFIT_LIMIT 1.0
#define EXCHANGE_LIMIT 1.15
#define MIRROR_LIMIT 1.1
#define SIDES_LIMIT 0.25
#define STRAY_LIMIT 1.4
#define STRAY_GAIN 1.75 /* 1.4 where the slice behind is 1.25 times as far as the neighbour */
#define REPEAT_LIMIT 5.0
#define REPEAT_MAX_HU 2.0 /* noise alone makes a median step of 3 HU where its deviation is 3 */
#define REPEAT_LEAST_HU 0.5
#define END_LIMIT_MM 1500.0
#define DOUBTFUL 2.0 /* jumps above are looked into */
#define ADDED 1.8    /* a jump with less of one in the tissue itself comes from what was added */
#define MOVE_MAX_MM 2.5
#define MOVE_GAIN 0.7 /* a move explains a jump if that part of it, at most, remains */
enum { HALF = 4, MOVE_MAX_PIXELS = 6 };

typedef struct Steps {
    const VolumeI16 *ct;
    double *near;    /* [nz] |z - z+1| */
    double *far;     /* [nz] |z - z+2| */
    double *bend;    /* [nz] |z+1 - mean of z and z+2| */
    double *tissue;  /* [nz] as near, the mean over what is tissue in both slices */
    double *both;    /* [nz] mm2 that are */
    double *typical; /* [nz] the median of |z - z+1| over what is soft in both */
    double *soft;    /* [nz] mm2 that are */
} Steps;

/* Clipped, every second value; returns how many. */
HOT_CLONES
int32_t slice_take_row(const int16_t *restrict row, int32_t nx, int32_t *restrict ret)
{
    int32_t n = (nx + SLICE_STRIDE - 1) / SLICE_STRIDE;
    for (int32_t x = 0; x < n; x++)
        ret[x] = slice_clip(row[x * SLICE_STRIDE]);
    return n;
}

HOT_CLONES
int32_t slice_sum_difference(const int32_t *restrict a, const int32_t *restrict b, int32_t n)
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
        int32_t is_both = (a[x] > SLICE_TISSUE_HU) & (b[x] > SLICE_TISSUE_HU);
        sum += is_both ? abs(a[x] - b[x]) : 0;
        both += is_both;
    }
    *count += both;
    return sum;
}

/* Counts |a - b| of what is soft in both; returns how much that is. Bone is clipped. */
static int32_t count_soft(const int32_t *a, const int32_t *b, int32_t n, int32_t *count)
{
    int32_t soft = 0;
    for (int32_t x = 0; x < n; x++)
        if (a[x] > SLICE_TISSUE_HU && b[x] > SLICE_TISSUE_HU && a[x] < BONE_HU && b[x] < BONE_HU) {
            count[abs(a[x] - b[x])]++;
            soft++;
        }
    return soft;
}

/* Of n counted values 0..; in between two if it lies there. */
static double median_counted(const int32_t *count, int32_t n)
{
    double seen = 0, half = 0.5 * n;
    for (int32_t v = 0; n > 0; v++) {
        if (seen + count[v] >= half)
            return v - 0.5 + (half - seen) / count[v];
        seen += count[v];
    }
    return 0;
}

static void measure(void *context, int z)
{
    Steps *s = context;
    const Grid *g = &s->ct->grid;
    size_t slice = (size_t)g->nx * (size_t)g->ny;
    bool has_two = z + 2 < g->nz;
    const int16_t *v = s->ct->v + (size_t)z * slice;
    int32_t a[SLICE_ROW_MAX], b[SLICE_ROW_MAX], c[SLICE_ROW_MAX], n = 0, count = 0;
    int32_t by_step[BONE_HU - SLICE_TISSUE_HU] = {0}, count_by_step = 0;
    int64_t near = 0, far = 0, bend = 0, tissue = 0, rows = 0;
    for (int32_t y = 0; y < g->ny; y += SLICE_STRIDE, rows++) {
        const int16_t *row = v + (size_t)y * (size_t)g->nx;
        n = slice_take_row(row, g->nx, a);
        (void)slice_take_row(row + slice, g->nx, b);
        near += slice_sum_difference(a, b, n);
        tissue += sum_tissue(a, b, n, &count);
        count_by_step += count_soft(a, b, n, by_step);
        if (!has_two)
            continue;
        (void)slice_take_row(row + 2 * slice, g->nx, c);
        far += slice_sum_difference(a, c, n);
        bend += sum_bend(a, b, c, n);
    }
    double pixels = (double)rows * n;
    double pixel_mm2 = SLICE_STRIDE * SLICE_STRIDE * grid_spacing_mm(g, 0) * grid_spacing_mm(g, 1);
    s->near[z] = (double)near / pixels;
    s->far[z] = (double)far / pixels;
    s->bend[z] = 0.5 * (double)bend / pixels;
    s->tissue[z] = count > 0 ? (double)tissue / count : 0;
    s->typical[z] = median_counted(by_step, count_by_step);
    s->soft[z] = (double)count_by_step * pixel_mm2;
    s->both[z] = (double)count * pixel_mm2;
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
    int32_t a[SLICE_ROW_MAX], b[SLICE_ROW_MAX], n = 0;
    int64_t sum = 0, rows = 0;
    for (int32_t y = MOVE_MAX_PIXELS; y < g->ny - MOVE_MAX_PIXELS; y += SLICE_STRIDE, rows++) {
        const int16_t *row = v + (size_t)y * (size_t)g->nx + MOVE_MAX_PIXELS;
        n = slice_take_row(row, g->nx - 2 * MOVE_MAX_PIXELS, a);
        (void)slice_take_row(row + slice + (ptrdiff_t)dy * g->nx + dx, g->nx - 2 * MOVE_MAX_PIXELS,
                             b);
        sum += slice_sum_difference(a, b, n);
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

static void find_repeat(const Steps *s, int32_t nz, SliceFit *ret)
{
    int32_t n = nz - 1;
    for (int32_t z = 0; z < n; z++) {
        double ratio = over(median_beside(s->typical, n, z), s->typical[z], REPEAT_LEAST_HU);
        if (s->soft[z] >= SLICE_LEAST_MM2 && s->typical[z] < REPEAT_MAX_HU && ratio > ret->repeat) {
            ret->repeat = ratio;
            ret->repeat_after = z;
        }
    }
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

/* An outermost slice has one neighbour. It is foreign if it is farther from that than steps are
** there, and no nearer to it than to the one behind. near: index of the outermost step, far: of the
** double one. */
static void find_stray(const Steps *s, int32_t nz, int32_t near, int32_t far, SliceFit *ret)
{
    if (s->both[near] < SLICE_LEAST_MM2)
        return;
    double ratio = over(s->near[near], median_beside(s->near, nz - 1, near), 1);
    ratio = fmin(ratio, over(s->tissue[near], median_beside(s->tissue, nz - 1, near), 1));
    ratio = fmin(ratio, STRAY_GAIN * over(s->near[near], s->far[far], 1));
    if (ratio <= ret->stray || (ratio > STRAY_LIMIT && find_move(s->ct, near, ratio) > 0))
        return;
    ret->stray = ratio;
    ret->stray_at = near == 0 ? 0 : nz - 1;
}

Status slice_fit(const VolumeI16 *ct, int threads, SliceFit *ret, Err *err)
{
    int32_t nz = ct->grid.nz;
    *ret = (SliceFit){.misfit_at = -1,
                      .exchange_after = -1,
                      .jump_after = -1,
                      .moved_after = -1,
                      .mirror_after = -1,
                      .repeat_after = -1,
                      .end_after = -1,
                      .stray_at = -1,
                      .sides_after = -1,
                      .order_first = -1,
                      .order_last = -1,
                      .same = -1};
    if (nz < 4)
        return ST_OK;
    if (ct->grid.nx > SLICE_ROW_MAX)
        return err_set(err, ST_LIMIT, "slices of %d columns, at most %d", ct->grid.nx,
                       SLICE_ROW_MAX);
    size_t n = (size_t)nz;
    double *d = calloc(8 * n, sizeof *d);
    bool *is_head = calloc(n, sizeof *is_head);
    if (d == NULL || is_head == NULL) {
        free(d);
        free(is_head);
        return err_set(err, ST_NO_MEMORY, "comparing %d slices", nz);
    }
    Steps s = {ct, d, d + n, d + 2 * n, d + 4 * n, d + 5 * n, d + 6 * n, d + 7 * n};
    double *sorted = d + 3 * n;
    parallel_for(threads, nz - 1, measure, &s);
    memcpy(sorted, s.near, (n - 1) * sizeof *sorted);
    double faint = FAINT * median(sorted, nz - 1);
    memcpy(sorted, s.far, (n - 2) * sizeof *sorted);
    double faint_far = fmax(FAINT * median(sorted, nz - 2), LEAST_HU);
    find_misfit(&s, nz, faint_far, ret);
    find_exchange(&s, nz, faint_far, ret);
    find_jump(&s, nz, faint, ret);
    find_repeat(&s, nz, ret);
    find_stray(&s, nz, 0, 0, ret);
    find_stray(&s, nz, nz - 2, nz - 3, ret);
    Status status = slice_find_end(ct, threads, is_head, ret, err);
    if (status == ST_OK)
        status = slice_find_mirror(ct, s.near, is_head, threads, ret, err);
    if (status == ST_OK)
        status = slice_find_sides(ct, is_head, threads, ret, err);
    if (status == ST_OK)
        status = slice_find_order(ct, is_head, faint_far, threads, ret, err);
    if (status == ST_OK)
        status = slice_find_same(ct, threads, ret, err);
    free(d);
    free(is_head);
    return status;
}

Status slice_gate(const VolumeI16 *ct, double max_ratio, int threads, SliceFit *ret, Err *err)
{
    TRY(slice_fit(ct, threads, ret, err));
    double part = max_ratio / JUMP_LIMIT;
    if (ret->same >= 0)
        return err_set(err, ST_SERIES_JUMP, "slice %d is the same image as slice %d", ret->same + 1,
                       ret->same_as + 1);
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
    if (ret->order > EXCHANGE_LIMIT * part)
        return err_set(
            err, ST_SERIES_JUMP,
            "slices %d to %d fit their neighbours better in reverse order: %.2f, at most "
            "%.2f",
            ret->order_first + 1, ret->order_last + 1, ret->order, EXCHANGE_LIMIT * part);
    if (ret->end_mm > END_LIMIT_MM * part)
        return err_set(err, ST_SERIES_JUMP,
                       "between slices %d and %d the head ends or begins at once: %.0f mm2 per mm, "
                       "at most %.0f",
                       ret->end_after + 1, ret->end_after + 2, ret->end_mm, END_LIMIT_MM * part);
    if (ret->jump > JUMP_LIMIT * part)
        return err_set(err, ST_SERIES_JUMP,
                       "slices %d and %d differ %.2f times as much as their "
                       "neighbours do, at most %.2f",
                       ret->jump_after + 1, ret->jump_after + 2, ret->jump, JUMP_LIMIT * part);
    if (ret->mirror > MIRROR_LIMIT * part)
        return err_set(err, ST_SERIES_JUMP,
                       "slices %d and %d fit %.2f times better when one is mirrored, at most %.2f",
                       ret->mirror_after + 1, ret->mirror_after + 2, ret->mirror,
                       MIRROR_LIMIT * part);
    if (ret->sides > SIDES_LIMIT * part)
        return err_set(err, ST_SERIES_JUMP,
                       "between slices %d and %d left and right change places: what is not "
                       "symmetric in them correlates by %.2f, at least %.2f",
                       ret->sides_after + 1, ret->sides_after + 2, -ret->sides,
                       -SIDES_LIMIT * part);
    if (ret->stray > STRAY_LIMIT * part)
        return err_set(
            err, ST_SERIES_JUMP,
            "the outermost slice %d differs %.2f times as much as those beside it, at most "
            "%.2f",
            ret->stray_at + 1, ret->stray, STRAY_LIMIT * part);
    if (ret->repeat > REPEAT_LIMIT * part)
        return err_set(err, ST_SERIES_JUMP,
                       "slices %d and %d are nearly the same image: their neighbours differ %.1f "
                       "times as much, at most %.1f",
                       ret->repeat_after + 1, ret->repeat_after + 2, ret->repeat,
                       REPEAT_LIMIT * part);
    return ST_OK;
}
