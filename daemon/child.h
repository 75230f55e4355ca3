/* One child process of the daemon (roles.h): start, listen to its channel, deadline, end.
**
** `ended` is called exactly once, after the process has gone and its channel is drained, with what
** the child said in ROLE_END, or CRASHED if it did not, or the status given to child_kill(), or
** TIMEOUT past the deadline. The Child is freed after that call. A worker that stays has `waits`
** called with what it said instead, and is then without a job (job_id 0) until child_next().
** Thread: the daemon's loop. */
#ifndef CT2MR_DAEMON_CHILD_H
#define CT2MR_DAEMON_CHILD_H

#include "daemon/roles.h"

#include <uv.h>

typedef struct Child Child;

typedef struct ChildHandler {
    void *context;
    void (*report)(void *context, Child *child, const RoleReport *report);
    /* Only workers stay. */
    void (*waits)(void *context, Child *child, Status status, const char *text);
    void (*ended)(void *context, Child *child, Status status, const char *text);
} ChildHandler;

typedef struct ChildJob { /* whom it works for; copied */
    int64_t job_id;
    char destination[64]; /* senders; "" for a worker */
} ChildJob;

/* Runs `ct2mr FLAG FILE`. Errors: IO, INTERNAL (cannot spawn). */
MUST_CHECK Status child_start(uv_loop_t *loop, const char *flag, const char *file, int deadline_s,
                              const ChildJob *job, const ChildHandler *handler, Child **ret,
                              Err *err);
/* Gives a child that waits another job. False: it has gone, `ended` will be called. */
bool child_next(Child *child, const char *file, int deadline_s, const ChildJob *job);
/* True if the child waits for a job, and was not killed. */
bool child_waits(const Child *child);
/* A child that waits longer is killed; 0: at once. */
void child_wait_limit(Child *child, int limit_s);
/* SIGKILL; `ended` then gets `why`. */
void child_kill(Child *child, Status why);
/* True if child_kill() ended it, for another reason than its deadline. */
bool child_stopped(const Child *child);
const ChildJob *child_job(const Child *child);
int child_pid(const Child *child);
int64_t child_started_ms(const Child *child); /* wall clock */
/* The `ct2mr` program: $CT2MR_PROGRAM, else beside this program. */
MUST_CHECK Status child_program(char ret[], size_t size, Err *err);

#endif
