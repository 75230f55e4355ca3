/* Step "gate": is what was masked the whole head, in Hounsfield units? See head_gate.h. */
#include "pipeline/steps.h"

#include "pipeline/head_gate.h"

#include <math.h>
#include <stdio.h>

Status step_gate(Job *job, Err *err)
{
    HeadFacts f;
    TRY(head_facts(&job->series.ct, &job->mask, &job->reference, job->ref_from_ct,
                   job->options.threads, &f, &job->scratch, err));
    bool is_head = job->wanted->mask == MASK_HEAD;
    char air[64] = "not measured";
    if (!isnan(f.air_hu))
        (void)snprintf(air, sizeof air, "%.0f HU, offset %.0f HU", f.air_hu, f.offset_hu);
    (void)snprintf(
        job->note, sizeof job->note,
        "covers %.1f %% of the reference head, worst slice %.0f %%, brain %.0f HU, air %s",
        100 * f.covered_frac, 100 * f.slice_frac, f.brain_hu, air);
    return head_gate(&f, is_head, err);
}
