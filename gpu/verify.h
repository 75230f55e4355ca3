/* Can this model be used on this machine? Thread: any, one call per model. */
#ifndef CT2MR_GPU_VERIFY_H
#define CT2MR_GPU_VERIFY_H

#include "gpu/model.h"

#ifdef __cplusplus
extern "C" {
#endif

#define VERIFY_TOLERANCE 1e-4 /* net.h: backends agree within this */

/* Checks that the file holds every tensor of its network and no other, then runs a fixed synthetic
** slice through backend ref and `backend` (a name of net.h) and compares.
**   ret_difference   largest absolute difference of the two outputs
** Errors: MODEL_FORMAT (the message names the tensor), BACKEND (outputs differ by more than
** VERIFY_TOLERANCE or are not numbers), NO_MEMORY. */
MUST_CHECK Status model_verify(const Model *model, const char *backend, double *ret_difference,
                               Err *err);

#ifdef __cplusplus
}
#endif
#endif
