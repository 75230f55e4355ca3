/* Is a backend's arithmetic right on this machine? A fixed slice goes through it and through ref.
**
** Thread: any, one call per model. */
#ifndef CT2MR_GPU_TRUST_H
#define CT2MR_GPU_TRUST_H

#include "gpu/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* f16 keeps 11 bits, 5e-4 a rounding. Of the output; and of what is in front of the activation, or
** of any layer, where a hundred layers' roundings add up (measured: 6e-3 for DRUNet-101 with random
** weights; a wrong weight layout in one layer gives 0.5 and more). */
#define TRUST_TOLERANCE 5e-3
#define TRUST_LAYER_TOLERANCE 3e-2

typedef struct TrustResult {
    double relative_rms;         /* of the output */
    double linear_rms;           /* of the values in front of the activation */
    char layer[GRAPH_NAME_SIZE]; /* the first that is wrong; "" if none */
    double layer_rms;            /* of that layer */
} TrustResult;

/* Relative RMS difference: RMS(other - ref) / RMS(ref); infinite if a value is not a number. */
double trust_difference(const float *ref, const float *other, size_t n);

/* Runs the golden slice (32 x 64) through backend ref, literally, and through `backend` with all
** its passes, with and without the activation. Where they differ too much the first layer that is
** wrong is searched for with networks cut off behind it.
**   ret   written on failure for a difference, too
** Errors: BACKEND (differs, with numbers and the layer; or does not run), NO_MEMORY, ... */
MUST_CHECK Status trust_check(const Backend *backend, const Model *model,
                              const BackendOptions *options, TrustResult *ret, Err *err);

#ifdef __cplusplus
}
#endif
#endif
