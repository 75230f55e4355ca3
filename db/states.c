/* The transition table. See states.h.
**
** A row is where a job is, a column where it may go; the text in a cell is the reason why the
** transition exists, an empty cell means that it does not. Some transitions carry a condition that
** needs the database (nothing sent yet, a result exists): job_move_in_tx() in jobs.c checks those.
*/
#include "db/states.h"

#include <stddef.h>
#include <string.h>

/* Repeated reasons. */
#define NEW_IMAGE "an image arrived and nothing was sent: start over with it"
#define SAFETY "patient, study or content contradict each other"
#define BY_PERSON "a person cancelled it"

enum { N = JOB_STATE_LAST + 1 };

static const char *const why[N][N] = {
    [JOB_RECEIVING] =
        {
            [JOB_WAITING] = "quiet, but slices are or may be missing: give them time to come",
            [JOB_QUEUED] = "quiet and one regular volume",
            [JOB_FAILED] = "quiet and not one regular volume",
            [JOB_QUARANTINED] = SAFETY,
            [JOB_CANCELLED] = BY_PERSON,
        },
    [JOB_WAITING] =
        {
            [JOB_RECEIVING] = "an image arrived: judge again when quiet",
            [JOB_QUEUED] = "judged again: it is whole (sent again in order, changed limits)",
            [JOB_FAILED] = "what was missing did not come in time",
            [JOB_QUARANTINED] = SAFETY,
            [JOB_CANCELLED] = BY_PERSON,
        },
    [JOB_QUEUED] =
        {
            [JOB_RECEIVING] = NEW_IMAGE,
            [JOB_RUNNING] = "a worker took it",
            [JOB_FAILED] = "its attempts are used up (each ended the worker or the daemon)",
            [JOB_QUARANTINED] = SAFETY,
            [JOB_CANCELLED] = BY_PERSON,
        },
    [JOB_RUNNING] =
        {
            [JOB_RECEIVING] = NEW_IMAGE,
            [JOB_QUEUED] = "the attempt failed in a way that may pass, or the daemon restarted",
            [JOB_HELD] = "computed; a person has to release it, or there is no destination yet",
            [JOB_SENDING] = "computed; destinations wait",
            [JOB_FAILED] = "a step refused it, or its attempts are used up",
            [JOB_QUARANTINED] = SAFETY,
            [JOB_CANCELLED] = BY_PERSON,
        },
    [JOB_HELD] =
        {
            [JOB_RECEIVING] = NEW_IMAGE,
            [JOB_SENDING] = "a person released it",
            [JOB_QUARANTINED] = SAFETY,
            [JOB_CANCELLED] = BY_PERSON,
        },
    [JOB_SENDING] =
        {
            [JOB_RECEIVING] = NEW_IMAGE,
            [JOB_HELD] = "a person stopped the sending for now",
            [JOB_RETRY] = "a destination is not reachable now and no other is being tried",
            [JOB_DONE] = "every destination answered every image with success",
            [JOB_FAILED] = "a destination was given up and none is left to try",
            [JOB_QUARANTINED] = SAFETY,
            [JOB_CANCELLED] = BY_PERSON,
        },
    [JOB_RETRY] =
        {
            [JOB_RECEIVING] = NEW_IMAGE,
            [JOB_HELD] = "a person stopped the sending for now",
            [JOB_SENDING] = "the next attempt is due",
            [JOB_FAILED] = "the destination left the configuration, or the horizon passed",
            [JOB_QUARANTINED] = SAFETY,
            [JOB_CANCELLED] = BY_PERSON,
        },
    [JOB_FAILED] =
        {
            [JOB_RECEIVING] = "its cut transfer was repeated: judge it again when quiet",
            [JOB_QUEUED] = "a person wants it computed again",
            [JOB_SENDING] = "a person wants the finished result sent again",
            [JOB_CANCELLED] = "a person took note of it",
        },
    [JOB_QUARANTINED] =
        {
            [JOB_CANCELLED] = "a person found out whose images they are",
        },
    [JOB_CANCELLED] =
        {
            [JOB_QUEUED] = "a person wants it after all",
            [JOB_SENDING] = "a person wants the sending to go on after all",
        },
};

static bool known(JobState state)
{
    return (int)state >= JOB_STATE_FIRST && (int)state <= JOB_STATE_LAST;
}

const char *job_state_name(JobState state)
{
    switch (state) {
#define JOB_STATE_NAME(name, number, terminal, text)                                               \
    case JOB_##name:                                                                               \
        return #name;
        JOB_STATE_MAP(JOB_STATE_NAME)
#undef JOB_STATE_NAME
    }
    return "?";
}

const char *transfer_name(Transfer transfer)
{
    switch (transfer) {
    case TRANSFER_OPEN:
        return "open";
    case TRANSFER_ENDED:
        return "ended";
    case TRANSFER_CUT:
        return "cut";
    }
    return "?";
}

const char *job_state_text(JobState state)
{
    switch (state) {
#define JOB_STATE_TEXT(name, number, terminal, text)                                               \
    case JOB_##name:                                                                               \
        return text;
        JOB_STATE_MAP(JOB_STATE_TEXT)
#undef JOB_STATE_TEXT
    }
    return "?";
}

bool job_state_terminal(JobState state)
{
    switch (state) {
#define JOB_STATE_TERMINAL(name, number, terminal, text)                                           \
    case JOB_##name:                                                                               \
        return terminal;
        JOB_STATE_MAP(JOB_STATE_TERMINAL)
#undef JOB_STATE_TERMINAL
    }
    return false;
}

bool job_state_from_name(const char *name, JobState *ret)
{
    for (int i = JOB_STATE_FIRST; i <= JOB_STATE_LAST; i++) {
        if (strcmp(name, job_state_name((JobState)i)) == 0) {
            *ret = (JobState)i;
            return true;
        }
    }
    return false;
}

const char *job_state_why(JobState from, JobState to)
{
    return known(from) && known(to) ? why[from][to] : NULL;
}

bool job_state_may(JobState from, JobState to)
{
    return job_state_why(from, to) != NULL;
}
