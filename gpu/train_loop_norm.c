/* Batch norm with the sum and the ReLU after it. See train_loops.h; the formulas stand in
** train_ref_ops.c. */
#include "gpu/train_lines.h"

#include "base/hot.h"
#include "gpu/train_int.h"

#include <math.h>
#include <string.h>

enum { BUFFER_X = 3, BUFFER_OUT = 4, BUFFER_RESIDUAL = 5 };

static size_t channels(const Loop *loop)
{
    return (size_t)loop->x.c;
}

/* ---- sums over lines ----------------------------------------------------------------------- */

/* s += x - shift, q += (x - shift)^2 over w pixels */
HOT_CLONES static void add_moments(const float *restrict x, size_t w, size_t c,
                                   const float *restrict shift, float *restrict s,
                                   float *restrict q)
{
    for (size_t p = 0; p < w; p++, x += c)
        for (size_t k = 0; k < c; k++) {
            float d = x[k] - shift[k];
            s[k] += d;
            q[k] += d * d;
        }
}

/* s += d, q += d (x - mean) over w pixels */
HOT_CLONES static void add_products(const float *restrict d, const float *restrict x, size_t w,
                                    size_t c, const float *restrict mean, float *restrict s,
                                    float *restrict q)
{
    for (size_t p = 0; p < w; p++, x += c, d += c)
        for (size_t k = 0; k < c; k++) {
            s[k] += d[k];
            q[k] += d[k] * (x[k] - mean[k]);
        }
}

/* Rows s and q of a line, at zero; add_row_sums() adds them to the part's double sums. */
static void begin_rows(const Loop *loop, int32_t part, float **ret_s, float **ret_q)
{
    *ret_s = loop->memory[part].rows;
    *ret_q = *ret_s + channels(loop);
    memset(*ret_s, 0, 2 * channels(loop) * sizeof **ret_s);
}

static void add_row_sums(const Loop *loop, int32_t part)
{
    const LoopMemory *m = &loop->memory[part];
    for (size_t k = 0; k < 2 * channels(loop); k++)
        m->sums[k] += (double)m->rows[k];
}

static void clear_sums(const Loop *loop, int32_t part)
{
    memset(loop->memory[part].sums, 0, 2 * channels(loop) * sizeof(double));
}

/* Over all parts, of row 0 (s) or 1 (q). */
static double total(const Loop *loop, size_t row, size_t k)
{
    double sum = 0;
    for (int32_t part = 0; part < loop->team->threads; part++)
        sum += loop->memory[part].sums[row * channels(loop) + k];
    return sum;
}

static double count(const Loop *loop)
{
    return (double)loop->n * loop->x.h * loop->x.w;
}

/* ---- forward ------------------------------------------------------------------------------- */

/* Moments about the first pixel (in `mean`), so that a large mean does not swallow the variance. */
static void sum_moments(void *context, int32_t part)
{
    const Loop *loop = context;
    const LineRange range = line_range(loop, &loop->x, part);
    clear_sums(loop, part);
    for (size_t line = range.begin; line < range.end; line++) {
        float *s, *q;
        const float *x = line_load(&loop->x, line, line_buffer(loop, part, BUFFER_X));
        begin_rows(loop, part, &s, &q);
        add_moments(x, (size_t)loop->x.w, channels(loop), loop->norm->mean, s, q);
        add_row_sums(loop, part);
    }
}

static void find_statistics(const Loop *loop)
{
    const LoopNorm *norm = loop->norm;
    double n = count(loop), repeated = n * norm->repeats;
    for (size_t k = 0; k < channels(loop); k++) {
        double mean = total(loop, 0, k) / n;
        double variance = fmax(total(loop, 1, k) / n - mean * mean, 0);
        mean += (double)norm->mean[k];
        norm->running_mean[k] =
            (float)((1 - TRAIN_MOMENTUM) * (double)norm->running_mean[k] + TRAIN_MOMENTUM * mean);
        norm->running_variance[k] =
            (float)((1 - TRAIN_MOMENTUM) * (double)norm->running_variance[k] +
                    TRAIN_MOMENTUM * variance * repeated / (repeated - 1));
        norm->mean[k] = (float)mean;
        norm->inverse_sd[k] = (float)(1 / sqrt(variance + GRAPH_BATCH_NORM_EPSILON));
    }
}

static void use_running(const Loop *loop)
{
    const LoopNorm *norm = loop->norm;
    for (size_t k = 0; k < channels(loop); k++) {
        norm->mean[k] = norm->running_mean[k];
        norm->inverse_sd[k] =
            (float)(1 / sqrt((double)norm->running_variance[k] + GRAPH_BATCH_NORM_EPSILON));
    }
}

/* y = max(floor, (x - mean) scale + beta (+ r)) */
HOT_CLONES static void apply(const float *restrict x, const float *restrict r, size_t w, size_t c,
                             const LoopNorm *norm, float floor, float *restrict y)
{
    const float *restrict mean = norm->mean, *restrict scale = norm->scale;
    const float *restrict beta = norm->beta;
    for (size_t p = 0; p < w; p++, x += c, y += c) {
        if (r != NULL) {
            for (size_t k = 0; k < c; k++) {
                float v = (x[k] - mean[k]) * scale[k] + beta[k] + r[k];
                y[k] = v < floor ? floor : v;
            }
            r += c;
        } else {
            for (size_t k = 0; k < c; k++) {
                float v = (x[k] - mean[k]) * scale[k] + beta[k];
                y[k] = v < floor ? floor : v;
            }
        }
    }
}

/* The line of the residual that is added to line `line` of y; NULL if there is none. */
static const float *residual(const Loop *loop, int32_t part, size_t line)
{
    float *buffer = line_buffer(loop, part, BUFFER_RESIDUAL);
    if (loop->x2.data == NULL)
        return NULL;
    if (!loop->doubles)
        return line_load(&loop->x2, line, buffer);
    size_t h = (size_t)loop->y.h, from = line / h * (h / 2) + line % h / 2;
    const float *small = line_load(&loop->x2, from, line_buffer(loop, part, 0));
    line_double(small, (size_t)loop->x2.w, channels(loop), buffer);
    return buffer;
}

static void apply_part(void *context, int32_t part)
{
    const Loop *loop = context;
    const LineRange range = line_range(loop, &loop->x, part);
    float floor = loop->relu ? 0.0f : -INFINITY;
    for (size_t line = range.begin; line < range.end; line++) {
        const float *x = line_load(&loop->x, line, line_buffer(loop, part, BUFFER_X));
        float *y = line_begin(&loop->y, line, line_buffer(loop, part, BUFFER_OUT));
        apply(x, residual(loop, part, line), (size_t)loop->x.w, channels(loop), loop->norm, floor,
              y);
        line_done(&loop->y, line, y);
    }
}

void loop_norm(Loop *loop)
{
    const LoopNorm *norm = loop->norm;
    if (norm->batch_statistics) {
        const float *first = line_load(&loop->x, 0, line_buffer(loop, 0, BUFFER_X));
        memcpy(norm->mean, first, channels(loop) * sizeof *first);
        dnnl_team_run(loop->team, sum_moments, loop);
        find_statistics(loop);
    } else {
        use_running(loop);
    }
    for (size_t k = 0; k < channels(loop); k++)
        norm->scale[k] = norm->gamma[k] * norm->inverse_sd[k];
    dnnl_team_run(loop->team, apply_part, loop);
}

/* ---- backward ------------------------------------------------------------------------------ */

static bool stores_gated(const Loop *loop)
{
    return loop->dx2.data != NULL && !loop->doubles;
}

static void store_gated(const Loop *loop, size_t line, const float *d)
{
    float *to = line_begin(&loop->dx2, line, NULL);
    if (to != NULL) /* float32 */
        memcpy(to, d, line_length(&loop->dx2) * sizeof *d);
    line_done(&loop->dx2, line, d);
}

/* Sums for dbeta and dgamma; the gated gradient is the residual's. */
static void sum_gradients(void *context, int32_t part)
{
    const Loop *loop = context;
    const LineRange range = line_range(loop, &loop->x, part);
    clear_sums(loop, part);
    for (size_t line = range.begin; line < range.end; line++) {
        float *s, *q;
        const float *x = line_load(&loop->x, line, line_buffer(loop, part, BUFFER_X));
        const float *d = line_gradient(loop, part, line);
        begin_rows(loop, part, &s, &q);
        add_products(d, x, (size_t)loop->x.w, channels(loop), loop->norm->mean, s, q);
        add_row_sums(loop, part);
        if (stores_gated(loop))
            store_gated(loop, line, d);
    }
}

static void find_gradients(const Loop *loop)
{
    const LoopNorm *norm = loop->norm;
    for (size_t k = 0; k < channels(loop); k++) {
        double dbeta = total(loop, 0, k), inverse_sd = (double)norm->inverse_sd[k];
        double dgamma = total(loop, 1, k) * inverse_sd, scale = (double)norm->scale[k];
        if (norm->dgamma != NULL) {
            norm->dgamma[k] = (float)dgamma;
            norm->dbeta[k] = (float)dbeta;
        }
        norm->k0[k] = (float)(-scale * dbeta / count(loop));
        norm->k2[k] = (float)(-scale * inverse_sd * dgamma / count(loop));
    }
}

/* dx = scale d + k2 (x - mean) + k0 */
HOT_CLONES static void differentiate(const float *restrict d, const float *restrict x, size_t w,
                                     size_t c, const LoopNorm *norm, float *restrict dx)
{
    const float *restrict mean = norm->mean, *restrict scale = norm->scale;
    const float *restrict k0 = norm->k0, *restrict k2 = norm->k2;
    for (size_t p = 0; p < w; p++, d += c, x += c, dx += c)
        for (size_t k = 0; k < c; k++)
            dx[k] = scale[k] * d[k] + (k2[k] * (x[k] - mean[k]) + k0[k]);
}

HOT_CLONES static void scale_only(const float *restrict d, size_t w, size_t c,
                                  const float *restrict scale, float *restrict dx)
{
    for (size_t p = 0; p < w; p++, d += c, dx += c)
        for (size_t k = 0; k < c; k++)
            dx[k] = scale[k] * d[k];
}

static void differentiate_part(void *context, int32_t part)
{
    const Loop *loop = context;
    const LineRange range = line_range(loop, &loop->x, part);
    bool by_batch = loop->norm->batch_statistics;
    size_t w = (size_t)loop->x.w, c = channels(loop);
    for (size_t line = range.begin; line < range.end; line++) {
        bool stored = by_batch && stores_gated(loop);
        const float *d = stored ? line_load(&loop->dx2, line, line_buffer(loop, part, 0))
                                : line_gradient(loop, part, line);
        float *dx = line_begin(&loop->dx, line, line_buffer(loop, part, BUFFER_OUT));
        if (by_batch)
            differentiate(d, line_load(&loop->x, line, line_buffer(loop, part, BUFFER_X)), w, c,
                          loop->norm, dx);
        else
            scale_only(d, w, c, loop->norm->scale, dx);
        line_done(&loop->dx, line, dx);
        if (!stored && stores_gated(loop))
            store_gated(loop, line, d);
    }
}

/* Of a residual that was doubled: each of its pixels gets the sum of four. */
static void halve_part(void *context, int32_t part)
{
    const Loop *loop = context;
    const LineRange range = line_range(loop, &loop->dx2, part);
    size_t h = (size_t)loop->dx2.h, c = channels(loop);
    for (size_t line = range.begin; line < range.end; line++) {
        float *to = line_begin(&loop->dx2, line, line_buffer(loop, part, BUFFER_OUT));
        for (size_t k = 0; k < 2; k++) {
            size_t from = line / h * 2 * h + 2 * (line % h) + k;
            line_halve(line_gradient(loop, part, from), c, (size_t)loop->dx2.w, c, k == 1, to);
        }
        line_done(&loop->dx2, line, to);
    }
}

void loop_norm_back(Loop *loop)
{
    if (loop->norm->batch_statistics) {
        dnnl_team_run(loop->team, sum_gradients, loop);
        find_gradients(loop);
    }
    dnnl_team_run(loop->team, differentiate_part, loop);
    if (loop->dx2.data != NULL && loop->doubles)
        dnnl_team_run(loop->team, halve_part, loop);
}
