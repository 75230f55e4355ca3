/* See eval_report.h: what a model knows of the cases it was scored on. */
#include "pipeline/eval_report.h"

#include <stdio.h>

EvalUse eval_use(const EvalSubject *subject)
{
    EvalUse use = {.is_stated = subject->is_stated};
    const Evaluation *e = subject->evaluation;
    for (int32_t c = 0; c < e->n_cases; c++)
        use.n[subject->use[e->case_index[c]]]++;
    return use;
}

const char *eval_use_text(const EvalUse *u, char ret[EVAL_USE_SIZE])
{
    const int32_t n_trained = u->n[CASE_TRAINED], n_held_out = u->n[CASE_HELD_OUT];
    const int32_t n = n_trained + n_held_out + u->n[CASE_NEW];
    if (!u->is_stated)
        (void)snprintf(ret, EVAL_USE_SIZE,
                       "whether this is a test cannot be told: the model does not say which cases "
                       "it was trained on");
    else if (n_trained > 0)
        (void)snprintf(ret, EVAL_USE_SIZE,
                       "NOT A TEST: the model was trained on %d of these %d cases (%d held out, %d "
                       "it does not know)",
                       n_trained, n, n_held_out, u->n[CASE_NEW]);
    else if (n_held_out > 0)
        (void)snprintf(ret, EVAL_USE_SIZE,
                       "trained on 0 of these %d cases; %d held out, by which its epoch was chosen "
                       "(figures a little too good), %d it does not know",
                       n, n_held_out, u->n[CASE_NEW]);
    else
        (void)snprintf(ret, EVAL_USE_SIZE,
                       "none of these %d cases is known to have been trained on (a case is known "
                       "again by its name and salt, or if it was packed the same way)",
                       n);
    return ret;
}

const char *eval_use_name(const EvalSubject *subject, int32_t case_index)
{
    static const char *const NAMES[] = {"not known", "held_out", "trained"};
    return subject->is_stated ? NAMES[subject->use[case_index]] : "unknown";
}
