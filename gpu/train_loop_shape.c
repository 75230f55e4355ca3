/* Loops that move or add values: everything but convolution and batch norm. See train_loops.h. */
#include "gpu/train_lines.h"

#include "base/hot.h"

#include <math.h>
#include <string.h>

enum { BUFFER_X = 3, BUFFER_OUT = 4, BUFFER_MORE = 5 };

static size_t bytes_of(const Tensor4 *t)
{
    return t->bf16 ? sizeof(uint16_t) : sizeof(float);
}

static unsigned char *raw_line(const Tensor4 *t, size_t line)
{
    return (unsigned char *)t->data + line * line_length(t) * bytes_of(t);
}

/* ---- sum and ReLU -------------------------------------------------------------------------- */

HOT_CLONES static void point_line(const float *restrict x, const float *restrict x2, size_t n,
                                  float floor, float *restrict y)
{
    for (size_t i = 0; i < n; i++) {
        float v = x2 != NULL ? x[i] + x2[i] : x[i];
        y[i] = v < floor ? floor : v;
    }
}

static void point_part(void *context, int32_t part)
{
    const Loop *loop = context;
    const LineRange range = line_range(loop, &loop->y, part);
    for (size_t line = range.begin; line < range.end; line++) {
        const float *x = line_load(&loop->x, line, line_buffer(loop, part, BUFFER_X));
        const float *x2 = loop->x2.data == NULL
                              ? NULL
                              : line_load(&loop->x2, line, line_buffer(loop, part, BUFFER_MORE));
        float *y = line_begin(&loop->y, line, line_buffer(loop, part, BUFFER_OUT));
        point_line(x, x2, line_length(&loop->y), loop->relu ? 0.0f : -INFINITY, y);
        line_done(&loop->y, line, y);
    }
}

void loop_point(Loop *loop)
{
    dnnl_team_run(loop->team, point_part, loop);
}

static void store(const Tensor4 *t, size_t line, const float *values)
{
    if (t->data == NULL)
        return;
    float *to = line_begin(t, line, NULL);
    if (to != NULL && to != values) /* float32 */
        memcpy(to, values, line_length(t) * sizeof *values);
    line_done(t, line, values);
}

static void point_back_part(void *context, int32_t part)
{
    const Loop *loop = context;
    const LineRange range = line_range(loop, &loop->y, part);
    for (size_t line = range.begin; line < range.end; line++) {
        const float *d = line_gradient(loop, part, line);
        store(&loop->dx, line, d);
        store(&loop->dx2, line, d);
    }
}

void loop_point_back(Loop *loop)
{
    dnnl_team_run(loop->team, point_back_part, loop);
}

static void add_parts_part(void *context, int32_t part)
{
    const Loop *loop = context;
    const LineRange range = line_range(loop, &loop->parts[0], part);
    for (size_t line = range.begin; line < range.end; line++)
        store(&loop->parts[0], line, line_gradient(loop, part, line));
}

void loop_add_parts(Loop *loop)
{
    Loop sum = *loop;
    sum.y = loop->parts[0];
    sum.relu = false;
    dnnl_team_run(loop->team, add_parts_part, &sum);
}

/* ---- max pool ------------------------------------------------------------------------------ */

static int32_t pad(const Loop *loop)
{
    return (loop->kernel - 1) / 2;
}

/* y = the larger of y and x, and where it is from; the first of equals. */
HOT_CLONES static void take_larger(const float *restrict x, size_t c, uint8_t from,
                                   float *restrict y, uint8_t *restrict largest)
{
    for (size_t k = 0; k < c; k++) {
        bool larger = x[k] > y[k];
        y[k] = larger ? x[k] : y[k];
        largest[k] = larger ? from : largest[k];
    }
}

static void pool_line(const Loop *loop, int32_t part, size_t line)
{
    int32_t h = loop->x.h, w = loop->x.w, k = loop->kernel;
    size_t c = (size_t)loop->x.c, slice = line / (size_t)loop->y.h;
    int32_t top = 2 * (int32_t)(line % (size_t)loop->y.h) - pad(loop);
    const float *rows[3] = {NULL, NULL, NULL};
    for (int32_t ky = 0; ky < k; ky++)
        if (top + ky >= 0 && top + ky < h)
            rows[ky] = line_load(&loop->x, slice * (size_t)h + (size_t)(top + ky),
                                 line_buffer(loop, part, ky));
    float *y = line_begin(&loop->y, line, line_buffer(loop, part, BUFFER_OUT)), *begin = y;
    uint8_t *largest = loop->largest + line * line_length(&loop->y);
    for (int32_t ox = 0; ox < loop->y.w; ox++, y += c, largest += c) {
        for (size_t i = 0; i < c; i++)
            y[i] = -INFINITY;
        for (int32_t at = 0; at < k * k; at++) {
            int32_t ix = 2 * ox - pad(loop) + at % k;
            if (rows[at / k] != NULL && ix >= 0 && ix < w)
                take_larger(rows[at / k] + (size_t)ix * c, c, (uint8_t)at, y, largest);
        }
    }
    line_done(&loop->y, line, begin);
}

static void pool_part(void *context, int32_t part)
{
    const Loop *loop = context;
    const LineRange range = line_range(loop, &loop->y, part);
    ASSERT(loop->kernel <= 3);
    for (size_t line = range.begin; line < range.end; line++)
        pool_line(loop, part, line);
}

void loop_pool(Loop *loop)
{
    dnnl_team_run(loop->team, pool_part, loop);
}

HOT_CLONES static void add_where(const float *restrict dy, const uint8_t *restrict largest,
                                 size_t c, uint8_t from, float *restrict dx)
{
    for (size_t k = 0; k < c; k++)
        dx[k] += largest[k] == from ? dy[k] : 0;
}

/* A line of dx gathers from the windows that hold it. */
static void pool_back_line(const Loop *loop, int32_t part, size_t line)
{
    int32_t k = loop->kernel, iy = (int32_t)(line % (size_t)loop->dx.h);
    size_t c = (size_t)loop->dx.c, slice = line / (size_t)loop->dx.h;
    float *dx = line_begin(&loop->dx, line, line_buffer(loop, part, BUFFER_OUT));
    memset(dx, 0, line_length(&loop->dx) * sizeof *dx);
    for (int32_t ky = 0; ky < k; ky++) {
        int32_t oy = (iy + pad(loop) - ky) / 2;
        if ((iy + pad(loop) - ky) % 2 != 0 || iy + pad(loop) < ky || oy >= loop->y.h)
            continue;
        size_t from = slice * (size_t)loop->y.h + (size_t)oy;
        const float *dy = line_load(&loop->parts[0], from, line_buffer(loop, part, 0));
        const uint8_t *largest = loop->largest + from * line_length(&loop->y);
        for (int32_t ox = 0; ox < loop->y.w; ox++, dy += c, largest += c)
            for (int32_t kx = 0; kx < k; kx++) {
                int32_t ix = 2 * ox - pad(loop) + kx;
                if (ix >= 0 && ix < loop->dx.w)
                    add_where(dy, largest, c, (uint8_t)(ky * k + kx), dx + (size_t)ix * c);
            }
    }
    line_done(&loop->dx, line, dx);
}

static void pool_back_part(void *context, int32_t part)
{
    const Loop *loop = context;
    const LineRange range = line_range(loop, &loop->dx, part);
    for (size_t line = range.begin; line < range.end; line++)
        pool_back_line(loop, part, line);
}

void loop_pool_back(Loop *loop)
{
    dnnl_team_run(loop->team, pool_back_part, loop);
}

/* ---- nearest x2 and concatenation ---------------------------------------------------------- */

/* Channels of x, doubled if y is larger, to channels `at`.. of a line of y. */
static void copy_channels(const Tensor4 *x, const Tensor4 *y, size_t line, size_t at)
{
    size_t grow = (size_t)(y->h / x->h), h = (size_t)y->h;
    size_t bytes = (size_t)x->c * bytes_of(x), step = (size_t)y->c * bytes_of(y);
    const unsigned char *from = raw_line(x, line / h * (size_t)x->h + line % h / grow);
    unsigned char *to = raw_line(y, line) + at * bytes_of(y);
    for (size_t p = 0; p < (size_t)y->w; p++, to += step)
        memcpy(to, from + p / grow * bytes, bytes);
}

static void concat_part(void *context, int32_t part)
{
    const Loop *loop = context;
    const LineRange range = line_range(loop, &loop->y, part);
    for (size_t line = range.begin; line < range.end; line++) {
        copy_channels(&loop->x, &loop->y, line, 0);
        if (loop->x2.data != NULL)
            copy_channels(&loop->x2, &loop->y, line, (size_t)loop->x.c);
    }
}

void loop_up2(Loop *loop)
{
    dnnl_team_run(loop->team, concat_part, loop);
}

void loop_concat(Loop *loop)
{
    dnnl_team_run(loop->team, concat_part, loop);
}

/* A line of dx = channels `at`.. of the gradient, four pixels summed where x was doubled. */
static void gather_channels(const Loop *loop, int32_t part, const Tensor4 *dx, size_t line,
                            size_t at)
{
    const Tensor4 *dy = &loop->parts[0];
    size_t grow = (size_t)(dy->h / dx->h), h = (size_t)dx->h, c = (size_t)dx->c;
    float *to = line_begin(dx, line, line_buffer(loop, part, BUFFER_OUT));
    for (size_t k = 0; k < grow; k++) {
        size_t from = line / h * (size_t)dy->h + line % h * grow + k;
        const float *d = line_load(dy, from, line_buffer(loop, part, 0)) + at;
        if (grow == 2)
            line_halve(d, (size_t)dy->c, (size_t)dx->w, c, k == 1, to);
        else
            for (size_t p = 0; p < (size_t)dx->w; p++)
                memcpy(to + p * c, d + p * (size_t)dy->c, c * sizeof *to);
    }
    line_done(dx, line, to);
}

static void first_back_part(void *context, int32_t part)
{
    const Loop *loop = context;
    const LineRange range = line_range(loop, &loop->dx, part);
    for (size_t line = range.begin; line < range.end; line++)
        gather_channels(loop, part, &loop->dx, line, 0);
}

static void second_back_part(void *context, int32_t part)
{
    const Loop *loop = context;
    const LineRange range = line_range(loop, &loop->dx2, part);
    for (size_t line = range.begin; line < range.end; line++)
        gather_channels(loop, part, &loop->dx2, line, (size_t)loop->dx.c);
}

void loop_up2_back(Loop *loop)
{
    dnnl_team_run(loop->team, first_back_part, loop);
}

void loop_concat_back(Loop *loop)
{
    dnnl_team_run(loop->team, first_back_part, loop);
    dnnl_team_run(loop->team, second_back_part, loop);
}

/* ---- plain memory -------------------------------------------------------------------------- */

typedef struct Plain {
    const Loop *loop;
    const float *from;
    float *to;
} Plain;

static void interleave_part(void *context, int32_t part)
{
    const Plain *plain = context;
    const Tensor4 *x = &plain->loop->x;
    const LineRange range = line_range(plain->loop, x, part);
    size_t c = (size_t)x->c, w = (size_t)x->w, h = (size_t)x->h;
    for (size_t line = range.begin; line < range.end; line++) {
        float *to = line_begin(x, line, line_buffer(plain->loop, part, BUFFER_OUT));
        for (size_t k = 0; k < c; k++) {
            const float *from = plain->from + ((line / h * c + k) * h + line % h) * w;
            for (size_t p = 0; p < w; p++)
                to[p * c + k] = from[p];
        }
        line_done(x, line, to);
    }
}

static void separate_part(void *context, int32_t part)
{
    const Plain *plain = context;
    const Tensor4 *x = &plain->loop->x;
    const LineRange range = line_range(plain->loop, x, part);
    size_t c = (size_t)x->c, w = (size_t)x->w, h = (size_t)x->h;
    for (size_t line = range.begin; line < range.end; line++) {
        const float *from = line_load(x, line, line_buffer(plain->loop, part, BUFFER_X));
        for (size_t k = 0; k < c; k++) {
            float *to = plain->to + ((line / h * c + k) * h + line % h) * w;
            for (size_t p = 0; p < w; p++)
                to[p] = from[p * c + k];
        }
    }
}

void loop_interleave(Loop *loop, const float *plain)
{
    Plain context = {loop, plain, NULL};
    dnnl_team_run(loop->team, interleave_part, &context);
}

void loop_separate(Loop *loop, float *ret_plain)
{
    Plain context = {loop, NULL, ret_plain};
    dnnl_team_run(loop->team, separate_part, &context);
}
