/* Do the slices of a volume fit together?
**
** A slice that is blank, damaged, shifted, of another patient or in the wrong place has good
** geometry: only its pixels tell. |a - b|: mean absolute difference of two slices, HU clipped to
** [-500, 500] so that metal does not count for more than its area. The questions:
**   misfit    |z - mean of z-1 and z+1| over |z-1 - z+1|. Anatomy lies between its neighbours (0.3
**             to 0.6), slices of pure noise give 0.87; above 1 a slice belongs elsewhere.
**   exchange  of z and z+1: (|z-1 - z| + |z+1 - z+2|) over (|z-1 - z+1| + |z - z+2|), 1 for noise;
**             above 1 the other order fits better.
**   order     the same for a run of three slices or more, where all concerned are sections of a
**             head: a run stored in reverse.
**   jump      |z - z+1| over the median of the up to eight such steps around it: two series joined,
**             slices missing though positions are even. A jump is passed over if what is tissue in
**             both slices does not jump (a bolus or a ring begins), or if it mostly vanishes when
**             the slice is moved by up to 2.5 mm (the patient moved).
**   same      two slices with tissue have equal bits: real noise never repeats.
**   repeat    the median step of soft tissue around z and z+1 over theirs, where theirs is below
**             2 HU: one slice twice, with other rounding.
**   end       mm2 of a head's section (solid, with bone) that the next slice has no tissue for, per
**             mm: a sphere of 100 mm gains 628 in each mm from its pole. More is a blank slice or
**             one from elsewhere, at the ends, too. What is thinner than 15 mm along the normal is
**             a plate, not a head.
**   stray     an outermost slice has one neighbour: how much farther it is from that than steps are
**             there, if it is no nearer to it than to the one behind.
**   mirror    |z - z+1| over the same with one of them mirrored, for sections of a head.
**   sides     A slice less its mirror image is the head's asymmetry. Its correlation over z and
**             z+1 is 0 (noise) to 1; below 0, where this is how far, left and right have changed
**             places: half a head mirrored, about any axis near its middle.
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
    double end_mm, mirror, repeat, stray, sides, order;
    int32_t end_after, mirror_after, repeat_after, stray_at, sides_after, order_first, order_last;
    int32_t same, same_as; /* -1: no two */
} SliceFit;

/* ct: HU, borrowed. Errors: NO_MEMORY, LIMIT (more than 8192 columns). */
MUST_CHECK Status slice_fit(const VolumeI16 *ct, int threads, SliceFit *ret, Err *err);
/* Limits: misfit 1.0, exchange and order 1.15, jump 2.5, end 1500, mirror 1.1, sides 0.25,
** stray 1.4, repeat 5, each times max_ratio / 2.5; `same` has none.
** Errors: SERIES_JUMP, NO_MEMORY, LIMIT. *ret is written in both cases. */
MUST_CHECK Status slice_gate(const VolumeI16 *ct, double max_ratio, int threads, SliceFit *ret,
                             Err *err);

#endif
