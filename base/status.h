/* Status codes: the one vocabulary in which every module reports failure.
**
** The numbers are frozen: they are stored in the database and printed to operators. Append, never
** renumber, never reuse. `retryable` says whether the same job may succeed later without a person
** changing anything; the daemon schedules another attempt only then. `remedy` is what the operator
** should do; `ct2mr errors` prints the whole table.
**
** Thread: all functions are pure. */
#ifndef CT2MR_BASE_STATUS_H
#define CT2MR_BASE_STATUS_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, number, retryable, text, remedy) */
#define STATUS_MAP(X)                                                                              \
    X(OK, 0, false, "success", "nothing to do")                                                    \
    X(INTERNAL, 101, false, "internal error", "report it with the job's log")                      \
    X(NO_MEMORY, 102, true, "out of memory", "free memory or lower job.memory_mib")                \
    X(LIMIT, 103, false, "a configured limit was exceeded",                                        \
      "check the input; raise the limit named in the message if the input is right")               \
    X(IO, 104, true, "file or device error", "check the disk and the permissions of the path")     \
    X(DISK_FULL, 105, true, "no space left on the disk",                                           \
      "free space on it; of a job that is the spool's, in which nothing may be removed by hand")   \
    X(NOT_FOUND, 106, false, "not found", "check the name, number or path")                        \
    X(USAGE, 107, false, "wrong arguments", "see `ct2mr help`")                                    \
    X(CANCELLED, 108, false, "cancelled by an operator", "`ct2mr job retry ID` starts it again")   \
    X(TIMEOUT, 109, true, "deadline passed", "check the load of the machine or of the peer")       \
    X(CRASHED, 110, true, "a child process ended unexpectedly",                                    \
      "it is tried again; if it repeats, report it with the job's log")                            \
    X(STATE, 111, false, "not allowed in the present state", "see `ct2mr job show ID`")            \
    X(UNSUPPORTED, 112, false, "not supported", "see the message for what is")                     \
    X(UNREACHABLE, 113, true, "daemon not reachable", "start ct2mrd; check control.socket")        \
    X(LISTEN, 114, false, "cannot listen for associations",                                        \
      "in use: `ss -ltnp` names the program; not permitted: see systemd/ct2mrd.service; else "     \
      "check "                                                                                     \
      "listen.address")                                                                            \
    X(DAEMON_RUNS, 115, false, "another daemon works on this spool, database or socket",           \
      "stop it (`systemctl stop ct2mrd`), or give this one its own spool.path, db.path and "       \
      "control.socket")                                                                            \
    X(DAEMON_ENDED, 116, true, "the daemon ended while the job ran",                               \
      "nothing to do: the job starts again")                                                       \
    X(NIFTI, 117, false, "a NIfTI file cannot be used",                                            \
      "see the message; it wants one 3-D volume of numbers with sform or qform")                   \
    X(CONFIG_SYNTAX, 201, false, "configuration is not valid YAML", "mend the line named")         \
    X(CONFIG_KEY, 202, false, "unknown or repeated configuration key",                             \
      "remove or correct the key; etc/ct2mr.yaml lists all")                                       \
    X(CONFIG_TYPE, 203, false, "configuration value has the wrong type", "mend the line named")    \
    X(CONFIG_RANGE, 204, false, "configuration value is out of range", "mend the line named")      \
    X(CONFIG_FILE, 205, false, "configuration file cannot be read",                                \
      "check its path and who may read it: root:ct2mr, mode 0640; be in the group ct2mr")          \
    X(DB, 301, true, "database error", "check the disk under db.path")                             \
    X(DB_SCHEMA, 302, false, "database schema is not one this version can use",                    \
      "run the version that wrote it, or move the file away after all jobs are done")              \
    X(DICOM_PARSE, 401, false, "not a readable DICOM file", "send the series again")               \
    X(DICOM_ATTRIBUTE, 402, false, "a DICOM attribute is missing or has an impossible value",      \
      "correct the export on the sending side")                                                    \
    X(DICOM_SYNTAX, 403, false, "transfer syntax not supported",                                   \
      "send uncompressed, RLE, JPEG lossless or JPEG-LS lossless")                                 \
    X(DICOM_DECODE, 404, false, "pixel data could not be decoded", "send the series again")        \
    X(DICOM_WRITE, 405, true, "a DICOM file could not be written", "check the spool's disk")       \
    X(SERIES_FEW, 501, false, "too few slices for a head", "send the whole series")                \
    X(SERIES_GAP, 502, false, "a slice is missing",                                                \
      "send the missing slice; the positions are in the message")                                  \
    X(SERIES_DUPLICATE, 503, false, "two slices at the same position",                             \
      "send one series without repeated slices")                                                   \
    X(SERIES_ORIENTATION, 504, false, "slices have different orientations",                        \
      "send one axial series")                                                                     \
    X(SERIES_FRAME, 505, false, "no or more than one frame of reference",                          \
      "send a series with exactly one frame of reference")                                         \
    X(SERIES_TILT, 506, false, "gantry tilt: slice positions are sheared against the normal",      \
      "rescan without tilt, or correct the tilt before sending")                                   \
    X(SERIES_GRID, 507, false, "matrix or pixel spacing changes within the series",                \
      "send one reconstruction")                                                                   \
    X(SERIES_PATIENT, 508, false, "patient or study changes within the series",                    \
      "PATIENT SAFETY: find out which patient the images belong to before sending again")          \
    X(SERIES_CONFLICT, 509, false, "an image came twice with different content",                   \
      "find out which version is right; send it with new UIDs")                                    \
    X(SERIES_LATE, 510, false, "a slice came after the result had been sent",                      \
      "a new job was made with new UIDs; delete the older MR series on the TPS")                   \
    X(SERIES_NOT_CT, 511, false, "no CT image in the series", "send the planning CT")              \
    X(SERIES_SPACING, 512, false, "slice spacing is not equal",                                    \
      "send a series with one slice spacing")                                                      \
    X(SERIES_CUT, 513, false, "the transfer was cut or an image refused: slices may be missing",   \
      "send the series again; or, if it is whole, `ct2mr job retry`")                              \
    X(SERIES_JUMP, 514, false, "neighbouring slices do not fit together",                          \
      "look at the slices named; if they are right, raise series.slice_jump_percent")              \
    X(SERIES_MIXED, 515, false, "more than one CT series",                                         \
      "put one series in a folder of its own")                                                     \
    X(SERIES_NOT_MR, 516, false, "no MR image in the folder",                                      \
      "name a folder of MR Image Storage files or a NIfTI file")                                   \
    X(REG_OVERLAP, 601, false, "registration: head and reference do not overlap",                  \
      "check that the series shows a whole head")                                                  \
    X(REG_QUALITY, 602, false, "registration: result is not plausible",                            \
      "look at the QA picture; check body part and orientation")                                   \
    X(REFERENCE, 603, false, "reference volume cannot be used",                                    \
      "see the message; check align.reference, or --reference")                                    \
    X(MASK, 611, false, "no plausible head found in the volume", "check body part and HU scale")   \
    X(HU_SCALE, 612, false, "the numbers are not Hounsfield units",                                \
      "check Rescale Slope and Intercept on the sending side")                                     \
    X(MODEL_NOT_FOUND, 701, false, "model file not found",                                         \
      "check the path in the message; a job's is model.path")                                      \
    X(MODEL_FORMAT, 702, false, "model file is damaged or not a model file",                       \
      "see the message; a damaged one: copy it again, `ct2mr model verify FILE` checks it")        \
    X(MODEL_ENVELOPE, 703, false, "input is outside what the model was trained on",                \
      "use another model, or set model.envelope: warn if you have validated it")                   \
    X(MODEL_UNFIT, 705, false, "model file is good, but not for this",                             \
      "see the message; `ct2mr model show FILE` says what it is for")                              \
    X(BACKEND, 704, true, "inference backend failed", "see the message")                           \
    X(SELF_TEST, 706, true, "backend failed its self-test: out of service",                        \
      "set another model.backend or model.precision; report it with the message")                  \
    X(PACK_FORMAT, 711, false, "packed file is damaged or not a packed file",                      \
      "copy it again, or make it anew with `ct2mr pack`")                                          \
    X(TRAIN_DIVERGED, 712, false, "training diverged: numbers are no longer finite",               \
      "lower --lr or --clip; --resume goes on from the last checkpoint")                           \
    X(PACK_CASE, 713, false, "a case cannot be packed", "see the message; leave the case out")     \
    X(CHECKPOINT, 714, false, "no checkpoint that a training could go on from",                    \
      "name the right --out; or begin anew: without --resume, with --overwrite")                   \
    X(TRAIN_RUNS, 715, false, "another training writes the same files",                            \
      "wait until it has ended, or give --out another name")                                       \
    X(CHECK_FINITE, 801, false, "result holds values that are not numbers", "report it")           \
    X(CHECK_RANGE, 802, false, "result's range is not plausible", "look at the QA picture")        \
    X(CHECK_GEOMETRY, 803, false, "result's geometry differs from the CT's", "report it")          \
    X(CHECK_CONTINUITY, 804, false, "result jumps between neighbouring slices",                    \
      "look at the QA picture; check the CT for missing or repeated slices")                       \
    X(SEND_CONNECT, 901, true, "destination cannot be reached", "check host, port, firewall")      \
    X(SEND_BUSY, 902, true, "destination is busy", "it is tried again")                            \
    X(SEND_REJECTED, 903, false, "destination refuses the association for good",                   \
      "check both AE titles; register this node on the destination")                               \
    X(SEND_ABORTED, 904, true, "association was aborted", "it is tried again")                     \
    X(SEND_RESOURCES, 905, true, "destination is out of resources", "free space there")            \
    X(SEND_REFUSED, 906, false, "destination refuses the image",                                   \
      "see the DICOM status in the message; ask the TPS vendor")                                   \
    X(SEND_CONTEXT, 907, false, "destination does not accept MR Image Storage",                    \
      "enable MR import on the destination")                                                       \
    X(SEND_GAVE_UP, 908, false, "destination stayed unavailable for send.horizon_h",               \
      "mend the destination, then `ct2mr job retry ID`")                                           \
    X(DEST_UNKNOWN, 909, false, "destination is not in the configuration",                         \
      "add it under destinations")                                                                 \
    X(DEST_NONE, 910, false, "no destination is configured: the result was not sent",              \
      "add one under destinations, reload, then `ct2mr job release ID`")

typedef enum Status {
#define STATUS_ENUM(name, number, retryable, text, remedy) ST_##name = number,
    STATUS_MAP(STATUS_ENUM)
#undef STATUS_ENUM
} Status;

/* "SERIES_GAP" for ST_SERIES_GAP; "?" for a number that is no status. Static string. */
const char *status_name(Status status);
/* What it means, one phrase. Static string. */
const char *status_text(Status status);
/* What the operator does about it. Static string. */
const char *status_remedy(Status status);
bool status_retryable(Status status);
/* True and *ret written if `number` is a status (as read from the database). */
bool status_from_number(int number, Status *ret);
/* The table by index, for `ct2mr errors`: false when index is past the end. */
bool status_at(int index, Status *ret);

#ifdef __cplusplus
}
#endif
#endif
