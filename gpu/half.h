/* 16-bit floating-point numbers of model files and backends.
**
** F16 is IEEE 754 binary16 (1 sign, 5 exponent, 10 fraction bits), BF16 the upper half of a
** float32. Both are subsets of float32, so widening is exact. Thread: pure functions. */
#ifndef CT2MR_GPU_HALF_H
#define CT2MR_GPU_HALF_H

#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

float f32_from_f16(uint16_t bits);
/* To the nearest, ties to even; beyond 65519.99 infinity; a NaN stays one. */
uint16_t f16_from_f32(float value);

static inline float f32_from_bf16(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* To the nearest, ties to even; the argument is finite and rounds to a finite number. */
static inline uint16_t bf16_from_f32(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

#ifdef __cplusplus
}
#endif
#endif
