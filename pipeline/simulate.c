/* The head: see simulate.h. */
#include "pipeline/simulate.h"

#include "pipeline/components.h"
#include "pipeline/distance.h"
#include "pipeline/filter.h"
#include "pipeline/nifti.h"

#include <math.h>
#include <string.h>

enum { PAD = 12, HEAD_CLOSING = 6, BRAIN_CLOSING = 3 };
#define HEAD_LEVEL 14.0f /* of the smoothed T1: above the noise of air */
#define DARK_LEVEL 38.0f /* below it: bone or air */
#define AIR_LEVEL 16.0f
#define BONE_MM 16.0 /* from the brain: the skull; farther away dark is air or other bone */

typedef struct Knot {
    double x, y;
} Knot;

/* Linear between knots, constant beyond. */
static double interpolate(double x, const Knot *knots, int n)
{
    if (x <= knots[0].x)
        return knots[0].y;
    for (int i = 1; i < n; i++)
        if (x <= knots[i].x)
            return knots[i - 1].y + (x - knots[i - 1].x) / (knots[i].x - knots[i - 1].x) *
                                        (knots[i].y - knots[i - 1].y);
    return knots[n - 1].y;
}

double simulate_brain_hu(double intensity, const TissueHu *t)
{
    const Knot knots[] = {{0, t->fluid},
                          {28, t->fluid},
                          {48, (t->fluid + t->grey) / 2},
                          {72, t->grey},
                          {88, t->grey - 0.3 * (t->grey - t->white)},
                          {108, t->white},
                          {140, t->white - 1}};
    return interpolate(intensity, knots, sizeof knots / sizeof knots[0]);
}

float simulate_target(double intensity)
{
    return (float)fmin(fmax(intensity / 160, 0), 1);
}

/* ---- morphology ------------------------------------------------------------------------------ */

/* One step of dilation (or, of the complement, erosion) by the six neighbours; the border stays. */
static void spread(const Grid *g, const uint8_t *from, uint8_t value, uint8_t *to)
{
    size_t row = (size_t)g->nx, plane = row * (size_t)g->ny;
    memcpy(to, from, plane * (size_t)g->nz);
    for (size_t z = 1; z + 1 < (size_t)g->nz; z++)
        for (size_t y = 1; y + 1 < (size_t)g->ny; y++)
            for (size_t x = 1; x + 1 < row; x++) {
                size_t i = z * plane + y * row + x;
                bool any = from[i - 1] == value || from[i + 1] == value || from[i - row] == value ||
                           from[i + row] == value || from[i - plane] == value ||
                           from[i + plane] == value;
                if (any)
                    to[i] = value;
            }
}

/* Closing in place: `steps` of dilation, then of erosion, on a copy with room around. */
static Status close_mask(const Grid *grid, int steps, uint8_t *mask, Arena *scratch, Err *err)
{
    size_t mark = arena_mark(scratch);
    Grid big = {grid->nx + 2 * PAD, grid->ny + 2 * PAD, grid->nz + 2 * PAD, grid->lps_from_vox};
    size_t n = grid_voxels(&big), row = (size_t)grid->nx;
    uint8_t *a = arena_alloc(scratch, n, 1, err), *b = arena_alloc(scratch, n, 1, err);
    if (a == NULL || b == NULL)
        return ST_LIMIT;
    memset(a, 0, n);
    for (int pass = 0; pass < 2; pass++) {
        for (int32_t z = 0; z < grid->nz; z++)
            for (int32_t y = 0; y < grid->ny; y++) {
                uint8_t *small = mask + ((size_t)z * (size_t)grid->ny + (size_t)y) * row;
                uint8_t *large =
                    a + (((size_t)(z + PAD) * (size_t)big.ny + (size_t)(y + PAD)) * (size_t)big.nx +
                         PAD);
                memcpy(pass == 0 ? large : small, pass == 0 ? small : large, row);
            }
        for (int step = 0; pass == 0 && step < 2 * steps; step++) {
            spread(&big, a, step < steps, b);
            uint8_t *swap = a;
            a = b;
            b = swap;
        }
    }
    arena_reset(scratch, mark);
    return ST_OK;
}

/* What is 0 and not joined to the grid's border becomes 1. */
static Status fill_holes(const Grid *g, uint8_t *mask, Arena *scratch, Err *err)
{
    enum { OUTSIDE = 2 };
    size_t mark = arena_mark(scratch), n = grid_voxels(g);
    int32_t *queue = arena_alloc(scratch, n, sizeof *queue, err);
    int64_t queued = 0;
    if (queue == NULL)
        return ST_LIMIT;
    for (size_t i = 0; i < n; i++) {
        int32_t x = (int32_t)(i % (size_t)g->nx), y = (int32_t)(i / (size_t)g->nx) % g->ny;
        int32_t z = (int32_t)(i / ((size_t)g->nx * (size_t)g->ny));
        bool border =
            x == 0 || y == 0 || z == 0 || x == g->nx - 1 || y == g->ny - 1 || z == g->nz - 1;
        if (border && mask[i] == 0) {
            mask[i] = OUTSIDE;
            queue[queued++] = (int32_t)i;
        }
    }
    (void)component_reach(g, mask, 0, OUTSIDE, queue, queued);
    for (size_t i = 0; i < n; i++)
        mask[i] = mask[i] != OUTSIDE;
    arena_reset(scratch, mark);
    return ST_OK;
}

/* ---- tissue ---------------------------------------------------------------------------------- */

static Status find_head(const float *smooth, SimulatedHead *h, int threads, Arena *scratch,
                        Err *err)
{
    size_t mark = arena_mark(scratch), n = grid_voxels(&h->head.grid);
    for (size_t i = 0; i < n; i++)
        h->head.v[i] = smooth[i] > HEAD_LEVEL;
    TRY(close_mask(&h->head.grid, HEAD_CLOSING, h->head.v, scratch, err));
    int32_t *queue = arena_alloc(scratch, n, sizeof *queue, err);
    if (queue == NULL)
        return ST_LIMIT;
    component_fill_slices(&h->head.grid, h->head.v, 2, threads, queue);
    int64_t voxels = component_keep_largest(&h->head.grid, h->head.v, queue);
    arena_reset(scratch, mark);
    return voxels > 0 ? ST_OK : err_set(err, ST_NIFTI, "the template shows no head");
}

static Status find_brain(const VolumeF32 *given, SimulatedHead *h, Arena *scratch, Err *err)
{
    size_t n = grid_voxels(&given->grid);
    for (size_t i = 0; i < n; i++)
        h->brain.v[i] = given->v[i] > 0;
    TRY(close_mask(&given->grid, BRAIN_CLOSING, h->brain.v, scratch, err));
    return fill_holes(&given->grid, h->brain.v, scratch, err);
}

/* Outside the brain; the brain itself is left as soft tissue. */
static float tissue_hu(float t1, float smooth, double distance_mm2)
{
    static const Knot soft[] = {{38, 60}, {70, 50}, {120, 30}, {170, -80}, {254, -110}};
    static const Knot bone[] = {{5, 1300}, {25, 900}, {38, 350}};
    if (smooth >= DARK_LEVEL || distance_mm2 <= 0)
        return (float)interpolate((double)t1, soft, sizeof soft / sizeof soft[0]);
    if (distance_mm2 < BONE_MM * BONE_MM)
        return (float)interpolate((double)smooth, bone, sizeof bone / sizeof bone[0]);
    return smooth < AIR_LEVEL ? -900 : 250;
}

static Status fill_tissue(const float *smooth, SimulatedHead *h, int threads, Arena *scratch,
                          Err *err)
{
    size_t mark = arena_mark(scratch), n = grid_voxels(&h->hu.grid);
    float *distance_mm2 = arena_alloc(scratch, n, sizeof *distance_mm2, err);
    if (distance_mm2 == NULL)
        return ST_LIMIT;
    distance_squared(&h->hu.grid, h->brain.v, true, (double)INFINITY, threads, distance_mm2);
    for (size_t i = 0; i < n; i++)
        h->hu.v[i] =
            h->head.v[i] == 0 ? -1000 : tissue_hu(h->t1.v[i], smooth[i], (double)distance_mm2[i]);
    arena_reset(scratch, mark);
    return ST_OK;
}

/* Outside the scanned part: air. */
static void zero_missing(VolumeF32 *volume)
{
    for (size_t i = 0; i < grid_voxels(&volume->grid); i++)
        volume->v[i] = isnan(volume->v[i]) ? 0 : volume->v[i];
}

Status simulate_head(const char *t1_path, const char *brain_path, int threads, SimulatedHead *ret,
                     Arena *arena, Arena *scratch, Err *err)
{
    SimulatedHead h;
    VolumeF32 brain;
    TRY(nifti_read_f32(t1_path, arena, &h.t1, err));
    TRY(nifti_read_f32(brain_path, scratch, &brain, err));
    if (!grid_equal(&h.t1.grid, &brain.grid, 0.01))
        return err_set(err, ST_NIFTI, "the head and its brain are on two grids");
    zero_missing(&h.t1);
    zero_missing(&brain);
    size_t n = grid_voxels(&h.t1.grid);
    VolumeF32 smooth = {h.t1.grid, arena_alloc(scratch, n, sizeof(float), err)};
    h.hu = (VolumeF32){h.t1.grid, arena_alloc(arena, n, sizeof(float), err)};
    h.brain = (VolumeU8){h.t1.grid, arena_alloc(arena, n, 1, err)};
    h.head = (VolumeU8){h.t1.grid, arena_alloc(arena, n, 1, err)};
    if (smooth.v == NULL || h.hu.v == NULL || h.brain.v == NULL || h.head.v == NULL)
        return ST_LIMIT;
    memcpy(smooth.v, h.t1.v, n * sizeof(float));
    TRY(filter_gauss(&smooth, grid_spacing_mm(&h.t1.grid, 0), threads, scratch, err));
    TRY(find_brain(&brain, &h, scratch, err));
    TRY(find_head(smooth.v, &h, threads, scratch, err));
    TRY(fill_tissue(smooth.v, &h, threads, scratch, err));
    *ret = h;
    return ST_OK;
}

Status simulate_ct(const SimulatedHead *head, const TissueHu *tissue, VolumeI16 *ret, Arena *arena,
                   Err *err)
{
    size_t n = grid_voxels(&head->t1.grid);
    VolumeI16 ct = {head->t1.grid, arena_alloc(arena, n, sizeof(int16_t), err)};
    if (ct.v == NULL)
        return ST_LIMIT;
    for (size_t i = 0; i < n; i++)
        ct.v[i] =
            (int16_t)lrint(head->brain.v[i] != 0 ? simulate_brain_hu((double)head->t1.v[i], tissue)
                                                 : (double)head->hu.v[i]);
    *ret = ct;
    return ST_OK;
}
