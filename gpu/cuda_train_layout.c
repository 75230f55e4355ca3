/* See cuda_train_layout.h. */
#include "gpu/cuda_train_layout.h"

#include "gpu/cuda_layout.h"

static int32_t padded(int32_t c)
{
    return (c + CUDA_LANES - 1) / CUDA_LANES * CUDA_LANES;
}

static Status check_sides(const TrainSteps *s, const TrainStep *step, const char *name, Err *err)
{
    const TrainValue *in = &s->values[step->input], *out = &s->values[step->output];
    bool odd = (step->kind == STEP_CONV &&
                (in->h != out->h * step->stride || in->w != out->w * step->stride)) ||
               (step->kind == STEP_POOL && (in->h % 2 != 0 || in->w % 2 != 0));
    return odd ? err_set(err, ST_UNSUPPORTED, "training on cuda: %s: %dx%d cannot be halved", name,
                         in->h, in->w)
               : ST_OK;
}

static Status check_step(const Graph *graph, const TrainSteps *s, const TrainStep *step, Err *err)
{
    const char *name = graph->ops[step->op].name;
    const int32_t values[3] = {step->input, step->second, step->output};
    TRY(check_sides(s, step, name, err));
    for (int k = 0; k < (step->kind == STEP_TAPS ? 2 : 3); k++) {
        int32_t c = values[k] >= 0 ? s->values[values[k]].c : 0;
        if (c % CUDA_LANES != 0)
            return err_set(err, ST_UNSUPPORTED,
                           "training on cuda: %s has %d channels, no multiple of %d: another "
                           "--width is needed",
                           name, c, (int)CUDA_LANES);
    }
    if (step->kind == STEP_TAPS && step->output != s->output)
        return err_set(err, ST_UNSUPPORTED, "training on cuda: %s gives one channel within", name);
    return ST_OK;
}

Status cuda_train_layout(const Graph *graph, TrainSteps *ret_steps, CudaTrainLayout *ret, Err *err)
{
    TrainSteps *s = ret_steps;
    TRY(train_lower(graph, s, err));
    *ret = (CudaTrainLayout){.c_in = s->values[s->input].c, .c_out = s->values[s->output].c};
    if (ret->c_in > CUDA_LANES)
        return err_set(err, ST_UNSUPPORTED, "training on cuda: an input of %d channels", ret->c_in);
    for (int32_t i = 0; i < s->n_steps; i++) {
        const TrainStep *step = &s->steps[i];
        if (step->kind == STEP_CONV && step->input == s->input)
            s->values[s->input].c = padded(ret->c_in);
        if (step->kind == STEP_CONV && (step->taps || step->output == s->output))
            s->values[step->output].c = padded(s->values[step->output].c);
        if (step->kind == STEP_UP2) /* of taps */
            s->values[step->output].c = s->values[step->input].c;
        ret->wide = ret->wide || step->kind == STEP_TAPS;
    }
    for (int32_t i = 0; i < s->n_steps; i++)
        TRY(check_step(graph, s, &s->steps[i], err));
    return ST_OK;
}

ConvShape cuda_train_conv_shape(const TrainSteps *s, const TrainStep *step, int32_t batch,
                                ConvPass pass)
{
    const TrainValue *in = &s->values[step->input];
    return (ConvShape){.n = batch,
                       .c_in = in->c,
                       .h = in->h,
                       .w = in->w,
                       .c_out = s->values[step->output].c,
                       .kernel = step->taps ? 1 : step->kernel,
                       .stride = step->stride,
                       .pass = pass};
}
