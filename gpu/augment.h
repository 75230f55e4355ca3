/* One training pair from the packed slices, changed at random: geometry for CT, mask and MR alike,
** then the CT's Hounsfield units, before the window. A pure function of the random stream; each
** kind of change draws from a stream of its own, so that leaving one out does not move the others.
**
** Geometry samples the case's slices trilinearly (in the plane only, where slices are no
** neighbours); without it, or with quarter turns and flips alone, every value is copied exactly.
** Thread: any; an AugmentWork belongs to one. */
#ifndef CT2MR_GPU_AUGMENT_H
#define CT2MR_GPU_AUGMENT_H

#include "base/random.h"
#include "gpu/pack_file.h"

enum AugmentKind {
    AUGMENT_ROTATE90,  /* by 0, 90, 180 or 270 degrees (the paper's) */
    AUGMENT_FLIP,      /* left and right, every second time */
    AUGMENT_POSE,      /* turn 5, tilt 3 degrees, shift 4 mm (deviations); scale 0.87 to 1.13 */
    AUGMENT_ELASTIC,   /* smooth field, up to 3 mm (deviation) */
    AUGMENT_THICKNESS, /* 1 to 5 neighbouring slices averaged */
    AUGMENT_NOISE,     /* up to 15 HU (deviation), every second time correlated */
    AUGMENT_BLUR,      /* Gaussian of 0.3 to 1 pixel, every second time */
    AUGMENT_CONTRAST,  /* HU times 0.97 to 1.03, plus 3 (deviation) */
    AUGMENT_KINDS
};
#define AUGMENT_ALL ((1u << AUGMENT_KINDS) - 1)

const char *augment_name(int kind);
/* "flip,pose,noise", "all", "none" -> bits 1 << kind. Errors: USAGE (names what is unknown). */
MUST_CHECK Status augment_parse(const char *text, unsigned *ret, Err *err);

typedef struct AugmentWork AugmentWork;
MUST_CHECK Status augment_work_open(int32_t pixels, AugmentWork **ret, Err *err);
void augment_work_close(AugmentWork *work); /* NULL is fine */

typedef struct AugmentPair { /* owned by the work until its next use */
    const int16_t *hu;       /* [pixels][pixels] */
    const uint8_t *mask;     /* 1 inside */
    const float *mr;         /* 0..1, 0 outside the mask */
} AugmentPair;
AugmentPair augment_pair(AugmentWork *work, const Pack *pack, int32_t slice, unsigned kinds,
                         Random random);

#endif
