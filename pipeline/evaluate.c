/* See evaluate.h. A slice is scored on the thread that computed it. */
#include "pipeline/evaluate.h"

#include "gpu/metrics.h"
#include "pipeline/window.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *key, *title;
} METRICS[EVAL_METRICS] = {
    {"psnr_db", "PSNR (dB)"},
    {"ssim", "SSIM"},
    {"tenengrad", "Tenengrad"},
    {"rmse_grey", "RMSE (grey levels)"},
    {"psnr_masked_db", "PSNR in the mask (dB)"},
    {"ssim_global", "SSIM, global"},
    {"tenengrad_real", "Tenengrad of the real MR"},
};

const char *eval_metric_key(EvalMetric metric)
{
    return METRICS[metric].key;
}

const char *eval_metric_title(EvalMetric metric)
{
    return METRICS[metric].title;
}

Status evaluate_fits(const ModelInfo *model, const PackInfo *pack, Err *err)
{
    if (strcmp(model->target, pack->target) != 0)
        return err_set(err, ST_MODEL_UNFIT, "the model makes %s, the packed file holds %s",
                       model->target, pack->target);
    if (model->pose != pack->pose || model->mask != pack->mask ||
        model->interpolation != pack->interpolation)
        return err_set(err, ST_MODEL_UNFIT,
                       "the model's pose, mask or interpolation is not that of the packed file");
    if (fabs(model->window_level_hu - pack->window_level_hu) > 1e-6 ||
        fabs(model->window_width_hu - pack->window_width_hu) > 1e-6)
        return err_set(err, ST_MODEL_UNFIT,
                       "the model's window is %g/%g HU, the packed file's %g/%g",
                       model->window_level_hu, model->window_width_hu, pack->window_level_hu,
                       pack->window_width_hu);
    if (fabs(model->grid_spacing_mm - pack->spacing_mm) > 1e-3 * model->grid_spacing_mm)
        return err_set(err, ST_MODEL_UNFIT,
                       "the model's pixels are %g mm wide, the packed file's %g mm",
                       model->grid_spacing_mm, pack->spacing_mm);
    if (model->grid_pixels != pack->pixels)
        return err_set(err, ST_MODEL_UNFIT,
                       "the model's grid has %d pixels a side, the packed file's %d: more or less "
                       "air around a head changes every figure",
                       model->grid_pixels, pack->pixels);
    if (model->pose == POSE_REFERENCE && model->axes[0] != '\0' &&
        strcmp(model->axes, pack->axes) != 0)
        return err_set(err, ST_MODEL_UNFIT,
                       "the model's slices run to %s, the packed file's to %s: pack with --like "
                       "and the model",
                       model->axes, pack->axes);
    return ST_OK;
}

/* ---- slices through the network ------------------------------------------------------------- */

typedef struct EvalJob {
    const Pack *pack;
    Window window;
    int32_t pixels; /* of a slice: side */
    const int32_t *slices;
    uint8_t *pictures;  /* [n][side][side], or NULL */
    SliceScore *scores; /* [n], or NULL */
    Err *errors;        /* [n] */
} EvalJob;

static void fill(void *context, int32_t i, float *ret_x)
{
    const EvalJob *job = context;
    window_slice(&job->window, pack_hu(job->pack, job->slices[i]),
                 pack_mask(job->pack, job->slices[i]), job->pixels * job->pixels, ret_x);
}

static Status score(const float *real, const float *synthetic, const uint8_t *mask, int32_t side,
                    double ret[EVAL_METRICS], Err *err)
{
    size_t n = (size_t)side * (size_t)side, inside = 0;
    double mse = metric_mse(real, synthetic, n);
    for (size_t i = 0; i < n; i++)
        inside += mask[i];
    TRY(metric_ssim(real, synthetic, side, side, &ret[EVAL_SSIM], err));
    ret[EVAL_PSNR] = fmin(metric_psnr_db(mse), EVAL_PSNR_MAX_DB);
    ret[EVAL_RMSE] = metric_rmse_grey(mse);
    ret[EVAL_TENENGRAD] = metric_tenengrad(synthetic, side, side, EVAL_TENENGRAD_GREY);
    ret[EVAL_TENENGRAD_REAL] = metric_tenengrad(real, side, side, EVAL_TENENGRAD_GREY);
    ret[EVAL_SSIM_GLOBAL] = metric_ssim_global(real, synthetic, n);
    /* outside the mask both are 0 */
    double masked = inside > 0 ? mse * (double)n / (double)inside : 0;
    ret[EVAL_PSNR_MASKED] = fmin(metric_psnr_db(masked), EVAL_PSNR_MAX_DB);
    return ST_OK;
}

static uint8_t grey_of(float norm)
{
    /* The first comparison also catches what is not a number. */
    return !(norm > 0) ? 0 : norm >= 1 ? 255 : (uint8_t)(norm * 255 + 0.5f);
}

static void take(void *context, int32_t i, const float *y)
{
    const EvalJob *job = context;
    size_t n = (size_t)job->pixels * (size_t)job->pixels;
    const uint8_t *mask = pack_mask(job->pack, job->slices[i]);
    const uint16_t *mr = pack_mr(job->pack, job->slices[i]);
    if (job->pictures != NULL)
        for (size_t k = 0; k < n; k++)
            job->pictures[(size_t)i * n + k] = mask[k] != 0 ? grey_of(y[k]) : 0;
    if (job->scores == NULL)
        return;
    float *real = malloc(2 * n * sizeof *real);
    if (real == NULL) {
        (void)err_set(&job->errors[i], ST_NO_MEMORY, "scoring a slice");
        return;
    }
    float *synthetic = real + n;
    for (size_t k = 0; k < n; k++) {
        real[k] = (float)grey_of((float)mr[k] / 65535.0f) / 255.0f;
        synthetic[k] = mask[k] != 0 ? (float)grey_of(y[k]) / 255.0f : 0;
    }
    (void)score(real, synthetic, mask, job->pixels, job->scores[i].value, &job->errors[i]);
    free(real);
}

static Status run(Net *net, const ModelInfo *model, int32_t n, EvalJob *job, Err *err)
{
    TRY(window_init(model->window_level_hu, model->window_width_hu, model->mean, model->std,
                    &job->window, err));
    if ((job->errors = calloc((size_t)n, sizeof *job->errors)) == NULL)
        return err_set(err, ST_NO_MEMORY, "%d slices", n);
    const NetFeed feed = {job, fill, take};
    Status status = net_run_feed(net, n, &feed, err);
    for (int32_t i = 0; i < n && status == ST_OK; i++)
        if ((status = job->errors[i].status) != ST_OK && err != NULL)
            *err = job->errors[i];
    free(job->errors);
    return status;
}

Status evaluate_pictures(Net *net, const ModelInfo *model, const Pack *pack, const int32_t *slices,
                         int32_t n, uint8_t *ret, Err *err)
{
    static EvalJob job; /* its window's table is too large for the stack */
    job = (EvalJob){
        .pack = pack, .pixels = pack_info(pack)->pixels, .slices = slices, .pictures = ret};
    return run(net, model, n, &job, err);
}

/* ---- all of a file --------------------------------------------------------------------------- */

/* Slices to score into list, which has room for all; returns their number. */
static int32_t choose(const PackInfo *info, const bool *wanted, double min_masked_frac,
                      Evaluation *e, int32_t *list)
{
    int32_t n = 0;
    for (int32_t c = 0; c < info->n_cases; c++) {
        int32_t before = n;
        for (int32_t k = 0; k < info->cases[c].n_slices; k++) {
            int32_t slice = info->cases[c].first_slice + k;
            if (wanted != NULL && !wanted[c])
                continue;
            if ((double)info->statistics[slice].masked_frac < min_masked_frac) {
                e->n_left_out++;
                continue;
            }
            e->scores[n] = (SliceScore){.slice = slice, .case_index = c};
            list[n++] = slice;
        }
        if (n > before)
            e->case_index[e->n_cases++] = c;
    }
    return n;
}

static void average_cases(Evaluation *e)
{
    int32_t c = 0, count = 0;
    for (int32_t i = 0; i < e->n; i++) {
        for (int m = 0; m < EVAL_METRICS; m++)
            e->case_mean[m][c] += e->scores[i].value[m];
        count++;
        if (i + 1 < e->n && e->scores[i + 1].case_index == e->scores[i].case_index)
            continue;
        for (int m = 0; m < EVAL_METRICS; m++)
            e->case_mean[m][c] /= count;
        c++;
        count = 0;
    }
}

static Status score_all(Net *net, const ModelInfo *model, const Pack *pack, const bool *wanted,
                        double min_masked_frac, int32_t *list, Evaluation *e, Err *err)
{
    static EvalJob job; /* as above */
    const PackInfo *info = pack_info(pack);
    e->n = choose(info, wanted, min_masked_frac, e, list);
    if (e->n == 0)
        return err_set(
            err, ST_USAGE,
            "no slice to score: %d slices of the cases asked for have a mask below %g %% "
            "of the image",
            e->n_left_out, 100 * min_masked_frac);
    job = (EvalJob){.pack = pack, .pixels = info->pixels, .slices = list, .scores = e->scores};
    TRY(run(net, model, e->n, &job, err));
    average_cases(e);
    return ST_OK;
}

Status evaluate(Net *net, const ModelInfo *model, const Pack *pack, const bool *wanted,
                double min_masked_frac, Evaluation *ret, Err *err)
{
    const PackInfo *info = pack_info(pack);
    size_t n = (size_t)info->n_slices, n_cases = (size_t)info->n_cases;
    Evaluation e = {.scores = calloc(n, sizeof *e.scores),
                    .case_index = calloc(n_cases, sizeof *e.case_index)};
    int32_t *list = calloc(n, sizeof *list);
    bool room = e.scores != NULL && e.case_index != NULL && list != NULL;
    for (int m = 0; m < EVAL_METRICS; m++)
        room = (e.case_mean[m] = calloc(n_cases, sizeof(double))) != NULL && room;
    Status status = room ? score_all(net, model, pack, wanted, min_masked_frac, list, &e, err)
                         : err_set(err, ST_NO_MEMORY, "scores of %zu slices", n);
    free(list);
    if (status == ST_OK)
        *ret = e;
    else
        evaluation_free(&e);
    return status;
}

void evaluation_free(Evaluation *e)
{
    free(e->scores);
    free(e->case_index);
    for (int m = 0; m < EVAL_METRICS; m++)
        free(e->case_mean[m]);
    *e = (Evaluation){0};
}

/* Scores of a metric, [n]; the caller frees; NULL: out of memory. */
static double *values_of(const Evaluation *e, EvalMetric metric)
{
    double *values = malloc((size_t)e->n * sizeof *values);
    for (int32_t i = 0; values != NULL && i < e->n; i++)
        values[i] = e->scores[i].value[metric];
    return values;
}

Summary evaluation_slices(const Evaluation *e, EvalMetric metric)
{
    double *values = values_of(e, metric);
    ASSERT(values != NULL);
    Summary summary = summary_of(values, (size_t)e->n);
    free(values);
    return summary;
}

Summary evaluation_cases(const Evaluation *e, EvalMetric metric)
{
    return summary_of(e->case_mean[metric], (size_t)e->n_cases);
}

const char *eval_test_title(EvalTest test)
{
    return test == EVAL_PAIRED ? "paired t-test (both models saw the same slices)"
                               : "t-test for independent samples (Student's, as in the paper)";
}

static Status test_values(const double *x, const double *y, int32_t n, EvalTest test, TTest *ret,
                          Err *err)
{
    return test == EVAL_PAIRED ? t_test_paired(x, y, (size_t)n, 0.95, ret, err)
                               : t_test(x, (size_t)n, y, (size_t)n, true, 0.95, ret, err);
}

Status evaluation_compare(const Evaluation *a, const Evaluation *b, EvalMetric metric,
                          EvalTest test, bool over_cases, TTest *ret, Err *err)
{
    bool same = a->n == b->n && a->n_cases == b->n_cases;
    for (int32_t i = 0; same && i < a->n; i++)
        same = a->scores[i].slice == b->scores[i].slice;
    if (!same)
        return err_set(err, ST_USAGE, "the two evaluations are of other slices");
    if (over_cases)
        return test_values(a->case_mean[metric], b->case_mean[metric], a->n_cases, test, ret, err);
    double *x = values_of(a, metric), *y = values_of(b, metric);
    Status status = x == NULL || y == NULL ? err_set(err, ST_NO_MEMORY, "scores of %d slices", a->n)
                                           : test_values(x, y, a->n, test, ret, err);
    free(x);
    free(y);
    return status;
}
