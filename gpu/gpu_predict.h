/* How long a network would take on a GPU, from operations and bytes alone: an estimate for choosing
** a card, not a measurement. Thread: pure functions. */
#ifndef CT2MR_GPU_GPU_PREDICT_H
#define CT2MR_GPU_GPU_PREDICT_H

#include "gpu/gpu_catalog.h"
#include "gpu/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What good libraries reach of a data sheet's rates. */
#define GPU_PREDICT_COMPUTE 0.4
#define GPU_PREDICT_BANDWIDTH 0.7

typedef struct GpuPrediction {
    double floor_ms;      /* a slice, all operations at the data sheet's rate and nothing else */
    double predicted_ms;  /* a slice: each operation limited by compute or by memory, at the rates
                             above */
    int64_t memory_bytes; /* of the device: weights, a batch of values, input and output */
} GpuPrediction;

/* What the kernels between the convolutions read and write, for one slice. */
typedef struct GpuKernelBytes {
    int64_t pack, maxpool, concat, unpack;
} GpuKernelBytes;

/* graph: rewritten by all passes. Input and last convolution are padded to 8 channels. */
GpuKernelBytes gpu_kernel_bytes(const Graph *graph);

/* graph: rewritten by all passes. Values and weights are halves; weights are read once a batch. */
GpuPrediction gpu_predict(const Graph *graph, int32_t batch, const GpuCard *card);

#ifdef __cplusplus
}
#endif
#endif
