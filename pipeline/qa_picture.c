/* See qa_picture.h.
**
** A panel is a plane in the first image's patient coordinates, sampled pixel by pixel through the
** inverse of each grid's matrix: the picture looks the same whatever way the grid lies.
**   axial     to the right: patient's left (+x)   down: posterior (+y)
**   coronal   to the right: patient's left (+x)   down: feet (-z)
**   sagittal  to the right: posterior (+y)        down: feet (-z)
** All panels share one scale. Letters in the corners say which side of the patient is which. */
#include "pipeline/qa_picture.h"

#include "pipeline/canvas.h"

#include <math.h>
#include <string.h>

enum { PANEL = 298, GAP = 3, TILE = 32, WIDTH = 3 * PANEL + 2 * GAP, ROWS_MAX = 3 };
enum { LINES_MAX = 2, LETTER_MARGIN = 4 };
static const Colour GROUND = {96, 96, 96}, LETTER = {0, 200, 255};
#define AIR_HU (-1024.0)
#define SKIN_HU (-300.0)
#define BONE_HU 300.0
#define WIDE_LEVEL_HU (-200.0)
#define WIDE_WIDTH_HU 1600.0

/* One volume that can be looked up at a point of the picture's space. */
typedef struct Layer {
    const Grid *grid;
    const int16_t *i16; /* one of the three */
    const uint8_t *u8;
    const float *f32;
    Affine vox_from_space;
    double low, width, outside; /* shown black; from there to white; beyond the grid */
} Layer;

typedef struct Line { /* drawn where a layer passes through a value */
    const Layer *layer;
    double value;
    uint8_t colour[3];
} Line;

typedef struct Row {
    const Layer *image, *other; /* other: checkerboard of both, NULL without */
    Line lines[LINES_MAX];      /* layer NULL: none */
    const Layer *keep;          /* image above SKIN_HU where this is 0 is red; NULL: nothing is */
} Row;

typedef struct Plane {
    Vec3 origin, right, down; /* mm; of pixel 0, 0; of one pixel */
} Plane;

typedef struct Picture {
    Row rows[ROWS_MAX];
    int n_rows;
    Plane planes[3];
    Canvas canvas;
} Picture;

/* ---- layers ---- */

static Status layer_init(const Grid *grid, Affine image_from_space, Layer *ret, Err *err)
{
    Affine vox_from_image;
    if (!affine_inverse(grid->lps_from_vox, &vox_from_image))
        return err_set(err, ST_INTERNAL, "an image's matrix is singular");
    *ret = (Layer){
        .grid = grid, .vox_from_space = affine_mul(vox_from_image, image_from_space), .width = 1};
    return ST_OK;
}

static Status ct_layer(const VolumeI16 *ct, double level_hu, double width_hu, Layer *ret, Err *err)
{
    TRY(layer_init(&ct->grid, affine_identity(), ret, err));
    ret->i16 = ct->v;
    ret->low = level_hu - 0.5 * width_hu;
    ret->width = width_hu;
    ret->outside = AIR_HU;
    return ST_OK;
}

static Status mask_layer(const VolumeU8 *mask, Layer *ret, Err *err)
{
    TRY(layer_init(&mask->grid, affine_identity(), ret, err));
    ret->u8 = mask->v;
    return ST_OK;
}

static double value_at(const Layer *l, size_t voxel)
{
    return l->i16 != NULL  ? l->i16[voxel]
           : l->u8 != NULL ? l->u8[voxel] != 0
                           : (double)l->f32[voxel];
}

/* Trilinear; `outside` beyond half a voxel from the grid. */
static double sample(const Layer *l, Vec3 point)
{
    const Grid *g = l->grid;
    const Vec3 at = affine_apply(l->vox_from_space, point);
    const int32_t n[3] = {g->nx, g->ny, g->nz};
    const double c[3] = {at.x, at.y, at.z};
    const size_t step[3] = {1, (size_t)g->nx, (size_t)g->nx * (size_t)g->ny};
    double f[3];
    size_t base = 0, up[3];
    for (int a = 0; a < 3; a++) {
        if (!(c[a] >= -0.5 && c[a] <= n[a] - 0.5))
            return l->outside;
        double held = c[a] < 0 ? 0 : c[a] > n[a] - 1 ? n[a] - 1 : c[a];
        int32_t i = (int32_t)held;
        f[a] = held - i;
        base += (size_t)i * step[a];
        up[a] = i < n[a] - 1 ? step[a] : 0;
    }
    double sum = 0;
    for (unsigned corner = 0; corner < 8; corner++) {
        double w = 1;
        size_t voxel = base;
        for (unsigned a = 0; a < 3; a++) {
            bool is_upper = (corner >> a & 1U) != 0;
            w *= is_upper ? f[a] : 1 - f[a];
            voxel += is_upper ? up[a] : 0;
        }
        if (w > 0)
            sum += w * value_at(l, voxel);
    }
    return sum;
}

/* ---- where the head is ---- */

typedef struct Box {
    Vec3 centre; /* of mass */
    double low[3], high[3];
} Box;

/* Centre of mass and bounding box of what is above the value, in patient coordinates; the whole
** grid if nothing is. */
static Box find_head(const Layer *l, double value)
{
    const Grid *g = l->grid;
    double sum[3] = {0}, n = 0;
    Box box = {.low = {HUGE_VAL, HUGE_VAL, HUGE_VAL}, .high = {-HUGE_VAL, -HUGE_VAL, -HUGE_VAL}};
    for (int pass = 0; pass < 2 && n <= 0; pass++)
        for (int32_t z = 0; z < g->nz; z++)
            for (int32_t y = 0; y < g->ny; y++) {
                size_t row = ((size_t)z * (size_t)g->ny + (size_t)y) * (size_t)g->nx;
                int32_t first = -1, last = -1;
                double count = 0, sum_x = 0;
                for (int32_t x = 0; x < g->nx; x++) {
                    if (pass == 0 && !(value_at(l, row + (size_t)x) > value))
                        continue;
                    first = first < 0 ? x : first;
                    last = x;
                    count++;
                    sum_x += x;
                }
                if (first < 0)
                    continue;
                sum[0] += sum_x, sum[1] += count * y, sum[2] += count * z, n += count;
                for (int end = 0; end < 2; end++) {
                    Vec3 v = affine_apply(g->lps_from_vox, (Vec3){end ? last : first, y, z});
                    const double at[3] = {v.x, v.y, v.z};
                    for (int a = 0; a < 3; a++) {
                        box.low[a] = fmin(box.low[a], at[a]);
                        box.high[a] = fmax(box.high[a], at[a]);
                    }
                }
            }
    box.centre = affine_apply(g->lps_from_vox, (Vec3){sum[0] / n, sum[1] / n, sum[2] / n});
    return box;
}

static void set_planes(Picture *p, const Layer *head, double value)
{
    Box box = find_head(head, value);
    double extent_mm = 0;
    for (int a = 0; a < 3; a++)
        extent_mm = fmax(extent_mm, box.high[a] - box.low[a]);
    double pixel_mm = fmax(extent_mm, 10) * 1.1 / PANEL, half_mm = 0.5 * pixel_mm * (PANEL - 1);
    /* Planes go through the centre of mass; in the plane the box is centred. */
    const double mid[3] = {0.5 * (box.low[0] + box.high[0]), 0.5 * (box.low[1] + box.high[1]),
                           0.5 * (box.low[2] + box.high[2])};
    const Vec3 left = {pixel_mm, 0, 0}, posterior = {0, pixel_mm, 0}, feet = {0, 0, -pixel_mm};
    p->planes[0] = (Plane){{mid[0] - half_mm, mid[1] - half_mm, box.centre.z}, left, posterior};
    p->planes[1] = (Plane){{mid[0] - half_mm, box.centre.y, mid[2] + half_mm}, left, feet};
    p->planes[2] = (Plane){{box.centre.x, mid[1] - half_mm, mid[2] + half_mm}, posterior, feet};
}

/* ---- drawing ---- */

static Vec3 pixel_point(const Plane *plane, int32_t x, int32_t y)
{
    return (Vec3){plane->origin.x + x * plane->right.x + y * plane->down.x,
                  plane->origin.y + x * plane->right.y + y * plane->down.y,
                  plane->origin.z + x * plane->right.z + y * plane->down.z};
}

static uint8_t grey_of(const Layer *l, double value)
{
    double norm = (value - l->low) / l->width;
    /* The first comparison also catches what is not a number. */
    return !(norm > 0) ? 0 : norm >= 1 ? 255 : (uint8_t)(norm * 255 + 0.5);
}

static bool is_above(const Line *line, const Plane *plane, int32_t x, int32_t y)
{
    return sample(line->layer, pixel_point(plane, x, y)) >= line->value;
}

/* Above, with a 4-neighbour below. */
static bool on_line(const Line *line, const Plane *plane, int32_t x, int32_t y)
{
    return is_above(line, plane, x, y) &&
           !(is_above(line, plane, x - 1, y) && is_above(line, plane, x + 1, y) &&
             is_above(line, plane, x, y - 1) && is_above(line, plane, x, y + 1));
}

static void draw_pixel(const Row *row, const Plane *plane, int32_t x, int32_t y, uint8_t *out)
{
    Vec3 at = pixel_point(plane, x, y);
    bool is_other = row->other != NULL && (x / TILE + y / TILE) % 2 == 1;
    const Layer *image = is_other ? row->other : row->image;
    double value = sample(image, at);
    memset(out, grey_of(image, value), 3);
    if (row->keep != NULL && value > SKIN_HU && sample(row->keep, at) < 0.5)
        out[0] = 255, out[1] /= 2, out[2] /= 2;
    for (int k = 0; k < LINES_MAX; k++)
        if (row->lines[k].layer != NULL && on_line(&row->lines[k], plane, x, y))
            memcpy(out, row->lines[k].colour, 3);
}

static void draw(Picture *p)
{
    Canvas *c = &p->canvas;
    for (int row = 0; row < p->n_rows; row++)
        for (int panel = 0; panel < 3; panel++)
            for (int32_t y = 0; y < PANEL; y++)
                for (int32_t x = 0; x < PANEL; x++) {
                    size_t line = (size_t)(row * (PANEL + GAP) + y);
                    size_t column = (size_t)(panel * (PANEL + GAP) + x);
                    draw_pixel(&p->rows[row], &p->planes[panel], x, y,
                               c->rgb + (line * WIDTH + column) * 3);
                }
    for (int panel = 0; panel < 3; panel++) { /* the patient's sides */
        int32_t left = panel * (PANEL + GAP) + LETTER_MARGIN;
        int32_t right = left + PANEL - 2 * LETTER_MARGIN - CANVAS_TEXT_WIDTH;
        canvas_text(c, left, LETTER_MARGIN, panel == 2 ? "A" : "R", LETTER);
        canvas_text(c, right, LETTER_MARGIN, panel == 2 ? "P" : "L", LETTER);
    }
}

static Status finish(Picture *p, const char *path, Err *err)
{
    TRY(canvas_open(WIDTH, p->n_rows * PANEL + (p->n_rows - 1) * GAP, GROUND, &p->canvas, err));
    draw(p);
    Status status = canvas_write(&p->canvas, path, err);
    canvas_close(&p->canvas);
    return status;
}

/* ---- the pictures ---- */

static const Line OUTLINE = {NULL, 0.5, {255, 200, 0}};
static const Line BONE_LINE = {NULL, BONE_HU, {0, 230, 60}};

static Line line_of(Line line, const Layer *layer, double value)
{
    line.layer = layer;
    line.value = value;
    return line;
}

Status qa_picture_write(const char *path, const VolumeI16 *ct, const VolumeU8 *mask,
                        const VolumeF32 *mr, double level_hu, double width_hu, Err *err)
{
    Picture p = {.n_rows = mr != NULL ? 3 : 1};
    Layer image, outline, other;
    TRY(ct_layer(ct, level_hu, width_hu, &image, err));
    p.rows[0].image = &image;
    if (mask != NULL) {
        TRY(mask_layer(mask, &outline, err));
        p.rows[0].lines[0] = line_of(OUTLINE, &outline, 0.5);
    }
    if (mr != NULL) {
        TRY(layer_init(&mr->grid, affine_identity(), &other, err));
        other.f32 = mr->v;
        p.rows[1].image = &other;
        p.rows[2] = (Row){.image = &image, .other = &other};
    }
    set_planes(&p, mask != NULL ? &outline : &image, mask != NULL ? 0.5 : SKIN_HU);
    return finish(&p, path, err);
}

Status qa_mask_write(const char *path, const VolumeI16 *ct, const VolumeU8 *mask, double level_hu,
                     double width_hu, Err *err)
{
    Picture p = {.n_rows = 2};
    Layer image, wide, outline;
    TRY(ct_layer(ct, level_hu, width_hu, &image, err));
    TRY(ct_layer(ct, WIDE_LEVEL_HU, WIDE_WIDTH_HU, &wide, err));
    TRY(mask_layer(mask, &outline, err));
    p.rows[0] = (Row){.image = &image, .lines = {line_of(OUTLINE, &outline, 0.5)}};
    p.rows[1] = (Row){.image = &wide, .lines = {line_of(OUTLINE, &outline, 0.5)}, .keep = &outline};
    set_planes(&p, &image, SKIN_HU);
    return finish(&p, path, err);
}

/* The upper end of an MR's window: 2 % of what is above 0 exceed it. */
static Status find_high(const VolumeI16 *mr, Arena *scratch, double *ret, Err *err)
{
    enum { VALUES = INT16_MAX + 1 };
    size_t n = grid_voxels(&mr->grid), total = 0, seen = 0, mark = arena_mark(scratch);
    uint32_t *count = arena_alloc(scratch, VALUES, sizeof *count, err);
    if (count == NULL)
        return ST_LIMIT;
    memset(count, 0, VALUES * sizeof *count);
    for (size_t i = 0; i < n; i++)
        if (mr->v[i] > 0) {
            count[mr->v[i]]++;
            total++;
        }
    int32_t value = INT16_MAX;
    while (value > 1 && 50 * (seen += count[value]) < total)
        value--;
    arena_reset(scratch, mark);
    *ret = value;
    return ST_OK;
}

static Status any_layer(QaVolume v, Affine image_from_space, Arena *scratch, Layer *ret,
                        double *ret_skin, Err *err)
{
    double high = 0;
    TRY(layer_init(&v.volume->grid, image_from_space, ret, err));
    if (!v.is_ct)
        TRY(find_high(v.volume, scratch, &high, err));
    ret->i16 = v.volume->v;
    ret->low = v.is_ct ? -120 : 0;
    ret->width = v.is_ct ? 400 : high;
    ret->outside = v.is_ct ? AIR_HU : 0;
    *ret_skin = v.is_ct ? SKIN_HU : 0.15 * ret->width;
    return ST_OK;
}

Status qa_register_write(const char *path, QaVolume fixed, QaVolume moving,
                         Affine moving_from_fixed, Arena *scratch, Err *err)
{
    Picture p = {.n_rows = 3};
    Layer a, b;
    double skin, moving_skin;
    TRY(any_layer(fixed, affine_identity(), scratch, &a, &skin, err));
    TRY(any_layer(moving, moving_from_fixed, scratch, &b, &moving_skin, err));
    /* Bone is only told in a CT; two outlines of one kind of image would say nothing more. */
    bool is_moving = !fixed.is_ct && moving.is_ct;
    const Layer *drawn = is_moving ? &b : &a;
    Line skin_line = line_of(OUTLINE, drawn, is_moving ? moving_skin : skin);
    Line bone_line = line_of(BONE_LINE, fixed.is_ct || moving.is_ct ? drawn : NULL, BONE_HU);
    p.rows[0] = (Row){.image = &a, .lines = {skin_line, bone_line}};
    p.rows[1] = (Row){.image = &b, .lines = {skin_line, bone_line}};
    p.rows[2] = (Row){.image = &a, .other = &b};
    set_planes(&p, &a, skin);
    return finish(&p, path, err);
}
