/* See cuda_emulator_plans.h. */
#include "tests/cuda_emulator_plans.h"

#include "gpu/cuda_desc.h"
#include "gpu/cuda_plan.h"
#include "gpu/gpu_catalog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* conv + bias with one mistake: fails where cuDNN checks, else its heuristics must find nothing. */
static Status plan_mistake(const EmulatedPlan *p, const char *profile, Err *err)
{
    DescPool pool = {0};
    cudnnDataType_t type = p->control == PLAN_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_HALF;
    int64_t h = p->h / p->stride + (p->control == PLAN_DIMS ? 1 : 0), w = p->w / p->stride;
    DescTensor x = desc_nhwc(type, 1, p->n, p->c_in, p->h, p->w, false);
    DescTensor weight = desc_nhwc(type, 2, p->c_out, p->c_in, p->kernel, p->kernel, false);
    DescTensor between = desc_nhwc(CUDNN_DATA_FLOAT, 3, p->n, p->c_out, h, w, true);
    DescTensor bias = desc_nhwc(type, 4, 1, p->c_out, 1, 1, false);
    DescTensor y = desc_nhwc(type, 5, p->n, p->c_out, h, w, false);
    if (p->control == PLAN_LAYOUT) { /* the output (n, c, h, w) in memory */
        const int64_t strides[4] = {p->c_out * h * w, h * w, w, 1};
        memcpy(y.strides, strides, sizeof strides);
    }
    cudnnBackendDescriptor_t middle = desc_tensor(&pool, &between), ops[2];
    ops[0] = desc_conv(&pool, p->kernel, p->stride, desc_tensor(&pool, &x),
                       desc_tensor(&pool, &weight), middle);
    ops[1] = desc_pointwise(&pool, CUDNN_POINTWISE_ADD, middle, desc_tensor(&pool, &bias),
                            desc_tensor(&pool, &y));
    cudnnBackendDescriptor_t graph = desc_graph(&pool, 2, ops);
    cudnnBackendDescriptor_t device = desc_device(&pool, profile);
    ConvChoice choice = {0};
    bool found = false;
    Status status = conv_search(&pool, graph, device, &choice, &found, err);
    desc_done(&pool);
    free(choice.json);
    return status != ST_OK || found ? status : err_set(err, ST_BACKEND, "no engine");
}

static ConvShape shape_of(const EmulatedPlan *p)
{
    return (ConvShape){p->n,      p->c_in,   p->h,        p->w,   p->c_out,
                       p->kernel, p->stride, p->residual, p->relu};
}

Status emulated_plan(EmulatedPlan *plan, Err *err)
{
    char profile[GPU_PROFILE_SIZE];
    ConvShape shape = shape_of(plan);
    ConvChoice choice;
    ConvPlan loaded;
    (void)gpu_catalog_profile(plan->card, profile);
    if (plan->control != PLAN_GOOD)
        return plan_mistake(plan, profile, err);
    TRY(conv_choose(&shape, profile, &choice, err));
    Status status = conv_load(&shape, profile, choice.json, &loaded, err);
    if (status == ST_OK && loaded.workspace_bytes != choice.workspace_bytes)
        status = err_set(err, ST_BACKEND, "workspace changed when reloaded");
    if (status == ST_OK) {
        plan->workspace_bytes = choice.workspace_bytes;
        plan->engine = choice.engine;
        plan->tensor_core = choice.tensor_core;
        conv_plan_free(&loaded);
    }
    free(choice.json);
    return status;
}

static char *replace(const char *text, const char *from, const char *to)
{
    const char *at = from != NULL ? strstr(text, from) : NULL;
    if (at == NULL)
        return strdup(text);
    size_t size = strlen(text) + strlen(to) + 1;
    char *ret = malloc(size);
    ASSERT(ret != NULL);
    (void)snprintf(ret, size, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return ret;
}

Status emulated_reload(const EmulatedPlan *plan, int other_card, const char *from, const char *to,
                       Err *err)
{
    char profile[GPU_PROFILE_SIZE], other[GPU_PROFILE_SIZE];
    ConvShape shape = shape_of(plan);
    ConvChoice choice;
    ConvPlan loaded;
    (void)gpu_catalog_profile(plan->card, profile);
    (void)gpu_catalog_profile(other_card, other);
    TRY(conv_choose(&shape, profile, &choice, err));
    char *json = replace(choice.json, from, to);
    ASSERT(json != NULL && (from == NULL || strcmp(json, choice.json) != 0));
    Status status = conv_load(&shape, other, json, &loaded, err);
    if (status == ST_OK)
        conv_plan_free(&loaded);
    free(json);
    free(choice.json);
    return status;
}
