/* See features.h. The literal network, cut off behind the first ReLU. */
#include "gpu/features.h"

#include "gpu/backend.h"
#include "gpu/network.h"

#include <stdlib.h>
#include <string.h>

/* Leaves the operations up to the first ReLU. */
static void cut(Graph *graph)
{
    int32_t n = 1;
    while (n < graph->n_ops && graph->ops[n - 1].kind != OP_RELU)
        n++;
    graph->n_ops = n;
    graph->n_stages = 0;
    graph->output = graph->ops[n - 1].output;
    graph_plan(graph);
}

static Status run(const Graph *graph, const Model *model, const float *x, float *ret_y, Err *err)
{
    static const BackendOptions options = {
        .precision = PRECISION_F32, .threads = 1, .batch = 1, .deadline_s = 1};
    NetMemory one = {x, ret_y, (size_t)graph_value_elements(&graph->values[graph->input]),
                     (size_t)graph_value_elements(&graph->values[graph->output])};
    const NetFeed feed = net_feed_memory(&one);
    void *state;
    TRY(backend_ref.open(graph, model, &options, &state, err));
    Status status = backend_ref.run(state, 1, &feed, err);
    backend_ref.close(state);
    return status;
}

static Status read_layer(Graph *graph, const Model *model, const float *x, FirstLayer *layer,
                         Err *err)
{
    cut(graph);
    const Op *conv = &graph->ops[0];
    const Value *output = &graph->values[graph->output];
    if (conv->kind != OP_CONV)
        return err_set(err, ST_UNSUPPORTED, "the network does not begin with a convolution");
    *layer = (FirstLayer){.c = output->c, .kernel = conv->kernel, .h = output->h, .w = output->w};
    size_t n = (size_t)layer->c * 3 * (size_t)(conv->kernel * conv->kernel);
    layer->filters = malloc(n * sizeof *layer->filters);
    layer->maps = malloc((size_t)graph_value_elements(output) * sizeof *layer->maps);
    if (layer->filters == NULL || layer->maps == NULL)
        return err_set(err, ST_NO_MEMORY, "the first layer's feature maps");
    OpTensors tensors = {0};
    TRY(graph_read_tensors(graph, conv, model, &tensors, err));
    memcpy(layer->filters, tensors.weight, n * sizeof *layer->filters);
    graph_tensors_free(&tensors);
    return run(graph, model, x, layer->maps, err);
}

Status first_layer(const Model *model, const float *x, int32_t height, int32_t width,
                   FirstLayer *ret, Err *err)
{
    Graph *graph = malloc(sizeof *graph);
    if (graph == NULL)
        return err_set(err, ST_NO_MEMORY, "the first layer");
    FirstLayer layer = {0};
    Status status = network_build(model_info(model), height, width, graph, err);
    if (status == ST_OK)
        status = read_layer(graph, model, x, &layer, err);
    free(graph);
    if (status == ST_OK)
        *ret = layer;
    else
        first_layer_free(&layer);
    return status;
}

void first_layer_free(FirstLayer *layer)
{
    free(layer->filters);
    free(layer->maps);
    *layer = (FirstLayer){0};
}
