/* Weights and plans of the CUDA backend. See cuda_int.h. */
#include "gpu/cuda_int.h"

#include "gpu/half.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t aligned(size_t bytes)
{
    return (bytes + CUDA_ALIGN_BYTES - 1) / CUDA_ALIGN_BYTES * CUDA_ALIGN_BYTES;
}

/* ---- weights ------------------------------------------------------------------------------- */

typedef struct ConvSize { /* as in the model file, and padded */
    size_t c_in, c_out, k, padded_in, padded_out;
} ConvSize;

static ConvSize conv_size(const Cuda *cuda, const Op *op)
{
    const Graph *graph = cuda->graph;
    ConvSize s = {.k = (size_t)graph_conv_kernel(op)};
    s.padded_in = (size_t)graph->values[op->input].c;
    s.padded_out = (size_t)graph->values[op->output].c;
    s.c_in = op->input == graph->input ? (size_t)cuda->layout.c_in : s.padded_in;
    s.c_out = s.padded_out;
    if (op->output == cuda->layout.last)
        s.c_out = cuda->layout.shuffle ? 4 : (size_t)cuda->layout.c_out;
    return s;
}

static size_t weight_bytes(const ConvSize *s)
{
    return s->padded_out * s->k * s->k * s->padded_in * sizeof(uint16_t);
}

/* (c_out, c_in, k, k) floats -> (padded_out, k, k, padded_in) halves. False: one is too large. */
static bool interleave(const ConvSize *s, const float *w, uint16_t *ret)
{
    size_t taps = s->k * s->k;
    bool finite = true;
    memset(ret, 0, weight_bytes(s));
    for (size_t o = 0; o < s->c_out; o++)
        for (size_t i = 0; i < s->c_in; i++)
            for (size_t t = 0; t < taps; t++) {
                uint16_t half = f16_from_f32(*w++);
                ret[(o * taps + t) * s->padded_in + i] = half;
                finite = finite && (half & 0x7c00u) != 0x7c00u;
            }
    return finite;
}

static Status upload(Cuda *cuda, unsigned char *device, const void *host, size_t bytes, Err *err)
{
    const CudaApi *api = cuda->api;
    TRY(cuda_check(api->to_device(device, host, bytes, cuda->up), "uploading weights", err));
    TRY(cuda_check(api->event_record(cuda->uploaded, cuda->up), "uploading weights", err));
    return cuda_wait(cuda, cuda->uploaded, "uploading weights", err);
}

/* The table that names an operation's tensors is the caller's, with unpadded channels. */
static Status fold_conv(const Cuda *cuda, const Op *op, const ConvSize *s, float *ret_w,
                        float *ret_b, Err *err)
{
    Graph *unpadded = malloc(sizeof *unpadded);
    OpTensors tensors;
    if (unpadded == NULL)
        return err_set(err, ST_NO_MEMORY, "weights of %s", op->name);
    *unpadded = *cuda->graph;
    unpadded->values[op->input].c = (int32_t)s->c_in;
    unpadded->values[op->output].c = (int32_t)s->c_out;
    Status status = graph_read_tensors(unpadded, op, cuda->model, &tensors, err);
    if (status == ST_OK) {
        status = graph_fold(unpadded, op, &tensors, ret_w, ret_b, err);
        graph_tensors_free(&tensors);
    }
    free(unpadded);
    return status;
}

static Status upload_conv(Cuda *cuda, int32_t i, Err *err)
{
    const Op *op = &cuda->graph->ops[i];
    const ConvSize s = conv_size(cuda, op);
    size_t n = s.c_out * s.c_in * s.k * s.k;
    float *w = malloc((n + s.c_out) * sizeof *w), *b = w + n;
    uint16_t *half = malloc(weight_bytes(&s)), *bias = calloc(s.padded_out, sizeof *bias);
    Status status = w == NULL || half == NULL || bias == NULL
                        ? err_set(err, ST_NO_MEMORY, "weights of %s", op->name)
                        : fold_conv(cuda, op, &s, w, b, err);
    bool finite = status == ST_OK && interleave(&s, w, half);
    for (size_t o = 0; status == ST_OK && o < s.c_out; o++) {
        bias[o] = f16_from_f32(b[o]);
        finite = finite && (bias[o] & 0x7c00u) != 0x7c00u;
    }
    if (status == ST_OK && !finite)
        status = err_set(err, ST_MODEL_UNFIT,
                         "this model is not for f16: a weight of %s is too large for it (the GPU "
                         "is not at fault)",
                         op->name);
    if (status == ST_OK)
        status = upload(cuda, cuda->steps[i].weight, half, weight_bytes(&s), err);
    if (status == ST_OK)
        status = upload(cuda, cuda->steps[i].bias, bias, s.padded_out * sizeof *bias, err);
    free(w);
    free(half);
    free(bias);
    return status;
}

Status cuda_upload_weights(Cuda *cuda, Err *err)
{
    size_t offsets[GRAPH_MAX_OPS], total = 0;
    const Graph *graph = cuda->graph;
    void *memory = NULL;
    for (int32_t i = 0; i < graph->n_ops; i++) {
        offsets[i] = total;
        if (graph->ops[i].kind != OP_CONV)
            continue;
        const ConvSize s = conv_size(cuda, &graph->ops[i]);
        total += aligned(weight_bytes(&s)) + aligned(s.padded_out * sizeof(uint16_t));
    }
    TRY(cuda_check(cuda->api->alloc(&memory, total + 1), "memory for weights", err));
    cuda->weights = memory;
    for (int32_t i = 0; i < graph->n_ops; i++) {
        if (graph->ops[i].kind != OP_CONV)
            continue;
        const ConvSize s = conv_size(cuda, &graph->ops[i]);
        cuda->steps[i].weight = cuda->weights + offsets[i];
        cuda->steps[i].bias = cuda->steps[i].weight + aligned(weight_bytes(&s));
        TRY(upload_conv(cuda, i, err));
    }
    return ST_OK;
}

/* ---- plans --------------------------------------------------------------------------------- */

Status cuda_make_plans(Cuda *cuda, Err *err)
{
    const ModelInfo *info = model_info(cuda->model);
    const Value *in = &cuda->graph->values[cuda->graph->input];
    PlanCache cache;
    const PlanMaker maker = {.cache = &cache,
                             .profile = cuda->profile,
                             .handle = cuda->api->plans_by_handle ? cuda->dnn : NULL};
    char key[1024];
    Status status = ST_OK;
    (void)snprintf(key, sizeof key,
                   "model %s, %d operations, %dx%dx%d, gpu %s sm_%d, driver %d, cuDNN %zu",
                   info->digest, cuda->graph->n_ops, cuda->batch, in->h, in->w, cuda->device.name,
                   cuda->device.compute, cuda->device.driver, cudnnGetVersion());
    plan_cache_open(key, &cache);
    for (int32_t i = 0; status == ST_OK && i < cuda->graph->n_ops; i++) {
        if (cuda->graph->ops[i].kind != OP_CONV)
            continue;
        const ConvShape shape = cuda_conv_shape(cuda->graph, &cuda->graph->ops[i], cuda->batch);
        status = plan_set_add(&cuda->plans, &maker, &shape, &cuda->steps[i].plan, err);
    }
    if (status == ST_OK && cuda->plans.changed)
        plan_cache_write(&cache, cuda->plans.plans, cuda->plans.n);
    if (cache.set_aside.status != ST_OK)
        (void)snprintf(cuda->set_aside, sizeof cuda->set_aside,
                       "the plan cache %.40s is of no use, plans were made anew: %.110s",
                       strrchr(cache.file.path, '/') + 1, cache.set_aside.msg);
    plan_cache_close(&cache);
    return status;
}
