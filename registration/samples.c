/* See samples_int.h. */
#include "registration/samples_int.h"

#include <math.h>
#include <string.h>

enum { CT_LOW_HU = -500, CT_HIGH_HU = 1000 }; /* air to dense bone; metal says nothing more */
#define CT_HEAD_HU (-300.0f)
#define CT_OTHER_HU (-480.0f) /* foam and the blurred edges of the table */
#define MR_CLIP_FRAC 0.001    /* spikes: this part of the voxels is clipped at the bright end */
#define MARGIN_MM 24.0        /* of air kept around the fixed head */

/* Range of an MR's values: from the least, to where MR_CLIP_FRAC of the voxels are brighter. */
static Status value_range(const VolumeI16 *image, Arena *arena, int *ret_low, int *ret_high,
                          Err *err)
{
    enum { VALUES = 65536, LOWEST = -32768 };
    size_t mark = arena_mark(arena), n = grid_voxels(&image->grid);
    uint32_t *count = arena_alloc(arena, VALUES, sizeof *count, err);
    if (count == NULL)
        return ST_LIMIT;
    memset(count, 0, VALUES * sizeof *count);
    for (size_t i = 0; i < n; i++)
        count[image->v[i] - LOWEST]++;
    int low = 0, high = VALUES - 1;
    while (low < high && count[low] == 0)
        low++;
    for (double above = count[high]; high > low && above <= MR_CLIP_FRAC * (double)n;)
        above += count[--high];
    arena_reset(arena, mark);
    *ret_low = low + LOWEST;
    *ret_high = high + LOWEST;
    return ST_OK;
}

Status image_prepare(const VolumeI16 *volume, RegModality modality, int threads, Arena *arena,
                     Image *ret, Err *err)
{
    Image image = {.modality = modality,
                   .low = CT_LOW_HU,
                   .high = CT_HIGH_HU,
                   .threshold = CT_HEAD_HU,
                   .other = CT_OTHER_HU};
    if (modality == REG_MR)
        TRY(value_range(volume, arena, &image.low, &image.high, err));
    TRY(pyramid_build(volume, image.low, image.high, threads, arena, &image.pyramid, err));
    const VolumeF32 *middle = &image.pyramid.level[PYRAMID_4MM];
    if (modality == REG_MR)
        image.threshold = image.other = head_otsu(middle);
    TRY(head_find(middle, image.threshold, arena, &image.head, err));
    *ret = image;
    return ST_OK;
}

/* First index and number of samples along each axis of `grid` (a level of the fixed image) that lie
** within MARGIN_MM of the head. */
static void head_box(const Head *head, const Grid *grid, int ret_first[3], int ret_n[3])
{
    const Grid *g = &head->where.grid;
    int low[3] = {INT32_MAX, INT32_MAX, INT32_MAX}, high[3] = {0, 0, 0};
    size_t i = 0;
    for (int z = 0; z < g->nz; z++)
        for (int y = 0; y < g->ny; y++)
            for (int x = 0; x < g->nx; x++)
                if (head->where.v[i++] == HEAD_INSIDE) {
                    const int at[3] = {x, y, z};
                    for (int a = 0; a < 3; a++) {
                        low[a] = at[a] < low[a] ? at[a] : low[a];
                        high[a] = at[a] > high[a] ? at[a] : high[a];
                    }
                }
    const int n[3] = {grid->nx, grid->ny, grid->nz};
    for (int a = 0; a < 3; a++) {
        double spacing_mm = grid_spacing_mm(grid, a), from_mm = grid_spacing_mm(g, a);
        int first = (int)ceil((low[a] * from_mm - MARGIN_MM) / spacing_mm);
        int last = (int)floor((high[a] * from_mm + MARGIN_MM) / spacing_mm);
        ret_first[a] = first < 0 ? 0 : first;
        ret_n[a] = (last < n[a] ? last : n[a] - 1) - ret_first[a] + 1;
    }
}

/* From the indices of a level to what the head's map says there. */
typedef struct Lookup {
    const Head *head;
    double ratio[3]; /* of the spacings */
} Lookup;

static Lookup lookup_of(const Head *head, const Grid *level)
{
    Lookup l = {.head = head};
    for (int a = 0; a < 3; a++)
        l.ratio[a] = grid_spacing_mm(level, a) / grid_spacing_mm(&head->where.grid, a);
    return l;
}

static int head_at(const Lookup *l, int x, int y, int z)
{
    const Grid *g = &l->head->where.grid;
    int i = (int)(x * l->ratio[0] + 0.5), j = (int)(y * l->ratio[1] + 0.5);
    int k = (int)(z * l->ratio[2] + 0.5);
    i = i < g->nx ? i : g->nx - 1;
    j = j < g->ny ? j : g->ny - 1;
    k = k < g->nz ? k : g->nz - 1;
    return l->head->where.v[((size_t)k * (size_t)g->ny + (size_t)j) * (size_t)g->nx + (size_t)i];
}

void image_blank_others(Image *moving)
{
    for (int l = 0; l < PYRAMID_LEVELS; l++) {
        VolumeF32 *m = &moving->pyramid.level[l];
        Lookup lookup = lookup_of(&moving->head, &m->grid);
        size_t i = 0;
        for (int z = 0; z < m->grid.nz; z++)
            for (int y = 0; y < m->grid.ny; y++)
                for (int x = 0; x < m->grid.nx; x++, i++)
                    if (m->v[i] > moving->other && head_at(&lookup, x, y, z) == HEAD_NONE)
                        m->v[i] = (float)moving->low;
    }
}

/* Bin coordinate of a CT value: bins are narrow where tissues differ by few HU. */
static float ct_bin(float hu)
{
    static const float at_hu[] = {-500, -200, -20, 0, 80, 120, 300, 1000};
    static const float at_bin[] = {0, 6, 12, 14, 30, 33, 38, METRIC_BINS - 1};
    int i = 0;
    while (i < 6 && hu > at_hu[i + 1])
        i++;
    float u = at_bin[i] + (hu - at_hu[i]) / (at_hu[i + 1] - at_hu[i]) * (at_bin[i + 1] - at_bin[i]);
    return u < 0 ? 0 : u;
}

/* Bin coordinates and head flags of the box of fixed samples that starts at `first`. */
static void fill_samples(const Image *fixed, const VolumeF32 *f, const int first[3], const int n[3],
                         float *bin, uint8_t *head, double *ret_n_head)
{
    float scale = (float)(METRIC_BINS - 1) / (float)(fixed->high - fixed->low);
    bool is_ct = fixed->modality == REG_CT;
    Lookup lookup = lookup_of(&fixed->head, &f->grid);
    size_t to = 0, count = 0;
    for (int z = first[2]; z < first[2] + n[2]; z++)
        for (int y = first[1]; y < first[1] + n[1]; y++)
            for (int x = first[0]; x < first[0] + n[0]; x++, to++) {
                size_t row = (size_t)z * (size_t)f->grid.ny + (size_t)y;
                float v = f->v[row * (size_t)f->grid.nx + (size_t)x];
                float u = is_ct ? ct_bin(v) : (v - (float)fixed->low) * scale;
                int where = head_at(&lookup, x, y, z);
                bool is_other = (where == HEAD_NONE && v > fixed->other) ||
                                (where == HEAD_BELOW && v > fixed->threshold);
                bin[to] = is_other ? -1 : u > 0 ? u : 0;
                head[to] = where == HEAD_INSIDE;
                count += head[to];
            }
    *ret_n_head = (double)count;
}

Status samples_prepare(const Image *fixed, const Image *moving, int l, Arena *arena,
                       MetricLevel *ret, Err *err)
{
    const VolumeF32 *f = &fixed->pyramid.level[l], *m = &moving->pyramid.level[l];
    if (m->grid.nx < 2 || m->grid.ny < 2 || m->grid.nz < 2)
        return err_set(err, ST_REG_OVERLAP, "moving volume is too thin to register");
    int first[3], n[3];
    head_box(&fixed->head, &f->grid, first, n);
    MetricLevel level = {
        .fixed = {n[0], n[1], n[2], f->grid.lps_from_vox},
        .moving = *m,
        .centre_lps = fixed->head.centroid_lps,
    };
    Vec3 origin = affine_apply(f->grid.lps_from_vox, (Vec3){first[0], first[1], first[2]});
    level.fixed.lps_from_vox.m[0][3] = origin.x;
    level.fixed.lps_from_vox.m[1][3] = origin.y;
    level.fixed.lps_from_vox.m[2][3] = origin.z;
    float *bin = arena_alloc(arena, grid_voxels(&level.fixed), sizeof *bin, err);
    if (bin == NULL)
        return ST_LIMIT;
    uint8_t *head = arena_alloc(arena, grid_voxels(&level.fixed), 1, err);
    if (head == NULL)
        return ST_LIMIT;
    fill_samples(fixed, f, first, n, bin, head, &level.n_head);
    level.bin = bin;
    level.head = head;
    *ret = level;
    return ST_OK;
}
