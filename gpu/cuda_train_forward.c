/* The forward pass of a training step on a GPU. See cuda_train_int.h. */
#include "gpu/cuda_train_int.h"

void *cuda_train_piece(const TrainCuda *d, int32_t piece)
{
    return piece < 0 ? NULL : d->values + d->steps->pieces[piece].offset_bytes;
}

void *cuda_train_value(const TrainCuda *d, int32_t value)
{
    return value < 0 ? NULL : cuda_train_piece(d, d->steps->values[value].piece);
}

KernelCall cuda_train_call(const TrainNet *net, const TrainCuda *d, KernelKind kind, int32_t value)
{
    const TrainValue *v = &d->steps->values[value];
    return (KernelCall){.kind = kind, .n = net->n, .h = v->h, .w = v->w, .c = v->c};
}

KernelCall cuda_train_weights_call(const TrainCuda *d, KernelKind kind, int32_t step)
{
    const CudaConv *conv = &d->convs[step];
    const TrainStep *s = &d->steps->steps[step];
    return (KernelCall){.kind = kind,
                        .n = conv->n_out,
                        .c = conv->n_in,
                        .side = conv->side,
                        .h = d->steps->values[s->output].c,
                        .w = d->steps->values[s->input].c,
                        .stride_o = conv->stride_o,
                        .stride_i = conv->stride_i};
}

Status cuda_train_launch(const TrainCuda *d, const KernelCall *call, const char *name, Err *err)
{
    return cuda_check(d->api->kernel(call, d->stream), name, err);
}

Status cuda_train_write(const TrainNet *net, const TrainCuda *d, const KernelCall *call,
                        int32_t value, const char *name, Err *err)
{
    const TrainValue *v = &d->steps->values[value];
    size_t slice = (size_t)train_value_elements(v) * (size_t)v->element_bytes;
    unsigned char *const to[2] = {call->y, call->kind == KERNEL_POINT ? call->y2 : NULL};
    TRY(cuda_train_launch(d, call, name, err));
    for (int i = 0; i < 2 && net->n < net->batch; i++)
        if (to[i] != NULL)
            TRY(cuda_check(d->api->set(to[i] + (size_t)net->n * slice, 0,
                                       (size_t)(net->batch - net->n) * slice, d->stream),
                           name, err));
    return ST_OK;
}

Status cuda_train_reduce(const TrainCuda *d, const float *from, int32_t rows, int32_t columns,
                         const char *name, const float **ret, Err *err)
{
    while (rows > 1) {
        float *to = from == d->sums[0] ? d->sums[1] : d->sums[0];
        const KernelCall call = {
            .kind = KERNEL_SUM_ROWS, .a = from, .y = to, .n = rows, .c = columns};
        TRY(cuda_train_launch(d, &call, name, err));
        from = to;
        rows = (rows + SUM_ROWS - 1) / SUM_ROWS;
    }
    *ret = from;
    return ST_OK;
}

static Status run_conv(const TrainCuda *d, int32_t i, const char *name, Err *err)
{
    const TrainStep *step = &d->steps->steps[i];
    const CudaConv *conv = &d->convs[i];
    const int64_t uids[4] = {CONV_X, CONV_W, CONV_BIAS, CONV_Y};
    void *const pointers[4] = {cuda_train_value(d, step->input), conv->weight, conv->bias,
                               cuda_train_value(d, step->output)};
    return cudnn_check(d->api->dnn_execute(d->dnn, d->plans.plans[conv->forward].plan, 4, uids,
                                           pointers, d->workspace),
                       name, err);
}

static Status run_norm(const TrainNet *net, const TrainCuda *d, int32_t i, const char *name,
                       Err *err)
{
    const TrainStep *step = &d->steps->steps[i];
    KernelCall sum = cuda_train_call(net, d, KERNEL_MOMENTS, step->input);
    KernelCall find = cuda_train_call(net, d, KERNEL_NORM_STATISTICS, step->input);
    KernelCall apply = cuda_train_call(net, d, KERNEL_NORM_APPLY, step->output);
    find.norm = apply.norm = d->norms[i];
    sum.a = find.b = apply.a = cuda_train_value(d, step->input);
    sum.y = d->sums[0];
    if (net->batch_statistics) {
        const float *sums;
        int32_t pixels = sum.n * sum.h * sum.w;
        TRY(cuda_train_launch(d, &sum, name, err));
        TRY(cuda_train_reduce(d, d->sums[0], (pixels + SUM_PIXELS - 1) / SUM_PIXELS, 2 * sum.c,
                              name, &sums, err));
        find.a = sums;
    }
    TRY(cuda_train_launch(d, &find, name, err));
    apply.b = cuda_train_value(d, step->second);
    apply.y = cuda_train_value(d, step->output);
    apply.relu = step->relu;
    apply.doubles = step->doubles;
    return cuda_train_write(net, d, &apply, step->output, name, err);
}

/* Of the steps that are one kernel. */
static KernelCall kernel_of(const TrainNet *net, const TrainCuda *d, const TrainStep *step)
{
    const TrainValue *in = &d->steps->values[step->input];
    KernelCall call = cuda_train_call(net, d, KERNEL_CONCAT, step->output);
    call.a = cuda_train_value(d, step->input);
    call.b = cuda_train_value(d, step->second);
    call.y = cuda_train_value(d, step->output);
    call.c = in->c;
    call.side = step->kernel;
    call.relu = step->relu;
    call.doubles = step->doubles || step->kind == STEP_UP2;
    if (step->kind == STEP_CONCAT)
        call.c2 = d->steps->values[step->second].c;
    if (step->kind == STEP_POINT)
        call.kind = KERNEL_POINT;
    if (step->kind == STEP_POOL) {
        call.kind = KERNEL_POOL;
        call.h = in->h;
        call.w = in->w;
        call.y2 = cuda_train_piece(d, step->workspace);
    }
    if (step->kind == STEP_TAPS) {
        const TrainParameter *bias = net->of_op[step->op].bias;
        call.kind = KERNEL_TAPS;
        call.b = bias != NULL ? d->parameters + d->offsets[bias - net->parameters] : NULL;
    }
    return call;
}

Status cuda_train_forward(const TrainNet *net, TrainCuda *d, double momentum, Err *err)
{
    const TrainSteps *s = d->steps;
    KernelCall pack = cuda_train_call(net, d, KERNEL_PACK, s->input);
    pack.a = d->in;
    pack.y = cuda_train_value(d, s->input);
    pack.c = d->layout.c_in;
    TRY(cuda_train_write(net, d, &pack, s->input, "input", err));
    for (int32_t i = 0; i < s->n_steps; i++) {
        const TrainStep *step = &s->steps[i];
        const char *name = net->graph->ops[step->op].name;
        d->norms[i].momentum = momentum;
        if (step->kind == STEP_CONV) {
            TRY(run_conv(d, i, name, err));
        } else if (step->kind == STEP_NORM) {
            TRY(run_norm(net, d, i, name, err));
        } else {
            const KernelCall call = kernel_of(net, d, step);
            TRY(cuda_train_write(net, d, &call, step->output, name, err));
        }
    }
    KernelCall unpack = cuda_train_call(net, d, KERNEL_UNPACK, s->output);
    unpack.a = cuda_train_value(d, s->output);
    unpack.y = d->out;
    unpack.count = d->count;
    unpack.c2 = d->layout.c_out;
    KernelCall copy = {.kind = KERNEL_SCALE,
                       .a = unpack.a,
                       .y = d->out,
                       .count = d->count,
                       .n = net->n * (int32_t)d->n_out,
                       .scale = 1};
    return cuda_train_launch(d, d->layout.wide ? &copy : &unpack, "output", err);
}
