/* pipeline/series: quiet times, open associations, the wait for a missing slice, clocks that jump.
** Pure arithmetic: every time is written out. */
#include "tests/test.h"

#include "pipeline/series.h"

static const SeriesPolicy policy = {.quiet_ms = 5000, .max_quiet_ms = 60000, .wait_ms = 600000};
#define T0 INT64_C(1700000000000)

static SeriesFacts receiving(int64_t now_ms)
{
    return (SeriesFacts){.now_ms = now_ms,
                         .last_image_ms = T0,
                         .n_got = 40,
                         .state = JOB_RECEIVING,
                         .transfer = TRANSFER_ENDED};
}

static void check_decision(SeriesDecision got, SeriesAction action, int64_t at_ms, Status code,
                           int line)
{
    if (got.action != action || got.at_ms != at_ms || got.code != code)
        test_fail(__FILE__, line, "action %d at T0%+lld %s, expected %d at T0%+lld %s",
                  (int)got.action, (long long)(got.at_ms - T0), status_name(got.code), (int)action,
                  (long long)(at_ms - T0), status_name(code));
}
#define CHECK_DECISION(facts, action, at_ms, code)                                                 \
    check_decision(series_decide(&policy, &(facts)), action, at_ms, code, __LINE__)

TEST(series_quiet_time, "closed associations: checked 5 s after the last image, not 1 ms earlier")
{
    SeriesFacts facts = receiving(T0);
    CHECK_DECISION(facts, SERIES_NOT_YET, T0 + 5000, ST_OK);
    facts.now_ms = T0 + 4999;
    CHECK_DECISION(facts, SERIES_NOT_YET, T0 + 5000, ST_OK);
    facts.now_ms = T0 + 5000;
    CHECK_DECISION(facts, SERIES_CHECK, 0, ST_OK);
}

TEST(series_waits_longer_when_in_doubt,
     "an open association, an abort, several associations or fewer images than announced: "
     "60 s; as many or more than announced: 5 s")
{
    for (int doubt = 0; doubt < 6; doubt++) {
        SeriesFacts facts = receiving(T0 + 30000);
        facts.n_open = doubt == 0 ? 1 : 0;
        facts.n_associations = doubt == 5 ? 2 : 1;
        facts.transfer = doubt == 1 ? TRANSFER_CUT : doubt == 4 ? TRANSFER_OPEN : TRANSFER_ENDED;
        facts.n_expected = doubt == 2 ? 41 : doubt == 3 ? 40 : 0;
        if (doubt == 3) {
            CHECK_DECISION(facts, SERIES_CHECK, 0, ST_OK);
            continue;
        }
        CHECK_DECISION(facts, SERIES_NOT_YET, T0 + 60000, ST_OK);
        facts.now_ms = T0 + 59999;
        CHECK_DECISION(facts, SERIES_NOT_YET, T0 + 60000, ST_OK);
        facts.now_ms = T0 + 60000;
        CHECK_DECISION(facts, SERIES_CHECK, 0, ST_OK);
    }
}

TEST(series_sent_again_waits_until_it_is_quiet,
     "WAITING as cut, then mended: checked when quiet, as if it had just arrived")
{
    SeriesFacts facts = receiving(T0 + 4999);
    facts.state = JOB_WAITING;
    facts.code = ST_SERIES_CUT;
    facts.wait_until_ms = T0 + 500000;
    CHECK_DECISION(facts, SERIES_NOT_YET, T0 + 5000, ST_OK);
    facts.now_ms = T0 + 5000;
    CHECK_DECISION(facts, SERIES_CHECK, 0, ST_OK);
    facts.transfer = TRANSFER_CUT;
    CHECK_DECISION(facts, SERIES_NOT_YET, T0 + 500000, ST_OK);
}

TEST(series_verdicts,
     "good: complete (the announced number is only a hint); patient: quarantine; gap "
     "and few: wait; every other code: fail at once")
{
    SeriesFacts facts = receiving(T0 + 60000);
    facts.is_checked = true;
    facts.n_expected = 99;
    CHECK_DECISION(facts, SERIES_COMPLETE, 0, ST_OK);
    facts.verdict = ST_SERIES_PATIENT;
    CHECK_DECISION(facts, SERIES_QUARANTINE, 0, ST_SERIES_PATIENT);
    static const Status waits[] = {ST_SERIES_GAP, ST_SERIES_FEW};
    for (int i = 0; i < 2; i++) {
        facts.verdict = waits[i];
        CHECK_DECISION(facts, SERIES_WAIT, T0 + 660000, waits[i]);
    }
    static const Status fails[] = {ST_SERIES_TILT,   ST_SERIES_SPACING, ST_SERIES_DUPLICATE,
                                   ST_SERIES_FRAME,  ST_SERIES_GRID,    ST_SERIES_ORIENTATION,
                                   ST_SERIES_NOT_CT, ST_LIMIT,          ST_DICOM_ATTRIBUTE};
    for (size_t i = 0; i < sizeof fails / sizeof fails[0]; i++) {
        facts.verdict = fails[i];
        CHECK_DECISION(facts, SERIES_FAIL, 0, fails[i]);
    }
}

TEST(series_cut,
     "a cut transfer is never taken for complete: it waits, whatever the gate says, but for "
     "another patient; then it fails; sent again in order it is judged at once")
{
    SeriesFacts facts = receiving(T0 + 60000);
    facts.is_checked = true;
    facts.transfer = TRANSFER_CUT;
    CHECK_DECISION(facts, SERIES_WAIT, T0 + 660000, ST_SERIES_CUT);
    facts.transfer = TRANSFER_OPEN; /* without an association: its end could not be noted */
    CHECK_DECISION(facts, SERIES_WAIT, T0 + 660000, ST_SERIES_CUT);
    facts.n_open = 1;
    CHECK_DECISION(facts, SERIES_COMPLETE, 0, ST_OK);
    facts.n_open = 0;
    facts.transfer = TRANSFER_CUT;
    facts.verdict = ST_SERIES_SPACING;
    CHECK_DECISION(facts, SERIES_WAIT, T0 + 660000, ST_SERIES_SPACING);
    facts.verdict = ST_SERIES_PATIENT;
    CHECK_DECISION(facts, SERIES_QUARANTINE, 0, ST_SERIES_PATIENT);

    facts.state = JOB_WAITING;
    facts.code = ST_SERIES_CUT;
    facts.wait_until_ms = T0 + 660000;
    facts.is_checked = false;
    facts.verdict = ST_OK;
    CHECK_DECISION(facts, SERIES_NOT_YET, T0 + 660000, ST_OK);
    SeriesFacts again = facts;
    again.transfer = TRANSFER_ENDED;
    CHECK_DECISION(again, SERIES_CHECK, 0, ST_OK);
    again.is_checked = true;
    CHECK_DECISION(again, SERIES_COMPLETE, 0, ST_OK);
    again.is_checked = false;
    again.code = ST_SERIES_GAP; /* that slice is still missing */
    CHECK_DECISION(again, SERIES_NOT_YET, T0 + 660000, ST_OK);

    facts.transfer = TRANSFER_CUT;
    facts.now_ms = T0 + 660000;
    CHECK_DECISION(facts, SERIES_CHECK, 0, ST_OK);
    facts.is_checked = true;
    CHECK_DECISION(facts, SERIES_FAIL, 0, ST_SERIES_CUT);
}

TEST(series_waiting_ends,
     "WAITING: nothing until the stored deadline, then a check; then complete or "
     "failed with the gap's code; the deadline is not extended by asking")
{
    SeriesFacts facts = receiving(T0 + 70000);
    facts.state = JOB_WAITING;
    facts.code = ST_SERIES_GAP;
    facts.wait_until_ms = T0 + 660000;
    CHECK_DECISION(facts, SERIES_NOT_YET, T0 + 660000, ST_OK);
    facts.now_ms = T0 + 300000;
    facts.is_checked = true; /* somebody asked in between: same deadline */
    facts.verdict = ST_SERIES_GAP;
    CHECK_DECISION(facts, SERIES_WAIT, T0 + 660000, ST_SERIES_GAP);
    facts.is_checked = false;
    facts.now_ms = T0 + 660000;
    CHECK_DECISION(facts, SERIES_CHECK, 0, ST_OK);
    facts.is_checked = true;
    CHECK_DECISION(facts, SERIES_FAIL, 0, ST_SERIES_GAP);
    facts.verdict = ST_OK;
    CHECK_DECISION(facts, SERIES_COMPLETE, 0, ST_OK);
    facts.verdict = ST_SERIES_PATIENT;
    CHECK_DECISION(facts, SERIES_QUARANTINE, 0, ST_SERIES_PATIENT);
}

TEST(series_waiting_without_deadline, "a crash between the move and storing the deadline: checked "
                                      "again, then given the whole wait")
{
    SeriesFacts facts = receiving(T0 + 70000);
    facts.state = JOB_WAITING;
    CHECK_DECISION(facts, SERIES_CHECK, 0, ST_OK);
    facts.is_checked = true;
    facts.verdict = ST_SERIES_FEW;
    CHECK_DECISION(facts, SERIES_WAIT, T0 + 670000, ST_SERIES_FEW);
}

TEST(series_no_wait_configured,
     "wait 0: a gap fails at once; quiet above max_quiet: max_quiet rules")
{
    SeriesPolicy none = {.quiet_ms = 5000, .max_quiet_ms = 60000, .wait_ms = 0};
    SeriesFacts facts = receiving(T0 + 60000);
    facts.is_checked = true;
    facts.verdict = ST_SERIES_GAP;
    check_decision(series_decide(&none, &facts), SERIES_FAIL, 0, ST_SERIES_GAP, __LINE__);
    SeriesPolicy odd = {.quiet_ms = 90000, .max_quiet_ms = 60000, .wait_ms = 0};
    facts = receiving(T0 + 60000);
    check_decision(series_decide(&odd, &facts), SERIES_CHECK, 0, ST_OK, __LINE__);
}

TEST(series_resumes_after_restart, "facts read back days later: judged at once, failed at once")
{
    SeriesFacts facts = receiving(T0 + 200000000);
    CHECK_DECISION(facts, SERIES_CHECK, 0, ST_OK);
    facts.state = JOB_WAITING;
    facts.wait_until_ms = T0 + 660000;
    CHECK_DECISION(facts, SERIES_CHECK, 0, ST_OK);
    facts.is_checked = true;
    facts.verdict = ST_SERIES_GAP;
    CHECK_DECISION(facts, SERIES_FAIL, 0, ST_SERIES_GAP);
}

/* Plays the daemon: asks at each time it was given, stores what it is told, from a clock that was
** set back by jump_ms. Returns the milliseconds until the series was checked or failed. */
static int64_t play(SeriesFacts facts, int64_t jump_ms, SeriesAction last)
{
    int64_t start_ms = facts.now_ms - jump_ms;
    facts.now_ms = start_ms;
    for (int i = 0; i < 100; i++) {
        SeriesDecision d = series_decide(&policy, &facts);
        if (d.action == last)
            return facts.now_ms - start_ms;
        facts.is_checked = d.action == SERIES_CHECK;
        facts.verdict = ST_SERIES_GAP;
        if (d.action == SERIES_WAIT) {
            facts.state = JOB_WAITING;
            facts.code = ST_SERIES_GAP;
            facts.wait_until_ms = d.at_ms;
        }
        if (d.action == SERIES_WAIT || d.action == SERIES_NOT_YET) {
            CHECK(d.at_ms > facts.now_ms); /* no busy loop */
            facts.now_ms = d.at_ms;
        }
    }
    test_fail(__FILE__, __LINE__, "no decision after 100 rounds");
}

TEST(series_clock_set_back,
     "by 1 s, 1 min, 1 h, 10 years: quiet ends within 2 x 60 s, waiting within "
     "10 min, counted on the new clock")
{
    static const int64_t jumps_ms[] = {0, 1000, 60000, 3600000, 315360000000};
    for (size_t i = 0; i < sizeof jumps_ms / sizeof jumps_ms[0]; i++) {
        SeriesFacts facts = receiving(T0);
        CHECK(play(facts, jumps_ms[i], SERIES_CHECK) <= 2 * policy.max_quiet_ms);
        facts.transfer = TRANSFER_CUT;
        CHECK(play(facts, jumps_ms[i], SERIES_CHECK) <= 2 * policy.max_quiet_ms);
        facts.state = JOB_WAITING;
        facts.code = ST_SERIES_GAP;
        facts.wait_until_ms = T0 + policy.wait_ms;
        CHECK(play(facts, jumps_ms[i], SERIES_FAIL) <= policy.wait_ms);
    }
    CHECK_INT(play(receiving(T0), 0, SERIES_FAIL), 5000 + 600000);
}
