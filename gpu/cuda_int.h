/* Private to the CUDA backend: what an open network holds.
**
**   cuda_steps.c     weights and plans        cuda_run.c   a batch after the other
**   backend_cuda.c   opening and closing, memory
**
** Device memory: one piece for the weights, one for everything that grows with the batch (values by
** the graph's liveness plan times the batch, cuDNN's workspace, and per slot a batch of input and
** output); host memory that the device reads: one piece. A run allocates nothing.
**
** Thread: one; a run makes others for what the host does for a batch. */
#ifndef CT2MR_GPU_CUDA_INT_H
#define CT2MR_GPU_CUDA_INT_H

#include "gpu/backend.h"
#include "gpu/cuda_api.h"
#include "gpu/cuda_layout.h"
#include "gpu/cuda_plan_set.h"
#include "gpu/cuda_use.h"

enum { CUDA_SLOTS = 2 };

typedef struct CudaStep {         /* of a convolution */
    int32_t plan;                 /* index */
    unsigned char *weight, *bias; /* device; halves (c_out, k, k, c_in) and (c_out) */
} CudaStep;

typedef struct CudaSlot {      /* a batch on its way; while one computes the other is filled */
    float *host_in, *host_out; /* pinned, (batch, c_in, h, w) and (batch, c_out, out_h, out_w) */
    uint32_t *host_count;      /* values that are not finite */
    float *in, *out;           /* the same on the device */
    uint32_t *count;
    cudaEvent_t arrived, computed, returned;
    cudaGraphExec_t graph; /* the batch's work on this slot, NULL until captured */
    int32_t n_runs;
    int32_t first, n; /* slices under way; n 0: none */
} CudaSlot;

typedef struct Cuda {
    const CudaApi *api;
    const Model *model;
    Graph *graph;    /* as cuda_layout() made it, owned */
    int32_t n_given; /* operations of the table it was made from */
    CudaLayout layout;
    CudaDevice device;
    char profile[CUDA_PROFILE_SIZE];
    int32_t batch, threads; /* threads fill and take */
    double deadline_s;
    char note[320], signature[160];
    char set_aside[208]; /* why the plan cache does not count, "" if it does */
    bool lost; /* hung or failed for good: nothing of it is touched again, not to free it either */
    bool no_graphs;

    cudnnHandle_t dnn;
    cudaStream_t up, compute, down;
    cudaEvent_t uploaded;
    CudaStep steps[GRAPH_MAX_OPS];
    PlanSet plans;
    unsigned char *weights, *arena, *pinned; /* the three pieces */
    size_t arena_bytes, pinned_bytes;
    unsigned char *values, *workspace; /* within arena */
    size_t n_in, n_out;                /* numbers of a slice */
    CudaSlot slots[CUDA_SLOTS];
} Cuda;

/* Reads, folds and uploads all weights. Errors: NO_MEMORY, MODEL_FORMAT, IO, BACKEND. */
MUST_CHECK Status cuda_upload_weights(Cuda *cuda, Err *err);
/* Plans for cuda->batch, from the cache where it has them. Errors: BACKEND, NO_MEMORY. */
MUST_CHECK Status cuda_make_plans(Cuda *cuda, Err *err);

/* Waits for an event, at most deadline_s. Errors: BACKEND; then cuda->lost is set. */
MUST_CHECK Status cuda_wait(Cuda *cuda, cudaEvent_t event, const char *what, Err *err);
/* Backend.run, Backend.run_shown, Backend.forget */
Status cuda_run(void *state, int32_t n, const NetFeed *feed, Err *err);
Status cuda_run_shown(void *state, const NetFeed *feed, BackendShow *show, void *context, Err *err);
Status cuda_forget(void *state, Err *err);

#endif
