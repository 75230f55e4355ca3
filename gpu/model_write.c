/* See model_write.h. The file is small enough to be held in memory whole (model.c's limit). */
#include "gpu/model_write.h"

#include "base/files.h"

#include <cjson/cJSON.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { PREFIX = 8, ALIGN = 8 };
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
        status = file_write_durable(to, file, PREFIX + padded + data_bytes, err);
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
