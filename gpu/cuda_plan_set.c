/* See cuda_plan_set.h. */
#include "gpu/cuda_plan_set.h"

#include <stdlib.h>

static Status make_plan(PlanSet *set, const PlanMaker *maker, const ConvShape *shape, Err *err)
{
    ConvPlan *plan = &set->plans[set->n];
    char *json = plan_cache_find(maker->cache, shape);
    Err why = {0};
    bool loaded =
        json != NULL && conv_load(shape, maker->profile, maker->handle, json, plan, &why) == ST_OK;
    if (json != NULL && !loaded && maker->cache->set_aside.status == ST_OK)
        maker->cache->set_aside = why;
    free(json);
    if (!loaded) {
        ConvChoice choice;
        TRY(conv_choose(shape, maker->profile, &choice, err));
        Status status = conv_load(shape, maker->profile, maker->handle, choice.json, plan, err);
        free(choice.json);
        TRY(status);
        set->changed = true;
    }
    set->n++;
    if ((size_t)plan->workspace_bytes > set->workspace_bytes)
        set->workspace_bytes = (size_t)plan->workspace_bytes;
    return ST_OK;
}

Status plan_set_add(PlanSet *set, const PlanMaker *maker, const ConvShape *shape, int32_t *ret,
                    Err *err)
{
    int32_t p = 0;
    while (p < set->n && !conv_shape_equal(&set->plans[p].shape, shape))
        p++;
    ASSERT(p < PLAN_SET_MAX);
    if (p == set->n)
        TRY(make_plan(set, maker, shape, err));
    *ret = p;
    return ST_OK;
}

void plan_set_drop(PlanSet *set)
{
    while (set->n > 0)
        conv_plan_free(&set->plans[--set->n]);
    set->workspace_bytes = 0;
    set->changed = false;
}
