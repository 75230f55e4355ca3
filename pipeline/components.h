/* Connected parts of a mask, 6-connected, and holes in its slices.
**
** Masks hold small numbers: a part is a set of touching voxels of one value. Queues are memory of
** the caller, one int32 per voxel of the grid. Thread: any. */
#ifndef CT2MR_PIPELINE_COMPONENTS_H
#define CT2MR_PIPELINE_COMPONENTS_H

#include "base/affine.h"

typedef struct Component {
    int32_t first;           /* its voxel of lowest index */
    int64_t voxels;          /* size */
    int32_t low[3], high[3]; /* corners, inclusive, x y z */
} Component;

/* Gives every voxel of seed's part the value `to` (other than the part's own value). queue[0 ..
** ret->voxels) holds the part's voxels afterwards. ret->first is seed. */
void component_flood(const Grid *grid, uint8_t *mask, int32_t seed, uint8_t to, int32_t *queue,
                     Component *ret);
/* Goes on from the n_queued voxels in queue (which have the value `to` already) into voxels of
** value `from`, which become `to`. Returns the number of voxels in the queue at the end. */
int64_t component_reach(const Grid *grid, uint8_t *mask, uint8_t from, uint8_t to, int32_t *queue,
                        int64_t n_queued);
/* Keeps the largest part of mask != 0 as 1, the first of equals; the rest becomes 0. Returns its
** voxels, 0 for an empty mask. */
int64_t component_keep_largest(const Grid *grid, uint8_t *mask, int32_t *queue);
/* Sets to 0 the parts of mask == 1 smaller than min_voxels. */
void component_drop_small(const Grid *grid, uint8_t *mask, int64_t min_voxels, int32_t *queue);
/* In each slice perpendicular to voxel axis `axis`: what is 0 and not joined (4-connected) to the
** slice's border becomes 1. Same bits for any number of threads. */
void component_fill_slices(const Grid *grid, uint8_t *mask, int axis, int threads, int32_t *queue);

#endif
