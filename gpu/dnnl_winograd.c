/* Which 3x3 convolutions of the CPU backend go Winograd's way (fewer products for more memory), in
** f32: Winograd 1980; Lavin and Gray 2016. See dnnl_int.h.
**
** Convolutions of one shape are one case. Memory is given step by step to where it saves most time
** per byte. Time is estimated from the shape alone: a clock would choose otherwise from run to run,
** and with the choice the last bits change. The estimate's three constants were measured. */
#include "gpu/dnnl_int.h"

#include "base/digest.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Time of a way in units of a direct product's: products at the rate of oneDNN 2.6 (AVX-512, two
** processors' medians), and what a value costs that is brought from one layout to the other. */
static const double PRODUCT_COST[] = {1, 0.62, 0.46};
static const int32_t TILE[] = {1, 2, 4};
#define CONVERSION_COST 40.0
#define LEAST_GAIN 0.10 /* of the direct way's time */

typedef struct Case { /* one shape */
    const Op *op;     /* the first of its convolutions */
    int32_t n_ops;
    bool has[WAY_COUNT]; /* oneDNN has such a way */
    double cost[WAY_COUNT];
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

/* choice->n_shapes if it is not there. */
static int32_t find_shape(const WinogradChoice *choice, const WinogradShape *shape)
{
    int32_t i = 0;
    while (i < choice->n_shapes && !same_shape(&choice->shapes[i], shape))
        i++;
    return i;
}

WinogradWay winograd_way(const WinogradChoice *choice, const Graph *graph, const Op *op)
{
    if (choice->n_shapes == 0 || !fits(graph, op))
        return WAY_DIRECT;
    WinogradShape shape = shape_of(graph, op);
    int32_t i = find_shape(choice, &shape);
    return i < choice->n_shapes ? choice->shapes[i].way : WAY_DIRECT;
}

/* Shapes beyond the table's room stay direct. */
static void list_shapes(const Graph *graph, WinogradChoice *ret, Case *cases)
{
    *ret = (WinogradChoice){0};
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        if (!fits(graph, op))
            continue;
        const WinogradShape shape = shape_of(graph, op);
        int32_t k = find_shape(ret, &shape);
        if (k == WINOGRAD_MAX_SHAPES)
            continue;
        if (k == ret->n_shapes) {
            cases[k] = (Case){.op = op};
            ret->shapes[ret->n_shapes++] = shape;
        }
        cases[k].n_ops++;
    }
}

/* ---- what a way costs ---------------------------------------------------------------------- */

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

static double cost_of(const WinogradShape *s, WinogradWay way)
{
    double m = TILE[way], pixels = ceil(s->h / m) * m * ceil(s->w / m) * m;
    double products = 9.0 * s->c_in * s->c_out * pixels;
    double converted = (double)(s->c_in + s->c_out) * s->h * s->w;
    return PRODUCT_COST[way] * products + (way != WAY_DIRECT ? CONVERSION_COST * converted : 0);
}

static Status weigh_case(const Graph *graph, const WinogradShape *shape, Case *c, Err *err)
{
    Graph *one = malloc(sizeof *one);
    if (one == NULL)
        return err_set(err, ST_NO_MEMORY, "the network's table");
    build_case(graph, c->op, one);
    Status status = ST_OK;
    for (int k = 0; status == ST_OK && k < WAY_COUNT; k++) {
        WinogradWay way = (WinogradWay)k;
        WinogradChoice choice = {.n_shapes = 1, .shapes = {*shape}};
        choice.shapes[0].way = way;
        c->cost[way] = cost_of(shape, way);
        status = dnnl_weigh_conv(one, &choice, &c->has[way], &c->weights_bytes[way],
                                 &c->scratch_bytes[way], err);
    }
    free(one);
    return status;
}

/* ---- choosing ------------------------------------------------------------------------------ */

/* Of all convolutions of the shape; 0 if the way is not good enough. */
static double gain_of(const Case *c, WinogradWay way)
{
    bool good =
        way != WAY_DIRECT && c->has[way] && c->cost[way] <= (1 - LEAST_GAIN) * c->cost[WAY_DIRECT];
    return good ? c->n_ops * (c->cost[WAY_DIRECT] - c->cost[way]) : 0;
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
                double gain = gain_of(&cases[i], way) - gain_of(&cases[i], now);
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

/* A name for the recipe: the ways of all shapes. */
static void name_choice(WinogradChoice *choice)
{
    char text[WINOGRAD_MAX_SHAPES * 64] = "", hex[DIGEST_HEX_SIZE];
    size_t used = 0;
    bool any = false;
    for (int32_t i = 0; i < choice->n_shapes; i++) {
        const WinogradShape *s = &choice->shapes[i];
        int n = snprintf(text + used, sizeof text - used, "%d %d %d %d %d %d %d\n", s->c_in,
                         s->c_out, s->h, s->w, s->has_residual, s->has_relu, (int)s->way);
        ASSERT(n > 0 && (size_t)n < sizeof text - used);
        used += (size_t)n;
        any = any || s->way != WAY_DIRECT;
    }
    digest_text(text, hex);
    if (any)
        (void)snprintf(choice->name, sizeof choice->name, "winograd=%.12s", hex);
    else
        *choice = (WinogradChoice){0};
}

/* oneDNN has other ways for other numbers of threads: it is asked as primitives are made. */
static Status weigh_cases(const Graph *graph, const WinogradChoice *choice, Case *cases, Err *err)
{
    DnnlTeam team;
    TRY(dnnl_team_find(1, &team, err));
    int before = dnnl_team_enter(&team);
    Status status = ST_OK;
    for (int32_t i = 0; status == ST_OK && i < choice->n_shapes; i++)
        status = weigh_case(graph, &choice->shapes[i], &cases[i], err);
    dnnl_team_leave(&team, before);
    return status;
}

Status winograd_choose(const Graph *graph, int32_t mib, WinogradChoice *ret, Err *err)
{
    Case cases[WINOGRAD_MAX_SHAPES];
    WinogradChoice choice;
    list_shapes(graph, &choice, cases);
    TRY(weigh_cases(graph, &choice, cases, err));
    spend(cases, (double)mib * 1024 * 1024, &choice);
    name_choice(&choice);
    *ret = choice;
    return ST_OK;
}
