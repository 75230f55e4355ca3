/* The steps' own functions, for the table in pipeline.c and their unit tests. Private to pipeline/,
** but for the gates that `ct2mr register` and `ct2mr mask` ask, too.
** Each is described in its file. Thread: that of the Job. */
#ifndef CT2MR_PIPELINE_STEPS_H
#define CT2MR_PIPELINE_STEPS_H

#include "pipeline/pipeline.h"
#include "registration/resample.h"

/* load: what comes beside the CT: model, reference, envelope gate. */
Status step_load(Job *job, Err *err);
Status step_align(Job *job, Err *err);
Status step_mask(Job *job, Err *err);
Status step_gate(Job *job, Err *err);
Status step_window(Job *job, Err *err);
Status step_infer(Job *job, Err *err);
Status step_restore(Job *job, Err *err);
Status step_check(Job *job, Err *err);
Status step_write(Job *job, Err *err);

/* How HU come to the model's grid and the MR back. */
ResampleKind model_resampling(const ModelInfo *info);

/* Gates, pure functions of measured values. */
Status envelope_check(const ModelInfo *model, const CtHeader *header, double slice_spacing_mm,
                      Err *err);
Status align_gate(const RegResult *result, Err *err);
/* Passes the gate, but a person should look. */
bool align_doubtful(const RegResult *result);
/* Volumes of the masks. wanted MASK_BRAIN: head_ml is not asked. MASK_HEAD: a brain that is small
** or not found (0) is no reason, as noise hides it. Errors: MASK. */
Status mask_gate(ModelMask wanted, double head_ml, double brain_ml, Err *err);
bool mask_doubtful(double brain_ml);
/* mr on the CT's grid, 0..1, 0 outside the mask. Writes *ret also when it fails. */
Status result_check(const VolumeF32 *mr, const Grid *ct_grid, const VolumeU8 *mask, int threads,
                    CheckResult *ret, Err *err);

#endif
