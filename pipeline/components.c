/* See components.h. */
#include "pipeline/components.h"

#include "base/err.h"
#include "base/parallel.h"

#include <string.h>

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

enum { GROUP = 16 }; /* slices filled together, one bit each */

typedef struct Fill {
    uint8_t *mask;
    uint16_t *words;   /* two per pixel of a slice and group of slices */
    int32_t n, nu, nv; /* number of slices, size of a slice */
    size_t step_u, step_v, step_slice;
} Fill;

/* Bit k of word (u, v): the background of slice first + k. */
static void pack(const Fill *f, int32_t first, int32_t n, uint16_t *background)
{
    const uint8_t *m = f->mask + (size_t)first * f->step_slice;
    memset(background, 0, (size_t)f->nu * (size_t)f->nv * sizeof *background);
    for (int32_t v = 0; v < f->nv; v++) {
        uint16_t *word = background + (size_t)v * (size_t)f->nu;
        const uint8_t *row = m + (size_t)v * f->step_v;
        if (f->step_slice == 1) {
            for (int32_t u = 0; u < f->nu; u++)
                for (int32_t k = 0; k < n; k++)
                    word[u] |= (uint16_t)((row[(size_t)u * f->step_u + (size_t)k] == 0) << k);
            continue;
        }
        for (int32_t k = 0; k < n; k++, row += f->step_slice)
            for (int32_t u = 0; u < f->nu; u++)
                word[u] |= (uint16_t)((row[u] == 0) << k);
    }
}

/* mask = 1 where a slice's bit is not outside. */
static void unpack(const Fill *f, int32_t first, int32_t n, const uint16_t *outside)
{
    uint8_t *m = f->mask + (size_t)first * f->step_slice;
    for (int32_t v = 0; v < f->nv; v++) {
        const uint16_t *word = outside + (size_t)v * (size_t)f->nu;
        uint8_t *row = m + (size_t)v * f->step_v;
        if (f->step_slice == 1) {
            for (int32_t u = 0; u < f->nu; u++)
                for (int32_t k = 0; k < n; k++)
                    row[(size_t)u * f->step_u + (size_t)k] = (uint8_t)(~word[u] >> k & 1);
            continue;
        }
        for (int32_t k = 0; k < n; k++, row += f->step_slice)
            for (int32_t u = 0; u < f->nu; u++)
                row[u] = (uint8_t)(~word[u] >> k & 1);
    }
}

/* Spreads what is outside into the background of a row, from the row beside it and along itself.
** Returns the bits that were new. */
static uint16_t spread_row(uint16_t *row, const uint16_t *beside, const uint16_t *background,
                           int32_t n)
{
    uint16_t added = 0, carry = 0;
    for (int32_t u = 0; u < n; u++) {
        uint16_t next = (uint16_t)(row[u] | (beside[u] & background[u]));
        added |= (uint16_t)(next ^ row[u]);
        row[u] = next;
    }
    for (int32_t u = 0; u < n; u++) {
        carry = (uint16_t)(row[u] | (carry & background[u]));
        added |= (uint16_t)(carry ^ row[u]);
        row[u] = carry;
    }
    carry = 0;
    for (int32_t u = n - 1; u >= 0; u--) {
        carry = (uint16_t)(row[u] | (carry & background[u]));
        added |= (uint16_t)(carry ^ row[u]);
        row[u] = carry;
    }
    return added;
}

/* Background joined to the border of its slice is outside; sweeps down and up until nothing is
** added. */
static void fill_group(void *context, int group)
{
    const Fill *f = context;
    int32_t nu = f->nu, nv = f->nv, first = group * GROUP;
    size_t n = (size_t)nu * (size_t)nv;
    uint16_t *background = f->words + 2 * n * (size_t)group, *outside = background + n;
    int32_t n_slices = f->n - first < GROUP ? f->n - first : GROUP;
    pack(f, first, n_slices, background);
    memset(outside, 0, n * sizeof *outside);
    for (int32_t v = 0; v < nv; v++) {
        uint16_t *to = outside + (size_t)v * (size_t)nu;
        const uint16_t *from = background + (size_t)v * (size_t)nu;
        if (v == 0 || v == nv - 1)
            memcpy(to, from, (size_t)nu * sizeof *to);
        to[0] = from[0];
        to[nu - 1] = from[nu - 1];
    }
    for (uint16_t added = 1; added != 0;) {
        added = 0;
        for (int32_t k = 0; k < 2 * nv; k++) {
            int32_t v = k < nv ? k : 2 * nv - 1 - k, beside = k < nv ? v - 1 : v + 1;
            beside = beside < 0 || beside >= nv ? v : beside;
            size_t row = (size_t)v * (size_t)nu;
            added |= spread_row(outside + row, outside + (size_t)beside * (size_t)nu,
                                background + row, nu);
        }
    }
    unpack(f, first, n_slices, outside);
}

void component_fill_slices(const Grid *grid, uint8_t *mask, int axis, int threads, int32_t *queue)
{
    size_t nx = (size_t)grid->nx, nxy = nx * (size_t)grid->ny;
    const int32_t n[3] = {grid->nx, grid->ny, grid->nz};
    const size_t step[3] = {1, nx, nxy};
    int u = axis == 0 ? 1 : 0, v = axis == 2 ? 1 : 2;
    /* Two 16-bit words per pixel and 16 slices take no more than one int32 per voxel. */
    Fill fill = {mask, (uint16_t *)queue, n[axis], n[u], n[v], step[u], step[v], step[axis]};
    parallel_for(threads, (n[axis] + GROUP - 1) / GROUP, fill_group, &fill);
}
