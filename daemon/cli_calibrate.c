/* ct2mr model calibrate: which precisions a model may be computed in, measured on own slices.
**
** --data is a folder of CT images, which go through the pipeline's own steps up to the window, or a
** .npy file of slices as `ct2mr infer` reads them. What is found is written into the model file
** (or into --out). JSON: {"slices", "file", "precisions": {NAME: {"allowed", "psnr_db",
** "psnr_min_db", "ssim", "ssim_min"} or null where this machine cannot compute in it}}. */
#include "daemon/cli.h"
#include "daemon/cli_volume.h"

#include "daemon/cli_int.h"
#include "daemon/job_options.h"
#include "gpu/calibrate.h"
#include "gpu/npy.h"
#include "pipeline/pipeline.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Arguments {
    const char *model, *data, *out, *reference;
    bool json;
} Arguments;

/* ---- slices of a CT ------------------------------------------------------------------------ */

typedef struct CtSlices {
    Job *job;
    int32_t *slices; /* those with something in them; of the caller */
} CtSlices;

static void fill_from_ct(void *context, int32_t i, float *ret_x)
{
    const CtSlices *ct = context;
    const Job *job = ct->job;
    size_t pixels = (size_t)job->model_hu.grid.nx * (size_t)job->model_hu.grid.ny;
    size_t at = (size_t)ct->slices[i] * pixels;
    window_slice(&job->window, job->model_hu.v + at, job->model_mask.v + at, (int32_t)pixels,
                 ret_x);
}

static Status check_number(int32_t n, Err *err)
{
    return n >= CALIBRATE_MIN_SLICES
               ? ST_OK
               : err_set(err, ST_UNSUPPORTED, "%d slices of a head: at least %d are needed", n,
                         CALIBRATE_MIN_SLICES);
}

static Status with_job(const Arguments *a, Job *job, CalibrateResult ret[PRECISION_COUNT],
                       int32_t *ret_n, Err *err)
{
    TRY(pipeline_run_dir(job, a->data, "window", NULL, NULL, err));
    const Grid *grid = &job->model_hu.grid;
    size_t pixels = (size_t)grid->nx * (size_t)grid->ny;
    CtSlices ct = {job, calloc((size_t)grid->nz, sizeof *ct.slices)};
    if (ct.slices == NULL)
        return err_set(err, ST_NO_MEMORY, "a list of %d slices", grid->nz);
    CalibrateData data = {0, grid->ny, grid->nx, &ct, fill_from_ct};
    for (int32_t z = 0; z < grid->nz; z++)
        if (memchr(job->model_mask.v + (size_t)z * pixels, 1, pixels) != NULL)
            ct.slices[data.n++] = z;
    Status status = check_number(data.n, err);
    if (status == ST_OK)
        status = calibrate_model(a->model, &data, 0, a->out, ret, err);
    free(ct.slices);
    *ret_n = data.n;
    return status;
}

static Status from_ct(const Arguments *a, CalibrateResult ret[PRECISION_COUNT], int32_t *ret_n,
                      Err *err)
{
    static Config config; /* too large for the stack */
    static Job job;
    JobOptions options;
    config_defaults(&config);
    TRY(job_options_from_config(&config, "", &options, err));
    (void)snprintf(options.model_path, sizeof options.model_path, "%s", a->model);
    if (a->reference != NULL)
        (void)snprintf(options.reference_path, sizeof options.reference_path, "%s", a->reference);
    TRY(job_open(&options, &job, err));
    Status status = with_job(a, &job, ret, ret_n, err);
    job_close(&job);
    return status;
}

/* ---- slices of a .npy file ----------------------------------------------------------------- */

static void fill_from_npy(void *context, int32_t i, float *ret_x)
{
    const Npy *x = context;
    size_t n = (size_t)(x->dims[1] * x->dims[2] * x->dims[3]);
    memcpy(ret_x, x->data + (size_t)i * n, n * sizeof *ret_x);
}

static Status check_slices(const Arguments *a, const CalibrateData *data, Err *err)
{
    Model *model;
    TRY(model_open(a->model, &model, err));
    Status status = calibrate_check(model_info(model), data, err);
    model_close(model);
    return status;
}

static Status from_npy(const Arguments *a, CalibrateResult ret[PRECISION_COUNT], int32_t *ret_n,
                       Err *err)
{
    Npy x = {0};
    TRY(npy_read(a->data, &x, err));
    Status status = ST_OK;
    if (x.n_dims != 4 || x.dims[1] != 3 || x.dims[0] > INT32_MAX || x.dims[2] > INT32_MAX ||
        x.dims[3] > INT32_MAX)
        status = err_set(err, ST_UNSUPPORTED, "input is not of shape (n, 3, h, w)");
    if (status == ST_OK) {
        const CalibrateData data = {(int32_t)x.dims[0], (int32_t)x.dims[2], (int32_t)x.dims[3], &x,
                                    fill_from_npy};
        *ret_n = data.n;
        status = check_slices(a, &data, err);
        if (status == ST_OK)
            status = check_number(data.n, err);
        if (status == ST_OK)
            status = calibrate_model(a->model, &data, 0, a->out, ret, err);
    }
    npy_free(&x);
    return status;
}

/* ---- the command --------------------------------------------------------------------------- */

static void report_json(const Arguments *a, const CalibrateResult results[PRECISION_COUNT],
                        int32_t n)
{
    cJSON *json = cJSON_CreateObject();
    (void)cJSON_AddNumberToObject(json, "slices", n);
    (void)cJSON_AddStringToObject(json, "file", a->out);
    cJSON *list = cJSON_AddObjectToObject(json, "precisions");
    for (int p = PRECISION_F32; p < PRECISION_COUNT; p++) {
        const CalibrateResult *r = &results[p];
        const char *name = precision_name((Precision)p);
        if (!r->measured) {
            (void)cJSON_AddNullToObject(list, name);
            continue;
        }
        cJSON *item = cJSON_AddObjectToObject(list, name);
        (void)cJSON_AddBoolToObject(item, "allowed", r->allowed);
        (void)cJSON_AddNumberToObject(item, "psnr_db", r->psnr_db);
        (void)cJSON_AddNumberToObject(item, "psnr_min_db", r->psnr_min_db);
        (void)cJSON_AddNumberToObject(item, "ssim", r->ssim);
        (void)cJSON_AddNumberToObject(item, "ssim_min", r->ssim_min);
    }
    cli_print_json(json);
}

static void report(const Arguments *a, const CalibrateResult results[PRECISION_COUNT], int32_t n)
{
    (void)printf("%d slices; allowed from %.0f dB PSNR and %.3f SSIM against f32 in the mean, %.0f "
                 "dB and %.2f in every slice\n",
                 n, CALIBRATE_PSNR_DB, CALIBRATE_SSIM, CALIBRATE_WORST_PSNR_DB,
                 CALIBRATE_WORST_SSIM);
    for (int p = PRECISION_BF16; p < PRECISION_COUNT; p++) {
        const CalibrateResult *r = &results[p];
        const char *name = precision_name((Precision)p);
        if (r->measured)
            (void)printf("%-5s %6.2f dB (worst slice %.2f: slice %d), SSIM %.5f (worst %.5f): %s\n",
                         name, r->psnr_db, r->psnr_min_db, r->worst, r->ssim, r->ssim_min,
                         r->allowed ? "allowed" : "NOT allowed");
        if (r->why[0] != '\0')
            (void)printf("%-5s NOT allowed: %s\n", name, r->why);
        if (r->measured && p == PRECISION_INT8)
            (void)printf("      with the last %d convolutions in floats\n", r->n_float);
    }
    (void)printf("written: %s\n", a->out);
}

static bool parse(int argc, char **argv, Arguments *ret)
{
    static const struct option options[] = {
        {"model", required_argument, NULL, 'm'}, {"data", required_argument, NULL, 'd'},
        {"out", required_argument, NULL, 'o'},   {"reference", required_argument, NULL, 'r'},
        {"json", no_argument, NULL, 'j'},        {NULL, 0, NULL, 0}};
    *ret = (Arguments){0};
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'm')
            ret->model = optarg;
        else if (c == 'd')
            ret->data = optarg;
        else if (c == 'o')
            ret->out = optarg;
        else if (c == 'r')
            ret->reference = optarg;
        else if (c == 'j')
            ret->json = true;
        else
            return false;
    }
    return optind == argc && ret->model != NULL && ret->data != NULL;
}

int cli_model_calibrate(int argc, char **argv)
{
    Arguments a;
    if (!parse(argc, argv, &a))
        return cli_usage("model", "calibrate needs --model M and --data DIR or X.npy");
    if (cli_would_spoil(a.out, a.data) || cli_would_spoil(a.out, a.reference))
        return cli_usage("model", "--out is, or lies in, what would be read");
    char in_place[PATH_MAX]; /* the model itself, not a link to it, is written anew */
    if (a.out == NULL)
        a.out = realpath(a.model, in_place) != NULL ? in_place : a.model;
    CalibrateResult results[PRECISION_COUNT] = {0};
    int32_t n = 0;
    Err err = {0};
    size_t length = strlen(a.data);
    bool npy = length > 4 && strcmp(a.data + length - 4, ".npy") == 0;
    if ((npy ? from_npy : from_ct)(&a, results, &n, &err) != ST_OK)
        return cli_fail(&err, a.json);
    if (a.json)
        report_json(&a, results, n);
    else
        report(&a, results, n);
    return CLI_OK;
}
