/* A volume from whatever a person names: a NIfTI file, or a folder of DICOM CT images (which must
** pass the geometry gate). For the offline commands. Thread: any. */
#ifndef CT2MR_PIPELINE_VOLUME_IO_H
#define CT2MR_PIPELINE_VOLUME_IO_H

#include "base/affine.h"
#include "base/arena.h"
#include "base/err.h"

/* *ret_is_ct (may be NULL): true for a DICOM folder; for NIfTI true if the least value <= -500.
** Errors: those of nifti_read() and of the load step. */
MUST_CHECK Status volume_read(const char *path, Arena *arena, VolumeI16 *ret, bool *ret_is_ct,
                              Err *err);
/* The reference head, a NIfTI file. Errors: NOT_FOUND, REFERENCE (what is NIFTI of another file),
** LIMIT. */
MUST_CHECK Status reference_read(const char *path, Arena *arena, VolumeI16 *ret, Err *err);

#endif
