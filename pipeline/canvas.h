/* A colour picture in memory, and what reports draw into it. Everything is clipped. Thread: one. */
#ifndef CT2MR_PIPELINE_CANVAS_H
#define CT2MR_PIPELINE_CANVAS_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct Colour {
    uint8_t r, g, b;
} Colour;

typedef struct Canvas {
    int32_t width, height;
    uint8_t *rgb; /* [height][width][3], owned */
} Canvas;

MUST_CHECK Status canvas_open(int32_t width, int32_t height, Colour ground, Canvas *ret, Err *err);
void canvas_close(Canvas *canvas); /* zeroed is fine */
/* Errors: IO, DISK_FULL, NO_MEMORY. */
MUST_CHECK Status canvas_write(const Canvas *canvas, const char *path, Err *err);
void canvas_set(Canvas *canvas, int32_t x, int32_t y, Colour colour);
/* A frame of one pixel around the given inside. */
void canvas_frame(Canvas *canvas, int32_t x, int32_t y, int32_t width, int32_t height,
                  Colour colour);
/* From (x0, y0) to (x1, y1) with a square pen of `thick` pixels. */
void canvas_line(Canvas *canvas, double x0, double y0, double x1, double y1, int32_t thick,
                 Colour colour);
/* Capitals, digits and a few signs; small letters become capitals, others blanks. (x, y): the upper
** left corner. */
enum { CANVAS_TEXT_STEP = 12, CANVAS_TEXT_WIDTH = 10, CANVAS_TEXT_HEIGHT = 14 };
void canvas_text(Canvas *canvas, int32_t x, int32_t y, const char *text, Colour colour);
Colour colour_grey(uint8_t grey);
/* Black at 0, red to yellow for positive, blue to cyan for negative; full at -1 and 1. */
Colour colour_difference(double difference);

/* Private to canvas.c and canvas_font.c: 7 rows of 5 pixels, bit 4 the leftmost. */
enum { GLYPH_ROWS = 7, GLYPH_COLUMNS = 5 };
const uint8_t *canvas_glyph(char character);

#endif
