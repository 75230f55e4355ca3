/* The one file that knows DRUNet.
**
** The encoder is torchvision's ResNet, names included, so that ImageNet weights load by name. The
** decoder mirrors it: blocks, widths and channel steps in reverse order, the strided first block
** of a stage becoming an "up-block" at its end. In the paper's Table 1:
**
**   DOWN 1      3x448 ->   64x224   7x7 / 2                 UP 4     64x224 ->    1x448
**   DOWN 2     64x224 ->  256x112   maxpool, layer1         UP 3    512x112 ->   64x224   up3
**   DOWN 3    256x112 ->  512x56    layer2                  UP 2    1024x56 ->  256x112   up2
**   DOWN 4    512x56  -> 1024x28    layer3                  UP 1    2048x28 ->  512x56    up1
**   D-CENTER 1024x28  -> 2048x14    layer4   ->   ucenter   U-CENTER 2048x14 -> 1024x28
**
** UP 1..3 read concat(previous stage, DOWN 4..2); hence twice the channels. UP 4 reads no skip: the
** table gives it 64 channels. Its 1x1 convolution would make the output constant on 2x2 blocks, so
** nearest x2 and a 7x7 (the stem's mirror) stand there. `width` scales all channel counts. */
#include "gpu/drunet.h"

#include <stdio.h>

typedef struct Builder {
    Graph *graph;
    bool basic; /* DRUNet-34: basic blocks, else bottlenecks */
} Builder;

typedef struct Conv {
    const char *prefix, *name, *norm; /* tensors PREFIX.NAME.weight, PREFIX.NORM.weight, ... */
    int32_t c, kernel, stride;
    bool relu;
} Conv;

static int32_t add_conv(Builder *b, int32_t input, Conv conv, int32_t residual)
{
    Op op = {.kind = OP_CONV,
             .kernel = conv.kernel,
             .stride = conv.stride,
             .relu = conv.relu,
             .input = input,
             .second = residual};
    const char *dot = conv.prefix[0] != '\0' ? "." : "";
    (void)snprintf(op.name, sizeof op.name, "%s%s%s", conv.prefix, dot, conv.name);
    if (conv.norm != NULL)
        (void)snprintf(op.norm, sizeof op.norm, "%s%s%s", conv.prefix, dot, conv.norm);
    const Value *in = &b->graph->values[input];
    return graph_add_op(b->graph, op, conv.c, in->h / conv.stride, in->w / conv.stride);
}

static int32_t add_plain(Builder *b, OpKind kind, const char *name, int32_t input, int32_t second)
{
    const Value *in = &b->graph->values[input];
    int32_t c = in->c, h = in->h, w = in->w;
    if (kind == OP_CONCAT)
        c += b->graph->values[second].c;
    if (kind == OP_UP2) {
        h *= 2;
        w *= 2;
    } else if (kind == OP_MAXPOOL) {
        h /= 2;
        w /= 2;
    }
    Op op = {.kind = kind, .input = input, .second = second};
    (void)snprintf(op.name, sizeof op.name, "%s", name);
    return graph_add_op(b->graph, op, c, h, w);
}

/* A residual block: conv1 .. conv2 (basic) or conv3 (bottleneck), plus x or its 1x1 projection. */
static int32_t add_block(Builder *b, int32_t x, const char *prefix, const char *shortcut,
                         int32_t c_mid, int32_t c_out, int32_t stride)
{
    char name0[16], name1[16];
    (void)snprintf(name0, sizeof name0, "%s.0", shortcut);
    (void)snprintf(name1, sizeof name1, "%s.1", shortcut);
    int32_t y, residual = x;
    if (b->basic) {
        y = add_conv(b, x, (Conv){prefix, "conv1", "bn1", c_out, 3, stride, true}, -1);
    } else {
        y = add_conv(b, x, (Conv){prefix, "conv1", "bn1", c_mid, 1, 1, true}, -1);
        y = add_conv(b, y, (Conv){prefix, "conv2", "bn2", c_mid, 3, stride, true}, -1);
    }
    if (stride != 1 || b->graph->values[x].c != c_out)
        residual = add_conv(b, x, (Conv){prefix, name0, name1, c_out, 1, stride, false}, -1);
    if (b->basic)
        return add_conv(b, y, (Conv){prefix, "conv2", "bn2", c_out, 3, 1, true}, residual);
    return add_conv(b, y, (Conv){prefix, "conv3", "bn3", c_out, 1, 1, true}, residual);
}

/* Figure 3E and 3F: the strided convolution of a first block replaced by nearest x2 and 1x1. */
static int32_t add_up_block(Builder *b, int32_t x, const char *prefix, int32_t c_mid, int32_t c_out)
{
    int32_t y = x;
    if (!b->basic)
        y = add_conv(b, x, (Conv){prefix, "conv1", "bn1", c_mid, 1, 1, true}, -1);
    y = add_plain(b, OP_UP2, "up", y, -1);
    if (b->basic)
        y = add_conv(b, y, (Conv){prefix, "conv1", "bn1", c_out, 1, 1, true}, -1);
    else
        y = add_conv(b, y, (Conv){prefix, "conv2", "bn2", c_mid, 1, 1, true}, -1);
    int32_t residual = add_plain(b, OP_UP2, "up", x, -1);
    residual =
        add_conv(b, residual, (Conv){prefix, "shortcut.0", "shortcut.1", c_out, 1, 1, false}, -1);
    if (b->basic)
        return add_conv(b, y, (Conv){prefix, "conv2", "bn2", c_out, 3, 1, true}, residual);
    return add_conv(b, y, (Conv){prefix, "conv3", "bn3", c_out, 1, 1, true}, residual);
}

static void add_stage_row(Graph *graph, const char *name, int32_t input, int32_t output)
{
    ASSERT(graph->n_stages < GRAPH_MAX_STAGES);
    Stage *stage = &graph->stages[graph->n_stages++];
    (void)snprintf(stage->name, sizeof stage->name, "%s", name);
    stage->input = input;
    stage->output = output;
}

static int32_t add_encoder_stage(Builder *b, int32_t x, const char *module, int32_t n_blocks,
                                 int32_t c_mid, int32_t c_out, int32_t stride)
{
    for (int32_t i = 0; i < n_blocks; i++) {
        char prefix[32];
        (void)snprintf(prefix, sizeof prefix, "%s.%d", module, i);
        x = add_block(b, x, prefix, "downsample", c_mid, c_out, i == 0 ? stride : 1);
    }
    return x;
}

/* n - 1 plain blocks that end with c channels (the first projects a concat's 2c), an up-block. */
static int32_t add_decoder_stage(Builder *b, int32_t x, const char *module, int32_t n_blocks,
                                 int32_t c, int32_t c_mid, int32_t c_out)
{
    char prefix[32];
    for (int32_t i = 0; i < n_blocks - 1; i++) {
        (void)snprintf(prefix, sizeof prefix, "%s.%d", module, i);
        x = add_block(b, x, prefix, "shortcut", c_mid, c, 1);
    }
    (void)snprintf(prefix, sizeof prefix, "%s.%d", module, n_blocks - 1);
    return add_up_block(b, x, prefix, c_mid, c_out);
}

static void add_network(Builder *b, const ModelInfo *info, int32_t height, int32_t width)
{
    Graph *graph = b->graph;
    const int32_t n[4] = {3, 4, info->arch == ARCH_DRUNET101 ? 23 : 6, 3};
    const int32_t w = info->width, e = b->basic ? 1 : 4; /* e: expansion of a bottleneck */
    const int32_t c[4] = {e * w, e * 2 * w, e * 4 * w, e * 8 * w},
                  mid[4] = {w, 2 * w, 4 * w, 8 * w};
    static const char *const ROWS[4] = {"DOWN 2", "DOWN 3", "DOWN 4", "D-CENTER"};
    static const char *const LAYERS[4] = {"layer1", "layer2", "layer3", "layer4"};
    int32_t skips[4];

    graph->input = graph_add_value(graph, 3, height, width);
    int32_t d1 = add_conv(b, graph->input, (Conv){"", "conv1", "bn1", w, 7, 2, true}, -1);
    add_stage_row(graph, "DOWN 1", graph->input, d1);
    int32_t x = add_plain(b, OP_MAXPOOL, "maxpool", d1, -1), from = d1;
    for (int i = 0; i < 4; i++) {
        x = add_encoder_stage(b, x, LAYERS[i], n[i], mid[i], c[i], i == 0 ? 1 : 2);
        add_stage_row(graph, ROWS[i], from, x);
        skips[i] = from = x;
    }
    x = add_decoder_stage(b, x, "ucenter", n[3], c[3], mid[3], c[2]);
    add_stage_row(graph, "U-CENTER", from, x);
    for (int i = 2; i >= 0; i--) {
        char module[16], row[16];
        (void)snprintf(module, sizeof module, "up%d", 3 - i);
        (void)snprintf(row, sizeof row, "UP %d", 3 - i);
        from = add_plain(b, OP_CONCAT, module, x, skips[i]);
        x = add_decoder_stage(b, from, module, n[i], c[i], mid[i], i > 0 ? c[i - 1] : w);
        add_stage_row(graph, row, from, x);
    }
    from = x;
    x = add_plain(b, OP_UP2, "up", x, -1);
    x = add_conv(b, x, (Conv){"", "up4", NULL, 1, 7, 1, false}, -1);
    add_stage_row(graph, "UP 4", from, x);
    if (info->activation == ACTIVATION_SIGMOID)
        x = add_plain(b, OP_SIGMOID, "sigmoid", x, -1);
    graph->output = x;
}

Status drunet_build(const ModelInfo *info, int32_t height, int32_t width, Graph *ret, Err *err)
{
    if (height < 32 || height > DRUNET_MAX_SIDE || height % 32 != 0 || width < 32 ||
        width > DRUNET_MAX_SIDE || width % 32 != 0)
        return err_set(err, ST_LIMIT, "slice of %d x %d: sides must be multiples of 32 up to %d",
                       height, width, DRUNET_MAX_SIDE);
    if (info->width < 1 || info->width > DRUNET_MAX_WIDTH)
        return err_set(err, ST_LIMIT, "network width %d is not in 1..%d", info->width,
                       DRUNET_MAX_WIDTH);
    ASSERT(info->arch == ARCH_DRUNET34 || info->arch == ARCH_DRUNET50 ||
           info->arch == ARCH_DRUNET101);
    *ret = (Graph){0};
    Builder builder = {.graph = ret, .basic = info->arch == ARCH_DRUNET34};
    add_network(&builder, info, height, width);
    graph_plan(ret);
    return ST_OK;
}
