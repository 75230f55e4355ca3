/* Opening and closing the CUDA backend. See cuda_int.h for its parts.
**
** Out of memory halves the batch until it fits. The engines depend on the batch, and so may the
** last bits: whoever opens is told by the note. */
#include "gpu/cuda_int.h"

#include "gpu/cuda_plugin.h"
#include "gpu/graph_passes.h"
#include "gpu/train_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory -------------------------------------------------------------------------------- */

static size_t place_device(Cuda *cuda, unsigned char *base)
{
    size_t batch = (size_t)cuda->batch, used = 0;
    cuda->values = cuda_take(base, &used, batch * (size_t)cuda->graph->arena_bytes);
    cuda->workspace = cuda_take(base, &used, cuda->plans.workspace_bytes);
    for (int i = 0; i < CUDA_SLOTS; i++) {
        CudaSlot *slot = &cuda->slots[i];
        slot->in = (float *)(void *)cuda_take(base, &used, batch * cuda->n_in * sizeof(float));
        slot->out = (float *)(void *)cuda_take(base, &used, batch * cuda->n_out * sizeof(float));
        slot->count = (uint32_t *)(void *)cuda_take(base, &used, sizeof(uint32_t));
    }
    return used;
}

static size_t place_pinned(Cuda *cuda, unsigned char *base)
{
    size_t batch = (size_t)cuda->batch, used = 0;
    for (int i = 0; i < CUDA_SLOTS; i++) {
        CudaSlot *slot = &cuda->slots[i];
        slot->host_in = (float *)(void *)cuda_take(base, &used, batch * cuda->n_in * sizeof(float));
        slot->host_out =
            (float *)(void *)cuda_take(base, &used, batch * cuda->n_out * sizeof(float));
        slot->host_count = (uint32_t *)(void *)cuda_take(base, &used, sizeof(uint32_t));
    }
    return used;
}

static Status make_memory(Cuda *cuda, Err *err)
{
    void *memory = NULL;
    TRY(cuda_make_plans(cuda, err));
    cuda->arena_bytes = place_device(cuda, NULL);
    TRY(cuda_check(cuda->api->alloc(&memory, cuda->arena_bytes), "memory of the GPU", err));
    cuda->arena = memory;
    (void)place_device(cuda, cuda->arena);
    memory = NULL;
    cuda->pinned_bytes = place_pinned(cuda, NULL);
    TRY(cuda_check(cuda->api->alloc_pinned(&memory, cuda->pinned_bytes), "pinned memory", err));
    cuda->pinned = memory;
    memset(cuda->pinned, 0, cuda->pinned_bytes);
    (void)place_pinned(cuda, cuda->pinned);
    return ST_OK;
}

static void drop_memory(Cuda *cuda)
{
    if (cuda->arena != NULL && !cuda->lost)
        cuda->api->free(cuda->arena);
    if (cuda->pinned != NULL && !cuda->lost)
        cuda->api->free_pinned(cuda->pinned);
    cuda->arena = cuda->pinned = NULL;
    plan_set_drop(&cuda->plans);
}

static Status fit_batch(Cuda *cuda, int32_t wanted, Err *err)
{
    Status status;
    cuda->batch = wanted;
    while ((status = make_memory(cuda, err)) == ST_NO_MEMORY && cuda->batch > 1) {
        drop_memory(cuda);
        cuda->batch /= 2;
    }
    if (status == ST_OK && cuda->batch != wanted)
        (void)snprintf(cuda->note, sizeof cuda->note,
                       "out of memory on the GPU: %d slices at a time instead of %d", cuda->batch,
                       wanted);
    return status;
}

/* ---- the device ---------------------------------------------------------------------------- */

static Status open_device(Cuda *cuda, int32_t device, Err *err)
{
    const CudaApi *api = cuda->api;
    TRY(cuda_use_device(api, device, &cuda->device, err));
    TRY(cuda_check(api->stream_new(&cuda->up), "a stream", err));
    TRY(cuda_check(api->stream_new(&cuda->compute), "a stream", err));
    TRY(cuda_check(api->stream_new(&cuda->down), "a stream", err));
    TRY(cuda_check(api->event_new(&cuda->uploaded), "an event", err));
    for (int i = 0; i < CUDA_SLOTS; i++) {
        TRY(cuda_check(api->event_new(&cuda->slots[i].arrived), "an event", err));
        TRY(cuda_check(api->event_new(&cuda->slots[i].computed), "an event", err));
        TRY(cuda_check(api->event_new(&cuda->slots[i].returned), "an event", err));
    }
    TRY(cudnn_check(api->dnn_new(&cuda->dnn), "opening cuDNN", err));
    TRY(cudnn_check(api->dnn_stream(cuda->dnn, cuda->compute), "cuDNN's stream", err));
    return cudnn_check(api->dnn_profile(cuda->dnn, cuda->profile), "properties of the GPU", err);
}

static void free_event(const Cuda *cuda, cudaEvent_t event)
{
    if (event != NULL)
        cuda->api->event_free(event);
}

static void free_stream(const Cuda *cuda, cudaStream_t stream)
{
    if (stream != NULL)
        cuda->api->stream_free(stream);
}

static void close_device(Cuda *cuda)
{
    for (int i = 0; i < CUDA_SLOTS; i++) {
        if (cuda->slots[i].graph != NULL)
            cuda->api->graph_free(cuda->slots[i].graph);
        free_event(cuda, cuda->slots[i].arrived);
        free_event(cuda, cuda->slots[i].computed);
        free_event(cuda, cuda->slots[i].returned);
    }
    if (cuda->weights != NULL)
        cuda->api->free(cuda->weights);
    if (cuda->dnn != NULL)
        cuda->api->dnn_free(cuda->dnn);
    free_event(cuda, cuda->uploaded);
    free_stream(cuda, cuda->up);
    free_stream(cuda, cuda->compute);
    free_stream(cuda, cuda->down);
}

/* ---- the backend --------------------------------------------------------------------------- */

static void cuda_close(void *state)
{
    Cuda *cuda = state;
    if (cuda == NULL)
        return;
    drop_memory(cuda);
    if (!cuda->lost)
        close_device(cuda);
    free(cuda->graph);
    free(cuda);
}

static Status open_parts(Cuda *cuda, const Graph *graph, const BackendOptions *options, Err *err)
{
    cuda->graph = malloc(sizeof *cuda->graph);
    if (cuda->graph == NULL)
        return err_set(err, ST_NO_MEMORY, "the network's table");
    cuda->n_given = graph->n_ops;
    TRY(cuda_layout(graph, cuda->graph, &cuda->layout, err));
    const Value *out = &graph->values[graph->output];
    cuda->n_in = (size_t)graph_value_elements(&graph->values[graph->input]);
    cuda->n_out = (size_t)graph_value_elements(out);
    TRY(open_device(cuda, options->device, err));
    TRY(cuda_upload_weights(cuda, err));
    TRY(fit_batch(cuda, options->batch, err));
    size_t used = strlen(cuda->note);
    (void)snprintf(cuda->note + used, sizeof cuda->note - used, "%s%s",
                   used > 0 && cuda->set_aside[0] != '\0' ? "; " : "", cuda->set_aside);
    (void)snprintf(cuda->signature, sizeof cuda->signature, "card=%s driver=%d cudnn=%lld batch=%d",
                   cuda->device.name, cuda->device.driver, (long long)cudnnGetVersion(),
                   cuda->batch);
    return ST_OK;
}

static Status cuda_open(const Graph *graph, const Model *model, const BackendOptions *options,
                        void **ret, Err *err)
{
    if (options->precision != PRECISION_F16)
        return err_set(err, ST_BACKEND, "backend cuda computes in f16 only");
    Cuda *cuda = calloc(1, sizeof *cuda);
    if (cuda == NULL)
        return err_set(err, ST_NO_MEMORY, "opening backend cuda");
    cuda->api = cuda_api();
    cuda->model = model;
    cuda->deadline_s = options->deadline_s;
    cuda->threads = options->threads;
    Status status = open_parts(cuda, graph, options, err);
    if (status != ST_OK) {
        cuda_close(cuda);
        return status;
    }
    *ret = cuda;
    return ST_OK;
}

static unsigned cuda_precisions(void)
{
    return 1u << PRECISION_F16;
}

static const char *cuda_note(const void *state)
{
    const Cuda *cuda = state;
    return cuda->note;
}

static const char *cuda_signature(const void *state)
{
    const Cuda *cuda = state;
    return cuda->signature;
}

static Status list_devices(CudaDeviceText *ret, int max, int *ret_n, Err *err)
{
    int count = 0;
    TRY(cuda_check(cuda_api()->count(&count), "looking for GPUs", err));
    *ret_n = count < max ? count : max;
    for (int i = 0; i < *ret_n; i++) {
        CudaDevice device;
        TRY(cuda_check(cuda_api()->describe(i, &device), "describing a GPU", err));
        CudaDeviceText *text = &ret[i];
        memcpy(text->name, device.name, sizeof text->name);
        text->compute = device.compute;
        text->driver = device.driver;
        text->memory_bytes = device.memory_bytes;
    }
    return ST_OK;
}

static int64_t dnn_version(void)
{
    return (int64_t)cudnnGetVersion();
}

__attribute__((visibility("default"))) const CudaPlugin ct2mr_cuda_plugin = {
    .version = CUDA_PLUGIN_VERSION,
    .graph_bytes = sizeof(Graph),
    .backend = {.name = "cuda",
                .passes = GRAPH_PASSES_ALL,
                .precisions = cuda_precisions,
                .open = cuda_open,
                .run = cuda_run,
                .run_shown = cuda_run_shown,
                .close = cuda_close,
                .note = cuda_note,
                .forget = cuda_forget,
                .signature = cuda_signature},
    .training = &train_backend_cuda,
    .dnn_version = dnn_version,
    .devices = list_devices,
};
