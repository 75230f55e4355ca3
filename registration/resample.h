/* Resampling a volume onto another grid through an affine transform, trilinear.
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

/* ret->grid is set by the caller (the target grid), ret->v has room for it. Rounds to nearest. */
void resample_i16(const VolumeI16 *source, Affine src_from_dst_lps, int16_t outside, int threads,
                  VolumeI16 *ret);
void resample_f32(const VolumeF32 *source, Affine src_from_dst_lps, float outside, int threads,
                  VolumeF32 *ret);
/* Nearest neighbour, for masks; outside is 0. */
void resample_mask(const VolumeU8 *source, Affine src_from_dst_lps, int threads, VolumeU8 *ret);

#ifdef __cplusplus
}
#endif
#endif
