/* The network as a table: operations in order, values between them, one memory plan.
**
** Every backend runs the same table, so that no backend knows an architecture. A value is one
** tensor of one slice; shapes are (c, h, w), the memory layout is the backend's own. Backends that
** are after speed run graph_rewrite()'s table instead, which computes the same function with less
** work; the reference backend runs the literal one, and the two must agree.
**
** Thread: a Graph is immutable once planned. */
#ifndef CT2MR_GPU_GRAPH_H
#define CT2MR_GPU_GRAPH_H

#include "gpu/model.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { GRAPH_MAX_OPS = 512, GRAPH_MAX_STAGES = 16, GRAPH_NAME_SIZE = 40 };
#define GRAPH_BATCH_NORM_EPSILON 1e-5 /* PyTorch's default, with which the models are trained */

typedef enum OpKind {
    OP_CONV,    /* odd kernel, padding kernel/2; then batch norm or bias, + residual, ReLU */
    OP_MAXPOOL, /* kernel 3, stride 2, padding 1 */
    OP_UP2,     /* nearest neighbour: both sides doubled */
    OP_CONCAT,  /* channels of input, then of second */
    OP_SHUFFLE, /* (4, h, w) -> (1, 2h, 2w): channel 2a+b is row phase a, column phase b */
    OP_SIGMOID
} OpKind;

typedef struct Op {
    OpKind kind;
    char name[GRAPH_NAME_SIZE]; /* of the module: weights are "NAME.weight" */
    char norm[GRAPH_NAME_SIZE]; /* of its batch norm; "" = none, then there is "NAME.bias" */
    int32_t kernel, stride;
    bool relu;
    bool folds_up2; /* OP_CONV: the kernel acts on nearest x2 of the input; output is 4 phases */
    bool doubles;   /* OP_CONCAT: the first input is doubled on the way */
    int32_t input;  /* index of a value */
    int32_t second; /* OP_CONCAT: right part; OP_CONV: residual, whose memory the output takes */
    int32_t output; /* both -1 if there is none */
} Op;

typedef struct Value {
    int32_t c, h, w;
    int32_t first_op, last_op; /* lifetime; first_op -1: input of the network; -2: unused */
    int64_t offset;            /* in floats, within the arena of one slice */
} Value;

typedef struct Stage { /* a row of the paper's Table 1, for people */
    char name[16];
    int32_t input, output;
} Stage;

typedef struct Graph {
    int32_t n_ops, n_values, n_stages;
    int32_t input, output; /* values */
    int64_t arena_floats;  /* memory for the values of one slice */
    Op ops[GRAPH_MAX_OPS];
    Value values[GRAPH_MAX_OPS + 1];
    Stage stages[GRAPH_MAX_STAGES];
} Graph;

/* For builders: adds a value / an operation (its output value is made by the caller). */
int32_t graph_add_value(Graph *graph, int32_t c, int32_t h, int32_t w);
int32_t graph_add_op(Graph *graph, Op op, int32_t c, int32_t h, int32_t w); /* returns its output */

/* Lifetimes and offsets. Values that live at the same time never share memory, but for a residual
** and the output that replaces it. */
void graph_plan(Graph *graph);

/* The same function with less work, planned:
**   nearest x2 moves behind 1x1 convolutions (with their bias, residual and ReLU) and into concats;
**   nearest x2 and the 7x7 head become one 5x5 convolution to 4 phases and a pixel shuffle.
** `literal` must be planned; ret must be another Graph. */
void graph_rewrite(const Graph *literal, Graph *ret);

/* The kernel of a folds_up2 convolution: literal (c, k, k) -> folded (4, c, k2, k2), where
** k2 = graph_folded_size(k). */
int32_t graph_folded_size(int32_t kernel);
void graph_fold_up2(const float *kernel_ckk, int32_t c, int32_t kernel, double *ret_folded);

typedef struct OpTensors { /* borrowed from the model; NULL where the operation has none */
    const float *weight;   /* (c_out, c_in, kernel, kernel) */
    const float *bias;     /* (c_out) */
    const float *gamma, *beta, *mean, *variance; /* (c_out) each */
} OpTensors;

/* The tensors of a convolution. Errors: MODEL_FORMAT (missing, another shape, negative variance),
** the message names the tensor. */
MUST_CHECK Status graph_op_tensors(const Graph *graph, const Op *op, const Model *model,
                                   OpTensors *ret, Err *err);
/* graph_op_tensors() for all operations. */
MUST_CHECK Status graph_check_model(const Graph *graph, const Model *model, Err *err);
/* True if some operation of the graph reads the tensor of that name. */
bool graph_reads_tensor(const Graph *graph, const char *name);

/* Multiply-accumulates of an operation and of the whole, as the table states them. */
int64_t graph_op_macs(const Graph *graph, const Op *op);
int64_t graph_macs(const Graph *graph);
/* Trained numbers: convolution weights and biases, batch norm's gamma and beta. */
int64_t graph_parameters(const Graph *graph);
const char *graph_kind_name(OpKind kind);

#ifdef __cplusplus
}
#endif
#endif
