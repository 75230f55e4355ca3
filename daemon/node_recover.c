/* At start: spool and database agree again. And retention, which keeps them small.
**
** spool/incoming is the truth about received images: a file that the database does not know (the
** power failed before its row was on disk, or the daemon died between the two) is scanned and
** entered as if it had just arrived. A file that does not pass the scan was never acknowledged; it
** is moved to spool/quarantine rather than deleted. RUNNING jobs are queued again. The same is done
** for the files of one association whose child died, which may be between naming and reporting. */
#include "daemon/node.h"

#include "base/clock.h"
#include "base/log.h"
#include "dicom/prescan.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RETENTION_PERIOD_MS (3600 * 1000)

static Status recover_file(Node *node, const char *name, const AssociationInfo *from,
                           int32_t *entered, Err *err)
{
    bool known;
    TRY(db_has_file(node->db, name, &known, err));
    if (known)
        return ST_OK;
    char path[PATH_SIZE], aside[PATH_SIZE];
    TRY(path_format(path, err, "%s/incoming/%s", node->config.spool_path, name));
    TRY(path_format(aside, err, "%s/quarantine/%s", node->config.spool_path, name));
    Instance instance;
    unsigned dimse;
    Err scan = {0};
    if (strlen(name) >= FILE_NAME_SIZE || prescan_file(path, &instance, &dimse, &scan) != ST_OK) {
        log_event(LOG_LEVEL_WARNING, "recover.file", "code=%s moved to quarantine",
                  status_name(scan.status));
        return rename(path, aside) == 0 ? ST_OK : err_sys(err, errno, "moving %s", path);
    }
    (void)snprintf(instance.file, sizeof instance.file, "%s", name);
    uint16_t answer;
    TRY(node_enter(node, from, &instance, &answer, err));
    ++*entered;
    return ST_OK;
}

/* from NULL: every file; else those that this association's child named. */
static Status recover_incoming(Node *node, const AssociationInfo *from, int32_t *entered, Err *err)
{
    char middle[32];
    (void)snprintf(middle, sizeof middle, "-%llu-",
                   (unsigned long long)(from != NULL ? from->id : 0));
    char dir[PATH_SIZE];
    TRY(path_format(dir, err, "%s/incoming", node->config.spool_path));
    struct dirent **entries;
    int n = scandir(dir, &entries, NULL, alphasort); /* names sort by time of arrival */
    if (n < 0)
        return err_sys(err, errno, "reading folder %s", dir);
    Status status = ST_OK;
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        bool wanted = name[0] != '.' && (from == NULL || strstr(name, middle) != NULL);
        if (status == ST_OK && wanted)
            status = recover_file(node, name, from, entered, err);
        free(entries[i]);
    }
    free(entries);
    return status;
}

void node_recover_association(Node *node, const AssociationInfo *from)
{
    int32_t entered = 0;
    Err err = {0};
    if (recover_incoming(node, from, &entered, &err) != ST_OK)
        log_event(LOG_LEVEL_ERROR, "recover.association", "code=%s %s", status_name(err.status),
                  err.msg);
    else if (entered > 0)
        log_event(LOG_LEVEL_NOTICE, "recover.association", "images_entered=%d", entered);
}

Status node_recover(Node *node, Err *err)
{
    static const char *const folders[] = {"tmp", "incoming", "quarantine", "jobs"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char dir[PATH_SIZE];
        TRY(path_format(dir, err, "%s/%s", node->config.spool_path, folders[i]));
        TRY(dir_make(dir, err));
    }
    int32_t requeued = 0, entered = 0;
    TRY(db_recover(node->db, clock_steady_ms(), &requeued, err));
    TRY(recover_incoming(node, NULL, &entered, err));
    TRY(db_transfers_interrupted(node->db, clock_steady_ms(), err));
    if (requeued > 0 || entered > 0)
        log_event(LOG_LEVEL_NOTICE, "recover.done", "jobs_queued_again=%d images_entered=%d",
                  requeued, entered);
    return ST_OK;
}

static void forget(Node *node, const JobRow *job)
{
    char path[PATH_SIZE];
    Err err = {0};
    Instance *images = NULL;
    int32_t n = 0;
    JobRow at = *job;
    Status status = ST_OK;
    for (at.revision = 1; at.revision <= job->revision && status == ST_OK; at.revision++) {
        status = node_job_dir(node, &at, path, &err);
        if (status == ST_OK)
            status = dir_remove(path, &err);
    }
    if (status != ST_OK || db_series_images(node->db, job->series_id, &images, &n, &err) != ST_OK) {
        log_event(LOG_LEVEL_WARNING, "retention", "job=%lld %s", (long long)job->id, err.msg);
        return;
    }
    /* files first: a file without a row would be taken for a new image at the next start */
    for (int32_t i = 0; i < n; i++)
        if (path_format(path, NULL, "%s/incoming/%s", node->config.spool_path, images[i].file) ==
            ST_OK)
            (void)unlink(path);
    free(images);
    if (db_job_forget_files(node->db, job->id, &err) != ST_OK)
        log_event(LOG_LEVEL_WARNING, "retention", "job=%lld %s", (long long)job->id, err.msg);
    else
        log_event(LOG_LEVEL_INFO, "retention", "job=%lld files=removed", (long long)job->id);
}

void node_retention(Node *node, int64_t now_ms)
{
    if (node->config.retention_days == 0 ||
        now_ms - node->retention_checked_ms < RETENTION_PERIOD_MS)
        return;
    node->retention_checked_ms = now_ms;
    JobRow *jobs;
    int32_t n;
    int64_t before_ms = now_ms - (int64_t)node->config.retention_days * 24 * 3600 * 1000;
    if (db_jobs_expired(node->db, before_ms, &jobs, &n, NULL) != ST_OK)
        return;
    for (int32_t i = 0; i < n; i++)
        forget(node, &jobs[i]);
    free(jobs);
}
