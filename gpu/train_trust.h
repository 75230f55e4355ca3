/* Does a training backend compute gradients, on this machine? A step of a narrow network of the
** same architecture goes through it and through ref. Its ReLUs are decided by a wide margin (batch
** norm's shifts): at a kink two right engines may part.
**
** Cannot be seen: engines for the real size that are wrong where those for the small one are right.
** Thread: one per net. */
#ifndef CT2MR_GPU_TRAIN_TRUST_H
#define CT2MR_GPU_TRAIN_TRUST_H

#include "gpu/train_net.h"

/* Distances are |got - want| / |want|. f16 keeps 11 bits, 5e-4 a rounding; a gradient passes up to
** a hundred layers. Max pool takes another pixel where two are equal in f16, which is most of what
** the first layer's gradient is off. Measured for the four architectures: output and statistics
** 5e-3 at most, gradients 0.01 to 0.02 in the mean and 0.04 to 0.08 at most. A quarter too much in
** what one kernel or convolution gives is 0.2 in some gradient, or a gradient too small to matter:
** of 29 such faults in DRUNet-34 26 were refused. */
#define TRAIN_TRUST_VALUES 0.01
#define TRAIN_TRUST_GRADIENTS 0.04
#define TRAIN_TRUST_WORST 0.15

typedef struct TrainDistances {
    double y, statistics;
    double gradients, worst; /* root mean square over parameters, and the largest */
    char worst_name[TRAIN_NAME_SIZE];
} TrainDistances;

/* statistics, gradients, worst; of two nets of the same table after the same step. A gradient that
** is less than 1e-4 of all together is taken relative to that. No number: infinite. */
void train_trust_compare(TrainNet *got, TrainNet *want, TrainDistances *ret);

/*   ret   written when they differ, too
** Errors: SELF_TEST (differs, with numbers and the parameter), those of train_net.h. */
MUST_CHECK Status train_trust(ModelArch arch, const TrainOptions *options, TrainDistances *ret,
                              Err *err);

#endif
