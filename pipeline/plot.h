/* Line plots as PNG: panels one above the other, each with its axes and lines. Text is capitals,
** digits and a few signs (canvas.h). Thread: any. */
#ifndef CT2MR_PIPELINE_PLOT_H
#define CT2MR_PIPELINE_PLOT_H

#include "pipeline/canvas.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct PlotLine {
    const char *label;
    const double *x, *y; /* [n]; a y that is not finite leaves a gap */
    int32_t n;
    Colour colour;
} PlotLine;

enum { PLOT_MAX_LINES = 6, PLOT_MAX_PANELS = 4 };

typedef struct PlotPanel {
    const char *title, *x_label;
    PlotLine lines[PLOT_MAX_LINES];
    int n_lines;
} PlotPanel;

/* Axes span the values; without any, 0..1. Errors: IO, DISK_FULL, NO_MEMORY. */
MUST_CHECK Status plot_write(const char *path, const PlotPanel *panels, int n, Err *err);

#endif
