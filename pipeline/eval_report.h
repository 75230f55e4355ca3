/* The report of an evaluation: one HTML file with its tables and pictures inside, and the same
** figures as JSON. No patient data but the pictures of slices. Thread: one. */
#ifndef CT2MR_PIPELINE_EVAL_REPORT_H
#define CT2MR_PIPELINE_EVAL_REPORT_H

#include "pipeline/evaluate.h"

#include <cjson/cJSON.h>

typedef struct EvalSubject { /* all borrowed */
    const Model *model;
    Net *net;
    const Evaluation *evaluation;
} EvalSubject;

typedef struct EvalReport {
    const Pack *pack;
    double min_masked_frac;
    EvalSubject subject;
    const EvalSubject *other; /* what it is compared with; NULL: nothing */
} EvalReport;

/* Replaces the file whole or not at all. Errors: those of evaluate_pictures() and of the pictures,
** IO, DISK_FULL, NO_MEMORY. */
MUST_CHECK Status eval_report_write(const char *path, const EvalReport *report, Err *err);
/* {"model", "digest", "data", "n_slices", "n_left_out", "over_slices": {METRIC: {"mean",
** "deviation"}}, "over_cases": the same, "cases": [{"id", "n_slices", METRIC: mean}],
** "slices": [{"slice", "case", METRIC}], "compare": {"model", "digest", "over_slices": {METRIC:
** {"a", "b", "difference", "t", "dof", "p", "low", "high"} or null}, "over_cases": the same}}. */
cJSON *eval_report_json(const EvalReport *report);

#endif
