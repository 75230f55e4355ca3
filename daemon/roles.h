/* Child processes as the daemon sees them: workers and senders, one job or delivery each.
**
** A child is `ct2mr --worker FILE` or `ct2mr --sender FILE` (pipeline/job_file.h) with a report
** channel (base/message.h) on descriptor 3. It opens no database; to stop it is to kill it. It
** sends RoleReport messages and exits; its exit status is 0 when it sent ROLE_END, whatever that
** says. It dies with the daemon (PR_SET_PDEATHSIG).
**
** A worker whose network is on a GPU and well stays: it says so in ROLE_END and waits on the
** channel for the path of another job's file, or for its end. */
#ifndef CT2MR_DAEMON_ROLES_H
#define CT2MR_DAEMON_ROLES_H

#include "base/err.h"

#include <stdint.h>

typedef enum RoleReportType {
    ROLE_STEP = 1, /* worker: a step ended: step, status, duration_ms, text */
    ROLE_IMAGE,    /* sender: image `index` was answered: dimse_status, status; -1: it begins */
    ROLE_END,      /* the job or delivery ended: status, text; index 1: the worker stays */
    ROLE_ALERT,    /* worker: a backend is out of service though the job goes on: status, text */
    ROLE_GPUS      /* worker: it computes on a GPU of a machine that has `index` of them */
} RoleReportType;

typedef struct RoleReport {
    uint32_t type;
    int32_t status; /* a Status */
    int32_t index;
    uint32_t dimse_status;
    int64_t duration_ms;
    char step[32];
    char text[ERR_MSG_SIZE];
} RoleReport;

enum { ROLE_CHANNEL_FD = 3 };

/* The children's mains (called from ct2mr.c). Return an exit status. */
int role_worker(const char *job_file);
int role_sender(const char *send_file);

#endif
