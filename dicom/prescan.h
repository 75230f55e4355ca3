/* Structural scan of a DICOM Part 10 file, without DCMTK and without recursion.
**
** Walks tag / VR / length of the data set with every length checked against the bytes left, at most
** PRESCAN_MAX_DEPTH nested sequences and PRESCAN_MAX_ELEMENTS elements, groups in ascending order,
** and takes the attributes of base/instance.h on the way. It decides what a C-STORE is answered
** (table "receiver cases" in README): everything later trusts that a file in spool/incoming passed.
**
** Explicit and Implicit VR Little Endian are walked in full; for encapsulated syntaxes the pixel
** data's fragments are walked too. Source: PS3.5 section 7, annex A.
**
** Thread: any. Runs in the receive child and, at recovery, in the daemon. */
#ifndef CT2MR_DICOM_PRESCAN_H
#define CT2MR_DICOM_PRESCAN_H

#include "base/err.h"
#include "base/instance.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { PRESCAN_MAX_DEPTH = 16, PRESCAN_MAX_ELEMENTS = 100000 };

/* C-STORE statuses of PS3.4 B.2.3 as this node uses them. */
enum {
    DIMSE_SUCCESS = 0x0000,
    DIMSE_SOP_CLASS_NOT_SUPPORTED = 0x0122,
    DIMSE_INVALID_SOP_INSTANCE = 0x0117,
    DIMSE_OUT_OF_RESOURCES = 0xA700,
    DIMSE_DATA_SET_MISMATCH = 0xA900,
    DIMSE_CANNOT_UNDERSTAND = 0xC000,
    DIMSE_DUPLICATE_CONFLICT = 0xC111 /* ours: same SOP Instance UID, other content */
};

/* Scans data[0..size), a whole Part 10 file (preamble, meta information, data set).
**   ret          all fields but `file`; written on success only
**   ret_dimse    the C-STORE status for this file; DIMSE_SUCCESS exactly when ST_OK is returned
** Errors: DICOM_PARSE (not walkable: C000H), DICOM_ATTRIBUTE (a mandatory attribute is missing or
** impossible: A900H), DICOM_SYNTAX. Messages name the tag and the reason, never a value of text. */
MUST_CHECK Status prescan_memory(const unsigned char *data, size_t size_bytes, Instance *ret,
                                 unsigned *ret_dimse, Err *err);
/* The same for a file (mapped read-only). */
MUST_CHECK Status prescan_file(const char *path, Instance *ret, unsigned *ret_dimse, Err *err);
/* The same for an MR Image Storage file, offline: training data. Rescale is not looked at. */
MUST_CHECK Status prescan_file_mr(const char *path, Instance *ret, Err *err);
/* Media Storage SOP Class UID (0002,0002): what a file says it is, whatever its transfer syntax.
** Looks at the meta information only and decides nothing about a C-STORE.
**   ret     "" if absent; written on success only
** Errors: those of the meta information: DICOM_PARSE, DICOM_ATTRIBUTE; NOT_FOUND, IO. */
MUST_CHECK Status prescan_media_class(const char *path, char ret[UID_SIZE], Err *err);
/* True for 1..64 characters of digits and single dots, no empty component. Leading zeros in a
** component are accepted (seen in the field). */
bool uid_is_valid(const char *uid);

#ifdef __cplusplus
}
#endif
#endif
