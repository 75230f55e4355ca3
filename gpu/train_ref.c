/* The reference engine for training: every value and every gradient of a step is kept, in double.
** Not fast and not meant to become so: it is the oracle for the other engine. */
#include "gpu/train_int.h"
#include "gpu/train_ref_ops.h"

#include <stdlib.h>
#include <string.h>

typedef struct RefTensors { /* of one operation: float32 parameters in double */
    double *weight, *bias, *mean, *variance, *dweight, *dbias;
    double *used_mean, *used_inverse_sd;
} RefTensors;

typedef struct Ref {
    Arena arena;
    double *values[GRAPH_MAX_OPS + 1], *gradients[GRAPH_MAX_OPS + 1]; /* of the graph's values */
    RefTensors tensors[GRAPH_MAX_OPS];
    float *y;
} Ref;

static size_t count(const TrainNet *net, int32_t value, int32_t n)
{
    return (size_t)n * (size_t)graph_value_elements(&net->graph->values[value]);
}

/* ---- memory -------------------------------------------------------------------------------- */

static size_t total_bytes(const TrainNet *net)
{
    size_t total = 4096, slack = 64;
    for (int32_t v = 0; v < net->graph->n_values; v++)
        total += 2 * (count(net, v, net->batch) * sizeof(double) + slack);
    for (int32_t i = 0; i < net->n_parameters; i++) /* the used statistics as well */
        total += 3 * ((size_t)net->parameters[i].n * sizeof(double) + slack);
    return total + count(net, net->graph->output, net->batch) * sizeof(float) + slack;
}

static Status take(Ref *ref, const TrainParameter *parameter, bool wanted, double **ret, Err *err)
{
    if (parameter == NULL || !wanted)
        return ST_OK;
    *ret = arena_alloc(&ref->arena, (size_t)parameter->n, sizeof **ret, err);
    return *ret != NULL ? ST_OK : ST_LIMIT;
}

static Status place(TrainNet *net, Ref *ref, Err *err)
{
    for (int32_t v = 0; v < net->graph->n_values; v++) {
        size_t n = count(net, v, net->batch);
        ref->values[v] = arena_alloc(&ref->arena, n, sizeof(double), err);
        ref->gradients[v] = arena_alloc(&ref->arena, n, sizeof(double), err);
        if (ref->values[v] == NULL || ref->gradients[v] == NULL)
            return ST_LIMIT;
    }
    for (int32_t i = 0; i < net->graph->n_ops; i++) {
        const TrainTensors *t = &net->of_op[i];
        RefTensors *r = &ref->tensors[i];
        TRY(take(ref, t->weight, true, &r->weight, err));
        TRY(take(ref, t->bias, true, &r->bias, err));
        TRY(take(ref, t->mean, true, &r->mean, err));
        TRY(take(ref, t->variance, true, &r->variance, err));
        TRY(take(ref, t->weight, !net->frozen, &r->dweight, err));
        TRY(take(ref, t->bias, !net->frozen, &r->dbias, err));
        TRY(take(ref, t->mean, true, &r->used_mean, err));
        TRY(take(ref, t->variance, true, &r->used_inverse_sd, err));
    }
    size_t n_out = count(net, net->graph->output, net->batch);
    ref->y = arena_alloc(&ref->arena, n_out, sizeof *ref->y, err);
    return ref->y != NULL ? ST_OK : ST_LIMIT;
}

static Status ref_open(TrainNet *net, Err *err)
{
    Ref *ref = calloc(1, sizeof *ref);
    if (ref == NULL)
        return err_set(err, ST_NO_MEMORY, "opening training backend ref");
    net->state = ref;
    TRY(arena_open(total_bytes(net), &ref->arena, err));
    return place(net, ref, err);
}

static void ref_close(TrainNet *net)
{
    Ref *ref = net->state;
    if (ref == NULL)
        return;
    arena_close(&ref->arena);
    free(ref);
}

/* ---- running ------------------------------------------------------------------------------- */

static void widen(const float *from, size_t n, double *to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (double)from[i];
}

static void narrow(const double *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (float)from[i];
}

static void read_parameter(const TrainParameter *p, double *to)
{
    if (p != NULL)
        widen(p->value, (size_t)p->n, to);
}

static Status ref_changed(TrainNet *net, Err *err)
{
    Ref *ref = net->state;
    (void)err;
    for (int32_t i = 0; i < net->graph->n_ops; i++) {
        read_parameter(net->of_op[i].weight, ref->tensors[i].weight);
        read_parameter(net->of_op[i].bias, ref->tensors[i].bias);
        read_parameter(net->of_op[i].mean, ref->tensors[i].mean);
        read_parameter(net->of_op[i].variance, ref->tensors[i].variance);
    }
    return ST_OK;
}

static RefOp ref_op(const TrainNet *net, const Ref *ref, int32_t i)
{
    const Op *op = &net->graph->ops[i];
    const RefTensors *t = &ref->tensors[i];
    return (RefOp){.kind = op->kind,
                   .kernel = op->kernel,
                   .stride = op->stride,
                   .in = &net->graph->values[op->input],
                   .out = &net->graph->values[op->output],
                   .n = net->n,
                   .threads = net->threads,
                   .x = ref->values[op->input],
                   .x2 = op->second >= 0 ? ref->values[op->second] : NULL,
                   .y = ref->values[op->output],
                   .weight = t->weight,
                   .bias = t->bias,
                   .mean = t->mean,
                   .variance = t->variance,
                   .batch_statistics = net->batch_statistics,
                   .used_mean = t->used_mean,
                   .used_inverse_sd = t->used_inverse_sd};
}

/* Running statistics as the caller sees them: what is not in float32 is lost here, too, so that
** going on from a file is the same as going on. */
static void publish_statistics(TrainNet *net, const Ref *ref, int32_t i)
{
    const TrainTensors *t = &net->of_op[i];
    const RefTensors *r = &ref->tensors[i];
    narrow(r->mean, (size_t)t->mean->n, t->mean->value);
    narrow(r->variance, (size_t)t->variance->n, t->variance->value);
    read_parameter(t->mean, r->mean);
    read_parameter(t->variance, r->variance);
}

static Status ref_forward(TrainNet *net, const float *x, const float **ret_y, Err *err)
{
    Ref *ref = net->state;
    const Graph *graph = net->graph;
    (void)err;
    widen(x, count(net, graph->input, net->n), ref->values[graph->input]);
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const RefOp op = ref_op(net, ref, i);
        ref_op_forward(&op);
        if (op.kind == OP_NORM && net->batch_statistics)
            publish_statistics(net, ref, i);
    }
    narrow(ref->values[graph->output], count(net, graph->output, net->n), ref->y);
    *ret_y = ref->y;
    return ST_OK;
}

static void backward_op(TrainNet *net, Ref *ref, int32_t i, bool wants_dx)
{
    const Op *op = &net->graph->ops[i];
    const TrainTensors *t = &net->of_op[i];
    RefOp r = ref_op(net, ref, i);
    r.dy = ref->gradients[op->output];
    r.dx = op->input == net->graph->input && !wants_dx ? NULL : ref->gradients[op->input];
    r.dx2 = op->second >= 0 ? ref->gradients[op->second] : NULL;
    r.dweight = ref->tensors[i].dweight;
    r.dbias = ref->tensors[i].dbias;
    ref_op_backward(&r);
    if (r.dweight != NULL)
        narrow(r.dweight, (size_t)t->weight->n, t->weight->gradient);
    if (r.dbias != NULL)
        narrow(r.dbias, (size_t)t->bias->n, t->bias->gradient);
}

static Status ref_backward(TrainNet *net, const float *dy, float *ret_dx, Err *err)
{
    Ref *ref = net->state;
    const Graph *graph = net->graph;
    (void)err;
    for (int32_t v = 0; v < graph->n_values; v++)
        memset(ref->gradients[v], 0, count(net, v, net->n) * sizeof(double));
    widen(dy, count(net, graph->output, net->n), ref->gradients[graph->output]);
    for (int32_t i = graph->n_ops - 1; i >= 0; i--)
        backward_op(net, ref, i, ret_dx != NULL);
    if (ret_dx != NULL)
        narrow(ref->gradients[graph->input], count(net, graph->input, net->n), ret_dx);
    return ST_OK;
}

static unsigned ref_precisions(void)
{
    return 1u << PRECISION_F32;
}

const TrainBackend train_backend_ref = {"ref",       ref_precisions, ref_open, ref_changed,
                                        ref_forward, ref_backward,   ref_close};
