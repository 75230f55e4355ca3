/* gpu/: the CUDA backend without a GPU. Claims: what it tells cuDNN, kernels, weights and memory
** make the network of backend ref, for every architecture; whatever goes wrong with the device ends
** in the CPU's result or in a clean error.
**
** Method: the emulated plugin (cuda_emulator.h). Tolerance 2e-3 relative RMS: f16 keeps 11 bits
** (5e-4 a rounding), measured values are printed. The emulator says nothing about the engine that
** cuDNN chose. */
#include "tests/test.h"

#include "base/digest.h"
#include "base/files.h"
#include "daemon/cli.h"
#include "gpu/cuda_plugin.h"
#include "gpu/gpu_predict.h"
#include "gpu/graph_passes.h"
#include "gpu/net.h"
#include "gpu/network.h"
#include "gpu/trust.h"
#include "tests/cuda_fixture.h"
#include "tests/random_model.h"

#include <dirent.h>

#define TOLERANCE 2e-3
enum { H = 64, W = 96, N = 5, PIXELS = H * W };

static float *slices(void)
{
    uint64_t seed = 5;
    float *x = malloc(sizeof *x * N * 3 * PIXELS);
    CHECK(x != NULL);
    for (size_t i = 0; i < (size_t)N * 3 * PIXELS; i++)
        x[i] = (float)(4 * model_file_random(&seed) - 2);
    return x;
}

static NetOptions options(const char *backend, const char *precision, int32_t batch)
{
    return (NetOptions){.backend = backend,
                        .precision = precision,
                        .batch = batch,
                        .height = H,
                        .width = W,
                        .threads = 2};
}

/* Opens, runs n slices, closes; ret_used may be NULL. */
static Status run(const Model *model, NetOptions o, const float *x, int32_t n, float *ret_y,
                  char ret_used[512], Err *err)
{
    Net *net;
    TRY(net_open(model, &o, &net, err));
    Status status = net_run(net, x, n, ret_y, err);
    if (ret_used != NULL)
        (void)snprintf(ret_used, 512, "%s %s|%s", net_backend(net),
                       precision_name(net_precision(net)), net_notice(net));
    net_close(net);
    return status;
}

/* Everything was given back, and nothing was done that a device would not forgive. */
static void check_clean(const CudaEmulator *emulator)
{
    CHECK_STR(emulator->complaint, "");
    CHECK_INT(emulator->n_live, 0);
    CHECK_INT(emulator->live_bytes, 0);
}

static void check_agrees(ModelArch arch, int32_t width)
{
    CudaEmulator *emulator = cuda_emulator_open();
    Err err = {0};
    char used[512];
    Model *model = random_model(arch, width);
    float *x = slices(), *ref = calloc(N, sizeof *ref * PIXELS);
    float *cuda = calloc(N, sizeof *cuda * PIXELS);
    CHECK(ref != NULL && cuda != NULL);
    CHECK_OK(run(model, options("ref", "f32", 1), x, N, ref, NULL, &err), &err);
    CHECK_OK(run(model, options("cuda", "f16", 2), x, N, cuda, used, &err), &err);
    CHECK_STR(used, "cuda f16|");
    check_clean(emulator);
    double d = trust_difference(ref, cuda, (size_t)N * PIXELS), low = 1, high = 0;
    for (size_t i = 0; i < (size_t)N * PIXELS; i++) {
        low = fmin(low, (double)ref[i]);
        high = fmax(high, (double)ref[i]);
    }
    (void)printf("# %s width %d: relative RMS difference %.3g, values %.3f to %.3f, %d plans run, "
                 "%.1f MB at most\n",
                 network_name(arch), width, d, low, high, emulator->n_plans_run,
                 (double)emulator->peak_bytes * 1e-6);
    CHECK(d < TOLERANCE);
    CHECK(high - low > 0.04); /* not a constant picture */
    free(x);
    free(ref);
    free(cuda);
    model_close(model);
}

TEST_TIMEOUT(cuda_agrees_drunet34, "DRUNet-34 emulated equals ref to 2e-3", 120)
{
    check_agrees(ARCH_DRUNET34, 8);
}

TEST_TIMEOUT(cuda_agrees_drunet50, "DRUNet-50 emulated equals ref to 2e-3", 120)
{
    check_agrees(ARCH_DRUNET50, 8);
}

TEST_TIMEOUT(cuda_agrees_drunet101, "DRUNet-101 emulated equals ref to 2e-3", 120)
{
    check_agrees(ARCH_DRUNET101, 8);
}

TEST_TIMEOUT(cuda_agrees_unet, "the U-Net emulated equals ref to 2e-3", 120)
{
    check_agrees(ARCH_UNET, 8);
}

TEST_TIMEOUT(cuda_agrees_demo_model, "the shipped model emulated equals ref to 2e-3", 120)
{
    CudaEmulator *emulator = cuda_emulator_open();
    Err err = {0};
    Model *model;
    CHECK_OK(model_open("etc/models/demo-t1-w16.safetensors", &model, &err), &err);
    float *x = slices(), *ref = calloc(2, sizeof *ref * PIXELS);
    float *cuda = calloc(2, sizeof *cuda * PIXELS);
    CHECK_OK(run(model, options("ref", "f32", 1), x, 2, ref, NULL, &err), &err);
    CHECK_OK(run(model, options("cuda", "f16", 2), x, 2, cuda, NULL, &err), &err);
    double d = trust_difference(ref, cuda, (size_t)2 * PIXELS);
    (void)printf("# relative RMS difference %.3g\n", d);
    CHECK(d < TOLERANCE);
    check_clean(emulator);
    free(x);
    free(ref);
    free(cuda);
    model_close(model);
}

/* ---- faults -------------------------------------------------------------------------------- */

typedef struct Fixture {
    CudaEmulator *emulator;
    Model *model;
    float *x, *cuda, *cpu, *y; /* right results of both, and the one under test */
} Fixture;

static Fixture open_fixture(void)
{
    Fixture f = {.emulator = cuda_emulator_open(), .model = random_model(ARCH_DRUNET34, 8)};
    Err err = {0};
    size_t n = (size_t)N * PIXELS;
    f.x = slices();
    f.cuda = calloc(n, sizeof *f.cuda);
    f.cpu = calloc(n, sizeof *f.cpu);
    f.y = calloc(n, sizeof *f.y);
    CHECK(f.cuda != NULL && f.cpu != NULL && f.y != NULL);
    CHECK_OK(run(f.model, options("cpu", "f32", 1), f.x, N, f.cpu, NULL, &err), &err);
    CHECK_OK(run(f.model, options("cuda", "f16", 2), f.x, N, f.cuda, NULL, &err), &err);
    return f;
}

static void close_fixture(Fixture *f)
{
    CHECK_STR(f->emulator->complaint, "");
    model_close(f->model);
    free(f->x);
    free(f->cuda);
    free(f->cpu);
    free(f->y);
}

/* "auto" gives bit for bit what one of the two backends gives alone. */
static void check_auto(Fixture *f, NetOptions o, const char *want_backend, char ret_used[512])
{
    Err err = {0};
    size_t bytes = (size_t)N * PIXELS * sizeof *f->y;
    memset(f->y, 0xff, bytes);
    CHECK_OK(run(f->model, o, f->x, N, f->y, ret_used, &err), &err);
    CHECK(strncmp(ret_used, want_backend, strlen(want_backend)) == 0);
    CHECK(memcmp(f->y, strncmp(want_backend, "cuda", 4) == 0 ? f->cuda : f->cpu, bytes) == 0);
}

TEST_TIMEOUT(cuda_without_driver, "no driver: cuda is a clean error, auto computes on the CPU", 120)
{
    Fixture f = open_fixture();
    Err err = {0};
    char used[512];
    check_auto(&f, options("auto", "f16", 2), "cuda f16|", used);
    f.emulator->no_driver = 1;
    CHECK_STATUS(run(f.model, options("cuda", "f16", 2), f.x, 1, f.y, NULL, &err), ST_BACKEND);
    (void)printf("# %s\n", err.msg);
    check_auto(&f, options("auto", "f16", 2),
               "cpu f32|the CPU computes instead of the GPU, in f32: ", used);
    (void)printf("# %s\n", used);
    CHECK_INT(f.emulator->n_live, 0);
    /* not asked for and not allowed by the model: nobody looks for a GPU */
    check_auto(&f, options("auto", "auto", 2), "cpu f32|", used);
    CHECK_STATUS(run(f.model, options("cuda", "auto", 2), f.x, 1, f.y, NULL, &err), ST_BACKEND);
    close_fixture(&f);
}

TEST(cuda_not_installed, "no plugin: cuda is a clean error, auto computes on the CPU")
{
    Err err = {0};
    char used[512];
    CHECK(setenv("CT2MR_PLUGIN_DIR", test_dir(), 1) == 0);
    CHECK(!cuda_plugin_present() && net_backend_name(2) == NULL);
    Model *model = random_model(ARCH_DRUNET34, 8);
    float *x = slices(), *y = calloc(1, sizeof *y * PIXELS);
    CHECK_STATUS(run(model, options("cuda", "f16", 2), x, 1, y, NULL, &err), ST_BACKEND);
    (void)printf("# %s\n", err.msg);
    CHECK_OK(run(model, options("auto", "f16", 2), x, 1, y, used, &err), &err);
    CHECK(strncmp(used, "cpu f32|the CPU computes instead", 20) == 0);
    free(x);
    free(y);
    model_close(model);
}

TEST_TIMEOUT(cuda_out_of_memory_anywhere, "every allocation fails once: right result, no leak", 300)
{
    Fixture f = open_fixture();
    char used[512];
    int n_halved = 0, n_cpu = 0;
    f.emulator->n_allocs = 0;
    check_auto(&f, options("auto", "f16", 2), "cuda f16|", used);
    int n = f.emulator->n_allocs;
    for (int i = 1; i <= n; i++) {
        Err err = {0};
        f.emulator->n_allocs = 0;
        f.emulator->fail_alloc = i;
        CHECK_OK(run(f.model, options("auto", "f16", 2), f.x, N, f.y, used, &err), &err);
        bool cpu = strncmp(used, "cpu", 3) == 0;
        n_halved += strstr(used, "1 slices at a time instead of 2") != NULL;
        n_cpu += cpu;
        /* another batch may have other engines; the emulator knows one arithmetic */
        CHECK(memcmp(f.y, cpu ? f.cpu : f.cuda, sizeof *f.y * N * PIXELS) == 0);
        CHECK_INT(f.emulator->n_live, 0);
    }
    (void)printf("# %d allocations: %d times half a batch, %d times the CPU\n", n, n_halved, n_cpu);
    CHECK(n_halved >= 2 && n_cpu >= 2);
    close_fixture(&f);
}

TEST_TIMEOUT(cuda_memory_halves_the_batch, "a small GPU: the batch is halved until it fits", 120)
{
    Fixture f = open_fixture();
    char used[512];
    f.emulator->peak_bytes = 0;
    check_auto(&f, options("auto", "f16", 1), "cuda f16|", used);
    f.emulator->memory_bytes = f.emulator->peak_bytes + 1000;
    check_auto(&f, options("auto", "f16", 8), "cuda f16|out of memory on the GPU: 1 slices", used);
    (void)printf("# %s\n", used);
    f.emulator->memory_bytes = 1000;
    check_auto(&f, options("auto", "f16", 8), "cpu f32|the CPU computes instead", used);
    CHECK_INT(f.emulator->n_live, 0);
    close_fixture(&f);
}

enum { N_PLACES = 16 };

TEST_TIMEOUT(cuda_sticky_error, "the GPU fails for good anywhere: the CPU's result", 300)
{
    Fixture f = open_fixture();
    Err err = {0};
    char used[512];
    f.emulator->restart();
    check_auto(&f, options("auto", "f16", 2), "cuda f16|", used);
    int n = f.emulator->n_works;
    for (int i = 0; i < N_PLACES; i++) { /* from the golden slice to the last batch */
        f.emulator->restart();
        f.emulator->fail_work = 1 + (n - 1) * i / (N_PLACES - 1);
        check_auto(&f, options("auto", "f16", 2), "cpu f32|the CPU computes instead", used);
    }
    (void)printf("# at work %d of %d: %s\n", n, n, used);
    /* the device stays broken */
    check_auto(&f, options("auto", "f16", 2), "cpu f32|the CPU computes instead", used);
    CHECK_STATUS(run(f.model, options("cuda", "f16", 2), f.x, 1, f.y, NULL, &err), ST_BACKEND);
    (void)printf("# %s\n", err.msg);
    close_fixture(&f);
}

TEST_TIMEOUT(cuda_hang, "work that never ends, anywhere: given up after the caller's deadline", 120)
{
    Fixture f = open_fixture();
    Err err = {0};
    char used[512];
    NetOptions o = options("auto", "f16", 2);
    f.emulator->restart();
    check_auto(&f, o, "cuda f16|", used);
    int n = f.emulator->n_records;
    o.deadline_s = 0.05;
    for (int i = 0; i < N_PLACES; i++) {
        f.emulator->restart();
        f.emulator->hang_event = 1 + (n - 1) * i / (N_PLACES - 1);
        check_auto(&f, o, "cpu f32|the CPU computes instead", used);
    }
    (void)printf("# at event %d of %d: %s\n", n, n, used);
    f.emulator->restart();
    f.emulator->hang_event = 1;
    o.backend = "cuda";
    CHECK_STATUS(run(f.model, o, f.x, 1, f.y, NULL, &err), ST_BACKEND);
    (void)printf("# %s\n", err.msg);
    close_fixture(&f);
}

TEST_TIMEOUT(cuda_graphs, "captured or not, any number of slices: the same bits", 120)
{
    Fixture f = open_fixture();
    Err err = {0};
    char used[512];
    f.emulator->n_graph_runs = 0;
    check_auto(&f, options("auto", "f16", 1), "cuda f16|", used);
    /* the first of each of two slots is not captured; the self-test takes 1 + 3 slices and 5 */
    const int runs = N - 2 + 4 - 2 + 5 - 2;
    CHECK_INT(f.emulator->n_graph_runs, runs);
    f.emulator->no_capture = 1;
    check_auto(&f, options("auto", "f16", 1), "cuda f16|", used);
    CHECK_INT(f.emulator->n_graph_runs, runs);
    f.emulator->no_capture = 0;
    for (int32_t n = 1; n <= N; n++) { /* a last batch that is not full */
        memset(f.y, 0xff, sizeof *f.y * N * PIXELS);
        CHECK_OK(run(f.model, options("cuda", "f16", 3), f.x, n, f.y, used, &err), &err);
        CHECK(memcmp(f.y, f.cuda, sizeof *f.y * (size_t)n * PIXELS) == 0);
    }
    CHECK_INT(f.emulator->n_live, 0);
    close_fixture(&f);
}

TEST_TIMEOUT(cuda_tested_as_it_serves,
             "wrong from the third image of a batch on, or once the graph is run: out of service",
             120)
{
    Fixture f = open_fixture();
    Err err = {0};
    char used[512];
    for (int32_t batch = 1; batch <= 4; batch += 3) {
        f.emulator->idle_graphs = 1;
        CHECK_STATUS(run(f.model, options("cuda", "f16", batch), f.x, N, f.y, NULL, &err),
                     ST_SELF_TEST);
        (void)printf("# %s\n", err.msg);
        CHECK(strstr(err.msg, "differs from the same slice alone") != NULL);
        f.emulator->idle_graphs = 0;
    }
    f.emulator->same_from = 2;
    CHECK_STATUS(run(f.model, options("cuda", "f16", 4), f.x, N, f.y, NULL, &err), ST_SELF_TEST);
    (void)printf("# %s\n", err.msg);
    CHECK(strstr(err.msg, "slice 3 in batches of 4") != NULL);
    CHECK_OK(run(f.model, options("cuda", "f16", 2), f.x, N, f.y, used, &err), &err);
    CHECK(memcmp(f.y, f.cuda, sizeof *f.y * N * PIXELS) == 0);
    check_auto(&f, options("auto", "f16", 4), "cpu f32|the CPU computes instead", used);
    f.emulator->same_from = 0;
    close_fixture(&f);
}

TEST_TIMEOUT(cuda_streams_wait, "any order of the streams: the same bits; without waits: not", 120)
{
    Fixture f = open_fixture();
    Err err = {0};
    char used[512];
    for (int i = 0; i < 8; i++) {
        f.emulator->order = i == 0 ? ORDER_OLDEST : i == 1 ? ORDER_NEWEST : ORDER_RANDOM;
        check_auto(&f, options("auto", "f16", i % 2 + 1), "cuda f16|", used);
    }
    f.emulator->order = ORDER_NEWEST; /* results are fetched before they are there */
    f.emulator->ignore_waits = 1;
    CHECK_STATUS(run(f.model, options("cuda", "f16", 1), f.x, N, f.y, NULL, &err), ST_SELF_TEST);
    (void)printf("# without waits: %s\n", err.msg);
    close_fixture(&f);
}

TEST_TIMEOUT(cuda_refuses, "a network it was not made for: an error that says so; auto: the CPU",
             120)
{
    CudaEmulator *emulator = cuda_emulator_open();
    Err err = {0};
    char used[512];
    float *x = slices(), *y = calloc(1, sizeof *y * PIXELS);
    Model *model = random_model(ARCH_DRUNET34, 4); /* channels that are no multiple of 8 */
    CHECK_STATUS(run(model, options("cuda", "f16", 1), x, 1, y, NULL, &err), ST_BACKEND);
    CHECK(strstr(err.msg, "no multiple of 8") != NULL);
    CHECK_OK(run(model, options("auto", "f16", 1), x, 1, y, used, &err), &err);
    CHECK(strncmp(used, "cpu f32|the CPU computes instead", 20) == 0);
    model_close(model);
    model = random_model(ARCH_DRUNET34, 8);
    for (unsigned pass = 0; pass < GRAPH_PASS_COUNT; pass++) {
        NetOptions o = options("cuda", "f16", 1);
        o.without = 1u << pass;
        Status status = run(model, o, x, 1, y, NULL, &err);
        bool needed = pass == GRAPH_PASS_FOLD_NORM || pass == GRAPH_PASS_FUSE;
        CHECK(status == (needed ? ST_BACKEND : ST_OK));
    }
    CHECK_STATUS(run(model, options("cuda", "f32", 1), x, 1, y, NULL, &err), ST_BACKEND);
    CHECK_STATUS(run(model, options("cpu", "f16", 1), x, 1, y, NULL, &err), ST_BACKEND);
    emulator->no_driver = 1;
    CHECK_STATUS(run(model, options("cuda", "f16", 1), x, 1, y, NULL, &err), ST_BACKEND);
    CHECK_INT(emulator->n_live, 0);
    CHECK_STR(emulator->complaint, "");
    model_close(model);
    free(x);
    free(y);
}

/* ---- a network that is kept, several GPUs ---------------------------------------------------- */

TEST_TIMEOUT(cuda_forgets, "nothing of the slices is left, the network is as good as new", 120)
{
    Fixture f = open_fixture();
    int64_t pinned = 0, device = 0;
    NetOptions o = options("auto", "f16", 2);
    Net *net;
    Err err = {0};
    CHECK_OK(net_open(f.model, &o, &net, &err), &err);
    CHECK_OK(net_run(net, f.x, N, f.y, &err), &err);
    CHECK(memcmp(f.y, f.cuda, sizeof *f.y * (size_t)N * PIXELS) == 0);
    f.emulator->remains(&pinned, &device);
    (void)printf("# a run leaves %lld and %lld bytes that are not 0\n", (long long)pinned,
                 (long long)device);
    CHECK(pinned > PIXELS && device > PIXELS);
    CHECK_OK(net_forget(net, &err), &err);
    f.emulator->remains(&pinned, &device);
    CHECK(pinned == 0 && device == 0);
    CHECK_OK(net_run(net, f.x, N, f.y, &err), &err);
    CHECK(memcmp(f.y, f.cuda, sizeof *f.y * (size_t)N * PIXELS) == 0);
    f.emulator->broken = 1;
    CHECK_STATUS(net_forget(net, &err), ST_BACKEND);
    CHECK_STATUS(net_forget(net, &err), ST_BACKEND);
    net_close(net);
    o = options("cpu", "f32", 1);
    CHECK_OK(net_open(f.model, &o, &net, &err), &err);
    CHECK_STATUS(net_forget(net, &err), ST_BACKEND);
    CHECK_STR(net_signature(net), "");
    net_close(net);
    f.emulator->broken = 0;
    close_fixture(&f);
}

TEST_TIMEOUT(cuda_uses_the_gpu_it_is_told, "of two the second; a third is refused; same bits", 120)
{
    Fixture f = open_fixture();
    Err err = {0};
    char used[512];
    NetOptions o = options("cuda", "f16", 2);
    CHECK_INT(net_gpus(), 1);
    f.emulator->n_gpus = 2;
    CHECK_INT(net_gpus(), 2);
    o.device = 1;
    check_auto(&f, o, "cuda f16|", used);
    CHECK_INT(f.emulator->used, 1);
    o.device = 2;
    CHECK_STATUS(run(f.model, o, f.x, 1, f.y, NULL, &err), ST_BACKEND);
    CHECK_STR(err.msg, "GPU 2: there are 2, from 0 on");
    o.device = 0;
    f.emulator->restart();
    check_auto(&f, o, "cuda f16|", used);
    CHECK_INT(f.emulator->used, 0);
    int n_works = f.emulator->n_works;
    o.gpu_proven = true; /* no golden slice */
    f.emulator->restart();
    check_auto(&f, o, "cuda f16|", used);
    (void)printf("# %d works with the golden slice, %d without\n", n_works, f.emulator->n_works);
    CHECK(f.emulator->n_works < n_works - 50);
    Net *net;
    CHECK_OK(net_open(f.model, &o, &net, &err), &err);
    (void)printf("# %s\n", net_signature(net));
    CHECK(strncmp(net_signature(net), "card=", 5) == 0);
    CHECK(strstr(net_signature(net), " driver=13000 cudnn=") != NULL);
    CHECK(strstr(net_signature(net), " batch=2") != NULL);
    net_close(net);
    f.emulator->no_driver = 1;
    CHECK_INT(net_gpus(), 0);
    close_fixture(&f);
}

/* ---- trust --------------------------------------------------------------------------------- */

static BackendOptions trust_options(Precision precision)
{
    return (BackendOptions){.precision = precision, .threads = 1, .batch = 1, .deadline_s = 60};
}

static bool is_deepest(const Graph *table, const Op *op)
{
    for (int32_t v = 0; v < table->n_values; v++)
        if (table->values[v].h < table->values[op->input].h)
            return false;
    return true;
}

/* The first convolutions of a table are uploaded first: weights and bias each. Where values are
** smallest, a kernel whose outer taps met nothing but padding could hold them in any order. */
static void check_every_convolution(Model *model, ModelArch arch)
{
    CudaEmulator *emulator = cuda_emulator_open();
    const BackendOptions o = trust_options(PRECISION_F16);
    const CudaPlugin *plugin;
    TrustResult right = {0}, wrong = {0};
    double least = 100;
    int n = 0, n_rows = 0;
    Err err = {0};
    Graph *literal = malloc(sizeof *literal), *table = malloc(sizeof *table);
    CHECK_OK(network_build(model_info(model), TRUST_HEIGHT, TRUST_WIDTH, literal, &err), &err);
    CHECK_OK(graph_rewrite(literal, GRAPH_PASSES_ALL, table, &err), &err);
    CHECK_OK(cuda_plugin(&plugin, &err), &err);
    CHECK_OK(trust_check(&plugin->backend, model, &o, GRAPH_PASSES_ALL, &right, &err), &err);
    for (int32_t i = 0; i < table->n_ops; i++) {
        const Op *op = &table->ops[i];
        if (op->kind != OP_CONV)
            continue;
        int32_t k = graph_conv_kernel(op), c = table->values[op->input].c;
        emulator->spoil_upload = 1 + 2 * n++;
        emulator->spoil_c = (c + 7) / 8 * 8;
        emulator->spoil_taps = k * k;
        for (int rows = 0; rows < (k == 3 && is_deepest(table, op) ? 2 : 1); rows++) {
            emulator->spoil_rows = rows;
            CHECK_STATUS(trust_check(&plugin->backend, model, &o, GRAPH_PASSES_ALL, &wrong, &err),
                         ST_SELF_TEST);
            CHECK_STR(wrong.operation, op->name);
            CHECK(strstr(err.msg, op->name) != NULL && strstr(err.msg, "out of service") != NULL);
            least = fmin(least, wrong.operation_rms);
            n_rows += rows;
        }
        emulator->spoil_rows = 0;
    }
    CHECK((n_rows > 0) == (arch != ARCH_UNET)); /* which convolves nothing there */
    emulator->spoil_upload = 0;
    (void)printf(
        "# %s: right %.2g (%s), output %.2g; each of %d convolutions wrong: %.2g or more\n",
        network_name(arch), right.operation_rms, right.operation, right.output_rms, n, least);
    CHECK(n > 15 && emulator->n_live == 0);
    /* Room on both sides. */
    CHECK(right.operation_rms < trust_operation_tolerance(PRECISION_F16) / 4);
    CHECK(least > trust_operation_tolerance(PRECISION_F16) * 4);
    free(literal);
    free(table);
    model_close(model);
}

TEST_TIMEOUT(cuda_wrong_layout_demo_model,
             "weights of any one convolution in another layout: it is named", 300)
{
    Err err = {0};
    Model *model;
    CHECK_OK(model_open("etc/models/demo-t1-w16.safetensors", &model, &err), &err);
    check_every_convolution(model, model_info(model)->arch);
}

TEST_TIMEOUT(cuda_wrong_layout_drunet34, "the same, a narrow DRUNet-34", 300)
{
    check_every_convolution(random_model(ARCH_DRUNET34, 8), ARCH_DRUNET34);
}

TEST_TIMEOUT(cuda_wrong_layout_drunet50, "the same, a narrow DRUNet-50", 300)
{
    check_every_convolution(random_model(ARCH_DRUNET50, 8), ARCH_DRUNET50);
}

TEST_TIMEOUT(cuda_wrong_layout_unet, "the same, a narrow U-Net", 300)
{
    check_every_convolution(random_model(ARCH_UNET, 8), ARCH_UNET);
}

TEST_TIMEOUT(cuda_out_of_service, "a wrong layout: cuda is a clean error, auto computes on the CPU",
             300)
{
    Fixture f = open_fixture();
    Err err = {0};
    char used[512];
    f.emulator->spoil_upload = 3;
    f.emulator->spoil_c = 8;
    f.emulator->spoil_taps = 9;
    CHECK_STATUS(run(f.model, options("cuda", "f16", 2), f.x, 1, f.y, NULL, &err), ST_SELF_TEST);
    (void)printf("# %s\n", err.msg);
    CHECK(strstr(err.msg, "out of service") != NULL && strstr(err.msg, "layer1.0.conv1") != NULL);
    check_auto(&f, options("auto", "f16", 2), "cpu f32|the CPU computes instead", used);
    CHECK_INT(f.emulator->n_live, 0);
    const NetOptions automatic = options("auto", "f16", 2);
    Net *net;
    CHECK_OK(net_open(f.model, &automatic, &net, &err), &err); /* the alert: it names the layer */
    CHECK(strstr(net_out_of_service(net), "layer1.0.conv1") != NULL);
    net_close(net);
    f.emulator->spoil_upload = 0;
    check_auto(&f, options("auto", "f16", 2), "cuda f16|", used);
    close_fixture(&f);
}

/* ---- the plan cache ------------------------------------------------------------------------ */

typedef struct CacheFile {
    char path[PATH_SIZE];
    char *data;
    size_t size;
} CacheFile;

/* The cache files of the test's folder; they are the largest plans-*.txt first. */
static int list_caches(CacheFile *ret, int max)
{
    DIR *dir = opendir(test_dir());
    Err err = {0};
    int n = 0;
    CHECK(dir != NULL);
    for (const struct dirent *e; (e = readdir(dir)) != NULL;) {
        if (strncmp(e->d_name, "plans-", 6) != 0)
            continue;
        CHECK(n < max && strstr(e->d_name, ".tmp") == NULL);
        CHECK_OK(path_format(ret[n].path, &err, "%s/%s", test_dir(), e->d_name), &err);
        CHECK_OK(file_read(ret[n].path, 8 << 20, &ret[n].data, &ret[n].size, &err), &err);
        n++;
    }
    CHECK(closedir(dir) == 0);
    return n;
}

static void write_file(const char *path, const char *data, size_t size)
{
    Err err = {0};
    CHECK_OK(file_write_durable(path, data, size, &err), &err);
}

/* After a run every file is again what it was at first, and the notice says why: of the network's
** own cache and of the golden slice's. why "": nothing is said. */
static void check_rebuilt(Fixture *f, const CacheFile *files, int n, const char *why)
{
    char used[512], *data;
    size_t size;
    Err err = {0};
    check_auto(f, options("auto", "f16", 2), "cuda f16|", used);
    CHECK((strstr(used, "is of no use") != NULL) == (why[0] != '\0') && strstr(used, why) != NULL);
    CHECK((strstr(used, "self-test: the plan cache") != NULL) == (why[0] != '\0'));
    for (int i = 0; i < n; i++) {
        CHECK_OK(file_read(files[i].path, 8 << 20, &data, &size, &err), &err);
        CHECK(size == files[i].size && memcmp(data, files[i].data, size) == 0);
        free(data);
    }
}

/* Where the line with the key ends, behind "gpu NAME ...", and where that begins. */
static const char *key_of(const CacheFile *file, const char **ret_gpu, const char **ret_end)
{
    const char *key = strchr(file->data, '\n') + 1;
    *ret_gpu = strstr(key, ", gpu ");
    *ret_end = strchr(key, '\n');
    CHECK(*ret_gpu != NULL && *ret_end != NULL && *ret_gpu < *ret_end);
    return key;
}

/* Plans are of one model, card, driver and cuDNN: each stands in the key. */
static void check_key(const Fixture *f, const CacheFile *file)
{
    const NetOptions o = options("cuda", "f16", 2);
    const char *gpu, *end, *key = key_of(file, &gpu, &end);
    char want[256], *text = strndup(key, (size_t)(end - key));
    const GpuCard *card = gpu_catalog_card(f->emulator->card);
    Net *net;
    Err err = {0};
    CHECK_OK(net_open(f->model, &o, &net, &err), &err);
    (void)snprintf(want, sizeof want, "model %s, ", model_info(f->model)->digest);
    CHECK(text != NULL && strstr(text, want) == text);
    const char *version = strstr(net_signature(net), "cudnn=");
    CHECK(version != NULL);
    (void)snprintf(want, sizeof want, ", gpu %s sm_%d, driver 13000, cuDNN %lu", card->name,
                   card->compute, strtoul(version + strlen("cudnn="), NULL, 10));
    CHECK_STR(gpu - key + text, want);
    free(text);
    net_close(net);
}

/* The file as if the plans of `foreign`, which has the same network and shape, were `own`'s. */
static void write_foreign_plans(const CacheFile *own, const CacheFile *foreign)
{
    const char *gpu, *end, *foreign_gpu, *foreign_end;
    const char *key = key_of(own, &gpu, &end), *other = key_of(foreign, &foreign_gpu, &foreign_end);
    char *rest, *file, hex[DIGEST_HEX_SIZE];
    CHECK(gpu - key == foreign_gpu - other && memcmp(key, other, (size_t)(gpu - key)) == 0);
    CHECK(asprintf(&rest, "%.*s%s", (int)(end - key), key, foreign_end) > 0);
    digest_memory(rest, strlen(rest), hex);
    CHECK(asprintf(&file, "ct2mr-plans-1 %s\n%s", hex, rest) > 0);
    write_file(own->path, file, strlen(file));
    free(rest);
    free(file);
}

static bool same_network(const CacheFile *a, const CacheFile *b)
{
    const char *gpu, *end, *key = key_of(a, &gpu, &end);
    return strncmp(strchr(b->data, '\n') + 1, key, (size_t)(gpu - key)) == 0;
}

static void check_foreign_plans(Fixture *f, const CacheFile *files, int n, const CacheFile *all,
                                int n_all)
{
    int n_written = 0;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n_all; k++)
            if (strcmp(files[i].path, all[k].path) != 0 && same_network(&files[i], &all[k])) {
                write_foreign_plans(&files[i], &all[k]);
                n_written++;
            }
    CHECK_INT(n_written, n);
    check_rebuilt(f, files, n, "ARCH_MISMATCH");
}

TEST_TIMEOUT(cuda_plan_cache,
             "damaged, foreign, other card's: made anew, and said; unwritable: ignored", 300)
{
    enum { MAX = 16 };
    CacheFile files[MAX];
    char used[512];
    Fixture f = open_fixture();
    int n = list_caches(files, MAX);
    CHECK_INT(n, 2); /* the network's and the golden slice's */
    for (int i = 0; i < n; i++)
        check_key(&f, &files[i]);
    check_rebuilt(&f, files, n, "");
    for (int damage = 0; damage < 5; damage++) {
        for (int i = 0; i < n; i++) {
            char *bad = malloc(files[i].size + 1);
            memcpy(bad, files[i].data, files[i].size);
            size_t size = files[i].size;
            if (damage == 0) /* one bit in a plan */
                bad[size / 2] ^= 1;
            else if (damage == 1) /* cut off */
                size /= 3;
            else if (damage == 2) /* nothing */
                size = 0;
            else if (damage == 3) /* zeros */
                memset(bad, 0, size);
            if (damage == 4) /* another network's, whole and valid */
                write_file(files[i].path, files[(i + 1) % n].data, files[(i + 1) % n].size);
            else
                write_file(files[i].path, bad, size);
            free(bad);
        }
        check_rebuilt(&f, files, n, damage == 4 ? "it was made for another" : "it is damaged");
        check_rebuilt(&f, files, n, "");
    }
    f.emulator->card = 0; /* another architecture: other files, the same result */
    check_auto(&f, options("auto", "f16", 2), "cuda f16|", used);
    CacheFile more[2 * MAX];
    int n_more = list_caches(more, 2 * MAX);
    CHECK_INT(n_more, 2 * n);
    f.emulator->card = 2;
    check_foreign_plans(&f, files, n, more, n_more);
    CHECK(setenv("CT2MR_CACHE_DIR", "/proc/none", 1) == 0);
    check_auto(&f, options("auto", "f16", 2), "cuda f16|", used);
    for (int i = 0; i < n; i++)
        free(files[i].data);
    for (int i = 0; i < n_more; i++)
        free(more[i].data);
    close_fixture(&f);
}

/* ---- the command --------------------------------------------------------------------------- */

TEST_TIMEOUT(cuda_command_gpu, "ct2mr gpu: exit codes of list, plan and selftest", 120)
{
    char path[PATH_SIZE];
    CudaEmulator *emulator = cuda_emulator_open();
    Err err = {0};
    CHECK_OK(path_format(path, &err, "%s/random.safetensors", test_dir()), &err);
    model_close(random_model(ARCH_DRUNET50, 8));
    char *list[] = {"gpu", "list", "--json", NULL}, *bare[] = {"gpu", "list", NULL};
    char *plan[] = {"gpu", "--json", "plan", "--model", path, "--batch", "8", NULL};
    char *selftest[] = {"gpu", "selftest", "--json", "--model", path, NULL};
    CHECK_INT(cli_gpu(3, list), CLI_OK);
    CHECK_INT(cli_gpu(7, plan), CLI_OK);
    CHECK_INT(cli_gpu(5, selftest), CLI_OK);
    CHECK_INT(cli_gpu(1, bare), CLI_USAGE); /* no verb */
    emulator->spoil_upload = 1;
    emulator->spoil_c = 8;
    emulator->spoil_taps = 49;
    CHECK_INT(cli_gpu(5, selftest), CLI_NEGATIVE);
    emulator->no_driver = 1;
    CHECK_INT(cli_gpu(3, list), CLI_NEGATIVE);
    CHECK_INT(cli_gpu(2, bare), CLI_NEGATIVE);
    CHECK_INT(cli_gpu(5, selftest), CLI_NEGATIVE);
    CHECK_INT(cli_gpu(7, plan), CLI_OK); /* needs none */
    plan[6] = "0";
    CHECK_INT(cli_gpu(7, plan), CLI_USAGE);
    bare[1] = "burn";
    CHECK_INT(cli_gpu(2, bare), CLI_USAGE);
    bare[1] = "selftest"; /* without a model */
    CHECK_INT(cli_gpu(2, bare), CLI_USAGE);
    CHECK_STR(emulator->complaint, "");
}

/* Data-sheet rates are bounds: H100 and RTX 2070 for the paper's network, by hand. */
TEST(cuda_prediction, "floor = operations / rate; predicted is slower; more cards are ordered")
{
    const ModelInfo info = {.arch = ARCH_DRUNET101, .width = 64, .activation = ACTIVATION_SIGMOID};
    Graph *literal = malloc(sizeof *literal), *fast = malloc(sizeof *fast);
    Err err = {0};
    CHECK(literal != NULL && fast != NULL);
    CHECK_OK(network_build(&info, 448, 448, literal, &err), &err);
    CHECK_OK(graph_rewrite(literal, GRAPH_PASSES_ALL, fast, &err), &err);
    for (int i = 0; i < GPU_CATALOG_COUNT; i++) {
        const GpuCard *card = gpu_catalog_card(i);
        GpuPrediction p = gpu_predict(fast, 4, card);
        CHECK_NEAR(p.floor_ms, 2e3 * (double)graph_macs(fast) / (card->half_tflops * 1e12), 1e-9);
        CHECK(p.predicted_ms >= p.floor_ms / GPU_PREDICT_COMPUTE);
        CHECK(p.predicted_ms < 4 * p.floor_ms / GPU_PREDICT_COMPUTE);
        CHECK(p.memory_bytes > 170000000 && p.memory_bytes < 400000000);
    }
    CHECK(gpu_catalog_card(GPU_CATALOG_COUNT) == NULL && gpu_catalog_card(-1) == NULL);
    free(literal);
    free(fast);
}
