/* See qa_picture.h.
**
** A panel is a plane in patient coordinates, sampled pixel by pixel through the inverse of the
** grid's matrix: the picture looks the same whatever way the grid lies.
**   axial     to the right: patient's left (+x)   down: posterior (+y)
**   coronal   to the right: patient's left (+x)   down: feet (-z)
**   sagittal  to the right: posterior (+y)        down: feet (-z)
** All panels share one scale. Letters in the corners say which side of the patient is which. */
#include "pipeline/qa_picture.h"

#include "pipeline/png_file.h"

#include <math.h>
#include <string.h>

enum { PANEL = 298, GAP = 3, TILE = 32, WIDTH = 3 * PANEL + 2 * GAP, ROWS_MAX = 3 };
enum { GAP_GREY = 96 };
#define AIR_HU (-1024.0f)
#define HEAD_HU (-300)

typedef struct Plane {
    Vec3 origin_vox;          /* of pixel 0, 0 */
    Vec3 right_vox, down_vox; /* of one pixel */
} Plane;

typedef struct Picture {
    const VolumeI16 *ct;
    const VolumeU8 *mask;
    const VolumeF32 *mr;
    double low_hu, width_hu;
    Plane planes[3];
    int32_t height;
    uint8_t *rgb; /* [height][WIDTH][3] */
} Picture;

/* ---- where the head is ---- */

typedef struct Box {
    Vec3 centre_lps; /* of mass */
    double low[3], high[3];
} Box;

static bool is_head(const Picture *p, size_t voxel)
{
    return p->mask != NULL ? p->mask->v[voxel] != 0 : p->ct->v[voxel] > HEAD_HU;
}

/* Centre of mass and bounding box in patient coordinates; the whole grid if there is no head. */
static Box find_head(const Picture *p)
{
    const Grid *g = &p->ct->grid;
    double sum[3] = {0}, n = 0;
    Box box = {.low = {HUGE_VAL, HUGE_VAL, HUGE_VAL}, .high = {-HUGE_VAL, -HUGE_VAL, -HUGE_VAL}};
    for (int pass = 0; pass < 2 && n <= 0; pass++)
        for (int32_t z = 0; z < g->nz; z++)
            for (int32_t y = 0; y < g->ny; y++) {
                size_t row = ((size_t)z * (size_t)g->ny + (size_t)y) * (size_t)g->nx;
                int32_t first = -1, last = -1;
                double count = 0, sum_x = 0;
                for (int32_t x = 0; x < g->nx; x++) {
                    if (pass == 0 && !is_head(p, row + (size_t)x))
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
    box.centre_lps = affine_apply(g->lps_from_vox, (Vec3){sum[0] / n, sum[1] / n, sum[2] / n});
    return box;
}

static Vec3 direction(Affine a, Vec3 v)
{
    return vec3_sub(affine_apply(a, v), affine_apply(a, (Vec3){0, 0, 0}));
}

static Status set_planes(Picture *p, Err *err)
{
    Affine vox_from_lps;
    if (!affine_inverse(p->ct->grid.lps_from_vox, &vox_from_lps))
        return err_set(err, ST_INTERNAL, "the CT's matrix is singular");
    Box box = find_head(p);
    double extent_mm = 0;
    for (int a = 0; a < 3; a++)
        extent_mm = fmax(extent_mm, box.high[a] - box.low[a]);
    double pixel_mm = fmax(extent_mm, 10) * 1.1 / PANEL, half_mm = 0.5 * pixel_mm * (PANEL - 1);
    /* Planes go through the centre of mass; in the plane the box is centred. */
    const double mid[3] = {0.5 * (box.low[0] + box.high[0]), 0.5 * (box.low[1] + box.high[1]),
                           0.5 * (box.low[2] + box.high[2])};
    Vec3 left = {pixel_mm, 0, 0}, posterior = {0, pixel_mm, 0}, feet = {0, 0, -pixel_mm};
    const Vec3 right[3] = {left, left, posterior}, down[3] = {posterior, feet, feet};
    const Vec3 origin[3] = {{mid[0] - half_mm, mid[1] - half_mm, box.centre_lps.z},
                            {mid[0] - half_mm, box.centre_lps.y, mid[2] + half_mm},
                            {box.centre_lps.x, mid[1] - half_mm, mid[2] + half_mm}};
    for (int i = 0; i < 3; i++)
        p->planes[i] = (Plane){affine_apply(vox_from_lps, origin[i]),
                               direction(vox_from_lps, right[i]), direction(vox_from_lps, down[i])};
    return ST_OK;
}

/* ---- sampling ---- */

typedef enum Layer { LAYER_CT, LAYER_MASK, LAYER_MR } Layer;

static double value_at(const Picture *p, Layer layer, size_t voxel)
{
    switch (layer) {
    case LAYER_CT:
        return p->ct->v[voxel];
    case LAYER_MASK:
        return p->mask->v[voxel] != 0;
    case LAYER_MR:
        return (double)p->mr->v[voxel];
    }
    return 0;
}

/* Trilinear; `outside` beyond half a voxel from the grid. */
static double sample(const Picture *p, Layer layer, Vec3 at, double outside)
{
    const Grid *g = &p->ct->grid;
    const int32_t n[3] = {g->nx, g->ny, g->nz};
    const double c[3] = {at.x, at.y, at.z};
    const size_t step[3] = {1, (size_t)g->nx, (size_t)g->nx * (size_t)g->ny};
    double f[3];
    size_t base = 0, up[3];
    for (int a = 0; a < 3; a++) {
        if (!(c[a] >= -0.5 && c[a] <= n[a] - 0.5))
            return outside;
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
            sum += w * value_at(p, layer, voxel);
    }
    return sum;
}

static Vec3 pixel_vox(const Plane *plane, int32_t x, int32_t y)
{
    return (Vec3){plane->origin_vox.x + x * plane->right_vox.x + y * plane->down_vox.x,
                  plane->origin_vox.y + x * plane->right_vox.y + y * plane->down_vox.y,
                  plane->origin_vox.z + x * plane->right_vox.z + y * plane->down_vox.z};
}

static uint8_t grey_of(double norm)
{
    /* The first comparison also catches what is not a number. */
    return !(norm > 0) ? 0 : norm >= 1 ? 255 : (uint8_t)(norm * 255 + 0.5);
}

static uint8_t ct_grey(const Picture *p, Vec3 at)
{
    double hu = sample(p, LAYER_CT, at, (double)AIR_HU);
    return grey_of((hu - p->low_hu) / p->width_hu);
}

static uint8_t mr_grey(const Picture *p, Vec3 at)
{
    return grey_of(sample(p, LAYER_MR, at, 0));
}

static bool inside(const Picture *p, const Plane *plane, int32_t x, int32_t y)
{
    return sample(p, LAYER_MASK, pixel_vox(plane, x, y), 0) >= 0.5;
}

/* Inside, with a 4-neighbour outside. */
static bool on_contour(const Picture *p, const Plane *plane, int32_t x, int32_t y)
{
    return inside(p, plane, x, y) && !(inside(p, plane, x - 1, y) && inside(p, plane, x + 1, y) &&
                                       inside(p, plane, x, y - 1) && inside(p, plane, x, y + 1));
}

typedef enum RowKind { ROW_CT, ROW_MR, ROW_CHECKER } RowKind;

static void draw_panel(const Picture *p, RowKind kind, int panel, int32_t top)
{
    static const uint8_t contour[3] = {255, 200, 0};
    const Plane *plane = &p->planes[panel];
    for (int32_t y = 0; y < PANEL; y++)
        for (int32_t x = 0; x < PANEL; x++) {
            size_t column = (size_t)(panel * (PANEL + GAP) + x);
            uint8_t *out = p->rgb + ((size_t)(top + y) * WIDTH + column) * 3;
            Vec3 at = pixel_vox(plane, x, y);
            bool use_mr = kind == ROW_MR || (kind == ROW_CHECKER && (x / TILE + y / TILE) % 2 == 1);
            memset(out, use_mr ? mr_grey(p, at) : ct_grey(p, at), 3);
            if (kind == ROW_CT && p->mask != NULL && on_contour(p, plane, x, y))
                memcpy(out, contour, 3);
        }
}

/* ---- which side is which ---- */

enum { GLYPH_COLUMNS = 5, GLYPH_ROWS = 7, GLYPH_ZOOM = 2, LETTER_MARGIN = 4 };

typedef struct Glyph {
    char letter;
    uint8_t rows[GLYPH_ROWS]; /* bit 4: the leftmost column */
} Glyph;

static const Glyph GLYPHS[] = {{'R', {0x1e, 0x11, 0x11, 0x1e, 0x14, 0x12, 0x11}},
                               {'L', {0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x1f}},
                               {'A', {0x0e, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11}},
                               {'P', {0x1e, 0x11, 0x11, 0x1e, 0x10, 0x10, 0x10}}};

static void draw_letter(const Picture *p, char letter, int32_t left, int32_t top)
{
    static const uint8_t colour[3] = {0, 200, 255};
    const Glyph *glyph = GLYPHS;
    while (glyph->letter != letter)
        glyph++;
    for (int32_t y = 0; y < GLYPH_ROWS * GLYPH_ZOOM; y++)
        for (int32_t x = 0; x < GLYPH_COLUMNS * GLYPH_ZOOM; x++)
            if ((glyph->rows[y / GLYPH_ZOOM] >> (GLYPH_COLUMNS - 1 - x / GLYPH_ZOOM) & 1) != 0)
                memcpy(p->rgb + ((size_t)(top + y) * WIDTH + (size_t)(left + x)) * 3, colour, 3);
}

/* The patient's sides at the left and right edge of a panel. */
static void draw_sides(const Picture *p, int panel, int32_t top)
{
    int32_t left = panel * (PANEL + GAP) + LETTER_MARGIN;
    int32_t right = panel * (PANEL + GAP) + PANEL - LETTER_MARGIN - GLYPH_COLUMNS * GLYPH_ZOOM;
    draw_letter(p, panel == 2 ? 'A' : 'R', left, top + LETTER_MARGIN);
    draw_letter(p, panel == 2 ? 'P' : 'L', right, top + LETTER_MARGIN);
}

Status qa_picture_write(const char *path, const VolumeI16 *ct, const VolumeU8 *mask,
                        const VolumeF32 *mr, double level_hu, double width_hu, Arena *scratch,
                        Err *err)
{
    Picture p = {.ct = ct,
                 .mask = mask,
                 .mr = mr,
                 .low_hu = level_hu - 0.5 * width_hu,
                 .width_hu = width_hu};
    TRY(set_planes(&p, err));
    int n_rows = mr != NULL ? ROWS_MAX : 1;
    p.height = n_rows * PANEL + (n_rows - 1) * GAP;
    size_t mark = arena_mark(scratch), bytes = (size_t)p.height * WIDTH * 3;
    p.rgb = arena_alloc(scratch, bytes, 1, err);
    if (p.rgb == NULL)
        return ST_LIMIT;
    memset(p.rgb, GAP_GREY, bytes);
    for (int row = 0; row < n_rows; row++)
        for (int panel = 0; panel < 3; panel++)
            draw_panel(&p, (RowKind)row, panel, row * (PANEL + GAP));
    for (int panel = 0; panel < 3; panel++)
        draw_sides(&p, panel, 0);
    Status status = png_write_rgb(path, p.rgb, WIDTH, p.height, err);
    arena_reset(scratch, mark);
    return status;
}
