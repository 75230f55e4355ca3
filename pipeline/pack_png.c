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
#include <strings.h>

enum { DIGITS = 3, SIDE_MAX = 2048, SHEET_SLICES = 6, SHEET_TILE = 32, SHEET_GAP = 3 };
#define HEAD_GREY 24 /* of 255: above fluid and fat in a brain window, below scalp and skull */
#define WHITE 250    /* bone in a brain window is 255; of an MR a few per cent are */

/* ---- which pictures there are ---------------------------------------------------------------- */

/* "16003.png": 5, the length of the stem; 0 if the name is no picture's. */
static size_t stem_of(const char *file)
{
    size_t n = strlen(file);
    return n > 4 && strcasecmp(file + n - 4, ".png") == 0 && file[0] != '.' ? n - 4 : 0;
}

static bool has_number(const char *file, size_t stem)
{
    return stem > DIGITS && stem - DIGITS < sizeof((PngPair *)NULL)->name &&
           strspn(file + stem - DIGITS, "0123456789") >= DIGITS;
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

static void free_entries(struct dirent **entries, int n)
{
    for (int i = 0; i < n; i++)
        free(entries[i]);
    if (n >= 0)
        free(entries);
}

static Status make_pair(const char *ct_dir, const char *mr_dir, const char *file, int32_t ct_number,
                        int32_t mr_number, PngPair *ret, Err *err)
{
    size_t stem = stem_of(file);
    memcpy(ret->name, file, stem - DIGITS);
    ret->name[stem - DIGITS] = '\0';
    ret->ct_number = ct_number;
    ret->mr_number = mr_number;
    TRY(path_format(ret->ct, err, "%s/%s", ct_dir, file));
    return path_format(ret->mr, err, "%s/%s", mr_dir, file);
}

/* Both sorted by name: a merge. */
static Status match(const char *ct_dir, struct dirent **ct, int n_ct, const char *mr_dir,
                    struct dirent **mr, int n_mr, PngList *ret, Err *err)
{
    for (int i = 0, k = 0; i < n_ct || k < n_mr;) {
        int order = i == n_ct ? 1 : k == n_mr ? -1 : strcmp(ct[i]->d_name, mr[k]->d_name);
        const char *file = order <= 0 ? ct[i]->d_name : mr[k]->d_name;
        const char *why = !has_number(file, stem_of(file))
                              ? "its name is not its case and a number of three digits"
                          : order != 0 ? "it has no partner of the same name"
                                       : NULL;
        if (why == NULL)
            TRY(make_pair(ct_dir, mr_dir, file, i + 1, k + 1, &ret->pairs[ret->n++], err));
        else
            ret->odd[ret->n_odd++] = (PngOdd){order > 0, order > 0 ? k + 1 : i + 1, why};
        i += order <= 0;
        k += order >= 0;
    }
    return ret->n > 0
               ? ST_OK
               : err_set(err, ST_NOT_FOUND,
                         "no pair of pictures: %d and %d PNG files in the two folders", n_ct, n_mr);
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

Status pack_png_list(const char *ct_dir, const char *mr_dir, PngList *ret, Err *err)
{
    struct dirent **ct = NULL, **mr = NULL;
    *ret = (PngList){0};
    int n_ct = scandir(ct_dir, &ct, is_png, by_bytes);
    if (n_ct < 0)
        return err_sys(err, errno, "reading folder %s", ct_dir);
    int n_mr = scandir(mr_dir, &mr, is_png, by_bytes);
    Status status = ST_OK;
    if (n_mr < 0) {
        status = err_sys(err, errno, "reading folder %s", mr_dir);
    } else {
        ret->pairs = calloc((size_t)n_ct + 1, sizeof *ret->pairs);
        ret->odd = calloc((size_t)n_ct + (size_t)n_mr + 1, sizeof *ret->odd);
        status = ret->pairs == NULL || ret->odd == NULL
                     ? err_set(err, ST_NO_MEMORY, "%d pictures", n_ct)
                     : match(ct_dir, ct, n_ct, mr_dir, mr, n_mr, ret, err);
    }
    free_entries(ct, n_ct);
    free_entries(mr, n_mr);
    if (status == ST_OK)
        qsort(ret->pairs, (size_t)ret->n, sizeof *ret->pairs, compare_pairs);
    return status;
}

void pack_png_list_free(PngList *list)
{
    free(list->pairs);
    free(list->odd);
    *list = (PngList){0};
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
static Status place_file(const PngCase *c, const char *path, uint8_t *ret, int32_t ret_size[2],
                         Err *err)
{
    uint8_t *pixels;
    int32_t w, h, side = c->side;
    TRY(png_read_grey(path, SIDE_MAX, &pixels, &w, &h, err));
    ret_size[0] = w;
    ret_size[1] = h;
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

/* Of slice k, from the folder of the CT or the MR; an error says which picture it is. */
static Status place(const PngCase *c, int32_t k, bool is_mr, uint8_t *ret, int32_t ret_size[2],
                    Err *err)
{
    const PngPair *pair = &c->pairs[k];
    const char *path = is_mr ? pair->mr : pair->ct;
    Status status = place_file(c, path, ret, ret_size, err);
    if (status != ST_OK) {
        err_replace(err, path, "it");
        (void)err_wrap(err, "PNG file %d by name in the %s folder",
                       is_mr ? pair->mr_number : pair->ct_number, is_mr ? "MR" : "CT");
    }
    return status;
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

static int64_t count_white(const uint8_t *grey, size_t n)
{
    int64_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += grey[i] >= WHITE;
    return count;
}

static Status read_slices(PngCase *c, uint8_t *grey, PackFacts *facts, Err *err)
{
    size_t n = (size_t)c->side * (size_t)c->side;
    const ModelInfo *m = &c->spec->wanted;
    double floor_hu = m->window_level_hu - m->window_width_hu / 2;
    for (int32_t k = 0; k < c->n; k++) {
        size_t at = (size_t)k * n;
        int32_t ct[2], mr[2];
        TRY(place(c, k, false, grey, ct, err));
        mask_slice(c, grey, c->mask + at);
        facts->ct_white += count_white(grey, n);
        for (size_t i = 0; i < n; i++)
            c->hu[at + i] = (int16_t)lrint(floor_hu + grey[i] / 255.0 * m->window_width_hu);
        TRY(place(c, k, true, grey, mr, err));
        if (ct[0] != mr[0] || ct[1] != mr[1])
            return err_set(err, ST_PACK_CASE,
                           "PNG file %d by name in the CT folder is of %d x %d pixels, its MR of "
                           "%d x %d",
                           c->pairs[k].ct_number, ct[0], ct[1], mr[0], mr[1]);
        facts->mr_white += count_white(grey, n);
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

static Status write_slices(const PngCase *c, const char *id, uint16_t *mr, PackWriter *writer,
                           PackFacts *facts, Err *err)
{
    size_t n = (size_t)c->side * (size_t)c->side;
    TRY(pack_begin_case(writer, id, 0, err));
    facts->n_all = c->n;
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

static Status prepare_case(PngCase *c, const char *id, uint8_t *grey, PackFacts *facts, Err *err)
{
    size_t n = (size_t)c->n * (size_t)c->side * (size_t)c->side;
    TRY(read_slices(c, grey, facts, err));
    if (memchr(c->mask, 1, n) == NULL)
        return err_set(err, ST_PACK_CASE, "no head in any of %d pictures", c->n);
    facts->ct_content = pack_content_hu(c->hu, n);
    facts->mr_content = pack_content(c->mr, n);
    pack_sketch(c->hu, (size_t)c->side * (size_t)c->side, c->n, facts->ct_sketch);
    TRY(pack_seen_check(c->spec->seen, facts, err));
    TRY(pack_pair_gate(c->hu, c->mr, c->mask, n, err));
    TRY(pack_scale_mr(c->spec, c->mask, n, c->mr, facts, err));
    return draw_sheet(c, id, err);
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
        status = prepare_case(&c, id, grey, &facts, err);
    if (status == ST_LIMIT)
        status = pack_case_limit(err);
    if (status == ST_OK)
        status = write_slices(&c, id, mr, writer, &facts, err);
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
