/* See train_curves.h. */
#include "pipeline/train_curves.h"

#include "base/files.h"
#include "pipeline/plot.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- table --------------------------------------------------------------------------------- */

enum { LINE_SIZE = 1024 };

typedef struct Text {
    char *data;
    size_t used, size;
} Text;

__attribute__((format(printf, 2, 3))) static void add(Text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text->data + text->used, text->size - text->used, format, args);
    va_end(args);
    ASSERT(n >= 0 && (size_t)n < text->size - text->used);
    text->used += (size_t)n;
}

static void add_terms(Text *text, const LossSpec *spec, const LossValue *value)
{
    for (int k = 0; k < LOSS_TERMS; k++)
        if (spec->weight[k] > 0)
            add(text, ",%.9g", value->term[k]);
}

static void add_names(Text *text, const LossSpec *spec, const char *part)
{
    add(text, ",%s_loss", part);
    for (int k = 0; k < LOSS_TERMS; k++)
        if (spec->weight[k] > 0)
            add(text, ",%s_%s", part, loss_name((LossTerm)k));
}

Status train_curves_csv(const char *path, const LossSpec *spec, const TrainRow *rows, int32_t n,
                        bool has_validation, Err *err)
{
    Text text = {.size = ((size_t)n + 1) * LINE_SIZE};
    if ((text.data = malloc(text.size)) == NULL)
        return err_set(err, ST_NO_MEMORY, "a table of %d epochs", n);
    add(&text, "epoch,step,learning_rate");
    add_names(&text, spec, "training");
    if (has_validation) {
        add_names(&text, spec, "validation");
        add(&text, ",psnr_db,ssim");
    }
    add(&text, ",gradient_norm,elapsed_s,waited_frac\n");
    for (int32_t i = 0; i < n; i++) {
        const TrainRow *r = &rows[i];
        add(&text, "%d,%lld,%.6g,%.9g", r->epoch, (long long)r->step, r->lr, r->training.total);
        add_terms(&text, spec, &r->training);
        if (has_validation) {
            add(&text, ",%.9g", r->validation.total);
            add_terms(&text, spec, &r->validation);
            add(&text, ",%.4f,%.5f", r->psnr_db, r->ssim);
        }
        add(&text, ",%.5g,%.1f,%.4f\n", r->gradient_norm, r->elapsed_s, r->waited_frac);
    }
    Status status = file_write_durable(path, text.data, text.used, err);
    free(text.data);
    return status;
}

/* ---- picture ------------------------------------------------------------------------------- */

static const Colour BLUE = {31, 90, 180}, ORANGE = {214, 96, 20};

Status train_curves_png(const char *path, const TrainRow *rows, int32_t n, bool has_validation,
                        Err *err)
{
    size_t count = (size_t)n + 1;
    double *x = calloc(5 * count, sizeof *x);
    if (x == NULL)
        return err_set(err, ST_NO_MEMORY, "curves of %d epochs", n);
    double *training = x + count, *validation = x + 2 * count, *psnr = x + 3 * count,
           *ssim = x + 4 * count;
    for (int32_t i = 0; i < n; i++) {
        x[i] = rows[i].epoch;
        training[i] = rows[i].training.total;
        validation[i] = rows[i].validation.total;
        psnr[i] = rows[i].psnr_db;
        ssim[i] = rows[i].ssim;
    }
    PlotPanel panels[3] = {{.title = "Loss", .x_label = "Epoch", .n_lines = 1},
                           {.title = "PSNR dB", .x_label = "Epoch", .n_lines = 1},
                           {.title = "SSIM", .x_label = "Epoch", .n_lines = 1}};
    panels[0].lines[0] = (PlotLine){"training", x, training, n, BLUE};
    if (has_validation)
        panels[0].lines[panels[0].n_lines++] = (PlotLine){"validation", x, validation, n, ORANGE};
    panels[1].lines[0] = (PlotLine){"validation", x, psnr, n, ORANGE};
    panels[2].lines[0] = (PlotLine){"validation", x, ssim, n, ORANGE};
    Status status = plot_write(path, panels, has_validation ? 3 : 1, err);
    free(x);
    return status;
}
