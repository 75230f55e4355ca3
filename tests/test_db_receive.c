/* db/receive: each case of enum Received against each state the job can be in, recovery, retention,
** and the time one image costs. */
#include "tests/db_fixture.h"

#include "base/clock.h"

#include <time.h>

static void set_state(Db *db, int64_t id, JobState state, bool any_sent)
{
    char sql[256];
    (void)snprintf(
        sql, sizeof sql,
        "UPDATE job SET state = %d, any_sent = %d, attempt = 2, mr_series_uid = '2.25.9',"
        " model_digest = 'ab' WHERE id = %lld",
        (int)state, any_sent, (long long)id);
    fixture_sql(db, sql);
}

TEST(receive_first_and_further, "NEW with job and revision 1, then ADDED; count, last arrival, and "
                                "events are kept")
{
    Db *db = fixture_open();
    Instance in = fixture_image(1, 1);
    ReceivedResult first = fixture_receive(db, &in, 1000);
    CHECK_INT(first.what, RECEIVED_NEW);
    CHECK_INT(first.previous_state, 0);
    for (int k = 2; k <= 40; k++) {
        in = fixture_image(1, k);
        ReceivedResult result = fixture_receive(db, &in, 1000 + k);
        CHECK_INT(result.what, RECEIVED_ADDED);
        CHECK_INT(result.job_id, first.job_id);
        CHECK_INT(result.previous_state, JOB_RECEIVING);
        CHECK_INT(result.previous_job_id, 0);
    }
    JobRow job = fixture_job(db, first.job_id);
    CHECK_INT(job.state, JOB_RECEIVING);
    CHECK_INT(job.revision, 1);
    CHECK_INT(job.n_images, 40);
    CHECK_INT(job.created_ms, 1000);
    CHECK_INT(job.last_image_ms, 1040);
    CHECK_STR(job.series_uid, in.series_uid);
    CHECK_STR(job.study_uid, in.study_uid);
    CHECK_INT(fixture_number(db, "SELECT count(*) FROM event"), 1);
    db_close(db);
}

TEST(receive_keeps_every_field, "what is stored reads back equal, in order of arrival, NaN as NaN")
{
    Db *db = fixture_open();
    Err err = {0};
    Instance in = fixture_image(1, 3), *back;
    in.geometry.images_in_acquisition = 77;
    in.geometry.iop[5] = 0.1234567890123456;
    in.size_bytes = 5000000000;
    ReceivedResult result = fixture_receive(db, &in, 1000);
    Instance odd = fixture_image(1, 2);
    odd.geometry.has_position = false;
    odd.geometry.is_localizer = true;
    odd.geometry.ipp_lps_mm[2] = (double)NAN;
    odd.geometry.frame_uid[0] = '\0';
    (void)fixture_receive(db, &odd, 1001);
    int32_t n;
    JobRow job = fixture_job(db, result.job_id);
    CHECK_OK(db_series_images(db, job.series_id, &back, &n, &err), &err);
    CHECK_INT(n, 2);
    CHECK(memcmp(&back[0], &in, sizeof in) == 0);
    CHECK_STR(back[1].sop_uid, odd.sop_uid);
    CHECK(isnan(back[1].geometry.ipp_lps_mm[2]) && back[1].geometry.is_localizer);
    CHECK(!back[1].geometry.has_position && back[1].geometry.frame_uid[0] == '\0');
    free(back);
    bool has;
    CHECK_OK(db_has_file(db, in.file, &has, &err), &err);
    CHECK(has);
    CHECK_OK(db_has_file(db, "other.dcm", &has, &err), &err);
    CHECK(!has);
    CHECK_OK(db_series_images(db, 999, &back, &n, &err), &err);
    CHECK_INT(n, 0);
    free(back);
    db_close(db);
}

TEST(receive_same_is_a_no_op, "same UID and content under a new file name: SAME in all 11 states, "
                              "nothing changes; under its own name is_stored_file is set")
{
    Db *db = fixture_open();
    Instance in = fixture_image(1, 1);
    int64_t id = fixture_receive(db, &in, 1000).job_id;
    for (int s = JOB_STATE_FIRST; s <= JOB_STATE_LAST; s++) {
        set_state(db, id, (JobState)s, false);
        JobRow before = fixture_job(db, id);
        Instance again = in;
        (void)snprintf(again.file, sizeof again.file, "again-%d.dcm", s);
        ReceivedResult result = fixture_receive(db, &again, 9000);
        CHECK_INT(result.what, RECEIVED_SAME);
        CHECK_INT(result.job_id, id);
        CHECK_INT(result.previous_state, s);
        CHECK(!result.is_stored_file);
        JobRow after = fixture_job(db, id);
        before.last_image_ms = 9000; /* quiet is counted from now */
        CHECK(memcmp(&before, &after, sizeof before) == 0);
    }
    CHECK(fixture_receive(db, &in, 9000).is_stored_file);
    CHECK_INT(fixture_number(db, "SELECT count(*) FROM image"), 1);
    db_close(db);
}

TEST(receive_conflict_quarantines,
     "same UID, other content: the first is kept; QUARANTINED with "
     "SERIES_CONFLICT and an alert from each state that has not ended, "
     "only the alert otherwise")
{
    Db *db = fixture_open();
    Instance in = fixture_image(1, 1), other = in;
    int64_t id = fixture_receive(db, &in, 1000).job_id;
    other.digest[0] = 'f';
    (void)snprintf(other.file, sizeof other.file, "other.dcm");
    for (int s = JOB_STATE_FIRST; s <= JOB_STATE_LAST; s++) {
        set_state(db, id, (JobState)s, s == JOB_SENDING);
        int64_t alerts = fixture_number(db, "SELECT count(*) FROM event WHERE kind = 'alert'");
        ReceivedResult result = fixture_receive(db, &other, 2000);
        CHECK_INT(result.what, RECEIVED_CONFLICT);
        CHECK_INT(result.job_id, id);
        CHECK_INT(result.previous_state, s);
        JobRow job = fixture_job(db, id);
        CHECK_INT(job.state, job_state_terminal((JobState)s) ? s : JOB_QUARANTINED);
        CHECK(job_state_terminal((JobState)s) || job.code == ST_SERIES_CONFLICT);
        CHECK_INT(fixture_number(db, "SELECT count(*) FROM event WHERE kind = 'alert'"),
                  alerts + 1);
    }
    CHECK_INT(fixture_number(db, "SELECT count(*) FROM image WHERE digest LIKE 'f%'"), 0);
    (void)snprintf(other.series_uid, sizeof other.series_uid, "1.2.3"); /* in another series */
    set_state(db, id, JOB_RECEIVING, false);
    CHECK_INT(fixture_receive(db, &other, 2000).what, RECEIVED_CONFLICT);
    CHECK_INT(fixture_job(db, id).state, JOB_QUARANTINED);
    CHECK_INT(fixture_number(db, "SELECT count(*) FROM series"), 1);
    db_close(db);
}

TEST(receive_other_patient_quarantines,
     "another patient key, or another study, in the series: kept "
     "as evidence, QUARANTINED unless ended, alert")
{
    Db *db = fixture_open();
    for (int s = JOB_STATE_FIRST; s <= JOB_STATE_LAST; s++) {
        for (int what = 0; what < 2; what++) {
            int series = 10 * s + what;
            Instance in = fixture_image(series, 1);
            int64_t id = fixture_receive(db, &in, 1000).job_id;
            set_state(db, id, (JobState)s, false);
            in = fixture_image(series, 2);
            if (what == 0)
                in.patient_key[0] = 'e';
            else
                (void)snprintf(in.study_uid, sizeof in.study_uid, "1.2.3");
            ReceivedResult result = fixture_receive(db, &in, 2000);
            CHECK_INT(result.what, RECEIVED_PATIENT);
            CHECK_INT(result.job_id, id);
            JobRow job = fixture_job(db, id);
            CHECK_INT(job.n_images, 2);
            CHECK_INT(job.state, job_state_terminal((JobState)s) ? s : JOB_QUARANTINED);
            CHECK(job_state_terminal((JobState)s) || job.code == ST_SERIES_PATIENT);
        }
    }
    CHECK_INT(
        fixture_number(db, "SELECT count(*) FROM event WHERE kind = 'alert' AND status = 508"), 22);
    /* And later images of either patient are kept without a move. */
    Instance in = fixture_image(10 * JOB_RECEIVING, 3);
    CHECK_INT(fixture_receive(db, &in, 3000).what, RECEIVED_ADDED);
    in = fixture_image(10 * JOB_RECEIVING, 4);
    in.patient_key[0] = 'e';
    CHECK_INT(fixture_receive(db, &in, 3000).what, RECEIVED_PATIENT);
    db_close(db);
}

TEST(receive_waiting_goes_on,
     "the missing slice moves WAITING to RECEIVING in the same revision and "
     "clears the deadline")
{
    Db *db = fixture_open();
    Err err = {0};
    Instance in = fixture_image(1, 1);
    int64_t id = fixture_receive(db, &in, 1000).job_id;
    CHECK_STATUS(db_job_wait_until(db, id, 9000, &err), ST_STATE);
    CHECK_STATUS(db_job_wait_until(db, id + 1, 9000, &err), ST_NOT_FOUND);
    CHECK_OK(db_job_move(db, id, JOB_RECEIVING, JOB_WAITING, ST_SERIES_GAP, "gap", 0, 2000, &err),
             &err);
    CHECK_OK(db_job_wait_until(db, id, 9000, &err), &err);
    CHECK_INT(fixture_job(db, id).wait_until_ms, 9000);
    CHECK_INT(fixture_job(db, id).code, ST_SERIES_GAP);
    in = fixture_image(1, 2);
    ReceivedResult result = fixture_receive(db, &in, 3000);
    CHECK_INT(result.what, RECEIVED_ADDED);
    CHECK_INT(result.previous_state, JOB_WAITING);
    JobRow job = fixture_job(db, id);
    CHECK_INT(job.state, JOB_RECEIVING);
    CHECK_INT(job.revision, 1);
    CHECK_INT(job.wait_until_ms, 0);
    CHECK_INT(job.code, ST_OK);
    db_close(db);
}

TEST(receive_restarts_what_was_not_sent, "QUEUED, RUNNING, HELD, RETRY with nothing sent: same "
                                         "job, revision + 1, attempt 0, no result; FAILED: a new "
                                         "job")
{
    Db *db = fixture_open();
    static const JobState states[] = {JOB_QUEUED, JOB_RUNNING, JOB_HELD, JOB_RETRY, JOB_FAILED};
    for (int i = 0; i < 5; i++) {
        int64_t id = fixture_computed(db, 100 + i, 2, false);
        set_state(db, id, states[i], false);
        Instance in = fixture_image(100 + i, 2);
        ReceivedResult result = fixture_receive(db, &in, 8000);
        bool ended = job_state_terminal(states[i]);
        CHECK_INT(result.what, RECEIVED_RESTARTED);
        CHECK_INT(result.previous_state, states[i]);
        CHECK_INT(result.previous_job_id, ended ? id : 0);
        CHECK((result.job_id == id) == !ended);
        JobRow job = fixture_job(db, result.job_id);
        CHECK_INT(job.state, JOB_RECEIVING);
        CHECK_INT(job.revision, 2);
        CHECK_INT(job.attempt, 0);
        CHECK_STR(job.mr_series_uid, "");
        CHECK_STR(job.model_digest, "");
        DeliveryRow *rows;
        int32_t n;
        Err err = {0};
        CHECK_OK(db_deliveries(db, result.job_id, &rows, &n, &err), &err);
        CHECK_INT(n, 0);
        free(rows);
        CHECK_INT(fixture_job(db, id).state, ended ? states[i] : JOB_RECEIVING);
        in = fixture_image(100 + i, 3);
        CHECK_INT(fixture_receive(db, &in, 8001).what, RECEIVED_ADDED);
    }
    db_close(db);
}

TEST(receive_after_cancel, "nothing sent: the image is kept, the job stays CANCELLED")
{
    Db *db = fixture_open();
    int64_t id = fixture_computed(db, 1, 2, false);
    set_state(db, id, JOB_CANCELLED, false);
    Instance in = fixture_image(1, 2);
    ReceivedResult result = fixture_receive(db, &in, 8000);
    CHECK_INT(result.what, RECEIVED_ADDED);
    CHECK_INT(result.job_id, id);
    CHECK_INT(fixture_job(db, id).state, JOB_CANCELLED);
    CHECK_INT(fixture_job(db, id).n_images, 2);
    db_close(db);
}

TEST(receive_while_sending,
     "no association with a destination yet: the job starts over; once one stood: late, a new job")
{
    Db *db = fixture_open();
    Err err = {0};
    static const JobState states[] = {JOB_SENDING, JOB_RETRY};
    for (int i = 0; i < 4; i++) {
        int64_t id = fixture_computed(db, 1 + i, 2, false);
        bool seen = i >= 2;
        if (seen)
            CHECK_OK(db_delivery_connected(db, id, &err), &err);
        if (states[i % 2] == JOB_RETRY)
            fixture_move(db, id, JOB_SENDING, JOB_RETRY);
        Instance in = fixture_image(1 + i, 2);
        ReceivedResult result = fixture_receive(db, &in, 8000);
        CHECK_INT(result.what, seen ? RECEIVED_LATE : RECEIVED_RESTARTED);
        CHECK_INT(result.previous_job_id, seen ? id : 0);
        JobRow job = fixture_job(db, id);
        CHECK_INT(job.state, seen ? states[i % 2] : JOB_RECEIVING);
        CHECK_INT(job.revision, seen ? 1 : 2);
    }
    db_close(db);
}

TEST(receive_late_makes_a_new_job,
     "after any image was sent, and after DONE: a new job, the old one "
     "as it was, an alert; the old one cannot be computed again")
{
    Db *db = fixture_open();
    Err err = {0};
    static const JobState states[] = {JOB_SENDING, JOB_RETRY,  JOB_HELD,      JOB_QUEUED,
                                      JOB_RUNNING, JOB_FAILED, JOB_CANCELLED, JOB_DONE};
    for (int i = 0; i < 8; i++) {
        int64_t id = fixture_computed(db, 200 + i, 2, false);
        if (states[i] != JOB_DONE)
            fixture_sent(db, id, "TPS_B", 4);
        char sql[64];
        (void)snprintf(sql, sizeof sql, "UPDATE job SET state = %d WHERE id = %lld", (int)states[i],
                       (long long)id);
        fixture_sql(db, sql);
        JobRow before = fixture_job(db, id);
        Instance in = fixture_image(200 + i, 2);
        ReceivedResult result = fixture_receive(db, &in, 8000);
        CHECK_INT(result.what, RECEIVED_LATE);
        CHECK_INT(result.previous_job_id, id);
        CHECK_INT(result.previous_state, states[i]);
        CHECK(result.job_id != id);
        JobRow job = fixture_job(db, result.job_id), after = fixture_job(db, id);
        CHECK_INT(job.state, JOB_RECEIVING);
        CHECK_INT(job.revision, 2);
        CHECK_INT(job.series_id, before.series_id);
        CHECK_INT(after.state, before.state);
        CHECK_INT(after.revision, 1);
        CHECK_STR(after.mr_series_uid, before.mr_series_uid);
        in = fixture_image(200 + i, 3);
        result = fixture_receive(db, &in, 8001);
        CHECK_INT(result.what, RECEIVED_ADDED);
        CHECK_INT(result.job_id, job.id);
        if (states[i] == JOB_FAILED || states[i] == JOB_CANCELLED)
            CHECK_STATUS(db_job_move(db, id, states[i], JOB_QUEUED, ST_OK, NULL, 0, 1, &err),
                         ST_STATE);
    }
    CHECK_INT(
        fixture_number(db, "SELECT count(*) FROM event WHERE kind = 'alert' AND status = 510"), 8);
    db_close(db);
}

TEST(receive_late_after_recomputation, "sent is remembered when the deliveries were replaced")
{
    Db *db = fixture_open();
    int64_t id = fixture_computed(db, 1, 1, false);
    fixture_sent(db, id, "TPS_A", 0);
    fixture_move(db, id, JOB_SENDING, JOB_FAILED);
    fixture_move(db, id, JOB_FAILED, JOB_QUEUED);
    CHECK_INT(fixture_job(db, id).attempt, 0);
    fixture_move(db, id, JOB_QUEUED, JOB_RUNNING);
    CHECK_INT(fixture_number(db, "SELECT count(*) FROM delivery_image"), 0);
    Instance in = fixture_image(1, 2);
    CHECK_INT(fixture_receive(db, &in, 8000).what, RECEIVED_LATE);
    db_close(db);
}

TEST(receive_refuses_nameless, "no file name or no UID is USAGE and leaves no row")
{
    Db *db = fixture_open();
    Err err = {0};
    ReceivedResult result = {.job_id = 77};
    for (int i = 0; i < 3; i++) {
        Instance in = fixture_image(1, 1);
        *(i == 0 ? in.file : i == 1 ? in.sop_uid : in.series_uid) = '\0';
        CHECK_STATUS(db_receive(db, &in, "CT99", 1, &result, &err), ST_USAGE);
    }
    CHECK_INT(result.job_id, 77);
    Instance a = fixture_image(1, 1), b = fixture_image(1, 2);
    (void)fixture_receive(db, &a, 1);
    memcpy(b.file, a.file, sizeof b.file); /* two images in one file: a defect of ours */
    CHECK_STATUS(db_receive(db, &b, "CT99", 1, &result, &err), ST_DB);
    CHECK_INT(fixture_number(db, "SELECT n_images FROM series"), 1);
    db_close(db);
}

static Transfer transfer_of(Db *db, int64_t job_id)
{
    return fixture_job(db, job_id).transfer;
}

/* The id of the job in a series whose last association has ended in order; 0: still cut. */
static int64_t end_transfer(Db *db, const Instance *in)
{
    int64_t job_id = 77;
    Err err = {0};
    CHECK_OK(db_transfer_ended(db, in->series_uid, &job_id, &err), &err);
    return job_id;
}

TEST(series_transfer, "an image opens it, an orderly end ends it; a cut is mended only when every "
                      "image has come again; noted only while images are arriving")
{
    Db *db = fixture_open();
    Err err = {0};
    Instance a = fixture_image(1, 1), b = fixture_image(1, 2), c = fixture_image(1, 3);
    int64_t id = fixture_receive(db, &a, 1000).job_id;
    CHECK_INT(transfer_of(db, id), TRANSFER_OPEN);
    CHECK_INT(end_transfer(db, &a), id);
    CHECK_INT(transfer_of(db, id), TRANSFER_ENDED);
    (void)fixture_receive(db, &b, 1001);
    CHECK_INT(transfer_of(db, id), TRANSFER_OPEN);
    CHECK_OK(db_transfer_cut(db, a.series_uid, 1, &err), &err);
    CHECK_INT(transfer_of(db, id), TRANSFER_CUT);
    (void)fixture_receive(db, &c, 1002); /* the rest, and one again: not enough */
    (void)fixture_receive(db, &a, 1003);
    CHECK_INT(end_transfer(db, &a), 0);
    CHECK_INT(transfer_of(db, id), TRANSFER_CUT);
    (void)fixture_receive(db, &b, 1004);
    CHECK_INT(end_transfer(db, &a), id);
    CHECK_INT(transfer_of(db, id), TRANSFER_ENDED);
    fixture_move(db, id, JOB_RECEIVING, JOB_QUEUED);
    CHECK_OK(db_transfer_cut(db, a.series_uid, 1, &err), &err);
    (void)fixture_receive(db, &a, 1005);
    CHECK_INT(transfer_of(db, id), TRANSFER_ENDED);
    CHECK_INT(end_transfer(db, &(Instance){.series_uid = "1.2.3"}), 0);
    db_close(db);
}

TEST(series_transfers_of_a_peer,
     "suspect: cut is what comes from that calling AE title in several associations, nothing else")
{
    Db *db = fixture_open();
    Err err = {0};
    Instance images[4];
    int64_t ids[4];
    for (int i = 0; i < 4; i++) {
        ReceivedResult result;
        const char *ae = i < 3 ? "CT_A" : "CT_B";
        const Arrival arrival = {ae, 1, 0};
        images[i] = fixture_image(i + 1, 1);
        CHECK_OK(db_receive(db, &images[i], ae, 1, &result, &err), &err);
        ids[i] = result.job_id;
        for (int n = 0; n < (i == 2 ? 1 : 2); n++)
            CHECK_OK(db_transfer_joined(db, images[i].series_uid, &arrival, 1, &err), &err);
    }
    fixture_move(db, ids[1], JOB_RECEIVING, JOB_QUEUED);
    CHECK_OK(db_peer_suspect(db, "CT_A", 5, &err), &err);
    CHECK_INT(transfer_of(db, ids[0]), TRANSFER_CUT);
    CHECK_INT(transfer_of(db, ids[1]), TRANSFER_OPEN); /* no longer arriving */
    CHECK_INT(transfer_of(db, ids[2]), TRANSFER_OPEN); /* one association */
    CHECK_INT(transfer_of(db, ids[3]), TRANSFER_OPEN); /* another peer */
    const Arrival before = {"CT_A", 4, 2}, after = {"CT_A", 6, 2}, forgotten = {"CT_A", 4, 1};
    Instance fresh = fixture_image(9, 1);
    int64_t id = fixture_receive(db, &fresh, 7).job_id;
    CHECK_OK(db_transfer_joined(db, fresh.series_uid, &after, 7, &err), &err);
    CHECK_OK(db_transfer_joined(db, fresh.series_uid, &forgotten, 8, &err), &err);
    CHECK_INT(transfer_of(db, id), TRANSFER_OPEN);
    CHECK_OK(db_transfer_joined(db, fresh.series_uid, &before, 8, &err), &err);
    CHECK_INT(transfer_of(db, id), TRANSFER_CUT);
    db_close(db);
}

TEST(series_transfer_repeated_in_one,
     "cut, then whole in one association: neither the peer's next cut nor a restart touches it; "
     "whole in two: both do")
{
    for (int n_joined = 1; n_joined <= 2; n_joined++)
        for (int restart = 0; restart < 2; restart++) {
            Db *db = fixture_open();
            Err err = {0};
            const Arrival arrival = {"CT_A", 6, 1000};
            Instance image = fixture_image(1, 1);
            int64_t id = fixture_receive(db, &image, 1).job_id;
            CHECK_OK(db_transfer_joined(db, image.series_uid, &arrival, 1, &err), &err);
            CHECK_OK(db_transfer_cut(db, image.series_uid, 5, &err), &err);
            for (int n = 0; n < n_joined; n++)
                CHECK_OK(db_transfer_joined(db, image.series_uid, &arrival, 7, &err), &err);
            (void)fixture_receive(db, &image, 7);
            CHECK_INT(end_transfer(db, &image), id);
            CHECK_INT(fixture_job(db, id).n_associations, n_joined);
            if (restart)
                CHECK_OK(db_transfers_interrupted(db, 9, &err), &err);
            else
                CHECK_OK(db_peer_suspect(db, "CT99", 9, &err), &err);
            CHECK_INT(transfer_of(db, id), n_joined == 1 ? TRANSFER_ENDED : TRANSFER_CUT);
            db_close(db);
        }
}

TEST(suspects_and_the_clock,
     "a suspicion is forgotten after a day; one from a clock that was ahead "
     "counts from the restart on")
{
    Db *db = fixture_open();
    Err err = {0};
    int64_t day_ms = 24 * 3600 * 1000;
    CHECK_OK(db_peer_suspect(db, "CT_A", 1, &err), &err);
    CHECK_OK(db_peer_suspect(db, "CT_B", 2 + day_ms, &err), &err);
    CHECK_INT(fixture_number(db, "SELECT count(*) FROM suspect"), 1);
    CHECK_OK(db_transfers_interrupted(db, 100, &err), &err);
    const Arrival arrival = {"CT_B", 200, 1000};
    Instance image = fixture_image(1, 1);
    int64_t id = fixture_receive(db, &image, 201).job_id;
    CHECK_OK(db_transfer_joined(db, image.series_uid, &arrival, 201, &err), &err);
    CHECK_INT(transfer_of(db, id), TRANSFER_OPEN);
    CHECK_OK(db_transfer_joined(db, image.series_uid, &arrival, 202, &err), &err);
    CHECK_INT(transfer_of(db, id), TRANSFER_CUT);
    db_close(db);
}

TEST(jobs_recover_lists_and_counts, "RUNNING becomes QUEUED with its attempt kept, SENDING stays; "
                                    "lists newest first, ready oldest first and only when due")
{
    Db *db = fixture_open();
    Err err = {0};
    int64_t counts[JOB_STATE_LAST + 1], running = fixture_running(db, 1);
    int64_t sending = fixture_computed(db, 2, 1, false), second = fixture_running(db, 3);
    int32_t moved, n;
    CHECK_OK(db_recover(db, 9000, &moved, &err), &err);
    CHECK_INT(moved, 2);
    CHECK_OK(db_recover(db, 9000, &moved, &err), &err);
    CHECK_INT(moved, 0);
    CHECK_INT(fixture_job(db, running).state, JOB_QUEUED);
    CHECK_INT(fixture_job(db, running).attempt, 1);
    CHECK_INT(fixture_job(db, sending).state, JOB_SENDING);
    CHECK_OK(db_counts(db, counts, &err), &err);
    CHECK_INT(counts[JOB_QUEUED], 2);
    CHECK_INT(counts[JOB_SENDING], 1);
    CHECK_INT(counts[JOB_DONE], 0);

    fixture_move(db, second, JOB_QUEUED, JOB_RUNNING);
    CHECK_OK(db_job_move(db, second, JOB_RUNNING, JOB_QUEUED, ST_CRASHED, "c", 20000, 9000, &err),
             &err);
    JobRow *rows;
    CHECK_OK(db_jobs_ready(db, JOB_QUEUED, 19999, 15000, &rows, &n, &err), &err);
    CHECK(n == 1 && rows[0].id == running);
    free(rows);
    CHECK_OK(db_jobs_ready(db, JOB_QUEUED, 4000, 15000, &rows, &n, &err), &err);
    CHECK_INT(n, 2); /* 16 s away: no pause is that long */
    free(rows);
    CHECK_OK(db_jobs_ready(db, JOB_QUEUED, 20000, 15000, &rows, &n, &err), &err);
    CHECK(n == 2 && rows[0].id == running && rows[1].id == second && rows[1].attempt == 2);
    free(rows);
    CHECK_OK(db_jobs_list(db, (JobState)0, 2, &rows, &n, &err), &err);
    CHECK(n == 2 && rows[0].id == second && rows[1].id == sending);
    free(rows);
    CHECK_OK(db_jobs_list(db, JOB_SENDING, 0, &rows, &n, &err), &err);
    CHECK(n == 1 && rows[0].id == sending);
    free(rows);
    JobRow job;
    CHECK_STATUS(db_job_get(db, 999, &job, &err), ST_NOT_FOUND);
    db_close(db);
}

TEST(jobs_expire_only_when_done, "retention takes series whose newest job is DONE and old, never "
                                 "others; the job stays, its images go")
{
    Db *db = fixture_open();
    Err err = {0};
    int64_t done = fixture_computed(db, 1, 1, false), held = fixture_computed(db, 4, 0, false);
    fixture_done(db, done);
    CHECK_INT(fixture_job(db, held).state, JOB_HELD); /* never sent: never forgotten */
    int64_t failed = fixture_running(db, 2), sending = fixture_computed(db, 3, 1, false);
    fixture_move(db, failed, JOB_RUNNING, JOB_FAILED);
    CHECK_INT(fixture_job(db, done).state, JOB_DONE);
    JobRow *rows;
    int32_t n;
    CHECK_OK(db_jobs_expired(db, 6000, &rows, &n, &err), &err);
    CHECK_INT(n, 0);
    free(rows);
    CHECK_OK(db_jobs_expired(db, 6001, &rows, &n, &err), &err);
    CHECK(n == 1 && rows[0].id == done);
    free(rows);
    CHECK_STATUS(db_job_forget_files(db, failed, &err), ST_STATE);
    CHECK_STATUS(db_job_forget_files(db, sending, &err), ST_STATE);
    CHECK_STATUS(db_job_forget_files(db, 999, &err), ST_NOT_FOUND);
    CHECK_OK(db_job_forget_files(db, done, &err), &err);
    CHECK_INT(fixture_number(db, "SELECT count(*) FROM image"), 3);
    CHECK_INT(fixture_job(db, done).n_images, 0);
    CHECK_OK(db_jobs_expired(db, 99999, &rows, &n, &err), &err);
    CHECK_INT(n, 0);
    free(rows);
    Instance in = fixture_image(2, 2); /* a FAILED job replaced by a DONE one is no obstacle */
    int64_t again = fixture_receive(db, &in, 1000).job_id;
    CHECK(again != failed);
    fixture_move(db, again, JOB_RECEIVING, JOB_QUEUED);
    fixture_move(db, again, JOB_QUEUED, JOB_RUNNING);
    OutputImage out = fixture_output(1);
    CHECK_OK(db_job_computed(db, again, "a", "2.25.1", &out, 1, fixture_destinations, 1, false,
                             6000, &err),
             &err);
    CHECK_OK(db_delivery_image(db, again, "TPS_A", out.sop_uid, DELIVERY_SENT, 0, 6000, &err),
             &err);
    JobState state;
    CHECK_OK(db_job_settle(db, again, 0, 6000, &state, &err), &err);
    CHECK_OK(db_jobs_expired(db, 6001, &rows, &n, &err), &err);
    CHECK(n == 2 && rows[0].id == failed && rows[1].id == again);
    free(rows);
    in = fixture_image(1, 1); /* after forgetting, the same image is a late one */
    CHECK_INT(fixture_receive(db, &in, 1000).what, RECEIVED_LATE);
    CHECK_STATUS(db_job_forget_files(db, done, &err), ST_STATE);
    db_close(db);
}

TEST(events_are_kept_per_job, "in order, with all fields; job 0 is the node's")
{
    Db *db = fixture_open();
    Err err = {0};
    int64_t id = fixture_running(db, 1);
    CHECK_OK(db_event(db, id, "step", "mask", ST_OK, 1234, "1318 ml", 77, &err), &err);
    CHECK_OK(db_event(db, 0, "alert", NULL, ST_DISK_FULL, -1, NULL, 78, &err), &err);
    CHECK(db_event(db, 999, "step", "", ST_OK, -1, "", 79, &err) != ST_OK); /* no such job */
    EventRow *rows;
    int32_t n;
    CHECK_OK(db_events(db, id, &rows, &n, &err), &err);
    CHECK_INT(n, 4);
    CHECK_STR(rows[0].kind, "receive");
    CHECK_STR(rows[1].text, "RECEIVING -> QUEUED");
    CHECK_STR(rows[2].text, "QUEUED -> RUNNING");
    CHECK_STR(rows[3].step, "mask");
    CHECK_STR(rows[3].text, "1318 ml");
    CHECK(rows[3].duration_ms == 1234 && rows[3].at_ms == 77 && rows[3].job_id == id);
    free(rows);
    CHECK_OK(db_events(db, 0, &rows, &n, &err), &err);
    CHECK(n == 1 && rows[0].status == ST_DISK_FULL && rows[0].job_id == 0);
    free(rows);
    db_close(db);
}

/* The limit is far above what is measured (the machine is shared); the figure is printed. */
TEST(receive_is_fast, "2000 images in 10 series: the median call takes less than 1 ms")
{
    enum { N = 2000 };
    static double times_us[N];
    Db *db = fixture_open();
    clock_t cpu = clock();
    for (int i = 0; i < N; i++) {
        Instance in = fixture_image(i % 10, i);
        double start = clock_monotonic_s();
        (void)fixture_receive(db, &in, 1000 + i);
        times_us[i] = (clock_monotonic_s() - start) * 1e6;
    }
    double cpu_us = (double)(clock() - cpu) * 1e6 / CLOCKS_PER_SEC / N, sum = 0;
    for (int i = 0; i < N; i++)
        sum += times_us[i];
    for (int i = 1; i < N; i++)
        for (int k = i; k > 0 && times_us[k] < times_us[k - 1]; k--) {
            double swap = times_us[k];
            times_us[k] = times_us[k - 1];
            times_us[k - 1] = swap;
        }
    (void)printf(
        "# db_receive: median %.0f us, mean %.0f, 99 %% below %.0f, most %.0f; processor %.0f\n",
        times_us[N / 2], sum / N, times_us[N * 99 / 100], times_us[N - 1], cpu_us);
    CHECK(times_us[N / 2] < 1000);
    db_close(db);
}
