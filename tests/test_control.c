/* Control socket: claim: a good client gets its answer whatever others do. Method: the server runs
** on a libuv loop in a forked child, with a handler of known answers; the tests are its clients,
** good ones through control_request() and hostile ones by hand. The limits tried are those of
** control.c: 64 KiB per line, 16 clients, 5 s. */
#include "tests/test.h"

#include "base/clock.h"
#include "daemon/control.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char path[100];

static Status handle(void *context, const char *verb, int64_t job_id, cJSON *reply, Err *err)
{
    Control **control = context;
    if (strcmp(verb, "status") == 0) {
        (void)cJSON_AddNumberToObject(reply, "job", (double)job_id);
        return ST_OK;
    }
    if (strcmp(verb, "big") == 0) { /* about 300 KiB: more than a socket buffer holds */
        cJSON *list = cJSON_AddArrayToObject(reply, "list");
        for (int i = 0; i < 60000; i++)
            (void)cJSON_AddItemToArray(list, cJSON_CreateNumber(1000 + i % 1000));
        return ST_OK;
    }
    if (strcmp(verb, "slow") == 0) {
        (void)usleep(800 * 1000);
        return ST_OK;
    }
    if (strcmp(verb, "silent_failure") == 0)
        return ST_DB;
    if (strcmp(verb, "stop") == 0) {
        control_stop(*control);
        return ST_OK;
    }
    return err_set(err, ST_STATE, "job %lld is DONE", (long long)job_id);
}

/* Returns when the server listens. */
static pid_t serve(void)
{
    int ready[2];
    (void)snprintf(path, sizeof path, "%s/s", test_dir());
    CHECK(pipe(ready) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        uv_loop_t loop;
        Control *control = NULL;
        Err err = {0};
        bool ok = uv_loop_init(&loop) == 0 &&
                  control_start(&loop, path, handle, &control, &control, &err) == ST_OK;
        (void)!write(ready[1], ok ? "y" : "n", 1);
        /* The loop ends by itself once every handle is closed: after "stop". */
        _exit(ok && uv_run(&loop, UV_RUN_DEFAULT) == 0 && uv_loop_close(&loop) == 0 ? 0 : 1);
    }
    char answer = 'n';
    CHECK(read(ready[0], &answer, 1) == 1 && answer == 'y');
    (void)close(ready[0]);
    (void)close(ready[1]);
    return pid;
}

static int dial(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

static void say(int fd, const char *text, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, text, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* the server may already have hung up; its answer is what counts */
        text += sent;
        n -= (size_t)sent;
    }
}

/* What comes until the end of file or 7 s; static. */
static const char *hear(int fd)
{
    static char text[4096];
    size_t n = 0;
    struct pollfd p = {fd, POLLIN, 0};
    while (n < sizeof text - 1 && poll(&p, 1, 7000) > 0) {
        ssize_t got = recv(fd, text + n, sizeof text - 1 - n, 0);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    text[n] = '\0';
    return text;
}

static void works(int64_t job_id)
{
    cJSON *reply = NULL;
    Err err = {0};
    CHECK_OK(control_request(path, "status", job_id, 20000, &reply, &err), &err);
    CHECK(cJSON_IsTrue(cJSON_GetObjectItem(reply, "ok")));
    CHECK_INT(cJSON_GetObjectItem(reply, "job")->valuedouble, job_id);
    cJSON_Delete(reply);
}

TEST(control_answers, "replies, job numbers of 15 digits, a reply larger than the socket's buffer")
{
    (void)serve();
    works(0);
    works(42);
    works(999999999999999);
    cJSON *reply = NULL;
    Err err = {0};
    CHECK_OK(control_request(path, "big", 1, 5000, &reply, &err), &err);
    CHECK_INT(cJSON_GetArraySize(cJSON_GetObjectItem(reply, "list")), 60000);
    cJSON_Delete(reply);
    struct stat st;
    CHECK(stat(path, &st) == 0 && (st.st_mode & 07777) == 0660);
}

TEST(control_errors_come_back, "a handler's status and message reach the client unchanged")
{
    (void)serve();
    cJSON *reply = (cJSON *)&reply;
    Err err = {0};
    CHECK_STATUS(control_request(path, "retry", 7, 5000, &reply, &err), ST_STATE);
    CHECK_STR(err.msg, "job 7 is DONE");
    CHECK_INT(err.status, ST_STATE);
    CHECK(reply == (cJSON *)&reply); /* untouched */
    err = (Err){0};
    CHECK_STATUS(control_request(path, "silent_failure", 7, 5000, &reply, &err), ST_DB);
    CHECK_STR(err.msg, status_text(ST_DB));
    CHECK_STATUS(control_request(path, "silent_failure", 7, 5000, &reply, NULL), ST_DB);
}

TEST(control_several_on_one_connection, "requests in one packet are answered in order")
{
    (void)serve();
    int fd = dial();
    char text[4096] = "";
    for (int i = 1; i <= 20; i++)
        (void)snprintf(text + strlen(text), 64, "{\"job\":%d,\"verb\":\"status\"}\r\n", i);
    say(fd, text, strlen(text));
    CHECK(shutdown(fd, SHUT_WR) == 0);
    const char *at = hear(fd);
    for (int i = 1; i <= 20; i++) {
        char want[64];
        (void)snprintf(want, sizeof want, "{\"ok\":true,\"job\":%d}\n", i);
        if (strncmp(at, want, strlen(want)) != 0)
            test_fail(__FILE__, __LINE__, "reply %d is not %s", i, want);
        at += strlen(want);
    }
    CHECK_STR(at, "");
    (void)close(fd);
}

static void garbage(const char *text, size_t n, const char *code)
{
    char want[64];
    int fd = dial();
    say(fd, text, n);
    (void)shutdown(fd, SHUT_WR);
    (void)snprintf(want, sizeof want, "{\"ok\":false,\"code\":\"%s\"", code);
    const char *got = hear(fd);
    if (strncmp(got, want, strlen(want)) != 0)
        test_fail(__FILE__, __LINE__, "<<%.60s>> (%zu bytes): \"%.200s\"", text, n, got);
    (void)close(fd);
}
#define GARBAGE(text) garbage(text, sizeof(text) - 1, "USAGE")

TEST(control_refuses_garbage, "what is not a request is answered USAGE, and the server lives on")
{
    (void)serve();
    GARBAGE("\n");
    GARBAGE("hello\n");
    GARBAGE("{\"verb\":\"status\"\n");
    GARBAGE("{\"verb\":\"status\"} x\n");
    GARBAGE("[]\n");
    GARBAGE("\"status\"\n");
    GARBAGE("{}\n");
    GARBAGE("{\"verb\":5}\n");
    GARBAGE("{\"verb\":\"\"}\n");
    GARBAGE("{\"verb\":\"a/../b\"}\n");
    GARBAGE("{\"verb\":\"averyveryveryveryverylongverbindeed\"}\n");
    GARBAGE("{\"verb\":\"status\",\"job\":\"5\"}\n");
    GARBAGE("{\"verb\":\"status\",\"job\":-1}\n");
    GARBAGE("{\"verb\":\"status\",\"job\":1.5}\n");
    GARBAGE("{\"verb\":\"status\",\"job\":1e300}\n");
    GARBAGE("{\"verb\":\"status\"}\0\n");
    GARBAGE("GET / HTTP/1.0\r\n\r\n");
    char deep[5000];
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\n';
    garbage(deep, sizeof deep, "USAGE");
    works(1);
}

TEST(control_refuses_long_lines, "65535 bytes and a newline are read; one more is LIMIT")
{
    (void)serve();
    size_t n = 1 << 20;
    char *text = malloc(n);
    CHECK(text != NULL);
    memset(text, ' ', n);
    static const char request[] = "{\"verb\":\"status\"}";
    memcpy(text, request, sizeof request - 1);
    text[65535] = '\n';
    int fd = dial();
    say(fd, text, 65536);
    CHECK(shutdown(fd, SHUT_WR) == 0);
    CHECK_STR(hear(fd), "{\"ok\":true,\"job\":0}\n");
    (void)close(fd);
    text[65535] = ' ';
    garbage(text, 65536, "LIMIT");
    garbage(text, n, "LIMIT");
    works(1);
    free(text);
}

TEST(control_ends_silent_clients, "silence, half a line, drips and unread replies end after 5 s")
{
    (void)serve();
    int silent = dial(), half = dial(), drip = dial(), deaf = dial();
    say(half, "{\"verb\":", 8);
    say(deaf, "{\"verb\":\"big\"}\n", 15);
    double start_s = clock_monotonic_s();
    while (clock_monotonic_s() - start_s < 4.2) {
        say(drip, " ", 1);
        works(3); /* nobody waits for them */
        (void)usleep(200 * 1000);
    }
    char byte;
    CHECK(recv(silent, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN); /* not before */
    CHECK_STR(hear(silent), "");
    CHECK_STR(hear(half), "");
    CHECK_STR(hear(drip), "");
    double seconds = clock_monotonic_s() - start_s;
    CHECK(seconds > 4.5 && seconds < 6.5);
    char *all = malloc(1 << 20);
    CHECK(all != NULL);
    size_t n = 0;
    for (ssize_t got; (got = recv(deaf, all + n, (1 << 20) - n, 0)) > 0;)
        n += (size_t)got;
    CHECK(n > 0 && all[n - 1] != '\n'); /* cut off in the middle of its reply */
    free(all);
    works(4);
}

TEST_TIMEOUT(control_fifty_clients, "50 at once are all answered although 16 slots are full", 60)
{
    (void)serve();
    enum { N = 50, SILENT = 16 };
    int silent[SILENT];
    for (int i = 0; i < SILENT; i++)
        silent[i] = dial();
    pid_t pids[N];
    for (int i = 0; i < N; i++) {
        CHECK((pids[i] = fork()) >= 0);
        if (pids[i] == 0) {
            works(100 + i);
            _exit(0);
        }
    }
    for (int i = 0; i < N; i++) {
        int status;
        CHECK(waitpid(pids[i], &status, 0) == pids[i] && status == 0);
    }
    for (int i = 0; i < SILENT; i++)
        (void)close(silent[i]);
    works(1);
}

TEST(control_vanishing_clients, "clients that hang up at any moment do not end the server")
{
    pid_t server = serve();
    for (int i = 0; i < 300; i++) {
        int fd = dial();
        if (i % 3 == 1)
            say(fd, "{\"verb\":\"big\"}\n", 15);
        if (i % 3 == 2)
            say(fd, "{\"verb\"", 7);
        (void)close(fd);
    }
    works(1);
    CHECK(kill(server, 0) == 0);
}

TEST(control_times_out, "a slow daemon is TIMEOUT, none is UNREACHABLE, both within the time given")
{
    pid_t server = serve();
    cJSON *reply = NULL;
    Err err = {0};
    double start_s = clock_monotonic_s();
    CHECK_STATUS(control_request(path, "slow", 0, 200, &reply, &err), ST_TIMEOUT);
    CHECK(clock_monotonic_s() - start_s < 0.7);
    CHECK(kill(server, SIGKILL) == 0 && waitpid(server, NULL, 0) == server);
    err = (Err){0};
    CHECK_STATUS(control_request(path, "status", 0, 200, &reply, &err), ST_UNREACHABLE);
    CHECK_STATUS(control_request("/nonexistent/s", "status", 0, 200, &reply, NULL), ST_UNREACHABLE);
    char longer[200];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    CHECK_STATUS(control_request(longer, "status", 0, 200, &reply, NULL), ST_IO);
}

/* Listens and never answers: a daemon that hangs. */
TEST(control_times_out_on_a_full_queue, "a hung daemon's full queue is TIMEOUT as well")
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(path, sizeof path, "%s/s", test_dir());
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 0) == 0);
    (void)dial();
    cJSON *reply = NULL;
    Err err = {0};
    for (int i = 0; i < 3; i++) {
        double start_s = clock_monotonic_s();
        err = (Err){0};
        CHECK_STATUS(control_request(path, "status", 0, 200, &reply, &err), ST_TIMEOUT);
        CHECK(clock_monotonic_s() - start_s < 0.5);
    }
}

TEST(control_replaces_stale_sockets, "a dead daemon's file is replaced; a live one's is refused")
{
    pid_t first = serve();
    uv_loop_t loop;
    Control *control = NULL;
    Err err = {0};
    CHECK(uv_loop_init(&loop) == 0);
    CHECK_STATUS(control_start(&loop, path, handle, &control, &control, &err), ST_DAEMON_RUNS);
    CHECK(control == NULL);
    works(1); /* the live one was not harmed */
    CHECK(kill(first, SIGKILL) == 0 && waitpid(first, NULL, 0) == first);
    CHECK(access(path, F_OK) == 0);
    (void)serve();
    works(2);
    char file[110];
    (void)snprintf(file, sizeof file, "%s/file", test_dir());
    FILE *f = fopen(file, "w");
    CHECK(f != NULL && fclose(f) == 0);
    err = (Err){0};
    CHECK_STATUS(control_start(&loop, file, handle, &control, &control, &err), ST_IO);
    CHECK(access(file, F_OK) == 0);
    err = (Err){0};
    CHECK_STATUS(control_start(&loop, "/nonexistent/s", handle, &control, &control, &err),
                 ST_NOT_FOUND);
    CHECK(uv_loop_close(&loop) == 0);
}

TEST(control_stops_cleanly, "stop from inside a handler: every handle closes, the file is gone")
{
    pid_t server = serve();
    int idle = dial();
    cJSON *reply = NULL;
    int status;
    CHECK_STATUS(control_request(path, "stop", 0, 5000, &reply, NULL), ST_UNREACHABLE);
    CHECK(waitpid(server, &status, 0) == server && status == 0);
    CHECK(access(path, F_OK) != 0);
    (void)close(idle);
    control_stop(NULL);
}

TEST(control_stop_leaves_a_successors_file, "only the own socket file is removed")
{
    pid_t first = serve();
    int to_first = dial();
    CHECK(unlink(path) == 0);
    (void)serve();
    say(to_first, "{\"verb\":\"stop\"}\n", 16);
    int status;
    CHECK(waitpid(first, &status, 0) == first && status == 0);
    works(1);
}
