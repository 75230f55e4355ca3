/* Between the files of the simulated head. */
#ifndef CT2MR_PIPELINE_SIMULATE_INT_H
#define CT2MR_PIPELINE_SIMULATE_INT_H

#include "pipeline/simulate.h"

typedef struct Corners { /* the voxels around a point and their trilinear weights, which sum to 1 */
    size_t voxel[8];
    double weight[8];
} Corners;

/* p in voxels; outside the grid the nearest point on its border counts. */
Corners simulate_corners(const Grid *grid, Vec3 p);

#endif
