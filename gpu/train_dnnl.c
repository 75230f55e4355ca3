/* The CPU training engine: oneDNN's convolutions, loops of ours between them. See
** train_dnnl_int.h, train_steps.h.
**
** All primitives are made and all memory is reserved in open: for the values and gradients of a
** step, by their lifetimes, and for weights in oneDNN's layouts. A step with fewer slices than
** `batch` computes the others too, as zeros. */
#include "gpu/train_dnnl_int.h"

#include "gpu/backend.h"

#include <stdlib.h>
#include <string.h>

enum { ROOM = 64 }; /* an arena rounds every piece up to it */

Status train_dnnl_check(dnnl_status_t status, const char *name, const char *what, Err *err)
{
    if (status == dnnl_success)
        return ST_OK;
    Status ret = status == dnnl_out_of_memory ? ST_NO_MEMORY : ST_BACKEND;
    (void)err_set(err, ret, "oneDNN: %s%s%s: status %d", what, name[0] != '\0' ? " of " : "", name,
                  (int)status);
    if (err != NULL)
        err->native = (int)status;
    return ret;
}

Status train_dnnl_call(const TrainDnnl *d, const Call *call, const char *name, Err *err)
{
    if (call->primitive == NULL)
        return ST_OK;
    dnnl_status_t s = dnnl_primitive_execute(call->primitive, d->stream, call->n, call->args);
    if (s == dnnl_success)
        s = dnnl_stream_wait(d->stream);
    return train_dnnl_check(s, name, "running", err);
}

void *train_dnnl_piece(const TrainDnnl *d, int32_t piece)
{
    return piece < 0 ? NULL : d->value_base + d->steps->pieces[piece].offset_bytes;
}

/* ---- opening and closing ------------------------------------------------------------------- */

static size_t weights_bytes(const TrainNet *net, const TrainDnnl *d)
{
    const TrainSteps *s = d->steps;
    size_t total = d->scratch_bytes + d->gradient_bytes + 4 * ROOM;
    for (int32_t i = 0; i < net->n_parameters; i++) { /* two layouts, channels rounded up to 64 */
        const TrainParameter *p = &net->parameters[i];
        size_t area = p->n_dims == 4 ? (size_t)(p->dims[2] * p->dims[3]) : 1;
        size_t c_in = p->n_dims == 4 ? (size_t)p->dims[1] + 64 : 1;
        size_t c_out = p->n_dims == 4 && p->dims[0] == 1 ? 64 + area : (size_t)p->dims[0] + 64;
        total += 2 * (4 * c_out * c_in * area + ROOM);
    }
    for (int32_t v = 0; v < s->n_values; v++) /* statistics and work of norms */
        total += 5 * ((size_t)s->values[v].c * sizeof(float) + ROOM);
    total += (size_t)net->batch * (size_t)train_value_elements(&s->values[s->output]) * 4 + ROOM;
    return total;
}

static Status take(TrainDnnl *d, size_t n, float **ret, Err *err)
{
    *ret = arena_alloc(&d->weights, n, sizeof **ret, err);
    return *ret != NULL ? ST_OK : ST_LIMIT;
}

static Status open_norm(const TrainNet *net, TrainDnnl *d, int32_t i, Err *err)
{
    const TrainStep *step = &d->steps->steps[i];
    const TrainTensors *t = &net->of_op[step->op];
    LoopNorm *norm = &d->norms[i];
    size_t c = (size_t)t->weight->n;
    *norm = (LoopNorm){.repeats = step->repeats,
                       .gamma = t->weight->value,
                       .beta = t->bias->value,
                       .running_mean = t->mean->value,
                       .running_variance = t->variance->value,
                       .dgamma = t->weight->gradient,
                       .dbeta = t->bias->gradient};
    TRY(take(d, c, &norm->mean, err));
    TRY(take(d, c, &norm->inverse_sd, err));
    TRY(take(d, c, &norm->scale, err));
    TRY(take(d, c, &norm->k0, err));
    return take(d, c, &norm->k2, err);
}

static Status open_loop_memory(TrainDnnl *d, Err *err)
{
    size_t line = 1, c = 1, parts = (size_t)d->team.threads;
    for (int32_t v = 0; v < d->steps->n_values; v++) {
        const TrainValue *value = &d->steps->values[v];
        size_t here = (size_t)value->c * (size_t)value->w;
        line = here > line ? here : line;
        c = (size_t)value->c > c ? (size_t)value->c : c;
    }
    size_t each = LOOP_LINES * line * sizeof(float) + 2 * c * (sizeof(float) + sizeof(double));
    d->memory = calloc(parts, sizeof *d->memory);
    if (d->memory == NULL)
        return err_set(err, ST_NO_MEMORY, "tables of %zu threads", parts);
    TRY(arena_open((size_t)d->steps->arena_bytes + parts * (each + 4 * ROOM) + ROOM, &d->values,
                   err));
    d->value_base = arena_alloc(&d->values, (size_t)d->steps->arena_bytes, 1, err);
    for (size_t k = 0; k < parts; k++) {
        LoopMemory *m = &d->memory[k];
        m->line_length = line;
        m->lines = arena_alloc(&d->values, LOOP_LINES * line, sizeof(float), err);
        m->rows = arena_alloc(&d->values, 2 * c, sizeof(float), err);
        m->sums = arena_alloc(&d->values, 2 * c, sizeof(double), err);
        if (d->value_base == NULL || m->lines == NULL || m->rows == NULL || m->sums == NULL)
            return ST_LIMIT;
    }
    return ST_OK;
}

static Status open_memory(TrainNet *net, TrainDnnl *d, Err *err)
{
    const TrainSteps *s = d->steps;
    TRY(open_loop_memory(d, err));
    TRY(arena_open(weights_bytes(net, d), &d->weights, err));
    d->scratch = arena_alloc(&d->weights, d->scratch_bytes + 1, 1, err);
    d->gradient = arena_alloc(&d->weights, d->gradient_bytes + 1, 1, err);
    if (d->scratch == NULL || d->gradient == NULL)
        return ST_LIMIT;
    for (int32_t i = 0; i < s->n_steps; i++)
        if (s->steps[i].kind == STEP_NORM)
            TRY(open_norm(net, d, i, err));
    TRY(take(d, (size_t)net->batch * (size_t)train_value_elements(&s->values[s->output]), &d->y,
             err));
    return train_dnnl_bind_convs(net, d, err);
}

static Status open_parts(TrainNet *net, TrainDnnl *d, Err *err)
{
    d->steps = calloc(1, sizeof *d->steps);
    if (d->steps == NULL)
        return err_set(err, ST_NO_MEMORY, "the table of steps");
    TRY(train_lower(net->graph, d->steps, err));
    TRY(train_plan(net->batch, net->precision == PRECISION_BF16 ? 2 : 4, net->frozen, d->steps,
                   err));
    d->convs = calloc((size_t)d->steps->n_steps + 1, sizeof *d->convs);
    d->norms = calloc((size_t)d->steps->n_steps + 1, sizeof *d->norms);
    if (d->convs == NULL || d->norms == NULL)
        return err_set(err, ST_NO_MEMORY, "tables of %d steps", d->steps->n_steps);
    TRY(train_dnnl_check(dnnl_engine_create(&d->engine, dnnl_cpu, 0), "", "making the engine",
                         err));
    TRY(train_dnnl_check(dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags), "",
                         "making a stream", err));
    TRY(train_dnnl_make_convs(net, d, err));
    return open_memory(net, d, err);
}

static Status cpu_open(TrainNet *net, Err *err)
{
    TrainDnnl *d = calloc(1, sizeof *d);
    if (d == NULL)
        return err_set(err, ST_NO_MEMORY, "opening training backend cpu");
    net->state = d;
    TRY(dnnl_team_find(net->threads, &d->team, err));
    int before = dnnl_team_enter(&d->team); /* primitives settle their blocking when made */
    Status status = open_parts(net, d, err);
    dnnl_team_leave(&d->team, before);
    return status;
}

static void cpu_close(TrainNet *net)
{
    TrainDnnl *d = net->state;
    if (d == NULL)
        return;
    train_dnnl_destroy_convs(d);
    (void)dnnl_stream_destroy(d->stream);
    (void)dnnl_engine_destroy(d->engine);
    arena_close(&d->values);
    arena_close(&d->weights);
    free(d->convs);
    free(d->norms);
    free(d->memory);
    free(d->steps);
    free(d);
}

/* ---- running ------------------------------------------------------------------------------- */

static Status lay_out(const TrainNet *net, const TrainDnnl *d, Err *err)
{
    for (int32_t i = 0; i < d->steps->n_steps; i++) {
        const char *name = net->graph->ops[d->steps->steps[i].op].name;
        TRY(train_dnnl_call(d, &d->convs[i].lay_forward, name, err));
        TRY(train_dnnl_call(d, &d->convs[i].lay_back, name, err));
    }
    return ST_OK;
}

static Status cpu_changed(TrainNet *net, Err *err)
{
    const TrainDnnl *d = net->state;
    int before = dnnl_team_enter(&d->team);
    Status status = lay_out(net, d, err);
    dnnl_team_leave(&d->team, before);
    return status;
}

static Tensor4 tensor(const TrainDnnl *d, int32_t value, int32_t piece)
{
    if (value < 0 || piece < 0)
        return (Tensor4){0};
    const TrainValue *v = &d->steps->values[value];
    return (Tensor4){train_dnnl_piece(d, piece), v->c, v->h, v->w, v->element_bytes == 2};
}

static Tensor4 value_of(const TrainDnnl *d, int32_t value)
{
    return tensor(d, value, value < 0 ? -1 : d->steps->values[value].piece);
}

static Loop loop_of(const TrainNet *net, TrainDnnl *d, int32_t i)
{
    const TrainStep *step = &d->steps->steps[i];
    const TrainParameter *bias = net->of_op[step->op].bias;
    Loop loop = {.team = &d->team,
                 .memory = d->memory,
                 .n = net->n,
                 .x = value_of(d, step->input),
                 .x2 = value_of(d, step->second),
                 .y = value_of(d, step->output),
                 .relu = step->relu,
                 .doubles = step->doubles,
                 .kernel = step->kernel,
                 .norm = &d->norms[i]};
    if (step->kind == STEP_POOL)
        loop.largest = train_dnnl_piece(d, step->workspace);
    if (step->kind == STEP_TAPS && bias != NULL) {
        loop.bias = bias->value;
        loop.dbias = bias->gradient;
    }
    return loop;
}

/* Slices that are not there count for nothing: convolutions see zeros. */
static void clear_rest(const TrainNet *net, const Tensor4 *t)
{
    size_t slice = (size_t)t->c * (size_t)t->h * (size_t)t->w * (t->bf16 ? 2 : 4);
    if (t->data != NULL && net->n < net->batch)
        memset((unsigned char *)t->data + (size_t)net->n * slice, 0,
               (size_t)(net->batch - net->n) * slice);
}

static Status forward_step(TrainNet *net, TrainDnnl *d, int32_t i, Err *err)
{
    static void (*const LOOPS[])(Loop *) = {
        [STEP_TAPS] = loop_taps, [STEP_NORM] = loop_norm, [STEP_POINT] = loop_point,
        [STEP_POOL] = loop_pool, [STEP_UP2] = loop_up2,   [STEP_CONCAT] = loop_concat};
    const TrainStep *step = &d->steps->steps[i];
    if (step->kind == STEP_CONV)
        return train_dnnl_call(d, &d->convs[i].forward, net->graph->ops[step->op].name, err);
    Loop loop = loop_of(net, d, i);
    d->norms[i].batch_statistics = net->batch_statistics;
    LOOPS[step->kind](&loop);
    clear_rest(net, &loop.y);
    return ST_OK;
}

static Status backward_step(TrainNet *net, TrainDnnl *d, int32_t i, bool wants_dx, Err *err)
{
    static void (*const LOOPS[])(Loop *) = {
        [STEP_TAPS] = loop_taps_back,   [STEP_NORM] = loop_norm_back,
        [STEP_POINT] = loop_point_back, [STEP_POOL] = loop_pool_back,
        [STEP_UP2] = loop_up2_back,     [STEP_CONCAT] = loop_concat_back};
    const TrainStep *step = &d->steps->steps[i];
    const TrainValue *out = &d->steps->values[step->output];
    const char *name = net->graph->ops[step->op].name;
    const ConvStep *conv = &d->convs[i];
    Loop loop = loop_of(net, d, i);
    loop.dx = tensor(d, step->input, step->d_input);
    loop.dx2 = tensor(d, step->second, step->d_second);
    loop.n_parts = out->n_parts;
    for (int32_t k = 0; k < out->n_parts; k++)
        loop.parts[k] = tensor(d, step->output, out->parts[k]);
    if (out->n_parts > 1 && step->kind != STEP_NORM && step->kind != STEP_POINT)
        loop_add_parts(&loop);
    if (step->kind == STEP_CONV) {
        if (step->input != d->steps->input || wants_dx)
            TRY(train_dnnl_call(d, &conv->back_data, name, err));
        TRY(train_dnnl_call(d, &conv->back_weights, name, err));
        return train_dnnl_call(d, &conv->take_gradient, name, err);
    }
    LOOPS[step->kind](&loop);
    clear_rest(net, &loop.dx);
    clear_rest(net, &loop.dx2);
    return ST_OK;
}

/* A loop whose x is that value or gradient, for plain memory. */
static Loop plain_loop(const TrainNet *net, TrainDnnl *d, int32_t value, int32_t piece)
{
    return (Loop){.team = &d->team, .memory = d->memory, .n = net->n, .x = tensor(d, value, piece)};
}

static Status cpu_forward(TrainNet *net, const float *x, const float **ret_y, Err *err)
{
    TrainDnnl *d = net->state;
    const TrainSteps *s = d->steps;
    Status status = ST_OK;
    int before = dnnl_team_enter(&d->team);
    Loop in = plain_loop(net, d, s->input, s->values[s->input].piece);
    loop_interleave(&in, x);
    clear_rest(net, &in.x);
    for (int32_t i = 0; status == ST_OK && i < s->n_steps; i++)
        status = forward_step(net, d, i, err);
    Loop out = plain_loop(net, d, s->output, s->values[s->output].piece);
    if (status == ST_OK)
        loop_separate(&out, d->y);
    dnnl_team_leave(&d->team, before);
    *ret_y = d->y;
    return status;
}

static Status cpu_backward(TrainNet *net, const float *dy, float *ret_dx, Err *err)
{
    TrainDnnl *d = net->state;
    const TrainSteps *s = d->steps;
    Status status = ST_OK;
    int before = dnnl_team_enter(&d->team);
    Loop out = plain_loop(net, d, s->output, s->values[s->output].parts[0]);
    loop_interleave(&out, dy);
    clear_rest(net, &out.x);
    for (int32_t i = s->n_steps - 1; status == ST_OK && i >= 0; i--)
        status = backward_step(net, d, i, ret_dx != NULL, err);
    if (status == ST_OK && ret_dx != NULL) {
        Loop in = plain_loop(net, d, s->input, s->values[s->input].parts[0]);
        in.y = in.x;
        in.n_parts = s->values[s->input].n_parts;
        for (int32_t k = 0; k < in.n_parts; k++)
            in.parts[k] = tensor(d, s->input, s->values[s->input].parts[k]);
        if (in.n_parts > 1)
            loop_add_parts(&in);
        loop_separate(&in, ret_dx);
    }
    dnnl_team_leave(&d->team, before);
    return status;
}

static unsigned cpu_precisions(void)
{
    return 1u << PRECISION_F32 | (backend_dnnl.precisions() & 1u << PRECISION_BF16);
}

const TrainBackend train_backend_cpu = {"cpu",       cpu_precisions, cpu_open, cpu_changed,
                                        cpu_forward, cpu_backward,   cpu_close};
