/* See trained_cases.h. */
#include "gpu/trained_cases.h"

#include <cjson/cJSON.h>
#include <string.h>

static cJSON *parse(const Model *model, const char *key)
{
    const char *text = model_metadata(model, key);
    return text != NULL ? cJSON_Parse(text) : NULL;
}

Status trained_cases_text(const Pack *pack, const bool *held, const Model *encoder, char **ret,
                          Err *err)
{
    cJSON *json = cJSON_CreateObject(),
          *before = encoder != NULL ? parse(encoder, TRAINED_CASES_KEY) : NULL;
    cJSON *trained = cJSON_AddObjectToObject(json, "trained");
    cJSON *held_out = cJSON_AddObjectToObject(json, "held_out");
    const PackInfo *info = pack_info(pack);
    for (int32_t c = 0; c < info->n_cases; c++) {
        char ct[PACK_ID_SIZE];
        pack_ct_digest(pack, c, ct);
        (void)cJSON_AddStringToObject(held[c] ? held_out : trained, info->cases[c].id, ct);
    }
    const cJSON *item, *list = cJSON_GetObjectItemCaseSensitive(before, "trained");
    cJSON_ArrayForEach(item, list)
    {
        if (cJSON_IsString(item) && !cJSON_HasObjectItem(trained, item->string))
            (void)cJSON_AddStringToObject(trained, item->string, item->valuestring);
    }
    *ret = cJSON_PrintUnformatted(json);
    cJSON_Delete(before);
    cJSON_Delete(json);
    return *ret != NULL ? ST_OK : err_set(err, ST_NO_MEMORY, "the list of %d cases", info->n_cases);
}

static bool has(const cJSON *list, const char *id, const char *ct)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        if (strcmp(item->string, id) == 0 ||
            (cJSON_IsString(item) && strcmp(item->valuestring, ct) == 0))
            return true;
    }
    return false;
}

bool trained_cases_find(const Model *model, const Pack *pack, CaseUse *ret)
{
    const PackInfo *info = pack_info(pack);
    cJSON *json = parse(model, TRAINED_CASES_KEY), *training = parse(model, "training");
    const char *data = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(training, "data"));
    const cJSON *trained = cJSON_GetObjectItemCaseSensitive(json, "trained");
    const cJSON *held_out = cJSON_GetObjectItemCaseSensitive(json, "held_out");
    bool is_listed = cJSON_IsObject(trained) && cJSON_IsObject(held_out);
    bool is_all = !is_listed && data != NULL && strcmp(data, info->digest) == 0;
    for (int32_t c = 0; c < info->n_cases; c++) {
        char ct[PACK_ID_SIZE];
        ret[c] = is_all ? CASE_TRAINED : CASE_NEW;
        if (!is_listed)
            continue;
        pack_ct_digest(pack, c, ct);
        ret[c] = has(trained, info->cases[c].id, ct)    ? CASE_TRAINED
                 : has(held_out, info->cases[c].id, ct) ? CASE_HELD_OUT
                                                        : CASE_NEW;
    }
    cJSON_Delete(json);
    cJSON_Delete(training);
    return is_listed || is_all;
}
