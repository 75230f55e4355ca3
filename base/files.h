/* Files that survive a power cut, and small helpers around paths.
**
** Thread: all functions may be called from any thread. */
#ifndef CT2MR_BASE_FILES_H
#define CT2MR_BASE_FILES_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { PATH_SIZE = 4096 };

/* printf into a PATH_SIZE buffer; ST_LIMIT if it does not fit. */
__attribute__((format(printf, 3, 4))) MUST_CHECK Status path_format(char ret[PATH_SIZE], Err *err,
                                                                    const char *format, ...);
/* mkdir -p with mode 0750. */
MUST_CHECK Status dir_make(const char *path, Err *err);
/* fsync of a folder, so that names made or removed in it are durable. */
MUST_CHECK Status dir_sync(const char *path, Err *err);
/* Removes a folder and everything below it; a missing folder is fine. Does not follow links. */
Status dir_remove(const char *path, Err *err);
/* Makes an empty file beside path under a name that nobody has, PATH.PROCESS-NUMBER.part. It is the
** caller's, to be written, renamed or removed. */
MUST_CHECK Status file_beside(const char *path, char ret[PATH_SIZE], Err *err);
/* IO if something is at path that a new file must not replace: a folder, a device, a FIFO. */
MUST_CHECK Status file_check_target(const char *path, Err *err);
/* A file that is written in parts: under a name of its own beside PATH (it ends in .tmp) until
** commit, which is fdatasync, rename, fsync of the folder. After commit the file is whole and
** durable, after a crash it is the old one or the new one. Of several writers of one PATH the last
** to commit wins. It begins only where file_check_target() allows. Thread: one. */
typedef struct FileWriter {
    int fd;      /* -1 once ended */
    bool is_new; /* set between begin and commit: IO if something is at PATH by then */
    char path[PATH_SIZE], tmp[PATH_SIZE];
} FileWriter;
MUST_CHECK Status file_begin(const char *path, FileWriter *ret, Err *err);
/* The same, but for those who may read what the umask lets them, not owner and group alone. */
MUST_CHECK Status file_begin_readable(const char *path, FileWriter *ret, Err *err);
MUST_CHECK Status file_add(FileWriter *writer, const void *data, size_t size_bytes, Err *err);
/* The file will have the permissions, and where they may be given, owner and group of the one that
** it replaces, if there is one. Before file_commit(). */
void file_keep_owner(const FileWriter *writer);
/* After a failure nothing is left of the temporary file. */
MUST_CHECK Status file_commit(FileWriter *writer, Err *err);
/* Gives up what has not been committed; fine after commit. */
void file_abandon(FileWriter *writer);
/* From now on SIGINT, SIGTERM and SIGHUP remove the temporary files of this process, as far as they
** are still there, before they end it. For commands; the daemon cleans its spool when it starts. */
void files_remove_at_signals(void);
/* The three for a file that is in memory whole. */
MUST_CHECK Status file_write_durable(const char *path, const void *data, size_t size_bytes,
                                     Err *err);
/* Reads a whole file of at most max_bytes into malloc'ed memory, with a 0 byte behind it (not
** counted). The caller frees. */
MUST_CHECK Status file_read(const char *path, size_t max_bytes, char **ret_data,
                            size_t *ret_size_bytes, Err *err);
/* Free bytes for an unprivileged user on the file system of path. */
MUST_CHECK Status disk_free(const char *path, uint64_t *ret_bytes, Err *err);

#ifdef __cplusplus
}
#endif
#endif
