/* DRUNet-34, -50 and -101 as a Graph. Source: Li et al., Quant Imaging Med Surg 2022;12(6):3151,
** Table 1 and figure 3. Thread: pure function. */
#ifndef CT2MR_GPU_DRUNET_H
#define CT2MR_GPU_DRUNET_H

#include "gpu/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { DRUNET_MAX_SIDE = 2048, DRUNET_MAX_WIDTH = 256 };

/* The literal network for slices of height x width, planned. ret is about 80 kB: not for stacks.
**   info   arch, width and activation are read
** Errors: LIMIT (height or width not a multiple of 32 in 32..DRUNET_MAX_SIDE, channel width). */
MUST_CHECK Status drunet_build(const ModelInfo *info, int32_t height, int32_t width, Graph *ret,
                               Err *err);

#ifdef __cplusplus
}
#endif
#endif
