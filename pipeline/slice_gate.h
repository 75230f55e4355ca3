/* Do the slices of a volume fit together?
**
** A slice that is blank, damaged, shifted, of another patient or in the wrong place has good
** geometry: only its pixels tell. d[z] = mean |HU difference| between slices z and z + 1, HU
** clipped to [-500, 500] so that metal does not count for more than its area. In a head d changes
** slowly; the ratio of d[z] to the median of the up to eight steps around it says how far a step
** stands out. What was measured: DECISIONS.md "Slice gate". Thread: any; parallel inside. */
#ifndef CT2MR_PIPELINE_SLICE_GATE_H
#define CT2MR_PIPELINE_SLICE_GATE_H

#include "base/affine.h"
#include "base/err.h"

typedef struct SliceJump {
    double ratio;  /* the largest */
    int32_t after; /* between slices `after` and `after` + 1 (0-based); -1: fewer than 4 slices */
} SliceJump;

/* ct: HU, borrowed. Errors: NO_MEMORY. */
MUST_CHECK Status slice_jump(const VolumeI16 *ct, int threads, SliceJump *ret, Err *err);
/* Errors: SERIES_JUMP (ratio above max_ratio), NO_MEMORY. *ret is written in both cases. */
MUST_CHECK Status slice_gate(const VolumeI16 *ct, double max_ratio, int threads, SliceJump *ret,
                             Err *err);

#endif
