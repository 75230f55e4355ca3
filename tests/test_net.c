/* gpu/: the network. Claims: the table is the paper's (Table 1, parameters, multiplications); both
** backends give PyTorch's numbers (golden vectors); they agree with each other; the bits do not
** depend on batch, place or threads. Tolerance 1e-4 on outputs in 0..1: the contract of net.h, a
** fortieth of an 8-bit grey step; what is measured is printed. */
#include "tests/test.h"

#include "base/files.h"
#include "daemon/cli.h"
#include "gpu/backend.h"
#include "gpu/graph_passes.h"
#include "gpu/net.h"
#include "gpu/network.h"
#include "gpu/npy.h"
#include "tests/random_model.h"

#include <dlfcn.h>

#define DEMO_MODEL "etc/models/demo-t1-w16.safetensors"
#define TOLERANCE 1e-4

static const ModelArch ARCHS[4] = {ARCH_DRUNET34, ARCH_DRUNET50, ARCH_DRUNET101, ARCH_UNET};

static Graph *build(ModelArch arch, int32_t width, int32_t h, int32_t w)
{
    Err err = {0};
    Graph *graph = malloc(sizeof *graph);
    CHECK(graph != NULL);
    ModelInfo info = {.arch = arch, .width = width, .activation = ACTIVATION_LINEAR};
    CHECK_OK(network_build(&info, h, w, graph, &err), &err);
    return graph;
}

TEST(net_shapes_are_table_1, "DRUNet-101 at 448: the ten rows of the paper's Table 1")
{
    static const struct {
        const char *name;
        int32_t c_in, h_in, c_out, h_out;
    } TABLE_1[] = {{"DOWN 1", 3, 448, 64, 224},      {"DOWN 2", 64, 224, 256, 112},
                   {"DOWN 3", 256, 112, 512, 56},    {"DOWN 4", 512, 56, 1024, 28},
                   {"D-CENTER", 1024, 28, 2048, 14}, {"U-CENTER", 2048, 14, 1024, 28},
                   {"UP 1", 2048, 28, 512, 56},      {"UP 2", 1024, 56, 256, 112},
                   {"UP 3", 512, 112, 64, 224},      {"UP 4", 64, 224, 1, 448}};
    Graph *graph = build(ARCH_DRUNET101, 64, 448, 448);
    CHECK_INT(graph->n_stages, 10);
    for (int i = 0; i < 10; i++) {
        const Stage *stage = &graph->stages[i];
        const Value *in = &graph->values[stage->input], *out = &graph->values[stage->output];
        CHECK_STR(stage->name, TABLE_1[i].name);
        CHECK(in->c == TABLE_1[i].c_in && in->h == TABLE_1[i].h_in && in->w == TABLE_1[i].h_in);
        CHECK(out->c == TABLE_1[i].c_out && out->h == TABLE_1[i].h_out && out->w == out->h);
    }
    free(graph);
}

TEST(net_counts_are_the_papers, "parameters and literal GMAC of the four networks")
{
    static const struct {
        ModelArch arch;
        double parameters, literal, rewritten;
    } NETS[] = {{ARCH_DRUNET34, 39.78e6, 32.3e9, 31.26e9},
                {ARCH_DRUNET50, 47.32e6, 41.8e9, 33.2e9},
                {ARCH_DRUNET101, 85.30e6, 71.5e9, 62.9e9},
                {ARCH_UNET, 34.96e6, 161.3e9, 161.3e9}};
    Graph *fast = malloc(sizeof *fast);
    Err err = {0};
    for (int i = 0; i < 4; i++) {
        Graph *graph = build(NETS[i].arch, 64, 448, 448);
        CHECK_OK(graph_rewrite(graph, GRAPH_PASSES_ALL, fast, &err), &err);
        (void)printf("# %s: %.3f M parameters, %.3f GMAC literal, %.3f rewritten, "
                     "%.1f and %.1f MB of values, %d and %d operations\n",
                     network_name(NETS[i].arch), (double)graph_parameters(graph) / 1e6,
                     (double)graph_macs(graph) / 1e9, (double)graph_macs(fast) / 1e9,
                     (double)graph->arena_bytes * 1e-6, (double)fast->arena_bytes * 1e-6,
                     graph->n_ops, fast->n_ops);
        CHECK_NEAR((double)graph_parameters(graph), NETS[i].parameters, 0.005e6);
        CHECK_NEAR((double)graph_macs(graph), NETS[i].literal, 0.05e9);
        CHECK_NEAR((double)graph_macs(fast), NETS[i].rewritten, 0.05e9);
        CHECK_INT(graph_parameters(fast), graph_parameters(graph));
        free(graph);
    }
    free(fast);
}

/* True if values a and b are alive in one operation. */
static bool live_together(const Value *a, const Value *b)
{
    return a->first_op <= b->last_op && b->first_op <= a->last_op;
}

static void check_plan(const Graph *graph)
{
    for (int32_t i = 0; i < graph->n_values; i++) {
        const Value *a = &graph->values[i];
        int64_t a_end = a->offset_bytes + graph_value_elements(a) * a->element_bytes;
        CHECK(a->first_op == -2 || (a->offset_bytes >= 0 && a_end <= graph->arena_bytes));
        for (int32_t k = 0; k < i; k++) {
            const Value *b = &graph->values[k];
            int64_t b_end = b->offset_bytes + graph_value_elements(b) * b->element_bytes;
            if (a->first_op == -2 || b->first_op == -2 || !live_together(a, b) ||
                b->offset_bytes >= a_end || a->offset_bytes >= b_end)
                continue;
            /* only a residual and the sum that takes its place may meet */
            const Op *op = &graph->ops[a->first_op];
            CHECK(op->kind == OP_CONV && op->second == k && a->offset_bytes == b->offset_bytes &&
                  a_end == b_end && b->last_op == a->first_op);
        }
    }
}

TEST(net_plan_shares_no_live_memory, "no two live values overlap, in the literal and fast tables")
{
    static const int N_UP2[4] = {8, 7, 7, 0};
    Graph *fast = malloc(sizeof *fast);
    Err err = {0};
    for (int i = 0; i < 4; i++) {
        Graph *graph = build(ARCHS[i], 8, 96, 64);
        check_plan(graph);
        CHECK_OK(graph_rewrite(graph, GRAPH_PASSES_ALL, fast, &err), &err);
        check_plan(fast);
        /* basic: in front of each up-block's 3x3 and sum; bottleneck: one behind up3, two halves
        ** of sums behind each other stage; U-Net: all in concatenations */
        int n_up2 = 0;
        for (int32_t k = 0; k < fast->n_ops; k++)
            n_up2 += fast->ops[k].kind == OP_UP2;
        CHECK_INT(n_up2, N_UP2[i]);
        free(graph);
    }
    free(fast);
}

TEST(net_fold_up2_is_the_head, "7x7 over nearest x2 equals the folded 5x5 phases, by hand")
{
    float kernel[49];
    double folded[4 * 25], image[6][6];
    for (int i = 0; i < 49; i++)
        kernel[i] = (float)((i * 37) % 23 - 11);
    for (int i = 0; i < 36; i++)
        image[i / 6][i % 6] = (i * 29) % 17 - 8;
    CHECK_INT(graph_folded_size(7), 5);
    graph_fold_up2(kernel, 1, 7, folded);
    for (int oy = 0; oy < 12; oy++)
        for (int ox = 0; ox < 12; ox++) {
            double direct = 0, phases = 0;
            for (int k = 0; k < 49; k++) {
                int y = oy + k / 7 - 3, x = ox + k % 7 - 3;
                if (y >= 0 && y < 12 && x >= 0 && x < 12)
                    direct += (double)kernel[k] * image[y / 2][x / 2];
            }
            for (int k = 0; k < 25; k++) {
                int y = oy / 2 + k / 5 - 2, x = ox / 2 + k % 5 - 2;
                if (y >= 0 && y < 6 && x >= 0 && x < 6)
                    phases += folded[(2 * (oy % 2) + ox % 2) * 25 + k] * image[y][x];
            }
            CHECK_NEAR(phases, direct, 0); /* small whole numbers: exact */
        }
}

/* ---- running ------------------------------------------------------------------------------- */

static void run_net(const Model *model, const char *backend, int32_t batch, int32_t threads,
                    const Npy *x, int32_t n, float *ret_y)
{
    Err err = {0};
    Net *net;
    NetOptions options = {.backend = backend,
                          .batch = batch,
                          .height = (int32_t)x->dims[2],
                          .width = (int32_t)x->dims[3],
                          .threads = threads,
                          .precision = "f32"};
    CHECK_OK(net_open(model, &options, &net, &err), &err);
    CHECK_STR(net_backend(net), strcmp(backend, "auto") == 0 ? "cpu" : backend);
    CHECK_OK(net_run(net, x->data, n, ret_y, &err), &err);
    net_close(net);
}

/* Largest |a - b|; infinite if a value is not a number. */
static double max_difference(const float *a, const float *b, size_t n)
{
    double largest = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= largest))
            largest = isnan(d) ? HUGE_VAL : d;
    }
    return largest;
}

static Npy random_slices(int32_t n, int32_t h, int32_t w, uint64_t seed)
{
    Npy x = {4, {n, 3, h, w}, malloc((size_t)n * 3 * (size_t)h * (size_t)w * sizeof(float))};
    CHECK(x.data != NULL);
    for (size_t i = 0; i < (size_t)n * 3 * (size_t)h * (size_t)w; i++)
        x.data[i] = (float)(4 * model_file_random(&seed) - 2);
    return x;
}

static float *output(int32_t n, int32_t h, int32_t w)
{
    size_t count = (size_t)n * (size_t)h * (size_t)w;
    float *y = malloc(count * sizeof *y);
    CHECK(y != NULL);
    for (size_t i = 0; i < count; i++)
        y[i] = NAN;
    return y;
}

static void check_golden(const char *name)
{
    char path[PATH_SIZE];
    Err err = {0};
    Model *model;
    Npy x, want;
    (void)snprintf(path, sizeof path, "golden/%s.safetensors", name);
    CHECK_OK(model_open(test_shared(path), &model, &err), &err);
    (void)snprintf(path, sizeof path, "golden/%s.in.npy", name);
    CHECK_OK(npy_read(test_shared(path), &x, &err), &err);
    (void)snprintf(path, sizeof path, "golden/%s.out.npy", name);
    CHECK_OK(npy_read(test_shared(path), &want, &err), &err);
    int32_t n = (int32_t)x.dims[0], h = (int32_t)x.dims[2], w = (int32_t)x.dims[3];
    CHECK(want.n_dims == 4 && want.dims[0] == n && want.dims[1] == 1 && want.dims[2] == h &&
          want.dims[3] == w);
    float *y = output(n, h, w);
    for (int i = 0; net_backend_name(i) != NULL; i++) {
        run_net(model, net_backend_name(i), 2, 2, &x, n, y);
        double d = max_difference(y, want.data, (size_t)n * (size_t)h * (size_t)w);
        (void)printf("# %s %s: max abs difference from PyTorch %.3g\n", name, net_backend_name(i),
                     d);
        CHECK(d <= TOLERANCE);
    }
    free(y);
    npy_free(&x);
    npy_free(&want);
    model_close(model);
}

TEST(net_golden_drunet34, "DRUNet-34: every backend within 1e-4 of PyTorch")
{
    check_golden("drunet34_w8");
}

TEST(net_golden_drunet50, "DRUNet-50: every backend within 1e-4 of PyTorch")
{
    check_golden("drunet50_w8");
}

TEST(net_golden_drunet101, "DRUNet-101: every backend within 1e-4 of PyTorch")
{
    check_golden("drunet101_w4");
}

TEST(net_backends_agree_on_random_models, "all four networks, odd widths: cpu equals ref to 1e-4")
{
    static const struct {
        ModelArch arch;
        int32_t width;
    } NETS[] = {{ARCH_DRUNET34, 4},
                {ARCH_DRUNET34, 5},
                {ARCH_DRUNET50, 3},
                {ARCH_DRUNET101, 2},
                {ARCH_UNET, 3}};
    Npy x = random_slices(2, 64, 96, 7);
    float *ref = output(2, 64, 96), *cpu = output(2, 64, 96);
    for (size_t i = 0; i < sizeof NETS / sizeof NETS[0]; i++) {
        Model *model = random_model(NETS[i].arch, NETS[i].width);
        run_net(model, "ref", 1, 2, &x, 2, ref);
        run_net(model, "cpu", 1, 2, &x, 2, cpu);
        double d = max_difference(ref, cpu, 2 * 64 * 96), spread = 0;
        for (size_t p = 0; p < 2 * 64 * 96; p++)
            spread = fmax(spread, fabs((double)ref[p] - (double)ref[0]));
        (void)printf("# %s width %d: max abs difference %.3g, spread %.3g\n",
                     network_name(NETS[i].arch), NETS[i].width, d, spread);
        CHECK(d <= TOLERANCE);
        CHECK(spread > 0.04); /* not a constant picture, which would agree by itself */
        model_close(model);
    }
    npy_free(&x);
    free(ref);
    free(cpu);
}

TEST(net_backends_agree_on_demo_model, "the shipped model at 256 x 256: cpu equals ref to 1e-4")
{
    Err err = {0};
    Model *model;
    CHECK_OK(model_open(DEMO_MODEL, &model, &err), &err);
    Npy x = random_slices(2, 256, 256, 3);
    float *ref = output(2, 256, 256), *cpu = output(2, 256, 256);
    run_net(model, "ref", 1, 0, &x, 2, ref);
    run_net(model, "auto", 1, 0, &x, 2, cpu);
    double d = max_difference(ref, cpu, 2 * 256 * 256);
    (void)printf("# max abs difference %.3g\n", d);
    CHECK(d <= TOLERANCE);
    npy_free(&x);
    free(ref);
    free(cpu);
    model_close(model);
}

/* ---- passes -------------------------------------------------------------------------------- */

/* One slice through a table of the graph's operations on a backend. */
typedef struct OneSlice {
    const float *x;
    float *y;
    size_t n_in, n_out;
} OneSlice;

static void fill_one(void *context, int32_t i, float *ret_x)
{
    const OneSlice *one = context;
    CHECK_INT(i, 0);
    memcpy(ret_x, one->x, one->n_in * sizeof *ret_x);
}

static void take_one(void *context, int32_t i, const float *y)
{
    const OneSlice *one = context;
    CHECK_INT(i, 0);
    memcpy(one->y, y, one->n_out * sizeof *y);
}

static void run_graph(const Backend *backend, const Graph *graph, const Model *model,
                      const float *x, float *ret_y)
{
    OneSlice one = {x, ret_y, (size_t)graph_value_elements(&graph->values[graph->input]),
                    (size_t)graph_value_elements(&graph->values[graph->output])};
    const NetFeed feed = {&one, fill_one, take_one};
    void *state;
    Err err = {0};
    const BackendOptions options = {
        .precision = PRECISION_F32, .threads = 1, .batch = 1, .deadline_s = 60};
    CHECK_OK(backend->open(graph, model, &options, &state, &err), &err);
    CHECK_OK(backend->run(state, 1, &feed, &err), &err);
    backend->close(state);
}

static bool same_table(const Graph *a, const Graph *b)
{
    bool same = a->n_ops == b->n_ops && a->n_values == b->n_values;
    for (int32_t i = 0; same && i < a->n_ops; i++)
        same = a->ops[i].kind == b->ops[i].kind && a->ops[i].folds_up2 == b->ops[i].folds_up2;
    return same;
}

/* Rounding only: 1e-5 of outputs in 0..1, what float32 between operations leaves. */
TEST(net_passes_keep_the_function, "each pass alone, all but it, all: ref and cpu give the same")
{
    enum { H = 64, W = 96 };
    Npy x = random_slices(1, H, W, 21);
    float *want = output(1, H, W), *got = output(1, H, W);
    Graph *graph = malloc(sizeof *graph);
    Err err = {0};
    for (int a = 0; a < 4; a++) {
        Model *model = random_model(ARCHS[a], 3);
        Graph *literal = malloc(sizeof *literal);
        CHECK_OK(network_build(model_info(model), H, W, literal, &err), &err);
        run_graph(&backend_ref, literal, model, x.data, want);
        double largest = 0;
        for (unsigned set = 0; set < 2 * GRAPH_PASS_COUNT + 1; set++) {
            unsigned one = 1u << set / 2;
            unsigned passes = set == 2 * GRAPH_PASS_COUNT ? GRAPH_PASSES_ALL
                              : set % 2 == 0              ? one
                                                          : GRAPH_PASSES_ALL & ~one;
            CHECK_OK(graph_rewrite(literal, passes, graph, &err), &err);
            check_plan(graph);
            for (int b = 0; b < 2; b++) {
                run_graph(b == 0 ? &backend_ref : &backend_dnnl, graph, model, x.data, got);
                double d = max_difference(got, want, H * W);
                largest = fmax(largest, d);
                CHECK(d <= 1e-5);
            }
        }
        for (unsigned p = 0; p < GRAPH_PASS_COUNT; p++) { /* each does something where it can */
            Graph *all = malloc(sizeof *all);
            CHECK_OK(graph_rewrite(literal, GRAPH_PASSES_ALL, all, &err), &err);
            CHECK_OK(graph_rewrite(literal, GRAPH_PASSES_ALL & ~(1u << p), graph, &err), &err);
            bool bottleneck = ARCHS[a] == ARCH_DRUNET50 || ARCHS[a] == ARCH_DRUNET101;
            bool has_none = (p == GRAPH_PASS_FOLD_HEAD && ARCHS[a] == ARCH_UNET) ||
                            (p == GRAPH_PASS_SPLIT_CONCAT && !bottleneck); /* 3x3 there */
            CHECK(same_table(all, graph) == has_none);
            free(all);
        }
        (void)printf("# %s: largest difference %.3g\n", network_name(ARCHS[a]), largest);
        free(literal);
        model_close(model);
    }
    free(graph);
    free(want);
    free(got);
    npy_free(&x);
}

static void check_same_bits(const char *backend, const Model *model, int32_t side)
{
    enum { N = 5 };
    size_t slice = (size_t)side * (size_t)side;
    Npy x = random_slices(N, side, side, 11);
    float *want = output(N, side, side), *got = output(N, side, side);
    for (int32_t i = 0; i < N; i++) { /* each slice alone */
        Npy one = x;
        one.data = x.data + (size_t)i * 3 * slice;
        run_net(model, backend, 1, 1, &one, 1, want + (size_t)i * slice);
        run_net(model, backend, 1, 3, &one, 1, got); /* backend ref shares its convolutions */
        CHECK(memcmp(got, want + (size_t)i * slice, slice * sizeof *got) == 0);
    }
    static const int32_t BATCHES[] = {1, 3, 4, 5}, THREADS[] = {1, 2, 3, 8};
    for (int b = 0; b < 4; b++)
        for (int t = 0; t < 4; t++) {
            memset(got, 0xff, N * slice * sizeof *got);
            run_net(model, backend, BATCHES[b], THREADS[t], &x, N, got);
            CHECK(memcmp(got, want, N * slice * sizeof *got) == 0);
        }
    npy_free(&x);
    free(want);
    free(got);
}

TEST(net_bits_do_not_depend_on_batch_or_threads, "batch 1, 3, 4, 5, threads 1, 2, 3, 8: same bits")
{
    Err err = {0};
    Model *model;
    CHECK_OK(model_open(DEMO_MODEL, &model, &err), &err);
    check_same_bits("cpu", model, 128);
    model_close(model);
    model = random_model(ARCH_DRUNET50, 3);
    check_same_bits("ref", model, 32);
    check_same_bits("cpu", model, 32);
    model_close(model);
}

/* With this network oneDNN left to itself gives other bits on 3 threads than on 1. */
TEST(net_bits_do_not_depend_on_openmp_setting, "the caller's OpenMP setting: no effect, and kept")
{
    void *get = dlsym(RTLD_DEFAULT, "omp_get_max_threads");
    void *set = dlsym(RTLD_DEFAULT, "omp_set_num_threads");
    if (get == NULL || set == NULL)
        SKIP("oneDNN without OpenMP");
    int (*get_threads)(void);
    void (*set_threads)(int);
    memcpy(&get_threads, &get, sizeof get);
    memcpy(&set_threads, &set, sizeof set);
    Model *model = random_model(ARCH_DRUNET34, 32);
    Npy x = random_slices(1, 64, 64, 5);
    float *want = output(1, 64, 64), *got = output(1, 64, 64);
    run_net(model, "cpu", 1, 1, &x, 1, want);
    for (int n = 1; n <= 4; n++) {
        set_threads(n);
        run_net(model, "cpu", 1, 1, &x, 1, got);
        CHECK_INT(get_threads(), n);
        CHECK(memcmp(got, want, 64 * 64 * sizeof *got) == 0);
    }
    npy_free(&x);
    free(want);
    free(got);
    model_close(model);
}

static Status try_open(const Model *model, NetOptions options, Err *err)
{
    Net *net;
    Status status = net_open(model, &options, &net, err);
    if (status == ST_OK)
        net_close(net);
    return status;
}

TEST(net_refuses, "sizes, thread counts, backends and models that do not fit")
{
    Err err = {0};
    Model *model = random_model(ARCH_DRUNET34, 2);
    NetOptions good = {.backend = "cpu", .batch = 1, .height = 32, .width = 64, .threads = 1}, o;
    CHECK_OK(try_open(model, good, &err), &err);
    o = good, o.height = 40;
    CHECK_STATUS(try_open(model, o, &err), ST_LIMIT);
    o = good, o.width = 0;
    CHECK_STATUS(try_open(model, o, &err), ST_LIMIT);
    o = good, o.height = 4096;
    CHECK_STATUS(try_open(model, o, &err), ST_LIMIT);
    o = good, o.batch = 0;
    CHECK_STATUS(try_open(model, o, &err), ST_LIMIT);
    o = good, o.threads = -1;
    CHECK_STATUS(try_open(model, o, &err), ST_LIMIT);
    o = good, o.backend = "abacus";
    CHECK_STATUS(try_open(model, o, &err), ST_BACKEND);
    model_close(model);

    char path[PATH_SIZE];
    CHECK_OK(path_format(path, &err, "%s/less.safetensors", test_dir()), &err);
    model_file_write_random_without(path, ARCH_DRUNET34, 2, "up2.1.bn1.running_var");
    CHECK_OK(model_open(path, &model, &err), &err);
    CHECK_STATUS(try_open(model, good, &err), ST_MODEL_FORMAT);
    CHECK_STR(err.msg, "tensor up2.1.bn1.running_var (4) is missing");
    model_close(model);
    model_file_write_random_as(path, ARCH_DRUNET34, 2, 3); /* says width 3 */
    CHECK_OK(model_open(path, &model, &err), &err);
    CHECK_STATUS(try_open(model, good, &err), ST_MODEL_FORMAT);
    CHECK_STR(err.msg, "tensor conv1.weight has another shape than (3,3,7,7)");
    model_close(model);
}

TEST(net_runs_no_slices, "n = 0 is fine and touches nothing")
{
    Err err = {0};
    Model *model = random_model(ARCH_DRUNET34, 2);
    NetOptions options = {.backend = "cpu", .batch = 4, .height = 32, .width = 32, .threads = 2};
    Net *net;
    CHECK_OK(net_open(model, &options, &net, &err), &err);
    CHECK_OK(net_run(net, NULL, 0, NULL, &err), &err);
    net_close(net);
    net_close(NULL);
    model_close(model);
}

/* ---- the commands -------------------------------------------------------------------------- */

TEST(net_command_infer_writes_what_the_net_gives, "ct2mr infer: same bits as net_run; exit codes")
{
    char model_path[PATH_SIZE], in[PATH_SIZE], out[PATH_SIZE];
    Err err = {0};
    CHECK_OK(path_format(model_path, &err, "%s/random.safetensors", test_dir()), &err);
    CHECK_OK(path_format(in, &err, "%s/x.npy", test_dir()), &err);
    CHECK_OK(path_format(out, &err, "%s/y.npy", test_dir()), &err);
    Model *model = random_model(ARCH_DRUNET50, 2);
    Npy x = random_slices(3, 32, 64, 9), y;
    float *want = output(3, 32, 64);
    run_net(model, "cpu", 1, 1, &x, 3, want);
    CHECK_OK(npy_write(in, &x, &err), &err);
    char *good[] = {"infer",  "--model", model_path, "--in",      in,  "--out", out,
                    "--json", "--batch", "2",        "--threads", "2", NULL};
    CHECK_INT(cli_infer(12, good), CLI_OK);
    CHECK_OK(npy_read(out, &y, &err), &err);
    CHECK(y.n_dims == 4 && y.dims[0] == 3 && y.dims[1] == 1 && y.dims[2] == 32 && y.dims[3] == 64);
    CHECK(memcmp(y.data, want, 3 * 32 * 64 * sizeof *want) == 0);
    good[9] = "0"; /* batch */
    CHECK_INT(cli_infer(12, good), CLI_USAGE);
    CHECK_INT(cli_infer(5, good), CLI_USAGE); /* no --out */
    good[9] = "2";
    good[6] = in; /* what is read is not written */
    CHECK_INT(cli_infer(12, good), CLI_USAGE);
    good[6] = model_path;
    CHECK_INT(cli_infer(12, good), CLI_USAGE);
    good[6] = out;
    x.dims[1] = 1;
    x.dims[0] = 9; /* one channel: not an input */
    CHECK_OK(npy_write(in, &x, &err), &err);
    CHECK_INT(cli_infer(12, good), CLI_NEGATIVE);
    char *verify[] = {"model", "--json", "verify", model_path, NULL};
    CHECK_INT(cli_model(4, verify), CLI_OK);
    model_file_write_random_without(model_path, ARCH_DRUNET50, 2, "layer1.0.bn1.bias");
    CHECK_INT(cli_model(4, verify), CLI_NEGATIVE);
    verify[2] = "show"; /* the metadata is good */
    CHECK_INT(cli_model(4, verify), CLI_OK);
    verify[2] = "burn";
    CHECK_INT(cli_model(4, verify), CLI_USAGE);
    npy_free(&x);
    npy_free(&y);
    free(want);
    model_close(model);
}
