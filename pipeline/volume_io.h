/* A volume from whatever a person names: a NIfTI file, or a folder of DICOM CT or MR images (which
** must pass the geometry gate). For the offline commands. Thread: any. */
#ifndef CT2MR_PIPELINE_VOLUME_IO_H
#define CT2MR_PIPELINE_VOLUME_IO_H

#include "base/affine.h"
#include "base/arena.h"
#include "base/digest.h"
#include "base/err.h"
#include "pipeline/intensity.h"

/* An MR in NIfTI is scaled where int16 asks for it (mr_scale()), HU never.
**   modality  what it is said to be; UNKNOWN (or NULL): a DICOM folder's images say it (CT if both
**             are there), a NIfTI file's numbers (modality_of()). Becomes what it was read as:
**             UNKNOWN if the numbers do not tell
** Errors: those of nifti_read(), of load_series_dir() for CT and of mr_read() for MR. */
MUST_CHECK Status volume_read(const char *path, Arena *arena, VolumeI16 *ret, Modality *modality,
                              Err *err);
/* The reference head, an MR: a NIfTI file, or a folder of DICOM MR images.
**   axes        to where its slices shall run (as grid_axes(); whole axes are turned); "": as it is
**   ret_digest  SHA-256 of the file; of a folder: of its volume, whatever its files are called.
**               Before it was turned
** Errors: NOT_FOUND, REFERENCE (what is NIFTI of another file, or fails mr_read(), or
** is not clearly an MR by modality_of()), LIMIT. */
MUST_CHECK Status reference_read(const char *path, const char *axes, Arena *arena, VolumeI16 *ret,
                                 char ret_digest[DIGEST_HEX_SIZE], Err *err);

#endif
