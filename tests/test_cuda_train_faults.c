/* gpu/: training on CUDA without a GPU: frozen networks, and what goes wrong. Method:
** test_cuda_train.c. */
#include "tests/cuda_train_fixture.h"
#include "tests/test.h"

#include <stdlib.h>

static const TrainOptions CUDA = {.backend = "cuda", .precision = PRECISION_F16, .batch = 3};
static const TrainOptions REF = {.backend = "ref", .batch = 3, .threads = 2};

/* ---- frozen networks ----------------------------------------------------------------------- */

/* As a feature network in a loss: biases, ReLU, pools, no batch norm, many channels; one norm. */
static Graph *features(void)
{
    Graph *graph = calloc(1, sizeof *graph);
    CHECK(graph != NULL);
    graph->input = graph_add_value(graph, 3, 32, 48);
    NetworkConv conv = {"", "f", NULL, 24, 3, 1, false};
    int32_t x = network_maxpool(graph, network_conv(graph, graph->input, &conv), 2);
    conv = (NetworkConv){"", "e", NULL, 16, 3, 1, true};
    x = network_op(graph, OP_NORM, "g.bn", network_conv(graph, x, &conv), -1);
    conv = (NetworkConv){"", "h", NULL, 40, 3, 1, false};
    graph->output = network_conv(graph, x, &conv);
    graph_plan(graph);
    return graph;
}

TEST_TIMEOUT(cuda_train_frozen,
             "a frozen network: output and dx are ref's, statistics stay; a "
             "gradient that overflows is tried with smaller scales",
             120)
{
    CudaEmulator *emulator = cuda_emulator_open();
    TrainOptions cuda = CUDA, ref = REF;
    cuda.frozen = ref.frozen = true;
    TrainCase got = train_open_graph(features(), &cuda), want = train_open_graph(features(), &ref);
    every_step_weights(got.net);
    every_step_weights(want.net);
    for (int round = 0; round < 2; round++) {
        Distances d = train_step_both(&got, &want, 3 - round, round == 0 ? 1 : 65536);
        (void)printf("# y %.2g, dx %.2g, scale 2^%d\n", d.of.y, d.dx,
                     train_net_scale(got.net).exponent);
        CHECK(d.of.y < 0.01 && d.dx < 0.03 && d.of.statistics <= 0);
    }
    train_close(&got);
    train_close(&want);
    cuda_train_check_clean(emulator);
}

/* ---- what goes wrong ----------------------------------------------------------------------- */

TEST(cuda_train_refuses, "no driver, f32, channels that do not fit, a GPU of another kind")
{
    CudaEmulator *emulator = cuda_emulator_open();
    Err err = {0};
    TrainNet *net;
    TrainOptions options = CUDA;
    Graph *graph = malloc(sizeof *graph);
    CHECK(graph != NULL);
    ModelInfo info = {.arch = ARCH_DRUNET34, .width = 4, .activation = ACTIVATION_LINEAR};
    CHECK_OK(network_build(&info, 32, 32, graph, &err), &err);
    CHECK_STATUS(train_net_open(graph, &options, &net, &err), ST_UNSUPPORTED);
    CHECK(strstr(err.msg, "4 channels") != NULL && strstr(err.msg, "--width") != NULL);
    info.width = 8;
    CHECK_OK(network_build(&info, 32, 32, graph, &err), &err);
    options.precision = PRECISION_F32;
    CHECK_STATUS(train_net_open(graph, &options, &net, &err), ST_BACKEND);
    CHECK(strstr(err.msg, "f32") != NULL);
    options.precision = PRECISION_F16;
    emulator->no_driver = 1;
    CHECK_STATUS(train_net_open(graph, &options, &net, &err), ST_BACKEND);
    CHECK(strstr(err.msg, "driver") != NULL);
    emulator->no_driver = 0;
    emulator->n_gpus = 0;
    CHECK_STATUS(train_net_open(graph, &options, &net, &err), ST_BACKEND);
    CHECK(strstr(err.msg, "there is none") != NULL);
    emulator->n_gpus = 1;
    cuda_train_check_clean(emulator);
    free(graph);
}

TEST(cuda_train_out_of_memory,
     "too little memory of the GPU, or pinned: an error that says how much "
     "is needed; nothing is left behind")
{
    CudaEmulator *emulator = cuda_emulator_open();
    Err err = {0};
    TrainNet *net;
    Graph *graph = every_step_graph();
    emulator->memory_bytes = 100 << 10;
    CHECK_STATUS(train_net_open(graph, &CUDA, &net, &err), ST_NO_MEMORY);
    (void)printf("# %s\n", err.msg);
    CHECK(strstr(err.msg, "3 slices needs") != NULL && strstr(err.msg, "out of memory") != NULL);
    emulator->memory_bytes = 0;
    cuda_train_check_clean(emulator);
    emulator->restart();
    emulator->fail_alloc = 2;
    CHECK_STATUS(train_net_open(graph, &CUDA, &net, &err), ST_NO_MEMORY);
    CHECK(strstr(err.msg, "pinned") != NULL);
    emulator->fail_alloc = 0;
    cuda_train_check_clean(emulator);
    free(graph);
}

TEST_TIMEOUT(cuda_train_device_fails,
             "whichever kernel or plan of a step fails: an error, and an error ever after", 300)
{
    CudaEmulator *emulator = cuda_emulator_open();
    Err err = {0};
    const float *y;
    int n_works = 0;
    for (int fail = 0; fail <= n_works; fail += fail == 0 ? 1 : 9) {
        TrainCase c = train_open_graph(every_step_graph(), &CUDA);
        float *x = train_random(3 * c.n_in, 1), *dy = calloc(3 * c.n_out, sizeof *dy);
        CHECK(dy != NULL);
        emulator->restart();
        emulator->fail_work = fail;
        Status status = train_net_changed(c.net, &err);
        if (status == ST_OK)
            status = train_net_forward(c.net, x, 3, true, &y, &err);
        if (status == ST_OK)
            status = train_net_backward(c.net, dy, NULL, &err);
        CHECK_STATUS(status, fail == 0 ? ST_OK : ST_BACKEND);
        if (fail == 0)
            n_works = emulator->n_works;
        emulator->fail_work = 0;
        emulator->restart();
        if (fail > 0)
            CHECK_STATUS(train_net_changed(c.net, &err), ST_BACKEND);
        CHECK(fail == 0 || strstr(err.msg, "failed before") != NULL);
        free(x);
        free(dy);
        train_close(&c);
    }
    CHECK(n_works > 100 && n_works < 200);
    CHECK_STR(emulator->complaint, "");
}
