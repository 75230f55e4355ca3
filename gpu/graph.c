/* Building and checking of network tables, their tensors and counts. See graph.h. */
#include "gpu/graph.h"

#include "gpu/graph_passes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int32_t graph_add_value(Graph *graph, int32_t c, int32_t h, int32_t w)
{
    ASSERT(graph->n_values <= GRAPH_MAX_OPS);
    graph->values[graph->n_values] =
        (Value){.c = c, .h = h, .w = w, .element_bytes = (int32_t)sizeof(float)};
    return graph->n_values++;
}

int32_t graph_add_op(Graph *graph, Op op, int32_t c, int32_t h, int32_t w)
{
    ASSERT(graph->n_ops < GRAPH_MAX_OPS);
    op.output = graph_add_value(graph, c, h, w);
    graph->ops[graph->n_ops++] = op;
    return op.output;
}

int64_t graph_value_elements(const Value *value)
{
    return (int64_t)value->c * value->h * value->w;
}

/* ---- tensors ------------------------------------------------------------------------------- */

static int32_t op_c_out(const Graph *graph, const Op *op)
{
    return op->folds_up2 ? graph->values[op->output].c / 4 : graph->values[op->output].c;
}

enum { MAX_OP_TENSORS = 6 };

typedef struct Wanted { /* one tensor of an operation */
    char name[GRAPH_NAME_SIZE + 16];
    int32_t n_dims;
    int64_t dims[4];
} Wanted;

static void want(Wanted *list, int *n, const char *module, const char *leaf, int32_t n_dims,
                 const int64_t *dims)
{
    Wanted *w = &list[(*n)++];
    (void)snprintf(w->name, sizeof w->name, "%s.%s", module, leaf);
    w->n_dims = n_dims;
    memcpy(w->dims, dims, (size_t)n_dims * sizeof *dims);
}

static void want_norm(Wanted *list, int *n, const char *module, const int64_t *c_out)
{
    static const char *const LEAVES[] = {"weight", "bias", "running_mean", "running_var"};
    for (int i = 0; i < 4; i++)
        want(list, n, module, LEAVES[i], 1, c_out);
}

/* The tensors of an operation: weight, bias, then batch norm's four. Returns how many. */
static int list_wanted(const Graph *graph, const Op *op, Wanted ret[MAX_OP_TENSORS])
{
    const int64_t c_out = op_c_out(graph, op);
    const int64_t c_in = op->c_tensor > 0 ? op->c_tensor : graph->values[op->input].c;
    const int64_t kernel[4] = {c_out, c_in, op->kernel, op->kernel};
    int n = 0;
    if (op->kind == OP_CONV) {
        want(ret, &n, op->name, "weight", 4, kernel);
        if (op->has_bias)
            want(ret, &n, op->name, "bias", 1, &c_out);
        if (op->norm[0] != '\0')
            want_norm(ret, &n, op->norm, &c_out);
    } else if (op->kind == OP_NORM) {
        want_norm(ret, &n, op->name, &c_out);
    }
    return n;
}

static Status check_tensor(const Model *model, const Wanted *w, Err *err)
{
    char shape[64] = "";
    for (int32_t i = 0; i < w->n_dims; i++)
        (void)snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%s%lld", i ? "," : "",
                       (long long)w->dims[i]);
    const Tensor *tensor = model_tensor(model, w->name);
    if (tensor == NULL)
        return err_set(err, ST_MODEL_FORMAT, "tensor %s (%s) is missing", w->name, shape);
    bool same = tensor->n_dims == w->n_dims;
    for (int32_t i = 0; same && i < w->n_dims; i++)
        same = tensor->dims[i] == w->dims[i];
    return same ? ST_OK
                : err_set(err, ST_MODEL_FORMAT, "tensor %s has another shape than (%s)", w->name,
                          shape);
}

static Status check_variance(const char *module, const float *variance, int64_t n, Err *err)
{
    for (int64_t i = 0; i < n; i++)
        if (!(variance[i] >= 0.0f))
            return err_set(err, ST_MODEL_FORMAT, "tensor %s.running_var is negative at %lld",
                           module, (long long)i);
    return ST_OK;
}

static Status read_into(const Graph *graph, const Op *op, const Model *model, const Wanted *wanted,
                        int n, OpTensors *t, Err *err)
{
    float *at = t->memory;
    float **conv[] = {&t->weight, &t->bias};
    float **norm[] = {&t->gamma, &t->beta, &t->mean, &t->variance};
    int n_conv = op->kind == OP_CONV ? 1 + (int)op->has_bias : 0;
    for (int i = 0; i < n; i++) {
        const Tensor *tensor = model_tensor(model, wanted[i].name);
        *(i < n_conv ? conv[i] : norm[i - n_conv]) = at;
        TRY(model_read(model, tensor, at, err));
        at += tensor->n_elements;
    }
    return t->variance == NULL ? ST_OK
                               : check_variance(op->kind == OP_CONV ? op->norm : op->name,
                                                t->variance, op_c_out(graph, op), err);
}

Status graph_read_tensors(const Graph *graph, const Op *op, const Model *model, OpTensors *ret,
                          Err *err)
{
    Wanted wanted[MAX_OP_TENSORS];
    OpTensors t = {0};
    size_t total = 0;
    int n = list_wanted(graph, op, wanted);
    for (int i = 0; i < n; i++) {
        TRY(check_tensor(model, &wanted[i], err));
        total += (size_t)model_tensor(model, wanted[i].name)->n_elements;
    }
    t.memory = malloc(total * sizeof *t.memory + 1);
    if (t.memory == NULL)
        return err_set(err, ST_NO_MEMORY, "tensors of %s", op->name);
    Status status = read_into(graph, op, model, wanted, n, &t, err);
    if (status != ST_OK)
        graph_tensors_free(&t);
    else
        *ret = t;
    return status;
}

void graph_tensors_free(OpTensors *tensors)
{
    free(tensors->memory);
    *tensors = (OpTensors){0};
}

Status graph_check_model(const Graph *graph, const Model *model, Err *err)
{
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        Wanted wanted[MAX_OP_TENSORS];
        int n = list_wanted(graph, op, wanted);
        for (int k = 0; k < n; k++)
            TRY(check_tensor(model, &wanted[k], err));
        if (op->kind != OP_NORM)
            continue;
        OpTensors tensors; /* batch norm is small: its values are checked too */
        TRY(graph_read_tensors(graph, op, model, &tensors, err));
        graph_tensors_free(&tensors);
    }
    return ST_OK;
}

bool graph_reads_tensor(const Graph *graph, const char *name)
{
    for (int32_t i = 0; i < graph->n_ops; i++) {
        Wanted wanted[MAX_OP_TENSORS];
        int n = list_wanted(graph, &graph->ops[i], wanted);
        for (int k = 0; k < n; k++)
            if (strcmp(wanted[k].name, name) == 0)
                return true;
    }
    return false;
}

/* ---- folding ------------------------------------------------------------------------------- */

int32_t graph_conv_kernel(const Op *op)
{
    return op->folds_up2 ? graph_folded_size(op->kernel) : op->kernel;
}

/* The head over nearest x2: four phases with one bias. */
static Status fold_phases(const Op *op, const OpTensors *t, int32_t c_in, float *ret_w,
                          float *ret_b, Err *err)
{
    size_t k = (size_t)graph_conv_kernel(op), n = 4 * (size_t)c_in * k * k;
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

Status graph_fold(const Graph *graph, const Op *op, const OpTensors *t, float *ret_w, float *ret_b,
                  Err *err)
{
    int32_t c_in = graph->values[op->input].c, c_out = op_c_out(graph, op);
    size_t area = (size_t)op->kernel * (size_t)op->kernel, n = (size_t)c_in * area;
    size_t row = op->c_tensor > 0 ? (size_t)op->c_tensor * area : n; /* of one output channel */
    if (op->folds_up2)
        return fold_phases(op, t, c_in, ret_w, ret_b, err);
    const float *w = t->weight + (size_t)op->c_from * area;
    for (int32_t o = 0; o < c_out; o++) {
        double scale = 1, shift = t->bias != NULL ? (double)t->bias[o] : 0;
        if (t->gamma != NULL) {
            scale = (double)t->gamma[o] / sqrt((double)t->variance[o] + GRAPH_BATCH_NORM_EPSILON);
            shift = (shift - (double)t->mean[o]) * scale + (double)t->beta[o];
        }
        for (size_t k = 0; k < n; k++)
            ret_w[(size_t)o * n + k] = (float)((double)w[(size_t)o * row + k] * scale);
        ret_b[o] = op->no_shift ? 0 : (float)shift;
    }
    return ST_OK;
}

/* ---- counts -------------------------------------------------------------------------------- */

int64_t graph_op_macs(const Graph *graph, const Op *op)
{
    if (op->kind != OP_CONV)
        return 0;
    int64_t kernel = graph_conv_kernel(op);
    return graph_value_elements(&graph->values[op->output]) * graph->values[op->input].c * kernel *
           kernel;
}

int64_t graph_macs(const Graph *graph)
{
    int64_t macs = 0;
    for (int32_t i = 0; i < graph->n_ops; i++)
        macs += graph_op_macs(graph, &graph->ops[i]);
    return macs;
}

int64_t graph_op_parameters(const Graph *graph, const Op *op)
{
    int64_t c_out = op_c_out(graph, op);
    if (op->kind == OP_CONV)
        return c_out * graph->values[op->input].c * op->kernel * op->kernel +
               (op->no_shift ? 0 : c_out * (op->has_bias + 2 * (op->norm[0] != '\0')));
    return op->kind == OP_NORM ? 2 * c_out : 0;
}

int64_t graph_parameters(const Graph *graph)
{
    int64_t n = 0;
    for (int32_t i = 0; i < graph->n_ops; i++)
        n += graph_op_parameters(graph, &graph->ops[i]);
    return n;
}

const char *graph_kind_name(OpKind kind)
{
    static const char *const NAMES[] = {"conv", "norm",   "relu",    "add",     "maxpool",
                                        "up2",  "concat", "shuffle", "sigmoid", "convert"};
    return NAMES[kind];
}
