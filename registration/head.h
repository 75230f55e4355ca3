/* Where the head is in an image: the largest piece above a threshold, after thin things (table,
** head rest, mask straps) have been cut off, down to HEAD_HEIGHT_MM below its top.
** Thread: any. */
#ifndef CT2MR_REGISTRATION_HEAD_H
#define CT2MR_REGISTRATION_HEAD_H

#include "base/affine.h"
#include "base/arena.h"
#include "base/err.h"

/* NONE: air, table and what else is no head; NEAR: within two voxels of the head; BELOW: under the
** cut, whatever it is. */
enum { HEAD_NONE = 0, HEAD_NEAR, HEAD_INSIDE, HEAD_BELOW };
#define HEAD_HEIGHT_MM 170.0 /* about vertex to chin; below it is neck and shoulders */
#define HEAD_VOLUME_LEAST_ML 300.0

typedef struct Head {
    VolumeU8 where; /* HEAD_*, on the image's grid */
    Vec3 centroid_lps;
    double volume_ml;
} Head;

/* Otsu's threshold between background and head. */
float head_otsu(const VolumeF32 *image);
/* ret in arena. Errors: REG_OVERLAP (less than HEAD_VOLUME_LEAST_ML), LIMIT. */
MUST_CHECK Status head_find(const VolumeF32 *image, float threshold, Arena *arena, Head *ret,
                            Err *err);

#endif
