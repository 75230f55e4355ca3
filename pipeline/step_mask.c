/* Step "mask": the head (or brain) on the CT's grid, and its gate.
**
** A planning CT of a head shows between half a head and a head with neck and shoulders' upper rim;
** other volumes mean another body part or a wrong HU scale. The brain is looked for in either case:
** what a header's millimetres are too large by, no transform shows, but the brain's volume does.
** Where only the head is wanted a brain that is too small, or not found, is only noted: noise hides
** it. */
#include "pipeline/steps.h"

#include <stdio.h>

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

Status mask_gate(ModelMask wanted, double head_ml, double brain_ml, Err *err)
{
    bool is_brain = wanted == MASK_BRAIN;
    TRY(check_ml("brain", brain_ml, is_brain ? BRAIN_MIN_ML : 0, BRAIN_MAX_ML, err));
    return is_brain ? ST_OK : check_ml("head", head_ml, HEAD_MIN_ML, HEAD_MAX_ML, err);
}

bool mask_doubtful(double brain_ml)
{
    return brain_ml < BRAIN_MIN_ML;
}

static Status step_brain(Job *job, const MaskReference *reference, Err *err)
{
    TRY(mask_brain(&job->series.ct, reference, job->options.threads, &job->mask, &job->mask_result,
                   &job->arena, &job->scratch, err));
    double ml = job->mask_result.volume_ml;
    (void)snprintf(job->note, sizeof job->note, "brain %.0f ml", ml);
    return mask_gate(MASK_BRAIN, 0, ml, err);
}

static Status step_head(Job *job, const MaskReference *reference, Err *err)
{
    double brain_ml = 0;
    TRY(mask_head_and_brain_ml(&job->series.ct, reference, job->options.threads, &job->mask,
                               &job->mask_result, &brain_ml, &job->arena, &job->scratch, err));
    double ml = job->mask_result.volume_ml;
    if (brain_ml > 0)
        (void)snprintf(job->note, sizeof job->note, "brain %.0f ml%s, head %.0f ml", brain_ml,
                       mask_doubtful(brain_ml) ? " (doubtful)" : "", ml);
    else
        (void)snprintf(job->note, sizeof job->note, "no brain found, head %.0f ml", ml);
    return mask_gate(MASK_HEAD, ml, brain_ml, err);
}

Status step_mask(Job *job, Err *err)
{
    const MaskReference reference = {&job->reference, job->ref_from_ct};
    return (job->wanted->mask == MASK_BRAIN ? step_brain : step_head)(job, &reference, err);
}
