/* The daemon's receiving side: listener, zygote, one channel per association, deadlines.
**
** Runs on the daemon's libuv loop. accept4() by hand (uv_accept would make the socket non-blocking,
** which DCMTK cannot use), address allow-list, association limit, hand-over to the zygote
** (dicom/receive.h), kill of children past their deadline or below the minimum rate, restart of the
** zygote. Part files of dead children are removed. Callbacks are called on the loop; they must not
** block beyond a commit. */
#ifndef CT2MR_DAEMON_RECEIVER_H
#define CT2MR_DAEMON_RECEIVER_H

#include "base/err.h"
#include "base/instance.h"
#include "daemon/config.h"

#include <uv.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Receiver Receiver;

typedef struct AssociationInfo {
    uint64_t id;       /* not 0; never used again by this process */
    int64_t opened_ms; /* clock_steady_ms() when its connection was accepted */
    const char *calling_ae;
    bool stores; /* it has asked for a C-STORE, or may have: its child died */
} AssociationInfo;

typedef struct ReceiverCallbacks { /* the info is valid during the call */
    void *context;
    /* A durable file in spool/incoming; returns the DIMSE status for the peer. */
    uint16_t (*stored)(void *context, const AssociationInfo *from, const Instance *instance);
    /* An image that was refused with dimse_status; nothing was kept. */
    void (*refused)(void *context, const AssociationInfo *from, Status status,
                    uint16_t dimse_status, const char *text);
    /* An association was turned away: the spool is full, or too many are open. */
    void (*turned_away)(void *context, const char *calling_ae);
    /* The zygote died with connections whose association was not yet known. */
    void (*lost)(void *context);
    /* The association is over; orderly = released by the peer, who waits until this returns. */
    void (*ended)(void *context, const AssociationInfo *from, bool orderly);
} ReceiverCallbacks;

typedef struct ReceiverStats {
    uint64_t accepted, rejected, refused_address, stored, refused, killed, crashed, zygote_starts;
    int32_t open;
} ReceiverStats;

/* Makes spool/tmp and spool/incoming, empties tmp, starts the zygote (program `ct2mr` beside this
** program, or $CT2MR_PROGRAM), listens (LISTEN if it cannot). config is borrowed until stop. */
MUST_CHECK Status receiver_start(uv_loop_t *loop, const Config *config,
                                 const ReceiverCallbacks *callbacks, Receiver **ret, Err *err);
/* Takes over allow-lists and timeouts for new associations. config as above, replaces the old. */
void receiver_reload(Receiver *receiver, const Config *config);
ReceiverStats receiver_stats(const Receiver *receiver);
bool receiver_ready(const Receiver *receiver); /* listening and the zygote is up */
/* Stops listening at once; open associations get grace_ms to end, then are killed; then `done`. */
void receiver_stop(Receiver *receiver, int grace_ms, void (*done)(void *context), void *context);

#ifdef __cplusplus
}
#endif
#endif
