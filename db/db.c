/* Opening, statements and transactions. See db.h and db_int.h.
**
** Durability in WAL mode (sqlite.org/wal.html, "Performance Considerations"): with
** synchronous=NORMAL a commit is atomic but may be lost in a power cut, with FULL the log is synced
** at the commit, and with it all earlier commits. SQLite forbids the change inside a transaction,
** so tx_begin() makes it.
**
** The -wal and -shm files are kept when the last connection closes (SQLITE_FCNTL_PERSIST_WAL), so
** that somebody who may read but not write the folder can read with the daemon up or down. */
#include "db/db_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A checkpoint syncs log and file, and stalls the image that causes it: one in about 600 images
** instead of SQLite's one in 150 (4000 pages are 16 MB). A log that grew beyond that (a long
** reader) is cut back at the next checkpoint. */
enum { WAL_CHECKPOINT_PAGES = 4000, WAL_KEEP_BYTES = 32 << 20, ROWS_FIRST = 16 };

static bool is_full_errno(int errnum)
{
    return errnum == ENOSPC || errnum == EDQUOT || errnum == EFBIG; /* EFBIG: a file size limit */
}

/* SQLite says SQLITE_FULL for ENOSPC only; sqlite3_system_errno() is not set by a failed COMMIT. So
** an I/O error asks both files for the errno they saw last. */
static bool has_full_device(Db *db)
{
    int in_file = 0, in_log = 0;
    sqlite3_file *log = NULL;
    (void)sqlite3_file_control(db->sqlite, "main", SQLITE_FCNTL_LAST_ERRNO, &in_file);
    (void)sqlite3_file_control(db->sqlite, "main", SQLITE_FCNTL_JOURNAL_POINTER, (void *)&log);
    if (log != NULL && log->pMethods != NULL)
        (void)log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &in_log);
    return is_full_errno(in_file) || is_full_errno(in_log);
}

Status db_error(Db *db, const char *doing, Err *err)
{
    int code = sqlite3_errcode(db->sqlite), extended = sqlite3_extended_errcode(db->sqlite);
    Status status = ST_DB;
    if (code == SQLITE_FULL || (code == SQLITE_IOERR && has_full_device(db)))
        status = ST_DISK_FULL;
    else if (code == SQLITE_NOMEM)
        status = ST_NO_MEMORY;
    (void)err_set(err, status, "%s: %s (SQLite code %d)", doing, sqlite3_errstr(extended),
                  extended);
    if (err != NULL)
        err->native = extended;
    return status;
}

static sqlite3_stmt *cached(const Db *db, const char *sql)
{
    for (int i = 0; i < db->n_statements; i++)
        if (db->statements[i].sql == sql)
            return db->statements[i].stmt;
    return NULL;
}

static Status prepare(Db *db, const char *sql, sqlite3_stmt **ret, Err *err)
{
    ASSERT(db->n_statements < DB_STATEMENTS_MAX);
    if (sqlite3_prepare_v3(db->sqlite, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL) != SQLITE_OK)
        return db_error(db, "preparing a statement", err);
    db->statements[db->n_statements].sql = sql;
    db->statements[db->n_statements++].stmt = *ret;
    return ST_OK;
}

static Status bind_all(Db *db, sqlite3_stmt *query, const char *types, va_list args, Err *err)
{
    int rc = SQLITE_OK;
    ASSERT((int)strlen(types) == sqlite3_bind_parameter_count(query));
    for (int i = 0; types[i] != '\0' && rc == SQLITE_OK; i++) {
        switch (types[i]) {
        case 'i':
            rc = sqlite3_bind_int64(query, i + 1, va_arg(args, int64_t));
            break;
        case 'd': /* NaN is stored as NULL */
            rc = sqlite3_bind_double(query, i + 1, va_arg(args, double));
            break;
        case 's':
            rc = sqlite3_bind_text(query, i + 1, va_arg(args, const char *), -1, SQLITE_STATIC);
            break;
        default:
            ASSERT(types[i] == 0); /* no such type */
        }
    }
    return rc == SQLITE_OK ? ST_OK : db_error(db, "binding a value", err);
}

static Status query_open_v(Db *db, sqlite3_stmt **ret, Err *err, const char *sql, const char *types,
                           va_list args)
{
    sqlite3_stmt *query = cached(db, sql);
    if (query == NULL)
        TRY(prepare(db, sql, &query, err));
    ASSERT(!sqlite3_stmt_busy(query)); /* one use at a time: no recursion over a statement */
    Status status = bind_all(db, query, types, args, err);
    if (status != ST_OK) {
        query_close(query);
        return status;
    }
    *ret = query;
    return ST_OK;
}

Status query_open(Db *db, sqlite3_stmt **ret, Err *err, const char *sql, const char *types, ...)
{
    va_list args;
    va_start(args, types);
    Status status = query_open_v(db, ret, err, sql, types, args);
    va_end(args);
    return status;
}

Status query_step(Db *db, sqlite3_stmt *query, bool *ret_row, Err *err)
{
    int rc = sqlite3_step(query);
    if (rc == SQLITE_ROW) {
        *ret_row = true;
        return ST_OK;
    }
    Status status = rc == SQLITE_DONE ? ST_OK : db_error(db, "running a statement", err);
    query_close(query);
    if (status == ST_OK)
        *ret_row = false;
    return status;
}

void query_close(sqlite3_stmt *query)
{
    (void)sqlite3_reset(query); /* repeats the error of the last step */
    (void)sqlite3_clear_bindings(query);
}

Status query_run(Db *db, int *ret_changed, Err *err, const char *sql, const char *types, ...)
{
    sqlite3_stmt *query;
    va_list args;
    va_start(args, types);
    Status status = query_open_v(db, &query, err, sql, types, args);
    va_end(args);
    if (status != ST_OK)
        return status;
    bool row;
    TRY(query_step(db, query, &row, err));
    ASSERT(!row);
    if (ret_changed != NULL)
        *ret_changed = sqlite3_changes(db->sqlite);
    return ST_OK;
}

void column_text(sqlite3_stmt *query, int column, char *ret, size_t size)
{
    const unsigned char *text = sqlite3_column_text(query, column);
    (void)snprintf(ret, size, "%s", text != NULL ? (const char *)text : "");
}

Status tx_begin(Db *db, TxSync sync, Err *err)
{
    if (db->synchronous != (int)sync) {
        const char *pragma =
            sync == TX_FULL ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL";
        if (sqlite3_exec(db->sqlite, pragma, NULL, NULL, NULL) != SQLITE_OK)
            return db_error(db, "setting synchronous", err);
        db->synchronous = (int)sync;
    }
    /* IMMEDIATE: the lock is taken here, not in the middle of the work. */
    return query_run(db, NULL, err, "BEGIN IMMEDIATE", "");
}

static void rollback(Db *db)
{
    if (sqlite3_get_autocommit(db->sqlite)) /* SQLite has rolled back by itself (full disk) */
        return;
    (void)sqlite3_exec(db->sqlite, "ROLLBACK", NULL, NULL, NULL);
}

Status tx_end(Db *db, Status status, Err *err)
{
    if (status == ST_OK)
        status = query_run(db, NULL, err, "COMMIT", "");
    if (status != ST_OK)
        rollback(db);
    return status;
}

void *rowlist_add(RowList *list, size_t size, Err *err)
{
    if (list->n == list->room) {
        int32_t room = list->room > 0 ? 2 * list->room : ROWS_FIRST;
        void *rows = reallocarray(list->rows, (size_t)room, size);
        if (rows == NULL) {
            (void)err_set(err, ST_NO_MEMORY, "list of %d rows", room);
            return NULL;
        }
        list->rows = rows;
        list->room = room;
    }
    void *row = (char *)list->rows + (size_t)list->n++ * size;
    memset(row, 0, size);
    return row;
}

/* The file is made here, so that its mode (and that of -wal and -shm, which SQLite copies from it)
** is ours: the group may read. */
static Status make_file(const char *path, Err *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0)
        return err_sys(err, errno, "opening the database %s", path);
    (void)close(fd);
    return ST_OK;
}

static Status open_owner(Db *db, const char *path, Err *err)
{
    TRY(make_file(path, err));
    if (sqlite3_open_v2(path, &db->sqlite, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
        SQLITE_OK)
        return db_error(db, "opening the database", err);
    (void)sqlite3_busy_timeout(db->sqlite, DB_BUSY_TIMEOUT_MS);
    if (sqlite3_exec(db->sqlite, "PRAGMA foreign_keys=ON", NULL, NULL, NULL) != SQLITE_OK)
        return db_error(db, "setting up the database", err);
    TRY(schema_prepare(db, schema_migrations, schema_n_migrations, DB_SCHEMA_VERSION, err));
    char sql[128];
    (void)snprintf(sql, sizeof sql,
                   "PRAGMA journal_mode=WAL; PRAGMA journal_size_limit=%d;"
                   "PRAGMA wal_autocheckpoint=%d",
                   WAL_KEEP_BYTES, WAL_CHECKPOINT_PAGES);
    if (sqlite3_exec(db->sqlite, sql, NULL, NULL, NULL) != SQLITE_OK)
        return db_error(db, "setting up the write-ahead log", err);
    int keep = 1;
    (void)sqlite3_file_control(db->sqlite, "main", SQLITE_FCNTL_PERSIST_WAL, &keep);
    return ST_OK;
}

static Status open_reader_uri(Db *db, const char *uri, Err *err)
{
    int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI;
    if (sqlite3_open_v2(uri, &db->sqlite, flags, NULL) != SQLITE_OK)
        return db_error(db, "opening the database", err);
    (void)sqlite3_busy_timeout(db->sqlite, DB_BUSY_TIMEOUT_MS);
    return schema_check(db, DB_SCHEMA_VERSION, err);
}

/* "file:" + the path with the characters escaped that mean something in a URI. */
static Status make_uri(const char *path, const char *query, char *ret, size_t size, Err *err)
{
    size_t n = (size_t)snprintf(ret, size, "file:");
    for (const char *p = path; *p != '\0'; p++) {
        bool escape = *p == '?' || *p == '#' || *p == '%';
        if (n + 4 >= size)
            return err_set(err, ST_LIMIT, "the database's path is too long");
        n += (size_t)snprintf(ret + n, size - n, escape ? "%%%02X" : "%c", (unsigned char)*p);
    }
    if ((size_t)snprintf(ret + n, size - n, "%s", query) >= size - n)
        return err_set(err, ST_LIMIT, "the database's path is too long");
    return ST_OK;
}

/* A database whose -wal and -shm are gone (copied, or closed by another program) cannot be opened
** in WAL mode by somebody who may not create them. Without a -wal nothing is outside the file and
** nobody writes, so it may be read as it stands. */
static Status open_reader(Db *db, const char *path, Err *err)
{
    char uri[3 * 4096], wal[4096 + 8];
    if (access(path, F_OK) != 0)
        return err_sys(err, errno, "opening the database %s", path);
    TRY(make_uri(path, "", uri, sizeof uri, err));
    Err first = {0};
    Status status = open_reader_uri(db, uri, &first);
    int native = first.native & 0xff;
    (void)snprintf(wal, sizeof wal, "%s-wal", path);
    if (status == ST_DB && (native == SQLITE_CANTOPEN || native == SQLITE_READONLY) &&
        access(wal, F_OK) != 0) {
        (void)sqlite3_close(db->sqlite);
        db->sqlite = NULL;
        TRY(make_uri(path, "?immutable=1", uri, sizeof uri, err));
        return open_reader_uri(db, uri, err);
    }
    return status == ST_OK ? ST_OK : err_set(err, status, "%s", first.msg);
}

Status db_open(const char *path, DbMode mode, Db **ret, Err *err)
{
    Db *db = calloc(1, sizeof *db);
    if (db == NULL)
        return err_set(err, ST_NO_MEMORY, "opening the database");
    Status status = mode == DB_OWNER ? open_owner(db, path, err) : open_reader(db, path, err);
    if (status != ST_OK) {
        db_close(db);
        return status;
    }
    *ret = db;
    return ST_OK;
}

void db_close(Db *db)
{
    if (db == NULL)
        return;
    for (int i = 0; i < db->n_statements; i++)
        (void)sqlite3_finalize(db->statements[i].stmt);
    (void)sqlite3_close(db->sqlite);
    free(db);
}
