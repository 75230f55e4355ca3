/* db/states: every pair of states against a list written out here by hand, once as the pure table
** and once as db_job_move() on a real database. The list is the specification: a change of the
** table has to be made here, too. */
#include "tests/db_fixture.h"

/* "FROM TO TO ...": all that is allowed. */
static const char *const allowed[] = {
    "RECEIVING WAITING QUEUED FAILED QUARANTINED CANCELLED",
    "WAITING RECEIVING QUEUED FAILED QUARANTINED CANCELLED",
    "QUEUED RUNNING RECEIVING FAILED QUARANTINED CANCELLED",
    "RUNNING SENDING HELD QUEUED FAILED RECEIVING QUARANTINED CANCELLED",
    "HELD SENDING RECEIVING QUARANTINED CANCELLED",
    "SENDING RECEIVING DONE RETRY FAILED HELD QUARANTINED CANCELLED",
    "RETRY SENDING HELD FAILED RECEIVING QUARANTINED CANCELLED",
    "FAILED RECEIVING QUEUED SENDING CANCELLED",
    "CANCELLED QUEUED SENDING",
    "QUARANTINED CANCELLED",
    "DONE",
};
enum { N_ALLOWED = sizeof allowed / sizeof allowed[0] };

static bool expected(JobState from, JobState to)
{
    for (int i = 0; i < N_ALLOWED; i++) {
        char line[256], *rest = NULL;
        (void)snprintf(line, sizeof line, "%s", allowed[i]);
        if (strcmp(strtok_r(line, " ", &rest), job_state_name(from)) != 0)
            continue;
        for (char *word; (word = strtok_r(NULL, " ", &rest)) != NULL;)
            if (strcmp(word, job_state_name(to)) == 0)
                return true;
        return false;
    }
    test_fail(__FILE__, __LINE__, "%s is not in the list", job_state_name(from));
}

TEST(states_table_is_the_expected_one, "all 121 pairs; a reason exactly where allowed; 45 of them")
{
    int n = 0;
    for (int f = JOB_STATE_FIRST; f <= JOB_STATE_LAST; f++) {
        for (int t = JOB_STATE_FIRST; t <= JOB_STATE_LAST; t++) {
            JobState from = (JobState)f, to = (JobState)t;
            if (job_state_may(from, to) != expected(from, to))
                test_fail(__FILE__, __LINE__, "%s -> %s: %d", job_state_name(from),
                          job_state_name(to), job_state_may(from, to));
            CHECK((job_state_why(from, to) != NULL) == expected(from, to));
            CHECK(from != to || !job_state_may(from, to));
            n += job_state_may(from, to);
        }
    }
    CHECK_INT(n, 46);
}

TEST(states_outside_the_table_are_refused, "numbers that are no state may go nowhere")
{
    for (int f = -1; f <= JOB_STATE_LAST + 1; f++) {
        CHECK(!job_state_may((JobState)f, (JobState)0));
        CHECK(!job_state_may((JobState)f, (JobState)(JOB_STATE_LAST + 1)));
        CHECK(!job_state_may((JobState)(JOB_STATE_LAST + 1), (JobState)f));
    }
    CHECK_STR(job_state_name((JobState)99), "?");
    CHECK_STR(job_state_text((JobState)99), "?");
    CHECK(!job_state_terminal((JobState)99));
}

TEST(states_have_names_that_read_back, "name -> state for all; nothing for other text")
{
    JobState state;
    int n_terminal = 0;
    for (int i = JOB_STATE_FIRST; i <= JOB_STATE_LAST; i++) {
        CHECK(job_state_from_name(job_state_name((JobState)i), &state) && (int)state == i);
        CHECK(strlen(job_state_text((JobState)i)) > 3);
        n_terminal += job_state_terminal((JobState)i);
    }
    CHECK_INT(n_terminal, 4);
    CHECK(job_state_terminal(JOB_DONE) && !job_state_terminal(JOB_RETRY));
    CHECK(!job_state_from_name("done", &state) && !job_state_from_name("", &state));
}

/* Puts the job where the pair starts, with a result whose sending was begun and has nothing left to
** send, so that only the table decides. */
static void put(Db *db, int64_t id, JobState state)
{
    char sql[256];
    (void)snprintf(sql, sizeof sql,
                   "UPDATE job SET state = %d, code = 0, message = '', any_sent = 0, attempt = 3,"
                   " mr_series_uid = '2.25.99', model_digest = 'ab', wait_until_ms = 0,"
                   " updated_ms = 1 WHERE id = %lld",
                   (int)state, (long long)id);
    fixture_sql(db, sql);
    (void)snprintf(sql, sizeof sql,
                   "INSERT OR IGNORE INTO delivery(job_id, destination, first_try_ms, ended)"
                   " VALUES(%lld, 'TPS_A', 5, 1)",
                   (long long)id);
    fixture_sql(db, sql);
}

TEST(states_db_job_move_follows_the_table,
     "all 121 pairs on a real database; a refused move leaves "
     "row and events as they were")
{
    Db *db = fixture_open();
    Err err = {0};
    Instance in = fixture_image(1, 1);
    int64_t id = fixture_receive(db, &in, 1000).job_id;
    for (int f = JOB_STATE_FIRST; f <= JOB_STATE_LAST; f++) {
        for (int t = JOB_STATE_FIRST; t <= JOB_STATE_LAST; t++) {
            JobState from = (JobState)f, to = (JobState)t;
            put(db, id, from);
            int64_t events = fixture_number(db, "SELECT count(*) FROM event");
            JobRow before = fixture_job(db, id);
            Status got = db_job_move(db, id, from, to, ST_TIMEOUT, "why", 123, 2000, &err);
            JobRow after = fixture_job(db, id);
            if (got != (expected(from, to) ? ST_OK : ST_STATE))
                test_fail(__FILE__, __LINE__, "%s -> %s: %s", job_state_name(from),
                          job_state_name(to), status_name(got));
            int64_t more = fixture_number(db, "SELECT count(*) FROM event") - events;
            CHECK_INT(more, got == ST_OK);
            if (got != ST_OK) {
                CHECK(memcmp(&before, &after, sizeof before) == 0);
                continue;
            }
            CHECK_INT(after.state, to);
            CHECK_INT(after.code, ST_TIMEOUT);
            CHECK_STR(after.message, "why");
            CHECK_INT(after.next_try_ms, 123);
            CHECK_INT(after.updated_ms, 2000);
        }
    }
    db_close(db);
}

TEST(states_move_needs_the_present_state, "STATE when the job is elsewhere, NOT_FOUND for no job")
{
    Db *db = fixture_open();
    Err err = {0};
    Instance in = fixture_image(1, 1);
    int64_t id = fixture_receive(db, &in, 1000).job_id;
    CHECK_STATUS(db_job_move(db, id, JOB_QUEUED, JOB_RUNNING, ST_OK, NULL, 0, 1, &err), ST_STATE);
    CHECK(strstr(err.msg, "RECEIVING") != NULL);
    CHECK_STATUS(db_job_move(db, id + 1, JOB_QUEUED, JOB_RUNNING, ST_OK, NULL, 0, 1, &err),
                 ST_NOT_FOUND);
    db_close(db);
}

TEST(states_conditions_beyond_the_table,
     "no SENDING without result, no DONE with unsent images, no "
     "RECEIVING after sending, no sending past a release")
{
    Db *db = fixture_open();
    Err err = {0};
    int64_t id = fixture_running(db, 1);
    CHECK_STATUS(db_job_move(db, id, JOB_RUNNING, JOB_SENDING, ST_OK, NULL, 0, 1, &err), ST_STATE);
    CHECK_STATUS(db_job_move(db, id, JOB_RUNNING, JOB_HELD, ST_OK, NULL, 0, 1, &err), ST_STATE);
    CHECK_STATUS(db_job_move(db, id, JOB_RUNNING, JOB_DONE, ST_OK, NULL, 0, 1, &err), ST_STATE);

    int64_t held = fixture_computed(db, 2, 1, true);
    CHECK_INT(fixture_job(db, held).state, JOB_HELD);
    fixture_move(db, held, JOB_HELD, JOB_CANCELLED);
    CHECK_STATUS(db_job_resend(db, held, 1, &err), ST_STATE);
    CHECK_STATUS(db_job_move(db, held, JOB_CANCELLED, JOB_SENDING, ST_OK, NULL, 0, 1, &err),
                 ST_STATE);
    fixture_move(db, held, JOB_CANCELLED, JOB_QUEUED);

    int64_t sending = fixture_computed(db, 3, 1, false);
    CHECK_STATUS(db_job_move(db, sending, JOB_SENDING, JOB_DONE, ST_OK, NULL, 0, 1, &err),
                 ST_STATE);
    fixture_sent(db, sending, "TPS_A", 0);
    CHECK_STATUS(db_job_move(db, sending, JOB_SENDING, JOB_RECEIVING, ST_OK, NULL, 0, 1, &err),
                 ST_STATE);
    db_close(db);
}
