/* See spool_file.h. */
#include "dicom/spool_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum {
    WRITE_BYTES = 1 << 20, /* written, and given to the device, in pieces of this size */
    /* Of one write(): a larger one gets the page cache's largest folios, whose memory a virtual
    ** machine's host may have to supply first (1.0 against 0.2 ms per image measured). */
    WRITE_CALL_BYTES = 1 << 15,
    KEEP_BUFFER_BYTES = 4 << 20, /* a buffer that grew larger is given back after the image */
};

Status spool_buffer_open(size_t max_bytes, SpoolBuffer *ret, Err *err)
{
    void *data = mmap(NULL, max_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED)
        return err_sys(err, errno, "mapping a buffer of %zu bytes", max_bytes);
    *ret = (SpoolBuffer){(unsigned char *)data, max_bytes, 0};
    return ST_OK;
}

void spool_buffer_close(SpoolBuffer *buffer)
{
    if (buffer->data != NULL)
        (void)munmap(buffer->data, buffer->max_bytes);
    buffer->data = NULL;
}

void spool_file_begin(SpoolFile *file, int tmp_dir_fd, int incoming_dir_fd, const char *part,
                      SpoolBuffer *buffer)
{
    memset(file, 0, sizeof *file);
    file->tmp_dir_fd = tmp_dir_fd;
    file->incoming_dir_fd = incoming_dir_fd;
    file->buffer = buffer;
    (void)snprintf(file->part, sizeof file->part, "%s", part);
    file->fd = openat(tmp_dir_fd, part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (file->fd < 0) {
        file->error = errno;
        file->part[0] = '\0';
    }
}

static void write_gathered(SpoolFile *file)
{
    size_t start = file->written_bytes;
    while (file->error == 0 && file->written_bytes < file->size_bytes) {
        size_t left = file->size_bytes - file->written_bytes;
        ssize_t n = write(file->fd, file->buffer->data + file->written_bytes,
                          left < WRITE_CALL_BYTES ? left : WRITE_CALL_BYTES);
        if (n >= 0)
            file->written_bytes += (size_t)n;
        else if (errno != EINTR)
            file->error = errno;
    }
    /* Best effort: publishing waits for the data and reports errors. */
    if (file->error == 0)
        (void)sync_file_range(file->fd, (off_t)start, (off_t)(file->written_bytes - start),
                              SYNC_FILE_RANGE_WRITE);
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
        write_gathered(file);
}

Status spool_file_flush(SpoolFile *file, Err *err)
{
    if (file->too_large)
        return err_set(err, ST_LIMIT, "image is larger than listen.max_object_mib");
    write_gathered(file);
    return file->error == 0 ? ST_OK : err_sys(err, file->error, "writing an image");
}

static bool is_ext4(int fd)
{
    struct statfs fs;
    return fstatfs(fd, &fs) == 0 && fs.f_type == EXT4_SUPER_MAGIC;
}

/* The data is on the device; on ext4 perhaps still in its cache, which the commit flushes. */
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
