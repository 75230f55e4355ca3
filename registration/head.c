/* Threshold, erode, largest component, dilate back. See head.h. At 4 mm: one voxel of erosion cuts
** what is thinner than 12 mm. */
#include "registration/head.h"

#include <math.h>

enum { CANDIDATE = 1, SEEN = 2, KEPT = 4, GROWN = 8, BELOW = 16, OTSU_BINS = 256 };

float head_otsu(const VolumeF32 *image)
{
    size_t n = grid_voxels(&image->grid);
    float low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        low = image->v[i] < low ? image->v[i] : low;
        high = image->v[i] > high ? image->v[i] : high;
    }
    if (!(high > low))
        return high;
    double count[OTSU_BINS] = {0}, sum = 0, below = 0, sum_below = 0, best = -1;
    for (size_t i = 0; i < n; i++)
        count[(int)((image->v[i] - low) / (high - low) * (OTSU_BINS - 0.01f))]++;
    for (int b = 0; b < OTSU_BINS; b++)
        sum += b * count[b];
    int at = 0;
    for (int b = 0; b < OTSU_BINS - 1; b++) {
        below += count[b];
        sum_below += b * count[b];
        double above = (double)n - below;
        if (below <= 0 || above <= 0)
            continue;
        double between = sum_below / below - (sum - sum_below) / above;
        if (below * above * between * between > best) {
            best = below * above * between * between;
            at = b;
        }
    }
    return low + (high - low) * (float)(at + 1) / OTSU_BINS;
}

/* Indices of the up to 6 neighbours of voxel i. */
static int neighbours(const Grid *g, size_t i, size_t ret[6])
{
    size_t nx = (size_t)g->nx, plane = nx * (size_t)g->ny;
    size_t x = i % nx, y = i / nx % (size_t)g->ny, z = i / plane;
    int n = 0;
    if (x > 0)
        ret[n++] = i - 1;
    if (x + 1 < nx)
        ret[n++] = i + 1;
    if (y > 0)
        ret[n++] = i - nx;
    if (y + 1 < (size_t)g->ny)
        ret[n++] = i + nx;
    if (z > 0)
        ret[n++] = i - plane;
    if (z + 1 < (size_t)g->nz)
        ret[n++] = i + plane;
    return n;
}

/* Sets `to` on voxels that have a neighbour (or themselves) with `from`. */
static void grow(const Grid *g, uint8_t *v, uint8_t from, uint8_t to)
{
    size_t n = grid_voxels(g), near[6];
    for (size_t i = 0; i < n; i++) {
        if ((v[i] & from) == 0)
            continue;
        v[i] |= to;
        for (int k = neighbours(g, i, near); k-- > 0;)
            v[near[k]] |= to;
    }
}

/* Marks the eroded voxels' component that holds `seed` as SEEN; returns its size. */
static size_t flood(const Grid *g, uint8_t *v, size_t seed, uint32_t *stack)
{
    size_t size = 0, top = 0, near[6];
    stack[top++] = (uint32_t)seed;
    v[seed] |= SEEN;
    while (top > 0) {
        size_t i = stack[--top];
        size++;
        for (int k = neighbours(g, i, near); k-- > 0;)
            if ((v[near[k]] & (KEPT | SEEN)) == KEPT) {
                v[near[k]] |= SEEN;
                stack[top++] = (uint32_t)near[k];
            }
    }
    return size;
}

/* v: CANDIDATE where above the threshold. On return SEEN marks the largest eroded component. */
static void keep_largest(const Grid *g, uint8_t *v, uint32_t *stack)
{
    size_t n = grid_voxels(g), near[6], most = 0, best = 0;
    for (size_t i = 0; i < n; i++) { /* KEPT: survives erosion; the image's border does not erode */
        bool inside = (v[i] & CANDIDATE) != 0;
        for (int k = neighbours(g, i, near); inside && k-- > 0;)
            inside = (v[near[k]] & CANDIDATE) != 0;
        if (inside)
            v[i] |= KEPT;
    }
    for (size_t i = 0; i < n; i++)
        if ((v[i] & (KEPT | SEEN)) == KEPT) {
            size_t size = flood(g, v, i, stack);
            if (size > most) {
                most = size;
                best = i;
            }
        }
    for (size_t i = 0; i < n; i++)
        v[i] &= (uint8_t)~SEEN;
    if (most > 0)
        (void)flood(g, v, best, stack);
}

static double height_mm(const Grid *g, size_t i)
{
    size_t nx = (size_t)g->nx, ny = (size_t)g->ny;
    Vec3 vox = {(double)(i % nx), (double)(i / nx % ny), (double)(i / (nx * ny))};
    return affine_apply(g->lps_from_vox, vox).z;
}

/* Leaves GROWN on the head and BELOW on what is under the cut; the head's centroid and volume. */
static void measure(uint8_t *v, Head *head)
{
    const Grid *g = &head->where.grid;
    size_t n = grid_voxels(g), count = 0, i = 0;
    double top = -HUGE_VAL, sum[3] = {0};
    for (i = 0; i < n; i++)
        if ((v[i] & SEEN) != 0)
            top = fmax(top, height_mm(g, i));
    for (i = 0; i < n; i++)
        if (height_mm(g, i) < top - HEAD_HEIGHT_MM)
            v[i] = BELOW;
        else
            v[i] = (v[i] & GROWN) != 0 && (v[i] & CANDIDATE) != 0 ? GROWN : 0;
    i = 0;
    for (int z = 0; z < g->nz; z++)
        for (int y = 0; y < g->ny; y++)
            for (int x = 0; x < g->nx; x++, i++)
                if (v[i] == GROWN) {
                    count++;
                    sum[0] += x;
                    sum[1] += y;
                    sum[2] += z;
                }
    double c = count > 0 ? (double)count : 1;
    head->volume_ml = (double)count * fabs(affine_det(g->lps_from_vox)) / 1000;
    head->centroid_lps = affine_apply(g->lps_from_vox, (Vec3){sum[0] / c, sum[1] / c, sum[2] / c});
}

Status head_find(const VolumeF32 *image, float threshold, Arena *arena, Head *ret, Err *err)
{
    const Grid *g = &image->grid;
    size_t n = grid_voxels(g);
    uint8_t *v = arena_alloc(arena, n, 1, err);
    if (v == NULL)
        return ST_LIMIT;
    size_t mark = arena_mark(arena);
    uint32_t *stack = arena_alloc(arena, n, sizeof *stack, err);
    if (stack == NULL)
        return ST_LIMIT;
    for (size_t i = 0; i < n; i++)
        v[i] = image->v[i] > threshold ? CANDIDATE : 0;
    keep_largest(g, v, stack);
    arena_reset(arena, mark);
    grow(g, v, SEEN, GROWN);
    Head head = {.where = {*g, v}};
    measure(v, &head);
    if (head.volume_ml < HEAD_VOLUME_LEAST_ML)
        return err_set(err, ST_REG_OVERLAP, "no head found: the largest piece is %.0f ml",
                       head.volume_ml);
    grow(g, v, GROWN, CANDIDATE); /* two rings around it */
    grow(g, v, CANDIDATE, SEEN);
    for (size_t i = 0; i < n; i++)
        v[i] = (v[i] & BELOW) != 0   ? HEAD_BELOW
               : (v[i] & GROWN) != 0 ? HEAD_INSIDE
               : (v[i] & SEEN) != 0  ? HEAD_NEAR
                                     : HEAD_NONE;
    *ret = head;
    return ST_OK;
}
