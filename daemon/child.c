/* See child.h. Two things end independently: the process (exit callback) and the channel (end of
** file). Reports may still be unread when the process has gone, so both are awaited. */
#include "daemon/child.h"

#include "base/clock.h"
#include "base/files.h"
#include "base/message.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHILD_MAGIC = 0x43484c44, N_HANDLES = 3 };

struct Child {
    unsigned magic; /* checked where it comes back through a void pointer */
    uv_process_t process;
    uv_poll_t channel;
    uv_timer_t deadline;
    int channel_fd, handles_open;
    bool exited, drained, has_end, waiting;
    ChildJob job;
    ChildHandler handler;
    int64_t started_ms;
    Status status, killed_as; /* killed_as: ST_OK unless child_kill() was called */
    char text[ERR_MSG_SIZE];
};

static Child *child_of(void *data)
{
    Child *child = data;
    ASSERT(child->magic == CHILD_MAGIC);
    return child;
}

Status child_program(char ret[], size_t size, Err *err)
{
    const char *named = getenv("CT2MR_PROGRAM");
    if (named != NULL && strlen(named) < size) {
        memcpy(ret, named, strlen(named) + 1);
        return ST_OK;
    }
    ssize_t n = readlink("/proc/self/exe", ret, size);
    if (n <= 0 || (size_t)n >= size)
        return err_sys(err, errno, "finding this program");
    ret[n] = '\0';
    char *slash = strrchr(ret, '/');
    if (slash == NULL || (size_t)(slash - ret) + sizeof "/ct2mr" > size)
        return err_set(err, ST_INTERNAL, "finding the folder of this program");
    memcpy(slash, "/ct2mr", sizeof "/ct2mr");
    return access(ret, X_OK) == 0 ? ST_OK : err_sys(err, errno, "%s", ret);
}

static void on_closed(uv_handle_t *handle)
{
    Child *child = child_of(handle->data);
    if (--child->handles_open > 0)
        return;
    (void)close(child->channel_fd);
    child->magic = 0;
    free(child);
}

static void finish_if_over(Child *child)
{
    if (!child->exited || !child->drained)
        return;
    Status status = child->killed_as != ST_OK ? child->killed_as
                    : child->has_end          ? child->status
                                              : ST_CRASHED;
    const char *text =
        child->has_end && child->killed_as == ST_OK ? child->text : status_text(status);
    child->handler.ended(child->handler.context, child, status, text);
    uv_close((uv_handle_t *)&child->process, on_closed);
    uv_close((uv_handle_t *)&child->channel, on_closed);
    uv_close((uv_handle_t *)&child->deadline, on_closed);
}

static void on_process_exit(uv_process_t *process, int64_t exit_status, int signal_number)
{
    (void)exit_status, (void)signal_number;
    Child *child = child_of(process->data);
    child->exited = true;
    finish_if_over(child);
}

static bool report_valid(const RoleReport *report, long size)
{
    Status status;
    return size == (long)sizeof *report && status_from_number(report->status, &status) &&
           memchr(report->text, 0, sizeof report->text) != NULL &&
           memchr(report->step, 0, sizeof report->step) != NULL;
}

/* The job has ended. A child that was killed meanwhile is taken for gone. */
static void take_end(Child *child, const RoleReport *report)
{
    if (report->index == 0 || child->handler.waits == NULL) {
        child->has_end = true;
        child->status = (Status)report->status;
        memcpy(child->text, report->text, sizeof child->text);
    } else if (child->killed_as == ST_OK) {
        (void)uv_timer_stop(&child->deadline);
        child->waiting = true;
        child->handler.waits(child->handler.context, child, (Status)report->status, report->text);
    }
}

static void on_channel(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events;
    Child *child = child_of(poll->data);
    for (;;) {
        RoleReport report = {0};
        long n = message_receive(child->channel_fd, &report, sizeof report, NULL, NULL);
        if (n < 0)
            return;
        if (n == 0)
            break;
        if (!report_valid(&report, n))
            continue;
        if (report.type == ROLE_END)
            take_end(child, &report);
        else
            child->handler.report(child->handler.context, child, &report);
    }
    (void)uv_poll_stop(&child->channel);
    child->drained = true;
    finish_if_over(child);
}

static void on_deadline(uv_timer_t *timer)
{
    child_kill(child_of(timer->data), ST_TIMEOUT);
}

static Status spawn(Child *child, uv_loop_t *loop, const char *flag, const char *file,
                    int child_end_fd, Err *err)
{
    char program[PATH_SIZE];
    TRY(child_program(program, sizeof program, err));
    char *args[] = {program, (char *)flag, (char *)file, NULL};
    uv_stdio_container_t stdio[ROLE_CHANNEL_FD + 1] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = 2},
        {.flags = UV_INHERIT_FD, .data.fd = 2},
        {.flags = UV_INHERIT_FD, .data.fd = child_end_fd}};
    uv_process_options_t options = {.file = program,
                                    .args = args,
                                    .stdio = stdio,
                                    .stdio_count = ROLE_CHANNEL_FD + 1,
                                    .exit_cb = on_process_exit};
    int rc = uv_spawn(loop, &child->process, &options);
    if (rc != 0)
        return err_set(err, ST_INTERNAL, "starting %s: %s", program, uv_strerror(rc));
    return ST_OK;
}

Status child_start(uv_loop_t *loop, const char *flag, const char *file, int deadline_s,
                   const ChildJob *job, const ChildHandler *handler, Child **ret, Err *err)
{
    int pair[2];
    TRY(message_pair(pair, err));
    Child *child = calloc(1, sizeof *child);
    ASSERT(child != NULL);
    child->magic = CHILD_MAGIC;
    child->job = *job;
    child->handler = *handler;
    child->channel_fd = pair[0];
    child->started_ms = clock_steady_ms();
    child->process.data = child->channel.data = child->deadline.data = child;
    (void)fcntl(pair[0], F_SETFL, O_NONBLOCK);
    Status status = spawn(child, loop, flag, file, pair[1], err);
    (void)close(pair[1]);
    ASSERT(uv_poll_init(loop, &child->channel, pair[0]) == 0);
    ASSERT(uv_timer_init(loop, &child->deadline) == 0);
    child->handles_open = N_HANDLES;
    if (status != ST_OK) { /* uv_spawn initialises the handle also when it fails */
        if (!uv_is_closing((uv_handle_t *)&child->process) && child->process.loop != NULL)
            uv_close((uv_handle_t *)&child->process, on_closed);
        else
            child->handles_open--;
        uv_close((uv_handle_t *)&child->channel, on_closed);
        uv_close((uv_handle_t *)&child->deadline, on_closed);
        return status;
    }
    (void)uv_poll_start(&child->channel, UV_READABLE | UV_DISCONNECT, on_channel);
    if (deadline_s > 0)
        (void)uv_timer_start(&child->deadline, on_deadline, (uint64_t)deadline_s * 1000, 0);
    *ret = child;
    return ST_OK;
}

bool child_next(Child *child, const char *file, int deadline_s, const ChildJob *job)
{
    ASSERT(child_waits(child));
    child->waiting = false;
    child->job = *job;
    child->started_ms = clock_steady_ms();
    (void)uv_timer_start(&child->deadline, on_deadline, (uint64_t)deadline_s * 1000, 0);
    return message_send(child->channel_fd, file, strlen(file) + 1, NULL, 0) == 1;
}

bool child_waits(const Child *child)
{
    return child->waiting && child->killed_as == ST_OK;
}

void child_wait_limit(Child *child, int limit_s)
{
    ASSERT(child_waits(child));
    child->job = (ChildJob){0};
    if (limit_s == 0)
        child_kill(child, ST_CANCELLED);
    else
        (void)uv_timer_start(&child->deadline, on_deadline, (uint64_t)limit_s * 1000, 0);
}

void child_kill(Child *child, Status why)
{
    if (child->killed_as == ST_OK)
        child->killed_as = why;
    if (!child->exited)
        (void)uv_process_kill(&child->process, SIGKILL);
}

bool child_stopped(const Child *child)
{
    return child->killed_as != ST_OK && child->killed_as != ST_TIMEOUT;
}

const ChildJob *child_job(const Child *child)
{
    return &child->job;
}

int child_pid(const Child *child)
{
    return uv_process_get_pid(&child->process);
}

int64_t child_started_ms(const Child *child)
{
    return child->started_ms;
}
