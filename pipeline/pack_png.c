/* Cases of 2-D pictures: see pack.h. */
#include "pipeline/pack.h"

#include "pipeline/canvas.h"
#include "pipeline/components.h"
#include "pipeline/png_file.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DIGITS = 3, SIDE_MAX = 2048, SHEET_SLICES = 6, SHEET_TILE = 32, SHEET_GAP = 3 };
#define HEAD_GREY 24 /* of 255: above fluid and fat in a brain window, below scalp and skull */

/* ---- which pictures there are ---------------------------------------------------------------- */

/* "16003.png": 5, the length of the stem; 0 if the name is no picture's. */
static size_t stem_of(const char *file)
{
    size_t n = strlen(file);
    return n > 4 && strcmp(file + n - 4, ".png") == 0 && file[0] != '.' ? n - 4 : 0;
}

static Status check_name(const char *file, size_t stem, Err *err)
{
    bool ok = stem > DIGITS && stem - DIGITS < sizeof((PngPair *)NULL)->name &&
              strspn(file + stem - DIGITS, "0123456789") >= DIGITS;
    return ok ? ST_OK
              : err_set(err, ST_PACK_CASE,
                        "a picture's name is not its case and a number of three digits");
}

/* By the case's name, shorter ones first, then by number. */
static int compare_pairs(const void *a, const void *b)
{
    const PngPair *x = a, *y = b;
    size_t n = strlen(x->name), m = strlen(y->name);
    if (n != m)
        return n < m ? -1 : 1;
    int order = strcmp(x->name, y->name);
    return order != 0 ? order : strcmp(x->ct, y->ct);
}

static int is_png(const struct dirent *entry)
{
    return stem_of(entry->d_name) > 0;
}

static int32_t count_pngs(const char *dir)
{
    struct dirent **entries;
    int n = scandir(dir, &entries, is_png, NULL);
    for (int i = 0; i < n; i++)
        free(entries[i]);
    if (n >= 0)
        free(entries);
    return n;
}

static Status make_pair(const char *ct_dir, const char *mr_dir, const char *file, PngPair *ret,
                        Err *err)
{
    size_t stem = stem_of(file);
    TRY(check_name(file, stem, err));
    memcpy(ret->name, file, stem - DIGITS);
    ret->name[stem - DIGITS] = '\0';
    TRY(path_format(ret->ct, err, "%s/%s", ct_dir, file));
    TRY(path_format(ret->mr, err, "%s/%s", mr_dir, file));
    return access(ret->mr, R_OK) == 0
               ? ST_OK
               : err_set(err, ST_PACK_CASE, "a picture of the CT has no partner among the MR");
}

Status pack_png_list(const char *ct_dir, const char *mr_dir, PngPair **ret, int32_t *ret_n,
                     Err *err)
{
    struct dirent **entries;
    int n = scandir(ct_dir, &entries, is_png, NULL);
    if (n < 0)
        return err_sys(err, errno, "reading folder %s", ct_dir);
    PngPair *pairs = calloc((size_t)n + 1, sizeof *pairs);
    Status status = pairs == NULL ? err_set(err, ST_NO_MEMORY, "%d pictures", n) : ST_OK;
    for (int i = 0; i < n; i++) {
        if (status == ST_OK)
            status = make_pair(ct_dir, mr_dir, entries[i]->d_name, &pairs[i], err);
        free(entries[i]);
    }
    free(entries);
    if (status == ST_OK && n == 0)
        status = err_set(err, ST_NOT_FOUND, "no PNG in %s", ct_dir);
    if (status == ST_OK && count_pngs(mr_dir) != n)
        status = err_set(err, ST_PACK_CASE, "the MR has pictures that the CT lacks");
    if (status != ST_OK) {
        free(pairs);
        return status;
    }
    qsort(pairs, (size_t)n, sizeof *pairs, compare_pairs);
    *ret = pairs;
    *ret_n = n;
    return ST_OK;
}

/* ---- one case -------------------------------------------------------------------------------- */

typedef struct PngCase {
    const PackSpec *spec;
    const PngPair *pairs;
    int32_t n, side;
    bool flip_x, flip_y;
    int16_t *hu;
    uint8_t *mask;
    float *mr; /* [n][side][side] each */
    int32_t *queue;
} PngCase;

/* Puts a picture into the middle of the grid, turned as the file lies. */
static Status place(const PngCase *c, const char *path, uint8_t *ret, Err *err)
{
    uint8_t *pixels;
    int32_t w, h, side = c->side;
    TRY(png_read_grey(path, SIDE_MAX, &pixels, &w, &h, err));
    if (w > side || h > side) {
        free(pixels);
        return err_set(err, ST_PACK_CASE, "a picture of %d x %d is larger than the grid of %d", w,
                       h, side);
    }
    int32_t left = (side - w) / 2, top = (side - h) / 2;
    memset(ret, 0, (size_t)side * (size_t)side);
    for (int32_t y = 0; y < h; y++)
        for (int32_t x = 0; x < w; x++) {
            int32_t to_x = left + x, to_y = top + y;
            to_x = c->flip_x ? side - 1 - to_x : to_x;
            to_y = c->flip_y ? side - 1 - to_y : to_y;
            ret[(size_t)to_y * (size_t)side + (size_t)to_x] =
                pixels[(size_t)y * (size_t)w + (size_t)x];
        }
    free(pixels);
    return ST_OK;
}

/* The largest part of what is bright in the CT, holes filled: scalp or skull and what is in it. */
static void mask_slice(const PngCase *c, const uint8_t *grey, uint8_t *ret)
{
    const Grid grid = {c->side, c->side, 1, affine_identity()};
    for (size_t i = 0; i < (size_t)c->side * (size_t)c->side; i++)
        ret[i] = grey[i] >= HEAD_GREY;
    component_fill_slices(&grid, ret, 2, 1, c->queue);
    (void)component_keep_largest(&grid, ret, c->queue);
}

static Status read_slices(PngCase *c, uint8_t *grey, Err *err)
{
    size_t n = (size_t)c->side * (size_t)c->side;
    const ModelInfo *m = &c->spec->wanted;
    double floor_hu = m->window_level_hu - m->window_width_hu / 2;
    for (int32_t k = 0; k < c->n; k++) {
        size_t at = (size_t)k * n;
        TRY(place(c, c->pairs[k].ct, grey, err));
        mask_slice(c, grey, c->mask + at);
        for (size_t i = 0; i < n; i++)
            c->hu[at + i] = (int16_t)lrint(floor_hu + grey[i] / 255.0 * m->window_width_hu);
        TRY(place(c, c->pairs[k].mr, grey, err));
        for (size_t i = 0; i < n; i++)
            c->mr[at + i] = (float)grey[i];
    }
    return ST_OK;
}

/* ---- the sheet ------------------------------------------------------------------------------- */

static Colour sheet_colour(const PngCase *c, int32_t slice, int row, int32_t x, int32_t y)
{
    static const Colour contour = {255, 200, 0};
    int32_t side = c->side, fx = c->flip_x ? side - 1 - x : x, fy = c->flip_y ? side - 1 - y : y;
    size_t i = ((size_t)slice * (size_t)side + (size_t)fy) * (size_t)side + (size_t)fx;
    const ModelInfo *m = &c->spec->wanted;
    double ct = (c->hu[i] - m->window_level_hu) / m->window_width_hu + 0.5;
    bool on_edge = c->mask[i] != 0 && fx > 0 && fx < side - 1 && fy > 0 && fy < side - 1 &&
                   (c->mask[i - 1] == 0 || c->mask[i + 1] == 0 || c->mask[i - (size_t)side] == 0 ||
                    c->mask[i + (size_t)side] == 0);
    if (row == 0 && on_edge)
        return contour;
    bool use_mr = row == 1 || (row == 2 && (x / SHEET_TILE + y / SHEET_TILE) % 2 == 1);
    return colour_grey((uint8_t)lround(255 * fmin(fmax(use_mr ? (double)c->mr[i] : ct, 0), 1)));
}

/* CT with the mask's contour, MR, checkerboard of both; up to SHEET_SLICES slices of the case. */
static Status draw_sheet(const PngCase *c, const char *id, Err *err)
{
    char path[PATH_SIZE];
    Canvas canvas;
    if (c->spec->sheet_dir == NULL)
        return ST_OK;
    TRY(path_format(path, err, "%s/%s.png", c->spec->sheet_dir, id));
    int32_t columns = c->n < SHEET_SLICES ? c->n : SHEET_SLICES, step = c->side + SHEET_GAP;
    TRY(canvas_open(columns * step - SHEET_GAP, 3 * step - SHEET_GAP, colour_grey(96), &canvas,
                    err));
    for (int32_t column = 0; column < columns; column++) {
        int32_t slice = (int32_t)(((int64_t)2 * column + 1) * c->n / (2 * columns));
        for (int row = 0; row < 3; row++)
            for (int32_t y = 0; y < c->side; y++)
                for (int32_t x = 0; x < c->side; x++)
                    canvas_set(&canvas, column * step + x, row * step + y,
                               sheet_colour(c, slice, row, x, y));
    }
    Status status = png_write_rgb(path, canvas.rgb, canvas.width, canvas.height, err);
    canvas_close(&canvas);
    return status;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static Status scale_mr(PngCase *c, PackFacts *facts, Err *err)
{
    size_t n = (size_t)c->n * (size_t)c->side * (size_t)c->side;
    const PackSpec *spec = c->spec;
    facts->mr_low = spec->low;
    facts->mr_high = spec->high;
    if (!spec->has_range && !pack_percentiles(c->mr, c->mask, n, spec->low_percent,
                                              spec->high_percent, &facts->mr_low, &facts->mr_high))
        return err_set(err, ST_PACK_CASE, "the MR has one intensity inside the mask");
    double width = facts->mr_high - facts->mr_low;
    for (size_t i = 0; i < n; i++)
        c->mr[i] = c->mask[i] == 0
                       ? 0
                       : (float)fmin(fmax(((double)c->mr[i] - facts->mr_low) / width, 0), 1);
    return ST_OK;
}

static Status write_slices(const PngCase *c, const char *id, uint16_t *mr, PackWriter *writer,
                           PackFacts *facts, Err *err)
{
    size_t n = (size_t)c->side * (size_t)c->side;
    TRY(pack_begin_case(writer, id, 0, err));
    for (int32_t k = 0; k < c->n; k++) {
        const uint8_t *mask = c->mask + (size_t)k * n;
        if (memchr(mask, 1, n) == NULL) {
            facts->n_empty++;
            continue;
        }
        for (size_t i = 0; i < n; i++)
            mr[i] = (uint16_t)lrintf(65535.0f * c->mr[(size_t)k * n + i]);
        TRY(pack_add_slice(writer, c->hu + (size_t)k * n, mask, mr, err));
        facts->n_slices++;
    }
    return ST_OK;
}

static Status pack_case(PngCase *c, const char *id, uint8_t *grey, uint16_t *mr, PackWriter *writer,
                        PackFacts *facts, Err *err)
{
    size_t n = (size_t)c->n * (size_t)c->side * (size_t)c->side;
    TRY(read_slices(c, grey, err));
    if (memchr(c->mask, 1, n) == NULL)
        return err_set(err, ST_PACK_CASE, "no head in any of %d pictures", c->n);
    TRY(scale_mr(c, facts, err));
    TRY(draw_sheet(c, id, err));
    return write_slices(c, id, mr, writer, facts, err);
}

Status pack_png_case(const PackSpec *spec, const char *id, const PngPair *pairs, int32_t n,
                     PackWriter *writer, PackFacts *ret, Err *err)
{
    char axes[3];
    PackFacts facts = {0};
    memcpy(facts.id, id, PACK_ID_SIZE);
    TRY(pack_axes(spec, axes, err));
    int32_t side = spec->wanted.grid_pixels;
    size_t pixels = (size_t)side * (size_t)side, all = (size_t)n * pixels;
    PngCase c = {.spec = spec,
                 .pairs = pairs,
                 .n = n,
                 .side = side,
                 .flip_x = axes[0] == 'R',
                 .flip_y = axes[1] == 'A',
                 .hu = malloc(all * sizeof *c.hu),
                 .mask = malloc(all),
                 .mr = malloc(all * sizeof *c.mr),
                 .queue = malloc(pixels * sizeof *c.queue)};
    uint8_t *grey = malloc(pixels);
    uint16_t *mr = malloc(pixels * sizeof *mr);
    Status status = ST_OK;
    if (c.hu == NULL || c.mask == NULL || c.mr == NULL || c.queue == NULL || grey == NULL ||
        mr == NULL)
        status = err_set(err, ST_NO_MEMORY, "%d pictures", n);
    else
        status = pack_case(&c, id, grey, mr, writer, &facts, err);
    free(c.hu);
    free(c.mask);
    free(c.mr);
    free(c.queue);
    free(grey);
    free(mr);
    if (status == ST_OK)
        *ret = facts;
    return status;
}
