/* See cuda_plan_check.h. The JSON's form: cuDNN 9.19, schemaVersion 4. */
#include "gpu/cuda_plan_check.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

typedef struct Check {
    const ConvShape *shape;
    const cJSON *tensors;
    Err *err;
} Check;

static Status differs(const Check *check, const char *what)
{
    char text[96];
    return err_set(check->err, ST_BACKEND, "plan for %s: %s is not what was asked for",
                   conv_shape_text(check->shape, text), what);
}

static bool is_text(const cJSON *object, const char *key, const char *want)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsString(item) && strcmp(item->valuestring, want) == 0;
}

static bool is_number(const cJSON *object, const char *key, double want)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) && item->valuedouble >= want && item->valuedouble <= want;
}

static bool is_numbers(const cJSON *object, const char *key, const int64_t *want, int n)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != n)
        return false;
    for (int i = 0; i < n; i++) {
        const cJSON *item = cJSON_GetArrayItem(list, i);
        if (!cJSON_IsNumber(item) || (int64_t)item->valuedouble != want[i])
            return false;
    }
    return true;
}

static bool keys_known(const cJSON *object, const char *const *known)
{
    for (const cJSON *item = object->child; item != NULL; item = item->next) {
        int i = 0;
        while (known[i] != NULL && strcmp(known[i], item->string) != 0)
            i++;
        if (known[i] == NULL)
            return false;
    }
    return true;
}

static bool is_name(const cJSON *tensor, int64_t uid)
{
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(tensor, "name");
    char *end = NULL;
    return cJSON_IsString(name) && strtoll(name->valuestring, &end, 10) == uid && *end == '\0';
}

/* The tensor of that name, which must be there once. */
static const cJSON *find(const Check *check, const char *name)
{
    const cJSON *found = NULL, *tensor;
    cJSON_ArrayForEach(tensor, check->tensors)
    {
        if (!is_text(tensor, "name", name))
            continue;
        if (found != NULL)
            return NULL;
        found = tensor;
    }
    return found;
}

static bool is_tensor(const cJSON *t, const char *type, const int64_t dims[4], bool is_virtual)
{
    static const char *const KNOWN[] = {"name",       "dataType",     "dim",       "stride",
                                        "isVirtual",  "isByValue",    "vectCount", "vectDim",
                                        "reordering", "ptrAlignment", NULL};
    const int64_t strides[4] = {dims[1] * dims[2] * dims[3], 1, dims[3] * dims[1], dims[1]};
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(t, "isVirtual");
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(t, "isByValue");
    return keys_known(t, KNOWN) && is_text(t, "dataType", type) && is_numbers(t, "dim", dims, 4) &&
           is_numbers(t, "stride", strides, 4) && cJSON_IsBool(v) &&
           cJSON_IsTrue(v) == is_virtual && cJSON_IsFalse(value) && is_number(t, "vectCount", 1) &&
           is_text(t, "reordering", "CUDNN_TENSOR_REORDERING_NONE");
}

/* The operand `key` of a node is that tensor (uid 0: any virtual one). Its name, or NULL. */
static const char *operand(const Check *check, const cJSON *node, const char *key, int64_t uid,
                           const int64_t dims[4])
{
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(node, key);
    const cJSON *t = cJSON_IsString(name) ? find(check, name->valuestring) : NULL;
    const char *type = uid == 0 ? "CUDNN_DATA_FLOAT" : "CUDNN_DATA_HALF";
    return t != NULL && (uid == 0 || is_name(t, uid)) && is_tensor(t, type, dims, uid == 0)
               ? name->valuestring
               : NULL;
}

typedef struct PassNames {
    const char *operation, *x, *w, *y;
} PassNames;

static const PassNames PASS_NAMES[] = {
    [CONV_FORWARD] = {"CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR", "X", "W", "Y"},
    [CONV_BACK_DATA] = {"CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR", "dX", "W",
                        "dY"},
    [CONV_BACK_WEIGHTS] = {"CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR", "X",
                           "dW", "dY"}};

/* uid_y 0: the result is virtual. */
static Status check_conv(const Check *check, const cJSON *node, int64_t uid_y, const int64_t y[4],
                         const char **ret_y)
{
    const ConvShape *s = check->shape;
    const PassNames *names = &PASS_NAMES[s->pass];
    const char *const KNOWN[] = {"operation", "mode",     "mathPrec", "alpha",  "beta",   "pad",
                                 "stride",    "dilation", names->x,   names->w, names->y, NULL};
    const int64_t pad[2] = {s->kernel / 2, s->kernel / 2}, stride[2] = {s->stride, s->stride};
    const int64_t one[2] = {1, 1}, x[4] = {s->n, s->c_in, s->h, s->w};
    const int64_t w[4] = {s->c_out, s->c_in, s->kernel, s->kernel};
    bool good = keys_known(node, KNOWN) && is_text(node, "operation", names->operation) &&
                is_text(node, "mode", "CUDNN_CROSS_CORRELATION") &&
                is_text(node, "mathPrec", "CUDNN_DATA_FLOAT") && is_number(node, "alpha", 1) &&
                is_number(node, "beta", 0) && is_numbers(node, "pad", pad, 2) &&
                is_numbers(node, "stride", stride, 2) && is_numbers(node, "dilation", one, 2);
    if (!good)
        return differs(check, "the convolution");
    *ret_y = operand(check, node, names->y, uid_y, y);
    if (operand(check, node, names->x, CONV_X, x) == NULL ||
        operand(check, node, names->w, CONV_W, w) == NULL || *ret_y == NULL)
        return differs(check, "a tensor of the convolution");
    return ST_OK;
}

/* uid_b 0: ReLU. uid_y 0: a virtual result, whose name becomes *at. */
static Status check_pointwise(const Check *check, const cJSON *node, int64_t uid_b,
                              const int64_t b[4], int64_t uid_y, const int64_t y[4],
                              const char **at)
{
    static const char *const KNOWN[] = {
        "operation", "pointwiseMode", "mathPrec", "alpha1", "alpha2",         "upperClip",
        "lowerClip", "axis",          "X",        "B",      "lowerClipSlope", "Y",
        NULL};
    const char *mode = uid_b == 0 ? "CUDNN_POINTWISE_RELU_FWD" : "CUDNN_POINTWISE_ADD";
    bool good = node != NULL && keys_known(node, KNOWN) &&
                is_text(node, "operation", "CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR") &&
                is_text(node, "pointwiseMode", mode) &&
                is_text(node, "mathPrec", "CUDNN_DATA_FLOAT") && is_number(node, "alpha1", 1) &&
                is_number(node, "alpha2", 1) && is_text(node, "X", *at);
    if (good && uid_b == 0) {
        const cJSON *upper = cJSON_GetObjectItemCaseSensitive(node, "upperClip");
        good = is_number(node, "lowerClip", 0) && is_number(node, "lowerClipSlope", 0) &&
               cJSON_IsNumber(upper) && upper->valuedouble > 1e30;
    }
    if (!good)
        return differs(check, mode);
    const char *next = operand(check, node, "Y", uid_y, y);
    if (next == NULL || (uid_b != 0 && operand(check, node, "B", uid_b, b) == NULL))
        return differs(check, "a tensor after the convolution");
    *at = next;
    return ST_OK;
}

static Status check_graph(const Check *check, const cJSON *nodes)
{
    const ConvShape *s = check->shape;
    const int64_t y[4] = {s->n, s->c_out, s->h / s->stride, s->w / s->stride};
    const int64_t bias[4] = {1, s->c_out, 1, 1};
    bool forward = s->pass == CONV_FORWARD;
    int n_nodes = forward ? 2 + (s->residual ? 1 : 0) + (s->relu ? 1 : 0) : 1, i = 0;
    int n_tensors = forward ? 4 + (s->residual ? 2 : 0) + (s->relu ? 1 : 0) + 1 : 3;
    const char *at = NULL;
    if (cJSON_GetArraySize(nodes) != n_nodes || cJSON_GetArraySize(check->tensors) != n_tensors)
        return differs(check, "the number of operations or tensors");
    TRY(check_conv(check, cJSON_GetArrayItem(nodes, i++), forward ? 0 : CONV_Y, y, &at));
    if (!forward)
        return ST_OK;
    if (s->residual)
        TRY(check_pointwise(check, cJSON_GetArrayItem(nodes, i++), CONV_RESIDUAL, y, 0, y, &at));
    TRY(check_pointwise(check, cJSON_GetArrayItem(nodes, i++), CONV_BIAS, bias,
                        s->relu ? 0 : CONV_Y, y, &at));
    if (s->relu)
        TRY(check_pointwise(check, cJSON_GetArrayItem(nodes, i++), 0, NULL, CONV_Y, y, &at));
    return ST_OK;
}

Status conv_check_json(const ConvShape *shape, const char *json, Err *err)
{
    Check check = {.shape = shape, .err = err};
    cJSON *root = cJSON_Parse(json);
    const cJSON *graph = cJSON_GetObjectItemCaseSensitive(root, "operationGraph");
    const cJSON *nodes = cJSON_GetObjectItemCaseSensitive(graph, "nodes");
    check.tensors = cJSON_GetObjectItemCaseSensitive(graph, "tensors");
    Status status = !is_number(root, "schemaVersion", 4) || !cJSON_IsArray(nodes) ||
                            !cJSON_IsArray(check.tensors)
                        ? differs(&check, "the form of its description")
                        : check_graph(&check, nodes);
    cJSON_Delete(root);
    return status;
}
