/* See cuda_plan.h. */
#include "gpu/cuda_plan.h"

#include "gpu/cuda_api.h"
#include "gpu/cuda_desc.h"
#include "gpu/cuda_plan_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIGS = 64, MAX_NOTES = 32, VIRTUAL_UID = 10 };

bool conv_shape_equal(const ConvShape *a, const ConvShape *b)
{
    return a->n == b->n && a->c_in == b->c_in && a->h == b->h && a->w == b->w &&
           a->c_out == b->c_out && a->kernel == b->kernel && a->stride == b->stride &&
           a->residual == b->residual && a->relu == b->relu && a->pass == b->pass;
}

const char *conv_shape_text(const ConvShape *s, char ret[96])
{
    static const char *const PASSES[] = {
        [CONV_FORWARD] = "", [CONV_BACK_DATA] = " dx", [CONV_BACK_WEIGHTS] = " dw"};
    (void)snprintf(ret, 96, "%dx%dx%dx%d k%d s%d -> %d%s%s%s", s->n, s->c_in, s->h, s->w, s->kernel,
                   s->stride, s->c_out, s->residual ? " +residual" : "", s->relu ? " relu" : "",
                   PASSES[s->pass]);
    return ret;
}

/* ---- the operation graph ------------------------------------------------------------------- */

cudnnBackendDescriptor_t conv_graph(DescPool *pool, const ConvShape *s)
{
    const int64_t h = s->h / s->stride, w = s->w / s->stride;
    const cudnnDataType_t half = CUDNN_DATA_HALF, wide = CUDNN_DATA_FLOAT;
    DescTensor x = desc_nhwc(half, CONV_X, s->n, s->c_in, s->h, s->w, false);
    DescTensor weight = desc_nhwc(half, CONV_W, s->c_out, s->c_in, s->kernel, s->kernel, false);
    DescTensor bias = desc_nhwc(half, CONV_BIAS, 1, s->c_out, 1, 1, false);
    DescTensor residual = desc_nhwc(half, CONV_RESIDUAL, s->n, s->c_out, h, w, false);
    DescTensor y = desc_nhwc(half, CONV_Y, s->n, s->c_out, h, w, false);
    DescTensor between = desc_nhwc(wide, VIRTUAL_UID, s->n, s->c_out, h, w, true);
    cudnnBackendDescriptor_t ops[4], out = desc_tensor(pool, &y);
    int n = 0;
    if (s->pass != CONV_FORWARD) {
        ops[n++] = desc_conv(pool, s->pass, s->kernel, s->stride, desc_tensor(pool, &x),
                             desc_tensor(pool, &weight), out);
        return desc_graph(pool, n, ops);
    }
    cudnnBackendDescriptor_t at = desc_tensor(pool, &between);
    ops[n++] = desc_conv(pool, CONV_FORWARD, s->kernel, s->stride, desc_tensor(pool, &x),
                         desc_tensor(pool, &weight), at);
    if (s->residual) {
        cudnnBackendDescriptor_t from = at;
        between.uid++;
        at = desc_tensor(pool, &between);
        ops[n++] =
            desc_pointwise(pool, CUDNN_POINTWISE_ADD, from, desc_tensor(pool, &residual), at);
    }
    cudnnBackendDescriptor_t from = at;
    between.uid++;
    at = s->relu ? desc_tensor(pool, &between) : out;
    ops[n++] = desc_pointwise(pool, CUDNN_POINTWISE_ADD, from, desc_tensor(pool, &bias), at);
    if (s->relu)
        ops[n++] = desc_pointwise(pool, CUDNN_POINTWISE_RELU_FWD, at, NULL, out);
    return desc_graph(pool, n, ops);
}

/* ---- choosing an engine -------------------------------------------------------------------- */

typedef struct Search {
    cudnnBackendDescriptor_t graph, device;
    bool any_core; /* tensor cores are not asked for */
} Search;

typedef struct Notes {
    bool needs_more, varies, tensor_core; /* more: a compiler at run time, cuBLASLt */
    int64_t engine;
} Notes;

static cudnnStatus_t read_notes(DescPool *pool, cudnnBackendDescriptor_t config, Notes *ret)
{
    int64_t n = 0;
    cudnnBackendBehaviorNote_t behavior[MAX_NOTES];
    cudnnBackendNumericalNote_t numerical[MAX_NOTES];
    cudnnBackendDescriptor_t engine = desc_new(pool, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    cudnnStatus_t s = cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE,
                                               CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine);
    if (s == CUDNN_STATUS_SUCCESS)
        s = cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1,
                                     &n, &ret->engine);
    n = 0;
    if (s == CUDNN_STATUS_SUCCESS)
        s = cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE,
                                     CUDNN_TYPE_BEHAVIOR_NOTE, MAX_NOTES, &n, behavior);
    for (int64_t i = 0; s == CUDNN_STATUS_SUCCESS && i < n; i++)
        ret->needs_more |= behavior[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION ||
                           behavior[i] == CUDNN_BEHAVIOR_NOTE_CUBLASLT_DEPENDENCY;
    n = 0;
    if (s == CUDNN_STATUS_SUCCESS)
        s = cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                     CUDNN_TYPE_NUMERICAL_NOTE, MAX_NOTES, &n, numerical);
    for (int64_t i = 0; s == CUDNN_STATUS_SUCCESS && i < n; i++) {
        ret->varies |= numerical[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC ||
                       numerical[i] == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
        ret->tensor_core |= numerical[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
    }
    return s;
}

static char *plan_json(cudnnBackendDescriptor_t plan)
{
    int64_t n = 0;
    const cudnnBackendAttributeName_t name = CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION;
    if (cudnnBackendGetAttribute(plan, name, CUDNN_TYPE_CHAR, 0, &n, NULL) !=
            CUDNN_STATUS_SUCCESS ||
        n < 1)
        return NULL;
    char *json = calloc(1, (size_t)n + 1);
    if (json != NULL &&
        cudnnBackendGetAttribute(plan, name, CUDNN_TYPE_CHAR, n, &n, json) == CUDNN_STATUS_SUCCESS)
        return json;
    free(json);
    return NULL;
}

/* A configuration becomes a plan, or false: another one may. */
static bool try_config(const Search *search, cudnnBackendDescriptor_t config, ConvChoice *ret)
{
    DescPool pool = {0};
    Notes notes = {0};
    int64_t n = 0, workspace = INT64_MAX;
    bool fits = read_notes(&pool, config, &notes) == CUDNN_STATUS_SUCCESS && !notes.needs_more &&
                !notes.varies && (notes.tensor_core || search->any_core);
    char *json = NULL;
    if (fits) {
        cudnnBackendDescriptor_t plan = desc_new(&pool, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        desc_set_desc(&pool, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
        desc_set_desc(&pool, plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, search->device);
        desc_finalize(&pool, plan, "plan");
        fits =
            pool.status == CUDNN_STATUS_SUCCESS &&
            cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                     CUDNN_TYPE_INT64, 1, &n, &workspace) == CUDNN_STATUS_SUCCESS &&
            workspace <= (int64_t)CONV_WORKSPACE_MAX_MIB << 20;
        json = fits ? plan_json(plan) : NULL;
    }
    desc_done(&pool);
    if (json == NULL)
        return false;
    *ret = (ConvChoice){workspace, notes.engine, notes.tensor_core, json};
    return true;
}

static bool try_mode(const Search *search, cudnnBackendHeurMode_t mode, ConvChoice *ret)
{
    DescPool pool = {0};
    cudnnBackendDescriptor_t configs[MAX_CONFIGS];
    int64_t n = 0, got = 0;
    bool found = false;
    cudnnBackendDescriptor_t heuristic = desc_new(&pool, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    desc_set_desc(&pool, heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, search->graph);
    desc_set(&pool, heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    desc_set_desc(&pool, heuristic, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, search->device);
    desc_finalize(&pool, heuristic, "heuristic");
    if (pool.status == CUDNN_STATUS_SUCCESS &&
        cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &n,
                                 NULL) == CUDNN_STATUS_SUCCESS) {
        n = n < MAX_CONFIGS ? n : MAX_CONFIGS;
        for (int64_t i = 0; i < n; i++)
            configs[i] = desc_new(&pool, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
        if (pool.status != CUDNN_STATUS_SUCCESS ||
            cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                     CUDNN_TYPE_BACKEND_DESCRIPTOR, n, &got,
                                     configs) != CUDNN_STATUS_SUCCESS)
            got = 0;
        for (int64_t i = 0; i < got && !found; i++)
            found = try_config(search, configs[i], ret);
    }
    desc_done(&pool);
    return found;
}

Status conv_search(DescPool *pool, cudnnBackendDescriptor_t graph, cudnnBackendDescriptor_t device,
                   ConvChoice *ret, bool *ret_found, Err *err)
{
    Search search = {.graph = graph, .device = device};
    TRY(desc_status(pool, err));
    *ret_found = false;
    for (int any = 0; any < 2 && !*ret_found; any++) {
        search.any_core = any == 1;
        *ret_found = try_mode(&search, CUDNN_HEUR_MODE_A, ret) ||
                     try_mode(&search, CUDNN_HEUR_MODE_FALLBACK, ret);
    }
    return ST_OK;
}

Status conv_choose(const ConvShape *shape, const char *profile_json, ConvChoice *ret, Err *err)
{
    DescPool pool = {0};
    char text[96];
    bool found = false;
    cudnnBackendDescriptor_t device = desc_device(&pool, profile_json);
    cudnnBackendDescriptor_t graph = conv_graph(&pool, shape);
    (void)conv_shape_text(shape, text);
    Status status = conv_search(&pool, graph, device, ret, &found, err);
    if (status != ST_OK)
        status = err_wrap(err, "convolution %s", text);
    else if (!found)
        status = err_set(err, ST_BACKEND, "cuDNN has no precompiled engine for %s", text);
    desc_done(&pool);
    return status;
}

/* ---- loading ------------------------------------------------------------------------------- */

/* The plan from its text for a handle's device or, with handle NULL, for the device described. */
static Status finalize_plan(const char *profile_json, cudnnHandle_t handle, const char *json,
                            cudnnBackendDescriptor_t plan, Err *err)
{
    DescPool pool = {0}; /* the plan is not in it: it outlives the pool */
    if (handle != NULL)
        desc_set(&pool, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    else
        desc_set_desc(&pool, plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP,
                      desc_device(&pool, profile_json));
    desc_set(&pool, plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
             (int64_t)strlen(json) + 1, json);
    desc_finalize(&pool, plan, "plan from JSON");
    Status status = desc_status(&pool, err);
    desc_done(&pool);
    return status;
}

static Status load_plan(const char *profile_json, cudnnHandle_t handle, const char *json,
                        ConvPlan *ret, Err *err)
{
    const cudnnBackendDescriptorType_t type = CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR;
    const int64_t most = (int64_t)CONV_WORKSPACE_MAX_MIB << 20;
    int64_t n = 0;
    TRY(cudnn_check(cudnnBackendCreateDescriptor(type, &ret->plan), "plan", err));
    Status status = finalize_plan(profile_json, handle, json, ret->plan, err);
    if (status != ST_OK && handle != NULL) {
        (void)cudnnBackendDestroyDescriptor(ret->plan);
        ret->plan = NULL;
        TRY(cudnn_check(cudnnBackendCreateDescriptor(type, &ret->plan), "plan", err));
        status = finalize_plan(profile_json, NULL, json, ret->plan, err);
    }
    TRY(status);
    TRY(cudnn_check(cudnnBackendGetAttribute(ret->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                             CUDNN_TYPE_INT64, 1, &n, &ret->workspace_bytes),
                    "workspace of a plan", err));
    return ret->workspace_bytes >= 0 && ret->workspace_bytes <= most
               ? ST_OK
               : err_set(err, ST_BACKEND, "plan wants %lld bytes of workspace",
                         (long long)ret->workspace_bytes);
}

Status conv_load(const ConvShape *shape, const char *profile_json, cudnnHandle_t handle,
                 const char *json, ConvPlan *ret, Err *err)
{
    ConvPlan plan = {.shape = *shape};
    TRY(conv_check_json(shape, json, err));
    Status status = load_plan(profile_json, handle, json, &plan, err);
    if (status == ST_OK && (plan.json = strdup(json)) == NULL)
        status = err_set(err, ST_NO_MEMORY, "a plan's text");
    if (status != ST_OK)
        conv_plan_free(&plan);
    else
        *ret = plan;
    return status;
}

void conv_plan_free(ConvPlan *plan)
{
    if (plan->plan != NULL)
        (void)cudnnBackendDestroyDescriptor(plan->plan);
    free(plan->json);
    *plan = (ConvPlan){0};
}
