/* Adam (Kingma and Ba 2015) over a network's parameters, with decoupled weight decay (Loshchilov
** and Hutter 2019) and clipping of the gradient's norm, in the order of PyTorch's AdamW:
**   g <- g min(1, clip / (|g| + 1e-6)), |g| over all parameters
**   x <- x (1 - lr decay), convolution weights only
**   m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
**   x <- x - lr / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps)
** Moments are float32; sums for the norm are in double, over fixed pieces, so that the bits do not
** depend on the number of threads. Thread: one; step uses several. */
#ifndef CT2MR_GPU_OPTIMIZER_H
#define CT2MR_GPU_OPTIMIZER_H

#include "gpu/train_net.h"

typedef struct OptimizerOptions {
    double beta1, beta2, epsilon;
    double weight_decay; /* 0: none */
    double clip;         /* largest norm of the gradient; 0: not clipped */
    int32_t threads;     /* 0: all */
} OptimizerOptions;

typedef struct Optimizer Optimizer;

/* Parameters without a gradient (running statistics) are passed over. All are borrowed until
** close. Errors: NO_MEMORY. */
MUST_CHECK Status optimizer_open(TrainParameter *parameters, int32_t n,
                                 const OptimizerOptions *options, Optimizer **ret, Err *err);
void optimizer_close(Optimizer *optimizer); /* NULL is fine */
/* One step of learning rate lr. *ret_norm: of the gradient before clipping. A norm that is not
** finite changes nothing. Errors: TRAIN_DIVERGED. */
MUST_CHECK Status optimizer_step(Optimizer *optimizer, double lr, double *ret_norm, Err *err);

/* Steps taken, and the moments of parameter i (NULL where it has no gradient): for checkpoints. */
int64_t optimizer_steps(const Optimizer *optimizer);
void optimizer_set_steps(Optimizer *optimizer, int64_t steps);
float *optimizer_moment(Optimizer *optimizer, int32_t i, int order); /* order 1 or 2 */

#endif
