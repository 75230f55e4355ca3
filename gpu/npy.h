/* NumPy .npy files of C-order little-endian float32 (format 1.0 - 3.0). Thread: any. */
#ifndef CT2MR_GPU_NPY_H
#define CT2MR_GPU_NPY_H

#include "base/err.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Npy {
    int32_t n_dims;
    int64_t dims[4];
    float *data; /* malloc'ed */
} Npy;

/* Errors: NOT_FOUND, IO, DICOM-free: UNSUPPORTED (other dtype, order, > 4 dims), LIMIT. */
MUST_CHECK Status npy_read(const char *path, Npy *ret, Err *err);
MUST_CHECK Status npy_write(const char *path, const Npy *npy, Err *err);
void npy_free(Npy *npy);

#ifdef __cplusplus
}
#endif
#endif
