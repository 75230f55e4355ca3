/* Writing packed files. How many slices there will be is not known before the end, so each array
** grows in a nameless file beside the target, and pack_end() joins them behind the header. */
#include "gpu/pack_int.h"

#include "base/files.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK_BYTES = 1 << 20 };

struct PackWriter {
    char path[PATH_SIZE], folder[PATH_SIZE];
    FileWriter file; /* its fd is -1 before pack_end() */
    bool is_new;
    bool has_failed; /* a slice is written in part: no longer parallel arrays */
    PackInfo info;
    PackCase *cases;            /* [cases_room] */
    PackStatistics *statistics; /* [slices_room] */
    size_t cases_room, slices_room;
    int arrays[PACK_ARRAYS];
    unsigned char *block; /* BLOCK_BYTES */
    uint16_t *mr;         /* [pixels * pixels] */
};

static Status write_all(int fd, const void *data, size_t n, Err *err)
{
    for (size_t done = 0; done < n;) {
        ssize_t k = write(fd, (const char *)data + done, n - done);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return err_sys(err, errno, "writing the packed file");
        done += (size_t)k;
    }
    return ST_OK;
}

/* A file without a name in the target's folder: gone with the process. */
static Status open_nameless(const PackWriter *w, int *ret, Err *err)
{
    char path[PATH_SIZE];
    TRY(path_format(path, err, "%s/.ct2mr-pack-XXXXXX", w->folder));
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "creating a file in %s", w->folder);
    (void)unlink(path);
    *ret = fd;
    return ST_OK;
}

static Status open_writer(const char *path, const PackInfo *info, PackWriter *w, Err *err)
{
    char copy[PATH_SIZE];
    w->file.fd = -1;
    for (int a = 0; a < PACK_ARRAYS; a++)
        w->arrays[a] = -1;
    w->info = *info;
    w->info.n_slices = w->info.n_cases = 0;
    if (info->axes[0] == '\0')
        memcpy(w->info.axes, "LP", sizeof "LP");
    TRY(pack_check_fields(&w->info, ST_USAGE, err));
    TRY(path_format(w->path, err, "%s", path));
    TRY(path_format(copy, err, "%s", path));
    TRY(path_format(w->folder, err, "%s", dirname(copy)));
    w->block = calloc(1, BLOCK_BYTES);
    w->mr = malloc((size_t)info->pixels * (size_t)info->pixels * sizeof *w->mr);
    if (w->block == NULL || w->mr == NULL)
        return err_set(err, ST_NO_MEMORY, "writing a packed file");
    for (int a = 0; a < PACK_ARRAYS; a++)
        TRY(open_nameless(w, &w->arrays[a], err));
    return ST_OK;
}

Status pack_create(const char *path, const PackInfo *info, PackWriter **ret, Err *err)
{
    PackWriter *w = calloc(1, sizeof *w);
    if (w == NULL)
        return err_set(err, ST_NO_MEMORY, "writing a packed file");
    Status status = open_writer(path, info, w, err);
    if (status != ST_OK) {
        pack_abandon(w);
        return status;
    }
    *ret = w;
    return ST_OK;
}

void pack_must_be_new(PackWriter *w)
{
    w->is_new = true;
}

void pack_abandon(PackWriter *w)
{
    if (w == NULL)
        return;
    for (int a = 0; a < PACK_ARRAYS; a++)
        if (w->arrays[a] >= 0)
            (void)close(w->arrays[a]);
    file_abandon(&w->file);
    free(w->cases);
    free(w->statistics);
    free(w->block);
    free(w->mr);
    free(w);
}

/* Room for one more item in a growing list. */
static Status make_room(void **list, size_t *room, size_t used, size_t size, Err *err)
{
    if (used < *room)
        return ST_OK;
    size_t more = *room * 2 + 64;
    void *grown = reallocarray(*list, more, size);
    if (grown == NULL)
        return err_set(err, ST_NO_MEMORY, "a list of %zu", more);
    *list = grown;
    *room = more;
    return ST_OK;
}

Status pack_begin_case(PackWriter *w, const char *id, double slice_spacing_mm, Err *err)
{
    if (!pack_id_valid(id))
        return err_set(err, ST_USAGE, "a case's id is not %d hex digits", PACK_ID_SIZE - 1);
    if (!(slice_spacing_mm >= 0 && slice_spacing_mm <= 1000))
        return err_set(err, ST_USAGE, "slice spacing %g mm", slice_spacing_mm);
    for (int32_t i = 0; i < w->info.n_cases; i++)
        if (strcmp(w->cases[i].id, id) == 0)
            return err_set(err, ST_USAGE, "case %s is in the file already", id);
    if (w->info.n_cases == PACK_MAX_CASES)
        return err_set(err, ST_LIMIT, "more than %d cases", PACK_MAX_CASES);
    void *list = w->cases;
    Status status =
        make_room(&list, &w->cases_room, (size_t)w->info.n_cases, sizeof *w->cases, err);
    w->cases = list;
    if (status != ST_OK)
        return status;
    PackCase *c = &w->cases[w->info.n_cases++];
    *c = (PackCase){.first_slice = w->info.n_slices, .slice_spacing_mm = slice_spacing_mm};
    memcpy(c->id, id, PACK_ID_SIZE);
    return ST_OK;
}

static PackStatistics statistics_of(const PackInfo *info, const int16_t *hu, const uint8_t *mask)
{
    size_t n = (size_t)info->pixels * (size_t)info->pixels, inside = 0;
    double low = info->window_level_hu - info->window_width_hu / 2, sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        if (mask[i] == 0)
            continue;
        double v = fmin(fmax((hu[i] - low) / info->window_width_hu, 0), 1);
        sum += v;
        squares += v * v;
        inside++;
    }
    if (inside == 0)
        return (PackStatistics){0};
    double mean = sum / (double)inside;
    double variance = fmax(squares / (double)inside - mean * mean, 0);
    return (PackStatistics){(float)((double)inside / (double)n), (float)mean,
                            (float)sqrt(variance)};
}

bool pack_has_failed(const PackWriter *w)
{
    return w->has_failed;
}

static Status check_whole(const PackWriter *w, Err *err)
{
    return w->has_failed ? err_set(err, ST_STATE, "an earlier slice could not be written") : ST_OK;
}

Status pack_add_slice(PackWriter *w, const int16_t *hu, const uint8_t *mask, const uint16_t *mr,
                      Err *err)
{
    size_t n = (size_t)w->info.pixels * (size_t)w->info.pixels;
    if (w->info.n_cases == 0)
        return err_set(err, ST_STATE, "a slice before any case");
    TRY(check_whole(w, err));
    if (w->info.n_slices == PACK_MAX_SLICES)
        return err_set(err, ST_LIMIT, "more than %d slices", PACK_MAX_SLICES);
    for (size_t i = 0; i < n; i++) {
        if (mask[i] > 1)
            return err_set(err, ST_USAGE, "a mask value of %d", mask[i]);
        w->mr[i] = mask[i] != 0 ? mr[i] : 0;
    }
    void *list = w->statistics;
    Status status =
        make_room(&list, &w->slices_room, (size_t)w->info.n_slices, sizeof *w->statistics, err);
    w->statistics = list;
    if (status != ST_OK)
        return status;
    const void *data[PACK_ARRAYS] = {hu, mask, w->mr};
    for (int a = 0; a < PACK_ARRAYS && status == ST_OK; a++)
        status = write_all(w->arrays[a], data[a], n * pack_array_element(a), err);
    w->has_failed = status != ST_OK;
    if (status != ST_OK)
        return status;
    w->statistics[w->info.n_slices++] = statistics_of(&w->info, hu, mask);
    w->cases[w->info.n_cases - 1].n_slices++;
    return ST_OK;
}

/* ---- the end ------------------------------------------------------------------------------- */

static size_t padded(size_t n)
{
    return (n + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
}

static void add_statistics(cJSON *json, const PackWriter *w)
{
    static const char *const NAMES[] = {"masked", "mean", "deviation"};
    cJSON *object = cJSON_AddObjectToObject(json, "statistics");
    for (int k = 0; k < 3; k++) {
        cJSON *list = cJSON_AddArrayToObject(object, NAMES[k]);
        for (int32_t i = 0; i < w->info.n_slices; i++) {
            const PackStatistics *s = &w->statistics[i];
            float v = k == 0 ? s->masked_frac : k == 1 ? s->mean : s->deviation;
            char text[32];
            (void)snprintf(text, sizeof text, "%.5f", (double)v);
            (void)cJSON_AddItemToArray(list, cJSON_CreateRaw(text));
        }
    }
}

static void add_cases(cJSON *json, const PackWriter *w)
{
    cJSON *list = cJSON_AddArrayToObject(json, "cases");
    for (int32_t i = 0; i < w->info.n_cases; i++) {
        cJSON *item = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(item, "id", w->cases[i].id);
        (void)cJSON_AddNumberToObject(item, "first_slice", w->cases[i].first_slice);
        (void)cJSON_AddNumberToObject(item, "n_slices", w->cases[i].n_slices);
        (void)cJSON_AddNumberToObject(item, "slice_spacing_mm", w->cases[i].slice_spacing_mm);
        (void)cJSON_AddItemToArray(list, item);
    }
}

static void add_arrays(cJSON *json, const PackWriter *w)
{
    cJSON *object = cJSON_AddObjectToObject(json, "arrays");
    size_t n = (size_t)w->info.n_slices * (size_t)w->info.pixels * (size_t)w->info.pixels, at = 0;
    for (int a = 0; a < PACK_ARRAYS; a++) {
        double place[2] = {(double)at, (double)(n * pack_array_element(a))};
        (void)cJSON_AddItemToObject(object, pack_array_name(a), cJSON_CreateDoubleArray(place, 2));
        at += padded(n * pack_array_element(a));
    }
}

/* cJSON text of the header; NULL when out of memory. */
static char *header_text(const PackWriter *w, cJSON *provenance)
{
    cJSON *json = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(json, "format", "ct2mr-pack-1");
    (void)cJSON_AddStringToObject(json, "target", w->info.target);
    (void)cJSON_AddStringToObject(json, "pose",
                                  w->info.pose == POSE_REFERENCE ? "reference" : "native");
    (void)cJSON_AddStringToObject(
        json, "interpolation", w->info.interpolation == INTERPOLATION_CUBIC ? "cubic" : "linear");
    (void)cJSON_AddStringToObject(json, "mask", w->info.mask == MASK_HEAD ? "head" : "brain");
    (void)cJSON_AddStringToObject(json, "axes", w->info.axes);
    (void)cJSON_AddNumberToObject(json, "pixels", w->info.pixels);
    (void)cJSON_AddNumberToObject(json, "spacing_mm", w->info.spacing_mm);
    cJSON *window = cJSON_AddObjectToObject(json, "window");
    (void)cJSON_AddNumberToObject(window, "level_hu", w->info.window_level_hu);
    (void)cJSON_AddNumberToObject(window, "width_hu", w->info.window_width_hu);
    (void)cJSON_AddNumberToObject(json, "n_slices", w->info.n_slices);
    add_arrays(json, w);
    add_cases(json, w);
    add_statistics(json, w);
    (void)cJSON_AddItemReferenceToObject(json, "provenance", provenance);
    char *text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    return text;
}

static Status write_header(PackWriter *w, const char *text, Err *err)
{
    uint64_t length = strlen(text);
    size_t end = PACK_PREFIX_BYTES + (size_t)length;
    if (length > PACK_MAX_HEADER_BYTES)
        return err_set(err, ST_LIMIT, "header of %zu bytes, at most %zu allowed", (size_t)length,
                       PACK_MAX_HEADER_BYTES);
    TRY(file_add(&w->file, PACK_MAGIC, sizeof PACK_MAGIC - 1, err));
    TRY(file_add(&w->file, &length, sizeof length, err));
    TRY(file_add(&w->file, text, (size_t)length, err));
    memset(w->block, 0, PACK_ALIGN);
    return file_add(&w->file, w->block, padded(end) - end, err);
}

static Status copy_array(PackWriter *w, int a, Err *err)
{
    size_t n = 0;
    ssize_t k;
    if (lseek(w->arrays[a], 0, SEEK_SET) != 0)
        return err_sys(err, errno, "reading the packed file's parts");
    while ((k = read(w->arrays[a], w->block, BLOCK_BYTES)) != 0) {
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return err_sys(err, errno, "reading the packed file's parts");
        TRY(file_add(&w->file, w->block, (size_t)k, err));
        n += (size_t)k;
    }
    memset(w->block, 0, PACK_ALIGN);
    return file_add(&w->file, w->block, padded(n) - n, err);
}

static Status write_file(PackWriter *w, const char *text, Err *err)
{
    TRY(file_begin(w->path, &w->file, err));
    w->file.is_new = w->is_new;
    TRY(write_header(w, text, err));
    for (int a = 0; a < PACK_ARRAYS; a++)
        TRY(copy_array(w, a, err));
    return file_commit(&w->file, err);
}

static Status check_cases(const PackWriter *w, Err *err)
{
    if (w->info.n_cases == 0)
        return err_set(err, ST_STATE, "a packed file without a case");
    for (int32_t i = 0; i < w->info.n_cases; i++)
        if (w->cases[i].n_slices == 0)
            return err_set(err, ST_STATE, "case %s has no slice", w->cases[i].id);
    return ST_OK;
}

Status pack_end(PackWriter *w, const char *provenance, Err *err)
{
    cJSON *json = cJSON_ParseWithOpts(provenance, NULL, 1);
    Status status = check_whole(w, err);
    if (status == ST_OK)
        status = check_cases(w, err);
    if (status == ST_OK && !cJSON_IsObject(json))
        status = err_set(err, ST_USAGE, "provenance is not a JSON object");
    char *text = status == ST_OK ? header_text(w, json) : NULL;
    if (status == ST_OK && text == NULL)
        status = err_set(err, ST_NO_MEMORY, "header of %d slices", w->info.n_slices);
    if (status == ST_OK)
        status = write_file(w, text, err);
    cJSON_free(text);
    cJSON_Delete(json);
    pack_abandon(w);
    return status;
}
