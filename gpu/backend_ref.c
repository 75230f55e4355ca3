/* The reference backend: plain loops that can be read beside the paper, in double where sums are
** long. Not fast and not meant to become so: it is the oracle for the other backends.
**
** It runs the literal network; tests of the passes give it rewritten ones. Memory order of a value:
** [c][h][w]. One slice is one thread's work; where there is but one, all threads share its
** convolutions. */
#include "gpu/backend.h"

#include "base/arena.h"
#include "base/parallel.h"

#include "gpu/ref_span.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Weights { /* of a convolution: literal or folded (c_out, c_in, k, k) and (c_out) */
    float *weight, *bias;
} Weights;

typedef struct Worker {
    unsigned char *values; /* graph->arena_bytes; NULL: helps with another's convolutions only */
    double *sum;           /* one plane */
} Worker;

typedef struct Ref {
    const Graph *graph;
    int32_t n_workers;
    int32_t n_helpers;                /* workers at one convolution in the run under way */
    OpTensors tensors[GRAPH_MAX_OPS]; /* of batch norms */
    Weights weights[GRAPH_MAX_OPS];   /* of convolutions */
    Arena arena;
    Worker *workers;
    const NetFeed *feed; /* of the run under way */
} Ref;

/* sum[oy][ox] += weight * x[oy * stride + dy][ox * stride + dx], zero outside. */
static void add_tap(double *sum, const Value *out, const float *x, const Value *in, int32_t stride,
                    int32_t dy, int32_t dx, double weight)
{
    Span rows = span_inside(out->h, in->h, stride, dy),
         columns = span_inside(out->w, in->w, stride, dx);
    for (int32_t oy = rows.begin; oy < rows.end; oy++) {
        const float *row = x + (ptrdiff_t)(oy * stride + dy) * in->w;
        double *sum_row = sum + (ptrdiff_t)oy * out->w;
        for (int32_t ox = columns.begin; ox < columns.end; ox++)
            sum_row[ox] += weight * (double)row[ox * stride + dx];
    }
}

typedef struct Conv {
    const Ref *ref;
    const Op *op;
    const Weights *weights;
    const float *x;
    float *y;
} Conv;

/* Output channel o of run_conv(). */
static void run_channel(const Conv *conv, int32_t o, double *sum)
{
    const Op *op = conv->op;
    const Value *in = &conv->ref->graph->values[op->input];
    const Value *out = &conv->ref->graph->values[op->output];
    int32_t k = graph_conv_kernel(op), pad = k / 2;
    size_t in_plane = (size_t)in->h * (size_t)in->w, out_plane = (size_t)out->h * (size_t)out->w;
    const float *tap = conv->weights->weight + (ptrdiff_t)o * in->c * k * k;
    float *y = conv->y + (size_t)o * out_plane;
    memset(sum, 0, out_plane * sizeof *sum);
    for (int32_t i = 0; i < in->c; i++)
        for (int32_t ky = 0; ky < k; ky++)
            for (int32_t kx = 0; kx < k; kx++)
                add_tap(sum, out, conv->x + (size_t)i * in_plane, in, op->stride, ky - pad,
                        kx - pad, (double)*tap++);
    for (size_t p = 0; p < out_plane; p++) {
        double v = sum[p] + (double)conv->weights->bias[o];
        if (op->second >= 0)
            v += (double)y[p];
        y[p] = (float)(op->relu && v < 0 ? 0 : v);
    }
}

/* Every n-th output channel; context: a Conv. */
static void run_channels(void *context, int item)
{
    const Conv *conv = context;
    const Ref *ref = conv->ref;
    int32_t c = ref->graph->values[conv->op->output].c;
    for (int32_t o = item; o < c; o += ref->n_helpers)
        run_channel(conv, o, ref->workers[item].sum);
}

/* y = relu(conv(x) + bias + residual); y holds the residual on entry if there is one. */
static void run_conv(const Ref *ref, const Worker *worker, int32_t i, const float *x, float *y)
{
    const Op *op = &ref->graph->ops[i];
    Conv conv = {ref, op, &ref->weights[i], x, y};
    if (ref->n_helpers > 1) {
        parallel_for(ref->n_helpers, ref->n_helpers, run_channels, &conv);
        return;
    }
    for (int32_t o = 0; o < ref->graph->values[op->output].c; o++)
        run_channel(&conv, o, worker->sum);
}

/* gamma (x - mean) / sqrt(variance + epsilon) + beta */
static void run_norm(const OpTensors *t, const float *x, const Value *v, float *y)
{
    size_t plane = (size_t)v->h * (size_t)v->w;
    for (int32_t c = 0; c < v->c; c++) {
        double scale =
            (double)t->gamma[c] / sqrt((double)t->variance[c] + GRAPH_BATCH_NORM_EPSILON);
        for (size_t p = 0; p < plane; p++)
            *y++ = (float)(((double)*x++ - (double)t->mean[c]) * scale + (double)t->beta[c]);
    }
}

/* kernel x kernel, stride 2; padding (for kernel 3) never wins. */
static void run_maxpool(const float *x, const Value *in, int32_t kernel, float *y, const Value *out)
{
    int32_t pad = kernel / 2 - (kernel % 2 == 0);
    for (int32_t c = 0; c < in->c; c++, x += (ptrdiff_t)in->h * in->w)
        for (int32_t oy = 0; oy < out->h; oy++)
            for (int32_t ox = 0; ox < out->w; ox++) {
                float largest = -INFINITY;
                for (int32_t iy = 2 * oy - pad; iy < 2 * oy - pad + kernel; iy++)
                    for (int32_t ix = 2 * ox - pad; ix < 2 * ox - pad + kernel; ix++)
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

/* (4, h, w) -> (1, 2h, 2w) */
static void run_shuffle(const float *x, const Value *in, float *y)
{
    size_t plane = (size_t)in->h * (size_t)in->w;
    for (int32_t oy = 0; oy < 2 * in->h; oy++)
        for (int32_t ox = 0; ox < 2 * in->w; ox++)
            *y++ = x[(size_t)(2 * (oy % 2) + ox % 2) * plane + (size_t)(oy / 2) * (size_t)in->w +
                     (size_t)(ox / 2)];
}

static size_t count(const Value *v)
{
    return (size_t)graph_value_elements(v);
}

static float *value(const Worker *worker, const Value *v)
{
    return (float *)(void *)(worker->values + v->offset_bytes);
}

static void run_concat(const Worker *worker, const Value *first, const Value *second, bool doubles,
                       float *y)
{
    size_t n = doubles ? 4 * count(first) : count(first);
    if (doubles)
        run_up2(value(worker, first), first, y);
    else
        memcpy(y, value(worker, first), n * sizeof *y);
    memcpy(y + n, value(worker, second), count(second) * sizeof *y);
}

static void run_op(const Ref *ref, const Worker *worker, int32_t i)
{
    const Graph *graph = ref->graph;
    const Op *op = &graph->ops[i];
    const Value *in = &graph->values[op->input], *out = &graph->values[op->output];
    const float *x = value(worker, in);
    float *y = value(worker, out);
    switch (op->kind) {
    case OP_CONV:
        run_conv(ref, worker, i, x, y);
        break;
    case OP_NORM:
        run_norm(&ref->tensors[i], x, in, y);
        break;
    case OP_RELU:
        for (size_t p = 0; p < count(in); p++)
            y[p] = x[p] < 0 ? 0 : x[p];
        break;
    case OP_ADD:
        for (size_t p = 0; p < count(in); p++)
            y[p] = x[p] + value(worker, &graph->values[op->second])[p];
        break;
    case OP_MAXPOOL:
        run_maxpool(x, in, op->kernel, y, out);
        break;
    case OP_UP2:
        run_up2(x, in, y);
        break;
    case OP_CONCAT:
        run_concat(worker, in, &graph->values[op->second], op->doubles, y);
        break;
    case OP_SHUFFLE:
        run_shuffle(x, in, y);
        break;
    case OP_SIGMOID:
        for (size_t p = 0; p < count(in); p++)
            y[p] = (float)(1 / (1 + exp(-(double)x[p])));
        break;
    case OP_CONVERT: /* a value has one type here */
        ASSERT(op->kind != OP_CONVERT);
        break;
    }
}

static Status run_slice(void *state, int32_t w, int32_t i, Err *err)
{
    const Ref *ref = state;
    const Graph *graph = ref->graph;
    const Worker *worker = &ref->workers[w];
    (void)err;
    ref->feed->fill(ref->feed->context, i, value(worker, &graph->values[graph->input]));
    for (int32_t k = 0; k < graph->n_ops; k++)
        run_op(ref, worker, k);
    ref->feed->take(ref->feed->context, i, value(worker, &graph->values[graph->output]));
    return ST_OK;
}

static Status ref_run(void *state, int32_t n, const NetFeed *feed, Err *err)
{
    Ref *ref = state;
    ref->feed = feed;
    ref->n_helpers = n == 1 ? ref->n_workers : 1;
    return backend_each_slice(ref->n_workers, n, run_slice, ref, err);
}

static void ref_close(void *state)
{
    Ref *ref = state;
    if (ref == NULL)
        return;
    for (int32_t i = 0; i < ref->graph->n_ops; i++) {
        graph_tensors_free(&ref->tensors[i]);
        free(ref->weights[i].weight);
        free(ref->weights[i].bias);
    }
    arena_close(&ref->arena);
    free(ref->workers);
    free(ref);
}

/* n_slices: how many workers compute slices of their own. */
static Status open_memory(Ref *ref, size_t n_slices, Err *err)
{
    size_t n = (size_t)ref->n_workers, bytes = (size_t)ref->graph->arena_bytes, plane = 0;
    for (int32_t v = 0; v < ref->graph->n_values; v++) {
        const Value *value = &ref->graph->values[v];
        size_t here = (size_t)value->h * (size_t)value->w;
        plane = here > plane ? here : plane;
    }
    ref->workers = calloc(n, sizeof *ref->workers);
    if (ref->workers == NULL)
        return err_set(err, ST_NO_MEMORY, "tables of %zu workers", n);
    TRY(arena_open(n_slices * bytes + n * (plane * sizeof(double) + 256), &ref->arena, err));
    for (size_t w = 0; w < n; w++) {
        Worker *worker = &ref->workers[w];
        worker->values = w < n_slices ? arena_alloc(&ref->arena, bytes, 1, err) : NULL;
        worker->sum = arena_alloc(&ref->arena, plane, sizeof(double), err);
        if ((w < n_slices && worker->values == NULL) || worker->sum == NULL)
            return ST_LIMIT;
    }
    return ST_OK;
}

static Status read_conv(const Graph *graph, const Op *op, const Model *model, Weights *ret,
                        Err *err)
{
    OpTensors tensors;
    size_t k = (size_t)graph_conv_kernel(op), c_out = (size_t)graph->values[op->output].c;
    size_t n = c_out * (size_t)graph->values[op->input].c * k * k;
    TRY(graph_read_tensors(graph, op, model, &tensors, err));
    ret->weight = malloc(n * sizeof *ret->weight);
    ret->bias = malloc(c_out * sizeof *ret->bias);
    Status status = ret->weight == NULL || ret->bias == NULL
                        ? err_set(err, ST_NO_MEMORY, "weights of %s", op->name)
                        : graph_fold(graph, op, &tensors, ret->weight, ret->bias, err);
    graph_tensors_free(&tensors);
    return status;
}

static Status ref_open(const Graph *graph, const Model *model, const BackendOptions *options,
                       void **ret, Err *err)
{
    ASSERT(options->precision == PRECISION_F32);
    Ref *ref = calloc(1, sizeof *ref);
    if (ref == NULL)
        return err_set(err, ST_NO_MEMORY, "opening backend ref");
    ref->graph = graph;
    ref->n_workers = options->threads;
    Status status = open_memory(ref, (size_t)options->threads, err);
    for (int32_t i = 0; status == ST_OK && i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        if (op->kind == OP_CONV)
            status = read_conv(graph, op, model, &ref->weights[i], err);
        else if (op->kind == OP_NORM)
            status = graph_read_tensors(graph, op, model, &ref->tensors[i], err);
    }
    if (status != ST_OK) {
        ref_close(ref);
        return status;
    }
    *ret = ref;
    return ST_OK;
}

/* ---- one operation ------------------------------------------------------------------------- */

/* A table of that operation alone: input, second input, output one after the other in memory. */
static void single(const Graph *graph, const Op *op, Graph *ret)
{
    const Value *in = &graph->values[op->input], *out = &graph->values[op->output];
    Op alone = *op;
    *ret = (Graph){0};
    alone.relu = false;
    alone.input = ret->input = graph_add_value(ret, in->c, in->h, in->w);
    if (op->second >= 0) {
        const Value *second = &graph->values[op->second];
        alone.second = graph_add_value(ret, second->c, second->h, second->w);
    }
    ret->output = graph_add_op(ret, alone, out->c, out->h, out->w);
    for (int32_t v = 0; v < ret->n_values; v++) {
        ret->values[v].offset_bytes = ret->arena_bytes;
        ret->arena_bytes +=
            graph_value_elements(&ret->values[v]) * (int64_t)ret->values[v].element_bytes;
    }
}

/* To 255 steps, symmetric about 0. */
static void round_to_steps(float *v, size_t n)
{
    float largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(v[i]));
    float step = largest / 127.0f;
    for (size_t i = 0; i < n && step > 0; i++)
        v[i] = step * rintf(v[i] / step);
}

static void round_weights(const Graph *one, Precision precision, Weights *w)
{
    const Op *op = &one->ops[0];
    size_t k = (size_t)graph_conv_kernel(op), c_out = (size_t)one->values[op->output].c;
    size_t n = (size_t)one->values[op->input].c * k * k;
    for (size_t i = 0; i < c_out * n; i++)
        w->weight[i] = precision_round(precision, w->weight[i]);
    for (size_t o = 0; precision == PRECISION_INT8 && o < c_out; o++)
        round_to_steps(w->weight + o * n, n);
    for (size_t i = 0; precision == PRECISION_F16 && i < c_out; i++)
        w->bias[i] = precision_round(precision, w->bias[i]);
}

static Status open_single(const Graph *one, const Model *model, Precision precision,
                          int32_t threads, Ref *ref, Err *err)
{
    const Op *op = &one->ops[0];
    ref->graph = one;
    ref->n_workers = ref->n_helpers = threads;
    TRY(open_memory(ref, 1, err));
    if (op->kind == OP_NORM)
        return graph_read_tensors(one, op, model, &ref->tensors[0], err);
    if (op->kind == OP_CONV) {
        TRY(read_conv(one, op, model, &ref->weights[0], err));
        round_weights(one, precision, &ref->weights[0]);
    }
    return ST_OK;
}

static void run_single(const Ref *ref, const float *x, const float *second, float *ret_y)
{
    const Graph *one = ref->graph;
    const Op *op = &one->ops[0];
    const Value *out = &one->values[op->output];
    memcpy(value(ref->workers, &one->values[op->input]), x,
           count(&one->values[op->input]) * sizeof *x);
    if (op->second >= 0) /* a convolution adds to its residual in place */
        memcpy(value(ref->workers, op->kind == OP_CONV ? out : &one->values[op->second]), second,
               count(&one->values[op->second]) * sizeof *second);
    run_op(ref, ref->workers, 0);
    memcpy(ret_y, value(ref->workers, out), count(out) * sizeof *ret_y);
}

Status ref_run_op(const Graph *graph, const Op *op, const Model *model, Precision weights,
                  int32_t threads, const float *x, const float *second, float *ret_y, Err *err)
{
    Ref *ref = calloc(1, sizeof *ref);
    Graph *one = malloc(sizeof *one);
    Status status = ST_OK;
    if (ref == NULL || one == NULL) {
        status = err_set(err, ST_NO_MEMORY, "%s by itself", op->name);
        free(ref);
    } else {
        single(graph, op, one);
        status = open_single(one, model, weights, threads, ref, err);
        if (status == ST_OK)
            run_single(ref, x, second, ret_y);
        ref_close(ref);
    }
    free(one);
    return status;
}

static unsigned ref_precisions(void)
{
    return 0;
}

const Backend backend_ref = {.name = "ref",
                             .precisions = ref_precisions,
                             .open = ref_open,
                             .run = ref_run,
                             .close = ref_close};
