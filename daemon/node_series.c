/* Series that went quiet: complete, waiting, or refused. See pipeline/series.h for the rule and
** pipeline/geometry.h for the gate; here they meet the database. */
#include "daemon/node.h"

#include "base/clock.h"
#include "base/log.h"
#include "pipeline/geometry.h"
#include "pipeline/series.h"

#include <stdlib.h>

/* Runs the gate on what the structural scans found. */
static Status gate(Node *node, const JobRow *job, Err *err)
{
    Instance *images;
    int32_t n;
    TRY(db_series_images(node->db, job->series_id, &images, &n, err));
    int32_t *order = calloc((size_t)n + 1, sizeof *order);
    ASSERT(order != NULL);
    GeometryLimits limits = {.min_slices = node->config.min_slices,
                             .max_slices = node->config.max_slices};
    Geometry geometry;
    Status status = geometry_check(images, n, &limits, order, &geometry, err);
    free(order);
    free(images);
    return status;
}

static int32_t announced(Node *node, const JobRow *job)
{
    Instance *images;
    int32_t n, most = 0;
    if (db_series_images(node->db, job->series_id, &images, &n, NULL) != ST_OK)
        return 0;
    for (int32_t i = 0; i < n; i++)
        if (images[i].geometry.images_in_acquisition > most)
            most = images[i].geometry.images_in_acquisition;
    free(images);
    return most;
}

static void apply(Node *node, const JobRow *job, const SeriesDecision *d, const char *message)
{
    Err err = {0};
    switch (d->action) {
    case SERIES_NOT_YET:
    case SERIES_CHECK:
        return;
    case SERIES_COMPLETE:
        (void)node_move(node, job->id, job->state, JOB_QUEUED, ST_OK, NULL, 0);
        return;
    case SERIES_WAIT:
        if (job->state == JOB_RECEIVING)
            (void)node_move(node, job->id, JOB_RECEIVING, JOB_WAITING, d->code, message, 0);
        if (d->at_ms != job->wait_until_ms &&
            db_job_wait_until(node->db, job->id, d->at_ms, &err) != ST_OK)
            log_event(LOG_LEVEL_ERROR, "series.wait", "job=%lld %s", (long long)job->id, err.msg);
        return;
    case SERIES_FAIL:
        (void)node_move(node, job->id, job->state, JOB_FAILED, d->code, message, 0);
        return;
    case SERIES_QUARANTINE:
        (void)node_move(node, job->id, job->state, JOB_QUARANTINED, d->code, message, 0);
        return;
    }
}

static void judge(Node *node, const JobRow *job, int64_t now_ms)
{
    const Config *c = &node->config;
    SeriesPolicy policy = {(int64_t)c->quiet_s * 1000, (int64_t)c->max_quiet_s * 1000,
                           (int64_t)c->wait_s * 1000};
    /* While an association is open the quiet time is that of a clock which nobody sets. */
    int64_t touched_ms = 0, last_image_ms = job->last_image_ms;
    int32_t n_open = node_open_associations(node, job->series_uid, &touched_ms);
    if (last_image_ms < node->started_ms)
        last_image_ms = node->started_ms; /* nobody could send while the daemon was down */
    if (n_open > 0)
        last_image_ms = now_ms - (clock_monotonic_ms() - touched_ms);
    SeriesFacts facts = {.now_ms = now_ms,
                         .last_image_ms = last_image_ms,
                         .n_open = n_open,
                         .n_associations = job->n_associations,
                         .transfer = job->transfer,
                         .n_got = job->n_images,
                         .state = job->state,
                         .code = job->code,
                         .wait_until_ms = job->wait_until_ms};
    SeriesDecision d = series_decide(&policy, &facts);
    if (d.action == SERIES_CHECK) { /* only now look at every image */
        facts.n_expected = announced(node, job);
        d = series_decide(&policy, &facts);
    }
    Err err = {0};
    if (d.action == SERIES_CHECK) {
        facts.is_checked = true;
        facts.verdict = gate(node, job, &err);
        d = series_decide(&policy, &facts);
    }
    apply(node, job, &d, err.msg);
}

void node_judge_series(Node *node, int64_t now_ms)
{
    static const JobState states[] = {JOB_RECEIVING, JOB_WAITING};
    for (int s = 0; s < 2; s++) {
        JobRow *jobs;
        int32_t n;
        Err err = {0};
        if (db_jobs_list(node->db, states[s], 0, &jobs, &n, &err) != ST_OK) {
            log_event(LOG_LEVEL_ERROR, "series.list", "code=%s %s", status_name(err.status),
                      err.msg);
            return;
        }
        for (int32_t i = n - 1; i >= 0; i--)
            judge(node, &jobs[i], now_ms);
        free(jobs);
    }
}
