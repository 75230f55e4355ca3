/* 16-bit floating-point numbers as stored in model files, widened to float32 without rounding.
**
** F16 is IEEE 754 binary16 (1 sign, 5 exponent, 10 fraction bits), BF16 the upper half of a
** float32. Both are subsets of float32, so every conversion is exact. Thread: pure functions. */
#ifndef CT2MR_GPU_HALF_H
#define CT2MR_GPU_HALF_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

float f32_from_f16(uint16_t bits);
float f32_from_bf16(uint16_t bits);

#ifdef __cplusplus
}
#endif
#endif
