/* Multi-start affine registration. See register.h.
**
** The head is found in both images. 175 rotations about the heads' centroids (15 degree steps;
** pitch to +-45, else +-30) are placed and then moved at 8 mm; the best few go on with more degrees
** of freedom and finer images. The number of starts kept at each stage: 175 -> 40 -> 16 -> 8 -> 1.
** Samples: the box around the fixed head; dense things outside the head (table, head rest, what is
** below the chin) are left out. */
#include "registration/register.h"

#include "base/clock.h"
#include "base/parallel.h"
#include "registration/head.h"
#include "registration/optimize.h"
#include "registration/pyramid.h"

#include <math.h>
#include <string.h>

enum { PITCHES = 7, TURNS = 5, STARTS = PITCHES * TURNS * TURNS };
enum { STARTS_SCALED = 40, STARTS_AFFINE = 16, STARTS_4MM = 8 };
enum { CT_LOW_HU = -500, CT_HIGH_HU = 1000 }; /* air to dense bone; metal says nothing more */
#define CT_HEAD_HU (-300.0f)
#define CT_OTHER_HU (-480.0f) /* foam and the blurred edges of the table */
#define MR_CLIP_FRAC 0.001    /* spikes: this part of the voxels is clipped at the bright end */
#define STIFFNESS_8MM 0.15
#define STIFFNESS_4MM 0.05
#define STIFFNESS_2MM 0.02 /* at 10 % scale it moves the result by about 0.01 mm */
#define MARGIN_MM 24.0     /* of air kept around the fixed head */

typedef struct Image {
    Pyramid pyramid;
    Head head; /* on the 4 mm grid */
    int low, high;
    float threshold; /* brighter: head */
    float other;     /* brighter, outside the head: table, head rest */
} Image;

typedef struct Start {
    Affine moving_from_fixed;
    double cost;
} Start;

typedef struct Search {
    const MetricLevel *level;
    OptimizeOptions options;
    Start *start;
} Search;

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

static Status image_prepare(const VolumeI16 *volume, RegModality modality, int threads,
                            Arena *arena, Image *ret, Err *err)
{
    Image image = {
        .low = CT_LOW_HU, .high = CT_HIGH_HU, .threshold = CT_HEAD_HU, .other = CT_OTHER_HU};
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

/* Makes air of what is not head and not below it: a table of the moving image is not to be
 *explained
 ** by the fixed one. */
static void blank_others(Image *moving)
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

/* Bin coordinates and head flags of the box of fixed samples that starts at `first`. */
static void fill_samples(const Image *fixed, const VolumeF32 *f, const int first[3], const int n[3],
                         float *bin, uint8_t *head, double *ret_n_head)
{
    float scale = (float)(METRIC_BINS - 1) / (float)(fixed->high - fixed->low);
    Lookup lookup = lookup_of(&fixed->head, &f->grid);
    size_t to = 0, count = 0;
    for (int z = first[2]; z < first[2] + n[2]; z++)
        for (int y = first[1]; y < first[1] + n[1]; y++)
            for (int x = first[0]; x < first[0] + n[0]; x++, to++) {
                size_t row = (size_t)z * (size_t)f->grid.ny + (size_t)y;
                float v = f->v[row * (size_t)f->grid.nx + (size_t)x];
                float u = (v - (float)fixed->low) * scale;
                int where = head_at(&lookup, x, y, z);
                bool is_other = (where == HEAD_NONE && v > fixed->other) ||
                                (where == HEAD_BELOW && v > fixed->threshold);
                bin[to] = is_other ? -1 : u > 0 ? u : 0;
                head[to] = where == HEAD_INSIDE;
                count += head[to];
            }
    *ret_n_head = (double)count;
}

/* The fixed image's samples on one level, and the moving image of that level. */
static Status level_prepare(const Image *fixed, const Image *moving, int l, Arena *arena,
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

/* Moves a start along the body's axis, and enlarges it, to where it costs least: where the vertex
 *or
 ** the base is cut off, the centroid says little about the height; and the average heads that serve
 ** as reference are larger than many patients' (Colin27 by a tenth). */
static void place_one(void *context, int item)
{
    static const double height_mm[] = {0, -25, 25, -50, 50}, scale[] = {1, 1.15};
    const Search *search = context;
    Start *s = &search->start[item];
    const Start first = *s;
    const Vec3 centre = search->level->centre_lps;
    const Vec3 image = affine_apply(first.moving_from_fixed, centre);
    s->cost = HUGE_VAL;
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < (search->options.dof == 6 ? 1 : 2); k++) {
            Affine t = first.moving_from_fixed;
            for (int r = 0; r < 3; r++)
                for (int c = 0; c < 3; c++)
                    t.m[r][c] *= scale[k];
            Vec3 back = vec3_sub(image, affine_apply(t, centre));
            t.m[0][3] += back.x;
            t.m[1][3] += back.y;
            t.m[2][3] += back.z + height_mm[i];
            MetricCost at;
            metric_cost(search->level, t, 1, &at);
            if (at.cost < s->cost) {
                s->cost = at.cost;
                s->moving_from_fixed = t;
            }
        }
}

static void refine_one(void *context, int item)
{
    const Search *search = context;
    Start *s = &search->start[item];
    s->cost = optimize_affine(search->level, &search->options, &s->moving_from_fixed);
}

/* By cost; equal costs keep their order. */
static void sort_starts(Start *start, int n)
{
    for (int i = 1; i < n; i++) {
        Start moved = start[i];
        int j = i;
        for (; j > 0 && start[j - 1].cost > moved.cost; j--)
            start[j] = start[j - 1];
        start[j] = moved;
    }
}

/* Betters n starts and sorts them. */
static void refine(const MetricLevel *level, OptimizeOptions options, int n, Start *start)
{
    Search search = {level, options, start};
    if (n > 1) /* else the threads share the samples of the one start */
        search.options.threads = 1;
    parallel_for(n > 1 ? options.threads : 1, n, refine_one, &search);
    sort_starts(start, n);
}

/* Rotations by multiples of 15 degrees about x (pitch, to 45), y and z (to 30). Roots, not libm's
** sine: same bits anywhere. */
static void starts_make(Vec3 fixed_centre, Vec3 moving_centre, Start start[STARTS])
{
    const double s15 = (sqrt(6.0) - sqrt(2.0)) / 4, c15 = (sqrt(6.0) + sqrt(2.0)) / 4;
    const double s30 = 0.5, c30 = sqrt(0.75), s45 = sqrt(0.5);
    const double sine[PITCHES] = {-s45, -s30, -s15, 0, s15, s30, s45};
    const double cosine[PITCHES] = {s45, c30, c15, 1, c15, c30, s45};
    int n = 0;
    for (int a = 0; a < PITCHES; a++)
        for (int b = 1; b <= TURNS; b++)
            for (int c = 1; c <= TURNS; c++) {
                Affine x = {
                    {{1, 0, 0, 0}, {0, cosine[a], -sine[a], 0}, {0, sine[a], cosine[a], 0}}};
                Affine y = {
                    {{cosine[b], 0, sine[b], 0}, {0, 1, 0, 0}, {-sine[b], 0, cosine[b], 0}}};
                Affine z = {
                    {{cosine[c], -sine[c], 0, 0}, {sine[c], cosine[c], 0, 0}, {0, 0, 1, 0}}};
                Affine t = affine_mul(affine_mul(x, y), z);
                Vec3 d = vec3_sub(moving_centre, affine_apply(t, fixed_centre));
                t.m[0][3] = d.x;
                t.m[1][3] = d.y;
                t.m[2][3] = d.z;
                start[n++] = (Start){.moving_from_fixed = t};
            }
}

/* Mean over the head's samples of the distance between where two transforms put them. */
static double mean_distance_mm(const MetricLevel *level, Affine a, Affine b)
{
    double sum = 0;
    size_t i = 0;
    for (int z = 0; z < level->fixed.nz; z++)
        for (int y = 0; y < level->fixed.ny; y++)
            for (int x = 0; x < level->fixed.nx; x++)
                if (level->head[i++] != 0) {
                    Vec3 p = affine_apply(level->fixed.lps_from_vox, (Vec3){x, y, z});
                    sum += vec3_norm(vec3_sub(affine_apply(a, p), affine_apply(b, p)));
                }
    return level->n_head > 0 ? sum / level->n_head : 0;
}

/* Least and greatest singular value of the linear part: roots of the eigenvalues of L'L, by Jacobi
** rotations. */
static void scales_of(Affine t, double *ret_min, double *ret_max)
{
    enum { SWEEPS = 12 };
    double a[3][3];
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            a[i][j] = t.m[0][i] * t.m[0][j] + t.m[1][i] * t.m[1][j] + t.m[2][i] * t.m[2][j];
    for (int n = 0; n < SWEEPS * 3; n++) {
        int p = n % 3, q = (p + 1) % 3;
        if (fabs(a[p][q]) < 1e-15)
            continue;
        double theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
        double u = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1));
        double c = 1 / sqrt(u * u + 1), s = u * c;
        for (int i = 0; i < 3; i++) {
            double ip = a[i][p], iq = a[i][q];
            a[i][p] = c * ip - s * iq;
            a[i][q] = s * ip + c * iq;
        }
        for (int i = 0; i < 3; i++) {
            double pi = a[p][i], qi = a[q][i];
            a[p][i] = c * pi - s * qi;
            a[q][i] = s * pi + c * qi;
        }
    }
    *ret_min = sqrt(fmax(0, fmin(a[0][0], fmin(a[1][1], a[2][2]))));
    *ret_max = sqrt(fmax(0, fmax(a[0][0], fmax(a[1][1], a[2][2]))));
}

static Status run_search(const MetricLevel level[PYRAMID_LEVELS], Vec3 moving_centre, int dof,
                         int threads, RegResult *ret, Err *err)
{
    Start start[STARTS];
    starts_make(level->centre_lps, moving_centre, start);
    const int scaled = dof < 7 ? dof : 7;
    const MetricLevel *finest = &level[PYRAMID_2MM];
    const OptimizeOptions last = {dof, 12, threads, STIFFNESS_2MM};
    Search all = {.level = level, .options.dof = dof, .start = start};
    parallel_for(threads, STARTS, place_one, &all);
    refine(level, (OptimizeOptions){3, 6, threads, 0}, STARTS, start);
    refine(level, (OptimizeOptions){scaled, 15, threads, STIFFNESS_8MM}, STARTS_SCALED, start);
    refine(level, (OptimizeOptions){dof, 20, threads, STIFFNESS_8MM}, STARTS_AFFINE, start);
    refine(&level[PYRAMID_4MM], (OptimizeOptions){dof, 20, threads, STIFFNESS_4MM}, STARTS_4MM,
           start);
    if (start[0].cost >= METRIC_REJECTED)
        return err_set(err, ST_REG_OVERLAP, "no starting position overlaps");
    ret->runner_up_mm =
        mean_distance_mm(level, start[0].moving_from_fixed, start[1].moving_from_fixed);
    refine(finest, last, 1, start);
    MetricCost at;
    optimize_polish(finest, &last, &start[0].moving_from_fixed, &at);
    if (at.cost >= METRIC_REJECTED)
        return err_set(err, ST_REG_OVERLAP, "the result does not overlap");
    ret->moving_from_fixed = start[0].moving_from_fixed;
    ret->cost = at.cost;
    ret->overlap_frac = at.overlap_frac;
    return ST_OK;
}

static Status register_in(const VolumeI16 *fixed, const VolumeI16 *moving,
                          const RegOptions *options, Arena *arena, RegResult *ret, Err *err)
{
    Image f, m;
    MetricLevel level[PYRAMID_LEVELS];
    RegResult result = {.seconds = -clock_monotonic_s()};
    int threads = options->threads > 0 ? options->threads : parallel_processors();
    if (options->dof != 6 && options->dof != 7 && options->dof != 9 && options->dof != 12)
        return err_set(err, ST_USAGE, "%d degrees of freedom; 6, 7, 9 or 12", options->dof);
    if (image_prepare(fixed, options->fixed_modality, threads, arena, &f, err) != ST_OK)
        return err_wrap(err, "fixed image");
    if (image_prepare(moving, options->moving_modality, threads, arena, &m, err) != ST_OK)
        return err_wrap(err, "moving image");
    if (options->moving_modality == REG_CT)
        blank_others(&m);
    for (int l = 0; l < PYRAMID_LEVELS; l++)
        TRY(level_prepare(&f, &m, l, arena, &level[l], err));
    TRY(run_search(level, m.head.centroid_lps, options->dof, threads, &result, err));
    result.determinant = affine_det(result.moving_from_fixed);
    scales_of(result.moving_from_fixed, &result.scale_min, &result.scale_max);
    result.seconds += clock_monotonic_s();
    *ret = result;
    return ST_OK;
}

Status reg_affine(const VolumeI16 *fixed, const VolumeI16 *moving, const RegOptions *options,
                  RegResult *ret, Arena *scratch, Err *err)
{
    size_t mark = arena_mark(scratch);
    Status status = register_in(fixed, moving, options, scratch, ret, err);
    arena_reset(scratch, mark);
    return status;
}
