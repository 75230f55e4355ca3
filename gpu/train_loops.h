/* Private to the CPU training engine: its own loops, forward and backward, on values (n, h, w, c)
** of float32 or bf16. The unit of work is a line (one row of one slice); each part of the team
** takes a range of lines. Sums over lines are in double, in the order of the parts, so that the
** bits are those of the number of parts. */
#ifndef CT2MR_GPU_TRAIN_LOOPS_H
#define CT2MR_GPU_TRAIN_LOOPS_H

#include "gpu/dnnl_team.h"
#include "gpu/train_steps.h"

typedef struct Tensor4 {
    void *data;
    int32_t c, h, w;
    bool bf16;
} Tensor4;

typedef struct LoopMemory { /* of each part of the team */
    float *lines;           /* LOOP_LINES of the longest line of any value */
    size_t line_length;
    double *sums; /* two rows of the most channels */
    float *rows;  /* two rows of the most channels */
} LoopMemory;
enum { LOOP_LINES = 6 };

typedef struct LoopNorm { /* a batch norm; arrays (c) */
    bool batch_statistics;
    int32_t repeats; /* each value counts so often in the unbiased variance */
    const float *gamma, *beta;
    float *running_mean, *running_variance;
    float *mean, *inverse_sd; /* used: written by forward, read by backward */
    float *scale;             /* gamma inverse_sd: written by forward, read by backward */
    float *dgamma, *dbeta;    /* NULL where not wanted */
    float *k0, *k2;           /* work of backward */
} LoopNorm;

typedef struct Loop {
    const DnnlTeam *team;
    const LoopMemory *memory; /* [team->threads] */
    int32_t n;                /* slices */
    Tensor4 x, x2, y;
    bool relu, doubles;
    int32_t kernel;
    uint8_t *largest;  /* pool: which of the window, [n h w c] of y */
    const float *bias; /* taps */
    float *dbias;      /* taps; NULL: not wanted */
    LoopNorm *norm;
    int32_t n_parts; /* backward: y's gradient is their sum */
    Tensor4 parts[TRAIN_MAX_PARTS];
    Tensor4 dx, dx2; /* data NULL where not wanted */
} Loop;

/* Forward: x (and x2) to y. */
void loop_norm(Loop *loop);
void loop_point(Loop *loop);
void loop_pool(Loop *loop);
void loop_up2(Loop *loop);
void loop_concat(Loop *loop);
void loop_taps(Loop *loop);
/* Backward: parts to dx (and dx2), overwritten. All but norm and point read parts[0] alone. */
void loop_norm_back(Loop *loop);
void loop_point_back(Loop *loop);
void loop_pool_back(Loop *loop);
void loop_up2_back(Loop *loop);
void loop_concat_back(Loop *loop);
void loop_taps_back(Loop *loop);
/* parts[0] becomes the sum of all parts. */
void loop_add_parts(Loop *loop);

/* Plain (n, c, h, w) float32 to x, and x to plain. */
void loop_interleave(Loop *loop, const float *plain);
void loop_separate(Loop *loop, float *ret_plain);

#endif
