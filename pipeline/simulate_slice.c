/* Slices cut from the simulated head in any pose, and spoilt: see simulate.h. */
#include "pipeline/simulate_int.h"

#include <math.h>
#include <string.h>

enum {
    ELASTIC_KNOTS = 6,
    BONE_KNOTS = 12,
    DRIFT_KNOTS = 5,
    KNOTS_MAX = 12,
    GRAIN = 5,
    COUCH_ROWS = 3
};
#define BONE_FROM_HU 300.0f

Affine simulate_pose(const Grid *grid, int32_t side, const double turn_rad[3],
                     const double scale[2], const double shift_px[2], double z_vox)
{
    double cx = cos(turn_rad[0]), sx = sin(turn_rad[0]), cy = cos(turn_rad[1]);
    double sy = sin(turn_rad[1]), cz = cos(turn_rad[2]), sz = sin(turn_rad[2]);
    Affine about_z = {{{cz, -sz, 0, 0}, {sz, cz, 0, 0}, {0, 0, 1, 0}}};
    Affine about_y = {{{cy, 0, sy, 0}, {0, 1, 0, 0}, {-sy, 0, cy, 0}}};
    Affine about_x = {{{1, 0, 0, 0}, {0, cx, -sx, 0}, {0, sx, cx, 0}}};
    double centre = 0.5 * (side - 1);
    Affine in_plane = {{{scale[0], 0, 0, scale[0] * (shift_px[0] - centre)},
                        {0, scale[1], 0, scale[1] * (shift_px[1] - centre)},
                        {0, 0, 1, 0}}};
    Affine pose = affine_mul(about_z, affine_mul(about_y, affine_mul(about_x, in_plane)));
    pose.m[0][3] += 0.5 * (grid->nx - 1);
    pose.m[1][3] += 0.5 * (grid->ny - 1);
    pose.m[2][3] += z_vox;
    return pose;
}

TissueHu simulate_random_tissue(Random *random)
{
    TissueHu t;
    t.fluid = random_between(random, 3, 14);
    t.grey = random_between(random, 34, 42);
    t.white = random_between(random, 25, 32);
    return t;
}

SliceRecipe simulate_random_recipe(const Grid *grid, int32_t side, Random *random)
{
    static const int32_t thicks[] = {1, 1, 2, 3, 5};
    static const double turn_rad[3] = {0.10, 0.06, 0.12};
    double turn[3], scale[2], shift[2], z = random_between(random, 8, grid->nz - 12);
    SliceRecipe r = {.thick = thicks[random_below(random, 5)]};
    for (int i = 0; i < 3; i++)
        turn[i] = turn_rad[i] * random_normal(random);
    for (int i = 0; i < 2; i++) {
        scale[i] = random_between(random, 0.86, 1.14);
        scale[i] *= random_between(random, 0.95, 1.05);
        shift[i] = 6 * random_normal(random);
    }
    if (random_unit(random) < 0.5)
        scale[0] = -scale[0];
    r.vox_from_pixel = simulate_pose(grid, side, turn, scale, shift, z);
    r.tissue = simulate_random_tissue(random);
    r.elastic_px = random_between(random, 0, 4);
    r.bone_hu = 120;
    r.noise_hu = random_between(random, 1, 15);
    r.grain_hu = random_between(random, 0, 12);
    r.drift_hu = random_between(random, 0, 2.5);
    r.offset_hu = 1.5 * random_normal(random);
    if (random_unit(random) < 0.6)
        r.blur_px = random_between(random, 0.3, 1);
    if (random_unit(random) < 0.15) { /* a mask may leave what touches the head */
        r.couch_row = (int32_t)random_between(random, 0.85 * side, 0.97 * side);
        r.couch_hu = random_between(random, -200, 300);
    }
    return r;
}

/* ---- smooth random fields -------------------------------------------------------------------- */

/* Cubic (Catmull-Rom) weights of four neighbours at fraction f. */
static void cubic(double f, double ret[4])
{
    ret[0] = ((-0.5 * f + 1) * f - 0.5) * f;
    ret[1] = (1.5 * f - 2.5) * f * f + 1;
    ret[2] = ((-1.5 * f + 2) * f + 0.5) * f;
    ret[3] = (0.5 * f - 0.5) * f * f;
}

static int clamp(int i, int n)
{
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

/* Adds `amount` times a field of n x n normal numbers, interpolated over side x side. */
static void add_field(int32_t side, int n, double amount, Random *random, float *ret)
{
    double knots[KNOTS_MAX][KNOTS_MAX];
    for (int y = 0; y < n; y++)
        for (int x = 0; x < n; x++)
            knots[y][x] = random_normal(random);
    double step = (double)(n - 1) / (side - 1);
    for (int32_t y = 0; y < side; y++)
        for (int32_t x = 0; x < side; x++) {
            double wx[4], wy[4], sum = 0;
            int ix = (int)(x * step), iy = (int)(y * step);
            cubic(x * step - ix, wx);
            cubic(y * step - iy, wy);
            for (int j = 0; j < 4; j++)
                for (int i = 0; i < 4; i++)
                    sum += wy[j] * wx[i] * knots[clamp(iy + j - 1, n)][clamp(ix + i - 1, n)];
            ret[(size_t)y * (size_t)side + (size_t)x] += (float)(amount * sum);
        }
}

/* ---- cutting --------------------------------------------------------------------------------- */

typedef struct Sample {
    double hu, t1, brain, head;
} Sample;

static bool is_inside(const Grid *g, Vec3 p)
{
    return p.x > -0.5 && p.x < g->nx - 0.5 && p.y > -0.5 && p.y < g->ny - 0.5 && p.z > -0.5 &&
           p.z < g->nz - 0.5;
}

Corners simulate_corners(const Grid *g, Vec3 p)
{
    double c[3] = {fmin(fmax(p.x, 0), g->nx - 1), fmin(fmax(p.y, 0), g->ny - 1),
                   fmin(fmax(p.z, 0), g->nz - 1)};
    const int32_t n[3] = {g->nx, g->ny, g->nz};
    const size_t step[3] = {1, (size_t)g->nx, (size_t)g->nx * (size_t)g->ny};
    size_t base = 0, up[3];
    double f[3];
    for (int a = 0; a < 3; a++) {
        int32_t i = (int32_t)c[a];
        f[a] = c[a] - i;
        base += (size_t)i * step[a];
        up[a] = i < n[a] - 1 ? step[a] : 0;
    }
    Corners ret;
    for (unsigned corner = 0; corner < 8; corner++) {
        ret.voxel[corner] = base;
        ret.weight[corner] = 1;
        for (unsigned a = 0; a < 3; a++) {
            bool upper = (corner >> a & 1U) != 0;
            ret.weight[corner] *= upper ? f[a] : 1 - f[a];
            ret.voxel[corner] += upper ? up[a] : 0;
        }
    }
    return ret;
}

static Sample sample_at(const SimulatedHead *h, Vec3 p)
{
    const Corners at = simulate_corners(&h->t1.grid, p);
    Sample s = {0};
    for (int i = 0; i < 8; i++) {
        size_t voxel = at.voxel[i];
        double w = at.weight[i];
        s.hu += w * (double)h->hu.v[voxel];
        s.t1 += w * (double)h->t1.v[voxel];
        s.brain += w * h->brain.v[voxel];
        s.head += w * h->head.v[voxel];
    }
    return s;
}

typedef struct Plane {
    float *hu, *mr, *head; /* [side][side] */
} Plane;

static void cut_pixel(const SimulatedHead *h, const SliceRecipe *r, Vec3 p, size_t i, Plane *ret)
{
    double hu = 0, mr = 0, head = 0;
    if (!is_inside(&h->t1.grid, p)) {
        ret->hu[i] = -1000;
        ret->mr[i] = ret->head[i] = 0;
        return;
    }
    for (int32_t k = 0; k < r->thick; k++) {
        Sample s = sample_at(h, (Vec3){p.x, p.y, p.z + k - 0.5 * (r->thick - 1)});
        hu += s.brain * simulate_brain_hu(s.t1, &r->tissue) + (1 - s.brain) * s.hu;
        mr += s.head * (double)simulate_target(s.t1);
        head += s.head;
    }
    ret->hu[i] = (float)(hu / r->thick);
    ret->mr[i] = (float)(mr / r->thick);
    ret->head[i] = (float)(head / r->thick);
}

/* ---- spoiling -------------------------------------------------------------------------------- */

static void add_noise(const SliceRecipe *r, int32_t side, Random *random, float *work, float *hu)
{
    size_t n = (size_t)side * (size_t)side;
    for (size_t i = 0; i < n; i++)
        hu[i] += (float)(r->noise_hu * random_normal(random) + r->offset_hu);
    for (size_t i = 0; i < n; i++) /* mean of 5 x 5 independent ones, in a torus */
        work[i] = (float)random_normal(random);
    for (int32_t y = 0; y < side; y++)
        for (int32_t x = 0; x < side; x++) {
            double sum = 0;
            for (int j = 0; j < GRAIN; j++)
                for (int i = 0; i < GRAIN; i++)
                    sum += (double)
                        work[(size_t)((y + j) % side) * (size_t)side + (size_t)((x + i) % side)];
            hu[(size_t)y * (size_t)side + (size_t)x] +=
                (float)(r->grain_hu * sum / (GRAIN * GRAIN));
        }
    add_field(side, DRIFT_KNOTS, r->drift_hu, random, hu);
}

static void blur_rows(int32_t side, double sigma, const float *from, float *to)
{
    enum { HALF = 3 };
    double window[2 * HALF + 1], sum = 0;
    for (int k = -HALF; k <= HALF; k++)
        sum += window[k + HALF] = exp(-k * k / (2 * sigma * sigma));
    for (int32_t y = 0; y < side; y++)
        for (int32_t x = 0; x < side; x++) { /* written transposed: two calls blur both ways */
            double v = 0;
            for (int k = -HALF; k <= HALF; k++)
                v += window[k + HALF] / sum *
                     (double)from[(size_t)y * (size_t)side + (size_t)clamp(x + k, side)];
            to[(size_t)x * (size_t)side + (size_t)y] = (float)v;
        }
}

static void spoil(const SliceRecipe *r, int32_t side, Random *random, float *work, float *hu)
{
    size_t n = (size_t)side * (size_t)side;
    memset(work, 0, n * sizeof *work);
    add_field(side, BONE_KNOTS, r->bone_hu, random, work);
    for (size_t i = 0; i < n; i++)
        hu[i] += hu[i] > BONE_FROM_HU ? work[i] : 0;
    add_noise(r, side, random, work, hu);
    if (r->blur_px > 0) {
        blur_rows(side, r->blur_px, hu, work);
        blur_rows(side, r->blur_px, work, hu);
    }
}

Status simulate_slice(const SimulatedHead *head, const SliceRecipe *recipe, int32_t side,
                      Random *random, int16_t *ret_hu, uint8_t *ret_mask, uint16_t *ret_mr,
                      Arena *scratch, Err *err)
{
    size_t mark = arena_mark(scratch), n = (size_t)side * (size_t)side;
    float *memory = arena_alloc(scratch, 5 * n, sizeof *memory, err);
    if (memory == NULL)
        return ST_LIMIT;
    Plane plane = {memory, memory + n, memory + 2 * n};
    float *dx = memory + 3 * n, *dy = memory + 4 * n;
    memset(dx, 0, 2 * n * sizeof *dx);
    if (recipe->elastic_px > 0) {
        add_field(side, ELASTIC_KNOTS, recipe->elastic_px, random, dx);
        add_field(side, ELASTIC_KNOTS, recipe->elastic_px, random, dy);
    }
    for (size_t i = 0; i < n; i++) {
        Vec3 pixel = {(double)(i % (size_t)side) + (double)dx[i],
                      (double)(i / (size_t)side) + (double)dy[i], 0};
        cut_pixel(head, recipe, affine_apply(recipe->vox_from_pixel, pixel), i, &plane);
    }
    if (recipe->noise_hu > 0)
        spoil(recipe, side, random, dx, plane.hu);
    for (size_t i = 0; i < n; i++) {
        ret_hu[i] = (int16_t)lrint(fmin(fmax((double)plane.hu[i], -1024), 3071));
        ret_mask[i] = plane.head[i] >= 0.5f;
        ret_mr[i] = ret_mask[i] != 0 ? (uint16_t)lrintf(65535 * plane.mr[i]) : 0;
    }
    size_t first = (size_t)recipe->couch_row * (size_t)side;
    for (size_t i = first; first > 0 && i < first + COUCH_ROWS * (size_t)side && i < n; i++) {
        ret_hu[i] = (int16_t)fmax(ret_hu[i], recipe->couch_hu);
        ret_mask[i] = 1;
    }
    arena_reset(scratch, mark);
    return ST_OK;
}
