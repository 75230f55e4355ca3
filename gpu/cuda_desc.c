/* See cuda_desc.h. */
#include "gpu/cuda_desc.h"

#include "gpu/cuda_api.h"

#include <stdio.h>
#include <string.h>

enum { ALIGN_BYTES = 16 };

static void note(DescPool *pool, cudnnStatus_t status, const char *what, int number)
{
    if (status == CUDNN_STATUS_SUCCESS || pool->status != CUDNN_STATUS_SUCCESS)
        return;
    char words[128] = "";
    cudnnGetLastErrorString(words, sizeof words);
    for (char *c = words; *c != '\0'; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';
    pool->status = status;
    (void)snprintf(pool->what, sizeof pool->what, "%.24s %d [%.100s]", what, number, words);
}

cudnnBackendDescriptor_t desc_new(DescPool *pool, cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t d = NULL;
    ASSERT(pool->n < DESC_MAX);
    if (pool->status != CUDNN_STATUS_SUCCESS)
        return NULL;
    note(pool, cudnnBackendCreateDescriptor(type, &d), "descriptor", (int)type);
    if (d != NULL)
        pool->all[pool->n++] = d;
    return d;
}

void desc_set(DescPool *pool, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
              cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    if (pool->status == CUDNN_STATUS_SUCCESS)
        note(pool, cudnnBackendSetAttribute(d, name, type, count, values), "attribute", (int)name);
}

void desc_set_desc(DescPool *pool, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                   cudnnBackendDescriptor_t value)
{
    if (value != NULL)
        desc_set(pool, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

void desc_finalize(DescPool *pool, cudnnBackendDescriptor_t d, const char *what)
{
    if (pool->status == CUDNN_STATUS_SUCCESS)
        note(pool, cudnnBackendFinalize(d), what, pool->n);
}

Status desc_status(const DescPool *pool, Err *err)
{
    return cudnn_check(pool->status, pool->what, err);
}

void desc_done(DescPool *pool)
{
    while (pool->n > 0)
        (void)cudnnBackendDestroyDescriptor(pool->all[--pool->n]);
}

DescTensor desc_nhwc(cudnnDataType_t type, int64_t uid, int64_t n, int64_t c, int64_t h, int64_t w,
                     bool is_virtual)
{
    return (DescTensor){type, {n, c, h, w}, {h * w * c, 1, w * c, c}, uid, is_virtual};
}

cudnnBackendDescriptor_t desc_tensor(DescPool *pool, const DescTensor *t)
{
    const int64_t align = ALIGN_BYTES;
    cudnnBackendDescriptor_t d = desc_new(pool, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    desc_set(pool, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &t->type);
    desc_set(pool, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, t->dims);
    desc_set(pool, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, t->strides);
    desc_set(pool, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &t->uid);
    desc_set(pool, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align);
    desc_set(pool, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &t->is_virtual);
    desc_finalize(pool, d, "tensor");
    return d;
}

static cudnnBackendDescriptor_t conv_window(DescPool *pool, int64_t kernel, int64_t stride)
{
    const int64_t sides = 2, pad[2] = {kernel / 2, kernel / 2}, strides[2] = {stride, stride};
    const int64_t dilation[2] = {1, 1};
    const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    cudnnBackendDescriptor_t d = desc_new(pool, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    desc_set(pool, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &sides);
    desc_set(pool, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    desc_set(pool, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    desc_set(pool, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    desc_set(pool, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    desc_set(pool, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    desc_set(pool, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
    desc_finalize(pool, d, "convolution");
    return d;
}

typedef struct ConvNames { /* cuDNN's, of an operation and its attributes */
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t x, w, y, window, alpha, beta;
} ConvNames;

static const ConvNames CONV_NAMES[] = {
    [CONV_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    [CONV_BACK_DATA] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    [CONV_BACK_WEIGHTS] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA}};

cudnnBackendDescriptor_t desc_conv(DescPool *pool, ConvPass pass, int64_t kernel, int64_t stride,
                                   cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t w,
                                   cudnnBackendDescriptor_t y)
{
    const double one = 1, zero = 0;
    const ConvNames *names = &CONV_NAMES[pass];
    cudnnBackendDescriptor_t window = conv_window(pool, kernel, stride);
    cudnnBackendDescriptor_t d = desc_new(pool, names->type);
    desc_set_desc(pool, d, names->x, x);
    desc_set_desc(pool, d, names->w, w);
    desc_set_desc(pool, d, names->y, y);
    desc_set_desc(pool, d, names->window, window);
    desc_set(pool, d, names->alpha, CUDNN_TYPE_DOUBLE, 1, &one);
    desc_set(pool, d, names->beta, CUDNN_TYPE_DOUBLE, 1, &zero);
    desc_finalize(pool, d, "convolution's operation");
    return d;
}

cudnnBackendDescriptor_t desc_pointwise(DescPool *pool, cudnnPointwiseMode_t mode,
                                        cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t b,
                                        cudnnBackendDescriptor_t y)
{
    const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t p = desc_new(pool, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    desc_set(pool, p, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    desc_set(pool, p, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    desc_finalize(pool, p, "pointwise");
    cudnnBackendDescriptor_t d = desc_new(pool, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    desc_set_desc(pool, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, p);
    desc_set_desc(pool, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    desc_set_desc(pool, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    desc_set_desc(pool, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    desc_finalize(pool, d, "pointwise operation");
    return d;
}

cudnnBackendDescriptor_t desc_graph(DescPool *pool, int n_ops, cudnnBackendDescriptor_t *ops)
{
    cudnnBackendDescriptor_t d = desc_new(pool, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    desc_set(pool, d, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, n_ops, ops);
    desc_finalize(pool, d, "operation graph");
    return d;
}

cudnnBackendDescriptor_t desc_device(DescPool *pool, const char *profile_json)
{
    cudnnBackendDescriptor_t d = desc_new(pool, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    desc_set(pool, d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
             (int64_t)strlen(profile_json) + 1, profile_json);
    desc_finalize(pool, d, "device");
    return d;
}
