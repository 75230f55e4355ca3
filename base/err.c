/* Filling Err. See err.h. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((format(printf, 3, 0))) static void fill(Err *err, Status status, const char *format,
                                                       va_list args)
{
    err->status = status;
    err->native = 0;
    (void)vsnprintf(err->msg, sizeof err->msg, format, args);
}

Status err_set(Err *err, Status status, const char *format, ...)
{
    if (err != NULL) {
        va_list args;
        va_start(args, format);
        fill(err, status, format, args);
        va_end(args);
    }
    return status;
}

static Status status_of_errno(int errnum)
{
    switch (errnum) {
    case ENOSPC:
    case EDQUOT:
        return ST_DISK_FULL;
    case ENOMEM:
        return ST_NO_MEMORY;
    case ENOENT:
        return ST_NOT_FOUND;
    default:
        return ST_IO;
    }
}

Status err_sys(Err *err, int errnum, const char *format, ...)
{
    Status status = status_of_errno(errnum);
    if (err != NULL) {
        va_list args;
        va_start(args, format);
        fill(err, status, format, args);
        va_end(args);
        err->native = errnum;
        char text[96];
        size_t used = strlen(err->msg);
        (void)snprintf(err->msg + used, sizeof err->msg - used, ": %s",
                       strerror_r(errnum, text, sizeof text));
    }
    return status;
}

Status err_wrap(Err *err, const char *format, ...)
{
    if (err == NULL)
        return ST_INTERNAL;
    char old[ERR_MSG_SIZE];
    memcpy(old, err->msg, sizeof old);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(err->msg, sizeof err->msg, format, args);
    va_end(args);
    size_t used = strlen(err->msg);
    (void)snprintf(err->msg + used, sizeof err->msg - used, ": %s", old);
    return err->status;
}

void err_replace(Err *err, const char *text, const char *word)
{
    char msg[ERR_MSG_SIZE] = "";
    size_t used = 0;
    const size_t length = strlen(text);
    if (err == NULL || length == 0)
        return;
    const char *p = err->msg, *end = p + strlen(p);
    const bool is_cut = (size_t)(end - p) == sizeof err->msg - 1;
    while (p < end && used + 1 < sizeof msg) {
        const size_t left = (size_t)(end - p), n = is_cut && left < length ? left : length;
        const bool found = strncmp(p, text, n) == 0;
        (void)snprintf(msg + used, sizeof msg - used, found ? "%s" : "%.1s", found ? word : p);
        used += strlen(msg + used);
        p += found ? n : 1;
    }
    memcpy(err->msg, msg, sizeof msg);
}

void assert_failed(const char *what, const char *file, int line)
{
    (void)fprintf(stderr, "ct2mr: assertion failed: %s (%s:%d)\n", what, file, line);
    abort();
}
