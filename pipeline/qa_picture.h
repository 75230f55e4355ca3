/* QA pictures: three orthogonal planes through the head's centre (axial, coronal, sagittal as a
** radiologist expects them: patient's right on the viewer's left, head up), in rows. No text of the
** patient. PNG.
**   job       CT with the mask's contour, synthetic MR, checkerboard of both
**   mask      CT with the mask's contour in the window given; the same in a wide window, where what
**             is dense and was left out (couch, holder) is red
**   register  fixed image, moving image where the transform puts it, both with the outlines of the
**             fixed one (yellow: skin, green: bone), and their checkerboard: outlines that miss the
**             moving head, or steps in the checkerboard, are a wrong registration
** Thread: any. */
#ifndef CT2MR_PIPELINE_QA_PICTURE_H
#define CT2MR_PIPELINE_QA_PICTURE_H

#include "base/affine.h"
#include "base/arena.h"
#include "base/err.h"

/* ct in HU; mask and mr (0..1) on the same grid; mr and mask may be NULL (rows left out).
** level/width: CT window. Errors: IO, DISK_FULL, LIMIT, NO_MEMORY. */
MUST_CHECK Status qa_picture_write(const char *path, const VolumeI16 *ct, const VolumeU8 *mask,
                                   const VolumeF32 *mr, double level_hu, double width_hu, Err *err);
/* The same arguments without an MR. */
MUST_CHECK Status qa_mask_write(const char *path, const VolumeI16 *ct, const VolumeU8 *mask,
                                double level_hu, double width_hu, Err *err);

typedef struct QaVolume {
    const VolumeI16 *volume;
    bool is_ct; /* HU; else an MR, whose window is found in its histogram */
} QaVolume;

/* scratch is given back. */
MUST_CHECK Status qa_register_write(const char *path, QaVolume fixed, QaVolume moving,
                                    Affine moving_from_fixed, Arena *scratch, Err *err);

#endif
