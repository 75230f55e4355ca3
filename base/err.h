/* Error details on the caller's stack: a status, where the native code came from, one message.
**
** Every fallible function returns Status and takes `Err *err` last (NULL is allowed). On failure
** it fills err once; going up, err_wrap() adds context in front. Outputs are written on success
** only. Messages name codes, numbers, positions and paths of ours; never patient data, never bytes
** of a peer.
**
** Thread: an Err belongs to one caller. */
#ifndef CT2MR_BASE_ERR_H
#define CT2MR_BASE_ERR_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ERR_MSG_SIZE = 384 };

typedef struct Err {
    Status status; /* ST_OK while unset */
    int native;    /* errno or the library's own number; 0 if none */
    char msg[ERR_MSG_SIZE];
} Err;

/* Sets err and returns status, so that `return err_set(err, ST_X, "...")` is the usual form. */
__attribute__((format(printf, 3, 4))) Status err_set(Err *err, Status status, const char *format,
                                                     ...);
/* The same from errno: status is ST_DISK_FULL for ENOSPC and EDQUOT, ST_NO_MEMORY for ENOMEM,
** ST_NOT_FOUND for ENOENT, else ST_IO. The text of errno is appended. */
__attribute__((format(printf, 3, 4))) Status err_sys(Err *err, int errnum, const char *format, ...);
/* Puts "context: " in front of the message; returns err's status (ST_INTERNAL when err is NULL). */
__attribute__((format(printf, 2, 3))) Status err_wrap(Err *err, const char *format, ...);
/* Puts `word` in place of every `text` in the message, of one that its end has cut, too: for names
** that must not be told. err may be NULL. */
void err_replace(Err *err, const char *text, const char *word);

/* Only where nothing needs cleaning up. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        Status try_status_ = (call);                                                               \
        if (try_status_ != ST_OK)                                                                  \
            return try_status_;                                                                    \
    } while (0)

#define MUST_CHECK __attribute__((warn_unused_result))

/* An invariant of ours. Stays on in release builds: a broken invariant ends the process, systemd
** restarts it, the job resumes from the database. */
#define ASSERT(cond)                                                                               \
    do {                                                                                           \
        if (!(cond))                                                                               \
            assert_failed(#cond, __FILE__, __LINE__);                                              \
    } while (0)
__attribute__((noreturn)) void assert_failed(const char *what, const char *file, int line);

#ifdef __cplusplus
}
#endif
#endif
