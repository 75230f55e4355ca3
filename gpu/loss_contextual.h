/* The contextual loss (Li et al. 2022, equations 3-8; Mechrez et al. 2018) of features of a
** synthetic image s against those of the real image r. Its core is a function of two matrices;
** where the features come from is Contextual: VGG-19's conv5_4 before ReLU, or patches.
**
** Features are (c, n): channel by channel, n points. mu is the mean over r's points (3);
** d_ij = 1 - cos(s_i - mu, r_j - mu) (4); d~_ij = d_ij / (min_k d_ik + 1e-5) (5);
** w_ij = exp((1 - d~_ij) / 0.5) (6); CX_ij = w_ij / sum_k w_ik (7);
** the loss is -log(mean_j max_i CX_ij) (8). */
#ifndef CT2MR_GPU_LOSS_CONTEXTUAL_H
#define CT2MR_GPU_LOSS_CONTEXTUAL_H

#include "gpu/loss.h"

typedef struct ContextualWork ContextualWork; /* memory for one pair of images */

MUST_CHECK Status contextual_work_open(int32_t c, int32_t n, ContextualWork **ret, Err *err);
void contextual_work_close(ContextualWork *work); /* NULL is fine */
/* s, r (c, n) -> the loss and, unless NULL, its derivative by s in ret_ds (c, n). In float32; the
** products are our own, since oneDNN's order of sums depends on its threads. One thread. */
double contextual_loss(ContextualWork *work, const float *s, const float *r, float *ret_ds);

typedef struct Contextual Contextual;

/* Of LossOptions all but spec and activation are read. Errors: as loss_open(). */
MUST_CHECK Status contextual_open(const LossOptions *options, Contextual **ret, Err *err);
void contextual_close(Contextual *contextual);
/* The mean over n slices. p, t (n, 1, h, w). ret_dp (n, h, w), unless NULL: `weight` times the
** derivative is added. */
MUST_CHECK Status contextual_run(Contextual *contextual, const float *p, const float *t, int32_t n,
                                 double weight, double *ret_dp, double *ret, Err *err);

#endif
