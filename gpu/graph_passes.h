/* Passes: the same function with less work. Each can be left out; each is exact but for rounding.
** Thread: pure functions. */
#ifndef CT2MR_GPU_GRAPH_PASSES_H
#define CT2MR_GPU_GRAPH_PASSES_H

#include "gpu/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* X(NAME, name for people, what it does); applied in this order. */
#define GRAPH_PASS_MAP(X)                                                                          \
    X(FOLD_NORM, "fold-norm", "batch norm goes into the weights of the convolution before it")     \
    X(FUSE, "fuse", "residual sum and ReLU are done by the convolution before them")               \
    X(SPLIT_CONCAT, "split-concat", "1x1 convolutions of a concatenation become sums of two")      \
    X(LATE_UP2, "late-up2", "nearest x2 moves behind 1x1 convolutions and into concatenations")    \
    X(FOLD_HEAD, "fold-head", "nearest x2 and the 7x7 head become 5x5 to 4 phases and a shuffle")

typedef enum GraphPass {
#define GRAPH_PASS_ENUM(NAME, name, text) GRAPH_PASS_##NAME,
    GRAPH_PASS_MAP(GRAPH_PASS_ENUM)
#undef GRAPH_PASS_ENUM
        GRAPH_PASS_COUNT
} GraphPass;

#define GRAPH_PASSES_ALL ((1u << GRAPH_PASS_COUNT) - 1u)

const char *graph_pass_name(GraphPass pass);
const char *graph_pass_text(GraphPass pass);

/* Applies the passes of the set (bits 1 << GraphPass) and plans. `literal` must be planned; ret
** must be another Graph. Stages are not carried over. Errors: NO_MEMORY. */
MUST_CHECK Status graph_rewrite(const Graph *literal, unsigned passes, Graph *ret, Err *err);

/* The kernel of a head over nearest x2: literal (c, k, k) -> folded (4, c, k2, k2), where
** k2 = graph_folded_size(k). Phase 2a+b makes the output's rows 2i+a, columns 2j+b. */
int32_t graph_folded_size(int32_t kernel);
void graph_fold_up2(const float *kernel_ckk, int32_t c, int32_t kernel, double *ret_folded);

#ifdef __cplusplus
}
#endif
#endif
