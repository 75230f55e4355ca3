/* The node: everything the daemon holds, on one libuv loop, one thread. Private to daemon/.
**
** The database is the truth about jobs; this struct holds only what dies with the process: open
** associations, children, timers. What happens to a job is one of
**   node_receive.c  an image arrived              -> RECEIVING, QUARANTINED
**   node_series.c   a series went quiet           -> QUEUED, WAITING, FAILED
**   node_compute.c  a worker is free, has ended   -> RUNNING, SENDING, HELD, QUEUED, FAILED
**   node_send.c     a delivery is due, has ended  -> SENDING, DONE, RETRY, FAILED
**   node_control.c  a person said so              -> CANCELLED, QUEUED, SENDING, HELD
**   node_recover.c  the daemon started
** and each ends with node_schedule(), which starts whatever can start. */
#ifndef CT2MR_DAEMON_NODE_H
#define CT2MR_DAEMON_NODE_H

#include "base/files.h"
#include "daemon/child.h"
#include "daemon/config.h"
#include "daemon/control.h"
#include "daemon/receiver.h"
#include "db/jobs.h"

#include <uv.h>

enum {
    NODE_MAX_TOUCHES = 4096,
    NODE_MAX_TOUCHES_EACH = 256, /* of one association; the last for a refused image */
    NODE_MAX_WORKERS = 16,
    NODE_MAX_SENDERS = 16,
    NODE_SENDERS_EACH = 2, /* to one destination: a dead one does not keep the others waiting */
    NODE_TICK_MS = 500
};

typedef struct Touch { /* an open association has sent images of this series */
    uint64_t association;
    char series_uid[UID_SIZE], calling_ae[AE_SIZE];
    int64_t last_ms; /* its last image; monotonic */
} Touch;

typedef struct Node {
    uv_loop_t *loop;
    const char *config_path;
    Config config;
    Db *db;
    Receiver *receiver;
    Control *control;
    uv_timer_t tick, watchdog;
    uv_signal_t on_term, on_int, on_hup;
    int64_t started_ms, retention_checked_ms;
    Touch touches[NODE_MAX_TOUCHES];
    int32_t n_touches;
    Child *workers[NODE_MAX_WORKERS];  /* NULL: none there */
    bool gpu_failed[NODE_MAX_WORKERS]; /* the last worker of that GPU did not stay */
    int32_t n_gpus;                    /* 0: not known, or none */
    /* Why a backend failed its self-test in that worker's last job; "" if none did. */
    char out_of_service[NODE_MAX_WORKERS][ERR_MSG_SIZE];
    Child *senders[NODE_MAX_SENDERS];
    bool stopping, receiver_stopped;
    char reload_refused[ERR_MSG_SIZE]; /* why the last reload kept the old configuration; "" */
    int32_t n_need_restart;            /* options that the file changed and only a restart takes */
    char first_needs_restart[64];
} Node;

/* node_receive.c: the receiver's callbacks. */
uint16_t node_stored(void *context, const AssociationInfo *from, const Instance *instance);
void node_refused(void *context, const AssociationInfo *from, Status status, uint16_t dimse_status,
                  const char *text);
void node_turned_away(void *context, const char *calling_ae);
void node_connections_lost(void *context);
void node_association_ended(void *context, const AssociationInfo *from, bool orderly);
/* Enters an image; unlike node_stored() it never removes the file of one that could not be entered.
** from NULL: at start, no association is open. */
MUST_CHECK Status node_enter(Node *node, const AssociationInfo *from, const Instance *instance,
                             uint16_t *ret_dimse, Err *err);
/* How many open associations have brought images of the series; *ret_last_ms (monotonic) the last.
** */
int32_t node_open_associations(const Node *node, const char *series_uid, int64_t *ret_last_ms);

/* node_series.c: judges series that may be complete. */
void node_judge_series(Node *node, int64_t now_ms);

/* node_compute.c */
void node_start_workers(Node *node, int64_t now_ms);
/* True if a worker is at work on the job; 0: on any. */
bool node_computes(const Node *node, int64_t job_id);
/* After a change of the configuration: workers that wait end, GPUs are found anew. */
void node_forget_gpus(Node *node);
/* HELD -> SENDING, to the destinations of now if there was none when the result was made. */
MUST_CHECK Status node_release(Node *node, const JobRow *job, Err *err);
/* Stops the worker and senders of a job, whatever they do; their results are dropped. */
void node_stop_children(Node *node, int64_t job_id, Status why);
/* Folder of a job's output: spool/jobs/ID-REVISION. */
MUST_CHECK Status node_job_dir(const Node *node, const JobRow *job, char ret[PATH_SIZE], Err *err);

/* node_send.c */
void node_start_senders(Node *node, int64_t now_ms);

/* node_control.c: ControlHandler. */
Status node_control(void *context, const char *verb, int64_t job_id, cJSON *reply, Err *err);
bool node_ready(const Node *node, char ret_reason[160]);

/* node_recover.c: spool and database agree again. Before the receiver starts. */
MUST_CHECK Status node_recover(Node *node, Err *err);
/* Enters what a child of an association that did not end in order stored but did not report. */
void node_recover_association(Node *node, const AssociationInfo *from);
/* Removes files of jobs past retention; at most once an hour. */
void node_retention(Node *node, int64_t now_ms);

/* node.c */
void node_schedule(Node *node);
/* An event row and a log line; a failure to store it is logged, not returned. */
__attribute__((format(printf, 7, 8))) void node_event(Node *node, int64_t job_id, const char *kind,
                                                      const char *step, Status status,
                                                      int64_t duration_ms, const char *format, ...);
/* db_job_move with a log line; false (logged) when it failed. */
bool node_move(Node *node, int64_t job_id, JobState from, JobState to, Status code,
               const char *message, int64_t next_try_ms);
MUST_CHECK Status node_run(const char *config_path, Err *err);

#endif
