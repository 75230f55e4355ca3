/* Runs a finalised cuDNN plan on the host from the plan's own JSON: what cuDNN was told, not what
** we meant. Halves are rounded where memory holds halves, sums are float32. Strict: an operation or
** type that it does not know is refused, and so are tensors bound twice, not at all, beyond their
** memory, misaligned, or overlapping the output. Thread: any. */
#ifndef CT2MR_TESTS_CUDA_INTERPRETER_H
#define CT2MR_TESTS_CUDA_INTERPRETER_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct PlanBinding {
    int n;
    const int64_t *uids;
    void *const *pointers;
    /* True if the memory is the device's, all of it. */
    bool (*is_memory)(const void *at, size_t size_bytes);
    /* Planted faults: the result is multiplied by it, 1: not; images of a batch from this one on
    ** are the one before it, 0: none. */
    float factor;
    int64_t same_from;
} PlanBinding;

/* Errors: BACKEND, with the reason. */
MUST_CHECK Status plan_interpret(const char *json, const PlanBinding *binding, Err *err);

#endif
