/* The reference backend: plain loops that can be read beside the paper, in double where sums are
** long. Not fast and not meant to become so: it is the oracle for the other backends.
**
** It runs the literal network. Memory order of a value: [c][h][w]. One slice is one thread's work.
*/
#include "gpu/backend.h"

#include "base/arena.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Ref {
    const Graph *graph;
    int32_t n_workers;
    size_t plane_floats; /* largest h * w of any value */
    OpTensors tensors[GRAPH_MAX_OPS];
    Arena arena;
    float **values; /* [n_workers]: graph->arena_floats each */
    double **sums;  /* [n_workers]: plane_floats each */
    const float *x; /* of the run under way */
    float *y;
} Ref;

typedef struct Span {
    int32_t begin, end;
} Span;

/* Output positions o in 0..n_out-1 whose input position o * stride + shift is in 0..n_in-1. */
static Span inside(int32_t n_out, int32_t n_in, int32_t stride, int32_t shift)
{
    Span span = {0, n_out};
    while (span.begin < n_out && span.begin * stride + shift < 0)
        span.begin++;
    while (span.end > span.begin && (span.end - 1) * stride + shift >= n_in)
        span.end--;
    return span;
}

/* sum[oy][ox] += weight * x[oy * stride + ky - pad][ox * stride + kx - pad], zero outside. */
static void add_tap(double *sum, const Value *out, const float *x, const Value *in, const Op *op,
                    int32_t ky, int32_t kx, double weight)
{
    int32_t pad = op->kernel / 2;
    Span rows = inside(out->h, in->h, op->stride, ky - pad);
    Span columns = inside(out->w, in->w, op->stride, kx - pad);
    for (int32_t oy = rows.begin; oy < rows.end; oy++) {
        const float *row = x + (ptrdiff_t)(oy * op->stride + ky - pad) * in->w;
        double *sum_row = sum + (ptrdiff_t)oy * out->w;
        for (int32_t ox = columns.begin; ox < columns.end; ox++)
            sum_row[ox] += weight * (double)row[ox * op->stride + kx - pad];
    }
}

/* y = relu(batch_norm(conv(x)) + residual); y holds the residual on entry if there is one. */
static void run_conv(const Graph *graph, const Op *op, const OpTensors *t, const float *x,
                     double *sum, float *y)
{
    const Value *in = &graph->values[op->input], *out = &graph->values[op->output];
    int32_t k = op->kernel;
    size_t in_plane = (size_t)in->h * (size_t)in->w, out_plane = (size_t)out->h * (size_t)out->w;
    for (int32_t o = 0; o < out->c; o++, y += out_plane) {
        memset(sum, 0, out_plane * sizeof *sum);
        for (int32_t i = 0; i < in->c; i++)
            for (int32_t ky = 0; ky < k; ky++)
                for (int32_t kx = 0; kx < k; kx++) {
                    size_t tap =
                        (((size_t)o * (size_t)in->c + (size_t)i) * (size_t)k + (size_t)ky) *
                            (size_t)k +
                        (size_t)kx;
                    add_tap(sum, out, x + (size_t)i * in_plane, in, op, ky, kx,
                            (double)t->weight[tap]);
                }
        double scale = 1, shift = 0;
        if (t->gamma != NULL) { /* gamma * (v - mean) / sqrt(variance + epsilon) + beta */
            scale = (double)t->gamma[o] / sqrt((double)t->variance[o] + GRAPH_BATCH_NORM_EPSILON);
            shift = (double)t->beta[o] - (double)t->mean[o] * scale;
        } else {
            shift = (double)t->bias[o];
        }
        for (size_t p = 0; p < out_plane; p++) {
            double v = sum[p] * scale + shift;
            if (op->second >= 0)
                v += (double)y[p];
            y[p] = (float)(op->relu && v < 0 ? 0 : v);
        }
    }
}

/* 3x3, stride 2, padding 1; the padding never wins. */
static void run_maxpool(const float *x, const Value *in, float *y, const Value *out)
{
    for (int32_t c = 0; c < in->c; c++, x += (ptrdiff_t)in->h * in->w)
        for (int32_t oy = 0; oy < out->h; oy++)
            for (int32_t ox = 0; ox < out->w; ox++) {
                float largest = -INFINITY;
                for (int32_t iy = 2 * oy - 1; iy <= 2 * oy + 1; iy++)
                    for (int32_t ix = 2 * ox - 1; ix <= 2 * ox + 1; ix++)
                        if (iy >= 0 && iy < in->h && ix >= 0 && ix < in->w)
                            largest = fmaxf(largest, x[(ptrdiff_t)iy * in->w + ix]);
                *y++ = largest;
            }
}

static void run_up2(const float *x, const Value *in, float *y)
{
    for (int32_t c = 0; c < in->c; c++, x += (ptrdiff_t)in->h * in->w)
        for (int32_t oy = 0; oy < 2 * in->h; oy++)
            for (int32_t ox = 0; ox < 2 * in->w; ox++)
                *y++ = x[(ptrdiff_t)(oy / 2) * in->w + ox / 2];
}

static size_t count(const Value *v)
{
    return (size_t)v->c * (size_t)v->h * (size_t)v->w;
}

static void run_op(const Ref *ref, int32_t worker, int32_t i)
{
    const Graph *graph = ref->graph;
    const Op *op = &graph->ops[i];
    const Value *in = &graph->values[op->input], *out = &graph->values[op->output];
    const float *x = ref->values[worker] + in->offset;
    float *y = ref->values[worker] + out->offset;
    switch (op->kind) {
    case OP_CONV:
        run_conv(graph, op, &ref->tensors[i], x, ref->sums[worker], y);
        break;
    case OP_MAXPOOL:
        run_maxpool(x, in, y, out);
        break;
    case OP_UP2:
        run_up2(x, in, y);
        break;
    case OP_CONCAT: {
        const Value *second = &graph->values[op->second];
        memcpy(y, x, count(in) * sizeof *y);
        memcpy(y + count(in), ref->values[worker] + second->offset, count(second) * sizeof *y);
        break;
    }
    case OP_SIGMOID:
        for (size_t p = 0; p < count(in); p++)
            y[p] = (float)(1 / (1 + exp(-(double)x[p])));
        break;
    case OP_SHUFFLE: /* only a rewritten network has it */
        ASSERT(op->kind != OP_SHUFFLE);
        break;
    }
}

static Status run_slice(void *state, int32_t worker, int32_t i, Err *err)
{
    const Ref *ref = state;
    const Graph *graph = ref->graph;
    const Value *in = &graph->values[graph->input], *out = &graph->values[graph->output];
    (void)err;
    memcpy(ref->values[worker] + in->offset, ref->x + (size_t)i * count(in),
           count(in) * sizeof(float));
    for (int32_t k = 0; k < graph->n_ops; k++)
        run_op(ref, worker, k);
    memcpy(ref->y + (size_t)i * count(out), ref->values[worker] + out->offset,
           count(out) * sizeof(float));
    return ST_OK;
}

static Status ref_run(void *state, const float *x, int32_t n, float *ret_y, Err *err)
{
    Ref *ref = state;
    ref->x = x;
    ref->y = ret_y;
    return backend_each_slice(ref->n_workers, n, run_slice, ref, err);
}

static void ref_close(void *state)
{
    Ref *ref = state;
    if (ref == NULL)
        return;
    arena_close(&ref->arena);
    free(ref->values);
    free(ref->sums);
    free(ref);
}

static Status open_memory(Ref *ref, Err *err)
{
    size_t n_workers = (size_t)ref->n_workers, floats = (size_t)ref->graph->arena_floats;
    for (int32_t v = 0; v < ref->graph->n_values; v++) {
        const Value *value = &ref->graph->values[v];
        size_t plane = (size_t)value->h * (size_t)value->w;
        ref->plane_floats = plane > ref->plane_floats ? plane : ref->plane_floats;
    }
    ref->values = calloc(n_workers, sizeof *ref->values);
    ref->sums = calloc(n_workers, sizeof *ref->sums);
    if (ref->values == NULL || ref->sums == NULL)
        return err_set(err, ST_NO_MEMORY, "tables of %zu workers", n_workers);
    size_t each = floats * sizeof(float) + ref->plane_floats * sizeof(double) + 256;
    TRY(arena_open(n_workers * each, &ref->arena, err));
    for (size_t w = 0; w < n_workers; w++) {
        ref->values[w] = arena_alloc(&ref->arena, floats, sizeof(float), err);
        ref->sums[w] = arena_alloc(&ref->arena, ref->plane_floats, sizeof(double), err);
        if (ref->values[w] == NULL || ref->sums[w] == NULL)
            return ST_LIMIT;
    }
    return ST_OK;
}

static Status ref_open(const Graph *literal, const Model *model, const NetOptions *options,
                       void **ret, Err *err)
{
    Ref *ref = calloc(1, sizeof *ref);
    if (ref == NULL)
        return err_set(err, ST_NO_MEMORY, "opening backend ref");
    ref->graph = literal;
    ref->n_workers = options->threads;
    Status status = open_memory(ref, err);
    for (int32_t i = 0; status == ST_OK && i < literal->n_ops; i++)
        if (literal->ops[i].kind == OP_CONV)
            status = graph_op_tensors(literal, &literal->ops[i], model, &ref->tensors[i], err);
    if (status != ST_OK) {
        ref_close(ref);
        return status;
    }
    *ret = ref;
    return ST_OK;
}

const Backend backend_ref = {"ref", ref_open, ref_run, ref_close};
