/* gpu/trust.h: the self-test of backend cpu (test_cuda.c has that of cuda). Claims: in each
** precision the machine has, right weights pass and any one convolution with its weights in another
** layout is refused, with room on both sides; a network that magnifies rounding is not taken for a
** broken backend.
**
** Method: the backend is opened with another model file than the one it is judged by. */
#include "tests/test.h"

#include "base/files.h"
#include "daemon/cli.h"
#include "gpu/calibrate.h"
#include "gpu/cuda_plugin.h"
#include "gpu/golden.h"
#include "gpu/graph_passes.h"
#include "gpu/model_write.h"
#include "gpu/net.h"
#include "gpu/network.h"
#include "gpu/npy.h"
#include "gpu/trust.h"
#include "gpu/verify.h"
#include "tests/cuda_fixture.h"
#include "tests/random_model.h"

#include <cjson/cJSON.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { H = TRUST_HEIGHT, W = TRUST_WIDTH };

static const Model *opened_with; /* in place of the model that is judged */

static Status open_other(const Graph *graph, const Model *model, const BackendOptions *options,
                         void **ret, Err *err)
{
    return backend_dnnl.open(graph, opened_with != NULL ? opened_with : model, options, ret, err);
}

static Backend other_backend(void)
{
    Backend backend = backend_dnnl;
    backend.open = open_other;
    return backend;
}

/* ---- model files ---------------------------------------------------------------------------- */

static const char *path_of(const char *name)
{
    static char paths[4][PATH_SIZE];
    static int next;
    char *path = paths[next++ % 4];
    CHECK_OK(path_format(path, NULL, "%s/%s", test_dir(), name), &(Err){0});
    return path;
}

typedef struct ModelBytes {
    char *data;
    size_t size;
    cJSON *header;
} ModelBytes;

static ModelBytes read_model(const char *path)
{
    ModelBytes m;
    uint64_t header_bytes;
    Err err = {0};
    CHECK_OK(file_read(path, 256 << 20, &m.data, &m.size, &err), &err);
    memcpy(&header_bytes, m.data, sizeof header_bytes);
    m.header = cJSON_ParseWithLength(m.data + 8, (size_t)header_bytes);
    CHECK(m.header != NULL);
    return m;
}

/* Where the floats of a tensor are (not aligned), and how many. */
static char *floats(const ModelBytes *m, const char *name, size_t *ret_n)
{
    uint64_t header_bytes;
    memcpy(&header_bytes, m->data, sizeof header_bytes);
    const cJSON *tensor = cJSON_GetObjectItemCaseSensitive(m->header, name);
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(tensor, "data_offsets");
    size_t from = (size_t)cJSON_GetArrayItem(offsets, 0)->valuedouble;
    *ret_n = ((size_t)cJSON_GetArrayItem(offsets, 1)->valuedouble - from) / sizeof(float);
    return m->data + 8 + header_bytes + from;
}

/* (c_out, c_in, taps) as if it had been (c_out, taps, c_in); taps 1: (c_in, c_out). */
static void permute(const ModelBytes *m, const char *name)
{
    char key[GRAPH_NAME_SIZE + 8];
    uint64_t header_bytes;
    memcpy(&header_bytes, m->data, sizeof header_bytes);
    (void)snprintf(key, sizeof key, "%s.weight", name);
    const cJSON *tensor = cJSON_GetObjectItemCaseSensitive(m->header, key);
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(tensor, "shape");
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(tensor, "data_offsets");
    size_t dim[4], at = 8 + (size_t)header_bytes;
    for (int i = 0; i < 4; i++)
        dim[i] = (size_t)cJSON_GetArrayItem(shape, i)->valueint;
    at += (size_t)cJSON_GetArrayItem(offsets, 0)->valuedouble;
    size_t c_out = dim[0], c_in = dim[1], taps = dim[2] * dim[3];
    size_t size = strcmp(cJSON_GetObjectItemCaseSensitive(tensor, "dtype")->valuestring, "F32") == 0
                      ? sizeof(float)
                      : sizeof(uint16_t);
    size_t bytes = c_out * c_in * taps * size;
    char *w = malloc(bytes), *moved = m->data + at;
    CHECK(w != NULL);
    memcpy(w, moved, bytes);
    for (size_t o = 0; o < c_out; o++)
        for (size_t i = 0; i < c_in; i++)
            for (size_t t = 0; t < taps; t++)
                memcpy(moved + ((o * c_in + i) * taps + t) * size,
                       w + (taps > 1 ? (o * taps + t) * c_in + i : i * c_out + o) * size, size);
    free(w);
}

static Model *wrong_model(const char *path, const char *name)
{
    const char *to = path_of("wrong.safetensors");
    ModelBytes m = read_model(path);
    Model *model;
    Err err = {0};
    permute(&m, name);
    CHECK_OK(file_write_durable(to, m.data, m.size, &err), &err);
    CHECK_OK(model_open(to, &model, &err), &err);
    cJSON_Delete(m.header);
    free(m.data);
    return model;
}

/* ---- every convolution ---------------------------------------------------------------------- */

static BackendOptions options(Precision precision)
{
    return (BackendOptions){.precision = precision,
                            .threads = 1,
                            .batch = 1,
                            .winograd_mib = NET_WINOGRAD_MIB,
                            .deadline_s = 60};
}

static void check_precision(const char *file, Precision precision)
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof path, "%s", file);
    const Backend backend = other_backend();
    const BackendOptions o = options(precision);
    unsigned passes = GRAPH_PASSES_ALL;
    if (precision == PRECISION_INT8)
        passes &= ~(1u << GRAPH_PASS_SPLIT_CONCAT);
    TrustResult right = {0}, wrong = {0};
    double least = 100;
    char weakest[GRAPH_NAME_SIZE] = "", before[GRAPH_NAME_SIZE] = "";
    Err err = {0};
    Model *model;
    int n = 0;
    Graph *literal = malloc(sizeof *literal), *table = malloc(sizeof *table);
    CHECK_OK(model_open(path, &model, &err), &err);
    CHECK_OK(network_build(model_info(model), H, W, literal, &err), &err);
    CHECK_OK(graph_rewrite(literal, passes, table, &err), &err);
    opened_with = NULL;
    CHECK_OK(trust_check(&backend, model, &o, passes, &right, &err), &err);
    for (int32_t i = 0; i < table->n_ops; i++) {
        const Op *op = &table->ops[i];
        if (op->kind != OP_CONV || strcmp(op->name, before) == 0)
            continue;
        if (graph_conv_kernel(op) == 1 && table->values[op->output].c == 1)
            continue; /* one layout only */
        memcpy(before, op->name, sizeof before);
        Model *spoilt = wrong_model(path, op->name);
        opened_with = spoilt;
        Status status = trust_check(&backend, model, &o, passes, &wrong, &err);
        if (wrong.operation_rms < least) {
            least = wrong.operation_rms;
            memcpy(weakest, op->name, sizeof weakest);
        }
        model_close(spoilt);
        if (status == ST_OK || strstr(err.msg, op->name) == NULL)
            (void)printf("# %s: %d %s\n", op->name, status, err.msg);
        CHECK_STATUS(status, ST_SELF_TEST);
        CHECK(strstr(err.msg, op->name) != NULL);
        n++;
    }
    double most = trust_operation_tolerance(precision);
    (void)printf("# %s %s: right %.2g (%s); each of %d convolutions wrong: %.2g or "
                 "more (%s)\n",
                 network_name(model_info(model)->arch), precision_name(precision),
                 right.operation_rms, right.operation, n, least, weakest);
    CHECK(right.operation_rms < most / 2 && least > most * 2);
    free(literal);
    free(table);
    model_close(model);
}

static void fill_golden(void *context, int32_t i, float *ret_x)
{
    (void)context;
    golden_slice(H, W, ret_x);
    for (int k = 0; k < 3 * H * W; k++)
        ret_x[k] *= 1 + 0.1f * (float)i;
}

/* All precisions that the machine has; int8 with ranges of its own. */
static void check_model(const char *file)
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof path, "%s", file);
    unsigned have = backend_dnnl.precisions();
    check_precision(path, PRECISION_F32);
    if ((have & 1u << PRECISION_BF16) != 0)
        check_precision(path, PRECISION_BF16);
    if ((have & 1u << PRECISION_INT8) == 0)
        return;
    CalibrateResult results[PRECISION_COUNT];
    const CalibrateData data = {3, H, W, NULL, fill_golden};
    Err err = {0};
    CHECK_OK(calibrate_model(path, &data, 1, path_of("int8.safetensors"), results, &err), &err);
    check_precision(path_of("int8.safetensors"), PRECISION_INT8);
}

static void check_random(ModelArch arch, int32_t width)
{
    model_file_write_random(path_of("m.safetensors"), arch, width);
    check_model(path_of("m.safetensors"));
}

TEST_TIMEOUT(trust_cpu_drunet34, "backend cpu, a narrow DRUNet-34: right passes, wrong is refused",
             300)
{
    check_random(ARCH_DRUNET34, 8);
}

TEST_TIMEOUT(trust_cpu_drunet50, "the same, a narrow DRUNet-50", 300)
{
    check_random(ARCH_DRUNET50, 8);
}

TEST_TIMEOUT(trust_cpu_unet, "the same, a narrow U-Net", 300)
{
    check_random(ARCH_UNET, 16);
}

TEST_TIMEOUT(trust_cpu_demo_model, "the same, the shipped model", 300)
{
    check_model("etc/models/demo-t1-w16.safetensors");
}

/* ---- a network that magnifies rounding ------------------------------------------------------ */

static void add(char *at, float more)
{
    float value;
    memcpy(&value, at, sizeof value);
    value += more;
    memcpy(at, &value, sizeof value);
}

/* The same function, but that a batch norm adds a large number to all it gives and the next takes
** what becomes of it away again. */
static void add_and_take_away(const ModelBytes *m, const char *block, float much)
{
    char name[64];
    size_t n, n_out, n_weights;
    (void)snprintf(name, sizeof name, "%s.bn1.bias", block);
    char *beta = floats(m, name, &n);
    (void)snprintf(name, sizeof name, "%s.bn2.running_mean", block);
    char *mean = floats(m, name, &n_out);
    (void)snprintf(name, sizeof name, "%s.conv2.weight", block);
    const char *w = floats(m, name, &n_weights);
    for (size_t i = 0; i < n; i++)
        add(beta + i * sizeof(float), much);
    for (size_t i = 0; i < n_weights; i++) {
        float weight;
        memcpy(&weight, w + i * sizeof weight, sizeof weight);
        add(mean + i / (n_weights / n_out) * sizeof(float), much * weight);
    }
}

/* The status of backend cuda (emulated) in f16. */
static Status try_magnifying(const char *block, float much, TrustResult *ret, Err *err)
{
    BackendOptions o = options(PRECISION_F16);
    const CudaPlugin *plugin;
    Model *model;
    TrustResult f32;
    CHECK_OK(cuda_plugin(&plugin, err), err);
    ModelBytes m = read_model(path_of("random.safetensors"));
    add_and_take_away(&m, block, much);
    CHECK_OK(file_write_durable(path_of("large.safetensors"), m.data, m.size, err), err);
    CHECK_OK(model_open(path_of("large.safetensors"), &model, err), err);
    Status status = trust_check(&plugin->backend, model, &o, plugin->backend.passes, ret, err);
    (void)printf("# %s: operations %.2g (%s), output %.2g\n", block, ret->operation_rms,
                 ret->operation, ret->output_rms);
    CHECK(ret->operation_rms < trust_operation_tolerance(PRECISION_F16) / 4);
    o.precision = PRECISION_F32;
    opened_with = NULL;
    Err none = {0};
    CHECK_OK(trust_check(&backend_dnnl, model, &o, GRAPH_PASSES_ALL, &f32, &none), &none);
    cJSON_Delete(m.header);
    free(m.data);
    model_close(model);
    return status;
}

TEST_TIMEOUT(trust_knows_what_magnifies_rounding,
             "a large number added and taken away: no operation is blamed, the model may be", 120)
{
    TrustResult result;
    Err err = {0};
    (void)cuda_emulator_open();
    model_close(random_model(ARCH_DRUNET34, 8));
    CHECK_OK(try_magnifying("layer1.0", 4000, &result, &err), &err);
    CHECK(result.output_rms > 5e-3); /* comparing the ends alone took this for a broken backend */
    CHECK_STATUS(try_magnifying("up3.2", 8000, &result, &err), ST_SELF_TEST);
    (void)printf("# %s\n", err.msg);
    CHECK(strstr(err.msg, "the model magnifies rounding") != NULL);
}

/* ---- a model that is beyond f16 -------------------------------------------------------------- */

/* A batch norm's factors times `factor`; backend cuda (emulated) by name, then "auto". */
static void check_beyond_f16(float factor, const char *says)
{
    const NetOptions automatic = {
        .backend = "auto", .batch = 1, .height = H, .width = W, .precision = "f16"};
    const BackendOptions o = options(PRECISION_F16);
    const CudaPlugin *plugin;
    TrustResult result;
    Model *model;
    Net *net;
    size_t n;
    Err err = {0};
    CHECK_OK(cuda_plugin(&plugin, &err), &err);
    ModelBytes m = read_model(path_of("random.safetensors"));
    char *gamma = floats(&m, "layer1.0.bn1.weight", &n);
    for (size_t i = 0; i < n; i++) {
        float value;
        memcpy(&value, gamma + i * sizeof value, sizeof value);
        add(gamma + i * sizeof value, (factor - 1) * value);
    }
    CHECK_OK(file_write_durable(path_of("large.safetensors"), m.data, m.size, &err), &err);
    CHECK_OK(model_open(path_of("large.safetensors"), &model, &err), &err);
    CHECK_STATUS(trust_check(&plugin->backend, model, &o, plugin->backend.passes, &result, &err),
                 ST_MODEL_UNFIT);
    (void)printf("# %s\n", err.msg);
    CHECK(strstr(err.msg, "this model is not for f16") != NULL && strstr(err.msg, says) != NULL);
    CHECK(strstr(err.msg, "layer1.0.conv1") != NULL && strstr(err.msg, "out of service") == NULL);
    CHECK_OK(net_open(model, &automatic, &net, &err), &err);
    CHECK_STR(net_backend(net), "cpu");
    CHECK(strstr(net_notice(net), "this model is not for f16") != NULL);
    CHECK_STR(net_out_of_service(net), ""); /* no alert: the GPU is well */
    net_close(net);
    cJSON_Delete(m.header);
    free(m.data);
    model_close(model);
}

TEST_TIMEOUT(trust_blames_the_model_beyond_f16,
             "weights or values too large for f16: the model is at fault, \"auto\" is the CPU", 120)
{
    (void)cuda_emulator_open();
    model_close(random_model(ARCH_DRUNET34, 8));
    check_beyond_f16(1e5f, "values beyond 65504");
    check_beyond_f16(1e8f, "a weight of");
}

/* ---- a model that is beyond float32, one with large outputs --------------------------------- */

/* All numbers of the tensor times `factor`, and outputs as they are, without a sigmoid. */
static void write_scaled(const char *tensor, float factor, const char *to)
{
    const MetadataValue linear = {"activation", "linear"};
    size_t n;
    Err err = {0};
    ModelBytes m = read_model(path_of("random.safetensors"));
    char *at = floats(&m, tensor, &n);
    for (size_t i = 0; i < n; i++) {
        float value;
        memcpy(&value, at + i * sizeof value, sizeof value);
        value *= factor;
        memcpy(at + i * sizeof value, &value, sizeof value);
    }
    CHECK_OK(file_write_durable(to, m.data, m.size, &err), &err);
    CHECK_OK(model_write_metadata(to, &linear, 1, to, &err), &err);
    cJSON_Delete(m.header);
    free(m.data);
}

TEST_TIMEOUT(
    trust_alerts_whatever_the_cpu_does,
    "a wrong GPU and a model that the CPU cannot compute; a GPU that fails and a changed file", 120)
{
    CudaEmulator *emulator = cuda_emulator_open();
    NetOptions o = {
        .backend = "auto", .precision = "f16", .batch = 1, .height = 32, .width = 32, .threads = 1};
    static float x[3 * 32 * 32], y[32 * 32];
    Model *model;
    Net *net;
    Err err = {0};
    model_close(random_model(ARCH_DRUNET34, 8));
    for (int i = 0; i < 12; i++) { /* each fits f16, their product not f32 */
        char name[32];
        (void)snprintf(name, sizeof name, "layer%d.%d.bn%d.weight", 1 + i / 6, i / 2 % 3,
                       1 + i % 2);
        write_scaled(name, 1e4f, path_of("random.safetensors"));
    }
    CHECK_OK(model_open(path_of("random.safetensors"), &model, &err), &err);
    emulator->spoil_upload = 1; /* conv1, before the layer that is too large */
    emulator->spoil_c = 8;
    emulator->spoil_taps = 49;
    CHECK_STATUS(net_open(model, &o, &net, &err), ST_SELF_TEST);
    (void)printf("# %s\n", err.msg);
    CHECK(strstr(err.msg, "out of service") != NULL && strstr(err.msg, "not for f32") != NULL);
    model_close(model);

    emulator->spoil_upload = 0;
    model = random_model(ARCH_DRUNET34, 8);
    CHECK_OK(net_open(model, &o, &net, &err), &err);
    CHECK_STR(net_backend(net), "cuda");
    CHECK(utimensat(AT_FDCWD, path_of("random.safetensors"),
                    (const struct timespec[2]){{1, 0}, {1, 0}}, 0) == 0);
    emulator->fail_work = emulator->n_works + 1;
    CHECK(net_run(net, x, 1, y, &err) != ST_OK);
    (void)printf("# %s\n", err.msg);
    CHECK(strstr(err.msg, "changed") != NULL);
    CHECK_STR(net_signature(net), "");
    CHECK_STATUS(net_run(net, x, 1, y, &err), ST_BACKEND);
    net_close(net);
    model_close(model);
}

TEST(trust_negative_variance, "a running variance below 0 is damage, named with its place")
{
    const NetOptions o = {
        .backend = "cpu", .precision = "f32", .batch = 1, .height = 32, .width = 32, .threads = 1};
    Model *model;
    Net *net;
    Err err = {0};
    model_close(random_model(ARCH_DRUNET34, 8));
    write_scaled("layer2.1.bn2.running_var", -1e-3f, path_of("negative.safetensors"));
    CHECK_OK(model_open(path_of("negative.safetensors"), &model, &err), &err);
    CHECK_STATUS(net_open(model, &o, &net, &err), ST_MODEL_FORMAT);
    CHECK(strstr(err.msg, "tensor layer2.1.bn2.running_var is negative at 0") != NULL);
    model_close(model);
}

TEST(trust_blames_the_model_beyond_f32, "weights too large for any backend: the model is at fault")
{
    const BackendOptions o = options(PRECISION_F32);
    TrustResult result;
    Model *model;
    Err err = {0};
    double difference;
    model_close(random_model(ARCH_DRUNET34, 8));
    write_scaled("layer1.0.bn1.weight", 1e38f, path_of("huge.safetensors"));
    CHECK_OK(model_open(path_of("huge.safetensors"), &model, &err), &err);
    CHECK_STATUS(trust_check(&backend_dnnl, model, &o, GRAPH_PASSES_ALL, &result, &err),
                 ST_MODEL_UNFIT);
    (void)printf("# %s\n", err.msg);
    CHECK(strstr(err.msg, "not for f32") != NULL && strstr(err.msg, "not at fault") != NULL);
    CHECK_STATUS(model_verify(model, "ref", &difference, &err), ST_MODEL_UNFIT);
    model_close(model);
    Npy x = {.n_dims = 4, .dims = {1, 3, 32, 32}, .data = calloc(3 * 32 * 32, sizeof(float))};
    CHECK(x.data != NULL);
    for (int i = 0; i < 3 * 32 * 32; i++)
        x.data[i] = (float)(i % 7);
    char file[PATH_SIZE], in[PATH_SIZE], out[PATH_SIZE];
    (void)snprintf(file, sizeof file, "%s", path_of("huge.safetensors"));
    (void)snprintf(in, sizeof in, "%s", path_of("x.npy"));
    (void)snprintf(out, sizeof out, "%s", path_of("y.npy"));
    CHECK_OK(npy_write(in, &x, &err), &err);
    npy_free(&x);
    char *infer[] = {"infer", "--model", file, "--in", in, "--out", out, "--backend", "ref", NULL};
    CHECK_INT(cli_infer(9, infer), CLI_NEGATIVE);
    CHECK(access(out, F_OK) != 0); /* backend ref has no self-test: the output is looked at */
}

TEST(verify_is_relative_to_large_outputs,
     "outputs of thousands: rounding of a ten-thousandth of them")
{
    Model *model;
    Err err = {0};
    double difference;
    model_close(random_model(ARCH_DRUNET34, 8));
    write_scaled("up4.weight", 1e6f, path_of("large.safetensors"));
    CHECK_OK(model_open(path_of("large.safetensors"), &model, &err), &err);
    CHECK_OK(model_verify(model, "cpu", &difference, &err), &err);
    (void)printf("# differs by %.3g\n", difference);
    CHECK(difference > 10 * VERIFY_TOLERANCE); /* else the test shows nothing */
    model_close(model);
}
