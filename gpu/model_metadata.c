/* The metadata of a model file: strings by key, some of them JSON text again, as safetensors
** allows nothing but strings. What is not understood is refused where it could change a result
** (format, arch, activation, an unknown limit in the envelope); other keys are provenance and
** pass. Values are never quoted in messages: the file may come from anywhere. */
#include "gpu/model_int.h"

#include "gpu/network.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Choice {
    const char *text;
    int value;
} Choice;

static Status bad(Err *err, const char *key, const char *want)
{
    return err_set(err, ST_MODEL_FORMAT, "metadata %s: %s", key, want);
}

/* The value of a key; NULL if absent. Two values for one key are refused. */
static Status find_text(const cJSON *metadata, const char *key, const char **ret, Err *err)
{
    const char *found = NULL;
    for (const cJSON *item = metadata->child; item != NULL; item = item->next) {
        if (strcmp(item->string, key) != 0)
            continue;
        if (!cJSON_IsString(item))
            return bad(err, key, "is not a string");
        if (found != NULL)
            return bad(err, key, "stands twice");
        found = item->valuestring;
    }
    *ret = found;
    return ST_OK;
}

static Status get_choice(const cJSON *metadata, const char *key, const Choice *choices,
                         const char *allowed, int *ret, Err *err)
{
    const char *text;
    TRY(find_text(metadata, key, &text, err));
    if (text == NULL)
        return bad(err, key, "is missing");
    for (; choices->text != NULL; choices++)
        if (strcmp(choices->text, text) == 0) {
            *ret = choices->value;
            return ST_OK;
        }
    return err_set(err, ST_MODEL_FORMAT, "metadata %s is none of %s", key, allowed);
}

/* Free text goes into images, logs and terminals: printable ASCII only. "" if absent. */
static Status get_text(const cJSON *metadata, const char *key, char *ret, size_t size, Err *err)
{
    const char *text;
    TRY(find_text(metadata, key, &text, err));
    if (text == NULL)
        text = "";
    if (strlen(text) >= size)
        return err_set(err, ST_MODEL_FORMAT, "metadata %s is longer than %zu bytes", key, size - 1);
    for (const char *p = text; *p != '\0'; p++)
        if (*p < 0x20 || *p > 0x7e)
            return bad(err, key, "holds other than printable ASCII");
    (void)snprintf(ret, size, "%s", text);
    return ST_OK;
}

/* Every object at any depth holds at most MODEL_MAX_RANGES keys, none of them twice: of two values
** for one key readers take the first or the last as they like. */
static bool keys_are_single(const cJSON *json)
{
    int n = 0;
    for (const cJSON *item = json->child; item != NULL; item = item->next) {
        if (cJSON_IsObject(json) && ++n > MODEL_MAX_RANGES)
            return false;
        for (const cJSON *other = json->child; cJSON_IsObject(json) && other != item;
             other = other->next)
            if (strcmp(other->string, item->string) == 0)
                return false;
        if (!keys_are_single(item))
            return false;
    }
    return true;
}

/* JSON text inside a metadata string; *ret is NULL if absent, the caller deletes it. */
static Status get_json(const cJSON *metadata, const char *key, cJSON **ret, Err *err)
{
    const char *text;
    TRY(find_text(metadata, key, &text, err));
    *ret = NULL;
    if (text == NULL)
        return ST_OK;
    cJSON *json = cJSON_ParseWithOpts(text, NULL, 1);
    if (json == NULL)
        return bad(err, key, "is not JSON");
    if (!keys_are_single(json)) {
        cJSON_Delete(json);
        return err_set(err, ST_MODEL_FORMAT,
                       "metadata %s: an object has a key twice or more than %d keys", key,
                       MODEL_MAX_RANGES);
    }
    *ret = json;
    return ST_OK;
}

static bool get_number(const cJSON *object, const char *name, double low, double high, double *ret)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= low && item->valuedouble <= high))
        return false;
    *ret = item->valuedouble;
    return true;
}

static Status parse_grid(const cJSON *metadata, ModelInfo *info, Err *err)
{
    cJSON *json;
    double pixels = 0;
    TRY(get_json(metadata, "grid", &json, err));
    bool ok = get_number(json, "pixels", 32, NETWORK_MAX_SIDE, &pixels) &&
              get_number(json, "spacing_mm", 0.01, 100, &info->grid_spacing_mm);
    cJSON_Delete(json);
    info->grid_pixels = (int32_t)pixels;
    if (!ok || info->grid_pixels != pixels || info->grid_pixels % 32 != 0)
        return bad(err, "grid", "wants {\"pixels\": a multiple of 32, \"spacing_mm\": above 0}");
    return ST_OK;
}

static Status parse_window(const cJSON *metadata, ModelInfo *info, Err *err)
{
    cJSON *json;
    TRY(get_json(metadata, "window", &json, err));
    bool ok = get_number(json, "level_hu", -32768, 32767, &info->window_level_hu) &&
              get_number(json, "width_hu", 1, 65536, &info->window_width_hu);
    cJSON_Delete(json);
    return ok ? ST_OK : bad(err, "window", "wants {\"level_hu\": L, \"width_hu\": 1 or more}");
}

static Status parse_three(const cJSON *metadata, const char *key, double low, float ret[3],
                          Err *err)
{
    cJSON *json;
    TRY(get_json(metadata, key, &json, err));
    bool ok = cJSON_IsArray(json) && cJSON_GetArraySize(json) == 3;
    for (int i = 0; ok && i < 3; i++) {
        const cJSON *item = cJSON_GetArrayItem(json, i);
        ok = cJSON_IsNumber(item) && item->valuedouble >= low && item->valuedouble <= 1e6;
        if (ok)
            ret[i] = (float)item->valuedouble;
    }
    cJSON_Delete(json);
    return ok ? ST_OK : bad(err, key, "wants three numbers in range");
}

static bool parse_range(const cJSON *item, ModelRange *ret)
{
    const cJSON *low = cJSON_GetArrayItem(item, 0), *high = cJSON_GetArrayItem(item, 1);
    if (!cJSON_IsArray(item) || cJSON_GetArraySize(item) != 2 || !cJSON_IsNumber(low) ||
        !cJSON_IsNumber(high) || !isfinite(low->valuedouble) || !isfinite(high->valuedouble) ||
        low->valuedouble > high->valuedouble)
        return false;
    *ret = (ModelRange){true, low->valuedouble, high->valuedouble};
    return true;
}

/* A DICOM code string: capitals, digits, space, underscore. */
static bool parse_body_part(const cJSON *item, char ret[17])
{
    if (!cJSON_IsString(item) || strlen(item->valuestring) > 16)
        return false;
    for (const char *p = item->valuestring; *p != '\0'; p++)
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_ ", *p) == NULL)
            return false;
    (void)snprintf(ret, 17, "%s", item->valuestring);
    return true;
}

static bool parse_limit(const cJSON *item, ModelInfo *info)
{
    if (strcmp(item->string, "body_part") == 0)
        return parse_body_part(item, info->body_part);
    const struct {
        const char *name;
        ModelRange *range;
    } ranges[] = {{"age_years", &info->age_years},
                  {"slice_thickness_mm", &info->slice_thickness_mm},
                  {"pixel_spacing_mm", &info->pixel_spacing_mm},
                  {"kvp", &info->kvp}};
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (strcmp(item->string, ranges[i].name) == 0)
            return parse_range(item, ranges[i].range);
    return false; /* a limit that is not understood would not be checked */
}

static Status parse_envelope(const cJSON *metadata, ModelInfo *info, Err *err)
{
    cJSON *json;
    TRY(get_json(metadata, "envelope", &json, err));
    if (json == NULL)
        return ST_OK;
    bool ok = cJSON_IsObject(json);
    for (const cJSON *item = json->child; ok && item != NULL; item = item->next)
        ok = parse_limit(item, info);
    cJSON_Delete(json);
    return ok ? ST_OK
              : bad(err, "envelope",
                    "wants body_part, and [low, high] for age_years, slice_thickness_mm, "
                    "pixel_spacing_mm, kvp");
}

/* ["f32", "bf16", ...]: in which the model may be used without being asked for by name. */
static Status parse_precisions(const cJSON *metadata, ModelInfo *info, Err *err)
{
    cJSON *json;
    TRY(get_json(metadata, "precisions", &json, err));
    bool ok = json == NULL || cJSON_IsArray(json);
    info->precisions = 1u << PRECISION_F32;
    for (const cJSON *item = ok && json != NULL ? json->child : NULL; item != NULL;
         item = item->next) {
        Precision precision = PRECISION_F32;
        ok = ok && cJSON_IsString(item) && precision_from_name(item->valuestring, &precision);
        info->precisions |= 1u << precision;
    }
    cJSON_Delete(json);
    return ok ? ST_OK : bad(err, "precisions", "wants a list of f32, bf16, int8, f16");
}

static Status parse_network(const cJSON *metadata, ModelInfo *info, Err *err)
{
    static const Choice FORMATS[] = {{"ct2mr-model-1", 1}, {NULL, 0}};
    static const Choice ACTIVATIONS[] = {
        {"linear", ACTIVATION_LINEAR}, {"sigmoid", ACTIVATION_SIGMOID}, {NULL, 0}};
    int format, activation;
    const char *text;
    TRY(get_choice(metadata, "format", FORMATS, "ct2mr-model-1", &format, err));
    TRY(find_text(metadata, "arch", &text, err));
    if (text == NULL)
        return bad(err, "arch", "is missing");
    if (!network_from_name(text, &info->arch))
        return err_set(err, ST_MODEL_FORMAT,
                       "metadata arch is none of drunet-34, drunet-50, drunet-101, unet");
    TRY(get_choice(metadata, "activation", ACTIVATIONS, "linear, sigmoid", &activation, err));
    info->activation = (ModelActivation)activation;
    TRY(find_text(metadata, "width", &text, err));
    int32_t width = 0;
    for (const char *p = text; p != NULL && *p != '\0'; p++) {
        if (*p < '0' || *p > '9' || width > NETWORK_MAX_WIDTH)
            return bad(err, "width", "is not a whole number in 1..256");
        width = width * 10 + (*p - '0');
    }
    if (width < 1 || width > NETWORK_MAX_WIDTH)
        return bad(err, "width", "is not a whole number in 1..256");
    info->width = width;
    return ST_OK;
}

/* Linear if absent, as models were trained before there was a choice. */
static Status parse_interpolation(const cJSON *metadata, ModelInfo *info, Err *err)
{
    static const Choice KINDS[] = {
        {"linear", INTERPOLATION_LINEAR}, {"cubic", INTERPOLATION_CUBIC}, {NULL, 0}};
    const char *text;
    int kind = INTERPOLATION_LINEAR;
    TRY(find_text(metadata, "interpolation", &text, err));
    if (text != NULL)
        TRY(get_choice(metadata, "interpolation", KINDS, "linear, cubic", &kind, err));
    info->interpolation = (ModelInterpolation)kind;
    return ST_OK;
}

/* "" if absent, as older files do not say. */
static Status parse_axes(const cJSON *metadata, ModelInfo *info, Err *err)
{
    static const Choice AXES[] = {{"LP", 0}, {"LA", 1}, {"RP", 2}, {"RA", 3}, {NULL, 0}};
    const char *text;
    int axes;
    TRY(find_text(metadata, "axes", &text, err));
    if (text == NULL)
        return ST_OK;
    TRY(get_choice(metadata, "axes", AXES, "LP, LA, RP, RA", &axes, err));
    (void)snprintf(info->axes, sizeof info->axes, "%s", AXES[axes].text);
    return ST_OK;
}

static Status parse_images(const cJSON *metadata, ModelInfo *info, Err *err)
{
    static const Choice TARGETS[] = {{"T1", 1}, {"T2", 2}, {NULL, 0}};
    static const Choice POSES[] = {
        {"reference", POSE_REFERENCE}, {"native", POSE_NATIVE}, {NULL, 0}};
    static const Choice MASKS[] = {{"head", MASK_HEAD}, {"brain", MASK_BRAIN}, {NULL, 0}};
    int target, pose, mask;
    TRY(get_choice(metadata, "target", TARGETS, "T1, T2", &target, err));
    TRY(get_choice(metadata, "pose", POSES, "reference, native", &pose, err));
    TRY(get_choice(metadata, "mask", MASKS, "head, brain", &mask, err));
    (void)snprintf(info->target, sizeof info->target, "T%d", target);
    info->pose = (ModelPose)pose;
    info->mask = (ModelMask)mask;
    TRY(parse_axes(metadata, info, err));
    TRY(parse_interpolation(metadata, info, err));
    TRY(parse_grid(metadata, info, err));
    TRY(parse_window(metadata, info, err));
    TRY(parse_three(metadata, "mean", -1e6, info->mean, err));
    return parse_three(metadata, "std", 1e-6, info->std, err);
}

/* {"CONVOLUTION": largest absolute output, ...} */
static Status parse_ranges(const cJSON *json, ModelRanges *ret, Err *err)
{
    int n = cJSON_IsObject(json) ? cJSON_GetArraySize(json) : 0;
    if (n < 1 || n > MODEL_MAX_RANGES)
        return bad(err, "int8", "wants {\"CONVOLUTION\": largest output, ...}");
    ret->items = calloc((size_t)n, sizeof *ret->items);
    if (ret->items == NULL)
        return err_set(err, ST_NO_MEMORY, "%d ranges", n);
    for (const cJSON *item = json->child; item != NULL; item = item->next) {
        NamedRange *range = &ret->items[ret->n];
        if (strlen(item->string) >= sizeof range->conv || !cJSON_IsNumber(item) ||
            !(item->valuedouble >= 0 && item->valuedouble <= MODEL_MAX_RANGE))
            return bad(err, "int8", "wants a number from 0 for each convolution");
        (void)snprintf(range->conv, sizeof range->conv, "%s", item->string);
        range->largest = (float)item->valuedouble;
        ret->n++;
    }
    return ST_OK;
}

Status model_metadata_ranges(const cJSON *metadata, ModelRanges *ret, Err *err)
{
    cJSON *json;
    TRY(get_json(metadata, "int8", &json, err));
    Status status = json == NULL ? ST_OK : parse_ranges(json, ret, err);
    cJSON_Delete(json);
    return status;
}

Status model_metadata_parse(const cJSON *metadata, ModelInfo *ret, Err *err)
{
    ModelInfo info = {0};
    cJSON *training;
    if (!cJSON_IsObject(metadata))
        return err_set(err, ST_MODEL_FORMAT, "header has no __metadata__ object");
    TRY(parse_network(metadata, &info, err));
    TRY(parse_images(metadata, &info, err));
    TRY(parse_envelope(metadata, &info, err));
    TRY(parse_precisions(metadata, &info, err));
    TRY(get_text(metadata, "label", info.label, sizeof info.label, err));
    TRY(get_text(metadata, "licence", info.licence, sizeof info.licence, err));
    TRY(get_text(metadata, "training", info.training, sizeof info.training, err));
    TRY(get_json(metadata, "training", &training, err));
    info.untrained = cJSON_GetObjectItemCaseSensitive(training, "untrained") != NULL;
    cJSON_Delete(training);
    if (!keys_are_single(metadata)) /* those that are not named above: calibration, provenance */
        return err_set(err, ST_MODEL_FORMAT,
                       "metadata: a key stands twice, or there are more than %d", MODEL_MAX_RANGES);
    *ret = info;
    return ST_OK;
}
