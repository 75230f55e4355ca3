/* A volume from whatever a person names: a NIfTI file, or a folder of DICOM CT images (which must
** pass the geometry gate). For the offline commands. Thread: any. */
#ifndef CT2MR_PIPELINE_VOLUME_IO_H
#define CT2MR_PIPELINE_VOLUME_IO_H

#include "base/affine.h"
#include "base/arena.h"
#include "base/digest.h"
#include "base/err.h"

/* *ret_is_ct (may be NULL): true for a DICOM folder; for NIfTI true if the least value <= -500.
** Errors: those of nifti_read() and of the load step. */
MUST_CHECK Status volume_read(const char *path, Arena *arena, VolumeI16 *ret, bool *ret_is_ct,
                              Err *err);
/* To where the columns (L or R) and rows (P or A) of a grid's slices run. False: not axial. */
bool grid_axes(const Grid *grid, char ret[3]);
/* The reference head: a NIfTI file, or a folder of DICOM MR images.
**   ret_digest  SHA-256 of the file; of a folder: of its volume, whatever its files are called
** Errors: NOT_FOUND, REFERENCE (what is NIFTI of another file, or fails mr_read()), LIMIT. */
MUST_CHECK Status reference_read(const char *path, Arena *arena, VolumeI16 *ret,
                                 char ret_digest[DIGEST_HEX_SIZE], Err *err);

#endif
