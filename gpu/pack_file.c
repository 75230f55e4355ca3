/* See pack_file.h. Opening hashes the file and looks at every mask byte and every MR value outside
** the mask in one pass; slices are then plain pointers into the mapping. */
#include "gpu/pack_int.h"

#include "base/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "arrays are used as they lie there");

struct Pack {
    PackHeader header;
    const unsigned char *map; /* the whole file */
    size_t map_bytes, data_at;
};

static Status map_file(const char *path, Pack *pack, Err *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not block us */
    if (fd < 0)
        return err_sys(err, errno, "opening %s", path);
    Status status = ST_OK;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        status = err_set(err, ST_PACK_FORMAT, "is not a file");
    else if (st.st_size < PACK_PREFIX_BYTES)
        status =
            err_set(err, ST_PACK_FORMAT, "file of %lld bytes has no header", (long long)st.st_size);
    if (status == ST_OK) {
        void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED) {
            status = err_sys(err, errno, "mmap");
        } else {
            pack->map = map;
            pack->map_bytes = (size_t)st.st_size;
        }
    }
    (void)close(fd);
    return status;
}

static Status read_header(Pack *pack, Err *err)
{
    uint64_t length;
    memcpy(&length, pack->map + sizeof PACK_MAGIC - 1, sizeof length);
    if (memcmp(pack->map, PACK_MAGIC, sizeof PACK_MAGIC - 1) != 0)
        return err_set(err, ST_PACK_FORMAT, "does not begin with " PACK_MAGIC);
    if (length > PACK_MAX_HEADER_BYTES || length > pack->map_bytes - PACK_PREFIX_BYTES)
        return err_set(err, ST_PACK_FORMAT,
                       "header length %llu is beyond the file's %zu bytes or the limit %zu",
                       (unsigned long long)length, pack->map_bytes, PACK_MAX_HEADER_BYTES);
    size_t end = PACK_PREFIX_BYTES + (size_t)length;
    pack->data_at = (end + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
    if (pack->data_at > pack->map_bytes)
        return err_set(err, ST_PACK_FORMAT, "file of %zu bytes ends with its header",
                       pack->map_bytes);
    return pack_header_parse((const char *)pack->map + PACK_PREFIX_BYTES, (size_t)length,
                             pack->map_bytes - pack->data_at, &pack->header, err);
}

static const unsigned char *slice_at(const Pack *pack, int array, int32_t slice)
{
    size_t n = (size_t)pack->header.info.pixels * (size_t)pack->header.info.pixels;
    ASSERT(slice >= 0 && slice < pack->header.info.n_slices);
    return pack->map + pack->data_at + pack->header.arrays[array].offset +
           (size_t)slice * n * pack_array_element(array);
}

static Status check_slices(const Pack *pack, Err *err)
{
    size_t n = (size_t)pack->header.info.pixels * (size_t)pack->header.info.pixels;
    for (int32_t slice = 0; slice < pack->header.info.n_slices; slice++) {
        const uint8_t *mask = pack_mask(pack, slice);
        const uint16_t *mr = pack_mr(pack, slice);
        unsigned beyond = 0, outside = 0;
        for (size_t i = 0; i < n; i++) {
            beyond |= mask[i] & 0xfeu;
            outside |= mask[i] == 0 ? mr[i] : 0u;
        }
        if (beyond != 0)
            return err_set(err, ST_PACK_FORMAT, "slice %d: a mask value is neither 0 nor 1", slice);
        if (outside != 0)
            return err_set(err, ST_PACK_FORMAT, "slice %d: MR outside the mask is not 0", slice);
    }
    return ST_OK;
}

static Status open_file(const char *path, Pack *pack, Err *err)
{
    TRY(map_file(path, pack, err));
    TRY(read_header(pack, err));
    TRY(check_slices(pack, err));
    uint8_t hash[DIGEST_SIZE];
    Digest *digest = digest_new();
    digest_add(digest, pack->map, pack->map_bytes);
    digest_end(digest, hash);
    (void)digest_hex(hash, pack->header.info.digest);
    return ST_OK;
}

Status pack_open(const char *path, Pack **ret, Err *err)
{
    Err own = {0};
    if (err == NULL)
        err = &own;
    Pack *pack = calloc(1, sizeof *pack);
    if (pack == NULL)
        return err_set(err, ST_NO_MEMORY, "opening packed file %s", path);
    Status status = open_file(path, pack, err);
    if (status != ST_OK) {
        pack_close(pack);
        return err_wrap(err, "packed file %s", path);
    }
    *ret = pack;
    return ST_OK;
}

void pack_close(Pack *pack)
{
    if (pack == NULL)
        return;
    if (pack->map != NULL)
        (void)munmap((void *)(uintptr_t)pack->map, pack->map_bytes);
    pack_header_free(&pack->header);
    free(pack);
}

const PackInfo *pack_info(const Pack *pack)
{
    return &pack->header.info;
}

const int16_t *pack_hu(const Pack *pack, int32_t slice)
{
    return (const int16_t *)(const void *)slice_at(pack, 0, slice);
}

const uint8_t *pack_mask(const Pack *pack, int32_t slice)
{
    return slice_at(pack, 1, slice);
}

const uint16_t *pack_mr(const Pack *pack, int32_t slice)
{
    return (const uint16_t *)(const void *)slice_at(pack, 2, slice);
}

void pack_ct_digest(const Pack *pack, int32_t case_index, char ret[PACK_ID_SIZE])
{
    const PackInfo *info = pack_info(pack);
    const PackCase *c = &info->cases[case_index];
    size_t slice_bytes = (size_t)info->pixels * (size_t)info->pixels * sizeof(int16_t);
    char hex[DIGEST_HEX_SIZE];
    digest_memory(pack_hu(pack, c->first_slice), (size_t)c->n_slices * slice_bytes, hex);
    memcpy(ret, hex, PACK_ID_SIZE - 1);
    ret[PACK_ID_SIZE - 1] = '\0';
}
