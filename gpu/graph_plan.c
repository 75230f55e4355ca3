/* Where each value of a network lies in memory. See graph.h.
**
** Values are placed largest first, each at the lowest offset where it meets no placed value that is
** alive at the same time ("greedy by size", Pisarchyk and Lee 2020, arXiv:2001.03288). Liveness is
** known before the first run, so a run allocates nothing. */
#include "gpu/graph.h"

#include <stdlib.h>
#include <string.h>

enum { NOT_INPUT = -1, UNUSED = -2, ALIGN_BYTES = 64 /* a cache line */ };

static int64_t value_bytes(const Value *v)
{
    int64_t n = graph_value_elements(v) * v->element_bytes;
    return (n + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

static void find_lifetimes(Graph *graph)
{
    for (int32_t v = 0; v < graph->n_values; v++)
        graph->values[v].first_op = graph->values[v].last_op = UNUSED;
    graph->values[graph->input].first_op = NOT_INPUT;
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        graph->values[op->output].first_op = graph->values[op->output].last_op = i;
        graph->values[op->input].last_op = i;
        if (op->second >= 0)
            graph->values[op->second].last_op = i;
    }
    graph->values[graph->output].last_op = graph->n_ops;
}

/* A convolution adds to its residual in place: residual and output are one piece of memory. */
static int32_t memory_root(const int32_t *shares, int32_t v)
{
    while (shares[v] >= 0)
        v = shares[v];
    return v;
}

static int compare_sizes(const void *a, const void *b)
{
    const int64_t *x = a, *y = b; /* (size, index) */
    if (x[0] != y[0])
        return x[0] < y[0] ? 1 : -1;
    return x[1] < y[1] ? -1 : 1;
}

/* Lowest offset at which n bytes living in [first, last] meet none of the placed pieces. */
static int64_t find_offset(const Value *pieces, const int32_t *placed, int n_placed, int64_t n,
                           int32_t first, int32_t last)
{
    int64_t offset = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (int i = 0; i < n_placed; i++) {
            const Value *p = &pieces[placed[i]];
            bool meets = p->first_op <= last && first <= p->last_op &&
                         p->offset_bytes < offset + n && offset < p->offset_bytes + value_bytes(p);
            if (meets) {
                offset = p->offset_bytes + value_bytes(p);
                moved = true;
            }
        }
    }
    return offset;
}

void graph_plan(Graph *graph)
{
    int32_t shares[GRAPH_MAX_OPS + 1], placed[GRAPH_MAX_OPS + 1];
    int64_t order[GRAPH_MAX_OPS + 1][2];
    Value pieces[GRAPH_MAX_OPS + 1];
    int n_pieces = 0, n_placed = 0;
    find_lifetimes(graph);
    memcpy(pieces, graph->values, sizeof pieces);
    for (int32_t v = 0; v < graph->n_values; v++)
        shares[v] = -1;
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        if (op->kind != OP_CONV || op->second < 0)
            continue;
        ASSERT(graph->values[op->second].last_op == i && op->second != op->input &&
               graph->values[op->second].element_bytes == graph->values[op->output].element_bytes);
        int32_t root = memory_root(shares, op->second);
        shares[op->output] = root;
        pieces[root].last_op = graph->values[op->output].last_op;
    }
    for (int32_t v = 0; v < graph->n_values; v++)
        if (shares[v] < 0 && pieces[v].first_op != UNUSED) {
            order[n_pieces][0] = value_bytes(&pieces[v]);
            order[n_pieces++][1] = v;
        }
    qsort(order, (size_t)n_pieces, sizeof order[0], compare_sizes);
    graph->arena_bytes = 0;
    for (int i = 0; i < n_pieces; i++) {
        Value *p = &pieces[order[i][1]];
        p->offset_bytes =
            find_offset(pieces, placed, n_placed, order[i][0], p->first_op, p->last_op);
        placed[n_placed++] = (int32_t)order[i][1];
        if (p->offset_bytes + order[i][0] > graph->arena_bytes)
            graph->arena_bytes = p->offset_bytes + order[i][0];
    }
    for (int32_t v = 0; v < graph->n_values; v++)
        graph->values[v].offset_bytes = pieces[memory_root(shares, v)].offset_bytes;
}
