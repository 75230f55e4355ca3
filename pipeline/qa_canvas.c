/* See qa_canvas.h. */
#include "pipeline/qa_canvas.h"

#include "pipeline/png_file.h"

#include <string.h>

enum { GREY = 96, GLYPH_COLUMNS = 5, GLYPH_ROWS = 7, GLYPH_ZOOM = 2 };

typedef struct Glyph {
    char letter;
    uint8_t rows[GLYPH_ROWS]; /* bit 4: the leftmost column */
} Glyph;

static const Glyph GLYPHS[] = {{'R', {0x1e, 0x11, 0x11, 0x1e, 0x14, 0x12, 0x11}},
                               {'L', {0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x1f}},
                               {'A', {0x0e, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11}},
                               {'P', {0x1e, 0x11, 0x11, 0x1e, 0x10, 0x10, 0x10}}};

Status qa_canvas_init(int32_t width, int32_t height, Arena *arena, QaCanvas *ret, Err *err)
{
    size_t bytes = (size_t)height * (size_t)width * 3;
    QaCanvas canvas = {width, height, arena_alloc(arena, bytes, 1, err)};
    if (canvas.rgb == NULL)
        return ST_LIMIT;
    memset(canvas.rgb, GREY, bytes);
    *ret = canvas;
    return ST_OK;
}

void qa_canvas_letter(QaCanvas *canvas, char letter, int32_t left, int32_t top)
{
    static const uint8_t colour[3] = {0, 200, 255};
    const Glyph *glyph = GLYPHS;
    while (glyph->letter != letter)
        glyph++;
    for (int32_t y = 0; y < QA_GLYPH_HEIGHT; y++)
        for (int32_t x = 0; x < QA_GLYPH_WIDTH; x++)
            if ((glyph->rows[y / GLYPH_ZOOM] >> (GLYPH_COLUMNS - 1 - x / GLYPH_ZOOM) & 1) != 0)
                memcpy(canvas->rgb +
                           ((size_t)(top + y) * (size_t)canvas->width + (size_t)(left + x)) * 3,
                       colour, 3);
}

Status qa_canvas_write(const QaCanvas *canvas, const char *path, Err *err)
{
    return png_write_rgb(path, canvas->rgb, canvas->width, canvas->height, err);
}
