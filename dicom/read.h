/* Reading CT images for the pipeline (DCMTK). Runs in worker children and offline tools, never in
** the daemon and never at reception. A file is given to DCMTK only after prescan_file() passed it.
**
** Thread: any; DCMTK's codecs are registered once. C++ exceptions do not leave dicom/. */
#ifndef CT2MR_DICOM_READ_H
#define CT2MR_DICOM_READ_H

#include "base/err.h"
#include "base/instance.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the pipeline needs beyond base/instance.h to turn stored values into HU and to judge the
** model's envelope. No patient name, ID or date is here. */
typedef struct CtHeader {
    Instance instance;
    int32_t bits_allocated, bits_stored, high_bit;
    bool is_signed;
    bool has_padding;                  /* Pixel Padding Value: a stored value (PS3.3 C.7.5.1.1.2) */
    int32_t padding_low, padding_high; /* inclusive range of stored values; equal without a limit */
    double slope, intercept;           /* HU = stored * slope + intercept */
    double kvp;                        /* 0 if absent */
    double age_years;          /* Patient's Age, or from birth and study date; < 0 if unknown */
    char body_part[17];        /* Body Part Examined, upper case letters and digits only */
    char patient_position[17]; /* HFS, ... "" if absent */
    bool is_synthetic;         /* of an MR: computed from other images, by what it says of itself */
} CtHeader;

/* Reads one file's header.
** Errors: those of prescan_file(), DICOM_PARSE, DICOM_ATTRIBUTE. */
MUST_CHECK Status dicom_read_header(const char *path, CtHeader *ret, Err *err);
/* Reads and, if compressed, decodes the pixels of a file whose header was read; masks to
** BitsStored, sign-extends, maps padding to -1024 HU, applies slope and intercept in double, rounds
** to nearest, clips to [-1024, 3071]. Padding that would be more than -900 HU may be measured as
** well: one value counts only where it reaches the image's border through its like, a range of them
** is DICOM_ATTRIBUTE, by dicom_read_header().
**   ret_hu       [rows][columns], of the caller
**   ret_digest   SHA-256 (32 bytes) over the decoded stored values (little endian int32): the same
**                for every transfer syntax of one image
** Errors: DICOM_SYNTAX, DICOM_DECODE, DICOM_ATTRIBUTE. */
MUST_CHECK Status dicom_read_hu(const char *path, const CtHeader *header, int16_t *ret_hu,
                                unsigned char ret_digest[32], Err *err);
/* The same two for MR Image Storage, offline: training data. Without a rescale the intensities are
** the stored values; padding is 0, where it reaches the image's border through its like.
**   ret: [rows][columns], of the caller */
MUST_CHECK Status dicom_read_mr_header(const char *path, CtHeader *ret, Err *err);
MUST_CHECK Status dicom_read_mr(const char *path, const CtHeader *header, float *ret, Err *err);

#ifdef __cplusplus
}
#endif
#endif
