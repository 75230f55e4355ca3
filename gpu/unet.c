/* The ordinary U-Net, for comparison: VGG-16's 13 convolutions as encoder, their mirror as decoder,
** nearest x2 and a concatenation at each of five scales, a 1x1 head. Source: Han, Med Phys
** 2017;44(4):1408, with batch norm, as in Li et al. 2022. `width` (64 there) scales all counts.
**
** Module names: enc.SCALE.3i and dec.SCALE.3i are the convolutions, the module after each its batch
** norm, the one after that ReLU. */
#include "gpu/network.h"

#include <stdio.h>

enum { N_SCALES = 5, MAX_CONVS = 3 };

/* Channels in units of width; 0: no convolution. */
static const int32_t ENCODER[N_SCALES][MAX_CONVS] = {
    {1, 1, 0}, {2, 2, 0}, {4, 4, 4}, {8, 8, 8}, {8, 8, 8}};
static const int32_t DECODER[N_SCALES][MAX_CONVS] = {
    {8, 8, 8}, {8, 8, 4}, {4, 4, 2}, {2, 1, 0}, {1, 1, 0}};

static int32_t add_convs(Graph *graph, int32_t x, const char *part, int scale,
                         const int32_t units[MAX_CONVS], int32_t width)
{
    char prefix[16], name[8], norm[8];
    (void)snprintf(prefix, sizeof prefix, "%s.%d", part, scale);
    for (int i = 0; i < MAX_CONVS && units[i] > 0; i++) {
        (void)snprintf(name, sizeof name, "%d", 3 * i);
        (void)snprintf(norm, sizeof norm, "%d", 3 * i + 1);
        const NetworkConv conv = {prefix, name, norm, units[i] * width, 3, 1, true};
        x = network_conv(graph, x, &conv);
    }
    return x;
}

int32_t unet_layers(Graph *graph, int32_t width)
{
    int32_t skips[N_SCALES], x = graph->input, from = x;
    char row[16];
    for (int i = 0; i < N_SCALES; i++) {
        skips[i] = add_convs(graph, x, "enc", i, ENCODER[i], width);
        x = network_maxpool(graph, skips[i], 2);
        (void)snprintf(row, sizeof row, "DOWN %d", i + 1);
        network_stage(graph, row, from, x);
        from = x;
    }
    for (int i = 0; i < N_SCALES; i++) {
        x = network_op(graph, OP_UP2, "up", x, -1);
        x = network_op(graph, OP_CONCAT, "skip", x, skips[N_SCALES - 1 - i]);
        x = add_convs(graph, x, "dec", i, DECODER[i], width);
        (void)snprintf(row, sizeof row, "UP %d", i + 1);
        network_stage(graph, row, from, x);
        from = x;
    }
    const NetworkConv head = {"", "out", NULL, 1, 1, 1, false};
    x = network_conv(graph, x, &head);
    network_stage(graph, "OUT", from, x);
    return x;
}
