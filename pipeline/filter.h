/* Filters of the mask step: a smaller copy of the CT, Gaussian, gradient, and the way back from
** the copy to the CT's grid. Thread: any; parallel over slices, same bits for any number of
** threads. */
#ifndef CT2MR_PIPELINE_FILTER_H
#define CT2MR_PIPELINE_FILTER_H

#include "base/affine.h"
#include "base/arena.h"
#include "base/err.h"

/* The grid of a copy whose spacing is target_mm along every axis that is finer than that (the
** outer faces of the two grids agree at the origin); a coarser axis keeps its own. */
Grid filter_shrink_grid(const Grid *grid, double target_mm);
/* Each voxel of ret (grid set by filter_shrink_grid, v of the caller) is the mean of what it covers
** of the CT, values clipped to [-1024, 3071] first. Errors: LIMIT. */
MUST_CHECK Status filter_shrink(const VolumeI16 *ct, int threads, VolumeF32 *ret, Arena *scratch,
                                Err *err);
/* Gaussian, in place; edge values are continued. An axis whose sigma is below 0.3 voxels is left
** as it is. Errors: LIMIT. */
MUST_CHECK Status filter_gauss(VolumeF32 *volume, double sigma_mm, int threads, Arena *scratch,
                               Err *err);
/* Gradient magnitude (central differences, HU/mm) of the values clipped to [low, high], as levels
** 0..255 = 255 * sqrt(gradient / largest gradient). The square root keeps small differences apart
** and the scale is the volume's own, so that the top level is not a plateau: on a plateau the
** queue's order would decide. ret_level: [nz][ny][nx] of the caller. Errors: LIMIT. */
MUST_CHECK Status filter_gradient(const VolumeF32 *volume, float low, float high, int threads,
                                  uint8_t *ret_level, Arena *scratch, Err *err);
/* ret->v[i] = 1 where `copy`, interpolated trilinearly, is > 0. ret->grid (set by the caller) is
** the grid that copy->grid was made from. Errors: LIMIT. */
MUST_CHECK Status filter_enlarge_mask(const VolumeF32 *copy, int threads, VolumeU8 *ret,
                                      Arena *scratch, Err *err);

#endif
