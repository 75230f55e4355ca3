/* Step "mask": the head (or brain) on the CT's grid, and its gate.
**
** A planning CT of a head shows between half a head and a head with neck and shoulders' upper rim;
** other volumes mean another body part or a wrong HU scale. The brain is looked for in either case:
** what a header's millimetres are too large by, no transform shows, but the brain's volume does.
** Where only the head is wanted a brain that is too small, or not found, is only noted: noise hides
** it. */
#include "pipeline/steps.h"

#include <stdio.h>
#include <string.h>

#define HEAD_MIN_ML 1000.0
#define HEAD_MAX_ML 9000.0
#define BRAIN_MIN_ML 900.0
#define BRAIN_MAX_ML 2000.0

static Status check_ml(const char *what, double ml, double low, double high, Err *err)
{
    return ml >= low && ml <= high ? ST_OK
                                   : err_set(err, ST_MASK, "%s of %.0f ml, plausible %.0f to %.0f",
                                             what, ml, low, high);
}

static Status step_brain(Job *job, const MaskReference *reference, Err *err)
{
    bool wanted = job->wanted->mask == MASK_BRAIN;
    Err none = {0};
    Status status = mask_brain(&job->series.ct, reference, job->options.threads, &job->mask,
                               &job->mask_result, &job->arena, &job->scratch, &none);
    if (status == ST_MASK && !wanted) {
        (void)snprintf(job->note, sizeof job->note, "no brain found");
        return ST_OK;
    }
    if (status != ST_OK) {
        if (err != NULL)
            *err = none;
        return status;
    }
    double ml = job->mask_result.volume_ml;
    bool small = ml < BRAIN_MIN_ML;
    (void)snprintf(job->note, sizeof job->note, "brain %.0f ml%s", ml, small ? " (doubtful)" : "");
    return check_ml("brain", ml, wanted ? BRAIN_MIN_ML : 0, BRAIN_MAX_ML, err);
}

Status step_mask(Job *job, Err *err)
{
    const MaskReference reference = {&job->reference, job->ref_from_ct};
    size_t mark = arena_mark(&job->arena);
    TRY(step_brain(job, &reference, err));
    if (job->wanted->mask == MASK_BRAIN)
        return ST_OK;
    arena_reset(&job->arena, mark);
    TRY(mask_head(&job->series.ct, &reference, job->options.threads, &job->mask, &job->mask_result,
                  &job->arena, &job->scratch, err));
    double ml = job->mask_result.volume_ml;
    size_t used = strlen(job->note);
    (void)snprintf(job->note + used, sizeof job->note - used, ", head %.0f ml", ml);
    return check_ml("head", ml, HEAD_MIN_ML, HEAD_MAX_ML, err);
}
