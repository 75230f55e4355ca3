/* The JSON of a packed file:
**
**   {"format": "ct2mr-pack-1", "target", "pose", "interpolation", "mask", "axes", "pixels",
**    "spacing_mm", "window": {"level_hu", "width_hu"}, "n_slices",
**    "arrays": {"hu": [offset, bytes], "mask": ..., "mr": ...},
**    "cases": [{"id", "first_slice", "n_slices", "slice_spacing_mm"}, ...],
**    "statistics": {"masked": [...], "mean": [...], "deviation": [...]}, "provenance": {...}}
**
** Offsets count from the end of the header's padding. Values are never quoted in messages. */
#include "gpu/pack_int.h"

#include "gpu/network.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_OFFSET 9007199254740992.0 /* 2^53: cJSON keeps numbers as doubles */

static const struct {
    const char *name;
    size_t element;
} ARRAYS[PACK_ARRAYS] = {{"hu", sizeof(int16_t)}, {"mask", 1}, {"mr", sizeof(uint16_t)}};

const char *pack_array_name(int array)
{
    return ARRAYS[array].name;
}

size_t pack_array_element(int array)
{
    return ARRAYS[array].element;
}

bool pack_id_valid(const char *id)
{
    return strlen(id) == PACK_ID_SIZE - 1 && strspn(id, "0123456789abcdef") == PACK_ID_SIZE - 1;
}

static bool in_range(double value, double low, double high)
{
    return value >= low && value <= high; /* false for NaN */
}

Status pack_check_fields(const PackInfo *info, Status status, Err *err)
{
    if (info->pixels < 32 || info->pixels > NETWORK_MAX_SIDE || info->pixels % 32 != 0)
        return err_set(err, status, "pixels is not a multiple of 32 in 32..%d", NETWORK_MAX_SIDE);
    if (!in_range(info->spacing_mm, 0.01, 100))
        return err_set(err, status, "spacing_mm is not in 0.01..100");
    if (!in_range(info->window_level_hu, -32768, 32767) ||
        !in_range(info->window_width_hu, 1, 65536))
        return err_set(err, status, "window wants {\"level_hu\": L, \"width_hu\": 1 or more}");
    if (strcmp(info->target, "T1") != 0 && strcmp(info->target, "T2") != 0)
        return err_set(err, status, "target is none of T1, T2");
    if (strlen(info->axes) != 2 || strchr("LR", info->axes[0]) == NULL ||
        strchr("PA", info->axes[1]) == NULL)
        return err_set(err, status, "axes is none of LP, LA, RP, RA");
    return ST_OK;
}

static bool get_double(const cJSON *object, const char *name, double low, double high, double *ret)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!cJSON_IsNumber(item) || !in_range(item->valuedouble, low, high))
        return false;
    *ret = item->valuedouble;
    return true;
}

static bool get_int(const cJSON *object, const char *name, int32_t low, int32_t high, int32_t *ret)
{
    double value;
    if (!get_double(object, name, low, high, &value) || floor(value) != value)
        return false;
    *ret = (int32_t)value;
    return true;
}

/* 0 or 1: which of two texts stands there; -1: neither. */
static int get_choice(const cJSON *object, const char *name, const char *zero, const char *one)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!cJSON_IsString(item))
        return -1;
    return strcmp(item->valuestring, zero) == 0 ? 0 : strcmp(item->valuestring, one) == 0 ? 1 : -1;
}

static Status parse_fields(const cJSON *json, PackInfo *info, Err *err)
{
    const cJSON *window = cJSON_GetObjectItemCaseSensitive(json, "window");
    if (get_choice(json, "format", "ct2mr-pack-1", "ct2mr-pack-1") < 0)
        return err_set(err, ST_PACK_FORMAT, "format is not ct2mr-pack-1");
    int target = get_choice(json, "target", "T1", "T2");
    int pose = get_choice(json, "pose", "reference", "native");
    int mask = get_choice(json, "mask", "head", "brain");
    if (pose < 0 || mask < 0)
        return err_set(err, ST_PACK_FORMAT,
                       "pose is none of reference, native, or mask none of head, brain");
    bool says = cJSON_GetObjectItemCaseSensitive(json, "interpolation") != NULL; /* older: linear */
    int interpolation = says ? get_choice(json, "interpolation", "linear", "cubic") : 0;
    if (interpolation < 0)
        return err_set(err, ST_PACK_FORMAT, "interpolation is none of linear, cubic");
    info->interpolation = interpolation == 0 ? INTERPOLATION_LINEAR : INTERPOLATION_CUBIC;
    info->pose = pose == 0 ? POSE_REFERENCE : POSE_NATIVE;
    info->mask = mask == 0 ? MASK_HEAD : MASK_BRAIN;
    if (target >= 0)
        memcpy(info->target, target == 0 ? "T1" : "T2", sizeof "T1");
    const cJSON *axes = cJSON_GetObjectItemCaseSensitive(json, "axes");
    if (cJSON_IsString(axes) && strlen(axes->valuestring) < sizeof info->axes)
        memcpy(info->axes, axes->valuestring, strlen(axes->valuestring) + 1);
    (void)get_int(json, "pixels", 0, NETWORK_MAX_SIDE, &info->pixels);
    (void)get_double(json, "spacing_mm", 0, 1e6, &info->spacing_mm);
    (void)get_double(window, "level_hu", -1e6, 1e6, &info->window_level_hu);
    (void)get_double(window, "width_hu", -1e6, 1e6, &info->window_width_hu);
    TRY(pack_check_fields(info, ST_PACK_FORMAT, err)); /* 0 where absent: refused */
    if (!get_int(json, "n_slices", 1, PACK_MAX_SLICES, &info->n_slices))
        return err_set(err, ST_PACK_FORMAT, "n_slices is not a whole number in 1..%d",
                       PACK_MAX_SLICES);
    return ST_OK;
}

static Status parse_array(const cJSON *arrays, int a, size_t need, size_t data_bytes,
                          PackArray *ret, Err *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(arrays, ARRAYS[a].name);
    double v[2] = {0};
    for (int i = 0; i < 2; i++) {
        const cJSON *number = cJSON_GetArrayItem(item, i);
        v[i] = cJSON_IsNumber(number) ? number->valuedouble : -1;
        if (!cJSON_IsArray(item) || cJSON_GetArraySize(item) != 2 ||
            !in_range(v[i], 0, MAX_OFFSET) || floor(v[i]) != v[i])
            return err_set(err, ST_PACK_FORMAT, "array %s: place is not two whole numbers",
                           ARRAYS[a].name);
    }
    *ret = (PackArray){(size_t)v[0], (size_t)v[1]};
    if (ret->offset > data_bytes || ret->size_bytes > data_bytes - ret->offset)
        return err_set(err, ST_PACK_FORMAT,
                       "array %s: %zu bytes at %zu are not within the file's %zu data bytes: "
                       "was it cut?",
                       ARRAYS[a].name, ret->size_bytes, ret->offset, data_bytes);
    if (ret->size_bytes != need)
        return err_set(err, ST_PACK_FORMAT, "array %s: %zu bytes, the slices need %zu",
                       ARRAYS[a].name, ret->size_bytes, need);
    if (ret->offset % PACK_ALIGN != 0)
        return err_set(err, ST_PACK_FORMAT, "array %s: offset %zu is not a multiple of %d",
                       ARRAYS[a].name, ret->offset, PACK_ALIGN);
    return ST_OK;
}

/* The arrays lie in their order, each at the next multiple of PACK_ALIGN, and fill the file. */
static Status parse_arrays(const cJSON *json, size_t data_bytes, PackHeader *h, Err *err)
{
    const cJSON *arrays = cJSON_GetObjectItemCaseSensitive(json, "arrays");
    size_t n = (size_t)h->info.n_slices * (size_t)h->info.pixels * (size_t)h->info.pixels, end = 0;
    for (int a = 0; a < PACK_ARRAYS; a++) {
        PackArray *array = &h->arrays[a];
        TRY(parse_array(arrays, a, n * ARRAYS[a].element, data_bytes, array, err));
        if (array->offset < end)
            return err_set(err, ST_PACK_FORMAT, "array %s overlaps array %s", ARRAYS[a].name,
                           a > 0 ? ARRAYS[a - 1].name : "(none)");
        if (array->offset - end >= PACK_ALIGN)
            return err_set(err, ST_PACK_FORMAT, "%zu unused bytes in front of array %s",
                           array->offset - end, ARRAYS[a].name);
        end = array->offset + array->size_bytes;
    }
    if (data_bytes - end >= PACK_ALIGN)
        return err_set(err, ST_PACK_FORMAT, "%zu trailing bytes behind array mr", data_bytes - end);
    return ST_OK;
}

static int compare_id(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static Status check_ids(const PackHeader *h, Err *err)
{
    size_t n = (size_t)h->info.n_cases;
    const char **ids = malloc(n * sizeof *ids);
    if (ids == NULL)
        return err_set(err, ST_NO_MEMORY, "%zu cases", n);
    for (size_t i = 0; i < n; i++)
        ids[i] = h->cases[i].id;
    qsort(ids, n, sizeof *ids, compare_id);
    Status status = ST_OK;
    for (size_t i = 1; i < n && status == ST_OK; i++)
        if (strcmp(ids[i - 1], ids[i]) == 0)
            status = err_set(err, ST_PACK_FORMAT, "two cases have one id");
    free(ids);
    return status;
}

static Status parse_case(const cJSON *item, int32_t index, int32_t next_slice, PackHeader *h,
                         Err *err)
{
    PackCase *c = &h->cases[index];
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(item, "id");
    if (!cJSON_IsString(id) || !pack_id_valid(id->valuestring))
        return err_set(err, ST_PACK_FORMAT, "case %d: id is not %d hex digits", index,
                       PACK_ID_SIZE - 1);
    memcpy(c->id, id->valuestring, PACK_ID_SIZE);
    if (!get_int(item, "first_slice", 0, PACK_MAX_SLICES, &c->first_slice) ||
        !get_int(item, "n_slices", 1, PACK_MAX_SLICES, &c->n_slices) ||
        !get_double(item, "slice_spacing_mm", 0, 1000, &c->slice_spacing_mm))
        return err_set(err, ST_PACK_FORMAT,
                       "case %d: wants first_slice, n_slices (1 or more), slice_spacing_mm", index);
    if (c->first_slice != next_slice)
        return err_set(err, ST_PACK_FORMAT,
                       "case %d: begins at slice %d, the case before ends at %d", index,
                       c->first_slice, next_slice);
    return ST_OK;
}

static Status parse_cases(const cJSON *json, PackHeader *h, Err *err)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(json, "cases");
    int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    if (n < 1 || n > PACK_MAX_CASES)
        return err_set(err, ST_PACK_FORMAT, "cases is not a list of 1 to %d", PACK_MAX_CASES);
    if ((h->cases = calloc((size_t)n, sizeof *h->cases)) == NULL)
        return err_set(err, ST_NO_MEMORY, "%d cases", n);
    int32_t index = 0, next_slice = 0;
    for (const cJSON *item = list->child; item != NULL; item = item->next) {
        TRY(parse_case(item, index, next_slice, h, err));
        next_slice += h->cases[index++].n_slices;
        if (next_slice > h->info.n_slices)
            break;
    }
    if (next_slice != h->info.n_slices)
        return err_set(err, ST_PACK_FORMAT, "the cases hold %s slices than n_slices, which is %d",
                       next_slice > h->info.n_slices ? "more" : "fewer", h->info.n_slices);
    h->info.n_cases = n;
    return check_ids(h, err);
}

/* One number a slice, each 0..1. */
static bool parse_column(const cJSON *object, const char *name, int32_t n, float *ret)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != n)
        return false;
    for (const cJSON *item = list->child; item != NULL; item = item->next) {
        if (!cJSON_IsNumber(item) || !in_range(item->valuedouble, 0, 1))
            return false;
        *ret = (float)item->valuedouble;
        ret += sizeof(PackStatistics) / sizeof(float);
    }
    return true;
}

static Status parse_statistics(const cJSON *json, PackHeader *h, Err *err)
{
    const cJSON *object = cJSON_GetObjectItemCaseSensitive(json, "statistics");
    int32_t n = h->info.n_slices;
    if ((h->statistics = calloc((size_t)n, sizeof *h->statistics)) == NULL)
        return err_set(err, ST_NO_MEMORY, "statistics of %d slices", n);
    if (!parse_column(object, "masked", n, &h->statistics->masked_frac) ||
        !parse_column(object, "mean", n, &h->statistics->mean) ||
        !parse_column(object, "deviation", n, &h->statistics->deviation))
        return err_set(err, ST_PACK_FORMAT,
                       "statistics wants masked, mean, deviation: %d numbers of 0..1 each", n);
    return ST_OK;
}

static Status parse_json(const cJSON *json, size_t data_bytes, PackHeader *h, Err *err)
{
    const cJSON *provenance = cJSON_GetObjectItemCaseSensitive(json, "provenance");
    TRY(parse_fields(json, &h->info, err));
    TRY(parse_arrays(json, data_bytes, h, err));
    TRY(parse_cases(json, h, err));
    TRY(parse_statistics(json, h, err));
    if (!cJSON_IsObject(provenance))
        return err_set(err, ST_PACK_FORMAT, "provenance is not an object");
    if ((h->provenance = cJSON_PrintUnformatted(provenance)) == NULL)
        return err_set(err, ST_NO_MEMORY, "provenance");
    h->info.cases = h->cases;
    h->info.statistics = h->statistics;
    h->info.provenance = h->provenance;
    return ST_OK;
}

Status pack_header_parse(const char *text, size_t length, size_t data_bytes, PackHeader *ret,
                         Err *err)
{
    const char *end;
    *ret = (PackHeader){0};
    cJSON *json = cJSON_ParseWithLengthOpts(text, length, &end, 0);
    Status status = ST_OK;
    if (!cJSON_IsObject(json) || end != text + length)
        status = err_set(err, ST_PACK_FORMAT, "header is not one JSON object");
    if (status == ST_OK)
        status = parse_json(json, data_bytes, ret, err);
    cJSON_Delete(json);
    return status;
}

void pack_header_free(PackHeader *header)
{
    free(header->cases);
    free(header->statistics);
    cJSON_free(header->provenance);
    *header = (PackHeader){0};
}
