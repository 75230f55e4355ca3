/* The pictures of an evaluation. Slices are shown with columns to the patient's left and rows to
** the back. Each canvas is closed by the caller. Thread: any. */
#ifndef CT2MR_PIPELINE_EVAL_PICTURES_H
#define CT2MR_PIPELINE_EVAL_PICTURES_H

#include "gpu/features.h"
#include "gpu/pack_file.h"
#include "pipeline/canvas.h"

/* The grey levels that a difference of full colour stands for. */
enum { EVAL_DIFFERENCE_GREY = 64 };

/* Two rows of CT, real MR, synthetic MR, difference (synthetic - real): the slice, and the square
** marked in it four times as large. synthetic: [pixels][pixels] as in the packed file. */
MUST_CHECK Status eval_picture_slice(const Pack *pack, int32_t slice, const uint8_t *synthetic,
                                     Canvas *ret, Err *err);
/* Intensities along the marked line: the real MR black, the synthetic one red, grey level 0 at the
** bottom, 255 on top. */
MUST_CHECK Status eval_picture_profile(const Pack *pack, int32_t slice, const uint8_t *synthetic,
                                       Canvas *ret, Err *err);
/* The filters in colour, each scaled by its own largest weight, 0 is grey. */
MUST_CHECK Status eval_picture_filters(const FirstLayer *layer, Canvas *ret, Err *err);
/* The feature maps, each scaled by its own largest value. axes: as in PackInfo. */
MUST_CHECK Status eval_picture_maps(const FirstLayer *layer, const char axes[3], Canvas *ret,
                                    Err *err);

#endif
