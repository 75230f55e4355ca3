/* See vgg.h. A frozen TrainNet on a table of 16 convolutions. */
#include "gpu/vgg.h"

#include "gpu/imagenet.h"
#include "gpu/network.h"
#include "gpu/train_init.h"

#include <stdio.h>
#include <stdlib.h>

struct Vgg {
    int32_t height, width, channels, n; /* n: slices of the last forward */
    Graph *graph;
    TrainNet *net;
    float *x;     /* [batch][3][h][w] input, then its derivative */
    float *image; /* [batch][h][w] */
};

/* Configuration E: convolutions per scale, all 3x3, ReLU after each but the last here; torchvision
** counts convolutions, ReLUs and pools as modules of "features". */
static void add_layers(Graph *graph, int32_t width)
{
    static const int CONVS[5] = {2, 2, 4, 4, 4}, CHANNELS[5] = {1, 2, 4, 8, 8};
    int32_t x = graph->input;
    int module = 0;
    for (int scale = 0; scale < 5; scale++) {
        for (int i = 0; i < CONVS[scale]; i++, module += 2) {
            char name[16];
            (void)snprintf(name, sizeof name, "%d", module);
            bool is_last = scale == 4 && i == CONVS[4] - 1;
            x = network_conv(
                graph, x,
                &(NetworkConv){"features", name, NULL, CHANNELS[scale] * width, 3, 1, !is_last});
        }
        if (scale < 4)
            x = network_maxpool(graph, x, 2);
        module++;
    }
    graph->output = x;
}

static Status build(Vgg *vgg, const Model *file, Err *err)
{
    const Tensor *first = model_tensor(file, "features.0.weight");
    if (first == NULL || first->n_dims != 4 || first->dims[0] < 1 || first->dims[0] > 64)
        return err_set(err, ST_MODEL_UNFIT,
                       "%s: no tensor features.0.weight of (64,3,3,3): not a VGG-19 with "
                       "torchvision's names",
                       model_info(file)->name);
    if ((vgg->graph = calloc(1, sizeof *vgg->graph)) == NULL)
        return err_set(err, ST_NO_MEMORY, "the table of VGG-19");
    vgg->graph->input = graph_add_value(vgg->graph, 3, vgg->height, vgg->width);
    add_layers(vgg->graph, (int32_t)first->dims[0]);
    graph_plan(vgg->graph);
    vgg->channels = vgg->graph->values[vgg->graph->output].c;
    return ST_OK;
}

static Status open_net(Vgg *vgg, const LossOptions *options, const Model *file, Err *err)
{
    TRY(build(vgg, file, err));
    const TrainOptions net = {.backend = options->backend,
                              .precision = options->precision,
                              .batch = options->batch,
                              .threads = options->threads,
                              .frozen = true};
    TRY(train_net_open(vgg->graph, &net, &vgg->net, err));
    TRY(train_init_all(vgg->net, file, err));
    return train_net_changed(vgg->net, err);
}

Status vgg_open(const LossOptions *options, Vgg **ret, Err *err)
{
    Model *file;
    TRY(model_open_tensors(options->vgg, &file, err));
    Vgg *vgg = calloc(1, sizeof *vgg);
    size_t n = (size_t)options->batch * (size_t)options->height * (size_t)options->width;
    Status status = ST_OK;
    if (vgg == NULL || (vgg->x = calloc(3 * n, sizeof *vgg->x)) == NULL ||
        (vgg->image = calloc(n, sizeof *vgg->image)) == NULL)
        status = err_set(err, ST_NO_MEMORY, "images for VGG-19");
    if (status == ST_OK) {
        vgg->height = options->height;
        vgg->width = options->width;
        status = open_net(vgg, options, file, err);
    }
    model_close(file);
    if (status != ST_OK) {
        vgg_close(vgg);
        return status;
    }
    *ret = vgg;
    return ST_OK;
}

void vgg_close(Vgg *vgg)
{
    if (vgg == NULL)
        return;
    train_net_close(vgg->net);
    free(vgg->graph);
    free(vgg->x);
    free(vgg->image);
    free(vgg);
}

int32_t vgg_channels(const Vgg *vgg)
{
    return vgg->channels;
}

Status vgg_forward(Vgg *vgg, const float *images, int32_t n, const float **ret_features, Err *err)
{
    const int64_t pixels = (int64_t)vgg->height * vgg->width;
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < 3; c++) {
            float *x = vgg->x + (3 * i + c) * pixels;
            const float *image = images + i * pixels;
            for (int64_t k = 0; k < pixels; k++)
                x[k] = (image[k] - IMAGENET_MEAN[c]) / IMAGENET_STD[c];
        }
    vgg->n = n;
    return train_net_forward(vgg->net, vgg->x, n, true, ret_features, err);
}

Status vgg_backward(Vgg *vgg, const float *d_features, const float **ret, Err *err)
{
    const int64_t pixels = (int64_t)vgg->height * vgg->width;
    TRY(train_net_backward(vgg->net, d_features, vgg->x, err));
    for (int64_t i = 0; i < vgg->n; i++) {
        const float *dx = vgg->x + 3 * i * pixels;
        float *image = vgg->image + i * pixels;
        for (int64_t k = 0; k < pixels; k++)
            image[k] = dx[k] / IMAGENET_STD[0] + dx[pixels + k] / IMAGENET_STD[1] +
                       dx[2 * pixels + k] / IMAGENET_STD[2];
    }
    *ret = vgg->image;
    return ST_OK;
}
