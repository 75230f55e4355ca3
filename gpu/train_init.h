/* Values of a network's parameters before the first step. Thread: the net's. */
#ifndef CT2MR_GPU_TRAIN_INIT_H
#define CT2MR_GPU_TRAIN_INIT_H

#include "gpu/train_net.h"

/* The values of one parameter, the index-th of its network, by its name and shape: convolutions
** normal with variance 2 / fan in (He et al. 2015, ReLU) from stream (seed, index), biases 0; batch
** norm: gamma 1, beta 0, running mean 0, variance 1. Any thread. */
void train_init_values(const char *name, int32_t n_dims, const int64_t *dims, uint64_t seed,
                       int32_t index, float *ret);
/* These of all parameters, but gamma 0 in front of a block's sum, so that a block begins as its
** shortcut (Goyal et al. 2017). */
void train_init_random(TrainNet *net, uint64_t seed);
/* Reads every parameter, running statistics too, from the file's tensor of its name.
** Errors: MODEL_FORMAT (missing), MODEL_UNFIT (another shape); the message names it; IO. */
MUST_CHECK Status train_init_all(TrainNet *net, const Model *file, Err *err);
/* Reads those that the file has: of a ResNet with torchvision's names, DRUNet's encoder.
**   ret_n   parameters read, running statistics counted
** Errors: MODEL_UNFIT (another shape; none of these names), IO. */
MUST_CHECK Status train_init_encoder(TrainNet *net, const Model *file, int32_t *ret_n, Err *err);

#endif
