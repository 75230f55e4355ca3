/* See spool_file.h. */
#include "dicom/spool_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum {
    /* O_DIRECT wants file offset, size and memory aligned to the device's blocks: 4096 is a
    ** multiple of all that are met. */
    BLOCK_BYTES = 4096,
    /* A large image is written in pieces of this size as it arrives; others in one go. */
    WRITE_BYTES = 1 << 21,
    /* One huge page holds a usual image: one page fault instead of 128, and one segment in the
    ** device's request instead of 128 (1000 -> 1800 images/s with 16 writers). */
    HUGE_PAGE_BYTES = 1 << 21,
    KEEP_BUFFER_BYTES = 4 << 20, /* a buffer that grew larger is given back after the image */
};

static size_t round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

Status spool_buffer_open(size_t max_bytes, SpoolBuffer *ret, Err *err)
{
    max_bytes = round_up(max_bytes, BLOCK_BYTES); /* room for the last block's padding */
    size_t map_bytes = max_bytes + 2 * (size_t)HUGE_PAGE_BYTES; /* whole huge pages within */
    unsigned char *map = mmap(NULL, map_bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return err_sys(err, errno, "mapping a buffer of %zu bytes", max_bytes);
    size_t skip = round_up((uintptr_t)map, HUGE_PAGE_BYTES) - (uintptr_t)map;
    /* Best effort: a kernel without huge pages takes small ones. */
    (void)madvise(map + skip, round_up(max_bytes, HUGE_PAGE_BYTES), MADV_HUGEPAGE);
    *ret = (SpoolBuffer){
        .data = map + skip, .max_bytes = max_bytes, .map = map, .map_bytes = map_bytes};
    return ST_OK;
}

void spool_buffer_close(SpoolBuffer *buffer)
{
    if (buffer->map != NULL)
        (void)munmap(buffer->map, buffer->map_bytes);
    buffer->data = NULL;
    buffer->map = NULL;
}

void spool_file_begin(SpoolFile *file, int tmp_dir_fd, int incoming_dir_fd, const char *part,
                      SpoolBuffer *buffer)
{
    static const int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
    memset(file, 0, sizeof *file);
    file->tmp_dir_fd = tmp_dir_fd;
    file->incoming_dir_fd = incoming_dir_fd;
    file->buffer = buffer;
    (void)snprintf(file->part, sizeof file->part, "%s", part);
    file->is_direct = true;
    file->fd = openat(tmp_dir_fd, part, flags | O_EXCL | O_DIRECT, 0640);
    if (file->fd < 0 && errno == EINVAL) { /* no O_DIRECT there; the file may have been created */
        file->is_direct = false;
        file->fd = openat(tmp_dir_fd, part, flags | O_TRUNC, 0640);
    }
    if (file->fd < 0) {
        file->error = errno;
        file->part[0] = '\0';
    }
}

/* For a file system that takes O_DIRECT when opening and refuses the write. False: no help. */
static bool reopen_buffered(SpoolFile *file)
{
    if (!file->is_direct)
        return false;
    file->is_direct = false;
    int fd = openat(file->tmp_dir_fd, file->part, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    (void)close(file->fd);
    file->fd = fd;
    return lseek(fd, (off_t)file->written_bytes, SEEK_SET) >= 0;
}

/* Writes the gathered bytes up to end; remembers the first error. */
static void write_up_to(SpoolFile *file, size_t end)
{
    while (file->error == 0 && file->written_bytes < end) {
        ssize_t n =
            write(file->fd, file->buffer->data + file->written_bytes, end - file->written_bytes);
        if (n > 0 && file->is_direct && n % BLOCK_BYTES != 0)
            file->error = ENOSPC; /* a part of a block: what is left cannot be written like this */
        else if (n > 0)
            file->written_bytes += (size_t)n;
        else if (n == 0)
            file->error = EIO;
        else if (errno != EINTR && !(errno == EINVAL && reopen_buffered(file)))
            file->error = errno;
    }
}

void spool_file_write(SpoolFile *file, const void *data, size_t size_bytes)
{
    if (size_bytes > file->buffer->max_bytes - file->size_bytes)
        file->too_large = true;
    if (file->too_large || file->error != 0 || size_bytes == 0)
        return;
    memcpy(file->buffer->data + file->size_bytes, data, size_bytes);
    file->size_bytes += size_bytes;
    if (file->size_bytes > file->buffer->used_bytes)
        file->buffer->used_bytes = file->size_bytes;
    if (file->size_bytes - file->written_bytes >= WRITE_BYTES)
        write_up_to(file, file->size_bytes / BLOCK_BYTES * BLOCK_BYTES);
}

Status spool_file_check(const SpoolFile *file, Err *err)
{
    if (file->too_large)
        return err_set(err, ST_LIMIT, "image is larger than listen.max_object_mib");
    return file->error == 0 ? ST_OK : err_sys(err, file->error, "writing an image");
}

/* The last block is padded with zeros for the device, then the file is cut to its size. */
static Status write_rest(SpoolFile *file, Err *err)
{
    size_t end = file->size_bytes;
    if (file->is_direct) {
        end = round_up(end, BLOCK_BYTES);
        memset(file->buffer->data + file->size_bytes, 0, end - file->size_bytes);
    }
    write_up_to(file, end);
    if (file->error == 0 && end != file->size_bytes &&
        ftruncate(file->fd, (off_t)file->size_bytes) != 0)
        file->error = errno;
    return spool_file_check(file, err);
}

static bool is_ext4(int fd)
{
    struct statfs fs;
    return fstatfs(fd, &fs) == 0 && fs.f_type == EXT4_SUPER_MAGIC;
}

/* The data is on the device; on ext4 perhaps still in its cache, which the commit flushes. After
** direct writes there is nothing to wait for, unless ext4 turned them into buffered ones
** (data=journal): so it is asked for in any case. */
static Status settle_data(const SpoolFile *file, bool folded, Err *err)
{
    int rc = folded ? sync_file_range(file->fd, 0, 0,
                                      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                          SYNC_FILE_RANGE_WAIT_AFTER)
                    : fdatasync(file->fd);
    return rc == 0 ? ST_OK : err_sys(err, errno, "writing an image to the device");
}

Status spool_file_publish(SpoolFile *file, const char *name, Err *err)
{
    bool folded = is_ext4(file->fd);
    TRY(write_rest(file, err));
    TRY(settle_data(file, folded, err));
    if (renameat(file->tmp_dir_fd, file->part, file->incoming_dir_fd, name) != 0)
        return err_sys(err, errno, "naming an image");
    file->part[0] = '\0';
    if (fsync(folded ? file->fd : file->incoming_dir_fd) != 0) {
        Status status = err_sys(err, errno, "fsync of an image's name");
        (void)unlinkat(file->incoming_dir_fd, name, 0);
        return status;
    }
    return ST_OK;
}

void spool_file_end(SpoolFile *file)
{
    if (file->fd >= 0)
        (void)close(file->fd);
    file->fd = -1;
    if (file->part[0] != '\0')
        (void)unlinkat(file->tmp_dir_fd, file->part, 0);
    file->part[0] = '\0';
    SpoolBuffer *buffer = file->buffer;
    if (buffer != NULL && buffer->used_bytes > KEEP_BUFFER_BYTES) {
        (void)madvise(buffer->data, buffer->used_bytes, MADV_DONTNEED);
        buffer->used_bytes = 0;
    }
}
