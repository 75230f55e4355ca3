/* Private to the CPU backend: what its files share. backend_dnnl.c opens and runs, dnnl_types.c
** gives every value its element type and scale, dnnl_winograd.c says which convolutions take
** Winograd's way, dnnl_convert.c puts conversions around those that want other values than the
** rest, dnnl_step.c makes oneDNN's primitives and lays out weights, dnnl_own.c holds the loops
** between them. */
#ifndef CT2MR_GPU_DNNL_INT_H
#define CT2MR_GPU_DNNL_INT_H

#include "base/arena.h"
#include "gpu/backend.h"
#include "gpu/dnnl_team.h"

#include <oneapi/dnnl/dnnl.h>

enum { DNNL_MAX_ARGS = 5 };

typedef struct ValueType { /* how a value is stored: real = scale * stored */
    dnnl_data_type_t type; /* f32, bf16; u8, s8 in int8 */
    float scale;           /* 1 but for u8 and s8 */
    bool blocked;          /* nChw16c, around Winograd convolutions; else nhwc */
} ValueType;

/* F(m x m, 3 x 3): tiles of m x m outputs; larger ones save more products, round more and take more
** memory. */
typedef enum WinogradWay { WAY_DIRECT, WAY_WINOGRAD_2, WAY_WINOGRAD_4, WAY_COUNT } WinogradWay;
enum { WINOGRAD_MAX_SHAPES = 64 };

typedef struct WinogradShape { /* of 3x3 convolutions that oneDNN could compute so */
    int32_t c_in, c_out, h, w;
    bool has_residual, has_relu;
    WinogradWay way;
} WinogradShape;

typedef struct WinogradChoice {
    int32_t n_shapes; /* 0: all direct */
    WinogradShape shapes[WINOGRAD_MAX_SHAPES];
    char name[32]; /* "winograd=" and the start of the choice's digest; "" if all direct */
} WinogradChoice;

typedef struct Step { /* one operation of the graph; primitive NULL: done by dnnl_own.c */
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    dnnl_memory_t weights, bias;
    OpTensors norm; /* of an OP_NORM that no pass has folded */
} Step;

typedef struct StepArgs { /* a step's arguments for one worker */
    int n;
    dnnl_exec_arg_t args[DNNL_MAX_ARGS];
} StepArgs;

enum { OBSERVED_BINS = 2048 };

typedef struct Observed {        /* absolute outputs of one convolution */
    float largest;               /* INFINITY if one was no number */
    int64_t bins[OBSERVED_BINS]; /* of equal width up to `largest` of the first round */
} Observed;

typedef struct Worker {
    dnnl_stream_t stream;
    float *x;              /* a slice as it comes: (3, h, w) */
    unsigned char *values; /* graph->arena_bytes */
    void *scratch;         /* oneDNN's, as large as the hungriest step wants */
    StepArgs *args;        /* [n_ops] */
    Observed *observed;    /* [n_ops] what calibration sees; NULL unless calibrating */
} Worker;

typedef struct Dnnl {
    Graph *graph; /* own copy: element sizes, and conversions between types */
    Precision precision;
    WinogradChoice winograd;
    ValueType types[GRAPH_MAX_OPS + 1]; /* of the graph's values */
    int32_t n_workers;
    dnnl_engine_t engine;
    size_t scratch_bytes;
    Arena weights, work;
    Step steps[GRAPH_MAX_OPS];
    Worker *workers;
    DnnlTeam team;       /* of one: a slice is one thread's work */
    const NetFeed *feed; /* of the run under way */
    const float *tops;   /* [n_ops] in calibration's second round; NULL in the first */
} Dnnl;

/* ST_OK, or the failure in words. op may be NULL. */
MUST_CHECK Status dnnl_check(dnnl_status_t status, const Op *op, const char *what, Err *err);

/* backend_dnnl.c: a slice's operations; *ret_i: the one that failed. The thread's oneDNN is held to
** one thread. */
dnnl_status_t dnnl_run_steps(const Dnnl *d, const Worker *worker, int32_t *ret_i);
/* One of them, begun on the worker's stream. */
dnnl_status_t dnnl_run_step(const Dnnl *d, const Worker *worker, int32_t i);
/* backend_dnnl.c: opens with a choice that was made. Errors: as Backend's open. */
MUST_CHECK Status dnnl_open_with(const Graph *graph, const Model *model,
                                 const BackendOptions *options, const WinogradChoice *winograd,
                                 Dnnl **ret, Err *err);
void dnnl_close(void *state);

/* dnnl_speed.c: whether bf16 is worth choosing unasked: the instructions alone do not say. Measured
** on a convolution, 50 ms. */
bool dnnl_bf16_is_faster(void);

/* dnnl_winograd.c: how much more memory weights and scratch may take is in mib. The same choice on
** every run on one processor. Errors: as open. */
MUST_CHECK Status winograd_choose(const Graph *graph, int32_t mib, WinogradChoice *ret, Err *err);
/* dnnl_step.c: whether oneDNN has that way for the only convolution of a graph, and what it needs.
 */
MUST_CHECK Status dnnl_weigh_conv(const Graph *one, const WinogradChoice *choice, bool *ret_has,
                                  size_t *ret_weights_bytes, size_t *ret_scratch_bytes, Err *err);
/* The way of a convolution (WinogradShape). */
WinogradWay winograd_way(const WinogradChoice *choice, const Graph *graph, const Op *op);

typedef struct OpForms { /* [operation] false: plain values; true: blocked, or in int8 quantized */
    bool in[GRAPH_MAX_OPS], out[GRAPH_MAX_OPS];
} OpForms;
/* dnnl_convert.c: the graph again with conversions where they must be; ret_other[value of to]: not
** plain. Input and output of the network are plain. */
void dnnl_insert_conversions(const Graph *from, const OpForms *ops, Graph *to, bool *ret_other);

/* dnnl_types.c: d->graph and d->types from the graph given to open; plans the memory.
** Errors: BACKEND (int8 without its passes), MODEL_UNFIT (int8 without calibration). */
MUST_CHECK Status dnnl_choose_types(Dnnl *d, const Graph *graph, const Model *model, Err *err);

/* dnnl_step.c */
MUST_CHECK Status dnnl_make_steps(Dnnl *d, const Model *model, Err *err);
dnnl_status_t dnnl_value_desc(const Dnnl *d, int32_t value, dnnl_memory_desc_t *ret);
void dnnl_destroy_steps(Dnnl *d);

/* dnnl_own.c: an operation without a primitive, on values [h][w][c]. */
void dnnl_run_own(const Dnnl *d, int32_t i, unsigned char *values);
/* (c, h, w) float32 -> [h][w][c] in the value's type. */
void dnnl_interleave(const Dnnl *d, const float *x, int32_t value, unsigned char *values);

/* dnnl_show.c: Backend.run_shown. */
Status dnnl_run_shown(void *state, const NetFeed *feed, BackendShow *show, void *context, Err *err);

/* dnnl_observe.c: takes a float32 value into account; top 0: its largest only. */
void dnnl_observe(const Graph *graph, int32_t value, const unsigned char *values, float top,
                  Observed *observed);
/* The range whose levels (255 or 127 steps) give the numbers back with the least squared error. */
float dnnl_best_range(const Observed *observed, int levels);

#endif
