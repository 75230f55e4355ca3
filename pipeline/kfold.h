/* K-fold cross-validation: every case is judged by the model that was trained without it. The
** models are those of `ct2mr train --validation 1/K --fold 0 .. K-1` with one seed on one packed
** file; which cases each held out follows from what it says of its training. Thread: any. */
#ifndef CT2MR_PIPELINE_KFOLD_H
#define CT2MR_PIPELINE_KFOLD_H

#include "gpu/model.h"
#include "gpu/pack_file.h"

enum { KFOLD_MAX = 32, KFOLD_KIND_SIZE = 160, KFOLD_RECIPE_SIZE = 1024 };

typedef struct Fold { /* what a model says of its training */
    uint64_t seed;
    int32_t fold, n_folds;
    char kind[KFOLD_KIND_SIZE];     /* network, width, loss and its features, as text */
    char recipe[KFOLD_RECIPE_SIZE]; /* what else they must share: see kfold.c, as text */
} Fold;

/* Errors: USAGE: trained by something else, on another file, without cases held out. */
MUST_CHECK Status kfold_of_model(const ModelInfo *model, const PackInfo *pack, Fold *ret, Err *err);
/* ret_held: [n][n_cases], true where model i has not seen the case. Errors: USAGE: other seeds,
** networks or recipes, a fold that is missing or there twice, other numbers of folds. */
MUST_CHECK Status kfold_held_out(const Fold *folds, int32_t n, int32_t n_cases, bool *ret_held,
                                 Err *err);

#endif
