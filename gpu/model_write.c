/* See model_write.h. A file whose metadata changes is small enough to be held in memory whole
** (model.c's limit); new tensors go to the file block by block. */
#include "gpu/model_write.h"

#include "base/files.h"
#include "gpu/half.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PREFIX = 8, ALIGN = 8, BLOCK = 1 << 14 /* numbers */ };
#define MAX_FILE_BYTES ((size_t)4 << 30)

static uint64_t get_length(const char *file)
{
    uint64_t length = 0;
    for (int i = PREFIX - 1; i >= 0; i--)
        length = length << 8 | (unsigned char)file[i];
    return length;
}

static Status change(cJSON *header, const MetadataValue *values, int n, Err *err)
{
    cJSON *metadata = cJSON_GetObjectItemCaseSensitive(header, "__metadata__");
    if (!cJSON_IsObject(metadata))
        return err_set(err, ST_MODEL_FORMAT, "header has no __metadata__ object");
    for (int i = 0; i < n; i++) {
        cJSON_DeleteItemFromObjectCaseSensitive(metadata, values[i].key);
        if (values[i].value != NULL &&
            cJSON_AddStringToObject(metadata, values[i].key, values[i].value) == NULL)
            return err_set(err, ST_NO_MEMORY, "metadata %s", values[i].key);
    }
    return ST_OK;
}

/* New prefix, header padded with blanks to 8 bytes, then the old file's data. */
static Status join(const cJSON *header, const char *data, size_t data_bytes, const char *to,
                   Err *err)
{
    char *text = cJSON_PrintUnformatted(header);
    size_t length = text != NULL ? strlen(text) : 0, padded = (length + ALIGN - 1) / ALIGN * ALIGN;
    char *file = text != NULL ? malloc(PREFIX + padded + data_bytes) : NULL;
    Status status = ST_OK;
    if (file == NULL) {
        status = err_set(err, ST_NO_MEMORY, "a model file of %zu bytes", data_bytes);
    } else {
        for (int i = 0; i < PREFIX; i++)
            file[i] = (char)(padded >> 8 * i & 0xff);
        memcpy(file + PREFIX, text, length);
        memset(file + PREFIX + length, ' ', padded - length);
        memcpy(file + PREFIX + padded, data, data_bytes);
        FileWriter writer;
        status = file_begin_readable(to, &writer, err);
        if (status == ST_OK) {
            file_keep_owner(&writer);
            status = file_add(&writer, file, PREFIX + padded + data_bytes, err);
        }
        if (status == ST_OK)
            status = file_commit(&writer, err);
        file_abandon(&writer);
    }
    free(file);
    cJSON_free(text);
    return status;
}

Status model_write_metadata(const char *from, const MetadataValue *values, int n, const char *to,
                            Err *err)
{
    char *file;
    size_t size;
    TRY(file_read(from, MAX_FILE_BYTES, &file, &size, err));
    uint64_t length = size >= PREFIX ? get_length(file) : UINT64_MAX;
    cJSON *header = NULL;
    Status status = ST_OK;
    if (length > size - PREFIX ||
        (header = cJSON_ParseWithLength(file + PREFIX, (size_t)length)) == NULL)
        status = err_set(err, ST_MODEL_FORMAT, "%s has no header", from);
    if (status == ST_OK)
        status = change(header, values, n, err);
    if (status == ST_OK)
        status = join(header, file + PREFIX + length, size - PREFIX - (size_t)length, to, err);
    cJSON_Delete(header);
    free(file);
    return status;
}

/* ---- new files ----------------------------------------------------------------------------- */

static int64_t count(const NewTensor *tensor)
{
    int64_t n = 1;
    for (int32_t d = 0; d < tensor->n_dims; d++)
        n *= tensor->dims[d];
    return n;
}

static Status check_finite(const NewTensor *tensor, bool is_f16, Err *err)
{
    int64_t n = count(tensor);
    for (int64_t i = 0; i < n; i++) {
        float v = tensor->values[i];
        if (!isfinite(v) || (is_f16 && !isfinite(f32_from_f16(f16_from_f32(v)))))
            return err_set(err, ST_MODEL_FORMAT, "tensor %s: element %lld is no number%s",
                           tensor->name, (long long)i, is_f16 ? " that F16 can hold" : "");
    }
    return ST_OK;
}

/* *offset: where the tensor begins; moved behind it. */
static bool add_entry(cJSON *header, const NewTensor *tensor, bool is_f16, double *offset)
{
    cJSON *entry = cJSON_AddObjectToObject(header, tensor->name);
    bool ok = cJSON_AddStringToObject(entry, "dtype", is_f16 ? "F16" : "F32") != NULL;
    cJSON *shape = cJSON_AddArrayToObject(entry, "shape");
    for (int32_t d = 0; d < tensor->n_dims; d++)
        ok = cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)tensor->dims[d])) && ok;
    double end = *offset + (double)count(tensor) * (is_f16 ? 2 : 4);
    const double range[2] = {*offset, end};
    *offset = end;
    return cJSON_AddItemToObject(entry, "data_offsets", cJSON_CreateDoubleArray(range, 2)) && ok;
}

static char *new_header(const MetadataValue *values, int n, const NewTensor *tensors, int n_tensors,
                        bool is_f16)
{
    cJSON *header = cJSON_CreateObject();
    cJSON *metadata = cJSON_AddObjectToObject(header, "__metadata__");
    bool ok = metadata != NULL;
    double offset = 0;
    for (int i = 0; i < n; i++)
        ok = ok && (values[i].value == NULL ||
                    cJSON_AddStringToObject(metadata, values[i].key, values[i].value) != NULL);
    for (int i = 0; ok && i < n_tensors; i++)
        ok = add_entry(header, &tensors[i], is_f16, &offset);
    char *text = ok ? cJSON_PrintUnformatted(header) : NULL;
    cJSON_Delete(header);
    return text;
}

static Status add_tensor(FileWriter *writer, const NewTensor *tensor, bool is_f16, Err *err)
{
    unsigned char block[4 * BLOCK];
    const int64_t n = count(tensor);
    for (int64_t at = 0; at < n; at += BLOCK) {
        int64_t end = at + BLOCK < n ? at + BLOCK : n;
        size_t used = 0;
        for (int64_t i = at; i < end; i++) {
            uint32_t bits;
            memcpy(&bits, &tensor->values[i], sizeof bits);
            if (is_f16)
                bits = f16_from_f32(tensor->values[i]);
            for (int b = 0; b < (is_f16 ? 2 : 4); b++)
                block[used++] = (unsigned char)(bits >> 8 * b & 0xff);
        }
        TRY(file_add(writer, block, used, err));
    }
    return ST_OK;
}

static Status add_all(FileWriter *writer, const char *text, const NewTensor *tensors, int n_tensors,
                      bool is_f16, Err *err)
{
    static const char BLANKS[ALIGN + 1] = "        ";
    size_t length = strlen(text), padded = (length + ALIGN - 1) / ALIGN * ALIGN;
    char prefix[PREFIX];
    for (int i = 0; i < PREFIX; i++)
        prefix[i] = (char)(padded >> 8 * i & 0xff);
    TRY(file_add(writer, prefix, sizeof prefix, err));
    TRY(file_add(writer, text, length, err));
    TRY(file_add(writer, BLANKS, padded - length, err));
    for (int i = 0; i < n_tensors; i++)
        TRY(add_tensor(writer, &tensors[i], is_f16, err));
    return file_commit(writer, err);
}

Status model_write_new(const char *path, const MetadataValue *values, int n,
                       const NewTensor *tensors, int n_tensors, bool is_f16, Err *err)
{
    for (int i = 0; i < n_tensors; i++)
        TRY(check_finite(&tensors[i], is_f16, err));
    char *text = new_header(values, n, tensors, n_tensors, is_f16);
    if (text == NULL)
        return err_set(err, ST_NO_MEMORY, "the header of a model file");
    FileWriter writer;
    Status status = file_begin_readable(path, &writer, err);
    if (status == ST_OK)
        status = add_all(&writer, text, tensors, n_tensors, is_f16, err);
    file_abandon(&writer);
    cJSON_free(text);
    return status;
}
