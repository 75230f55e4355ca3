/* Layouts of the CPU backend's values: [h][w][c], but for what goes into and comes out of a
** Winograd convolution, which oneDNN wants in blocks of 16 channels (nChw16c). Conversions are
** operations of the graph, put in only where an operation meets a value in the other layout, once
** per value. See dnnl_int.h. */
#include "gpu/dnnl_int.h"

typedef struct Layouts {
    Graph *to;
    bool *blocked;                    /* [value of to] */
    int32_t at[GRAPH_MAX_OPS + 1][2]; /* value of from -> values of to: plain, blocked; -1: none */
} Layouts;

static int32_t in_layout(Layouts *layouts, int32_t value, bool blocked)
{
    int32_t *at = layouts->at[value];
    if (at[blocked] < 0) {
        const Value v = layouts->to->values[at[!blocked]];
        Op convert = {.kind = OP_CONVERT, .name = "layout", .input = at[!blocked], .second = -1};
        at[blocked] = graph_add_op(layouts->to, convert, v.c, v.h, v.w);
        layouts->blocked[at[blocked]] = blocked;
    }
    return at[blocked];
}

void dnnl_insert_layouts(const Graph *from, const WinogradChoice *choice, Graph *to,
                         bool *ret_blocked)
{
    Layouts layouts = {.to = to, .blocked = ret_blocked};
    const Value *in = &from->values[from->input];
    for (int32_t v = 0; v < from->n_values; v++)
        layouts.at[v][false] = layouts.at[v][true] = -1;
    *to = (Graph){0};
    layouts.at[from->input][false] = to->input = graph_add_value(to, in->c, in->h, in->w);
    for (int32_t i = 0; i < from->n_ops; i++) {
        Op op = from->ops[i];
        const Value *out = &from->values[op.output];
        bool blocked = winograd_way(choice, from, &op) != WAY_DIRECT;
        int32_t output = op.output;
        op.input = in_layout(&layouts, op.input, blocked);
        if (op.second >= 0)
            op.second = in_layout(&layouts, op.second, blocked);
        layouts.at[output][blocked] = graph_add_op(to, op, out->c, out->h, out->w);
        ret_blocked[layouts.at[output][blocked]] = blocked;
    }
    to->output = in_layout(&layouts, from->output, false);
}
