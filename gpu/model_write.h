/* Writing model files: the tensors of one file under changed metadata, or a file of new tensors.
** Thread: any. */
#ifndef CT2MR_GPU_MODEL_WRITE_H
#define CT2MR_GPU_MODEL_WRITE_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct MetadataValue {
    const char *key, *value; /* value NULL: the key is taken out */
} MetadataValue;

/* Copies the model file `from` to `to` with some metadata set, tensors byte for byte. Durable; `to`
** is replaced whole or not at all, and may be `from`. `from` has been opened as a model before, so
** its header is good. Errors: MODEL_FORMAT, IO, DISK_FULL, NO_MEMORY. */
MUST_CHECK Status model_write_metadata(const char *from, const MetadataValue *values, int n,
                                       const char *to, Err *err);

typedef struct NewTensor { /* borrowed */
    const char *name;
    int32_t n_dims;
    int64_t dims[4];
    const float *values; /* row-major, finite */
} NewTensor;

/* A new file of these tensors, in this order, as F32 or, where is_f16, F16 (to the nearest). Values
** with NULL are left out. Durable, as above. Errors: MODEL_FORMAT (a number that is not finite, or
** not in F16; the message names the tensor; nothing is written), IO, DISK_FULL, NO_MEMORY. */
MUST_CHECK Status model_write_new(const char *path, const MetadataValue *values, int n,
                                  const NewTensor *tensors, int n_tensors, bool is_f16, Err *err);

#endif
