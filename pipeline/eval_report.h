/* The report of an evaluation: one HTML file with its tables and pictures inside, and the same
** figures as JSON. No patient data but the pictures of slices. Thread: one. */
#ifndef CT2MR_PIPELINE_EVAL_REPORT_H
#define CT2MR_PIPELINE_EVAL_REPORT_H

#include "gpu/trained_cases.h"
#include "pipeline/evaluate.h"

#include <cjson/cJSON.h>

typedef struct EvalSubject { /* all borrowed */
    const Model *model;
    Net *net;
    const Evaluation *evaluation;
    const CaseUse *use; /* [cases of the pack]: trained_cases_find() */
    bool is_stated;     /* what that returned */
} EvalSubject;

/* How many of the scored cases the model was trained on. eval_use.c */
typedef struct EvalUse {
    bool is_stated;
    int32_t n[CASE_TRAINED + 1]; /* by CaseUse */
} EvalUse;
enum { EVAL_USE_SIZE = 200 };
EvalUse eval_use(const EvalSubject *subject);
/* One sentence for people. Returns ret. */
const char *eval_use_text(const EvalUse *use, char ret[EVAL_USE_SIZE]);
/* "not known", "held_out", "trained", "unknown": of a case of the pack. */
const char *eval_use_name(const EvalSubject *subject, int32_t case_index);

/* What a report begins with, and no other page. */
#define EVAL_REPORT_BEGIN                                                                          \
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Synthetic MR: "       \
    "evaluation"

typedef struct EvalReport {
    const Pack *pack;
    double min_masked_frac;
    EvalSubject subject;
    const EvalSubject *other; /* what it is compared with; NULL: nothing */
    const char *png_dir;      /* a folder that gets the pictures as PNG files, too, or NULL:
                              ** slice-N.png, profile-N.png, filters.png, feature-maps.png */
} EvalReport;

/* Replaces the file whole or not at all. Errors: those of evaluate_pictures() and of the pictures,
** IO, DISK_FULL, NO_MEMORY. */
MUST_CHECK Status eval_report_write(const char *path, const EvalReport *report, Err *err);
/* {"model", "digest", "data", "n_slices", "n_left_out", "known_cases", "over_slices": {METRIC:
** {"mean", "deviation"}}, "over_cases": the same, "cases": [{"id", "n_slices", "use", METRIC:
** mean}], "slices": [{"slice", "case", METRIC}], "compare": {"model", "digest", "known_cases",
** "over_slices": {METRIC: {"a", "b", "difference", "t", "dof", "p", "low", "high"} or null},
** "over_cases", "paired_over_slices", "paired_over_cases": the same}}. A deviation over one
** value is null; "over_" tests are for independent samples. "known_cases": {"stated",
** "trained", "held_out", "not_known", "is_test": false if one was trained on, true if all were
** held out, else null: it cannot be told}. "use": eval_use_name(). */
cJSON *eval_report_json(const EvalReport *report);

#endif
