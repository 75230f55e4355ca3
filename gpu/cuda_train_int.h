/* Private to training on a GPU: what its files share.
**
**   cuda_train.c           the backend: opening, closing, a step, loss scaling
**   cuda_train_layout.c    steps in halves               cuda_train_open.c   plans, memory
**   cuda_train_forward.c, cuda_train_back.c
**
** Steps and their memory are those of the CPU engine (train_steps.h), in halves (n, h, w, c) with c
** a multiple of 8. Parameters, gradients and statistics are float32 on the device; the halves that
** convolutions read are cast from them. Everything is on one stream, one call of it at a time.
**
** Device memory is one piece, host memory that the device reads another; a step allocates nothing.
** Thread: one. */
#ifndef CT2MR_GPU_CUDA_TRAIN_INT_H
#define CT2MR_GPU_CUDA_TRAIN_INT_H

#include "gpu/cuda_plan_set.h"
#include "gpu/cuda_train_layout.h"
#include "gpu/cuda_use.h"
#include "gpu/train_int.h"

typedef struct CudaConv { /* of a STEP_CONV; the first three are plans */
    int32_t forward, back_data, back_weights;
    int32_t n_out, n_in, side;    /* of the weights, without padding */
    int32_t stride_o, stride_i;   /* in the parameter: see KERNEL_CAST_WEIGHTS */
    unsigned char *weight, *bias; /* halves (c_out, side, side, c_in) and (c_out) */
} CudaConv;

typedef struct TrainCuda {
    const CudaApi *api;
    CudaDevice device;
    char profile[CUDA_PROFILE_SIZE];
    bool lost; /* hung or failed for good: nothing of it is touched again, not to free it either */
    cudnnHandle_t dnn;
    cudaStream_t stream;
    cudaEvent_t done;

    TrainSteps *steps;
    PlanSet plans;
    CudaConv *convs;   /* [n_steps] */
    KernelNorm *norms; /* [n_steps] */
    CudaTrainLayout layout;
    size_t n_in, n_out;          /* numbers of a slice */
    size_t *offsets;             /* [n_parameters], in parameters and gradients */
    size_t n_trained, n_numbers; /* those with a gradient come first */

    unsigned char *memory, *pinned; /* the two pieces */
    size_t memory_bytes, pinned_bytes;
    /* Within memory. */
    unsigned char *values, *workspace, *weight_gradient;
    float *parameters, *gradients, *sums[2], *in, *out, *dx;
    uint32_t *count; /* gradients that are not finite */
    /* Within pinned. parameters on the way up, gradients and statistics on the way down. */
    float *host_numbers, *host_in, *host_out;
    uint32_t *host_count;
} TrainCuda;

/* Steps, plans, memory; the device is there. Errors: BACKEND, UNSUPPORTED, LIMIT, NO_MEMORY. */
MUST_CHECK Status cuda_train_open_parts(TrainNet *net, TrainCuda *d, Err *err);

/* Enqueue. Forward: from d->in to d->out. momentum: of the running statistics. Backward: from
** d->out, now the loss's gradient, to d->gradients and, if wants_dx, d->dx; in between everything
** is 2^exponent times as large. Errors: BACKEND. */
MUST_CHECK Status cuda_train_forward(const TrainNet *net, TrainCuda *d, double momentum, Err *err);
MUST_CHECK Status cuda_train_back(const TrainNet *net, const TrainCuda *d, int32_t exponent,
                                  bool wants_dx, Err *err);

/* What both directions use (cuda_train_forward.c). Address of a piece, of a value, or NULL (-1). */
void *cuda_train_piece(const TrainCuda *d, int32_t piece);
void *cuda_train_value(const TrainCuda *d, int32_t value);
/* A call on net->n slices of that value's size, to be completed. */
KernelCall cuda_train_call(const TrainNet *net, const TrainCuda *d, KernelKind kind, int32_t value);
/* Between a convolution's float32 weights and their halves; a, y, count, scale are missing. */
KernelCall cuda_train_weights_call(const TrainCuda *d, KernelKind kind, int32_t step);
MUST_CHECK Status cuda_train_launch(const TrainCuda *d, const KernelCall *call, const char *name,
                                    Err *err);
/* Launches a call whose y is value or gradient of that value; slices that are not there become 0:
** convolutions always see whole batches. */
MUST_CHECK Status cuda_train_write(const TrainNet *net, const TrainCuda *d, const KernelCall *call,
                                   int32_t value, const char *name, Err *err);
/* The sum of all rows; in d->sums. */
MUST_CHECK Status cuda_train_reduce(const TrainCuda *d, const float *from, int32_t rows,
                                    int32_t columns, const char *name, const float **ret, Err *err);

#endif
