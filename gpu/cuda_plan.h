/* One convolution on a GPU as a cuDNN execution plan: conv -> (+ residual) -> + bias -> (ReLU), in
** this order; or, of a training, its gradient by its input or by its weights.
**
** Halves (n, h, w, c) in memory, weights (c_out, k, k, c_in), float32 sums and float32 between the
** operations. Only precompiled engines of cuDNN itself that give the same bits every time are
** taken, the first of cuDNN's list that uses tensor cores and stays below the bound on workspace.
** Needs libcudnn but no device. Order and types: DECISIONS 0031.
**
** Thread: any, one call per plan. */
#ifndef CT2MR_GPU_CUDA_PLAN_H
#define CT2MR_GPU_CUDA_PLAN_H

#include "gpu/cuda_desc.h"

#include <stdint.h>

/* The uids of a plan's tensors. Backward X, W and Y are the gradients where they are one: Y is the
** gradient of the convolution's output, and X or W, whichever is computed, is that of x or w. */
enum { CONV_X = 1, CONV_W, CONV_BIAS, CONV_RESIDUAL, CONV_Y };
enum { CONV_WORKSPACE_MAX_MIB = 64 };

typedef struct ConvShape {
    int32_t n, c_in, h, w; /* of the input; channels are multiples of 8 */
    int32_t c_out, kernel, stride;
    bool residual, relu; /* of the forward pass */
    ConvPass pass;
} ConvShape;

typedef struct ConvPlan {
    ConvShape shape;
    cudnnBackendDescriptor_t plan; /* made from json */
    int64_t workspace_bytes;
    char *json; /* the plan in cuDNN's words, owned */
} ConvPlan;

/* What is known of a plan that was chosen. */
typedef struct ConvChoice {
    int64_t workspace_bytes, engine;
    bool tensor_core;
    char *json; /* the caller frees */
} ConvChoice;

bool conv_shape_equal(const ConvShape *a, const ConvShape *b);
/* "8x64x56x56 k3 s1 -> 64 +residual relu". Returns ret. */
const char *conv_shape_text(const ConvShape *shape, char ret[96]);

/* The operation graph of a convolution (cuda_desc.h). */
cudnnBackendDescriptor_t conv_graph(DescPool *pool, const ConvShape *shape);
/* Asks cuDNN for an engine. profile_json: the device (cuda_desc.h).
** Errors: BACKEND (no engine, with the shape), NO_MEMORY. */
MUST_CHECK Status conv_choose(const ConvShape *shape, const char *profile_json, ConvChoice *ret,
                              Err *err);
/* The same for any operation graph (cuda_desc.h). *ret_found false: no engine. Errors: as pool. */
MUST_CHECK Status conv_search(DescPool *pool, cudnnBackendDescriptor_t graph,
                              cudnnBackendDescriptor_t device, ConvChoice *ret, bool *ret_found,
                              Err *err);
/* Makes the plan that json describes, if it is a plan for this shape (cuda_plan_check.h) and
** device. json is copied.
**   handle   of the device the plan will run on, as cuDNN's own front end loads plans; where that
**            fails, or handle is NULL, the plan is made from the description of the device
** Errors: BACKEND, NO_MEMORY. */
MUST_CHECK Status conv_load(const ConvShape *shape, const char *profile_json, cudnnHandle_t handle,
                            const char *json, ConvPlan *ret, Err *err);
void conv_plan_free(ConvPlan *plan); /* zeroed is fine */

#endif
