/* Results on their way to the destinations. See jobs.h.
**
** A job is DONE when every image of every destination was answered with success: that is counted
** here from the answers themselves, never taken from what a sender says about its attempt. */
#include "db/db_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char sql_set_result[] =
    "UPDATE job SET model_digest = ?2, mr_series_uid = ?3 WHERE id = ?1";
static const char sql_drop[] = "DELETE FROM delivery WHERE job_id = ?1";
static const char sql_add[] = "INSERT INTO delivery(job_id, destination) VALUES(?1, ?2)";
static const char sql_add_image[] =
    "INSERT INTO delivery_image(delivery_id, sop_uid, position, file, updated_ms)"
    " VALUES(?1, ?2, ?3, ?4, ?5)";
static const char sql_list[] =
    "SELECT d.destination, count(i.sop_uid), ifnull(sum(i.state = 2),0), ifnull(sum(i.state = "
    "3),0),"
    " d.attempt, d.first_try_ms, d.next_try_ms, d.code, d.message, d.ended,"
    " ifnull(sum(i.state = 2 AND i.dimse_status <> 0),0)"
    " FROM delivery d LEFT JOIN delivery_image i ON i.delivery_id = d.id"
    " WHERE d.job_id = ?1 GROUP BY d.id ORDER BY d.id";
static const char sql_find[] = "SELECT id FROM delivery WHERE job_id = ?1 AND destination = ?2";
static const char sql_pending[] =
    "SELECT file, sop_uid FROM delivery_image WHERE delivery_id = ?1 AND state = 1"
    " ORDER BY position";
static const char sql_find_image[] =
    "SELECT state FROM delivery_image WHERE delivery_id = ?1 AND sop_uid = ?2";
static const char sql_set_image[] =
    "UPDATE delivery_image SET state = ?3, dimse_status = ?4, updated_ms = ?5"
    " WHERE delivery_id = ?1 AND sop_uid = ?2";
static const char sql_any_sent[] = "UPDATE job SET any_sent = 1 WHERE id = ?1 AND any_sent = 0";
static const char sql_begin[] =
    "UPDATE delivery SET attempt = attempt + 1, first_try_ms = iif(first_try_ms = 0, ?2,"
    " first_try_ms), next_try_ms = 0 WHERE id = ?1";
static const char sql_unsent[] =
    "SELECT count(*) FROM delivery_image WHERE delivery_id = ?1 AND state <> 2";
static const char sql_end[] =
    "UPDATE delivery SET code = ?2, message = ?3, next_try_ms = ?4, ended = ?5 WHERE id = ?1";

_Static_assert(DELIVERY_PENDING == 1 && DELIVERY_SENT == 2 && DELIVERY_REFUSED == 3,
               "the numbers in the statements above");

static Status add_delivery(Db *db, int64_t job_id, const char *destination,
                           const OutputImage *images, int32_t n, int64_t now_ms, Err *err)
{
    if (destination[0] == '\0' || strlen(destination) >= sizeof((DeliveryRow *)0)->destination)
        return err_set(err, ST_USAGE, "a destination's name has 1 to 63 characters");
    TRY(query_run(db, NULL, err, sql_add, "is", job_id, destination));
    int64_t id = sqlite3_last_insert_rowid(db->sqlite);
    for (int32_t i = 0; i < n; i++)
        TRY(query_run(db, NULL, err, sql_add_image, "isisi", id, images[i].sop_uid, (int64_t)i,
                      images[i].file, now_ms));
    return ST_OK;
}

Status db_job_computed(Db *db, int64_t job_id, const char *model_digest, const char *mr_series_uid,
                       const OutputImage *images, int32_t n, const char *const *destinations,
                       int32_t n_destinations, bool hold, int64_t now_ms, Err *err)
{
    if (n <= 0 || mr_series_uid[0] == '\0')
        return err_set(err, ST_USAGE, "a result has at least one image and a series UID");
    JobState to = hold || n_destinations == 0 ? JOB_HELD : JOB_SENDING;
    Status code = n_destinations == 0 ? ST_DEST_NONE : ST_OK;
    const char *message = n_destinations == 0 ? status_text(ST_DEST_NONE) : NULL;
    TRY(tx_begin(db, TX_FULL, err));
    Status status = query_run(db, NULL, err, sql_drop, "i", job_id);
    if (status == ST_OK)
        status =
            query_run(db, NULL, err, sql_set_result, "iss", job_id, model_digest, mr_series_uid);
    if (status == ST_OK) /* refuses a job that is not RUNNING, and with it all the rest */
        status = job_move_in_tx(db, job_id, JOB_RUNNING, to, code, message, 0, now_ms, err);
    for (int32_t i = 0; i < n_destinations && status == ST_OK; i++)
        status = add_delivery(db, job_id, destinations[i], images, n, now_ms, err);
    return tx_end(db, status, err);
}

static Status release_in_tx(Db *db, int64_t job_id, const OutputImage *images, int32_t n,
                            const char *const *destinations, int32_t n_destinations, int64_t now_ms,
                            Err *err)
{
    DeliveryRow *rows;
    int32_t n_rows;
    TRY(db_deliveries(db, job_id, &rows, &n_rows, err));
    free(rows);
    for (int32_t i = 0; i < n_destinations && n_rows == 0 && n > 0; i++)
        TRY(add_delivery(db, job_id, destinations[i], images, n, now_ms, err));
    return job_move_in_tx(db, job_id, JOB_HELD, JOB_SENDING, ST_OK, NULL, 0, now_ms, err);
}

Status db_job_release(Db *db, int64_t job_id, const OutputImage *images, int32_t n,
                      const char *const *destinations, int32_t n_destinations, int64_t now_ms,
                      Err *err)
{
    TRY(tx_begin(db, TX_FULL, err));
    return tx_end(
        db, release_in_tx(db, job_id, images, n, destinations, n_destinations, now_ms, err), err);
}

static void read_delivery(sqlite3_stmt *query, DeliveryRow *ret)
{
    column_text(query, 0, ret->destination, sizeof ret->destination);
    ret->n_images = sqlite3_column_int(query, 1);
    ret->n_sent = sqlite3_column_int(query, 2);
    ret->n_refused = sqlite3_column_int(query, 3);
    ret->attempt = sqlite3_column_int(query, 4);
    ret->first_try_ms = sqlite3_column_int64(query, 5);
    ret->next_try_ms = sqlite3_column_int64(query, 6);
    if (!status_from_number(sqlite3_column_int(query, 7), &ret->code))
        ret->code = ST_INTERNAL;
    column_text(query, 8, ret->message, sizeof ret->message);
    ret->ended = sqlite3_column_int(query, 9) != 0;
    ret->n_warned = sqlite3_column_int(query, 10);
}

Status db_deliveries(Db *db, int64_t job_id, DeliveryRow **ret, int32_t *ret_n, Err *err)
{
    sqlite3_stmt *query;
    RowList list = {0};
    bool row;
    Status status;
    TRY(query_open(db, &query, err, sql_list, "i", job_id));
    while ((status = query_step(db, query, &row, err)) == ST_OK && row) {
        DeliveryRow *delivery = rowlist_add(&list, sizeof *delivery, err);
        if (delivery == NULL) {
            query_close(query);
            status = ST_NO_MEMORY;
            break;
        }
        read_delivery(query, delivery);
    }
    if (status != ST_OK) {
        free(list.rows);
        return status;
    }
    *ret = list.rows;
    *ret_n = list.n;
    return ST_OK;
}

static Status find_delivery(Db *db, int64_t job_id, const char *destination, int64_t *ret, Err *err)
{
    sqlite3_stmt *query;
    bool row;
    TRY(query_open(db, &query, err, sql_find, "is", job_id, destination));
    TRY(query_step(db, query, &row, err));
    if (!row)
        return err_set(err, ST_NOT_FOUND, "job %lld has no delivery to that destination",
                       (long long)job_id);
    *ret = sqlite3_column_int64(query, 0);
    query_close(query);
    return ST_OK;
}

Status db_delivery_pending(Db *db, int64_t job_id, const char *destination, OutputImage **ret,
                           int32_t *ret_n, Err *err)
{
    sqlite3_stmt *query;
    RowList list = {0};
    bool row;
    int64_t id;
    Status status;
    TRY(find_delivery(db, job_id, destination, &id, err));
    TRY(query_open(db, &query, err, sql_pending, "i", id));
    while ((status = query_step(db, query, &row, err)) == ST_OK && row) {
        OutputImage *image = rowlist_add(&list, sizeof *image, err);
        if (image == NULL) {
            query_close(query);
            status = ST_NO_MEMORY;
            break;
        }
        column_text(query, 0, image->file, sizeof image->file);
        column_text(query, 1, image->sop_uid, sizeof image->sop_uid);
    }
    if (status != ST_OK) {
        free(list.rows);
        return status;
    }
    *ret = list.rows;
    *ret_n = list.n;
    return ST_OK;
}

static Status image_in_tx(Db *db, int64_t job_id, const char *destination, const char *sop_uid,
                          DeliveryState state, uint16_t dimse_status, int64_t now_ms, Err *err)
{
    sqlite3_stmt *query;
    bool row;
    int64_t id;
    TRY(find_delivery(db, job_id, destination, &id, err));
    TRY(query_open(db, &query, err, sql_find_image, "is", id, sop_uid));
    TRY(query_step(db, query, &row, err));
    if (!row)
        return err_set(err, ST_NOT_FOUND, "job %lld has no such image", (long long)job_id);
    bool is_sent = sqlite3_column_int(query, 0) == DELIVERY_SENT;
    query_close(query);
    if (is_sent) /* a success is never taken back */
        return ST_OK;
    TRY(query_run(db, NULL, err, sql_set_image, "isiii", id, sop_uid, (int64_t)state,
                  (int64_t)dimse_status, now_ms));
    if (state != DELIVERY_SENT)
        return ST_OK;
    return query_run(db, NULL, err, sql_any_sent, "i", job_id);
}

Status db_delivery_image(Db *db, int64_t job_id, const char *destination, const char *sop_uid,
                         DeliveryState state, uint16_t dimse_status, int64_t now_ms, Err *err)
{
    TRY(tx_begin(db, TX_NORMAL, err));
    return tx_end(
        db, image_in_tx(db, job_id, destination, sop_uid, state, dimse_status, now_ms, err), err);
}

static Status begin_in_tx(Db *db, int64_t job_id, const char *destination, int64_t now_ms, Err *err)
{
    int64_t id;
    TRY(find_delivery(db, job_id, destination, &id, err));
    return query_run(db, NULL, err, sql_begin, "ii", id, now_ms);
}

Status db_delivery_begin(Db *db, int64_t job_id, const char *destination, int64_t now_ms, Err *err)
{
    TRY(tx_begin(db, TX_FULL, err));
    return tx_end(db, begin_in_tx(db, job_id, destination, now_ms, err), err);
}

Status db_delivery_connected(Db *db, int64_t job_id, Err *err)
{
    TRY(tx_begin(db, TX_FULL, err));
    return tx_end(db, query_run(db, NULL, err, sql_any_sent, "i", job_id), err);
}

Status delivery_outcome(Status attempt, const DeliveryRow *row)
{
    bool is_pending = row->n_sent + row->n_refused < row->n_images;
    if (attempt == ST_SEND_REFUSED && is_pending)
        return ST_SEND_RESOURCES;
    if (attempt == ST_OK && !is_pending && row->n_refused > 0)
        return ST_SEND_REFUSED;
    return attempt;
}

/* Where a SENDING job belongs, from its deliveries. */
typedef struct Verdict {
    JobState state;
    Status code;
    char message[ERR_MSG_SIZE];
    int64_t next_try_ms;
} Verdict;

static Verdict judge(const DeliveryRow *rows, int32_t n, int32_t n_active)
{
    Verdict verdict = {.state = JOB_DONE};
    const DeliveryRow *left = NULL, *given_up = NULL;
    for (int32_t i = 0; i < n; i++) {
        if (rows[i].n_sent == rows[i].n_images)
            continue;
        if (!rows[i].ended && (left == NULL || rows[i].next_try_ms < left->next_try_ms))
            left = &rows[i];
        if (rows[i].ended && given_up == NULL)
            given_up = &rows[i];
    }
    const DeliveryRow *cause = left != NULL ? left : given_up;
    if (cause == NULL)
        return verdict;
    if (left != NULL)
        verdict.state = n_active > 0 ? JOB_SENDING : JOB_RETRY;
    else
        verdict.state = JOB_FAILED;
    verdict.code = cause->code;
    verdict.next_try_ms = left != NULL ? left->next_try_ms : 0;
    (void)snprintf(verdict.message, sizeof verdict.message, "%s: %d of %d images sent: %.256s",
                   cause->destination, cause->n_sent, cause->n_images, cause->message);
    return verdict;
}

static Status settle_in_tx(Db *db, int64_t job_id, int32_t n_active, int64_t now_ms,
                           JobState *ret_state, Err *err)
{
    JobState state;
    TRY(job_state_in_tx(db, job_id, &state, err));
    *ret_state = state;
    if (state != JOB_SENDING) /* held, cancelled or restarted meanwhile */
        return ST_OK;
    DeliveryRow *rows;
    int32_t n;
    TRY(db_deliveries(db, job_id, &rows, &n, err));
    Verdict verdict = judge(rows, n, n_active);
    free(rows);
    *ret_state = verdict.state;
    if (verdict.state == JOB_SENDING)
        return ST_OK;
    return job_move_in_tx(db, job_id, JOB_SENDING, verdict.state, verdict.code, verdict.message,
                          verdict.next_try_ms, now_ms, err);
}

Status db_job_settle(Db *db, int64_t job_id, int32_t n_active, int64_t now_ms, JobState *ret_state,
                     Err *err)
{
    JobState state;
    TRY(tx_begin(db, TX_FULL, err));
    TRY(tx_end(db, settle_in_tx(db, job_id, n_active, now_ms, &state, err), err));
    *ret_state = state;
    return ST_OK;
}

static Status count_unsent(Db *db, int64_t delivery_id, int32_t *ret, Err *err)
{
    sqlite3_stmt *query;
    bool row;
    TRY(query_open(db, &query, err, sql_unsent, "i", delivery_id));
    TRY(query_step(db, query, &row, err));
    ASSERT(row);
    *ret = sqlite3_column_int(query, 0);
    query_close(query);
    return ST_OK;
}

static Status end_in_tx(Db *db, int64_t job_id, const char *destination, Status code,
                        const char *message, int64_t next_try_ms, Err *err)
{
    int64_t id;
    int32_t n_unsent;
    TRY(find_delivery(db, job_id, destination, &id, err));
    TRY(count_unsent(db, id, &n_unsent, err));
    if (code == ST_OK && n_unsent > 0)
        return err_set(err, ST_STATE, "success reported, but %d images have no answer", n_unsent);
    if (n_unsent == 0) { /* all answered with success, whatever happened to the association then */
        code = ST_OK;
        message = NULL;
        next_try_ms = 0;
    }
    return query_run(db, NULL, err, sql_end, "iisii", id, (int64_t)code,
                     message != NULL ? message : "", next_try_ms, (int64_t)(next_try_ms <= 0));
}

Status db_delivery_end(Db *db, int64_t job_id, const char *destination, Status code,
                       const char *message, int64_t next_try_ms, int32_t n_active, int64_t now_ms,
                       JobState *ret_state, Err *err)
{
    JobState state = JOB_SENDING;
    TRY(tx_begin(db, TX_FULL, err));
    Status status = end_in_tx(db, job_id, destination, code, message, next_try_ms, err);
    if (status == ST_OK)
        status = settle_in_tx(db, job_id, n_active, now_ms, &state, err);
    TRY(tx_end(db, status, err));
    *ret_state = state;
    return ST_OK;
}

static Status resend_in_tx(Db *db, int64_t job_id, int64_t now_ms, Err *err)
{
    JobState state;
    TRY(job_state_in_tx(db, job_id, &state, err));
    if (state != JOB_FAILED && state != JOB_CANCELLED)
        return err_set(err, ST_STATE, "job %lld is %s; only FAILED or CANCELLED is sent again",
                       (long long)job_id, job_state_name(state));
    return job_move_in_tx(db, job_id, state, JOB_SENDING, ST_OK, "sent again", 0, now_ms, err);
}

Status db_job_resend(Db *db, int64_t job_id, int64_t now_ms, Err *err)
{
    TRY(tx_begin(db, TX_FULL, err));
    return tx_end(db, resend_in_tx(db, job_id, now_ms, err), err);
}
