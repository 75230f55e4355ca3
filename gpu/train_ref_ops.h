/* Operations in training, forward and backward, in double: plain loops that can be read beside the
** formulas. Tensors are (n, c, h, w). Backward ADDS to dx, dx2 (a value may be read by several
** operations) and overwrites the gradients of parameters.
**
** Threads: planes, or output channels, are shared out; each sum is one thread's and in one order,
** so that the bits do not depend on the number of threads. */
#ifndef CT2MR_GPU_TRAIN_REF_OPS_H
#define CT2MR_GPU_TRAIN_REF_OPS_H

#include "gpu/graph.h"

typedef struct RefOp {
    OpKind kind;
    int32_t kernel, stride; /* of convolution and max pool */
    const Value *in, *out;  /* shapes of x and y */
    int32_t n, threads;
    const double *x, *x2; /* x2: the second of a sum or concatenation */
    double *y;
    /* Parameters; NULL where there is none. conv: weight (c_out, c_in, k, k), bias (c_out);
    ** norm: gamma is weight, beta is bias, running statistics (c) */
    const double *weight, *bias;
    double *mean, *variance;
    bool batch_statistics; /* norm: of this batch, moving the running ones; or those */
    double *used_mean, *used_inverse_sd; /* norm, (c): written by forward, read by backward */
    /* Backward: NULL where it is not wanted. */
    const double *dy;
    double *dx, *dx2, *dweight, *dbias;
} RefOp;

void ref_op_forward(const RefOp *op);
void ref_op_backward(const RefOp *op);

#endif
