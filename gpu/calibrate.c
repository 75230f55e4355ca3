/* See calibrate.h. */
#include "gpu/calibrate.h"

#include "base/digest.h"
#include "base/files.h"
#include "gpu/graph_passes.h"
#include "gpu/metrics.h"
#include "gpu/model_write.h"
#include "gpu/verify.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GPU_BATCH = 4 /* as model.batch by default */, MOST_FLOAT_PERCENT = 20 };

typedef struct Outputs { /* [n][h][w] */
    const CalibrateData *data;
    float *y;
    atomic_int n_bad; /* slices with values that are no numbers */
} Outputs;

typedef struct Calibration {
    const char *from; /* the model file */
    const CalibrateData *data;
    int32_t threads;
    char part[PATH_SIZE]; /* the model as it is tried */
    char function_digest[65];
    NetRange ranges[NET_MAX_RANGES];
    int32_t n_ranges;
    float *want, *got; /* outputs in f32, in another precision */
} Calibration;

static size_t slice_pixels(const CalibrateData *data)
{
    return (size_t)data->height * (size_t)data->width;
}

static void fill(void *context, int32_t i, float *ret_x)
{
    Outputs *o = context;
    size_t n = 3 * slice_pixels(o->data), k = 0;
    o->data->fill(o->data->context, i, ret_x);
    while (k < n && isfinite(ret_x[k]))
        k++;
    o->n_bad += k < n;
}

static void take(void *context, int32_t i, const float *y)
{
    const Outputs *o = context;
    size_t n = slice_pixels(o->data);
    memcpy(o->y + (size_t)i * n, y, n * sizeof *y);
}

static Status open_net(const char *path, const CalibrateData *data, int32_t threads,
                       Precision precision, Model **ret_model, Net **ret, Err *err)
{
    bool gpu = precision == PRECISION_F16;
    const NetOptions options = {.backend = gpu ? "cuda" : "cpu",
                                .batch = gpu ? GPU_BATCH : 1,
                                .height = data->height,
                                .width = data->width,
                                .threads = threads,
                                .precision = precision_name(precision),
                                .without = gpu ? 0 : 1u << GRAPH_PASS_SPLIT_CONCAT};
    TRY(model_open(path, ret_model, err));
    Status status = net_open(*ret_model, &options, ret, err);
    if (status != ST_OK) {
        model_close(*ret_model);
        *ret_model = NULL;
    }
    return status;
}

/* The f32 outputs, the ranges, and of which tensors they are. */
static Status run_f32(Calibration *c, Err *err)
{
    Model *model;
    Net *net;
    Outputs outputs = {.data = c->data, .y = c->want};
    const NetFeed feed = {&outputs, fill, take};
    TRY(open_net(c->from, c->data, c->threads, PRECISION_F32, &model, &net, err));
    memcpy(c->function_digest, model_info(model)->function_digest, sizeof c->function_digest);
    Status status = net_run_ranges(net, c->data->n, &feed, c->ranges, &c->n_ranges, err);
    if (outputs.n_bad > 0) /* what the network made of them says nothing */
        status = err_set(err, ST_UNSUPPORTED, "slices hold values that are no numbers");
    net_close(net);
    model_close(model);
    return status;
}

bool calibrate_allows(const CalibrateResult *r)
{
    return r->psnr_db >= CALIBRATE_PSNR_DB && r->ssim >= CALIBRATE_SSIM &&
           r->psnr_min_db >= CALIBRATE_WORST_PSNR_DB && r->ssim_min >= CALIBRATE_WORST_SSIM;
}

static Status compare(const Calibration *c, CalibrateResult *ret, Err *err)
{
    const CalibrateData *data = c->data;
    size_t n = slice_pixels(data);
    double psnr = 0, ssim = 0;
    ret->psnr_min_db = ret->ssim_min = (double)INFINITY;
    for (int32_t i = 0; i < data->n; i++) {
        const float *want = c->want + (size_t)i * n, *got = c->got + (size_t)i * n;
        double here, one;
        /* Equal slices would make the mean infinite: 100 dB is beyond what 16 bits show. */
        here = fmin(metric_psnr_db(metric_mse(want, got, n)), 100);
        TRY(metric_ssim(want, got, data->height, data->width, &one, err));
        if (here < ret->psnr_min_db)
            ret->worst = i;
        psnr += here;
        ret->psnr_min_db = fmin(ret->psnr_min_db, here);
        ssim += one;
        ret->ssim_min = fmin(ret->ssim_min, one);
    }
    ret->measured = true;
    ret->psnr_db = psnr / data->n;
    ret->ssim = ssim / data->n;
    ret->allowed = calibrate_allows(ret);
    return ST_OK;
}

static Status run_slices(const Calibration *c, const char *path, Precision precision, Err *err)
{
    Model *model;
    Net *net;
    Outputs outputs = {.data = c->data, .y = c->got};
    const NetFeed feed = {&outputs, fill, take};
    TRY(open_net(path, c->data, c->threads, precision, &model, &net, err));
    Status status = net_run_feed(net, c->data->n, &feed, err);
    net_close(net);
    model_close(model);
    return status;
}

/* Leaves ret->measured false and says why where the machine cannot compute in the precision. */
static Status run_other(const Calibration *c, const char *path, Precision precision,
                        CalibrateResult *ret, Err *err)
{
    Err why = {0};
    Status status = run_slices(c, path, precision, &why);
    if (status == ST_OK)
        return compare(c, ret, err);
    if (status != ST_BACKEND && status != ST_SELF_TEST &&
        !(precision == PRECISION_F16 && (status == ST_NO_MEMORY || status == ST_MODEL_UNFIT)))
        return err_set(err, status, "%s", why.msg);
    (void)snprintf(ret->why, sizeof ret->why, "%s", why.msg);
    return ST_OK;
}

/* Measured on slices that are no heads, ranges may suit those and nothing else. */
static Status check_synthetic(const char *path, Precision precision, CalibrateResult *ret, Err *err)
{
    Model *model;
    Err why = {0};
    TRY(model_open(path, &model, err));
    Status status = model_verify_precision(model, "cpu", precision, &why);
    model_close(model);
    if (status == ST_OK)
        return ST_OK;
    if (status != ST_BACKEND)
        return err_set(err, status, "%s", why.msg);
    ret->allowed = false;
    (void)snprintf(ret->why, sizeof ret->why, "%s", why.msg);
    return ST_OK;
}

/* ---- int8 ---------------------------------------------------------------------------------- */

static char *ranges_text(const NetRange *ranges, int32_t n)
{
    cJSON *json = cJSON_CreateObject();
    for (int32_t i = 0; i < n; i++)
        (void)cJSON_AddNumberToObject(json, ranges[i].conv, (double)ranges[i].range);
    char *text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    return text;
}

/* Copies the model with the first n ranges, to be tried. */
static Status write_ranges(const Calibration *c, int32_t n, Err *err)
{
    char calibration[256], digest[DIGEST_HEX_SIZE];
    char *text = ranges_text(c->ranges, n);
    if (text == NULL)
        return err_set(err, ST_NO_MEMORY, "metadata");
    digest_text(text, digest);
    (void)snprintf(calibration, sizeof calibration,
                   "{\"function\":\"%s\",\"int8\":{\"allowed\":true,\"ranges\":\"%s\"}}",
                   c->function_digest, digest);
    const MetadataValue values[] = {
        {"precisions", "[\"f32\",\"int8\"]"}, {"int8", text}, {"calibration", calibration}};
    Status status = model_write_metadata(c->from, values, 3, c->part, err);
    cJSON_free(text);
    return status;
}

/* As few as possible of the last convolutions stay in floats, a fifth of all at most: their
** rounding is not smoothed by any that follow, and they hold little of the work. */
static Status calibrate_int8(const Calibration *c, CalibrateResult *ret, Err *err)
{
    for (int32_t n_float = 1;; n_float += 2) {
        *ret = (CalibrateResult){0};
        TRY(write_ranges(c, c->n_ranges - n_float, err));
        TRY(run_other(c, c->part, PRECISION_INT8, ret, err));
        ret->n_float = n_float;
        if (ret->allowed || !ret->measured || n_float + 2 > c->n_ranges * MOST_FLOAT_PERCENT / 100)
            return ST_OK;
    }
}

/* ---- all of it ----------------------------------------------------------------------------- */

static char *findings_text(const Calibration *c, const CalibrateResult results[PRECISION_COUNT])
{
    cJSON *json = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(json, "function", c->function_digest);
    (void)cJSON_AddNumberToObject(json, "slices", c->data->n);
    for (int p = PRECISION_BF16; p < PRECISION_COUNT; p++) {
        if (!results[p].measured)
            continue;
        cJSON *item = cJSON_AddObjectToObject(json, precision_name((Precision)p));
        (void)cJSON_AddNumberToObject(item, "psnr_db", results[p].psnr_db);
        (void)cJSON_AddNumberToObject(item, "ssim", results[p].ssim);
        (void)cJSON_AddNumberToObject(item, "psnr_min_db", results[p].psnr_min_db);
        (void)cJSON_AddNumberToObject(item, "ssim_min", results[p].ssim_min);
        (void)cJSON_AddBoolToObject(item, "allowed", results[p].allowed);
        if (p != PRECISION_INT8)
            continue;
        (void)cJSON_AddNumberToObject(item, "float_convolutions", results[p].n_float);
        char *ranges = ranges_text(c->ranges, c->n_ranges - results[p].n_float);
        char digest[DIGEST_HEX_SIZE];
        digest_text(ranges != NULL ? ranges : "", digest);
        (void)cJSON_AddStringToObject(item, "ranges", digest);
        cJSON_free(ranges);
    }
    char *text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    return text;
}

static Status write_findings(const Calibration *c, const CalibrateResult results[PRECISION_COUNT],
                             const char *to, Err *err)
{
    char precisions[64];
    (void)snprintf(precisions, sizeof precisions, "[\"f32\"%s%s%s]",
                   results[PRECISION_BF16].allowed ? ",\"bf16\"" : "",
                   results[PRECISION_INT8].allowed ? ",\"int8\"" : "",
                   results[PRECISION_F16].allowed ? ",\"f16\"" : "");
    char *findings = findings_text(c, results);
    if (findings == NULL)
        return err_set(err, ST_NO_MEMORY, "metadata");
    const MetadataValue values[] = {{"precisions", precisions}, {"calibration", findings}};
    Status status = model_write_metadata(c->part, values, 2, to, err);
    cJSON_free(findings);
    return status;
}

static Status calibrate_all(Calibration *c, CalibrateResult ret[PRECISION_COUNT], Err *err)
{
    TRY(run_f32(c, err));
    ret[PRECISION_F32] = (CalibrateResult){.measured = true,
                                           .psnr_db = 100,
                                           .psnr_min_db = 100,
                                           .ssim = 1,
                                           .ssim_min = 1,
                                           .allowed = true};
    for (int p = PRECISION_BF16; p < PRECISION_COUNT; p++) {
        ret[p] = (CalibrateResult){0};
        if (p == PRECISION_INT8) /* leaves its ranges in part, which the others do not mind */
            TRY(calibrate_int8(c, &ret[p], err));
        else
            TRY(run_other(c, c->from, (Precision)p, &ret[p], err));
        if (ret[p].allowed && p != PRECISION_F16) /* its own self-test has run */
            TRY(check_synthetic(p == PRECISION_INT8 ? c->part : c->from, (Precision)p, &ret[p],
                                err));
    }
    return ST_OK;
}

static Status calibrate_with_memory(Calibration *c, const char *to,
                                    CalibrateResult ret[PRECISION_COUNT], Err *err)
{
    TRY(file_beside(to, c->part, err));
    Status status = calibrate_all(c, ret, err);
    if (status == ST_OK)
        status = write_findings(c, ret, to, err);
    (void)unlink(c->part);
    return status;
}

Status calibrate_model(const char *from, const CalibrateData *data, int32_t threads, const char *to,
                       CalibrateResult ret[PRECISION_COUNT], Err *err)
{
    if (data->n < 1)
        return err_set(err, ST_LIMIT, "no slices to calibrate with");
    size_t n = (size_t)data->n * slice_pixels(data);
    Calibration *c = calloc(1, sizeof *c);
    float *y = malloc(2 * n * sizeof *y);
    Status status = ST_OK;
    if (c == NULL || y == NULL) {
        status = err_set(err, ST_NO_MEMORY, "outputs of %d slices", data->n);
    } else {
        c->from = from;
        c->data = data;
        c->threads = threads;
        c->want = y;
        c->got = y + n;
        status = calibrate_with_memory(c, to, ret, err);
    }
    free(y);
    free(c);
    return status;
}
