/* Step "infer": every slice of the model's grid through window, normalisation and network.
**
** The network calls for slices and gives them back on its own threads, so that windowing one slice
** overlaps with computing another; the bits of a slice depend on neither (net.h). A slice without
** any masked pixel is background by definition and is not computed. */
#include "pipeline/steps.h"

#include <stdio.h>
#include <string.h>

typedef struct Feed {
    const Job *job;
    size_t pixels;   /* of a slice */
    int32_t *slices; /* which are computed */
} Feed;

static void fill(void *context, int32_t i, float *ret_x)
{
    const Feed *feed = context;
    const Job *job = feed->job;
    size_t at = (size_t)feed->slices[i] * feed->pixels;
    window_slice(&job->window, job->model_hu.v + at, job->model_mask.v + at, (int32_t)feed->pixels,
                 ret_x);
}

static void take(void *context, int32_t i, const float *y)
{
    const Feed *feed = context;
    memcpy(feed->job->model_mr.v + (size_t)feed->slices[i] * feed->pixels, y,
           feed->pixels * sizeof *y);
}

static Status run_slices(Job *job, Net *net, Err *err)
{
    const Grid *grid = &job->model_hu.grid;
    Feed feed = {job, (size_t)grid->nx * (size_t)grid->ny, NULL};
    feed.slices = arena_alloc(&job->scratch, (size_t)grid->nz, sizeof *feed.slices, err);
    if (feed.slices == NULL)
        return ST_LIMIT;
    int32_t n = 0;
    for (int32_t z = 0; z < grid->nz; z++) {
        size_t at = (size_t)z * feed.pixels;
        if (memchr(job->model_mask.v + at, 1, feed.pixels) != NULL)
            feed.slices[n++] = z;
        else
            memset(job->model_mr.v + at, 0, feed.pixels * sizeof *job->model_mr.v);
    }
    const NetFeed net_feed = {&feed, fill, take};
    Status status = net_run_feed(net, n, &net_feed, err);
    (void)snprintf(job->alert, sizeof job->alert, "%s", net_out_of_service(net));
    if (status != ST_OK)
        return status;
    const char *precision = precision_name(net_precision(net));
    const char *notice = net_notice(net); /* why the CPU computes instead of the GPU */
    (void)snprintf(job->note, sizeof job->note, "%d slices on backend %s in %s%s%s", n,
                   net_backend(net), precision, notice[0] != '\0' ? "; " : "", notice);
    const char *signature = net_signature(net);
    (void)snprintf(job->recipe, sizeof job->recipe, "backend=%s precision=%s%s%s", net_backend(net),
                   precision, signature[0] != '\0' ? " " : "", signature);
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
                          .threads = job->options.threads,
                          .device = job->options.device,
                          .precision = job->options.precision,
                          .winograd_mib = job->options.winograd_mib};
    Net *net;
    TRY(kept_net(&job->kept, &options, &net, err));
    Status status = run_slices(job, net, err);
    kept_net_end(&job->kept, job->stays && status == ST_OK);
    return status;
}
