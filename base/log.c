/* See log.h. One write(2) per line, so that lines of several processes do not mix. */
#include "base/log.h"

#include "base/clock.h"
#include "base/digest.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static LogLevel max_level = LOG_LEVEL_INFO;

void log_set_level(LogLevel level)
{
    max_level = level;
}

void log_event(LogLevel level, const char *event, const char *format, ...)
{
    if (level > max_level)
        return;
    char line[1024];
    int n;
    if (getenv("JOURNAL_STREAM") != NULL) {
        n = snprintf(line, sizeof line, "<%d>event=%s ", (int)level, event);
    } else {
        char now[CLOCK_TEXT_SIZE];
        n = snprintf(line, sizeof line, "%s level=%d event=%s ", clock_text(clock_wall_ms(), now),
                     (int)level, event);
    }
    va_list args;
    va_start(args, format);
    int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
    va_end(args);
    size_t size = strnlen(line, sizeof line - 2);
    (void)m;
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)line[i] < 32 || line[i] == 127)
            line[i] = '?';
    line[size++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, size);
    (void)written; /* nobody left to tell */
}

const char *log_hash(const char *text, char ret[LOG_HASH_SIZE])
{
    char hex[DIGEST_HEX_SIZE];
    digest_text(text, hex);
    memcpy(ret, hex, LOG_HASH_SIZE - 1);
    ret[LOG_HASH_SIZE - 1] = '\0';
    return ret;
}
