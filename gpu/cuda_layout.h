/* How the CUDA backend lays a network's values out: halves, (n, h, w, c), c a multiple of 8.
**
** Only the input (3 -> 8 channels) and what the last convolution gives (1 or 4 -> 8) are padded;
** shuffle and sigmoid at the end are done while the result is unpacked. A residual and the sum that
** follows it never share memory here: cuDNN does not promise that they may.
**
** Thread: pure function. */
#ifndef CT2MR_GPU_CUDA_LAYOUT_H
#define CT2MR_GPU_CUDA_LAYOUT_H

#include "gpu/cuda_plan.h"
#include "gpu/graph.h"

enum { CUDA_LANES = 8 };

typedef struct CudaLayout {
    int32_t c_in, c_out; /* of a slice as the caller sees it */
    int32_t last;        /* the value that is unpacked; it has c_out channels, or 4 if shuffle */
    bool shuffle, sigmoid;
} CudaLayout;

/* from: planned, rewritten by all passes. ret_graph: the operations before the unpacking, padded
** and planned in bytes of one slice. Errors: BACKEND (an operation that this backend does not have,
** channels that are no multiple of 8). */
MUST_CHECK Status cuda_layout(const Graph *from, Graph *ret_graph, CudaLayout *ret, Err *err);
/* What a convolution of such a table is to cuDNN. */
ConvShape cuda_conv_shape(const Graph *graph, const Op *op, int32_t batch);

#endif
