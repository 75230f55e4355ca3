/* Conversions between the two forms that values of the CPU backend have: plain, which is [h][w][c]
** in floats, and the one that some convolutions want instead: blocks of 16 channels (nChw16c) for
** Winograd's, 8-bit numbers in int8. They are operations of the graph, put in only where an
** operation meets a value in the other form, once per value. See dnnl_int.h. */
#include "gpu/dnnl_int.h"

typedef struct Forms {
    Graph *to;
    bool *is_other;                   /* [value of to] */
    int32_t at[GRAPH_MAX_OPS + 1][2]; /* value of from -> values of to: plain, other; -1: none */
} Forms;

static int32_t in_form(Forms *forms, int32_t value, bool other)
{
    int32_t *at = forms->at[value];
    if (at[other] < 0) {
        const Value v = forms->to->values[at[!other]];
        Op convert = {.kind = OP_CONVERT, .name = "convert", .input = at[!other], .second = -1};
        at[other] = graph_add_op(forms->to, convert, v.c, v.h, v.w);
        forms->is_other[at[other]] = other;
    }
    return at[other];
}

void dnnl_insert_conversions(const Graph *from, const OpForms *ops, Graph *to, bool *ret_other)
{
    Forms forms = {.to = to, .is_other = ret_other};
    const Value *in = &from->values[from->input];
    for (int32_t v = 0; v < from->n_values; v++)
        forms.at[v][false] = forms.at[v][true] = -1;
    *to = (Graph){0};
    forms.at[from->input][false] = to->input = graph_add_value(to, in->c, in->h, in->w);
    for (int32_t i = 0; i < from->n_ops; i++) {
        Op op = from->ops[i];
        const Value *out = &from->values[op.output];
        int32_t output = op.output;
        op.input = in_form(&forms, op.input, ops->in[i]);
        if (op.second >= 0) /* a residual gives its memory to the output */
            op.second = in_form(&forms, op.second, op.kind == OP_CONV ? ops->out[i] : ops->in[i]);
        forms.at[output][ops->out[i]] = graph_add_op(to, op, out->c, out->h, out->w);
        ret_other[forms.at[output][ops->out[i]]] = ops->out[i];
    }
    to->output = in_form(&forms, from->output, false);
}
