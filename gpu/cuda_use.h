/* What inference and training on a device share: taking a device, waiting for it, and pieces of
** its memory. Thread: one per device. */
#ifndef CT2MR_GPU_CUDA_USE_H
#define CT2MR_GPU_CUDA_USE_H

#include "gpu/cuda_api.h"

enum { CUDA_ALIGN_BYTES = 256 };

/* Makes GPU `index` the calling thread's. Errors: BACKEND (no driver, no such GPU, one that is too
** old). */
MUST_CHECK Status cuda_use_device(const CudaApi *api, int32_t index, CudaDevice *ret, Err *err);
/* Waits for an event, at most deadline_s. Errors: BACKEND; nothing of the device may be touched
** after it. */
MUST_CHECK Status cuda_await(const CudaApi *api, cudaEvent_t event, double deadline_s,
                             const char *what, Err *err);
/* Takes bytes from a piece whose size is being added up (base NULL) or that is there. */
unsigned char *cuda_take(unsigned char *base, size_t *used, size_t bytes);

#endif
