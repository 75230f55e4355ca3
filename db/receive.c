/* A received image and what it does to its series' job. See jobs.h, enum Received.
**
** The hot path (an image of a series that is RECEIVING) is two look-ups, one insert and one update
** in one transaction without fsync: the image's own file is durable already and recovery reads it
** again. Where a job is moved or an alert is due, the log is synced afterwards. */
#include "db/db_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char sql_find_image[] = "SELECT digest, file, series_id FROM image WHERE sop_uid = ?1";
#define PRESENT_JOB                                                                                \
    "SELECT s.id, s.study_uid, s.patient_key, j.id, j.state, j.any_sent, j.revision, s.conflict"   \
    " FROM series s JOIN job j ON j.series_id = s.id "
static const char sql_by_uid[] =
    PRESENT_JOB "WHERE s.series_uid = ?1 ORDER BY j.revision DESC LIMIT 1";
static const char sql_by_id[] = PRESENT_JOB "WHERE s.id = ?1 ORDER BY j.revision DESC LIMIT 1";
static const char sql_add_series[] =
    "INSERT INTO series(series_uid, study_uid, patient_key, last_image_ms, first_image_ms)"
    " VALUES(?1, ?2, ?3, ?4, ?4)";
static const char sql_add_job[] =
    "INSERT INTO job(series_id, revision, state, created_ms, updated_ms) VALUES(?1, ?2, 1, ?3, ?3)";
static const char sql_add_image[] =
    "INSERT INTO image(series_id, sop_uid, file, sop_class_uid, study_uid, transfer_syntax_uid,"
    " patient_key, digest, size_bytes, frame_uid, rows, columns, ipp_x, ipp_y, ipp_z, iop_0, iop_1,"
    " iop_2, iop_3, iop_4, iop_5, spacing_row_mm, spacing_column_mm, thickness_mm, instance_number,"
    " images_in_acquisition, has_position, is_localizer, calling_ae, received_ms, seen_cuts)"
    " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,"
    " ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30,"
    " (SELECT cuts FROM series WHERE id = ?1))";
static const char sql_count_image[] =
    "UPDATE series SET n_images = n_images + 1, last_image_ms = ?2 WHERE id = ?1";
static const char sql_has_file[] = "SELECT 1 FROM image WHERE file = ?1";
static const char sql_open[] =
    "UPDATE series SET transfer = 1 WHERE id = (SELECT series_id FROM job WHERE id = ?1)"
    " AND transfer = 2 AND " SERIES_IS_ARRIVING;
static const char sql_seen[] =
    "UPDATE image SET seen_cuts = (SELECT cuts FROM series WHERE series.id = series_id)"
    " WHERE sop_uid = ?1";
static const char sql_seen_at[] = "UPDATE series SET last_image_ms = ?2 WHERE id = ?1";
static const char sql_conflict[] = "UPDATE series SET conflict = ?2 WHERE id = ?1";
static const char sql_move_file[] = "UPDATE image SET file = ?2 WHERE sop_uid = ?1";
static const char sql_touch[] = "UPDATE job SET updated_ms = updated_ms WHERE id = ?1";
static const char sql_images[] =
    "SELECT i.file, i.sop_class_uid, i.sop_uid, s.series_uid, i.study_uid, i.transfer_syntax_uid,"
    " i.patient_key, i.digest, i.size_bytes, i.frame_uid, i.rows, i.columns, i.ipp_x, i.ipp_y,"
    " i.ipp_z, i.iop_0, i.iop_1, i.iop_2, i.iop_3, i.iop_4, i.iop_5, i.spacing_row_mm,"
    " i.spacing_column_mm, i.thickness_mm, i.instance_number, i.images_in_acquisition,"
    " i.has_position, i.is_localizer"
    " FROM image i JOIN series s ON s.id = i.series_id WHERE s.id = ?1 ORDER BY i.id";

_Static_assert(TRANSFER_OPEN == 1 && TRANSFER_ENDED == 2, "the numbers in the statements above");

/* The series and its newest job. */
typedef struct Present {
    int64_t series_id, job_id;
    JobState state;
    int32_t revision;
    bool any_sent, same_patient;
    Status conflict; /* of an earlier job: whatever comes now is QUARANTINED with it */
} Present;

static Status find_present(Db *db, sqlite3_stmt *query, const Instance *instance, bool *ret_found,
                           Present *ret, Err *err)
{
    TRY(query_step(db, query, ret_found, err));
    if (!*ret_found)
        return ST_OK;
    char study_uid[UID_SIZE], patient_key[HEX_SIZE];
    ret->series_id = sqlite3_column_int64(query, 0);
    column_text(query, 1, study_uid, sizeof study_uid);
    column_text(query, 2, patient_key, sizeof patient_key);
    ret->job_id = sqlite3_column_int64(query, 3);
    ret->state = (JobState)sqlite3_column_int(query, 4);
    ret->any_sent = sqlite3_column_int(query, 5) != 0;
    ret->revision = sqlite3_column_int(query, 6);
    if (!status_from_number(sqlite3_column_int(query, 7), &ret->conflict))
        ret->conflict = ST_INTERNAL;
    query_close(query);
    ret->same_patient = strcmp(study_uid, instance->study_uid) == 0 &&
                        strcmp(patient_key, instance->patient_key) == 0;
    return ST_OK;
}

static Status add_job(Db *db, int64_t series_id, int32_t revision, int64_t now_ms, int64_t *ret_id,
                      Err *err)
{
    TRY(query_run(db, NULL, err, sql_add_job, "iii", series_id, (int64_t)revision, now_ms));
    *ret_id = sqlite3_last_insert_rowid(db->sqlite);
    return ST_OK;
}

static Status add_image(Db *db, int64_t series_id, const Instance *in, const char *calling_ae,
                        int64_t now_ms, Err *err)
{
    const ImageGeometry *g = &in->geometry;
    TRY(query_run(db, NULL, err, sql_add_image, "isssssssisiiddddddddddddiiiisi", series_id,
                  in->sop_uid, in->file, in->sop_class_uid, in->study_uid, in->transfer_syntax_uid,
                  in->patient_key, in->digest, (int64_t)in->size_bytes, g->frame_uid,
                  (int64_t)g->rows, (int64_t)g->columns, g->ipp_lps_mm[0], g->ipp_lps_mm[1],
                  g->ipp_lps_mm[2], g->iop[0], g->iop[1], g->iop[2], g->iop[3], g->iop[4],
                  g->iop[5], g->pixel_spacing_mm[0], g->pixel_spacing_mm[1], g->slice_thickness_mm,
                  (int64_t)g->instance_number, (int64_t)g->images_in_acquisition,
                  (int64_t)g->has_position, (int64_t)g->is_localizer, calling_ae, now_ms));
    return query_run(db, NULL, err, sql_count_image, "ii", series_id, now_ms);
}

static Status receive_first(Db *db, const Instance *instance, const char *calling_ae,
                            int64_t now_ms, ReceivedResult *ret, Err *err)
{
    TRY(query_run(db, NULL, err, sql_add_series, "sssi", instance->series_uid, instance->study_uid,
                  instance->patient_key, now_ms));
    int64_t series_id = sqlite3_last_insert_rowid(db->sqlite);
    ret->what = RECEIVED_NEW;
    TRY(add_job(db, series_id, 1, now_ms, &ret->job_id, err));
    TRY(add_image(db, series_id, instance, calling_ae, now_ms, err));
    return event_in_tx(db, ret->job_id, "receive", "", ST_OK, -1, "first image of the series",
                       now_ms, err);
}

/* The job is QUARANTINED unless it has ended; an alert is logged either way. */
static Status quarantine(Db *db, const Present *present, Status code, const char *text,
                         int64_t now_ms, Err *err)
{
    TRY(event_in_tx(db, present->job_id, "alert", "", code, -1, text, now_ms, err));
    TRY(query_run(db, NULL, err, sql_conflict, "ii", present->series_id, (int64_t)code));
    if (job_state_terminal(present->state))
        return ST_OK;
    return job_move_in_tx(db, present->job_id, present->state, JOB_QUARANTINED, code, text, 0,
                          now_ms, err);
}

/* The SOP Instance UID is known already. */
static Status receive_again(Db *db, int64_t series_id, bool same_content, bool same_file,
                            const Instance *instance, int64_t now_ms, ReceivedResult *ret, Err *err)
{
    sqlite3_stmt *query;
    Present present;
    bool found;
    TRY(query_open(db, &query, err, sql_by_id, "i", series_id));
    TRY(find_present(db, query, instance, &found, &present, err));
    if (!found)
        return err_set(err, ST_INTERNAL, "an image without a job");
    ret->what = same_content ? RECEIVED_SAME : RECEIVED_CONFLICT;
    ret->job_id = present.job_id;
    ret->previous_state = present.state;
    ret->is_stored_file = same_file;
    if (same_content) {
        TRY(query_run(db, NULL, err, sql_seen_at, "ii", series_id, now_ms));
        return query_run(db, NULL, err, sql_seen, "s", instance->sop_uid);
    }
    return quarantine(db, &present, ST_SERIES_CONFLICT,
                      "an image came a second time with other content; the first is kept", now_ms,
                      err);
}

static Status make_new_job(Db *db, const Present *present, Received what, int64_t now_ms,
                           ReceivedResult *ret, Err *err)
{
    ret->what = what;
    ret->previous_job_id = present->job_id;
    TRY(add_job(db, present->series_id, present->revision + 1, now_ms, &ret->job_id, err));
    char text[128];
    bool late = what == RECEIVED_LATE;
    (void)snprintf(text, sizeof text, "an image came after job %lld %s; this job replaces it",
                   (long long)present->job_id, late ? "had sent its result" : "had stopped");
    TRY(event_in_tx(db, ret->job_id, late ? "alert" : "receive", "", late ? ST_SERIES_LATE : ST_OK,
                    -1, text, now_ms, err));
    if (present->conflict == ST_OK)
        return ST_OK;
    return job_move_in_tx(db, ret->job_id, JOB_RECEIVING, JOB_QUARANTINED, present->conflict,
                          "an earlier job of the series found it", 0, now_ms, err);
}

/* A further image of a known series: what it does to the present job. */
static Status receive_further(Db *db, const Present *present, int64_t now_ms, ReceivedResult *ret,
                              Err *err)
{
    ret->job_id = present->job_id;
    ret->previous_state = present->state;
    ret->what = RECEIVED_ADDED;
    if (!present->same_patient) {
        ret->what = RECEIVED_PATIENT;
        return quarantine(db, present, ST_SERIES_PATIENT,
                          "an image of another patient or study came in the series", now_ms, err);
    }
    switch (present->state) {
    case JOB_RECEIVING:
    case JOB_QUARANTINED:
        return ST_OK;
    case JOB_DONE:
        return make_new_job(db, present, RECEIVED_LATE, now_ms, ret, err);
    case JOB_CANCELLED:
        if (!present->any_sent)
            return ST_OK; /* a person decided; the rest of the transfer does not undo that */
        return make_new_job(db, present, RECEIVED_LATE, now_ms, ret, err);
    case JOB_FAILED:
        return make_new_job(db, present, present->any_sent ? RECEIVED_LATE : RECEIVED_RESTARTED,
                            now_ms, ret, err);
    case JOB_QUEUED:
    case JOB_RUNNING:
    case JOB_HELD:
    case JOB_SENDING:
    case JOB_RETRY:
        if (present->any_sent) /* or may have been: an association with a destination stood */
            return make_new_job(db, present, RECEIVED_LATE, now_ms, ret, err);
        ret->what = RECEIVED_RESTARTED;
        break;
    case JOB_WAITING:
        break;
    }
    return job_move_in_tx(db, present->job_id, present->state, JOB_RECEIVING, ST_OK,
                          "an image arrived", 0, now_ms, err);
}

static Status enter_in_tx(Db *db, const Instance *instance, const char *calling_ae, int64_t now_ms,
                          ReceivedResult *ret, Err *err)
{
    sqlite3_stmt *query;
    bool found;
    TRY(query_open(db, &query, err, sql_find_image, "s", instance->sop_uid));
    TRY(query_step(db, query, &found, err));
    if (found) {
        char digest[HEX_SIZE], file[FILE_NAME_SIZE];
        column_text(query, 0, digest, sizeof digest);
        column_text(query, 1, file, sizeof file);
        int64_t series_id = sqlite3_column_int64(query, 2);
        query_close(query);
        bool same = strcmp(digest, instance->digest) == 0;
        bool same_file = strcmp(file, instance->file) == 0;
        memcpy(ret->stored_file, file, sizeof ret->stored_file);
        return receive_again(db, series_id, same, same_file, instance, now_ms, ret, err);
    }
    Present present;
    TRY(query_open(db, &query, err, sql_by_uid, "s", instance->series_uid));
    TRY(find_present(db, query, instance, &found, &present, err));
    if (!found)
        return receive_first(db, instance, calling_ae, now_ms, ret, err);
    TRY(add_image(db, present.series_id, instance, calling_ae, now_ms, err));
    return receive_further(db, &present, now_ms, ret, err);
}

static Status receive_in_tx(Db *db, const Instance *instance, const char *calling_ae,
                            int64_t now_ms, ReceivedResult *ret, Err *err)
{
    TRY(enter_in_tx(db, instance, calling_ae, now_ms, ret, err));
    return query_run(db, NULL, err, sql_open, "i", ret->job_id);
}

/* A second, synced commit carries the first to the disk (the log is synced as a whole). If it fails
** the image is stored all the same, as safe as any other, so that is not this call's failure. */
static void make_durable(Db *db, int64_t job_id)
{
    if (tx_begin(db, TX_FULL, NULL) != ST_OK)
        return;
    Status status = query_run(db, NULL, NULL, sql_touch, "i", job_id);
    status = tx_end(db, status, NULL);
    (void)status;
}

Status db_receive(Db *db, const Instance *instance, const char *calling_ae, int64_t now_ms,
                  ReceivedResult *ret, Err *err)
{
    if (instance->file[0] == '\0' || instance->sop_uid[0] == '\0' ||
        instance->series_uid[0] == '\0')
        return err_set(err, ST_USAGE, "an image without file name or UIDs");
    ReceivedResult result = {0};
    TRY(tx_begin(db, TX_NORMAL, err));
    TRY(tx_end(db, receive_in_tx(db, instance, calling_ae, now_ms, &result, err), err));
    if (result.what != RECEIVED_NEW && result.what != RECEIVED_ADDED &&
        result.what != RECEIVED_SAME)
        make_durable(db, result.job_id);
    *ret = result;
    return ST_OK;
}

Status db_has_file(Db *db, const char *file, bool *ret, Err *err)
{
    sqlite3_stmt *query;
    bool row;
    TRY(query_open(db, &query, err, sql_has_file, "s", file));
    TRY(query_step(db, query, &row, err));
    if (row)
        query_close(query);
    *ret = row;
    return ST_OK;
}

Status db_image_file(Db *db, const char *sop_uid, const char *file, Err *err)
{
    TRY(tx_begin(db, TX_FULL, err));
    return tx_end(db, query_run(db, NULL, err, sql_move_file, "ss", sop_uid, file), err);
}

/* What was not finite is stored as NULL and comes back as NaN. */
static double column_number(sqlite3_stmt *query, int column)
{
    return sqlite3_column_type(query, column) == SQLITE_NULL ? (double)NAN
                                                             : sqlite3_column_double(query, column);
}

static void read_geometry(sqlite3_stmt *query, int column, ImageGeometry *ret)
{
    column_text(query, column++, ret->frame_uid, sizeof ret->frame_uid);
    ret->rows = sqlite3_column_int(query, column++);
    ret->columns = sqlite3_column_int(query, column++);
    for (int i = 0; i < 3; i++)
        ret->ipp_lps_mm[i] = column_number(query, column++);
    for (int i = 0; i < 6; i++)
        ret->iop[i] = column_number(query, column++);
    for (int i = 0; i < 2; i++)
        ret->pixel_spacing_mm[i] = column_number(query, column++);
    ret->slice_thickness_mm = column_number(query, column++);
    ret->instance_number = sqlite3_column_int(query, column++);
    ret->images_in_acquisition = sqlite3_column_int(query, column++);
    ret->has_position = sqlite3_column_int(query, column++) != 0;
    ret->is_localizer = sqlite3_column_int(query, column++) != 0;
}

static void read_image(sqlite3_stmt *query, Instance *ret)
{
    column_text(query, 0, ret->file, sizeof ret->file);
    column_text(query, 1, ret->sop_class_uid, sizeof ret->sop_class_uid);
    column_text(query, 2, ret->sop_uid, sizeof ret->sop_uid);
    column_text(query, 3, ret->series_uid, sizeof ret->series_uid);
    column_text(query, 4, ret->study_uid, sizeof ret->study_uid);
    column_text(query, 5, ret->transfer_syntax_uid, sizeof ret->transfer_syntax_uid);
    column_text(query, 6, ret->patient_key, sizeof ret->patient_key);
    column_text(query, 7, ret->digest, sizeof ret->digest);
    ret->size_bytes = (uint64_t)sqlite3_column_int64(query, 8);
    read_geometry(query, 9, &ret->geometry);
}

Status db_series_images(Db *db, int64_t series_id, Instance **ret, int32_t *ret_n, Err *err)
{
    sqlite3_stmt *query;
    RowList list = {0};
    bool row;
    Status status;
    TRY(query_open(db, &query, err, sql_images, "i", series_id));
    while ((status = query_step(db, query, &row, err)) == ST_OK && row) {
        Instance *image = rowlist_add(&list, sizeof *image, err);
        if (image == NULL) {
            query_close(query);
            status = ST_NO_MEMORY;
            break;
        }
        read_image(query, image);
    }
    if (status != ST_OK) {
        free(list.rows);
        return status;
    }
    *ret = list.rows;
    *ret_n = list.n;
    return ST_OK;
}
