/* From two volumes to what the metric looks at: pyramids, heads, and the fixed image's samples. */
#ifndef CT2MR_REGISTRATION_SAMPLES_INT_H
#define CT2MR_REGISTRATION_SAMPLES_INT_H

#include "registration/head.h"
#include "registration/metric.h"
#include "registration/pyramid.h"
#include "registration/register.h"

typedef struct Image {
    RegModality modality;
    Pyramid pyramid;
    Head head; /* on the 4 mm grid */
    int low, high;
    float threshold; /* brighter: head */
    float other;     /* brighter, outside the head: table, head rest */
} Image;

/* ret in arena. Errors: REG_OVERLAP (no head found), LIMIT. */
MUST_CHECK Status image_prepare(const VolumeI16 *volume, RegModality modality, int threads,
                                Arena *arena, Image *ret, Err *err);
/* Makes air of what is not head and not below it: a table of the moving image is not to be
** explained by the fixed one. */
void image_blank_others(Image *moving);
/* The fixed image's samples on one level of the pyramid, and the moving image of that level.
** Errors: REG_OVERLAP (moving too thin), LIMIT. */
MUST_CHECK Status samples_prepare(const Image *fixed, const Image *moving, int l, Arena *arena,
                                  MetricLevel *ret, Err *err);

#endif
