/* The QA picture of a job: three orthogonal planes through the head's centre (axial, coronal,
** sagittal as a radiologist expects them: patient's right on the viewer's left, head up), rows: CT
** with the mask's contour, synthetic MR, checkerboard of both. No text of the patient. PNG.
** Thread: any. */
#ifndef CT2MR_PIPELINE_QA_PICTURE_H
#define CT2MR_PIPELINE_QA_PICTURE_H

#include "base/affine.h"
#include "base/arena.h"
#include "base/err.h"

/* ct in HU; mask and mr (0..1) on the same grid; mr and mask may be NULL (rows left out).
** level/width: CT window. Errors: IO, DISK_FULL. */
MUST_CHECK Status qa_picture_write(const char *path, const VolumeI16 *ct, const VolumeU8 *mask,
                                   const VolumeF32 *mr, double level_hu, double width_hu,
                                   Arena *scratch, Err *err);

#endif
