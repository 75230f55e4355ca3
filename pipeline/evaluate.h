/* How good a model's slices are: every slice of a packed file through the network, compared with
** its real MR.
**
** What is compared is what the node delivers: 8-bit images, 0 outside the mask. The paper's figures
** are over whole images; `psnr_masked` is over the mask alone, which no background flatters.
** Thread: one call at a time; parallel inside; same bits for any number of threads. */
#ifndef CT2MR_PIPELINE_EVALUATE_H
#define CT2MR_PIPELINE_EVALUATE_H

#include "gpu/net.h"
#include "gpu/pack_file.h"
#include "gpu/statistics.h"

typedef enum EvalMetric {
    EVAL_PSNR,           /* dB, at most EVAL_PSNR_MAX_DB (equal images) */
    EVAL_SSIM,           /* 11 x 11 Gaussian */
    EVAL_TENENGRAD,      /* of the synthetic image, threshold EVAL_TENENGRAD_GREY */
    EVAL_RMSE,           /* grey levels */
    EVAL_PSNR_MASKED,    /* dB, over the mask's pixels alone */
    EVAL_SSIM_GLOBAL,    /* one window: the whole image */
    EVAL_TENENGRAD_REAL, /* of the real image: what the synthetic one should reach */
    EVAL_METRICS
} EvalMetric;
#define EVAL_PSNR_MAX_DB 100.0
#define EVAL_TENENGRAD_GREY 20.0

/* "psnr_db", ...: for JSON. "PSNR (dB)", ...: for people. */
const char *eval_metric_key(EvalMetric metric);
const char *eval_metric_title(EvalMetric metric);

typedef struct SliceScore {
    int32_t slice, case_index; /* of the packed file */
    double value[EVAL_METRICS];
} SliceScore;

typedef struct Evaluation {
    int32_t n;                       /* slices scored */
    int32_t n_left_out;              /* with less mask than asked for */
    int32_t n_cases;                 /* with at least one slice scored */
    SliceScore *scores;              /* [n], owned */
    double *case_mean[EVAL_METRICS]; /* [n_cases]: mean over the case's slices, owned */
    int32_t *case_index;             /* [n_cases], owned */
} Evaluation;

/* The pack's window, grid spacing, pose, mask and target are those that the model was made for.
** Errors: MODEL_UNFIT, naming what differs. */
MUST_CHECK Status evaluate_fits(const ModelInfo *model, const PackInfo *pack, Err *err);

/* Scores the slices whose mask covers at least min_masked_frac of the image, in all cases or in
** those with wanted[case] true. net: made for the pack's size. Errors: BACKEND, NO_MEMORY,
** USAGE (no slice is left). */
MUST_CHECK Status evaluate(Net *net, const ModelInfo *model, const Pack *pack, const bool *wanted,
                           double min_masked_frac, Evaluation *ret, Err *err);
/* The network's picture of some slices, as scored. ret: [n][pixels][pixels]. */
MUST_CHECK Status evaluate_pictures(Net *net, const ModelInfo *model, const Pack *pack,
                                    const int32_t *slices, int32_t n, uint8_t *ret, Err *err);
void evaluation_free(Evaluation *evaluation);

/* Over slices, over cases. */
Summary evaluation_slices(const Evaluation *evaluation, EvalMetric metric);
Summary evaluation_cases(const Evaluation *evaluation, EvalMetric metric);
typedef enum EvalTest {
    EVAL_INDEPENDENT, /* Student's, pooled variance: the paper's */
    EVAL_PAIRED,      /* of the differences: both models saw the same slices */
    EVAL_TESTS
} EvalTest;
/* "t-test for independent samples, ...". For people. */
const char *eval_test_title(EvalTest test);
/* A t-test, 95 % confidence, of a metric's values in two evaluations of the same slices, over
** slices or over cases. Errors: those of t_test() and t_test_paired(), USAGE (other slices),
** NO_MEMORY. */
MUST_CHECK Status evaluation_compare(const Evaluation *a, const Evaluation *b, EvalMetric metric,
                                     EvalTest test, bool over_cases, TTest *ret, Err *err);

#endif
