/* The log of each job. See jobs.h. */
#include "db/db_int.h"

#include <stdlib.h>

static const char sql_add[] =
    "INSERT INTO event(job_id, at_ms, kind, step, status, duration_ms, text)"
    " VALUES(nullif(?1,0), ?2, ?3, ?4, ?5, ?6, ?7)";
static const char sql_list[] =
    "SELECT id, ifnull(job_id,0), at_ms, kind, step, status, duration_ms, text"
    " FROM event WHERE job_id IS nullif(?1,0) ORDER BY id";

Status event_in_tx(Db *db, int64_t job_id, const char *kind, const char *step, Status status,
                   int64_t duration_ms, const char *text, int64_t now_ms, Err *err)
{
    return query_run(db, NULL, err, sql_add, "iissiis", job_id, now_ms, kind,
                     step != NULL ? step : "", (int64_t)status, duration_ms,
                     text != NULL ? text : "");
}

Status db_event(Db *db, int64_t job_id, const char *kind, const char *step, Status status,
                int64_t duration_ms, const char *text, int64_t now_ms, Err *err)
{
    TRY(tx_begin(db, TX_NORMAL, err));
    return tx_end(db, event_in_tx(db, job_id, kind, step, status, duration_ms, text, now_ms, err),
                  err);
}

static Status read_events(Db *db, sqlite3_stmt *query, RowList *list, Err *err)
{
    for (;;) {
        bool row;
        TRY(query_step(db, query, &row, err));
        if (!row)
            return ST_OK;
        EventRow *event = rowlist_add(list, sizeof *event, err);
        if (event == NULL) {
            query_close(query);
            return ST_NO_MEMORY;
        }
        event->id = sqlite3_column_int64(query, 0);
        event->job_id = sqlite3_column_int64(query, 1);
        event->at_ms = sqlite3_column_int64(query, 2);
        column_text(query, 3, event->kind, sizeof event->kind);
        column_text(query, 4, event->step, sizeof event->step);
        if (!status_from_number(sqlite3_column_int(query, 5), &event->status))
            event->status = ST_INTERNAL;
        event->duration_ms = sqlite3_column_int64(query, 6);
        column_text(query, 7, event->text, sizeof event->text);
    }
}

Status db_events(Db *db, int64_t job_id, EventRow **ret, int32_t *ret_n, Err *err)
{
    sqlite3_stmt *query;
    RowList list = {0};
    TRY(query_open(db, &query, err, sql_list, "i", job_id));
    Status status = read_events(db, query, &list, err);
    if (status != ST_OK) {
        free(list.rows);
        return status;
    }
    *ret = list.rows;
    *ret_n = list.n;
    return ST_OK;
}
