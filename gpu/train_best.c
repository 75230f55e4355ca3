/* The best epoch of a training: see training_int.h. */
#include "gpu/training_int.h"

#include "gpu/half.h"

#include <stdlib.h>
#include <string.h>

Status training_best_open(Training *t, Err *err)
{
    t->best = calloc((size_t)t->n_parameters, sizeof *t->best);
    bool ok = t->best != NULL;
    for (int32_t i = 0; ok && i < t->n_parameters; i++)
        ok = (t->best[i] = calloc((size_t)t->parameters[i].n, sizeof **t->best)) != NULL;
    return ok ? ST_OK : err_set(err, ST_NO_MEMORY, "the best epoch's weights");
}

void training_best_close(Training *t)
{
    for (int32_t i = 0; t->best != NULL && i < t->n_parameters; i++)
        free(t->best[i]);
    free(t->best);
}

void training_best_take(Training *t, const TrainRow *row)
{
    t->state.best = *row;
    for (int32_t i = 0; i < t->n_parameters; i++)
        memcpy(t->best[i], t->parameters[i].value, (size_t)t->parameters[i].n * sizeof **t->best);
}

/* Are b the numbers of a as the file stores them? */
static bool is_same(const Training *t, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float stored = t->config->is_f16 ? f32_from_f16(f16_from_f32(a[i])) : a[i];
        if (memcmp(&stored, &b[i], sizeof stored) != 0)
            return false;
    }
    return true;
}

/* False also where it cannot be read: then it is written, which says why it cannot be. */
static bool has_tensor(const Training *t, const Model *file, int32_t i)
{
    const TrainParameter *p = &t->parameters[i];
    const Tensor *tensor = model_tensor(file, p->name);
    float *values = malloc((size_t)p->n * sizeof *values);
    bool is_there = tensor != NULL && values != NULL && tensor->n_elements == p->n &&
                    model_read(file, tensor, values, NULL) == ST_OK &&
                    is_same(t, t->best[i], values, p->n);
    free(values);
    return is_there;
}

static bool file_is_best(const Training *t)
{
    Model *file;
    Err none = {0};
    if (model_open(t->config->model, &file, &none) != ST_OK)
        return false;
    bool ok = true;
    for (int32_t i = 0; ok && i < t->n_parameters; i++)
        ok = has_tensor(t, file, i);
    model_close(file);
    return ok;
}

Status training_best_restore(const Training *t, bool *ret_written, Err *err)
{
    *ret_written = t->state.best.epoch > 0 && !file_is_best(t);
    return *ret_written ? training_write_model(t, err) : ST_OK;
}
