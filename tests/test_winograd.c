/* gpu/: Winograd convolutions of the CPU backend. Claims: each way gives the direct way's numbers
** (relative RMS under 1e-4 is the contract; what is measured is printed), with and without a
** residual; layouts are converted only where they must; the choice depends on shapes and the limit
** alone, and the bits not on threads. */
#include "tests/test.h"

#include "gpu/dnnl_int.h"
#include "gpu/graph_passes.h"
#include "gpu/net.h"
#include "gpu/network.h"
#include "tests/random_model.h"

#include <dlfcn.h>

enum { SIDE = 64, PIXELS = SIDE * SIDE, N = 3 };
#define MOST_RMS 1e-4

static float *slices(void)
{
    uint64_t seed = 5;
    float *x = malloc((size_t)N * 3 * PIXELS * sizeof *x);
    CHECK(x != NULL);
    for (size_t i = 0; i < (size_t)N * 3 * PIXELS; i++)
        x[i] = (float)(4 * model_file_random(&seed) - 2);
    return x;
}

static double relative_rms(const float *want, const float *got, size_t n)
{
    double mean = 0, difference = 0, square = 0;
    for (size_t i = 0; i < n; i++)
        mean += (double)want[i] / (double)n;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        square += ((double)want[i] - mean) * ((double)want[i] - mean);
    }
    return sqrt(difference / square);
}

/* ---- each way, by force -------------------------------------------------------------------- */

/* Every convolution of the graph that could go the way goes it. */
static void force_way(const Graph *graph, WinogradWay way, WinogradChoice *ret)
{
    *ret = (WinogradChoice){0};
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        const Value *in = &graph->values[op->input], *out = &graph->values[op->output];
        if (op->kind != OP_CONV || op->kernel != 3 || op->stride != 1 || in->c % 16 != 0 ||
            out->c % 16 != 0)
            continue;
        const WinogradShape shape = {in->c, out->c, in->h, in->w, op->second >= 0, op->relu, way};
        int32_t k = 0;
        while (k < ret->n_shapes && memcmp(&ret->shapes[k], &shape, sizeof shape) != 0)
            k++;
        if (k == ret->n_shapes) {
            CHECK(ret->n_shapes < WINOGRAD_MAX_SHAPES);
            ret->shapes[ret->n_shapes++] = shape;
        }
    }
}

/* Takes out the shapes that oneDNN does not compute that way here: it depends on the caches. */
static int32_t keep_offered(const Graph *graph, const Model *model, WinogradChoice *choice)
{
    const BackendOptions options = {.precision = PRECISION_F32, .threads = 1, .batch = 1};
    int32_t n = 0;
    for (int32_t k = 0; k < choice->n_shapes; k++) {
        const WinogradChoice one = {.n_shapes = 1, .shapes = {choice->shapes[k]}};
        Err err = {0};
        Dnnl *d;
        Status status = dnnl_open_with(graph, model, &options, &one, &d, &err);
        if (status == ST_OK) {
            dnnl_close(d);
            choice->shapes[n++] = choice->shapes[k];
        } else if (status != ST_BACKEND || err.native != dnnl_unimplemented)
            CHECK_OK(status, &err);
    }
    (void)printf("# %d of %d shapes are not offered here\n", choice->n_shapes - n,
                 choice->n_shapes);
    return choice->n_shapes = n;
}

static void run_way(const Graph *graph, const Model *model, const WinogradChoice *choice,
                    const float *x, float *ret_y)
{
    const BackendOptions options = {.precision = PRECISION_F32, .threads = 2, .batch = 1};
    NetMemory memory = {x, ret_y, 3 * (size_t)PIXELS, PIXELS};
    const NetFeed feed = net_feed_memory(&memory);
    Err err = {0};
    Dnnl *d;
    CHECK_OK(dnnl_open_with(graph, model, &options, choice, &d, &err), &err);
    CHECK_OK(backend_dnnl.run(d, N, &feed, &err), &err);
    dnnl_close(d);
}

static void check_ways(ModelArch arch)
{
    Err err = {0};
    Model *model = random_model(arch, 16);
    Graph *literal = malloc(sizeof *literal), *graph = malloc(sizeof *graph);
    float *x = slices(), *want = calloc(N * PIXELS, sizeof *want);
    float *got = calloc(N * PIXELS, sizeof *got);
    CHECK(literal != NULL && graph != NULL && want != NULL && got != NULL);
    CHECK_OK(network_build(model_info(model), SIDE, SIDE, literal, &err), &err);
    CHECK_OK(graph_rewrite(literal, GRAPH_PASSES_ALL, graph, &err), &err);
    run_way(graph, model, &(WinogradChoice){0}, x, want);
    for (int way = WAY_WINOGRAD_2; way < WAY_COUNT; way++) {
        WinogradChoice choice;
        force_way(graph, (WinogradWay)way, &choice);
        int32_t n = keep_offered(graph, model, &choice);
        CHECK(n >= 4);
        run_way(graph, model, &choice, x, got);
        CHECK(memcmp(got, want, N * PIXELS * sizeof *got) != 0); /* it was another way */
        double rms = relative_rms(want, got, (size_t)N * PIXELS);
        (void)printf("# %s, way %d: %d shapes, relative RMS %.3g\n", network_name(arch), way, n,
                     rms);
        CHECK(rms < MOST_RMS);
    }
    free(literal);
    free(graph);
    free(x);
    free(want);
    free(got);
    model_close(model);
}

static void skip_unless_offered(void)
{
    if ((dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core) != dnnl_cpu_isa_avx512_core)
        SKIP("oneDNN has Winograd convolutions only for processors with AVX-512");
}

TEST(winograd_equals_direct, "both tile sizes, with residuals (34) and without (50), the U-Net")
{
    skip_unless_offered();
    check_ways(ARCH_DRUNET34);
    check_ways(ARCH_DRUNET50);
    check_ways(ARCH_UNET);
}

/* ---- layouts ------------------------------------------------------------------------------- */

static int32_t add_conv(Graph *g, int32_t input, int32_t second, int32_t c)
{
    const Op op = {
        .kind = OP_CONV, .name = "c", .kernel = 3, .stride = 1, .input = input, .second = second};
    return graph_add_op(g, op, c, 8, 8);
}

TEST(winograd_layouts, "conversions once per value, none between two that are blocked")
{
    Graph *from = calloc(1, sizeof *from), *to = malloc(sizeof *to);
    bool blocked[GRAPH_MAX_OPS + 1] = {false};
    CHECK(from != NULL && to != NULL);
    int32_t a = from->input = graph_add_value(from, 16, 8, 8);
    int32_t b = add_conv(from, a, -1, 16); /* blocked: a is converted */
    int32_t c = add_conv(from, b, -1, 16); /* blocked: nothing in between */
    int32_t d = add_conv(from, c, -1, 32); /* direct: c is converted */
    int32_t e = add_conv(from, b, a, 16);  /* blocked, with a residual that is there already */
    from->output = add_conv(from, e, -1, 32);
    (void)d;
    const WinogradChoice choice = {
        2,
        {{16, 16, 8, 8, false, false, WAY_WINOGRAD_2}, {16, 16, 8, 8, true, false, WAY_WINOGRAD_4}},
        ""};
    OpForms forms = {0};
    for (int32_t i = 0; i < from->n_ops; i++)
        forms.in[i] = forms.out[i] = winograd_way(&choice, from, &from->ops[i]) != WAY_DIRECT;
    dnnl_insert_conversions(from, &forms, to, blocked);
    static const OpKind KINDS[] = {OP_CONVERT, OP_CONV, OP_CONV,    OP_CONVERT,
                                   OP_CONV,    OP_CONV, OP_CONVERT, OP_CONV};
    static const bool BLOCKED[] = {true, true, true, false, false, true, false, false};
    CHECK_INT(to->n_ops, 8);
    for (int i = 0; i < 8; i++) {
        CHECK_INT(to->ops[i].kind, KINDS[i]);
        CHECK_INT(blocked[to->ops[i].output], BLOCKED[i]);
    }
    CHECK_INT(to->ops[5].second, to->ops[0].output);
    CHECK_INT(to->output, to->ops[7].output);
    free(from);
    free(to);
}

/* ---- the choice ---------------------------------------------------------------------------- */

static void run_net(const Model *model, int32_t mib, int32_t threads, const float *x, float *ret_y,
                    char ret_choices[32])
{
    const NetOptions options = {.backend = "cpu",
                                .batch = 1,
                                .height = SIDE,
                                .width = SIDE,
                                .threads = threads,
                                .precision = "f32",
                                .winograd_mib = mib};
    Err err = {0};
    Net *net;
    CHECK_OK(net_open(model, &options, &net, &err), &err);
    (void)snprintf(ret_choices, 32, "%s", net_signature(net));
    CHECK_OK(net_run(net, x, N, ret_y, &err), &err);
    net_close(net);
}

TEST(winograd_choice_is_the_shapes, "the same every time, whatever threads; more memory, more ways")
{
    skip_unless_offered();
    char first[32], again[32], none[32], less[32];
    size_t bytes = (size_t)N * PIXELS * sizeof(float);
    Model *model = random_model(ARCH_DRUNET50, 32);
    float *x = slices(), *a = malloc(bytes), *b = malloc(bytes);
    CHECK(a != NULL && b != NULL);
    run_net(model, 256, 1, x, a, first);
    CHECK(strncmp(first, "winograd=", 9) == 0);
    for (int32_t threads = 1; threads <= 3; threads++) {
        run_net(model, 256, threads, x, b, again);
        CHECK_STR(again, first);
        CHECK(memcmp(a, b, bytes) == 0);
    }
    run_net(model, 0, 1, x, b, none);
    CHECK_STR(none, "");
    CHECK(memcmp(a, b, bytes) != 0);
    CHECK(relative_rms(b, a, (size_t)N * PIXELS) < MOST_RMS);
    run_net(model, 1, 1, x, b, less);
    (void)printf("# 256 MiB: %s, 1 MiB: %s\n", first, less);
    CHECK(strcmp(less, first) != 0); /* not all of it fits */
    free(x);
    free(a);
    free(b);
    model_close(model);
}

/* A network of one convolution. */
static void one_conv(int32_t c_in, int32_t c_out, int32_t side, Graph *ret)
{
    Op op = {.kind = OP_CONV, .name = "c", .kernel = 3, .stride = 1, .second = -1};
    *ret = (Graph){0};
    op.input = ret->input = graph_add_value(ret, c_in, side, side);
    ret->output = graph_add_op(ret, op, c_out, side, side);
    graph_plan(ret);
}

/* Of 16 -> 32 channels tiles of 4 take 0.88 of the direct way's time, by the estimate; at 30 x 30,
** where tiles reach beyond the edge, 0.94. */
TEST(winograd_must_save_a_tenth, "0.88 of the direct way's time is taken, 0.94 is not")
{
    skip_unless_offered();
    Graph *graph = calloc(1, sizeof *graph);
    WinogradChoice choice;
    Err err = {0};
    for (int32_t side = 30; side <= 32; side += 2) {
        bool has;
        size_t weights_bytes, scratch_bytes;
        DnnlTeam team;
        one_conv(16, 32, side, graph);
        const WinogradChoice tiles_of_4 = {
            1, {{16, 32, side, side, false, false, WAY_WINOGRAD_4}}, ""};
        CHECK_OK(dnnl_team_find(1, &team, &err), &err); /* asked as winograd_choose() does */
        int before = dnnl_team_enter(&team);
        Status status =
            dnnl_weigh_conv(graph, &tiles_of_4, &has, &weights_bytes, &scratch_bytes, &err);
        dnnl_team_leave(&team, before);
        CHECK_OK(status, &err);
        if (!has)
            SKIP("oneDNN does not offer the way for this shape here");
        CHECK_OK(winograd_choose(graph, 256, &choice, &err), &err);
        CHECK_INT(winograd_way(&choice, graph, &graph->ops[0]),
                  side == 32 ? WAY_WINOGRAD_4 : WAY_DIRECT);
    }
    free(graph);
}

/* oneDNN offers other ways to more threads; one that one thread does not have cannot be made. */
TEST(winograd_choice_without_openmp, "the caller's OpenMP setting: no effect on choice and bits")
{
    skip_unless_offered();
    void *set = dlsym(RTLD_DEFAULT, "omp_set_num_threads");
    void (*set_threads)(int);
    if (set == NULL)
        SKIP("oneDNN without OpenMP");
    memcpy(&set_threads, &set, sizeof set);
    static const int THREADS[] = {1, 2, 8, 32};
    char first[32] = "", again[32];
    size_t bytes = (size_t)N * PIXELS * sizeof(float);
    Model *model = random_model(ARCH_DRUNET34, 32);
    float *x = slices(), *a = malloc(bytes), *b = malloc(bytes);
    CHECK(a != NULL && b != NULL);
    for (int k = 0; k < 4; k++) {
        const NetOptions large = {.backend = "cpu",
                                  .batch = 1,
                                  .height = 256,
                                  .width = 256,
                                  .threads = 1,
                                  .precision = "f32",
                                  .winograd_mib = NET_WINOGRAD_MIB};
        Err err = {0};
        Net *net;
        set_threads(THREADS[k]);
        run_net(model, NET_WINOGRAD_MIB, 1, x, k == 0 ? a : b, k == 0 ? first : again);
        if (k > 0) {
            CHECK_STR(again, first);
            CHECK(memcmp(a, b, bytes) == 0);
        }
        CHECK_OK(net_open(model, &large, &net, &err), &err);
        net_close(net);
    }
    (void)printf("# %s\n", first);
    free(x);
    free(a);
    free(b);
    model_close(model);
}
