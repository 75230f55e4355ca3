/* Exact Euclidean distance on a voxel grid with unequal spacing.
**
** The squared distance separates: a row pass, then for each column the lower envelope of the
** parabolas that stand on the values so far. Source: Felzenszwalb & Huttenlocher, Distance
** Transforms of Sampled Functions, Theory of Computing 8, 2012. What lies outside the grid does not
** count. Thread: any; parallel over lines, same bits for any number of threads. */
#ifndef CT2MR_PIPELINE_DISTANCE_H
#define CT2MR_PIPELINE_DISTANCE_H

#include "base/affine.h"

enum { DISTANCE_AXIS_MAX = 4096 }; /* longest axis of a grid; longer is a broken invariant */

/* ret_mm2[i]: squared distance in mm^2 from voxel i to the nearest voxel where (mask != 0) ==
** target; 0 on such voxels, INFINITY if there is none.
**   mask      [nz][ny][nx], borrowed
**   limit_mm  distances beyond it come out as anything beyond it; INFINITY: all are exact. A limit
**             of few voxels is several times faster: a search nearby that the compiler vectorises.
**   ret_mm2   [nz][ny][nx], of the caller */
void distance_squared(const Grid *grid, const uint8_t *mask, bool target, double limit_mm,
                      int threads, float *ret_mm2);

#endif
