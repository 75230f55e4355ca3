/* sd_notify(3) by hand. See notify.h; the protocol is in sd_notify(3), "Notes". */
#include "daemon/notify.h"

#include "daemon/config_options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static bool notify_send(const char *text)
{
    const char *path = getenv("NOTIFY_SOCKET");
    if (path == NULL || path[0] == '\0')
        return true;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || n < 2 || n >= sizeof address.sun_path)
        return false;
    memcpy(address.sun_path, path, n);
    if (path[0] == '@')
        address.sun_path[0] = '\0'; /* abstract: the length counts, without a closing 0 */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    struct timeval second = {1, 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &second, sizeof second);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    ssize_t sent;
    do
        sent = sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address, size);
    while (sent < 0 && errno == EINTR);
    (void)close(fd);
    return sent == (ssize_t)strlen(text);
}

bool notify_ready(void)
{
    return notify_send("READY=1");
}

bool notify_reloading(void)
{
    struct timespec now;
    char text[64];
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    (void)snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%lld",
                   (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    return notify_send(text);
}

bool notify_stopping(void)
{
    return notify_send("STOPPING=1");
}

bool notify_watchdog(void)
{
    return notify_send("WATCHDOG=1");
}

bool notify_status(const char *format, ...)
{
    char text[256] = "STATUS=";
    size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text + used, sizeof text - used, format, args);
    va_end(args);
    for (char *p = text; *p != '\0'; p++) /* a newline would start another assignment */
        if ((unsigned char)*p < 32 || *p == 127)
            *p = ' ';
    return notify_send(text);
}

int64_t notify_watchdog_interval_ms(void)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    int64_t value;
    if (usec == NULL || !config_parse_int64(usec, &value, NULL) || value <= 0)
        return 0;
    int64_t interval_ms = value / 2000 > 0 ? value / 2000 : 1;
    if (pid != NULL && (!config_parse_int64(pid, &value, NULL) || value != (int64_t)getpid()))
        return 0;
    return interval_ms;
}
