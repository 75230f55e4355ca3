/* Private to the CPU training engine: the network as it runs it. A literal Graph becomes a table of
** fewer steps with the same function and the same gradients, and every value and gradient gets its
** place in memory for a whole step of training.
**
** - batch norm, the residual sum after it and ReLU are one step;
** - nearest x2 moves behind 1x1 convolutions and batch norms (mean and biased variance of repeated
**   values are those of the values), and into the concatenation, sum or head that reads it;
** - a head of one output channel (k x k) is a 1x1 convolution to its k * k taps and their sum at
**   shifted places: vector units have nothing to do with one output channel.
**
** Values are (n, h, w, c): channels vary fastest. */
#ifndef CT2MR_GPU_TRAIN_STEPS_H
#define CT2MR_GPU_TRAIN_STEPS_H

#include "gpu/graph.h"

typedef enum StepKind {
    STEP_CONV,
    STEP_TAPS,  /* y[oy][ox] = bias + sum over taps of x[oy + ky - k/2][ox + kx - k/2][tap] */
    STEP_NORM,  /* y = norm(x) + second, then ReLU if relu */
    STEP_POINT, /* y = x + second, then ReLU if relu */
    STEP_POOL,
    STEP_UP2,
    STEP_CONCAT,
    STEP_NONE /* taken out by a pass */
} StepKind;

typedef struct TrainStep {
    StepKind kind;
    int32_t op; /* of the graph: its name and tensors */
    int32_t kernel, stride;
    bool taps; /* STEP_CONV: the 1x1 to kernel * kernel taps */
    bool relu;
    bool doubles;    /* nearest x2 on the way: of TAPS' and CONCAT's input, of NORM's second */
    int32_t repeats; /* NORM: each value stands for so many of the literal network */
    int32_t input, second, output; /* values; second: -1 if there is none */
    int32_t d_input, d_second;     /* pieces that backward writes; -1: no gradient is wanted */
    int32_t workspace;             /* POOL: piece of one byte per output: which was the largest */
} TrainStep;

enum { TRAIN_MAX_PARTS = 4, TRAIN_MAX_STEPS = GRAPH_MAX_OPS + 8 };
enum { TRAIN_MAX_VALUES = 2 * TRAIN_MAX_STEPS, TRAIN_MAX_PIECES = 4 * TRAIN_MAX_STEPS };

typedef struct TrainPiece { /* of memory; times: forward of step i is i, backward 2n - 1 - i */
    int64_t bytes, offset_bytes;
    int32_t first, last;
} TrainPiece;

typedef struct TrainValue {
    int32_t c, h, w;
    int32_t element_bytes; /* 4: float32, 2: bf16; of its gradient as well */
    int32_t piece;
    int32_t n_parts, parts[TRAIN_MAX_PARTS]; /* its gradient is their sum, one of each reader */
} TrainValue;

typedef struct TrainSteps { /* large: not for stacks */
    int32_t n_steps, n_values, n_pieces, input, output;
    TrainStep steps[TRAIN_MAX_STEPS];
    TrainValue values[TRAIN_MAX_VALUES];
    TrainPiece pieces[TRAIN_MAX_PIECES];
    int64_t arena_bytes;
} TrainSteps;

/* Steps and values (train_lower.c). Errors: UNSUPPORTED (a value that too many read), LIMIT. */
MUST_CHECK Status train_lower(const Graph *graph, TrainSteps *ret, Err *err);
/* Pieces and their places for `batch` slices (train_plan.c). element_bytes 4 or 2 of all values but
** the sum of taps, which is float32. Errors: UNSUPPORTED (a value that too many read). */
MUST_CHECK Status train_plan(int32_t batch, int32_t element_bytes, bool frozen, TrainSteps *steps,
                             Err *err);

int64_t train_value_elements(const TrainValue *value); /* of one slice */

#endif
