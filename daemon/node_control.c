/* What a person asks over the control socket. See control.h for the verbs, node.h for the rest. */
#include "daemon/node.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool node_ready(const Node *node, char ret_reason[160])
{
    const Config *c = &node->config;
    uint64_t free_bytes;
    const char *why = NULL;
    if (node->stopping)
        why = "stopping";
    else if (!receiver_ready(node->receiver))
        why = "not listening yet";
    else if (access(c->model_path, R_OK) != 0)
        why = "model.path cannot be read";
    else if (access(c->align_reference, R_OK) != 0)
        why = "align.reference cannot be read";
    else if (disk_free(c->spool_path, &free_bytes, NULL) != ST_OK ||
             free_bytes < (uint64_t)c->min_free_mib << 20)
        why = "less than listen.min_free_mib free on the spool";
    (void)snprintf(ret_reason, 160, "%s", why != NULL ? why : "");
    return why == NULL;
}

static Status add_counts(const Node *node, cJSON *reply, Err *err)
{
    int64_t counts[JOB_STATE_LAST + 1];
    TRY(db_counts(node->db, counts, err));
    cJSON *jobs = cJSON_AddObjectToObject(reply, "jobs");
    for (int s = JOB_STATE_FIRST; s <= JOB_STATE_LAST; s++)
        cJSON_AddNumberToObject(jobs, job_state_name((JobState)s), (double)counts[s]);
    return ST_OK;
}

/* What a person should know although the node works. */
static void add_warnings(const Node *node, cJSON *reply)
{
    cJSON *list = cJSON_AddArrayToObject(reply, "warnings");
    char text[ERR_MSG_SIZE + 64];
    if (node->config.n_destinations == 0)
        cJSON_AddItemToArray(list,
                             cJSON_CreateString("no destination is configured: results are held"));
    for (int i = 0; i < NODE_MAX_WORKERS; i++)
        if (node->out_of_service[i][0] != '\0') {
            (void)snprintf(text, sizeof text, "worker %d: %s", i, node->out_of_service[i]);
            cJSON_AddItemToArray(list, cJSON_CreateString(text));
        }
    if (node->reload_refused[0] != '\0') {
        (void)snprintf(text, sizeof text, "the last reload was refused: %s", node->reload_refused);
        cJSON_AddItemToArray(list, cJSON_CreateString(text));
    }
    if (node->n_need_restart > 0) {
        (void)snprintf(text, sizeof text, "a restart is needed for %d changed options, first %s",
                       node->n_need_restart, node->first_needs_restart);
        cJSON_AddItemToArray(list, cJSON_CreateString(text));
    }
}

static Status status_reply(const Node *node, cJSON *reply, Err *err)
{
    char reason[160];
    bool ready = node_ready(node, reason);
    ReceiverStats r = receiver_stats(node->receiver);
    uint64_t free_bytes = 0;
    if (disk_free(node->config.spool_path, &free_bytes, NULL) != ST_OK)
        free_bytes = 0;
    cJSON_AddNumberToObject(reply, "pid", getpid());
    cJSON_AddStringToObject(reply, "version", CT2MR_VERSION);
    cJSON_AddNumberToObject(reply, "uptime_s",
                            (double)((clock_steady_ms() - node->started_ms) / 1000));
    cJSON_AddBoolToObject(reply, "ready", ready);
    cJSON_AddStringToObject(reply, "ready_reason", reason);
    cJSON_AddNumberToObject(reply, "associations_open", r.open);
    cJSON_AddNumberToObject(reply, "accepted", (double)r.accepted);
    cJSON_AddNumberToObject(reply, "rejected", (double)(r.rejected + r.refused_address));
    cJSON_AddNumberToObject(reply, "stored", (double)r.stored);
    cJSON_AddNumberToObject(reply, "refused", (double)r.refused);
    cJSON_AddNumberToObject(reply, "killed", (double)r.killed);
    cJSON_AddNumberToObject(reply, "crashed", (double)r.crashed);
    cJSON_AddStringToObject(reply, "worker", node_computes(node, 0) ? "busy" : "idle");
    cJSON_AddNumberToObject(reply, "gpus", node->n_gpus);
    cJSON_AddNumberToObject(reply, "spool_free_mib", (double)(free_bytes >> 20));
    add_warnings(node, reply);
    return add_counts(node, reply, err);
}

static Status operator_move(Node *node, const JobRow *job, JobState to, Err *err)
{
    TRY(db_job_move(node->db, job->id, job->state, to, to == JOB_CANCELLED ? ST_CANCELLED : ST_OK,
                    NULL, 0, clock_steady_ms(), err));
    node_event(node, job->id, "operator", "", ST_OK, -1, "%s -> %s", job_state_name(job->state),
               job_state_name(to));
    return ST_OK;
}

/* True if every image that is still to be sent lies in the job's folder. */
static bool output_is_there(Node *node, const JobRow *job)
{
    DeliveryRow *rows;
    int32_t n;
    char dir[PATH_SIZE], path[PATH_SIZE];
    if (node_job_dir(node, job, dir, NULL) != ST_OK || access(dir, R_OK) != 0 ||
        db_deliveries(node->db, job->id, &rows, &n, NULL) != ST_OK)
        return false;
    bool all = true;
    for (int32_t i = 0; i < n && all; i++) {
        OutputImage *images = NULL;
        int32_t n_images = 0;
        all = db_delivery_pending(node->db, job->id, rows[i].destination, &images, &n_images,
                                  NULL) == ST_OK;
        for (int32_t k = 0; k < n_images && all; k++)
            all = path_format(path, NULL, "%s/%s", dir, images[k].file) == ST_OK &&
                  access(path, R_OK) == 0;
        free(images);
    }
    free(rows);
    return all;
}

/* A job whose images were computed is sent again; one that failed before, or whose images are no
** longer there, is computed again. */
static Status retry(Node *node, const JobRow *job, Err *err)
{
    if (job->state != JOB_FAILED && job->state != JOB_CANCELLED)
        return err_set(err, ST_STATE, "job %lld is %s; retry needs FAILED or CANCELLED",
                       (long long)job->id, job_state_name(job->state));
    Err resend = {0};
    if (job->mr_series_uid[0] != '\0' && output_is_there(node, job) &&
        db_job_resend(node->db, job->id, clock_steady_ms(), &resend) == ST_OK) {
        node_event(node, job->id, "operator", "", ST_OK, -1, "%s -> SENDING",
                   job_state_name(job->state));
        return ST_OK;
    }
    return operator_move(node, job, JOB_QUEUED, err);
}

static Status job_verb(Node *node, const char *verb, int64_t job_id, Err *err)
{
    JobRow job;
    TRY(db_job_get(node->db, job_id, &job, err));
    if (strcmp(verb, "cancel") == 0) {
        TRY(operator_move(node, &job, JOB_CANCELLED, err));
        node_stop_children(node, job_id, ST_CANCELLED);
        return ST_OK;
    }
    if (strcmp(verb, "retry") == 0)
        return retry(node, &job, err);
    if (strcmp(verb, "hold") == 0) {
        TRY(operator_move(node, &job, JOB_HELD, err));
        node_stop_children(node, job_id, ST_CANCELLED);
        return ST_OK;
    }
    if (strcmp(verb, "release") == 0 && job.state != JOB_HELD)
        return err_set(err, ST_STATE, "job %lld is %s; release needs HELD", (long long)job_id,
                       job_state_name(job.state));
    if (strcmp(verb, "release") == 0) {
        TRY(node_release(node, &job, err));
        node_event(node, job_id, "operator", "", ST_OK, -1, "HELD -> SENDING");
        return ST_OK;
    }
    return err_set(err, ST_USAGE, "unknown verb");
}

Status node_control(void *context, const char *verb, int64_t job_id, cJSON *reply, Err *err)
{
    Node *node = context;
    if (strcmp(verb, "status") == 0)
        return status_reply(node, reply, err);
    if (strcmp(verb, "ready") == 0) {
        char reason[160];
        cJSON_AddBoolToObject(reply, "ready", node_ready(node, reason));
        cJSON_AddStringToObject(reply, "reason", reason);
        return ST_OK;
    }
    TRY(job_verb(node, verb, job_id, err));
    node_schedule(node);
    JobRow job;
    TRY(db_job_get(node->db, job_id, &job, err));
    cJSON_AddStringToObject(reply, "state", job_state_name(job.state));
    return ST_OK;
}
