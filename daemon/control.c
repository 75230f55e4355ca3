/* The control socket. See control.h for the protocol.
**
** Server: poll handles on non-blocking sockets of our own (libuv's streams would raise SIGPIPE when
** a client has gone). A client is, at any time, either read from or written to: while a reply waits
** to be taken, nothing more is read, so a client that never reads costs one reply of memory. Each
** request, from its first wait to its answer's last byte, must be over in IDLE_MS; single bytes do
** not prolong it. When MAX_CLIENTS are there the listener rests and the kernel queues the others.
**
** A Control lives until its handles' close callbacks have run: after control_stop() the loop must
** turn once more. */
#include "daemon/control.h"

#include "base/clock.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    MAX_CLIENTS = 16,
    MAX_LINE_BYTES = 64 * 1024, /* of a request, with its newline */
    MAX_REPLY_BYTES = 1024 * 1024,
    IDLE_MS = 5000,
    ACCEPT_PAUSE_MS = 1000, /* after accept() ran out of descriptors or memory */
    BACKLOG = 64,
    CLIENT_MAGIC = 0x43544c43,
    CONTROL_MAGIC = 0x43544c53
};

typedef struct Client {
    uint32_t magic;
    Control *control;
    int fd;
    uv_poll_t poll;
    uv_timer_t timer;
    int n_handles; /* not yet closed */
    bool is_closing, close_after_reply;
    char *line; /* MAX_LINE_BYTES, [0, n_line) received */
    size_t n_line;
    char *reply; /* malloc'ed; NULL when none waits */
    size_t n_reply, n_written;
    struct Client *next;
} Client;

struct Control {
    uint32_t magic;
    uv_loop_t *loop;
    int fd;
    uv_poll_t poll;
    uv_timer_t pause;
    int n_handles;
    bool is_closing, is_listening;
    int n_clients;
    Client *clients;
    ControlHandler handler;
    void *context;
    char path[sizeof((struct sockaddr_un *)NULL)->sun_path];
    dev_t device;
    ino_t inode;
};

static void on_readable(uv_poll_t *handle, int status, int events);
static void on_writable(uv_poll_t *handle, int status, int events);
static void listen_again(Control *control);

static void control_free_when_done(Control *control)
{
    if (control->n_handles == 0 && control->n_clients == 0)
        free(control);
}

static void client_closed(uv_handle_t *handle)
{
    Client *client = handle->data;
    ASSERT(client->magic == CLIENT_MAGIC);
    if (--client->n_handles > 0)
        return;
    Control *control = client->control;
    for (Client **at = &control->clients; *at != NULL; at = &(*at)->next)
        if (*at == client) {
            *at = client->next;
            break;
        }
    free(client->line);
    free(client->reply);
    client->magic = 0;
    free(client);
    control->n_clients--;
    if (control->is_closing)
        control_free_when_done(control);
    else
        listen_again(control);
}

static void client_close(Client *client)
{
    if (client->is_closing)
        return;
    client->is_closing = true;
    uv_close((uv_handle_t *)&client->poll, client_closed); /* stops polling before the fd goes */
    uv_close((uv_handle_t *)&client->timer, client_closed);
    (void)close(client->fd);
}

static void on_idle(uv_timer_t *timer)
{
    client_close(timer->data);
}

static void client_wait(Client *client, int events)
{
    if (uv_poll_start(&client->poll, events, events == UV_READABLE ? on_readable : on_writable) !=
        0)
        client_close(client);
}

/* Sends what the socket takes now. */
static void client_flush(Client *client)
{
    while (client->n_written < client->n_reply) {
        ssize_t n = send(client->fd, client->reply + client->n_written,
                         client->n_reply - client->n_written, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            client_wait(client, UV_WRITABLE);
            return;
        }
        if (n < 0) {
            client_close(client);
            return;
        }
        client->n_written += (size_t)n;
    }
    free(client->reply);
    client->reply = NULL;
    if (client->close_after_reply)
        client_close(client);
    else
        (void)uv_timer_start(&client->timer, on_idle, IDLE_MS, 0);
}

static void client_reply(Client *client, cJSON *object)
{
    char *text = cJSON_PrintUnformatted(object);
    cJSON_Delete(object);
    size_t n = text ? strlen(text) : 0;
    char *line = text ? realloc(text, n + 2) : NULL;
    if (line == NULL) {
        free(text);
        client_close(client);
        return;
    }
    memcpy(line + n, "\n", 2);
    client->reply = line;
    client->n_reply = n + 1;
    client->n_written = 0;
    client_flush(client);
}

static cJSON *refusal(const Err *err)
{
    cJSON *reply = cJSON_CreateObject();
    (void)cJSON_AddFalseToObject(reply, "ok");
    (void)cJSON_AddStringToObject(reply, "code", status_name(err->status));
    (void)cJSON_AddNumberToObject(reply, "number", (int)err->status);
    (void)cJSON_AddStringToObject(reply, "message", err->msg);
    return reply;
}

static void client_refuse(Client *client, Status status, const char *message)
{
    Err err = {0};
    (void)err_set(&err, status, "%s", message);
    client->close_after_reply = true;
    client_reply(client, refusal(&err));
}

/* The request's verb and job. Peers' bytes never reach a message. */
static Status request_parse(const cJSON *request, char ret_verb[32], int64_t *ret_job, Err *err)
{
    const cJSON *verb = cJSON_GetObjectItemCaseSensitive(request, "verb");
    const cJSON *job = cJSON_GetObjectItemCaseSensitive(request, "job");
    if (!cJSON_IsObject(request) || !cJSON_IsString(verb))
        return err_set(err, ST_USAGE, "a request is a JSON object with \"verb\"");
    size_t n = strnlen(verb->valuestring, 32);
    if (n == 0 || n == 32 || strspn(verb->valuestring, "abcdefghijklmnopqrstuvwxyz_") != n)
        return err_set(err, ST_USAGE, "not a verb");
    int64_t id = 0;
    if (job != NULL) {
        double value = cJSON_IsNumber(job) ? job->valuedouble : -1;
        if (!(value >= 0 && value <= 9007199254740992.0) || floor(value) < value)
            return err_set(err, ST_USAGE, "\"job\" is not a job number");
        id = (int64_t)value;
    }
    memcpy(ret_verb, verb->valuestring, n + 1);
    *ret_job = id;
    return ST_OK;
}

static void client_serve(Client *client, const char *line, size_t n)
{
    const char *end = NULL;
    cJSON *request = memchr(line, '\0', n) == NULL
                         ? cJSON_ParseWithLengthOpts(line, n + 1, &end, true)
                         : NULL; /* line[n] is 0 */
    if (request == NULL) {
        client_refuse(client, ST_USAGE, "not a line of JSON");
        return;
    }
    char verb[32];
    int64_t job_id = 0;
    Err err = {0};
    cJSON *reply = cJSON_CreateObject();
    (void)cJSON_AddTrueToObject(reply, "ok");
    Status status = request_parse(request, verb, &job_id, &err);
    cJSON_Delete(request);
    if (status == ST_OK)
        status = client->control->handler(client->control->context, verb, job_id, reply, &err);
    if (status != ST_OK) {
        if (err.status != status) /* a handler that did not say why */
            (void)err_set(&err, status, "%s", status_text(status));
        cJSON_Delete(reply);
        reply = refusal(&err);
    }
    if (client->is_closing) /* the handler stopped the server */
        cJSON_Delete(reply);
    else
        client_reply(client, reply);
}

/* Serves the next whole line; a further one waits for the next turn of the loop, so that a thousand
** requests in one packet do not hold it. */
static void client_serve_next(Client *client)
{
    char *newline = memchr(client->line, '\n', client->n_line);
    if (newline != NULL) {
        *newline = '\0';
        size_t n = (size_t)(newline - client->line);
        client_serve(client, client->line, n);
        client->n_line -= n + 1;
        memmove(client->line, newline + 1, client->n_line);
        if (!client->is_closing && client->reply == NULL)
            client_wait(client,
                        memchr(client->line, '\n', client->n_line) ? UV_WRITABLE : UV_READABLE);
    } else if (client->n_line == MAX_LINE_BYTES) {
        client_refuse(client, ST_LIMIT, "the request is too long");
    } else {
        client_wait(client, UV_READABLE);
    }
}

static void on_writable(uv_poll_t *handle, int status, int events)
{
    (void)events;
    Client *client = handle->data;
    ASSERT(client->magic == CLIENT_MAGIC);
    if (status < 0) {
        client_close(client);
        return;
    }
    if (client->reply != NULL)
        client_flush(client);
    if (!client->is_closing && client->reply == NULL)
        client_serve_next(client);
}

static void on_readable(uv_poll_t *handle, int status, int events)
{
    (void)events;
    Client *client = handle->data;
    ASSERT(client->magic == CLIENT_MAGIC && client->reply == NULL);
    ASSERT(client->n_line < MAX_LINE_BYTES);
    ssize_t n = status < 0 ? 0
                           : recv(client->fd, client->line + client->n_line,
                                  MAX_LINE_BYTES - client->n_line, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return;
    if (n <= 0) {
        client_close(client);
        return;
    }
    client->n_line += (size_t)n;
    client_serve_next(client);
}

/* Takes ownership of fd, also on failure. */
static void client_open(Control *control, int fd)
{
    Client *client = calloc(1, sizeof *client);
    char *line = malloc(MAX_LINE_BYTES);
    if (client == NULL || line == NULL || uv_poll_init(control->loop, &client->poll, fd) != 0) {
        free(client);
        free(line);
        (void)close(fd);
        return;
    }
    client->magic = CLIENT_MAGIC;
    client->control = control;
    client->fd = fd;
    client->line = line;
    (void)uv_timer_init(control->loop, &client->timer); /* cannot fail */
    client->poll.data = client->timer.data = client;
    client->n_handles = 2;
    client->next = control->clients;
    control->clients = client;
    control->n_clients++;
    (void)uv_timer_start(&client->timer, on_idle, IDLE_MS, 0);
    client_wait(client, UV_READABLE);
}

static void on_pause_over(uv_timer_t *timer)
{
    listen_again(timer->data);
}

static void on_connection(uv_poll_t *handle, int status, int events)
{
    (void)status, (void)events;
    Control *control = handle->data;
    ASSERT(control->magic == CONTROL_MAGIC);
    while (control->n_clients < MAX_CLIENTS) {
        int fd = accept4(control->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (fd < 0) { /* no descriptors: polling on would spin */
            (void)uv_poll_stop(&control->poll);
            control->is_listening = false;
            (void)uv_timer_start(&control->pause, on_pause_over, ACCEPT_PAUSE_MS, 0);
            return;
        }
        client_open(control, fd);
    }
    (void)uv_poll_stop(&control->poll);
    control->is_listening = false;
}

static void listen_again(Control *control)
{
    if (control->is_closing || control->is_listening || control->n_clients >= MAX_CLIENTS)
        return;
    if (uv_poll_start(&control->poll, UV_READABLE, on_connection) == 0)
        control->is_listening = true;
    else
        (void)uv_timer_start(&control->pause, on_pause_over, ACCEPT_PAUSE_MS, 0);
}

static Status address_of(const char *path, struct sockaddr_un *ret, Err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof address.sun_path)
        return err_set(err, ST_IO, "control socket: path of %zu bytes, 1..%zu possible", n,
                       sizeof address.sun_path - 1);
    memcpy(address.sun_path, path, n);
    *ret = address;
    return ST_OK;
}

/* Removes a socket that nobody listens on; anything else in its place is an error. */
static Status remove_stale(const struct sockaddr_un *address, Err *err)
{
    struct stat st;
    if (lstat(address->sun_path, &st) != 0)
        return errno == ENOENT ? ST_OK
                               : err_sys(err, errno, "control socket %s", address->sun_path);
    if (!S_ISSOCK(st.st_mode))
        return err_set(err, ST_IO, "%s is there and not a socket", address->sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_sys(err, errno, "control socket");
    int rc = connect(fd, (const struct sockaddr *)address, sizeof *address), saved = errno;
    (void)close(fd);
    if (rc != 0 && saved == ENOENT)
        return ST_OK;
    if (rc != 0 && saved == ECONNREFUSED)
        return unlink(address->sun_path) == 0 || errno == ENOENT
                   ? ST_OK
                   : err_sys(err, errno, "removing the stale socket %s", address->sun_path);
    if (rc != 0 && saved != EAGAIN) /* EAGAIN: its queue is full, so somebody lives there */
        return err_sys(err, saved, "control socket %s", address->sun_path);
    return err_set(err, ST_DAEMON_RUNS, "it answers on %s", address->sun_path);
}

static Status listen_on(const struct sockaddr_un *address, int *ret_fd, struct stat *ret_stat,
                        Err *err)
{
    TRY(remove_stale(address, err));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_sys(err, errno, "control socket");
    mode_t old = umask(0177); /* never more open than 0600 before the chmod */
    int rc = bind(fd, (const struct sockaddr *)address, sizeof *address), saved = errno;
    (void)umask(old);
    if (rc != 0) {
        (void)close(fd);
        return err_sys(err, saved, "binding the control socket %s", address->sun_path);
    }
    if (chmod(address->sun_path, 0660) != 0 || lstat(address->sun_path, ret_stat) != 0 ||
        listen(fd, BACKLOG) != 0) {
        saved = errno;
        (void)unlink(address->sun_path);
        (void)close(fd);
        return err_sys(err, saved, "control socket %s", address->sun_path);
    }
    *ret_fd = fd;
    return ST_OK;
}

Status control_start(uv_loop_t *loop, const char *socket_path, ControlHandler handler,
                     void *context, Control **ret, Err *err)
{
    struct sockaddr_un address;
    struct stat st;
    int fd = -1;
    TRY(address_of(socket_path, &address, err));
    TRY(listen_on(&address, &fd, &st, err));
    Control *control = calloc(1, sizeof *control);
    int rc = control ? uv_poll_init(loop, &control->poll, fd) : UV_ENOMEM;
    if (rc != 0) {
        free(control);
        (void)unlink(address.sun_path);
        (void)close(fd);
        return err_set(err, ST_IO, "control socket: %s", uv_strerror(rc));
    }
    (void)uv_timer_init(loop, &control->pause);
    control->magic = CONTROL_MAGIC;
    control->loop = loop;
    control->fd = fd;
    control->poll.data = control->pause.data = control;
    control->n_handles = 2;
    control->handler = handler;
    control->context = context;
    memcpy(control->path, address.sun_path, sizeof control->path);
    control->device = st.st_dev;
    control->inode = st.st_ino;
    listen_again(control);
    *ret = control;
    return ST_OK;
}

static void control_closed(uv_handle_t *handle)
{
    Control *control = handle->data;
    ASSERT(control->magic == CONTROL_MAGIC);
    control->n_handles--;
    control_free_when_done(control);
}

void control_stop(Control *control)
{
    if (control == NULL || control->is_closing)
        return;
    control->is_closing = true;
    struct stat st; /* only our own: a successor may already have replaced it */
    if (lstat(control->path, &st) == 0 && st.st_dev == control->device &&
        st.st_ino == control->inode)
        (void)unlink(control->path);
    uv_close((uv_handle_t *)&control->poll, control_closed);
    uv_close((uv_handle_t *)&control->pause, control_closed);
    (void)close(control->fd);
    for (Client *client = control->clients; client != NULL; client = client->next)
        client_close(client);
}

/* ---- client ---- */

static int wait_for(int fd, short events, int64_t deadline_ms)
{
    for (;;) {
        int64_t left = deadline_ms - clock_monotonic_ms();
        struct pollfd p = {fd, events, 0};
        int rc = left <= 0 ? 0 : poll(&p, 1, (int)left);
        if (rc >= 0 || errno != EINTR)
            return rc;
    }
}

static Status timed_out(int timeout_ms, Err *err)
{
    return err_set(err, ST_TIMEOUT, "the daemon did not answer within %d ms", timeout_ms);
}

static Status client_connect(const char *path, int64_t deadline_ms, int timeout_ms, int *ret_fd,
                             Err *err)
{
    struct sockaddr_un address;
    TRY(address_of(path, &address, err));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_sys(err, errno, "control socket");
    while (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        int saved = errno;
        if (saved == EINTR)
            continue;
        if (saved == EAGAIN && clock_monotonic_ms() < deadline_ms) {
            (void)poll(NULL, 0, 10); /* its queue is full */
            continue;
        }
        (void)close(fd);
        char text[96];
        return saved == EAGAIN ? timed_out(timeout_ms, err)
                               : err_set(err, ST_UNREACHABLE, "%s: %s", path,
                                         strerror_r(saved, text, sizeof text));
    }
    *ret_fd = fd;
    return ST_OK;
}

static Status gone(Err *err)
{
    return err_set(err, ST_UNREACHABLE, "the daemon closed the connection without an answer");
}

static Status send_line(int fd, const char *line, int64_t deadline_ms, int timeout_ms, Err *err)
{
    for (size_t n = strlen(line); n > 0;) {
        ssize_t sent = send(fd, line, n, MSG_NOSIGNAL);
        if (sent > 0) {
            line += sent;
            n -= (size_t)sent;
        } else if (errno == EAGAIN) {
            if (wait_for(fd, POLLOUT, deadline_ms) <= 0)
                return timed_out(timeout_ms, err);
        } else if (errno != EINTR) {
            return gone(err);
        }
    }
    return ST_OK;
}

/* *ret is malloc'ed, without its newline. */
static Status receive_line(int fd, int64_t deadline_ms, int timeout_ms, char **ret, Err *err)
{
    char *line = malloc(MAX_REPLY_BYTES);
    if (line == NULL)
        return err_set(err, ST_NO_MEMORY, "control reply");
    Status status = ST_OK;
    for (size_t n = 0; status == ST_OK;) {
        ssize_t got = recv(fd, line + n, MAX_REPLY_BYTES - n, 0);
        if (got > 0) {
            char *newline = memchr(line + n, '\n', (size_t)got);
            n += (size_t)got;
            if (newline != NULL) {
                *newline = '\0';
                break;
            }
            if (n == MAX_REPLY_BYTES)
                status = err_set(err, ST_LIMIT, "the daemon's reply is too long");
        } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            status = gone(err);
        } else if (errno == EAGAIN && wait_for(fd, POLLIN, deadline_ms) <= 0) {
            status = timed_out(timeout_ms, err);
        }
    }
    if (status != ST_OK) {
        free(line);
        return status;
    }
    *ret = line;
    return ST_OK;
}

/* Takes the reply apart: a refusal becomes err. */
static Status reply_status(const cJSON *reply, Err *err)
{
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(reply, "ok")))
        return ST_OK;
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(reply, "number");
    const cJSON *message = cJSON_GetObjectItemCaseSensitive(reply, "message");
    Status status;
    if (!cJSON_IsNumber(number) || !status_from_number(number->valueint, &status) ||
        status == ST_OK)
        return err_set(err, ST_INTERNAL, "the daemon's reply is not one of the protocol");
    return err_set(err, status, "%s",
                   cJSON_IsString(message) ? message->valuestring : status_text(status));
}

Status control_request(const char *socket_path, const char *verb, int64_t job_id, int timeout_ms,
                       cJSON **ret_reply, Err *err)
{
    int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
    char request[128], *line = NULL;
    int fd = -1;
    ASSERT(strlen(verb) < 32);
    (void)snprintf(request, sizeof request, "{\"verb\":\"%s\",\"job\":%lld}\n", verb,
                   (long long)job_id);
    TRY(client_connect(socket_path, deadline_ms, timeout_ms, &fd, err));
    Status status = send_line(fd, request, deadline_ms, timeout_ms, err);
    if (status == ST_OK)
        status = receive_line(fd, deadline_ms, timeout_ms, &line, err);
    (void)close(fd);
    if (status != ST_OK)
        return status;
    cJSON *reply = cJSON_Parse(line);
    free(line);
    status = reply_status(reply, err);
    if (status != ST_OK) {
        cJSON_Delete(reply);
        return status;
    }
    *ret_reply = reply;
    return ST_OK;
}
