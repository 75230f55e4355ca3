/* NumPy arrays on disk. Format: numpy.org/doc/stable/reference/generated/numpy.lib.format.html
**
**   \x93NUMPY, major, minor, header length (2 bytes; 4 from version 2), header, data
**   header: a Python dict {'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 96, 64), } */
#include "gpu/npy.h"

#include "base/files.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FILE_BYTES ((size_t)16 << 30)
enum { MAX_HEADER = 65536, PREFIX = 10 };

/* The text behind 'key': in the dict; NULL if the key is not there. */
static const char *find_value(const char *header, const char *key)
{
    char quoted[32];
    (void)snprintf(quoted, sizeof quoted, "'%s'", key);
    const char *p = strstr(header, quoted);
    if (p == NULL)
        return NULL;
    p += strlen(quoted);
    p += strspn(p, " ");
    if (*p++ != ':')
        return NULL;
    return p + strspn(p, " ");
}

/* "(1, 3, 96, 64)", "(5,)" or "()". */
static bool parse_shape(const char *p, Npy *npy)
{
    if (p == NULL || *p++ != '(')
        return false;
    for (;;) {
        p += strspn(p, " ");
        if (*p == ')')
            return true;
        int64_t dim = 0;
        if (npy->n_dims == 4 || !isdigit((unsigned char)*p))
            return false;
        for (; isdigit((unsigned char)*p); p++)
            if (__builtin_mul_overflow(dim, 10, &dim) ||
                __builtin_add_overflow(dim, *p - '0', &dim))
                return false;
        npy->dims[npy->n_dims++] = dim;
        p += strspn(p, " ");
        if (*p == ',')
            p++;
        else if (*p != ')')
            return false;
    }
}

static bool count_bytes(const Npy *npy, size_t *ret)
{
    size_t bytes = sizeof(float);
    for (int32_t i = 0; i < npy->n_dims; i++)
        if (__builtin_mul_overflow(bytes, (size_t)npy->dims[i], &bytes))
            return false;
    *ret = bytes;
    return true;
}

static Status parse(char *file, size_t size, Npy *npy, Err *err)
{
    const unsigned char *u = (const unsigned char *)file;
    if (size < PREFIX || memcmp(file, "\x93NUMPY", 6) != 0)
        return err_set(err, ST_UNSUPPORTED, "not a .npy file");
    if (u[6] < 1 || u[6] > 3 || (u[6] > 1 && size < PREFIX + 2))
        return err_set(err, ST_UNSUPPORTED, ".npy format version %d, 1 to 3 supported", u[6]);
    size_t length = (size_t)u[8] | (size_t)u[9] << 8, start = PREFIX;
    if (u[6] > 1) {
        length |= (size_t)u[10] << 16 | (size_t)u[11] << 24;
        start += 2;
    }
    if (length == 0 || length > MAX_HEADER || length > size - start)
        return err_set(err, ST_LIMIT, ".npy header of %zu bytes in a file of %zu", length, size);
    char *header = file + start, last = header[length - 1];
    header[length - 1] = '\0'; /* a newline by the format: now a string ends there */
    const char *descr = find_value(header, "descr");
    const char *order = find_value(header, "fortran_order");
    size_t bytes;
    if (last != '\n')
        return err_set(err, ST_UNSUPPORTED, ".npy header does not end with a new line");
    if (descr == NULL || strncmp(descr, "'<f4'", 5) != 0)
        return err_set(err, ST_UNSUPPORTED, ".npy data is not little-endian float32 ('<f4')");
    if (order == NULL || strncmp(order, "False", 5) != 0)
        return err_set(err, ST_UNSUPPORTED, ".npy data is not in C order");
    if (!parse_shape(find_value(header, "shape"), npy) || !count_bytes(npy, &bytes))
        return err_set(err, ST_UNSUPPORTED, ".npy shape is not up to 4 whole numbers");
    if (bytes != size - start - length)
        return err_set(err, ST_UNSUPPORTED, ".npy shape needs %zu bytes of data, file has %zu",
                       bytes, size - start - length);
    memmove(file, file + start + length, bytes);
    npy->data = (float *)(void *)file; /* from malloc: aligned */
    return ST_OK;
}

Status npy_read(const char *path, Npy *ret, Err *err)
{
    char *file;
    size_t size;
    Npy npy = {0};
    TRY(file_read(path, MAX_FILE_BYTES, &file, &size, err));
    Status status = parse(file, size, &npy, err);
    if (status != ST_OK) {
        free(file);
        (void)err_wrap(err, "%s", path);
        return status;
    }
    *ret = npy;
    return ST_OK;
}

Status npy_write(const char *path, const Npy *npy, Err *err)
{
    char shape[128] = "";
    size_t bytes;
    ASSERT(npy->n_dims >= 0 && npy->n_dims <= 4);
    for (int32_t i = 0; i < npy->n_dims; i++)
        (void)snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%lld,%s",
                       (long long)npy->dims[i], i + 1 < npy->n_dims ? " " : "");
    if (!count_bytes(npy, &bytes) || bytes > MAX_FILE_BYTES)
        return err_set(err, ST_LIMIT, "%s: array too large for a .npy file", path);
    char header[256];
    int n = snprintf(header, sizeof header,
                     "\x93NUMPY\x01%c%c%c{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }",
                     0, 0, 0, shape);
    size_t length = ((size_t)n + 1 + 63) / 64 * 64; /* data starts at a multiple of 64 */
    memset(header + n, ' ', length - (size_t)n);
    header[length - 1] = '\n';
    header[8] = (char)(length - PREFIX);
    header[9] = 0;
    char *file = malloc(length + bytes);
    if (file == NULL)
        return err_set(err, ST_NO_MEMORY, "writing %s", path);
    memcpy(file, header, length);
    if (bytes > 0)
        memcpy(file + length, npy->data, bytes);
    Status status = file_write_durable(path, file, length + bytes, err);
    free(file);
    return status;
}

void npy_free(Npy *npy)
{
    if (npy == NULL)
        return;
    free(npy->data);
    *npy = (Npy){0};
}
