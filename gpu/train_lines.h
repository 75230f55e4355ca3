/* Private to the loops of the CPU training engine: lines of a value as float32, whatever it is
** stored in. */
#ifndef CT2MR_GPU_TRAIN_LINES_H
#define CT2MR_GPU_TRAIN_LINES_H

#include "gpu/train_loops.h"

/* Lines of part `part` of n * h lines: from begin to end. */
typedef struct LineRange {
    size_t begin, end;
} LineRange;
LineRange line_range(const Loop *loop, const Tensor4 *t, int32_t part);

static inline size_t line_length(const Tensor4 *t)
{
    return (size_t)t->w * (size_t)t->c;
}

/* Buffer i of a part. */
float *line_buffer(const Loop *loop, int32_t part, int i);
/* The line, in place if it is float32, else in the buffer. */
const float *line_load(const Tensor4 *t, size_t line, float *buffer);
/* Where to write the line; line_done() with what it gave ends it. */
float *line_begin(const Tensor4 *t, size_t line, float *buffer);
void line_done(const Tensor4 *t, size_t line, const float *written);
/* The gradient of y in a line: the sum of the parts, gated by y where there is a ReLU. Takes
** buffers 0, 1 and 2. */
const float *line_gradient(const Loop *loop, int32_t part, size_t line);
/* to[2 p], to[2 p + 1] = from[p]; w pixels of c channels. */
void line_double(const float *from, size_t w, size_t c, float *to);
/* to[p] (+)= from[2 p] + from[2 p + 1]; w pixels of `to`, pixels of `from` are stride apart. */
void line_halve(const float *from, size_t stride, size_t w, size_t c, bool add, float *to);

#endif
