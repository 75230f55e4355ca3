/* A model: a safetensors file (safetensors.h) whose metadata say what it is. See model.h. */
#include "gpu/model.h"
#include "base/digest.h"

#include "gpu/model_int.h"
#include "gpu/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct Model {
    ModelInfo info;
    Safetensors file;
    ModelRanges ranges;
};

static bool is_statistic(const char *name)
{
    const char *leaf = strrchr(name, '.');
    return leaf != NULL && strncmp(leaf, ".running_", 9) == 0;
}

/* "demo" for "/a/demo.safetensors". */
static void set_name(ModelInfo *info, const char *path)
{
    const char *slash = strrchr(path, '/');
    (void)snprintf(info->name, sizeof info->name, "%.63s", slash != NULL ? slash + 1 : path);
    for (char *p = info->name; *p != '\0'; p++) /* for people: no terminal takes it for a command */
        *p = *p < ' ' || *p > '~' ? '?' : *p;
    char *dot = strrchr(info->name, '.');
    if (dot != NULL && dot != info->name)
        *dot = '\0';
}

/* Whether the calibration measured the precision (int8: with these ranges) and allowed it. */
static bool is_allowed(const Model *model, const cJSON *calibration, Precision p)
{
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(calibration, precision_name(p));
    if (!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(found, "allowed")))
        return false;
    char ranges[DIGEST_HEX_SIZE];
    const char *of = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(found, "ranges"));
    const char *text = model_metadata(model, "int8");
    digest_text(text != NULL ? text : "", ranges);
    return p != PRECISION_INT8 || (of != NULL && strcmp(of, ranges) == 0);
}

/* What a calibration must prove is taken out where none in the file did: other weights need other
** ranges and round otherwise. */
static void prove_precisions(Model *model)
{
    ModelInfo *info = &model->info;
    cJSON *json = cJSON_Parse(model_metadata(model, "calibration"));
    const char *of = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "function"));
    bool same = of != NULL && strcmp(of, info->function_digest) == 0;
    for (int p = PRECISION_F32 + 1; p < PRECISION_COUNT; p++)
        if ((info->precisions & 1u << p) != 0 && !(same && is_allowed(model, json, (Precision)p)))
            info->unproven |= 1u << p;
    info->precisions &= ~info->unproven;
    info->unproven_why = of == NULL ? "it holds no calibration of its weights"
                         : same     ? "its calibration did not find that good enough"
                                    : "its calibration is of other weights or slices";
    cJSON_Delete(json);
}

const char *model_unproven_text(const ModelInfo *info, char ret[MODEL_UNPROVEN_SIZE])
{
    char names[32] = "";
    size_t n = 0;
    for (int p = PRECISION_F32 + 1; p < PRECISION_COUNT; p++)
        if ((info->unproven & 1u << p) != 0)
            n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", n > 0 ? ", " : "",
                                  precision_name((Precision)p));
    (void)snprintf(ret, MODEL_UNPROVEN_SIZE,
                   "the model file names %s, but %s: `ct2mr model calibrate` measures whether it "
                   "may",
                   names, info->unproven_why);
    if (n == 0)
        ret[0] = '\0';
    return ret;
}

/* What a calibration has measured: the network, and what slices are made for it. */
static void set_function(Model *model)
{
    ModelInfo *i = &model->info;
    char function[512];
    (void)snprintf(function, sizeof function,
                   "%d %d %s %d %.9g %.9g %.9g %d %d %d %.9g %.9g %.9g %.9g %.9g %.9g",
                   (int)i->arch, (int)i->activation, model->file.tensors_digest, i->grid_pixels,
                   i->grid_spacing_mm, i->window_level_hu, i->window_width_hu, (int)i->pose,
                   (int)i->mask, (int)i->interpolation, (double)i->mean[0], (double)i->mean[1],
                   (double)i->mean[2], (double)i->std[0], (double)i->std[1], (double)i->std[2]);
    digest_text(function, i->function_digest);
}

static Status open_file(const char *path, SafetensorsRules rules, Model *model, Err *err)
{
    TRY(safetensors_open(path, rules, &model->file, err));
    if (rules == SAFETENSORS_MODEL) {
        TRY(model_metadata_parse(model->file.metadata, &model->info, err));
        TRY(model_metadata_ranges(model->file.metadata, &model->ranges, err));
    }
    memcpy(model->info.digest, model->file.digest, sizeof model->info.digest);
    set_function(model);
    prove_precisions(model);
    set_name(&model->info, path);
    for (int32_t i = 0; i < model->file.n_entries; i++)
        if (!is_statistic(model->file.entries[i].name))
            model->info.n_parameters += model->file.entries[i].tensor.n_elements;
    return ST_OK;
}

static Status open_as(const char *path, SafetensorsRules rules, Model **ret, Err *err)
{
    Err own = {0};
    if (err == NULL)
        err = &own;
    Model *model = calloc(1, sizeof *model);
    if (model == NULL)
        return err_set(err, ST_NO_MEMORY, "opening model %s", path);
    Status status = open_file(path, rules, model, err);
    if (status != ST_OK) {
        model_close(model);
        return status != ST_MODEL_NOT_FOUND ? err_wrap(err, "%s", path) : status;
    }
    *ret = model;
    return ST_OK;
}

Status model_open(const char *path, Model **ret, Err *err)
{
    return open_as(path, SAFETENSORS_MODEL, ret, err);
}

Status model_open_tensors(const char *path, Model **ret, Err *err)
{
    return open_as(path, SAFETENSORS_ANY, ret, err);
}

void model_close(Model *model)
{
    if (model == NULL)
        return;
    safetensors_close(&model->file);
    free(model->ranges.items);
    free(model);
}

const ModelInfo *model_info(const Model *model)
{
    return &model->info;
}

const Tensor *model_tensor(const Model *model, const char *name)
{
    const TensorEntry *entry = safetensors_find(&model->file, name);
    return entry != NULL && entry->dtype != DTYPE_OTHER ? &entry->tensor : NULL;
}

const char *model_metadata(const Model *model, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(model->file.metadata, key));
}

bool model_calibrated_range(const Model *model, const char *conv, float *ret)
{
    for (int32_t i = 0; i < model->ranges.n; i++)
        if (strcmp(model->ranges.items[i].conv, conv) == 0) {
            *ret = model->ranges.items[i].largest;
            return true;
        }
    return false;
}

Status model_read(const Model *model, const Tensor *tensor, float *ret, Err *err)
{
    /* The tensor is a member of its entry. */
    const TensorEntry *entry =
        (const TensorEntry *)(const void *)((const char *)tensor - offsetof(TensorEntry, tensor));
    return safetensors_read(&model->file, entry, ret, err);
}

const char *model_tensor_name(const Model *model, int32_t index)
{
    return index >= 0 && index < model->file.n_entries ? model->file.entries[index].name : NULL;
}
