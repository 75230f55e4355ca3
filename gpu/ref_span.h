/* Where a tap of a kernel lies inside its input; for the readable backends. Thread: pure. */
#ifndef CT2MR_GPU_REF_SPAN_H
#define CT2MR_GPU_REF_SPAN_H

#include <stdint.h>

typedef struct Span {
    int32_t begin, end; /* positions begin .. end - 1 */
} Span;

/* Output positions o in 0..n_out-1 whose input position o * stride + shift is in 0..n_in-1. */
Span span_inside(int32_t n_out, int32_t n_in, int32_t stride, int32_t shift);

#endif
