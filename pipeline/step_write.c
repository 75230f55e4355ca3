/* Step "write": one MR Image per CT slice, and the QA picture.
**
** UIDs come from the recipe (everything that decides the pixels, as text) and from the content of
** the images themselves, so that the same UID always means the same bytes: a corrected CT, another
** patient name or another processor's rounding give a new series, never another version of an old
** one. The same input, model, reference, backend and software give the same UIDs and bytes.
** Stored values are intensity * 4095, rounded. */
#include "pipeline/steps.h"

#include "base/digest.h"
#include "base/parallel.h"
#include "dicom/write.h"
#include "pipeline/qa_picture.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define STORED_MAX 4095.0f

typedef struct Writing {
    const Job *job;
    const MrSeries *series;
    uint16_t *pixels; /* [n_slices][rows][columns] */
    Err *errors;      /* [n_slices] */
    OutputFile *outputs;
    uint8_t (*digests)[DIGEST_SIZE]; /* [n_slices] */
} Writing;

static void digest_slice(void *context, int item)
{
    Writing *w = context;
    const Job *job = w->job;
    size_t n = (size_t)job->mr.grid.nx * (size_t)job->mr.grid.ny;
    const float *mr = job->mr.v + (size_t)item * n;
    uint16_t *pixels = w->pixels + (size_t)item * n;
    for (size_t i = 0; i < n; i++)
        pixels[i] = (uint16_t)(mr[i] * STORED_MAX + 0.5f);
    Err *err = &w->errors[item];
    if (dicom_digest_mr(w->series, job->series.paths[item], pixels, item, w->digests[item], err) !=
        ST_OK)
        (void)err_wrap(err, "slice %d", item + 1);
}

static void write_slice(void *context, int item)
{
    Writing *w = context;
    const Job *job = w->job;
    const uint16_t *pixels =
        w->pixels + (size_t)item * (size_t)job->mr.grid.nx * (size_t)job->mr.grid.ny;
    OutputFile *out = &w->outputs[item];
    (void)snprintf(out->file, sizeof out->file, "MR%04d.dcm", item + 1);
    mr_sop_uid(w->series, job->series.headers[item].instance.sop_uid, out->sop_uid);
    char path[PATH_SIZE];
    Err *err = &w->errors[item];
    if (path_format(path, err, "%s/%s", job->options.out_dir, out->file) == ST_OK &&
        dicom_write_mr(w->series, job->series.paths[item], pixels, item, path, err) != ST_OK)
        (void)err_wrap(err, "slice %d", item + 1);
}

static void describe(Job *job, MrSeries *ret)
{
    const ModelInfo *info = model_info(job->model);
    size_t used = strlen(job->recipe); /* "backend=..." from the infer step */
    (void)snprintf(job->recipe + used, sizeof job->recipe - used,
                   ";reference=%s;synthetic_data=%d;series_number_offset=%d", job->reference_digest,
                   job->options.synthetic_data, job->options.series_number_offset);
    *ret = (MrSeries){
        .recipe = job->recipe,
        .ct_series_uid = job->series.headers[0].instance.series_uid,
        .target = info->target,
        .model_name = info->name,
        .model_digest = info->digest,
        .model_label = info->label,
        .software_version = CT2MR_VERSION,
        .series_number_offset = job->options.series_number_offset,
        .synthetic_data = job->options.synthetic_data,
        .slice_spacing_mm = job->series.geometry.slice_spacing_mm,
        .window_center = 0.5 * (double)STORED_MAX,
        .window_width = (double)STORED_MAX,
    };
}

static Status first_error(const Writing *w, size_t n, Err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (w->errors[i].status != ST_OK) {
            if (err != NULL)
                *err = w->errors[i];
            return w->errors[i].status;
        }
    }
    return ST_OK;
}

static Status write_images(Job *job, Err *err)
{
    size_t n = (size_t)job->series.geometry.n_slices;
    MrSeries series;
    describe(job, &series);
    job->outputs = arena_alloc(&job->arena, n, sizeof *job->outputs, err);
    Writing w = {.job = job, .series = &series, .outputs = job->outputs};
    w.pixels = arena_alloc(&job->scratch, grid_voxels(&job->mr.grid), sizeof *w.pixels, err);
    w.errors = arena_alloc(&job->scratch, n, sizeof *w.errors, err);
    w.digests = arena_alloc(&job->scratch, n, sizeof *w.digests, err);
    if (job->outputs == NULL || w.pixels == NULL || w.errors == NULL || w.digests == NULL)
        return ST_LIMIT;
    memset(w.errors, 0, n * sizeof *w.errors);
    parallel_for(job->options.threads, (int)n, digest_slice, &w);
    TRY(first_error(&w, n, err));
    char content[DIGEST_HEX_SIZE];
    Digest *digest = digest_new();
    uint8_t sum[DIGEST_SIZE];
    digest_add(digest, w.digests, n * sizeof *w.digests);
    digest_end(digest, sum);
    series.content_digest = digest_hex(sum, content);
    mr_series_uid(&series, job->mr_series_uid);
    parallel_for(job->options.threads, (int)n, write_slice, &w);
    return first_error(&w, n, err);
}

Status step_write(Job *job, Err *err)
{
    TRY(write_images(job, err));
    const ModelInfo *info = model_info(job->model);
    char path[PATH_SIZE];
    TRY(path_format(path, err, "%s/qa.png", job->options.out_dir));
    TRY(qa_picture_write(path, &job->series.ct, &job->mask, &job->mr, info->window_level_hu,
                         info->window_width_hu, err));
    (void)snprintf(job->note, sizeof job->note, "%d MR images", job->series.geometry.n_slices);
    return dir_sync(job->options.out_dir, err);
}
