/* Which 3x3 convolutions of the CPU backend go Winograd's way (fewer products for more memory), in
** f32: Winograd 1980; Lavin and Gray 2016. See dnnl_int.h.
**
** Convolutions of one shape are one case. For each case and each of oneDNN's ways a network of that
** one convolution, with the conversions of layout that it needs, is run beside the direct one on
** the same input. Then memory is given to where it saves most time per byte. What was chosen is
** remembered on disk for model, grid, limit, processor and oneDNN, so that later runs give the same
** bits whatever the clock says. */
#include "gpu/dnnl_int.h"

#include "base/clock.h"
#include "base/digest.h"
#include "gpu/cache_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 8 };
#define LEAST_GAIN 0.10     /* of the direct way's time */
#define MOST_ERROR_RMS 1e-4 /* relative, against the direct way */

typedef struct Case { /* one shape: what each way costs */
    const Op *op;     /* the first of its convolutions */
    int32_t n_ops;
    double seconds[WAY_COUNT]; /* INFINITY: oneDNN has no such way */
    double error_rms[WAY_COUNT];
    size_t weights_bytes[WAY_COUNT], scratch_bytes[WAY_COUNT]; /* of one convolution */
} Case;

/* ---- shapes -------------------------------------------------------------------------------- */

static bool fits(const Graph *graph, const Op *op)
{
    return op->kind == OP_CONV && graph_conv_kernel(op) == 3 && op->stride == 1 &&
           graph->values[op->input].c % 16 == 0 && graph->values[op->output].c % 16 == 0 &&
           (op->second < 0 || graph->values[op->input].c == graph->values[op->output].c);
}

static WinogradShape shape_of(const Graph *graph, const Op *op)
{
    const Value *in = &graph->values[op->input], *out = &graph->values[op->output];
    return (WinogradShape){in->c, out->c, in->h, in->w, op->second >= 0, op->relu, WAY_DIRECT};
}

static bool same_shape(const WinogradShape *a, const WinogradShape *b)
{
    return a->c_in == b->c_in && a->c_out == b->c_out && a->h == b->h && a->w == b->w &&
           a->has_residual == b->has_residual && a->has_relu == b->has_relu;
}

static WinogradShape *find_shape(WinogradChoice *choice, const WinogradShape *shape)
{
    for (int32_t i = 0; i < choice->n_shapes; i++)
        if (same_shape(&choice->shapes[i], shape))
            return &choice->shapes[i];
    return NULL;
}

WinogradWay winograd_way(const WinogradChoice *choice, const Graph *graph, const Op *op)
{
    WinogradChoice *c = (WinogradChoice *)(uintptr_t)choice;
    if (choice->n_shapes == 0 || !fits(graph, op))
        return WAY_DIRECT;
    WinogradShape shape = shape_of(graph, op);
    const WinogradShape *found = find_shape(c, &shape);
    return found != NULL ? found->way : WAY_DIRECT;
}

/* Shapes beyond the table's room stay direct. */
static void list_shapes(const Graph *graph, WinogradChoice *ret, Case *cases)
{
    *ret = (WinogradChoice){0};
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        if (!fits(graph, op))
            continue;
        WinogradShape shape = shape_of(graph, op), *found = find_shape(ret, &shape);
        if (found == NULL && ret->n_shapes < WINOGRAD_MAX_SHAPES) {
            found = &ret->shapes[ret->n_shapes];
            cases[ret->n_shapes++] = (Case){.op = op};
            *found = shape;
        }
        if (found != NULL)
            cases[found - ret->shapes].n_ops++;
    }
}

/* ---- measuring ----------------------------------------------------------------------------- */

/* A network of one convolution; its residual, if it has one, is its input through a ReLU. */
static void build_case(const Graph *graph, const Op *from, Graph *ret)
{
    const Value *in = &graph->values[from->input], *out = &graph->values[from->output];
    Op op = *from;
    *ret = (Graph){0};
    op.input = ret->input = graph_add_value(ret, in->c, in->h, in->w);
    if (op.second >= 0) {
        const Op relu = {.kind = OP_RELU, .name = "relu", .input = ret->input, .second = -1};
        op.second = graph_add_op(ret, relu, in->c, in->h, in->w);
    }
    ret->output = graph_add_op(ret, op, out->c, out->h, out->w);
    graph_plan(ret);
}

static float *values_of(const Dnnl *d, int32_t value)
{
    return (float *)(void *)(d->workers[0].values + d->graph->values[value].offset_bytes);
}

/* The same non-negative numbers each time. */
static void fill_input(const Dnnl *d)
{
    size_t n = (size_t)graph_value_elements(&d->graph->values[d->graph->input]);
    float *x = values_of(d, d->graph->input);
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(state >> 8) * 0x1p-24f;
    }
}

static Status run_once(const Dnnl *d, double *best_s, Err *err)
{
    int32_t failed = 0;
    fill_input(d);
    double start = clock_thread_s();
    dnnl_status_t s = dnnl_run_steps(d, &d->workers[0], &failed);
    double seconds = clock_thread_s() - start;
    *best_s = seconds < *best_s ? seconds : *best_s;
    return dnnl_check(s, &d->graph->ops[failed], "measuring", err);
}

static double error_rms(const Dnnl *direct, const Dnnl *other)
{
    size_t n = (size_t)graph_value_elements(&direct->graph->values[direct->graph->output]);
    const float *want = values_of(direct, direct->graph->output);
    const float *got = values_of(other, other->graph->output);
    double difference = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        square += (double)want[i] * (double)want[i];
    }
    return square > 0 ? sqrt(difference / square) : 0;
}

/* ways[way] is open or NULL: runs them in turn. */
static Status measure_ways(Dnnl *const ways[WAY_COUNT], Case *c, Err *err)
{
    for (int way = 0; way < WAY_COUNT; way++) {
        c->seconds[way] = (double)INFINITY;
        c->weights_bytes[way] = ways[way] != NULL ? ways[way]->weights.used_bytes : 0;
        c->scratch_bytes[way] = ways[way] != NULL ? ways[way]->scratch_bytes : 0;
    }
    for (int round = 0; round < ROUNDS; round++)
        for (int way = 0; way < WAY_COUNT; way++)
            if (ways[way] != NULL)
                TRY(run_once(ways[way], &c->seconds[way], err));
    for (int way = 0; way < WAY_COUNT; way++)
        c->error_rms[way] = ways[way] != NULL ? error_rms(ways[WAY_DIRECT], ways[way]) : 0;
    return ST_OK;
}

/* A way that oneDNN does not have for the shape stays NULL. */
static Status open_way(const Graph *one, const Model *model, const WinogradShape *shape,
                       WinogradWay way, Dnnl **ret, Err *err)
{
    const BackendOptions options = {.precision = PRECISION_F32, .threads = 1, .batch = 1};
    WinogradChoice choice = {.n_shapes = 1, .shapes = {*shape}};
    Err why = {0};
    choice.shapes[0].way = way;
    Status status = dnnl_open_with(one, model, &options, &choice, ret, &why);
    if (status == ST_OK || (way != WAY_DIRECT && status == ST_BACKEND))
        return ST_OK;
    return err_set(err, status, "%s", why.msg);
}

static Status measure_case(const Graph *graph, const Model *model, const WinogradShape *shape,
                           Case *c, Err *err)
{
    Dnnl *ways[WAY_COUNT] = {NULL};
    Graph *one = malloc(sizeof *one);
    if (one == NULL)
        return err_set(err, ST_NO_MEMORY, "measuring convolutions");
    build_case(graph, c->op, one);
    Status status = ST_OK;
    for (int way = 0; status == ST_OK && way < WAY_COUNT; way++)
        status = open_way(one, model, shape, (WinogradWay)way, &ways[way], err);
    if (status == ST_OK)
        status = measure_ways(ways, c, err);
    for (int way = 0; way < WAY_COUNT; way++)
        dnnl_close(ways[way]);
    free(one);
    return status;
}

/* ---- choosing ------------------------------------------------------------------------------ */

/* Of all convolutions of the shape; 0 if the way is not good enough. */
static double gain_s(const Case *c, WinogradWay way)
{
    bool good = way != WAY_DIRECT && c->error_rms[way] < MOST_ERROR_RMS &&
                c->seconds[way] <= (1 - LEAST_GAIN) * c->seconds[WAY_DIRECT];
    return good ? c->n_ops * (c->seconds[WAY_DIRECT] - c->seconds[way]) : 0;
}

static double cost_bytes(const Case *c, WinogradWay way)
{
    return (double)c->n_ops * (double)c->weights_bytes[way] + (double)c->scratch_bytes[way];
}

/* Step by step what saves most time per byte among all that still fits. */
static void spend(const Case *cases, double bytes, WinogradChoice *choice)
{
    for (;;) {
        double best = 0, price = 0;
        WinogradShape *at = NULL;
        WinogradWay to = WAY_DIRECT;
        for (int32_t i = 0; i < choice->n_shapes; i++)
            for (int k = 0; k < WAY_COUNT; k++) {
                WinogradWay way = (WinogradWay)k, now = choice->shapes[i].way;
                double gain = gain_s(&cases[i], way) - gain_s(&cases[i], now);
                double more = cost_bytes(&cases[i], way) - cost_bytes(&cases[i], now);
                if (gain <= 0 || more > bytes || gain / fmax(more, 1) <= best)
                    continue;
                best = gain / fmax(more, 1);
                price = more;
                at = &choice->shapes[i];
                to = way;
            }
        if (at == NULL)
            return;
        at->way = to;
        bytes -= price;
    }
}

static Status measure_all(const Graph *graph, const Model *model, int32_t mib, Case *cases,
                          WinogradChoice *choice, Err *err)
{
    for (int32_t i = 0; i < choice->n_shapes; i++) {
        choice->shapes[i].way = WAY_DIRECT;
        TRY(measure_case(graph, model, &choice->shapes[i], &cases[i], err));
    }
    spend(cases, (double)mib * 1024 * 1024, choice);
    return ST_OK;
}

/* ---- remembering --------------------------------------------------------------------------- */

/* The processor's name as Linux gives it, "" if it does not. */
static void processor_name(char ret[128])
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "re");
    ret[0] = '\0';
    while (file != NULL && ret[0] == '\0' && fgets(line, sizeof line, file) != NULL)
        (void)sscanf(line, "model name : %127[^\n]", ret);
    if (file != NULL)
        (void)fclose(file);
}

static void name_cache(const Graph *graph, const Model *model, int32_t mib, CacheFile *ret)
{
    const Value *in = &graph->values[graph->input];
    const dnnl_version_t *v = dnnl_version();
    char processor[128], key[CACHE_KEY_SIZE];
    processor_name(processor);
    (void)snprintf(key, sizeof key,
                   "model=%s grid=%dx%d mib=%d processor=%s isa=%x oneDNN=%d.%d.%d-%.16s",
                   model_info(model)->digest, in->h, in->w, mib, processor,
                   (unsigned)dnnl_get_effective_cpu_isa(), v->major, v->minor, v->patch, v->hash);
    cache_file_name("winograd", "ct2mr-winograd-1", key, ret);
}

/* A line per shape. */
static char *choice_text(const WinogradChoice *choice)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return NULL;
    for (int32_t i = 0; i < choice->n_shapes; i++) {
        const WinogradShape *s = &choice->shapes[i];
        (void)fprintf(out, "%d %d %d %d %d %d %d\n", s->c_in, s->c_out, s->h, s->w, s->has_residual,
                      s->has_relu, (int)s->way);
    }
    (void)fclose(out);
    return text;
}

/* The ways from a remembered text; false if it is not of these shapes. */
static bool read_ways(const char *text, WinogradChoice *choice)
{
    for (int32_t i = 0; i < choice->n_shapes; i++) {
        WinogradShape s = {0};
        int residual, relu, way, n = 0;
        if (sscanf(text, "%d %d %d %d %d %d %d%n", &s.c_in, &s.c_out, &s.h, &s.w, &residual, &relu,
                   &way, &n) != 7 ||
            way < 0 || way >= WAY_COUNT)
            return false;
        s.has_residual = residual != 0;
        s.has_relu = relu != 0;
        if (!same_shape(&s, &choice->shapes[i]))
            return false;
        choice->shapes[i].way = (WinogradWay)way;
        text += n;
    }
    return true;
}

static void name_choice(const char *text, WinogradChoice *choice)
{
    char hex[DIGEST_HEX_SIZE];
    bool any = false;
    for (int32_t i = 0; i < choice->n_shapes; i++)
        any = any || choice->shapes[i].way != WAY_DIRECT;
    digest_text(text, hex);
    if (any)
        (void)snprintf(choice->name, sizeof choice->name, "winograd=%.12s", hex);
    else
        *choice = (WinogradChoice){0};
}

Status winograd_choose(const Graph *graph, const Model *model, int32_t mib, WinogradChoice *ret,
                       Err *err)
{
    Case cases[WINOGRAD_MAX_SHAPES];
    WinogradChoice choice;
    CacheFile cache;
    list_shapes(graph, &choice, cases);
    name_cache(graph, model, mib, &cache);
    *ret = (WinogradChoice){0};
    if (choice.n_shapes == 0 || cache.path[0] == '\0')
        return ST_OK;
    char *text = cache_file_read(&cache);
    if (text == NULL || !read_ways(text, &choice)) {
        free(text);
        TRY(measure_all(graph, model, mib, cases, &choice, err));
        text = choice_text(&choice);
        if (text == NULL)
            return err_set(err, ST_NO_MEMORY, "the choice of convolutions");
        if (!cache_file_write(&cache, text)) { /* it would be another one the next time */
            free(text);
            return ST_OK;
        }
    }
    name_choice(text, &choice);
    free(text);
    *ret = choice;
    return ST_OK;
}
