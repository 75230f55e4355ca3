/* See series.h. */
#include "pipeline/series.h"

static SeriesDecision decision(SeriesAction action, int64_t at_ms, Status code)
{
    return (SeriesDecision){.action = action, .at_ms = at_ms, .code = code};
}

/* How long it must have been quiet before it is looked at. */
static int64_t quiet_needed(const SeriesPolicy *policy, const SeriesFacts *facts)
{
    bool fewer_than_announced = facts->n_expected > facts->n_got;
    bool is_open = facts->n_open > 0 || facts->transfer == TRANSFER_OPEN;
    bool patient = is_open || facts->transfer == TRANSFER_CUT || facts->n_associations > 1 ||
                   fewer_than_announced;
    if (patient || policy->quiet_ms > policy->max_quiet_ms)
        return policy->max_quiet_ms;
    return policy->quiet_ms;
}

static SeriesDecision while_receiving(const SeriesPolicy *policy, const SeriesFacts *facts)
{
    int64_t quiet = facts->now_ms - facts->last_image_ms, needed = quiet_needed(policy, facts);
    /* The newest image lies in the future: the clock was set back. By a little: wait until it has
    ** caught up. By more than any wait: it never will in good time, so judge now. */
    if (quiet < -policy->max_quiet_ms)
        return decision(SERIES_CHECK, 0, ST_OK);
    if (quiet < needed)
        return decision(SERIES_NOT_YET, facts->last_image_ms + needed, ST_OK);
    return decision(SERIES_CHECK, 0, ST_OK);
}

static bool is_gap(Status verdict)
{
    return verdict == ST_SERIES_GAP || verdict == ST_SERIES_FEW;
}

static SeriesDecision while_waiting(const SeriesPolicy *policy, const SeriesFacts *facts)
{
    if (facts->transfer == TRANSFER_ENDED && !is_gap(facts->code))
        return while_receiving(policy, facts); /* what was cut was sent again: when it is quiet */
    if (facts->wait_until_ms > facts->now_ms + policy->wait_ms) /* clock set back, or new policy */
        return decision(SERIES_WAIT, facts->now_ms + policy->wait_ms, ST_OK);
    if (facts->wait_until_ms > facts->now_ms)
        return decision(SERIES_NOT_YET, facts->wait_until_ms, ST_OK);
    return decision(SERIES_CHECK, 0, ST_OK); /* also when the deadline was never stored */
}

static SeriesDecision after_check(const SeriesPolicy *policy, const SeriesFacts *facts)
{
    /* Open without an association: its end could not be noted. */
    bool was_cut =
        facts->transfer == TRANSFER_CUT || (facts->transfer == TRANSFER_OPEN && facts->n_open == 0);
    if (facts->verdict == ST_SERIES_PATIENT)
        return decision(SERIES_QUARANTINE, 0, facts->verdict);
    if (facts->verdict == ST_OK && !was_cut)
        return decision(SERIES_COMPLETE, 0, ST_OK);
    if (!was_cut && !is_gap(facts->verdict))
        return decision(SERIES_FAIL, 0, facts->verdict); /* another image cannot mend it */
    Status code = facts->verdict == ST_OK ? ST_SERIES_CUT : facts->verdict;
    bool has_waited = facts->state == JOB_WAITING && facts->wait_until_ms > 0;
    int64_t until_ms = has_waited ? facts->wait_until_ms : facts->now_ms + policy->wait_ms;
    if (until_ms > facts->now_ms + policy->wait_ms)
        until_ms = facts->now_ms + policy->wait_ms;
    if (until_ms <= facts->now_ms)
        return decision(SERIES_FAIL, 0, code);
    return decision(SERIES_WAIT, until_ms, code);
}

SeriesDecision series_decide(const SeriesPolicy *policy, const SeriesFacts *facts)
{
    ASSERT(facts->state == JOB_RECEIVING || facts->state == JOB_WAITING);
    if (facts->is_checked)
        return after_check(policy, facts);
    return facts->state == JOB_RECEIVING ? while_receiving(policy, facts)
                                         : while_waiting(policy, facts);
}
