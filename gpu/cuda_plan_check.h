/* Is a plan's own description what we meant? cuDNN checks neither everything nor what it is told to
** reload: this compares every tensor (type, dims, strides, virtual or not) and every operation
** (wiring, padding, stride, precision) with the shape, and refuses what it does not know.
**
** Thread: pure function. */
#ifndef CT2MR_GPU_CUDA_PLAN_CHECK_H
#define CT2MR_GPU_CUDA_PLAN_CHECK_H

#include "gpu/cuda_plan.h"

/* Errors: BACKEND (the message says what differs), NO_MEMORY. */
MUST_CHECK Status conv_check_json(const ConvShape *shape, const char *json, Err *err);

#endif
