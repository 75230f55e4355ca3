/* One received DICOM image, as far as the node must know it before decoding anything: who it is,
** whose it is, where it lies in space. Filled by the structural scan of a file (dicom/prescan.h),
** carried from the receive child to the daemon, stored in the database, judged by the geometry
** gate.
**
** Every string is 0-terminated ASCII that was validated when the struct was filled. */
#ifndef CT2MR_BASE_INSTANCE_H
#define CT2MR_BASE_INSTANCE_H

#include <stdbool.h>
#include <stdint.h>

enum { UID_SIZE = 65, HEX_SIZE = 65, FILE_NAME_SIZE = 64, AE_SIZE = 17 };

#define UID_CT_IMAGE "1.2.840.10008.5.1.4.1.1.2" /* CT Image Storage, PS3.4 B.5 */
#define UID_MR_IMAGE "1.2.840.10008.5.1.4.1.1.4" /* MR Image Storage; read offline only */

/* Where and how an image lies (PS3.3 C.7.6.2, C.7.6.3). */
typedef struct ImageGeometry {
    char frame_uid[UID_SIZE];   /* Frame of Reference UID, "" if absent */
    int32_t rows, columns;      /* pixels */
    double ipp_lps_mm[3];       /* Image Position (Patient), centre of the first pixel */
    double iop[6];              /* Image Orientation (Patient): along a row, then down a column */
    double pixel_spacing_mm[2]; /* between rows, between columns */
    double slice_thickness_mm;  /* 0 if absent */
    int32_t instance_number;    /* 0 if absent */
    int32_t images_in_acquisition; /* hint, 0 if absent */
    bool has_position;             /* IPP, IOP and pixel spacing are all there and finite */
    bool is_localizer;             /* LOCALIZER in Image Type */
} ImageGeometry;

typedef struct Instance {
    char file[FILE_NAME_SIZE]; /* name in spool/incoming, of our making; "" when not received */
    char sop_class_uid[UID_SIZE], sop_uid[UID_SIZE];
    char series_uid[UID_SIZE], study_uid[UID_SIZE];
    char transfer_syntax_uid[UID_SIZE];
    char patient_key[HEX_SIZE]; /* SHA-256 over ID, issuer, name, birth date, sex: equal or not */
    char digest[HEX_SIZE];      /* SHA-256 over transfer syntax UID and the data set's bytes */
    uint64_t size_bytes;        /* of the whole file */
    ImageGeometry geometry;
} Instance;

#endif
