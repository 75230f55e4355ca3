/* The training engine as a whole: parameters, gradients of the golden networks, bits. */
#include "gpu/net.h"
#include "gpu/npy.h"
#include "tests/model_file.h"
#include "tests/npz.h"
#include "tests/test.h"
#include "tests/train_fixture.h"

static const ModelArch ARCHS[] = {ARCH_UNET, ARCH_DRUNET34, ARCH_DRUNET50, ARCH_DRUNET101};
static const TrainOptions REF = {.backend = "ref", .batch = 2, .threads = 2};

TEST(train_parameters_are_the_models, "the parameters of all four architectures are the tensors of "
                                      "a model file, no more and no less; statistics have no "
                                      "gradient")
{
    for (int i = 0; i < 4; i++) {
        TrainCase c = train_open(ARCHS[i], 2, 32, 32, &REF);
        train_load_random(c.net, ARCHS[i], 2);
        int32_t n;
        int64_t trained = 0;
        const TrainParameter *p = train_net_parameters(c.net, &n);
        for (int32_t k = 0; k < n; k++) {
            CHECK((p[k].gradient == NULL) == (strstr(p[k].name, "running_") != NULL));
            CHECK((size_t)p[k].value % 64 == 0 && (size_t)p[k].gradient % 64 == 0);
            trained += p[k].gradient != NULL ? p[k].n : 0;
        }
        CHECK_INT(trained, graph_parameters(c.graph));
        train_close(&c);
    }
}

TEST(train_refuses,
     "an unknown backend, a precision that is not here, an activation, a batch of 0, "
     "one value per channel")
{
    Graph *graph = malloc(sizeof *graph);
    Err err = {0};
    TrainNet *net;
    CHECK(graph != NULL);
    ModelInfo info = {.arch = ARCH_DRUNET34, .width = 2, .activation = ACTIVATION_SIGMOID};
    CHECK_OK(network_build(&info, 32, 32, graph, &err), &err);
    CHECK_STATUS(train_net_open(graph, &REF, &net, &err), ST_UNSUPPORTED);
    CHECK(strstr(err.msg, "sigmoid") != NULL);
    info.activation = ACTIVATION_LINEAR;
    CHECK_OK(network_build(&info, 32, 32, graph, &err), &err);
    TrainOptions options = REF;
    options.backend = "none";
    CHECK_STATUS(train_net_open(graph, &options, &net, &err), ST_BACKEND);
    options = REF;
    options.precision = PRECISION_BF16;
    CHECK_STATUS(train_net_open(graph, &options, &net, &err), ST_BACKEND);
    options = REF;
    options.batch = 0;
    CHECK_STATUS(train_net_open(graph, &options, &net, &err), ST_LIMIT);
    TrainCase c = train_open_graph(graph, &REF);
    float *x = train_random(2 * c.n_in, 1);
    const float *y;
    CHECK_OK(train_net_changed(c.net, &err), &err);
    CHECK_STATUS(train_net_forward(c.net, x, 1, true, &y, &err), ST_LIMIT);
    CHECK(strstr(err.msg, "layer4.0.bn1") != NULL);
    CHECK_OK(train_net_forward(c.net, x, 1, false, &y, &err), &err);
    CHECK_OK(train_net_forward(c.net, x, 2, true, &y, &err), &err);
    free(x);
    train_close(&c);
}

TEST(train_forward_is_the_inference, "by running statistics a network gives what the inference "
                                     "backend ref gives, to 1e-5, and its statistics stay")
{
    for (int i = 0; i < 4; i++) {
        char path[512];
        Err err = {0};
        Model *model;
        Net *net;
        TrainCase c = train_open(ARCHS[i], 3, 64, 32, &REF);
        (void)snprintf(path, sizeof path, "%s/random.safetensors", test_dir());
        model_file_write_random(path, ARCHS[i], 3);
        train_load(c.net, path);
        float *x = train_random(2 * c.n_in, 5), *want = malloc(2 * c.n_out * sizeof *want);
        const float *y;
        CHECK(want != NULL);
        CHECK_OK(model_open(path, &model, &err), &err);
        const NetOptions options = {.backend = "ref",
                                    .batch = 2,
                                    .height = 64,
                                    .width = 32,
                                    .precision = "f32",
                                    .without = 0};
        CHECK_OK(net_open(model, &options, &net, &err), &err);
        CHECK_OK(net_run(net, x, 2, want, &err), &err);
        CHECK_OK(train_net_forward(c.net, x, 2, false, &y, &err), &err);
        float *sigmoid = malloc(2 * c.n_out * sizeof *sigmoid);
        CHECK(sigmoid != NULL);
        bool is_sigmoid = model_info(model)->activation == ACTIVATION_SIGMOID;
        for (size_t p = 0; p < 2 * c.n_out; p++)
            sigmoid[p] = is_sigmoid ? (float)(1 / (1 + exp(-(double)y[p]))) : y[p];
        CHECK(train_distance(sigmoid, want, 2 * c.n_out) < 1e-5);
        net_close(net);
        model_close(model);
        free(sigmoid);
        free(want);
        free(x);
        train_close(&c);
    }
}

/* dy of the mean squared error on the sigmoid of logits y. */
static float *mse_gradient(const float *y, const double *target, size_t n)
{
    float *dy = malloc(n * sizeof *dy);
    CHECK(dy != NULL);
    for (size_t i = 0; i < n; i++) {
        double s = 1 / (1 + exp(-(double)y[i]));
        dy[i] = (float)(2 * (s - target[i]) / (double)n * s * (1 - s));
    }
    return dy;
}

/* The golden networks have random weights, and gradients of such are not continuous: PyTorch's own
** float32 run differs from its float64 run by what the last column says (a ReLU here and there on
** the other side of its kink), and the files hold the float32 run. So the numbers to reach are
** those of PyTorch 1.13 in float64 on the same files: norm and projection on GOLDEN_DIRECTION. */
typedef struct Golden {
    double norm, projection, f32_distance;
} Golden;
enum { N_GOLDEN = 8 };
static const char *const GOLDEN_TENSORS[N_GOLDEN] = {"conv1.weight",
                                                     "bn1.weight",
                                                     "layer2.0.conv1.weight",
                                                     "ucenter.0.conv1.weight",
                                                     "up1.0.conv1.weight",
                                                     "up3.2.conv2.weight",
                                                     "up4.weight",
                                                     "up4.bias"};
#define GOLDEN_DIRECTION(k) ((double)((k)*7919 % 1009) / 1009 - 0.5)
static const struct {
    const char *name;
    ModelArch arch;
    int32_t width;
    Golden tensors[N_GOLDEN];
    double mean_sum, variance_sum; /* of bn1.running_mean, layer4.0.bn1.running_var */
} GOLDEN[] = {{"drunet34_w8",
               ARCH_DRUNET34,
               8,
               {{0.0659849104, 0.0148494114, 0.0174},
                {0.00550820887, 3.4102071e-05, 0.0151},
                {0.0137696635, 0.00066410822, 0.0162},
                {0.00300702189, -0.000742781583, 0.0121},
                {0.00275635056, -9.98595657e-05, 0.0124},
                {0.000473743642, -0.000148999118, 0.00856},
                {0.0279908872, 0.010981538, 1.71e-05},
                {0.0013244116, 0.000662205798, 3.08e-06}},
               -0.227463893,
               78.0351528},
              {"drunet50_w8",
               ARCH_DRUNET50,
               8,
               {{75.9973739, -4.03417791, 0.138},
                {3.65626833, -1.68884255, 0.106},
                {2.76366789, -0.0269502593, 0.141},
                {0.133954064, -0.0858528813, 0.129},
                {0.0905997176, 0.0152294076, 0.13},
                {0.00915173732, -0.00423565119, 0.0108},
                {0.57506936, 0.0152274968, 9.92e-05},
                {0.0670116286, 0.0335058143, 2.3e-05}},
               -0.0114640519,
               105.240137},
              {"drunet101_w4",
               ARCH_DRUNET101,
               4,
               {{49.4186695, -2.27436745, 0.398},
                {4.70084456, -0.0879925207, 0.249},
                {2.05481165, -0.00870940554, 0.404},
                {0.0130970316, 0.00153081485, 0.354},
                {0.0145962714, -0.00146442301, 0.335},
                {0.000213070245, 8.70448485e-05, 0.088},
                {0.0713470892, 0.00834598958, 0.00311},
                {0.0106740145, -0.00533700727, 0.000246}},
               0.0207194723,
               102.363385}};

static double sum(const TrainParameter *p)
{
    double ret = 0;
    for (int64_t i = 0; i < p->n; i++)
        ret += (double)p->value[i];
    return ret;
}

/* One training step of golden network g: its gradients are left in the net. */
static TrainCase golden_step(int g, const TrainOptions *options)
{
    char file[128];
    Err err = {0};
    Npy x;
    const float *y;
    TrainCase c = train_open(GOLDEN[g].arch, GOLDEN[g].width, 96, 64, options);
    (void)snprintf(file, sizeof file, "golden/%s.safetensors", GOLDEN[g].name);
    train_load(c.net, test_shared(file));
    (void)snprintf(file, sizeof file, "golden/%s.in.npy", GOLDEN[g].name);
    CHECK_OK(npy_read(test_shared(file), &x, &err), &err);
    (void)snprintf(file, sizeof file, "golden/%s.grad.npz", GOLDEN[g].name);
    NpzArray target = npz_read(test_shared(file), "target");
    CHECK_OK(train_net_forward(c.net, x.data, 3, true, &y, &err), &err);
    float *dy = mse_gradient(y, target.data, target.n);
    CHECK_OK(train_net_backward(c.net, dy, NULL, &err), &err);
    free(dy);
    free(target.data);
    npy_free(&x);
    return c;
}

/* Relative distance of a gradient from the one in the golden file. */
static double distance_from_file(int g, const TrainParameter *p)
{
    char file[128];
    (void)snprintf(file, sizeof file, "golden/%s.grad.npz", GOLDEN[g].name);
    NpzArray want = npz_read(test_shared(file), p->name);
    float *wanted = malloc(want.n * sizeof *wanted);
    CHECK(wanted != NULL && (int64_t)want.n == p->n);
    for (size_t k = 0; k < want.n; k++)
        wanted[k] = (float)want.data[k];
    double distance = train_distance(p->gradient, wanted, want.n);
    free(wanted);
    free(want.data);
    return distance;
}

TEST(train_golden_gradients_ref,
     "gradients of DRUNet-34, -50, -101 by ref are PyTorch's of float64 "
     "to 1e-5, and as far from PyTorch's of float32 as those are; the "
     "running statistics are PyTorch's")
{
    const TrainOptions options = {.backend = "ref", .batch = 3};
    for (int g = 0; g < 3; g++) {
        TrainCase c = golden_step(g, &options);
        for (int i = 0; i < N_GOLDEN; i++) {
            const TrainParameter *p = train_parameter(c.net, GOLDEN_TENSORS[i]);
            const Golden *want = &GOLDEN[g].tensors[i];
            double squares = 0, projection = 0;
            for (int64_t k = 0; k < p->n; k++) {
                squares += (double)p->gradient[k] * (double)p->gradient[k];
                projection += (double)p->gradient[k] * GOLDEN_DIRECTION(k);
            }
            CHECK_NEAR(sqrt(squares), want->norm, 1e-5 * want->norm);
            CHECK_NEAR(projection, want->projection, 1e-5 * want->norm);
            CHECK_NEAR(distance_from_file(g, p), want->f32_distance, 0.01 * want->f32_distance);
        }
        CHECK_NEAR(sum(train_parameter(c.net, "bn1.running_mean")), GOLDEN[g].mean_sum, 1e-6);
        CHECK_NEAR(sum(train_parameter(c.net, "layer4.0.bn1.running_var")), GOLDEN[g].variance_sum,
                   1e-6 * GOLDEN[g].variance_sum);
        train_close(&c);
    }
}

TEST(train_golden_gradients_cpu,
     "gradients of the golden networks by cpu are no further from PyTorch's of "
     "float64 than three times PyTorch's of float32, which is 1e-4 "
     "before the first kink")
{
    const TrainOptions options = {.backend = "cpu", .batch = 3},
                       ref = {.backend = "ref", .batch = 3};
    for (int g = 0; g < 3; g++) {
        TrainCase c = golden_step(g, &options), exact = golden_step(g, &ref);
        for (int i = 0; i < N_GOLDEN; i++) {
            const TrainParameter *p = train_parameter(c.net, GOLDEN_TENSORS[i]);
            const TrainParameter *want = train_parameter(exact.net, GOLDEN_TENSORS[i]);
            double limit = fmax(1e-4, 3 * GOLDEN[g].tensors[i].f32_distance);
            CHECK_NEAR(train_distance(p->gradient, want->gradient, (size_t)p->n), 0, limit);
        }
        train_close(&c);
        train_close(&exact);
    }
}

/* ---- a small table with every operation ---------------------------------------------------- */

/* conv, norm, (ReLU, pool,) up2, concat with a skip, sum with a residual, 5 output channels. */
static Graph *small_graph(bool with_kinks)
{
    Graph *graph = calloc(1, sizeof *graph);
    CHECK(graph != NULL);
    graph->input = graph_add_value(graph, 3, 16, 8);
    NetworkConv conv = {"a", "conv", "bn", 6, 3, 2, with_kinks};
    int32_t x = network_conv(graph, graph->input, &conv), skip = x;
    conv = (NetworkConv){"b", "conv", "bn", 6, 1, 1, false};
    x = network_op(graph, OP_ADD, "add", network_conv(graph, x, &conv), x);
    if (with_kinks)
        x = network_maxpool(graph, x, 2);
    conv = (NetworkConv){"c", "conv", NULL, 4, 5, with_kinks ? 1 : 2, with_kinks};
    x = network_op(graph, OP_UP2, "up", network_conv(graph, x, &conv), -1);
    x = network_op(graph, OP_CONCAT, "skip", x, skip);
    conv = (NetworkConv){"", "head", NULL, 5, 3, 1, false};
    graph->output = network_conv(graph, x, &conv);
    graph_plan(graph);
    return graph;
}

static void set_random(TrainNet *net, uint64_t seed)
{
    Err err = {0};
    int32_t n;
    TrainParameter *parameters = train_net_parameters(net, &n);
    for (int32_t i = 0; i < n; i++)
        for (int64_t k = 0; k < parameters[i].n; k++)
            parameters[i].value[k] = (float)(strstr(parameters[i].name, "running_var") != NULL
                                                 ? 0.5 + model_file_random(&seed)
                                                 : model_file_random(&seed) - 0.5);
    CHECK_OK(train_net_changed(net, &err), &err);
}

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

TEST(train_frozen_gradient, "a frozen network without kinks is affine in x: dy (y(x + d) - y(x)) = "
                            "dx d to 1e-4; it has no parameter gradients and its statistics stay")
{
    const TrainOptions options = {.backend = "ref", .batch = 3, .threads = 1, .frozen = true};
    TrainCase c = train_open_graph(small_graph(false), &options);
    set_random(c.net, 3);
    Err err = {0};
    size_t n_in = 2 * c.n_in, n_out = 2 * c.n_out;
    float *x = train_random(n_in, 1), *d = train_random(n_in, 2), *dy = train_random(n_out, 3);
    float *dx = malloc(n_in * sizeof *dx);
    const float *y;
    CHECK(dx != NULL);
    float mean = train_parameter(c.net, "a.bn.running_mean")->value[1];
    CHECK_OK(train_net_forward(c.net, x, 2, true, &y, &err), &err);
    double before = dot(dy, y, n_out);
    CHECK_OK(train_net_backward(c.net, dy, dx, &err), &err);
    for (size_t i = 0; i < n_in; i++)
        x[i] += d[i];
    CHECK_OK(train_net_forward(c.net, x, 2, true, &y, &err), &err);
    double moved = dot(dy, y, n_out) - before;
    CHECK(fabs(moved) > 1);
    CHECK_NEAR(dot(dx, d, n_in), moved, 1e-4 * fabs(moved));
    CHECK_NEAR(train_parameter(c.net, "a.bn.running_mean")->value[1], mean, 0);
    CHECK(train_parameter(c.net, "head.weight")->gradient == NULL);
    free(x);
    free(d);
    free(dy);
    free(dx);
    train_close(&c);
}

/* All gradients and statistics of one step, one after another; malloc'ed. */
static float *one_step(const TrainOptions *options, size_t *ret_n)
{
    TrainCase c = train_open_graph(small_graph(true), options);
    Err err = {0};
    set_random(c.net, 3);
    float *x = train_random(3 * c.n_in, 1), *dy = train_random(3 * c.n_out, 3);
    const float *y;
    CHECK_OK(train_net_forward(c.net, x, 3, true, &y, &err), &err);
    int32_t n;
    size_t total = 3 * (c.n_out + c.n_in), at = 3 * c.n_out;
    const TrainParameter *p = train_net_parameters(c.net, &n);
    for (int32_t i = 0; i < n; i++)
        total += (size_t)p[i].n;
    float *ret = malloc(total * sizeof *ret);
    CHECK(ret != NULL);
    memcpy(ret, y, 3 * c.n_out * sizeof *y);
    CHECK_OK(train_net_backward(c.net, dy, ret + at, &err), &err);
    at += 3 * c.n_in;
    for (int32_t i = 0; i < n; at += (size_t)p[i++].n)
        memcpy(ret + at, p[i].gradient != NULL ? p[i].gradient : p[i].value,
               (size_t)p[i].n * sizeof *ret);
    free(x);
    free(dy);
    train_close(&c);
    *ret_n = total;
    return ret;
}

TEST(train_ref_bits, "a step of ref has the same bits with 1, 2 and 3 threads and a larger batch")
{
    TrainOptions options = {.backend = "ref", .batch = 3, .threads = 1};
    size_t n, other_n;
    float *want = one_step(&options, &n);
    for (int k = 0; k < 3; k++) {
        options.threads = 1 + k;
        options.batch = 3 + k;
        float *got = one_step(&options, &other_n);
        CHECK(other_n == n && memcmp(got, want, n * sizeof *got) == 0);
        free(got);
    }
    free(want);
}
