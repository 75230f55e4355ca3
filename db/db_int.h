/* Inside db/: statements, transactions, schema. Only db/ and its tests include this.
**
** Every SQL text is a static string beside its use; query_open() prepares it once and keeps the
** statement, found by the string's address. A public function that writes is
**
**     TRY(tx_begin(db, TX_FULL, err));
**     return tx_end(db, work_in_tx(db, ...), err);
**
** so that each path out commits or rolls back. Thread: that of the Db. */
#ifndef CT2MR_DB_DB_INT_H
#define CT2MR_DB_DB_INT_H

#include "db/db.h"
#include "db/jobs.h"

#include <sqlite3.h>
#include <stddef.h>

enum {
    DB_APPLICATION_ID = 0x43324D52, /* "C2MR", PRAGMA application_id */
    DB_STATEMENTS_MAX = 96,
    DB_BUSY_TIMEOUT_MS = 5000
};

struct Db {
    sqlite3 *sqlite;
    int synchronous; /* PRAGMA synchronous as set last: 1 NORMAL, 2 FULL */
    int n_statements;
    struct {
        const char *sql;
        sqlite3_stmt *stmt;
    } statements[DB_STATEMENTS_MAX];
};

/* Fills err from SQLite's last error: DISK_FULL, NO_MEMORY, else DB. `doing` is one of ours. */
Status db_error(Db *db, const char *doing, Err *err);

/* Binds arguments by `types`: i int64_t, d double, s const char * (borrowed until query_close). */
MUST_CHECK Status query_open(Db *db, sqlite3_stmt **ret, Err *err, const char *sql,
                             const char *types, ...);
/* *ret_row false at the end. At the end and on error the query is closed. */
MUST_CHECK Status query_step(Db *db, sqlite3_stmt *query, bool *ret_row, Err *err);
void query_close(sqlite3_stmt *query);
/* A statement without rows; *ret_changed (may be NULL) is the number of rows it changed. */
MUST_CHECK Status query_run(Db *db, int *ret_changed, Err *err, const char *sql, const char *types,
                            ...);
void column_text(sqlite3_stmt *query, int column, char *ret, size_t size);

typedef enum TxSync { TX_NORMAL = 1, TX_FULL = 2 } TxSync;
MUST_CHECK Status tx_begin(Db *db, TxSync sync, Err *err);
/* Commits if status is ST_OK, otherwise rolls back and returns it. */
MUST_CHECK Status tx_end(Db *db, Status status, Err *err);

/* A growing array of rows for the list functions: the next free row of `size` bytes, zeroed. */
typedef struct RowList {
    void *rows;
    int32_t n, room;
} RowList;
void *rowlist_add(RowList *list, size_t size, Err *err); /* NULL: NO_MEMORY */

/* schema.c: from version - 1 to version. */
typedef struct Migration {
    int to_version;
    const char *sql;
} Migration;
/* Makes the schema in an empty file, or brings an older one up with the migrations (all in one
** transaction). Errors: DB_SCHEMA, DB, DISK_FULL. */
MUST_CHECK Status schema_prepare(Db *db, const Migration *migrations, int n_migrations,
                                 int version_wanted, Err *err);
/* The same for a reader, which changes nothing. */
MUST_CHECK Status schema_check(Db *db, int version_wanted, Err *err);
extern const Migration schema_migrations[];
extern const int schema_n_migrations;

/* jobs.c: db_job_move() inside the caller's transaction, with the conditions that need the
** database. */
MUST_CHECK Status job_move_in_tx(Db *db, int64_t job_id, JobState from, JobState to, Status code,
                                 const char *message, int64_t next_try_ms, int64_t now_ms,
                                 Err *err);
MUST_CHECK Status job_state_in_tx(Db *db, int64_t job_id, JobState *ret, Err *err);
/* events.c */
MUST_CHECK Status event_in_tx(Db *db, int64_t job_id, const char *kind, const char *step,
                              Status status, int64_t duration_ms, const char *text, int64_t now_ms,
                              Err *err);

/* SQL: of a row of series, whether images of it are still wanted: its newest job is RECEIVING (1),
** WAITING (2), or FAILED (9) as cut (513), which more images can mend. */
#define SERIES_IS_ARRIVING                                                                         \
    "EXISTS(SELECT 1 FROM job j WHERE j.series_id = series.id AND"                                 \
    " (j.state IN (1, 2) OR (j.state = 9 AND j.code = 513)) AND j.revision ="                      \
    " (SELECT max(n.revision) FROM job n WHERE n.series_id = series.id))"
_Static_assert(JOB_RECEIVING == 1 && JOB_WAITING == 2 && JOB_FAILED == 9 && ST_SERIES_CUT == 513,
               "the numbers in SERIES_IS_ARRIVING");

#endif
