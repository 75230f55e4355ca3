/* See eval_report.h. The text is written into memory, pictures as data URLs, and then to disk. */
#include "pipeline/eval_report.h"

#include "base/files.h"
#include "gpu/network.h"
#include "pipeline/eval_pictures.h"
#include "pipeline/png_file.h"
#include "pipeline/window.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PICTURED_CASES = 8 };
static const EvalMetric PAPER[] = {EVAL_PSNR, EVAL_SSIM, EVAL_TENENGRAD, EVAL_RMSE};
enum { N_PAPER = sizeof PAPER / sizeof PAPER[0] };

static const char STYLE[] =
    "<style>body{font:15px/1.5 sans-serif;max-width:1080px;margin:2em auto;padding:0 1em;"
    "color:#222}h1{font-size:1.5em}h2{font-size:1.2em;margin-top:2em}table{border-collapse:"
    "collapse;margin:.6em 0}td,th{padding:.25em .9em;border-bottom:1px solid #ddd;text-align:"
    "right}td:first-child,th:first-child{text-align:left}img{max-width:100%;display:block;margin:"
    ".4em 0}figure{margin:1.2em 0}figcaption,.note{color:#555;font-size:.92em}code{font-size:.9em}"
    "tr.sum td{font-weight:bold}.warning{color:#a00;font-weight:bold}</style>\n";

/* Text from a model file or a path. */
static void put_text(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '<':
            (void)fputs("&lt;", out);
            break;
        case '>':
            (void)fputs("&gt;", out);
            break;
        case '&':
            (void)fputs("&amp;", out);
            break;
        case '"':
            (void)fputs("&quot;", out);
            break;
        default:
            (void)fputc(*text, out);
        }
    }
}

/* RFC 4648. */
static void put_base64(FILE *out, const uint8_t *data, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t three = (uint32_t)data[i] << 16;
        three |= i + 1 < n ? (uint32_t)data[i + 1] << 8 : 0;
        three |= i + 2 < n ? (uint32_t)data[i + 2] : 0;
        (void)fputc(digits[three >> 18], out);
        (void)fputc(digits[three >> 12 & 63], out);
        (void)fputc(i + 1 < n ? digits[three >> 6 & 63] : '=', out);
        (void)fputc(i + 2 < n ? digits[three & 63] : '=', out);
    }
}

static Status write_png(const EvalReport *r, const char *name, const uint8_t *png, size_t bytes,
                        Err *err)
{
    char path[PATH_SIZE];
    if (r->png_dir == NULL)
        return ST_OK;
    TRY(path_format(path, err, "%s/%s.png", r->png_dir, name));
    return file_write_durable(path, png, bytes, err);
}

/* Closes the canvas. */
static Status put_picture(FILE *out, const EvalReport *r, const char *name, const char *alternative,
                          Canvas *canvas, Err *err)
{
    uint8_t *png;
    size_t bytes;
    Status status = png_encode_rgb(canvas->rgb, canvas->width, canvas->height, &png, &bytes, err);
    canvas_close(canvas);
    TRY(status);
    (void)fprintf(out, "<img alt=\"%s\" src=\"data:image/png;base64,", alternative);
    put_base64(out, png, bytes);
    (void)fputs("\">\n", out);
    status = write_png(r, name, png, bytes, err);
    free(png);
    return status;
}

/* ---- tables ---------------------------------------------------------------------------------- */

static void put_model(FILE *out, const ModelInfo *m)
{
    (void)fputs("<p><b>", out);
    put_text(out, m->name);
    (void)fprintf(out,
                  "</b>: %s of width %d, target %s, %d &times; %d pixels of %g mm, window "
                  "%g/%g HU, SHA-256 <code>%.16s&hellip;</code><br>",
                  network_name(m->arch), m->width, m->target, m->grid_pixels, m->grid_pixels,
                  m->grid_spacing_mm, m->window_level_hu, m->window_width_hu, m->digest);
    put_text(out, m->label);
    (void)fputs("</p>\n", out);
}

static void put_head_row(FILE *out, const char *first, const char *second)
{
    (void)fprintf(out, "<table><tr><th>%s</th><th>%s</th>", first, second);
    for (int m = 0; m < EVAL_METRICS; m++)
        (void)fprintf(out, "<th>%s</th>", eval_metric_title((EvalMetric)m));
    (void)fputs("</tr>\n", out);
}

static int decimals(EvalMetric metric)
{
    return metric == EVAL_SSIM || metric == EVAL_SSIM_GLOBAL ? 4 : 2;
}

static void put_summary(FILE *out, const char *title, const Evaluation *e, bool over_cases)
{
    (void)fprintf(out, "<tr class=\"sum\"><td>%s</td><td>%d</td>", title,
                  over_cases ? e->n_cases : e->n);
    for (int m = 0; m < EVAL_METRICS; m++) {
        Summary s = (over_cases ? evaluation_cases : evaluation_slices)(e, (EvalMetric)m);
        int digits = decimals((EvalMetric)m);
        (void)fprintf(out, "<td>%.*f", digits, s.mean);
        if (s.n > 1) /* one value has no deviation */
            (void)fprintf(out, " &plusmn; %.*f", digits, s.deviation);
        (void)fputs("</td>", out);
    }
    (void)fputs("</tr>\n", out);
}

static void put_cases(FILE *out, const EvalReport *r, const EvalSubject *subject)
{
    const Evaluation *e = subject->evaluation;
    EvalUse use = eval_use(subject);
    char text[EVAL_USE_SIZE];
    (void)fprintf(out, "<p class=\"%s\">%s.</p>\n",
                  use.is_stated && use.n[CASE_TRAINED] == 0 ? "note" : "warning",
                  eval_use_text(&use, text));
    put_head_row(out, "case", "slices");
    for (int32_t c = 0; c < e->n_cases; c++) {
        int32_t n = 0;
        for (int32_t i = 0; i < e->n; i++)
            n += e->scores[i].case_index == e->case_index[c];
        bool is_trained = use.is_stated && subject->use[e->case_index[c]] == CASE_TRAINED;
        (void)fprintf(out, "<tr><td><code>%s</code>%s</td><td>%d</td>",
                      pack_info(r->pack)->cases[e->case_index[c]].id,
                      is_trained ? " (trained on)" : "", n);
        for (int m = 0; m < EVAL_METRICS; m++)
            (void)fprintf(out, "<td>%.*f</td>", decimals((EvalMetric)m), e->case_mean[m][c]);
        (void)fputs("</tr>\n", out);
    }
    put_summary(out, "mean &plusmn; SD over slices", e, false);
    put_summary(out, "mean &plusmn; SD over cases", e, true);
    (void)fputs("</table>\n", out);
}

static void put_slices(FILE *out, const EvalReport *r)
{
    const Evaluation *e = r->subject.evaluation;
    (void)fputs("<h2>Every slice</h2><details><summary>table</summary>\n", out);
    put_head_row(out, "slice", "case");
    for (int32_t i = 0; i < e->n; i++) {
        (void)fprintf(out, "<tr><td>%d</td><td><code>%s</code></td>", e->scores[i].slice,
                      pack_info(r->pack)->cases[e->scores[i].case_index].id);
        for (int m = 0; m < EVAL_METRICS; m++)
            (void)fprintf(out, "<td>%.*f</td>", decimals((EvalMetric)m), e->scores[i].value[m]);
        (void)fputs("</tr>\n", out);
    }
    (void)fputs("</table></details>\n", out);
}

static void put_tests(FILE *out, const EvalReport *r, EvalTest kind, bool over_cases)
{
    const Evaluation *a = r->subject.evaluation, *b = r->other->evaluation;
    (void)fprintf(out,
                  "<table><tr><th>over %s</th><th>A</th><th>B</th><th>A - B</th><th>95 %% "
                  "confidence interval</th><th>t</th><th>degrees of freedom</th><th>p</th></tr>\n",
                  over_cases ? "cases" : "slices");
    for (size_t i = 0; i < N_PAPER; i++) {
        TTest t;
        Err why = {0};
        (void)fprintf(out, "<tr><td>%s</td>", eval_metric_title(PAPER[i]));
        if (evaluation_compare(a, b, PAPER[i], kind, over_cases, &t, &why) == ST_OK)
            (void)fprintf(out,
                          "<td>%.4g &plusmn; %.3g</td><td>%.4g &plusmn; %.3g</td><td>%.4g</td>"
                          "<td>%.4g to %.4g</td><td>%.3f</td><td>%.0f</td><td>%.3g</td></tr>\n",
                          t.a.mean, t.a.deviation, t.b.mean, t.b.deviation, t.difference, t.low,
                          t.high, t.t, t.dof, t.p);
        else
            (void)fprintf(out, "<td colspan=\"7\">%s</td></tr>\n", why.msg);
    }
    (void)fputs("</table>\n", out);
}

static void put_comparison(FILE *out, const EvalReport *r)
{
    (void)fputs("<h2>Comparison</h2><p>A is the model above, B is</p>\n", out);
    put_model(out, model_info(r->other->model));
    put_cases(out, r, r->other);
    for (int test = 0; test < EVAL_TESTS; test++) {
        (void)fprintf(out, "<h3>%s</h3>\n", eval_test_title((EvalTest)test));
        put_tests(out, r, (EvalTest)test, false);
        put_tests(out, r, (EvalTest)test, true);
    }
    (void)fputs(
        "<p class=\"note\">Two-sided. Both models see the same slices, so the paired test is "
        "the right one; the other, with pooled variance, is the paper's. Slices of one head "
        "are not independent of each other: over slices p is smaller than it should be; "
        "over cases it is honest as far as there are cases.</p>\n",
        out);
}

/* ---- pictures -------------------------------------------------------------------------------- */

static Status put_slice(FILE *out, const EvalReport *r, const SliceScore *s, const char *why,
                        uint8_t *synthetic, Err *err)
{
    Canvas canvas;
    char name[32];
    TRY(evaluate_pictures(r->subject.net, model_info(r->subject.model), r->pack, &s->slice, 1,
                          synthetic, err));
    (void)fprintf(out,
                  "<figure><figcaption>Case <code>%s</code>, slice %d (%s): PSNR %.2f dB, "
                  "SSIM %.4f. CT, real MR, synthetic MR, difference (red: too bright, blue: "
                  "too dark; full colour at %d of 255); below, the marked square.",
                  pack_info(r->pack)->cases[s->case_index].id, s->slice, why, s->value[EVAL_PSNR],
                  s->value[EVAL_SSIM], EVAL_DIFFERENCE_GREY);
    (void)fputs("</figcaption>\n", out);
    TRY(eval_picture_slice(r->pack, s->slice, synthetic, &canvas, err));
    (void)snprintf(name, sizeof name, "slice-%d", s->slice);
    TRY(put_picture(out, r, name, "CT, real MR, synthetic MR, difference", &canvas, err));
    (void)fputs("<figcaption>Intensity along the line marked: real MR black, synthetic red, 0 at "
                "the bottom, 255 on top.</figcaption>\n",
                out);
    TRY(eval_picture_profile(r->pack, s->slice, synthetic, &canvas, err));
    (void)snprintf(name, sizeof name, "profile-%d", s->slice);
    TRY(put_picture(out, r, name, "intensity profile", &canvas, err));
    (void)fputs("</figure>\n", out);
    return ST_OK;
}

static int compare_psnr(const void *a, const void *b)
{
    const SliceScore *x = a, *y = b;
    double p = x->value[EVAL_PSNR], q = y->value[EVAL_PSNR];
    return p != q ? (p > q) - (p < q) : (x->slice > y->slice) - (x->slice < y->slice);
}

/* The median slice of each case, then the worst and the best of all. */
static Status put_pictures(FILE *out, const EvalReport *r, uint8_t *synthetic, SliceScore *sorted,
                           Err *err)
{
    const Evaluation *e = r->subject.evaluation;
    (void)fputs("<h2>Slices</h2>\n", out);
    int32_t step = (e->n_cases + MAX_PICTURED_CASES - 1) / MAX_PICTURED_CASES;
    for (int32_t c = 0; c < e->n_cases; c += step) {
        int32_t n = 0;
        for (int32_t i = 0; i < e->n; i++)
            if (e->scores[i].case_index == e->case_index[c])
                sorted[n++] = e->scores[i];
        qsort(sorted, (size_t)n, sizeof *sorted, compare_psnr);
        TRY(put_slice(out, r, &sorted[n / 2], "median of its case", synthetic, err));
    }
    memcpy(sorted, e->scores, (size_t)e->n * sizeof *sorted);
    qsort(sorted, (size_t)e->n, sizeof *sorted, compare_psnr);
    TRY(put_slice(out, r, &sorted[0], "the worst of all", synthetic, err));
    return put_slice(out, r, &sorted[e->n - 1], "the best of all", synthetic, err);
}

/* Of the slices scored: near the vertex a feature map shows little. */
static int32_t largest_slice(const EvalReport *r)
{
    const Evaluation *e = r->subject.evaluation;
    const int32_t pixels = pack_info(r->pack)->pixels * pack_info(r->pack)->pixels;
    int32_t most = -1, at = 0;
    for (int32_t i = 0; i < e->n; i++) {
        const uint8_t *mask = pack_mask(r->pack, e->scores[i].slice);
        int32_t n = 0;
        for (int32_t k = 0; k < pixels; k++)
            n += mask[k];
        if (n > most) {
            most = n;
            at = e->scores[i].slice;
        }
    }
    return at;
}

static Status put_first_layer(FILE *out, const EvalReport *r, float *x, Err *err)
{
    static Window window; /* too large for the stack */
    const ModelInfo *m = model_info(r->subject.model);
    const PackInfo *pack = pack_info(r->pack);
    int32_t slice = largest_slice(r), side = pack->pixels;
    FirstLayer layer;
    Canvas canvas;
    TRY(window_init(m->window_level_hu, m->window_width_hu, m->mean, m->std, &window, err));
    window_slice(&window, pack_hu(r->pack, slice), pack_mask(r->pack, slice), side * side, x);
    TRY(first_layer(r->subject.model, x, side, side, &layer, err));
    (void)fprintf(out,
                  "<h2>First layer</h2><figure><figcaption>Its %d filters, %d &times; %d, "
                  "three channels as red, green, blue; grey is 0, each scaled by its largest "
                  "weight.</figcaption>\n",
                  layer.c, layer.kernel, layer.kernel);
    Status status = eval_picture_filters(&layer, &canvas, err);
    if (status == ST_OK)
        status = put_picture(out, r, "filters", "filters of the first layer", &canvas, err);
    (void)fprintf(out,
                  "<figcaption>What they make of slice %d, in the same order, each scaled by "
                  "its largest value.</figcaption>\n",
                  slice);
    if (status == ST_OK)
        status = eval_picture_maps(&layer, pack->axes, &canvas, err);
    if (status == ST_OK)
        status =
            put_picture(out, r, "feature-maps", "feature maps of the first layer", &canvas, err);
    (void)fputs("</figure>\n", out);
    first_layer_free(&layer);
    return status;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void put_head(FILE *out, const EvalReport *r)
{
    const Evaluation *e = r->subject.evaluation;
    const PackInfo *pack = pack_info(r->pack);
    (void)fprintf(out,
                  EVAL_REPORT_BEGIN
                  "</title>%s</head><body>\n<h1>Synthetic MR: "
                  "evaluation</h1>\n<p class=\"note\">For research. Made by ct2mr " CT2MR_VERSION
                  ".</p>\n",
                  STYLE);
    put_model(out, model_info(r->subject.model));
    (void)fprintf(
        out,
        "<p>Data: %d of %d cases, %d of %d slices of %d &times; %d pixels, SHA-256 <code>"
        "%.16s&hellip;</code>. %d slices whose mask covers less than %g %% of the image "
        "were left out.</p>\n<p class=\"note\">All figures are of 8-bit images, 0 outside "
        "the mask. PSNR with a peak of 255; SSIM with an 11 &times; 11 Gaussian of sigma "
        "1.5; Tenengrad is the mean of the Sobel magnitude where it is above %g grey "
        "levels, to be compared with that of the real MR.</p>\n",
        e->n_cases, pack->n_cases, e->n, pack->n_slices, pack->pixels, pack->pixels, pack->digest,
        e->n_left_out, 100 * r->min_masked_frac, EVAL_TENENGRAD_GREY);
}

static Status put_all(FILE *out, const EvalReport *r, Err *err)
{
    size_t pixels = (size_t)pack_info(r->pack)->pixels * (size_t)pack_info(r->pack)->pixels;
    float *x = malloc(3 * pixels * sizeof *x);
    uint8_t *synthetic = malloc(pixels);
    SliceScore *sorted = malloc((size_t)r->subject.evaluation->n * sizeof *sorted);
    Status status = ST_OK;
    if (x == NULL || synthetic == NULL || sorted == NULL)
        status = err_set(err, ST_NO_MEMORY, "pictures of the report");
    put_head(out, r);
    put_cases(out, r, &r->subject);
    if (r->other != NULL)
        put_comparison(out, r);
    if (status == ST_OK)
        status = put_pictures(out, r, synthetic, sorted, err);
    if (status == ST_OK)
        status = put_first_layer(out, r, x, err);
    put_slices(out, r);
    (void)fputs("</body></html>\n", out);
    free(x);
    free(synthetic);
    free(sorted);
    return status;
}

Status eval_report_write(const char *path, const EvalReport *report, Err *err)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (out == NULL)
        return err_set(err, ST_NO_MEMORY, "the report");
    Status status = put_all(out, report, err);
    bool failed = ferror(out) != 0;
    if ((fclose(out) != 0 || failed) && status == ST_OK)
        status = err_set(err, ST_NO_MEMORY, "the report");
    if (status == ST_OK)
        status = file_write_durable(path, text, bytes, err);
    free(text);
    return status;
}
