/* See job_file.h. JSON by cJSON. */
#include "pipeline/job_file.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX_BYTES = 16 << 20, MAX_ITEMS = 100000 };

void path_list_free(PathList *list)
{
    for (int32_t i = 0; i < list->n; i++)
        free(list->items[i]);
    free(list->items);
    *list = (PathList){0};
}

/* Prints, writes durably and deletes the value. */
static Status write_json(const char *path, cJSON *json, Err *err)
{
    char *text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    if (text == NULL)
        return err_set(err, ST_NO_MEMORY, "printing %s", path);
    Status status = file_write_durable(path, text, strlen(text), err);
    cJSON_free(text);
    return status;
}

static Status read_json(const char *path, cJSON **ret, Err *err)
{
    char *text;
    size_t size;
    TRY(file_read(path, FILE_MAX_BYTES, &text, &size, err));
    *ret = cJSON_ParseWithLength(text, size);
    free(text);
    return *ret != NULL ? ST_OK : err_set(err, ST_INTERNAL, "%s is not JSON", path);
}

static bool get_string(const cJSON *json, const char *key, char *ret, size_t size)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, key));
    if (text == NULL || strlen(text) >= size)
        return false;
    memcpy(ret, text, strlen(text) + 1);
    return true;
}

static bool get_int(const cJSON *json, const char *key, int32_t *ret)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);
    if (!cJSON_IsNumber(item) || item->valuedouble != (double)item->valueint)
        return false;
    *ret = item->valueint;
    return true;
}

static bool get_bool(const cJSON *json, const char *key, bool *ret)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);
    *ret = cJSON_IsTrue(item);
    return cJSON_IsBool(item);
}

static bool get_paths(const cJSON *json, PathList *ret)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(json, "images"), *item;
    int n = cJSON_GetArraySize(list);
    if (!cJSON_IsArray(list) || n < 1 || n > MAX_ITEMS)
        return false;
    *ret = (PathList){calloc((size_t)n, sizeof *ret->items), 0};
    cJSON_ArrayForEach(item, list)
    {
        const char *text = cJSON_GetStringValue(item);
        char *copy = text != NULL && ret->items != NULL ? strdup(text) : NULL;
        if (copy == NULL) {
            path_list_free(ret);
            return false;
        }
        ret->items[ret->n++] = copy;
    }
    return true;
}

static void add_paths(cJSON *json, const char *const *images, int32_t n)
{
    cJSON *list = cJSON_AddArrayToObject(json, "images");
    for (int32_t i = 0; i < n; i++)
        cJSON_AddItemToArray(list, cJSON_CreateString(images[i]));
}

Status job_file_write(const char *path, const JobOptions *o, const char *const *images, int32_t n,
                      Err *err)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "model_path", o->model_path);
    cJSON_AddStringToObject(json, "backend", o->backend);
    cJSON_AddStringToObject(json, "precision", o->precision);
    cJSON_AddStringToObject(json, "reference_path", o->reference_path);
    cJSON_AddStringToObject(json, "out_dir", o->out_dir);
    cJSON_AddNumberToObject(json, "batch", o->batch);
    cJSON_AddNumberToObject(json, "threads", o->threads);
    cJSON_AddNumberToObject(json, "winograd_mib", o->winograd_mib);
    cJSON_AddNumberToObject(json, "device", o->device);
    cJSON_AddBoolToObject(json, "envelope_refuse", o->envelope_refuse);
    cJSON_AddBoolToObject(json, "synthetic_data", o->synthetic_data);
    cJSON_AddNumberToObject(json, "series_number_offset", o->series_number_offset);
    cJSON_AddNumberToObject(json, "memory_mib", o->memory_mib);
    cJSON_AddNumberToObject(json, "slice_jump_percent", o->slice_jump_percent);
    cJSON_AddNumberToObject(json, "min_slices", o->geometry.min_slices);
    cJSON_AddNumberToObject(json, "max_slices", o->geometry.max_slices);
    add_paths(json, images, n);
    return write_json(path, json, err);
}

Status job_file_read(const char *path, JobOptions *ret, PathList *ret_images, Err *err)
{
    cJSON *json;
    TRY(read_json(path, &json, err));
    JobOptions o = {0};
    bool ok = get_string(json, "model_path", o.model_path, sizeof o.model_path) &&
              get_string(json, "backend", o.backend, sizeof o.backend) &&
              get_string(json, "precision", o.precision, sizeof o.precision) &&
              get_string(json, "reference_path", o.reference_path, sizeof o.reference_path) &&
              get_string(json, "out_dir", o.out_dir, sizeof o.out_dir) &&
              get_int(json, "batch", &o.batch) && get_int(json, "threads", &o.threads) &&
              get_int(json, "winograd_mib", &o.winograd_mib) &&
              get_int(json, "device", &o.device) &&
              get_bool(json, "envelope_refuse", &o.envelope_refuse) &&
              get_bool(json, "synthetic_data", &o.synthetic_data) &&
              get_int(json, "series_number_offset", &o.series_number_offset) &&
              get_int(json, "memory_mib", &o.memory_mib) &&
              get_int(json, "slice_jump_percent", &o.slice_jump_percent) &&
              get_int(json, "min_slices", &o.geometry.min_slices) &&
              get_int(json, "max_slices", &o.geometry.max_slices) && get_paths(json, ret_images);
    cJSON_Delete(json);
    if (!ok)
        return err_set(err, ST_INTERNAL, "%s: a field is missing or wrong", path);
    *ret = o;
    return ST_OK;
}

Status job_result_write(const char *path, const Job *job, Err *err)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "model_digest", model_info(job->model)->digest);
    cJSON_AddStringToObject(json, "mr_series_uid", job->mr_series_uid);
    cJSON *list = cJSON_AddArrayToObject(json, "outputs");
    for (int32_t i = 0; i < job->series.geometry.n_slices; i++) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "file", job->outputs[i].file);
        cJSON_AddStringToObject(item, "sop_uid", job->outputs[i].sop_uid);
        cJSON_AddItemToArray(list, item);
    }
    return write_json(path, json, err);
}

static bool get_outputs(const cJSON *json, JobResult *ret)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(json, "outputs"), *item;
    int n = cJSON_GetArraySize(list);
    if (!cJSON_IsArray(list) || n < 1 || n > MAX_ITEMS)
        return false;
    ret->outputs = calloc((size_t)n, sizeof *ret->outputs);
    cJSON_ArrayForEach(item, list)
    {
        OutputFile *out = ret->outputs != NULL ? &ret->outputs[ret->n_outputs++] : NULL;
        if (out == NULL || !get_string(item, "file", out->file, sizeof out->file) ||
            !get_string(item, "sop_uid", out->sop_uid, sizeof out->sop_uid)) {
            free(ret->outputs);
            return false;
        }
    }
    return true;
}

Status job_result_read(const char *path, JobResult *ret, Err *err)
{
    cJSON *json;
    TRY(read_json(path, &json, err));
    JobResult r = {0};
    bool ok = get_string(json, "model_digest", r.model_digest, sizeof r.model_digest) &&
              get_string(json, "mr_series_uid", r.mr_series_uid, sizeof r.mr_series_uid) &&
              get_outputs(json, &r);
    cJSON_Delete(json);
    if (!ok)
        return err_set(err, ST_INTERNAL, "%s: a field is missing or wrong", path);
    *ret = r;
    return ST_OK;
}

Status send_file_write(const char *path, const Destination *d, const char *const *images, int32_t n,
                       Err *err)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "name", d->name);
    cJSON_AddStringToObject(json, "ae_title", d->ae_title);
    cJSON_AddStringToObject(json, "calling_ae", d->calling_ae);
    cJSON_AddStringToObject(json, "host", d->host);
    cJSON_AddNumberToObject(json, "port", d->port);
    cJSON_AddNumberToObject(json, "timeout_s", d->timeout_s);
    add_paths(json, images, n);
    return write_json(path, json, err);
}

Status send_file_read(const char *path, Destination *ret, PathList *ret_images, Err *err)
{
    cJSON *json;
    TRY(read_json(path, &json, err));
    Destination d = {0};
    bool ok = get_string(json, "name", d.name, sizeof d.name) &&
              get_string(json, "ae_title", d.ae_title, sizeof d.ae_title) &&
              get_string(json, "calling_ae", d.calling_ae, sizeof d.calling_ae) &&
              get_string(json, "host", d.host, sizeof d.host) && get_int(json, "port", &d.port) &&
              get_int(json, "timeout_s", &d.timeout_s) && get_paths(json, ret_images);
    cJSON_Delete(json);
    if (!ok)
        return err_set(err, ST_INTERNAL, "%s: a field is missing or wrong", path);
    *ret = d;
    return ST_OK;
}
