/* The CUDA backend's device, emulated on the host, with faults to order: a plugin of its own that
** holds the backend's code, the real libcudnn for descriptors and plans, and this in place of the
** device. What a plan does is read from the plan's own JSON (cuda_interpreter.h).
**
** Memory is host memory that is known by base and size. Streams are queues: nothing is done before
** the host asks for an event, then no more than leads to it; of the streams that may go on it is
** always the oldest, the newest or any that does. What does not wait where it should thus meets
** memory that is not ready, and gives other results. Thread: one. */
#ifndef CT2MR_TESTS_CUDA_EMULATOR_H
#define CT2MR_TESTS_CUDA_EMULATOR_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct EmulatedPlan { /* one convolution to plan for a card of gpu_catalog.h */
    int32_t card, n, c_in, h, w, c_out, kernel, stride;
    bool residual, relu;
    int32_t pass; /* 0 forward, 1 gradient of the input, 2 of the weights */
    /* A mistake to be refused; FLOAT: weights, or their gradient, in float32. */
    enum { PLAN_GOOD, PLAN_DIMS, PLAN_BF16, PLAN_LAYOUT, PLAN_FLOAT } control;
    /* What cuDNN is made to say of `noted`: that it needs a compiler at run time, or cuBLASLt; that
    ** its bits vary from run to run, or that it sums in fewer bits. */
    enum { NOTE_NOTHING, NOTE_COMPILER, NOTE_CUBLASLT, NOTE_VARIES, NOTE_REDUCED } note;
    int64_t noted;                   /* number of an engine */
    int64_t claimed_bytes;           /* workspace of the plan that reload() loads; 0: the truth */
    int64_t workspace_bytes, engine; /* results */
    bool tensor_core;
    bool varies,
        needs_more; /* as cuDNN says of the engine: other bits in another run; a compiler */
} EmulatedPlan;

/* Networks whose distinct convolutions are to be planned: of inference DRUNet-34, -50 and -101; of
** training the U-Net, too, and each convolution with its two gradients. */
typedef struct EmulatedNetworks {
    int32_t batch, width, side;
    bool training;
} EmulatedNetworks;

typedef struct EmulatedTally {
    int n_shapes, n_good, n_tensor_core;
    int n_back;              /* of n_good: gradients */
    int n_varies, n_more;    /* of n_good: as EmulatedPlan's, which none should be */
    int64_t workspace_bytes; /* the largest */
    char trouble[256];       /* the first */
} EmulatedTally;

typedef struct CudaEmulator {
    /* Faults; 0: none. Calls are counted from 1 since the process began. */
    int no_driver;        /* as where no NVIDIA driver is installed */
    int card;             /* index in gpu_catalog.h */
    int n_gpus;           /* of that card; from $CT2MR_EMULATED_GPUS, else 1 */
    int fail_alloc;       /* this allocation fails */
    int64_t memory_bytes; /* allocations beyond it fail; 0: no limit */
    int fail_work;        /* this kernel or plan and everything after it fails */
    int spoil_work;       /* what this kernel or plan gives is 5/4 of it */
    int broken;           /* a work has failed: everything fails */
    int hang_event;       /* this event record and all after it are never reached */
    int spoil_upload;     /* this upload of weights since cuDNN was opened: (c_out, c_in, k, k) */
    int spoil_c, spoil_taps; /* c_in and k * k of that layer */
    int spoil_rows;          /* of a 3x3 kernel the first and the last row are exchanged instead */
    enum { ORDER_OLDEST, ORDER_NEWEST, ORDER_RANDOM } order; /* which stream goes on first */
    int same_from;    /* images of a batch from this one on are the one before it */
    int idle_graphs;  /* a captured graph that is run does nothing */
    int ignore_waits; /* streams do not wait for events: results must be wrong */
    int no_capture;   /* streams cannot be captured */
    /* Counts. */
    int n_allocs, n_works, n_records, n_uploads, n_graph_runs, n_plans_run;
    int used;   /* the GPU that was made the thread's last */
    int n_live; /* allocations, streams, events, graphs, handles not freed */
    int64_t live_bytes, peak_bytes;
    char complaint[256]; /* the first thing that a device would not have forgiven; "" if none */
    /* As in a new process: not broken, nothing to do, all counts 0. Faults stay. */
    void (*restart)(void);
    /* Numbers of bytes that are not 0 in pinned memory, and in the device's own but for the piece
    ** that holds the weights. */
    void (*remains)(int64_t *ret_pinned, int64_t *ret_device);
    /* Plans without a device. */
    Status (*plan)(EmulatedPlan *plan, Err *err);
    Status (*plan_networks)(int card, const EmulatedNetworks *networks, EmulatedTally *ret,
                            Err *err);
    /* Reloads a good plan's JSON for another card; and with `from` replaced by `to` in it. */
    Status (*reload)(const EmulatedPlan *plan, int other_card, const char *from, const char *to,
                     Err *err);
} CudaEmulator;

#define CUDA_EMULATOR_SYMBOL "cuda_emulator"

#endif
