/* VGG-19 to conv5_4, before its ReLU (Simonyan and Zisserman 2015), as features of grey images.
** The weights are the user's: a safetensors file with torchvision's names ("features.0.weight"); a
** narrower copy (64 channels in the first layer are the original's) is taken as well.
** Thread: a Vgg belongs to one thread; it uses several within a call. */
#ifndef CT2MR_GPU_VGG_H
#define CT2MR_GPU_VGG_H

#include "gpu/loss.h"

enum { VGG_STRIDE = 16 };

typedef struct Vgg Vgg;

/* Of LossOptions: batch, height, width (multiples of 16), threads, vgg, backend, precision.
** Errors: MODEL_NOT_FOUND, MODEL_UNFIT (no VGG-19), MODEL_FORMAT (a tensor is missing or has
** another shape), BACKEND, LIMIT, NO_MEMORY. */
MUST_CHECK Status vgg_open(const LossOptions *options, Vgg **ret, Err *err);
void vgg_close(Vgg *vgg);             /* NULL is fine */
int32_t vgg_channels(const Vgg *vgg); /* of the features; 512 of the original */
/* Images (n, h, w) of 0..1, normalised as ImageNet's, one channel three times -> *ret_features
** (n, c, h/16, w/16), owned by vgg until the next call. Errors: BACKEND. */
MUST_CHECK Status vgg_forward(Vgg *vgg, const float *images, int32_t n, const float **ret_features,
                              Err *err);
/* The derivative by the features of the last forward -> by its images, (n, h, w); at most once per
** forward. ret is owned by vgg until the next call. */
MUST_CHECK Status vgg_backward(Vgg *vgg, const float *d_features, const float **ret, Err *err);

#endif
