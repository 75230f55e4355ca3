/* See golden.h: whole-number arithmetic but for the scale. */
#include "gpu/golden.h"

void golden_slice(int32_t height, int32_t width, float *ret)
{
    uint32_t seed = 1;
    for (int32_t c = 0; c < 3; c++)
        for (int32_t y = 0; y < height; y++)
            for (int32_t x = 0; x < width; x++) {
                seed = seed * 1664525u + 1013904223u; /* Numerical Recipes, "quick and dirty" */
                int32_t dx = 2 * x - width, dy = y - height / 2;
                int32_t noise = (int32_t)(seed >> 24) - 128;
                int32_t head = dx * dx + dy * dy < 1600 ? 200 + 4 * c : -400;
                *ret++ = (float)(head + noise) / 200.0f;
            }
}
