/* Job states and the transitions between them: the one table; and how a transfer stands. Everything
** that changes a job goes through db_job_move() or a function of jobs.h that names its transition,
** and both ask here. Thread: pure functions. */
#ifndef CT2MR_DB_STATES_H
#define CT2MR_DB_STATES_H

#include <stdbool.h>

/* X(name, number, terminal, text). Numbers are stored: append, never renumber. */
#define JOB_STATE_MAP(X)                                                                           \
    X(RECEIVING, 1, false, "images are arriving")                                                  \
    X(WAITING, 2, false, "slices are or may be missing; waiting for them")                         \
    X(QUEUED, 3, false, "complete; waiting for a worker")                                          \
    X(RUNNING, 4, false, "being computed")                                                         \
    X(HELD, 5, false, "computed; waiting for release by a person")                                 \
    X(SENDING, 6, false, "being sent")                                                             \
    X(RETRY, 7, false, "sending failed for now; tried again later")                                \
    X(DONE, 8, true, "every image is on every destination")                                        \
    X(FAILED, 9, true, "stopped; see the code")                                                    \
    X(QUARANTINED, 10, true, "stopped for patient safety; see the code")                           \
    X(CANCELLED, 11, true, "cancelled by a person")

typedef enum JobState {
#define JOB_STATE_ENUM(name, number, terminal, text) JOB_##name = number,
    JOB_STATE_MAP(JOB_STATE_ENUM)
#undef JOB_STATE_ENUM
} JobState;
enum { JOB_STATE_FIRST = 1, JOB_STATE_LAST = 11 };

/* How the images came. Numbers are stored. */
typedef enum Transfer {
    TRANSFER_OPEN = 1, /* an association that brought images of the series has not ended */
    TRANSFER_ENDED,    /* all have, in order, and no image was refused in them */
    TRANSFER_CUT       /* one of the peer's was aborted, died, was turned away for want of space, or
                          had an image refused, and not every image has come again since: slices may
                          be missing at either end of the volume, which no geometry gate can see */
} Transfer;
/* "open", "ended", "cut". */
const char *transfer_name(Transfer transfer);

const char *job_state_name(JobState state);
const char *job_state_text(JobState state);
bool job_state_terminal(JobState state);
bool job_state_from_name(const char *name, JobState *ret);
/* The table. from == to is never allowed. */
bool job_state_may(JobState from, JobState to);
/* Why a transition exists, one phrase; NULL where it does not. */
const char *job_state_why(JobState from, JobState to);

#endif
