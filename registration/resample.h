/* Resampling a volume onto another grid through an affine transform: trilinear, or cubic
** convolution (4 x 4 x 4 voxels, exact for fields of second degree, may overshoot at edges).
**
** A point outside the source's outermost voxel centres (by more than half a voxel) gets `outside`;
** within half a voxel of the edge the edge value is held. Voxel i of the output is at
** dst_grid.lps_from_vox * i in its own space; src_from_dst maps that space to the source's.
** Thread: any; parallel over slices, same bits for any number of threads. */
#ifndef CT2MR_REGISTRATION_RESAMPLE_H
#define CT2MR_REGISTRATION_RESAMPLE_H

#include "base/affine.h"
#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ResampleKind { RESAMPLE_LINEAR, RESAMPLE_CUBIC } ResampleKind;

/* ret->grid is set by the caller (the target grid), ret->v has room for it. Rounds to nearest. */
void resample_i16(const VolumeI16 *source, Affine src_from_dst_lps, int16_t outside, int threads,
                  VolumeI16 *ret);
void resample_f32(const VolumeF32 *source, Affine src_from_dst_lps, float outside, int threads,
                  VolumeF32 *ret);
/* The same by the kind named. */
void resample_i16_as(ResampleKind kind, const VolumeI16 *source, Affine src_from_dst_lps,
                     int16_t outside, int threads, VolumeI16 *ret);
void resample_f32_as(ResampleKind kind, const VolumeF32 *source, Affine src_from_dst_lps,
                     float outside, int threads, VolumeF32 *ret);
/* Nearest neighbour, for masks; outside is 0. */
void resample_mask(const VolumeU8 *source, Affine src_from_dst_lps, int threads, VolumeU8 *ret);

#ifdef __cplusplus
}
#endif
#endif
