/* Reading jobs and moving them through the table of states.h. See jobs.h.
**
** job_move_in_tx() is the only place that writes job.state. */
#include "db/db_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOB_SELECT                                                                                 \
    "SELECT j.id, j.series_id, j.revision, j.state, j.code, j.message, j.attempt, j.created_ms,"   \
    " j.updated_ms, s.last_image_ms, j.wait_until_ms, j.next_try_ms, s.n_images, s.series_uid,"    \
    " s.study_uid, j.model_digest, j.mr_series_uid, s.transfer, s.n_associations"                  \
    " FROM job j JOIN series s ON s.id = j.series_id "

static const char sql_get[] = JOB_SELECT "WHERE j.id = ?1";
static const char sql_list[] = JOB_SELECT "WHERE ?1 IN (0, j.state) ORDER BY j.id DESC LIMIT ?2";
static const char sql_ready[] =
    JOB_SELECT "WHERE j.state = ?1 AND (j.next_try_ms <= ?2 OR j.next_try_ms > ?2 + ?3)"
               " ORDER BY j.id";
/* 8 DONE; 8..11 terminal. */
static const char sql_expired[] =
    JOB_SELECT "WHERE j.forgotten = 0 AND j.series_id IN"
               " (SELECT series_id FROM job GROUP BY series_id"
               "  HAVING min(state) >= 8 AND max(updated_ms) < ?1)"
               " AND (SELECT n.state FROM job n WHERE n.series_id = j.series_id"
               "      ORDER BY n.revision DESC LIMIT 1) = 8 ORDER BY j.id";
static const char sql_before_move[] =
    "SELECT state, revision, attempt, any_sent, mr_series_uid <> '',"
    " revision < (SELECT max(n.revision) FROM job n WHERE n.series_id = job.series_id),"
    " EXISTS(SELECT 1 FROM delivery d JOIN delivery_image i ON i.delivery_id = d.id"
    "        WHERE d.job_id = job.id AND i.state <> 2),"
    " EXISTS(SELECT 1 FROM delivery d WHERE d.job_id = job.id AND d.first_try_ms > 0),"
    " EXISTS(SELECT 1 FROM delivery d WHERE d.job_id = job.id)"
    " FROM job WHERE id = ?1";
static const char sql_move[] =
    "UPDATE job SET state = ?2, code = ?3, message = ?4, next_try_ms = ?5, updated_ms = ?6,"
    " wait_until_ms = 0, revision = ?7, attempt = ?8,"
    " model_digest = iif(?9, model_digest, ''), mr_series_uid = iif(?9, mr_series_uid, '')"
    " WHERE id = ?1";
static const char sql_drop_deliveries[] = "DELETE FROM delivery WHERE job_id = ?1";
static const char sql_restart_deliveries[] =
    "UPDATE delivery SET attempt = 0, first_try_ms = 0, next_try_ms = 0, code = 0, message = '',"
    " ended = 0 WHERE job_id = ?1 AND EXISTS"
    " (SELECT 1 FROM delivery_image i WHERE i.delivery_id = delivery.id AND i.state <> 2)";
static const char sql_restart_images[] =
    "UPDATE delivery_image SET state = 1, dimse_status = 0, updated_ms = ?2 WHERE state = 3 AND"
    " delivery_id IN (SELECT id FROM delivery WHERE job_id = ?1)";
static const char sql_wait_until[] =
    "UPDATE job SET wait_until_ms = ?2 WHERE id = ?1 AND state = 2";
static const char sql_running[] = "SELECT id FROM job WHERE state = 4 ORDER BY id";
static const char sql_counts[] = "SELECT state, count(*) FROM job GROUP BY state";
static const char sql_may_forget[] =
    "SELECT series_id, (SELECT min(state) FROM job m WHERE m.series_id = job.series_id) >= 8"
    " AND (SELECT n.state FROM job n WHERE n.series_id = job.series_id"
    "      ORDER BY n.revision DESC LIMIT 1) = 8 FROM job WHERE id = ?1";
static const char sql_forget_job[] = "UPDATE job SET forgotten = 1 WHERE id = ?1";
static const char sql_forget_images[] = "DELETE FROM image WHERE series_id = ?1";
static const char sql_forget_count[] = "UPDATE series SET n_images = 0 WHERE id = ?1";

_Static_assert(JOB_WAITING == 2 && JOB_RUNNING == 4 && JOB_DONE == 8 && JOB_STATE_LAST == 11 &&
                   DELIVERY_SENT == 2 && DELIVERY_REFUSED == 3,
               "the numbers in the statements above");

static Status column_status(sqlite3_stmt *query, int column)
{
    Status status;
    return status_from_number(sqlite3_column_int(query, column), &status) ? status : ST_INTERNAL;
}

static void read_job(sqlite3_stmt *query, JobRow *ret)
{
    ret->id = sqlite3_column_int64(query, 0);
    ret->series_id = sqlite3_column_int64(query, 1);
    ret->revision = sqlite3_column_int(query, 2);
    ret->state = (JobState)sqlite3_column_int(query, 3);
    ret->code = column_status(query, 4);
    column_text(query, 5, ret->message, sizeof ret->message);
    ret->attempt = sqlite3_column_int(query, 6);
    ret->created_ms = sqlite3_column_int64(query, 7);
    ret->updated_ms = sqlite3_column_int64(query, 8);
    ret->last_image_ms = sqlite3_column_int64(query, 9);
    ret->wait_until_ms = sqlite3_column_int64(query, 10);
    ret->next_try_ms = sqlite3_column_int64(query, 11);
    ret->n_images = sqlite3_column_int(query, 12);
    column_text(query, 13, ret->series_uid, sizeof ret->series_uid);
    column_text(query, 14, ret->study_uid, sizeof ret->study_uid);
    column_text(query, 15, ret->model_digest, sizeof ret->model_digest);
    column_text(query, 16, ret->mr_series_uid, sizeof ret->mr_series_uid);
    ret->transfer = (Transfer)sqlite3_column_int(query, 17);
    ret->n_associations = sqlite3_column_int(query, 18);
}

/* Reads the query to its end, which closes it. */
static Status read_jobs(Db *db, sqlite3_stmt *query, JobRow **ret, int32_t *ret_n, Err *err)
{
    RowList list = {0};
    bool row = true;
    Status status;
    while ((status = query_step(db, query, &row, err)) == ST_OK && row) {
        JobRow *job = rowlist_add(&list, sizeof *job, err);
        if (job == NULL) {
            query_close(query);
            status = ST_NO_MEMORY;
            break;
        }
        read_job(query, job);
    }
    if (status != ST_OK) {
        free(list.rows);
        return status;
    }
    *ret = list.rows;
    *ret_n = list.n;
    return ST_OK;
}

static Status no_such_job(int64_t job_id, Err *err)
{
    return err_set(err, ST_NOT_FOUND, "there is no job %lld", (long long)job_id);
}

Status db_job_get(Db *db, int64_t job_id, JobRow *ret, Err *err)
{
    sqlite3_stmt *query;
    bool row;
    TRY(query_open(db, &query, err, sql_get, "i", job_id));
    TRY(query_step(db, query, &row, err));
    if (!row)
        return no_such_job(job_id, err);
    memset(ret, 0, sizeof *ret);
    read_job(query, ret);
    query_close(query);
    return ST_OK;
}

Status db_jobs_list(Db *db, JobState state, int32_t n, JobRow **ret, int32_t *ret_n, Err *err)
{
    sqlite3_stmt *query;
    int64_t limit = n > 0 ? n : -1;
    TRY(query_open(db, &query, err, sql_list, "ii", (int64_t)state, limit));
    return read_jobs(db, query, ret, ret_n, err);
}

Status db_jobs_ready(Db *db, JobState state, int64_t now_ms, int64_t longest_ms, JobRow **ret,
                     int32_t *ret_n, Err *err)
{
    sqlite3_stmt *query;
    TRY(query_open(db, &query, err, sql_ready, "iii", (int64_t)state, now_ms, longest_ms));
    return read_jobs(db, query, ret, ret_n, err);
}

Status db_jobs_expired(Db *db, int64_t before_ms, JobRow **ret, int32_t *ret_n, Err *err)
{
    sqlite3_stmt *query;
    TRY(query_open(db, &query, err, sql_expired, "i", before_ms));
    return read_jobs(db, query, ret, ret_n, err);
}

Status job_state_in_tx(Db *db, int64_t job_id, JobState *ret, Err *err)
{
    JobRow job;
    TRY(db_job_get(db, job_id, &job, err));
    *ret = job.state;
    return ST_OK;
}

typedef struct BeforeMove {
    JobState state;
    int32_t revision, attempt;
    bool any_sent, has_result, is_superseded, has_unsent, was_tried, has_deliveries;
} BeforeMove;

static Status read_before_move(Db *db, int64_t job_id, BeforeMove *ret, Err *err)
{
    sqlite3_stmt *query;
    bool row;
    TRY(query_open(db, &query, err, sql_before_move, "i", job_id));
    TRY(query_step(db, query, &row, err));
    if (!row)
        return no_such_job(job_id, err);
    ret->state = (JobState)sqlite3_column_int(query, 0);
    ret->revision = sqlite3_column_int(query, 1);
    ret->attempt = sqlite3_column_int(query, 2);
    ret->any_sent = sqlite3_column_int(query, 3) != 0;
    ret->has_result = sqlite3_column_int(query, 4) != 0;
    ret->is_superseded = sqlite3_column_int(query, 5) != 0;
    ret->has_unsent = sqlite3_column_int(query, 6) != 0;
    ret->was_tried = sqlite3_column_int(query, 7) != 0;
    ret->has_deliveries = sqlite3_column_int(query, 8) != 0;
    query_close(query);
    return ST_OK;
}

/* What the table cannot know. NULL if the move may be made, else why not. */
static const char *obstacle(const BeforeMove *job, JobState to)
{
    bool back = job_state_terminal(job->state);
    if (to == JOB_RECEIVING && job->any_sent)
        return "images of its result were sent";
    if (to == JOB_QUEUED && back && job->is_superseded)
        return "a newer job holds the series";
    if ((to == JOB_SENDING || to == JOB_HELD || to == JOB_DONE) && !job->has_result)
        return "it has no result";
    if (to == JOB_DONE && job->has_unsent)
        return "images of its result are not sent";
    if (to == JOB_SENDING && job->state == JOB_HELD && !job->has_deliveries)
        return status_text(ST_DEST_NONE);
    /* Else cancelling and retrying would get round the release by a person. */
    if (to == JOB_SENDING && back && !job->was_tried)
        return "its result was never released for sending";
    return NULL;
}

/* The rows beside the job's own that a move changes. */
static Status move_deliveries(Db *db, int64_t job_id, JobState from, JobState to, int64_t now_ms,
                              Err *err)
{
    if (to == JOB_RUNNING || (to == JOB_RECEIVING && from != JOB_WAITING))
        return query_run(db, NULL, err, sql_drop_deliveries, "i", job_id);
    if (to == JOB_SENDING && job_state_terminal(from)) {
        TRY(query_run(db, NULL, err, sql_restart_deliveries, "i", job_id));
        return query_run(db, NULL, err, sql_restart_images, "ii", job_id, now_ms);
    }
    return ST_OK;
}

static Status state_event(Db *db, int64_t job_id, JobState from, JobState to, Status code,
                          const char *message, int64_t now_ms, Err *err)
{
    char text[ERR_MSG_SIZE];
    bool more = message != NULL && message[0] != '\0';
    (void)snprintf(text, sizeof text, "%s -> %s%s%s", job_state_name(from), job_state_name(to),
                   more ? ": " : "", more ? message : "");
    return event_in_tx(db, job_id, "state", "", code, -1, text, now_ms, err);
}

Status job_move_in_tx(Db *db, int64_t job_id, JobState from, JobState to, Status code,
                      const char *message, int64_t next_try_ms, int64_t now_ms, Err *err)
{
    BeforeMove job = {0};
    TRY(read_before_move(db, job_id, &job, err));
    if (job.state != from)
        return err_set(err, ST_STATE, "job %lld is %s, not %s", (long long)job_id,
                       job_state_name(job.state), job_state_name(from));
    if (!job_state_may(from, to))
        return err_set(err, ST_STATE, "job %lld is %s and cannot become %s", (long long)job_id,
                       job_state_name(from), job_state_name(to));
    const char *why_not = obstacle(&job, to);
    if (why_not != NULL)
        return err_set(err, ST_STATE, "job %lld cannot become %s: %s", (long long)job_id,
                       job_state_name(to), why_not);

    bool restarts = to == JOB_RECEIVING && from != JOB_WAITING;
    int64_t revision = job.revision + (restarts ? 1 : 0), attempt = job.attempt;
    if (to == JOB_RUNNING)
        attempt++;
    else if (restarts || (to == JOB_QUEUED && job_state_terminal(from)))
        attempt = 0;
    int64_t keeps_result = !restarts && to != JOB_RUNNING;
    TRY(move_deliveries(db, job_id, from, to, now_ms, err));
    TRY(query_run(db, NULL, err, sql_move, "iiisiiiii", job_id, (int64_t)to, (int64_t)code,
                  message != NULL ? message : "", next_try_ms, now_ms, revision, attempt,
                  keeps_result));
    return state_event(db, job_id, from, to, code, message, now_ms, err);
}

Status db_job_move(Db *db, int64_t job_id, JobState from, JobState to, Status code,
                   const char *message, int64_t next_try_ms, int64_t now_ms, Err *err)
{
    TRY(tx_begin(db, TX_FULL, err));
    return tx_end(db, job_move_in_tx(db, job_id, from, to, code, message, next_try_ms, now_ms, err),
                  err);
}

static Status wait_until_in_tx(Db *db, int64_t job_id, int64_t wait_until_ms, Err *err)
{
    JobState state;
    TRY(job_state_in_tx(db, job_id, &state, err));
    if (state != JOB_WAITING)
        return err_set(err, ST_STATE, "job %lld is %s, not WAITING", (long long)job_id,
                       job_state_name(state));
    return query_run(db, NULL, err, sql_wait_until, "ii", job_id, wait_until_ms);
}

Status db_job_wait_until(Db *db, int64_t job_id, int64_t wait_until_ms, Err *err)
{
    TRY(tx_begin(db, TX_FULL, err));
    return tx_end(db, wait_until_in_tx(db, job_id, wait_until_ms, err), err);
}

static Status read_running(Db *db, RowList *list, Err *err)
{
    sqlite3_stmt *query;
    bool row;
    TRY(query_open(db, &query, err, sql_running, ""));
    for (;;) {
        TRY(query_step(db, query, &row, err));
        if (!row)
            return ST_OK;
        int64_t *id = rowlist_add(list, sizeof *id, err);
        if (id == NULL) {
            query_close(query);
            return ST_NO_MEMORY;
        }
        *id = sqlite3_column_int64(query, 0);
    }
}

static Status recover_in_tx(Db *db, RowList *list, int64_t now_ms, Err *err)
{
    TRY(read_running(db, list, err));
    const int64_t *ids = list->rows;
    for (int32_t i = 0; i < list->n; i++)
        TRY(job_move_in_tx(db, ids[i], JOB_RUNNING, JOB_QUEUED, ST_DAEMON_ENDED,
                           "the daemon ended while it ran", 0, now_ms, err));
    return ST_OK;
}

Status db_recover(Db *db, int64_t now_ms, int32_t *ret_moved, Err *err)
{
    RowList list = {0};
    TRY(tx_begin(db, TX_FULL, err));
    Status status = tx_end(db, recover_in_tx(db, &list, now_ms, err), err);
    if (status == ST_OK)
        *ret_moved = list.n;
    free(list.rows);
    return status;
}

Status db_counts(Db *db, int64_t ret[JOB_STATE_LAST + 1], Err *err)
{
    sqlite3_stmt *query;
    bool row;
    int64_t counts[JOB_STATE_LAST + 1] = {0};
    TRY(query_open(db, &query, err, sql_counts, ""));
    for (;;) {
        TRY(query_step(db, query, &row, err));
        if (!row)
            break;
        int state = sqlite3_column_int(query, 0);
        if (state >= 0 && state <= JOB_STATE_LAST)
            counts[state] = sqlite3_column_int64(query, 1);
    }
    for (int i = 0; i <= JOB_STATE_LAST; i++)
        ret[i] = counts[i];
    return ST_OK;
}

static Status forget_in_tx(Db *db, int64_t job_id, Err *err)
{
    sqlite3_stmt *query;
    bool row;
    TRY(query_open(db, &query, err, sql_may_forget, "i", job_id));
    TRY(query_step(db, query, &row, err));
    if (!row)
        return no_such_job(job_id, err);
    int64_t series_id = sqlite3_column_int64(query, 0);
    bool may = sqlite3_column_int(query, 1) != 0;
    query_close(query);
    if (!may)
        return err_set(err, ST_STATE, "the series of job %lld is in use", (long long)job_id);
    TRY(query_run(db, NULL, err, sql_forget_job, "i", job_id));
    TRY(query_run(db, NULL, err, sql_forget_images, "i", series_id));
    return query_run(db, NULL, err, sql_forget_count, "i", series_id);
}

Status db_job_forget_files(Db *db, int64_t job_id, Err *err)
{
    TRY(tx_begin(db, TX_FULL, err));
    return tx_end(db, forget_in_tx(db, job_id, err), err);
}
