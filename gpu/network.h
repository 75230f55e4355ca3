/* The networks that a model file can hold, as literal Graphs: DRUNet-34, -50, -101 (drunet.c) and
** the ordinary U-Net (unet.c). Thread: pure functions. */
#ifndef CT2MR_GPU_NETWORK_H
#define CT2MR_GPU_NETWORK_H

#include "gpu/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { NETWORK_MAX_SIDE = 2048, NETWORK_MAX_WIDTH = 256 };

/* The literal network for slices of height x width, planned.
**   info   arch, width and activation are read
** Errors: LIMIT (height or width not a multiple of 32 in 32..NETWORK_MAX_SIDE, channel width). */
MUST_CHECK Status network_build(const ModelInfo *info, int32_t height, int32_t width, Graph *ret,
                                Err *err);
/* "drunet-34", "drunet-50", "drunet-101", "unet"; false if the name is none of them. */
const char *network_name(ModelArch arch);
bool network_from_name(const char *name, ModelArch *ret);

/* What the builders share (network.c): a convolution with its tensors at PREFIX.NAME, then batch
** norm at PREFIX.NORM unless norm is NULL (then there is a bias), then ReLU if wanted. Returns the
** last value. prefix "": no dot. */
typedef struct NetworkConv {
    const char *prefix, *name, *norm;
    int32_t c, kernel, stride;
    bool relu;
} NetworkConv;
int32_t network_conv(Graph *graph, int32_t input, const NetworkConv *conv);
/* Any other operation; the shape of its output follows from its kind. second: -1 if none. */
int32_t network_op(Graph *graph, OpKind kind, const char *name, int32_t input, int32_t second);
int32_t network_maxpool(Graph *graph, int32_t input, int32_t kernel);
void network_stage(Graph *graph, const char *name, int32_t input, int32_t output);

/* drunet.c, unet.c: from graph->input to the returned value, before the activation. */
int32_t drunet_layers(Graph *graph, ModelArch arch, int32_t width);
int32_t unet_layers(Graph *graph, int32_t width);

#ifdef __cplusplus
}
#endif
#endif
