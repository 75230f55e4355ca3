/* sd_notify: the datagrams a service manager gets. Method: a real datagram socket stands in for
** systemd's; path and abstract addresses. */
#include "tests/test.h"

#include "base/clock.h"
#include "daemon/notify.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A bound socket; $NOTIFY_SOCKET names it. */
static int manager(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t n = strlen(name);
    CHECK(n < sizeof address.sun_path);
    memcpy(address.sun_path, name, n);
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK(fd >= 0);
    CHECK(bind(fd, (struct sockaddr *)&address,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) == 0);
    CHECK(setenv("NOTIFY_SOCKET", name, 1) == 0);
    return fd;
}

static const char *received(int fd)
{
    static char text[512];
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

TEST(notify_says_what_happens, "each call is one datagram with the documented text")
{
    char path[100];
    (void)snprintf(path, sizeof path, "%s/notify", test_dir());
    int fd = manager(path);
    CHECK(notify_ready());
    CHECK_STR(received(fd), "READY=1");
    CHECK(notify_status("%d jobs, %s", 3, "fine\nREADY=1"));
    CHECK_STR(received(fd), "STATUS=3 jobs, fine READY=1");
    CHECK(notify_watchdog());
    CHECK_STR(received(fd), "WATCHDOG=1");
    CHECK(notify_stopping());
    CHECK_STR(received(fd), "STOPPING=1");
    int64_t before_ms = clock_monotonic_ms();
    CHECK(notify_reloading());
    long long usec = -1;
    CHECK(sscanf(received(fd), "RELOADING=1\nMONOTONIC_USEC=%lld", &usec) == 1);
    CHECK(usec / 1000 >= before_ms && usec / 1000 <= clock_monotonic_ms());
    CHECK_STR(received(fd), "");
    char longer[600];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    CHECK(notify_status("%s", longer));
    CHECK_INT(strlen(received(fd)), 255);
    CHECK(close(fd) == 0);
}

TEST(notify_abstract_socket, "an address that starts with @ is an abstract one")
{
    char name[64];
    (void)snprintf(name, sizeof name, "@ct2mr-test-%d", (int)getpid());
    int fd = manager(name);
    CHECK(notify_ready());
    CHECK_STR(received(fd), "READY=1");
    CHECK(close(fd) == 0);
}

TEST(notify_without_a_manager, "no variable: success and nothing; a dead or impossible one: false")
{
    CHECK(unsetenv("NOTIFY_SOCKET") == 0);
    CHECK(notify_ready() && notify_status("x"));
    char longer[200];
    memset(longer, '/', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    const char *const bad[] = {"/nonexistent/notify", "relative", "@", longer};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(setenv("NOTIFY_SOCKET", bad[i], 1) == 0);
        CHECK(!notify_ready());
    }
}

TEST(notify_does_not_block_for_ever, "a manager that never reads costs a second per call at most")
{
    char path[100];
    (void)snprintf(path, sizeof path, "%s/notify", test_dir());
    int fd = manager(path);
    double start_s = clock_monotonic_s();
    int n = 0;
    while (n < 10000 && notify_watchdog())
        n++;
    CHECK(n > 0 && n < 10000);
    CHECK(clock_monotonic_s() - start_s < 5);
    CHECK(close(fd) == 0);
}

TEST(notify_watchdog_interval, "half of $WATCHDOG_USEC, for this process only")
{
    CHECK(unsetenv("WATCHDOG_USEC") == 0 && unsetenv("WATCHDOG_PID") == 0);
    CHECK_INT(notify_watchdog_interval_ms(), 0);
    CHECK(setenv("WATCHDOG_USEC", "60000000", 1) == 0);
    CHECK_INT(notify_watchdog_interval_ms(), 30000);
    char pid[32];
    (void)snprintf(pid, sizeof pid, "%d", (int)getpid());
    CHECK(setenv("WATCHDOG_PID", pid, 1) == 0);
    CHECK_INT(notify_watchdog_interval_ms(), 30000);
    CHECK(setenv("WATCHDOG_PID", "1", 1) == 0);
    CHECK_INT(notify_watchdog_interval_ms(), 0);
    CHECK(unsetenv("WATCHDOG_PID") == 0);
    static const char *const bad[] = {"", "0", "-5", "60s", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(setenv("WATCHDOG_USEC", bad[i], 1) == 0);
        CHECK_INT(notify_watchdog_interval_ms(), 0);
    }
    CHECK(setenv("WATCHDOG_USEC", "1", 1) == 0);
    CHECK_INT(notify_watchdog_interval_ms(), 1);
}
