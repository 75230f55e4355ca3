/* Private to gpu/model.c: the "__metadata__" object of a model file. */
#ifndef CT2MR_GPU_MODEL_INT_H
#define CT2MR_GPU_MODEL_INT_H

#include "gpu/model.h"

#include <cjson/cJSON.h>

enum { MODEL_MAX_RANGES = 1024 };

typedef struct NamedRange { /* of a convolution's output on the calibration data */
    char conv[40];
    float largest;
} NamedRange;

typedef struct ModelRanges {
    int32_t n;
    NamedRange *items; /* owned */
} ModelRanges;

/* The ranges of metadata int8; none if there is no such key. ret->items is to be freed, on failure
** too. Errors: MODEL_FORMAT, NO_MEMORY. */
MUST_CHECK Status model_metadata_ranges(const cJSON *metadata, ModelRanges *ret, Err *err);

/* Fills what the metadata states (not name, digest, n_parameters). NULL metadata is refused.
** Errors: MODEL_FORMAT, the message names the key. */
MUST_CHECK Status model_metadata_parse(const cJSON *metadata, ModelInfo *ret, Err *err);

#endif
