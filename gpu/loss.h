/* What a network is trained to make small: a weighted sum of terms over a batch, and its gradient.
**
** z is the network's output before its activation, p after it, t the real image, 0..1. Equation
** numbers are those of Li et al. 2022. Each term is a mean over the slices of the batch.
**   mse         (1)  mean (p - t)^2
**   bce         (2)  mean of -t log p - (1 - t) log(1 - p), computed from z, for a sigmoid
**   contextual  (3)-(8)  loss_contextual.h
**   l1          mean |p - t|
**   gradient    mean |dp/dx - dt/dx| + mean |dp/dy - dt/dy|, differences of neighbouring pixels
**
** Sums are in double, slice by slice, and slices are added in order: the bits do not depend on the
** number of threads. Thread: a Loss belongs to one thread; it uses several within a call. */
#ifndef CT2MR_GPU_LOSS_H
#define CT2MR_GPU_LOSS_H

#include "gpu/model.h"

typedef enum LossTerm {
    LOSS_MSE,
    LOSS_BCE,
    LOSS_CONTEXTUAL,
    LOSS_L1,
    LOSS_GRADIENT,
    LOSS_TERMS
} LossTerm;

typedef struct LossSpec {
    double weight[LOSS_TERMS]; /* 0: the term is not computed */
} LossSpec;

const char *loss_name(LossTerm term);
/* "bce+2*l1+2*gradient": names of terms, each with a weight above 0 in front, or 1.
** Errors: USAGE (unknown or repeated term, bad weight; the message quotes the place). */
MUST_CHECK Status loss_parse(const char *text, LossSpec *ret, Err *err);

typedef struct LossOptions {
    LossSpec spec;
    ModelActivation activation;
    int32_t batch, height, width, threads; /* batch: most slices of a call; threads 0: all */
    const char *vgg; /* contextual: file of VGG-19's weights (torchvision's names); NULL: patches */
    const char *backend; /* for VGG-19: a backend of train_net.h */
    Precision precision;
} LossOptions;

typedef struct LossValue {
    double total, term[LOSS_TERMS]; /* terms without their weights; total is their weighted sum */
} LossValue;

typedef struct Loss Loss;

/* Errors: USAGE (bce of a linear activation), MODEL_NOT_FOUND, MODEL_FORMAT and MODEL_UNFIT (the
** VGG file), LIMIT, BACKEND, NO_MEMORY. */
MUST_CHECK Status loss_open(const LossOptions *options, Loss **ret, Err *err);
void loss_close(Loss *loss); /* NULL is fine */
/* z, t (n, 1, h, w), 1 <= n <= batch -> ret_p (n, 1, h, w); ret_dz (n, 1, h, w), the gradient of
** ret->total, unless NULL. Errors: BACKEND. */
MUST_CHECK Status loss_run(Loss *loss, const float *z, const float *t, int32_t n, float *ret_p,
                           float *ret_dz, LossValue *ret, Err *err);

/* Terms of one slice of h x w, each divided by `count`, the number of pixels or differences that
** the mean is over (for gradient: those along x and along y, of all slices). Their derivatives
** times `weight` are added to ret_d unless it is NULL: by p, for bce by z. */
double loss_mse(const float *p, const float *t, int64_t n, double count, double weight,
                double *ret_d);
double loss_bce(const float *z, const float *t, int64_t n, double count, double weight,
                double *ret_d);
double loss_l1(const float *p, const float *t, int64_t n, double count, double weight,
               double *ret_d);
double loss_gradient(const float *p, const float *t, int32_t h, int32_t w, const double count[2],
                     double weight, double *ret_d);

#endif
