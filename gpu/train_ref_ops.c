/* See train_ref_ops.h. Batch norm: Ioffe and Szegedy 2015, arXiv:1502.03167, section 3. */
#include "gpu/train_ref_ops.h"

#include "base/parallel.h"
#include "gpu/ref_span.h"
#include "gpu/train_int.h"

#include <math.h>
#include <string.h>

static size_t plane(const Value *v)
{
    return (size_t)v->h * (size_t)v->w;
}

/* ---- convolution --------------------------------------------------------------------------- */

/* One tap of a kernel between a plane of the input and one of the output. */
typedef struct Tap {
    const Value *in, *out;
    int32_t stride, dy, dx;
    Span rows, columns; /* of the output, where the tap is inside the input */
} Tap;

static Tap tap_at(const RefOp *op, int32_t ky, int32_t kx)
{
    int32_t pad = op->kernel / 2;
    Tap t = {op->in, op->out, op->stride, ky - pad, kx - pad, {0, 0}, {0, 0}};
    t.rows = span_inside(op->out->h, op->in->h, op->stride, t.dy);
    t.columns = span_inside(op->out->w, op->in->w, op->stride, t.dx);
    return t;
}

static size_t out_row(const Tap *t, int32_t oy)
{
    return (size_t)oy * (size_t)t->out->w;
}

/* In front of the row by dx, so that [ox * stride] is the tap's input: as an index. */
static ptrdiff_t in_row(const Tap *t, int32_t oy)
{
    return (ptrdiff_t)(oy * t->stride + t->dy) * t->in->w + t->dx;
}

/* y[oy][ox] += w x[oy * stride + dy][ox * stride + dx] */
static void tap_forward(const Tap *t, double w, const double *x, double *y)
{
    for (int32_t oy = t->rows.begin; oy < t->rows.end; oy++)
        for (int32_t ox = t->columns.begin; ox < t->columns.end; ox++)
            y[out_row(t, oy) + (size_t)ox] += w * x[in_row(t, oy) + ox * t->stride];
}

/* dx[oy * stride + dy][ox * stride + dx] += w dy[oy][ox] */
static void tap_backward(const Tap *t, double w, const double *dy, double *dx)
{
    for (int32_t oy = t->rows.begin; oy < t->rows.end; oy++)
        for (int32_t ox = t->columns.begin; ox < t->columns.end; ox++)
            dx[in_row(t, oy) + ox * t->stride] += w * dy[out_row(t, oy) + (size_t)ox];
}

/* sum of dy[oy][ox] x[oy * stride + dy][ox * stride + dx] */
static double tap_product(const Tap *t, const double *dy, const double *x)
{
    double sum = 0;
    for (int32_t oy = t->rows.begin; oy < t->rows.end; oy++)
        for (int32_t ox = t->columns.begin; ox < t->columns.end; ox++)
            sum += dy[out_row(t, oy) + (size_t)ox] * x[in_row(t, oy) + ox * t->stride];
    return sum;
}

static size_t weight_at(const RefOp *op, int32_t o, int32_t i, int32_t ky, int32_t kx)
{
    return (size_t)(((o * op->in->c + i) * op->kernel + ky) * op->kernel + kx);
}

static void conv_forward(void *context, int item) /* of (n, c_out) */
{
    const RefOp *op = context;
    int32_t o = item % op->out->c;
    const double *x = op->x + (size_t)(item / op->out->c) * (size_t)op->in->c * plane(op->in);
    double *y = op->y + (size_t)item * plane(op->out);
    for (size_t p = 0; p < plane(op->out); p++)
        y[p] = op->bias != NULL ? op->bias[o] : 0;
    for (int32_t i = 0; i < op->in->c; i++, x += plane(op->in))
        for (int32_t ky = 0; ky < op->kernel; ky++)
            for (int32_t kx = 0; kx < op->kernel; kx++) {
                const Tap t = tap_at(op, ky, kx);
                tap_forward(&t, op->weight[weight_at(op, o, i, ky, kx)], x, y);
            }
}

static void conv_back_data(void *context, int item) /* of (n, c_in) */
{
    const RefOp *op = context;
    int32_t i = item % op->in->c;
    const double *dy = op->dy + (size_t)(item / op->in->c) * (size_t)op->out->c * plane(op->out);
    double *dx = op->dx + (size_t)item * plane(op->in);
    for (int32_t o = 0; o < op->out->c; o++, dy += plane(op->out))
        for (int32_t ky = 0; ky < op->kernel; ky++)
            for (int32_t kx = 0; kx < op->kernel; kx++) {
                const Tap t = tap_at(op, ky, kx);
                tap_backward(&t, op->weight[weight_at(op, o, i, ky, kx)], dy, dx);
            }
}

static void conv_back_weights(void *context, int item) /* of (c_out, c_in) */
{
    const RefOp *op = context;
    int32_t o = item / op->in->c, i = item % op->in->c;
    for (int32_t ky = 0; ky < op->kernel; ky++)
        for (int32_t kx = 0; kx < op->kernel; kx++) {
            const Tap t = tap_at(op, ky, kx);
            double sum = 0;
            for (int32_t n = 0; n < op->n; n++)
                sum += tap_product(&t, op->dy + (size_t)(n * op->out->c + o) * plane(op->out),
                                   op->x + (size_t)(n * op->in->c + i) * plane(op->in));
            op->dweight[weight_at(op, o, i, ky, kx)] = sum;
        }
}

static void conv_back_bias(void *context, int o)
{
    const RefOp *op = context;
    double sum = 0;
    for (int32_t n = 0; n < op->n; n++)
        for (size_t p = 0; p < plane(op->out); p++)
            sum += op->dy[(size_t)(n * op->out->c + o) * plane(op->out) + p];
    op->dbias[o] = sum;
}

/* ---- batch norm ---------------------------------------------------------------------------- */

/* Mean and biased variance of channel c over the batch. */
static void batch_statistics(const RefOp *op, int c, double *ret_mean, double *ret_variance)
{
    double sum = 0, squares = 0, count = (double)op->n * (double)plane(op->in);
    for (int32_t n = 0; n < op->n; n++)
        for (size_t p = 0; p < plane(op->in); p++)
            sum += op->x[(size_t)(n * op->in->c + c) * plane(op->in) + p];
    *ret_mean = sum / count;
    for (int32_t n = 0; n < op->n; n++)
        for (size_t p = 0; p < plane(op->in); p++) {
            double d = op->x[(size_t)(n * op->in->c + c) * plane(op->in) + p] - *ret_mean;
            squares += d * d;
        }
    *ret_variance = squares / count;
}

/* y = gamma (x - mean) / sqrt(variance + epsilon) + beta */
static void norm_forward(void *context, int c)
{
    const RefOp *op = context;
    double mean = op->mean[c], variance = op->variance[c];
    if (op->batch_statistics) {
        double count = (double)op->n * (double)plane(op->in);
        batch_statistics(op, c, &mean, &variance);
        op->mean[c] = (1 - TRAIN_MOMENTUM) * op->mean[c] + TRAIN_MOMENTUM * mean;
        op->variance[c] = (1 - TRAIN_MOMENTUM) * op->variance[c] +
                          TRAIN_MOMENTUM * variance * count / (count - 1);
    }
    double inverse_sd = 1 / sqrt(variance + GRAPH_BATCH_NORM_EPSILON);
    op->used_mean[c] = mean;
    op->used_inverse_sd[c] = inverse_sd;
    for (int32_t n = 0; n < op->n; n++) {
        size_t at = (size_t)(n * op->in->c + c) * plane(op->in);
        for (size_t p = at; p < at + plane(op->in); p++)
            op->y[p] = op->weight[c] * (op->x[p] - mean) * inverse_sd + op->bias[c];
    }
}

/* With z = (x - mean) inverse_sd: dgamma = sum dy z, dbeta = sum dy, and
** dx = gamma inverse_sd (dy - (dbeta + z dgamma) / count), where mean and variance are the batch's;
** else they are constants and only dy remains in the bracket. */
static void norm_backward(void *context, int c)
{
    const RefOp *op = context;
    double mean = op->used_mean[c], inverse_sd = op->used_inverse_sd[c], dgamma = 0, dbeta = 0;
    double count = (double)op->n * (double)plane(op->in);
    for (int32_t n = 0; n < op->n; n++) {
        size_t at = (size_t)(n * op->in->c + c) * plane(op->in);
        for (size_t p = at; p < at + plane(op->in); p++) {
            dbeta += op->dy[p];
            dgamma += op->dy[p] * (op->x[p] - mean) * inverse_sd;
        }
    }
    if (op->dweight != NULL) {
        op->dweight[c] = dgamma;
        op->dbias[c] = dbeta;
    }
    for (int32_t n = 0; op->dx != NULL && n < op->n; n++) {
        size_t at = (size_t)(n * op->in->c + c) * plane(op->in);
        for (size_t p = at; p < at + plane(op->in); p++) {
            double z = (op->x[p] - mean) * inverse_sd, d = op->dy[p];
            if (op->batch_statistics)
                d -= (dbeta + z * dgamma) / count;
            op->dx[p] += op->weight[c] * inverse_sd * d;
        }
    }
}

/* ---- the others ---------------------------------------------------------------------------- */

/* Where the largest of the window at (oy, ox) is; the first of equals, as in PyTorch. */
static size_t largest_at(const RefOp *op, const double *x, int32_t oy, int32_t ox)
{
    int32_t k = op->kernel, pad = (k - 1) / 2;
    size_t best = SIZE_MAX;
    for (int32_t iy = 2 * oy - pad; iy < 2 * oy - pad + k; iy++)
        for (int32_t ix = 2 * ox - pad; ix < 2 * ox - pad + k; ix++) {
            if (iy < 0 || iy >= op->in->h || ix < 0 || ix >= op->in->w)
                continue;
            size_t p = (size_t)iy * (size_t)op->in->w + (size_t)ix;
            if (best == SIZE_MAX || x[p] > x[best])
                best = p;
        }
    return best;
}

static void pool_plane(void *context, int item) /* of (n, c); backward if dy is there */
{
    const RefOp *op = context;
    const double *x = op->x + (size_t)item * plane(op->in);
    size_t p = (size_t)item * plane(op->out);
    for (int32_t oy = 0; oy < op->out->h; oy++)
        for (int32_t ox = 0; ox < op->out->w; ox++, p++) {
            size_t from = largest_at(op, x, oy, ox);
            if (op->dy == NULL)
                op->y[p] = x[from];
            else
                op->dx[(size_t)item * plane(op->in) + from] += op->dy[p];
        }
}

static void up2_plane(void *context, int item) /* of (n, c); backward if dy is there */
{
    const RefOp *op = context;
    size_t p = (size_t)item * plane(op->out);
    for (int32_t oy = 0; oy < op->out->h; oy++)
        for (int32_t ox = 0; ox < op->out->w; ox++, p++) {
            size_t from = (size_t)item * plane(op->in) + (size_t)(oy / 2) * (size_t)op->in->w +
                          (size_t)(ox / 2);
            if (op->dy == NULL)
                op->y[p] = op->x[from];
            else
                op->dx[from] += op->dy[p];
        }
}

static void concat_slice(void *context, int n) /* backward if dy is there */
{
    const RefOp *op = context;
    size_t first = (size_t)op->in->c * plane(op->in), all = (size_t)op->out->c * plane(op->out);
    size_t second = all - first, at = (size_t)n * all;
    if (op->dy == NULL) {
        memcpy(op->y + at, op->x + (size_t)n * first, first * sizeof *op->y);
        memcpy(op->y + at + first, op->x2 + (size_t)n * second, second * sizeof *op->y);
        return;
    }
    for (size_t p = 0; op->dx != NULL && p < first; p++)
        op->dx[(size_t)n * first + p] += op->dy[at + p];
    for (size_t p = 0; op->dx2 != NULL && p < second; p++)
        op->dx2[(size_t)n * second + p] += op->dy[at + first + p];
}

static void pointwise_plane(void *context, int item) /* ReLU, sum; of (n, c) */
{
    const RefOp *op = context;
    size_t at = (size_t)item * plane(op->out);
    for (size_t p = at; p < at + plane(op->out); p++) {
        bool open = op->kind == OP_ADD || op->x[p] > 0; /* ReLU's gradient at 0 is 0 */
        if (op->dy == NULL) {
            op->y[p] = open ? op->x[p] : 0;
            if (op->x2 != NULL)
                op->y[p] += op->x2[p];
            continue;
        }
        if (op->dx != NULL)
            op->dx[p] += open ? op->dy[p] : 0;
        if (op->dx2 != NULL)
            op->dx2[p] += op->dy[p];
    }
}

/* A copy to hand to parallel_for(), which takes no const. */
static void each(const RefOp *op, int n_items, void (*body)(void *context, int item))
{
    RefOp copy = *op;
    parallel_for(op->threads, n_items, body, &copy);
}

static void run(const RefOp *op)
{
    switch (op->kind) {
    case OP_MAXPOOL:
        each(op, op->n * op->in->c, pool_plane);
        break;
    case OP_UP2:
        each(op, op->n * op->in->c, up2_plane);
        break;
    case OP_CONCAT:
        each(op, op->n, concat_slice);
        break;
    default:
        ASSERT(op->kind == OP_RELU || op->kind == OP_ADD);
        each(op, op->n * op->out->c, pointwise_plane);
    }
}

void ref_op_forward(const RefOp *op)
{
    ASSERT(op->dy == NULL);
    if (op->kind == OP_CONV)
        each(op, op->n * op->out->c, conv_forward);
    else if (op->kind == OP_NORM)
        each(op, op->in->c, norm_forward);
    else
        run(op);
}

void ref_op_backward(const RefOp *op)
{
    ASSERT(op->dy != NULL);
    if (op->kind == OP_NORM) {
        each(op, op->in->c, norm_backward);
    } else if (op->kind == OP_CONV) {
        if (op->dx != NULL)
            each(op, op->n * op->in->c, conv_back_data);
        if (op->dweight != NULL)
            each(op, op->out->c * op->in->c, conv_back_weights);
        if (op->dbias != NULL)
            each(op, op->out->c, conv_back_bias);
    } else if (op->dx != NULL || op->dx2 != NULL) {
        run(op);
    }
}
