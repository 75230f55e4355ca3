/* An RGB picture in memory: panels, letters. For qa_picture.c. Thread: any. */
#ifndef CT2MR_PIPELINE_QA_CANVAS_H
#define CT2MR_PIPELINE_QA_CANVAS_H

#include "base/arena.h"
#include "base/err.h"

#include <stdint.h>

enum { QA_GLYPH_WIDTH = 10, QA_GLYPH_HEIGHT = 14 };

typedef struct QaCanvas {
    int32_t width, height;
    uint8_t *rgb; /* [height][width][3] */
} QaCanvas;

/* Grey all over. In arena. Errors: LIMIT. */
MUST_CHECK Status qa_canvas_init(int32_t width, int32_t height, Arena *arena, QaCanvas *ret,
                                 Err *err);
/* letter: R, L, A or P; left, top: of its QA_GLYPH_WIDTH x QA_GLYPH_HEIGHT pixels. */
void qa_canvas_letter(QaCanvas *canvas, char letter, int32_t left, int32_t top);
/* Errors: IO, DISK_FULL. */
MUST_CHECK Status qa_canvas_write(const QaCanvas *canvas, const char *path, Err *err);

#endif
