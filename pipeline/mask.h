/* Head and brain masks by marker-controlled 3-D watershed on the CT.
**
** Head: the patient without couch, head holder, frame and the air around. Brain: the intracranial
** content. Both work on a 1.5 mm copy of the CT and are brought back to its grid.
** Markers, gradient and flooding are in watershed.h; ties are decided by queue order, so the result
** is the same every run. Sources: Beucher & Meyer 1993 (marker-controlled watershed, hierarchical
** queue); Muschelli et al. 2015 (HU range of the brain).
** Thread: any. */
#ifndef CT2MR_PIPELINE_MASK_H
#define CT2MR_PIPELINE_MASK_H

#include "base/affine.h"
#include "base/arena.h"
#include "base/err.h"

typedef struct MaskResult {
    double volume_ml;
    double seconds;
} MaskResult;

/* A head that has been registered to the CT: image T1-weighted, borrowed; LPS mm. */
typedef struct MaskReference {
    const VolumeI16 *image;
    Affine ref_from_ct;
} MaskReference;

/* ct: HU, borrowed. reference: NULL without one; with one, what lies far outside the reference's
** head is no head, and the brain is looked for where the reference has it. ret->grid is set to the
** CT's and ret->v taken from arena. scratch is reset.
** Errors: MASK (nothing like a head/brain found), REFERENCE (no head in it), LIMIT. */
MUST_CHECK Status mask_head(const VolumeI16 *ct, const MaskReference *reference, int threads,
                            VolumeU8 *ret, MaskResult *ret_result, Arena *arena, Arena *scratch,
                            Err *err);
/* mask_head(), and of the same copy the brain's volume: 0 where nothing like a brain is found. */
MUST_CHECK Status mask_head_and_brain_ml(const VolumeI16 *ct, const MaskReference *reference,
                                         int threads, VolumeU8 *ret, MaskResult *ret_result,
                                         double *ret_brain_ml, Arena *arena, Arena *scratch,
                                         Err *err);
MUST_CHECK Status mask_brain(const VolumeI16 *ct, const MaskReference *reference, int threads,
                             VolumeU8 *ret, MaskResult *ret_result, Arena *arena, Arena *scratch,
                             Err *err);

#endif
