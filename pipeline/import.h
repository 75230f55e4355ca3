/* Volumes that are not DICOM, made ready to become a CT series: for trials and tests.
**
** InVesalius projects (.inv3): a gzipped tar with main.plist (shape, spacing, data type) and the
** voxels as they lie in memory. NIfTI: pipeline/nifti.h. Thread: any. */
#ifndef CT2MR_PIPELINE_IMPORT_H
#define CT2MR_PIPELINE_IMPORT_H

#include "base/affine.h"
#include "base/arena.h"
#include "base/err.h"

/* Reads an InVesalius project that was made from an axial CT. The volume comes out as a scanner
** stores it: x to the patient's left, y to posterior, z to the head; centred on the origin.
** Errors: NOT_FOUND, IO, LIMIT, UNSUPPORTED (not such a project, not CT, not axial, not int16). */
MUST_CHECK Status import_inv3(const char *path, Arena *arena, VolumeI16 *ret, Err *err);
/* Reads by name: *.inv3, *.nii, *.nii.gz; turns the axes to the nearest of left, posterior, head,
** and refuses values that are not Hounsfield units (UNSUPPORTED). */
MUST_CHECK Status import_volume(const char *path, Arena *arena, VolumeI16 *ret, Err *err);

#endif
