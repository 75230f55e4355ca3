/* Step "window": the CT and its mask on the model's grid, and the table from HU to channels.
**
** The model's grid: grid_pixels squared, grid_spacing_mm; grown by multiples of 32 where the masked
** head is larger, so that nothing of it is cut off.
**   pose reference: slices are those of the reference volume - its voxel axes, in-plane centre at
**     its centre - one every millimetre, as many as the masked head needs, so that nothing below
**     the reference's last slice is cut off.
**   pose native: the CT's own slices, seen as the model was trained: columns towards the patient's
**     left, rows towards the back. In-plane centre at the mask's centroid. Axial CTs only.
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
#define AXIAL_MIN 0.8     /* cosine between slice normal and the head-feet direction */
enum { MAX_SLICES = 400, GROW_PIXELS = 32, GROW_FACTOR = 2 };

typedef struct Extent {
    double low[3], high[3];
    double sum[3], count; /* of the ends of rows: their mean is near enough to the centroid */
} Extent;

static void take_point(Extent *e, Vec3 p)
{
    const double v[3] = {p.x, p.y, p.z};
    for (int a = 0; a < 3; a++) {
        e->low[a] = fmin(e->low[a], v[a]);
        e->high[a] = fmax(e->high[a], v[a]);
        e->sum[a] += v[a];
    }
    e->count++;
}

/* Range of the coordinates of `to` over the mask's voxels. Every voxel's coordinates are affine in
** x, so a row needs only its first and last masked voxel. */
static Extent mask_extent(const VolumeU8 *mask, Affine to_from_lps)
{
    Affine to_from_vox = affine_mul(to_from_lps, mask->grid.lps_from_vox);
    double inf = (double)INFINITY;
    Extent e = {.low = {inf, inf, inf}, .high = {-inf, -inf, -inf}};
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
            if (first >= 0) {
                take_point(&e, affine_apply(to_from_vox, (Vec3){first, y, z}));
                take_point(&e, affine_apply(to_from_vox, (Vec3){last, y, z}));
            }
        }
    }
    return e;
}

/* Pixels along one axis of the model's grid, centred at `centre`, so that low..high fits; all in
** units of which a pixel has `pixel`. */
static Status fit_pixels(int32_t pixels, double pixel, double centre, double low, double high,
                         int32_t *ret, Err *err)
{
    double need = 2 * fmax(high - centre, centre - low) / fabs(pixel) + 3; /* interpolation */
    int32_t n = pixels;
    while (n < need && n <= GROW_FACTOR * pixels)
        n += GROW_PIXELS;
    if (n > GROW_FACTOR * pixels)
        return err_set(err, ST_MASK,
                       "the masked patient is %.0f pixels wide on the model's grid of %d, which "
                       "grows to %d at most: shoulders in the field of view?",
                       need, pixels, GROW_FACTOR * pixels);
    *ret = n;
    return ST_OK;
}

/* Model grid in the reference's space: columns along reference voxel axis 0, rows along axis 1,
** slices along axis 2. */
static Status reference_grid(const Job *job, Grid *ret, Err *err)
{
    const ModelInfo *info = job->wanted;
    const Grid *ref = &job->reference.grid;
    Affine vox_from_lps;
    if (!affine_inverse(ref->lps_from_vox, &vox_from_lps))
        return err_set(err, ST_REFERENCE, "the reference's matrix is singular");
    Extent e = mask_extent(&job->mask, affine_mul(vox_from_lps, job->ref_from_ct));
    double step = SLICE_STEP_MM / grid_spacing_mm(ref, 2); /* in reference voxels */
    double first = (floor(e.low[2] / step) - 1) * step;    /* one more for the interpolation back */
    int32_t nx, ny, nz = (int32_t)floor((e.high[2] - first) / step) + 3;
    if (!(e.count > 0) || nz < 1 || nz > MAX_SLICES)
        return err_set(err, ST_MASK, "the masked head spans %d mm in the reference pose", nz);
    double px = info->grid_spacing_mm / grid_spacing_mm(ref, 0);
    double py = info->grid_spacing_mm / grid_spacing_mm(ref, 1);
    double cx = 0.5 * (ref->nx - 1), cy = 0.5 * (ref->ny - 1);
    TRY(fit_pixels(info->grid_pixels, px, cx, e.low[0], e.high[0], &nx, err));
    TRY(fit_pixels(info->grid_pixels, py, cy, e.low[1], e.high[1], &ny, err));
    Affine ref_vox_from_model = {{{px, 0, 0, cx - px * 0.5 * (nx - 1)},
                                  {0, py, 0, cy - py * 0.5 * (ny - 1)},
                                  {0, 0, step, first}}};
    *ret = (Grid){nx, ny, nz, affine_mul(ref->lps_from_vox, ref_vox_from_model)};
    return ST_OK;
}

/* Component `row` (0 left, 1 back, 2 head) of the unit vector along voxel axis a. */
static double along(const Grid *grid, int row, int a)
{
    return grid->lps_from_vox.m[row][a] / grid_spacing_mm(grid, a);
}

static Status native_grid(const Job *job, Grid *ret, Err *err)
{
    const ModelInfo *info = job->wanted;
    const Grid *ct = &job->series.ct.grid;
    Affine vox_from_lps, ct_vox_from_model = {{{0}}};
    if (!affine_inverse(ct->lps_from_vox, &vox_from_lps))
        return err_set(err, ST_INTERNAL, "the CT's matrix is singular");
    if (!(fabs(along(ct, 2, 2)) >= AXIAL_MIN))
        return err_set(err, ST_MODEL_ENVELOPE,
                       "the slices are not axial, as this model (pose native) needs them");
    Extent e = mask_extent(&job->mask, vox_from_lps);
    if (!(e.count > 0))
        return err_set(err, ST_MASK, "the mask is empty");
    /* model axis 0 (columns, to the left), 1 (rows, to the back): which CT axis, which way */
    int of_x = fabs(along(ct, 0, 0)) >= fabs(along(ct, 0, 1)) ? 0 : 1;
    int32_t n[2];
    for (int m = 0; m < 2; m++) {
        int a = m == 0 ? of_x : 1 - of_x;
        double sign = along(ct, m, a) < 0 ? -1 : 1, centre = e.sum[a] / e.count;
        double pixel = sign * info->grid_spacing_mm / grid_spacing_mm(ct, a);
        TRY(fit_pixels(info->grid_pixels, pixel, centre, e.low[a], e.high[a], &n[m], err));
        ct_vox_from_model.m[a][m] = pixel;
        ct_vox_from_model.m[a][3] = centre - pixel * 0.5 * (n[m] - 1);
    }
    ct_vox_from_model.m[2][2] = 1;
    *ret = (Grid){n[0], n[1], ct->nz, affine_mul(ct->lps_from_vox, ct_vox_from_model)};
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

ResampleKind model_resampling(const ModelInfo *info)
{
    return info->interpolation == INTERPOLATION_CUBIC ? RESAMPLE_CUBIC : RESAMPLE_LINEAR;
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
    resample_i16_as(model_resampling(job->wanted), &ct, ct_from_model, WINDOW_HU_MIN,
                    job->options.threads, &job->model_hu);
    resample_mask(&mask, ct_from_model, job->options.threads, &job->model_mask);
    return ST_OK;
}

Status step_window(Job *job, Err *err)
{
    const ModelInfo *info = job->wanted;
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
