/* Names and shapes of networks, and what their builders share. See network.h. */
#include "gpu/network.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    ModelArch arch;
} NAMES[] = {{"drunet-34", ARCH_DRUNET34},
             {"drunet-50", ARCH_DRUNET50},
             {"drunet-101", ARCH_DRUNET101},
             {"unet", ARCH_UNET}};
enum { N_NAMES = sizeof NAMES / sizeof NAMES[0] };

const char *network_name(ModelArch arch)
{
    for (int i = 0; i < N_NAMES; i++)
        if (NAMES[i].arch == arch)
            return NAMES[i].name;
    return "?";
}

bool network_from_name(const char *name, ModelArch *ret)
{
    for (int i = 0; i < N_NAMES; i++)
        if (strcmp(NAMES[i].name, name) == 0) {
            *ret = NAMES[i].arch;
            return true;
        }
    return false;
}

static void join(char ret[GRAPH_NAME_SIZE], const char *prefix, const char *name)
{
    int n = snprintf(ret, GRAPH_NAME_SIZE, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "", name);
    ASSERT(n > 0 && n < GRAPH_NAME_SIZE);
}

int32_t network_op(Graph *graph, OpKind kind, const char *name, int32_t input, int32_t second)
{
    const Value *in = &graph->values[input];
    int32_t c = in->c, h = in->h, w = in->w;
    ASSERT(kind != OP_CONV && kind != OP_MAXPOOL && kind != OP_SHUFFLE);
    if (kind == OP_CONCAT)
        c += graph->values[second].c;
    if (kind == OP_UP2) {
        h *= 2;
        w *= 2;
    }
    Op op = {.kind = kind, .input = input, .second = second};
    join(op.name, "", name);
    return graph_add_op(graph, op, c, h, w);
}

int32_t network_maxpool(Graph *graph, int32_t input, int32_t kernel)
{
    const Value *in = &graph->values[input];
    Op op = {.kind = OP_MAXPOOL, .name = "maxpool", .kernel = kernel, .stride = 2, .input = input};
    op.second = -1;
    return graph_add_op(graph, op, in->c, in->h / 2, in->w / 2);
}

int32_t network_conv(Graph *graph, int32_t input, const NetworkConv *conv)
{
    const Value *in = &graph->values[input];
    int32_t h = in->h / conv->stride, w = in->w / conv->stride;
    Op op = {.kind = OP_CONV,
             .kernel = conv->kernel,
             .stride = conv->stride,
             .has_bias = conv->norm == NULL,
             .input = input,
             .second = -1};
    join(op.name, conv->prefix, conv->name);
    int32_t x = graph_add_op(graph, op, conv->c, h, w);
    if (conv->norm != NULL) {
        char norm[GRAPH_NAME_SIZE];
        join(norm, conv->prefix, conv->norm);
        x = network_op(graph, OP_NORM, norm, x, -1);
    }
    return conv->relu ? network_op(graph, OP_RELU, "relu", x, -1) : x;
}

void network_stage(Graph *graph, const char *name, int32_t input, int32_t output)
{
    ASSERT(graph->n_stages < GRAPH_MAX_STAGES);
    Stage *stage = &graph->stages[graph->n_stages++];
    (void)snprintf(stage->name, sizeof stage->name, "%s", name);
    stage->input = input;
    stage->output = output;
}

static bool is_side(int32_t side)
{
    return side >= 32 && side <= NETWORK_MAX_SIDE && side % 32 == 0;
}

Status network_build(const ModelInfo *info, int32_t height, int32_t width, Graph *ret, Err *err)
{
    if (!is_side(height) || !is_side(width))
        return err_set(err, ST_LIMIT, "slice of %d x %d: sides must be multiples of 32 up to %d",
                       height, width, NETWORK_MAX_SIDE);
    if (info->width < 1 || info->width > NETWORK_MAX_WIDTH)
        return err_set(err, ST_LIMIT, "network width %d is not in 1..%d", info->width,
                       NETWORK_MAX_WIDTH);
    *ret = (Graph){0};
    ret->input = graph_add_value(ret, 3, height, width);
    int32_t x = info->arch == ARCH_UNET ? unet_layers(ret, info->width)
                                        : drunet_layers(ret, info->arch, info->width);
    if (info->activation == ACTIVATION_SIGMOID)
        x = network_op(ret, OP_SIGMOID, "sigmoid", x, -1);
    ret->output = x;
    graph_plan(ret);
    return ST_OK;
}
