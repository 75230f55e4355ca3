/* Private to gpu/safetensors*.c. */
#ifndef CT2MR_GPU_SAFETENSORS_INT_H
#define CT2MR_GPU_SAFETENSORS_INT_H

#include "gpu/safetensors.h"

/* Fills entries, in the file's order, and metadata from a header of `length` bytes in front of
** data_bytes of tensors. Errors: MODEL_FORMAT, NO_MEMORY. */
MUST_CHECK Status safetensors_parse(const char *text, size_t length, size_t data_bytes,
                                    SafetensorsRules rules, Safetensors *ret, Err *err);

#endif
