/* What the writer of model files (tests/model_file.c) calls when it cannot go on: in a bench there
** is no runner to tell. */
#include "tests/test.h"

#include <stdarg.h>

void test_fail(const char *file, int line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)fprintf(stderr, "%s:%d: ", file, line);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
    exit(1);
}
