/* `ct2mr run` and `ct2mr check`: the pipeline without daemon and network, on a folder.
**
** `run` makes the same bits as the daemon for the same input, because it runs the same table with
** options from the same configuration. `check` stops after the mask: all gates that need no
** network, the exit code is the verdict. */
#include "daemon/cli.h"

#include "daemon/job_options.h"
#include "daemon/out_folder.h"
#include "pipeline/pipeline.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct RunArguments {
    const char *config, *model, *reference, *backend, *precision, *out, *dir;
    bool json;
} RunArguments;

static bool parse(int argc, char **argv, RunArguments *ret)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"model", required_argument, NULL, 'm'},
                                            {"reference", required_argument, NULL, 'r'},
                                            {"backend", required_argument, NULL, 'b'},
                                            {"precision", required_argument, NULL, 'p'},
                                            {"out", required_argument, NULL, 'o'},
                                            {"json", no_argument, NULL, 'j'},
                                            {NULL, 0, NULL, 0}};
    *ret = (RunArguments){0};
    for (int c; (c = getopt_long(argc, argv, "c:m:o:", options, NULL)) != -1;) {
        switch (c) {
        case 'c':
            ret->config = optarg;
            break;
        case 'm':
            ret->model = optarg;
            break;
        case 'r':
            ret->reference = optarg;
            break;
        case 'b':
            ret->backend = optarg;
            break;
        case 'p':
            ret->precision = optarg;
            break;
        case 'o':
            ret->out = optarg;
            break;
        case 'j':
            ret->json = true;
            break;
        default:
            return false;
        }
    }
    if (optind + 1 != argc)
        return false;
    ret->dir = argv[optind];
    return true;
}

/* The configuration if one is named or there, else the defaults; then what the arguments say. */
static Status options_of(const RunArguments *a, const char *out_dir, JobOptions *ret, Err *err)
{
    static Config config; /* too large for the stack */
    TRY(cli_load_config_offline(a->config, &config, err));
    TRY(job_options_from_config(&config, out_dir, ret, err));
    if (a->model != NULL)
        (void)snprintf(ret->model_path, sizeof ret->model_path, "%s", a->model);
    if (a->reference != NULL)
        (void)snprintf(ret->reference_path, sizeof ret->reference_path, "%s", a->reference);
    if (a->precision != NULL)
        (void)snprintf(ret->precision, sizeof ret->precision, "%s", a->precision);
    if (a->backend != NULL)
        (void)snprintf(ret->backend, sizeof ret->backend, "%s", a->backend);
    return ST_OK;
}

typedef struct Printing {
    cJSON *steps; /* NULL: print lines */
} Printing;

static void print_step(void *context, const char *step, Status status, double seconds,
                       const char *note)
{
    Printing *p = context;
    if (p->steps == NULL) {
        if (status == ST_OK)
            (void)printf("%-8s %7.2f s  %s\n", step, seconds, note);
        (void)fflush(stdout);
        return;
    }
    cJSON *item = cJSON_CreateObject();
    cJSON_AddStringToObject(item, "step", step);
    cJSON_AddStringToObject(item, "code", status_name(status));
    cJSON_AddNumberToObject(item, "seconds", seconds);
    cJSON_AddStringToObject(item, "note", note);
    cJSON_AddItemToArray(p->steps, item);
}

/* What of the folder was not looked at: it may be the reason for a refusal. */
static void print_left_out(const CtSeries *series)
{
    if (series->geometry.n_slices == 0 && series->dropped[0] != '\0') /* else in the step's note */
        (void)printf("%s\n", series->dropped);
    if (series->n_subfolders > 0)
        (void)printf("%d subfolder%s not read\n", series->n_subfolders,
                     series->n_subfolders == 1 ? "" : "s");
}

static void print_verdict(const Job *job, cJSON *reply, Status status, const Err *err,
                          const char *out)
{
    if (reply != NULL) {
        cJSON_AddBoolToObject(reply, "ok", status == ST_OK);
        cJSON_AddStringToObject(reply, "code", status_name(status));
        cJSON_AddNumberToObject(reply, "number", (double)status);
        cJSON_AddStringToObject(reply, "message", status == ST_OK ? "" : err->msg);
        cJSON_AddNumberToObject(reply, "slices", job->series.geometry.n_slices);
        cJSON_AddNumberToObject(reply, "skipped_files", job->series.n_skipped);
        cJSON_AddNumberToObject(reply, "subfolders", job->series.n_subfolders);
        cJSON_AddStringToObject(reply, "left_out", job->series.dropped);
        if (out != NULL && status == ST_OK)
            cJSON_AddStringToObject(reply, "mr_series_uid", job->mr_series_uid);
        cli_print_json(reply);
        return;
    }
    print_left_out(&job->series);
    if (status == ST_OK && out != NULL) {
        (void)printf("ok: %d MR images and qa.png in %s\n", job->series.geometry.n_slices, out);
    } else if (status == ST_OK) {
        (void)printf("ok: the series passes all gates\n");
    }
}

/* out: NULL for `check`. */
static int run(const RunArguments *a, const char *last, OutFolder *out)
{
    Err err = {0};
    JobOptions options;
    static Job job;
    if (options_of(a, out != NULL ? out->part : "", &options, &err) != ST_OK ||
        job_open(&options, &job, &err) != ST_OK)
        return cli_fail(&err, a->json);
    cJSON *reply = a->json ? cJSON_CreateObject() : NULL;
    Printing printing = {reply != NULL ? cJSON_AddArrayToObject(reply, "steps") : NULL};
    Status status = pipeline_run_dir(&job, a->dir, last, print_step, &printing, &err);
    if (status == ST_OK && out != NULL)
        status = out_folder_publish(out, &err);
    print_verdict(&job, reply, status, &err, a->out);
    int exit_code = CLI_OK;
    if (status != ST_OK)
        exit_code =
            a->json ? (status == ST_USAGE ? CLI_USAGE : CLI_NEGATIVE) : cli_fail(&err, false);
    job_close(&job);
    return exit_code;
}

/* CLI_OK, or the exit code after a complaint: before anything is read or made. */
static int check_names(const char *command, const RunArguments *a)
{
    if (a->backend != NULL && !cli_knows_backend(a->backend))
        return cli_usage(command, "--backend is none of " CLI_BACKENDS);
    if (a->precision != NULL && !cli_knows_precision(a->precision))
        return cli_usage(command, "--precision is none of " CLI_PRECISIONS);
    return CLI_OK;
}

int cli_run(int argc, char **argv)
{
    RunArguments a;
    if (!parse(argc, argv, &a) || a.out == NULL)
        return cli_usage("run", "needs --out DIR and one folder of CT images");
    int code = check_names("run", &a);
    if (code != CLI_OK)
        return code;
    Err err = {0};
    OutFolder out;
    if (out_folder_open(a.out, &out, &err) != ST_OK)
        return cli_fail(&err, a.json);
    code = run(&a, NULL, &out);
    out_folder_close(&out);
    return code;
}

int cli_check(int argc, char **argv)
{
    RunArguments a;
    if (!parse(argc, argv, &a) || a.out != NULL)
        return cli_usage("check", "needs one folder of CT images");
    int code = check_names("check", &a);
    return code != CLI_OK ? code : run(&a, "gate", NULL);
}
