/* NIfTI-1 volumes (niftilib), plain or gzipped: the reference, and research volumes of the command
** line. World coordinates RAS+ of the file become LPS (x and y negated). Thread: any. */
#ifndef CT2MR_PIPELINE_NIFTI_H
#define CT2MR_PIPELINE_NIFTI_H

#include "base/affine.h"
#include "base/arena.h"
#include "base/err.h"

/* HU: any scalar type, rescaled by scl_slope/scl_inter, rounded, never scaled otherwise. The grid
** is in mm, whether the file's unit is metre, mm, micron or none.
** Errors: NOT_FOUND, NIFTI (not a readable NIfTI, damaged, no sform/qform or two that name other
** axes, singular, sheared by more than 0.5 degrees, too large, a voxel that is not finite or does
** not fit int16), LIMIT. */
MUST_CHECK Status nifti_read(const char *path, Arena *arena, VolumeI16 *ret, Err *err);
/* Intensities of an MR: the same, but multiplied by *ret_scale, which is that of mr_scale(). */
MUST_CHECK Status nifti_read_mr(const char *path, Arena *arena, VolumeI16 *ret, double *ret_scale,
                                Err *err);
/* The same with the numbers as they are; what is not finite becomes NaN. */
MUST_CHECK Status nifti_read_f32(const char *path, Arena *arena, VolumeF32 *ret, Err *err);
/* Writes with sform and qform code 1 (scanner); durable, and whole or as it was before.
** Errors: IO (also where path is no file), DISK_FULL. */
MUST_CHECK Status nifti_write_i16(const char *path, const VolumeI16 *volume, Err *err);
MUST_CHECK Status nifti_write_u8(const char *path, const VolumeU8 *volume, Err *err);
MUST_CHECK Status nifti_write_f32(const char *path, const VolumeF32 *volume, Err *err);

#endif
