/* See kfold.h. */
#include "pipeline/kfold.h"

#include "gpu/train.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool get_count(const cJSON *json, const char *name, int32_t *ret)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, name);
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= PACK_MAX_CASES) ||
        floor(item->valuedouble) != item->valuedouble)
        return false;
    *ret = (int32_t)item->valuedouble;
    return true;
}

/* The seed is text: 64 bits do not fit a JSON number. */
static bool get_seed(const cJSON *json, uint64_t *ret)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, "seed");
    if (!cJSON_IsString(item) || item->valuestring[0] < '0' || item->valuestring[0] > '9')
        return false;
    char *end;
    errno = 0;
    *ret = strtoull(item->valuestring, &end, 10);
    return errno == 0 && *end == '\0';
}

static Status read_fold(const cJSON *json, const PackInfo *pack, Fold *ret, Err *err)
{
    const cJSON *data = cJSON_GetObjectItemCaseSensitive(json, "data");
    if (!cJSON_IsString(data) || !get_count(json, "fold", &ret->fold) ||
        !get_count(json, "validation_cases", &ret->n_held_out) || !get_seed(json, &ret->seed))
        return err_set(err, ST_USAGE, "it does not say how it was trained (by ct2mr train?)");
    if (strcmp(data->valuestring, pack->digest) != 0)
        return err_set(err, ST_USAGE, "it was trained on another packed file");
    if (ret->n_held_out < 1)
        return err_set(err, ST_USAGE, "it was trained with no case held out");
    return ST_OK;
}

Status kfold_of_model(const ModelInfo *model, const PackInfo *pack, Fold *ret, Err *err)
{
    cJSON *json = cJSON_Parse(model->training);
    Fold fold = {0};
    Status status = read_fold(json, pack, &fold, err);
    cJSON_Delete(json);
    if (status != ST_OK)
        return err_wrap(err, "model %s", model->name);
    *ret = fold;
    return ST_OK;
}

Status kfold_held_out(const Fold *folds, int32_t n, int32_t n_cases, bool *ret_held, Err *err)
{
    int32_t by_fold[KFOLD_MAX], n_held_out = 0;
    ASSERT(n >= 1 && n <= KFOLD_MAX);
    memset(by_fold, 0xff, sizeof by_fold);
    for (int32_t i = 0; i < n; i++) {
        if (folds[i].seed != folds[0].seed)
            return err_set(err, ST_USAGE, "models 1 and %d were trained with other seeds", i + 1);
        if (folds[i].fold >= n || by_fold[folds[i].fold] >= 0)
            return err_set(err, ST_USAGE,
                           "model %d is fold %d: %d models are to be folds 0 to %d, each once",
                           i + 1, folds[i].fold, n, n - 1);
        by_fold[folds[i].fold] = i;
        n_held_out += folds[i].n_held_out;
    }
    int32_t each = folds[by_fold[0]].n_held_out; /* the last fold may hold out fewer */
    if (n_held_out != n_cases)
        return err_set(err, ST_USAGE, "the models held out %d of %d cases: folds are missing",
                       n_held_out, n_cases);
    for (int32_t i = 0; i < n; i++)
        train_held_out(folds[i].seed, n_cases, folds[i].fold * each, folds[i].n_held_out,
                       ret_held + (size_t)i * (size_t)n_cases);
    return ST_OK;
}
