/* The network as the pipeline sees it: open with a backend, run slices, close.
**
** Backends: "ref" (readable C loops, the oracle), "cpu" (oneDNN fp32). "auto" is the fastest one
** present. Backends agree within 1e-4 (max abs after the activation). A backend gives the same bits
** for the same slice whatever the batch size, the slice's place in the batch and the thread count.
** Thread: a Net belongs to one thread; it makes its own inside net_run(). */
#ifndef CT2MR_GPU_NET_H
#define CT2MR_GPU_NET_H

#include "gpu/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Net Net;

typedef struct NetOptions {
    const char *backend;   /* "auto", "ref", "cpu" */
    int32_t batch;         /* slices per run inside; >= 1. The CPU backends run one per thread */
    int32_t height, width; /* of a slice, multiples of 32 */
    int32_t threads;       /* 0: all processors; memory grows with each */
} NetOptions;

/* Names of the backends in this build, index 0.. ; NULL past the end. */
const char *net_backend_name(int index);

/* Builds the graph, folds batch norm, reserves all memory. model is borrowed until close.
** Errors: BACKEND (unknown or failed), MODEL_FORMAT (a tensor is missing or has another shape),
** LIMIT (sizes), NO_MEMORY. */
MUST_CHECK Status net_open(const Model *model, const NetOptions *options, Net **ret, Err *err);
void net_close(Net *net);
const char *net_backend(const Net *net);
/* n slices, any n >= 0.
**   x       (n, 3, height, width) float32, normalised
**   ret_y   (n, 1, height, width), after the model's activation
** Errors: BACKEND. */
MUST_CHECK Status net_run(Net *net, const float *x, int32_t n, float *ret_y, Err *err);

#ifdef __cplusplus
}
#endif
#endif
