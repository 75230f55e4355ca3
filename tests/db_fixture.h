/* Rows for the tests of db/: a database in the test's folder, images with made-up names. */
#ifndef CT2MR_TESTS_DB_FIXTURE_H
#define CT2MR_TESTS_DB_FIXTURE_H

#include "tests/test.h"

#include "base/digest.h"
#include "base/files.h"
#include "db/db_int.h"

static inline const char *fixture_path(void)
{
    static char path[PATH_SIZE];
    CHECK(path_format(path, NULL, "%s/ct2mr.db", test_dir()) == ST_OK);
    return path;
}

static inline Db *fixture_open(void)
{
    Db *db;
    Err err = {0};
    CHECK_OK(db_open(fixture_path(), DB_OWNER, &db, &err), &err);
    return db;
}

static inline void fixture_sql(Db *db, const char *sql)
{
    char *why = NULL;
    if (sqlite3_exec(db->sqlite, sql, NULL, NULL, &why) != SQLITE_OK)
        test_fail(__FILE__, __LINE__, "%s: %s", sql, why != NULL ? why : "?");
}

/* The first column of the first row. */
static inline int64_t fixture_number(Db *db, const char *sql)
{
    sqlite3_stmt *stmt = NULL;
    CHECK_INT(sqlite3_prepare_v2(db->sqlite, sql, -1, &stmt, NULL), SQLITE_OK);
    CHECK_INT(sqlite3_step(stmt), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(stmt, 0);
    CHECK_INT(sqlite3_finalize(stmt), SQLITE_OK);
    return value;
}

/* Slice k of a series: everything but the numbers is the same for all slices. */
static inline Instance fixture_image(int series, int k)
{
    Instance in = {.size_bytes = 525800};
    (void)snprintf(in.file, sizeof in.file, "f-%d-%d.dcm", series, k);
    (void)snprintf(in.sop_class_uid, UID_SIZE, "1.2.840.10008.5.1.4.1.1.2");
    (void)snprintf(in.sop_uid, UID_SIZE, "1.2.826.0.1.3680043.8.498.1205591140.%d.%d", series, k);
    (void)snprintf(in.series_uid, UID_SIZE, "1.2.826.0.1.3680043.8.498.4672307012.%d", series);
    (void)snprintf(in.study_uid, UID_SIZE,
                   "1.2.826.0.1.3680043.8.498.99999999123456789012345678901.1");
    (void)snprintf(in.transfer_syntax_uid, UID_SIZE, "1.2.840.10008.1.2.1");
    (void)snprintf(in.patient_key, HEX_SIZE, "%064d", 7);
    (void)snprintf(in.digest, HEX_SIZE, "%032d%032d", series, k);
    ImageGeometry *g = &in.geometry;
    (void)snprintf(g->frame_uid, UID_SIZE, "1.2.826.0.1.3680043.8.498.5.%d", series);
    g->rows = g->columns = 512;
    g->ipp_lps_mm[0] = -125;
    g->ipp_lps_mm[1] = -130.25;
    g->ipp_lps_mm[2] = 1.5 * k;
    g->iop[0] = g->iop[4] = 1;
    g->pixel_spacing_mm[0] = g->pixel_spacing_mm[1] = 0.488281;
    g->slice_thickness_mm = 1.5;
    g->instance_number = k;
    g->has_position = true;
    return in;
}

static inline ReceivedResult fixture_receive(Db *db, const Instance *in, int64_t now_ms)
{
    ReceivedResult result;
    Err err = {0};
    CHECK_OK(db_receive(db, in, "CT99", now_ms, &result, &err), &err);
    return result;
}

static inline JobRow fixture_job(Db *db, int64_t job_id)
{
    JobRow job;
    Err err = {0};
    CHECK_OK(db_job_get(db, job_id, &job, &err), &err);
    return job;
}

static inline void fixture_move(Db *db, int64_t job_id, JobState from, JobState to)
{
    Err err = {0};
    CHECK_OK(db_job_move(db, job_id, from, to, ST_OK, NULL, 0, 5000, &err), &err);
}

/* A job in RUNNING with one image of the series. */
static inline int64_t fixture_running(Db *db, int series)
{
    Instance in = fixture_image(series, 1);
    int64_t id = fixture_receive(db, &in, 1000).job_id;
    fixture_move(db, id, JOB_RECEIVING, JOB_QUEUED);
    fixture_move(db, id, JOB_QUEUED, JOB_RUNNING);
    return id;
}

static inline OutputImage fixture_output(int k)
{
    OutputImage out;
    (void)snprintf(out.file, sizeof out.file, "%04d.dcm", k);
    (void)snprintf(out.sop_uid, sizeof out.sop_uid, "2.25.1%06d", k);
    return out;
}

enum { FIXTURE_OUTPUTS = 5 };
static const char *const fixture_destinations[] = {"TPS_A", "TPS_B"};

/* Computed with 5 images for the first n_destinations of TPS_A, TPS_B. */
static inline int64_t fixture_computed(Db *db, int series, int n_destinations, bool hold)
{
    Err err = {0};
    OutputImage out[FIXTURE_OUTPUTS];
    for (int k = 0; k < FIXTURE_OUTPUTS; k++)
        out[k] = fixture_output(k);
    int64_t id = fixture_running(db, series);
    CHECK_OK(db_job_computed(db, id, "abcd", "2.25.99", out, FIXTURE_OUTPUTS, fixture_destinations,
                             n_destinations, hold, 6000, &err),
             &err);
    return id;
}

static inline void fixture_sent(Db *db, int64_t job_id, const char *destination, int k);

/* A SENDING job for TPS_A alone: all sent, DONE at 6000. */
static inline void fixture_done(Db *db, int64_t job_id)
{
    Err err = {0};
    JobState state;
    for (int k = 0; k < FIXTURE_OUTPUTS; k++)
        fixture_sent(db, job_id, "TPS_A", k);
    CHECK_OK(db_job_settle(db, job_id, 0, 6000, &state, &err), &err);
    CHECK_INT(state, JOB_DONE);
}

static inline void fixture_sent(Db *db, int64_t job_id, const char *destination, int k)
{
    Err err = {0};
    OutputImage out = fixture_output(k);
    CHECK_OK(db_delivery_image(db, job_id, destination, out.sop_uid, DELIVERY_SENT, 0, 7000, &err),
             &err);
}

#endif
