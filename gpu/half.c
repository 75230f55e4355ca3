/* 16-bit floating-point numbers by their bit fields. See half.h. */
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

uint16_t f16_from_f32(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) /* not a number */
        return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) /* 65520 and more round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude >= 0x38800000u) { /* normal: at least 2^-14 */
        uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
        return (uint16_t)(sign | (rounded - ((127u - 15u) << 23)) >> 13);
    }
    if (magnitude < 0x33000000u) /* below half of the smallest subnormal */
        return (uint16_t)sign;
    /* subnormal: the fraction with its leading 1, shifted to units of 2^-24 */
    uint32_t exponent = magnitude >> 23, fraction = (magnitude & 0x7fffffu) | 0x800000u;
    uint32_t shift = 126u - exponent, half = 1u << (shift - 1),
             rest = fraction & ((1u << shift) - 1);
    uint32_t units = fraction >> shift;
    if (rest > half || (rest == half && (units & 1u) != 0))
        units++;
    return (uint16_t)(sign | units);
}
