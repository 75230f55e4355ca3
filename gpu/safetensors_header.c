/* A safetensors header: from JSON text to a table of tensors that is safe to use.
**
**   {"__metadata__": {key: string, ...}, NAME: {"dtype", "shape", "data_offsets": [begin, end]}}
**
** Offsets count from the end of the header. As the format demands, the tensors cover the rest of
** the file without gap or overlap, so that no byte escapes the checks. */
#include "gpu/safetensors_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TENSORS = 8192, MAX_DIMS = 4, MAX_DIMS_ANY = 16 };
#define MAX_EXACT_INTEGER 9007199254740992.0 /* 2^53: cJSON keeps numbers as doubles */

static const struct {
    const char *name;
    Dtype dtype;
    size_t bytes;
} DTYPES[] = {{"F32", DTYPE_F32, 4},    {"F16", DTYPE_F16, 2},       {"BF16", DTYPE_BF16, 2},
              {"F64", DTYPE_OTHER, 8},  {"I64", DTYPE_OTHER, 8},     {"U64", DTYPE_OTHER, 8},
              {"I32", DTYPE_OTHER, 4},  {"U32", DTYPE_OTHER, 4},     {"I16", DTYPE_OTHER, 2},
              {"U16", DTYPE_OTHER, 2},  {"I8", DTYPE_OTHER, 1},      {"U8", DTYPE_OTHER, 1},
              {"BOOL", DTYPE_OTHER, 1}, {"F8_E4M3", DTYPE_OTHER, 1}, {"F8_E5M2", DTYPE_OTHER, 1}};
enum { N_DTYPES = sizeof DTYPES / sizeof DTYPES[0], N_MODEL_DTYPES = 3 };

typedef struct Parse { /* of one file's header */
    SafetensorsRules rules;
    size_t data_bytes;
} Parse;

/* Whole number in [0, max]. */
static bool get_size(const cJSON *item, double max, size_t *ret)
{
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= max) ||
        floor(item->valuedouble) != item->valuedouble)
        return false;
    *ret = (size_t)item->valuedouble;
    return true;
}

static Status parse_name(const Parse *parse, const char *name, TensorEntry *entry, Err *err)
{
    size_t n = strlen(name);
    if (n == 0 || n > TENSOR_MAX_NAME)
        return err_set(err, ST_MODEL_FORMAT, "a tensor's name has %zu characters, 1..%d allowed", n,
                       TENSOR_MAX_NAME);
    for (const char *p = name; *p != '\0'; p++) {
        bool word = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                    (*p >= '0' && *p <= '9') || *p == '.' || *p == '_';
        if (!word && !(parse->rules == SAFETENSORS_ANY && strchr("-:/", *p) != NULL))
            return err_set(err, ST_MODEL_FORMAT,
                           "a tensor's name holds other than letters, digits, dot, underscore");
    }
    memcpy(entry->name, name, n + 1);
    return ST_OK;
}

static Status parse_dtype(const Parse *parse, const cJSON *item, TensorEntry *entry, Err *err)
{
    int n = parse->rules == SAFETENSORS_ANY ? N_DTYPES : N_MODEL_DTYPES;
    for (int i = 0; i < n && cJSON_IsString(item); i++)
        if (strcmp(item->valuestring, DTYPES[i].name) == 0) {
            entry->dtype = DTYPES[i].dtype;
            entry->element_bytes = DTYPES[i].bytes;
            return ST_OK;
        }
    return err_set(err, ST_MODEL_FORMAT, "tensor %s: dtype is none of %s", entry->name,
                   n == N_DTYPES ? "the format's" : "F32, F16, BF16");
}

static Status parse_dims(const cJSON *shape, int n_dims, TensorEntry *entry, size_t *ret_bytes,
                         Err *err)
{
    size_t bytes = entry->element_bytes, dim;
    const cJSON *item = shape->child;
    for (int i = 0; i < n_dims; i++, item = item->next) {
        if (!get_size(item, MAX_EXACT_INTEGER, &dim) || (dim == 0 && entry->dtype != DTYPE_OTHER))
            return err_set(err, ST_MODEL_FORMAT,
                           "tensor %s: dimension %d is not a whole number above 0", entry->name, i);
        if (__builtin_mul_overflow(bytes, dim, &bytes))
            return err_set(err, ST_MODEL_FORMAT, "tensor %s: product of the shape overflows",
                           entry->name);
        if (i < MAX_DIMS)
            entry->tensor.dims[i] = (int64_t)dim;
    }
    *ret_bytes = bytes;
    return ST_OK;
}

/* *ret_bytes: what the shape needs. */
static Status parse_shape(const Parse *parse, const cJSON *shape, TensorEntry *entry,
                          size_t *ret_bytes, Err *err)
{
    int n_dims = cJSON_IsArray(shape) ? cJSON_GetArraySize(shape) : -1;
    bool usual = n_dims >= (parse->rules == SAFETENSORS_ANY ? 0 : 1) && n_dims <= MAX_DIMS;
    if (!usual && (parse->rules != SAFETENSORS_ANY || n_dims < 0 || n_dims > MAX_DIMS_ANY))
        return err_set(err, ST_MODEL_FORMAT, "tensor %s: shape is not a list of 1 to 4 numbers",
                       entry->name);
    if (!usual)
        entry->dtype = DTYPE_OTHER;
    TRY(parse_dims(shape, n_dims, entry, ret_bytes, err));
    entry->tensor.n_dims = n_dims;
    entry->tensor.n_elements = (int64_t)(*ret_bytes / entry->element_bytes);
    if (entry->dtype == DTYPE_OTHER)
        entry->tensor = (Tensor){0};
    return ST_OK;
}

static Status parse_entry(const Parse *parse, const cJSON *item, TensorEntry *ret, Err *err)
{
    const cJSON *dtype = NULL, *shape = NULL, *offsets = NULL;
    TensorEntry entry = {0};
    size_t bytes = 0;
    TRY(parse_name(parse, item->string, &entry, err));
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
    TRY(parse_dtype(parse, dtype, &entry, err));
    TRY(parse_shape(parse, shape, &entry, &bytes, err));
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 ||
        !get_size(offsets->child, MAX_EXACT_INTEGER, &entry.begin) ||
        !get_size(offsets->child->next, MAX_EXACT_INTEGER, &entry.end))
        return err_set(err, ST_MODEL_FORMAT, "tensor %s: data_offsets are not two whole numbers",
                       entry.name);
    if (entry.begin > entry.end || entry.end > parse->data_bytes)
        return err_set(err, ST_MODEL_FORMAT,
                       "tensor %s: data_offsets %zu..%zu are not within the file's %zu data bytes",
                       entry.name, entry.begin, entry.end, parse->data_bytes);
    if (entry.end - entry.begin != bytes)
        return err_set(err, ST_MODEL_FORMAT, "tensor %s: shape needs %zu bytes, data_offsets %zu",
                       entry.name, bytes, entry.end - entry.begin);
    *ret = entry;
    return ST_OK;
}

/* By place, so that what is empty comes first. */
static int compare_begin(const void *a, const void *b)
{
    const TensorEntry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* No overlap, no gap, nothing behind the last; leaves the entries in the file's order. */
static Status check_layout(Safetensors *file, size_t data_bytes, Err *err)
{
    TensorEntry *entries = file->entries;
    size_t n = (size_t)file->n_entries, end = 0;
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

/* Takes the metadata out of the header. */
static Status parse_header(const Parse *parse, cJSON *header, Safetensors *file, Err *err)
{
    int n = cJSON_GetArraySize(header);
    if (n > MAX_TENSORS)
        return err_set(err, ST_MODEL_FORMAT, "header names %d tensors, at most %d allowed", n,
                       MAX_TENSORS);
    if ((file->entries = calloc((size_t)n + 1, sizeof *file->entries)) == NULL)
        return err_set(err, ST_NO_MEMORY, "table of %d tensors", n);
    for (cJSON *item = header->child, *next; item != NULL; item = next) {
        next = item->next;
        if (strcmp(item->string, "__metadata__") != 0) {
            TRY(parse_entry(parse, item, &file->entries[file->n_entries], err));
            file->n_entries++;
        } else if (file->metadata == NULL) {
            file->metadata = cJSON_DetachItemViaPointer(header, item);
        } else {
            return err_set(err, ST_MODEL_FORMAT, "__metadata__ stands twice");
        }
    }
    return check_layout(file, parse->data_bytes, err);
}

Status safetensors_parse(const char *text, size_t length, size_t data_bytes, SafetensorsRules rules,
                         Safetensors *file, Err *err)
{
    const Parse parse = {rules, data_bytes};
    const char *end;
    if (length < 2 || text[0] != '{')
        return err_set(err, ST_MODEL_FORMAT, "header does not begin with {");
    if (memmem(text, length, "\\u0000", 6) != NULL || memchr(text, '\0', length) != NULL)
        /* cJSON's strings end there */
        return err_set(err, ST_MODEL_FORMAT, "header holds the character 0");
    cJSON *header = cJSON_ParseWithLengthOpts(text, length, &end, 0);
    while (header != NULL && end < text + length && *end == ' ') /* padding */
        end++;
    Status status = ST_OK;
    if (header == NULL || end != text + length)
        status = err_set(err, ST_MODEL_FORMAT, "header is not one JSON object");
    if (status == ST_OK)
        status = parse_header(&parse, header, file, err);
    cJSON_Delete(header);
    return status;
}
