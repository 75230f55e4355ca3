/* What the tests of training on CUDA share: a step by two backends and how far apart they are. */
#ifndef CT2MR_TESTS_CUDA_TRAIN_FIXTURE_H
#define CT2MR_TESTS_CUDA_TRAIN_FIXTURE_H

#include "gpu/train_trust.h"
#include "tests/cuda_fixture.h"
#include "tests/train_fixture.h"

enum { CUDA_TRAIN_MARGIN = 4 /* of train_decide_gates() */ };

typedef struct Distances {
    TrainDistances of;
    double dx;
} Distances;

/* A step of n slices by both, with the gradient of a mean over pixels, times `scale`. */
Distances train_step_both(TrainCase *got, TrainCase *want, int32_t n, float scale);

/* Each kind of step, fused and alone; values that two and three steps read. Pools take what has not
** been through a batch norm: there f16 tells neighbours apart. */
Graph *every_step_graph(void);
/* Weights so that values stay near 1; ReLUs are decided, that of "e" by its bias. */
void every_step_weights(TrainNet *net);

/* Everything was given back, and nothing was done that a device would not forgive. */
void cuda_train_check_clean(const CudaEmulator *emulator);

#endif
