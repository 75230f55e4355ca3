/* Between the files of ct2mr eval. Private to daemon/. Thread: one. */
#ifndef CT2MR_DAEMON_CLI_EVAL_H
#define CT2MR_DAEMON_CLI_EVAL_H

#include "daemon/cli.h"
#include "pipeline/evaluate.h"

typedef struct EvalArguments {
    const char *model, *compare, *data, *out, *png, *png_part, *cases, *backend, *precision;
    char **models; /* of --kfold, [n_models] */
    int32_t n_models;
    double min_masked_percent;
    bool unseen, json;
} EvalArguments;

/* For slices of the packed file's size. Errors: those of net_open(). */
MUST_CHECK Status cli_eval_open_net(const EvalArguments *a, const Model *model, const Pack *pack,
                                    Net **ret, Err *err);
/* " +- 0.1234"; of one value, which has no deviation, " +-       -". */
void cli_eval_print_deviation(Summary summary);
/* Scores and prints. */
MUST_CHECK Status cli_eval_kfold(const EvalArguments *a, const Pack *pack, Err *err);

#endif
