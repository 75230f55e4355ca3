/* db/deliveries: when a job is DONE, RETRY or FAILED with two destinations, and that only what is
** missing is sent again. */
#include "tests/db_fixture.h"

static JobState end(Db *db, int64_t id, const char *destination, Status code, int64_t next_try_ms,
                    int n_active)
{
    JobState state;
    Err err = {0};
    CHECK_OK(db_delivery_end(db, id, destination, code, "peer said no", next_try_ms, n_active, 8000,
                             &state, &err),
             &err);
    CHECK_INT(fixture_job(db, id).state, state);
    return state;
}

static void begin(Db *db, int64_t id, const char *destination, int64_t now_ms)
{
    Err err = {0};
    CHECK_OK(db_delivery_begin(db, id, destination, now_ms, &err), &err);
}

static void all_sent(Db *db, int64_t id, const char *destination)
{
    for (int k = 0; k < FIXTURE_OUTPUTS; k++)
        fixture_sent(db, id, destination, k);
}

static DeliveryRow row(Db *db, int64_t id, int which)
{
    DeliveryRow *rows, result;
    int32_t n;
    Err err = {0};
    CHECK_OK(db_deliveries(db, id, &rows, &n, &err), &err);
    CHECK_INT(n, 2);
    result = rows[which];
    free(rows);
    return result;
}

static int n_pending(Db *db, int64_t id, const char *destination)
{
    OutputImage *images;
    int32_t n;
    Err err = {0};
    CHECK_OK(db_delivery_pending(db, id, destination, &images, &n, &err), &err);
    free(images);
    return n;
}

TEST(deliveries_done_when_all_have_all,
     "5 images x 2 destinations: SENDING until the tenth success "
     "and the end of both")
{
    Db *db = fixture_open();
    int64_t id = fixture_computed(db, 1, 2, false);
    CHECK_INT(fixture_job(db, id).state, JOB_SENDING);
    CHECK_STR(fixture_job(db, id).mr_series_uid, "2.25.99");
    CHECK_STR(fixture_job(db, id).model_digest, "abcd");
    begin(db, id, "TPS_A", 100);
    begin(db, id, "TPS_B", 100);
    all_sent(db, id, "TPS_A");
    CHECK_INT(end(db, id, "TPS_A", ST_OK, 0, 1), JOB_SENDING);
    all_sent(db, id, "TPS_B");
    CHECK_INT(end(db, id, "TPS_B", ST_OK, 0, 0), JOB_DONE);
    CHECK_INT(fixture_job(db, id).code, ST_OK);
    CHECK(row(db, id, 0).ended && row(db, id, 1).ended);
    CHECK_INT(row(db, id, 1).n_sent, FIXTURE_OUTPUTS);
    db_close(db);
}

TEST(deliveries_success_must_be_proven,
     "an attempt that claims success with an image unanswered is "
     "STATE and changes nothing")
{
    Db *db = fixture_open();
    Err err = {0};
    JobState state = JOB_HELD;
    int64_t id = fixture_computed(db, 1, 1, false);
    for (int k = 0; k < FIXTURE_OUTPUTS - 1; k++)
        fixture_sent(db, id, "TPS_A", k);
    CHECK_STATUS(db_delivery_end(db, id, "TPS_A", ST_OK, NULL, 0, 0, 8000, &state, &err), ST_STATE);
    CHECK_INT(state, JOB_HELD); /* untouched */
    CHECK_INT(fixture_job(db, id).state, JOB_SENDING);
    CHECK_INT(n_pending(db, id, "TPS_A"), 1);
    db_close(db);
}

TEST(deliveries_retry_resumes_the_missing, "after a broken attempt RETRY at the nearest time; then "
                                           "only the missing images are pending, in order")
{
    Db *db = fixture_open();
    Err err = {0};
    int64_t id = fixture_computed(db, 1, 2, false);
    begin(db, id, "TPS_A", 100);
    fixture_sent(db, id, "TPS_A", 0);
    fixture_sent(db, id, "TPS_A", 2);
    CHECK_INT(end(db, id, "TPS_A", ST_SEND_ABORTED, 20000, 1), JOB_SENDING); /* B is being tried */
    begin(db, id, "TPS_B", 110);
    CHECK_INT(end(db, id, "TPS_B", ST_TIMEOUT, 15000, 0), JOB_RETRY);
    JobRow job = fixture_job(db, id);
    CHECK_INT(job.next_try_ms, 15000);
    CHECK_INT(job.code, ST_TIMEOUT);
    CHECK_STR(job.message, "TPS_B: 0 of 5 images sent: peer said no");
    DeliveryRow a = row(db, id, 0);
    CHECK_STR(a.destination, "TPS_A");
    CHECK(!a.ended && a.attempt == 1 && a.first_try_ms == 100 && a.next_try_ms == 20000);
    CHECK_INT(a.code, ST_SEND_ABORTED);
    CHECK_INT(a.n_sent, 2);

    OutputImage *images;
    int32_t n;
    CHECK_OK(db_delivery_pending(db, id, "TPS_A", &images, &n, &err), &err);
    CHECK_INT(n, 3);
    static const int missing[] = {1, 3, 4};
    for (int i = 0; i < 3; i++) {
        OutputImage want = fixture_output(missing[i]);
        CHECK_STR(images[i].sop_uid, want.sop_uid);
        CHECK_STR(images[i].file, want.file);
    }
    free(images);
    CHECK_INT(n_pending(db, id, "TPS_B"), 5);

    fixture_move(db, id, JOB_RETRY, JOB_SENDING);
    begin(db, id, "TPS_B", 15000);
    CHECK_INT(row(db, id, 1).first_try_ms, 110);
    CHECK_INT(row(db, id, 1).attempt, 2);
    all_sent(db, id, "TPS_B");
    CHECK_INT(end(db, id, "TPS_B", ST_OK, 0, 0), JOB_RETRY); /* A is still due */
    CHECK_INT(fixture_job(db, id).next_try_ms, 20000);
    fixture_move(db, id, JOB_RETRY, JOB_SENDING);
    begin(db, id, "TPS_A", 20000);
    all_sent(db, id, "TPS_A");
    CHECK_INT(end(db, id, "TPS_A", ST_OK, 0, 0), JOB_DONE);
    db_close(db);
}

TEST(deliveries_failed_when_none_is_left,
     "one given up: not FAILED while the other is tried or due; "
     "FAILED names the destination; resend sends the rest only")
{
    Db *db = fixture_open();
    Err err = {0};
    int64_t id = fixture_computed(db, 1, 2, false);
    begin(db, id, "TPS_A", 100);
    begin(db, id, "TPS_B", 100);
    OutputImage refused = fixture_output(3);
    fixture_sent(db, id, "TPS_A", 0);
    CHECK_OK(db_delivery_image(db, id, "TPS_A", refused.sop_uid, DELIVERY_REFUSED, 0xA900, 1, &err),
             &err);
    CHECK_INT(row(db, id, 0).n_refused, 1);
    CHECK_INT(end(db, id, "TPS_A", ST_SEND_REFUSED, 0, 1), JOB_SENDING);
    CHECK(row(db, id, 0).ended);
    CHECK_INT(end(db, id, "TPS_B", ST_SEND_ABORTED, 9000, 0), JOB_RETRY);
    fixture_move(db, id, JOB_RETRY, JOB_SENDING);
    begin(db, id, "TPS_B", 9000);
    all_sent(db, id, "TPS_B");
    CHECK_INT(end(db, id, "TPS_B", ST_OK, 0, 0), JOB_FAILED);
    JobRow job = fixture_job(db, id);
    CHECK_INT(job.code, ST_SEND_REFUSED);
    CHECK_STR(job.message, "TPS_A: 1 of 5 images sent: peer said no");

    CHECK_OK(db_job_resend(db, id, 9500, &err), &err);
    CHECK_INT(fixture_job(db, id).state, JOB_SENDING);
    CHECK_INT(fixture_job(db, id).code, ST_OK);
    DeliveryRow a = row(db, id, 0), b = row(db, id, 1);
    CHECK(!a.ended && a.attempt == 0 && a.first_try_ms == 0 && a.n_sent == 1 && a.n_refused == 0);
    CHECK(b.ended && b.n_sent == FIXTURE_OUTPUTS); /* it has everything */
    CHECK_INT(n_pending(db, id, "TPS_A"), 4);
    begin(db, id, "TPS_A", 9600);
    all_sent(db, id, "TPS_A");
    CHECK_INT(end(db, id, "TPS_A", ST_OK, 0, 0), JOB_DONE);
    CHECK_STATUS(db_job_resend(db, id, 9700, &err), ST_STATE);
    db_close(db);
}

TEST(deliveries_broken_end_after_all_sent, "every image answered, then the association breaks: it "
                                           "counts as success")
{
    Db *db = fixture_open();
    int64_t id = fixture_computed(db, 1, 2, false);
    begin(db, id, "TPS_A", 100);
    begin(db, id, "TPS_B", 100);
    all_sent(db, id, "TPS_A");
    CHECK_INT(end(db, id, "TPS_A", ST_SEND_ABORTED, 20000, 1), JOB_SENDING);
    DeliveryRow a = row(db, id, 0);
    CHECK(a.ended && a.code == ST_OK && a.message[0] == '\0' && a.next_try_ms == 0);
    all_sent(db, id, "TPS_B");
    CHECK_INT(end(db, id, "TPS_B", ST_TIMEOUT, 0, 0), JOB_DONE);
    CHECK_INT(fixture_job(db, id).code, ST_OK);
    db_close(db);
}

TEST(deliveries_success_is_never_taken_back, "a later refusal or repeat of a sent image changes "
                                             "nothing; unknown names are NOT_FOUND")
{
    Db *db = fixture_open();
    Err err = {0};
    int64_t id = fixture_computed(db, 1, 2, false);
    OutputImage out = fixture_output(0);
    fixture_sent(db, id, "TPS_A", 0);
    CHECK_OK(db_delivery_image(db, id, "TPS_A", out.sop_uid, DELIVERY_REFUSED, 0xC000, 1, &err),
             &err);
    CHECK(row(db, id, 0).n_sent == 1 && row(db, id, 0).n_refused == 0);
    CHECK_INT(row(db, id, 1).n_sent, 0);
    CHECK_STATUS(db_delivery_image(db, id, "TPS_C", out.sop_uid, DELIVERY_SENT, 0, 1, &err),
                 ST_NOT_FOUND);
    CHECK_STATUS(db_delivery_image(db, id, "TPS_A", "2.25.8", DELIVERY_SENT, 0, 1, &err),
                 ST_NOT_FOUND);
    CHECK_STATUS(db_delivery_begin(db, id + 1, "TPS_A", 1, &err), ST_NOT_FOUND);
    OutputImage *images;
    int32_t n;
    CHECK_STATUS(db_delivery_pending(db, id, "TPS_C", &images, &n, &err), ST_NOT_FOUND);
    db_close(db);
}

TEST(deliveries_end_while_held_or_cancelled, "the result of the attempt is kept, the state too; "
                                             "settle after release finds the job DONE")
{
    Db *db = fixture_open();
    Err err = {0};
    int64_t id = fixture_computed(db, 1, 1, false);
    begin(db, id, "TPS_A", 100);
    fixture_move(db, id, JOB_SENDING, JOB_HELD);
    all_sent(db, id, "TPS_A");
    CHECK_INT(end(db, id, "TPS_A", ST_OK, 0, 0), JOB_HELD);
    JobState state;
    CHECK_OK(db_job_settle(db, id, 0, 1, &state, &err), &err);
    CHECK_INT(state, JOB_HELD);
    fixture_move(db, id, JOB_HELD, JOB_SENDING);
    CHECK_OK(db_job_settle(db, id, 0, 1, &state, &err), &err);
    CHECK_INT(state, JOB_DONE);
    CHECK_INT(fixture_job(db, id).state, JOB_DONE);

    id = fixture_computed(db, 2, 1, false);
    begin(db, id, "TPS_A", 100);
    fixture_move(db, id, JOB_SENDING, JOB_CANCELLED);
    CHECK_INT(end(db, id, "TPS_A", ST_CANCELLED, 0, 0), JOB_CANCELLED);
    CHECK_OK(db_job_resend(db, id, 1, &err), &err); /* its sending had begun: it may go on */
    CHECK_INT(fixture_job(db, id).state, JOB_SENDING);
    db_close(db);
}

TEST(deliveries_computed_needs_running, "db_job_computed: HELD with hold or without destinations, "
                                        "STATE and no rows when not RUNNING, USAGE without images")
{
    Db *db = fixture_open();
    Err err = {0};
    OutputImage out = fixture_output(1);
    int64_t id = fixture_running(db, 1);
    CHECK_STATUS(
        db_job_computed(db, id, "a", "2.25.1", &out, 0, fixture_destinations, 1, false, 1, &err),
        ST_USAGE);
    CHECK_STATUS(db_job_computed(db, id, "a", "", &out, 1, fixture_destinations, 1, false, 1, &err),
                 ST_USAGE);
    fixture_move(db, id, JOB_RUNNING, JOB_CANCELLED);
    CHECK_STATUS(
        db_job_computed(db, id, "a", "2.25.1", &out, 1, fixture_destinations, 1, false, 1, &err),
        ST_STATE);
    CHECK_STR(fixture_job(db, id).mr_series_uid, "");
    CHECK_INT(fixture_number(db, "SELECT count(*) FROM delivery"), 0);
    CHECK_STATUS(
        db_job_computed(db, 999, "a", "2.25.1", &out, 1, fixture_destinations, 1, false, 1, &err),
        ST_NOT_FOUND);
    CHECK_INT(fixture_job(db, fixture_computed(db, 2, 2, true)).state, JOB_HELD);
    JobRow none = fixture_job(db, fixture_computed(db, 3, 0, false));
    CHECK(none.state == JOB_HELD && none.code == ST_DEST_NONE);
    const char *twice[] = {"TPS_A", "TPS_A"};
    id = fixture_running(db, 4);
    CHECK_STATUS(db_job_computed(db, id, "a", "2.25.1", &out, 1, twice, 2, false, 1, &err), ST_DB);
    CHECK_INT(fixture_job(db, id).state, JOB_RUNNING);
    db_close(db);
}

TEST(deliveries_made_at_release, "a result without destination goes to those of the release; never "
                                 "to DONE without one; others keep theirs")
{
    Db *db = fixture_open();
    Err err = {0};
    OutputImage out[FIXTURE_OUTPUTS];
    for (int k = 0; k < FIXTURE_OUTPUTS; k++)
        out[k] = fixture_output(k);
    int64_t id = fixture_computed(db, 1, 0, false);
    CHECK_STATUS(db_job_release(db, id, out, FIXTURE_OUTPUTS, NULL, 0, 1, &err), ST_STATE);
    CHECK_STATUS(db_job_move(db, id, JOB_HELD, JOB_SENDING, ST_OK, NULL, 0, 1, &err), ST_STATE);
    CHECK_INT(fixture_job(db, id).state, JOB_HELD);
    CHECK_OK(db_job_release(db, id, out, FIXTURE_OUTPUTS, fixture_destinations, 2, 1, &err), &err);
    CHECK_INT(fixture_job(db, id).state, JOB_SENDING);
    CHECK_INT(fixture_number(db, "SELECT count(*) FROM delivery_image WHERE state = 1"), 10);
    CHECK_STATUS(db_job_release(db, id, out, FIXTURE_OUTPUTS, fixture_destinations, 2, 1, &err),
                 ST_STATE);
    int64_t held = fixture_computed(db, 2, 1, true);
    CHECK_OK(db_job_release(db, held, out, FIXTURE_OUTPUTS, fixture_destinations, 2, 1, &err),
             &err);
    CHECK_INT(fixture_number(db, "SELECT count(*) FROM delivery WHERE job_id = 2"), 1);
    db_close(db);
}

TEST(deliveries_are_replaced_by_a_new_run, "a second computation drops the first's rows")
{
    Db *db = fixture_open();
    Err err = {0};
    int64_t id = fixture_computed(db, 1, 2, false);
    fixture_move(db, id, JOB_SENDING, JOB_FAILED);
    fixture_move(db, id, JOB_FAILED, JOB_QUEUED);
    fixture_move(db, id, JOB_QUEUED, JOB_RUNNING);
    CHECK_STR(fixture_job(db, id).mr_series_uid, "");
    OutputImage out = fixture_output(9);
    CHECK_OK(
        db_job_computed(db, id, "x", "2.25.5", &out, 1, fixture_destinations, 1, false, 1, &err),
        &err);
    CHECK_INT(fixture_number(db, "SELECT count(*) FROM delivery"), 1);
    CHECK_INT(fixture_number(db, "SELECT count(*) FROM delivery_image"), 1);
    db_close(db);
}

TEST(delivery_outcomes, "mixed answers: tried again while any image is pending, then refused")
{
    DeliveryRow row = {.n_images = 5, .n_sent = 3, .n_refused = 1};
    CHECK_INT(delivery_outcome(ST_SEND_REFUSED, &row), ST_SEND_RESOURCES);
    CHECK_INT(delivery_outcome(ST_SEND_RESOURCES, &row), ST_SEND_RESOURCES);
    CHECK_INT(delivery_outcome(ST_SEND_ABORTED, &row), ST_SEND_ABORTED);
    row.n_sent = 4;
    CHECK_INT(delivery_outcome(ST_OK, &row), ST_SEND_REFUSED);
    CHECK_INT(delivery_outcome(ST_SEND_REFUSED, &row), ST_SEND_REFUSED);
    row.n_sent = 5;
    row.n_refused = 0;
    CHECK_INT(delivery_outcome(ST_OK, &row), ST_OK);
}

TEST(delivery_pending_and_warned, "a refused image is not pending; a warning counts as sent and is "
                                  "counted")
{
    Db *db = fixture_open();
    Err err = {0};
    int64_t id = fixture_computed(db, 1, 1, false);
    static const DeliveryState states[] = {DELIVERY_SENT, DELIVERY_REFUSED, DELIVERY_SENT};
    static const uint16_t dimse[] = {0xB000, 0xA900, 0};
    for (int k = 0; k < 3; k++)
        CHECK_OK(db_delivery_image(db, id, "TPS_A", fixture_output(k).sop_uid, states[k], dimse[k],
                                   7000, &err),
                 &err);
    OutputImage *pending;
    DeliveryRow *rows;
    int32_t n;
    CHECK_OK(db_delivery_pending(db, id, "TPS_A", &pending, &n, &err), &err);
    CHECK_INT(n, 2);
    CHECK_STR(pending[0].sop_uid, fixture_output(3).sop_uid);
    free(pending);
    CHECK_OK(db_deliveries(db, id, &rows, &n, &err), &err);
    CHECK(rows[0].n_sent == 2 && rows[0].n_refused == 1 && rows[0].n_warned == 1);
    free(rows);
    db_close(db);
}
