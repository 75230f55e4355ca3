/* The table of cuda_api.h over cudart and cuDNN. Each function is one call of theirs, so that there
** is nothing here to get wrong that a test without a GPU could have found. */
#include "gpu/cuda_api.h"

#include <stdio.h>
#include <string.h>

/* cudart remembers the last error for whoever asks next; nobody does, so it is taken here. */
static cudaError_t done(cudaError_t error)
{
    if (error != cudaSuccess)
        (void)cudaGetLastError();
    return error;
}

static cudaError_t count(int *ret)
{
    return done(cudaGetDeviceCount(ret));
}

static cudaError_t describe(int index, CudaDevice *ret)
{
    struct cudaDeviceProp p;
    int driver = 0;
    cudaError_t error = cudaGetDeviceProperties(&p, index);
    if (error == cudaSuccess)
        error = cudaDriverGetVersion(&driver);
    if (error != cudaSuccess)
        return done(error);
    (void)snprintf(ret->name, sizeof ret->name, "%.63s", p.name);
    ret->compute = 10 * p.major + p.minor;
    ret->driver = driver;
    ret->memory_bytes = (int64_t)p.totalGlobalMem;
    return cudaSuccess;
}

static cudaError_t use(int index)
{
    return done(cudaSetDevice(index));
}

static cudaError_t alloc(void **ret, size_t size_bytes)
{
    return done(cudaMalloc(ret, size_bytes));
}

static cudaError_t alloc_pinned(void **ret, size_t size_bytes)
{
    return done(cudaHostAlloc(ret, size_bytes, cudaHostAllocDefault));
}

static void free_device(void *device)
{
    (void)done(cudaFree(device));
}

static void free_pinned(void *host)
{
    (void)done(cudaFreeHost(host));
}

static cudaError_t stream_new(cudaStream_t *ret)
{
    return done(cudaStreamCreateWithFlags(ret, cudaStreamNonBlocking));
}

static void stream_free(cudaStream_t stream)
{
    (void)done(cudaStreamDestroy(stream));
}

static cudaError_t event_new(cudaEvent_t *ret)
{
    return done(cudaEventCreateWithFlags(ret, cudaEventDisableTiming));
}

static void event_free(cudaEvent_t event)
{
    (void)done(cudaEventDestroy(event));
}

static cudaError_t event_record(cudaEvent_t event, cudaStream_t stream)
{
    return done(cudaEventRecord(event, stream));
}

static cudaError_t event_query(cudaEvent_t event)
{
    return done(cudaEventQuery(event));
}

static cudaError_t stream_wait(cudaStream_t stream, cudaEvent_t event)
{
    return done(cudaStreamWaitEvent(stream, event, 0));
}

static cudaError_t to_device(void *device, const void *host, size_t size_bytes, cudaStream_t stream)
{
    return done(cudaMemcpyAsync(device, host, size_bytes, cudaMemcpyHostToDevice, stream));
}

static cudaError_t to_host(void *host, const void *device, size_t size_bytes, cudaStream_t stream)
{
    return done(cudaMemcpyAsync(host, device, size_bytes, cudaMemcpyDeviceToHost, stream));
}

static cudaError_t set(void *device, int byte, size_t size_bytes, cudaStream_t stream)
{
    return done(cudaMemsetAsync(device, byte, size_bytes, stream));
}

static cudaError_t capture_begin(cudaStream_t stream)
{
    return done(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
}

static cudaError_t capture_end(cudaStream_t stream, cudaGraphExec_t *ret)
{
    cudaGraph_t graph = NULL;
    cudaError_t error = cudaStreamEndCapture(stream, &graph);
    if (error == cudaSuccess)
        error = cudaGraphInstantiate(ret, graph, 0);
    if (graph != NULL)
        (void)cudaGraphDestroy(graph);
    return done(error);
}

static cudaError_t graph_run(cudaGraphExec_t graph, cudaStream_t stream)
{
    return done(cudaGraphLaunch(graph, stream));
}

static void graph_free(cudaGraphExec_t graph)
{
    (void)done(cudaGraphExecDestroy(graph));
}

static void dnn_free(cudnnHandle_t handle)
{
    (void)cudnnDestroy(handle);
}

static cudnnStatus_t dnn_profile(cudnnHandle_t handle, char ret[CUDA_PROFILE_SIZE])
{
    cudnnBackendDescriptor_t d = NULL;
    int64_t length = 0;
    cudnnStatus_t s = cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &d);
    if (s != CUDNN_STATUS_SUCCESS)
        return s;
    s = cudnnBackendSetAttribute(d, CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    if (s == CUDNN_STATUS_SUCCESS)
        s = cudnnBackendFinalize(d);
    memset(ret, 0, CUDA_PROFILE_SIZE);
    if (s == CUDNN_STATUS_SUCCESS)
        s = cudnnBackendGetAttribute(d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                     CUDA_PROFILE_SIZE - 1, &length, ret);
    (void)cudnnBackendDestroyDescriptor(d);
    return s;
}

static cudnnStatus_t dnn_execute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, int n,
                                 const int64_t *uids, void *const *pointers, void *workspace)
{
    cudnnBackendDescriptor_t pack = NULL;
    cudnnStatus_t s = cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    if (s != CUDNN_STATUS_SUCCESS)
        return s;
    s = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n,
                                 uids);
    if (s == CUDNN_STATUS_SUCCESS)
        s = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS,
                                     CUDNN_TYPE_VOID_PTR, n, pointers);
    if (s == CUDNN_STATUS_SUCCESS)
        s = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR,
                                     1, &workspace);
    if (s == CUDNN_STATUS_SUCCESS)
        s = cudnnBackendFinalize(pack);
    if (s == CUDNN_STATUS_SUCCESS)
        s = cudnnBackendExecute(handle, plan, pack);
    (void)cudnnBackendDestroyDescriptor(pack);
    return s;
}

const CudaApi *cuda_api(void)
{
    static const CudaApi API = {
        .count = count,
        .describe = describe,
        .use = use,
        .alloc = alloc,
        .alloc_pinned = alloc_pinned,
        .free = free_device,
        .free_pinned = free_pinned,
        .stream_new = stream_new,
        .stream_free = stream_free,
        .event_new = event_new,
        .event_free = event_free,
        .event_record = event_record,
        .event_query = event_query,
        .stream_wait = stream_wait,
        .to_device = to_device,
        .to_host = to_host,
        .set = set,
        .kernel = kernel_launch,
        .capture_begin = capture_begin,
        .capture_end = capture_end,
        .graph_run = graph_run,
        .graph_free = graph_free,
        .plans_by_handle = true,
        .dnn_new = cudnnCreate,
        .dnn_free = dnn_free,
        .dnn_stream = cudnnSetStream,
        .dnn_profile = dnn_profile,
        .dnn_execute = dnn_execute,
    };
    return &API;
}
