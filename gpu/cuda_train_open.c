/* Opening a training on a GPU: steps in halves, plans, memory. See cuda_train_int.h. */
#include "gpu/cuda_train_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN_FLOATS = CUDA_ALIGN_BYTES / (int)sizeof(float) };

static size_t largest(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* ---- plans --------------------------------------------------------------------------------- */

static Status plan_conv(const TrainNet *net, TrainCuda *d, int32_t i, const PlanMaker *maker,
                        Err *err)
{
    const TrainStep *step = &d->steps->steps[i];
    CudaConv *conv = &d->convs[i];
    int32_t *const plans[3] = {&conv->forward, &conv->back_data, &conv->back_weights};
    for (int pass = CONV_FORWARD; pass <= (net->frozen ? CONV_BACK_DATA : CONV_BACK_WEIGHTS);
         pass++) {
        const ConvShape shape = cuda_train_conv_shape(d->steps, step, net->batch, (ConvPass)pass);
        TRY(plan_set_add(&d->plans, maker, &shape, plans[pass], err));
    }
    const TrainParameter *weight = net->of_op[step->op].weight;
    int32_t area = (int32_t)(weight->dims[2] * weight->dims[3]);
    conv->side = step->taps ? 1 : (int32_t)weight->dims[2];
    conv->n_out = step->taps ? area : (int32_t)weight->dims[0];
    conv->n_in = (int32_t)weight->dims[1];
    conv->stride_o = step->taps ? 1 : area * conv->n_in;
    conv->stride_i = area;
    return ST_OK;
}

static Status make_plans(const TrainNet *net, TrainCuda *d, Err *err)
{
    const TrainSteps *s = d->steps;
    const TrainValue *in = &s->values[s->input];
    PlanCache cache;
    const PlanMaker maker = {
        .cache = &cache, .profile = d->profile, .handle = d->api->plans_by_handle ? d->dnn : NULL};
    char key[512];
    Status status = ST_OK;
    (void)snprintf(key, sizeof key,
                   "training, %d steps, %zu numbers, %dx%dx%d, gpu %s sm_%d, driver %d, cuDNN %zu",
                   s->n_steps, d->n_numbers, net->batch, in->h, in->w, d->device.name,
                   d->device.compute, d->device.driver, cudnnGetVersion());
    plan_cache_open(key, &cache);
    for (int32_t i = 0; status == ST_OK && i < s->n_steps; i++)
        if (s->steps[i].kind == STEP_CONV)
            status = plan_conv(net, d, i, &maker, err);
    if (status == ST_OK && d->plans.changed)
        plan_cache_write(&cache, d->plans.plans, d->plans.n);
    plan_cache_close(&cache);
    return status;
}

/* ---- memory -------------------------------------------------------------------------------- */

static void place_parameters(const TrainNet *net, TrainCuda *d)
{
    for (int trained = 1; trained >= 0; trained--) {
        for (int32_t i = 0; i < net->n_parameters; i++) {
            const TrainParameter *p = &net->parameters[i];
            if ((p->gradient != NULL) != (trained == 1))
                continue;
            d->offsets[i] = d->n_numbers;
            d->n_numbers += ((size_t)p->n + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
        }
        if (trained == 1)
            d->n_trained = d->n_numbers;
    }
}

static size_t weight_halves(const TrainCuda *d, int32_t i)
{
    const TrainStep *step = &d->steps->steps[i];
    size_t side = (size_t)d->convs[i].side;
    return (size_t)d->steps->values[step->output].c * side * side *
           (size_t)d->steps->values[step->input].c;
}

/* Numbers of the first level of the sums over all pixels. */
static size_t sums_of(const TrainNet *net, const TrainCuda *d, const TrainStep *step)
{
    const TrainValue *out = &d->steps->values[step->output];
    size_t pixels = (size_t)net->batch * (size_t)out->h * (size_t)out->w;
    size_t rows = (pixels + SUM_PIXELS - 1) / SUM_PIXELS;
    if (step->kind == STEP_TAPS)
        return (pixels + SUM_ROWS - 1) / SUM_ROWS;
    return step->kind == STEP_NORM   ? 2 * rows * (size_t)out->c
           : step->kind == STEP_CONV ? rows * (size_t)out->c
                                     : 0;
}

static KernelNorm norm_of(const TrainNet *net, const TrainCuda *d, const TrainStep *step,
                          unsigned char *base, size_t *used)
{
    const TrainTensors *t = &net->of_op[step->op];
    size_t bytes = (size_t)t->weight->n * sizeof(float);
    KernelNorm norm = {.epsilon = GRAPH_BATCH_NORM_EPSILON, .repeats = step->repeats};
    float **const own[5] = {&norm.mean, &norm.inverse_sd, &norm.scale, &norm.k0, &norm.k2};
    for (int k = 0; k < 5; k++)
        *own[k] = (float *)(void *)cuda_take(base, used, bytes);
    if (base == NULL)
        return norm;
    norm.gamma = d->parameters + d->offsets[t->weight - net->parameters];
    norm.beta = d->parameters + d->offsets[t->bias - net->parameters];
    norm.running_mean = d->parameters + d->offsets[t->mean - net->parameters];
    norm.running_variance = d->parameters + d->offsets[t->variance - net->parameters];
    norm.dgamma = d->gradients + d->offsets[t->weight - net->parameters];
    norm.dbeta = d->gradients + d->offsets[t->bias - net->parameters];
    return norm;
}

static size_t place_device(const TrainNet *net, TrainCuda *d, unsigned char *base)
{
    const TrainSteps *s = d->steps;
    size_t batch = (size_t)net->batch, used = 0, sums = 1, weights = 1;
    for (int32_t i = 0; i < s->n_steps; i++) {
        sums = largest(sums, sums_of(net, d, &s->steps[i]));
        if (s->steps[i].kind == STEP_CONV)
            weights = largest(weights, weight_halves(d, i));
    }
    d->values = cuda_take(base, &used, (size_t)s->arena_bytes);
    d->workspace = cuda_take(base, &used, d->plans.workspace_bytes);
    d->weight_gradient = cuda_take(base, &used, weights * sizeof(uint16_t));
    d->parameters = (float *)(void *)cuda_take(base, &used, d->n_numbers * sizeof(float));
    d->gradients = (float *)(void *)cuda_take(base, &used, d->n_trained * sizeof(float));
    d->sums[0] = (float *)(void *)cuda_take(base, &used, sums * sizeof(float));
    d->sums[1] = (float *)(void *)cuda_take(base, &used, sums * sizeof(float));
    d->in = (float *)(void *)cuda_take(base, &used, batch * d->n_in * sizeof(float));
    d->out = (float *)(void *)cuda_take(base, &used, batch * d->n_out * sizeof(float));
    d->dx = (float *)(void *)cuda_take(base, &used, batch * d->n_in * sizeof(float));
    d->count = (uint32_t *)(void *)cuda_take(base, &used, sizeof *d->count);
    for (int32_t i = 0; i < s->n_steps; i++) {
        const TrainStep *step = &s->steps[i];
        if (step->kind == STEP_NORM)
            d->norms[i] = norm_of(net, d, step, base, &used);
        if (step->kind != STEP_CONV)
            continue;
        size_t c_out = (size_t)s->values[step->output].c;
        d->convs[i].weight = cuda_take(base, &used, weight_halves(d, i) * sizeof(uint16_t));
        d->convs[i].bias = cuda_take(base, &used, c_out * sizeof(uint16_t));
    }
    return used;
}

static size_t place_pinned(const TrainNet *net, TrainCuda *d, unsigned char *base)
{
    size_t batch = (size_t)net->batch, used = 0;
    d->host_numbers = (float *)(void *)cuda_take(base, &used, d->n_numbers * sizeof(float));
    d->host_in = (float *)(void *)cuda_take(base, &used, batch * d->n_in * sizeof(float));
    d->host_out = (float *)(void *)cuda_take(base, &used, batch * d->n_out * sizeof(float));
    d->host_count = (uint32_t *)(void *)cuda_take(base, &used, sizeof *d->host_count);
    return used;
}

/* A training does not go on with fewer slices or elsewhere: it would be another training. */
static Status make_memory(const TrainNet *net, TrainCuda *d, Err *err)
{
    void *memory = NULL;
    char what[160];
    d->memory_bytes = place_device(net, d, NULL);
    (void)snprintf(what, sizeof what, "a batch of %d slices needs %zu MiB of the GPU's %lld MiB",
                   net->batch, (d->memory_bytes >> 20) + 1,
                   (long long)(d->device.memory_bytes >> 20));
    TRY(cuda_check(d->api->alloc(&memory, d->memory_bytes), what, err));
    d->memory = memory;
    (void)place_device(net, d, d->memory);
    memory = NULL;
    d->pinned_bytes = place_pinned(net, d, NULL);
    TRY(cuda_check(d->api->alloc_pinned(&memory, d->pinned_bytes), "pinned memory", err));
    d->pinned = memory;
    memset(d->pinned, 0, d->pinned_bytes);
    (void)place_pinned(net, d, d->pinned);
    return cuda_check(d->api->set(d->memory, 0, d->memory_bytes, d->stream), "clearing", err);
}

Status cuda_train_open_parts(TrainNet *net, TrainCuda *d, Err *err)
{
    const Graph *graph = net->graph;
    d->steps = calloc(1, sizeof *d->steps);
    d->offsets = calloc((size_t)net->n_parameters + 1, sizeof *d->offsets);
    if (d->steps == NULL || d->offsets == NULL)
        return err_set(err, ST_NO_MEMORY, "the table of steps");
    d->n_in = (size_t)graph_value_elements(&graph->values[graph->input]);
    d->n_out = (size_t)graph_value_elements(&graph->values[graph->output]);
    TRY(cuda_train_layout(graph, d->steps, &d->layout, err));
    TRY(train_plan(net->batch, (int32_t)sizeof(uint16_t), net->frozen, d->steps, err));
    d->convs = calloc((size_t)d->steps->n_steps + 1, sizeof *d->convs);
    d->norms = calloc((size_t)d->steps->n_steps + 1, sizeof *d->norms);
    if (d->convs == NULL || d->norms == NULL)
        return err_set(err, ST_NO_MEMORY, "tables of %d steps", d->steps->n_steps);
    place_parameters(net, d);
    TRY(make_plans(net, d, err));
    return make_memory(net, d, err);
}
