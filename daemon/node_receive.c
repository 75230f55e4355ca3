/* An image has arrived durably in spool/incoming: enter it, move its series' job. See node.h. */
#include "daemon/node.h"

#include "base/clock.h"
#include "base/log.h"
#include "dicom/prescan.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define REFUSED_IMAGE "" /* in place of a series: an image was refused in the association */

/* True if it is the association's first image of the series. */
static bool touch(Node *node, const AssociationInfo *from, const char *series_uid)
{
    int32_t n_own = 0;
    for (int32_t i = 0; i < node->n_touches; i++) {
        Touch *t = &node->touches[i];
        if (t->association != from->id)
            continue;
        n_own++;
        if (strcmp(t->series_uid, series_uid) == 0) {
            t->last_ms = clock_monotonic_ms();
            return false;
        }
    }
    /* What does not fit stays OPEN without an association, which counts as cut. */
    int32_t kept = strcmp(series_uid, REFUSED_IMAGE) == 0 ? 0 : 1;
    if (node->n_touches >= NODE_MAX_TOUCHES - kept || n_own >= NODE_MAX_TOUCHES_EACH - kept)
        return false;
    Touch *t = &node->touches[node->n_touches++];
    *t = (Touch){.association = from->id, .last_ms = clock_monotonic_ms()};
    (void)snprintf(t->series_uid, sizeof t->series_uid, "%s", series_uid);
    (void)snprintf(t->calling_ae, sizeof t->calling_ae, "%s", from->calling_ae);
    return true;
}

int32_t node_open_associations(const Node *node, const char *series_uid, int64_t *ret_last_ms)
{
    int32_t n = 0;
    *ret_last_ms = 0;
    for (int32_t i = 0; i < node->n_touches; i++) {
        const Touch *t = &node->touches[i];
        if (strcmp(t->series_uid, series_uid) != 0)
            continue;
        n++;
        if (t->last_ms > *ret_last_ms)
            *ret_last_ms = t->last_ms;
    }
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

/* An image that is here already came again: one of the two files is enough, if the first is there.
** */
static void keep_one(Node *node, const Instance *instance, const char *stored_file)
{
    char path[PATH_SIZE];
    Err err = {0};
    if (path_format(path, &err, "%s/incoming/%s", node->config.spool_path, stored_file) == ST_OK &&
        access(path, F_OK) == 0)
        put_away(node, instance->file, false);
    else if (db_image_file(node->db, instance->sop_uid, instance->file, &err) == ST_OK)
        log_event(LOG_LEVEL_WARNING, "spool.file", "what=replaced one that was missing");
    else
        log_event(LOG_LEVEL_ERROR, "spool.file", "code=%s %s", status_name(err.status), err.msg);
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
            keep_one(node, instance, r->stored_file);
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

/* What could not be noted stays OPEN without an association, which counts as cut. */
static void log_failure(Status status, const Err *err)
{
    if (status != ST_OK)
        log_event(LOG_LEVEL_ERROR, "receive.transfer", "code=%s %s", status_name(status), err->msg);
}

static Status join(Node *node, const AssociationInfo *from, const char *series_uid, Err *err)
{
    const Arrival arrival = {from->calling_ae, from->opened_ms,
                             (int64_t)node->config.max_quiet_s * 1000};
    return db_transfer_joined(node->db, series_uid, &arrival, clock_steady_ms(), err);
}

Status node_enter(Node *node, const AssociationInfo *from, const Instance *instance,
                  uint16_t *ret_dimse, Err *err)
{
    ReceivedResult result;
    bool is_first = from != NULL && touch(node, from, instance->series_uid);
    if (is_first) /* of a series that is there; a new one follows below */
        TRY(join(node, from, instance->series_uid, err));
    TRY(db_receive(node->db, instance, from != NULL ? from->calling_ae : "", clock_steady_ms(),
                   &result, err));
    if (is_first && result.what == RECEIVED_NEW)
        TRY(join(node, from, instance->series_uid, err));
    if (from != NULL && result.what == RECEIVED_CONFLICT)
        (void)touch(node, from, REFUSED_IMAGE);
    *ret_dimse = act(node, instance, &result);
    return ST_OK;
}

uint16_t node_stored(void *context, const AssociationInfo *from, const Instance *instance)
{
    Node *node = context;
    uint16_t dimse = DIMSE_OUT_OF_RESOURCES;
    Err err = {0};
    if (node_enter(node, from, instance, &dimse, &err) != ST_OK) {
        log_event(LOG_LEVEL_ERROR, "receive.store", "code=%s %s", status_name(err.status), err.msg);
        put_away(node, instance->file, false); /* not acknowledged: the sender keeps it */
        (void)touch(node, from, REFUSED_IMAGE);
    }
    return dimse;
}

/* Noted until the association ends. An image of another class (a dose report, a presentation state)
** is no slice of any CT. */
void node_refused(void *context, const AssociationInfo *from, Status status, uint16_t dimse_status,
                  const char *text)
{
    Node *node = context;
    node_event(node, 0, "receive", "", status, -1, "image refused with %04XH: %s", dimse_status,
               text);
    if (dimse_status != DIMSE_SOP_CLASS_NOT_SUPPORTED)
        (void)touch(node, from, REFUSED_IMAGE);
}

/* A series whose transfer was cut had been given up; now it was sent again, in order: it is judged
** again when it has gone quiet. */
static void revive(Node *node, int64_t job_id)
{
    JobRow job;
    Err err = {0};
    if (db_job_get(node->db, job_id, &job, &err) == ST_OK && job.state == JOB_FAILED &&
        job.code == ST_SERIES_CUT)
        (void)node_move(node, job_id, JOB_FAILED, JOB_RECEIVING, ST_OK, NULL, 0);
}

static void note_ended(Node *node, const char *series_uid)
{
    int64_t job_id = 0;
    Err err = {0};
    log_failure(db_transfer_ended(node->db, series_uid, &job_id, &err), &err);
    if (job_id != 0)
        revive(node, job_id);
}

/* An image of the peer may be missing whose series nobody knows (db/transfer.c). */
void node_turned_away(void *context, const char *calling_ae)
{
    Node *node = context;
    Err err = {0};
    int64_t now_ms = clock_steady_ms();
    log_failure(db_peer_suspect(node->db, calling_ae, now_ms, &err), &err);
    for (int32_t i = 0; i < node->n_touches; i++) { /* what its open associations are bringing */
        const Touch *t = &node->touches[i];
        if (strcmp(t->calling_ae, calling_ae) == 0 && strcmp(t->series_uid, REFUSED_IMAGE) != 0)
            log_failure(db_transfer_cut(node->db, t->series_uid, now_ms, &err), &err);
    }
}

/* Nobody knows whose: as at a restart. */
void node_connections_lost(void *context)
{
    Node *node = context;
    Err err = {0};
    log_failure(db_transfers_interrupted(node->db, clock_steady_ms(), &err), &err);
}

/* Takes the association's touches out of the list; the series' UIDs into ret. True if no image was
** refused in it. */
static bool take_touches(Node *node, uint64_t association, char ret[][UID_SIZE], int32_t *ret_n)
{
    bool none_refused = true;
    *ret_n = 0;
    for (int32_t i = node->n_touches - 1; i >= 0; i--) {
        Touch t = node->touches[i];
        if (t.association != association)
            continue;
        node->touches[i] = node->touches[--node->n_touches];
        if (strcmp(t.series_uid, REFUSED_IMAGE) == 0)
            none_refused = false;
        else
            memcpy(ret[(*ret_n)++], t.series_uid, UID_SIZE);
    }
    return none_refused;
}

/* An association that was cut within its first image, or had it refused, names no series; one that
** never asked for a C-STORE (an echo) has lost none. */
void node_association_ended(void *context, const AssociationInfo *from, bool orderly)
{
    Node *node = context;
    static char series[NODE_MAX_TOUCHES_EACH][UID_SIZE];
    int32_t n;
    int64_t last_ms;
    if (!orderly)
        node_recover_association(node, from);
    bool refused = !take_touches(node, from->id, series, &n);
    bool whole = orderly && !refused;
    if (refused || (!orderly && (from->stores || n > 0)))
        node_turned_away(node, from->calling_ae);
    for (int32_t i = 0; i < n; i++) {
        Err err = {0};
        if (!whole)
            log_failure(db_transfer_cut(node->db, series[i], clock_steady_ms(), &err), &err);
        else if (node_open_associations(node, series[i], &last_ms) == 0)
            note_ended(node, series[i]);
    }
}
