/* The one file that knows DRUNet. Source: Li et al., Quant Imaging Med Surg 2022;12(6):3151,
** Table 1 and figure 3.
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
#include "gpu/network.h"

#include <stdio.h>

typedef struct Builder {
    Graph *graph;
    bool basic; /* DRUNet-34: basic blocks, else bottlenecks */
} Builder;

static int32_t add_conv(Builder *b, int32_t input, NetworkConv conv)
{
    return network_conv(b->graph, input, &conv);
}

static int32_t add_sum(Builder *b, int32_t x, int32_t residual)
{
    return network_op(b->graph, OP_RELU, "relu", network_op(b->graph, OP_ADD, "add", x, residual),
                      -1);
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
        y = add_conv(b, x, (NetworkConv){prefix, "conv1", "bn1", c_out, 3, stride, true});
    } else {
        y = add_conv(b, x, (NetworkConv){prefix, "conv1", "bn1", c_mid, 1, 1, true});
        y = add_conv(b, y, (NetworkConv){prefix, "conv2", "bn2", c_mid, 3, stride, true});
    }
    if (stride != 1 || b->graph->values[x].c != c_out)
        residual = add_conv(b, x, (NetworkConv){prefix, name0, name1, c_out, 1, stride, false});
    if (b->basic)
        y = add_conv(b, y, (NetworkConv){prefix, "conv2", "bn2", c_out, 3, 1, false});
    else
        y = add_conv(b, y, (NetworkConv){prefix, "conv3", "bn3", c_out, 1, 1, false});
    return add_sum(b, y, residual);
}

/* Figure 3E and 3F: the strided convolution of a first block replaced by nearest x2 and 1x1. */
static int32_t add_up_block(Builder *b, int32_t x, const char *prefix, int32_t c_mid, int32_t c_out)
{
    int32_t y = x;
    if (!b->basic)
        y = add_conv(b, x, (NetworkConv){prefix, "conv1", "bn1", c_mid, 1, 1, true});
    y = network_op(b->graph, OP_UP2, "up", y, -1);
    if (b->basic)
        y = add_conv(b, y, (NetworkConv){prefix, "conv1", "bn1", c_out, 1, 1, true});
    else
        y = add_conv(b, y, (NetworkConv){prefix, "conv2", "bn2", c_mid, 1, 1, true});
    int32_t residual = network_op(b->graph, OP_UP2, "up", x, -1);
    residual = add_conv(b, residual,
                        (NetworkConv){prefix, "shortcut.0", "shortcut.1", c_out, 1, 1, false});
    if (b->basic)
        y = add_conv(b, y, (NetworkConv){prefix, "conv2", "bn2", c_out, 3, 1, false});
    else
        y = add_conv(b, y, (NetworkConv){prefix, "conv3", "bn3", c_out, 1, 1, false});
    return add_sum(b, y, residual);
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

int32_t drunet_layers(Graph *graph, ModelArch arch, int32_t width)
{
    Builder builder = {graph, arch == ARCH_DRUNET34}, *b = &builder;
    const int32_t n[4] = {3, 4, arch == ARCH_DRUNET101 ? 23 : 6, 3};
    const int32_t w = width, e = b->basic ? 1 : 4; /* e: expansion of a bottleneck */
    const int32_t c[4] = {e * w, e * 2 * w, e * 4 * w, e * 8 * w};
    const int32_t mid[4] = {w, 2 * w, 4 * w, 8 * w};
    static const char *const ROWS[4] = {"DOWN 2", "DOWN 3", "DOWN 4", "D-CENTER"};
    static const char *const LAYERS[4] = {"layer1", "layer2", "layer3", "layer4"};
    int32_t skips[4];

    int32_t d1 = add_conv(b, graph->input, (NetworkConv){"", "conv1", "bn1", w, 7, 2, true});
    network_stage(graph, "DOWN 1", graph->input, d1);
    int32_t x = network_maxpool(graph, d1, 3), from = d1;
    for (int i = 0; i < 4; i++) {
        x = add_encoder_stage(b, x, LAYERS[i], n[i], mid[i], c[i], i == 0 ? 1 : 2);
        network_stage(graph, ROWS[i], from, x);
        skips[i] = from = x;
    }
    x = add_decoder_stage(b, x, "ucenter", n[3], c[3], mid[3], c[2]);
    network_stage(graph, "U-CENTER", from, x);
    for (int i = 2; i >= 0; i--) {
        char module[16], row[16];
        (void)snprintf(module, sizeof module, "up%d", 3 - i);
        (void)snprintf(row, sizeof row, "UP %d", 3 - i);
        from = network_op(graph, OP_CONCAT, module, x, skips[i]);
        x = add_decoder_stage(b, from, module, n[i], c[i], mid[i], i > 0 ? c[i - 1] : w);
        network_stage(graph, row, from, x);
    }
    from = x;
    x = network_op(graph, OP_UP2, "up", x, -1);
    x = add_conv(b, x, (NetworkConv){"", "up4", NULL, 1, 7, 1, false});
    network_stage(graph, "UP 4", from, x);
    return x;
}
