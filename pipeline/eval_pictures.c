/* See eval_pictures.h. */
#include "pipeline/eval_pictures.h"

#include <math.h>
#include <stdlib.h>

enum { GAP = 4, ZOOM = 4, PANELS = 4 };
static const Colour GROUND = {96, 96, 96}, BOX = {255, 200, 0}, LINE = {0, 200, 255};

/* One slice as people see it: x and y of the picture, not of the file. */
typedef struct View {
    const Pack *pack;
    int32_t slice, side;
    const uint8_t *synthetic;
    bool flip_x, flip_y;
    double low_hu, width_hu;
    int32_t box_x, box_y, box; /* the square that is enlarged */
    int32_t line_y, line_from, line_to;
} View;

static size_t pixel_of(const View *v, int32_t x, int32_t y)
{
    int32_t column = v->flip_x ? v->side - 1 - x : x, row = v->flip_y ? v->side - 1 - y : y;
    return (size_t)row * (size_t)v->side + (size_t)column;
}

static int32_t clamp(int32_t x, int32_t low, int32_t high)
{
    return x < low ? low : x > high ? high : x;
}

static View view_of(const Pack *pack, int32_t slice, const uint8_t *synthetic)
{
    const PackInfo *info = pack_info(pack);
    View v = {.pack = pack,
              .slice = slice,
              .side = info->pixels,
              .synthetic = synthetic,
              .flip_x = info->axes[0] == 'R',
              .flip_y = info->axes[1] == 'A',
              .low_hu = info->window_level_hu - info->window_width_hu / 2,
              .width_hu = info->window_width_hu,
              .box = info->pixels / ZOOM};
    const uint8_t *mask = pack_mask(pack, slice);
    int64_t sum_x = 0, sum_y = 0, n = 0;
    for (int32_t y = 0; y < v.side; y++)
        for (int32_t x = 0; x < v.side; x++)
            if (mask[pixel_of(&v, x, y)] != 0) {
                sum_x += x;
                sum_y += y;
                n++;
            }
    int32_t cx = n > 0 ? (int32_t)(sum_x / n) : v.side / 2;
    int32_t cy = n > 0 ? (int32_t)(sum_y / n) : v.side / 2;
    v.box_x = clamp(cx - v.box / 2, 0, v.side - v.box);
    v.box_y = clamp(cy - v.box / 2, 0, v.side - v.box);
    v.line_y = cy;
    v.line_to = v.side - 1;
    while (v.line_from < v.line_to && mask[pixel_of(&v, v.line_from, cy)] == 0)
        v.line_from++;
    while (v.line_to > v.line_from && mask[pixel_of(&v, v.line_to, cy)] == 0)
        v.line_to--;
    return v;
}

static int grey_real(const View *v, size_t pixel)
{
    return (pack_mr(v->pack, v->slice)[pixel] * 255 + 32767) / 65535;
}

static Colour panel_colour(const View *v, int panel, size_t pixel)
{
    double norm;
    switch (panel) {
    case 0:
        norm = (pack_hu(v->pack, v->slice)[pixel] - v->low_hu) / v->width_hu;
        return colour_grey((uint8_t)lround(255 * fmin(fmax(norm, 0), 1)));
    case 1:
        return colour_grey((uint8_t)grey_real(v, pixel));
    case 2:
        return colour_grey(v->synthetic[pixel]);
    default:
        return colour_difference((double)(v->synthetic[pixel] - grey_real(v, pixel)) /
                                 EVAL_DIFFERENCE_GREY);
    }
}

Status eval_picture_slice(const Pack *pack, int32_t slice, const uint8_t *synthetic, Canvas *ret,
                          Err *err)
{
    View v = view_of(pack, slice, synthetic);
    TRY(canvas_open(PANELS * v.side + (PANELS - 1) * GAP, 2 * v.side + GAP, GROUND, ret, err));
    for (int panel = 0; panel < PANELS; panel++) {
        int32_t left = panel * (v.side + GAP), top = v.side + GAP;
        for (int32_t y = 0; y < v.side; y++)
            for (int32_t x = 0; x < v.side; x++) {
                canvas_set(ret, left + x, y, panel_colour(&v, panel, pixel_of(&v, x, y)));
                size_t near = pixel_of(&v, v.box_x + x / ZOOM, v.box_y + y / ZOOM);
                canvas_set(ret, left + x, top + y, panel_colour(&v, panel, near));
            }
        if (panel == 1) {
            canvas_frame(ret, left + v.box_x, v.box_y, v.box, v.box, BOX);
            canvas_line(ret, left, v.line_y, left + 8, v.line_y, 1, LINE);
            canvas_line(ret, left + v.side - 9, v.line_y, left + v.side - 1, v.line_y, 1, LINE);
        }
    }
    return ST_OK;
}

Status eval_picture_profile(const Pack *pack, int32_t slice, const uint8_t *synthetic, Canvas *ret,
                            Err *err)
{
    enum { WIDTH = 800, HEIGHT = 260, MARGIN = 8, SCALE_LINES = 4 };
    static const Colour white = {255, 255, 255}, light = {215, 215, 215}, black = {0, 0, 0},
                        red = {215, 25, 28};
    View v = view_of(pack, slice, synthetic);
    TRY(canvas_open(WIDTH, HEIGHT, white, ret, err));
    double low = HEIGHT - MARGIN, per_grey = (double)(HEIGHT - 2 * MARGIN) / 255;
    double per_pixel =
        (double)(WIDTH - 2 * MARGIN) / (v.line_to > v.line_from ? v.line_to - v.line_from : 1);
    for (int i = 0; i <= SCALE_LINES; i++) {
        double y = low - per_grey * 255 * i / SCALE_LINES;
        canvas_line(ret, 0, y, WIDTH, y, 1, light);
    }
    for (int32_t x = v.line_from; x < v.line_to; x++) {
        size_t a = pixel_of(&v, x, v.line_y), b = pixel_of(&v, x + 1, v.line_y);
        double from = MARGIN + per_pixel * (x - v.line_from), to = from + per_pixel;
        canvas_line(ret, from, low - per_grey * grey_real(&v, a), to,
                    low - per_grey * grey_real(&v, b), 2, black);
        canvas_line(ret, from, low - per_grey * synthetic[a], to, low - per_grey * synthetic[b], 2,
                    red);
    }
    return ST_OK;
}

/* ---- the first layer ------------------------------------------------------------------------- */

static int32_t columns_for(int32_t n)
{
    return n <= 8 ? n : n <= 64 ? 8 : 16;
}

Status eval_picture_filters(const FirstLayer *layer, Canvas *ret, Err *err)
{
    enum { DOT = 6 };
    int32_t k = layer->kernel, columns = columns_for(layer->c), rows = (layer->c - 1) / columns + 1;
    TRY(canvas_open(columns * (k * DOT + GAP) - GAP, rows * (k * DOT + GAP) - GAP,
                    (Colour){0, 0, 0}, ret, err));
    for (int32_t c = 0; c < layer->c; c++) {
        const float *w = layer->filters + (size_t)c * 3 * (size_t)(k * k);
        float largest = 1e-30f;
        for (int32_t i = 0; i < 3 * k * k; i++)
            largest = fmaxf(largest, fabsf(w[i]));
        int32_t left = c % columns * (k * DOT + GAP), top = c / columns * (k * DOT + GAP);
        for (int32_t y = 0; y < k * DOT; y++)
            for (int32_t x = 0; x < k * DOT; x++) {
                uint8_t v[3];
                for (int i = 0; i < 3; i++) {
                    float norm = w[i * k * k + y / DOT * k + x / DOT] / largest;
                    v[i] = (uint8_t)lroundf(127.5f + 127.5f * norm);
                }
                canvas_set(ret, left + x, top + y, (Colour){v[0], v[1], v[2]});
            }
    }
    return ST_OK;
}

Status eval_picture_maps(const FirstLayer *layer, const char axes[3], Canvas *ret, Err *err)
{
    enum { TILE = 112 }; /* at most: a map is thinned to about this */
    int32_t thin = layer->w > TILE ? layer->w / TILE : 1;
    int32_t w = layer->w / thin, h = layer->h / thin, columns = columns_for(layer->c);
    int32_t rows = (layer->c - 1) / columns + 1;
    TRY(canvas_open(columns * (w + GAP) - GAP, rows * (h + GAP) - GAP, GROUND, ret, err));
    for (int32_t c = 0; c < layer->c; c++) {
        const float *map = layer->maps + (size_t)c * (size_t)layer->h * (size_t)layer->w;
        float largest = 1e-30f;
        for (size_t i = 0; i < (size_t)layer->h * (size_t)layer->w; i++)
            largest = fmaxf(largest, map[i]);
        int32_t left = c % columns * (w + GAP), top = c / columns * (h + GAP);
        for (int32_t y = 0; y < h; y++)
            for (int32_t x = 0; x < w; x++) {
                int32_t from_x = thin * (axes[0] == 'R' ? w - 1 - x : x);
                int32_t from_y = thin * (axes[1] == 'A' ? h - 1 - y : y);
                float v = map[(size_t)from_y * (size_t)layer->w + (size_t)from_x] / largest;
                canvas_set(ret, left + x, top + y, colour_grey((uint8_t)lroundf(255 * v)));
            }
    }
    return ST_OK;
}
