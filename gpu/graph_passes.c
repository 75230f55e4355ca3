/* Rewriting of network tables. See graph_passes.h.
**
** Every pass walks the old table once, in order, and writes a new one; map[] says where an old
** value is found in the new table. */
#include "gpu/graph_passes.h"

#include <stdlib.h>
#include <string.h>

typedef struct Mapped { /* where an old value is found: `id`, to be doubled first if `pending` */
    int32_t id;
    bool pending;
} Mapped;

typedef struct Rewriter {
    const Graph *from;
    Graph *to;
    Mapped map[GRAPH_MAX_OPS + 1];
    int32_t n_users[GRAPH_MAX_OPS + 1]; /* of each old value; the network's output counts as one */
    int32_t user[GRAPH_MAX_OPS + 1];    /* the last operation that reads it; -1: none */
    int32_t split[GRAPH_MAX_OPS + 1];   /* 1 + the concatenation that made it and is left out */
    bool done[GRAPH_MAX_OPS];           /* the operation has gone into an earlier one */
} Rewriter;

typedef void Pass(Rewriter *r, int32_t i);

static void count_user(Rewriter *r, int32_t value, int32_t op)
{
    r->n_users[value]++;
    r->user[value] = op;
}

static Status run_pass(Pass *pass, const Graph *from, Graph *to, Err *err)
{
    Rewriter *r = calloc(1, sizeof *r);
    if (r == NULL)
        return err_set(err, ST_NO_MEMORY, "rewriting the network's table");
    const Value *in = &from->values[from->input];
    *to = (Graph){0};
    r->from = from;
    r->to = to;
    for (int32_t v = 0; v < from->n_values; v++)
        r->user[v] = -1;
    for (int32_t i = 0; i < from->n_ops; i++) {
        count_user(r, from->ops[i].input, i);
        if (from->ops[i].second >= 0)
            count_user(r, from->ops[i].second, i);
    }
    r->n_users[from->output]++;
    to->input = graph_add_value(to, in->c, in->h, in->w);
    r->map[from->input] = (Mapped){to->input, false};
    for (int32_t i = 0; i < from->n_ops; i++)
        if (!r->done[i])
            pass(r, i);
    const Mapped *out = &r->map[from->output];
    if (out->pending) {
        const Value *v = &from->values[from->output];
        Op up = {.kind = OP_UP2, .name = "up", .input = out->id, .second = -1};
        to->output = graph_add_op(to, up, v->c, v->h, v->w);
    } else {
        to->output = out->id;
    }
    graph_plan(to);
    free(r);
    return ST_OK;
}

/* The one operation that reads the value, if it is of that kind; -1 otherwise. */
static int32_t only_user(const Rewriter *r, int32_t value, OpKind kind)
{
    int32_t user = r->user[value];
    return r->n_users[value] == 1 && user >= 0 && r->from->ops[user].kind == kind ? user : -1;
}

/* Copies the operation; its output stands for the old value `output`. */
static void copy_op(Rewriter *r, Op op, int32_t output)
{
    const Value *out = &r->from->values[output];
    op.input = r->map[op.input].id;
    if (op.second >= 0)
        op.second = r->map[op.second].id;
    r->map[output] = (Mapped){graph_add_op(r->to, op, out->c, out->h, out->w), false};
}

/* ---- fold-norm ----------------------------------------------------------------------------- */

static void fold_norm(Rewriter *r, int32_t i)
{
    Op op = r->from->ops[i];
    int32_t output = op.output, norm = only_user(r, output, OP_NORM);
    if (op.kind == OP_CONV && norm >= 0) {
        memcpy(op.norm, r->from->ops[norm].name, sizeof op.norm);
        output = r->from->ops[norm].output;
        r->done[norm] = true;
    }
    copy_op(r, op, output);
}

/* ---- fuse ---------------------------------------------------------------------------------- */

/* The residual that the sum adds to this convolution's output; -1 if the convolution cannot take
** its memory: it must be there already, be needed by nobody later, and not be the input. */
static int32_t residual_of(const Rewriter *r, int32_t conv, int32_t output, int32_t sum)
{
    const Op *add = &r->from->ops[sum];
    int32_t residual = add->input == output ? add->second : add->input;
    const Value *v = &r->from->values[residual];
    bool usable = residual != output && residual != r->from->input && v->first_op < conv &&
                  v->last_op == sum && residual != r->from->ops[conv].input;
    return usable ? residual : -1;
}

static void fuse(Rewriter *r, int32_t i)
{
    Op op = r->from->ops[i];
    int32_t output = op.output;
    if (op.kind == OP_CONV) {
        int32_t sum = only_user(r, output, OP_ADD);
        int32_t residual = sum >= 0 ? residual_of(r, i, output, sum) : -1;
        /* Between the convolution and the sum nobody else may read the residual. */
        for (int32_t k = i + 1; k < sum && residual >= 0; k++)
            if (r->from->ops[k].input == residual || r->from->ops[k].second == residual)
                residual = -1;
        if (residual >= 0) {
            op.second = residual;
            output = r->from->ops[sum].output;
            r->done[sum] = true;
        }
        int32_t relu = only_user(r, output, OP_RELU);
        if (relu >= 0) {
            op.relu = true;
            output = r->from->ops[relu].output;
            r->done[relu] = true;
        }
    }
    copy_op(r, op, output);
}

/* ---- split-concat -------------------------------------------------------------------------- */

/* Only 1x1 convolutions without a residual read the concatenation. */
static bool splits(const Rewriter *r, const Op *concat)
{
    if (concat->kind != OP_CONCAT || concat->doubles || concat->output == r->from->output)
        return false;
    for (int32_t k = 0; k < r->from->n_ops; k++) {
        const Op *user = &r->from->ops[k];
        bool reads = user->input == concat->output || user->second == concat->output;
        if (reads && (user->kind != OP_CONV || user->kernel != 1 || user->stride != 1 ||
                      user->second >= 0 || user->c_tensor > 0))
            return false;
    }
    return true;
}

/* conv(concat(a, b)) = conv_a(a) + conv_b(b): no copy, and where a is a doubled image, conv_a can
** be done before it is doubled. */
static void split_concat(Rewriter *r, int32_t i)
{
    Op op = r->from->ops[i];
    const Value *out = &r->from->values[op.output];
    int32_t from = r->split[op.input] - 1;
    if (splits(r, &op)) {
        r->split[op.output] = i + 1;
        return;
    }
    if (from < 0) {
        copy_op(r, op, op.output);
        return;
    }
    const Op *concat = &r->from->ops[from];
    Op first = op, second = op;
    first.c_tensor = second.c_tensor = r->from->values[op.input].c;
    first.input = r->map[concat->input].id;
    first.relu = false;
    first.no_shift = true;
    second.input = r->map[concat->second].id;
    second.c_from = r->from->values[concat->input].c;
    second.second = graph_add_op(r->to, first, out->c, out->h, out->w);
    r->map[op.output] = (Mapped){graph_add_op(r->to, second, out->c, out->h, out->w), false};
}

/* ---- late-up2 ------------------------------------------------------------------------------ */

/* The value at its old size: a pending doubling is carried out. */
static int32_t settle(Rewriter *r, int32_t old)
{
    Mapped *m = &r->map[old];
    if (m->pending) {
        const Value *v = &r->from->values[old];
        Op up = {.kind = OP_UP2, .name = "up", .input = m->id, .second = -1};
        *m = (Mapped){graph_add_op(r->to, up, v->c, v->h, v->w), false};
    }
    return m->id;
}

/* Whether the operation gives the doubled result when given the small image. */
static bool commutes(const Rewriter *r, const Op *op)
{
    if (!r->map[op->input].pending || (op->second >= 0 && !r->map[op->second].pending))
        return false;
    return op->kind == OP_NORM || op->kind == OP_RELU || op->kind == OP_ADD ||
           (op->kind == OP_CONV && op->kernel == 1 && op->stride == 1);
}

static void late_up2(Rewriter *r, int32_t i)
{
    Op op = r->from->ops[i];
    const Value *out = &r->from->values[op.output];
    if (op.kind == OP_UP2) {
        r->map[op.output] = (Mapped){settle(r, op.input), true};
    } else if (commutes(r, &op)) {
        op.input = r->map[op.input].id;
        if (op.second >= 0)
            op.second = r->map[op.second].id;
        r->map[op.output] = (Mapped){graph_add_op(r->to, op, out->c, out->h / 2, out->w / 2), true};
    } else {
        op.doubles = op.kind == OP_CONCAT && r->map[op.input].pending;
        op.input = op.doubles ? r->map[op.input].id : settle(r, op.input);
        if (op.second >= 0)
            op.second = settle(r, op.second);
        r->map[op.output] = (Mapped){graph_add_op(r->to, op, out->c, out->h, out->w), false};
    }
}

/* ---- fold-head ----------------------------------------------------------------------------- */

/* Nearest x2 followed by a k x k convolution to one channel: phase (a, b) of the output is a small
** convolution of the small image. One 5x5 (for k = 7) makes all four phases. */
static void fold_head(Rewriter *r, int32_t i)
{
    Op op = r->from->ops[i];
    int32_t next = only_user(r, op.output, OP_CONV);
    const Op *head = next >= 0 ? &r->from->ops[next] : NULL;
    bool folds = op.kind == OP_UP2 && head != NULL && head->kernel > 3 && head->stride == 1 &&
                 head->second < 0 && head->norm[0] == '\0' && !head->relu && head->has_bias &&
                 r->from->values[head->output].c == 1;
    if (!folds) {
        copy_op(r, op, op.output);
        return;
    }
    const Value *small = &r->from->values[op.input];
    Op conv = *head, shuffle = {.kind = OP_SHUFFLE, .name = "shuffle", .second = -1};
    conv.folds_up2 = true;
    conv.input = r->map[op.input].id;
    shuffle.input = graph_add_op(r->to, conv, 4, small->h, small->w);
    r->map[head->output] =
        (Mapped){graph_add_op(r->to, shuffle, 1, 2 * small->h, 2 * small->w), false};
    r->done[next] = true;
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

/* ---- the table ----------------------------------------------------------------------------- */

static Pass *const PASSES[GRAPH_PASS_COUNT] = {fold_norm, fuse, split_concat, late_up2, fold_head};

const char *graph_pass_name(GraphPass pass)
{
    static const char *const NAMES[GRAPH_PASS_COUNT] = {
#define GRAPH_PASS_NAME(NAME, name, text) name,
        GRAPH_PASS_MAP(GRAPH_PASS_NAME)
#undef GRAPH_PASS_NAME
    };
    return NAMES[pass];
}

const char *graph_pass_text(GraphPass pass)
{
    static const char *const TEXTS[GRAPH_PASS_COUNT] = {
#define GRAPH_PASS_TEXT(NAME, name, text) text,
        GRAPH_PASS_MAP(GRAPH_PASS_TEXT)
#undef GRAPH_PASS_TEXT
    };
    return TEXTS[pass];
}

Status graph_rewrite(const Graph *literal, unsigned passes, Graph *ret, Err *err)
{
    Graph *before = malloc(sizeof *before);
    Status status = ST_OK;
    if (before == NULL)
        return err_set(err, ST_NO_MEMORY, "rewriting the network's table");
    *ret = *literal;
    ret->n_stages = 0;
    for (int p = 0; p < GRAPH_PASS_COUNT && status == ST_OK; p++) {
        if ((passes & 1u << p) == 0)
            continue;
        *before = *ret;
        status = run_pass(PASSES[p], before, ret, err);
    }
    free(before);
    return status;
}
