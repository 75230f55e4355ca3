/* Step "infer": every slice of the model's grid through window, normalisation and network.
**
** Slices go through in batches; the bits of a slice do not depend on its batch (net.h). A slice
** without any masked pixel is background by definition and is not computed. */
#include "pipeline/steps.h"

#include <stdio.h>
#include <string.h>

static bool any_inside(const uint8_t *mask, size_t n)
{
    return memchr(mask, 1, n) != NULL;
}

static Status run_slices(Job *job, Net *net, Err *err)
{
    const Grid *grid = &job->model_hu.grid;
    size_t pixels = (size_t)grid->nx * (size_t)grid->ny;
    int32_t batch = job->options.batch;
    float *x = arena_alloc(&job->scratch, (size_t)batch * 3 * pixels, sizeof *x, err);
    float *y = arena_alloc(&job->scratch, (size_t)batch * pixels, sizeof *y, err);
    int32_t *slices = arena_alloc(&job->scratch, (size_t)batch, sizeof *slices, err);
    if (x == NULL || y == NULL || slices == NULL)
        return ST_LIMIT;
    int32_t n = 0, done = 0;
    for (int32_t z = 0; z <= grid->nz; z++) {
        if (z < grid->nz) {
            size_t at = (size_t)z * pixels;
            if (!any_inside(job->model_mask.v + at, pixels)) {
                memset(job->model_mr.v + at, 0, pixels * sizeof *job->model_mr.v);
                continue;
            }
            window_slice(&job->window, job->model_hu.v + at, job->model_mask.v + at,
                         (int32_t)pixels, x + (size_t)n * 3 * pixels);
            slices[n++] = z;
        }
        if (n == batch || (z == grid->nz && n > 0)) {
            TRY(net_run(net, x, n, y, err));
            for (int32_t i = 0; i < n; i++)
                memcpy(job->model_mr.v + (size_t)slices[i] * pixels, y + (size_t)i * pixels,
                       pixels * sizeof *y);
            done += n;
            n = 0;
        }
    }
    (void)snprintf(job->note, sizeof job->note, "%d slices on backend %s", done, net_backend(net));
    (void)snprintf(job->recipe, sizeof job->recipe, "backend=%s", net_backend(net));
    return ST_OK;
}

Status step_infer(Job *job, Err *err)
{
    const Grid *grid = &job->model_hu.grid;
    job->model_mr =
        (VolumeF32){*grid, arena_alloc(&job->arena, grid_voxels(grid), sizeof(float), err)};
    if (job->model_mr.v == NULL)
        return ST_LIMIT;
    NetOptions options = {.backend = job->options.backend,
                          .batch = job->options.batch,
                          .height = grid->ny,
                          .width = grid->nx,
                          .threads = job->options.threads};
    Net *net;
    TRY(net_open(job->model, &options, &net, err));
    Status status = run_slices(job, net, err);
    net_close(net);
    return status;
}
