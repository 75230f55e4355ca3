/* Which cases train and which are held out: a shuffle by the seed is cut into folds. */
#include "gpu/training_int.h"

#include <math.h>
#include <stdlib.h>

static const uint64_t SPLIT_ROUND = 0x73706c6974; /* of random_order(); no epoch has it */

int32_t train_folds(double validation_frac, int32_t n_cases)
{
    if (!(validation_frac > 0))
        return 0;
    double folds = round(1 / validation_frac);
    return folds < n_cases ? (int32_t)folds : n_cases;
}

static Status count_folds(const Training *t, int32_t *ret, Err *err)
{
    const TrainConfig *c = t->config;
    const int32_t n = t->pack->n_cases, folds = train_folds(c->validation_frac, n);
    if (c->validation_frac > TRAIN_MAX_VALIDATION)
        return err_set(err, ST_USAGE, "%g of the cases are to be held out, at most %g can be",
                       c->validation_frac, TRAIN_MAX_VALIDATION);
    if (folds == 1)
        return err_set(err, ST_USAGE,
                       "1 case: none would be left to train on; more cases are needed, or "
                       "--validation 0 to train without checking");
    if (folds == 0 && c->fold != 0)
        return err_set(err, ST_USAGE, "a fold without held-out cases");
    if (folds > 0 && c->fold >= folds)
        return err_set(err, ST_USAGE, "fold %d: %d cases make %d folds, 0 to %d", c->fold, n, folds,
                       folds - 1);
    *ret = folds;
    return ST_OK;
}

void train_held_out(uint64_t seed, int32_t n_cases, int32_t folds, int32_t fold, bool *ret_held)
{
    const int64_t from = (int64_t)fold * n_cases / folds,
                  to = ((int64_t)fold + 1) * n_cases / folds;
    for (int32_t c = 0; c < n_cases; c++)
        ret_held[c] = false;
    for (int64_t i = from; i < to; i++)
        ret_held[random_order(seed, SPLIT_ROUND, (uint32_t)n_cases, (uint32_t)i)] = true;
}

Status training_split(Training *t, Err *err)
{
    const int32_t n_cases = t->pack->n_cases;
    TRY(count_folds(t, &t->n_folds, err));
    t->training = calloc(2 * (size_t)t->pack->n_slices, sizeof *t->training);
    t->is_held = calloc((size_t)n_cases, sizeof *t->is_held);
    if (t->training == NULL || t->is_held == NULL)
        return err_set(err, ST_NO_MEMORY, "%d slices", t->pack->n_slices);
    t->validation = t->training + t->pack->n_slices;
    if (t->n_folds > 0)
        train_held_out(t->config->seed, n_cases, t->n_folds, t->config->fold, t->is_held);
    for (int32_t c = 0; c < n_cases; c++) {
        t->n_validation_cases += t->is_held[c];
        for (int32_t k = 0; k < t->pack->cases[c].n_slices; k++) {
            int32_t slice = t->pack->cases[c].first_slice + k;
            if (t->is_held[c])
                t->validation[t->n_validation++] = slice;
            else
                t->training[t->n_training++] = slice;
        }
    }
    t->n_training_cases = n_cases - t->n_validation_cases;
    return ST_OK;
}
