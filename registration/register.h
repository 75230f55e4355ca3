/* Multi-modal affine registration of two volumes of a head.
**
** Cost: correlation ratio of `moving` explained by the intensities of `fixed` (48 bins, conditional
** mean piecewise linear), weights apodised at the edge of the overlap, robust (Geman-McClure) in
** the Gauss-Newton step. Multi-start over rotations at 8 mm, refined at 4 and 1.5 mm; mutual
** information chooses among the starts. Where the moving image is an MR, its brightness is evened
** out and mutual information has the last word. The
** fixed image is the one that is binned, with narrow bins where tissues differ by few HU: give the
** noisy CT as fixed and the clean reference or MR as moving.
** Sources: Roche et al. 1998 (correlation ratio), Jenkinson & Smith 2001, Jenkinson et al. 2002
** (multi-start, apodisation); Mattes et al. 2003 (mutual information).
** Thread: any; uses its own threads inside. Same bits for any number of threads. */
#ifndef CT2MR_REGISTRATION_REGISTER_H
#define CT2MR_REGISTRATION_REGISTER_H

#include "base/affine.h"
#include "base/arena.h"
#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum RegModality { REG_CT, REG_MR } RegModality; /* how to find the head: > -300 HU; Otsu */

typedef struct RegOptions {
    RegModality fixed_modality, moving_modality;
    int32_t dof;     /* 6, 7, 9 or 12 */
    int32_t threads; /* 0: all processors */
} RegOptions;

typedef struct RegResult {
    Affine moving_from_fixed; /* LPS mm -> LPS mm */
    double cost;              /* 1 - correlation ratio at 1.5 mm: 0 perfect, 1 unrelated */
    double overlap_frac;      /* of the fixed head's samples that fall inside moving */
    double runner_up_mm;      /* mean distance over the head between the best two starts at 4 mm */
    double inverse_mm;        /* the same between there and back, sought from the result */
    /* Root of the sum of their squares: how far apart are answers that should be one. */
    double score_mm;
    /* How much less mutual information the head has where it is turned by 60 to 180 degrees, at
    ** 4 mm: negative, it fits better so; HUGE_VAL, it does not fit at all. */
    double turned_nats;
    double determinant;          /* of the linear part */
    double scale_min, scale_max; /* singular values of the linear part */
    double seconds;
} RegResult;

/* fixed, moving: borrowed. scratch: reset before returning.
** Errors: REG_OVERLAP (no start overlaps, or no head found), LIMIT. Plausibility of the result is
** the pipeline's gate, not decided here. */
MUST_CHECK Status reg_affine(const VolumeI16 *fixed, const VolumeI16 *moving,
                             const RegOptions *options, RegResult *ret, Arena *scratch, Err *err);

#ifdef __cplusplus
}
#endif
#endif
