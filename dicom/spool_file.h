/* One image on its way to spool/incoming: gathered in memory, scanned there, written below
** spool/tmp, then published: durable under its final name.
**
** Written past the page cache (O_DIRECT), from one buffer per process that is used again for each
** image and lies in huge pages: each byte is written once and soon read once, by a job, so a cache
** of it gains little, while filling one is dear on a virtual machine whose host must first supply
** its memory. Measured on such a machine with 16 writers: 1800 images/s and 0.3 ms of processor
** time per image, against 700 and 1.4 ms through the page cache. Where the file system refuses
** O_DIRECT the same calls go through the cache.
**
** Order, and why it holds at any crash. On ext4 (data=ordered): the data reaches the device, then
** the name is changed, then one fsync commits the name and all that belongs to the file, with a
** flush of the device's cache before the commit record: the name is durable only together with
** whole data, for one journal commit instead of two. Elsewhere: fdatasync, rename, fsync of the
** folder. Only after that the image is reported and acknowledged. A file that was not acknowledged
** may be found in incoming after a crash: then it is whole, or prescan_file() refuses it.
**
** Thread: one per file. Names are ours. */
#ifndef CT2MR_DICOM_SPOOL_FILE_H
#define CT2MR_DICOM_SPOOL_FILE_H

#include "base/err.h"
#include "base/instance.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Where images are gathered: address space of max_bytes, memory only where bytes are. */
typedef struct SpoolBuffer {
    unsigned char *data;
    size_t max_bytes, used_bytes; /* used: by the largest image since it was last given back */
    void *map;                    /* data begins at the first huge page within */
    size_t map_bytes;
} SpoolBuffer;

MUST_CHECK Status spool_buffer_open(size_t max_bytes, SpoolBuffer *ret, Err *err);
void spool_buffer_close(SpoolBuffer *buffer);

typedef struct SpoolFile {
    int fd, tmp_dir_fd, incoming_dir_fd; /* the folders are borrowed */
    char part[FILE_NAME_SIZE];           /* name in tmp */
    SpoolBuffer *buffer;                 /* borrowed */
    size_t size_bytes, written_bytes;
    bool is_direct; /* fd writes past the page cache */
    int error;      /* errno of the first failed call, 0 if none */
    bool too_large; /* more came than the buffer holds; the rest was dropped */
} SpoolFile;

/* Creates tmp/part. Failure is remembered like a failed write: the rest may still be called. */
void spool_file_begin(SpoolFile *file, int tmp_dir_fd, int incoming_dir_fd, const char *part,
                      SpoolBuffer *buffer);
/* Appends; after a failure or when it is too large it only counts. */
void spool_file_write(SpoolFile *file, const void *data, size_t size_bytes);
/* After the last byte: ST_OK if the whole image is in buffer->data[0..size_bytes). Errors: of the
** writes so far (DISK_FULL, IO), LIMIT (too large). */
MUST_CHECK Status spool_file_check(const SpoolFile *file, Err *err);
/* Writes the rest and makes the file durable as incoming/name. Errors: DISK_FULL, IO; nothing is
** left in incoming then (after a failed fsync of the name it is removed again). */
MUST_CHECK Status spool_file_publish(SpoolFile *file, const char *name, Err *err);
/* Closes, and removes the part file if it was not published. Any number of times. */
void spool_file_end(SpoolFile *file);

#ifdef __cplusplus
}
#endif
#endif
