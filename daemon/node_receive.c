/* An image has arrived durably in spool/incoming: enter it, move its series' job. See node.h. */
#include "daemon/node.h"

#include "base/clock.h"
#include "base/log.h"
#include "dicom/prescan.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void touch(Node *node, uint64_t association, const char *series_uid)
{
    for (int32_t i = 0; i < node->n_touches; i++)
        if (node->touches[i].association == association &&
            strcmp(node->touches[i].series_uid, series_uid) == 0)
            return;
    if (node->n_touches == NODE_MAX_TOUCHES)
        return; /* the series then waits max_quiet_s at most: safe, only slower */
    Touch *t = &node->touches[node->n_touches++];
    t->association = association;
    memcpy(t->series_uid, series_uid, UID_SIZE);
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
    if (association != 0 && result.what != RECEIVED_SAME && result.what != RECEIVED_CONFLICT)
        touch(node, association, instance->series_uid);
    return act(node, instance, &result);
}

void node_refused(void *context, uint64_t association, Status status, uint16_t dimse_status,
                  const char *text)
{
    Node *node = context;
    (void)association;
    node_event(node, 0, "receive", "", status, -1, "image refused with %04XH: %s", dimse_status,
               text);
}

void node_association_ended(void *context, uint64_t association, bool orderly)
{
    Node *node = context;
    if (!orderly)
        node_recover_association(node, association);
    int32_t kept = 0;
    for (int32_t i = 0; i < node->n_touches; i++) {
        Touch *t = &node->touches[i];
        if (t->association != association) {
            node->touches[kept++] = *t;
            continue;
        }
        Err err = {0};
        if (!orderly && db_series_suspect(node->db, t->series_uid, &err) != ST_OK)
            log_event(LOG_LEVEL_ERROR, "receive.suspect", "code=%s %s", status_name(err.status),
                      err.msg);
    }
    node->n_touches = kept;
}
