/* See head_gate.h. The reference is looked at on a 2 mm copy. */
#include "pipeline/head_gate.h"

#include "pipeline/components.h"
#include "pipeline/distance.h"
#include "pipeline/filter.h"
#include "registration/head.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define REFERENCE_SPACING_MM 2.0
#define INSIDE_MM 12.0 /* heads differ in shape by less, after an affine registration */
#define BRAIN_MM 25.0
#define SLICE_MIN_ML 10.0
#define AIR_MIN_VOXELS 5000
#define AIR_MIN_FRAC 0.25 /* of what was not measured: fewer are but the rims of things */
enum { HU_LOW = -1024, HU_COUNT = 4096, AIR_STRIDE = 3 };

/* Measured, DECISIONS.md "Head gate". */
#define COVERED_MIN 0.95
#define SLICE_MIN 0.80
#define BRAIN_HU_MIN 8.0
#define BRAIN_HU_MAX 50.0
#define BRAIN_ALONE_HU_MAX 45.0 /* without a word from the air */
#define AIR_HU_MAX (-850.0)
#define BRAIN_HU 25.0
#define AIR_HU (-997.0)
#define OFFSET_HU_MAX 10.0

typedef struct Histogram {
    int64_t total, count[HU_COUNT];
} Histogram;

static void add(Histogram *h, int16_t hu)
{
    h->count[hu - HU_LOW]++;
    h->total++;
}

static double median(const Histogram *h)
{
    int64_t seen = 0;
    for (int i = 0; i < HU_COUNT; i++) {
        seen += h->count[i];
        if (2 * seen >= h->total && h->total > 0)
            return i + HU_LOW;
    }
    return (double)NAN;
}

typedef struct Core { /* the reference head */
    VolumeF32 image;
    float threshold; /* T1: above it is tissue that gives signal */
    float *depth_mm2;
} Core;

static Status find_core(const VolumeI16 *reference, int threads, Core *ret, Arena *scratch,
                        Err *err)
{
    Core core = {.image = {.grid = filter_shrink_grid(&reference->grid, REFERENCE_SPACING_MM)}};
    size_t n = grid_voxels(&core.image.grid);
    core.image.v = arena_alloc(scratch, n, sizeof *core.image.v, err);
    core.depth_mm2 = arena_alloc(scratch, n, sizeof *core.depth_mm2, err);
    int32_t *queue = arena_alloc(scratch, n, sizeof *queue, err);
    if (core.image.v == NULL || core.depth_mm2 == NULL || queue == NULL)
        return ST_LIMIT;
    TRY(filter_shrink(reference, threads, &core.image, scratch, err));
    core.threshold = head_otsu(&core.image);
    Head head;
    if (head_find(&core.image, core.threshold, scratch, &head, err) != ST_OK)
        return ST_REFERENCE;
    for (size_t i = 0; i < n; i++)
        head.where.v[i] = head.where.v[i] == HEAD_INSIDE;
    component_fill_slices(&core.image.grid, head.where.v, 2, threads,
                          queue); /* the skull is dark */
    distance_squared(&core.image.grid, head.where.v, false, BRAIN_MM + 1, threads, core.depth_mm2);
    *ret = core;
    return ST_OK;
}

/* Index of the CT's voxel at a point in its voxel coordinates; false outside. */
static bool voxel_at(const Grid *grid, Vec3 p, size_t *ret, int32_t *ret_z)
{
    double x = floor(p.x + 0.5), y = floor(p.y + 0.5), z = floor(p.z + 0.5);
    if (!(x >= 0 && x < grid->nx && y >= 0 && y < grid->ny && z >= 0 && z < grid->nz))
        return false;
    *ret_z = (int32_t)z;
    *ret = ((size_t)z * (size_t)grid->ny + (size_t)y) * (size_t)grid->nx + (size_t)x;
    return true;
}

typedef struct Counts { /* of the reference's voxels, per CT slice */
    int64_t core, covered;
} Counts;

static void count(const VolumeI16 *ct, const VolumeU8 *mask, const Core *core,
                  Affine ct_vox_from_ref, Counts *slices, Histogram *brain)
{
    const Grid *g = &core->image.grid;
    const float inside2 = (float)(INSIDE_MM * INSIDE_MM), brain2 = (float)(BRAIN_MM * BRAIN_MM);
    Affine ct_vox_from_core = affine_mul(ct_vox_from_ref, g->lps_from_vox);
    size_t i = 0, at;
    for (int32_t z = 0; z < g->nz; z++)
        for (int32_t y = 0; y < g->ny; y++)
            for (int32_t x = 0; x < g->nx; x++, i++) {
                int32_t slice;
                if (core->depth_mm2[i] <= inside2 ||
                    !voxel_at(&ct->grid, affine_apply(ct_vox_from_core, (Vec3){x, y, z}), &at,
                              &slice))
                    continue;
                slices[slice].core++;
                slices[slice].covered += mask->v[at] != 0;
                if (core->depth_mm2[i] > brain2 && core->image.v[i] > core->threshold)
                    add(brain, ct->v[at]);
            }
}

static void summarize(const Counts *slices, int32_t nz, double voxel_ml, HeadFacts *ret)
{
    int64_t core = 0, covered = 0;
    ret->slice_frac = 1;
    ret->slice = -1;
    for (int32_t z = 0; z < nz; z++) {
        core += slices[z].core;
        covered += slices[z].covered;
        double frac = (double)slices[z].covered / (double)slices[z].core;
        if ((double)slices[z].core * voxel_ml >= SLICE_MIN_ML && frac < ret->slice_frac) {
            ret->slice_frac = frac;
            ret->slice = z;
        }
    }
    ret->covered_frac = core > 0 ? (double)covered / (double)core : 0;
}

/* A pixel like all around it was not measured: padding, or air that something set to one value. */
static bool is_flat(const int16_t *at, ptrdiff_t nx)
{
    for (ptrdiff_t dy = -1; dy <= 1; dy++)
        for (ptrdiff_t dx = -1; dx <= 1; dx++)
            if (at[dy * nx + dx] != at[0])
                return false;
    return true;
}

/* Noise that the least stored value cuts off keeps its median, if less than half is cut off. If
** more is, the median is that value, and air may have any below it: too low for air it says so,
** else nothing. */
static double measure_air(const VolumeI16 *ct, const VolumeU8 *mask, Histogram *air)
{
    const Grid *g = &ct->grid;
    int64_t n_flat = 0;
    for (int32_t z = 0; z < g->nz; z++)
        for (int32_t y = 1; y < g->ny - 1; y++) {
            size_t row = ((size_t)z * (size_t)g->ny + (size_t)y) * (size_t)g->nx;
            for (int32_t x = 1 + (y + z) % AIR_STRIDE; x < g->nx - 1; x += AIR_STRIDE) {
                size_t i = row + (size_t)x;
                if (mask->v[i] != 0 || ct->v[i] >= -300)
                    continue;
                if (is_flat(ct->v + i, g->nx))
                    n_flat++;
                else
                    add(air, ct->v[i]);
            }
        }
    if (air->total < AIR_MIN_VOXELS || (double)air->total < AIR_MIN_FRAC * (double)n_flat)
        return (double)NAN;
    double hu = median(air);
    int least = 0;
    while (air->count[least] == 0)
        least++;
    return hu > AIR_HU - OFFSET_HU_MAX && hu <= least + HU_LOW ? (double)NAN : hu;
}

double head_offset_hu(double brain_hu, double air_hu)
{
    double brain = brain_hu - BRAIN_HU, air = air_hu - AIR_HU;
    if (isnan(air))
        return (double)NAN;
    return brain * air <= 0 ? 0 : fabs(brain) < fabs(air) ? brain : air;
}

Status head_facts(const VolumeI16 *ct, const VolumeU8 *mask, const VolumeI16 *reference,
                  Affine ref_from_ct, int threads, HeadFacts *ret, Arena *scratch, Err *err)
{
    size_t mark = arena_mark(scratch);
    Affine ct_from_ref, ct_vox_from_lps;
    Core core;
    if (!affine_inverse(ref_from_ct, &ct_from_ref) ||
        !affine_inverse(ct->grid.lps_from_vox, &ct_vox_from_lps))
        return err_set(err, ST_REG_QUALITY, "the registration's matrix is singular");
    Status status = find_core(reference, threads, &core, scratch, err);
    Histogram *brain = arena_alloc(scratch, 1, sizeof *brain, err);
    Histogram *air = arena_alloc(scratch, 1, sizeof *air, err);
    Counts *slices = arena_alloc(scratch, (size_t)ct->grid.nz, sizeof *slices, err);
    if (status == ST_OK && (brain == NULL || air == NULL || slices == NULL))
        status = ST_LIMIT;
    if (status == ST_OK) {
        memset(brain, 0, sizeof *brain);
        memset(air, 0, sizeof *air);
        memset(slices, 0, (size_t)ct->grid.nz * sizeof *slices);
        count(ct, mask, &core, affine_mul(ct_vox_from_lps, ct_from_ref), slices, brain);
        /* In the CT's space a reference voxel has its size over the registration's scale. */
        double voxel_ml =
            fabs(affine_det(core.image.grid.lps_from_vox) * affine_det(ct_from_ref)) / 1000;
        summarize(slices, ct->grid.nz, voxel_ml, ret);
        ret->brain_hu = median(brain);
        ret->air_hu = measure_air(ct, mask, air);
        ret->offset_hu = head_offset_hu(ret->brain_hu, ret->air_hu);
    }
    arena_reset(scratch, mark);
    return status;
}

Status head_gate(const HeadFacts *f, bool is_head, Err *err)
{
    if (is_head && !(f->covered_frac >= COVERED_MIN))
        return err_set(err, ST_MASK,
                       "the mask holds %.1f %% of where the head is, at least %.0f %%",
                       100 * f->covered_frac, 100 * COVERED_MIN);
    if (is_head && f->slice >= 0 && !(f->slice_frac >= SLICE_MIN))
        return err_set(err, ST_MASK,
                       "the mask holds %.0f %% of where the head is in slice %d, at least %.0f %%",
                       100 * f->slice_frac, f->slice + 1, 100 * SLICE_MIN);
    double brain_max = isnan(f->air_hu) ? BRAIN_ALONE_HU_MAX : BRAIN_HU_MAX;
    if (!(f->brain_hu >= BRAIN_HU_MIN && f->brain_hu <= brain_max))
        return err_set(err, ST_HU_SCALE, "brain has %.0f HU, plausible %.0f to %.0f%s", f->brain_hu,
                       BRAIN_HU_MIN, brain_max,
                       isnan(f->air_hu) ? " where all air is stored as one value" : "");
    if (f->air_hu > AIR_HU_MAX)
        return err_set(err, ST_HU_SCALE, "air has %.0f HU, at most %.0f", f->air_hu, AIR_HU_MAX);
    if (fabs(f->offset_hu) > OFFSET_HU_MAX)
        return err_set(
            err, ST_HU_SCALE,
            "brain of %.0f HU and air of %.0f HU are both off by %.0f HU or more, at most "
            "%.0f: the Rescale Intercept?",
            f->brain_hu, f->air_hu, f->offset_hu, OFFSET_HU_MAX);
    return ST_OK;
}
