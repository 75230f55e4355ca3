/* Do the slices of a volume fit together?
**
** A slice that is blank, damaged, shifted, of another patient or in the wrong place has good
** geometry: only its pixels tell. |a - b|: mean absolute difference of two slices, HU clipped to
** [-500, 500] so that metal does not count for more than its area. Three questions:
**   misfit    |z - mean of z-1 and z+1| over |z-1 - z+1|. Anatomy lies between its neighbours (0.3
**             to 0.6), slices of pure noise give 0.87; above 1 a slice belongs elsewhere.
**   exchange  of z and z+1: (|z-1 - z| + |z+1 - z+2|) over (|z-1 - z+1| + |z - z+2|), 1 for noise;
**             above 1 the other order fits better.
**   jump      |z - z+1| over the median of the up to eight such steps around it: two series joined,
**             half a head mirrored. A jump is passed over if what is tissue in both slices does not
**             jump (a bolus or a ring begins), or if it mostly vanishes when the slice is moved by
**             up to 2.5 mm (the patient moved).
** What was measured: DECISIONS.md "Slice gate". Thread: any; parallel inside. */
#ifndef CT2MR_PIPELINE_SLICE_GATE_H
#define CT2MR_PIPELINE_SLICE_GATE_H

#include "base/affine.h"
#include "base/err.h"

/* The largest of each, 0 if there are too few slices to say; slices are counted from 0. */
typedef struct SliceFit {
    double misfit, exchange, jump;
    int32_t misfit_at, exchange_after, jump_after; /* after: between it and the next; -1: none */
    double moved_mm;                               /* 0, or by how much a patient seems to move */
    int32_t moved_after;
} SliceFit;

/* ct: HU, borrowed. Errors: NO_MEMORY, LIMIT (more than 8192 columns). */
MUST_CHECK Status slice_fit(const VolumeI16 *ct, int threads, SliceFit *ret, Err *err);
/* Limits: misfit 1.0, exchange 1.15, jump 3, each times max_ratio / 3.
** Errors: SERIES_JUMP, NO_MEMORY, LIMIT. *ret is written in both cases. */
MUST_CHECK Status slice_gate(const VolumeI16 *ct, double max_ratio, int threads, SliceFit *ret,
                             Err *err);

#endif
