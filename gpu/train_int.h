/* Private to the training engine: what train_net.c and the backends share. */
#ifndef CT2MR_GPU_TRAIN_INT_H
#define CT2MR_GPU_TRAIN_INT_H

#include "base/arena.h"
#include "gpu/train_net.h"

#define TRAIN_MOMENTUM 0.1 /* of running statistics: PyTorch's default */

typedef struct TrainTensors {                        /* of one operation; NULL where it has none */
    TrainParameter *weight, *bias, *mean, *variance; /* batch norm: gamma is weight, beta is bias */
} TrainTensors;

typedef struct TrainBackend {
    const char *name;
    unsigned (*precisions)(void);            /* bits 1 << Precision */
    Status (*open)(TrainNet *net, Err *err); /* sets net->state, to be closed even on failure */
    Status (*changed)(TrainNet *net, Err *err);
    Status (*forward)(TrainNet *net, const float *x, const float **ret_y, Err *err);
    Status (*backward)(TrainNet *net, const float *dy, float *ret_dx, Err *err);
    void (*close)(TrainNet *net); /* state may be NULL */
} TrainBackend;

extern const TrainBackend train_backend_ref, train_backend_cpu;
extern const TrainBackend train_backend_cuda; /* in the plugin */

struct TrainNet {
    const TrainBackend *backend;
    void *state;
    const Graph *graph;
    Precision precision;
    int32_t batch, threads; /* both >= 1 */
    bool frozen;
    int32_t n;             /* slices of the forward under way or last done */
    bool batch_statistics; /* it uses them */
    bool may_go_back;
    TrainScale scale;
    Arena arena; /* values and gradients of parameters */
    TrainParameter *parameters;
    int32_t n_parameters;
    TrainTensors *of_op; /* [n_ops] */
};

#endif
