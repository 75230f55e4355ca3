/* Building, planning, rewriting and checking of network tables. See graph.h.
**
** Memory plan: values are placed largest first, each at the lowest offset where it meets no placed
** value that is alive at the same time ("greedy by size", Pisarchyk and Lee 2020,
** arXiv:2001.03288). Liveness is known before the first run, so a run allocates nothing. */
#include "gpu/graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOT_INPUT = -1, UNUSED = -2, ALIGN_FLOATS = 16 /* 64 bytes, a cache line */ };

int32_t graph_add_value(Graph *graph, int32_t c, int32_t h, int32_t w)
{
    ASSERT(graph->n_values <= GRAPH_MAX_OPS);
    graph->values[graph->n_values] = (Value){.c = c, .h = h, .w = w};
    return graph->n_values++;
}

int32_t graph_add_op(Graph *graph, Op op, int32_t c, int32_t h, int32_t w)
{
    ASSERT(graph->n_ops < GRAPH_MAX_OPS);
    op.output = graph_add_value(graph, c, h, w);
    graph->ops[graph->n_ops++] = op;
    return op.output;
}

static int64_t value_floats(const Value *v)
{
    int64_t n = (int64_t)v->c * v->h * v->w;
    return (n + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
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

/* Lowest offset at which n floats living in [first, last] meet none of the placed pieces. */
static int64_t find_offset(const Value *pieces, const int32_t *placed, int n_placed, int64_t n,
                           int32_t first, int32_t last)
{
    int64_t offset = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (int i = 0; i < n_placed; i++) {
            const Value *p = &pieces[placed[i]];
            bool meets = p->first_op <= last && first <= p->last_op && p->offset < offset + n &&
                         offset < p->offset + value_floats(p);
            if (meets) {
                offset = p->offset + value_floats(p);
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
        ASSERT(graph->values[op->second].last_op == i && op->second != op->input);
        int32_t root = memory_root(shares, op->second);
        shares[op->output] = root;
        pieces[root].last_op = graph->values[op->output].last_op;
    }
    for (int32_t v = 0; v < graph->n_values; v++)
        if (shares[v] < 0 && pieces[v].first_op != UNUSED) {
            order[n_pieces][0] = value_floats(&pieces[v]);
            order[n_pieces++][1] = v;
        }
    qsort(order, (size_t)n_pieces, sizeof order[0], compare_sizes);
    graph->arena_floats = 0;
    for (int i = 0; i < n_pieces; i++) {
        Value *p = &pieces[order[i][1]];
        p->offset = find_offset(pieces, placed, n_placed, order[i][0], p->first_op, p->last_op);
        placed[n_placed++] = (int32_t)order[i][1];
        if (p->offset + order[i][0] > graph->arena_floats)
            graph->arena_floats = p->offset + order[i][0];
    }
    for (int32_t v = 0; v < graph->n_values; v++)
        graph->values[v].offset = pieces[memory_root(shares, v)].offset;
}

/* ---- rewriting ----------------------------------------------------------------------------- */

/* Where a literal value is found in the new graph: `id`, to be doubled first if `pending`. */
typedef struct Mapped {
    int32_t id;
    bool pending;
} Mapped;

typedef struct Rewriter {
    const Graph *from;
    Graph *to;
    Mapped map[GRAPH_MAX_OPS + 1];
} Rewriter;

/* The value at its literal size: a pending doubling is carried out. */
static int32_t settle(Rewriter *r, int32_t literal)
{
    Mapped *m = &r->map[literal];
    if (m->pending) {
        const Value *v = &r->from->values[literal];
        Op up = {.kind = OP_UP2, .name = "up", .input = m->id, .second = -1};
        *m = (Mapped){graph_add_op(r->to, up, v->c, v->h, v->w), false};
    }
    return m->id;
}

/* Nearest x2 followed by a k x k convolution: phase (a, b) of the output is a small convolution of
** the small image. One 5x5 (for k = 7) makes all four phases. */
static void fold_head(Rewriter *r, const Op *op)
{
    Mapped in = r->map[op->input];
    const Value *small = &r->to->values[in.id];
    int32_t h = small->h, w = small->w;
    Op conv = *op;
    conv.folds_up2 = true;
    conv.input = in.id;
    int32_t phases = graph_add_op(r->to, conv, 4, h, w);
    Op shuffle = {.kind = OP_SHUFFLE, .name = "shuffle", .input = phases, .second = -1};
    r->map[op->output] = (Mapped){graph_add_op(r->to, shuffle, 1, 2 * h, 2 * w), false};
}

static void rewrite_op(Rewriter *r, const Op *op)
{
    if (op->kind == OP_UP2) {
        r->map[op->output] = (Mapped){settle(r, op->input), true};
        return;
    }
    Mapped in = r->map[op->input];
    bool second_pending = op->second >= 0 && r->map[op->second].pending;
    const Value *out = &r->from->values[op->output];
    int32_t shrink = 1;
    Op copy = *op;
    if (op->kind == OP_CONV && in.pending && op->second < 0 && op->kernel > 3 && out->c == 1 &&
        op->stride == 1 && !op->relu && op->norm[0] == '\0') {
        fold_head(r, op);
        return;
    }
    if (op->kind == OP_CONV && op->kernel == 1 && op->stride == 1 && in.pending &&
        (op->second < 0 || second_pending)) {
        copy.input = in.id;
        if (op->second >= 0)
            copy.second = r->map[op->second].id;
        shrink = 2;
    } else if (op->kind == OP_CONCAT && in.pending) {
        copy.input = in.id;
        copy.doubles = true;
        copy.second = settle(r, op->second);
    } else {
        copy.input = settle(r, op->input);
        if (op->second >= 0)
            copy.second = settle(r, op->second);
    }
    int32_t id = graph_add_op(r->to, copy, out->c, out->h / shrink, out->w / shrink);
    r->map[op->output] = (Mapped){id, shrink == 2};
}

void graph_rewrite(const Graph *literal, Graph *ret)
{
    const Value *in = &literal->values[literal->input];
    Rewriter r = {.from = literal, .to = ret};
    *ret = (Graph){0};
    ret->input = graph_add_value(ret, in->c, in->h, in->w);
    r.map[literal->input] = (Mapped){ret->input, false};
    for (int32_t i = 0; i < literal->n_ops; i++)
        rewrite_op(&r, &literal->ops[i]);
    ret->output = settle(&r, literal->output);
    graph_plan(ret);
}

/* Tap k of phase a reads the large image at 2i + a + k - half, which is the small one's element
** i + floor((a + k - half) / 2). */
static int32_t folded_reach(int32_t kernel)
{
    return (kernel / 2 + 1) / 2;
}

int32_t graph_folded_size(int32_t kernel)
{
    return 2 * folded_reach(kernel) + 1;
}

static int32_t folded_tap(int32_t kernel, int32_t phase, int32_t k)
{
    int32_t at = phase + k - kernel / 2;
    return (at >= 0 ? at / 2 : -((1 - at) / 2)) + folded_reach(kernel);
}

void graph_fold_up2(const float *kernel_ckk, int32_t c, int32_t kernel, double *ret_folded)
{
    int32_t size = graph_folded_size(kernel);
    memset(ret_folded, 0, sizeof *ret_folded * 4 * (size_t)c * (size_t)(size * size));
    for (int32_t phase = 0; phase < 4; phase++)
        for (int32_t i = 0; i < c; i++)
            for (int32_t ky = 0; ky < kernel; ky++)
                for (int32_t kx = 0; kx < kernel; kx++) {
                    int32_t y = folded_tap(kernel, phase / 2, ky);
                    int32_t x = folded_tap(kernel, phase % 2, kx);
                    ret_folded[((phase * c + i) * size + y) * size + x] +=
                        (double)kernel_ckk[(i * kernel + ky) * kernel + kx];
                }
}

/* ---- tensors and counts -------------------------------------------------------------------- */

static int32_t op_c_out(const Graph *graph, const Op *op)
{
    return op->folds_up2 ? graph->values[op->output].c / 4 : graph->values[op->output].c;
}

static Status find_tensor(const Model *model, const char *module, const char *leaf, int32_t n_dims,
                          const int64_t dims[4], const float **ret, Err *err)
{
    char name[GRAPH_NAME_SIZE + 16], want[64] = "";
    (void)snprintf(name, sizeof name, "%s.%s", module, leaf);
    for (int32_t i = 0; i < n_dims; i++)
        (void)snprintf(want + strlen(want), sizeof want - strlen(want), "%s%lld", i ? "," : "",
                       (long long)dims[i]);
    const Tensor *tensor = model_tensor(model, name);
    if (tensor == NULL)
        return err_set(err, ST_MODEL_FORMAT, "tensor %s (%s) is missing", name, want);
    bool same = tensor->n_dims == n_dims;
    for (int32_t i = 0; same && i < n_dims; i++)
        same = tensor->dims[i] == dims[i];
    if (!same)
        return err_set(err, ST_MODEL_FORMAT, "tensor %s has another shape than (%s)", name, want);
    *ret = tensor->data;
    return ST_OK;
}

Status graph_op_tensors(const Graph *graph, const Op *op, const Model *model, OpTensors *ret,
                        Err *err)
{
    OpTensors t = {0};
    int64_t c_out = op_c_out(graph, op), c_in = graph->values[op->input].c;
    const int64_t kernel[4] = {c_out, c_in, op->kernel, op->kernel}, vector[4] = {c_out};
    TRY(find_tensor(model, op->name, "weight", 4, kernel, &t.weight, err));
    if (op->norm[0] == '\0') {
        TRY(find_tensor(model, op->name, "bias", 1, vector, &t.bias, err));
        *ret = t;
        return ST_OK;
    }
    TRY(find_tensor(model, op->norm, "weight", 1, vector, &t.gamma, err));
    TRY(find_tensor(model, op->norm, "bias", 1, vector, &t.beta, err));
    TRY(find_tensor(model, op->norm, "running_mean", 1, vector, &t.mean, err));
    TRY(find_tensor(model, op->norm, "running_var", 1, vector, &t.variance, err));
    for (int64_t i = 0; i < c_out; i++)
        if (!(t.variance[i] >= 0.0f))
            return err_set(err, ST_MODEL_FORMAT, "tensor %s.running_var is negative at %lld",
                           op->norm, (long long)i);
    *ret = t;
    return ST_OK;
}

Status graph_check_model(const Graph *graph, const Model *model, Err *err)
{
    OpTensors tensors;
    for (int32_t i = 0; i < graph->n_ops; i++)
        if (graph->ops[i].kind == OP_CONV)
            TRY(graph_op_tensors(graph, &graph->ops[i], model, &tensors, err));
    return ST_OK;
}

static bool is_member(const char *name, const char *module, const char *const *leaves)
{
    size_t n = strlen(module);
    if (n == 0 || strncmp(name, module, n) != 0 || name[n] != '.')
        return false;
    for (; *leaves != NULL; leaves++)
        if (strcmp(name + n + 1, *leaves) == 0)
            return true;
    return false;
}

bool graph_reads_tensor(const Graph *graph, const char *name)
{
    static const char *const WEIGHT[] = {"weight", NULL}, *const BOTH[] = {"weight", "bias", NULL};
    static const char *const NORM[] = {"weight", "bias", "running_mean", "running_var", NULL};
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        if (op->kind == OP_CONV &&
            (is_member(name, op->name, op->norm[0] == '\0' ? BOTH : WEIGHT) ||
             is_member(name, op->norm, NORM)))
            return true;
    }
    return false;
}

int64_t graph_op_macs(const Graph *graph, const Op *op)
{
    if (op->kind != OP_CONV)
        return 0;
    const Value *out = &graph->values[op->output];
    int64_t kernel = op->folds_up2 ? graph_folded_size(op->kernel) : op->kernel;
    return (int64_t)out->c * out->h * out->w * graph->values[op->input].c * kernel * kernel;
}

int64_t graph_macs(const Graph *graph)
{
    int64_t macs = 0;
    for (int32_t i = 0; i < graph->n_ops; i++)
        macs += graph_op_macs(graph, &graph->ops[i]);
    return macs;
}

int64_t graph_parameters(const Graph *graph)
{
    int64_t n = 0;
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        int64_t c_out = op_c_out(graph, op);
        if (op->kind == OP_CONV)
            n += c_out * graph->values[op->input].c * op->kernel * op->kernel +
                 c_out * (op->norm[0] == '\0' ? 1 : 2);
    }
    return n;
}

const char *graph_kind_name(OpKind kind)
{
    static const char *const NAMES[] = {"conv", "maxpool", "up2", "concat", "shuffle", "sigmoid"};
    return NAMES[kind];
}
