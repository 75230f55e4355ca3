/* Step "restore": the synthetic MR back on the CT's own grid, 0 outside the mask.
**
** One interpolation (trilinear, or as the model file says) through the same transform that brought
** the CT to the model's grid.
** Values are clipped to [0,1] (a model with a linear activation may leave it); NaN stays NaN and is
** for the check step to find. */
#include "pipeline/steps.h"

#include "base/parallel.h"
#include "registration/resample.h"

typedef struct Masking {
    float *mr;
    const uint8_t *mask;
    size_t slice_voxels;
} Masking;

static void mask_slice(void *context, int item)
{
    Masking *m = context;
    float *mr = m->mr + (size_t)item * m->slice_voxels;
    const uint8_t *mask = m->mask + (size_t)item * m->slice_voxels;
    for (size_t i = 0; i < m->slice_voxels; i++) {
        float v = mr[i];
        v = v < 0.0f ? 0.0f : v;
        v = v > 1.0f ? 1.0f : v;
        mr[i] = mask[i] != 0 ? v : 0.0f;
    }
}

Status step_restore(Job *job, Err *err)
{
    const Grid *grid = &job->series.ct.grid;
    job->mr = (VolumeF32){*grid, arena_alloc(&job->arena, grid_voxels(grid), sizeof(float), err)};
    if (job->mr.v == NULL)
        return ST_LIMIT;
    resample_f32_as(model_resampling(job->wanted), &job->model_mr, job->model_from_ct, 0.0f,
                    job->options.threads, &job->mr);
    Masking m = {job->mr.v, job->mask.v, (size_t)grid->nx * (size_t)grid->ny};
    parallel_for(job->options.threads, grid->nz, mask_slice, &m);
    return ST_OK;
}
