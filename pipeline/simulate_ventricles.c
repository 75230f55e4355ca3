/* Ventricles of another width: see simulate.h.
**
** The ventricles are the dark voxels deep in the brain. With d the distance from their wall (in mm,
** negative inside), what was at d goes to d + shift(d): the wall moves by the whole width, tissue
** REACH_MM away does not move. Deep inside the new ventricle there is fluid, as the old one may be
** thinner than what moves. */
#include "pipeline/simulate_int.h"

#include "base/parallel.h"
#include "pipeline/components.h"
#include "pipeline/distance.h"
#include "pipeline/filter.h"

#include <math.h>

#define FLUID_BELOW 55.0f /* T1 intensity: between fluid and grey matter */
#define FLUID 32.0        /* of the ventricles, median */
#define DEEP_MM 25.0      /* from the brain's surface: not the furrows */
#define REACH_MM 25.0
#define WALL_MM 1.5 /* the rim of a ventricle, partly tissue, is kept */
#define SMOOTH_MM 1.5

typedef struct Widening {
    const SimulatedHead *head;
    const float *depth_mm2; /* inside the brain, from its surface */
    VolumeF32 wall_mm;      /* distance from the ventricles' wall */
    double wider_mm;
    float *t1;
} Widening;

static Status find_ventricles(const SimulatedHead *h, int threads, float *depth_mm2,
                              VolumeU8 *ret_mask, Arena *scratch, Err *err)
{
    size_t mark = arena_mark(scratch), n = grid_voxels(&h->t1.grid);
    int32_t *queue = arena_alloc(scratch, n, sizeof *queue, err);
    if (queue == NULL)
        return ST_LIMIT;
    distance_squared(&h->t1.grid, h->brain.v, false, (double)INFINITY, threads, depth_mm2);
    for (size_t i = 0; i < n; i++)
        ret_mask->v[i] = h->t1.v[i] < FLUID_BELOW && depth_mm2[i] >= (float)(DEEP_MM * DEEP_MM);
    int64_t voxels = component_keep_largest(&h->t1.grid, ret_mask->v, queue);
    arena_reset(scratch, mark);
    return voxels > 0 ? ST_OK : err_set(err, ST_NIFTI, "the template shows no ventricles");
}

static Status measure_wall(const VolumeU8 *ventricles, int threads, VolumeF32 *ret, Arena *scratch,
                           Err *err)
{
    size_t mark = arena_mark(scratch), n = grid_voxels(&ventricles->grid);
    float *inside = arena_alloc(scratch, n, sizeof *inside, err);
    if (inside == NULL)
        return ST_LIMIT;
    distance_squared(&ventricles->grid, ventricles->v, true, (double)INFINITY, threads, ret->v);
    distance_squared(&ventricles->grid, ventricles->v, false, (double)INFINITY, threads, inside);
    for (size_t i = 0; i < n; i++)
        ret->v[i] = sqrtf(ret->v[i]) - sqrtf(inside[i]);
    Status status = filter_gauss(ret, SMOOTH_MM, threads, scratch, err);
    arena_reset(scratch, mark);
    return status;
}

static Vec3 slope(const float *v, size_t i, size_t row, size_t plane)
{
    Vec3 g = {(double)v[i + 1] - (double)v[i - 1], (double)v[i + row] - (double)v[i - row],
              (double)v[i + plane] - (double)v[i - plane]};
    double norm = fmax(vec3_norm(g), 1e-6);
    return (Vec3){g.x / norm, g.y / norm, g.z / norm};
}

/* T1 at voxel (x, y, z), which is not on the grid's border, after the wall has moved. */
static double moved(const Widening *w, int32_t x, int32_t y, int32_t z, size_t i)
{
    const Grid *g = &w->head->t1.grid;
    size_t row = (size_t)g->nx, plane = row * (size_t)g->ny;
    double d = (double)w->wall_mm.v[i], spacing = grid_spacing_mm(g, 0);
    double shift = w->wider_mm * (d > 0 ? 1 - d / REACH_MM : 1);
    /* Tissue at the brain's surface stays where it is, too. */
    shift *= fmin(1, sqrt((double)w->depth_mm2[i]) / DEEP_MM);
    Vec3 away = slope(w->wall_mm.v, i, row, plane);
    Vec3 from = {x - away.x * shift / spacing, y - away.y * shift / spacing,
                 z - away.z * shift / spacing};
    const Corners at = simulate_corners(g, from);
    double t1 = 0, fluid = fmin(fmax((shift - d) / WALL_MM - 1, 0), 1);
    for (int k = 0; k < 8; k++)
        t1 += at.weight[k] * (double)w->head->t1.v[at.voxel[k]];
    return fluid * FLUID + (1 - fluid) * t1;
}

static void move_plane(void *context, int item)
{
    const Widening *w = context;
    const SimulatedHead *h = w->head;
    const Grid *g = &h->t1.grid;
    int32_t z = item;
    for (int32_t y = 0; y < g->ny; y++)
        for (int32_t x = 0; x < g->nx; x++) {
            size_t i = ((size_t)z * (size_t)g->ny + (size_t)y) * (size_t)g->nx + (size_t)x;
            bool border =
                x == 0 || y == 0 || z == 0 || x == g->nx - 1 || y == g->ny - 1 || z == g->nz - 1;
            bool still = border || h->brain.v[i] == 0 || (double)w->wall_mm.v[i] >= REACH_MM;
            w->t1[i] = still ? h->t1.v[i] : (float)moved(w, x, y, z, i);
        }
}

Status simulate_ventricles(const SimulatedHead *head, double wider_mm, int threads,
                           SimulatedHead *ret, Arena *arena, Arena *scratch, Err *err)
{
    size_t mark = arena_mark(scratch), n = grid_voxels(&head->t1.grid);
    const Grid grid = head->t1.grid;
    float *t1 = arena_alloc(arena, n, sizeof *t1, err);
    float *depth_mm2 = arena_alloc(scratch, n, sizeof *depth_mm2, err);
    VolumeU8 mask = {grid, arena_alloc(scratch, n, 1, err)};
    VolumeF32 wall_mm = {grid, arena_alloc(scratch, n, sizeof(float), err)};
    if (t1 == NULL || depth_mm2 == NULL || mask.v == NULL || wall_mm.v == NULL)
        return ST_LIMIT;
    TRY(find_ventricles(head, threads, depth_mm2, &mask, scratch, err));
    TRY(measure_wall(&mask, threads, &wall_mm, scratch, err));
    Widening w = {head, depth_mm2, wall_mm, wider_mm, t1};
    parallel_for(threads, grid.nz, move_plane, &w);
    arena_reset(scratch, mark);
    *ret = *head;
    ret->t1.v = t1;
    return ST_OK;
}
