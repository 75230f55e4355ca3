/* Walks the fixed samples of a level through the moving image, row by row: shared by the metrics.
**
** The fixed samples are a grid, so a row of them is a line through the moving image: positions come
** from a start and a step. Each row is clipped to the moving image and sampled into small arrays
** (vectorised). Chunks of slices are the unit of work; their number does not depend on the number
** of threads, so sums over chunks in order have the same bits for any number.
** Thread: pure functions. */
#ifndef CT2MR_REGISTRATION_WALK_INT_H
#define CT2MR_REGISTRATION_WALK_INT_H

#include "registration/metric.h"
#include "registration/pyramid.h"

enum { WALK_CHUNKS_MAX = 32, WALK_LANES = 16, WALK_ROW_MAX = PYRAMID_LEVEL_ROW_MAX };

typedef struct Walk {
    const MetricLevel *level;
    Affine vox_from_fixed; /* moving voxel from fixed voxel */
    int n_chunks;
} Walk;

typedef struct Line {
    float start[3], step[3]; /* moving voxel of the first sample, and per sample */
    int first, n;            /* samples inside the moving image */
    size_t at;               /* index of the first of them in the fixed arrays */
} Line;

typedef struct Row {
    float value[WALK_ROW_MAX + WALK_LANES], weight[WALK_ROW_MAX + WALK_LANES];
    float i[WALK_ROW_MAX + WALK_LANES]; /* column, from the middle; walk_gradients() only */
    float gradient[3][WALK_ROW_MAX + WALK_LANES]; /* along the moving voxel axes */
} Row;

void walk_init(Walk *walk, const MetricLevel *level, Affine moving_from_fixed);
/* First slice of a chunk; of chunk n_chunks: the number of slices. */
int walk_slice(const Walk *walk, int chunk);
/* The part of row (j, k) inside the moving image; n is 0 if there is none. */
Line walk_line(const Walk *walk, int j, int k);
/* Values of the moving image, and weights that fall to 0 within a voxel of its edge. */
void walk_values(const VolumeF32 *moving, const Line *line, Row *ret);
/* The same, gradients and columns; filled up with zeros to a multiple of WALK_LANES. */
void walk_gradients(const Walk *walk, const Line *line, Row *ret);

#endif
