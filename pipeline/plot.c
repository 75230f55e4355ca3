/* See plot.h. */
#include "pipeline/plot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 900, PANEL = 300, LEFT = 90, RIGHT = 20, TOP = 34, BOTTOM = 44, LABEL_SIZE = 24 };

static const Colour BLACK = {0, 0, 0}, GREY = {225, 225, 225};

typedef struct Axis {
    double low, high, step; /* ticks at multiples of step */
    int decimals;
} Axis;

typedef struct Frame { /* a panel's plot area in pixels, y downwards */
    int32_t left, top, right, bottom;
    Axis x, y;
} Frame;

static int32_t text_width(const char *text)
{
    return (int32_t)strlen(text) * CANVAS_TEXT_STEP;
}

/* Steps of 1, 2 or 5 times a power of ten, about n of them. */
static Axis make_axis(double low, double high, int n, bool is_whole)
{
    if (!(high > low)) {
        double pad = fabs(low) > 0 ? 0.1 * fabs(low) : 1;
        low -= is_whole ? 0 : pad;
        high = low + 2 * pad;
    }
    double raw = (high - low) / n, power = pow(10, floor(log10(raw))), f = raw / power;
    Axis axis = {.low = low,
                 .high = high,
                 .step = (f < 1.5   ? 1
                          : f < 3.5 ? 2
                          : f < 7.5 ? 5
                                    : 10) *
                         power};
    if (is_whole && axis.step < 1)
        axis.step = 1;
    axis.decimals = axis.step >= 1 ? 0 : (int)ceil(-log10(axis.step) - 1e-9);
    return axis;
}

static void make_axes(const PlotPanel *panel, Frame *frame)
{
    double low[2] = {HUGE_VAL, HUGE_VAL}, high[2] = {-HUGE_VAL, -HUGE_VAL};
    for (int l = 0; l < panel->n_lines; l++)
        for (int32_t i = 0; i < panel->lines[l].n; i++) {
            const double v[2] = {panel->lines[l].x[i], panel->lines[l].y[i]};
            if (!isfinite(v[0]) || !isfinite(v[1]))
                continue;
            for (int a = 0; a < 2; a++) {
                low[a] = fmin(low[a], v[a]);
                high[a] = fmax(high[a], v[a]);
            }
        }
    if (!(low[0] <= high[0])) {
        low[0] = low[1] = 0;
        high[0] = high[1] = 1;
    }
    double pad = 0.05 * (high[1] - low[1]);
    frame->x = make_axis(low[0], high[0], 8, true);
    frame->y = make_axis(low[1] - pad, high[1] + pad, 5, false);
}

static double x_of(const Frame *f, double v)
{
    return f->left + (v - f->x.low) / (f->x.high - f->x.low) * (f->right - f->left);
}

static double y_of(const Frame *f, double v)
{
    return f->bottom - (v - f->y.low) / (f->y.high - f->y.low) * (f->bottom - f->top);
}

static void draw_ticks(Canvas *c, const Frame *f)
{
    char label[LABEL_SIZE];
    for (double k = ceil(f->y.low / f->y.step); k * f->y.step <= f->y.high; k++) {
        int32_t y = (int32_t)lround(y_of(f, k * f->y.step));
        for (int32_t x = f->left; x <= f->right; x++)
            canvas_set(c, x, y, GREY);
        (void)snprintf(label, sizeof label, "%.*f", f->y.decimals, k * f->y.step + 0.0);
        canvas_text(c, f->left - 8 - text_width(label), y - CANVAS_TEXT_HEIGHT / 2, label, BLACK);
    }
    for (double k = ceil(f->x.low / f->x.step); k * f->x.step <= f->x.high; k++) {
        int32_t x = (int32_t)lround(x_of(f, k * f->x.step));
        for (int32_t y = f->top; y <= f->bottom; y++)
            canvas_set(c, x, y, GREY);
        (void)snprintf(label, sizeof label, "%.*f", f->x.decimals, k * f->x.step + 0.0);
        canvas_text(c, x - text_width(label) / 2, f->bottom + 6, label, BLACK);
    }
}

static void draw_frame(Canvas *c, const Frame *f)
{
    for (int32_t x = f->left; x <= f->right; x++) {
        canvas_set(c, x, f->top, BLACK);
        canvas_set(c, x, f->bottom, BLACK);
    }
    for (int32_t y = f->top; y <= f->bottom; y++) {
        canvas_set(c, f->left, y, BLACK);
        canvas_set(c, f->right, y, BLACK);
    }
}

static void draw_curve(Canvas *c, const Frame *f, const PlotLine *line)
{
    double before[2] = {0, 0};
    bool has_before = false;
    for (int32_t i = 0; i < line->n; i++) {
        bool is_point = isfinite(line->x[i]) && isfinite(line->y[i]);
        if (is_point) {
            double x = x_of(f, line->x[i]), y = y_of(f, line->y[i]);
            canvas_line(c, has_before ? before[0] : x, has_before ? before[1] : y, x, y, 2,
                        line->colour);
            before[0] = x;
            before[1] = y;
        }
        has_before = is_point;
    }
}

static void draw_panel(Canvas *c, const PlotPanel *panel, int32_t top)
{
    Frame f = {
        .left = LEFT, .top = top + TOP, .right = WIDTH - RIGHT, .bottom = top + PANEL - BOTTOM};
    make_axes(panel, &f);
    draw_ticks(c, &f);
    draw_frame(c, &f);
    canvas_text(c, LEFT, top + 12, panel->title, BLACK);
    int32_t right = WIDTH - RIGHT;
    for (int l = panel->n_lines - 1; l >= 0; l--) {
        const PlotLine *line = &panel->lines[l];
        draw_curve(c, &f, line);
        right -= text_width(line->label) + 2 * CANVAS_TEXT_STEP;
        canvas_text(c, right, top + 12, line->label, line->colour);
    }
    canvas_text(c, (f.left + f.right - text_width(panel->x_label)) / 2, f.bottom + 24,
                panel->x_label, BLACK);
}

Status plot_write(const char *path, const PlotPanel *panels, int n, Err *err)
{
    Canvas canvas;
    TRY(canvas_open(WIDTH, n * PANEL, (Colour){255, 255, 255}, &canvas, err));
    for (int i = 0; i < n; i++)
        draw_panel(&canvas, &panels[i], i * PANEL);
    Status status = canvas_write(&canvas, path, err);
    canvas_close(&canvas);
    return status;
}
