/* cuDNN's backend descriptors with one error for many calls: after the first failure the others do
** nothing, and desc_status() says what failed.
**
** Ownership: a pool destroys all its descriptors in desc_done(). Thread: one per pool. */
#ifndef CT2MR_GPU_CUDA_DESC_H
#define CT2MR_GPU_CUDA_DESC_H

#include "base/err.h"

#include <cudnn.h>
#include <stdint.h>

enum { DESC_MAX = 192 };

typedef struct DescPool { /* begins zeroed */
    cudnnBackendDescriptor_t all[DESC_MAX];
    int n;
    cudnnStatus_t status;
    char what[160]; /* failed, with cuDNN's own words */
} DescPool;

cudnnBackendDescriptor_t desc_new(DescPool *pool, cudnnBackendDescriptorType_t type);
void desc_set(DescPool *pool, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
              cudnnBackendAttributeType_t type, int64_t count, const void *values);
void desc_set_desc(DescPool *pool, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                   cudnnBackendDescriptor_t value); /* NULL: not set */
void desc_finalize(DescPool *pool, cudnnBackendDescriptor_t d, const char *what);
/* Errors: BACKEND, NO_MEMORY. */
MUST_CHECK Status desc_status(const DescPool *pool, Err *err);
void desc_done(DescPool *pool);

typedef struct DescTensor { /* strides in elements, (n, c, h, w) */
    cudnnDataType_t type;
    int64_t dims[4], strides[4], uid;
    bool is_virtual;
} DescTensor;

/* Strides of (n, h, w, c) memory. */
DescTensor desc_nhwc(cudnnDataType_t type, int64_t uid, int64_t n, int64_t c, int64_t h, int64_t w,
                     bool is_virtual);
cudnnBackendDescriptor_t desc_tensor(DescPool *pool, const DescTensor *tensor);
typedef enum ConvPass { CONV_FORWARD, CONV_BACK_DATA, CONV_BACK_WEIGHTS } ConvPass;
/* y = cross-correlation of x with w, padding kernel / 2, float32 sums. Backward x and w, or w and
** x, are the gradient that is computed and what it is computed from with y, the output's. */
cudnnBackendDescriptor_t desc_conv(DescPool *pool, ConvPass pass, int64_t kernel, int64_t stride,
                                   cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t w,
                                   cudnnBackendDescriptor_t y);
/* y = x + b or, with b NULL, mode of x alone; in float32. */
cudnnBackendDescriptor_t desc_pointwise(DescPool *pool, cudnnPointwiseMode_t mode,
                                        cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t b,
                                        cudnnBackendDescriptor_t y);
cudnnBackendDescriptor_t desc_graph(DescPool *pool, int n_ops, cudnnBackendDescriptor_t *ops);
/* A device by cuDNN's JSON description of it; no device is needed. */
cudnnBackendDescriptor_t desc_device(DescPool *pool, const char *profile_json);

#endif
