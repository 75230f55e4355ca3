/* What the head mask and the brain mask share: a 1.5 mm copy of the CT, working memory, shapes
** grown and shrunk by distances in mm. Private to the mask step. */
#ifndef CT2MR_PIPELINE_MASK_COPY_H
#define CT2MR_PIPELINE_MASK_COPY_H

#include "pipeline/mask.h"

typedef struct MaskCopy {
    VolumeF32 hu;     /* smoothed copy; v [n] */
    Grid whole;       /* of the CT; hu.grid is a box of it after mask_crop() */
    int32_t first[3]; /* that box's lowest corner in whole */
    size_t n;         /* voxels of the copy */
    double voxel_ml;  /* of one voxel of the copy */
    int threads;
    float *mm2;      /* [n] squared distances, overwritten by the functions below */
    int32_t *queue;  /* [n] */
    uint8_t *a, *b;  /* [n] work of the mask functions */
    uint8_t *level;  /* [n] gradient */
    uint8_t *prior;  /* [n] PRIOR_* bits, all 0 without a reference */
    uint8_t *label;  /* [n] markers, then the result: 1 inside */
    double brain_ml; /* what mask_head_and_brain_on_copy() found */
    Arena *scratch;
} MaskCopy;

/* Squared distances in copy->mm2 to the voxels where (mask != 0) == target, exact up to limit_mm.
 */
void mask_distance(MaskCopy *copy, const uint8_t *mask, bool target, double limit_mm);
/* Gaps narrower than twice the radius are closed. Errors: LIMIT. */
MUST_CHECK Status mask_close(MaskCopy *copy, uint8_t *mask, double radius_mm, Err *err);
/* Shrunk, the largest part kept, grown by as much. */
void mask_open(MaskCopy *copy, uint8_t *mask, double radius_mm);
/* Fills what is a hole in an axial slice, or in both its coronal and its sagittal slice. A hole in
** one of these alone may be the hollow beside the nose or behind an ear. Errors: LIMIT. */
MUST_CHECK Status mask_fill(MaskCopy *copy, uint8_t *mask, Err *err);
/* Box of what is not 0; false if all is. */
bool mask_box(const MaskCopy *copy, const uint8_t *mask, int32_t ret_low[3], int32_t ret_high[3]);
/* Goes on with the box low..high (inclusive) grown by margin_mm and a voxel, as far as there is
** room: n, the grid, hu, mm2, a, b, prior and label shrink to it. What is outside the box is
** outside the mask. */
void mask_crop(MaskCopy *copy, const int32_t low[3], const int32_t high[3], double margin_mm);
int64_t mask_count(const MaskCopy *copy, const uint8_t *mask);
double mask_square(double x);
/* Head on the copy: copy->label is 1 inside, 0 outside. Errors: MASK, LIMIT. */
MUST_CHECK Status mask_head_on_copy(MaskCopy *copy, Err *err);
/* The same, and copy->brain_ml. Errors: LIMIT, MASK of the head. */
MUST_CHECK Status mask_head_and_brain_on_copy(MaskCopy *copy, Err *err);
/* mask_head() and mask_brain() but for what they do on the copy: make it, call on_copy, bring
** copy->label == 1 back to the CT's grid as a smooth surface. ret_brain_ml may be NULL. */
MUST_CHECK Status mask_run(const VolumeI16 *ct, const MaskReference *reference, int threads,
                           Status (*on_copy)(MaskCopy *copy, Err *err), VolumeU8 *ret,
                           MaskResult *ret_result, double *ret_brain_ml, Arena *arena,
                           Arena *scratch, Err *err);

#endif
