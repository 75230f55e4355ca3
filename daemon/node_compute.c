/* QUEUED -> worker -> result. See node.h.
**
** One worker at a time: it uses all processors. But where workers compute on GPUs, one for each:
** worker i uses GPU i. A worker says how many there are, and stays for the next job if its GPU is
** well (roles.h); one that failed, crashed, or fell to the CPU has gone, and its GPU is tried again
** when no other worker is at work. */
#include "daemon/node.h"

#include "base/clock.h"
#include "base/log.h"
#include "daemon/job_options.h"
#include "pipeline/job_file.h"

#include <stdlib.h>
#include <string.h>

#define RETRY_PAUSE_MS 5000  /* before a job whose worker failed is tried again */
enum { DAEMON_DEATHS = 20 }; /* more than these during one job are taken for its fault */

Status node_job_dir(const Node *node, const JobRow *job, char ret[PATH_SIZE], Err *err)
{
    return path_format(ret, err, "%s/jobs/%lld-%d", node->config.spool_path, (long long)job->id,
                       job->revision);
}

/* The paths of the series' images; the caller frees with path_list_free(). */
static Status image_paths(Node *node, const JobRow *job, PathList *ret, Err *err)
{
    Instance *images;
    int32_t n;
    TRY(db_series_images(node->db, job->series_id, &images, &n, err));
    PathList list = {calloc((size_t)n + 1, sizeof *list.items), 0};
    ASSERT(list.items != NULL);
    Status status = ST_OK;
    for (int32_t i = 0; i < n && status == ST_OK; i++) {
        char path[PATH_SIZE];
        status = path_format(path, err, "%s/incoming/%s", node->config.spool_path, images[i].file);
        if (status == ST_OK) {
            list.items[list.n] = strdup(path);
            ASSERT(list.items[list.n] != NULL);
            list.n++;
        }
    }
    free(images);
    if (status != ST_OK)
        path_list_free(&list);
    else
        *ret = list;
    return status;
}

/* An empty output folder with job.json in it. */
static Status prepare(Node *node, const JobRow *job, int32_t device, char ret_job_file[PATH_SIZE],
                      Err *err)
{
    char dir[PATH_SIZE];
    TRY(node_job_dir(node, job, dir, err));
    TRY(dir_remove(dir, err));
    TRY(dir_make(dir, err));
    JobOptions options;
    TRY(job_options_from_config(&node->config, dir, &options, err));
    options.device = device;
    TRY(path_format(ret_job_file, err, "%s/job.json", dir));
    PathList images;
    TRY(image_paths(node, job, &images, err));
    Status status =
        job_file_write(ret_job_file, &options, (const char *const *)images.items, images.n, err);
    path_list_free(&images);
    return status;
}

static int worker_index(const Node *node, const Child *child)
{
    int i = 0;
    while (i < NODE_MAX_WORKERS && node->workers[i] != child)
        i++;
    ASSERT(i < NODE_MAX_WORKERS);
    return i;
}

/* A backend failed its self-test: told as an alert, and by `ct2mr status` until one passes. */
static void take_out_of_service(Node *node, const Child *child, const RoleReport *r)
{
    char *why = node->out_of_service[worker_index(node, child)];
    (void)snprintf(why, ERR_MSG_SIZE, "%s", r->text);
    node_event(node, child_job(child)->job_id, "alert", r->step, ST_SELF_TEST, -1, "%s", why);
}

static void on_report(void *context, Child *child, const RoleReport *r)
{
    Node *node = context;
    if (r->type == ROLE_STEP) {
        node_event(node, child_job(child)->job_id, "step", r->step, (Status)r->status,
                   r->duration_ms, "%s", r->text);
        if (strcmp(r->step, "infer") == 0 && r->status == ST_OK)
            node->out_of_service[worker_index(node, child)][0] = '\0';
    }
    if (r->type == ROLE_ALERT || (r->type == ROLE_STEP && r->status == ST_SELF_TEST))
        take_out_of_service(node, child, r);
    if (r->type == ROLE_GPUS && r->index > 0)
        node->n_gpus = r->index < NODE_MAX_WORKERS ? r->index : NODE_MAX_WORKERS;
}

/* A failed attempt: again after a pause if that may help, else FAILED. */
static void attempt_failed(Node *node, const JobRow *job, Status status, const char *text)
{
    if (status_retryable(status) && job->attempt < node->config.job_attempts)
        (void)node_move(node, job->id, JOB_RUNNING, JOB_QUEUED, status, text,
                        clock_steady_ms() + RETRY_PAUSE_MS * job->attempt);
    else
        (void)node_move(node, job->id, JOB_RUNNING, JOB_FAILED, status, text, 0);
}

/* What a worker left in the job's folder, as the database wants it. */
typedef struct Result {
    char model_digest[HEX_SIZE], mr_series_uid[UID_SIZE];
    OutputImage *images; /* the caller frees */
    int32_t n;
    const char *destinations[CONFIG_MAX_DESTINATIONS];
} Result;

static Status read_result(const Node *node, const JobRow *job, Result *ret, Err *err)
{
    char path[PATH_SIZE];
    TRY(node_job_dir(node, job, path, err));
    size_t used = strlen(path);
    TRY(path_format(path + used, err, "/result.json"));
    JobResult file;
    TRY(job_result_read(path, &file, err));
    Result result = {.n = file.n_outputs};
    result.images = calloc((size_t)file.n_outputs, sizeof *result.images);
    ASSERT(result.images != NULL);
    for (int32_t i = 0; i < file.n_outputs; i++) {
        memcpy(result.images[i].file, file.outputs[i].file, sizeof result.images[i].file);
        memcpy(result.images[i].sop_uid, file.outputs[i].sop_uid, sizeof result.images[i].sop_uid);
    }
    free(file.outputs);
    memcpy(result.model_digest, file.model_digest, sizeof result.model_digest);
    memcpy(result.mr_series_uid, file.mr_series_uid, sizeof result.mr_series_uid);
    for (int32_t i = 0; i < node->config.n_destinations; i++)
        result.destinations[i] = node->config.destinations[i].name;
    *ret = result;
    return ST_OK;
}

static Status enter_result(Node *node, const JobRow *job, Err *err)
{
    Result r;
    TRY(read_result(node, job, &r, err));
    Status status = db_job_computed(node->db, job->id, r.model_digest, r.mr_series_uid, r.images,
                                    r.n, r.destinations, node->config.n_destinations,
                                    node->config.job_hold, clock_steady_ms(), err);
    free(r.images);
    return status;
}

Status node_release(Node *node, const JobRow *job, Err *err)
{
    Result r;
    TRY(read_result(node, job, &r, err));
    Status status = db_job_release(node->db, job->id, r.images, r.n, r.destinations,
                                   node->config.n_destinations, clock_steady_ms(), err);
    free(r.images);
    return status;
}

/* A worker has done with its job. */
static void take_result(Node *node, const Child *child, Status status, const char *text)
{
    JobRow job;
    Err err = {0};
    if (db_job_get(node->db, child_job(child)->job_id, &job, &err) != ST_OK) {
        log_event(LOG_LEVEL_ERROR, "job.get", "code=%s %s", status_name(err.status), err.msg);
        return; /* requeue_lost() finds it */
    }
    int64_t duration_ms = clock_steady_ms() - child_started_ms(child);
    node_event(node, job.id, "worker", "", status, duration_ms, "%s", text);
    if (job.state == JOB_RUNNING) { /* else it was cancelled or restarted meanwhile */
        if (status == ST_OK)
            status = enter_result(node, &job, &err);
        else
            (void)err_set(&err, status, "%s", text);
        if (status != ST_OK)
            attempt_failed(node, &job, status, err.msg);
    }
}

static void on_waits(void *context, Child *child, Status status, const char *text)
{
    Node *node = context;
    int i = worker_index(node, child);
    node->gpu_failed[i] = false;
    if (node->stopping)
        return;
    take_result(node, child, status, text);
    child_wait_limit(child, node->config.job_worker_idle_s);
    node_schedule(node);
}

static void on_ended(void *context, Child *child, Status status, const char *text)
{
    Node *node = context;
    int i = worker_index(node, child);
    node->workers[i] = NULL;
    if (node->stopping)
        return; /* the job stays RUNNING in the database and is queued again at the next start */
    if (child_job(child)->job_id == 0) {
        log_event(LOG_LEVEL_INFO, "worker.end", "gpu=%d pid=%d code=%s", i, child_pid(child),
                  status_name(status));
    } else {
        node->gpu_failed[i] = !child_stopped(child);
        take_result(node, child, status, text);
    }
    node_schedule(node);
}

bool node_computes(const Node *node, int64_t job_id)
{
    for (int i = 0; i < NODE_MAX_WORKERS; i++)
        if (node->workers[i] != NULL && child_job(node->workers[i])->job_id != 0 &&
            (job_id == 0 || child_job(node->workers[i])->job_id == job_id))
            return true;
    return false;
}

/* Where a job may be computed now; -1: nowhere. Before a GPU is known there is one place. */
static int free_place(const Node *node)
{
    int n = node->n_gpus > 1 ? node->n_gpus : 1, failed = -1;
    for (int i = 0; i < NODE_MAX_WORKERS; i++)
        if (node->workers[i] != NULL && child_waits(node->workers[i]))
            return i;
    for (int i = n - 1; i >= 0; i--)
        if (node->workers[i] == NULL && node->gpu_failed[i])
            failed = i;
    for (int i = 0; i < n; i++)
        if (node->workers[i] == NULL && !node->gpu_failed[i])
            return i;
    return node_computes(node, 0) ? -1 : failed;
}

static Status give(Node *node, const JobRow *job, int place, Err *err)
{
    char file[PATH_SIZE];
    const ChildJob who = {.job_id = job->id};
    const ChildHandler handler = {node, on_report, on_waits, on_ended};
    Child **worker = &node->workers[place];
    TRY(prepare(node, job, place, file, err));
    if (*worker == NULL)
        return child_start(node->loop, "--worker", file, node->config.job_deadline_s, &who,
                           &handler, worker, err);
    if (!child_next(*worker, file, node->config.job_deadline_s, &who))
        child_kill(*worker, ST_CRASHED); /* it has just gone: on_ended() sees to the job */
    return ST_OK;
}

static void start(Node *node, const JobRow *job, int place)
{
    /* Each attempt ended the worker or the daemon; the daemon may be ended by anybody. */
    int32_t allowed =
        node->config.job_attempts + (job->code == ST_DAEMON_ENDED ? DAEMON_DEATHS : 0);
    if (job->attempt >= allowed) {
        (void)node_move(node, job->id, JOB_QUEUED, JOB_FAILED,
                        job->code != ST_OK ? job->code : ST_CRASHED, job->message, 0);
        return;
    }
    if (!node_move(node, job->id, JOB_QUEUED, JOB_RUNNING, ST_OK, NULL, 0))
        return;
    JobRow running = *job;
    running.attempt++;
    Err err = {0};
    Status status = give(node, job, place, &err);
    if (status != ST_OK)
        attempt_failed(node, &running, status, err.msg);
}

/* RUNNING without a worker: its end could not be stored when it came. */
static void requeue_lost(Node *node)
{
    JobRow *jobs;
    int32_t n;
    if (db_jobs_list(node->db, JOB_RUNNING, 0, &jobs, &n, NULL) != ST_OK)
        return;
    for (int32_t i = 0; i < n; i++)
        if (!node_computes(node, jobs[i].id))
            attempt_failed(node, &jobs[i], ST_CRASHED,
                           "the end of the attempt could not be stored");
    free(jobs);
}

void node_start_workers(Node *node, int64_t now_ms)
{
    int place = free_place(node);
    if (place < 0 || node->stopping)
        return;
    requeue_lost(node);
    JobRow *jobs;
    int32_t n;
    Err err = {0};
    if (db_jobs_ready(node->db, JOB_QUEUED, now_ms,
                      (int64_t)RETRY_PAUSE_MS * node->config.job_attempts, &jobs, &n,
                      &err) != ST_OK) {
        log_event(LOG_LEVEL_ERROR, "job.list", "code=%s %s", status_name(err.status), err.msg);
        return;
    }
    for (int32_t i = 0; i < n && (place = free_place(node)) >= 0; i++)
        start(node, &jobs[i], place);
    free(jobs);
}

void node_forget_gpus(Node *node)
{
    node->n_gpus = 0;
    for (int i = 0; i < NODE_MAX_WORKERS; i++) {
        node->gpu_failed[i] = false;
        node->out_of_service[i][0] = '\0';
        if (node->workers[i] != NULL && child_waits(node->workers[i]))
            child_kill(node->workers[i], ST_CANCELLED);
    }
}

void node_stop_children(Node *node, int64_t job_id, Status why)
{
    for (int i = 0; i < NODE_MAX_WORKERS; i++)
        if (node->workers[i] != NULL && child_job(node->workers[i])->job_id == job_id)
            child_kill(node->workers[i], why);
    for (int i = 0; i < NODE_MAX_SENDERS; i++)
        if (node->senders[i] != NULL && child_job(node->senders[i])->job_id == job_id)
            child_kill(node->senders[i], why);
}
