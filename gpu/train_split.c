/* Which cases train and which are held out: a shuffle by the seed is cut into folds. */
#include "gpu/training_int.h"

#include <math.h>
#include <stdlib.h>

static const uint64_t SPLIT_ROUND = 0x73706c6974; /* of random_order(); no epoch has it */

static Status count_held_out(const Training *t, int32_t *ret_from, int32_t *ret_n, Err *err)
{
    const TrainConfig *c = t->config;
    const int32_t n = t->pack->n_cases;
    int32_t held = c->validation_frac > 0 ? (int32_t)lround(c->validation_frac * n) : 0;
    if (c->validation_frac > 0 && held < 1)
        held = 1;
    if (held >= n)
        return err_set(err, ST_USAGE,
                       "%d case%s: none would be left to train on; more cases are needed, or "
                       "--validation 0 to train without checking",
                       n, n == 1 ? "" : "s");
    if (held == 0 && c->fold != 0)
        return err_set(err, ST_USAGE, "a fold without held-out cases");
    if (held > 0 && (int64_t)c->fold * held >= n)
        return err_set(err, ST_USAGE, "fold %d: %d cases make folds 0 to %d of %d", c->fold, n,
                       (n + held - 1) / held - 1, held);
    *ret_from = c->fold * held;
    *ret_n = *ret_from + held <= n ? held : n - *ret_from;
    return ST_OK;
}

void train_held_out(uint64_t seed, int32_t n_cases, int32_t first, int32_t n, bool *ret_held)
{
    for (int32_t c = 0; c < n_cases; c++)
        ret_held[c] = false;
    for (int32_t i = first; i < first + n; i++)
        ret_held[random_order(seed, SPLIT_ROUND, (uint32_t)n_cases, (uint32_t)i)] = true;
}

Status training_split(Training *t, Err *err)
{
    int32_t from = 0, held = 0;
    const int32_t n_cases = t->pack->n_cases;
    TRY(count_held_out(t, &from, &held, err));
    t->training = calloc(2 * (size_t)t->pack->n_slices, sizeof *t->training);
    t->is_held = calloc((size_t)n_cases, sizeof *t->is_held);
    if (t->training == NULL || t->is_held == NULL)
        return err_set(err, ST_NO_MEMORY, "%d slices", t->pack->n_slices);
    t->validation = t->training + t->pack->n_slices;
    train_held_out(t->config->seed, n_cases, from, held, t->is_held);
    for (int32_t c = 0; c < n_cases; c++)
        for (int32_t k = 0; k < t->pack->cases[c].n_slices; k++) {
            int32_t slice = t->pack->cases[c].first_slice + k;
            if (t->is_held[c])
                t->validation[t->n_validation++] = slice;
            else
                t->training[t->n_training++] = slice;
        }
    t->n_validation_cases = held;
    t->n_training_cases = n_cases - held;
    return ST_OK;
}
