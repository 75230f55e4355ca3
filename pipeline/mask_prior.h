/* What a registered reference head (T1-weighted) says about a CT: where there can be no head, where
** there surely is brain, where there can be none. Heads differ by less than the margins (25 mm
** around the head, 12 mm on both sides of the brain's surface), after an affine registration.
** Thread: any; parallel inside. */
#ifndef CT2MR_PIPELINE_MASK_PRIOR_H
#define CT2MR_PIPELINE_MASK_PRIOR_H

#include "pipeline/mask.h"

enum {
    PRIOR_NO_HEAD = 1,
    PRIOR_BRAIN = 2,
    PRIOR_NO_BRAIN = 4,
    PRIOR_KNOWS_BRAIN = 8 /* everywhere or nowhere: a brain was found in the reference */
};

/* copy: a grid in the CT's space. ret_prior: [nz][ny][nx] PRIOR_* bits. scratch is given back.
** Errors: REFERENCE (no head in it, singular matrix), LIMIT. */
MUST_CHECK Status mask_prior(const MaskReference *reference, const Grid *copy, int threads,
                             uint8_t *ret_prior, Arena *scratch, Err *err);

#endif
