/* An image has arrived durably in spool/incoming: enter it, move its series' job. See node.h. */
#include "daemon/node.h"

#include "base/clock.h"
#include "base/log.h"
#include "dicom/prescan.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define REFUSED_IMAGE "" /* in place of a series: an image was refused in the association */

static void touch(Node *node, uint64_t association, const char *series_uid)
{
    for (int32_t i = 0; i < node->n_touches; i++)
        if (node->touches[i].association == association &&
            strcmp(node->touches[i].series_uid, series_uid) == 0)
            return;
    if (node->n_touches == NODE_MAX_TOUCHES)
        return; /* the transfer then stays OPEN: judged after max_quiet_s; safe, only slower */
    Touch *t = &node->touches[node->n_touches++];
    *t = (Touch){.association = association};
    (void)snprintf(t->series_uid, sizeof t->series_uid, "%s", series_uid);
}

int32_t node_open_associations(const Node *node, const char *series_uid)
{
    int32_t n = 0;
    for (int32_t i = 0; i < node->n_touches; i++)
        n += strcmp(node->touches[i].series_uid, series_uid) == 0;
    return n;
}

/* The file will not be part of any series: duplicates are removed, evidence is kept aside. */
static void put_away(const Node *node, const char *file, bool keep)
{
    char from[PATH_SIZE], to[PATH_SIZE];
    if (path_format(from, NULL, "%s/incoming/%s", node->config.spool_path, file) != ST_OK ||
        path_format(to, NULL, "%s/quarantine/%s", node->config.spool_path, file) != ST_OK)
        return;
    if (keep ? rename(from, to) != 0 : unlink(from) != 0)
        log_event(LOG_LEVEL_WARNING, "spool.file", "what=%s failed", keep ? "move" : "remove");
}

/* db_receive() stored the event in its own transaction; this is the line for the log. */
static void alert(const ReceivedResult *r, Status status, const char *series_hash)
{
    log_event(LOG_LEVEL_ALERT, "alert", "job=%lld previous_job=%lld code=%s series=%s",
              (long long)r->job_id, (long long)r->previous_job_id, status_name(status),
              series_hash);
}

static uint16_t act(Node *node, const Instance *instance, const ReceivedResult *r)
{
    char hash[LOG_HASH_SIZE];
    (void)log_hash(instance->series_uid, hash);
    switch (r->what) {
    case RECEIVED_NEW:
        node_event(node, r->job_id, "receive", "", ST_OK, -1, "first image of series %s", hash);
        return DIMSE_SUCCESS;
    case RECEIVED_ADDED:
        return DIMSE_SUCCESS;
    case RECEIVED_RESTARTED:
        if (r->previous_job_id == 0)
            node_stop_children(node, r->job_id, ST_CANCELLED);
        node_event(node, r->job_id, "receive", "", ST_OK, -1,
                   "late image of series %s before anything was sent: it starts again", hash);
        return DIMSE_SUCCESS;
    case RECEIVED_LATE:
        alert(r, ST_SERIES_LATE, hash);
        return DIMSE_SUCCESS;
    case RECEIVED_SAME:
        if (!r->is_stored_file)
            put_away(node, instance->file, false);
        return DIMSE_SUCCESS;
    case RECEIVED_CONFLICT:
        if (!r->is_stored_file)
            put_away(node, instance->file, true);
        node_stop_children(node, r->job_id, ST_SERIES_CONFLICT);
        alert(r, ST_SERIES_CONFLICT, hash);
        return DIMSE_DUPLICATE_CONFLICT;
    case RECEIVED_PATIENT:
        node_stop_children(node, r->job_id, ST_SERIES_PATIENT);
        alert(r, ST_SERIES_PATIENT, hash);
        return DIMSE_SUCCESS;
    }
    return DIMSE_OUT_OF_RESOURCES;
}

uint16_t node_stored(void *context, uint64_t association, const char *calling_ae,
                     const Instance *instance)
{
    Node *node = context;
    ReceivedResult result;
    Err err = {0};
    if (db_receive(node->db, instance, calling_ae, clock_wall_ms(), &result, &err) != ST_OK) {
        log_event(LOG_LEVEL_ERROR, "receive.store", "code=%s %s", status_name(err.status), err.msg);
        put_away(node, instance->file, false); /* not acknowledged: the sender keeps it */
        return DIMSE_OUT_OF_RESOURCES;
    }
    if (association != 0)
        touch(node, association, instance->series_uid);
    return act(node, instance, &result);
}

/* A refused image may have belonged to any series that its association brings, before or after; one
** of another class (a dose report, a presentation state) to none. */
void node_refused(void *context, uint64_t association, Status status, uint16_t dimse_status,
                  const char *text)
{
    Node *node = context;
    node_event(node, 0, "receive", "", status, -1, "image refused with %04XH: %s", dimse_status,
               text);
    if (dimse_status != DIMSE_SOP_CLASS_NOT_SUPPORTED)
        touch(node, association, REFUSED_IMAGE);
}

/* A series whose transfer was cut had been given up; now it was sent again, in order. */
static void revive(Node *node, int64_t job_id)
{
    JobRow job;
    Err err = {0};
    if (db_job_get(node->db, job_id, &job, &err) == ST_OK && job.state == JOB_FAILED &&
        job.code == ST_SERIES_CUT)
        (void)node_move(node, job_id, JOB_FAILED, JOB_QUEUED, ST_OK, NULL, 0);
}

static void note_transfer(Node *node, const char *series_uid, Transfer transfer)
{
    int64_t job_id = 0;
    Err err = {0};
    if (db_series_transfer(node->db, series_uid, transfer, &job_id, &err) != ST_OK)
        log_event(LOG_LEVEL_ERROR, "receive.transfer", "code=%s %s", status_name(err.status),
                  err.msg);
    else if (transfer == TRANSFER_ENDED && job_id != 0)
        revive(node, job_id);
}

static bool brought_refused(const Node *node, uint64_t association)
{
    for (int32_t i = 0; i < node->n_touches; i++)
        if (node->touches[i].association == association &&
            strcmp(node->touches[i].series_uid, REFUSED_IMAGE) == 0)
            return true;
    return false;
}

/* `ended`, no longer in the list, was an association's part in a series. */
static void end_touch(Node *node, const Touch *ended, bool whole)
{
    int32_t n_others = 0;
    for (int32_t i = 0; i < node->n_touches; i++) {
        Touch *t = &node->touches[i];
        if (strcmp(t->series_uid, ended->series_uid) != 0)
            continue;
        n_others++;
        t->was_cut |= !whole || ended->was_cut;
    }
    if (!whole)
        note_transfer(node, ended->series_uid, TRANSFER_CUT);
    else if (n_others == 0 && !ended->was_cut)
        note_transfer(node, ended->series_uid, TRANSFER_ENDED);
}

void node_association_ended(void *context, uint64_t association, bool orderly)
{
    Node *node = context;
    if (!orderly)
        node_recover_association(node, association);
    bool whole = orderly && !brought_refused(node, association);
    for (int32_t i = node->n_touches - 1; i >= 0; i--) {
        Touch t = node->touches[i];
        if (t.association != association)
            continue;
        node->touches[i] = node->touches[--node->n_touches];
        if (strcmp(t.series_uid, REFUSED_IMAGE) != 0)
            end_touch(node, &t, whole);
    }
}
