/* See ref_span.h. */
#include "gpu/ref_span.h"

Span span_inside(int32_t n_out, int32_t n_in, int32_t stride, int32_t shift)
{
    Span span = {0, n_out};
    while (span.begin < n_out && span.begin * stride + shift < 0)
        span.begin++;
    while (span.end > span.begin && (span.end - 1) * stride + shift >= n_in)
        span.end--;
    return span;
}
