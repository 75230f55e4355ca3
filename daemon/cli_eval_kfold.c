/* ct2mr eval --kfold: every case by the model that was trained without it (kfold.h).
**
** JSON: {"data", "folds": [{"model", "digest", "fold", "n_cases", "n_slices", METRIC: mean over its
** slices}], "over_folds": {METRIC: {"mean", "deviation"}}, "over_cases": the same}. */
#include "daemon/cli_eval.h"

#include "gpu/trained_cases.h"
#include "pipeline/kfold.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct Kfold {
    int32_t n;
    Model *models[KFOLD_MAX];
    Fold folds[KFOLD_MAX];
    Evaluation evaluations[KFOLD_MAX];
} Kfold;

static Status score_fold(const EvalArguments *a, const Pack *pack, const Model *model,
                         const bool *held, Evaluation *ret, Err *err)
{
    Net *net;
    int32_t n_cases = pack_info(pack)->n_cases, n_trained = 0;
    TRY(evaluate_fits(model_info(model), pack_info(pack), err));
    CaseUse *use = calloc((size_t)n_cases, sizeof *use);
    if (use == NULL)
        return err_set(err, ST_NO_MEMORY, "%d cases", n_cases);
    bool is_listed = model_metadata(model, TRAINED_CASES_KEY) != NULL;
    (void)trained_cases_find(model, pack, use);
    for (int32_t c = 0; c < n_cases; c++)
        n_trained += is_listed && held[c] && use[c] == CASE_TRAINED;
    free(use);
    if (n_trained > 0)
        return err_set(err, ST_USAGE, "%s was trained on %d of the cases that it should judge",
                       model_info(model)->name, n_trained);
    TRY(cli_eval_open_net(a, model, pack, &net, err));
    Status status =
        evaluate(net, model_info(model), pack, held, a->min_masked_percent / 100, ret, err);
    net_close(net);
    return status;
}

static Status score_folds(const EvalArguments *a, const Pack *pack, Kfold *k, Err *err)
{
    int32_t n_cases = pack_info(pack)->n_cases;
    for (int32_t i = 0; i < k->n; i++) {
        TRY(model_open(a->models[i], &k->models[i], err));
        TRY(kfold_of_model(model_info(k->models[i]), pack_info(pack), &k->folds[i], err));
    }
    bool *held = calloc((size_t)k->n * (size_t)n_cases, sizeof *held);
    Status status = held == NULL ? err_set(err, ST_NO_MEMORY, "%d cases", n_cases)
                                 : kfold_held_out(k->folds, k->n, n_cases, held, err);
    for (int32_t i = 0; i < k->n && status == ST_OK; i++)
        status = score_fold(a, pack, k->models[i], held + (size_t)i * (size_t)n_cases,
                            &k->evaluations[i], err);
    free(held);
    return status;
}

/* Of the folds' means over their slices. */
static Summary over_folds(const Kfold *k, EvalMetric metric)
{
    double means[KFOLD_MAX];
    for (int32_t i = 0; i < k->n; i++)
        means[i] = evaluation_slices(&k->evaluations[i], metric).mean;
    return summary_of(means, (size_t)k->n);
}

static Summary over_cases(const Kfold *k, int32_t n_cases, EvalMetric metric)
{
    double *values = calloc((size_t)n_cases, sizeof *values);
    int32_t n = 0;
    ASSERT(values != NULL);
    for (int32_t i = 0; i < k->n; i++)
        for (int32_t c = 0; c < k->evaluations[i].n_cases; c++)
            values[n++] = k->evaluations[i].case_mean[metric][c];
    Summary summary = summary_of(values, (size_t)n);
    free(values);
    return summary;
}

static void add_summary(cJSON *json, const char *key, Summary s)
{
    cJSON *item = cJSON_AddObjectToObject(json, key);
    (void)cJSON_AddNumberToObject(item, "mean", s.mean);
    (void)cJSON_AddNumberToObject(item, "deviation", s.deviation);
}

static void print_json(const Kfold *k, const PackInfo *pack)
{
    cJSON *json = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(json, "data", pack->digest);
    cJSON *list = cJSON_AddArrayToObject(json, "folds");
    for (int32_t i = 0; i < k->n; i++) {
        cJSON *item = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(item, "model", model_info(k->models[i])->name);
        (void)cJSON_AddStringToObject(item, "digest", model_info(k->models[i])->digest);
        (void)cJSON_AddNumberToObject(item, "fold", k->folds[i].fold);
        (void)cJSON_AddNumberToObject(item, "n_cases", k->evaluations[i].n_cases);
        (void)cJSON_AddNumberToObject(item, "n_slices", k->evaluations[i].n);
        for (int m = 0; m < EVAL_METRICS; m++)
            (void)cJSON_AddNumberToObject(
                item, eval_metric_key((EvalMetric)m),
                evaluation_slices(&k->evaluations[i], (EvalMetric)m).mean);
        (void)cJSON_AddItemToArray(list, item);
    }
    cJSON *folds = cJSON_AddObjectToObject(json, "over_folds");
    cJSON *cases = cJSON_AddObjectToObject(json, "over_cases");
    for (int m = 0; m < EVAL_METRICS; m++) {
        add_summary(folds, eval_metric_key((EvalMetric)m), over_folds(k, (EvalMetric)m));
        add_summary(cases, eval_metric_key((EvalMetric)m),
                    over_cases(k, pack->n_cases, (EvalMetric)m));
    }
    cli_print_json(json);
}

static void print_text(const Kfold *k, const PackInfo *pack)
{
    static const EvalMetric shown[] = {EVAL_PSNR, EVAL_SSIM, EVAL_TENENGRAD, EVAL_RMSE,
                                       EVAL_PSNR_MASKED};
    enum { N_SHOWN = sizeof shown / sizeof shown[0] };
    (void)printf("%-24s", "mean over slices");
    for (size_t m = 0; m < N_SHOWN; m++)
        (void)printf("  %21s", eval_metric_title(shown[m]));
    (void)printf("\n");
    for (int32_t i = 0; i < k->n; i++) {
        (void)printf("fold %d (%d cases, %d)%*s", k->folds[i].fold, k->evaluations[i].n_cases,
                     k->evaluations[i].n, 1, "");
        for (size_t m = 0; m < N_SHOWN; m++)
            (void)printf("  %21.4f", evaluation_slices(&k->evaluations[i], shown[m]).mean);
        (void)printf("\n");
    }
    for (int cases = 0; cases < 2; cases++) {
        (void)printf("%-24s", cases == 0 ? "over folds" : "over cases");
        for (size_t m = 0; m < N_SHOWN; m++) {
            Summary s =
                cases == 0 ? over_folds(k, shown[m]) : over_cases(k, pack->n_cases, shown[m]);
            (void)printf("  %10.4f", s.mean);
            cli_eval_print_deviation(s);
        }
        (void)printf("\n");
    }
}

Status cli_eval_kfold(const EvalArguments *a, const Pack *pack, Err *err)
{
    Kfold k = {.n = a->n_models};
    Status status = score_folds(a, pack, &k, err);
    if (status == ST_OK)
        (a->json ? print_json : print_text)(&k, pack_info(pack));
    for (int32_t i = 0; i < k.n; i++) {
        evaluation_free(&k.evaluations[i]);
        model_close(k.models[i]);
    }
    return status;
}
