/* Line plots as PNG: panels one above the other, each with its axes and lines. Text is capitals,
** digits and a few signs (plot_font.c). Thread: any. */
#ifndef CT2MR_PIPELINE_PLOT_H
#define CT2MR_PIPELINE_PLOT_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct PlotLine {
    const char *label;
    const double *x, *y; /* [n]; a y that is not finite leaves a gap */
    int32_t n;
    uint8_t rgb[3];
} PlotLine;

enum { PLOT_MAX_LINES = 6, PLOT_MAX_PANELS = 4 };

typedef struct PlotPanel {
    const char *title, *x_label;
    PlotLine lines[PLOT_MAX_LINES];
    int n_lines;
} PlotPanel;

/* Axes span the values; without any, 0..1. Errors: IO, DISK_FULL, NO_MEMORY. */
MUST_CHECK Status plot_write(const char *path, const PlotPanel *panels, int n, Err *err);

/* Private to plot.c and plot_font.c: 7 rows of 5 pixels, bit 4 the leftmost; a blank for what the
** font lacks, capitals for small letters. */
enum { PLOT_GLYPH_ROWS = 7, PLOT_GLYPH_COLUMNS = 5 };
const uint8_t *plot_glyph(char character);

#endif
