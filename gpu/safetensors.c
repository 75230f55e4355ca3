/* Reading safetensors: 8 bytes little-endian header length, a JSON header, tensor bytes. The file
** is read in blocks, so that the weights are never in memory twice. See safetensors.h. */
#include "gpu/safetensors_int.h"

#include "base/digest.h"
#include "gpu/half.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK_BYTES = 1 << 20 };
#define MAX_FILE_BYTES ((size_t)4 << 30)   /* DRUNet-101 in float32 has 0.34 GB */
#define MAX_HEADER_BYTES ((size_t)2 << 20) /* DRUNet-101's has 99 kB; parsed it takes 30 times */

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

static Status read_bytes(const Safetensors *file, off_t at, void *ret, size_t n, Err *err)
{
    for (size_t got = 0; got < n;) {
        ssize_t k = pread(file->fd, (char *)ret + got, n - got, at + (off_t)got);
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
static Status scan_bytes(const Safetensors *file, const TensorEntry *entry, Digest *of_file,
                         Digest *of_tensor, Err *err)
{
    size_t size = entry->element_bytes;
    for (size_t at = entry->begin; at < entry->end; at += BLOCK_BYTES) {
        size_t n = entry->end - at < BLOCK_BYTES ? entry->end - at : BLOCK_BYTES;
        TRY(read_bytes(file, file->data_at + (off_t)at, file->block, n, err));
        digest_add(of_file, file->block, n);
        digest_add(of_tensor, file->block, n);
        for (size_t k = 0; k < n && entry->dtype != DTYPE_OTHER; k += size)
            if (!isfinite(read_element(file->block + k, entry->dtype)))
                return err_set(err, ST_MODEL_FORMAT, "tensor %s: element %zu is not a number",
                               entry->name, (at - entry->begin + k) / size);
    }
    return ST_OK;
}

static Status scan_tensor(const Safetensors *file, TensorEntry *entry, Digest *of_file, Err *err)
{
    char text[TENSOR_MAX_NAME + 128];
    const int64_t *d = entry->tensor.dims;
    int n = snprintf(text, sizeof text, "%s %d %d %lld %lld %lld %lld", entry->name,
                     (int)entry->dtype, entry->tensor.n_dims, (long long)d[0], (long long)d[1],
                     (long long)d[2], (long long)d[3]);
    Digest *of_tensor = digest_new();
    digest_add(of_tensor, text, (size_t)n + 1);
    Status status = scan_bytes(file, entry, of_file, of_tensor, err);
    digest_end(of_tensor, entry->hash);
    return status;
}

static Status read_header(SafetensorsRules rules, Safetensors *file, Digest *digest, Err *err)
{
    unsigned char prefix[8];
    size_t size = (size_t)file->opened.st_size;
    uint64_t length = 0;
    if (size < sizeof prefix)
        return err_set(err, ST_MODEL_FORMAT, "file of %zu bytes has no header", size);
    TRY(read_bytes(file, 0, prefix, sizeof prefix, err));
    for (int i = 7; i >= 0; i--)
        length = length << 8 | prefix[i];
    if (length > MAX_HEADER_BYTES || length > size - sizeof prefix)
        return err_set(err, ST_MODEL_FORMAT,
                       "header length %llu is beyond the file's %zu bytes or the limit %zu",
                       (unsigned long long)length, size, MAX_HEADER_BYTES);
    char *text = malloc((size_t)length + 1);
    if (text == NULL)
        return err_set(err, ST_NO_MEMORY, "header of %llu bytes", (unsigned long long)length);
    Status status = read_bytes(file, sizeof prefix, text, (size_t)length, err);
    if (status == ST_OK) {
        digest_add(digest, prefix, sizeof prefix);
        digest_add(digest, text, (size_t)length);
        file->data_at = (off_t)(sizeof prefix + length);
        status = safetensors_parse(text, (size_t)length, size - sizeof prefix - (size_t)length,
                                   rules, file, err);
    }
    free(text);
    return status;
}

static int compare_name(const void *a, const void *b)
{
    return strcmp(((const TensorEntry *)a)->name, ((const TensorEntry *)b)->name);
}

static Status sort_by_name(Safetensors *file, Err *err)
{
    TensorEntry *entries = file->entries;
    size_t n = (size_t)file->n_entries;
    qsort(entries, n, sizeof *entries, compare_name);
    for (size_t i = 1; i < n; i++)
        if (strcmp(entries[i - 1].name, entries[i].name) == 0)
            return err_set(err, ST_MODEL_FORMAT, "tensor %s stands twice", entries[i].name);
    return ST_OK;
}

static Status scan_file(SafetensorsRules rules, Safetensors *file, Digest *digest, Err *err)
{
    TRY(read_header(rules, file, digest, err));
    if ((file->block = malloc(BLOCK_BYTES)) == NULL)
        return err_set(err, ST_NO_MEMORY, "reading the model file");
    for (int32_t i = 0; i < file->n_entries; i++)
        TRY(scan_tensor(file, &file->entries[i], digest, err));
    return sort_by_name(file, err);
}

Status safetensors_open(const char *path, SafetensorsRules rules, Safetensors *ret, Err *err)
{
    *ret = (Safetensors){0};
    ret->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not block us */
    if (ret->fd < 0)
        return err_set(err, ST_MODEL_NOT_FOUND, "opening %s: %s", path, strerror(errno));
    if (fstat(ret->fd, &ret->opened) != 0 || !S_ISREG(ret->opened.st_mode))
        return err_set(err, ST_MODEL_NOT_FOUND, "%s is not a file", path);
    if ((uint64_t)ret->opened.st_size > MAX_FILE_BYTES)
        return err_set(err, ST_MODEL_FORMAT, "file has more than %zu bytes", MAX_FILE_BYTES);
    uint8_t hash[DIGEST_SIZE];
    Digest *digest = digest_new();
    Status status = scan_file(rules, ret, digest, err);
    digest_end(digest, hash);
    (void)digest_hex(hash, ret->digest);
    digest = digest_new();
    for (int32_t i = 0; i < ret->n_entries; i++)
        digest_add(digest, ret->entries[i].hash, sizeof ret->entries[i].hash);
    digest_end(digest, hash);
    (void)digest_hex(hash, ret->tensors_digest);
    return status;
}

void safetensors_close(Safetensors *file)
{
    if (file->fd >= 0)
        (void)close(file->fd);
    cJSON_Delete(file->metadata);
    free(file->entries);
    free(file->block);
    *file = (Safetensors){.fd = -1};
}

const TensorEntry *safetensors_find(const Safetensors *file, const char *name)
{
    TensorEntry key = {0};
    if (strlen(name) > TENSOR_MAX_NAME || file->n_entries == 0)
        return NULL;
    memcpy(key.name, name, strlen(name));
    return bsearch(&key, file->entries, (size_t)file->n_entries, sizeof *file->entries,
                   compare_name);
}

/* The bytes are those that were hashed: same size, no write since. A file that is replaced by
** renaming loses a name, which changes its ctime, too. */
static bool is_unchanged(const Safetensors *file)
{
    struct stat now;
    const struct stat *then = &file->opened;
    if (fstat(file->fd, &now) != 0 || now.st_size != then->st_size ||
        now.st_mtim.tv_sec != then->st_mtim.tv_sec || now.st_mtim.tv_nsec != then->st_mtim.tv_nsec)
        return false;
    return now.st_nlink != then->st_nlink || (now.st_ctim.tv_sec == then->st_ctim.tv_sec &&
                                              now.st_ctim.tv_nsec == then->st_ctim.tv_nsec);
}

Status safetensors_read(const Safetensors *file, const TensorEntry *entry, float *ret, Err *err)
{
    size_t size = entry->element_bytes;
    ASSERT(entry->dtype != DTYPE_OTHER);
    for (size_t at = entry->begin; at < entry->end; at += BLOCK_BYTES) {
        size_t n = entry->end - at < BLOCK_BYTES ? entry->end - at : BLOCK_BYTES;
        TRY(read_bytes(file, file->data_at + (off_t)at, file->block, n, err));
        for (size_t k = 0; k < n; k += size)
            *ret++ = read_element(file->block + k, entry->dtype);
    }
    return is_unchanged(file)
               ? ST_OK
               : err_set(err, ST_MODEL_FORMAT, "the model file was changed while it was in use");
}
