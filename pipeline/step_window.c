/* Step "window": the CT and its mask on the model's grid, and the table from HU to channels.
**
** The model's grid: grid_pixels squared, grid_spacing_mm.
**   pose reference: slices are those of the reference volume - its voxel axes, in-plane centre at
**     its centre - one every millimetre, as many as the masked head needs, so that nothing below
**     the reference's last slice is cut off.
**   pose native: the CT's own slices and axes, in-plane centre at the mask's centroid.
** HU are resampled before they are windowed, as the training data were. The field of view's first
** and last slices are continued outwards for a few millimetres, so that the network does not see
** the cut as an edge of the head: its darkening would come back into those slices. */
#include "pipeline/steps.h"

#include "registration/resample.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SLICE_STEP_MM 1.0 /* between slices in the reference pose */
#define MARGIN_MM 4.0     /* continued beyond the first and last slice */
enum { MAX_SLICES = 400 };

typedef struct Extent {
    double low, high;
    double sum_x, sum_y, count;
} Extent;

/* Range of the third coordinate of `to` over the mask's voxels, and their in-plane sums. Every
** voxel's coordinates are affine in x, so a row needs only its first and last masked voxel. */
static Extent mask_extent(const VolumeU8 *mask, Affine to_from_lps)
{
    Affine to_from_vox = affine_mul(to_from_lps, mask->grid.lps_from_vox);
    Extent e = {.low = (double)INFINITY, .high = -(double)INFINITY};
    for (int32_t z = 0; z < mask->grid.nz; z++) {
        for (int32_t y = 0; y < mask->grid.ny; y++) {
            const uint8_t *row =
                mask->v + ((size_t)z * (size_t)mask->grid.ny + (size_t)y) * (size_t)mask->grid.nx;
            int32_t first = -1, last = -1;
            for (int32_t x = 0; x < mask->grid.nx; x++) {
                if (row[x] != 0) {
                    first = first < 0 ? x : first;
                    last = x;
                }
            }
            for (int end = 0; end < 2 && first >= 0; end++) {
                Vec3 p = affine_apply(to_from_vox, (Vec3){end ? last : first, y, z});
                e.low = fmin(e.low, p.z);
                e.high = fmax(e.high, p.z);
                e.sum_x += p.x;
                e.sum_y += p.y;
                e.count++;
            }
        }
    }
    return e;
}

/* Model grid in the reference's space: columns along reference voxel axis 0, rows along axis 1,
** slices along axis 2. */
static Status reference_grid(const Job *job, Grid *ret, Err *err)
{
    const ModelInfo *info = model_info(job->model);
    const Grid *ref = &job->reference.grid;
    Affine vox_from_lps;
    if (!affine_inverse(ref->lps_from_vox, &vox_from_lps))
        return err_set(err, ST_REFERENCE, "the reference's matrix is singular");
    Extent e = mask_extent(&job->mask, affine_mul(vox_from_lps, job->ref_from_ct));
    double step = SLICE_STEP_MM / grid_spacing_mm(ref, 2); /* in reference voxels */
    double first = (floor(e.low / step) - 1) * step;       /* one more for the interpolation back */
    int32_t nz = (int32_t)floor((e.high - first) / step) + 3;
    if (!(e.count > 0) || nz < 1 || nz > MAX_SLICES)
        return err_set(err, ST_MASK, "the masked head spans %d mm in the reference pose", nz);
    double px = info->grid_spacing_mm / grid_spacing_mm(ref, 0);
    double py = info->grid_spacing_mm / grid_spacing_mm(ref, 1);
    double half = 0.5 * (info->grid_pixels - 1);
    Affine ref_vox_from_model = {{{px, 0, 0, 0.5 * (ref->nx - 1) - px * half},
                                  {0, py, 0, 0.5 * (ref->ny - 1) - py * half},
                                  {0, 0, step, first}}};
    *ret = (Grid){info->grid_pixels, info->grid_pixels, nz,
                  affine_mul(ref->lps_from_vox, ref_vox_from_model)};
    return ST_OK;
}

static Status native_grid(const Job *job, Grid *ret, Err *err)
{
    const ModelInfo *info = model_info(job->model);
    const Grid *ct = &job->series.ct.grid;
    Affine vox_from_lps;
    if (!affine_inverse(ct->lps_from_vox, &vox_from_lps))
        return err_set(err, ST_INTERNAL, "the CT's matrix is singular");
    Extent e = mask_extent(&job->mask, vox_from_lps);
    if (!(e.count > 0))
        return err_set(err, ST_MASK, "the mask is empty");
    double px = info->grid_spacing_mm / grid_spacing_mm(ct, 0);
    double py = info->grid_spacing_mm / grid_spacing_mm(ct, 1);
    double half = 0.5 * (info->grid_pixels - 1);
    Affine ct_vox_from_model = {{{px, 0, 0, e.sum_x / e.count - px * half},
                                 {0, py, 0, e.sum_y / e.count - py * half},
                                 {0, 0, 1, 0}}};
    *ret = (Grid){info->grid_pixels, info->grid_pixels, ct->nz,
                  affine_mul(ct->lps_from_vox, ct_vox_from_model)};
    return ST_OK;
}

static Grid grown(const Grid *grid, int32_t margin)
{
    Grid g = *grid;
    g.nz += 2 * margin;
    for (int i = 0; i < 3; i++)
        g.lps_from_vox.m[i][3] -= margin * g.lps_from_vox.m[i][2];
    return g;
}

/* A copy with `margin` more slices at both ends, repeating the first and the last. */
static void *grow(const void *v, size_t slice_bytes, int32_t nz, int32_t margin, Arena *arena,
                  Err *err)
{
    unsigned char *copy = arena_alloc(arena, (size_t)(nz + 2 * margin), slice_bytes, err);
    for (int32_t z = -margin; copy != NULL && z < nz + margin; z++) {
        int32_t from = z < 0 ? 0 : z >= nz ? nz - 1 : z;
        memcpy(copy + (size_t)(z + margin) * slice_bytes,
               (const unsigned char *)v + (size_t)from * slice_bytes, slice_bytes);
    }
    return copy;
}

/* CT and mask onto the model's grid. */
static Status resample_inputs(Job *job, Affine ct_from_model, Err *err)
{
    const Grid *grid = &job->series.ct.grid;
    size_t pixels = (size_t)grid->nx * (size_t)grid->ny;
    int32_t margin = (int32_t)ceil(MARGIN_MM / grid_spacing_mm(grid, 2));
    Grid big = grown(grid, margin);
    VolumeI16 ct = {big, grow(job->series.ct.v, pixels * sizeof(int16_t), grid->nz, margin,
                              &job->scratch, err)};
    VolumeU8 mask = {big, grow(job->mask.v, pixels, grid->nz, margin, &job->scratch, err)};
    if (ct.v == NULL || mask.v == NULL)
        return ST_LIMIT;
    resample_i16(&ct, ct_from_model, WINDOW_HU_MIN, job->options.threads, &job->model_hu);
    resample_mask(&mask, ct_from_model, job->options.threads, &job->model_mask);
    return ST_OK;
}

Status step_window(Job *job, Err *err)
{
    const ModelInfo *info = model_info(job->model);
    TRY(window_init(info->window_level_hu, info->window_width_hu, info->mean, info->std,
                    &job->window, err));
    Grid grid;
    if (info->pose == POSE_REFERENCE) {
        job->model_from_ct = job->ref_from_ct;
        TRY(reference_grid(job, &grid, err));
    } else {
        job->model_from_ct = affine_identity();
        TRY(native_grid(job, &grid, err));
    }
    Affine ct_from_model;
    if (!affine_inverse(job->model_from_ct, &ct_from_model))
        return err_set(err, ST_REG_QUALITY, "the registration's matrix is singular");
    size_t n = grid_voxels(&grid);
    job->model_hu = (VolumeI16){grid, arena_alloc(&job->arena, n, sizeof(int16_t), err)};
    job->model_mask = (VolumeU8){grid, arena_alloc(&job->arena, n, 1, err)};
    if (job->model_hu.v == NULL || job->model_mask.v == NULL)
        return ST_LIMIT;
    TRY(resample_inputs(job, ct_from_model, err));
    (void)snprintf(job->note, sizeof job->note,
                   "%d slices of %d x %d at %.4g mm, level %g width %g", grid.nz, grid.ny, grid.nx,
                   info->grid_spacing_mm, info->window_level_hu, info->window_width_hu);
    return ST_OK;
}
