/* Step "load", second half: the volume is there (load.h); now its slices, the model, envelope and
** reference. All inputs are read before anything is computed, so that a wrong path costs
** seconds. */
#include "pipeline/steps.h"

#include "pipeline/slice_gate.h"
#include "pipeline/turn.h"
#include "pipeline/volume_io.h"

#include <stdio.h>

static Status check_envelope(Job *job, Err *err)
{
    const ModelInfo *info = model_info(job->model);
    Err breach = {0};
    for (int32_t i = 0; i < job->series.geometry.n_slices; i++) {
        if (envelope_check(info, &job->series.headers[i], job->series.geometry.slice_spacing_mm,
                           &breach) == ST_OK)
            continue;
        if (job->options.envelope_refuse)
            return err_set(err, ST_MODEL_ENVELOPE, "slice %d: %s", i + 1, breach.msg);
        (void)snprintf(job->note, sizeof job->note, "outside the envelope: %s", breach.msg);
        return ST_OK;
    }
    return ST_OK;
}

/* Slices that run another way than those of training would be another picture to the model: the
** reference is turned to them. A model that does not say takes it as it is. */
static Status read_reference(Job *job, Err *err)
{
    const ModelInfo *info = job->wanted;
    char axes[3];
    TRY(reference_read(job->options.reference_path, info->axes, &job->arena, &job->reference,
                       job->reference_digest, err));
    return info->pose != POSE_REFERENCE || grid_axes(&job->reference.grid, axes)
               ? ST_OK
               : err_set(err, ST_REFERENCE, "the reference's slices are not axial");
}

Status step_load(Job *job, Err *err)
{
    SliceFit fit;
    TRY(slice_gate(&job->series.ct, job->options.slice_jump_percent / 100.0, job->options.threads,
                   &fit, err));
    char moved[64] = "";
    if (fit.moved_mm > 0)
        (void)snprintf(moved, sizeof moved, ", patient moved %.1f mm after slice %d", fit.moved_mm,
                       fit.moved_after + 1);
    (void)snprintf(job->note, sizeof job->note,
                   "%d slices of %d x %d, misfit %.2f exchange %.2f jump %.1f%s%s%s",
                   job->series.geometry.n_slices, job->series.ct.grid.ny, job->series.ct.grid.nx,
                   fit.misfit, fit.exchange, fit.jump, moved,
                   job->series.dropped[0] != '\0' ? "; " : "", job->series.dropped);
    TRY(kept_model(&job->kept, job->options.model_path, &job->model, err));
    if (model_info(job->model)->untrained)
        return err_set(err, ST_MODEL_UNFIT, "the model is not trained: its decoder is random");
    job->wanted = model_info(job->model);
    TRY(check_envelope(job, err));
    return read_reference(job, err);
}
