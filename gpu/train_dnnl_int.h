/* Private to the CPU training engine: what its files share. train_lower.c makes the steps,
** train_plan.c their memory; train_dnnl.c opens and runs, train_dnnl_conv.c makes oneDNN's
** convolutions and lays out their weights, train_loop_*.c hold the loops between them. */
#ifndef CT2MR_GPU_TRAIN_DNNL_INT_H
#define CT2MR_GPU_TRAIN_DNNL_INT_H

#include "gpu/train_int.h"
#include "gpu/train_loops.h"
#include "gpu/train_steps.h"

#include <oneapi/dnnl/dnnl.h>

enum { CONV_MAX_ARGS = 5 };

typedef struct Call { /* a primitive with its arguments */
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    int n;
    dnnl_exec_arg_t args[CONV_MAX_ARGS];
} Call;

typedef struct ConvStep {
    Call forward, back_data, back_weights;
    Call lay_forward, lay_back; /* values of the parameter to the layouts these want */
    Call take_gradient;         /* gradient from oneDNN's layout to the parameter's */
} ConvStep;

typedef struct TrainDnnl {
    TrainSteps *steps;
    DnnlTeam team;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    Arena values, weights; /* of a step; of everything that stays */
    unsigned char *value_base;
    void *scratch, *gradient; /* oneDNN's; a convolution's gradient on its way. Shared by all */
    size_t scratch_bytes, gradient_bytes;
    ConvStep *convs;    /* [n_steps] */
    LoopNorm *norms;    /* [n_steps] */
    LoopMemory *memory; /* [team.threads] */
    float *y;           /* (n, c, h, w) */
} TrainDnnl;

/* ST_OK, or the failure in words. */
MUST_CHECK Status train_dnnl_check(dnnl_status_t status, const char *name, const char *what,
                                   Err *err);
/* train_dnnl_conv.c. Primitives of all convolutions; the shared buffers' sizes are known after it.
** Then, when the buffers are there, their arguments. Errors: BACKEND, NO_MEMORY, LIMIT. */
MUST_CHECK Status train_dnnl_make_convs(const TrainNet *net, TrainDnnl *d, Err *err);
MUST_CHECK Status train_dnnl_bind_convs(const TrainNet *net, TrainDnnl *d, Err *err);
void train_dnnl_destroy_convs(TrainDnnl *d);
MUST_CHECK Status train_dnnl_call(const TrainDnnl *d, const Call *call, const char *name, Err *err);
/* Address of a piece; NULL if there is none (-1). */
void *train_dnnl_piece(const TrainDnnl *d, int32_t piece);

#endif
