/* What a backend is: a few functions on a planned network. gpu/net.c chooses one.
**
** Bits: a slice's result must not depend on n, on its place in the batch or on the number of
** threads. The CPU backends get this by construction: one slice is one thread's work. The CUDA
** backend always computes whole batches of one size. */
#ifndef CT2MR_GPU_BACKEND_H
#define CT2MR_GPU_BACKEND_H

#include "gpu/graph.h"
#include "gpu/net.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct BackendOptions {
    Precision precision;  /* one of precisions() or F32 */
    int32_t threads;      /* >= 1; of a GPU: for feed->fill and feed->take */
    int32_t batch;        /* >= 1; slices per run of a GPU, which may take fewer (see note) */
    double deadline_s;    /* > 0; a GPU that does not finish a batch in this time is given up */
    int32_t device;       /* which GPU, 0.. */
    int32_t winograd_mib; /* of the CPU backend in f32: see NetOptions */
} BackendOptions;

typedef struct Steps {     /* numbers of 8 bits: multiples of step from low to high */
    float step, low, high; /* step 0: floats */
} Steps;

typedef struct ShownValue { /* a value as the backend holds it */
    const float *y;         /* (c, h, w), valid during the call */
    Steps steps;
    /* Of the operation that gave it, and of those that were done with it: */
    Precision weights;
    Steps inputs[2]; /* what it first rounded its inputs to */
} ShownValue;

/* What operation `op` of the table that open() was given gave; -1: the network's input. Anything
** but ST_OK ends the run. */
typedef Status BackendShow(void *context, int32_t op, const ShownValue *value, Err *err);

typedef struct Backend {
    const char *name;
    unsigned passes; /* of graph_passes.h that it is made for; others are never applied */
    /* What this machine can do beside f32 (a GPU: in all): bits 1 << Precision. */
    unsigned (*precisions)(void);
    /* Those of them that are no faster than f32 here; "auto" leaves them out. NULL: none. */
    unsigned (*slow_precisions)(void);
    /* graph: planned, fits the model; graph and model are borrowed until close. Reserves all
    ** memory. Errors: BACKEND, LIMIT, NO_MEMORY, MODEL_FORMAT, IO. */
    Status (*open)(const Graph *graph, const Model *model, const BackendOptions *options,
                   void **ret, Err *err);
    /* feed->fill(i) -> network -> feed->take(i) for every slice. Allocates nothing. Errors:
    ** BACKEND. */
    Status (*run)(void *state, int32_t n, const NetFeed *feed, Err *err);
    /* run() that also finds the range of every convolution's output that serves int8 best,
    ** ret[n_ops of the graph]; the slices are run twice. f32 only. NULL: the backend does not. */
    Status (*run_ranges)(void *state, int32_t n, const NetFeed *feed, float *ret, Err *err);
    /* Runs one slice and shows each operation's result before the next begins; operations that are
    ** done together are shown by the last. NULL: the backend does not. Errors: BACKEND, NO_MEMORY,
    ** those of show. */
    Status (*run_shown)(void *state, const NetFeed *feed, BackendShow *show, void *context,
                        Err *err);
    void (*close)(void *state); /* NULL is fine */
    /* What the caller should know of the state, a phrase; "" if nothing. Lives as long as the
    ** state. NULL: the backend never has anything to say. */
    const char *(*note)(const void *state);
    /* Overwrites what the state holds of slices, on the device, too. After it the state is as good
    ** as new. NULL: not to be had. Errors: BACKEND. */
    Status (*forget)(void *state, Err *err);
    /* What decides the bits beside model, precision and slices, as text. Lives as long as the
    ** state. NULL: nothing does. */
    const char *(*signature)(const void *state);
} Backend;

extern const Backend backend_ref, backend_dnnl;

/* One operation of a table by itself, as backend ref computes it, before its ReLU. A convolution's
** weights, and in f16 its bias, are first rounded to the precision `weights`; in int8 to multiples
** of 1/127 of each output channel's largest. The same bits with any number of threads.
**   x, second  the inputs (c, h, w); second NULL where the operation has one
**   ret_y      (c, h, w)
** Errors: NO_MEMORY, LIMIT, MODEL_FORMAT, IO. */
MUST_CHECK Status ref_run_op(const Graph *graph, const Op *op, const Model *model,
                             Precision weights, int32_t threads, const float *x,
                             const float *second, float *ret_y, Err *err);

/* Calls slice(state, worker, i, err) for i in 0..n-1 on n_workers threads; a worker number is never
** in use twice at a time, so it may index work memory. Returns the failure of the lowest slice that
** failed; after a failure no new slice is begun. */
typedef Status BackendSlice(void *state, int32_t worker, int32_t i, Err *err);
MUST_CHECK Status backend_each_slice(int32_t n_workers, int32_t n, BackendSlice *slice, void *state,
                                     Err *err);

#ifdef __cplusplus
}
#endif
#endif
