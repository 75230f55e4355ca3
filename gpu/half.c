/* Widening of 16-bit floating-point numbers by their bit fields. See half.h. */
#include "gpu/half.h"

#include <string.h>

static float f32_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float f32_from_f16(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
    uint32_t exponent = (uint32_t)bits >> 10 & 0x1fu, fraction = bits & 0x3ffu;
    if (exponent == 0x1f) /* infinity, or not a number with its payload */
        return f32_from_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent == 0) { /* zero or subnormal: fraction * 2^-24 is a normal float32 */
        float magnitude = (float)fraction * 0x1p-24f;
        return sign != 0 ? -magnitude : magnitude;
    }
    return f32_from_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13);
}
