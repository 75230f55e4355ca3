/* See components.h. */
#include "pipeline/components.h"

#include "base/err.h"
#include "base/parallel.h"

static inline void take(uint8_t *mask, int32_t voxel, uint8_t from, uint8_t to, int32_t *queue,
                        int64_t *n)
{
    if (mask[voxel] != from)
        return;
    mask[voxel] = to;
    queue[(*n)++] = voxel;
}

static void grow_box(Component *c, int32_t x, int32_t y, int32_t z)
{
    const int32_t at[3] = {x, y, z};
    for (int a = 0; a < 3; a++) {
        c->low[a] = at[a] < c->low[a] ? at[a] : c->low[a];
        c->high[a] = at[a] > c->high[a] ? at[a] : c->high[a];
    }
}

static int64_t walk(const Grid *grid, uint8_t *mask, uint8_t from, uint8_t to, int32_t *queue,
                    int64_t n, Component *box)
{
    int32_t nx = grid->nx, ny = grid->ny, nz = grid->nz, nxy = nx * ny;
    for (int64_t done = 0; done < n; done++) {
        int32_t i = queue[done];
        int32_t z = i / nxy, in_plane = i - z * nxy, y = in_plane / nx, x = in_plane - y * nx;
        grow_box(box, x, y, z);
        if (x > 0)
            take(mask, i - 1, from, to, queue, &n);
        if (x < nx - 1)
            take(mask, i + 1, from, to, queue, &n);
        if (y > 0)
            take(mask, i - nx, from, to, queue, &n);
        if (y < ny - 1)
            take(mask, i + nx, from, to, queue, &n);
        if (z > 0)
            take(mask, i - nxy, from, to, queue, &n);
        if (z < nz - 1)
            take(mask, i + nxy, from, to, queue, &n);
    }
    return n;
}

void component_flood(const Grid *grid, uint8_t *mask, int32_t seed, uint8_t to, int32_t *queue,
                     Component *ret)
{
    uint8_t from = mask[seed];
    ASSERT(from != to);
    Component c = {.first = seed, .low = {INT32_MAX, INT32_MAX, INT32_MAX}, .high = {-1, -1, -1}};
    mask[seed] = to;
    queue[0] = seed;
    c.voxels = walk(grid, mask, from, to, queue, 1, &c);
    *ret = c;
}

int64_t component_reach(const Grid *grid, uint8_t *mask, uint8_t from, uint8_t to, int32_t *queue,
                        int64_t n_queued)
{
    Component box = {0};
    return walk(grid, mask, from, to, queue, n_queued, &box);
}

int64_t component_keep_largest(const Grid *grid, uint8_t *mask, int32_t *queue)
{
    size_t n = grid_voxels(grid);
    for (size_t i = 0; i < n; i++)
        mask[i] = mask[i] != 0;
    Component best = {0}, c;
    for (size_t i = 0; i < n; i++) {
        if (mask[i] != 1)
            continue;
        component_flood(grid, mask, (int32_t)i, 2, queue, &c);
        if (c.voxels > best.voxels)
            best = c;
    }
    if (best.voxels > 0)
        component_flood(grid, mask, best.first, 3, queue, &c);
    for (size_t i = 0; i < n; i++)
        mask[i] = mask[i] == 3;
    return best.voxels;
}

void component_drop_small(const Grid *grid, uint8_t *mask, int64_t min_voxels, int32_t *queue)
{
    size_t n = grid_voxels(grid);
    Component c;
    for (size_t i = 0; i < n; i++) {
        if (mask[i] != 1)
            continue;
        component_flood(grid, mask, (int32_t)i, 2, queue, &c);
        for (int64_t k = 0; c.voxels < min_voxels && k < c.voxels; k++)
            mask[queue[k]] = 0;
    }
    for (size_t i = 0; i < n; i++)
        mask[i] = mask[i] != 0;
}

typedef struct Fill {
    uint8_t *mask;
    int32_t *queue;
    int32_t nu, nv; /* size of a slice */
    size_t step_u, step_v, step_slice;
} Fill;

/* One slice: background joined to the border becomes 2, what stays 0 is a hole. */
static void fill_slice(void *context, int slice)
{
    const Fill *f = context;
    uint8_t *m = f->mask + (size_t)slice * f->step_slice;
    int32_t *queue = f->queue + (size_t)slice * (size_t)f->nu * (size_t)f->nv;
    int32_t n = 0, nu = f->nu, nv = f->nv;
#define VISIT(u, v)                                                                                \
    do {                                                                                           \
        uint8_t *visit_ = m + (size_t)(u)*f->step_u + (size_t)(v)*f->step_v;                       \
        if (*visit_ == 0) {                                                                        \
            *visit_ = 2;                                                                           \
            queue[n++] = (v)*nu + (u);                                                             \
        }                                                                                          \
    } while (0)
    for (int32_t u = 0; u < nu; u++) {
        VISIT(u, 0);
        VISIT(u, nv - 1);
    }
    for (int32_t v = 0; v < nv; v++) {
        VISIT(0, v);
        VISIT(nu - 1, v);
    }
    for (int32_t done = 0; done < n; done++) {
        int32_t v = queue[done] / nu, u = queue[done] - v * nu;
        if (u > 0)
            VISIT(u - 1, v);
        if (u < nu - 1)
            VISIT(u + 1, v);
        if (v > 0)
            VISIT(u, v - 1);
        if (v < nv - 1)
            VISIT(u, v + 1);
    }
#undef VISIT
    for (int32_t v = 0; v < nv; v++)
        for (int32_t u = 0; u < nu; u++) {
            uint8_t *p = m + (size_t)u * f->step_u + (size_t)v * f->step_v;
            *p = *p != 2;
        }
}

void component_fill_slices(const Grid *grid, uint8_t *mask, int axis, int threads, int32_t *queue)
{
    size_t nx = (size_t)grid->nx, nxy = nx * (size_t)grid->ny;
    const int32_t n[3] = {grid->nx, grid->ny, grid->nz};
    const size_t step[3] = {1, nx, nxy};
    int u = axis == 0 ? 1 : 0, v = axis == 2 ? 1 : 2;
    Fill fill = {mask, queue, n[u], n[v], step[u], step[v], step[axis]};
    parallel_for(threads, n[axis], fill_slice, &fill);
}
