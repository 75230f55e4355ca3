/* SENDING and RETRY: one send child per due delivery, results per image. See node.h.
**
** A child is given only the images the destination has not yet answered with success, so a killed
** or failed attempt resumes; a re-sent image has the same UID and the same bytes. */
#include "daemon/node.h"

#include "base/clock.h"
#include "base/log.h"
#include "pipeline/job_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Sending { /* what a send child is working on; owned by its handler context */
    Node *node;
    OutputImage *images;
    int32_t n;
} Sending;

static int64_t next_try_ms(const Config *config, int32_t attempt, int64_t now_ms)
{
    int64_t pause_s = config->retry_first_s;
    for (int32_t i = 1; i < attempt && pause_s < config->retry_max_s; i++)
        pause_s *= 2;
    if (pause_s > config->retry_max_s)
        pause_s = config->retry_max_s;
    return now_ms + pause_s * 1000;
}

/* A time that is further away than any pause was set by a clock that has been set back since. */
static bool is_due(const Node *node, int64_t next_ms, int64_t now_ms)
{
    return next_ms <= now_ms || next_ms > now_ms + (int64_t)node->config.retry_max_s * 1000;
}

static int32_t active_senders(const Node *node, int64_t job_id)
{
    int32_t n = 0;
    for (int i = 0; i < NODE_MAX_SENDERS; i++)
        n += node->senders[i] != NULL && child_job(node->senders[i])->job_id == job_id;
    return n;
}

static bool find_delivery(Node *node, int64_t job_id, const char *destination, DeliveryRow *ret)
{
    DeliveryRow *rows;
    int32_t n;
    bool found = false;
    if (db_deliveries(node->db, job_id, &rows, &n, NULL) != ST_OK)
        return false;
    for (int32_t i = 0; i < n; i++) {
        if (strcmp(rows[i].destination, destination) == 0) {
            *ret = rows[i];
            found = true;
        }
    }
    free(rows);
    return found;
}

/* The end of an attempt: done, again later, or given up. */
static void delivery_ended(Node *node, int64_t job_id, const char *destination, Status status,
                           const char *text)
{
    int64_t now_ms = clock_steady_ms(), next_ms = 0;
    DeliveryRow row = {0};
    (void)find_delivery(node, job_id, destination, &row);
    status = delivery_outcome(status, &row);
    char message[ERR_MSG_SIZE] = "";
    if (status != ST_OK)
        (void)snprintf(message, sizeof message, "%s: %.300s", destination,
                       text[0] != '\0' ? text : status_text(status));
    if (status_retryable(status)) {
        if (now_ms - row.first_try_ms < (int64_t)node->config.horizon_h * 3600 * 1000)
            next_ms = next_try_ms(&node->config, row.attempt, now_ms);
        else
            status = ST_SEND_GAVE_UP;
    }
    JobState state;
    Err err = {0};
    if (db_delivery_end(node->db, job_id, destination, status, message, next_ms,
                        active_senders(node, job_id), now_ms, &state, &err) != ST_OK)
        log_event(LOG_LEVEL_ERROR, "send.end", "job=%lld code=%s %s", (long long)job_id,
                  status_name(err.status), err.msg);
    else
        log_event(LOG_LEVEL_INFO, "job.state", "job=%lld state=%s", (long long)job_id,
                  job_state_name(state));
}

static void on_report(void *context, Child *child, const RoleReport *r)
{
    Sending *sending = context;
    Node *node = sending->node;
    const ChildJob *who = child_job(child);
    JobRow job;
    Err err = {0};
    if (r->type != ROLE_IMAGE || r->index < -1 || r->index >= sending->n)
        return;
    if (r->index < 0) {
        if (db_delivery_connected(node->db, who->job_id, &err) != ST_OK)
            log_event(LOG_LEVEL_ERROR, "send.connected", "job=%lld code=%s %s",
                      (long long)who->job_id, status_name(err.status), err.msg);
        if (db_job_get(node->db, who->job_id, &job, NULL) == ST_OK && job.state != JOB_SENDING)
            node_event(node, who->job_id, "alert", who->destination, ST_SERIES_LATE, -1,
                       "it may hold images of the result that a late slice replaced");
        return;
    }
    Status status = (Status)r->status;
    if (status_retryable(status))
        return; /* not an answer about the image: stays pending */
    if (db_delivery_image(node->db, who->job_id, who->destination,
                          sending->images[r->index].sop_uid,
                          status == ST_OK ? DELIVERY_SENT : DELIVERY_REFUSED,
                          (uint16_t)r->dimse_status, clock_steady_ms(), &err) != ST_OK)
        log_event(LOG_LEVEL_ERROR, "send.image", "job=%lld code=%s %s", (long long)who->job_id,
                  status_name(err.status), err.msg);
}

static void on_ended(void *context, Child *child, Status status, const char *text)
{
    Sending *sending = context;
    Node *node = sending->node;
    ChildJob who = *child_job(child);
    bool was_stopped = child_stopped(child); /* what stopped it has given the job its state */
    for (int i = 0; i < NODE_MAX_SENDERS; i++)
        if (node->senders[i] == child)
            node->senders[i] = NULL;
    free(sending->images);
    free(sending);
    if (node->stopping)
        return;
    node_event(node, who.job_id, "send", who.destination, status,
               clock_steady_ms() - child_started_ms(child), "%s", text);
    JobRow job;
    if (!was_stopped && db_job_get(node->db, who.job_id, &job, NULL) == ST_OK &&
        job.state == JOB_SENDING)
        delivery_ended(node, who.job_id, who.destination, status, text);
    node_schedule(node);
}

static Status write_send_file(const Node *node, const JobRow *job, const ConfigDestination *to,
                              const Sending *sending, char ret_path[PATH_SIZE], Err *err)
{
    char dir[PATH_SIZE];
    TRY(node_job_dir(node, job, dir, err));
    TRY(path_format(ret_path, err, "%s/send-%s.json", dir, to->name));
    Destination d = {.port = to->port, .timeout_s = node->config.send_timeout_s};
    memcpy(d.name, to->name, sizeof d.name);
    memcpy(d.ae_title, to->ae_title, sizeof d.ae_title);
    memcpy(d.host, to->host, sizeof d.host);
    (void)snprintf(d.calling_ae, sizeof d.calling_ae, "%s",
                   to->calling_ae[0] != '\0' ? to->calling_ae : node->config.listen_ae_title);
    PathList paths = {calloc((size_t)sending->n + 1, sizeof *paths.items), 0};
    ASSERT(paths.items != NULL);
    Status status = ST_OK;
    for (int32_t i = 0; i < sending->n && status == ST_OK; i++) {
        char path[PATH_SIZE];
        status = path_format(path, err, "%s/%s", dir, sending->images[i].file);
        if (status == ST_OK && (paths.items[paths.n++] = strdup(path)) == NULL)
            status = err_set(err, ST_NO_MEMORY, "listing images");
    }
    if (status == ST_OK)
        status = send_file_write(ret_path, &d, (const char *const *)paths.items, paths.n, err);
    path_list_free(&paths);
    return status;
}

static Status start_child(Node *node, const JobRow *job, const ConfigDestination *to,
                          Sending *sending, int slot, Err *err)
{
    TRY(db_delivery_pending(node->db, job->id, to->name, &sending->images, &sending->n, err));
    if (sending->n == 0)
        return ST_OK; /* everything was answered before; only the end was lost */
    char file[PATH_SIZE];
    TRY(write_send_file(node, job, to, sending, file, err));
    ChildJob who = {.job_id = job->id};
    memcpy(who.destination, to->name, sizeof who.destination);
    ChildHandler handler = {sending, on_report, NULL, on_ended};
    /* Time-outs of the connection are the child's; this bounds a peer that answers each image late.
     */
    int deadline_s = node->config.send_timeout_s * (sending->n + 4);
    return child_start(node->loop, "--sender", file, deadline_s, &who, &handler,
                       &node->senders[slot], err);
}

static void start(Node *node, const JobRow *job, const char *destination, int slot, int64_t now_ms)
{
    Err err = {0};
    if (job->state == JOB_RETRY &&
        !node_move(node, job->id, JOB_RETRY, JOB_SENDING, ST_OK, NULL, 0))
        return;
    if (db_delivery_begin(node->db, job->id, destination, now_ms, &err) != ST_OK) {
        log_event(LOG_LEVEL_ERROR, "send.begin", "code=%s %s", status_name(err.status), err.msg);
        return;
    }
    const ConfigDestination *to = config_destination(&node->config, destination);
    if (to == NULL) {
        delivery_ended(node, job->id, destination, ST_DEST_UNKNOWN, "not in the configuration");
        return;
    }
    Sending *sending = calloc(1, sizeof *sending);
    ASSERT(sending != NULL);
    sending->node = node;
    Status status = start_child(node, job, to, sending, slot, &err);
    if (node->senders[slot] != NULL)
        return;
    free(sending->images);
    free(sending);
    delivery_ended(node, job->id, destination, status, err.msg);
}

static bool is_active(const Node *node, int64_t job_id, const char *destination)
{
    for (int i = 0; i < NODE_MAX_SENDERS; i++) {
        const ChildJob *who = node->senders[i] != NULL ? child_job(node->senders[i]) : NULL;
        if (who != NULL && who->job_id == job_id && strcmp(who->destination, destination) == 0)
            return true;
    }
    return false;
}

static bool is_busy(const Node *node, const char *destination)
{
    int n = 0;
    for (int i = 0; i < NODE_MAX_SENDERS; i++)
        n += node->senders[i] != NULL &&
             strcmp(child_job(node->senders[i])->destination, destination) == 0;
    return n >= NODE_SENDERS_EACH;
}

static int free_slot(const Node *node)
{
    for (int i = 0; i < NODE_MAX_SENDERS; i++)
        if (node->senders[i] == NULL)
            return i;
    return -1;
}

static void start_job(Node *node, const JobRow *job, int64_t now_ms)
{
    DeliveryRow *rows;
    int32_t n;
    if (db_deliveries(node->db, job->id, &rows, &n, NULL) != ST_OK)
        return;
    JobRow now = *job;
    for (int32_t i = 0; i < n; i++) {
        int slot = free_slot(node);
        if (slot < 0 || rows[i].ended || !is_due(node, rows[i].next_try_ms, now_ms) ||
            is_active(node, job->id, rows[i].destination) || is_busy(node, rows[i].destination))
            continue;
        start(node, &now, rows[i].destination, slot, now_ms);
        if (db_job_get(node->db, job->id, &now, NULL) != ST_OK ||
            (now.state != JOB_SENDING && now.state != JOB_RETRY))
            break;
    }
    free(rows);
    int32_t active = active_senders(node, job->id);
    JobState state;
    if (active == 0 && now.state == JOB_SENDING &&
        db_job_settle(node->db, job->id, 0, now_ms, &state, NULL) == ST_OK && state != JOB_SENDING)
        log_event(LOG_LEVEL_INFO, "job.state", "job=%lld state=%s", (long long)job->id,
                  job_state_name(state));
}

void node_start_senders(Node *node, int64_t now_ms)
{
    static const JobState states[] = {JOB_SENDING, JOB_RETRY};
    for (int s = 0; s < 2 && !node->stopping; s++) {
        JobRow *jobs;
        int32_t n;
        if (db_jobs_list(node->db, states[s], 0, &jobs, &n, NULL) != ST_OK)
            return;
        for (int32_t i = n - 1; i >= 0; i--) /* oldest first */
            start_job(node, &jobs[i], now_ms);
        free(jobs);
    }
}
