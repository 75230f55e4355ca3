/* Which way a volume's voxel axes run in the patient, and turning it without interpolation.
** Thread: any. */
#ifndef CT2MR_PIPELINE_TURN_H
#define CT2MR_PIPELINE_TURN_H

#include "base/affine.h"
#include "base/arena.h"
#include "base/err.h"

/* To where the columns (L or R) and rows (P or A) of a grid's slices run. False: not axial (an axis
** is more than 37 degrees off). */
bool grid_axes(const Grid *grid, char ret[3]);
/* Permutes and flips whole axes so that they run nearest to axes ("LP", "LA", "RP", "RA") and to
** the head. No voxel's value changes, and none moves in space. The result lies in the arena.
** Errors: LIMIT. */
MUST_CHECK Status volume_turn(const VolumeI16 *volume, const char axes[3], Arena *arena,
                              VolumeI16 *ret, Err *err);

#endif
