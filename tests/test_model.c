/* gpu/: the model file and .npy files. Claims: 16-bit numbers widen exactly; a good file is read as
** it was written; every kind of damage is refused with its own message, none crashes (run under
** make asan); .npy files make the round trip. */
#include "tests/test.h"

#include "base/files.h"
#include "gpu/half.h"
#include "gpu/npy.h"
#include "gpu/verify.h"
#include "tests/model_file.h"

#include <time.h>
#include <unistd.h>

/* ---- 16-bit numbers ------------------------------------------------------------------------ */

TEST(model_f16_is_exact, "all 65536 patterns of IEEE binary16 against its definition")
{
    for (int bits = 0; bits < 65536; bits++) {
        int exponent = bits >> 10 & 31, fraction = bits & 1023;
        double sign = bits & 0x8000 ? -1 : 1, got = (double)f32_from_f16((uint16_t)bits), want;
        if (exponent == 31 && fraction != 0) {
            CHECK(isnan(got));
            continue;
        }
        if (exponent == 31)
            want = sign * HUGE_VAL;
        else if (exponent == 0)
            want = sign * ldexp(fraction, -24);
        else
            want = sign * ldexp(1024 + fraction, exponent - 25);
        CHECK(got == want && signbit(got) == signbit(want));
    }
}

TEST(model_bf16_is_exact, "all 65536 patterns of bfloat16 against its definition")
{
    for (int bits = 0; bits < 65536; bits++) {
        int exponent = bits >> 7 & 255, fraction = bits & 127;
        double sign = bits & 0x8000 ? -1 : 1, got = (double)f32_from_bf16((uint16_t)bits), want;
        if (exponent == 255 && fraction != 0) {
            CHECK(isnan(got));
            continue;
        }
        if (exponent == 255)
            want = sign * HUGE_VAL;
        else if (exponent == 0)
            want = sign * ldexp(fraction, -133);
        else
            want = sign * ldexp(128 + fraction, exponent - 134);
        CHECK(got == want && signbit(got) == signbit(want));
    }
}

TEST(model_bf16_rounds_to_nearest, "every bfloat16 comes back; halfway goes to even")
{
    for (uint32_t bits = 0; bits < 0x7f80; bits++) { /* finite, positive */
        float here = f32_from_bf16((uint16_t)bits);
        CHECK_INT(bf16_from_f32(here), bits);
        CHECK_INT(bf16_from_f32(-here), bits | 0x8000u);
        if (bits + 1 == 0x7f80)
            continue;
        float middle = here + (f32_from_bf16((uint16_t)(bits + 1)) - here) / 2;
        CHECK_INT(bf16_from_f32(middle), bits + (bits & 1));
        CHECK_INT(bf16_from_f32(nextafterf(middle, here)), bits);
        CHECK_INT(bf16_from_f32(nextafterf(middle, HUGE_VALF)), bits + 1);
    }
}

/* ---- good files ---------------------------------------------------------------------------- */

#define FORMAT_ARCH "\"format\":\"ct2mr-model-1\",\"arch\":\"drunet-34\""
#define REST_OF(pose, pixels, spacing, window, std, mask)                                          \
    "\"target\":\"T2\",\"pose\":\"" pose "\",\"grid\":\"{\\\"pixels\\\":" pixels                   \
    ",\\\"spacing_mm\\\":" spacing "}\",\"window\":\"{" window "}\","                              \
    "\"mean\":\"[0.485,0.456,0.406]\",\"std\":\"[" std "]\",\"mask\":\"" mask "\""
#define SD "0.229,0.224,0.225"
#define BRAIN "\\\"level_hu\\\":40.5,\\\"width_hu\\\":80"
#define REST REST_OF("native", "448", "0.5714", BRAIN, SD, "brain")
#define WIDTH "\"width\":\"16\""
#define LINEAR "\"activation\":\"linear\""
#define FIELDS FORMAT_ARCH "," WIDTH "," LINEAR "," REST
#define META "\"__metadata__\":{" FIELDS "}"
#define TENSOR(name, dtype, shape, begin, end)                                                     \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end \
    "]}"
#define A TENSOR("a.weight", "F32", "[2,2]", 0, 16)
#define B TENSOR("b", "F16", "[3]", 16, 22)
#define B_FIRST TENSOR("b", "F16", "[3]", 0, 6)
#define A_LAST TENSOR("a.weight", "F32", "[2,2]", 6, 22)
#define OTHER_A TENSOR("c.weight", "F32", "[2,2]", 0, 16)
enum { DATA_BYTES = 22 };

static const char *write_file(const char *header, const void *data, size_t data_bytes)
{
    static char path[PATH_SIZE];
    Err err = {0};
    CHECK_OK(path_format(path, &err, "%s/small.model.safetensors", test_dir()), &err);
    model_file_write(path, header, data, data_bytes);
    return path;
}

TEST(model_reads_what_was_written, "F32, F16, BF16 at odd offsets, every metadata field")
{
    /* u8-aligned: the header's length is odd, so every number lies unaligned in memory */
    const char *header = "{" META "," TENSOR("b.bias", "BF16", "[2]", 0, 4) "," TENSOR(
        "h", "F16", "[1,3]", 4, 10) "," TENSOR("f.running_mean", "F32", "[1,2,1,1]", 10, 18) "}   ";
    const unsigned char data[18] = {0xc0, 0x3f, 0x00, 0xc0, 0x00, 0x3c, 0x01, 0x00, 0xff,
                                    0xfb, 0x00, 0x00, 0x20, 0x41, 0x01, 0x00, 0x00, 0x80};
    Err err = {0};
    Model *model;
    CHECK_OK(model_open(write_file(header, data, sizeof data), &model, &err), &err);
    const Tensor *b = model_tensor(model, "b.bias"), *h = model_tensor(model, "h");
    const Tensor *f = model_tensor(model, "f.running_mean");
    CHECK(b != NULL && h != NULL && f != NULL && model_tensor(model, "g") == NULL);
    CHECK(b->n_elements == 2 && b->n_dims == 1 && b->dims[0] == 2);
    CHECK(h->n_elements == 3 && f->n_elements == 2 && f->n_dims == 4 && f->dims[1] == 2);
    float x[3];
    CHECK_OK(model_read(model, b, x, &err), &err);
    CHECK(x[0] == 1.5f && x[1] == -2.0f);
    CHECK_OK(model_read(model, h, x, &err), &err);
    CHECK(x[0] == 1.0f && x[1] == 0x1p-24f && x[2] == -65504.0f);
    CHECK_OK(model_read(model, f, x, &err), &err);
    CHECK(x[0] == 10.0f && x[1] == -0x1p-149f);
    CHECK_STR(model_tensor_name(model, 0), "b.bias");
    CHECK_STR(model_tensor_name(model, 2), "h");
    CHECK(model_tensor_name(model, 3) == NULL && model_tensor_name(model, -1) == NULL);

    const ModelInfo *info = model_info(model);
    CHECK_STR(info->name, "small.model");
    CHECK_INT(strlen(info->digest), 64);
    CHECK(info->arch == ARCH_DRUNET34 && info->width == 16 && info->pose == POSE_NATIVE);
    CHECK(info->mask == MASK_BRAIN && info->activation == ACTIVATION_LINEAR);
    CHECK_STR(info->target, "T2");
    CHECK(info->interpolation == INTERPOLATION_LINEAR);
    CHECK(info->grid_pixels == 448 && info->window_level_hu == 40.5);
    CHECK(info->window_width_hu == 80 && info->mean[2] == 0.406f && info->std[1] == 0.224f);
    CHECK_NEAR(info->grid_spacing_mm, 0.5714, 1e-12);
    CHECK(!info->age_years.present && info->body_part[0] == '\0');
    CHECK_INT(info->n_parameters, 5); /* running statistics are not trained */
    model_close(model);
    model_close(NULL);
}

TEST(model_reads_interpolation, "cubic where the file says so; anything unknown is refused below")
{
    const unsigned char data[4] = {0};
    Err err = {0};
    Model *model;
    const char *header = "{\"__metadata__\":{" FIELDS
                         ",\"interpolation\":\"cubic\"}," TENSOR("b", "BF16", "[2]", 0, 4) "}";
    CHECK_OK(model_open(write_file(header, data, sizeof data), &model, &err), &err);
    CHECK(model_info(model)->interpolation == INTERPOLATION_CUBIC);
    model_close(model);
}

TEST(model_in_use_may_not_change, "a model file written into after it was hashed is refused")
{
    const char *header = "{" META "," TENSOR("b.bias", "F32", "[2]", 0, 8) "}";
    Err err = {0};
    Model *model;
    const char *path = write_file(header, NULL, 8);
    float x[2];
    CHECK_OK(model_open(path, &model, &err), &err);
    CHECK_OK(model_read(model, model_tensor(model, "b.bias"), x, &err), &err);
    struct timespec tick = {0, 20 * 1000 * 1000}; /* times of files advance in steps */
    (void)nanosleep(&tick, NULL);
    FILE *f = fopen(path, "r+b");
    CHECK(f != NULL && fseek(f, -1, SEEK_END) == 0 && fputc(0x40, f) == 0x40 && fclose(f) == 0);
    CHECK_STATUS(model_read(model, model_tensor(model, "b.bias"), x, &err), ST_MODEL_FORMAT);
    CHECK_STR(err.msg, "the model file was changed while it was in use");
    err = (Err){0};
    CHECK(truncate(path, 8) == 0);
    CHECK_STATUS(model_read(model, model_tensor(model, "b.bias"), x, &err), ST_MODEL_FORMAT);
    model_close(model);

    const char *path2 = write_file(header, NULL, 8); /* replaced by renaming: no matter */
    char other[PATH_SIZE];
    CHECK_OK(path_format(other, &err, "%s/other", test_dir()), &err);
    err = (Err){0};
    CHECK_OK(model_open(path2, &model, &err), &err);
    (void)nanosleep(&tick, NULL);
    f = fopen(other, "wb");
    CHECK(f != NULL && fclose(f) == 0 && rename(other, path2) == 0);
    CHECK_OK(model_read(model, model_tensor(model, "b.bias"), x, &err), &err);
    model_close(model);
}

TEST(model_reads_precisions_and_ranges, "metadata precisions and int8; f32 is always allowed")
{
    Err err = {0};
    Model *model;
    float range;
    CHECK_OK(model_open(write_file("{" META "," A "," B "}", NULL, DATA_BYTES), &model, &err),
             &err);
    CHECK_INT(model_info(model)->precisions, 1u << PRECISION_F32);
    CHECK(!model_calibrated_range(model, "conv1", &range));
    model_close(model);
    const char *header = "{\"__metadata__\":{" FIELDS ",\"precisions\":\"[\\\"bf16\\\"]\","
                         "\"int8\":\"{\\\"conv1\\\":2.5}\"}," A "," B "}";
    CHECK_OK(model_open(write_file(header, NULL, DATA_BYTES), &model, &err), &err);
    CHECK_INT(model_info(model)->precisions, 1u << PRECISION_F32);
    CHECK_INT(model_info(model)->unproven, 1u << PRECISION_BF16);
    CHECK(model_calibrated_range(model, "conv1", &range) && range == 2.5f);
    CHECK(!model_calibrated_range(model, "conv2", &range));
    model_close(model);
}

/* Opens two tensors whose metadata name bf16 and int8 and that were calibrated so. */
static ModelInfo open_with(const char *fields, const char *a, const char *b, const void *data,
                           const char *calibration)
{
    char header[4096];
    Err err = {0};
    Model *model;
    (void)snprintf(header, sizeof header,
                   "{\"__metadata__\":{%s,\"precisions\":\"[\\\"bf16\\\",\\\"int8\\\"]\","
                   "\"calibration\":\"%s\"},%s,%s}",
                   fields, calibration, a, b);
    CHECK_OK(model_open(write_file(header, data, DATA_BYTES), &model, &err), &err);
    ModelInfo info = *model_info(model);
    model_close(model);
    return info;
}

static ModelInfo open_calibrated(const char *a, const char *b, const void *data,
                                 const char *calibration)
{
    return open_with(FIELDS, a, b, data, calibration);
}

TEST(model_knows_its_function,
     "weights, types, shapes, activation, its slices make it; the order does not")
{
    static char data[DATA_BYTES];
    memset(data, 0, sizeof data);
    char want[65];
    memcpy(want, open_calibrated(A, B, data, "").function_digest, sizeof want);
    ModelInfo info = open_calibrated(B_FIRST, A_LAST, data, "");
    CHECK_STR(info.function_digest, want);
    info = open_calibrated(TENSOR("a.weight", "F32", "[4]", 0, 16), B, data, "");
    CHECK(strcmp(info.function_digest, want) != 0);
    info = open_calibrated(A, TENSOR("b", "BF16", "[3]", 16, 22), data, "");
    CHECK(strcmp(info.function_digest, want) != 0);
    info = open_with(FORMAT_ARCH "," WIDTH ",\"activation\":\"sigmoid\"," REST, A, B, data, "");
    CHECK(strcmp(info.function_digest, want) != 0);
    static const char *const RESTS[] = {
        REST_OF("reference", "448", "0.5714", BRAIN, SD, "brain"),
        REST_OF("native", "416", "0.5714", BRAIN, SD, "brain"),
        REST_OF("native", "448", "0.5715", BRAIN, SD, "brain"),
        REST_OF("native", "448", "0.5714", "\\\"level_hu\\\":41,\\\"width_hu\\\":80", SD, "brain"),
        REST_OF("native", "448", "0.5714", "\\\"level_hu\\\":40.5,\\\"width_hu\\\":90", SD,
                "brain"),
        REST_OF("native", "448", "0.5714", BRAIN, "0.229,0.224,0.226", "brain"),
        REST_OF("native", "448", "0.5714", BRAIN, SD, "head")};
    for (size_t i = 0; i < sizeof RESTS / sizeof *RESTS; i++) {
        char fields[1024];
        (void)snprintf(fields, sizeof fields, "%s,%s", FORMAT_ARCH "," WIDTH "," LINEAR, RESTS[i]);
        info = open_with(fields, A, B, data, "");
        if (strcmp(info.function_digest, want) == 0)
            test_fail(__FILE__, __LINE__, "slices of kind %zu count as the same", i);
    }
}

TEST(model_proves_precisions, "allowed is what a calibration of these tensors measured, no more")
{
    static char data[DATA_BYTES];
    const unsigned f32 = 1u << PRECISION_F32, bf16 = 1u << PRECISION_BF16;
    const unsigned int8 = 1u << PRECISION_INT8;
    char text[256], calibration[256];
    memset(data, 0, sizeof data);
    ModelInfo info = open_calibrated(A, B, data, "");
    CHECK(info.precisions == f32 && info.unproven == (bf16 | int8));
    CHECK(strstr(model_unproven_text(&info, text), "names bf16, int8, but it holds no") != NULL);
    (void)snprintf(calibration, sizeof calibration,
                   "{\\\"function\\\":\\\"%s\\\",\\\"bf16\\\":{\\\"allowed\\\":true}}",
                   info.function_digest);
    info = open_calibrated(A, B, data, calibration);
    CHECK(info.precisions == (f32 | bf16) && info.unproven == int8);
    CHECK(strstr(model_unproven_text(&info, text), "not find that good enough") != NULL);
    data[DATA_BYTES - 1] = 1; /* another number */
    info = open_calibrated(A, B, data, calibration);
    CHECK(info.precisions == f32 && info.unproven == (bf16 | int8));
    CHECK(strstr(model_unproven_text(&info, text), "other weights or slices") != NULL);
    data[DATA_BYTES - 1] = 0;
    info = open_calibrated(OTHER_A, B, data, calibration);
    CHECK(info.precisions == f32 && info.unproven == (bf16 | int8));
    info.unproven = 0;
    CHECK_STR(model_unproven_text(&info, text), "");
}

TEST(model_reads_the_shipped_one, "the demonstration model: counts, envelope, self-test")
{
    Err err = {0};
    Model *model;
    CHECK_OK(model_open("etc/models/demo-t1-w16.safetensors", &model, &err), &err);
    const ModelInfo *info = model_info(model);
    CHECK_STR(info->name, "demo-t1-w16");
    CHECK_STR(info->digest, "0aaa0ccbcc2703361f28d3c907a9b559f7e243ef7e19c4df1dae9192ad02339b");
    CHECK(info->arch == ARCH_DRUNET34 && info->width == 16);
    CHECK_STR(info->target, "T1");
    CHECK_STR(info->axes, "RA");
    CHECK(info->grid_pixels == 256 && info->grid_spacing_mm == 1.0);
    CHECK_STR(info->body_part, "HEAD");
    CHECK(info->age_years.present && info->age_years.low == 18 && info->age_years.high == 90);
    CHECK(info->kvp.present && info->kvp.low == 100 && info->kvp.high == 140);
    CHECK(info->slice_thickness_mm.low == 0.5 && info->pixel_spacing_mm.high == 1.2);
    CHECK(strncmp(info->label, "DEMONSTRATION ONLY", 18) == 0 && info->training[0] == '{');
    CHECK_NEAR(info->n_parameters, 2.49e6, 0.005e6);
    double difference;
    CHECK_OK(model_verify(model, "cpu", &difference, &err), &err);
    (void)printf("# backends differ by %.3g\n", difference);
    CHECK(difference <= 1e-4);
    model_close(model);
}

/* ---- hostile files ------------------------------------------------------------------------- */

typedef struct Hostile {
    const char *header;
    size_t data_bytes;
    const char *message; /* behind "PATH: " */
} Hostile;

static void check_refused(const Hostile *h, const char *path)
{
    Err err = {0};
    Model *model = NULL;
    Status status = model_open(path, &model, &err);
    if (status != ST_MODEL_FORMAT || model != NULL)
        test_fail(__FILE__, __LINE__, "%s, expected MODEL_FORMAT \"%s\"", status_name(status),
                  h->message);
    size_t n = strlen(path);
    CHECK(strncmp(err.msg, path, n) == 0 && strncmp(err.msg + n, ": ", 2) == 0);
    CHECK_STR(err.msg + n + 2, h->message);
    CHECK_INT(err.status, ST_MODEL_FORMAT);
}

static void check_all_refused(const Hostile *cases, size_t n)
{
    Err err = {0};
    Model *model;
    CHECK_OK(model_open(write_file("{" META "," A "," B "}", NULL, DATA_BYTES), &model, &err),
             &err); /* the undamaged one */
    model_close(model);
    for (size_t i = 0; i < n; i++)
        check_refused(&cases[i], write_file(cases[i].header, NULL, cases[i].data_bytes));
}

#define HEAD "{" META ","
#define ONE(tensor) HEAD tensor "," B "}", DATA_BYTES
#define A_WITH(dtype, shape, offsets)                                                              \
    ONE("\"a.weight\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}")

TEST(model_refuses_hostile_tensors, "each damage of a tensor's entry has its own message")
{
    static const Hostile CASES[] = {
        {A_WITH("\"I64\"", "[2]", "[0,16]"), "tensor a.weight: dtype is none of F32, F16, BF16"},
        {A_WITH("7", "[2,2]", "[0,16]"), "tensor a.weight: dtype is none of F32, F16, BF16"},
        {A_WITH("\"F32\"", "[]", "[0,16]"),
         "tensor a.weight: shape is not a list of 1 to 4 numbers"},
        {A_WITH("\"F32\"", "[1,1,1,2,2]", "[0,16]"),
         "tensor a.weight: shape is not a list of 1 to 4 numbers"},
        {A_WITH("\"F32\"", "4", "[0,16]"),
         "tensor a.weight: shape is not a list of 1 to 4 numbers"},
        {A_WITH("\"F32\"", "[2,0]", "[0,16]"),
         "tensor a.weight: dimension 1 is not a whole number above 0"},
        {A_WITH("\"F32\"", "[-2,-2]", "[0,16]"),
         "tensor a.weight: dimension 0 is not a whole number above 0"},
        {A_WITH("\"F32\"", "[2,1.5]", "[0,16]"),
         "tensor a.weight: dimension 1 is not a whole number above 0"},
        {A_WITH("\"F32\"", "[2,\"2\"]", "[0,16]"),
         "tensor a.weight: dimension 1 is not a whole number above 0"},
        {A_WITH("\"F32\"", "[1e300]", "[0,16]"),
         "tensor a.weight: dimension 0 is not a whole number above 0"},
        {A_WITH("\"F32\"", "[4294967296,4294967296,2]", "[0,16]"),
         "tensor a.weight: product of the shape overflows"},
        {A_WITH("\"F32\"", "[2,2]", "[0]"),
         "tensor a.weight: data_offsets are not two whole numbers"},
        {A_WITH("\"F32\"", "[2,2]", "[-16,0]"),
         "tensor a.weight: data_offsets are not two whole numbers"},
        {A_WITH("\"F32\"", "[2,2]", "[0,16.5]"),
         "tensor a.weight: data_offsets are not two whole numbers"},
        {A_WITH("\"F32\"", "[2,2]", "[16,0]"),
         "tensor a.weight: data_offsets 16..0 are not within the file's 22 data bytes"},
        {A_WITH("\"F32\"", "[2,2]", "[8,24]"),
         "tensor a.weight: data_offsets 8..24 are not within the file's 22 data bytes"},
        {A_WITH("\"F32\"", "[2,2]", "[0,12]"),
         "tensor a.weight: shape needs 16 bytes, data_offsets 12"},
        {A_WITH("\"F16\"", "[2,2]", "[0,16]"),
         "tensor a.weight: shape needs 8 bytes, data_offsets 16"},
        {A_WITH("\"F32\"", "[2,2]", "[0,16],\"x\":1"),
         "tensor a.weight: unknown or repeated field"},
        {A_WITH("\"F32\"", "[2,2]", "[0,16],\"shape\":[4]"),
         "tensor a.weight: unknown or repeated field"},
        {ONE("\"a.weight\":{}"), "tensor a.weight: dtype is none of F32, F16, BF16"},
        {ONE("\"a.weight\":[]"), "tensor a.weight: is not an object"},
        {ONE(TENSOR("", "F32", "[2,2]", 0, 16)),
         "a tensor's name has 0 characters, 1..127 allowed"},
        {ONE(TENSOR("../../etc/%s%n", "F32", "[2,2]", 0, 16)),
         "a tensor's name holds other than letters, digits, dot, underscore"},
        {ONE(TENSOR("a\\u001b[2J", "F32", "[2,2]", 0, 16)),
         "a tensor's name holds other than letters, digits, dot, underscore"},
    };
    check_all_refused(CASES, sizeof CASES / sizeof CASES[0]);
}

TEST(model_refuses_hostile_layout, "overlap, gap, trailing bytes, duplicates, broken headers")
{
    static const Hostile CASES[] = {
        {HEAD A "," TENSOR("b", "F16", "[3]", 14, 20) "}", 20, "tensors a.weight and b overlap"},
        {HEAD A "," TENSOR("b", "F32", "[2,2]", 0, 16) "}", 16, "tensors a.weight and b overlap"},
        {HEAD A "," TENSOR("b", "F16", "[3]", 18, 24) "}", 24,
         "2 unused bytes in front of tensor b"},
        {HEAD A "," B "}", 30, "8 trailing bytes behind the last tensor b"},
        {HEAD A "," B "}", 20,
         "tensor b: data_offsets 16..22 are not within the file's 20 data bytes"},
        {"{" META "}", 4, "4 trailing bytes behind the last tensor (none)"},
        {HEAD A "," TENSOR("a.weight", "F16", "[3]", 16, 22) "}", 22,
         "tensor a.weight stands twice"},
        {"{" META "," META "," A "}", 16, "__metadata__ stands twice"},
        {"{" A "}", 16, "header has no __metadata__ object"},
        {"{\"__metadata__\":[]," A "}", 16, "header has no __metadata__ object"},
        {"", 16, "header does not begin with {"},
        {"[]", 0, "header does not begin with {"},
        {HEAD A, 16, "header is not one JSON object"},
        {HEAD A "}}", 16, "header is not one JSON object"},
        {HEAD A "} {}", 16, "header is not one JSON object"},
        {"{\"a\":\"\\ud800\"}", 0, "header is not one JSON object"},
        {ONE(TENSOR("a\\u0000b", "F32", "[2,2]", 0, 16)), "header holds the character 0"},
    };
    check_all_refused(CASES, sizeof CASES / sizeof CASES[0]);

    char deep[4001]; /* nesting: no stack overflow in the parser */
    memset(deep, '[', sizeof deep - 1);
    memcpy(deep, "{\"a\":", 5);
    deep[4000] = '\0';
    Hostile nested = {deep, 0, "header is not one JSON object"};
    check_refused(&nested, write_file(nested.header, NULL, 0));
}

static void put_bytes(const char *path, const void *bytes, size_t n)
{
    Err err = {0};
    CHECK_OK(file_write_durable(path, bytes, n, &err), &err);
}

TEST(model_refuses_hostile_header_length, "truncated length, length beyond the file or the limit")
{
    char path[PATH_SIZE];
    Err err = {0};
    CHECK_OK(path_format(path, &err, "%s/m", test_dir()), &err);
    static const unsigned char HUGE_LENGTH[10] = {255, 255, 255, 255, 255, 255, 255, 255, '{', '}'};
    static const unsigned char ONE_MORE[10] = {3, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    Hostile h = {NULL, 0, "file of 7 bytes has no header"};
    put_bytes(path, ONE_MORE, 7);
    check_refused(&h, path);
    h.message = "file of 0 bytes has no header";
    put_bytes(path, "", 0);
    check_refused(&h, path);
    h.message = "header length 18446744073709551615 is beyond the file's 10 bytes or the limit "
                "2097152";
    put_bytes(path, HUGE_LENGTH, 10);
    check_refused(&h, path);
    h.message = "header length 3 is beyond the file's 10 bytes or the limit 2097152";
    put_bytes(path, ONE_MORE, 10);
    check_refused(&h, path);
    Model *model;
    CHECK_STATUS(model_open("/nonexistent/x", &model, &err), ST_MODEL_NOT_FOUND);
    CHECK_INT(err.status, ST_MODEL_NOT_FOUND);
    CHECK_STATUS(model_open(test_dir(), &model, &err), ST_MODEL_NOT_FOUND);
}

TEST(model_refuses_a_byte_0, "in a name or in metadata, where the text would end for some readers")
{
    unsigned char data[DATA_BYTES] = {0};
    const Hostile h = {NULL, 0, "header holds the character 0"};
    for (int k = 0; k < 2; k++) {
        const char *path = write_file("{" META "," A "," B "}", data, sizeof data);
        char *bytes, *at;
        size_t n;
        Err err = {0};
        CHECK_OK(file_read(path, 1 << 20, &bytes, &n, &err), &err);
        at = memmem(bytes, n, k == 0 ? "a.weight" : "__metadata__", k == 0 ? 8 : 12);
        CHECK(at != NULL);
        at[4] = '\0';
        CHECK_OK(file_write_durable(path, bytes, n, &err), &err);
        free(bytes);
        check_refused(&h, path);
    }
}

TEST(model_refuses_numbers_that_are_none, "infinity or NaN in a tensor is named with its place")
{
    unsigned char data[DATA_BYTES] = {0};
    data[8 + 3] = 0x7f;
    data[8 + 2] = 0xc0; /* a.weight[2]: a quiet NaN */
    Hostile h = {NULL, 0, "tensor a.weight: element 2 is not a number"};
    check_refused(&h, write_file("{" META "," A "," B "}", data, sizeof data));
    memset(data, 0, sizeof data);
    data[21] = 0xfc; /* b[2]: -infinity */
    h.message = "tensor b: element 2 is not a number";
    check_refused(&h, write_file("{" META "," A "," B "}", data, sizeof data));
}

#define META_OF(fields) "{\"__metadata__\":{" fields "}}", 0
#define NEED FORMAT_ARCH "," WIDTH "," LINEAR ","
#define ENVELOPE(text) META_OF(FIELDS ",\"envelope\":\"" text "\"")
#define ENVELOPE_MESSAGE                                                                           \
    "metadata envelope: wants body_part, and [low, high] for age_years, slice_thickness_mm, "      \
    "pixel_spacing_mm, kvp"
#define TWICE(key) "metadata " key ": an object has a key twice or more than 1024 keys"

TEST(model_refuses_hostile_metadata, "missing, unknown, repeated, out of range, unprintable")
{
    static const Hostile CASES[] = {
        {META_OF("\"arch\":\"drunet-34\"," WIDTH "," LINEAR "," REST),
         "metadata format: is missing"},
        {META_OF("\"format\":\"ct2mr-model-2\",\"arch\":\"drunet-34\"," WIDTH "," LINEAR "," REST),
         "metadata format is none of ct2mr-model-1"},
        {META_OF("\"format\":\"ct2mr-model-1\",\"arch\":\"vgg\"," WIDTH "," LINEAR "," REST),
         "metadata arch is none of drunet-34, drunet-50, drunet-101, unet"},
        {META_OF(FIELDS ",\"arch\":\"drunet-50\""), "metadata arch: stands twice"},
        {META_OF(FIELDS ",\"calibration\":\"{}\",\"calibration\":\"{}\""),
         "metadata: a key stands twice, or there are more than 1024"},
        {META_OF("\"format\":1"), "metadata format: is not a string"},
        {META_OF(FORMAT_ARCH "," LINEAR "," REST),
         "metadata width: is not a whole number in 1..256"},
        {META_OF(FORMAT_ARCH ",\"width\":\"0\"," LINEAR "," REST),
         "metadata width: is not a whole number in 1..256"},
        {META_OF(FORMAT_ARCH ",\"width\":\"99999999999999999999\"," LINEAR "," REST),
         "metadata width: is not a whole number in 1..256"},
        {META_OF(FORMAT_ARCH ",\"width\":\"16x\"," LINEAR "," REST),
         "metadata width: is not a whole number in 1..256"},
        {META_OF(FORMAT_ARCH "," WIDTH ",\"activation\":\"tanh\"," REST),
         "metadata activation is none of linear, sigmoid"},
        {META_OF(NEED "\"target\":\"FLAIR\""), "metadata target is none of T1, T2"},
        {META_OF(NEED "\"target\":\"T1\",\"pose\":\"up\""),
         "metadata pose is none of reference, native"},
        {META_OF(NEED "\"target\":\"T1\",\"pose\":\"native\",\"mask\":\"\""),
         "metadata mask is none of head, brain"},
        {META_OF(NEED "\"target\":\"T1\",\"pose\":\"native\",\"mask\":\"head\",\"grid\":\"{\""),
         "metadata grid: is not JSON"},
        {META_OF(NEED "\"target\":\"T1\",\"pose\":\"native\",\"mask\":\"head\",\"grid\":"
                      "\"{\\\"pixels\\\":250,\\\"spacing_mm\\\":1}\""),
         "metadata grid: wants {\"pixels\": a multiple of 32, \"spacing_mm\": above 0}"},
        {META_OF(NEED "\"target\":\"T1\",\"pose\":\"native\",\"mask\":\"head\",\"grid\":"
                      "\"{\\\"pixels\\\":256,\\\"spacing_mm\\\":0}\""),
         "metadata grid: wants {\"pixels\": a multiple of 32, \"spacing_mm\": above 0}"},
        {META_OF(FIELDS ",\"axes\":\"PL\""), "metadata axes is none of LP, LA, RP, RA"},
        {META_OF(FIELDS ",\"interpolation\":\"sinc\""),
         "metadata interpolation is none of linear, cubic"},
        {META_OF(FIELDS ",\"label\":\"a\\u001b[2Jb\""),
         "metadata label: holds other than printable ASCII"},
        {META_OF(FIELDS ",\"training\":\"not JSON\""), "metadata training: is not JSON"},
        {ENVELOPE("{\\\"age_years\\\":[18]}"), ENVELOPE_MESSAGE},
        {ENVELOPE("{\\\"age_years\\\":[90,18]}"), ENVELOPE_MESSAGE},
        {ENVELOPE("{\\\"kvp\\\":[1,2],\\\"kvp\\\":[1,2]}"), TWICE("envelope")},
        {META_OF(NEED "\"target\":\"T1\",\"pose\":\"native\",\"mask\":\"head\",\"grid\":"
                      "\"{\\\"pixels\\\":256,\\\"spacing_mm\\\":1,\\\"pixels\\\":512}\""),
         TWICE("grid")},
        {META_OF(FIELDS ",\"training\":\"{\\\"loss\\\":[{\\\"w\\\":1,\\\"w\\\":2}]}\""),
         TWICE("training")},
        {ENVELOPE("{\\\"shoe_size\\\":[40,45]}"), ENVELOPE_MESSAGE},
        {ENVELOPE("{\\\"body_part\\\":\\\"head%n\\\"}"), ENVELOPE_MESSAGE},
        {ENVELOPE("[]"), ENVELOPE_MESSAGE},
    };
    check_all_refused(CASES, sizeof CASES / sizeof CASES[0]);

    char header[4096], label[300];
    memset(label, 'x', 256);
    label[256] = '\0';
    (void)snprintf(header, sizeof header, "{\"__metadata__\":{" FIELDS ",\"label\":\"%s\"}}",
                   label);
    Hostile h = {header, 0, "metadata label is longer than 255 bytes"};
    check_refused(&h, write_file(header, NULL, 0));
}

TEST(model_survives_any_truncation, "a file cut at any byte is refused, never read beyond")
{
    const char *header = "{" META "," A "," B "}";
    size_t header_bytes = strlen(header), n = 8 + header_bytes + DATA_BYTES;
    char *whole, path[PATH_SIZE];
    size_t size;
    Err err = {0};
    Model *model;
    CHECK_OK(file_read(write_file(header, NULL, DATA_BYTES), n, &whole, &size, &err), &err);
    CHECK(size == n);
    CHECK_OK(path_format(path, &err, "%s/cut", test_dir()), &err);
    for (size_t keep = 0; keep < n; keep++) {
        FILE *f = fopen(path, "wb");
        CHECK(f != NULL && fwrite(whole, 1, keep, f) == keep && fclose(f) == 0);
        CHECK_STATUS(model_open(path, &model, &err), ST_MODEL_FORMAT);
    }
    free(whole);
}

TEST(model_survives_random_bytes, "500 files with random changes: refused or read, never a crash")
{
    const char *header = "{" META "," A "," B "}";
    char *whole, path[PATH_SIZE];
    size_t size;
    uint64_t seed = 42;
    int n_refused = 0;
    Err err = {0};
    CHECK_OK(file_read(write_file(header, NULL, DATA_BYTES), 1 << 20, &whole, &size, &err), &err);
    CHECK_OK(path_format(path, &err, "%s/fuzz", test_dir()), &err);
    for (int i = 0; i < 500; i++) {
        char *changed = malloc(size);
        CHECK(changed != NULL);
        memcpy(changed, whole, size);
        int n_changes = 1 + (int)(4 * model_file_random(&seed));
        for (int k = 0; k < n_changes; k++) {
            size_t at = (size_t)((double)size * model_file_random(&seed));
            changed[at] = (char)(256 * model_file_random(&seed));
        }
        FILE *f = fopen(path, "wb");
        CHECK(f != NULL && fwrite(changed, 1, size, f) == size && fclose(f) == 0);
        free(changed);
        Model *model = NULL;
        Status status = model_open(path, &model, &err);
        CHECK(status == ST_OK || status == ST_MODEL_FORMAT);
        n_refused += status != ST_OK;
        if (status == ST_OK)
            model_close(model);
    }
    free(whole);
    (void)printf("# %d of 500 refused\n", n_refused);
    CHECK(n_refused > 250);
}

/* ---- self-test of a model ------------------------------------------------------------------ */

static Status verify_file(const char *path, Err *err)
{
    Model *model;
    double difference;
    CHECK_OK(model_open(path, &model, err), err);
    Status status = model_verify(model, "cpu", &difference, err);
    model_close(model);
    return status;
}

/* All bytes behind the header become 0. */
static void clear_weights(const char *path)
{
    char *data;
    size_t size;
    uint64_t header;
    Err err = {0};
    CHECK_OK(file_read(path, 1 << 28, &data, &size, &err), &err);
    memcpy(&header, data, sizeof header);
    memset(data + 8 + header, 0, size - 8 - header);
    CHECK_OK(file_write_durable(path, data, size, &err), &err);
    free(data);
}

TEST(model_verify_names_what_is_wrong,
     "a missing tensor, another shape, a tensor too many, weights of 0")
{
    char path[PATH_SIZE];
    Err err = {0};
    CHECK_OK(path_format(path, &err, "%s/r.safetensors", test_dir()), &err);
    model_file_write_random(path, ARCH_DRUNET50, 2);
    CHECK_OK(verify_file(path, &err), &err);
    model_file_write_random_without(path, ARCH_DRUNET50, 2, "up4.bias");
    CHECK_STATUS(verify_file(path, &err), ST_MODEL_FORMAT);
    CHECK_STR(err.msg, "tensor up4.bias (1) is missing");
    model_file_write_random_as(path, ARCH_DRUNET50, 2, 4);
    CHECK_STATUS(verify_file(path, &err), ST_MODEL_FORMAT);
    CHECK_STR(err.msg, "tensor conv1.weight has another shape than (4,3,7,7)");
    model_file_write_random_with(path, ARCH_DRUNET50, 2, "spare.weight");
    CHECK_STATUS(verify_file(path, &err), ST_MODEL_FORMAT);
    CHECK_STR(err.msg, "tensor spare.weight is none of this network's");
    model_file_write_random(path, ARCH_DRUNET50, 2);
    clear_weights(path);
    CHECK_STATUS(verify_file(path, &err), ST_MODEL_UNFIT);
    CHECK(strstr(err.msg, "one value everywhere") != NULL);
}

/* ---- .npy ---------------------------------------------------------------------------------- */

TEST(npy_round_trip, "written, read: same dims, same bits; 0 to 4 dimensions, empty")
{
    static const Npy SHAPES[] = {{0, {0}, NULL},
                                 {1, {7}, NULL},
                                 {2, {3, 5}, NULL},
                                 {4, {2, 3, 4, 5}, NULL},
                                 {4, {0, 3, 32, 32}, NULL}};
    char path[PATH_SIZE];
    Err err = {0};
    CHECK_OK(path_format(path, &err, "%s/x.npy", test_dir()), &err);
    for (size_t i = 0; i < sizeof SHAPES / sizeof SHAPES[0]; i++) {
        Npy out = SHAPES[i], in;
        size_t n = 1;
        for (int32_t k = 0; k < out.n_dims; k++)
            n *= (size_t)out.dims[k];
        out.data = malloc(n * sizeof *out.data + 1);
        CHECK(out.data != NULL);
        for (size_t k = 0; k < n; k++)
            out.data[k] = (float)k * 0.1f - 3;
        CHECK_OK(npy_write(path, &out, &err), &err);
        CHECK_OK(npy_read(path, &in, &err), &err);
        CHECK_INT(in.n_dims, out.n_dims);
        CHECK(memcmp(in.dims, out.dims, sizeof in.dims) == 0);
        CHECK(memcmp(in.data, out.data, n * sizeof *out.data) == 0);
        npy_free(&in);
        npy_free(&out);
    }
}

TEST(npy_refuses, "other types, orders, shapes and sizes, each by its message")
{
    static const struct {
        const char *dict, *message;
    } CASES[] = {
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }",
         ".npy data is not little-endian float32 ('<f4')"},
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }",
         ".npy data is not little-endian float32 ('<f4')"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }",
         ".npy data is not little-endian float32 ('<f4')"},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }", ".npy data is not in C order"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 1, 2), }",
         ".npy shape is not up to 4 whole numbers"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }",
         ".npy shape is not up to 4 whole numbers"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }",
         ".npy shape is not up to 4 whole numbers"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }",
         ".npy shape is not up to 4 whole numbers"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2",
         ".npy shape is not up to 4 whole numbers"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }",
         ".npy shape needs 12 bytes of data, file has 8"},
        {"", ".npy data is not little-endian float32 ('<f4')"},
    };
    char path[PATH_SIZE], file[10 + 118 + 8];
    Err err = {0};
    Npy npy;
    CHECK_OK(path_format(path, &err, "%s/x.npy", test_dir()), &err);
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        memset(file, ' ', sizeof file);
        memcpy(file, "\x93NUMPY\x01\0\x76\0", 10);
        memcpy(file + 10, CASES[i].dict, strlen(CASES[i].dict));
        file[10 + 117] = '\n';
        put_bytes(path, file, sizeof file);
        CHECK_STATUS(npy_read(path, &npy, &err), ST_UNSUPPORTED);
        CHECK_STR(err.msg + strlen(path) + 2, CASES[i].message);
    }
    put_bytes(path, "\x93NUMPY\x01\0\xff\xff", 10);
    CHECK_STATUS(npy_read(path, &npy, &err), ST_LIMIT);
    put_bytes(path, "\x93NUMPY\x09\0\x02\0{}", 12);
    CHECK_STATUS(npy_read(path, &npy, &err), ST_UNSUPPORTED);
    put_bytes(path, "GIF89a", 6);
    CHECK_STATUS(npy_read(path, &npy, &err), ST_UNSUPPORTED);
    CHECK_STATUS(npy_read("/nonexistent/x.npy", &npy, &err), ST_NOT_FOUND);
}
