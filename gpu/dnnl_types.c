/* Element types of the CPU backend's values, and the scales of int8.
**
** f32 and bf16: every value has that type, but the head's output and what follows it, which is
** float32. int8: the first convolution (3 channels; under 1 % of the work) is float32, as the
** network's input is signed and its grey steps matter, and so are the head and the convolutions
** before it that calibration gave no range, as their rounding goes straight into the picture.
** Between them a value that has been through ReLU is u8 with scale range / 255, a shortcut
** that is only added is s8 with range / 127, weights are s8 with one scale per output channel. The
** range is that of the convolution's outputs on the calibration data. Values that are put side by
** side or copied (concat, pooling, doubling) share a scale, so that copies stay copies. */
#include "gpu/dnnl_int.h"

#include <string.h>

static int32_t element_bytes(dnnl_data_type_t type)
{
    return type == dnnl_f32 ? 4 : type == dnnl_bf16 ? 2 : 1;
}

/* Index of the operation that makes the value; -1: the network's input. */
static int32_t producer(const Graph *graph, int32_t value)
{
    for (int32_t i = 0; i < graph->n_ops; i++)
        if (graph->ops[i].output == value)
            return i;
    return -1;
}

/* Marks the head's output, which it returns, and all that follows: a chain of operations without
** weights. */
static int32_t mark_tail(const Graph *graph, bool *ret_tail)
{
    int32_t value = graph->output, i = producer(graph, value);
    while (i >= 0 && (graph->ops[i].kind == OP_SIGMOID || graph->ops[i].kind == OP_SHUFFLE)) {
        ret_tail[value] = true;
        value = graph->ops[i].input;
        i = producer(graph, value);
    }
    ret_tail[value] = true;
    return value;
}

static void set_all(Dnnl *d, dnnl_data_type_t type, const bool *blocked)
{
    bool tail[GRAPH_MAX_OPS + 1] = {false};
    (void)mark_tail(d->graph, tail);
    for (int32_t v = 0; v < d->graph->n_values; v++)
        d->types[v] = (ValueType){tail[v] ? dnnl_f32 : type, 1, blocked[v]};
}

/* Which operations work on the network's values in blocks of channels: Winograd's. */
static void choose_blocked(const Graph *graph, const WinogradChoice *winograd, OpForms *ret)
{
    for (int32_t i = 0; i < graph->n_ops; i++)
        ret->in[i] = ret->out[i] = winograd_way(winograd, graph, &graph->ops[i]) != WAY_DIRECT;
}

/* ---- int8 ---------------------------------------------------------------------------------- */

static bool is_quantized(const Graph *graph, const Op *op, int32_t head, const Model *model)
{
    float range;
    return op->kind == OP_CONV && op->input != graph->input && op->output != head &&
           model_calibrated_range(model, op->name, &range);
}

/* Whether something takes the value as 8 bits; what copies values gives them on as it gets them. */
static bool wanted_quantized(const Graph *graph, int32_t value, const bool *in)
{
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        if ((op->input == value || op->second == value) && (op->kind != OP_CONV || in[i]))
            return true;
    }
    return false;
}

/* Which operations work on 8-bit values. The first convolution and the head do not, nor those that
** calibration gave no range; a convolution before one of these need not round its sums. */
static void choose_quantized(const Graph *graph, const Model *model, OpForms *ret)
{
    bool other[GRAPH_MAX_OPS + 1] = {false}, tail[GRAPH_MAX_OPS + 1] = {false};
    int32_t head = mark_tail(graph, tail);
    for (int32_t i = 0; i < graph->n_ops; i++)
        ret->in[i] = is_quantized(graph, &graph->ops[i], head, model);
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        if (op->kind == OP_CONV)
            ret->out[i] = ret->in[i] && wanted_quantized(graph, op->output, ret->in);
        else
            ret->in[i] = ret->out[i] = other[op->input];
        other[op->output] = ret->out[i];
    }
}

static int32_t group_of(const int32_t *groups, int32_t v)
{
    while (groups[v] != v)
        v = groups[v];
    return v;
}

/* Values that share a scale. */
static void find_groups(const Graph *graph, int32_t *ret)
{
    for (int32_t v = 0; v < graph->n_values; v++)
        ret[v] = v;
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        if (op->kind != OP_MAXPOOL && op->kind != OP_UP2 && op->kind != OP_CONCAT &&
            op->kind != OP_CONVERT)
            continue;
        ret[group_of(ret, op->output)] = group_of(ret, op->input);
        if (op->second >= 0)
            ret[group_of(ret, op->second)] = group_of(ret, op->input);
    }
}

static bool is_quantized_group(const Dnnl *d, const int32_t *groups, const bool *quantized,
                               int32_t group)
{
    for (int32_t v = 0; v < d->graph->n_values; v++)
        if (quantized[v] && group_of(groups, v) == group)
            return true;
    return false;
}

/* The largest of each group. One that becomes 8 bits must have a range; its members that stay in
** floats need none. */
static Status read_ranges(const Dnnl *d, const Model *model, const int32_t *groups,
                          const bool *quantized, float *ret_ranges, Err *err)
{
    const Graph *graph = d->graph;
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        float range = 0;
        int32_t group = group_of(groups, op->output);
        if (op->kind == OP_CONV && model_calibrated_range(model, op->name, &range))
            ret_ranges[group] = range > ret_ranges[group] ? range : ret_ranges[group];
    }
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        if (op->kind == OP_CONV && !(ret_ranges[group_of(groups, op->output)] > 0) &&
            is_quantized_group(d, groups, quantized, group_of(groups, op->output)))
            return err_set(err, ST_MODEL_UNFIT,
                           "the model has no int8 range for %s: `ct2mr model calibrate` finds them",
                           op->name);
    }
    return ST_OK;
}

static Status set_int8(Dnnl *d, const Model *model, const bool *quantized, Err *err)
{
    const Graph *graph = d->graph;
    int32_t groups[GRAPH_MAX_OPS + 1];
    float ranges[GRAPH_MAX_OPS + 1] = {0};
    bool is_signed[GRAPH_MAX_OPS + 1] = {false};
    if (memchr(quantized, 1, (size_t)graph->n_values) == NULL)
        return err_set(err, ST_MODEL_UNFIT,
                       "the model has no int8 ranges: `ct2mr model calibrate` finds them");
    find_groups(graph, groups);
    TRY(read_ranges(d, model, groups, quantized, ranges, err));
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        if (op->kind == OP_NORM || op->kind == OP_ADD || op->kind == OP_RELU)
            return err_set(err, ST_BACKEND, "int8 needs the passes fold-norm and fuse");
        if (op->kind == OP_CONV && !op->relu)
            is_signed[group_of(groups, op->output)] = true;
    }
    for (int32_t v = 0; v < graph->n_values; v++) {
        int32_t group = group_of(groups, v);
        if (!quantized[v])
            d->types[v] = (ValueType){dnnl_f32, 1, false};
        else if (is_signed[group])
            d->types[v] = (ValueType){dnnl_s8, ranges[group] / 127.0f, false};
        else
            d->types[v] = (ValueType){dnnl_u8, ranges[group] / 255.0f, false};
    }
    return ST_OK;
}

Status dnnl_choose_types(Dnnl *d, const Graph *graph, const Model *model, Err *err)
{
    OpForms forms = {0};
    bool other[GRAPH_MAX_OPS + 1] = {false};
    if (d->precision == PRECISION_INT8)
        choose_quantized(graph, model, &forms);
    else
        choose_blocked(graph, &d->winograd, &forms);
    dnnl_insert_conversions(graph, &forms, d->graph, other);
    if (d->precision == PRECISION_INT8)
        TRY(set_int8(d, model, other, err));
    else
        set_all(d, d->precision == PRECISION_BF16 ? dnnl_bf16 : dnnl_f32, other);
    for (int32_t v = 0; v < d->graph->n_values; v++)
        d->graph->values[v].element_bytes = element_bytes(d->types[v].type);
    graph_plan(d->graph);
    return ST_OK;
}
