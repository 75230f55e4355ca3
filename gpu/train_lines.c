/* See train_lines.h. */
#include "gpu/train_lines.h"

#include "base/hot.h"
#include "gpu/half.h"

#include <string.h>

LineRange line_range(const Loop *loop, const Tensor4 *t, int32_t part)
{
    size_t lines = (size_t)loop->n * (size_t)t->h, parts = (size_t)loop->team->threads;
    return (LineRange){lines * (size_t)part / parts, lines * ((size_t)part + 1) / parts};
}

float *line_buffer(const Loop *loop, int32_t part, int i)
{
    const LoopMemory *m = &loop->memory[part];
    return m->lines + (size_t)i * m->line_length;
}

HOT_CLONES static void widen(const uint16_t *restrict from, size_t n, float *restrict to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = f32_from_bf16(from[i]);
}

HOT_CLONES static void narrow(const float *restrict from, size_t n, uint16_t *restrict to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = bf16_from_f32(from[i]);
}

const float *line_load(const Tensor4 *t, size_t line, float *buffer)
{
    size_t at = line * line_length(t);
    if (!t->bf16)
        return (const float *)t->data + at;
    widen((const uint16_t *)t->data + at, line_length(t), buffer);
    return buffer;
}

float *line_begin(const Tensor4 *t, size_t line, float *buffer)
{
    return t->bf16 ? buffer : (float *)t->data + line * line_length(t);
}

void line_done(const Tensor4 *t, size_t line, const float *written)
{
    if (t->bf16)
        narrow(written, line_length(t), (uint16_t *)t->data + line * line_length(t));
}

HOT_CLONES static void add_to(float *restrict sum, const float *restrict more, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum[i] += more[i];
}

HOT_CLONES static void gate(const float *restrict g, const float *restrict y, size_t n,
                            float *restrict to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = y[i] > 0 ? g[i] : 0;
}

const float *line_gradient(const Loop *loop, int32_t part, size_t line)
{
    float *sum = line_buffer(loop, part, 0), *buffer = line_buffer(loop, part, 1);
    size_t n = line_length(&loop->y);
    const float *g = line_load(&loop->parts[0], line, sum);
    if (loop->n_parts > 1 && g != sum)
        memcpy(sum, g, n * sizeof *sum);
    for (int32_t k = 1; k < loop->n_parts; k++)
        add_to(sum, line_load(&loop->parts[k], line, buffer), n);
    if (loop->n_parts > 1)
        g = sum;
    if (!loop->relu)
        return g;
    gate(g, line_load(&loop->y, line, line_buffer(loop, part, 2)), n, buffer);
    return buffer;
}

HOT_CLONES void line_double(const float *restrict from, size_t w, size_t c, float *restrict to)
{
    for (size_t p = 0; p < w; p++)
        for (size_t k = 0; k < c; k++)
            to[2 * p * c + k] = to[(2 * p + 1) * c + k] = from[p * c + k];
}

HOT_CLONES void line_halve(const float *restrict from, size_t stride, size_t w, size_t c, bool add,
                           float *restrict to)
{
    for (size_t p = 0; p < w; p++) {
        const float *a = from + 2 * p * stride, *b = a + stride;
        float *sum = to + p * c;
        if (add)
            for (size_t k = 0; k < c; k++)
                sum[k] += a[k] + b[k];
        else
            for (size_t k = 0; k < c; k++)
                sum[k] = a[k] + b[k];
    }
}
