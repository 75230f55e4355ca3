/* See canvas.h. */
#include "pipeline/canvas.h"

#include "pipeline/png_file.h"

#include <math.h>
#include <stdlib.h>

Status canvas_open(int32_t width, int32_t height, Colour ground, Canvas *ret, Err *err)
{
    Canvas canvas = {width, height, malloc((size_t)width * (size_t)height * 3)};
    if (canvas.rgb == NULL)
        return err_set(err, ST_NO_MEMORY, "a picture of %d x %d pixels", width, height);
    for (int32_t y = 0; y < height; y++)
        for (int32_t x = 0; x < width; x++)
            canvas_set(&canvas, x, y, ground);
    *ret = canvas;
    return ST_OK;
}

void canvas_close(Canvas *canvas)
{
    free(canvas->rgb);
    *canvas = (Canvas){0};
}

Status canvas_write(const Canvas *canvas, const char *path, Err *err)
{
    return png_write_rgb(path, canvas->rgb, canvas->width, canvas->height, err);
}

void canvas_set(Canvas *canvas, int32_t x, int32_t y, Colour colour)
{
    if (x < 0 || y < 0 || x >= canvas->width || y >= canvas->height)
        return;
    uint8_t *at = canvas->rgb + ((size_t)y * (size_t)canvas->width + (size_t)x) * 3;
    at[0] = colour.r;
    at[1] = colour.g;
    at[2] = colour.b;
}

void canvas_frame(Canvas *canvas, int32_t x, int32_t y, int32_t width, int32_t height,
                  Colour colour)
{
    for (int32_t i = -1; i <= width; i++) {
        canvas_set(canvas, x + i, y - 1, colour);
        canvas_set(canvas, x + i, y + height, colour);
    }
    for (int32_t i = -1; i <= height; i++) {
        canvas_set(canvas, x - 1, y + i, colour);
        canvas_set(canvas, x + width, y + i, colour);
    }
}

void canvas_line(Canvas *canvas, double x0, double y0, double x1, double y1, int32_t thick,
                 Colour colour)
{
    int32_t steps = 1 + (int32_t)ceil(fmax(fabs(x1 - x0), fabs(y1 - y0)));
    for (int32_t i = 0; i <= steps; i++) {
        double f = (double)i / steps;
        int32_t x = (int32_t)lround(x0 + f * (x1 - x0)), y = (int32_t)lround(y0 + f * (y1 - y0));
        for (int32_t k = 0; k < thick * thick; k++)
            canvas_set(canvas, x + k % thick - thick / 2, y + k / thick - thick / 2, colour);
    }
}

void canvas_text(Canvas *canvas, int32_t x, int32_t y, const char *text, Colour colour)
{
    const int32_t zoom = CANVAS_TEXT_WIDTH / GLYPH_COLUMNS;
    for (; *text != '\0'; text++, x += CANVAS_TEXT_STEP) {
        const uint8_t *rows = canvas_glyph(*text);
        for (int32_t v = 0; v < CANVAS_TEXT_HEIGHT; v++)
            for (int32_t u = 0; u < CANVAS_TEXT_WIDTH; u++)
                if ((rows[v / zoom] >> (GLYPH_COLUMNS - 1 - u / zoom) & 1) != 0)
                    canvas_set(canvas, x + u, y + v, colour);
    }
}

Colour colour_grey(uint8_t grey)
{
    return (Colour){grey, grey, grey};
}

Colour colour_difference(double difference)
{
    double size = fmin(fabs(difference), 1);
    uint8_t strong = (uint8_t)lround(255 * fmin(2 * size, 1));
    uint8_t second = (uint8_t)lround(255 * fmax(2 * size - 1, 0));
    return difference < 0 ? (Colour){0, second, strong} : (Colour){strong, second, 0};
}
