/* The head of one output channel: taps, made by a 1x1 convolution, are added up at shifted places.
** x is (n, h, w, kernel * kernel), of half y's size if it is doubled; y is (n, H, W, 1) of float32.
** See train_loops.h. */
#include "gpu/train_lines.h"

#include <string.h>

enum { BUFFER_X = 3, BUFFER_OUT = 4 };

/* y[ox] += x[(ox + kx - pad) >> shift][tap] for one row of taps (ky) and all kx. */
static void add_taps(const Loop *loop, const float *x, int32_t ky, float *y)
{
    int32_t k = loop->kernel, w = loop->y.w, shift = loop->doubles ? 1 : 0;
    for (int32_t kx = 0; kx < k; kx++) {
        int32_t move = kx - k / 2;
        int32_t begin = move < 0 ? -move : 0, end = move > 0 ? w - move : w;
        const float *tap = x + ky * k + kx;
        for (int32_t ox = begin; ox < end; ox++)
            y[ox] += tap[((ox + move) >> shift) * k * k];
    }
}

static void taps_part(void *context, int32_t part)
{
    const Loop *loop = context;
    const LineRange range = line_range(loop, &loop->y, part);
    int32_t h = loop->y.h, shift = loop->doubles ? 1 : 0;
    for (size_t line = range.begin; line < range.end; line++) {
        size_t slice = line / (size_t)h;
        int32_t oy = (int32_t)(line % (size_t)h);
        float *y = line_begin(&loop->y, line, NULL);
        for (int32_t ox = 0; ox < loop->y.w; ox++)
            y[ox] = loop->bias != NULL ? loop->bias[0] : 0;
        for (int32_t ky = 0; ky < loop->kernel; ky++) {
            int32_t at = oy + ky - loop->kernel / 2;
            if (at < 0 || at >= h)
                continue;
            size_t from = slice * (size_t)loop->x.h + (size_t)(at >> shift);
            add_taps(loop, line_load(&loop->x, from, line_buffer(loop, part, BUFFER_X)), ky, y);
        }
    }
}

void loop_taps(Loop *loop)
{
    ASSERT(!loop->y.bf16);
    dnnl_team_run(loop->team, taps_part, loop);
}

/* dx[(ox + kx - pad) >> shift][tap] += dy[ox] for one row of taps (ky) and all kx. */
static void spread_taps(const Loop *loop, const float *dy, int32_t ky, float *dx)
{
    int32_t k = loop->kernel, w = loop->y.w, shift = loop->doubles ? 1 : 0;
    for (int32_t kx = 0; kx < k; kx++) {
        int32_t move = kx - k / 2;
        int32_t begin = move < 0 ? -move : 0, end = move > 0 ? w - move : w;
        float *tap = dx + ky * k + kx;
        for (int32_t ox = begin; ox < end; ox++)
            tap[((ox + move) >> shift) * k * k] += dy[ox];
    }
}

static void taps_back_part(void *context, int32_t part)
{
    const Loop *loop = context;
    const Tensor4 *dy = &loop->parts[0];
    const LineRange range = line_range(loop, &loop->dx, part);
    int32_t copies = loop->doubles ? 2 : 1;
    for (size_t line = range.begin; line < range.end; line++) {
        size_t slice = line / (size_t)loop->dx.h;
        int32_t iy = copies * (int32_t)(line % (size_t)loop->dx.h);
        float *dx = line_begin(&loop->dx, line, line_buffer(loop, part, BUFFER_OUT));
        memset(dx, 0, line_length(&loop->dx) * sizeof *dx);
        for (int32_t copy = 0; copy < copies; copy++)
            for (int32_t ky = 0; ky < loop->kernel; ky++) {
                int32_t oy = iy + copy - ky + loop->kernel / 2;
                if (oy >= 0 && oy < dy->h)
                    spread_taps(loop, line_load(dy, slice * (size_t)dy->h + (size_t)oy, NULL), ky,
                                dx);
            }
        line_done(&loop->dx, line, dx);
    }
}

void loop_taps_back(Loop *loop)
{
    const Tensor4 *dy = &loop->parts[0];
    ASSERT(!dy->bf16);
    dnnl_team_run(loop->team, taps_back_part, loop);
    if (loop->dbias == NULL)
        return;
    double sum = 0;
    for (size_t line = 0; line < (size_t)loop->n * (size_t)dy->h; line++) {
        const float *row = line_load(dy, line, NULL);
        for (int32_t ox = 0; ox < dy->w; ox++)
            sum += (double)row[ox];
    }
    loop->dbias[0] = (float)sum;
}
