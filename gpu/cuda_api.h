/* Everything the CUDA backend asks of a device, as one table, so that tests can put an emulator in
** its place. cuDNN's descriptors, heuristics and plans need no device and are called directly.
**
** Ownership: what a function makes is freed by its counterpart. Errors are the library's own
** numbers; cuda_check() and cudnn_check() turn them into a Status. Thread: one. */
#ifndef CT2MR_GPU_CUDA_API_H
#define CT2MR_GPU_CUDA_API_H

#include "base/err.h"
#include "gpu/cuda_kernels.h"

#include <cudnn.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { CUDA_PROFILE_SIZE = 4096 };

typedef struct CudaDevice {
    char name[64];
    int32_t compute; /* 75 is compute capability 7.5 */
    int32_t driver;  /* newest CUDA version that the driver knows, 13000 is 13.0 */
    int64_t memory_bytes;
} CudaDevice;

typedef struct CudaApi {
    /* Devices, index 0.. ; use() makes one the calling thread's. */
    cudaError_t (*count)(int *ret);
    cudaError_t (*describe)(int index, CudaDevice *ret);
    cudaError_t (*use)(int index);

    /* Memory of the device; memory of the host that the device can read while it computes. */
    cudaError_t (*alloc)(void **ret, size_t size_bytes);
    cudaError_t (*alloc_pinned)(void **ret, size_t size_bytes);
    void (*free)(void *device);
    void (*free_pinned)(void *host);

    cudaError_t (*stream_new)(cudaStream_t *ret);
    void (*stream_free)(cudaStream_t stream);
    cudaError_t (*event_new)(cudaEvent_t *ret);
    void (*event_free)(cudaEvent_t event);
    cudaError_t (*event_record)(cudaEvent_t event, cudaStream_t stream);
    cudaError_t (*event_query)(cudaEvent_t event); /* cudaErrorNotReady while it is not reached */
    cudaError_t (*stream_wait)(cudaStream_t stream, cudaEvent_t event);

    /* Copies wait for nothing; set() writes a byte value. */
    cudaError_t (*to_device)(void *device, const void *host, size_t size_bytes,
                             cudaStream_t stream);
    cudaError_t (*to_host)(void *host, const void *device, size_t size_bytes, cudaStream_t stream);
    cudaError_t (*set)(void *device, int byte, size_t size_bytes, cudaStream_t stream);
    cudaError_t (*kernel)(const KernelCall *call, cudaStream_t stream);

    /* What is enqueued between begin and end is recorded, not done; graph_run() does it. */
    cudaError_t (*capture_begin)(cudaStream_t stream);
    cudaError_t (*capture_end)(cudaStream_t stream, cudaGraphExec_t *ret);
    cudaError_t (*graph_run)(cudaGraphExec_t graph, cudaStream_t stream);
    void (*graph_free)(cudaGraphExec_t graph);

    bool plans_by_handle; /* the handle is a real one, that plans may be made for */
    cudnnStatus_t (*dnn_new)(cudnnHandle_t *ret);
    void (*dnn_free)(cudnnHandle_t handle);
    cudnnStatus_t (*dnn_stream)(cudnnHandle_t handle, cudaStream_t stream);
    /* The device's properties, as cuDNN writes them (JSON). */
    cudnnStatus_t (*dnn_profile)(cudnnHandle_t handle, char ret[CUDA_PROFILE_SIZE]);
    /* Enqueues a plan: n tensors by uid; workspace as large as the plan says. */
    cudnnStatus_t (*dnn_execute)(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, int n,
                                 const int64_t *uids, void *const *pointers, void *workspace);
} CudaApi;

/* The table that this plugin was built with. */
const CudaApi *cuda_api(void);

/* what: what was being done. NO_MEMORY for memory, else BACKEND; err->native is the number. */
Status cuda_check(cudaError_t error, const char *what, Err *err);
Status cudnn_check(cudnnStatus_t status, const char *what, Err *err);

#ifdef __cplusplus
}
#endif
#endif
