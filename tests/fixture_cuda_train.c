/* See cuda_train_fixture.h. */
#include "tests/cuda_train_fixture.h"

#include "tests/model_file.h"
#include "tests/test.h"

#include <stdlib.h>

Distances train_step_both(TrainCase *got, TrainCase *want, int32_t n, float scale)
{
    Err err = {0};
    const float *y;
    size_t n_in = (size_t)n * got->n_in, n_out = (size_t)n * got->n_out;
    float *x = train_random(n_in, 11), *dy = train_random(n_out, 12);
    float *dx = calloc(2 * n_in, sizeof *dx), *y_got = calloc(n_out, sizeof *y_got);
    CHECK(dx != NULL && y_got != NULL);
    for (size_t i = 0; i < n_out; i++)
        dy[i] *= scale / (float)n_out;
    CHECK_OK(train_net_forward(got->net, x, n, true, &y, &err), &err);
    memcpy(y_got, y, n_out * sizeof *y);
    CHECK_OK(train_net_forward(want->net, x, n, true, &y, &err), &err);
    double y_distance = train_distance(y_got, y, n_out);
    CHECK_OK(train_net_backward(got->net, dy, dx, &err), &err);
    CHECK_OK(train_net_backward(want->net, dy, dx + n_in, &err), &err);
    Distances d = {.of.y = y_distance, .dx = train_distance(dx, dx + n_in, n_in)};
    train_trust_compare(got->net, want->net, &d.of);
    free(x);
    free(dy);
    free(dx);
    free(y_got);
    return d;
}

void cuda_train_check_clean(const CudaEmulator *emulator)
{
    CHECK_STR(emulator->complaint, "");
    CHECK_INT(emulator->n_live, 0);
    CHECK_INT(emulator->live_bytes, 0);
}

Graph *every_step_graph(void)
{
    Graph *graph = calloc(1, sizeof *graph);
    CHECK(graph != NULL);
    graph->input = graph_add_value(graph, 3, 32, 48);
    NetworkConv conv = {"", "a", NULL, 16, 3, 2, false};
    int32_t a = network_conv(graph, graph->input, &conv), x = network_maxpool(graph, a, 3);
    int32_t y = network_op(graph, OP_NORM, "p.bn", x, -1);
    x = network_op(graph, OP_RELU, "relu", y, -1);
    conv = (NetworkConv){"b", "conv", "bn", 16, 3, 1, true};
    y = network_conv(graph, x, &conv);
    conv = (NetworkConv){"c", "conv", "bn", 16, 3, 1, false};
    y = network_op(graph, OP_ADD, "add", network_conv(graph, y, &conv), x);
    int32_t c = network_op(graph, OP_RELU, "relu", y, -1);
    x = network_op(graph, OP_CONCAT, "skip", network_op(graph, OP_UP2, "up", c, -1), a);
    conv = (NetworkConv){"s", "conv", "bn", 16, 1, 1, false};
    int32_t s = network_op(graph, OP_UP2, "up", network_conv(graph, c, &conv), -1);
    conv = (NetworkConv){"d", "conv", "bn", 16, 1, 1, false};
    y = network_op(graph, OP_ADD, "add", network_conv(graph, x, &conv), s);
    int32_t d = network_op(graph, OP_RELU, "relu", y, -1);
    conv = (NetworkConv){"", "e", NULL, 16, 3, 1, true};
    int32_t e = network_conv(graph, d, &conv);
    conv = (NetworkConv){"", "f", NULL, 16, 3, 1, false};
    x = network_op(graph, OP_UP2, "up", network_maxpool(graph, network_conv(graph, d, &conv), 2),
                   -1);
    x = network_op(graph, OP_ADD, "add", network_op(graph, OP_ADD, "add", x, e), d);
    conv = (NetworkConv){"", "head", NULL, 1, 7, 1, false};
    graph->output = network_conv(graph, network_op(graph, OP_UP2, "up", x, -1), &conv);
    graph_plan(graph);
    return graph;
}

static bool is_statistic(const TrainParameter *p)
{
    return strstr(p->name, "running_") != NULL;
}

void every_step_weights(TrainNet *net)
{
    int32_t n;
    uint64_t seed = 9;
    TrainParameter *p = train_net_parameters(net, &n);
    for (int32_t i = 0; i < n; i++) {
        float size = p[i].n_dims == 4 ? 3 / sqrtf((float)(p[i].n / p[i].dims[0])) : 1;
        for (int64_t k = 0; !is_statistic(&p[i]) && k < p[i].n; k++)
            p[i].value[k] = size * (float)(model_file_random(&seed) - 0.5) +
                            (strstr(p[i].name, "bn.weight") != NULL ? 1.0f : 0.0f);
        for (int64_t k = 0; strcmp(p[i].name, "e.bias") == 0 && k < p[i].n; k++)
            p[i].value[k] = k % 2 == 0 ? 16 : -16;
    }
    train_decide_gates(net, CUDA_TRAIN_MARGIN);
}
