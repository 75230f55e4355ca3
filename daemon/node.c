/* Start order, stop order, the tick. See node.h. */
#include "daemon/node.h"

#include "base/clock.h"
#include "base/log.h"
#include "daemon/notify.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define SPOOL_LOCK "ct2mr.lock" /* also says that the folder is a spool */
enum { STOP_GRACE_MS = 5000 };

void node_event(Node *node, int64_t job_id, const char *kind, const char *step, Status status,
                int64_t duration_ms, const char *format, ...)
{
    char text[ERR_MSG_SIZE];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    Err err = {0};
    if (db_event(node->db, job_id, kind, step, status, duration_ms, text, clock_steady_ms(),
                 &err) != ST_OK)
        log_event(LOG_LEVEL_ERROR, "event.store", "code=%s %s", status_name(err.status), err.msg);
    LogLevel level = strcmp(kind, "alert") == 0 ? LOG_LEVEL_ALERT
                     : status != ST_OK          ? LOG_LEVEL_WARNING
                                                : LOG_LEVEL_INFO;
    log_event(level, kind, "job=%lld step=%s code=%s duration_ms=%lld text=\"%s\"",
              (long long)job_id, step, status_name(status), (long long)duration_ms, text);
}

bool node_move(Node *node, int64_t job_id, JobState from, JobState to, Status code,
               const char *message, int64_t next_try_ms)
{
    Err err = {0};
    if (db_job_move(node->db, job_id, from, to, code, message, next_try_ms, clock_steady_ms(),
                    &err) != ST_OK) {
        log_event(LOG_LEVEL_ERROR, "job.move", "job=%lld from=%s to=%s code=%s %s",
                  (long long)job_id, job_state_name(from), job_state_name(to),
                  status_name(err.status), err.msg);
        return false;
    }
    log_event(code == ST_OK ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "job.state",
              "job=%lld from=%s state=%s code=%s", (long long)job_id, job_state_name(from),
              job_state_name(to), status_name(code));
    return true;
}

void node_schedule(Node *node)
{
    if (node->stopping)
        return;
    int64_t now_ms = clock_steady_ms();
    node_judge_series(node, now_ms);
    node_start_workers(node, now_ms);
    node_start_senders(node, now_ms);
}

static void on_tick(uv_timer_t *timer)
{
    Node *node = timer->data;
    node_schedule(node);
    node_retention(node, clock_steady_ms());
}

static void on_watchdog(uv_timer_t *timer)
{
    (void)timer;
    (void)notify_watchdog();
}

static void reload(Node *node)
{
    (void)notify_reloading();
    static Config fresh; /* too large for the stack */
    Err err = {0};
    char first[64] = "";
    if (config_load(node->config_path, &fresh, &err) != ST_OK) {
        log_event(LOG_LEVEL_ERROR, "config.reload", "code=%s kept the old one: %s",
                  status_name(err.status), err.msg);
        (void)snprintf(node->reload_refused, sizeof node->reload_refused, "%s", err.msg);
    } else {
        int n = config_reload(&node->config, &fresh, first);
        node->reload_refused[0] = '\0';
        node->n_need_restart = n;
        memcpy(node->first_needs_restart, first, sizeof first);
        log_set_level((LogLevel)node->config.log_level);
        receiver_reload(node->receiver, &node->config);
        node_forget_gpus(node);
        log_event(LOG_LEVEL_NOTICE, "config.reload", "done needs_restart=%d first=%s", n, first);
    }
    (void)notify_ready();
}

static void close_handle(uv_handle_t *handle, void *context)
{
    (void)context;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void receiver_gone(void *context)
{
    Node *node = context;
    node->receiver_stopped = true;
    uv_stop(node->loop);
}

/* New images are refused at once; children are killed: their jobs go on at the next start. */
static void stop(Node *node)
{
    if (node->stopping)
        return;
    node->stopping = true;
    (void)notify_stopping();
    log_event(LOG_LEVEL_NOTICE, "daemon.stop", "associations=%d worker=%s",
              receiver_stats(node->receiver).open, node_computes(node, 0) ? "busy" : "idle");
    (void)uv_timer_stop(&node->tick);
    control_stop(node->control);
    node->control = NULL;
    for (int i = 0; i < NODE_MAX_WORKERS; i++)
        if (node->workers[i] != NULL)
            child_kill(node->workers[i], ST_CANCELLED);
    for (int i = 0; i < NODE_MAX_SENDERS; i++)
        if (node->senders[i] != NULL)
            child_kill(node->senders[i], ST_CANCELLED);
    receiver_stop(node->receiver, STOP_GRACE_MS, receiver_gone, node);
}

static void on_signal(uv_signal_t *handle, int number)
{
    if (number == SIGHUP)
        reload(handle->data);
    else
        stop(handle->data);
}

static void start_signal(Node *node, uv_signal_t *handle, int number)
{
    ASSERT(uv_signal_init(node->loop, handle) == 0);
    handle->data = node;
    ASSERT(uv_signal_start(handle, on_signal, number) == 0);
}

static void start_timers(Node *node)
{
    ASSERT(uv_timer_init(node->loop, &node->tick) == 0);
    node->tick.data = node;
    ASSERT(uv_timer_start(&node->tick, on_tick, NODE_TICK_MS, NODE_TICK_MS) == 0);
    ASSERT(uv_timer_init(node->loop, &node->watchdog) == 0);
    uint64_t period_ms = (uint64_t)notify_watchdog_interval_ms();
    if (period_ms > 0)
        ASSERT(uv_timer_start(&node->watchdog, on_watchdog, period_ms, period_ms) == 0);
    start_signal(node, &node->on_term, SIGTERM);
    start_signal(node, &node->on_int, SIGINT);
    start_signal(node, &node->on_hup, SIGHUP);
}

/* A folder that holds other things is no spool: what lies in a spool is moved and removed. */
static Status claim_spool(const char *path, Err *err)
{
    char lock[PATH_SIZE];
    TRY(dir_make(path, err));
    TRY(path_format(lock, err, "%s/" SPOOL_LOCK, path));
    if (access(lock, F_OK) == 0)
        return ST_OK;
    struct dirent **entries;
    int n = scandir(path, &entries, NULL, NULL), n_others = 0;
    if (n < 0)
        return err_sys(err, errno, "reading folder %s", path);
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        n_others +=
            strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strcmp(name, "lost+found") != 0;
        free(entries[i]);
    }
    free(entries);
    return n_others == 0
               ? ST_OK
               : err_set(err, ST_CONFIG_RANGE,
                         "spool.path: %s holds %d other things and has never been a spool; "
                         "it must be empty at first",
                         path, n_others);
}

/* One daemon per spool and per database: a lock goes with the process, however it ends. */
static Status lock_file(const char *path, Err *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0)
        return err_sys(err, errno, "opening %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int saved = errno;
        (void)close(fd);
        return saved == EWOULDBLOCK ? err_set(err, ST_DAEMON_RUNS, "it holds %s", path)
                                    : err_sys(err, saved, "locking %s", path);
    }
    return ST_OK; /* the descriptor stays open until the process ends */
}

/* Database, recovery, control socket, receiver: in this order, so that what arrives finds its
** place and a second daemon on the same socket is refused before it touches the spool. */
static Status open_parts(Node *node, Err *err)
{
    char path[PATH_SIZE];
    TRY(claim_spool(node->config.spool_path, err));
    TRY(path_format(path, err, "%s/" SPOOL_LOCK, node->config.spool_path));
    TRY(lock_file(path, err));
    TRY(path_format(path, err, "%s", node->config.db_path));
    TRY(dir_make(dirname(path), err));
    TRY(path_format(path, err, "%s.lock", node->config.db_path));
    TRY(lock_file(path, err));
    TRY(control_start(node->loop, node->config.control_socket, node_control, node, &node->control,
                      err));
    TRY(db_open(node->config.db_path, DB_OWNER, &node->db, err));
    TRY(node_recover(node, err));
    ReceiverCallbacks callbacks = {node,
                                   node_stored,
                                   node_refused,
                                   node_turned_away,
                                   node_connections_lost,
                                   node_association_ended};
    return receiver_start(node->loop, &node->config, &callbacks, &node->receiver, err);
}

Status node_run(const char *config_path, Err *err)
{
    Node *node = calloc(1, sizeof *node);
    ASSERT(node != NULL);
    node->config_path = config_path;
    node->started_ms = clock_steady_ms();
    node->loop = uv_default_loop();
    (void)signal(SIGPIPE, SIG_IGN);
    Status status = config_load(config_path, &node->config, err);
    if (status == ST_OK) {
        log_set_level((LogLevel)node->config.log_level);
        status = open_parts(node, err);
    }
    if (status == ST_OK) {
        start_timers(node);
        log_event(LOG_LEVEL_NOTICE, "daemon.start", "version=%s port=%d", CT2MR_VERSION,
                  node->config.listen_port);
        (void)notify_ready();
        (void)uv_run(node->loop, UV_RUN_DEFAULT);
    } else {
        control_stop(node->control);
    }
    uv_walk(node->loop, close_handle, NULL);
    (void)uv_run(node->loop, UV_RUN_NOWAIT);
    db_close(node->db);
    free(node);
    return status;
}
