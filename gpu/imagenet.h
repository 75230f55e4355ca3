/* Mean and standard deviation of ImageNet's colours, 0..1: what torchvision's networks expect. */
#ifndef CT2MR_GPU_IMAGENET_H
#define CT2MR_GPU_IMAGENET_H

static const float IMAGENET_MEAN[3] = {0.485f, 0.456f, 0.406f};
static const float IMAGENET_STD[3] = {0.229f, 0.224f, 0.225f};

#endif
