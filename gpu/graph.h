/* The network as a table: operations in order, values between them, one memory plan.
**
** Every backend runs such a table, so that no backend knows an architecture. A value is one tensor
** of one slice; shapes are (c, h, w), the memory layout is the backend's own. The builders
** (network.h) write the literal network, one operation per module of the paper; the passes
** (graph_passes.h) turn it into one with the same function and less work.
**
** Thread: a Graph is immutable once planned. */
#ifndef CT2MR_GPU_GRAPH_H
#define CT2MR_GPU_GRAPH_H

#include "gpu/model.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { GRAPH_MAX_OPS = 1024, GRAPH_MAX_STAGES = 16, GRAPH_NAME_SIZE = 40 };
#define GRAPH_BATCH_NORM_EPSILON 1e-5 /* PyTorch's default, with which the models are trained */

typedef enum OpKind {
    OP_CONV, /* odd kernel, padding kernel/2, bias if has_bias; see also norm, second, relu */
    OP_NORM, /* batch norm with running statistics, per channel */
    OP_RELU,
    OP_ADD,     /* input + second */
    OP_MAXPOOL, /* kernel 3, stride 2, padding 1; or kernel 2, stride 2, no padding */
    OP_UP2,     /* nearest neighbour: both sides doubled */
    OP_CONCAT,  /* channels of input, then of second */
    OP_SHUFFLE, /* (4, h, w) -> (1, 2h, 2w): channel 2a+b is row phase a, column phase b */
    OP_SIGMOID,
    OP_CONVERT /* to another element type; only backends insert it */
} OpKind;

typedef struct Op {
    OpKind kind;
    char name[GRAPH_NAME_SIZE]; /* of the module: tensors are "NAME.weight", ... */
    int32_t kernel, stride;
    bool has_bias;
    /* Written by passes, on OP_CONV (norm, second, relu apply in this order): */
    char norm[GRAPH_NAME_SIZE]; /* batch norm folded into the weights; "" = none */
    bool relu;                  /* after the sum with the residual `second` */
    int32_t c_from, c_tensor;   /* acts on input channels c_from.. of a weight tensor that has
                                 c_tensor of them; c_tensor 0: the tensor is all its own */
    bool no_shift;              /* bias and batch norm's shift belong to another part */
    bool folds_up2;             /* the kernel acts on nearest x2 of the input; output is 4 phases */
    bool doubles;               /* OP_CONCAT: the first input is doubled on the way */
    int32_t input;              /* index of a value */
    int32_t second; /* OP_ADD, OP_CONCAT: right part; OP_CONV: residual, whose memory the output
                       takes; -1 if there is none */
    int32_t output;
} Op;

typedef struct Value {
    int32_t c, h, w;
    int32_t element_bytes;     /* 4 when built; a backend may change it and plan again */
    int32_t first_op, last_op; /* lifetime; first_op -1: input of the network; -2: unused */
    int64_t offset_bytes;      /* within the arena of one slice */
} Value;

typedef struct Stage { /* a row of the paper's Table 1, for people */
    char name[16];
    int32_t input, output;
} Stage;

typedef struct Graph { /* about 200 kB: not for stacks */
    int32_t n_ops, n_values, n_stages;
    int32_t input, output; /* values */
    int64_t arena_bytes;   /* memory for the values of one slice */
    Op ops[GRAPH_MAX_OPS];
    Value values[GRAPH_MAX_OPS + 1];
    Stage stages[GRAPH_MAX_STAGES];
} Graph;

/* For builders and passes: adds a value / an operation, whose output value is made by the call and
** returned. */
int32_t graph_add_value(Graph *graph, int32_t c, int32_t h, int32_t w);
int32_t graph_add_op(Graph *graph, Op op, int32_t c, int32_t h, int32_t w);

/* Lifetimes and offsets (graph_plan.c). Values that live at the same time never share memory, but
** for a convolution's residual and the output that replaces it. */
void graph_plan(Graph *graph);

typedef struct OpTensors {                 /* NULL where the operation has none */
    float *weight;                         /* (c_out, c_in, kernel, kernel) */
    float *bias;                           /* (c_out) */
    float *gamma, *beta, *mean, *variance; /* batch norm, (c_out) each */
    float *memory;                         /* holds them all */
} OpTensors;

/* Reads the tensors of a convolution or batch norm; the caller frees with graph_tensors_free().
** Errors: MODEL_FORMAT (missing, another shape, negative variance; the message names the tensor),
** IO, NO_MEMORY. */
MUST_CHECK Status graph_read_tensors(const Graph *graph, const Op *op, const Model *model,
                                     OpTensors *ret, Err *err);
void graph_tensors_free(OpTensors *tensors); /* zeroed is fine */
/* graph_read_tensors() for all operations. */
MUST_CHECK Status graph_check_model(const Graph *graph, const Model *model, Err *err);
/* True if some operation of the graph reads the tensor of that name. */
bool graph_reads_tensor(const Graph *graph, const char *name);

/* The convolution with batch norm folded in: gamma (w * x + b - mean) / sqrt(variance + epsilon) +
** beta has weights w * scale and bias (b - mean) * scale + beta. In double, rounded once.
**   ret_w (c_out, c_in, k, k), k = graph_conv_kernel(op); ret_b (c_out): 4 phases if folds_up2
** Errors: NO_MEMORY. */
MUST_CHECK Status graph_fold(const Graph *graph, const Op *op, const OpTensors *tensors,
                             float *ret_w, float *ret_b, Err *err);
/* Side of the kernel that a convolution has after folding. */
int32_t graph_conv_kernel(const Op *op);

int64_t graph_value_elements(const Value *value);
/* Multiply-accumulates of an operation and of the whole, as the table states them. */
int64_t graph_op_macs(const Graph *graph, const Op *op);
int64_t graph_macs(const Graph *graph);
/* Trained numbers: convolution weights and biases, batch norm's gamma and beta. */
int64_t graph_op_parameters(const Graph *graph, const Op *op);
int64_t graph_parameters(const Graph *graph);
const char *graph_kind_name(OpKind kind);

#ifdef __cplusplus
}
#endif
#endif
