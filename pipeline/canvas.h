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
void canvas_set(Canvas *canvas, int32_t x, int32_t y, Colour colour);
/* A frame of one pixel around the given inside. */
void canvas_frame(Canvas *canvas, int32_t x, int32_t y, int32_t width, int32_t height,
                  Colour colour);
/* From (x0, y0) to (x1, y1), `thick` pixels high. */
void canvas_line(Canvas *canvas, double x0, double y0, double x1, double y1, int32_t thick,
                 Colour colour);
Colour colour_grey(uint8_t grey);
/* Black at 0, red to yellow for positive, blue to cyan for negative; full at -1 and 1. */
Colour colour_difference(double difference);

#endif
