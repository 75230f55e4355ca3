/* The schema and its versions. See db_int.h.
**
**   series 1 --- n image            what was received
**   series 1 --- n job              one per revision that was not simply restarted
**   job    1 --- n delivery         one per destination
**   delivery 1 --- n delivery_image one per image of the result
**   job    1 --- n event            what happened (job_id NULL: about the node)
**
** Numbers of states are those of states.h, of codes those of base/status.h. The CHECKs repeat what
** the code promises, so that a defect in it ends as a refused commit. */
#include "db/db_int.h"

#include <stdio.h>

static const char schema_sql[] =
    "CREATE TABLE series("
    " id INTEGER PRIMARY KEY,"
    " series_uid TEXT NOT NULL UNIQUE CHECK(length(series_uid) BETWEEN 1 AND 64),"
    " study_uid TEXT NOT NULL," /* of the first image: with patient_key the series' identity */
    " patient_key TEXT NOT NULL,"
    " n_images INTEGER NOT NULL DEFAULT 0 CHECK(n_images >= 0),"
    " last_image_ms INTEGER NOT NULL,"
    " transfer INTEGER NOT NULL DEFAULT 1 CHECK(transfer BETWEEN 1 AND 3)," /* enum Transfer */
    " cuts INTEGER NOT NULL DEFAULT 0,"   /* how often the transfer was cut */
    " cut_ms INTEGER NOT NULL DEFAULT 0," /* when last */
    " first_image_ms INTEGER NOT NULL DEFAULT 0,"
    " n_associations INTEGER NOT NULL DEFAULT 0,"   /* that brought images since its last cut */
    " conflict INTEGER NOT NULL DEFAULT 0) STRICT;" /* Status; a safety finding outlives its job */

    /* Calling AE titles of which an association was cut, refused an image or turned away, so that
    ** images may be missing whose series is not known. */
    "CREATE TABLE suspect("
    " calling_ae TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;"

    "CREATE TABLE image("
    " id INTEGER PRIMARY KEY," /* order of arrival */
    " series_id INTEGER NOT NULL REFERENCES series(id),"
    " sop_uid TEXT NOT NULL UNIQUE CHECK(length(sop_uid) BETWEEN 1 AND 64),"
    " file TEXT NOT NULL UNIQUE,"
    " sop_class_uid TEXT NOT NULL, study_uid TEXT NOT NULL, transfer_syntax_uid TEXT NOT NULL,"
    " patient_key TEXT NOT NULL, digest TEXT NOT NULL, size_bytes INTEGER NOT NULL,"
    " frame_uid TEXT NOT NULL, rows INTEGER NOT NULL, columns INTEGER NOT NULL,"
    " ipp_x REAL, ipp_y REAL, ipp_z REAL," /* lps_mm; NULL where the file's value is not finite */
    " iop_0 REAL, iop_1 REAL, iop_2 REAL, iop_3 REAL, iop_4 REAL, iop_5 REAL,"
    " spacing_row_mm REAL, spacing_column_mm REAL, thickness_mm REAL,"
    " instance_number INTEGER NOT NULL, images_in_acquisition INTEGER NOT NULL,"
    " has_position INTEGER NOT NULL CHECK(has_position IN (0,1)),"
    " is_localizer INTEGER NOT NULL CHECK(is_localizer IN (0,1)),"
    " calling_ae TEXT NOT NULL, received_ms INTEGER NOT NULL,"
    " seen_cuts INTEGER NOT NULL) STRICT;" /* series.cuts when it last came */
    "CREATE INDEX image_series ON image(series_id);"

    "CREATE TABLE job("
    " id INTEGER PRIMARY KEY AUTOINCREMENT," /* a number shown to people is never used again */
    " series_id INTEGER NOT NULL REFERENCES series(id),"
    " revision INTEGER NOT NULL CHECK(revision >= 1),"
    " state INTEGER NOT NULL CHECK(state BETWEEN 1 AND 11),"
    " code INTEGER NOT NULL DEFAULT 0, message TEXT NOT NULL DEFAULT '',"
    " attempt INTEGER NOT NULL DEFAULT 0 CHECK(attempt >= 0),"
    " created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL,"
    " wait_until_ms INTEGER NOT NULL DEFAULT 0, next_try_ms INTEGER NOT NULL DEFAULT 0,"
    " any_sent INTEGER NOT NULL DEFAULT 0 CHECK(any_sent IN (0,1))," /* never reset */
    " forgotten INTEGER NOT NULL DEFAULT 0 CHECK(forgotten IN (0,1)),"
    " model_digest TEXT NOT NULL DEFAULT '', mr_series_uid TEXT NOT NULL DEFAULT '',"
    " UNIQUE(series_id, revision),"
    " CHECK(wait_until_ms = 0 OR state = 2),"
    " CHECK(state NOT IN (5,6,7,8) OR mr_series_uid <> '')" /* HELD..DONE have a result */
    ") STRICT;"
    "CREATE INDEX job_state ON job(state, next_try_ms);"

    "CREATE TABLE delivery("
    " id INTEGER PRIMARY KEY,"
    " job_id INTEGER NOT NULL REFERENCES job(id) ON DELETE CASCADE,"
    " destination TEXT NOT NULL CHECK(length(destination) BETWEEN 1 AND 63),"
    " attempt INTEGER NOT NULL DEFAULT 0, first_try_ms INTEGER NOT NULL DEFAULT 0,"
    " next_try_ms INTEGER NOT NULL DEFAULT 0,"
    " code INTEGER NOT NULL DEFAULT 0, message TEXT NOT NULL DEFAULT '',"
    " ended INTEGER NOT NULL DEFAULT 0 CHECK(ended IN (0,1)),"
    " UNIQUE(job_id, destination)) STRICT;"

    "CREATE TABLE delivery_image("
    " delivery_id INTEGER NOT NULL REFERENCES delivery(id) ON DELETE CASCADE,"
    " sop_uid TEXT NOT NULL CHECK(length(sop_uid) BETWEEN 1 AND 64),"
    " position INTEGER NOT NULL, file TEXT NOT NULL CHECK(file <> ''),"
    " state INTEGER NOT NULL DEFAULT 1 CHECK(state BETWEEN 1 AND 3),"
    " dimse_status INTEGER NOT NULL DEFAULT 0, updated_ms INTEGER NOT NULL,"
    " PRIMARY KEY(delivery_id, sop_uid)) STRICT, WITHOUT ROWID;"

    "CREATE TABLE event("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " job_id INTEGER REFERENCES job(id),"
    " at_ms INTEGER NOT NULL, kind TEXT NOT NULL, step TEXT NOT NULL,"
    " status INTEGER NOT NULL, duration_ms INTEGER NOT NULL, text TEXT NOT NULL) STRICT;"
    "CREATE INDEX event_job ON event(job_id, id);";

/* {to_version, "ALTER ..."} in ascending order; each brings version - 1 to version. The first row
** is the place where the numbering starts: version 1 is schema_sql itself. */
const Migration schema_migrations[] = {{1, NULL}};
const int schema_n_migrations = (int)(sizeof schema_migrations / sizeof schema_migrations[0]);

static Status read_number(Db *db, const char *sql, int64_t *ret, Err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db->sqlite, sql, -1, &stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    int64_t value = rc == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;
    (void)sqlite3_finalize(stmt);
    if (rc == SQLITE_NOTADB)
        return err_set(err, ST_DB_SCHEMA, "the file is not a database");
    if (rc != SQLITE_ROW)
        return db_error(db, "reading the schema's version", err);
    *ret = value;
    return ST_OK;
}

static Status execute(Db *db, const char *sql, const char *doing, Err *err)
{
    return sqlite3_exec(db->sqlite, sql, NULL, NULL, NULL) == SQLITE_OK ? ST_OK
                                                                        : db_error(db, doing, err);
}

/* *ret_version 0: an empty file. */
static Status read_version(Db *db, int *ret_version, Err *err)
{
    int64_t id, version, n_tables;
    TRY(read_number(db, "PRAGMA application_id", &id, err));
    TRY(read_number(db, "PRAGMA user_version", &version, err));
    TRY(read_number(db, "SELECT count(*) FROM sqlite_schema", &n_tables, err));
    if (id == 0 && version == 0 && n_tables == 0) {
        *ret_version = 0;
        return ST_OK;
    }
    if (id != DB_APPLICATION_ID)
        return err_set(err, ST_DB_SCHEMA, "the file is a database, but not one of ct2mr");
    if (version < 1 || version > INT32_MAX)
        return err_set(err, ST_DB_SCHEMA, "schema version %lld is unknown", (long long)version);
    *ret_version = (int)version;
    return ST_OK;
}

static Status set_version(Db *db, int version, Err *err)
{
    char sql[64]; /* PRAGMA takes no bound values */
    (void)snprintf(sql, sizeof sql, "PRAGMA user_version=%d", version);
    return execute(db, sql, "writing the schema's version", err);
}

static Status create(Db *db, int version_wanted, Err *err)
{
    char sql[64];
    (void)snprintf(sql, sizeof sql, "PRAGMA application_id=%d", DB_APPLICATION_ID);
    TRY(execute(db, sql, "writing the application id", err));
    TRY(execute(db, schema_sql, "making the tables", err));
    return set_version(db, version_wanted, err);
}

static Status migrate(Db *db, int version, const Migration *migrations, int n_migrations,
                      int version_wanted, Err *err)
{
    while (version < version_wanted) {
        const Migration *next = NULL;
        for (int i = 0; i < n_migrations; i++)
            if (migrations[i].to_version == version + 1 && migrations[i].sql != NULL)
                next = &migrations[i];
        if (next == NULL)
            return err_set(err, ST_DB_SCHEMA, "schema version %d cannot be brought to %d", version,
                           version_wanted);
        TRY(execute(db, next->sql, "migrating the schema", err));
        TRY(set_version(db, ++version, err));
    }
    return ST_OK;
}

static Status newer(int version, int version_wanted, Err *err)
{
    return err_set(err, ST_DB_SCHEMA, "schema version %d is newer than %d, which this program uses",
                   version, version_wanted);
}

static Status prepare_in_tx(Db *db, const Migration *migrations, int n_migrations,
                            int version_wanted, Err *err)
{
    int version;
    TRY(read_version(db, &version, err));
    if (version == 0)
        return create(db, version_wanted, err);
    if (version > version_wanted)
        return newer(version, version_wanted, err);
    return migrate(db, version, migrations, n_migrations, version_wanted, err);
}

Status schema_prepare(Db *db, const Migration *migrations, int n_migrations, int version_wanted,
                      Err *err)
{
    int version; /* look before the first write: a foreign file stays as it is */
    TRY(read_version(db, &version, err));
    if (version > version_wanted)
        return newer(version, version_wanted, err);
    TRY(tx_begin(db, TX_FULL, err));
    return tx_end(db, prepare_in_tx(db, migrations, n_migrations, version_wanted, err), err);
}

Status schema_check(Db *db, int version_wanted, Err *err)
{
    int version;
    TRY(read_version(db, &version, err));
    if (version > version_wanted)
        return newer(version, version_wanted, err);
    if (version != version_wanted)
        return err_set(err, ST_DB_SCHEMA, "schema version %d is older than %d; start the daemon",
                       version, version_wanted);
    return ST_OK;
}
