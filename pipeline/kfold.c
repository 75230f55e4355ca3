/* See kfold.h. */
#include "pipeline/kfold.h"

#include "gpu/network.h"
#include "gpu/train.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
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

/* False if it is too long to be compared. */
static bool get_kind(const cJSON *json, const ModelInfo *model, char ret[KFOLD_KIND_SIZE])
{
    const char *loss = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "loss"));
    const char *features = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "features"));
    int n =
        snprintf(ret, KFOLD_KIND_SIZE, "%s of width %d%s, loss %s%s%s", network_name(model->arch),
                 model->width, model->activation == ACTIVATION_SIGMOID ? "" : ", linear",
                 loss != NULL ? loss : "?", features != NULL ? " of " : "",
                 features != NULL ? features : "");
    return loss != NULL && n > 0 && n < KFOLD_KIND_SIZE;
}

/* How it was trained; "" for what the model does not say. False if it is too long. */
static bool get_recipe(const cJSON *json, char ret[KFOLD_RECIPE_SIZE])
{
    static const char *const KEYS[] = {"encoder", "batch",        "augment",     "schedule",
                                       "lr",      "lr_min",       "step_epochs", "step_factor",
                                       "warmup",  "weight_decay", "clip",        "precision"};
    size_t used = 0;
    for (size_t i = 0; i < sizeof KEYS / sizeof KEYS[0]; i++) {
        char *text = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(json, KEYS[i]));
        int n = snprintf(ret + used, KFOLD_RECIPE_SIZE - used, "%s %s;", KEYS[i],
                         text != NULL ? text : "");
        cJSON_free(text);
        used += (size_t)n;
        if (used >= KFOLD_RECIPE_SIZE)
            return false;
    }
    return true;
}

static Status read_fold(const cJSON *json, const ModelInfo *model, const PackInfo *pack, Fold *ret,
                        Err *err)
{
    const cJSON *data = cJSON_GetObjectItemCaseSensitive(json, "data");
    int32_t n_held_out;
    if (!cJSON_IsString(data) || !get_count(json, "fold", &ret->fold) ||
        !get_count(json, "validation_cases", &n_held_out) || !get_seed(json, &ret->seed) ||
        !get_kind(json, model, ret->kind) || !get_recipe(json, ret->recipe))
        return err_set(err, ST_USAGE, "it does not say how it was trained (by ct2mr train?)");
    if (strcmp(data->valuestring, pack->digest) != 0)
        return err_set(err, ST_USAGE, "it was trained on another packed file");
    if (n_held_out < 1)
        return err_set(err, ST_USAGE, "it was trained with no case held out");
    if (!get_count(json, "folds", &ret->n_folds) || ret->fold >= ret->n_folds ||
        ret->n_folds > pack->n_cases)
        return err_set(err, ST_USAGE, "it does not say of how many folds its own is one");
    return ST_OK;
}

Status kfold_of_model(const ModelInfo *model, const PackInfo *pack, Fold *ret, Err *err)
{
    cJSON *json = cJSON_Parse(model->training);
    Fold fold = {0};
    Status status = read_fold(json, model, pack, &fold, err);
    cJSON_Delete(json);
    if (status != ST_OK)
        return err_wrap(err, "model %s", model->name);
    *ret = fold;
    return ST_OK;
}

Status kfold_held_out(const Fold *folds, int32_t n, int32_t n_cases, bool *ret_held, Err *err)
{
    int32_t by_fold[KFOLD_MAX];
    ASSERT(n >= 1 && n <= KFOLD_MAX);
    memset(by_fold, 0xff, sizeof by_fold);
    for (int32_t i = 0; i < n; i++) {
        if (folds[i].seed != folds[0].seed)
            return err_set(err, ST_USAGE, "models 1 and %d were trained with other seeds", i + 1);
        if (strcmp(folds[i].kind, folds[0].kind) != 0)
            return err_set(err, ST_USAGE,
                           "models 1 and %d were not trained alike, one mean over them says "
                           "nothing: %s; %s",
                           i + 1, folds[0].kind, folds[i].kind);
        if (strcmp(folds[i].recipe, folds[0].recipe) != 0)
            return err_set(err, ST_USAGE,
                           "models 1 and %d were not trained alike, one mean over them says "
                           "nothing: encoder, batch, augmentation, learning rate, its schedule, "
                           "weight decay, clip or precision differ (`ct2mr model show`)",
                           i + 1);
        if (folds[i].n_folds != n)
            return err_set(err, ST_USAGE, "model %d is one of %d folds, here are %d models", i + 1,
                           folds[i].n_folds, n);
        if (folds[i].fold >= n || by_fold[folds[i].fold] >= 0)
            return err_set(err, ST_USAGE,
                           "model %d is fold %d: %d models are to be folds 0 to %d, each once",
                           i + 1, folds[i].fold, n, n - 1);
        by_fold[folds[i].fold] = i;
    }
    for (int32_t i = 0; i < n; i++)
        train_held_out(folds[i].seed, n_cases, n, folds[i].fold,
                       ret_held + (size_t)i * (size_t)n_cases);
    return ST_OK;
}
