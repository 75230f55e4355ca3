/* The backward pass of a training step on a GPU. See cuda_train_int.h. */
#include "gpu/cuda_train_int.h"

#include <math.h>

typedef struct Back { /* one pass */
    const TrainNet *net;
    const TrainCuda *d;
    float unscale; /* 2^-exponent */
    bool wants_dx;
} Back;

static float *gradient_of(const Back *b, const TrainParameter *parameter)
{
    return b->d->gradients + b->d->offsets[parameter - b->net->parameters];
}

/* The step's result's gradient: the sum of its parts, where its ReLU was open, to y and y2. */
static Status gather(const Back *b, const TrainStep *step, void *y, void *y2, const char *name,
                     Err *err)
{
    const TrainCuda *d = b->d;
    const TrainValue *out = &d->steps->values[step->output];
    KernelCall call = cuda_train_call(b->net, d, KERNEL_POINT, step->output);
    call.a = cuda_train_piece(d, out->parts[0]);
    for (int32_t k = 1; k < out->n_parts - 1; k++) {
        call.b = cuda_train_piece(d, out->parts[k]);
        call.y = cuda_train_piece(d, out->parts[0]);
        TRY(cuda_train_write(b->net, d, &call, step->output, name, err));
    }
    call.b = out->n_parts > 1 ? cuda_train_piece(d, out->parts[out->n_parts - 1]) : NULL;
    call.y = y;
    call.y2 = y2;
    call.gate = step->relu ? cuda_train_value(d, step->output) : NULL;
    if (y == call.a && call.b == NULL && call.gate == NULL && y2 == NULL)
        return ST_OK;
    return cuda_train_write(b->net, d, &call, step->output, name, err);
}

/* ---- one kind after the other; dy: the gathered gradient of the result --------------------- */

static Status back_bias(const Back *b, const TrainStep *step, const void *dy, const char *name,
                        Err *err)
{
    const TrainCuda *d = b->d;
    const TrainParameter *bias = b->net->of_op[step->op].bias;
    const float *sums = dy;
    if (bias == NULL || bias->gradient == NULL)
        return ST_OK;
    KernelCall sum = cuda_train_call(b->net, d, KERNEL_COLUMNS, step->output);
    int32_t rows = sum.n * sum.h * sum.w;
    if (step->kind == STEP_CONV) { /* else dy is float32, one channel: already rows */
        sum.a = dy;
        sum.y = d->sums[0];
        TRY(cuda_train_launch(d, &sum, name, err));
        sums = d->sums[0];
        rows = (rows + SUM_PIXELS - 1) / SUM_PIXELS;
    }
    TRY(cuda_train_reduce(d, sums, rows, sum.c, name, &sums, err));
    const KernelCall scale = {.kind = KERNEL_SCALE,
                              .a = sums,
                              .y = gradient_of(b, bias),
                              .count = d->count,
                              .n = (int32_t)bias->n,
                              .scale = b->unscale};
    return cuda_train_launch(d, &scale, name, err);
}

static Status back_conv(const Back *b, int32_t i, void *dy, const char *name, Err *err)
{
    const TrainCuda *d = b->d;
    const TrainStep *step = &d->steps->steps[i];
    const CudaConv *conv = &d->convs[i];
    const TrainParameter *weight = b->net->of_op[step->op].weight;
    const int64_t uids[3] = {CONV_X, CONV_W, CONV_Y};
    if (step->input != d->steps->input || b->wants_dx) {
        void *const data[3] = {cuda_train_piece(d, step->d_input), conv->weight, dy};
        TRY(cudnn_check(d->api->dnn_execute(d->dnn, d->plans.plans[conv->back_data].plan, 3, uids,
                                            data, d->workspace),
                        name, err));
    }
    if (weight->gradient == NULL)
        return ST_OK;
    void *const weights[3] = {cuda_train_value(d, step->input), d->weight_gradient, dy};
    TRY(cudnn_check(d->api->dnn_execute(d->dnn, d->plans.plans[conv->back_weights].plan, 3, uids,
                                        weights, d->workspace),
                    name, err));
    KernelCall take = cuda_train_weights_call(d, KERNEL_TAKE_WEIGHTS, i);
    take.a = d->weight_gradient;
    take.y = gradient_of(b, weight);
    take.count = d->count;
    take.scale = b->unscale;
    TRY(cuda_train_launch(d, &take, name, err));
    return step->taps ? ST_OK : back_bias(b, step, dy, name, err);
}

static Status back_norm(const Back *b, int32_t i, const void *dy, const char *name, Err *err)
{
    const TrainCuda *d = b->d;
    const TrainStep *step = &d->steps->steps[i];
    KernelCall back = cuda_train_call(b->net, d, KERNEL_NORM_BACK, step->input);
    back.a = dy;
    back.y = cuda_train_piece(d, step->d_input);
    back.norm = d->norms[i];
    if (b->net->batch_statistics) {
        const float *sums;
        KernelCall sum = back, find = back;
        int32_t rows = (back.n * back.h * back.w + SUM_PIXELS - 1) / SUM_PIXELS;
        sum.kind = KERNEL_PRODUCTS;
        sum.b = back.b = cuda_train_value(d, step->input);
        sum.y = d->sums[0];
        TRY(cuda_train_launch(d, &sum, name, err));
        TRY(cuda_train_reduce(d, d->sums[0], rows, 2 * back.c, name, &sums, err));
        find.kind = KERNEL_NORM_GRADIENTS;
        find.a = sums;
        find.count = d->count;
        find.scale = b->unscale;
        TRY(cuda_train_launch(d, &find, name, err));
    } else {
        back.norm.k0 = back.norm.k2 = NULL;
    }
    return cuda_train_write(b->net, d, &back, step->input, name, err);
}

/* Channels offset.. of dy to the gradient (a piece) of that value. */
static Status take(const Back *b, const TrainStep *step, const void *dy, int32_t offset,
                   bool doubles, int32_t value, int32_t piece, const char *name, Err *err)
{
    KernelCall call = cuda_train_call(b->net, b->d, KERNEL_TAKE, value);
    call.a = dy;
    call.y = cuda_train_piece(b->d, piece);
    call.c2 = b->d->steps->values[step->output].c;
    call.offset = offset;
    call.doubles = doubles;
    return cuda_train_write(b->net, b->d, &call, value, name, err);
}

static Status back_pool(const Back *b, const TrainStep *step, const void *dy, const char *name,
                        Err *err)
{
    KernelCall call = cuda_train_call(b->net, b->d, KERNEL_POOL_BACK, step->input);
    call.a = dy;
    call.b = cuda_train_piece(b->d, step->workspace);
    call.y = cuda_train_piece(b->d, step->d_input);
    call.side = step->kernel;
    return cuda_train_write(b->net, b->d, &call, step->input, name, err);
}

static Status back_taps(const Back *b, const TrainStep *step, const void *dy, const char *name,
                        Err *err)
{
    KernelCall call = cuda_train_call(b->net, b->d, KERNEL_TAPS_BACK, step->output);
    call.a = dy;
    call.y = cuda_train_piece(b->d, step->d_input);
    call.c = b->d->steps->values[step->input].c;
    call.side = step->kernel;
    call.doubles = step->doubles;
    TRY(cuda_train_write(b->net, b->d, &call, step->input, name, err));
    return back_bias(b, step, dy, name, err);
}

static Status back_step(const Back *b, int32_t i, Err *err)
{
    const TrainCuda *d = b->d;
    const TrainStep *step = &d->steps->steps[i];
    const char *name = b->net->graph->ops[step->op].name;
    void *dy = cuda_train_piece(d, d->steps->values[step->output].parts[0]);
    void *d_second = cuda_train_piece(d, step->d_second);
    int32_t c_in = d->steps->values[step->input].c;
    if (step->kind == STEP_POINT)
        return gather(b, step, cuda_train_piece(d, step->d_input), d_second, name, err);
    if (step->kind == STEP_TAPS)
        return back_taps(b, step, dy, name, err);
    bool gives = step->kind == STEP_NORM && !step->doubles;
    TRY(gather(b, step, dy, gives ? d_second : NULL, name, err));
    switch (step->kind) {
    case STEP_CONV:
        return back_conv(b, i, dy, name, err);
    case STEP_NORM:
        if (step->doubles)
            TRY(take(b, step, dy, 0, true, step->second, step->d_second, name, err));
        return back_norm(b, i, dy, name, err);
    case STEP_POOL:
        return back_pool(b, step, dy, name, err);
    case STEP_CONCAT:
        TRY(take(b, step, dy, c_in, false, step->second, step->d_second, name, err));
        return take(b, step, dy, 0, step->doubles, step->input, step->d_input, name, err);
    default:
        ASSERT(step->kind == STEP_UP2);
        return take(b, step, dy, 0, true, step->input, step->d_input, name, err);
    }
}

/* dx to float32. */
static Status give_dx(const Back *b, Err *err)
{
    const TrainCuda *d = b->d;
    const TrainValue *in = &d->steps->values[d->steps->input];
    KernelCall call = cuda_train_call(b->net, d, KERNEL_POINT, d->steps->input);
    call.a = call.y = cuda_train_piece(d, in->parts[0]);
    for (int32_t k = 1; k < in->n_parts; k++) {
        call.b = cuda_train_piece(d, in->parts[k]);
        TRY(cuda_train_launch(d, &call, "gradient of the input", err));
    }
    call.kind = KERNEL_UNPACK;
    call.y = d->dx;
    call.count = d->count;
    call.c2 = d->layout.c_in;
    TRY(cuda_train_launch(d, &call, "gradient of the input", err));
    const KernelCall scale = {.kind = KERNEL_SCALE,
                              .a = d->dx,
                              .y = d->dx,
                              .count = d->count,
                              .n = b->net->n * (int32_t)d->n_in,
                              .scale = b->unscale};
    return cuda_train_launch(d, &scale, "gradient of the input", err);
}

Status cuda_train_back(const TrainNet *net, const TrainCuda *d, int32_t exponent, bool wants_dx,
                       Err *err)
{
    const TrainSteps *s = d->steps;
    const Back back = {net, d, ldexpf(1, -exponent), wants_dx};
    KernelCall in = cuda_train_call(net, d, KERNEL_LOSS_GRADIENT, s->output);
    TRY(cuda_check(d->api->set(d->count, 0, sizeof *d->count, d->stream), "clearing", err));
    in.a = d->out;
    in.y = cuda_train_piece(d, s->values[s->output].parts[0]);
    in.c2 = d->layout.c_out;
    in.wide = d->layout.wide;
    in.scale = ldexpf(1, exponent);
    TRY(cuda_train_write(net, d, &in, s->output, "gradient of the loss", err));
    for (int32_t i = s->n_steps - 1; i >= 0; i--)
        TRY(back_step(&back, i, err));
    return wants_dx ? give_dx(&back, err) : ST_OK;
}
