/* Step "mask": the head (or brain) on the CT's grid, and its gate.
**
** A planning CT of a head shows between half a head and a head with neck and shoulders' upper rim;
** other volumes mean another body part or a wrong HU scale. The brain is looked for in either case:
** its volume is that of an adult only if the millimetres are right, which no transform shows. */
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

static Status mask_head_too(Job *job, const MaskReference *reference, Err *err)
{
    TRY(mask_head(&job->series.ct, reference, job->options.threads, &job->mask, &job->mask_result,
                  &job->arena, &job->scratch, err));
    double ml = job->mask_result.volume_ml;
    (void)snprintf(job->note + strlen(job->note), sizeof job->note - strlen(job->note),
                   ", head %.0f ml", ml);
    return check_ml("head", ml, HEAD_MIN_ML, HEAD_MAX_ML, err);
}

Status step_mask(Job *job, Err *err)
{
    const MaskReference reference = {&job->reference, job->ref_from_ct};
    size_t mark = arena_mark(&job->arena);
    TRY(mask_brain(&job->series.ct, &reference, job->options.threads, &job->mask, &job->mask_result,
                   &job->arena, &job->scratch, err));
    double ml = job->mask_result.volume_ml;
    (void)snprintf(job->note, sizeof job->note, "brain %.0f ml", ml);
    TRY(check_ml("brain", ml, BRAIN_MIN_ML, BRAIN_MAX_ML, err));
    if (job->wanted->mask == MASK_BRAIN)
        return ST_OK;
    arena_reset(&job->arena, mark);
    return mask_head_too(job, &reference, err);
}
