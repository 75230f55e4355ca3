/* Series, images, jobs, deliveries and events: each function is one transaction, committed when it
** returns ST_OK, without effect otherwise. Times are wall-clock ms. Errors of all: DB, DISK_FULL,
** and those named. Strings in rows are 0-terminated copies.
** Thread: that of the Db. */
#ifndef CT2MR_DB_JOBS_H
#define CT2MR_DB_JOBS_H

#include "base/instance.h"
#include "db/db.h"
#include "db/states.h"

#include <stdint.h>

typedef struct JobRow {
    int64_t id, series_id;
    int32_t revision; /* 1 for the first; late slices make a new one */
    JobState state;
    Status code; /* why FAILED, QUARANTINED, WAITING or RETRY; else ST_OK */
    char message[ERR_MSG_SIZE];
    int32_t attempt; /* times RUNNING was entered in this revision */
    int64_t created_ms, updated_ms;
    int64_t last_image_ms; /* the newest image's arrival */
    int64_t wait_until_ms; /* WAITING: when it fails; else 0 */
    int64_t next_try_ms;   /* QUEUED, RETRY: not before */
    int32_t n_images;      /* instances of the series now */
    char series_uid[UID_SIZE], study_uid[UID_SIZE];
    char model_digest[HEX_SIZE], mr_series_uid[UID_SIZE]; /* "" until computed */
    Transfer transfer;
    int32_t n_associations; /* that brought images of the series since it was last cut */
} JobRow;

/* What db_receive() did with an image, and what the daemon must do about it. "The job" is the
** newest of the series; "sent" means that any image of any result of that job was ever answered
** with success. Alerts are stored as events by db_receive() itself. */
typedef enum Received {
    RECEIVED_NEW,       /* first image of a series: a new job, RECEIVING */
    RECEIVED_ADDED,     /* job is (again) RECEIVING, or stays QUARANTINED or CANCELLED */
    RECEIVED_RESTARTED, /* nothing sent yet. A job past RECEIVING that had not ended: the same job,
                           revision + 1, RECEIVING (previous_job_id 0); stop its worker or sender,
                           discard its output. A job that was FAILED: a new job
                           (previous_job_id says which one it replaces) */
    RECEIVED_LATE,      /* something was or may have been sent: a new job for the series; alert. The
                      older job goes on if it had not ended: a half series helps nobody */
    RECEIVED_SAME,      /* same UID, same content: no-op; delete the new file */
    RECEIVED_CONFLICT,  /* same UID, other content: keep the first, quarantine the new file; the job
                          is QUARANTINED(SERIES_CONFLICT) unless it had ended; alert */
    RECEIVED_PATIENT    /* patient or study differs from the series' first image: kept as evidence,
                          job QUARANTINED(SERIES_PATIENT) unless it had ended; alert */
} Received;

typedef struct ReceivedResult {
    Received what;
    int64_t job_id;                   /* the job that holds the series now */
    int64_t previous_job_id;          /* a new job was made in place of this one; else 0 */
    JobState previous_state;          /* of the job before this image; 0 if it was new */
    bool is_stored_file;              /* SAME, CONFLICT: the row names this very file: keep it */
    char stored_file[FILE_NAME_SIZE]; /* SAME, CONFLICT: the file that the row names */
} ReceivedResult;

/* Stores a received image and moves its series' job, as the table above. Not fsync'ed (see db.h)
** unless the job was moved or an alert is due. Patient key and study of the first image are the
** series' identity. Once a series is QUARANTINED further images are kept (RECEIVED_PATIENT or ADDED
** without a move). SAME and CONFLICT store nothing; the job is that of the stored image. */
MUST_CHECK Status db_receive(Db *db, const Instance *instance, const char *calling_ae,
                             int64_t now_ms, ReceivedResult *ret, Err *err);
/* True in *ret if an image with this file name is stored (recovery). */
MUST_CHECK Status db_has_file(Db *db, const char *file, bool *ret, Err *err);
/* What the daemon knows of the association that brings an image. */
typedef struct Arrival {
    const char *calling_ae;
    int64_t opened_ms; /* when its connection was accepted */
    int64_t memory_ms; /* how long before its first image a suspicion still concerns a series */
} Arrival;

/* An association brings the first of its images of this series (before db_receive(), but for a new
** series after it). Counted; and the series is cut if the peer is suspect (transfer.c). */
MUST_CHECK Status db_transfer_joined(Db *db, const char *series_uid, const Arrival *arrival,
                                     int64_t now_ms, Err *err);
/* The last open association with images of the series has ended in order. A cut transfer is ENDED
** by that only if every image of the series came (again) after the cut. The id of the series'
** present job in *ret_job_id, 0 if it is still cut. (OPEN is noted by db_receive(), with the
** image.) */
MUST_CHECK Status db_transfer_ended(Db *db, const char *series_uid, int64_t *ret_job_id, Err *err);
/* Slices of the series may be missing: noted if it is RECEIVING, WAITING or FAILED(SERIES_CUT). */
MUST_CHECK Status db_transfer_cut(Db *db, const char *series_uid, int64_t now_ms, Err *err);
/* An image of this calling AE title may be missing whose series is not known: remembered, and every
** such series of it that came in more than one association is cut. */
MUST_CHECK Status db_peer_suspect(Db *db, const char *calling_ae, int64_t now_ms, Err *err);
/* At start, or when connections were lost unheard: what is arriving may have lost images, all but
** what came in one association that had ended in order. */
MUST_CHECK Status db_transfers_interrupted(Db *db, int64_t now_ms, Err *err);
/* The image lies in this file from now on. */
MUST_CHECK Status db_image_file(Db *db, const char *sop_uid, const char *file, Err *err);
/* All images of a series in order of arrival; *ret is malloc'ed (the caller frees). */
MUST_CHECK Status db_series_images(Db *db, int64_t series_id, Instance **ret, int32_t *ret_n,
                                   Err *err);

/* Moves a job. STATE if the table forbids it or the job is not in `from`; NOT_FOUND. Durable.
** code/message are stored (message may be NULL); an event "state" is added in the same
** transaction. To RUNNING: attempt + 1, an earlier result is dropped. To QUEUED from FAILED or
** CANCELLED: attempt = 0. To RECEIVING other than from WAITING: a new revision without result.
** STATE also: to RECEIVING when something was sent; to QUEUED from an end when a newer job holds
** the series; to SENDING, HELD or DONE without a result; to DONE when an image is not sent;
** from HELD to SENDING without a delivery;
** to SENDING from an end (as db_job_resend()) when no attempt to send was ever begun. */
MUST_CHECK Status db_job_move(Db *db, int64_t job_id, JobState from, JobState to, Status code,
                              const char *message, int64_t next_try_ms, int64_t now_ms, Err *err);
/* WAITING's end; not a transition. */
MUST_CHECK Status db_job_wait_until(Db *db, int64_t job_id, int64_t wait_until_ms, Err *err);
MUST_CHECK Status db_job_get(Db *db, int64_t job_id, JobRow *ret, Err *err); /* NOT_FOUND */
/* The newest first; state 0: any; n <= 0: all. *ret malloc'ed. */
MUST_CHECK Status db_jobs_list(Db *db, JobState state, int32_t n, JobRow **ret, int32_t *ret_n,
                               Err *err);
/* Oldest first: the jobs in `state` whose next_try_ms <= now_ms, or further away than any pause
** (longest_ms): that was set by a clock which has been set back since. */
MUST_CHECK Status db_jobs_ready(Db *db, JobState state, int64_t now_ms, int64_t longest_ms,
                                JobRow **ret, int32_t *ret_n, Err *err);

/* One image of the result, as it must arrive on every destination. */
typedef struct OutputImage {
    char file[FILE_NAME_SIZE]; /* name in the job's output folder */
    char sop_uid[UID_SIZE];
} OutputImage;

typedef enum DeliveryState {
    DELIVERY_PENDING = 1,
    DELIVERY_SENT = 2,
    DELIVERY_REFUSED = 3
} DeliveryState;

/* RUNNING -> SENDING (or HELD if hold), or HELD(DEST_NONE) without destinations; stores the
** result's identity and one pending delivery per destination and image. Replaces those of an
** earlier run of the job. Durable. */
MUST_CHECK Status db_job_computed(Db *db, int64_t job_id, const char *model_digest,
                                  const char *mr_series_uid, const OutputImage *images, int32_t n,
                                  const char *const *destinations, int32_t n_destinations,
                                  bool hold, int64_t now_ms, Err *err);

/* HELD -> SENDING: a person released it. A job that was computed when there was no destination gets
** its deliveries now; for others images and destinations are ignored.
** STATE: it is not HELD; there is no destination even now. Durable. */
MUST_CHECK Status db_job_release(Db *db, int64_t job_id, const OutputImage *images, int32_t n,
                                 const char *const *destinations, int32_t n_destinations,
                                 int64_t now_ms, Err *err);

typedef struct DeliveryRow { /* one destination of one job */
    char destination[64];
    int32_t n_images, n_sent, n_refused;
    int32_t n_warned; /* of those sent: answered with a warning */
    int32_t attempt;
    int64_t first_try_ms, next_try_ms;
    Status code;
    char message[ERR_MSG_SIZE];
    bool ended; /* all sent, or given up */
} DeliveryRow;

MUST_CHECK Status db_deliveries(Db *db, int64_t job_id, DeliveryRow **ret, int32_t *ret_n,
                                Err *err);
/* The images of one destination that have no final answer yet, in order. NOT_FOUND. */
MUST_CHECK Status db_delivery_pending(Db *db, int64_t job_id, const char *destination,
                                      OutputImage **ret, int32_t *ret_n, Err *err);
/* A result per image: sent (with the DIMSE status) or refused; sent stays sent. Not fsync'ed: a
** re-send is harmless. NOT_FOUND. */
MUST_CHECK Status db_delivery_image(Db *db, int64_t job_id, const char *destination,
                                    const char *sop_uid, DeliveryState state, uint16_t dimse_status,
                                    int64_t now_ms, Err *err);
/* The end of one attempt. code ST_OK: all images of it were answered with success (STATE if one has
** no such answer stored). Otherwise code/message are stored, and next_try_ms > 0 says when the next
** attempt is due, 0 that it is given up; if every image was sent all the same it counts as success.
** Then moves the job if it is SENDING: DONE when every destination has everything; RETRY when some
** are still to be tried and none is being tried (n_active == 0); FAILED when none is left to
** try and one is given up. *ret_state is the job's state then. Durable. */
MUST_CHECK Status db_delivery_end(Db *db, int64_t job_id, const char *destination, Status code,
                                  const char *message, int64_t next_try_ms, int32_t n_active,
                                  int64_t now_ms, JobState *ret_state, Err *err);
/* The association with the destination stands: from now on an image may be there. */
MUST_CHECK Status db_delivery_connected(Db *db, int64_t job_id, Err *err);
/* What an attempt's status means for the delivery: while images have no final answer, one that was
** refused for good does not end it; when all have, a good attempt does not hide the refused. */
Status delivery_outcome(Status attempt, const DeliveryRow *row);
/* Counts an attempt and sets first_try_ms when unset. */
MUST_CHECK Status db_delivery_begin(Db *db, int64_t job_id, const char *destination, int64_t now_ms,
                                    Err *err);
/* Moves a SENDING job as db_delivery_end() does, without an attempt: after a release or a restart
** it may have nothing left to send. Other states stay. Durable. */
MUST_CHECK Status db_job_settle(Db *db, int64_t job_id, int32_t n_active, int64_t now_ms,
                                JobState *ret_state, Err *err);
/* After `job retry` of a job whose computation is whole (FAILED or CANCELLED in sending): ->
** SENDING, what is not sent gets fresh deadlines. STATE if it has no result or if no attempt to
** send it was ever begun (it may not have been released): such a job goes to QUEUED. */
MUST_CHECK Status db_job_resend(Db *db, int64_t job_id, int64_t now_ms, Err *err);

typedef struct EventRow {
    int64_t id, job_id, at_ms;
    char kind[32]; /* "state", "step", "receive", "send", "alert", "operator" */
    char step[32]; /* pipeline step, or "" */
    Status status;
    int64_t duration_ms; /* < 0: none */
    char text[ERR_MSG_SIZE];
} EventRow;

/* job_id 0: about the node, not a job. Not fsync'ed. */
MUST_CHECK Status db_event(Db *db, int64_t job_id, const char *kind, const char *step,
                           Status status, int64_t duration_ms, const char *text, int64_t now_ms,
                           Err *err);
MUST_CHECK Status db_events(Db *db, int64_t job_id, EventRow **ret, int32_t *ret_n, Err *err);

/* Recovery at start: RUNNING -> QUEUED (attempt kept), SENDING stays; returns how many moved. */
MUST_CHECK Status db_recover(Db *db, int64_t now_ms, int32_t *ret_moved, Err *err);
/* Jobs per state, ret[JobState]. */
MUST_CHECK Status db_counts(Db *db, int64_t ret[JOB_STATE_LAST + 1], Err *err);
/* Retention: the jobs not yet forgotten of series whose newest job is DONE and whose every job has
** ended (an older one may have FAILED: the newest has its images too) and was last updated before
** `before_ms`. *ret malloc'ed. The caller removes their files, then calls db_job_forget_files() for
** each: it removes the series' image rows and keeps the job. In this order, because recovery takes
** a file without a row for a new image. STATE if the series is in use again. */
MUST_CHECK Status db_jobs_expired(Db *db, int64_t before_ms, JobRow **ret, int32_t *ret_n,
                                  Err *err);
MUST_CHECK Status db_job_forget_files(Db *db, int64_t job_id, Err *err);

#endif
