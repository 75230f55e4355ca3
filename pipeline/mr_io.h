/* An MR volume from whatever a person names: a NIfTI file, or a folder of DICOM MR images (which
** must pass the geometry gate). For packing training data; the receiver takes no MR. Thread: any;
** parallel inside. */
#ifndef CT2MR_PIPELINE_MR_IO_H
#define CT2MR_PIPELINE_MR_IO_H

#include "base/affine.h"
#include "base/arena.h"
#include "base/err.h"
#include "base/instance.h"

typedef struct MrSource {
    char patient_key[HEX_SIZE]; /* "" for NIfTI; else as in Instance: the same for one patient's */
    bool is_synthetic;          /* a DICOM image says that it was computed from other images */
} MrSource;

/* Intensities as they are in the file, rescaled; NaN where a NIfTI file has no number. All of *ret
** lives in arena.
** Errors: NOT_FOUND, SERIES_NOT_MR, SERIES_MIXED, those of geometry_check(), of
** dicom_read_mr_header() and dicom_read_mr(), of nifti_read_f32(). */
MUST_CHECK Status mr_read(const char *path, int threads, Arena *arena, VolumeF32 *ret,
                          MrSource *ret_source, Err *err);

#endif
