/* The CUDA backend as the program sees it: a shared object beside it, ct2mr_cuda.so, opened when a
** GPU is asked for. Its libraries are about 1 GB; the program does not need them to start, and
** needs no CUDA to be built.
**
** The folder: $CT2MR_PLUGIN_DIR, else the program's own. The plugin takes what it needs of gpu/ and
** base/ from the program (gpu/plugin.syms). Thread: any; opened once, never closed. */
#ifndef CT2MR_GPU_CUDA_PLUGIN_H
#define CT2MR_GPU_CUDA_PLUGIN_H

#include "gpu/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CUDA_PLUGIN_FILE "ct2mr_cuda.so"
#define CUDA_PLUGIN_SYMBOL "ct2mr_cuda_plugin"
#define CUDA_PLUGIN_VERSION CT2MR_VERSION "-4"

typedef struct CudaDeviceText { /* a GPU for people */
    char name[64];
    int32_t compute; /* 75 is 7.5 */
    int32_t driver;  /* 13000 is CUDA 13.0 */
    int64_t memory_bytes;
} CudaDeviceText;

typedef struct CudaPlugin {
    const char *version; /* CUDA_PLUGIN_VERSION of its build */
    size_t graph_bytes;  /* sizeof(Graph) of its build */
    Backend backend;
    const struct TrainBackend *training; /* train_int.h */
    int64_t (*dnn_version)(void);        /* 91900 is cuDNN 9.19.0 */
    /* The GPUs, at most max of them. Errors: BACKEND (no driver). */
    Status (*devices)(CudaDeviceText *ret, int max, int *ret_n, Err *err);
} CudaPlugin;

/* The opened plugin. Errors: BACKEND (not there, does not load, of another build; the message says
** which). */
MUST_CHECK Status cuda_plugin(const CudaPlugin **ret, Err *err);
/* True if the file is there; nothing is loaded. */
bool cuda_plugin_present(void);

#ifdef __cplusplus
}
#endif
#endif
