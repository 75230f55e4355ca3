/* Marker-controlled watershed by flooding from a hierarchical queue.
**
** Every marker's rim enters the queue of its own level; the lowest voxel floods its unlabelled
** 6-neighbours, which enter the queue of their level (or of the current one, if theirs is lower).
** Within a level: first in, first out, markers in memory order, so ties are settled the same way
** in every run. A marker entered at level 0 instead of its own would flood a free shell one voxel
** wide around it, whatever the gradient says.
** Sources: Meyer, Un algorithme optimal pour la ligne de partage des eaux, 1991; Beucher & Meyer
** 1993. Thread: any; sequential. */
#ifndef CT2MR_PIPELINE_WATERSHED_H
#define CT2MR_PIPELINE_WATERSHED_H

#include "base/affine.h"

/* level  [nz][ny][nx] gradient, borrowed
** label  [nz][ny][nx] in: markers 1..255, 0 = to be flooded; out: every voxel joined to a marker
** next   [nz][ny][nx] room for the queues' links */
void watershed_flood(const Grid *grid, const uint8_t *level, uint8_t *label, int32_t *next);

#endif
