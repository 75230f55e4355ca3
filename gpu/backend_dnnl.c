/* The CPU backend: oneDNN's convolutions and pooling in float32, this file's copies between them.
**
** It runs the rewritten network (graph_rewrite). Batch norm is folded into weights and bias, the
** residual sum and ReLU are done by the convolution itself. Values are [h][w][c] (measured faster
** than oneDNN's blocked layouts here), weights in the layout that each primitive asks for. All
** primitives are made once in open for one slice; one reservation holds the weights, another the
** values and scratch of every worker, so that a run allocates nothing.
**
** Threads: oneDNN's choice of blocking, and with it the order of its sums, depends on the number of
** its threads (met with 2.6.3: DRUNet-34 of width 32 on 64 x 64 has other bits with 3 than with 1).
** So oneDNN is held to one thread, and the slices are what is shared out: the bits cannot depend on
** threads or batch, and no core waits for another within a slice. Debian's oneDNN gets its threads
** from OpenMP, whose setting belongs to the calling thread and is put back. */
#include "gpu/backend.h"

#include "base/arena.h"

#include <dlfcn.h>
#include <math.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ARGS = 5, WORKER_SLACK_BYTES = 256 };

typedef struct Step { /* one operation of the graph; primitive NULL: done by this file */
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    dnnl_memory_t weights, bias;
} Step;

typedef struct StepArgs { /* a step's arguments for one worker */
    int n;
    dnnl_exec_arg_t args[MAX_ARGS];
} StepArgs;

typedef struct Worker {
    dnnl_stream_t stream;
    float *values;  /* graph->arena_floats */
    void *scratch;  /* oneDNN's, as large as the hungriest step wants */
    StepArgs *args; /* [n_ops] */
} Worker;

typedef struct Dnnl {
    Graph *graph;
    int32_t n_workers;
    dnnl_engine_t engine;
    size_t scratch_bytes;
    Arena weights, work;
    Step steps[GRAPH_MAX_OPS];
    Worker *workers;
    int (*omp_get_max_threads)(void); /* NULL: oneDNN was built without threads */
    void (*omp_set_num_threads)(int);
    const float *x; /* of the run under way */
    float *y;
} Dnnl;

static Status check(dnnl_status_t status, const Op *op, const char *what, Err *err)
{
    if (status == dnnl_success)
        return ST_OK;
    (void)err_set(err, status == dnnl_out_of_memory ? ST_NO_MEMORY : ST_BACKEND,
                  "oneDNN: %s%s%s: status %d", what, op != NULL ? " of " : "",
                  op != NULL ? op->name : "", (int)status);
    if (err != NULL)
        err->native = (int)status;
    return status == dnnl_out_of_memory ? ST_NO_MEMORY : ST_BACKEND;
}

/* ---- threads ------------------------------------------------------------------------------- */

/* libgomp is there because oneDNN links it, but not on our own link line: hence by name. */
static Status find_threading(Dnnl *d, Err *err)
{
    unsigned runtime = dnnl_version()->cpu_runtime;
    if (runtime == DNNL_RUNTIME_SEQ)
        return ST_OK;
    void *get = dlsym(RTLD_DEFAULT, "omp_get_max_threads");
    void *set = dlsym(RTLD_DEFAULT, "omp_set_num_threads");
    if (runtime != DNNL_RUNTIME_OMP || get == NULL || set == NULL)
        return err_set(err, ST_BACKEND, "oneDNN with thread runtime %u; OpenMP is wanted", runtime);
    memcpy(&d->omp_get_max_threads, &get, sizeof get); /* C has no cast from object to function */
    memcpy(&d->omp_set_num_threads, &set, sizeof set);
    return ST_OK;
}

/* Holds this thread's oneDNN to n threads; returns what it was before. */
static int set_threads(const Dnnl *d, int n)
{
    if (d->omp_set_num_threads == NULL)
        return 1;
    int before = d->omp_get_max_threads();
    if (before != n)
        d->omp_set_num_threads(n);
    return before;
}

/* ---- making the primitives ----------------------------------------------------------------- */

static dnnl_status_t init_desc(dnnl_memory_desc_t *ret, const Value *v)
{
    const dnnl_dims_t dims = {1, v->c, v->h, v->w};
    return dnnl_memory_desc_init_by_tag(ret, 4, dims, dnnl_f32, dnnl_nhwc);
}

static int32_t conv_kernel(const Op *op)
{
    return op->folds_up2 ? graph_folded_size(op->kernel) : op->kernel;
}

static dnnl_status_t make_attributes(const Op *op, dnnl_primitive_attr_t *ret)
{
    dnnl_post_ops_t post = NULL;
    dnnl_status_t s = dnnl_primitive_attr_create(ret);
    if (s == dnnl_success)
        s = dnnl_primitive_attr_set_scratchpad_mode(*ret, dnnl_scratchpad_mode_user);
    if (s == dnnl_success)
        s = dnnl_post_ops_create(&post);
    if (s == dnnl_success && op->kind == OP_CONV && op->second >= 0)
        s = dnnl_post_ops_append_sum(post, 1.0f); /* the output's memory holds the residual */
    if (s == dnnl_success && op->kind == OP_CONV && op->relu)
        s = dnnl_post_ops_append_eltwise(post, 1.0f, dnnl_eltwise_relu, 0.0f, 0.0f);
    if (s == dnnl_success)
        s = dnnl_primitive_attr_set_post_ops(*ret, post);
    (void)dnnl_post_ops_destroy(post);
    return s;
}

static dnnl_status_t make_desc(const Dnnl *d, const Op *op, dnnl_primitive_attr_t attributes,
                               dnnl_primitive_desc_t *ret)
{
    const Value *in = &d->graph->values[op->input], *out = &d->graph->values[op->output];
    int32_t k = conv_kernel(op), stride = op->kind == OP_MAXPOOL ? 2 : op->stride;
    const dnnl_dims_t w_dims = {out->c, in->c, k, k}, b_dims = {out->c};
    const dnnl_dims_t strides = {stride, stride}, pool = {3, 3}, one = {1, 1};
    const dnnl_dims_t low = {k / 2, k / 2};
    /* What the last window needs beyond the end; sides are even, so the same for h and w. */
    int32_t beyond = (out->h - 1) * stride + k - in->h - k / 2, high = beyond > 0 ? beyond : 0;
    const dnnl_dims_t highs = {high, high}, pool_highs = {0, 0};
    dnnl_memory_desc_t src, weights, bias, dst;
    dnnl_status_t s = init_desc(&src, in);
    if (s == dnnl_success)
        s = init_desc(&dst, out);
    if (s == dnnl_success && op->kind == OP_MAXPOOL) {
        dnnl_pooling_desc_t desc;
        s = dnnl_pooling_forward_desc_init(&desc, dnnl_forward_inference, dnnl_pooling_max, &src,
                                           &dst, strides, pool, one, pool_highs);
        return s == dnnl_success
                   ? dnnl_primitive_desc_create(ret, &desc, attributes, d->engine, NULL)
                   : s;
    }
    if (s == dnnl_success)
        s = dnnl_memory_desc_init_by_tag(&weights, 4, w_dims, dnnl_f32, dnnl_format_tag_any);
    if (s == dnnl_success)
        s = dnnl_memory_desc_init_by_tag(&bias, 1, b_dims, dnnl_f32, dnnl_a);
    dnnl_convolution_desc_t desc;
    if (s == dnnl_success)
        s = dnnl_convolution_forward_desc_init(&desc, dnnl_forward_inference,
                                               dnnl_convolution_direct, &src, &weights, &bias, &dst,
                                               strides, low, highs);
    if (s == dnnl_success)
        s = dnnl_primitive_desc_create(ret, &desc, attributes, d->engine, NULL);
    return s;
}

static Status make_step(Dnnl *d, int32_t i, Err *err)
{
    const Op *op = &d->graph->ops[i];
    Step *step = &d->steps[i];
    if (op->kind != OP_CONV && op->kind != OP_MAXPOOL)
        return ST_OK;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_status_t s = make_attributes(op, &attributes);
    if (s == dnnl_success)
        s = make_desc(d, op, attributes, &step->desc);
    (void)dnnl_primitive_attr_destroy(attributes);
    if (s == dnnl_success)
        s = dnnl_primitive_create(&step->primitive, step->desc);
    TRY(check(s, op, "making the primitive", err));
    size_t bytes = dnnl_memory_desc_get_size(
        dnnl_primitive_desc_query_md(step->desc, dnnl_query_scratchpad_md, 0));
    d->scratch_bytes = bytes > d->scratch_bytes ? bytes : d->scratch_bytes;
    return ST_OK;
}

/* ---- weights ------------------------------------------------------------------------------- */

/* Batch norm folded in: gamma (w * x - mean) / sqrt(variance + epsilon) + beta is a convolution
** with weights w * scale and bias beta - mean * scale. Computed in double, rounded once. */
static void fold_conv(const Op *op, const OpTensors *t, int32_t c_out, int32_t c_in, float *ret_w,
                      float *ret_b)
{
    size_t n = (size_t)c_in * (size_t)op->kernel * (size_t)op->kernel;
    for (int32_t o = 0; o < c_out; o++) {
        double scale = 1, shift = 0;
        if (t->gamma != NULL) {
            scale = (double)t->gamma[o] / sqrt((double)t->variance[o] + GRAPH_BATCH_NORM_EPSILON);
            shift = (double)t->beta[o] - (double)t->mean[o] * scale;
        } else {
            shift = (double)t->bias[o];
        }
        for (size_t k = 0; k < n; k++)
            ret_w[(size_t)o * n + k] = (float)((double)t->weight[(size_t)o * n + k] * scale);
        ret_b[o] = (float)shift;
    }
}

/* The head over nearest x2: four phases with one bias. */
static Status fold_phases(const Op *op, const OpTensors *t, int32_t c_in, float *ret_w,
                          float *ret_b, Err *err)
{
    size_t k = (size_t)graph_folded_size(op->kernel), n = 4 * (size_t)c_in * k * k;
    double *folded = malloc(n * sizeof *folded);
    if (folded == NULL)
        return err_set(err, ST_NO_MEMORY, "folding %s", op->name);
    graph_fold_up2(t->weight, c_in, op->kernel, folded);
    for (size_t i = 0; i < n; i++)
        ret_w[i] = (float)folded[i];
    for (int i = 0; i < 4; i++)
        ret_b[i] = t->bias[0];
    free(folded);
    return ST_OK;
}

/* Plain (c_out, c_in, k, k) weights into the layout of the primitive. */
static Status reorder_weights(const Dnnl *d, const Op *op, const Step *step, float *plain, Err *err)
{
    const Value *in = &d->graph->values[op->input], *out = &d->graph->values[op->output];
    int32_t k = conv_kernel(op);
    const dnnl_dims_t dims = {out->c, in->c, k, k};
    const dnnl_memory_desc_t *to =
        dnnl_primitive_desc_query_md(step->desc, dnnl_query_weights_md, 0);
    dnnl_memory_desc_t from;
    dnnl_memory_t source = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_t reorder = NULL;
    dnnl_stream_t stream = d->workers[0].stream;
    dnnl_status_t s = dnnl_memory_desc_init_by_tag(&from, 4, dims, dnnl_f32, dnnl_oihw);
    if (s == dnnl_success)
        s = dnnl_memory_create(&source, &from, d->engine, plain);
    if (s == dnnl_success)
        s = dnnl_reorder_primitive_desc_create(&desc, &from, d->engine, to, d->engine, NULL);
    if (s == dnnl_success)
        s = dnnl_primitive_create(&reorder, desc);
    if (s == dnnl_success) {
        const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, step->weights}};
        s = dnnl_primitive_execute(reorder, stream, 2, args);
    }
    if (s == dnnl_success)
        s = dnnl_stream_wait(stream);
    (void)dnnl_primitive_destroy(reorder);
    (void)dnnl_primitive_desc_destroy(desc);
    (void)dnnl_memory_destroy(source);
    return check(s, op, "laying out weights", err);
}

static size_t weights_bytes(const Step *step)
{
    return dnnl_memory_desc_get_size(
        dnnl_primitive_desc_query_md(step->desc, dnnl_query_weights_md, 0));
}

/* plain: room for the largest kernel of the network. */
static Status load_weights(Dnnl *d, const Op *op, Step *step, const Model *model, float *plain,
                           Err *err)
{
    const Value *in = &d->graph->values[op->input], *out = &d->graph->values[op->output];
    OpTensors tensors;
    TRY(graph_op_tensors(d->graph, op, model, &tensors, err));
    void *laid_out = arena_alloc(&d->weights, weights_bytes(step), 1, err);
    float *bias = arena_alloc(&d->weights, (size_t)out->c, sizeof *bias, err);
    if (laid_out == NULL || bias == NULL)
        return ST_LIMIT;
    if (op->folds_up2)
        TRY(fold_phases(op, &tensors, in->c, plain, bias, err));
    else
        fold_conv(op, &tensors, out->c, in->c, plain, bias);
    const dnnl_memory_desc_t *desc =
        dnnl_primitive_desc_query_md(step->desc, dnnl_query_weights_md, 0);
    const dnnl_dims_t bias_dims = {out->c};
    dnnl_memory_desc_t bias_desc;
    dnnl_status_t s = dnnl_memory_desc_init_by_tag(&bias_desc, 1, bias_dims, dnnl_f32, dnnl_a);
    if (s == dnnl_success)
        s = dnnl_memory_create(&step->weights, desc, d->engine, laid_out);
    if (s == dnnl_success)
        s = dnnl_memory_create(&step->bias, &bias_desc, d->engine, bias);
    TRY(check(s, op, "memory for weights", err));
    return reorder_weights(d, op, step, plain, err);
}

static Status load_all_weights(Dnnl *d, const Model *model, Err *err)
{
    size_t total = 0, largest = 0;
    for (int32_t i = 0; i < d->graph->n_ops; i++) {
        const Op *op = &d->graph->ops[i];
        if (op->kind != OP_CONV)
            continue;
        const Value *in = &d->graph->values[op->input], *out = &d->graph->values[op->output];
        size_t k = (size_t)conv_kernel(op), n = (size_t)out->c * (size_t)in->c * k * k;
        largest = n > largest ? n : largest;
        total += weights_bytes(&d->steps[i]) + (size_t)out->c * sizeof(float) + 2 * 64;
    }
    TRY(arena_open(total, &d->weights, err));
    float *plain = malloc(largest * sizeof *plain);
    if (plain == NULL)
        return err_set(err, ST_NO_MEMORY, "laying out weights");
    Status status = ST_OK;
    for (int32_t i = 0; status == ST_OK && i < d->graph->n_ops; i++)
        if (d->graph->ops[i].kind == OP_CONV)
            status = load_weights(d, &d->graph->ops[i], &d->steps[i], model, plain, err);
    free(plain);
    return status;
}

/* ---- workers ------------------------------------------------------------------------------- */

static dnnl_status_t add_arg(const Dnnl *d, StepArgs *args, int kind,
                             const dnnl_memory_desc_t *desc, void *data)
{
    dnnl_memory_t memory;
    dnnl_status_t s = dnnl_memory_create(&memory, desc, d->engine, data);
    if (s == dnnl_success)
        args->args[args->n++] = (dnnl_exec_arg_t){kind, memory};
    return s;
}

static Status bind_step(const Dnnl *d, int32_t i, Worker *worker, Err *err)
{
    const Op *op = &d->graph->ops[i];
    const Step *step = &d->steps[i];
    StepArgs *args = &worker->args[i];
    const Value *in = &d->graph->values[op->input], *out = &d->graph->values[op->output];
    dnnl_memory_desc_t src, dst;
    if (step->primitive == NULL)
        return ST_OK;
    dnnl_status_t s = init_desc(&src, in);
    if (s == dnnl_success)
        s = init_desc(&dst, out);
    if (s == dnnl_success)
        s = add_arg(d, args, DNNL_ARG_SRC, &src, worker->values + in->offset);
    if (s == dnnl_success)
        s = add_arg(d, args, DNNL_ARG_DST, &dst, worker->values + out->offset);
    if (s == dnnl_success)
        s = add_arg(d, args, DNNL_ARG_SCRATCHPAD,
                    dnnl_primitive_desc_query_md(step->desc, dnnl_query_scratchpad_md, 0),
                    worker->scratch);
    if (s == dnnl_success && op->kind == OP_CONV) {
        args->args[args->n++] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, step->weights};
        args->args[args->n++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, step->bias};
    }
    return check(s, op, "binding memory", err);
}

static Status open_workers(Dnnl *d, Err *err)
{
    size_t n = (size_t)d->n_workers, floats = (size_t)d->graph->arena_floats;
    size_t each = floats * sizeof(float) + d->scratch_bytes + WORKER_SLACK_BYTES;
    TRY(arena_open(n * each, &d->work, err));
    for (size_t w = 0; w < n; w++) {
        Worker *worker = &d->workers[w];
        worker->values = arena_alloc(&d->work, floats, sizeof(float), err);
        worker->scratch = arena_alloc(&d->work, d->scratch_bytes + 1, 1, err);
        if (worker->values == NULL || worker->scratch == NULL)
            return ST_LIMIT;
        worker->args = calloc((size_t)d->graph->n_ops, sizeof *worker->args);
        if (worker->args == NULL)
            return err_set(err, ST_NO_MEMORY, "tables of %zu workers", n);
        for (int32_t i = 0; i < d->graph->n_ops; i++)
            TRY(bind_step(d, i, worker, err));
    }
    return ST_OK;
}

/* ---- running ------------------------------------------------------------------------------- */

/* (c, h, w) -> [h][w][c] */
static void interleave(const float *x, const Value *v, float *ret)
{
    size_t c = (size_t)v->c, plane = (size_t)v->h * (size_t)v->w;
    for (size_t p = 0; p < plane; p++)
        for (size_t i = 0; i < c; i++)
            ret[p * c + i] = x[i * plane + p];
}

/* y[oy][ox][at .. at + c) = x[oy / shrink][ox / shrink][0 .. c), where out has h, w and all c. */
static void copy_channels(const float *x, const Value *in, float *y, const Value *out, int32_t at)
{
    int32_t shrink = out->h / in->h;
    size_t bytes = (size_t)in->c * sizeof *x;
    for (int32_t oy = 0; oy < out->h; oy++) {
        const float *row = x + (size_t)(oy / shrink) * (size_t)in->w * (size_t)in->c;
        float *to = y + (size_t)oy * (size_t)out->w * (size_t)out->c + at;
        for (int32_t ox = 0; ox < out->w; ox++, to += out->c)
            memcpy(to, row + (size_t)(ox / shrink) * (size_t)in->c, bytes);
    }
}

static void shuffle(const float *x, const Value *in, float *y)
{
    for (int32_t iy = 0; iy < in->h; iy++)
        for (int32_t a = 0; a < 2; a++)
            for (int32_t ix = 0; ix < in->w; ix++, y += 2) {
                const float *phases = x + ((size_t)iy * (size_t)in->w + (size_t)ix) * 4;
                y[0] = phases[2 * a];
                y[1] = phases[2 * a + 1];
            }
}

static void run_own(const Graph *graph, const Op *op, float *values)
{
    const Value *in = &graph->values[op->input], *out = &graph->values[op->output];
    const float *x = values + in->offset;
    float *y = values + out->offset;
    size_t n = (size_t)out->c * (size_t)out->h * (size_t)out->w;
    switch (op->kind) {
    case OP_UP2:
        copy_channels(x, in, y, out, 0);
        break;
    case OP_CONCAT:
        copy_channels(x, in, y, out, 0);
        copy_channels(values + graph->values[op->second].offset, &graph->values[op->second], y, out,
                      in->c);
        break;
    case OP_SHUFFLE:
        shuffle(x, in, y);
        break;
    case OP_SIGMOID:
        for (size_t i = 0; i < n; i++)
            y[i] = 1.0f / (1.0f + expf(-x[i]));
        break;
    case OP_CONV:
    case OP_MAXPOOL: /* have a primitive each */
        ASSERT(op->kind != OP_CONV && op->kind != OP_MAXPOOL);
    }
}

static Status run_slice(void *state, int32_t w, int32_t slice, Err *err)
{
    const Dnnl *d = state;
    const Graph *graph = d->graph;
    const Worker *worker = &d->workers[w];
    const Value *in = &graph->values[graph->input], *out = &graph->values[graph->output];
    size_t n_in = (size_t)in->c * (size_t)in->h * (size_t)in->w;
    size_t n_out = (size_t)out->c * (size_t)out->h * (size_t)out->w;
    int before = set_threads(d, 1);
    dnnl_status_t s = dnnl_success;
    int32_t i = 0;
    interleave(d->x + (size_t)slice * n_in, in, worker->values + in->offset);
    for (; s == dnnl_success && i < graph->n_ops; i++) {
        const StepArgs *args = &worker->args[i];
        if (d->steps[i].primitive == NULL)
            run_own(graph, &graph->ops[i], worker->values);
        else
            s = dnnl_primitive_execute(d->steps[i].primitive, worker->stream, args->n, args->args);
    }
    if (s == dnnl_success)
        s = dnnl_stream_wait(worker->stream);
    (void)set_threads(d, before);
    TRY(check(s, &graph->ops[i - 1], "running", err));
    memcpy(d->y + (size_t)slice * n_out, worker->values + out->offset, n_out * sizeof(float));
    return ST_OK;
}

static Status dnnl_run(void *state, const float *x, int32_t n, float *ret_y, Err *err)
{
    Dnnl *d = state;
    d->x = x;
    d->y = ret_y;
    return backend_each_slice(d->n_workers, n, run_slice, d, err);
}

/* ---- opening and closing ------------------------------------------------------------------- */

static void close_worker(Worker *worker, int32_t n_ops)
{
    for (int32_t i = 0; worker->args != NULL && i < n_ops; i++)
        for (int k = 0; k < worker->args[i].n; k++) {
            int kind = worker->args[i].args[k].arg;
            if (kind != DNNL_ARG_WEIGHTS && kind != DNNL_ARG_BIAS) /* those are the step's */
                (void)dnnl_memory_destroy(worker->args[i].args[k].memory);
        }
    free(worker->args);
    (void)dnnl_stream_destroy(worker->stream);
}

static void dnnl_close(void *state)
{
    Dnnl *d = state;
    if (d == NULL)
        return;
    for (int32_t w = 0; d->workers != NULL && w < d->n_workers; w++)
        close_worker(&d->workers[w], d->graph->n_ops);
    for (int32_t i = 0; i < GRAPH_MAX_OPS; i++) {
        (void)dnnl_memory_destroy(d->steps[i].weights);
        (void)dnnl_memory_destroy(d->steps[i].bias);
        (void)dnnl_primitive_destroy(d->steps[i].primitive);
        (void)dnnl_primitive_desc_destroy(d->steps[i].desc);
    }
    (void)dnnl_engine_destroy(d->engine);
    arena_close(&d->weights);
    arena_close(&d->work);
    free(d->workers);
    free(d->graph);
    free(d);
}

static Status open_parts(Dnnl *d, const Graph *literal, const Model *model, Err *err)
{
    d->graph = malloc(sizeof *d->graph);
    d->workers = calloc((size_t)d->n_workers, sizeof *d->workers);
    if (d->graph == NULL || d->workers == NULL)
        return err_set(err, ST_NO_MEMORY, "tables of backend cpu");
    graph_rewrite(literal, d->graph);
    TRY(check(dnnl_engine_create(&d->engine, dnnl_cpu, 0), NULL, "making the engine", err));
    for (int32_t w = 0; w < d->n_workers; w++)
        TRY(check(dnnl_stream_create(&d->workers[w].stream, d->engine, dnnl_stream_default_flags),
                  NULL, "making a stream", err));
    for (int32_t i = 0; i < d->graph->n_ops; i++)
        TRY(make_step(d, i, err));
    TRY(load_all_weights(d, model, err));
    return open_workers(d, err);
}

static Status dnnl_open(const Graph *literal, const Model *model, const NetOptions *options,
                        void **ret, Err *err)
{
    Dnnl *d = calloc(1, sizeof *d);
    if (d == NULL)
        return err_set(err, ST_NO_MEMORY, "opening backend cpu");
    d->n_workers = options->threads;
    Status status = find_threading(d, err);
    if (status == ST_OK) {
        int before = set_threads(d, 1); /* primitives settle their blocking when they are made */
        status = open_parts(d, literal, model, err);
        (void)set_threads(d, before);
    }
    if (status != ST_OK) {
        dnnl_close(d);
        return status;
    }
    *ret = d;
    return ST_OK;
}

const Backend backend_dnnl = {"cpu", dnnl_open, dnnl_run, dnnl_close};
