/* See files.h. */
#include "base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

Status path_format(char ret[PATH_SIZE], Err *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(ret, PATH_SIZE, format, args);
    va_end(args);
    if (n < 0 || n >= PATH_SIZE)
        return err_set(err, ST_LIMIT, "path is longer than %d bytes", PATH_SIZE - 1);
    return ST_OK;
}

Status dir_make(const char *path, Err *err)
{
    char part[PATH_SIZE];
    TRY(path_format(part, err, "%s", path));
    for (char *p = part + 1; *p != '\0'; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        if (mkdir(part, 0750) != 0 && errno != EEXIST)
            return err_sys(err, errno, "making folder %s", part);
        *p = '/';
    }
    struct stat st;
    if (mkdir(part, 0750) != 0 && errno != EEXIST)
        return err_sys(err, errno, "making folder %s", part);
    if (stat(part, &st) == 0 && !S_ISDIR(st.st_mode))
        return err_sys(err, ENOTDIR, "making folder %s", part);
    return ST_OK;
}

Status dir_sync(const char *path, Err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "opening folder %s", path);
    int rc = fsync(fd), saved = errno;
    (void)close(fd);
    return rc == 0 ? ST_OK : err_sys(err, saved, "fsync of folder %s", path);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

Status dir_remove(const char *path, Err *err)
{
    if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
        return err_sys(err, errno, "removing folder %s", path);
    return ST_OK;
}

/* ---- temporary files that a signal removes --------------------------------------------------- */

enum { UNFINISHED = 16 }; /* the last so many names that this process made */

static struct {
    atomic_bool is_set;
    char path[PATH_SIZE];
} unfinished[UNFINISHED];
static atomic_uint n_unfinished;

/* A name stays here after its file is gone: nobody else will have it. */
static void remember(const char *path)
{
    unsigned slot = n_unfinished++ % UNFINISHED;
    unfinished[slot].is_set = false;
    memcpy(unfinished[slot].path, path, strlen(path) + 1);
    unfinished[slot].is_set = true;
}

static void remove_unfinished(int signal_number)
{
    for (int i = 0; i < UNFINISHED; i++)
        if (unfinished[i].is_set)
            (void)unlink(unfinished[i].path);
    (void)raise(signal_number); /* its default action, once this has returned */
}

void files_remove_at_signals(void)
{
    static const int SIGNALS[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = remove_unfinished, .sa_flags = (int)SA_RESETHAND};
    struct sigaction before;
    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof SIGNALS / sizeof SIGNALS[0]; i++)
        if (sigaction(SIGNALS[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN) /* nohup */
            (void)sigaction(SIGNALS[i], &action, NULL);
}

/* ---- files ----------------------------------------------------------------------------------- */

Status file_check_target(const char *path, Err *err)
{
    struct stat st;
    if (stat(path, &st) != 0 || S_ISREG(st.st_mode))
        return ST_OK; /* what cannot be looked at says so when it is written */
    return err_set(err, ST_IO, "%s is a folder, a device or a pipe, not a file", path);
}

/* A new file, open for writing, under a name that nobody has. */
static Status create_beside(const char *path, const char *ending, mode_t mode, char ret[PATH_SIZE],
                            int *ret_fd, Err *err)
{
    static atomic_uint n;
    for (;;) { /* another process may be of this number elsewhere, or have been */
        TRY(path_format(ret, err, "%s.%d-%u.%s", path, (int)getpid(), n++, ending));
        *ret_fd = open(ret, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (*ret_fd >= 0) {
            remember(ret);
            return ST_OK;
        }
        if (errno != EEXIST)
            return err_sys(err, errno, "creating %s", ret);
    }
}

Status file_beside(const char *path, char ret[PATH_SIZE], Err *err)
{
    int fd;
    TRY(create_beside(path, "part", 0640, ret, &fd, err));
    (void)close(fd);
    return ST_OK;
}

static Status begin(const char *path, mode_t mode, FileWriter *ret, Err *err)
{
    ret->fd = -1;
    ret->is_new = false;
    TRY(path_format(ret->path, err, "%s", path));
    TRY(file_check_target(path, err));
    return create_beside(path, "tmp", mode, ret->tmp, &ret->fd, err);
}

Status file_begin(const char *path, FileWriter *ret, Err *err)
{
    return begin(path, 0640, ret, err);
}

Status file_begin_readable(const char *path, FileWriter *ret, Err *err)
{
    return begin(path, 0666, ret, err);
}

Status file_add(FileWriter *writer, const void *data, size_t size_bytes, Err *err)
{
    const char *p = data;
    while (size_bytes > 0) {
        ssize_t n = write(writer->fd, p, size_bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "writing %s", writer->tmp);
        p += n;
        size_bytes -= (size_t)n;
    }
    return ST_OK;
}

void file_abandon(FileWriter *writer)
{
    if (writer->fd < 0)
        return;
    (void)close(writer->fd);
    (void)unlink(writer->tmp);
    writer->fd = -1;
}

void file_keep_owner(const FileWriter *writer)
{
    struct stat st;
    if (stat(writer->path, &st) != 0 || !S_ISREG(st.st_mode))
        return;
    /* First the owner: it may not be ours to give, and then set-id bits would be another's. */
    if (fchown(writer->fd, st.st_uid, st.st_gid) == 0 || errno == EPERM)
        (void)fchmod(writer->fd, st.st_mode & 0777);
}

/* rename() that replaces only what it may. Some network file systems have no such rename: there
** what comes within microseconds is replaced. */
static int put_in_place(const FileWriter *writer)
{
    if (!writer->is_new)
        return rename(writer->tmp, writer->path);
    if (renameat2(AT_FDCWD, writer->tmp, AT_FDCWD, writer->path, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    if (access(writer->path, F_OK) != 0)
        return rename(writer->tmp, writer->path);
    errno = EEXIST;
    return -1;
}

Status file_commit(FileWriter *writer, Err *err)
{
    Status status = ST_OK;
    if (fdatasync(writer->fd) != 0)
        status = err_sys(err, errno, "fdatasync of %s", writer->tmp);
    if (close(writer->fd) != 0 && status == ST_OK)
        status = err_sys(err, errno, "closing %s", writer->tmp);
    writer->fd = -1;
    if (status == ST_OK && put_in_place(writer) != 0)
        status = err_sys(err, errno, "renaming to %s", writer->path);
    if (status != ST_OK) {
        (void)unlink(writer->tmp);
        return status;
    }
    char parent[PATH_SIZE];
    TRY(path_format(parent, err, "%s", writer->path));
    return dir_sync(dirname(parent), err);
}

Status file_write_durable(const char *path, const void *data, size_t size_bytes, Err *err)
{
    FileWriter writer;
    TRY(file_begin(path, &writer, err));
    Status status = file_add(&writer, data, size_bytes, err);
    if (status == ST_OK)
        status = file_commit(&writer, err);
    file_abandon(&writer);
    return status;
}

static Status read_fd(int fd, size_t size_bytes, const char *path, char *data, Err *err)
{
    for (size_t done = 0; done < size_bytes;) {
        ssize_t n = read(fd, data + done, size_bytes - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "reading %s", path);
        if (n == 0)
            return err_set(err, ST_IO, "%s became shorter while being read", path);
        done += (size_t)n;
    }
    return ST_OK;
}

Status file_read(const char *path, size_t max_bytes, char **ret_data, size_t *ret_size_bytes,
                 Err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO would wait for its writer */
    if (fd < 0)
        return err_sys(err, errno, "opening %s", path);
    struct stat st;
    Status status = ST_OK;
    char *data = NULL;
    if (fstat(fd, &st) != 0)
        status = err_sys(err, errno, "fstat of %s", path);
    else if (!S_ISREG(st.st_mode))
        status = err_set(err, ST_IO, "%s is not a file", path);
    else if ((uint64_t)st.st_size > max_bytes)
        status = err_set(err, ST_LIMIT, "%s has %lld bytes, at most %zu allowed", path,
                         (long long)st.st_size, max_bytes);
    else if ((data = malloc((size_t)st.st_size + 1)) == NULL)
        status = err_set(err, ST_NO_MEMORY, "reading %s", path);
    else
        status = read_fd(fd, (size_t)st.st_size, path, data, err);
    (void)close(fd);
    if (status != ST_OK) {
        free(data);
        return status;
    }
    /* cppcheck-suppress nullPointerRedundantCheck ; NULL only with a status */
    data[st.st_size] = '\0';
    *ret_data = data;
    *ret_size_bytes = (size_t)st.st_size;
    return ST_OK;
}

Status disk_free(const char *path, uint64_t *ret_bytes, Err *err)
{
    struct statvfs v;
    if (statvfs(path, &v) != 0)
        return err_sys(err, errno, "statvfs of %s", path);
    *ret_bytes = (uint64_t)v.f_bavail * v.f_frsize;
    return ST_OK;
}
