/* See clock.h. */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

int64_t clock_monotonic_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

double clock_monotonic_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double clock_thread_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int64_t clock_wall_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t clock_steady_ms(void)
{
    static int64_t offset_ms; /* 0: not yet known */
    if (offset_ms == 0)
        offset_ms = clock_wall_ms() - clock_monotonic_ms();
    return offset_ms + clock_monotonic_ms();
}

const char *clock_text(int64_t wall_ms, char ret[CLOCK_TEXT_SIZE])
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    char day[24] = "?";
    if (gmtime_r(&seconds, &tm) != NULL)
        (void)strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(ret, CLOCK_TEXT_SIZE, "%s.%03dZ", day, (int)(wall_ms % 1000));
    return ret;
}
