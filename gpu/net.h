/* The network as the pipeline sees it: open with a backend, run slices, close.
**
** Backends: "ref" (readable C loops in f32, the oracle), "cpu" (oneDNN; f32, bf16, int8), "cuda"
** (cuDNN in f16, a plugin beside the program). In f32 backends agree within 1e-4 (max abs after the
** activation). A backend gives the same bits for the same slice whatever the number of slices, the
** slice's place among them and the thread count; ref and cpu whatever the batch size as well.
**
** "auto" is cuda where the plugin is there and f16 is asked for or allowed by the model file, else
** cpu. Where the GPU cannot be used, or fails while it runs, "auto" computes all slices on the CPU,
** in precision "auto", and net_notice() says why. "cuda" asked for by name fails instead.
**
** Opening begins with the backend's self-test (trust.h); backend ref, what the others are compared
** with, has none.
**
** Precision: "auto" is the fastest that the model file allows (model.h) and the backend has on this
** machine. One that is asked for by name is refused where the machine would have to emulate it, and
** int8 where the model file does not allow it: its accuracy is the model's, and must be measured.
** What was not measured with the file's own weights (unproven, model.h) is passed over by "auto",
** and net_notice() says so.
** Thread: a Net belongs to one thread; it makes its own inside net_run(). */
#ifndef CT2MR_GPU_NET_H
#define CT2MR_GPU_NET_H

#include "gpu/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Net Net;

enum { NET_WINOGRAD_MIB = 24 }; /* NetOptions.winograd_mib where nobody says otherwise */

typedef struct NetOptions {
    const char *backend;   /* "auto", "ref", "cpu", "cuda" */
    int32_t batch;         /* slices per run of a GPU; >= 1. The CPU backends run one per thread */
    double deadline_s;     /* for a batch of a GPU; 0: 60 s */
    int32_t height, width; /* of a slice, multiples of 32 */
    int32_t threads;       /* 0: all processors; memory grows with each */
    const char *precision; /* "auto" or NULL, "f32", "bf16", "int8", "f16" */
    unsigned without;      /* passes left out: bits 1 << GraphPass (graph_passes.h) */
    int32_t device;        /* which GPU, 0.. */
    bool gpu_proven;       /* this process has opened this model on this GPU and all was well: the
                     ** self-test of the GPU is not run again; that of the CPU is */
    /* f32 on backend cpu: 3x3 convolutions go Winograd's way (Winograd 1980; Lavin and Gray 2016)
    ** where that saves a tenth of the time or more and takes at most this much more memory for all
    ** of them. 0: never. */
    int32_t winograd_mib;
} NetOptions;

/* Where slices come from and go to. Both are called on the threads of the run, several slices at a
** time, each slice once; what they do overlaps with the network's work on other slices. When "auto"
** falls from the GPU to the CPU, all slices are asked for and given again. */
typedef struct NetFeed {
    void *context;
    /* Writes slice i: (3, height, width) float32, normalised. */
    void (*fill)(void *context, int32_t i, float *ret_x);
    /* Takes its result: (1, height, width), after the model's activation; valid during the call. */
    void (*take)(void *context, int32_t i, const float *y);
} NetFeed;

/* Slices one after the other in memory: slice i at x + i * n_in, its result at y + i * n_out. */
typedef struct NetMemory {
    const float *x;
    float *y;
    size_t n_in, n_out; /* elements of a slice */
} NetMemory;

/* A feed from and to such memory, which is borrowed while the feed is in use. Any thread. */
NetFeed net_feed_memory(NetMemory *memory);

/* Names of the backends in this build, index 0.. ; NULL past the end. */
const char *net_backend_name(int index);

/* Whether the backend of that name has the precision on this machine (not for cuda: false). */
bool net_has(const char *backend, Precision precision);

/* Builds the graph, applies the passes, reads the weights, reserves all memory. model is borrowed
** until close.
** Errors: BACKEND (unknown or failed; a precision that is not to be had), SELF_TEST, MODEL_FORMAT
** (a tensor is missing or has another shape), MODEL_UNFIT (int8 is not allowed or has no ranges;
** weights or values beyond f16), LIMIT (sizes), NO_MEMORY, IO. */
MUST_CHECK Status net_open(const Model *model, const NetOptions *options, Net **ret, Err *err);
void net_close(Net *net);
const char *net_backend(const Net *net);
Precision net_precision(const Net *net);
/* What an operator should know, one phrase: why the CPU computes instead of the GPU, why the batch
** is smaller. "" if nothing. Valid until the next run or close. */
const char *net_notice(const Net *net);
/* Why a GPU's self-test failed, so that the CPU computes; "" if none did. Valid until close. */
const char *net_out_of_service(const Net *net);
/* Whether what computes now went through the self-test when it was opened: not ref, which is the
** measure, nor a GPU that was proven before. */
bool net_self_tested(const Net *net);
/* What decides the bits beside model, precision and slices: on a GPU card, driver, cuDNN and batch;
** on the CPU which convolutions went Winograd's way. Valid until the next run or close. */
const char *net_signature(const Net *net);
/* Overwrites all that the net holds of slices it has run, so that it may be kept for another
** patient. Errors: BACKEND (also for one that cannot: only cuda can); then it may only be
** closed. */
MUST_CHECK Status net_forget(Net *net, Err *err);
/* How many GPUs backend cuda sees; 0 where there is none or no plugin. */
int32_t net_gpus(void);
/* n slices, any n >= 0. Errors: BACKEND. */
MUST_CHECK Status net_run_feed(Net *net, int32_t n, const NetFeed *feed, Err *err);
/* The same from and to memory: x (n, 3, height, width) -> ret_y (n, 1, height, width). */
MUST_CHECK Status net_run(Net *net, const float *x, int32_t n, float *ret_y, Err *err);

typedef struct NetRange { /* of a convolution's output, after its ReLU: what 8 bits should span */
    char conv[40];
    float range;
} NetRange;
enum { NET_MAX_RANGES = 1024 };

/* net_run_feed() that also finds what int8 needs to know. The net is f32 on backend cpu, without
** Winograd and without the pass split-concat. ret: room for NET_MAX_RANGES. Errors: BACKEND
** (another net). */
MUST_CHECK Status net_run_ranges(Net *net, int32_t n, const NetFeed *feed, NetRange *ret,
                                 int32_t *ret_n, Err *err);

#ifdef __cplusplus
}
#endif
#endif
