/* See receiver.h.
**
** Three kinds of things live on the loop: the listener, the zygote with its control socket, and one
** Connection per accepted socket, which is over when its channel has reached end of file (the child
** has died) and the zygote has told so or has gone itself. All times are monotonic; one timer of
** SWEEP_MS looks at all deadlines. Everything a child says is checked before it is used.
**
** A connection takes one of listen.max_associations only when its child reports a good request, so
** silent connections keep nobody out; those not yet that far are bounded by MAX_OPENING. */
#include "daemon/receiver.h"

#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "base/message.h"
#include "daemon/address.h"
#include "dicom/prescan.h"
#include "dicom/receive.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    SWEEP_MS = 100,
    MAX_OPENING = 256,      /* connections whose association is not yet established */
    MAX_CONNECTIONS = 1024, /* with those that are ending */
    CROWD_NOTE_MS = 60000,
    RATE_WINDOW_MS = 30000, /* of listen.min_rate_kib_s; the idle timeout if that is shorter */
    END_GRACE_MS = 3000,    /* from REPORT_END to the end of the child */
    IDLE_GRACE_MS = 1000,   /* the child's own timeout comes first: it aborts in order */
    RESTART_FIRST_MS = 50,
    RESTART_MAX_MS = 5000,
    ZYGOTE_STEADY_MS = 10000, /* up so long: the next restart is quick again */
    CRASHES_PER_ZYGOTE = 8,   /* all children share its address layout: then take a fresh one */
    STOP_GRACE_MS = 2000      /* for killed children and the zygote to be gone */
};

/* Reasons of an A-ASSOCIATE-RJ with result 2, source 3 (PS3.8 table 9-21). */
enum { REJECT_CONGESTION = 1, REJECT_LIMIT = 2 };

typedef enum ConnectionState {
    CONNECTION_OPENING,
    CONNECTION_OPEN,
    CONNECTION_ENDED
} ConnectionState;

typedef struct Connection {
    struct Receiver *receiver;
    struct Connection *next;
    uint64_t id;
    unsigned generation; /* of the zygote that has the child */
    uv_poll_t channel;
    int channel_fd;
    ConnectionState state;
    bool channel_open, exited, kill_sent;
    bool heard;     /* the child has said something: its association, or why there is none */
    bool receiving; /* within a slow data set: the rate is watched */
    int64_t accepted_ms, activity_ms, ended_ms, window_ms;
    int64_t opened_ms; /* accepted, as clock_steady_ms() */
    bool stores;
    uint64_t bytes, window_bytes;
    char calling_ae[AE_SIZE]; /* from CONNECTION_OPEN on */
} Connection;

typedef struct Zygote {
    struct Receiver *receiver;
    uv_process_t process;
    uv_poll_t control;
    int control_fd; /* -1: told to end */
    bool ready;
    int64_t started_ms;
    uint64_t crashes;
} Zygote;

typedef struct Spawn {
    uint64_t connection_id;
    int fds[2]; /* connection, child's channel end; -1: none held */
} Spawn;

struct Receiver {
    uv_loop_t *loop;
    const Config *config;
    ReceiverCallbacks callbacks;
    ReceiverStats stats;
    char program[PATH_SIZE];
    uint64_t run_id, next_id;
    int listen_fd;
    uv_poll_t listener;
    uv_timer_t sweep;
    bool accepting;
    Spawn held; /* could not be sent because the control socket was full */
    Connection *connections;
    int n_connections, n_opening;
    int64_t crowd_noted_ms;
    Zygote *zygote; /* NULL between two zygotes */
    unsigned generation;
    int64_t restart_at_ms, restart_pause_ms;
    int n_handles; /* initialised and not yet closed */
    bool stopping, handles_closed;
    int64_t stop_at_ms;
    void (*done)(void *context);
    void *done_context;
};

static void release_receiver(Receiver *receiver)
{
    void (*done)(void *) = receiver->done;
    void *context = receiver->done_context;
    free(receiver);
    if (done != NULL)
        done(context);
}

static void handle_released(Receiver *receiver)
{
    if (--receiver->n_handles == 0 && receiver->handles_closed)
        release_receiver(receiver);
}

/* ---- files ---- */

static void remove_part(const Receiver *receiver, const Connection *c)
{
    char path[PATH_SIZE];
    if (path_format(path, NULL, "%s/tmp/%016" PRIx64 "-%" PRIu64 ".part",
                    receiver->config->spool_path, receiver->run_id, c->id) == ST_OK)
        (void)unlink(path);
}

/* Parts of images that were arriving when the last daemon ended. */
static Status remove_parts(const char *tmp, Err *err)
{
    DIR *dir = opendir(tmp);
    if (dir == NULL)
        return err_sys(err, errno, "reading folder %s", tmp);
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        size_t n = strlen(entry->d_name);
        if (n > 5 && strcmp(entry->d_name + n - 5, ".part") == 0)
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    (void)closedir(dir);
    return ST_OK;
}

static Status prepare_spool(const Config *config, Err *err)
{
    char path[PATH_SIZE];
    TRY(path_format(path, err, "%s/tmp", config->spool_path));
    TRY(dir_make(path, err));
    TRY(remove_parts(path, err));
    TRY(path_format(path, err, "%s/incoming", config->spool_path));
    TRY(dir_make(path, err));
    return dir_sync(config->spool_path, err);
}

/* ---- connections ---- */

static void set_accepting(Receiver *receiver, bool on);

static void connection_closed(uv_handle_t *handle)
{
    Connection *c = handle->data;
    Receiver *receiver = c->receiver;
    free(c);
    handle_released(receiver);
}

static AssociationInfo info_of(const Connection *c)
{
    return (AssociationInfo){c->id, c->opened_ms, c->calling_ae, c->stores};
}

static void end_association(Connection *c, bool orderly)
{
    Receiver *receiver = c->receiver;
    if (c->state == CONNECTION_OPENING)
        receiver->n_opening--;
    if (c->state == CONNECTION_OPEN) {
        receiver->stats.open--;
        log_event(LOG_LEVEL_INFO, "receiver.ended", "association=%" PRIu64 " orderly=%d", c->id,
                  orderly);
        AssociationInfo info = info_of(c);
        receiver->callbacks.ended(receiver->callbacks.context, &info, orderly);
    }
    if (c->state != CONNECTION_ENDED)
        c->ended_ms = clock_monotonic_ms();
    c->state = CONNECTION_ENDED;
}

static void forget_if_over(Connection *c)
{
    if (c->channel_open || !c->exited)
        return;
    Receiver *receiver = c->receiver;
    remove_part(receiver, c);
    Connection **at = &receiver->connections;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    receiver->n_connections--;
    uv_close((uv_handle_t *)&c->channel, connection_closed);
    (void)close(c->channel_fd);
}

static void close_channel(Connection *c)
{
    (void)uv_poll_stop(&c->channel);
    c->channel_open = false;
    c->stores = true; /* no REPORT_END: what it was asked last is not known */
    end_association(c, false);
    forget_if_over(c);
}

/* Through the zygote, which reaps: the process id cannot be another's. */
static void kill_child(Connection *c, const char *why)
{
    Receiver *receiver = c->receiver;
    const Zygote *zygote = receiver->zygote;
    if (c->kill_sent || c->exited || zygote == NULL || zygote->control_fd < 0)
        return;
    ReceiveControl control;
    memset(&control, 0, sizeof control);
    control.type = RECEIVE_KILL;
    control.connection_id = c->id;
    if (message_send(zygote->control_fd, &control, sizeof control, NULL, 0) != 1)
        return; /* the next sweep tries again */
    c->kill_sent = true;
    receiver->stats.killed++;
    log_event(LOG_LEVEL_NOTICE, "receiver.killed", "association=%" PRIu64 " reason=\"%s\"", c->id,
              why);
}

static void answer_child(Connection *c, uint16_t number)
{
    if (message_send(c->channel_fd, &number, sizeof number, NULL, 0) != 1)
        kill_child(c, "channel does not take the answer");
}

static bool spool_is_low(const Config *config)
{
    uint64_t free_bytes = 0;
    return disk_free(config->spool_path, &free_bytes, NULL) != ST_OK ||
           free_bytes < (uint64_t)config->min_free_mib << 20;
}

static void admit(Connection *c, const ReceiveReport *report)
{
    Receiver *receiver = c->receiver;
    uint16_t reason = 0;
    if (receiver->stopping || spool_is_low(receiver->config))
        reason = REJECT_CONGESTION;
    else if (receiver->stats.open >= receiver->config->max_associations)
        reason = REJECT_LIMIT;
    if (reason == 0) {
        c->state = CONNECTION_OPEN;
        memcpy(c->calling_ae, report->calling_ae, sizeof c->calling_ae);
        receiver->n_opening--;
        receiver->stats.open++;
        receiver->stats.accepted++;
        log_event(LOG_LEVEL_INFO, "receiver.associated", "association=%" PRIu64 " calling=\"%s\"",
                  c->id, report->calling_ae);
    } else {
        receiver->stats.rejected++;
        end_association(c, false);
        receiver->callbacks.turned_away(receiver->callbacks.context, report->calling_ae);
        log_event(LOG_LEVEL_WARNING, "receiver.rejected", "association=%" PRIu64 " reason=%s",
                  c->id, reason == REJECT_LIMIT ? "limit" : "congestion");
    }
    answer_child(c, reason);
}

/* Within a data set the bytes grow; a report with the same bytes is about another message. */
static void note_progress(Connection *c, uint64_t bytes, int64_t now_ms)
{
    if (bytes == c->bytes) {
        c->receiving = false;
    } else if (!c->receiving) {
        c->receiving = true;
        c->window_ms = now_ms;
        c->window_bytes = bytes;
    }
    c->bytes = bytes;
}

static void handle_report(Connection *c, const ReceiveReport *report)
{
    Receiver *receiver = c->receiver;
    const ReceiverCallbacks *cb = &receiver->callbacks;
    c->activity_ms = clock_monotonic_ms();
    c->heard = true;
    bool is_open = c->state == CONNECTION_OPEN;
    if (report->type == REPORT_ASSOCIATED && c->state == CONNECTION_OPENING) {
        admit(c, report);
    } else if (report->type == REPORT_PROGRESS && is_open) {
        note_progress(c, report->bytes, c->activity_ms);
    } else if (report->type == REPORT_STORED && is_open) {
        c->receiving = false;
        AssociationInfo info = info_of(c);
        uint16_t status = cb->stored(cb->context, &info, &report->instance);
        if (status == DIMSE_SUCCESS)
            receiver->stats.stored++;
        answer_child(c, status);
    } else if (report->type == REPORT_REFUSED && is_open) {
        c->receiving = false;
        receiver->stats.refused++;
        Status status;
        AssociationInfo info = info_of(c);
        if (status_from_number(report->status, &status))
            cb->refused(cb->context, &info, status, report->dimse_status, report->text);
    } else if (report->type == REPORT_STORES && is_open) {
        c->stores = true;
    } else if (report->type == REPORT_REJECTED && c->state == CONNECTION_OPENING) {
        receiver->stats.rejected++;
        log_event(LOG_LEVEL_WARNING, "receiver.rejected",
                  "association=%" PRIu64 " calling=\"%s\" reason=\"%s\"", c->id, report->calling_ae,
                  report->text);
    } else if (report->type == REPORT_END) {
        end_association(c, report->orderly);
        if (report->orderly)
            answer_child(c, 0);
    } else {
        kill_child(c, "report out of turn");
    }
}

static void channel_readable(uv_poll_t *handle, int uv_status, int events)
{
    (void)uv_status, (void)events;
    Connection *c = handle->data;
    for (int i = 0; i < 16 && c->channel_open; i++) {
        ReceiveReport report = {0};
        long n = message_receive(c->channel_fd, &report, sizeof report, NULL, NULL);
        if (n < 0)
            return;
        if (n == 0) {
            close_channel(c); /* may free c in the next turn of the loop, not in this */
            return;
        }
        if (!receive_report_valid(&report, (size_t)n)) {
            kill_child(c, "invalid report");
            continue;
        }
        handle_report(c, &report);
    }
}

/* ---- accepting ---- */

static bool address_allowed(const Config *config, const struct sockaddr *address)
{
    for (int i = 0; i < config->allow.n; i++)
        if (address_matches(address, config->allow.items[i]))
            return true;
    return config->allow.n == 0;
}

static Connection *add_connection(Receiver *receiver, int channel_fd)
{
    Connection *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    c->receiver = receiver;
    c->id = receiver->next_id++;
    c->generation = receiver->generation;
    c->channel_fd = channel_fd;
    c->channel_open = true;
    c->accepted_ms = c->activity_ms = clock_monotonic_ms();
    c->opened_ms = clock_steady_ms();
    c->next = receiver->connections;
    receiver->connections = c;
    receiver->n_connections++;
    receiver->n_opening++;
    ASSERT(uv_poll_init(receiver->loop, &c->channel, channel_fd) == 0);
    receiver->n_handles++;
    c->channel.data = c;
    ASSERT(uv_poll_start(&c->channel, UV_READABLE | UV_DISCONNECT, channel_readable) == 0);
    return c;
}

/* True when the descriptors have been handed over or dropped: they are closed here then. */
static bool send_spawn(Receiver *receiver, Spawn *spawn)
{
    ReceiveControl control;
    memset(&control, 0, sizeof control);
    control.type = RECEIVE_SPAWN;
    control.connection_id = spawn->connection_id;
    const Zygote *zygote = receiver->zygote;
    if (zygote != NULL && zygote->control_fd >= 0 &&
        message_send(zygote->control_fd, &control, sizeof control, spawn->fds, 2) == 0)
        return false;
    for (int i = 0; i < 2; i++) {
        (void)close(spawn->fds[i]);
        spawn->fds[i] = -1;
    }
    return true;
}

/* At most one line a minute. */
static void note_crowd(Receiver *receiver, const char *what)
{
    int64_t now_ms = clock_monotonic_ms();
    if (receiver->crowd_noted_ms != 0 && now_ms - receiver->crowd_noted_ms < CROWD_NOTE_MS)
        return;
    receiver->crowd_noted_ms = now_ms;
    log_event(LOG_LEVEL_WARNING, "receiver.crowd", "connections=%d opening=%d %s",
              receiver->n_connections, receiver->n_opening, what);
}

/* The connection that has gone longest without an association gives its place to a new one: who
** means well needs milliseconds. */
static void make_room(Receiver *receiver)
{
    Connection *oldest = NULL;
    for (Connection *c = receiver->connections; c != NULL; c = c->next)
        if (c->state == CONNECTION_OPENING && !c->kill_sent &&
            (oldest == NULL || c->id < oldest->id))
            oldest = c;
    if (oldest == NULL)
        return;
    note_crowd(receiver, "the oldest without an association is closed for each new one");
    kill_child(oldest, "too many connections without an association");
    end_association(oldest, false);
}

static void take_connection(Receiver *receiver, int fd)
{
    int pair[2], one = 1;
    if (receiver->n_opening >= MAX_OPENING)
        make_room(receiver);
    if (receiver->n_connections >= MAX_CONNECTIONS || message_pair(pair, NULL) != ST_OK) {
        receiver->stats.rejected++;
        note_crowd(receiver, "closed: too many connections");
        (void)close(fd);
        return;
    }
    (void)fcntl(pair[0], F_SETFL, O_NONBLOCK); /* our end only: the child's blocks */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    const Connection *c = add_connection(receiver, pair[0]);
    Spawn spawn = {c->id, {fd, pair[1]}};
    if (!send_spawn(receiver, &spawn)) {
        receiver->held = spawn;
        set_accepting(receiver, false);
    }
}

static void listener_readable(uv_poll_t *handle, int uv_status, int events)
{
    (void)uv_status, (void)events;
    Receiver *receiver = handle->data;
    for (int i = 0; i < 32 && receiver->accepting; i++) {
        struct sockaddr_storage address;
        socklen_t size = sizeof address;
        int fd = accept4(receiver->listen_fd, (struct sockaddr *)&address, &size, SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
                set_accepting(receiver, false); /* until the next sweep */
            return;
        }
        if (address_allowed(receiver->config, (const struct sockaddr *)&address)) {
            take_connection(receiver, fd);
        } else {
            receiver->stats.refused_address++;
            (void)close(fd);
            log_event(LOG_LEVEL_NOTICE, "receiver.address_refused", "count=%" PRIu64,
                      receiver->stats.refused_address);
        }
    }
}

static void set_accepting(Receiver *receiver, bool on)
{
    if (on == receiver->accepting || receiver->listen_fd < 0)
        return;
    receiver->accepting = on;
    if (on)
        (void)uv_poll_start(&receiver->listener, UV_READABLE, listener_readable);
    else
        (void)uv_poll_stop(&receiver->listener);
}

static void resume_accepting(Receiver *receiver)
{
    if (receiver->held.fds[0] >= 0 && !send_spawn(receiver, &receiver->held))
        return;
    if (receiver->zygote != NULL && receiver->zygote->ready && !receiver->stopping)
        set_accepting(receiver, true);
}

static Status open_listener(const Config *config, int *ret_fd, Err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_PASSIVE},
                    *found;
    char port[16];
    (void)snprintf(port, sizeof port, "%d", config->listen_port);
    int rc = getaddrinfo(config->listen_address, port, &hints, &found);
    if (rc != 0)
        return err_set(err, ST_CONFIG_RANGE, "listen.address is not an address: %s",
                       gai_strerror(rc));
    int one = 1, saved = 0;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 512) != 0)
        saved = errno;
    freeaddrinfo(found);
    if (saved != 0) {
        if (fd >= 0)
            (void)close(fd);
        char text[96];
        return err_set(err, ST_LISTEN, "listen.address %s, listen.port %d: %s",
                       config->listen_address, config->listen_port,
                       strerror_r(saved, text, sizeof text));
    }
    *ret_fd = fd;
    return ST_OK;
}

/* ---- the zygote ---- */

static void send_options(const Receiver *receiver, int control_fd)
{
    struct {
        ReceiveControl control;
        ReceiveOptions options;
    } message;
    const Config *config = receiver->config;
    ReceiveOptions *o = &message.options;
    memset(&message, 0, sizeof message);
    message.control.type = RECEIVE_OPTIONS;
    (void)snprintf(o->spool, sizeof o->spool, "%s", config->spool_path);
    (void)snprintf(o->ae_title, sizeof o->ae_title, "%.16s", config->listen_ae_title);
    o->check_called_ae = config->check_called_ae;
    o->n_calling = config->calling_ae.n;
    for (int i = 0; i < config->calling_ae.n; i++)
        (void)snprintf(o->calling_ae[i], AE_SIZE, "%.16s", config->calling_ae.items[i]);
    o->association_timeout_s = config->association_timeout_s;
    o->idle_timeout_s = config->idle_timeout_s;
    o->max_object_mib = config->max_object_mib;
    o->min_free_bytes = (uint64_t)config->min_free_mib << 20;
    o->run_id = receiver->run_id;
    (void)message_send(control_fd, &message, sizeof message, NULL, 0);
}

static Connection *find_connection(const Receiver *receiver, uint64_t id)
{
    Connection *c = receiver->connections;
    while (c != NULL && c->id != id)
        c = c->next;
    return c;
}

static void child_exited(Receiver *receiver, const ReceiveControl *control)
{
    Connection *c = find_connection(receiver, control->connection_id);
    if (c == NULL || c->exited)
        return;
    if (WIFSIGNALED(control->wait_status) && !c->kill_sent) {
        receiver->stats.crashed++;
        receiver->zygote->crashes++;
        log_event(LOG_LEVEL_ERROR, "receiver.crashed", "association=%" PRIu64 " signal=%d", c->id,
                  WTERMSIG(control->wait_status));
    }
    c->exited = true;
    forget_if_over(c);
}

static void read_control(Receiver *receiver)
{
    Zygote *zygote = receiver->zygote;
    ReceiveControl control;
    while (zygote->control_fd >= 0) {
        long n = message_receive(zygote->control_fd, &control, sizeof control, NULL, NULL);
        if (n == 0)
            (void)uv_poll_stop(&zygote->control); /* its exit is told by exit_cb */
        if (n <= 0)
            break;
        if (n != (long)sizeof control)
            continue;
        if (control.type == RECEIVE_READY) {
            zygote->ready = true;
            log_event(LOG_LEVEL_INFO, "receiver.ready", "pid=%d", (int)control.pid);
        } else if (control.type == RECEIVE_EXITED) {
            child_exited(receiver, &control);
        }
    }
    resume_accepting(receiver);
}

static void control_readable(uv_poll_t *handle, int uv_status, int events)
{
    (void)uv_status, (void)events;
    const Zygote *zygote = handle->data;
    read_control(zygote->receiver);
}

static void control_closed(uv_handle_t *handle)
{
    Zygote *zygote = handle->data;
    handle_released(zygote->receiver); /* the process handle is still open: not the last one */
    free(zygote);
}

static void process_closed(uv_handle_t *handle)
{
    Zygote *zygote = handle->data;
    handle_released(zygote->receiver);
    if (zygote->control_fd == -2) { /* the control handle was never initialised */
        free(zygote);
        return;
    }
    uv_close((uv_handle_t *)&zygote->control, control_closed);
}

static void finish_stop(Receiver *receiver);

static void zygote_exited(uv_process_t *process, int64_t exit_status, int signal_number)
{
    Zygote *zygote = process->data;
    Receiver *receiver = zygote->receiver;
    read_control(receiver); /* its last words */
    set_accepting(receiver, false);
    receiver->zygote = NULL;
    (void)uv_poll_stop(&zygote->control);
    if (zygote->control_fd >= 0)
        (void)close(zygote->control_fd);
    zygote->control_fd = -1;
    uv_close((uv_handle_t *)process, process_closed);
    if (receiver->held.fds[0] >= 0)
        (void)send_spawn(receiver, &receiver->held); /* closes them */
    /* The children die with it; nobody else tells so. Their channels still must reach the end. */
    bool lost = false;
    for (Connection *c = receiver->connections, *next; c != NULL; c = next) {
        next = c->next;
        if (c->generation != receiver->generation || c->exited)
            continue;
        lost = lost || !c->heard; /* its channel may have ended before this turn of the loop */
        c->exited = true;
        forget_if_over(c);
    }
    if (lost && !receiver->stopping)
        receiver->callbacks.lost(receiver->callbacks.context);
    if (!receiver->stopping) {
        int64_t now = clock_monotonic_ms();
        if (now - zygote->started_ms >= ZYGOTE_STEADY_MS)
            receiver->restart_pause_ms = RESTART_FIRST_MS;
        receiver->restart_at_ms = now + receiver->restart_pause_ms;
        receiver->restart_pause_ms *= 2;
        if (receiver->restart_pause_ms > RESTART_MAX_MS)
            receiver->restart_pause_ms = RESTART_MAX_MS;
        log_event(LOG_LEVEL_ERROR, "receiver.zygote_gone", "exit_status=%d signal=%d",
                  (int)exit_status, signal_number);
    }
}

static Status start_zygote(Receiver *receiver, Err *err)
{
    int pair[2];
    TRY(message_pair(pair, err));
    Zygote *zygote = calloc(1, sizeof *zygote);
    ASSERT(zygote != NULL);
    zygote->receiver = receiver;
    zygote->process.data = zygote->control.data = zygote;
    zygote->started_ms = clock_monotonic_ms();
    char option[] = "--zygote";
    char *args[] = {receiver->program, option, NULL};
    uv_stdio_container_t stdio[4] = {{.flags = UV_IGNORE},
                                     {.flags = UV_INHERIT_FD, .data.fd = 1},
                                     {.flags = UV_INHERIT_FD, .data.fd = 2},
                                     {.flags = UV_INHERIT_FD, .data.fd = pair[1]}};
    uv_process_options_t options = {.file = receiver->program,
                                    .args = args,
                                    .stdio = stdio,
                                    .stdio_count = 4,
                                    .exit_cb = zygote_exited};
    int rc = uv_spawn(receiver->loop, &zygote->process, &options);
    receiver->n_handles++;
    (void)close(pair[1]);
    if (rc != 0) {
        (void)close(pair[0]);
        zygote->control_fd = -2;
        uv_close((uv_handle_t *)&zygote->process, process_closed);
        return err_set(err, ST_NOT_FOUND, "starting %s --zygote: %s", receiver->program,
                       uv_strerror(rc));
    }
    zygote->control_fd = pair[0];
    (void)fcntl(pair[0], F_SETFL, O_NONBLOCK);
    ASSERT(uv_poll_init(receiver->loop, &zygote->control, pair[0]) == 0);
    receiver->n_handles++;
    ASSERT(uv_poll_start(&zygote->control, UV_READABLE, control_readable) == 0);
    receiver->zygote = zygote;
    receiver->generation++;
    receiver->stats.zygote_starts++;
    send_options(receiver, pair[0]);
    return ST_OK;
}

/* Its end of file tells the zygote to kill its children and to end. */
static void close_zygote(Receiver *receiver)
{
    Zygote *zygote = receiver->zygote;
    if (zygote == NULL || zygote->control_fd < 0)
        return;
    read_control(receiver);
    (void)uv_poll_stop(&zygote->control);
    (void)close(zygote->control_fd);
    zygote->control_fd = -1;
}

/* ---- deadlines ---- */

static void watch_rate(Connection *c, int64_t now_ms)
{
    const Config *config = c->receiver->config;
    int64_t window_ms = (int64_t)config->idle_timeout_s * 1000;
    if (window_ms > RATE_WINDOW_MS)
        window_ms = RATE_WINDOW_MS;
    if (!c->receiving || config->min_rate_kib_s == 0 || now_ms - c->window_ms < window_ms)
        return;
    uint64_t floor_bytes =
        (uint64_t)config->min_rate_kib_s * 1024 * (uint64_t)(now_ms - c->window_ms) / 1000;
    if (c->bytes - c->window_bytes < floor_bytes)
        kill_child(c, "below the minimum rate");
    c->window_ms = now_ms;
    c->window_bytes = c->bytes;
}

static void watch_connection(Connection *c, int64_t now_ms)
{
    const Config *config = c->receiver->config;
    if (c->kill_sent || c->exited)
        return;
    if (c->state == CONNECTION_OPENING) {
        if (now_ms - c->accepted_ms >= (int64_t)config->association_timeout_s * 1000)
            kill_child(c, "no association in time");
    } else if (c->state == CONNECTION_ENDED) {
        if (now_ms - c->ended_ms >= END_GRACE_MS)
            kill_child(c, "does not end");
    } else if (now_ms - c->activity_ms >= (int64_t)config->idle_timeout_s * 1000 + IDLE_GRACE_MS) {
        kill_child(c, "idle");
    } else {
        watch_rate(c, now_ms);
    }
}

static void watch_zygote(Receiver *receiver, int64_t now_ms)
{
    if (receiver->zygote != NULL && receiver->zygote->crashes >= CRASHES_PER_ZYGOTE &&
        receiver->n_connections == 0)
        close_zygote(receiver); /* comes back by the line below, with a new address layout */
    if (receiver->zygote == NULL && !receiver->stopping && now_ms >= receiver->restart_at_ms) {
        Err err = {0};
        if (start_zygote(receiver, &err) != ST_OK) {
            receiver->restart_at_ms = now_ms + RESTART_MAX_MS;
            log_event(LOG_LEVEL_ERROR, "receiver.zygote_failed", "error=\"%s\"", err.msg);
        }
    }
}

static void sweep(uv_timer_t *timer)
{
    Receiver *receiver = timer->data;
    int64_t now_ms = clock_monotonic_ms();
    for (Connection *c = receiver->connections; c != NULL; c = c->next)
        watch_connection(c, now_ms);
    watch_zygote(receiver, now_ms);
    resume_accepting(receiver);
    finish_stop(receiver);
}

/* ---- the public functions ---- */

static void own_handle_closed(uv_handle_t *handle)
{
    handle_released(handle->data);
}

static Status find_program(char ret[PATH_SIZE], Err *err)
{
    const char *given = getenv("CT2MR_PROGRAM");
    if (given != NULL)
        return path_format(ret, err, "%s", given);
    char self[PATH_SIZE];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return err_sys(err, errno, "readlink of /proc/self/exe");
    self[n] = '\0';
    return path_format(ret, err, "%s/ct2mr", dirname(self));
}

static Status check_config(const Config *config, Err *err)
{
    for (int i = 0; i < config->allow.n; i++)
        if (!address_rule_valid(config->allow.items[i]))
            return err_set(err, ST_CONFIG_RANGE, "listen.allow: entry %d is not an address", i + 1);
    return ST_OK;
}

Status receiver_start(uv_loop_t *loop, const Config *config, const ReceiverCallbacks *callbacks,
                      Receiver **ret, Err *err)
{
    char program[PATH_SIZE];
    int listen_fd = -1;
    TRY(check_config(config, err));
    TRY(find_program(program, err));
    TRY(prepare_spool(config, err));
    TRY(open_listener(config, &listen_fd, err));
    Receiver *receiver = calloc(1, sizeof *receiver);
    ASSERT(receiver != NULL);
    *receiver = (Receiver){.loop = loop,
                           .config = config,
                           .callbacks = *callbacks,
                           .listen_fd = listen_fd,
                           .next_id = 1,
                           .held = {0, {-1, -1}},
                           .restart_pause_ms = RESTART_FIRST_MS};
    memcpy(receiver->program, program, sizeof program);
    ASSERT(getrandom(&receiver->run_id, sizeof receiver->run_id, 0) == sizeof receiver->run_id);
    Status status = start_zygote(receiver, err);
    if (status != ST_OK) {
        (void)close(listen_fd);
        receiver->handles_closed = true; /* freed when the process handle has been closed */
        return status;
    }
    ASSERT(uv_poll_init(loop, &receiver->listener, listen_fd) == 0);
    ASSERT(uv_timer_init(loop, &receiver->sweep) == 0);
    receiver->n_handles += 2;
    receiver->listener.data = receiver->sweep.data = receiver;
    ASSERT(uv_timer_start(&receiver->sweep, sweep, SWEEP_MS, SWEEP_MS) == 0);
    *ret = receiver;
    return ST_OK;
}

void receiver_reload(Receiver *receiver, const Config *config)
{
    receiver->config = config;
    Err err = {0};
    if (check_config(config, &err) != ST_OK)
        log_event(LOG_LEVEL_ERROR, "receiver.config", "error=\"%s\"", err.msg);
    if (receiver->zygote != NULL && receiver->zygote->control_fd >= 0)
        send_options(receiver, receiver->zygote->control_fd);
}

ReceiverStats receiver_stats(const Receiver *receiver)
{
    return receiver->stats;
}

bool receiver_ready(const Receiver *receiver)
{
    return receiver->listen_fd >= 0 && receiver->zygote != NULL && receiver->zygote->ready;
}

void receiver_stop(Receiver *receiver, int grace_ms, void (*done)(void *context), void *context)
{
    ASSERT(!receiver->stopping);
    set_accepting(receiver, false);
    uv_close((uv_handle_t *)&receiver->listener, own_handle_closed);
    (void)close(receiver->listen_fd); /* at once: a waiting peer is refused, not left hanging */
    receiver->listen_fd = -1;
    receiver->stopping = true;
    receiver->stop_at_ms = clock_monotonic_ms() + grace_ms;
    receiver->done = done;
    receiver->done_context = context;
}

/* Called by each sweep: nothing of it happens before receiver_stop(). */
static void finish_stop(Receiver *receiver)
{
    if (!receiver->stopping || receiver->handles_closed)
        return;
    int64_t late_ms = clock_monotonic_ms() - receiver->stop_at_ms;
    if (receiver->n_connections == 0 || late_ms >= 0)
        close_zygote(receiver);
    if (receiver->zygote != NULL && late_ms >= STOP_GRACE_MS)
        (void)uv_process_kill(&receiver->zygote->process, SIGKILL);
    if (receiver->n_connections > 0 || receiver->zygote != NULL)
        return;
    receiver->handles_closed = true;
    uv_close((uv_handle_t *)&receiver->sweep, own_handle_closed);
}
