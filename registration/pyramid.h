/* An image at 8, 4 and 1.5 mm: where registration looks, from coarse to fine.
**
** Each axis is smoothed by a cubic B-spline (close to a Gaussian of sigma 0.5 * sqrt(f^2 - 1)
** source voxels for a factor f; made of sums and products only, so the same bits everywhere) and
** sampled at the target spacing in one step. The int16 source goes straight to 1.5 mm: no copy at
** full resolution. Axes already at least that coarse are kept.
** Thread: any; parallel over slices, same bits for any number of threads. */
#ifndef CT2MR_REGISTRATION_PYRAMID_H
#define CT2MR_REGISTRATION_PYRAMID_H

#include "base/affine.h"
#include "base/arena.h"
#include "base/err.h"

enum { PYRAMID_8MM = 0, PYRAMID_4MM, PYRAMID_FINE, PYRAMID_LEVELS };
enum { PYRAMID_ROW_MAX = 4096, PYRAMID_LEVEL_ROW_MAX = 1024 }; /* voxels in a row */

typedef struct Pyramid {
    VolumeF32 level[PYRAMID_LEVELS]; /* in arena; voxel (0,0,0) of all levels is the source's */
} Pyramid;

/* source: borrowed, values clipped to [low, high]. Errors: LIMIT (size, arena). */
MUST_CHECK Status pyramid_build(const VolumeI16 *source, int low, int high, int threads,
                                Arena *arena, Pyramid *ret, Err *err);

#endif
