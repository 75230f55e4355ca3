/* Is what was masked the whole head, and are its numbers Hounsfield units? Asked with the help of
** the reference head, which the registration has laid over the CT.
**
** covered_frac   of the reference head's inside (deeper than 12 mm, in the CT's field of view) that
**                the mask holds: a lost half of the head, or a slice, shows here and nowhere else
** slice_frac     the same for the worst slice that shows at least 10 ml of it
** brain_hu       median HU where the reference has brain (deeper than 25 mm, bright in T1)
** air_hu         median HU of the air outside the mask; NAN if it is stored as one value, or
**                clipped so that its noise does not tell where it lies
** offset_hu      by how much both brain and air, at least, are off their usual numbers (25 and
**                -997) in the same direction: a contrast agent moves the one, a scanner's
**                calibration the other, a wrong Rescale Intercept both. NAN without air
** Thread: any. */
#ifndef CT2MR_PIPELINE_HEAD_GATE_H
#define CT2MR_PIPELINE_HEAD_GATE_H

#include "base/affine.h"
#include "base/arena.h"
#include "base/err.h"

typedef struct HeadFacts {
    double covered_frac, slice_frac;
    int32_t slice; /* the worst, 0-based; -1: none shows enough */
    double brain_hu, air_hu, offset_hu;
} HeadFacts;

double head_offset_hu(double brain_hu, double air_hu);

/* ct, mask (the head's, same grid), reference (T1-like): borrowed. scratch is given back.
** Errors: REFERENCE (no head in it), REG_QUALITY (singular matrix), LIMIT, NO_MEMORY. */
MUST_CHECK Status head_facts(const VolumeI16 *ct, const VolumeU8 *mask, const VolumeI16 *reference,
                             Affine ref_from_ct, int threads, HeadFacts *ret, Arena *scratch,
                             Err *err);
/* Limits: DECISIONS.md "Head gate". is_head: the mask is a head's, else a brain's, which covers no
** head. Errors: MASK, HU_SCALE. */
MUST_CHECK Status head_gate(const HeadFacts *facts, bool is_head, Err *err);

#endif
