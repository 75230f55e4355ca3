/* Which cases a model knows: what `ct2mr train` writes into its file, so that nobody takes figures
** on the training's own cases for a test.
**
** Metadata `training_cases`: JSON text {"trained": {ID: CT, ...}, "held_out": {ID: CT, ...}}, ID as
** in the packed file, CT pack_ct_digest(): a case that was packed again under another salt, on the
** same grid, is known by its CT. Held-out cases chose the epoch, no more. Thread: any. */
#ifndef CT2MR_GPU_TRAINED_CASES_H
#define CT2MR_GPU_TRAINED_CASES_H

#include "gpu/pack_file.h"

#define TRAINED_CASES_KEY "training_cases"

typedef enum CaseUse { CASE_NEW, CASE_HELD_OUT, CASE_TRAINED } CaseUse;

/* The text of a training on the pack's cases but those with held[case]. encoder: the model it began
** from, or NULL; what that was trained on is trained on here, too. The caller frees with
** cJSON_free(). Errors: NO_MEMORY. */
MUST_CHECK Status trained_cases_text(const Pack *pack, const bool *held, const Model *encoder,
                                     char **ret, Err *err);
/* What the model knows of each case of the pack. A model without the list that names this very file
** as its data has been trained on all of it. Returns whether the model says anything; if not, ret
** is CASE_NEW throughout. ret: [n_cases]. */
bool trained_cases_find(const Model *model, const Pack *pack, CaseUse *ret);

#endif
