/* From a literal graph to steps of training. See train_steps.h. */
#include "gpu/train_steps.h"

#include <string.h>

static int32_t add_value(TrainSteps *s, int32_t c, int32_t h, int32_t w)
{
    ASSERT(s->n_values < TRAIN_MAX_VALUES);
    s->values[s->n_values] = (TrainValue){.c = c, .h = h, .w = w};
    return s->n_values++;
}

static void copy_values(const Graph *graph, TrainSteps *s)
{
    for (int32_t v = 0; v < graph->n_values; v++)
        (void)add_value(s, graph->values[v].c, graph->values[v].h, graph->values[v].w);
    s->input = graph->input;
    s->output = graph->output;
}

static StepKind step_kind(OpKind kind)
{
    switch (kind) {
    case OP_CONV:
        return STEP_CONV;
    case OP_NORM:
        return STEP_NORM;
    case OP_MAXPOOL:
        return STEP_POOL;
    case OP_UP2:
        return STEP_UP2;
    case OP_CONCAT:
        return STEP_CONCAT;
    default:
        ASSERT(kind == OP_RELU || kind == OP_ADD);
        return STEP_POINT;
    }
}

static void copy_ops(const Graph *graph, TrainSteps *s)
{
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        s->steps[s->n_steps++] = (TrainStep){.kind = step_kind(op->kind),
                                             .op = i,
                                             .kernel = op->kernel,
                                             .stride = op->stride,
                                             .relu = op->kind == OP_RELU,
                                             .repeats = 1,
                                             .input = op->input,
                                             .second = op->second,
                                             .output = op->output};
    }
}

/* The one step that reads value v; -1 if none or several do, or v is the network's output. */
static int32_t only_reader(const TrainSteps *s, int32_t v)
{
    int32_t reader = -1;
    for (int32_t i = 0; i < s->n_steps; i++) {
        const TrainStep *step = &s->steps[i];
        int uses = step->kind == STEP_NONE ? 0 : (step->input == v) + (step->second == v);
        if (uses > 1 || (uses == 1 && reader >= 0))
            return -1;
        reader = uses == 1 ? i : reader;
    }
    return v == s->output ? -1 : reader;
}

static int32_t producer(const TrainSteps *s, int32_t v)
{
    for (int32_t i = 0; i < s->n_steps; i++)
        if (s->steps[i].kind != STEP_NONE && s->steps[i].output == v)
            return i;
    return -1;
}

static void take_out(TrainSteps *s, int32_t i)
{
    s->steps[i] = (TrainStep){.kind = STEP_NONE, .input = -1, .second = -1, .output = -1};
}

/* ---- passes -------------------------------------------------------------------------------- */

/* A sum, then ReLU: one step, in the place of the latter. */
static void fuse_relu(TrainSteps *s)
{
    for (int32_t i = 0; i < s->n_steps; i++) {
        int32_t j = s->steps[i].kind == STEP_POINT && !s->steps[i].relu
                        ? only_reader(s, s->steps[i].output)
                        : -1;
        if (j < 0 || s->steps[j].kind != STEP_POINT || s->steps[j].second >= 0)
            continue;
        s->steps[j].input = s->steps[i].input;
        s->steps[j].second = s->steps[i].second;
        take_out(s, i);
    }
}

static bool is_plain_norm(const TrainSteps *s, int32_t i)
{
    return i >= 0 && s->steps[i].kind == STEP_NORM && !s->steps[i].relu && s->steps[i].second < 0 &&
           only_reader(s, s->steps[i].output) >= 0;
}

/* Batch norm, then a sum or ReLU: one step. Where both parts of a sum are norms, the first. */
static void fuse_norm(TrainSteps *s)
{
    for (int32_t i = 0; i < s->n_steps; i++) {
        TrainStep *point = &s->steps[i];
        if (point->kind != STEP_POINT)
            continue;
        int32_t first = producer(s, point->input), other = point->second;
        int32_t second = other >= 0 ? producer(s, other) : -1;
        int32_t norm = is_plain_norm(s, first) ? first : is_plain_norm(s, second) ? second : -1;
        if (norm < 0)
            continue;
        TrainStep fused = s->steps[norm];
        fused.relu = point->relu;
        fused.second = norm == first ? other : point->input;
        fused.output = point->output;
        *point = fused;
        take_out(s, norm);
    }
}

static void split_head(TrainSteps *s)
{
    for (int32_t i = 0; i < s->n_steps; i++) {
        TrainStep *conv = &s->steps[i];
        if (conv->kind != STEP_CONV || conv->kernel == 1 || conv->stride != 1)
            continue;
        const TrainValue *out = &s->values[conv->output];
        if (out->c != 1)
            continue;
        ASSERT(s->n_steps < TRAIN_MAX_STEPS);
        memmove(conv + 2, conv + 1, (size_t)(s->n_steps - i - 1) * sizeof *conv);
        s->n_steps++;
        conv[1] = conv[0];
        conv[1].kind = STEP_TAPS;
        conv[0].taps = true;
        conv[0].output = add_value(s, conv->kernel * conv->kernel, out->h, out->w);
        conv[1].input = conv[0].output;
        i++;
    }
}

/* The step at j reads the small value x instead of its double, and stands at `at`; nearest x2 of
** what it gives follows, in its old place. */
static void swap_up2(TrainSteps *s, int32_t j, int32_t x, int32_t at)
{
    TrainStep small = s->steps[j];
    const TrainValue *large = &s->values[small.output];
    TrainStep up = {.kind = STEP_UP2, .op = small.op, .second = -1, .output = small.output};
    small.input = x;
    up.input = small.output = add_value(s, large->c, large->h / 2, large->w / 2);
    s->steps[at] = small;
    s->steps[j] = up;
}

static bool move_up2(TrainSteps *s, int32_t i)
{
    int32_t z = s->steps[i].output, x = s->steps[i].input, at = i;
    int32_t j = s->steps[i].kind == STEP_UP2 ? only_reader(s, z) : -1;
    if (j < 0)
        return false;
    TrainStep *reader = &s->steps[j];
    if (reader->kind == STEP_CONV && (reader->kernel == 1 || reader->taps) && reader->stride == 1) {
        swap_up2(s, j, x, i);
        return true;
    }
    if (reader->kind != STEP_NORM || reader->input != z)
        return false;
    if (reader->second >= 0) { /* the residual is doubled, too: then neither is */
        int32_t other = producer(s, reader->second);
        if (other < 0 || s->steps[other].kind != STEP_UP2 || only_reader(s, reader->second) != j)
            return false;
        reader->second = s->steps[other].input;
        at = other > i ? other : i;
        take_out(s, i);
        take_out(s, other);
    }
    reader->repeats *= 4;
    swap_up2(s, j, x, at);
    return true;
}

static void absorb_up2(TrainSteps *s, int32_t i)
{
    int32_t z = s->steps[i].output, j = s->steps[i].kind == STEP_UP2 ? only_reader(s, z) : -1;
    if (j < 0)
        return;
    TrainStep *reader = &s->steps[j];
    bool first = (reader->kind == STEP_CONCAT || reader->kind == STEP_TAPS) && reader->input == z;
    bool second = reader->kind == STEP_NORM && reader->second == z;
    if (!first && !second)
        return;
    *(first ? &reader->input : &reader->second) = s->steps[i].input;
    reader->doubles = true;
    take_out(s, i);
}

Status train_lower(const Graph *graph, TrainSteps *ret, Err *err)
{
    if (graph->n_ops > GRAPH_MAX_OPS)
        return err_set(err, ST_LIMIT, "%d operations", graph->n_ops);
    memset(ret, 0, sizeof *ret);
    copy_values(graph, ret);
    copy_ops(graph, ret);
    fuse_relu(ret);
    fuse_norm(ret);
    split_head(ret);
    for (bool moved = true; moved;) {
        moved = false;
        for (int32_t i = 0; i < ret->n_steps && !moved; i++)
            moved = move_up2(ret, i);
    }
    for (int32_t i = 0; i < ret->n_steps; i++)
        absorb_up2(ret, i);
    int32_t n = 0;
    for (int32_t i = 0; i < ret->n_steps; i++)
        if (ret->steps[i].kind != STEP_NONE)
            ret->steps[n++] = ret->steps[i];
    ret->n_steps = n;
    return ST_OK;
}
