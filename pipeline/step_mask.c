/* Step "mask": the head (or brain) on the CT's grid, and its gate.
**
** A planning CT of a head shows between half a head and a head with neck and shoulders' upper rim;
** other volumes mean another body part or a wrong HU scale. */
#include "pipeline/steps.h"

#include <stdio.h>

#define HEAD_MIN_ML 1000.0
#define HEAD_MAX_ML 9000.0
#define BRAIN_MIN_ML 900.0
#define BRAIN_MAX_ML 2100.0

Status step_mask(Job *job, Err *err)
{
    bool brain = job->wanted->mask == MASK_BRAIN;
    const MaskReference reference = {&job->reference, job->ref_from_ct};
    TRY((brain ? mask_brain : mask_head)(&job->series.ct, &reference, job->options.threads,
                                         &job->mask, &job->mask_result, &job->arena, &job->scratch,
                                         err));
    double ml = job->mask_result.volume_ml;
    (void)snprintf(job->note, sizeof job->note, "%s %.0f ml", brain ? "brain" : "head", ml);
    double low = brain ? BRAIN_MIN_ML : HEAD_MIN_ML, high = brain ? BRAIN_MAX_ML : HEAD_MAX_ML;
    if (!(ml >= low && ml <= high))
        return err_set(err, ST_MASK, "%s of %.0f ml, plausible %.0f to %.0f",
                       brain ? "brain" : "head", ml, low, high);
    return ST_OK;
}
