/* Writing DICOM: the synthetic MR series on the CT's frame of reference, and a CT series from a
** volume (trials). DCMTK. Thread: any. */
#ifndef CT2MR_DICOM_WRITE_H
#define CT2MR_DICOM_WRITE_H

#include "base/affine.h"
#include "base/err.h"
#include "base/instance.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Deterministic UID: "2.25." and the first 128 bits of SHA-256(key) made an RFC 9562 version 8
** UUID, as a decimal integer. The same key gives the same UID for ever. */
void uid_from_key(const char *key, char ret[UID_SIZE]);

/* What is the same for all images of one MR series. Strings are borrowed ASCII. */
typedef struct MrSeries {
    const char *recipe; /* everything that decides the pixels, as text: part of every UID */
    const char *ct_series_uid;
    const char *content_digest; /* of dicom_digest_mr() over all slices */
    const char *target;         /* "T1", "T2" */
    const char *model_name, *model_digest, *model_label;
    const char *software_version;
    int32_t series_number_offset; /* MR series number = offset + CT series number */
    bool synthetic_data;          /* write Synthetic Data (0008,001C) */
    double slice_spacing_mm;
    double window_center, window_width; /* stored values */
} MrSeries;

/* The UIDs that dicom_write_mr() gives: pure functions of the series and the CT's SOP UID. */
void mr_series_uid(const MrSeries *series, char ret[UID_SIZE]);
void mr_sop_uid(const MrSeries *series, const char *ct_sop_uid, char ret[UID_SIZE]);

/* SHA-256 of all that dicom_write_mr() puts into the image of this slice but the UIDs made here.
** The UIDs are made from it, so that the same UID always means the same bytes. content_digest is
** not read. Errors: as dicom_write_mr(). */
MUST_CHECK Status dicom_digest_mr(const MrSeries *series, const char *ct_path,
                                  const uint16_t *pixels, int32_t index, uint8_t ret[32], Err *err);

/* Writes one MR Image (PS3.3 A.4) for one CT slice: patient, study, frame of reference, position,
** orientation and pixel spacing are taken from the CT file byte for byte. Dates are the CT's, so
** the same input gives the same file. The file is fdatasync'ed; the caller syncs the folder.
**   pixels   [rows][columns] stored values
**   index    0-based position along the normal; Instance Number = index + 1
** Errors: DICOM_PARSE, DICOM_ATTRIBUTE (the CT file), DICOM_WRITE, DISK_FULL. */
MUST_CHECK Status dicom_write_mr(const MrSeries *series, const char *ct_path,
                                 const uint16_t *pixels, int32_t index, const char *path, Err *err);

/* Wraps a volume as a CT series for trials: DIR/IM0001.dcm ... in ascending order along the third
** axis. The volume's axes must be (anti)parallel to patient axes or any rigid orientation; voxel
** order is kept, IOP/IPP come from lps_from_vox. Patient "CT2MR^TRIAL", UIDs from the pixels.
** Errors: DICOM_WRITE, DISK_FULL, UNSUPPORTED (sheared grid). */
MUST_CHECK Status dicom_write_ct(const VolumeI16 *volume, const char *patient_position,
                                 const char *dir, Err *err);

#ifdef __cplusplus
}
#endif
#endif
