/* The figures of an evaluation as JSON: see eval_report.h. */
#include "pipeline/eval_report.h"

static cJSON *json_of_summaries(const Evaluation *e,
                                Summary (*over)(const Evaluation *, EvalMetric))
{
    cJSON *json = cJSON_CreateObject();
    for (int m = 0; m < EVAL_METRICS; m++) {
        Summary s = over(e, (EvalMetric)m);
        cJSON *item = cJSON_AddObjectToObject(json, eval_metric_key((EvalMetric)m));
        (void)cJSON_AddNumberToObject(item, "mean", s.mean);
        (void)cJSON_AddNumberToObject(item, "deviation", s.deviation);
    }
    return json;
}

static cJSON *json_of_use(const EvalSubject *subject)
{
    EvalUse use = eval_use(subject);
    cJSON *json = cJSON_CreateObject();
    (void)cJSON_AddBoolToObject(json, "stated", use.is_stated);
    (void)cJSON_AddNumberToObject(json, "trained", use.n[CASE_TRAINED]);
    (void)cJSON_AddNumberToObject(json, "held_out", use.n[CASE_HELD_OUT]);
    (void)cJSON_AddNumberToObject(json, "not_known", use.n[CASE_NEW]);
    if (use.is_stated && (use.n[CASE_TRAINED] > 0 || use.n[CASE_NEW] == 0))
        (void)cJSON_AddBoolToObject(json, "is_test", use.n[CASE_TRAINED] == 0);
    else
        (void)cJSON_AddNullToObject(json, "is_test");
    return json;
}

static cJSON *json_of_cases(const EvalSubject *subject, const PackInfo *pack)
{
    const Evaluation *e = subject->evaluation;
    cJSON *list = cJSON_CreateArray();
    for (int32_t c = 0; c < e->n_cases; c++) {
        cJSON *item = cJSON_CreateObject();
        int32_t n = 0;
        for (int32_t i = 0; i < e->n; i++)
            n += e->scores[i].case_index == e->case_index[c];
        (void)cJSON_AddStringToObject(item, "id", pack->cases[e->case_index[c]].id);
        (void)cJSON_AddNumberToObject(item, "n_slices", n);
        (void)cJSON_AddStringToObject(item, "use", eval_use_name(subject, e->case_index[c]));
        for (int m = 0; m < EVAL_METRICS; m++)
            (void)cJSON_AddNumberToObject(item, eval_metric_key((EvalMetric)m), e->case_mean[m][c]);
        (void)cJSON_AddItemToArray(list, item);
    }
    return list;
}

static cJSON *json_of_slices(const Evaluation *e, const PackInfo *pack)
{
    cJSON *list = cJSON_CreateArray();
    for (int32_t i = 0; i < e->n; i++) {
        cJSON *item = cJSON_CreateObject();
        (void)cJSON_AddNumberToObject(item, "slice", e->scores[i].slice);
        (void)cJSON_AddStringToObject(item, "case", pack->cases[e->scores[i].case_index].id);
        for (int m = 0; m < EVAL_METRICS; m++)
            (void)cJSON_AddNumberToObject(item, eval_metric_key((EvalMetric)m),
                                          e->scores[i].value[m]);
        (void)cJSON_AddItemToArray(list, item);
    }
    return list;
}

static cJSON *json_of_tests(const Evaluation *a, const Evaluation *b, EvalTest kind,
                            bool over_cases)
{
    cJSON *json = cJSON_CreateObject();
    for (int m = 0; m < EVAL_METRICS; m++) {
        TTest test;
        if (evaluation_compare(a, b, (EvalMetric)m, kind, over_cases, &test, NULL) != ST_OK) {
            (void)cJSON_AddNullToObject(json, eval_metric_key((EvalMetric)m));
            continue;
        }
        const struct {
            const char *name;
            double value;
        } fields[] = {{"a", test.a.mean}, {"b", test.b.mean}, {"difference", test.difference},
                      {"t", test.t},      {"dof", test.dof},  {"p", test.p},
                      {"low", test.low},  {"high", test.high}};
        cJSON *item = cJSON_AddObjectToObject(json, eval_metric_key((EvalMetric)m));
        for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
            (void)cJSON_AddNumberToObject(item, fields[i].name, fields[i].value);
    }
    return json;
}

cJSON *eval_report_json(const EvalReport *report)
{
    const Evaluation *e = report->subject.evaluation;
    const PackInfo *pack = pack_info(report->pack);
    cJSON *json = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(json, "model", model_info(report->subject.model)->name);
    (void)cJSON_AddStringToObject(json, "digest", model_info(report->subject.model)->digest);
    (void)cJSON_AddStringToObject(json, "data", pack->digest);
    (void)cJSON_AddNumberToObject(json, "n_slices", e->n);
    (void)cJSON_AddNumberToObject(json, "n_left_out", e->n_left_out);
    (void)cJSON_AddItemToObject(json, "known_cases", json_of_use(&report->subject));
    (void)cJSON_AddItemToObject(json, "over_slices", json_of_summaries(e, evaluation_slices));
    (void)cJSON_AddItemToObject(json, "over_cases", json_of_summaries(e, evaluation_cases));
    (void)cJSON_AddItemToObject(json, "cases", json_of_cases(&report->subject, pack));
    (void)cJSON_AddItemToObject(json, "slices", json_of_slices(e, pack));
    if (report->other != NULL) {
        const ModelInfo *other = model_info(report->other->model);
        cJSON *compare = cJSON_AddObjectToObject(json, "compare");
        (void)cJSON_AddStringToObject(compare, "model", other->name);
        (void)cJSON_AddStringToObject(compare, "digest", other->digest);
        (void)cJSON_AddItemToObject(compare, "known_cases", json_of_use(report->other));
        static const char *const KEYS[EVAL_TESTS][2] = {
            {"over_slices", "over_cases"}, {"paired_over_slices", "paired_over_cases"}};
        for (int test = 0; test < EVAL_TESTS; test++)
            for (int cases = 0; cases < 2; cases++)
                (void)cJSON_AddItemToObject(
                    compare, KEYS[test][cases],
                    json_of_tests(e, report->other->evaluation, (EvalTest)test, cases != 0));
    }
    return json;
}
