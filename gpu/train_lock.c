/* One training per checkpoint: a lock on a file beside it, which goes with the process however it
** ends. See training_int.h. */
#include "gpu/training_int.h"

#include "base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Another training may have removed the file between our open() and our lock. */
static bool is_named(int fd, const char *path)
{
    struct stat here, there;
    return fstat(fd, &here) == 0 && stat(path, &there) == 0 && here.st_dev == there.st_dev &&
           here.st_ino == there.st_ino;
}

Status training_lock(const TrainConfig *config, int *ret, Err *err)
{
    char path[PATH_SIZE];
    TRY(path_format(path, err, "%s.lock", config->checkpoint));
    for (;;) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
        if (fd < 0)
            return err_sys(err, errno, "creating %s", path);
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            int saved = errno;
            (void)close(fd);
            return saved == EWOULDBLOCK ? err_set(err, ST_TRAIN_RUNS, "it holds %s", path)
                                        : err_sys(err, saved, "locking %s", path);
        }
        if (is_named(fd, path)) {
            *ret = fd;
            return ST_OK;
        }
        (void)close(fd);
    }
}

void training_unlock(const TrainConfig *config, int fd)
{
    char path[PATH_SIZE];
    if (path_format(path, NULL, "%s.lock", config->checkpoint) == ST_OK)
        (void)unlink(path); /* while it is ours */
    (void)close(fd);
}
