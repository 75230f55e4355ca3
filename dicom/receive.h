/* The receiving side: a zygote that has DCMTK initialised and forks one child per association.
**
** Roles: the daemon (daemon/receiver.c) owns the listening socket and starts `ct2mr --zygote` with
** a control socket (base/message.h) on descriptor 3. It sends ReceiveOptions once (and again after
** a reload: for new children), then one ReceiveControl RECEIVE_SPAWN per accepted connection with
** two descriptors: the TCP connection (blocking) and the child's end of a channel. The zygote
** forks; the child speaks DICOM on the one and ReceiveReport on the other.
**
** A child never opens the database. For each image it streams the data set to spool/tmp, scans it
** (prescan.h), makes it durable in spool/incoming, reports REPORT_STORED and waits for the daemon's
** uint16_t DIMSE status, which it answers to the peer. If the daemon has gone it answers A700H.
**
** The daemon must treat reports as untrusted: receive_report_valid(). */
#ifndef CT2MR_DICOM_RECEIVE_H
#define CT2MR_DICOM_RECEIVE_H

#include "base/err.h"
#include "base/instance.h"

#include <stddef.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { RECEIVE_MAX_CALLING = 64 };

typedef struct ReceiveOptions {
    char spool[1024]; /* holds tmp/ and incoming/, on one file system */
    char ae_title[AE_SIZE];
    bool check_called_ae;
    int32_t n_calling;                             /* 0: any calling AE title */
    char calling_ae[RECEIVE_MAX_CALLING][AE_SIZE]; /* allowed calling AE titles */
    int32_t association_timeout_s, idle_timeout_s;
    int32_t max_object_mib;
    uint64_t min_free_bytes; /* below: C-STORE is answered A700H before the data set is stored */
    uint64_t run_id;         /* unique per start of the daemon: part of file names */
} ReceiveOptions;

typedef enum ReceiveControlType {
    RECEIVE_OPTIONS = 1, /* daemon -> zygote, followed by ReceiveOptions in the same message */
    RECEIVE_SPAWN,       /* daemon -> zygote, two descriptors */
    RECEIVE_KILL,        /* daemon -> zygote: SIGKILL that child (the zygote reaps: no pid race) */
    RECEIVE_READY,       /* zygote -> daemon: DCMTK initialised */
    RECEIVE_SPAWNED,     /* zygote -> daemon: pid */
    RECEIVE_EXITED       /* zygote -> daemon: wait status */
} ReceiveControlType;

typedef struct ReceiveControl {
    uint32_t type;
    uint64_t connection_id;
    int32_t pid, wait_status;
} ReceiveControl;

typedef enum ReceiveReportType {
    REPORT_ASSOCIATED = 1, /* calling_ae is set; wants an answer: 0 or the reason (1 or 2) of an
                           ** A-ASSOCIATE-RJ 2/3. So a silent connection takes no one's place. */
    REPORT_PROGRESS,       /* bytes of data sets so far, at most once a second within a data set;
                           ** unchanged bytes: another message (C-ECHO) was handled */
    REPORT_STORED,         /* instance is set and durable; wants an answer */
    REPORT_REFUSED,        /* an image was answered with dimse_status; status, text say why */
    REPORT_STORES,         /* the association's first C-STORE request */
    REPORT_REJECTED,       /* the association was rejected by the child; calling_ae, text say why */
    REPORT_END             /* orderly = the peer wants to release: wants an answer */
} ReceiveReportType;

typedef struct ReceiveReport {
    uint32_t type;
    uint16_t dimse_status;
    bool orderly;
    int32_t status; /* a Status */
    uint64_t bytes;
    char calling_ae[AE_SIZE]; /* printable ASCII; others and '"' replaced by '?' */
    char text[200];           /* ASCII of our making */
    Instance instance;
} ReceiveReport;

/* Checks size, termination and character set of every string that came over a channel. */
bool receive_report_valid(const ReceiveReport *report, size_t size_bytes);

/* The zygote's main: serves control_fd until its end of file. Returns an exit status. */
int receive_zygote(int control_fd);

#ifdef __cplusplus
}
#endif
#endif
