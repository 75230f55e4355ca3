/* The CPU training engine against the reference engine. Float32 gradients are compared on networks
** whose ReLUs are all decided by a wide margin: at a kink two right engines may part. */
#include "gpu/train_steps.h"
#include "tests/model_file.h"
#include "tests/test.h"
#include "tests/train_fixture.h"

#include <stdlib.h>

static const ModelArch ARCHS[] = {ARCH_UNET, ARCH_DRUNET34, ARCH_DRUNET50, ARCH_DRUNET101};

typedef struct Step { /* what a step gives; malloc'ed */
    float *y, *dx;
    size_t n_in, n_out;
} Step;

static Step run_step(TrainCase *c, int32_t n, bool wants_dx)
{
    Err err = {0};
    const float *y;
    Step s = {.n_in = (size_t)n * c->n_in, .n_out = (size_t)n * c->n_out};
    float *x = train_random(s.n_in, 11), *dy = train_random(s.n_out, 12);
    s.y = malloc(s.n_out * sizeof *s.y);
    s.dx = calloc(s.n_in, sizeof *s.dx);
    CHECK(s.y != NULL && s.dx != NULL);
    CHECK_OK(train_net_forward(c->net, x, n, true, &y, &err), &err);
    memcpy(s.y, y, s.n_out * sizeof *y);
    CHECK_OK(train_net_backward(c->net, dy, wants_dx ? s.dx : NULL, &err), &err);
    free(x);
    free(dy);
    return s;
}

static void free_step(Step *s)
{
    free(s->y);
    free(s->dx);
}

static double norm_of(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

/* |a - b| of one parameter's gradient, or its value if it has none. */
static double distance(const TrainParameter *a, const TrainParameter *b)
{
    const float *x = a->gradient != NULL ? a->gradient : a->value;
    const float *y = b->gradient != NULL ? b->gradient : b->value;
    double sum = 0;
    for (int64_t i = 0; i < a->n; i++)
        sum += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
    return isnan(sum) ? HUGE_VAL : sqrt(sum);
}

static double gradient_norm(TrainNet *net)
{
    int32_t n;
    double squares = 0;
    const TrainParameter *p = train_net_parameters(net, &n);
    for (int32_t i = 0; i < n; i++)
        if (p[i].gradient != NULL)
            squares += pow(norm_of(p[i].gradient, (size_t)p[i].n), 2);
    return sqrt(squares);
}

/* Each gradient to `tolerance` of its norm, or `floor` of the norm of all together: a shift before
** a convolution and batch norm has no gradient but rounding. */
static void check_parameters(TrainCase *got, TrainCase *want, double tolerance, double floor)
{
    int32_t n;
    const TrainParameter *a = train_net_parameters(got->net, &n);
    const TrainParameter *b = train_net_parameters(want->net, &n);
    double least = floor * gradient_norm(want->net);
    for (int32_t i = 0; i < n; i++) {
        const float *numbers = b[i].gradient != NULL ? b[i].gradient : b[i].value;
        double d = distance(&a[i], &b[i]), limit = tolerance * norm_of(numbers, (size_t)b[i].n);
        if (!(d <= fmax(limit, least)))
            test_fail(__FILE__, __LINE__, "%s: off by %g, allowed %g or %g", b[i].name, d, limit,
                      least);
    }
}

/* A step of n slices in a net of `batch` by cpu and by ref, both with decided gates. */
static void compare(ModelArch arch, const TrainOptions *options, int32_t n, double tolerance,
                    double floor)
{
    TrainOptions ref = *options;
    ref.backend = "ref";
    ref.precision = PRECISION_F32;
    TrainCase want = train_open(arch, 4, 64, 96, &ref), got = train_open(arch, 4, 64, 96, options);
    train_load_random(want.net, arch, 4);
    train_load_random(got.net, arch, 4);
    float margin =
        options->precision == PRECISION_BF16 ? 2 : 8; /* 8 +- 1 has 5 bits left in bf16 */
    train_decide_gates(want.net, margin);
    train_decide_gates(got.net, margin);
    for (int round = 0; round < 2; round++) { /* the second in memory that the first has used */
        Step a = run_step(&got, n, round == 0), b = run_step(&want, n, round == 0);
        CHECK_NEAR(train_distance(a.y, b.y, a.n_out), 0, tolerance);
        CHECK_NEAR(train_distance(a.dx, b.dx, a.n_in), 0, tolerance);
        CHECK(round == 1 || norm_of(b.dx, b.n_in) > 0);
        check_parameters(&got, &want, tolerance, floor);
        free_step(&a);
        free_step(&b);
    }
    train_close(&got);
    train_close(&want);
}

TEST_TIMEOUT(train_cpu_agrees,
             "output, gradients, dx and statistics of all four architectures by "
             "cpu are ref's to 1e-4, with a full batch and with a part of one",
             300)
{
    const TrainOptions options = {.backend = "cpu", .batch = 3, .threads = 2};
    for (int i = 0; i < 4; i++) {
        compare(ARCHS[i], &options, 3, 1e-4, 1e-6);
        compare(ARCHS[i], &options, 2, 1e-4, 1e-6);
    }
}

TEST_TIMEOUT(train_cpu_frozen, "a frozen network by cpu: y and dx are ref's to 1e-4", 120)
{
    for (int i = 0; i < 4; i++) {
        const TrainOptions cpu = {.backend = "cpu", .batch = 2, .threads = 2, .frozen = true};
        TrainOptions ref = cpu;
        ref.backend = "ref";
        TrainCase a = train_open(ARCHS[i], 4, 64, 32, &cpu);
        TrainCase b = train_open(ARCHS[i], 4, 64, 32, &ref);
        train_load_random(a.net, ARCHS[i], 4);
        train_load_random(b.net, ARCHS[i], 4);
        train_decide_gates(a.net, 8);
        train_decide_gates(b.net, 8);
        Step got = run_step(&a, 2, true), want = run_step(&b, 2, true);
        CHECK_NEAR(train_distance(got.y, want.y, got.n_out), 0, 1e-4);
        CHECK_NEAR(train_distance(got.dx, want.dx, got.n_in), 0, 1e-4);
        check_parameters(&a, &b, 0, 0);
        free_step(&got);
        free_step(&want);
        train_close(&a);
        train_close(&b);
    }
}

/* Convolutions with bias, ReLU without batch norm, a sum without either, several output channels,
** a value that three operations read: what feature networks have and DRUNet has not. */
static Graph *odd_graph(void)
{
    Graph *graph = calloc(1, sizeof *graph);
    CHECK(graph != NULL);
    graph->input = graph_add_value(graph, 3, 16, 24);
    NetworkConv conv = {"", "a", NULL, 6, 3, 1, true};
    int32_t a = network_conv(graph, graph->input, &conv);
    conv = (NetworkConv){"", "b", NULL, 6, 3, 1, false};
    int32_t b = network_conv(graph, a, &conv);
    int32_t sum = network_op(graph, OP_ADD, "add", a, b);
    int32_t x = network_op(graph, OP_CONCAT, "side", sum, a);
    x = network_maxpool(graph, x, 2);
    x = network_op(graph, OP_UP2, "up", x, -1);
    conv = (NetworkConv){"", "c", NULL, 5, 5, 2, false};
    graph->output = network_conv(graph, x, &conv);
    graph_plan(graph);
    return graph;
}

/* A step of n slices by cpu (a) gives what ref (b) gives. */
static void check_step(TrainCase *a, TrainCase *b, int32_t n)
{
    Step got = run_step(a, n, true), want = run_step(b, n, true);
    CHECK_NEAR(train_distance(got.y, want.y, got.n_out), 0, 1e-4);
    CHECK_NEAR(train_distance(got.dx, want.dx, got.n_in), 0, 1e-4);
    check_parameters(a, b, 1e-4, 0);
    free_step(&got);
    free_step(&want);
}

TEST(train_cpu_odd_operations,
     "bias, ReLU, sums and pools without batch norm, five output channels: "
     "cpu gives what ref gives to 1e-4")
{
    const TrainOptions cpu = {.backend = "cpu", .batch = 2, .threads = 2};
    TrainOptions ref = cpu;
    ref.backend = "ref";
    TrainCase a = train_open_graph(odd_graph(), &cpu), b = train_open_graph(odd_graph(), &ref);
    Err err = {0};
    int32_t n;
    TrainParameter *p = train_net_parameters(a.net, &n), *q = train_net_parameters(b.net, &n);
    uint64_t seed = 5;
    for (int32_t i = 0; i < n; i++)
        for (int64_t k = 0; k < p[i].n; k++) /* a's ReLU is decided by its bias */
            p[i].value[k] = q[i].value[k] =
                (float)(strcmp(p[i].name, "a.bias") == 0 ? (k % 2 == 0 ? 40 : -40)
                                                         : model_file_random(&seed) - 0.5);
    CHECK_OK(train_net_changed(a.net, &err), &err);
    CHECK_OK(train_net_changed(b.net, &err), &err);
    check_step(&a, &b, 2);
    train_close(&a);
    train_close(&b);
}

/* One strided 1x1 convolution, as where a stage's shortcut goes down. */
static Graph *shortcut_graph(int32_t c_in, int32_t side)
{
    Graph *graph = calloc(1, sizeof *graph);
    CHECK(graph != NULL);
    graph->input = graph_add_value(graph, c_in, side, side);
    const NetworkConv conv = {"", "a", NULL, 16, 1, 2, true};
    graph->output = network_conv(graph, graph->input, &conv);
    graph_plan(graph);
    return graph;
}

static void check_shortcut(int32_t c_in, int32_t side, int32_t batch, int32_t threads)
{
    const TrainOptions cpu = {.backend = "cpu", .batch = batch, .threads = threads};
    const TrainOptions ref = {.backend = "ref", .batch = batch, .threads = 1};
    TrainCase a = train_open_graph(shortcut_graph(c_in, side), &cpu);
    TrainCase b = train_open_graph(shortcut_graph(c_in, side), &ref);
    Err err = {0};
    int32_t n;
    TrainParameter *p = train_net_parameters(a.net, &n), *q = train_net_parameters(b.net, &n);
    uint64_t seed = 5;
    for (int32_t i = 0; i < n; i++)
        for (int64_t k = 0; k < p[i].n; k++)
            p[i].value[k] = q[i].value[k] = (float)(model_file_random(&seed) - 0.5);
    CHECK_OK(train_net_changed(a.net, &err), &err);
    CHECK_OK(train_net_changed(b.net, &err), &err);
    for (int round = 0; round < 2; round++)
        check_step(&a, &b, batch);
    train_close(&a);
    train_close(&b);
}

TEST(train_cpu_strided_shortcuts,
     "1x1 convolutions of stride 2 with few channels: any size, batch, number of threads")
{
    static const int32_t CHANNELS[] = {4, 8, 12, 15, 16, 20}, SIDES[] = {16, 32, 40, 64},
                         BATCHES[] = {1, 2, 5}, THREADS[] = {1, 2, 3, 8};
    for (int c = 0; c < 6; c++)
        for (int s = 0; s < 4; s++)
            for (int b = 0; b < 3; b++)
                for (int t = 0; t < 4; t++)
                    check_shortcut(CHANNELS[c], SIDES[s], BATCHES[b], THREADS[t]);
}

TEST(train_cpu_bits, "two steps of DRUNet-34 on 2 threads, from two nets, have the same bits")
{
    const TrainOptions options = {.backend = "cpu", .batch = 2, .threads = 2};
    TrainCase a = train_open(ARCH_DRUNET34, 8, 64, 64, &options);
    TrainCase b = train_open(ARCH_DRUNET34, 8, 64, 64, &options);
    train_load_random(a.net, ARCH_DRUNET34, 8);
    train_load_random(b.net, ARCH_DRUNET34, 8);
    for (int round = 0; round < 2; round++) {
        Step x = run_step(&a, 2, false), y = run_step(&b, 2, false);
        CHECK(memcmp(x.y, y.y, x.n_out * sizeof *x.y) == 0);
        check_parameters(&a, &b, 0, 0);
        free_step(&x);
        free_step(&y);
    }
    train_close(&a);
    train_close(&b);
}

/* ---- bf16 ---------------------------------------------------------------------------------- */

/* Each kind of operation that does not choose, once or twice: max pool takes another pixel where
** two are equal but for the last bits of float32. */
static Graph *short_graph(void)
{
    Graph *graph = calloc(1, sizeof *graph);
    CHECK(graph != NULL);
    graph->input = graph_add_value(graph, 3, 64, 64);
    NetworkConv conv = {"a", "conv", "bn", 16, 7, 2, true};
    int32_t skip = network_conv(graph, graph->input, &conv);
    conv = (NetworkConv){"s", "conv", "bn", 16, 3, 2, true};
    int32_t x = network_conv(graph, skip, &conv), y;
    conv = (NetworkConv){"b", "conv", "bn", 16, 3, 1, true};
    y = network_conv(graph, x, &conv);
    conv = (NetworkConv){"c", "conv", "bn", 16, 3, 1, false};
    y = network_op(graph, OP_ADD, "add", network_conv(graph, y, &conv), x);
    x = network_op(graph, OP_UP2, "up", network_op(graph, OP_RELU, "relu", y, -1), -1);
    conv = (NetworkConv){"d", "conv", "bn", 16, 1, 1, true};
    x = network_op(graph, OP_CONCAT, "skip", network_conv(graph, x, &conv), skip);
    x = network_op(graph, OP_UP2, "up", x, -1);
    conv = (NetworkConv){"", "head", NULL, 1, 7, 1, false};
    graph->output = network_conv(graph, x, &conv);
    graph_plan(graph);
    return graph;
}

static bool has_bf16(void)
{
    const TrainOptions options = {
        .backend = "cpu", .precision = PRECISION_BF16, .batch = 1, .threads = 1};
    Graph *graph = short_graph();
    TrainNet *net = NULL;
    Err err = {0};
    Status status = train_net_open(graph, &options, &net, &err);
    CHECK(status == ST_OK || status == ST_BACKEND);
    train_net_close(net);
    free(graph);
    return status == ST_OK;
}

static void set_random(TrainNet *net)
{
    int32_t n;
    uint64_t seed = 9;
    TrainParameter *p = train_net_parameters(net, &n);
    for (int32_t i = 0; i < n; i++)
        for (int64_t k = 0; p[i].gradient != NULL && k < p[i].n; k++)
            p[i].value[k] = (float)(p[i].n_dims == 1 && strstr(p[i].name, "weight") != NULL
                                        ? 0.5 + model_file_random(&seed)
                                        : model_file_random(&seed) - 0.5);
    train_decide_gates(net, 4);
}

TEST(train_cpu_bf16_operations, "a short network in bf16: output is ref's to "
                                "2 %, each gradient and dx to 4 %")
{
    if (!has_bf16())
        SKIP("no bf16 on this processor");
    const TrainOptions bf16 = {
        .backend = "cpu", .precision = PRECISION_BF16, .batch = 3, .threads = 2};
    const TrainOptions ref = {.backend = "ref", .batch = 3};
    TrainCase a = train_open_graph(short_graph(), &bf16);
    TrainCase b = train_open_graph(short_graph(), &ref);
    set_random(a.net);
    set_random(b.net);
    Step got = run_step(&a, 3, true), want = run_step(&b, 3, true);
    CHECK_NEAR(train_distance(got.y, want.y, got.n_out), 0, 0.02);
    CHECK_NEAR(train_distance(got.dx, want.dx, got.n_in), 0, 0.04);
    check_parameters(&a, &b, 0.04, 1e-3);
    free_step(&got);
    free_step(&want);
    train_close(&a);
    train_close(&b);
}

/* The smallest cosine of the angle between a's and b's gradients of a convolution. */
static double least_agreement(TrainCase *a, TrainCase *b)
{
    int32_t n;
    double least = 1;
    const TrainParameter *p = train_net_parameters(a->net, &n);
    const TrainParameter *q = train_net_parameters(b->net, &n);
    for (int32_t i = 0; i < n; i++) {
        double product = 0;
        for (int64_t k = 0; p[i].n_dims == 4 && k < p[i].n; k++)
            product += (double)p[i].gradient[k] * (double)q[i].gradient[k];
        if (p[i].n_dims == 4)
            least = fmin(least, product / (norm_of(p[i].gradient, (size_t)p[i].n) *
                                           norm_of(q[i].gradient, (size_t)p[i].n)));
    }
    return least;
}

TEST_TIMEOUT(train_cpu_bf16,
             "all four architectures in bf16: output is ref's to 3 %, the gradient "
             "of all parameters points the same way (cosine at least 0.9)",
             300)
{
    if (!has_bf16())
        SKIP("no bf16 on this processor");
    for (int i = 0; i < 4; i++) {
        const TrainOptions bf16 = {
            .backend = "cpu", .precision = PRECISION_BF16, .batch = 3, .threads = 2};
        const TrainOptions ref = {.backend = "ref", .batch = 3};
        TrainCase a = train_open(ARCHS[i], 4, 64, 96, &bf16);
        TrainCase b = train_open(ARCHS[i], 4, 64, 96, &ref);
        train_load_random(a.net, ARCHS[i], 4);
        train_load_random(b.net, ARCHS[i], 4);
        train_decide_gates(a.net, 8);
        train_decide_gates(b.net, 8);
        Step got = run_step(&a, 3, false), want = run_step(&b, 3, false);
        CHECK_NEAR(train_distance(got.y, want.y, got.n_out), 0, 0.03);
        CHECK(least_agreement(&a, &b) >= (ARCHS[i] == ARCH_DRUNET101 ? 0.7 : 0.9));
        free_step(&got);
        free_step(&want);
        train_close(&a);
        train_close(&b);
    }
}

/* ---- steps --------------------------------------------------------------------------------- */

static int count_steps(const TrainSteps *s, StepKind kind)
{
    int n = 0;
    for (int32_t i = 0; i < s->n_steps; i++)
        n += s->steps[i].kind == kind;
    return n;
}

TEST(train_steps_are_few, "every norm of DRUNet takes its ReLU and sum, no 1x1 convolution reads a "
                          "doubled value, the head is taps at half the size")
{
    Graph *graph = malloc(sizeof *graph);
    TrainSteps *s = malloc(sizeof *s);
    Err err = {0};
    CHECK(graph != NULL && s != NULL);
    for (int a = 1; a < 4; a++) {
        const ModelInfo info = {.arch = ARCHS[a], .width = 4};
        CHECK_OK(network_build(&info, 64, 64, graph, &err), &err);
        CHECK_OK(train_lower(graph, s, &err), &err);
        CHECK_OK(train_plan(3, 4, false, s, &err), &err);
        int n_norms = 0;
        for (int32_t i = 0; i < graph->n_ops; i++)
            n_norms += graph->ops[i].kind == OP_NORM;
        CHECK_INT(count_steps(s, STEP_NORM), n_norms);
        CHECK_INT(count_steps(s, STEP_CONV), n_norms + 1);
        CHECK_INT(count_steps(s, STEP_POINT), 0);
        CHECK_INT(count_steps(s, STEP_POOL), 1);
        CHECK_INT(count_steps(s, STEP_CONCAT), 3);
        /* a basic up-block keeps the doubling before its 3x3, a bottleneck's goes to the
        ** concatenation; the last one's is left, behind the head's convolution */
        CHECK_INT(count_steps(s, STEP_UP2), ARCHS[a] == ARCH_DRUNET34 ? 4 : 1);
        const TrainStep *last = &s->steps[s->n_steps - 1];
        CHECK_INT(last->kind, STEP_TAPS);
        CHECK(last->doubles && s->values[last->input].h == 32);
        for (int32_t i = 0; i < s->n_steps; i++)
            CHECK(s->steps[i].input < s->n_values && s->steps[i].d_input >= 0);
    }
    free(graph);
    free(s);
}

TEST(train_pieces_lie_apart, "values and gradients that are needed at the same time never share "
                             "memory; all of them together would take twice as much")
{
    Graph *graph = malloc(sizeof *graph);
    TrainSteps *s = malloc(sizeof *s);
    Err err = {0};
    CHECK(graph != NULL && s != NULL);
    for (int a = 0; a < 4; a++) {
        const ModelInfo info = {.arch = ARCHS[a], .width = 4};
        int64_t total = 0;
        CHECK_OK(network_build(&info, 64, 64, graph, &err), &err);
        CHECK_OK(train_lower(graph, s, &err), &err);
        CHECK_OK(train_plan(2, 4, false, s, &err), &err);
        for (int32_t i = 0; i < s->n_pieces; i++) {
            const TrainPiece *p = &s->pieces[i];
            total += p->bytes;
            CHECK(p->first <= p->last && p->offset_bytes + p->bytes <= s->arena_bytes);
            for (int32_t k = 0; k < i; k++) {
                const TrainPiece *q = &s->pieces[k];
                CHECK(p->last < q->first || q->last < p->first ||
                      p->offset_bytes + p->bytes <= q->offset_bytes ||
                      q->offset_bytes + q->bytes <= p->offset_bytes);
            }
        }
        CHECK(s->arena_bytes < total * 6 / 10);
    }
    free(graph);
    free(s);
}
