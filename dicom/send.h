/* Sending to a destination: C-STORE of a list of files on one association, and C-ECHO (DCMTK).
** Runs in a send child or the command line. TCP_NODELAY. Thread: one association per process. */
#ifndef CT2MR_DICOM_SEND_H
#define CT2MR_DICOM_SEND_H

#include "base/err.h"
#include "base/instance.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Destination {
    char name[64]; /* the configuration's name for it */
    char ae_title[AE_SIZE], calling_ae[AE_SIZE];
    char host[256];
    int32_t port, timeout_s;
} Destination;

/* Called once with index -1 when the association stands, before anything is sent. Then after each
** image: index into paths, the DIMSE status the destination answered, and what
** that means: ST_OK (0000H and warnings B0xxH), SEND_RESOURCES (A7xxH), SEND_REFUSED (others).
** Return false to stop. */
typedef bool (*SendCallback)(void *context, int32_t index, uint16_t dimse_status, Status status);

/* Sends paths[0..n) in order. Refusals of single images are reported and sending goes on; the
 *result
 ** is then the first such status. Association trouble ends it.
 ** Errors: SEND_CONNECT, SEND_BUSY (reject transient), SEND_REJECTED (permanent), SEND_ABORTED,
 ** SEND_CONTEXT, TIMEOUT, SEND_RESOURCES, SEND_REFUSED, DICOM_PARSE (a file of ours). */
MUST_CHECK Status dicom_send(const Destination *destination, const char *const *paths, int32_t n,
                             SendCallback callback, void *context, Err *err);
/* C-ECHO. *ret_ms is the round trip including the association. Errors as above. */
MUST_CHECK Status dicom_echo(const Destination *destination, double *ret_ms, Err *err);

#ifdef __cplusplus
}
#endif
#endif
