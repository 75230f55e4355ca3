/* When is a received series complete?
**
** DICOM does not say: an association may carry several series, a series may come in several
** associations, and the number of images is a hint at best. So a series is looked at when it has
** gone quiet, and the geometry gate (geometry.h) has the last word:
**
**   quiet long enough -> SERIES_CHECK -> gate -> complete | wait for the missing slice | refused
**
** Quiet: no open association touches it and nothing came for quiet_ms; or nothing came for
** max_quiet_ms. A series whose transfer was cut, that came in more than one association (some
** senders use one for each image, and pause), or that announced more images than it has, is given
** max_quiet_ms in any case.
**
** A transfer that was cut may lack slices at an end of the volume, which the gate cannot see. Such
** a series waits like one with a gap until an association brings images of it again and ends in
** order; if none does it fails, and a person decides.
**
** series_decide() is a pure function of persisted wall-clock facts, so a restart goes on where the
** daemon was. A clock that was set back makes no wait longer than max_quiet_ms or wait_ms counted
** from then; one that was set forward makes it judge early, which the next image repairs.
**
** The caller asks on each event (image, end of an association) and at the time it was given, with
** is_checked false. On SERIES_CHECK it runs the gate and asks again with the verdict.
** Thread: pure function. */
#ifndef CT2MR_PIPELINE_SERIES_H
#define CT2MR_PIPELINE_SERIES_H

#include "base/err.h"
#include "db/states.h"

#include <stdint.h>

typedef struct SeriesPolicy {
    int64_t quiet_ms, max_quiet_ms, wait_ms;
} SeriesPolicy;

typedef struct SeriesFacts {
    int64_t now_ms, last_image_ms; /* wall clock */
    int32_t n_open;                /* open associations that brought an image of it */
    int32_t n_associations;        /* all that did */
    Transfer transfer;
    int32_t n_got, n_expected; /* images; n_expected 0: not announced */
    JobState state;            /* JOB_RECEIVING or JOB_WAITING */
    Status code;               /* WAITING: what for */
    int64_t wait_until_ms;     /* WAITING: as stored; 0 none */
    bool is_checked;           /* the gate was run on the images as they are now */
    Status verdict;            /* its answer, when is_checked */
} SeriesFacts;

typedef enum SeriesAction {
    SERIES_NOT_YET,   /* ask again at at_ms, or when something happens */
    SERIES_CHECK,     /* run the gate, ask again */
    SERIES_COMPLETE,  /* -> QUEUED */
    SERIES_WAIT,      /* -> WAITING (or stay there), and store at_ms as wait_until_ms */
    SERIES_FAIL,      /* -> FAILED(code) */
    SERIES_QUARANTINE /* -> QUARANTINED(code) */
} SeriesAction;

typedef struct SeriesDecision {
    SeriesAction action;
    int64_t at_ms; /* NOT_YET, WAIT; else 0 */
    Status code;   /* WAIT, FAIL, QUARANTINE: the verdict (ST_OK: WAITING, a nearer deadline) */
} SeriesDecision;

SeriesDecision series_decide(const SeriesPolicy *policy, const SeriesFacts *facts);

#endif
