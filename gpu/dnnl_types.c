/* Element types of the CPU backend's values, and the scales of int8.
**
** f32 and bf16: every value has that type, but the head's output and what follows it, which is
** float32. int8: the first convolution (3 channels; under 1 % of the work) is float32, as the
** network's input is signed and its grey steps matter; what it gives is converted to unsigned
** bytes. After that a value that has been through ReLU is u8 with scale range / 255, a shortcut
** that is only added is s8 with range / 127, weights are s8 with one scale per output channel. The
** range is the largest absolute output of the convolution on the calibration data. Values that
** are put side by side or copied (concat, pooling, doubling) share a scale, so that copies stay
** copies. */
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

/* Marks the head's output and all that follows: a chain of operations without weights. */
static void mark_tail(const Graph *graph, bool *ret_tail)
{
    int32_t value = graph->output, i = producer(graph, value);
    while (i >= 0 && (graph->ops[i].kind == OP_SIGMOID || graph->ops[i].kind == OP_SHUFFLE)) {
        ret_tail[value] = true;
        value = graph->ops[i].input;
        i = producer(graph, value);
    }
    ret_tail[value] = true;
}

static void set_all(Dnnl *d, dnnl_data_type_t type)
{
    bool tail[GRAPH_MAX_OPS + 1] = {false};
    mark_tail(d->graph, tail);
    for (int32_t v = 0; v < d->graph->n_values; v++)
        d->types[v] = (ValueType){tail[v] ? dnnl_f32 : type, 1, d->types[v].blocked};
}

/* ---- int8 ---------------------------------------------------------------------------------- */

static bool stays_f32(const Graph *graph, const Op *op)
{
    return op->kind == OP_CONV && op->input == graph->input;
}

/* The graph again, with a conversion behind each convolution that stays float32. */
static void insert_conversions(const Graph *from, Graph *to)
{
    int32_t map[GRAPH_MAX_OPS + 1];
    const Value *in = &from->values[from->input];
    *to = (Graph){0};
    map[from->input] = to->input = graph_add_value(to, in->c, in->h, in->w);
    for (int32_t i = 0; i < from->n_ops; i++) {
        Op op = from->ops[i];
        const Value *out = &from->values[op.output];
        int32_t old = op.output;
        op.input = map[op.input];
        if (op.second >= 0)
            op.second = map[op.second];
        map[old] = graph_add_op(to, op, out->c, out->h, out->w);
        if (stays_f32(from, &from->ops[i]) && old != from->output) {
            Op convert = {.kind = OP_CONVERT, .name = "convert", .second = -1};
            convert.input = map[old];
            map[old] = graph_add_op(to, convert, out->c, out->h, out->w);
        }
    }
    to->output = map[from->output];
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

static Status read_ranges(const Graph *graph, const Model *model, const int32_t *groups,
                          float *ret_ranges, Err *err)
{
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        float range;
        if (op->kind != OP_CONV)
            continue;
        if (!model_calibrated_range(model, op->name, &range))
            return err_set(err, ST_MODEL_FORMAT,
                           "the model has no int8 range for %s: `ct2mr model calibrate` finds them",
                           op->name);
        int32_t group = group_of(groups, op->output);
        if (range > ret_ranges[group])
            ret_ranges[group] = range;
    }
    return ST_OK;
}

static Status choose_int8(Dnnl *d, const Model *model, Err *err)
{
    const Graph *graph = d->graph;
    int32_t groups[GRAPH_MAX_OPS + 1];
    float ranges[GRAPH_MAX_OPS + 1] = {0};
    bool is_signed[GRAPH_MAX_OPS + 1] = {false}, tail[GRAPH_MAX_OPS + 1] = {false};
    find_groups(graph, groups);
    mark_tail(graph, tail);
    TRY(read_ranges(graph, model, groups, ranges, err));
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        if (op->kind == OP_NORM || op->kind == OP_ADD || op->kind == OP_RELU)
            return err_set(err, ST_BACKEND, "int8 needs the passes fold-norm and fuse");
        if (op->kind == OP_CONV && !op->relu)
            is_signed[group_of(groups, op->output)] = true;
    }
    for (int32_t v = 0; v < graph->n_values; v++) {
        int32_t i = producer(graph, v), group = group_of(groups, v);
        bool f32 = tail[v] || i < 0 || stays_f32(graph, &graph->ops[i]);
        if (f32)
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
    if (d->precision == PRECISION_INT8) {
        insert_conversions(graph, d->graph);
        TRY(choose_int8(d, model, err));
    } else {
        bool blocked[GRAPH_MAX_OPS + 1] = {false};
        dnnl_insert_layouts(graph, &d->winograd, d->graph, blocked);
        for (int32_t v = 0; v < d->graph->n_values; v++)
            d->types[v].blocked = blocked[v];
        set_all(d, d->precision == PRECISION_BF16 ? dnnl_bf16 : dnnl_f32);
    }
    for (int32_t v = 0; v < d->graph->n_values; v++)
        d->graph->values[v].element_bytes = element_bytes(d->types[v].type);
    graph_plan(d->graph);
    return ST_OK;
}
