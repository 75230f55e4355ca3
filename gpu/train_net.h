/* A network in training: forward with batch statistics, backward, parameters and their gradients.
**
** Runs a literal Graph (network_build() with ACTIVATION_LINEAR, so that y are logits) with any
** number of output channels, or any other table of convolutions, batch norms, ReLUs, sums, max
** pools, doublings and concatenations: a feature network inside a loss is one, too (frozen).
** Parameters, gradients and statistics are float32 whatever the precision; the caller steps them.
**
** Backends: "ref", loops in double that can be read beside the formulas, the oracle; "cpu", oneDNN;
** "cuda", GPU 0 by the plugin (cuda_plugin.h), which needs channels that are multiples of 8.
** Bits: ref's are the same for any number of threads. cpu's are the same in every run on one
** machine for one number of threads and one `batch`; oneDNN shares out sums by its threads. cuda's
** are the same in every run on one card, driver and cuDNN for one `batch`.
**
** Thread: a TrainNet belongs to one thread; it uses several of its own within a call. */
#ifndef CT2MR_GPU_TRAIN_NET_H
#define CT2MR_GPU_TRAIN_NET_H

#include "gpu/graph.h"

typedef struct TrainNet TrainNet;

typedef struct TrainOptions {
    const char *backend;    /* "ref", "cpu" or "cuda" */
    Precision precision;    /* F32; on cpu also BF16: values and weights in bf16, sums in f32; on
                            ** cuda F16 alone: the same in f16, with loss scaling */
    int32_t batch, threads; /* most slices of a step; threads 0: all processors */
    bool frozen;            /* no parameter gradients, running statistics are used and stay */
} TrainOptions;

enum { TRAIN_NAME_SIZE = GRAPH_NAME_SIZE + 16 };

typedef struct TrainParameter { /* owned by the net until its close */
    char name
        [TRAIN_NAME_SIZE]; /* as in the model file: "layer1.0.conv1.weight", "bn1.running_var" */
    int32_t n_dims;
    int64_t dims[4], n;
    float *value;    /* row-major; a convolution's (c_out, c_in, k, k) */
    float *gradient; /* the same shape; NULL of running statistics, and when frozen */
} TrainParameter;

/* Names of backends by index; NULL past the end. */
const char *train_backend_name(int index);

/* Values are 0 until the caller sets them, running_var 1. Reserves all memory. graph is borrowed
** until close. Errors: BACKEND (unknown, no such precision here), UNSUPPORTED (an operation that
** has no backward, or not there), LIMIT, NO_MEMORY. */
MUST_CHECK Status train_net_open(const Graph *graph, const TrainOptions *options, TrainNet **ret,
                                 Err *err);
void train_net_close(TrainNet *net); /* NULL is fine */

/* In the order of the graph's operations. Each value and each gradient begins on 64 bytes. */
TrainParameter *train_net_parameters(TrainNet *net, int32_t *ret_n);
/* Tells the net that the caller has changed values (before the first forward, after each step). */
MUST_CHECK Status train_net_changed(TrainNet *net, Err *err);

/* Loss scaling of f16: gradients are computed 2^exponent times as large, and the step again with
** half of that if one overflows; n_good steps went well since it changed. A checkpoint holds it,
** since it may decide last bits. Of other precisions 0. */
typedef struct TrainScale {
    int32_t exponent, n_good;
} TrainScale;
enum { TRAIN_MAX_EXPONENT = 24 };
TrainScale train_net_scale(const TrainNet *net);
void train_net_set_scale(TrainNet *net, TrainScale scale);

/* x (n, c, h, w) -> *ret_y (n, c_out, h_out, w_out), which the net owns until its next call.
** 1 <= n <= batch. training: batch statistics, which also move the running ones (momentum 0.1,
** unbiased variance, as PyTorch does); else, and always when frozen, running statistics.
** Errors: LIMIT (training with one value per channel has no variance), BACKEND. */
MUST_CHECK Status train_net_forward(TrainNet *net, const float *x, int32_t n, bool training,
                                    const float **ret_y, Err *err);
/* Of the last forward, which was for training (or the net is frozen): dy (n, c_out, h_out, w_out),
** the loss's gradient, to every parameter's gradient (overwritten) and, unless ret_dx is NULL,
** ret_dx (n, c, h, w). At most once per forward. Errors: BACKEND. */
MUST_CHECK Status train_net_backward(TrainNet *net, const float *dy, float *ret_dx, Err *err);

#endif
