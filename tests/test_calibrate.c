/* gpu/: precisions. Claims: the metrics have their known answers; bf16 and int8 compute the same
** network within what their digits allow, with the same bits for any threads; calibration writes
** what it measured and nothing else; what is not allowed is not chosen. */
#include "tests/test.h"

#include "base/digest.h"
#include "base/files.h"
#include "gpu/calibrate.h"
#include "gpu/dnnl_int.h"
#include "gpu/half.h"
#include "gpu/metrics.h"
#include "gpu/model_write.h"
#include "gpu/verify.h"
#include "tests/cuda_fixture.h"
#include "tests/model_file.h"

#include <cjson/cJSON.h>
#include <unistd.h>

enum { N = 3, H = 64, W = 96, PIXELS = H * W };

/* ---- metrics ------------------------------------------------------------------------------- */

TEST(metrics_known_answers, "PSNR of 0.1 is 20 dB; SSIM of constants is a formula, of equals is 1")
{
    static float a[PIXELS], b[PIXELS];
    double ssim;
    Err err = {0};
    for (int i = 0; i < PIXELS; i++) {
        a[i] = 0.5f;
        b[i] = 0.6f;
    }
    CHECK_NEAR(metric_psnr_db(metric_mse(a, b, PIXELS)), 20, 1e-5);
    CHECK(isinf(metric_psnr_db(metric_mse(a, a, PIXELS))));
    CHECK_OK(metric_ssim(a, b, H, W, &ssim, &err), &err);
    CHECK_NEAR(ssim, (2 * 0.5 * 0.6 + 1e-4) / (0.25 + 0.36 + 1e-4), 1e-6);
    uint64_t seed = 5;
    for (int i = 0; i < PIXELS; i++) {
        a[i] = (float)model_file_random(&seed);
        b[i] = 1 - a[i];
    }
    CHECK_OK(metric_ssim(a, a, H, W, &ssim, &err), &err);
    CHECK_NEAR(ssim, 1, 1e-12);
    CHECK_OK(metric_ssim(a, b, H, W, &ssim, &err), &err);
    CHECK(ssim < -0.8); /* the same structure, the other way round */
    CHECK_STATUS(metric_ssim(a, b, 10, W, &ssim, &err), ST_LIMIT);
}

TEST(calibrate_best_range, "spread evenly: all of it; one far outlier: it is cut off")
{
    static Observed o;
    o.largest = 8;
    for (int k = 0; k < OBSERVED_BINS; k++)
        o.bins[k] = 10000;
    CHECK_NEAR((double)dnnl_best_range(&o, 255), 8, 0.1);
    for (int k = OBSERVED_BINS / 4; k < OBSERVED_BINS; k++)
        o.bins[k] = k == OBSERVED_BINS - 1;
    CHECK((double)dnnl_best_range(&o, 127) < 4);
}

/* ---- networks ------------------------------------------------------------------------------ */

static float slices[N * 3 * PIXELS];

static void fill(void *context, int32_t i, float *ret_x)
{
    (void)context;
    memcpy(ret_x, slices + (size_t)i * 3 * PIXELS, 3 * PIXELS * sizeof *ret_x);
}

/* Smooth blobs with noise, spread like normalised CT. */
static void make_slices(void)
{
    uint64_t seed = 77;
    for (int i = 0; i < N * 3 * PIXELS; i++) {
        int p = i % PIXELS, x = p % W, y = p / W, n = i / (3 * PIXELS);
        double blob = sin(0.1 * x + n) * cos(0.13 * y);
        slices[i] = (float)(2 * blob + 0.5 * (model_file_random(&seed) - 0.5));
    }
}

static const char *path_of(const char *name)
{
    static char paths[8][PATH_SIZE];
    static int next;
    char *path = paths[next++ % 8];
    CHECK_OK(path_format(path, NULL, "%s/%s", test_dir(), name), &(Err){0});
    return path;
}

static Status try_run(const char *path, const char *precision, int32_t threads, float *ret_y,
                      Precision *ret_used, Err *err)
{
    Model *model;
    Net *net;
    const NetOptions options = {.backend = "cpu",
                                .batch = 1,
                                .height = H,
                                .width = W,
                                .threads = threads,
                                .precision = precision};
    TRY(model_open(path, &model, err));
    Status status = net_open(model, &options, &net, err);
    if (status == ST_OK) {
        *ret_used = net_precision(net);
        status = net_run(net, slices, N, ret_y, err);
        net_close(net);
    }
    model_close(model);
    return status;
}

static double psnr(const float *a, const float *b)
{
    return metric_psnr_db(metric_mse(a, b, (size_t)N * PIXELS));
}

static void calibrate(ModelArch arch, int32_t width, CalibrateResult ret[PRECISION_COUNT])
{
    const CalibrateData data = {N, H, W, NULL, fill};
    Err err = {0};
    make_slices();
    model_file_write_random(path_of("plain.safetensors"), arch, width);
    const char *mine = path_of("cal.safetensors.part"); /* of somebody else, and stays so */
    char *text;
    size_t size;
    CHECK_OK(file_write_durable(mine, "mine", 4, &err), &err);
    CHECK_OK(calibrate_model(path_of("plain.safetensors"), &data, 2, path_of("cal.safetensors"),
                             ret, &err),
             &err);
    CHECK_OK(file_read(mine, 100, &text, &size, &err), &err);
    CHECK_STR(text, "mine");
    free(text);
}

/* Whatever calibration found: random networks need not be good in 8 bits. */
static void allow_all(const char *path)
{
    const MetadataValue all = {"precisions", "[\"f32\",\"bf16\",\"int8\"]"};
    Err err = {0};
    CHECK_OK(model_write_metadata(path, &all, 1, path, &err), &err);
}

/* The same, as if these very weights had been measured. */
static void prove_all(const char *path)
{
    char calibration[320], ranges[DIGEST_HEX_SIZE];
    Model *model;
    Err err = {0};
    CHECK_OK(model_open(path, &model, &err), &err);
    const char *text = model_metadata(model, "int8");
    digest_text(text != NULL ? text : "", ranges);
    (void)snprintf(calibration, sizeof calibration,
                   "{\"function\":\"%s\",\"bf16\":{\"allowed\":true},\"int8\":{\"allowed\":true,"
                   "\"ranges\":\"%s\"}}",
                   model_info(model)->function_digest, ranges);
    model_close(model);
    const MetadataValue proof = {"calibration", calibration};
    CHECK_OK(model_write_metadata(path, &proof, 1, path, &err), &err);
    allow_all(path);
}

TEST(precisions_compute_the_same_network, "bf16 and int8 near f32; same bits with 1, 2, 3 threads")
{
    static const struct {
        ModelArch arch;
        int32_t width;
    } NETS[] = {{ARCH_DRUNET34, 16}, {ARCH_DRUNET50, 8}, {ARCH_UNET, 8}};
    static float want[N * PIXELS], got[N * PIXELS], again[N * PIXELS];
    static const char *const NAMES[] = {"bf16", "int8"};
    static const double LEAST_DB[] = {35, 20}; /* 8 bits of mantissa; 8 bits in all */
    int n_measured = 0;
    for (size_t k = 0; k < sizeof NETS / sizeof NETS[0]; k++) {
        CalibrateResult results[PRECISION_COUNT];
        Precision used;
        Err err = {0};
        calibrate(NETS[k].arch, NETS[k].width, results);
        prove_all(path_of("cal.safetensors"));
        CHECK_OK(try_run(path_of("cal.safetensors"), "f32", 2, want, &used, &err), &err);
        for (int p = 0; p < 2; p++) {
            if (!results[1 + p].measured)
                continue;
            n_measured++;
            CHECK_OK(try_run(path_of("cal.safetensors"), NAMES[p], 1, got, &used, &err), &err);
            CHECK_INT(used, PRECISION_BF16 + p);
            double db = psnr(want, got);
            (void)printf("# net %zu %s: %.1f dB, measured by calibration %.1f\n", k, NAMES[p], db,
                         results[1 + p].psnr_db);
            CHECK(db > LEAST_DB[p]);
            for (int32_t threads = 2; threads <= 3; threads++) {
                CHECK_OK(try_run(path_of("cal.safetensors"), NAMES[p], threads, again, &used, &err),
                         &err);
                CHECK(memcmp(got, again, sizeof got) == 0);
            }
        }
    }
    if (n_measured == 0)
        SKIP("this processor has neither bf16 nor int8 instructions");
}

TEST(calibration_writes_what_it_measured,
     "tensors kept, f32 bits kept, only what is good is allowed")
{
    static float want[N * PIXELS], got[N * PIXELS];
    CalibrateResult results[PRECISION_COUNT];
    Model *plain, *model;
    Precision used;
    Err err = {0};
    calibrate(ARCH_DRUNET34, 8, results);
    CHECK_OK(model_open(path_of("plain.safetensors"), &plain, &err), &err);
    CHECK_OK(model_open(path_of("cal.safetensors"), &model, &err), &err);
    const ModelInfo *info = model_info(model);
    CHECK(strcmp(info->digest, model_info(plain)->digest) != 0);
    CHECK_INT(info->n_parameters, model_info(plain)->n_parameters);
    CHECK_INT(info->precisions,
              1u | (unsigned)results[1].allowed << 1 | (unsigned)results[2].allowed << 2);
    CHECK(!results[PRECISION_F16].measured);
    CHECK(strstr(results[PRECISION_F16].why, "cuda") != NULL);
    float range;
    CHECK(!model_calibrated_range(model, "up4", &range)); /* the head stays in floats */
    CHECK(model_calibrated_range(model, "layer3.2.conv1", &range) && range > 0);
    CHECK(!model_calibrated_range(plain, "layer3.2.conv1", &range));
    model_close(plain);
    model_close(model);
    CHECK_OK(try_run(path_of("plain.safetensors"), "auto", 1, want, &used, &err), &err);
    CHECK_INT(used, PRECISION_F32);
    CHECK_OK(try_run(path_of("cal.safetensors"), "f32", 1, got, &used, &err), &err);
    CHECK(memcmp(want, got, sizeof want) == 0);
    CHECK_OK(try_run(path_of("cal.safetensors"), NULL, 1, got, &used, &err), &err);
    bool bf16_pays = results[1].allowed && dnnl_bf16_is_faster();
    CHECK_INT(used, results[2].allowed ? PRECISION_INT8
                    : bf16_pays        ? PRECISION_BF16
                                       : PRECISION_F32);
    const MetadataValue only_bf16 = {"precisions", "[\"f32\",\"bf16\"]"};
    CHECK_OK(model_write_metadata(path_of("cal.safetensors"), &only_bf16, 1,
                                  path_of("bf16.safetensors"), &err),
             &err);
    CHECK_OK(try_run(path_of("bf16.safetensors"), "auto", 1, got, &used, &err), &err);
    CHECK_INT(used, dnnl_bf16_is_faster() ? PRECISION_BF16 : PRECISION_F32);
    (void)printf("# bf16 is %s here\n", dnnl_bf16_is_faster() ? "faster" : "slower or absent");
    if (results[2].measured) {
        CHECK_STATUS(try_run(path_of("plain.safetensors"), "int8", 1, got, &used, &err),
                     ST_MODEL_UNFIT);
        CHECK(strstr(err.msg, "calibrate") != NULL);
        prove_all(path_of("plain.safetensors")); /* without ranges */
        CHECK_STATUS(try_run(path_of("plain.safetensors"), "int8", 1, got, &used, &err),
                     ST_MODEL_UNFIT);
        CHECK(strstr(err.msg, "no int8 ranges") != NULL);
        CHECK_OK(model_open(path_of("plain.safetensors"), &model, &err), &err);
        double difference;
        CHECK_STATUS(model_verify(model, "cpu", &difference, &err), ST_MODEL_UNFIT);
        model_close(model);
    }
}

/* int8 is not to be had from the file, and "auto" is f32 and says why. */
static void check_unproven(const char *path, const char *why)
{
    const NetOptions options = {.backend = "cpu", .batch = 1, .height = H, .width = W};
    static float y[N * PIXELS];
    Model *model;
    Net *net;
    Precision used;
    Err err = {0};
    CHECK_OK(model_open(path, &model, &err), &err);
    CHECK_INT(model_info(model)->precisions, 1u << PRECISION_F32);
    CHECK_INT(model_info(model)->unproven, 1u << PRECISION_BF16 | 1u << PRECISION_INT8);
    CHECK_OK(net_open(model, &options, &net, &err), &err);
    CHECK_INT(net_precision(net), PRECISION_F32);
    CHECK(strstr(net_notice(net), "names bf16, int8") != NULL);
    CHECK(strstr(net_notice(net), why) != NULL);
    net_close(net);
    model_close(model);
    if (net_has("cpu", PRECISION_INT8)) {
        CHECK_STATUS(try_run(path, "int8", 1, y, &used, &err), ST_MODEL_UNFIT);
        CHECK(strstr(err.msg, why) != NULL && strstr(err.msg, "ct2mr model calibrate") != NULL);
    }
}

TEST(calibration_is_of_these_weights,
     "no calibration, or one of other weights: f32, which says why; int8 is refused by name")
{
    const char *cal = path_of("cal.safetensors"), *other = path_of("other.safetensors");
    const MetadataValue none = {"calibration", NULL}, damaged = {"calibration", "[7"};
    const MetadataValue only_f32 = {"precisions", "[\"f32\"]"};
    static float y[N * PIXELS];
    Precision used;
    CalibrateResult results[PRECISION_COUNT];
    Model *model;
    char *file;
    size_t size;
    Err err = {0};
    calibrate(ARCH_DRUNET34, 4, results);
    if (!results[PRECISION_INT8].measured || !results[PRECISION_BF16].measured)
        SKIP("this processor has no bf16 or no int8 instructions");
    prove_all(cal);
    CHECK_OK(model_open(cal, &model, &err), &err);
    CHECK_INT(model_info(model)->precisions, 7);
    CHECK_INT(model_info(model)->unproven, 0);
    model_close(model);
    CHECK_OK(model_write_metadata(cal, &only_f32, 1, other, &err), &err); /* measured, too bad */
    CHECK_STATUS(try_run(other, "int8", 1, y, &used, &err), ST_MODEL_UNFIT);
    CHECK(strstr(err.msg, "does not allow int8") != NULL);
    const MetadataValue narrow = {"int8", "{\"conv1\":1e-3}"};
    CHECK_OK(model_write_metadata(cal, &narrow, 1, other, &err), &err); /* other ranges */
    CHECK_OK(model_open(other, &model, &err), &err);
    CHECK_INT(model_info(model)->unproven, 1u << PRECISION_INT8);
    model_close(model);
    CHECK_OK(model_write_metadata(cal, &none, 1, other, &err), &err);
    check_unproven(other, "it holds no calibration");
    CHECK_OK(model_write_metadata(cal, &damaged, 1, other, &err), &err);
    check_unproven(other, "it holds no calibration");
    CHECK_OK(file_read(cal, 1 << 26, &file, &size, &err), &err);
    file[size - 4] ^= 1; /* the last digit of the last weight */
    CHECK_OK(file_write_durable(other, file, size, &err), &err);
    free(file);
    check_unproven(other, "its calibration is of other weights");
    double difference;
    CHECK_OK(model_open(other, &model, &err), &err); /* in f32 it is good */
    CHECK_OK(model_verify(model, "cpu", &difference, &err), &err);
    model_close(model);
}

static void fill_same(void *context, int32_t i, float *ret_x)
{
    (void)i;
    for (int k = 0; k < 3 * PIXELS; k++)
        ret_x[k] = *(const float *)context;
}

TEST(calibration_refuses_what_is_no_head,
     "slices of one value: int8 is not allowed; of infinities, NaN, 1e38: told, nothing written")
{
    static const float BAD[] = {INFINITY, NAN, 1e38f};
    float value = -2;
    CalibrateData data = {1, H, W, &value, fill_same};
    CalibrateResult results[PRECISION_COUNT];
    const char *demo = "etc/models/demo-t1-w16.safetensors", *to = path_of("no.safetensors");
    Err err = {0};
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        value = BAD[i];
        CHECK_STATUS(calibrate_model(demo, &data, 1, to, results, &err),
                     i < 2 ? ST_UNSUPPORTED : ST_BACKEND);
        CHECK(strstr(err.msg, "values that are no numbers") != NULL);
        CHECK(access(to, F_OK) != 0);
    }
    value = -2;
    CHECK_OK(calibrate_model(demo, &data, 1, to, results, &err), &err);
    const CalibrateResult *int8 = &results[PRECISION_INT8];
    if (!net_has("cpu", PRECISION_INT8))
        SKIP("this processor has no int8 instructions");
    (void)printf("# int8: %.1f dB, %s\n", int8->psnr_db, int8->why);
    CHECK(!int8->allowed && int8->why[0] != '\0');
    Model *model;
    CHECK_OK(model_open(to, &model, &err), &err);
    CHECK((model_info(model)->precisions & 1u << PRECISION_INT8) == 0);
    model_close(model);
    allow_all(to); /* it was measured, and not good enough */
    CHECK_OK(model_open(to, &model, &err), &err);
    CHECK((model_info(model)->unproven & 1u << PRECISION_INT8) != 0);
    model_close(model);
    prove_all(to); /* as a file made elsewhere may say */
    double difference;
    CHECK_OK(model_open(to, &model, &err), &err);
    CHECK_STATUS(model_verify(model, "cpu", &difference, &err), ST_BACKEND);
    CHECK(strstr(err.msg, "int8") != NULL);
    model_close(model);
}

TEST(observe_takes_what_is_no_number, "NaN, infinity and the smallest numbers stay within the bins")
{
    const Graph graph = {.values = {{.c = 1, .h = 1, .w = 4}}};
    const float x[4] = {NAN, INFINITY, 1e-39f, 1};
    static Observed observed;
    const unsigned char *values = (const unsigned char *)x;
    dnnl_observe(&graph, 0, values, 1e-39f, &observed);
    CHECK(isinf(observed.largest));
    CHECK_INT(observed.bins[OBSERVED_BINS - 1], 3); /* NaN is not above 0 */
}

enum { DEMO_SIDE = 256, DEMO_N = 2, DEMO_PIXELS = DEMO_SIDE * DEMO_SIDE };
static float heads[DEMO_N * 3 * DEMO_PIXELS];
static const float MEAN[3] = {0.485f, 0.456f, 0.406f}, SD[3] = {0.229f, 0.224f, 0.225f};

static void make_heads(void)
{
    uint64_t seed = 9;
    for (int i = 0; i < DEMO_N * DEMO_PIXELS; i++) { /* a skull, a brain with folds, ventricles */
        double x = (i % DEMO_SIDE - 127.5) / 80, y = (i / DEMO_SIDE % DEMO_SIDE - 127.5) / 95;
        double r = hypot(x, y), folds = sin(25 * x) * sin(25 * y);
        double v = r > 1 ? 0 : r > 0.92 ? 1 : hypot(x, 2 * y) < 0.25 ? 0.1 : 0.4 + 0.05 * folds;
        v = fmin(fmax(v + 0.05 * (model_file_random(&seed) - 0.5), 0), 1);
        for (int c = 0; c < 3; c++)
            heads[(i / DEMO_PIXELS * 3 + c) * DEMO_PIXELS + i % DEMO_PIXELS] =
                ((float)v - MEAN[c]) / SD[c];
    }
}

TEST(calibration_looks_at_the_worst, "mean and worst slice, PSNR and SSIM: each of the four counts")
{
    CalibrateResult good = {.psnr_db = 45, .ssim = 0.995, .psnr_min_db = 40, .ssim_min = 0.98};
    CHECK(calibrate_allows(&good));
    for (int i = 0; i < 4; i++) {
        CalibrateResult bad = good;
        *(i == 0   ? &bad.psnr_db
          : i == 1 ? &bad.ssim
          : i == 2 ? &bad.psnr_min_db
                   : &bad.ssim_min) *= 0.999;
        CHECK(!calibrate_allows(&bad));
    }
}

TEST(calibration_wants_ct_slices,
     "a head passes; noise, a blank slice, another normalisation, NaN are refused by number")
{
    static const char *const SAYS[] = {"is noise", "holds no head", "in channel 1",
                                       "noise or blank", "no windowed CT"};
    NetMemory memory = {heads, NULL, 3 * DEMO_PIXELS, DEMO_PIXELS};
    const NetFeed feed = net_feed_memory(&memory);
    const CalibrateData data = {DEMO_N, DEMO_SIDE, DEMO_SIDE, &memory, feed.fill};
    ModelInfo model = {.grid_pixels = DEMO_SIDE};
    memcpy(model.mean, MEAN, sizeof MEAN);
    memcpy(model.std, SD, sizeof SD);
    CalibrateData small = data;
    small.height = DEMO_SIDE / 2;
    Err why = {0};
    CHECK_STATUS(calibrate_check(&model, &small, &why), ST_UNSUPPORTED);
    CHECK(strstr(why.msg, "slices of 128 x 256 pixels: this model computes 256 x 256") != NULL);
    for (int bad = 0; bad < 5; bad++) {
        float *x = heads + 3 * DEMO_PIXELS; /* slice 1 */
        uint64_t seed = 5;
        Err err = {0};
        make_heads();
        CHECK_OK(calibrate_check(&model, &data, &err), &err);
        for (int i = 0; i < 3 * DEMO_PIXELS; i++) {
            int c = i / DEMO_PIXELS;
            double w =
                c == 0 ? model_file_random(&seed) : (double)(x[i % DEMO_PIXELS] * SD[0] + MEAN[0]);
            if (bad == 0)
                x[i] = ((float)w - MEAN[c]) / SD[c];
            else if (bad == 1)
                x[i] = -MEAN[c] / SD[c];
            else if (bad == 2 && c == 1)
                x[i] += 0.1f;
            else if (bad == 3) /* grey, but for rounding, which correlates */
                x[i] = ((i / 7 % 2 != 0 ? 0.5f : 0.500001f) - MEAN[c]) / SD[c];
        }
        if (bad == 4)
            x[77] = NAN;
        CHECK_STATUS(calibrate_check(&model, &data, &err), ST_UNSUPPORTED);
        CHECK(strstr(err.msg, "slice 1 (the first is 0)") != NULL);
        if (strstr(err.msg, SAYS[bad]) == NULL)
            test_fail(__FILE__, __LINE__, "%d: %s", bad, err.msg);
    }
}

/* Numbers first .. first + n of an f16 tensor times `by`. */
static void scale_f16(char *file, const cJSON *header, size_t header_bytes, const char *name,
                      size_t first, size_t n, float by)
{
    const cJSON *tensor = cJSON_GetObjectItemCaseSensitive(header, name);
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(tensor, "data_offsets");
    CHECK_STR(cJSON_GetObjectItemCaseSensitive(tensor, "dtype")->valuestring, "F16");
    char *at = file + 8 + header_bytes + (size_t)cJSON_GetArrayItem(offsets, 0)->valuedouble;
    for (size_t i = first; i < first + n; i++) {
        uint16_t half;
        memcpy(&half, at + i * sizeof half, sizeof half);
        half = f16_from_f32(by * f32_from_f16(half));
        memcpy(at + i * sizeof half, &half, sizeof half);
    }
}

/* The demonstration model as another set of weights for the same function: a channel near the end
** is 64 times as large, and the weights that take it 64 times as small. One scale does not fit
** both it and the other channels. */
static void write_uneven(const char *to)
{
    enum { CHANNELS = 16, TAPS = 9 };
    char *file;
    size_t size;
    uint64_t header_bytes;
    Err err = {0};
    CHECK_OK(file_read("etc/models/demo-t1-w16.safetensors", 64 << 20, &file, &size, &err), &err);
    memcpy(&header_bytes, file, sizeof header_bytes);
    cJSON *header = cJSON_ParseWithLength(file + 8, (size_t)header_bytes);
    size_t n = (size_t)header_bytes;
    scale_f16(file, header, n, "up3.1.bn1.weight", 0, 1, 64);
    scale_f16(file, header, n, "up3.1.bn1.bias", 0, 1, 64);
    for (size_t o = 0; o < CHANNELS; o++)
        scale_f16(file, header, n, "up3.1.conv2.weight", o * CHANNELS * TAPS, TAPS, 1.0f / 64);
    CHECK_OK(file_write_durable(to, file, size, &err), &err);
    cJSON_Delete(header);
    free(file);
}

TEST(calibration_keeps_the_end_in_floats,
     "uneven channels near the end: int8 throughout is not good enough, a few floats make it so")
{
    char uneven[PATH_SIZE];
    (void)snprintf(uneven, sizeof uneven, "%s", path_of("uneven.safetensors"));
    write_uneven(uneven);
    make_heads();
    NetMemory memory = {heads, NULL, 3 * DEMO_PIXELS, DEMO_PIXELS};
    const NetFeed feed = net_feed_memory(&memory);
    const CalibrateData data = {DEMO_N, DEMO_SIDE, DEMO_SIDE, &memory, feed.fill};
    CalibrateResult results[PRECISION_COUNT];
    Err err = {0};
    CHECK_OK(calibrate_model(uneven, &data, 2, path_of("demo.safetensors"), results, &err), &err);
    const CalibrateResult *int8 = &results[PRECISION_INT8];
    if (!int8->measured)
        SKIP("this processor has no int8 instructions");
    (void)printf("# int8: %.1f dB, SSIM %.4f, worst %.1f, %.4f, %d convolutions in floats\n",
                 int8->psnr_db, int8->ssim, int8->psnr_min_db, int8->ssim_min, int8->n_float);
    CHECK(int8->psnr_min_db <= int8->psnr_db && int8->ssim_min <= int8->ssim);
    CHECK(int8->allowed && int8->n_float > 1 && int8->n_float <= 11);
}

TEST_TIMEOUT(calibration_measures_f16_on_a_gpu,
             "emulated: allowed, then \"auto\" takes it; without a driver or failing: not allowed",
             120)
{
    static float got[N * PIXELS], cpu[N * PIXELS];
    CudaEmulator *emulator = cuda_emulator_open();
    CalibrateResult results[PRECISION_COUNT];
    const CalibrateResult *f16 = &results[PRECISION_F16];
    Precision used;
    Err err = {0};
    calibrate(ARCH_DRUNET34, 8, results);
    (void)printf("# f16: %.1f dB, SSIM %.6f\n", f16->psnr_db, f16->ssim);
    int n_works = emulator->n_works;
    CHECK(f16->measured && f16->allowed && f16->psnr_db > 60 && f16->psnr_db < 100);
    Model *model;
    Net *net;
    CHECK_OK(model_open(path_of("cal.safetensors"), &model, &err), &err);
    CHECK((model_info(model)->precisions & 1u << PRECISION_F16) != 0);
    const NetOptions options = {.backend = "auto", .batch = 2, .height = H, .width = W};
    CHECK_OK(net_open(model, &options, &net, &err), &err);
    CHECK_STR(net_backend(net), "cuda");
    CHECK_INT(net_precision(net), PRECISION_F16);
    CHECK_OK(net_run(net, slices, N, got, &err), &err);
    net_close(net);
    model_close(model);
    CHECK_OK(try_run(path_of("cal.safetensors"), "f32", 2, cpu, &used, &err), &err);
    CHECK_NEAR(psnr(cpu, got), f16->psnr_db, 1.5); /* of all slices, not the mean of theirs */

    emulator->no_driver = 1;
    calibrate(ARCH_DRUNET34, 8, results);
    CHECK(!f16->measured && !f16->allowed && results[PRECISION_F32].allowed);
    CHECK(strstr(f16->why, "looking for GPUs") != NULL);
    emulator->no_driver = 0;
    emulator->restart();
    emulator->fail_work = n_works; /* the last of all, behind the self-test */
    calibrate(ARCH_DRUNET34, 8, results);
    CHECK(!f16->measured && !f16->allowed && f16->why[0] != '\0');
    CHECK_OK(model_open(path_of("cal.safetensors"), &model, &err), &err);
    CHECK((model_info(model)->precisions & 1u << PRECISION_F16) == 0);
    model_close(model);
}

TEST(model_write_changes_metadata_only, "a key is set, another removed, the tensors' bytes stay")
{
    const MetadataValue values[] = {{"label", "other"}, {"licence", NULL}};
    Err err = {0};
    char *before, *after;
    size_t n_before, n_after, n_data = 4096;
    Model *model;
    model_file_write_random(path_of("a.safetensors"), ARCH_DRUNET34, 2);
    CHECK_OK(
        model_write_metadata(path_of("a.safetensors"), values, 2, path_of("b.safetensors"), &err),
        &err);
    CHECK_OK(model_open(path_of("b.safetensors"), &model, &err), &err);
    CHECK_STR(model_info(model)->label, "other");
    CHECK_STR(model_info(model)->licence, "");
    model_close(model);
    CHECK_OK(file_read(path_of("a.safetensors"), 1 << 26, &before, &n_before, &err), &err);
    CHECK_OK(file_read(path_of("b.safetensors"), 1 << 26, &after, &n_after, &err), &err);
    CHECK(memcmp(before + n_before - n_data, after + n_after - n_data, n_data) == 0);
    free(before);
    free(after);
}
