/* Writing model files: the tensors of one file under changed metadata, or a file of new tensors.
** Thread: any. */
#ifndef CT2MR_GPU_MODEL_WRITE_H
#define CT2MR_GPU_MODEL_WRITE_H

#include "base/err.h"

typedef struct MetadataValue {
    const char *key, *value; /* value NULL: the key is taken out */
} MetadataValue;

/* Copies the model file `from` to `to` with some metadata set, tensors byte for byte. Durable; `to`
** is replaced whole or not at all, and may be `from`. `from` has been opened as a model before, so
** its header is good. Errors: MODEL_FORMAT, IO, DISK_FULL, NO_MEMORY. */
MUST_CHECK Status model_write_metadata(const char *from, const MetadataValue *values, int n,
                                       const char *to, Err *err);

#endif
