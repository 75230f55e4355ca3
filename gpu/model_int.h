/* Private to gpu/model.c: the "__metadata__" object of a model file. */
#ifndef CT2MR_GPU_MODEL_INT_H
#define CT2MR_GPU_MODEL_INT_H

#include "gpu/model.h"

#include <cjson/cJSON.h>

/* Fills what the metadata states (not name, digest, n_parameters). NULL metadata is refused.
** Errors: MODEL_FORMAT, the message names the key. */
MUST_CHECK Status model_metadata_parse(const cJSON *metadata, ModelInfo *ret, Err *err);

#endif
