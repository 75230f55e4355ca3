/* Can this model be used on this machine? Thread: any, one call per model. */
#ifndef CT2MR_GPU_VERIFY_H
#define CT2MR_GPU_VERIFY_H

#include "gpu/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* net.h: backends agree within this, times the largest output where that is above 1 */
#define VERIFY_TOLERANCE 1e-4
#define VERIFY_PSNR_DB 35.0 /* of bf16 and int8 against f32 on the synthetic slice */

/* Checks that the file holds every tensor of its network and no other, then runs a fixed synthetic
** slice through backend ref and `backend` (a name of net.h) and compares, in f32 and in every other
** precision that the model allows and the backend has here.
**   ret_difference   largest absolute difference of the two outputs
** Errors: MODEL_FORMAT (the message names the tensor), MODEL_UNFIT (ref's own output is no number
** or one value everywhere), BACKEND (outputs differ by more than VERIFY_TOLERANCE, or
** VERIFY_PSNR_DB), NO_MEMORY. */
MUST_CHECK Status model_verify(const Model *model, const char *backend, double *ret_difference,
                               Err *err);

/* The synthetic slice in `precision` against f32, which shows ranges of int8 that were found on
** slices that are no heads. Errors: BACKEND (less than VERIFY_PSNR_DB alike), NO_MEMORY, those of
** net_open(). */
MUST_CHECK Status model_verify_precision(const Model *model, const char *backend,
                                         Precision precision, Err *err);

#ifdef __cplusplus
}
#endif
#endif
