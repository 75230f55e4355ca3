/* The training backend of a GPU. See cuda_train_int.h.
**
** Gradients in halves: the loss's gradient is multiplied by 2^exponent before the backward pass,
** and every parameter's gradient, float32 then, divided by it. If a gradient is not finite the step
** is computed again with half the scale: nothing of it is lost, and no step is skipped. */
#include "gpu/cuda_train_int.h"

#include "base/parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_EXPONENT = 16, GROWTH_STEPS = 1000 };
#define DEADLINE_S 120.0 /* of a step; then the GPU is given up */

static Status cuda_done(TrainCuda *d, const char *what, Err *err)
{
    Status status = cuda_check(d->api->event_record(d->done, d->stream), what, err);
    if (status == ST_OK)
        status = cuda_await(d->api, d->done, DEADLINE_S, what, err);
    d->lost = d->lost || status != ST_OK;
    return status;
}

static Status check_lost(const TrainCuda *d, Err *err)
{
    return d->lost ? err_set(err, ST_BACKEND, "the GPU failed before") : ST_OK;
}

/* After a failure within a pass nothing is known of what is still under way. */
static Status lose(TrainCuda *d, Status status)
{
    d->lost = d->lost || status != ST_OK;
    return status;
}

/* ---- opening and closing ------------------------------------------------------------------- */

static Status open_device(TrainCuda *d, Err *err)
{
    const CudaApi *api = d->api;
    TRY(cuda_use_device(api, 0, &d->device, err));
    TRY(cuda_check(api->stream_new(&d->stream), "a stream", err));
    TRY(cuda_check(api->event_new(&d->done), "an event", err));
    TRY(cudnn_check(api->dnn_new(&d->dnn), "opening cuDNN", err));
    TRY(cudnn_check(api->dnn_stream(d->dnn, d->stream), "cuDNN's stream", err));
    return cudnn_check(api->dnn_profile(d->dnn, d->profile), "properties of the GPU", err);
}

static Status cuda_train_open(TrainNet *net, Err *err)
{
    TrainCuda *d = calloc(1, sizeof *d);
    if (d == NULL)
        return err_set(err, ST_NO_MEMORY, "opening training backend cuda");
    net->state = d;
    net->scale = (TrainScale){.exponent = FIRST_EXPONENT};
    d->api = cuda_api();
    TRY(open_device(d, err));
    TRY(cuda_train_open_parts(net, d, err));
    return cuda_done(d, "clearing", err);
}

static void close_device(TrainCuda *d)
{
    const CudaApi *api = d->api;
    if (d->memory != NULL)
        api->free(d->memory);
    if (d->pinned != NULL)
        api->free_pinned(d->pinned);
    if (d->dnn != NULL)
        api->dnn_free(d->dnn);
    if (d->done != NULL)
        api->event_free(d->done);
    if (d->stream != NULL)
        api->stream_free(d->stream);
}

static void cuda_train_close(TrainNet *net)
{
    TrainCuda *d = net->state;
    if (d == NULL)
        return;
    if (!d->lost)
        close_device(d);
    plan_set_drop(&d->plans);
    free(d->convs);
    free(d->norms);
    free(d->offsets);
    free(d->steps);
    free(d);
}

/* ---- between the caller's numbers and the staging memory, on all threads ------------------- */

typedef enum StagedPart { STAGE_VALUES, STAGE_GRADIENTS, STAGE_STATISTICS } StagedPart;

typedef struct Staging {
    const TrainNet *net;
    const TrainCuda *d;
    StagedPart part;
} Staging;

static void stage_parameter(void *context, int i)
{
    const Staging *s = context;
    const TrainParameter *p = &s->net->parameters[i];
    float *staged = s->d->host_numbers + s->d->offsets[i];
    size_t bytes = (size_t)p->n * sizeof *staged;
    if (s->part == STAGE_VALUES)
        memcpy(staged, p->value, bytes);
    else if (s->part == STAGE_GRADIENTS && p->gradient != NULL)
        memcpy(p->gradient, staged, bytes);
    else if (s->part == STAGE_STATISTICS && p->gradient == NULL)
        memcpy(p->value, staged, bytes);
}

static void stage(const TrainNet *net, const TrainCuda *d, StagedPart part)
{
    Staging staging = {net, d, part};
    /* The statistics are few. */
    int threads = part == STAGE_STATISTICS ? 1 : net->threads;
    parallel_for(threads, net->n_parameters, stage_parameter, &staging);
}

/* ---- parameters ---------------------------------------------------------------------------- */

static Status cast_conv(const TrainNet *net, const TrainCuda *d, int32_t i, Err *err)
{
    const TrainStep *step = &d->steps->steps[i];
    const CudaConv *conv = &d->convs[i];
    const TrainTensors *t = &net->of_op[step->op];
    KernelCall cast = cuda_train_weights_call(d, KERNEL_CAST_WEIGHTS, i);
    cast.a = d->parameters + d->offsets[t->weight - net->parameters];
    cast.y = conv->weight;
    TRY(cuda_train_launch(d, &cast, net->graph->ops[step->op].name, err));
    if (t->bias == NULL || step->taps) /* then it is zero, as it was made */
        return ST_OK;
    cast.a = d->parameters + d->offsets[t->bias - net->parameters];
    cast.y = conv->bias;
    cast.c = cast.side = cast.w = cast.stride_o = 1;
    return cuda_train_launch(d, &cast, net->graph->ops[step->op].name, err);
}

static Status upload(const TrainNet *net, const TrainCuda *d, Err *err)
{
    stage(net, d, STAGE_VALUES);
    TRY(cuda_check(
        d->api->to_device(d->parameters, d->host_numbers, d->n_numbers * sizeof(float), d->stream),
        "uploading weights", err));
    for (int32_t i = 0; i < d->steps->n_steps; i++)
        if (d->steps->steps[i].kind == STEP_CONV)
            TRY(cast_conv(net, d, i, err));
    return ST_OK;
}

static Status cuda_train_changed(TrainNet *net, Err *err)
{
    TrainCuda *d = net->state;
    TRY(check_lost(d, err));
    TRY(lose(d, upload(net, d, err)));
    return cuda_done(d, "uploading weights", err);
}

/* ---- a step -------------------------------------------------------------------------------- */

static Status start_forward(const TrainNet *net, TrainCuda *d, Err *err)
{
    const CudaApi *api = d->api;
    size_t n = (size_t)net->n, at = d->n_trained;
    TRY(cuda_check(api->to_device(d->in, d->host_in, n * d->n_in * sizeof(float), d->stream),
                   "input", err));
    TRY(cuda_train_forward(net, d, TRAIN_MOMENTUM, err));
    if (net->batch_statistics && d->n_numbers > at)
        TRY(cuda_check(api->to_host(d->host_numbers + at, d->parameters + at,
                                    (d->n_numbers - at) * sizeof(float), d->stream),
                       "statistics", err));
    return cuda_check(api->to_host(d->host_out, d->out, n * d->n_out * sizeof(float), d->stream),
                      "output", err);
}

static Status forward(TrainNet *net, const float *x, const float **ret_y, Err *err)
{
    TrainCuda *d = net->state;
    TRY(check_lost(d, err));
    memcpy(d->host_in, x, (size_t)net->n * d->n_in * sizeof *x);
    TRY(lose(d, start_forward(net, d, err)));
    TRY(cuda_done(d, "forward pass", err));
    if (net->batch_statistics)
        stage(net, d, STAGE_STATISTICS);
    *ret_y = d->host_out;
    return ST_OK;
}

static Status start_back(const TrainNet *net, const TrainCuda *d, int32_t exponent, bool wants_dx,
                         Err *err)
{
    const CudaApi *api = d->api;
    TRY(cuda_check(
        api->to_device(d->out, d->host_out, (size_t)net->n * d->n_out * sizeof(float), d->stream),
        "gradient of the loss", err));
    TRY(cuda_train_back(net, d, exponent, wants_dx, err));
    return cuda_check(api->to_host(d->host_count, d->count, sizeof *d->count, d->stream),
                      "gradients", err);
}

/* Halves the scale until every gradient is finite. A retry needs the values again, whose memory the
** gradients have taken; the running statistics have moved already. */
static Status back_until_finite(TrainNet *net, TrainCuda *d, bool may_retry, bool wants_dx,
                                Err *err)
{
    TrainScale *scale = &net->scale;
    if (net->frozen) /* not in any checkpoint: each step for itself */
        *scale = (TrainScale){.exponent = FIRST_EXPONENT};
    TRY(start_back(net, d, scale->exponent, wants_dx, err));
    TRY(cuda_done(d, "backward pass", err));
    while (*d->host_count > 0 && may_retry && scale->exponent > 0) {
        *scale = (TrainScale){.exponent = scale->exponent - 1};
        TRY(cuda_train_forward(net, d, 0, err));
        TRY(start_back(net, d, scale->exponent, wants_dx, err));
        TRY(cuda_done(d, "backward pass", err));
    }
    if (++scale->n_good >= GROWTH_STEPS && scale->exponent < TRAIN_MAX_EXPONENT)
        *scale = (TrainScale){.exponent = scale->exponent + 1};
    return ST_OK;
}

static Status download(const TrainCuda *d, size_t n_dx, Err *err)
{
    const CudaApi *api = d->api;
    if (d->n_trained > 0)
        TRY(cuda_check(
            api->to_host(d->host_numbers, d->gradients, d->n_trained * sizeof(float), d->stream),
            "gradients", err));
    return n_dx == 0 ? ST_OK
                     : cuda_check(api->to_host(d->host_in, d->dx, n_dx * sizeof(float), d->stream),
                                  "gradient of the input", err);
}

static Status backward(TrainNet *net, const float *dy, float *ret_dx, Err *err)
{
    TrainCuda *d = net->state;
    size_t n = (size_t)net->n * d->n_out, n_dx = ret_dx != NULL ? (size_t)net->n * d->n_in : 0;
    bool finite = true;
    TRY(check_lost(d, err));
    for (size_t i = 0; i < n; i++) {
        d->host_out[i] = dy[i];
        finite = finite && isfinite(dy[i]);
    }
    TRY(lose(d, back_until_finite(net, d, finite, n_dx > 0, err)));
    TRY(lose(d, download(d, n_dx, err)));
    TRY(cuda_done(d, "gradients", err));
    stage(net, d, STAGE_GRADIENTS);
    if (n_dx > 0)
        memcpy(ret_dx, d->host_in, n_dx * sizeof *ret_dx);
    return ST_OK;
}

static unsigned precisions(void)
{
    return 1u << PRECISION_F16;
}

const TrainBackend train_backend_cuda = {"cuda",  precisions, cuda_train_open, cuda_train_changed,
                                         forward, backward,   cuda_train_close};
