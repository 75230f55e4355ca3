/* See cuda_emulator_plans.h. */
#include "tests/cuda_emulator_plans.h"

#include "gpu/cuda_desc.h"
#include "gpu/cuda_layout.h"
#include "gpu/cuda_plan.h"
#include "gpu/cuda_train_layout.h"
#include "gpu/gpu_catalog.h"
#include "gpu/graph_passes.h"
#include "gpu/network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* conv + residual + bias + ReLU. */
static cudnnBackendDescriptor_t fused_graph(DescPool *pool, const EmulatedPlan *p,
                                            cudnnDataType_t type, cudnnBackendDescriptor_t x,
                                            cudnnBackendDescriptor_t weight, const DescTensor *y)
{
    DescTensor residual = desc_nhwc(type, 3, p->n, p->c_out, y->dims[2], y->dims[3], false);
    DescTensor bias = desc_nhwc(type, 4, 1, p->c_out, 1, 1, false);
    cudnnBackendDescriptor_t between[3], ops[4];
    for (int i = 0; i < 3; i++) {
        DescTensor t =
            desc_nhwc(CUDNN_DATA_FLOAT, 6 + i, p->n, p->c_out, y->dims[2], y->dims[3], true);
        between[i] = desc_tensor(pool, &t);
    }
    ops[0] = desc_conv(pool, CONV_FORWARD, p->kernel, p->stride, x, weight, between[0]);
    ops[1] = desc_pointwise(pool, CUDNN_POINTWISE_ADD, between[0], desc_tensor(pool, &residual),
                            between[1]);
    ops[2] =
        desc_pointwise(pool, CUDNN_POINTWISE_ADD, between[1], desc_tensor(pool, &bias), between[2]);
    ops[3] = desc_pointwise(pool, CUDNN_POINTWISE_RELU_FWD, between[2], NULL, desc_tensor(pool, y));
    return desc_graph(pool, 4, ops);
}

/* With one mistake: refused when the graph is made, or no engine. */
static Status plan_mistake(const EmulatedPlan *p, const char *profile, Err *err)
{
    DescPool pool = {0};
    cudnnDataType_t type = p->control == PLAN_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_HALF;
    cudnnDataType_t weights = p->control == PLAN_FLOAT ? CUDNN_DATA_FLOAT : type;
    int64_t h = p->h / p->stride + (p->control == PLAN_DIMS ? 1 : 0), w = p->w / p->stride;
    DescTensor x = desc_nhwc(type, 1, p->n, p->c_in, p->h, p->w, false);
    DescTensor weight = desc_nhwc(weights, 2, p->c_out, p->c_in, p->kernel, p->kernel, false);
    DescTensor y = desc_nhwc(type, 5, p->n, p->c_out, h, w, false);
    if (p->control == PLAN_LAYOUT) { /* (n, c, h, w) in memory */
        const int64_t strides[4] = {p->c_out * h * w, h * w, w, 1};
        memcpy(y.strides, strides, sizeof strides);
    }
    cudnnBackendDescriptor_t from = desc_tensor(&pool, &x), by = desc_tensor(&pool, &weight), graph;
    if (p->pass == CONV_FORWARD) {
        graph = fused_graph(&pool, p, type, from, by, &y);
    } else {
        cudnnBackendDescriptor_t op = desc_conv(&pool, (ConvPass)p->pass, p->kernel, p->stride,
                                                from, by, desc_tensor(&pool, &y));
        graph = desc_graph(&pool, 1, &op);
    }
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
    return (ConvShape){p->n,      p->c_in,   p->h,        p->w,    p->c_out,
                       p->kernel, p->stride, p->residual, p->relu, (ConvPass)p->pass};
}

/* ---- what cuDNN is made to say ------------------------------------------------------------- */

static const EmulatedPlan *told; /* of the plan under way */
static int64_t claimed_bytes;

/* The linker puts the first in the place of the second, which stays as __real_... (Makefile). */
cudnnStatus_t __wrap_cudnnBackendGetAttribute(cudnnBackendDescriptor_t d,
                                              cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t most,
                                              int64_t *ret_n, void *ret);
cudnnStatus_t __real_cudnnBackendGetAttribute(cudnnBackendDescriptor_t d,
                                              cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t most,
                                              int64_t *ret_n, void *ret);

static bool is_noted(cudnnBackendDescriptor_t engine)
{
    int64_t n = 0, number = -1;
    return told != NULL && told->note != NOTE_NOTHING &&
           __real_cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64,
                                           1, &n, &number) == CUDNN_STATUS_SUCCESS &&
           number == told->noted;
}

cudnnStatus_t __wrap_cudnnBackendGetAttribute(cudnnBackendDescriptor_t d,
                                              cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t most,
                                              int64_t *ret_n, void *ret)
{
    cudnnStatus_t status = __real_cudnnBackendGetAttribute(d, name, type, most, ret_n, ret);
    bool is_behavior = told != NULL && told->note < NOTE_VARIES;
    if (name == CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE && is_behavior && *ret_n < most && is_noted(d))
        ((cudnnBackendBehaviorNote_t *)ret)[(*ret_n)++] =
            told->note == NOTE_COMPILER ? CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION
                                        : CUDNN_BEHAVIOR_NOTE_CUBLASLT_DEPENDENCY;
    if (name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE && !is_behavior && *ret_n < most && is_noted(d))
        ((cudnnBackendNumericalNote_t *)ret)[(*ret_n)++] =
            told->note == NOTE_VARIES ? CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC
                                      : CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
    if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE && claimed_bytes != 0)
        *(int64_t *)ret = claimed_bytes;
    return status;
}

/* ---- one convolution ----------------------------------------------------------------------- */

/* Whether the engine has one of two notes. */
static bool has_note(cudnnBackendDescriptor_t engine, cudnnBackendAttributeName_t name,
                     cudnnBackendAttributeType_t type, int one, int other)
{
    int notes[64];
    int64_t n = 0;
    ASSERT(sizeof(cudnnBackendNumericalNote_t) == sizeof notes[0]);
    ASSERT(cudnnBackendGetAttribute(engine, name, type, 64, &n, notes) == CUDNN_STATUS_SUCCESS);
    for (int64_t i = 0; i < n; i++)
        if (notes[i] == one || notes[i] == other)
            return true;
    return false;
}

/* Asked of the engine itself, by its number. */
static Status read_notes(const ConvShape *shape, const char *profile, EmulatedPlan *plan, Err *err)
{
    DescPool pool = {0};
    cudnnBackendDescriptor_t device = desc_device(&pool, profile);
    cudnnBackendDescriptor_t engine = desc_new(&pool, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    desc_set_desc(&pool, engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, conv_graph(&pool, shape));
    desc_set_desc(&pool, engine, CUDNN_ATTR_ENGINE_DEVICEPROP, device);
    desc_set(&pool, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &plan->engine);
    desc_finalize(&pool, engine, "engine");
    Status status = desc_status(&pool, err);
    if (status == ST_OK) {
        plan->varies = has_note(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC,
                                CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION);
        plan->needs_more = has_note(
            engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
            CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION, CUDNN_BEHAVIOR_NOTE_CUBLASLT_DEPENDENCY);
    }
    desc_done(&pool);
    return status;
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
    told = plan;
    Status chosen = conv_choose(&shape, profile, &choice, err);
    told = NULL;
    TRY(chosen);
    Status status = conv_load(&shape, profile, NULL, choice.json, &loaded, err);
    if (status == ST_OK && loaded.workspace_bytes != choice.workspace_bytes)
        status = err_set(err, ST_BACKEND, "workspace changed when reloaded");
    if (status == ST_OK) {
        plan->workspace_bytes = choice.workspace_bytes;
        plan->engine = choice.engine;
        plan->tensor_core = choice.tensor_core;
        conv_plan_free(&loaded);
        status = read_notes(&shape, profile, plan, err);
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
    claimed_bytes = plan->claimed_bytes;
    Status status = conv_load(&shape, other, NULL, json, &loaded, err);
    claimed_bytes = 0;
    if (status == ST_OK)
        conv_plan_free(&loaded);
    free(json);
    free(choice.json);
    return status;
}

/* ---- whole networks ------------------------------------------------------------------------ */

enum { MAX_SHAPES = 512 };

typedef struct Shapes {
    ConvShape all[MAX_SHAPES];
    int n;
} Shapes;

static void add_shape(Shapes *shapes, const ConvShape *shape)
{
    int k = 0;
    while (k < shapes->n && !conv_shape_equal(&shapes->all[k], shape))
        k++;
    ASSERT(k < MAX_SHAPES);
    shapes->all[k] = *shape;
    shapes->n += k == shapes->n;
}

static Status add_inference(const Graph *literal, int32_t batch, Shapes *shapes, Err *err)
{
    Graph *fast = malloc(sizeof *fast), *graph = malloc(sizeof *graph);
    CudaLayout layout;
    ASSERT(fast != NULL && graph != NULL);
    Status status = graph_rewrite(literal, GRAPH_PASSES_ALL, fast, err);
    if (status == ST_OK)
        status = cuda_layout(fast, graph, &layout, err);
    for (int32_t i = 0; status == ST_OK && i < graph->n_ops; i++)
        if (graph->ops[i].kind == OP_CONV) {
            const ConvShape shape = cuda_conv_shape(graph, &graph->ops[i], batch);
            add_shape(shapes, &shape);
        }
    free(fast);
    free(graph);
    return status;
}

static Status add_training(const Graph *literal, int32_t batch, Shapes *shapes, Err *err)
{
    TrainSteps *steps = malloc(sizeof *steps);
    CudaTrainLayout layout;
    ASSERT(steps != NULL);
    Status status = cuda_train_layout(literal, steps, &layout, err);
    for (int32_t i = 0; status == ST_OK && i < steps->n_steps; i++)
        for (int pass = 0; steps->steps[i].kind == STEP_CONV && pass < 3; pass++) {
            const ConvShape shape =
                cuda_train_conv_shape(steps, &steps->steps[i], batch, (ConvPass)pass);
            add_shape(shapes, &shape);
        }
    free(steps);
    return status;
}

static Status add_shapes(ModelArch arch, const EmulatedNetworks *networks, Shapes *shapes, Err *err)
{
    const ModelInfo info = {.arch = arch,
                            .width = networks->width,
                            .activation =
                                networks->training ? ACTIVATION_LINEAR : ACTIVATION_SIGMOID};
    Graph *literal = malloc(sizeof *literal);
    ASSERT(literal != NULL);
    Status status = network_build(&info, networks->side, networks->side, literal, err);
    if (status == ST_OK)
        status = (networks->training ? add_training : add_inference)(literal, networks->batch,
                                                                     shapes, err);
    free(literal);
    return status;
}

static void count_shape(const ConvShape *s, int card, EmulatedTally *tally)
{
    EmulatedPlan plan = {.card = card,
                         .n = s->n,
                         .c_in = s->c_in,
                         .h = s->h,
                         .w = s->w,
                         .c_out = s->c_out,
                         .kernel = s->kernel,
                         .stride = s->stride,
                         .residual = s->residual,
                         .relu = s->relu,
                         .pass = (int32_t)s->pass};
    Err why = {0};
    char text[96];
    bool good = emulated_plan(&plan, &why) == ST_OK;
    tally->n_good += good;
    tally->n_tensor_core += good && plan.tensor_core;
    tally->n_varies += good && plan.varies;
    tally->n_more += good && plan.needs_more;
    tally->n_back += good && s->pass != CONV_FORWARD;
    if (good && plan.workspace_bytes > tally->workspace_bytes)
        tally->workspace_bytes = plan.workspace_bytes;
    if ((!good || !plan.tensor_core) && tally->trouble[0] == '\0')
        (void)snprintf(tally->trouble, sizeof tally->trouble, "%s: %.150s",
                       conv_shape_text(s, text), good ? "no tensor cores" : why.msg);
}

Status emulated_networks(int card, const EmulatedNetworks *networks, EmulatedTally *ret, Err *err)
{
    static const ModelArch ARCHS[4] = {ARCH_DRUNET34, ARCH_DRUNET50, ARCH_DRUNET101, ARCH_UNET};
    Shapes shapes = {.n = 0};
    for (int i = 0; i < (networks->training ? 4 : 3); i++)
        TRY(add_shapes(ARCHS[i], networks, &shapes, err));
    *ret = (EmulatedTally){.n_shapes = shapes.n};
    for (int i = 0; i < shapes.n; i++)
        count_shape(&shapes.all[i], card, ret);
    return ST_OK;
}
