/* How a training on a GPU lays a network's values out: the steps of the CPU engine (train_steps.h)
** on halves (n, h, w, c), c a multiple of 8; the sum of taps is float32.
**
** Only x (3 -> 8 channels), taps (49 -> 56) and what a convolution gives as the result (1 -> 8) are
** padded. Thread: pure function. */
#ifndef CT2MR_GPU_CUDA_TRAIN_LAYOUT_H
#define CT2MR_GPU_CUDA_TRAIN_LAYOUT_H

#include "gpu/cuda_plan.h"
#include "gpu/train_steps.h"

typedef struct CudaTrainLayout {
    int32_t c_in, c_out; /* of x and y, without padding */
    bool wide;           /* y is float32 on the device */
} CudaTrainLayout;

/* Errors: UNSUPPORTED (channels that are no multiple of 8, odd sides), LIMIT. */
MUST_CHECK Status cuda_train_layout(const Graph *graph, TrainSteps *ret_steps, CudaTrainLayout *ret,
                                    Err *err);
/* What a STEP_CONV of such steps is to cuDNN. */
ConvShape cuda_train_conv_shape(const TrainSteps *steps, const TrainStep *step, int32_t batch,
                                ConvPass pass);

#endif
