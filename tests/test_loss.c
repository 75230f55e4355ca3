/* gpu/loss*: the terms against numbers worked by hand and PyTorch's (golden vectors, float64),
** every gradient against central differences. Pixel terms are computed in double: 1e-12. The
** contextual term is float32 with divisions by differences: 2e-5 of the largest gradient; what is
** measured is printed. */
#include "tests/test.h"

#include "base/random.h"
#include "gpu/loss_contextual.h"
#include "gpu/model_write.h"
#include "tests/npz.h"

static Loss *open_loss(const char *text, int32_t batch, int32_t h, int32_t w, int32_t threads)
{
    Err err = {0};
    Loss *loss;
    LossOptions options = {.activation = ACTIVATION_SIGMOID,
                           .batch = batch,
                           .height = h,
                           .width = w,
                           .threads = threads};
    CHECK_OK(loss_parse(text, &options.spec, &err), &err);
    CHECK_OK(loss_open(&options, &loss, &err), &err);
    return loss;
}

static void random_fill(uint64_t stream, float *ret, size_t n, double low, double high)
{
    Random random = random_stream(5, stream, 0);
    for (size_t i = 0; i < n; i++)
        ret[i] = (float)random_between(&random, low, high);
}

TEST(loss_text_is_parsed, "terms with and without weights; each mistake is named")
{
    static const struct {
        const char *text, *says;
    } BAD[] = {{"", "\"\" is none of"},          {"bce+", "\"\" is none of"},
               {"mae", "\"mae\" is none of"},    {"2*bce+bce", "bce stands twice"},
               {"0*l1", "weight \"0\""},         {"x*l1", "weight \"x\""},
               {"-1*l1", "weight \"-1\""},       {"*l1", "weight \"\""},
               {"1e400*l1", "weight \"1e400\""}, {"l1 + mse", "\"l1 \" is none of"}};
    Err err = {0};
    LossSpec spec;
    CHECK_OK(loss_parse("bce+2*l1+0.25*gradient", &spec, &err), &err);
    static const double WANT[LOSS_TERMS] = {0, 1, 0, 2, 0.25};
    for (int t = 0; t < LOSS_TERMS; t++)
        CHECK_NEAR(spec.weight[t], WANT[t], 0);
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        err = (Err){0};
        CHECK_STATUS(loss_parse(BAD[i].text, &spec, &err), ST_USAGE);
        if (strstr(err.msg, BAD[i].says) == NULL)
            test_fail(__FILE__, __LINE__, "%s: %s", BAD[i].text, err.msg);
    }
    LossOptions linear = {.activation = ACTIVATION_LINEAR, .batch = 1, .height = 32, .width = 32};
    Loss *loss;
    CHECK_OK(loss_parse("bce", &linear.spec, &err), &err);
    CHECK_STATUS(loss_open(&linear, &loss, &err), ST_USAGE);
}

TEST(loss_terms_by_hand, "a 2 x 3 slice whose terms can be added up on paper; both ends of bce")
{
    static const float P[6] = {0.5f, 0.25f, 1, 0, 0.75f, 0.5f}, T[6] = {0, 0.25f, 0.5f, 0, 1, 0.5f};
    static const double PAIRS[2] = {4, 3};
    double d[6] = {0};
    CHECK_NEAR(loss_mse(P, T, 6, 6, 3, d), (0.25 + 0.25 + 0.0625) / 6, 1e-15);
    CHECK_NEAR(d[0], 3 * 2 * 0.5 / 6, 1e-15);
    CHECK_NEAR(d[4], 3 * 2 * -0.25 / 6, 1e-15);
    memset(d, 0, sizeof d);
    CHECK_NEAR(loss_l1(P, T, 6, 6, 3, d), 1.25 / 6, 1e-15);
    CHECK(fabs(d[0] - 0.5) < 1e-15 && d[1] == 0 && fabs(d[4] + 0.5) < 1e-15);
    memset(d, 0, sizeof d);
    /* p - t is 0.5 0 0.5 / 0 -0.25 0: along x 0.5 0.5 0.25 0.25, along y 0.5 0.25 0.5 */
    CHECK_NEAR(loss_gradient(P, T, 2, 3, PAIRS, 12, d), 1.5 / 4 + 1.25 / 3, 1e-15);
    /* signs along x: - + / - +, along y: - - -; times 3 and 4 */
    static const double D[6] = {3 + 4, -3 - 3 + 4, 3 + 4, 3 - 4, -3 - 3 - 4, 3 - 4};
    for (int i = 0; i < 6; i++)
        CHECK_NEAR(d[i], D[i], 1e-14);
    static const float Z[4] = {0, 200, -200, 200}, TARGET[4] = {0.25f, 1, 0, 0};
    memset(d, 0, sizeof d);
    CHECK_NEAR(loss_bce(Z, TARGET, 4, 4, 1, d), (log(2) + 0 + 0 + 200) / 4, 1e-14);
    CHECK(fabs(d[0] - 0.0625) < 1e-15 && fabs(d[1]) < 1e-15 && fabs(d[3] - 0.25) < 1e-15);
}

TEST(loss_bce_is_pytorchs, "golden logits: loss and gradient of a batch of two")
{
    const char *path = test_shared("golden/losses.npz");
    NpzArray z = npz_read(path, "bce_logits"), t = npz_read(path, "bce_target"),
             want = npz_read(path, "bce"), grad = npz_read(path, "bce_grad");
    float zf[128], tf[128], p[128], dz[128];
    CHECK_INT(z.n, 128);
    for (int i = 0; i < 128; i++) {
        zf[i] = (float)z.data[i];
        tf[i] = (float)t.data[i];
    }
    Loss *loss = open_loss("bce", 2, 8, 8, 1);
    LossValue value;
    Err err = {0};
    CHECK_OK(loss_run(loss, zf, tf, 2, p, dz, &value, &err), &err);
    double worst = 0;
    for (int i = 0; i < 128; i++) {
        worst = fmax(worst, fabs((double)dz[i] - grad.data[i]));
        CHECK_NEAR(p[i], 1 / (1 + exp(-z.data[i])), 1e-7);
    }
    (void)printf("# bce differs by %.2g, its gradient by %.2g\n", value.total - want.data[0],
                 worst);
    CHECK_NEAR(value.total, want.data[0], 1e-7); /* the inputs were rounded to float32 */
    CHECK(worst < 1e-9);
    loss_close(loss);
    NpzArray arrays[4] = {z, t, want, grad};
    for (int i = 0; i < 4; i++)
        free(arrays[i].data);
}

TEST(loss_gradients_are_differences,
     "sum of all pixel terms, batch of 2, against (L(z+e) - L(z-e)) / 2e")
{
    enum { H = 6, W = 8, N = 2 * H * W };
    float z[N], t[N], p[N], dz[N];
    random_fill(1, z, N, -2, 2);
    random_fill(2, t, N, 0, 1);
    Loss *loss = open_loss("1.5*mse+bce+2*l1+0.7*gradient", 2, H, W, 2);
    LossValue value, up, down;
    Err err = {0};
    CHECK_OK(loss_run(loss, z, t, 2, p, dz, &value, &err), &err);
    CHECK_NEAR(value.total,
               1.5 * value.term[LOSS_MSE] + value.term[LOSS_BCE] + 2 * value.term[LOSS_L1] +
                   0.7 * value.term[LOSS_GRADIENT],
               1e-15);
    double worst = 0;
    for (int i = 0; i < N; i++) {
        float kept = z[i], e = 0x1p-10f;
        z[i] = kept + e;
        CHECK_OK(loss_run(loss, z, t, 2, p, NULL, &up, &err), &err);
        z[i] = kept - e;
        CHECK_OK(loss_run(loss, z, t, 2, p, NULL, &down, &err), &err);
        z[i] = kept;
        worst = fmax(worst, fabs((up.total - down.total) / (2 * (double)e) - (double)dz[i]));
    }
    (void)printf("# largest difference %.2g\n", worst);
    CHECK(worst < 2e-6); /* p is float32: 6e-8 / 2e / N and e^2 of the curvature */
    loss_close(loss);
}

TEST(loss_bits_for_any_threads, "1, 2 and 5 threads give the same bits; so does a slice alone")
{
    enum { H = 32, W = 64, B = 3, N = B * H * W };
    static float z[N], t[N], p[3][N], dz[3][N];
    static const int32_t THREADS[3] = {1, 2, 5};
    LossValue value[3];
    Err err = {0};
    random_fill(3, z, N, -4, 4);
    random_fill(4, t, N, 0, 1);
    for (int k = 0; k < 3; k++) {
        Loss *loss = open_loss("bce+2*l1+2*gradient+0.1*contextual", B, H, W, THREADS[k]);
        CHECK_OK(loss_run(loss, z, t, B, p[k], dz[k], &value[k], &err), &err);
        loss_close(loss);
        CHECK(memcmp(&value[k], &value[0], sizeof *value) == 0);
        CHECK(memcmp(dz[k], dz[0], sizeof dz[0]) == 0 && memcmp(p[k], p[0], sizeof p[0]) == 0);
    }
}

/* (n, c) as in the golden file -> (c, n) in float32. */
static float *turned(const NpzArray *a, int32_t n, int32_t c)
{
    float *ret = malloc((size_t)n * (size_t)c * sizeof *ret);
    CHECK(ret != NULL && a->n == (size_t)n * (size_t)c);
    for (int32_t i = 0; i < n; i++)
        for (int32_t k = 0; k < c; k++)
            ret[k * n + i] = (float)a->data[i * c + k];
    return ret;
}

TEST(loss_contextual_is_pytorchs, "golden features of 60 points, 32 channels: loss and gradient")
{
    enum { POINTS = 60, CHANNELS = 32 };
    const char *path = test_shared("golden/losses.npz");
    NpzArray a = npz_read(path, "cx_s"), b = npz_read(path, "cx_r"), want = npz_read(path, "cx"),
             g = npz_read(path, "cx_grad");
    float *s = turned(&a, POINTS, CHANNELS), *r = turned(&b, POINTS, CHANNELS),
          *grad = turned(&g, POINTS, CHANNELS), ds[POINTS * CHANNELS];
    ContextualWork *work;
    Err err = {0};
    CHECK_OK(contextual_work_open(CHANNELS, POINTS, &work, &err), &err);
    double value = contextual_loss(work, s, r, ds), worst = 0, largest = 0;
    for (int i = 0; i < POINTS * CHANNELS; i++) {
        worst = fmax(worst, fabs((double)ds[i] - (double)grad[i]));
        largest = fmax(largest, fabs((double)grad[i]));
    }
    (void)printf("# contextual differs by %.2g, its gradient by %.2g of %.2g\n",
                 value - want.data[0], worst, largest);
    CHECK_NEAR(value, want.data[0], 1e-6);
    CHECK(worst < 2e-5 * largest);
    CHECK_NEAR(contextual_loss(work, s, r, NULL), value, 0);
    contextual_work_close(work);
    NpzArray arrays[4] = {a, b, want, g};
    for (int i = 0; i < 4; i++)
        free(arrays[i].data);
    free(s);
    free(r);
    free(grad);
}

TEST(loss_contextual_of_equal_images_is_least, "s = r: every point is its own best; more is worse")
{
    enum { POINTS = 49, CHANNELS = 20 };
    float s[POINTS * CHANNELS], r[POINTS * CHANNELS];
    random_fill(6, r, POINTS * CHANNELS, -1, 1);
    random_fill(7, s, POINTS * CHANNELS, -1, 1);
    ContextualWork *work;
    Err err = {0};
    CHECK_OK(contextual_work_open(CHANNELS, POINTS, &work, &err), &err);
    CHECK_NEAR(contextual_loss(work, r, r, NULL), 0, 1e-6); /* w_ij of the others is exp(-1e4) */
    double before = 0;
    for (int mixed = 1; mixed <= 4; mixed++) {
        float mix[POINTS * CHANNELS];
        for (int i = 0; i < POINTS * CHANNELS; i++)
            mix[i] = r[i] + 0.25f * (float)mixed * (s[i] - r[i]);
        double value = contextual_loss(work, mix, r, NULL);
        CHECK(value > before);
        before = value;
    }
    contextual_work_close(work);
}

/* A VGG-19 of `width` channels in its first layer, He's random weights, in torchvision's names. */
static const char *write_vgg(int32_t width, bool lacks_last)
{
    static const int32_t UNITS[16] = {1, 1, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8, 8, 8, 8, 8};
    static const int MODULES[16] = {0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34};
    static char path[4096], names[32][32];
    NewTensor tensors[32];
    Err err = {0};
    int32_t c_in = 3;
    for (int i = 0; i < 16; i++) {
        int32_t c = UNITS[i] * width;
        size_t n = (size_t)c * (size_t)c_in * 9;
        float *weight = malloc(n * sizeof *weight), *bias = malloc((size_t)c * sizeof *bias);
        CHECK(weight != NULL && bias != NULL);
        double bound = sqrt(6.0 / (9 * c_in));
        random_fill(100 + (uint64_t)i, weight, n, -bound, bound);
        random_fill(200 + (uint64_t)i, bias, (size_t)c, -0.1, 0.1);
        (void)snprintf(names[2 * i], 32, "features.%d.weight", MODULES[i]);
        (void)snprintf(names[2 * i + 1], 32, "features.%d.bias", MODULES[i]);
        tensors[2 * i] = (NewTensor){names[2 * i], 4, {c, c_in, 3, 3}, weight};
        tensors[2 * i + 1] = (NewTensor){names[2 * i + 1], 1, {c}, bias};
        c_in = c;
    }
    (void)snprintf(path, sizeof path, "%s/vgg.safetensors", test_dir());
    CHECK_OK(model_write_new(path, NULL, 0, tensors, lacks_last ? 31 : 32, false, &err), &err);
    for (int i = 0; i < 32; i++)
        free((void *)(uintptr_t)tensors[i].values);
    return path;
}

/* The derivative along the gradient itself: a kink of ReLU or of max moves one direction little. */
static double slope_error(const char *vgg, const char *backend)
{
    enum { SIDE = 64, N = 2 * SIDE * SIDE };
    static float z[N], moved[N], t[N], p[N], dz[N];
    LossOptions options = {.activation = ACTIVATION_SIGMOID,
                           .batch = 2,
                           .height = SIDE,
                           .width = SIDE,
                           .vgg = vgg,
                           .backend = backend};
    LossValue value[3];
    Loss *loss;
    Err err = {0};
    random_fill(8, z, N, -2, 2);
    random_fill(9, t, N, 0, 1);
    CHECK_OK(loss_parse("3*contextual", &options.spec, &err), &err);
    CHECK_OK(loss_open(&options, &loss, &err), &err);
    CHECK_OK(loss_run(loss, z, t, 2, p, dz, &value[0], &err), &err);
    double norm = 0;
    for (int i = 0; i < N; i++)
        norm += (double)dz[i] * (double)dz[i];
    norm = sqrt(norm);
    const double step = 0.002;
    for (int side = 0; side < 2; side++) {
        for (int i = 0; i < N; i++)
            moved[i] = (float)((double)z[i] + (side ? step : -step) * (double)dz[i] / norm);
        CHECK_OK(loss_run(loss, moved, t, 2, p, NULL, &value[1 + side], &err), &err);
    }
    loss_close(loss);
    double slope = (value[2].total - value[1].total) / (2 * step);
    (void)printf("# loss %.5f, slope %.6g, gradient's norm %.6g\n", value[0].total, slope, norm);
    return fabs(slope / norm - 1);
}

TEST(loss_contextual_of_patches_has_its_gradient,
     "the slope along the gradient is its norm, 1 %, of "
     "three times the loss")
{
    CHECK(slope_error(NULL, NULL) < 0.01);
}

TEST(loss_contextual_of_vgg_has_its_gradient,
     "through 16 convolutions; a file that lacks one is named")
{
    CHECK(slope_error(write_vgg(2, false), "ref") < 0.01);
    LossOptions options = {.batch = 1, .height = 32, .width = 32, .backend = "ref"};
    options.spec.weight[LOSS_CONTEXTUAL] = 1;
    options.vgg = write_vgg(1, true);
    Loss *loss;
    Err err = {0};
    CHECK_STATUS(loss_open(&options, &loss, &err), ST_MODEL_FORMAT);
    CHECK(strstr(err.msg, "features.34.bias is missing") != NULL);
    options.vgg = "etc/models/demo-t1-w16.safetensors";
    err = (Err){0};
    CHECK_STATUS(loss_open(&options, &loss, &err), ST_MODEL_UNFIT);
    CHECK(strstr(err.msg, "not a VGG-19") != NULL);
}
