/* Reading safetensors: 8 bytes little-endian header length, a JSON header, tensor bytes.
**
**   {"__metadata__": {key: string, ...}, NAME: {"dtype", "shape", "data_offsets": [begin, end]}}
**
** Offsets count from the end of the header. As the format demands, the tensors cover the rest of
** the file without gap or overlap, so that no byte escapes the checks. Format:
** https://huggingface.co/docs/safetensors. Opening reads the whole file once, in blocks, hashes it
** and checks every number; the tensors stay in the file, which is kept open, until a backend reads
** them one by one, so that the weights are never in memory twice. */
#include "gpu/model.h"

#include "base/digest.h"
#include "gpu/half.h"
#include "gpu/model_int.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_TENSORS = 8192, MAX_NAME = 127, BLOCK_BYTES = 1 << 20 };
#define MAX_FILE_BYTES ((size_t)4 << 30)     /* DRUNet-101 in float32 has 0.34 GB */
#define MAX_HEADER_BYTES ((size_t)16 << 20)  /* DRUNet-101's has 99 kB */
#define MAX_EXACT_INTEGER 9007199254740992.0 /* 2^53: cJSON keeps numbers as doubles */

typedef enum Dtype { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_I64 } Dtype;

typedef struct Entry { /* one tensor of the header */
    char name[MAX_NAME + 1];
    Dtype dtype;
    size_t begin, end; /* bytes from the end of the header */
    Tensor tensor;
} Entry;

struct Model {
    ModelInfo info;
    int32_t n_entries;
    Entry *entries; /* by name, once open */
    ModelRanges ranges;
    bool is_foreign; /* opened for its tensors only */
    cJSON *metadata; /* owned; may be NULL */
    int fd;
    struct stat opened;   /* the file as it was hashed */
    off_t data_at;        /* where the tensors begin */
    unsigned char *block; /* BLOCK_BYTES */
};

static size_t dtype_bytes(Dtype dtype)
{
    return dtype == DTYPE_I64 ? 8 : dtype == DTYPE_F32 ? 4 : 2;
}

/* Whole number in [0, max]. */
static bool get_size(const cJSON *item, double max, size_t *ret)
{
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= max) ||
        floor(item->valuedouble) != item->valuedouble)
        return false;
    *ret = (size_t)item->valuedouble;
    return true;
}

static Status parse_name(const char *name, Entry *entry, Err *err)
{
    size_t n = strlen(name);
    if (n == 0 || n > MAX_NAME)
        return err_set(err, ST_MODEL_FORMAT, "a tensor's name has %zu characters, 1..%d allowed", n,
                       MAX_NAME);
    for (size_t i = 0; i < n; i++)
        if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') ||
              (name[i] >= '0' && name[i] <= '9') || name[i] == '.' || name[i] == '_'))
            return err_set(err, ST_MODEL_FORMAT,
                           "a tensor's name holds other than letters, digits, dot, underscore");
    memcpy(entry->name, name, n + 1);
    return ST_OK;
}

static Status parse_dtype(const cJSON *item, bool is_foreign, Entry *entry, Err *err)
{
    static const char *const NAMES[] = {"F32", "F16", "BF16", "I64"};
    for (int i = 0; i < (is_foreign ? 4 : 3); i++)
        if (cJSON_IsString(item) && strcmp(item->valuestring, NAMES[i]) == 0) {
            entry->dtype = (Dtype)i;
            return ST_OK;
        }
    return err_set(err, ST_MODEL_FORMAT, "tensor %s: dtype is none of F32, F16, BF16", entry->name);
}

/* *ret_bytes: what the shape needs. */
static Status parse_shape(const cJSON *shape, bool is_foreign, Entry *entry, size_t *ret_bytes,
                          Err *err)
{
    int n_dims = cJSON_IsArray(shape) ? cJSON_GetArraySize(shape) : -1;
    if (n_dims < (is_foreign ? 0 : 1) || n_dims > 4)
        return err_set(err, ST_MODEL_FORMAT, "tensor %s: shape is not a list of 1 to 4 numbers",
                       entry->name);
    size_t bytes = dtype_bytes(entry->dtype), dim;
    const cJSON *item = shape->child;
    for (int i = 0; i < n_dims; i++, item = item->next) {
        if (!get_size(item, MAX_EXACT_INTEGER, &dim) || dim == 0)
            return err_set(err, ST_MODEL_FORMAT,
                           "tensor %s: dimension %d is not a whole number above 0", entry->name, i);
        if (__builtin_mul_overflow(bytes, dim, &bytes))
            return err_set(err, ST_MODEL_FORMAT, "tensor %s: product of the shape overflows",
                           entry->name);
        entry->tensor.dims[i] = (int64_t)dim;
    }
    entry->tensor.n_dims = n_dims;
    entry->tensor.n_elements = (int64_t)(bytes / dtype_bytes(entry->dtype));
    *ret_bytes = bytes;
    return ST_OK;
}

static Status parse_entry(const cJSON *item, size_t data_bytes, bool is_foreign, Entry *ret,
                          Err *err)
{
    const cJSON *dtype = NULL, *shape = NULL, *offsets = NULL;
    Entry entry = {0};
    size_t bytes = 0;
    TRY(parse_name(item->string, &entry, err));
    if (!cJSON_IsObject(item))
        return err_set(err, ST_MODEL_FORMAT, "tensor %s: is not an object", entry.name);
    for (const cJSON *field = item->child; field != NULL; field = field->next) {
        const cJSON **slot = strcmp(field->string, "dtype") == 0          ? &dtype
                             : strcmp(field->string, "shape") == 0        ? &shape
                             : strcmp(field->string, "data_offsets") == 0 ? &offsets
                                                                          : NULL;
        if (slot == NULL || *slot != NULL)
            return err_set(err, ST_MODEL_FORMAT, "tensor %s: unknown or repeated field",
                           entry.name);
        *slot = field;
    }
    TRY(parse_dtype(dtype, is_foreign, &entry, err));
    TRY(parse_shape(shape, is_foreign, &entry, &bytes, err));
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 ||
        !get_size(offsets->child, MAX_EXACT_INTEGER, &entry.begin) ||
        !get_size(offsets->child->next, MAX_EXACT_INTEGER, &entry.end))
        return err_set(err, ST_MODEL_FORMAT, "tensor %s: data_offsets are not two whole numbers",
                       entry.name);
    if (entry.begin > entry.end || entry.end > data_bytes)
        return err_set(err, ST_MODEL_FORMAT,
                       "tensor %s: data_offsets %zu..%zu are not within the file's %zu data bytes",
                       entry.name, entry.begin, entry.end, data_bytes);
    if (entry.end - entry.begin != bytes)
        return err_set(err, ST_MODEL_FORMAT, "tensor %s: shape needs %zu bytes, data_offsets %zu",
                       entry.name, bytes, entry.end - entry.begin);
    *ret = entry;
    return ST_OK;
}

static int compare_begin(const void *a, const void *b)
{
    const Entry *x = a, *y = b;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static int compare_name(const void *a, const void *b)
{
    return strcmp(((const Entry *)a)->name, ((const Entry *)b)->name);
}

/* No overlap, no gap, nothing behind the last; leaves the entries in the file's order. */
static Status check_layout(Model *model, size_t data_bytes, Err *err)
{
    Entry *entries = model->entries;
    size_t n = (size_t)model->n_entries, end = 0;
    qsort(entries, n, sizeof *entries, compare_begin);
    for (size_t i = 0; i < n; i++) {
        if (entries[i].begin < end)
            return err_set(err, ST_MODEL_FORMAT, "tensors %s and %s overlap", entries[i - 1].name,
                           entries[i].name);
        if (entries[i].begin > end)
            return err_set(err, ST_MODEL_FORMAT, "%zu unused bytes in front of tensor %s",
                           entries[i].begin - end, entries[i].name);
        end = entries[i].end;
    }
    if (end != data_bytes)
        return err_set(err, ST_MODEL_FORMAT, "%zu trailing bytes behind the last tensor %s",
                       data_bytes - end, n > 0 ? entries[n - 1].name : "(none)");
    return ST_OK;
}

static Status sort_by_name(Model *model, Err *err)
{
    Entry *entries = model->entries;
    size_t n = (size_t)model->n_entries;
    qsort(entries, n, sizeof *entries, compare_name);
    for (size_t i = 1; i < n; i++)
        if (strcmp(entries[i - 1].name, entries[i].name) == 0)
            return err_set(err, ST_MODEL_FORMAT, "tensor %s stands twice", entries[i].name);
    return ST_OK;
}

static Status parse_header(const cJSON *header, size_t data_bytes, Model *model, Err *err)
{
    const cJSON *metadata = NULL;
    int n = cJSON_GetArraySize(header);
    if (n > MAX_TENSORS)
        return err_set(err, ST_MODEL_FORMAT, "header names %d tensors, at most %d allowed", n,
                       MAX_TENSORS);
    if ((model->entries = calloc((size_t)n + 1, sizeof *model->entries)) == NULL)
        return err_set(err, ST_NO_MEMORY, "table of %d tensors", n);
    for (const cJSON *item = header->child; item != NULL; item = item->next) {
        if (strcmp(item->string, "__metadata__") != 0) {
            TRY(parse_entry(item, data_bytes, model->is_foreign, &model->entries[model->n_entries],
                            err));
            model->n_entries++;
        } else if (metadata == NULL) {
            metadata = item;
        } else {
            return err_set(err, ST_MODEL_FORMAT, "__metadata__ stands twice");
        }
    }
    TRY(check_layout(model, data_bytes, err));
    if (metadata != NULL && (model->metadata = cJSON_Duplicate(metadata, 1)) == NULL)
        return err_set(err, ST_NO_MEMORY, "metadata");
    if (model->is_foreign)
        return ST_OK;
    TRY(model_metadata_parse(metadata, &model->info, err));
    return model_metadata_ranges(metadata, &model->ranges, err);
}

static float read_element(const unsigned char *bytes, Dtype dtype)
{
    uint16_t half = (uint16_t)(bytes[0] | bytes[1] << 8);
    if (dtype == DTYPE_F16)
        return f32_from_f16(half);
    if (dtype == DTYPE_BF16)
        return f32_from_bf16(half);
    uint32_t bits = (uint32_t)half | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static bool is_statistic(const char *name)
{
    const char *leaf = strrchr(name, '.');
    return leaf != NULL && strncmp(leaf, ".running_", 9) == 0;
}

static Status read_bytes(const Model *model, off_t at, void *ret, size_t n, Err *err)
{
    for (size_t got = 0; got < n;) {
        ssize_t k = pread(model->fd, (char *)ret + got, n - got, at + (off_t)got);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return err_sys(err, errno, "reading the model file");
        if (k == 0)
            return err_set(err, ST_MODEL_FORMAT, "the model file became shorter while it was read");
        got += (size_t)k;
    }
    return ST_OK;
}

/* Hashes the tensor's bytes and checks that they are numbers. */
static Status scan_tensor(Model *model, const Entry *entry, Digest *digest, Err *err)
{
    size_t size = dtype_bytes(entry->dtype);
    for (size_t at = entry->begin; at < entry->end; at += BLOCK_BYTES) {
        size_t n = entry->end - at < BLOCK_BYTES ? entry->end - at : BLOCK_BYTES;
        TRY(read_bytes(model, model->data_at + (off_t)at, model->block, n, err));
        digest_add(digest, model->block, n);
        for (size_t k = 0; entry->dtype != DTYPE_I64 && k < n; k += size)
            if (!isfinite(read_element(model->block + k, entry->dtype)))
                return err_set(err, ST_MODEL_FORMAT, "tensor %s: element %zu is not a number",
                               entry->name, (at - entry->begin + k) / size);
    }
    if (!is_statistic(entry->name))
        model->info.n_parameters += entry->tensor.n_elements;
    return ST_OK;
}

/* Text of `length` bytes to the end of the header. */
static Status parse_text(const char *text, size_t length, size_t data_bytes, Model *model, Err *err)
{
    const char *end;
    if (length < 2 || text[0] != '{')
        return err_set(err, ST_MODEL_FORMAT, "header does not begin with {");
    cJSON *header = cJSON_ParseWithLengthOpts(text, length, &end, 0);
    while (header != NULL && end < text + length && *end == ' ') /* padding */
        end++;
    Status status = ST_OK;
    if (header == NULL || end != text + length)
        status = err_set(err, ST_MODEL_FORMAT, "header is not one JSON object");
    if (status == ST_OK)
        status = parse_header(header, data_bytes, model, err);
    cJSON_Delete(header);
    return status;
}

static Status read_header(Model *model, Digest *digest, Err *err)
{
    unsigned char prefix[8];
    size_t size = (size_t)model->opened.st_size;
    uint64_t length = 0;
    if (size < sizeof prefix)
        return err_set(err, ST_MODEL_FORMAT, "file of %zu bytes has no header", size);
    TRY(read_bytes(model, 0, prefix, sizeof prefix, err));
    for (int i = 7; i >= 0; i--)
        length = length << 8 | prefix[i];
    if (length > MAX_HEADER_BYTES || length > size - sizeof prefix)
        return err_set(err, ST_MODEL_FORMAT,
                       "header length %llu is beyond the file's %zu bytes or the limit %zu",
                       (unsigned long long)length, size, MAX_HEADER_BYTES);
    char *text = malloc((size_t)length + 1);
    if (text == NULL)
        return err_set(err, ST_NO_MEMORY, "header of %llu bytes", (unsigned long long)length);
    Status status = read_bytes(model, sizeof prefix, text, (size_t)length, err);
    if (status == ST_OK) {
        digest_add(digest, prefix, sizeof prefix);
        digest_add(digest, text, (size_t)length);
        model->data_at = (off_t)(sizeof prefix + length);
        status = parse_text(text, (size_t)length, size - sizeof prefix - length, model, err);
    }
    free(text);
    return status;
}

static Status scan_file(Model *model, Digest *digest, Err *err)
{
    TRY(read_header(model, digest, err));
    if ((model->block = malloc(BLOCK_BYTES)) == NULL)
        return err_set(err, ST_NO_MEMORY, "reading the model file");
    for (int32_t i = 0; i < model->n_entries; i++)
        TRY(scan_tensor(model, &model->entries[i], digest, err));
    return sort_by_name(model, err);
}

/* "demo" for "/a/demo.safetensors". */
static void set_name(ModelInfo *info, const char *path)
{
    const char *slash = strrchr(path, '/');
    (void)snprintf(info->name, sizeof info->name, "%.63s", slash != NULL ? slash + 1 : path);
    char *dot = strrchr(info->name, '.');
    if (dot != NULL && dot != info->name)
        *dot = '\0';
}

static Status open_file(const char *path, Model *model, Err *err)
{
    model->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not block us */
    if (model->fd < 0)
        return err_set(err, ST_MODEL_NOT_FOUND, "opening %s: %s", path, strerror(errno));
    if (fstat(model->fd, &model->opened) != 0 || !S_ISREG(model->opened.st_mode))
        return err_set(err, ST_MODEL_NOT_FOUND, "%s is not a file", path);
    if ((uint64_t)model->opened.st_size > MAX_FILE_BYTES)
        return err_set(err, ST_MODEL_FORMAT, "%s has more than %zu bytes", path, MAX_FILE_BYTES);
    uint8_t hash[DIGEST_SIZE];
    Digest *digest = digest_new();
    Status status = scan_file(model, digest, err);
    digest_end(digest, hash);
    if (status != ST_OK)
        return err_wrap(err, "%s", path);
    (void)digest_hex(hash, model->info.digest);
    set_name(&model->info, path);
    return ST_OK;
}

static Status open_as(const char *path, bool is_foreign, Model **ret, Err *err)
{
    Err own = {0};
    if (err == NULL)
        err = &own;
    Model *model = calloc(1, sizeof *model);
    if (model == NULL)
        return err_set(err, ST_NO_MEMORY, "opening model %s", path);
    model->is_foreign = is_foreign;
    Status status = open_file(path, model, err);
    if (status != ST_OK) {
        model_close(model);
        return status;
    }
    *ret = model;
    return ST_OK;
}

Status model_open(const char *path, Model **ret, Err *err)
{
    return open_as(path, false, ret, err);
}

Status model_open_tensors(const char *path, Model **ret, Err *err)
{
    return open_as(path, true, ret, err);
}

void model_close(Model *model)
{
    if (model == NULL)
        return;
    if (model->fd >= 0)
        (void)close(model->fd);
    free(model->entries);
    free(model->ranges.items);
    free(model->block);
    cJSON_Delete(model->metadata);
    free(model);
}

const ModelInfo *model_info(const Model *model)
{
    return &model->info;
}

const Tensor *model_tensor(const Model *model, const char *name)
{
    Entry key = {0};
    if (strlen(name) > MAX_NAME)
        return NULL;
    memcpy(key.name, name, strlen(name));
    const Entry *found = bsearch(&key, model->entries, (size_t)model->n_entries,
                                 sizeof *model->entries, compare_name);
    return found != NULL && found->dtype != DTYPE_I64 ? &found->tensor : NULL;
}

const char *model_metadata(const Model *model, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(model->metadata, key));
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

static bool is_unchanged(const Model *model)
{
    struct stat now;
    return fstat(model->fd, &now) == 0 && now.st_size == model->opened.st_size &&
           now.st_ctim.tv_sec == model->opened.st_ctim.tv_sec &&
           now.st_ctim.tv_nsec == model->opened.st_ctim.tv_nsec;
}

Status model_read(const Model *model, const Tensor *tensor, float *ret, Err *err)
{
    /* The tensor is a member of its entry. */
    const Entry *entry =
        (const Entry *)(const void *)((const char *)tensor - offsetof(Entry, tensor));
    size_t size = dtype_bytes(entry->dtype);
    for (size_t at = entry->begin; at < entry->end; at += BLOCK_BYTES) {
        size_t n = entry->end - at < BLOCK_BYTES ? entry->end - at : BLOCK_BYTES;
        TRY(read_bytes(model, model->data_at + (off_t)at, model->block, n, err));
        for (size_t k = 0; k < n; k += size)
            *ret++ = read_element(model->block + k, entry->dtype);
    }
    return is_unchanged(model)
               ? ST_OK
               : err_set(err, ST_MODEL_FORMAT, "the model file was changed while it was in use");
}

const char *model_tensor_name(const Model *model, int32_t index)
{
    return index >= 0 && index < model->n_entries ? model->entries[index].name : NULL;
}
