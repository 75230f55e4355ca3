/* Private to gpu/augment*.c: what was drawn, and the two halves of doing it. */
#ifndef CT2MR_GPU_AUGMENT_INT_H
#define CT2MR_GPU_AUGMENT_INT_H

#include "gpu/augment.h"

/* Knots of the elastic field along a side: 6 intervals and what a cubic B-spline needs beyond. */
enum { ELASTIC_INTERVALS = 6, ELASTIC_KNOTS = ELASTIC_INTERVALS + 3 };

struct AugmentWork {
    int32_t pixels;
    int16_t *hu;
    uint8_t *mask;
    float *mr, *value; /* value: HU while they are worked on */
    float *spare, *noise;
};

typedef struct AugmentMove { /* in pixels and slices */
    double m[2][2], shift[2], tilt[2];
    int thickness; /* slices averaged */
    bool is_elastic;
    double knots[2][ELASTIC_KNOTS * ELASTIC_KNOTS];
} AugmentMove;

/* Fills value, mask and mr. augment_sample.c */
void augment_sample(AugmentWork *work, const Pack *pack, const PackCase *c, int32_t slice,
                    const AugmentMove *move);
/* On value. augment_hu.c */
void augment_contrast(AugmentWork *work, Random random);
void augment_blur(AugmentWork *work, Random random);
void augment_noise(AugmentWork *work, Random random);

#endif
