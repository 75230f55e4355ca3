/* Fuzz target: the reader of packed files.
**
** Bytes that begin with '{' are a header's JSON, and behind the first 0 byte the arrays, filled up
** with zeros: magic, length and padding are put around, so that a mutation does not end at them.
** Other bytes are a whole file. Claims: opening comes back with PACK_FORMAT and a printable
** message, or with a file all of which can be read, whose cases cover its slices and whose masks
** are masks. */
#include "tests/fuzz.h"

#include "gpu/pack_file.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALIGN = 4096, LEAST_ARRAYS = 3 * ALIGN };

static void put(int fd, const void *bytes, size_t n)
{
    ASSERT(n == 0 || write(fd, bytes, n) == (ssize_t)n);
}

static int make_file(const uint8_t *data, size_t size)
{
    static const uint8_t zeros[LEAST_ARRAYS];
    int fd = memfd_create("pack", MFD_CLOEXEC);
    ASSERT(fd >= 0);
    if (size == 0 || data[0] != '{') {
        put(fd, data, size);
        return fd;
    }
    const uint8_t *zero = memchr(data, 0, size);
    uint64_t length = zero != NULL ? (size_t)(zero - data) : size;
    size_t used = 16 + (size_t)length, rest = zero != NULL ? size - (size_t)length - 1 : 0;
    put(fd, "CT2MRPK1", 8);
    put(fd, &length, sizeof length);
    put(fd, data, (size_t)length);
    put(fd, zeros, (ALIGN - used % ALIGN) % ALIGN);
    put(fd, zero != NULL ? zero + 1 : NULL, rest);
    put(fd, zeros, rest < LEAST_ARRAYS ? LEAST_ARRAYS - rest : 0);
    return fd;
}

static void read_all(const Pack *pack)
{
    const PackInfo *info = pack_info(pack);
    size_t n = (size_t)info->pixels * (size_t)info->pixels;
    int32_t slices = 0;
    volatile int sum = 0;
    for (int32_t c = 0; c < info->n_cases; c++) {
        ASSERT(info->cases[c].first_slice == slices && strlen(info->cases[c].id) == 16);
        slices += info->cases[c].n_slices;
    }
    ASSERT(slices == info->n_slices && info->provenance[0] == '{');
    for (int32_t s = 0; s < info->n_slices; s++) {
        ASSERT(info->statistics[s].mean >= 0 && info->statistics[s].mean <= 1);
        for (size_t i = 0; i < n; i++) {
            ASSERT(pack_mask(pack, s)[i] <= 1);
            ASSERT(pack_mask(pack, s)[i] == 1 || pack_mr(pack, s)[i] == 0);
            sum = pack_hu(pack, s)[i];
        }
    }
    (void)sum;
}

int fuzz_pack(const uint8_t *data, size_t size)
{
    int fd = make_file(data, size);
    char path[64];
    Pack *pack;
    Err err = {0};
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    Status status = pack_open(path, &pack, &err);
    if (status == ST_OK) {
        read_all(pack);
        pack_close(pack);
    } else {
        ASSERT(status == ST_PACK_FORMAT && err.status == status);
        for (const char *p = err.msg; *p != '\0'; p++)
            ASSERT(*p >= 0x20 && *p <= 0x7e);
    }
    (void)close(fd);
    return 0;
}
