/* Changes of the Hounsfield units alone (augment_int.h). */
#include "gpu/augment_int.h"

#include <math.h>
#include <string.h>

enum { BLUR_RADIUS = 3 };

void augment_contrast(AugmentWork *work, Random random)
{
    const int32_t n = work->pixels * work->pixels;
    float factor = (float)random_between(&random, 0.97, 1.03);
    float shift = (float)(3 * random_normal(&random));
    for (int32_t i = 0; i < n; i++)
        work->value[i] = work->value[i] * factor + shift;
}

/* Along rows from `in`, turned on the way out: twice gives both directions. Edge pixels repeat. */
static void filter_turned(const float *in, int32_t pixels, const float *taps, int radius,
                          float *ret)
{
    for (int32_t y = 0; y < pixels; y++) {
        const float *row = in + (int64_t)y * pixels;
        for (int32_t x = 0; x < pixels; x++) {
            float sum = 0;
            for (int k = -radius; k <= radius; k++) {
                int32_t at = x + k < 0 ? 0 : x + k >= pixels ? pixels - 1 : x + k;
                sum += taps[k + radius] * row[at];
            }
            ret[(int64_t)x * pixels + y] = sum;
        }
    }
}

void augment_blur(AugmentWork *work, Random random)
{
    float taps[2 * BLUR_RADIUS + 1], sum = 0;
    bool is_used = random_below(&random, 2) != 0;
    double sigma = random_between(&random, 0.3, 1);
    if (!is_used)
        return;
    for (int k = -BLUR_RADIUS; k <= BLUR_RADIUS; k++) {
        taps[k + BLUR_RADIUS] = (float)exp(-k * k / (2 * sigma * sigma));
        sum += taps[k + BLUR_RADIUS];
    }
    for (int k = 0; k <= 2 * BLUR_RADIUS; k++)
        taps[k] /= sum;
    filter_turned(work->value, work->pixels, taps, BLUR_RADIUS, work->spare);
    filter_turned(work->spare, work->pixels, taps, BLUR_RADIUS, work->value);
}

/* Nearly normal, variance 1: the sum of four uniform numbers of 16 bits each. */
static float quick_normal(Random *random)
{
    uint64_t bits = random_bits(random);
    float sum = (float)(bits & 0xffff) + (float)(bits >> 16 & 0xffff) +
                (float)(bits >> 32 & 0xffff) + (float)(bits >> 48);
    return (sum - 2 * 65535.0f) * (1.7320508f / 65536.0f);
}

void augment_noise(AugmentWork *work, Random random)
{
    /* 1 2 1 in both directions, scaled so that the variance stays 1: 6 / 16 per direction */
    static const float TAPS[3] = {0.40824829f, 0.81649658f, 0.40824829f};
    const int32_t n = work->pixels * work->pixels;
    float deviation = (float)random_between(&random, 0, 15);
    bool is_correlated = random_below(&random, 2) != 0;
    float *noise = work->spare;
    for (int32_t i = 0; i < n; i++)
        noise[i] = deviation * quick_normal(&random);
    if (is_correlated) {

        filter_turned(noise, work->pixels, TAPS, 1, work->noise);
        filter_turned(work->noise, work->pixels, TAPS, 1, noise);
    }
    for (int32_t i = 0; i < n; i++)
        work->value[i] += noise[i];
}
