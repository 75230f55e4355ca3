/* Is a backend's arithmetic right on this machine? A fixed slice goes through it.
**
** Thread: any, one call per model. */
#ifndef CT2MR_GPU_TRUST_H
#define CT2MR_GPU_TRUST_H

#include "gpu/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The golden slice's sides: where values are smallest, 2 x 3, every tap of a 3x3 kernel meets a
** pixel. */
enum { TRUST_HEIGHT = 64, TRUST_WIDTH = 96 };

typedef struct TrustResult {
    double operation_rms;            /* the largest of all operations' */
    char operation[GRAPH_NAME_SIZE]; /* whose; the one that is wrong if one is */
    double output_rms; /* in f16: of the output against the literal network of backend ref */
    double served_rms; /* the largest of slices computed as in service against the same alone */
    char note[320];    /* the backend's note when it opened, "" if none */
} TrustResult;

/* Relative RMS differences allowed: of one operation, and of the network's output in f16. Measured:
** DECISIONS 0036. */
double trust_operation_tolerance(Precision precision);
#define TRUST_OUTPUT_TOLERANCE 0.05
/* Of a slice in a batch, on all threads, against itself alone on one: Winograd's way rounds
** otherwise in f32, a GPU's engines for another batch in f16, by as much as f16 differs from
** ref. */
#define TRUST_SERVED_F32 1e-3
#define TRUST_SERVED 1e-2 /* or twice output_rms */

/* Relative RMS difference: RMS(other - ref) / RMS(ref); infinite if a value is not a number. */
double trust_difference(const float *ref, const float *other, size_t n);

/* Runs the golden slice through `backend` with the given passes; backend ref computes on
** options->threads.
**   Operation by operation: backend ref computes each from the very numbers that `backend` has for
** its inputs, with inputs and weights rounded as `backend` rounds them, so that nothing but the
** operation's own rounding is left. The difference is relative to the values before the ReLU.
**   End to end: an ordinary run must give the bits that the run by operations gave; in f16 it must
** agree with the literal network of backend ref. Both on one thread, batch 1.
**   As in service, against each slice alone: of a GPU four batches of options->batch (the later
** ones are its CUDA graph) and one slice of a fifth; of others two slices a thread, on
** options->threads: the same bits, but for Winograd's way.
**   ret   written on failure, too
** Errors: SELF_TEST (an operation or the output is wrong, or the slice could not be run),
** MODEL_UNFIT (f16: an operation's right values are beyond it), those of the backend's open. */
MUST_CHECK Status trust_check(const Backend *backend, const Model *model,
                              const BackendOptions *options, unsigned passes, TrustResult *ret,
                              Err *err);

#ifdef __cplusplus
}
#endif
#endif
