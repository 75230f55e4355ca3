/* Step "align": affine registration of the reference head to the CT, and its gate.
**
** The CT is the fixed (binned) image, the reference the moving one: ref_from_ct comes out directly
** and the noisy image explains the clean one (REGISTRATION: correlation ratio is not symmetric). */
#include "pipeline/steps.h"

#include <math.h>
#include <stdio.h>

/* Limits against the default reference; measured, see DECISIONS.md "Alignment gate". */
#define OVERLAP_MIN 0.50
#define DETERMINANT_MIN 0.70
#define DETERMINANT_MAX 1.75
#define SCALE_MIN 0.85
#define SCALE_MAX 1.35
#define COST_MAX 0.47
#define TURNED_MIN_NATS 0.05
#define SCORE_MAX_MM 7.5
#define SCORE_DOUBTFUL_MM 6.5

Status align_gate(const RegResult *r, Err *err)
{
    if (!(r->overlap_frac >= OVERLAP_MIN))
        return err_set(err, ST_REG_QUALITY, "overlap %.2f of the head, at least %.2f needed",
                       r->overlap_frac, OVERLAP_MIN);
    if (!(r->determinant >= DETERMINANT_MIN && r->determinant <= DETERMINANT_MAX))
        return err_set(err, ST_REG_QUALITY, "volume scale %.3f, plausible %.2f to %.2f",
                       r->determinant, DETERMINANT_MIN, DETERMINANT_MAX);
    if (!(r->scale_min >= SCALE_MIN && r->scale_max <= SCALE_MAX))
        return err_set(err, ST_REG_QUALITY, "scales %.3f to %.3f, plausible %.2f to %.2f",
                       r->scale_min, r->scale_max, SCALE_MIN, SCALE_MAX);
    if (!(r->cost <= COST_MAX))
        return err_set(err, ST_REG_QUALITY, "cost %.3f, at most %.2f accepted", r->cost, COST_MAX);
    if (!(r->turned_nats >= TURNED_MIN_NATS))
        return err_set(err, ST_REG_QUALITY,
                       "the head fits as well facing another way (%.2f nats, at least %.2f between "
                       "them): check the patient position (head or feet first, supine or prone)",
                       r->turned_nats, TURNED_MIN_NATS);
    if (!(r->score_mm <= SCORE_MAX_MM))
        return err_set(err, ST_REG_QUALITY,
                       "%.1f mm apart there and back, %.1f mm from the second best; at most %.1f "
                       "together",
                       fmin(r->inverse_mm, 999), r->runner_up_mm, SCORE_MAX_MM);
    return ST_OK;
}

bool align_doubtful(const RegResult *r)
{
    return !(r->score_mm <= SCORE_DOUBTFUL_MM);
}

Status step_align(Job *job, Err *err)
{
    RegOptions options = {.fixed_modality = REG_CT,
                          .moving_modality = REG_MR,
                          .dof = 12,
                          .threads = job->options.threads};
    TRY(reg_affine(&job->series.ct, &job->reference, &options, &job->registration, &job->scratch,
                   err));
    const RegResult *r = &job->registration;
    (void)snprintf(
        job->note, sizeof job->note,
        "score %.1f mm%s cost %.3f overlap %.2f det %.3f scales %.3f-%.3f runner-up %.1f mm",
        r->score_mm, align_doubtful(r) ? " (doubtful)" : "", r->cost, r->overlap_frac,
        r->determinant, r->scale_min, r->scale_max, r->runner_up_mm);
    job->ref_from_ct = r->moving_from_fixed;
    return align_gate(r, err);
}
