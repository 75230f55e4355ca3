/* See cuda_layout.h. */
#include "gpu/cuda_layout.h"

static int32_t padded(int32_t c)
{
    return (c + CUDA_LANES - 1) / CUDA_LANES * CUDA_LANES;
}

static Status check_op(const Graph *graph, const Op *op, Err *err)
{
    bool good = op->kind == OP_CONV || op->kind == OP_MAXPOOL || op->kind == OP_UP2 ||
                op->kind == OP_CONCAT;
    if (!good)
        return err_set(err, ST_BACKEND, "backend cuda has no operation %s (%s)",
                       graph_kind_name(op->kind), op->name);
    const Value *out = &graph->values[op->output];
    if (out->c % CUDA_LANES != 0)
        return err_set(err, ST_BACKEND, "backend cuda: %s gives %d channels, no multiple of %d",
                       op->name, out->c, CUDA_LANES);
    return ST_OK;
}

/* Residual and sum as an addition has them: both alive at the operation. */
static void plan_apart(Graph *graph)
{
    bool was_conv[GRAPH_MAX_OPS] = {false};
    for (int32_t i = 0; i < graph->n_ops; i++) {
        Op *op = &graph->ops[i];
        was_conv[i] = op->kind == OP_CONV;
        if (was_conv[i] && op->second >= 0)
            op->kind = OP_ADD;
    }
    graph_plan(graph);
    for (int32_t i = 0; i < graph->n_ops; i++)
        if (was_conv[i])
            graph->ops[i].kind = OP_CONV;
}

Status cuda_layout(const Graph *from, Graph *ret_graph, CudaLayout *ret, Err *err)
{
    CudaLayout layout = {.c_in = from->values[from->input].c, .last = from->output};
    Graph *graph = ret_graph;
    *graph = *from;
    ASSERT(graph->n_ops > 0 && graph->ops[graph->n_ops - 1].output == graph->output);
    if (graph->ops[graph->n_ops - 1].kind == OP_SIGMOID && graph->n_ops > 1) {
        layout.sigmoid = true;
        layout.last = graph->ops[--graph->n_ops].input;
    }
    if (graph->ops[graph->n_ops - 1].kind == OP_SHUFFLE && graph->n_ops > 1) {
        layout.shuffle = true;
        layout.last = graph->ops[--graph->n_ops].input;
    }
    layout.c_out = layout.shuffle ? 1 : graph->values[layout.last].c;
    graph->output = layout.last;
    if (graph->ops[graph->n_ops - 1].output != layout.last)
        return err_set(err, ST_BACKEND, "backend cuda: the network's end has another form");
    for (int32_t v = 0; v < graph->n_values; v++)
        graph->values[v].element_bytes = 2;
    graph->values[graph->input].c = padded(layout.c_in);
    if (graph->ops[graph->n_ops - 1].kind == OP_CONV)
        graph->values[layout.last].c = padded(graph->values[layout.last].c);
    for (int32_t i = 0; i < graph->n_ops; i++)
        TRY(check_op(graph, &graph->ops[i], err));
    plan_apart(graph);
    *ret = layout;
    return ST_OK;
}

ConvShape cuda_conv_shape(const Graph *graph, const Op *op, int32_t batch)
{
    const Value *in = &graph->values[op->input], *out = &graph->values[op->output];
    return (ConvShape){.n = batch,
                       .c_in = in->c,
                       .h = in->h,
                       .w = in->w,
                       .c_out = out->c,
                       .kernel = graph_conv_kernel(op),
                       .stride = op->stride,
                       .residual = op->second >= 0,
                       .relu = op->relu};
}
