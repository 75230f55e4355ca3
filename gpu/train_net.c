/* Parameters of a network in training, and the choice of its backend. See train_net.h. */
#include "gpu/train_int.h"

#include "base/parallel.h"
#include "gpu/cuda_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BATCH = 1024, MAX_THREADS = 64, MAX_OP_PARAMETERS = 4, ALIGN_FLOATS = 16 };

static const TrainBackend *const BACKENDS[] = {&train_backend_cpu, &train_backend_ref};
enum { N_BACKENDS = sizeof BACKENDS / sizeof BACKENDS[0] };

const char *train_backend_name(int index)
{
    if (index == N_BACKENDS)
        return "cuda"; /* of the plugin, which may not be there */
    return index >= 0 && index < N_BACKENDS ? BACKENDS[index]->name : NULL;
}

static Status choose_backend(const TrainOptions *options, TrainNet *net, Err *err)
{
    for (int i = 0; i < N_BACKENDS; i++)
        if (strcmp(options->backend, BACKENDS[i]->name) == 0)
            net->backend = BACKENDS[i];
    if (strcmp(options->backend, "cuda") == 0) {
        const CudaPlugin *plugin;
        TRY(cuda_plugin(&plugin, err));
        net->backend = plugin->training;
    }
    if (net->backend == NULL)
        return err_set(err, ST_BACKEND,
                       "no training backend of that name; there are cpu, cuda and ref");
    if ((net->backend->precisions() & 1u << options->precision) == 0)
        return err_set(err, ST_BACKEND, "training backend %s has no %s on this machine",
                       net->backend->name, precision_name(options->precision));
    net->precision = options->precision;
    return ST_OK;
}

static Status check_op(const Op *op, Err *err)
{
    bool known = op->kind == OP_CONV || op->kind == OP_NORM || op->kind == OP_RELU ||
                 op->kind == OP_ADD || op->kind == OP_MAXPOOL || op->kind == OP_UP2 ||
                 op->kind == OP_CONCAT;
    bool literal = op->norm[0] == '\0' && !op->relu && op->c_tensor == 0 && !op->folds_up2 &&
                   !op->doubles && (op->kind != OP_CONV || op->second < 0);
    return known && literal
               ? ST_OK
               : err_set(err, ST_UNSUPPORTED, "operation %s (%s) cannot be trained%s", op->name,
                         graph_kind_name(op->kind), known ? ": a pass has changed it" : "");
}

/* ---- parameters ---------------------------------------------------------------------------- */

static TrainParameter *add(TrainNet *net, const char *module, const char *leaf, int32_t n_dims,
                           const int64_t *dims)
{
    TrainParameter *p = &net->parameters[net->n_parameters++];
    (void)snprintf(p->name, sizeof p->name, "%s.%s", module, leaf);
    p->n_dims = n_dims;
    p->n = 1;
    for (int32_t i = 0; i < n_dims; i++)
        p->n *= p->dims[i] = dims[i];
    return p;
}

static void list_parameters(TrainNet *net)
{
    const Graph *graph = net->graph;
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        TrainTensors *t = &net->of_op[i];
        const int64_t c_out = graph->values[op->output].c, c_in = graph->values[op->input].c;
        const int64_t kernel[4] = {c_out, c_in, op->kernel, op->kernel};
        if (op->kind == OP_CONV || op->kind == OP_NORM)
            t->weight = add(net, op->name, "weight", op->kind == OP_CONV ? 4 : 1, kernel);
        if (op->kind == OP_NORM || (op->kind == OP_CONV && op->has_bias))
            t->bias = add(net, op->name, "bias", 1, &c_out);
        if (op->kind == OP_NORM) {
            t->mean = add(net, op->name, "running_mean", 1, &c_out);
            t->variance = add(net, op->name, "running_var", 1, &c_out);
        }
    }
}

static bool is_trained(const TrainNet *net, int32_t parameter)
{
    for (int32_t i = 0; i < net->graph->n_ops; i++)
        if (net->of_op[i].mean == &net->parameters[parameter] ||
            net->of_op[i].variance == &net->parameters[parameter])
            return false;
    return !net->frozen;
}

static Status place_parameters(TrainNet *net, Err *err)
{
    size_t total = 0;
    for (int32_t i = 0; i < net->n_parameters; i++)
        total += 2 * ((size_t)net->parameters[i].n + ALIGN_FLOATS) * sizeof(float);
    TRY(arena_open(total + 1, &net->arena, err));
    for (int32_t i = 0; i < net->n_parameters; i++) {
        TrainParameter *p = &net->parameters[i];
        p->value = arena_alloc(&net->arena, (size_t)p->n, sizeof *p->value, err);
        if (p->value == NULL)
            return ST_LIMIT;
        if (!is_trained(net, i))
            continue;
        p->gradient = arena_alloc(&net->arena, (size_t)p->n, sizeof *p->gradient, err);
        if (p->gradient == NULL)
            return ST_LIMIT;
    }
    for (int32_t i = 0; i < net->graph->n_ops; i++) {
        const TrainParameter *variance = net->of_op[i].variance;
        for (int64_t k = 0; variance != NULL && k < variance->n; k++)
            variance->value[k] = 1;
    }
    return ST_OK;
}

/* ---- opening and closing ------------------------------------------------------------------- */

static Status open_parts(const TrainOptions *options, TrainNet *net, Err *err)
{
    const Graph *graph = net->graph;
    size_t n_ops = (size_t)graph->n_ops;
    if (options->batch < 1 || options->batch > MAX_BATCH || options->threads < 0 ||
        options->threads > MAX_THREADS)
        return err_set(err, ST_LIMIT, "batch %d is not in 1..%d or threads %d not in 0..%d",
                       options->batch, MAX_BATCH, options->threads, MAX_THREADS);
    TRY(choose_backend(options, net, err));
    for (int32_t i = 0; i < graph->n_ops; i++)
        TRY(check_op(&graph->ops[i], err));
    net->batch = options->batch;
    net->threads = options->threads > 0 ? options->threads : parallel_processors();
    net->frozen = options->frozen;
    net->parameters = calloc(MAX_OP_PARAMETERS * n_ops + 1, sizeof *net->parameters);
    net->of_op = calloc(n_ops + 1, sizeof *net->of_op);
    if (net->parameters == NULL || net->of_op == NULL)
        return err_set(err, ST_NO_MEMORY, "tables of %zu operations", n_ops);
    list_parameters(net);
    TRY(place_parameters(net, err));
    return net->backend->open(net, err);
}

Status train_net_open(const Graph *graph, const TrainOptions *options, TrainNet **ret, Err *err)
{
    TrainNet *net = calloc(1, sizeof *net);
    if (net == NULL)
        return err_set(err, ST_NO_MEMORY, "opening a network for training");
    net->graph = graph;
    Status status = open_parts(options, net, err);
    if (status != ST_OK) {
        train_net_close(net);
        return status;
    }
    *ret = net;
    return ST_OK;
}

void train_net_close(TrainNet *net)
{
    if (net == NULL)
        return;
    if (net->backend != NULL)
        net->backend->close(net);
    arena_close(&net->arena);
    free(net->parameters);
    free(net->of_op);
    free(net);
}

TrainParameter *train_net_parameters(TrainNet *net, int32_t *ret_n)
{
    *ret_n = net->n_parameters;
    return net->parameters;
}

TrainScale train_net_scale(const TrainNet *net)
{
    return net->scale;
}

void train_net_set_scale(TrainNet *net, TrainScale scale)
{
    net->scale = scale;
}

/* ---- running ------------------------------------------------------------------------------- */

Status train_net_changed(TrainNet *net, Err *err)
{
    net->may_go_back = false;
    return net->backend->changed(net, err);
}

static Status check_norms(const TrainNet *net, Err *err)
{
    for (int32_t i = 0; i < net->graph->n_ops; i++) {
        const Op *op = &net->graph->ops[i];
        const Value *v = &net->graph->values[op->output];
        if (op->kind == OP_NORM && (int64_t)net->n * v->h * v->w < 2)
            return err_set(err, ST_LIMIT,
                           "batch norm %s has one value per channel: larger slices or a larger "
                           "batch are needed",
                           op->name);
    }
    return ST_OK;
}

Status train_net_forward(TrainNet *net, const float *x, int32_t n, bool training,
                         const float **ret_y, Err *err)
{
    ASSERT(n >= 1 && n <= net->batch);
    net->n = n;
    net->batch_statistics = training && !net->frozen;
    net->may_go_back = false;
    if (net->batch_statistics)
        TRY(check_norms(net, err));
    TRY(net->backend->forward(net, x, ret_y, err));
    net->may_go_back = training || net->frozen;
    return ST_OK;
}

Status train_net_backward(TrainNet *net, const float *dy, float *ret_dx, Err *err)
{
    ASSERT(net->may_go_back);
    net->may_go_back = false;
    return net->backend->backward(net, dy, ret_dx, err);
}
