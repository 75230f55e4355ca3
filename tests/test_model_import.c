/* gpu/model_import.h. Claims: a whole network comes over number for number; a ResNet becomes the
** encoder of an untrained model that says so; what is not the network's is named; what would be a
** guess is refused, with the tensor's or key's name. (Against torchvision itself:
** e2e/test_model_import.sh.) */
#include "tests/test.h"

#include "base/files.h"
#include "daemon/cli.h"
#include "gpu/calibrate.h"
#include "gpu/model_import.h"
#include "gpu/verify.h"
#include "tests/model_file.h"

#include <cjson/cJSON.h>
#include <dirent.h>

static const char *path_of(const char *name)
{
    static char paths[4][PATH_SIZE];
    static int next;
    char *path = paths[next++ % 4];
    CHECK_OK(path_format(path, NULL, "%s/%s", test_dir(), name), &(Err){0});
    return path;
}

static bool is_of_decoder(const char *name)
{
    return strncmp(name, "up", 2) == 0 || strncmp(name, "ucenter", 7) == 0;
}

/* As PyTorch's state_dict of a random network: without metadata, with the counts of batch norms and
** a classifier; with or without the decoder; `renamed` (or NULL) gets the name `to`. */
static void write_torch(const char *path, ModelArch arch, int32_t width, bool decoder,
                        const char *renamed, const char *to)
{
    char *file;
    size_t size;
    uint64_t length = 0;
    Err err = {0};
    model_file_write_random(path_of("random.safetensors"), arch, width);
    CHECK_OK(file_read(path_of("random.safetensors"), 1 << 26, &file, &size, &err), &err);
    for (int i = 7; i >= 0; i--)
        length = length << 8 | (unsigned char)file[i];
    cJSON *old = cJSON_ParseWithLength(file + 8, length), *header = cJSON_CreateObject(), *item;
    char *data = calloc(1, size + 4096), name[128];
    CHECK(old != NULL && data != NULL);
    double used = 0;
    cJSON_ArrayForEach(item, old)
    {
        if (item->string[0] == '_' || (!decoder && is_of_decoder(item->string)))
            continue;
        cJSON *offsets = cJSON_GetObjectItem(item, "data_offsets");
        double begin = offsets->child->valuedouble, end = offsets->child->next->valuedouble;
        memcpy(data + (size_t)used, file + 8 + length + (size_t)begin, (size_t)(end - begin));
        cJSON *entry = cJSON_Duplicate(item, 1);
        const double range[2] = {used, used + end - begin};
        cJSON_ReplaceItemInObject(entry, "data_offsets", cJSON_CreateDoubleArray(range, 2));
        used = range[1];
        bool rename = renamed != NULL && strcmp(item->string, renamed) == 0;
        (void)snprintf(name, sizeof name, "%s", rename ? to : item->string);
        cJSON_AddItemToObject(header, name, entry);
    }
    static const char *const EXTRA =
        "{\"bn1.num_batches_tracked\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[%.0f,%.0f]}"
        ","
        "\"fc.weight\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[%.0f,%.0f]}}";
    char extra[512];
    (void)snprintf(extra, sizeof extra, EXTRA, used, used + 8, used + 8, used + 16);
    cJSON *more = cJSON_Parse(extra);
    CHECK(more != NULL);
    while (more->child != NULL) {
        item = cJSON_DetachItemViaPointer(more, more->child);
        (void)snprintf(name, sizeof name, "%s", item->string);
        cJSON_AddItemToObject(header, name, item);
    }
    char *text = cJSON_PrintUnformatted(header);
    model_file_write(path, text, data, (size_t)used + 16);
    cJSON_free(text);
    cJSON_Delete(more);
    cJSON_Delete(old);
    cJSON_Delete(header);
    free(data);
    free(file);
}

static const MetadataValue VALUES[] = {{"target", "T2"},
                                       {"pose", "native"},
                                       {"grid", "{\"pixels\":448,\"spacing_mm\":0.5714}"},
                                       {"window", "{\"level_hu\":40,\"width_hu\":80}"},
                                       {"activation", "sigmoid"},
                                       {"mask", "head"},
                                       {"label", "a trial"}};
enum { N_VALUES = sizeof VALUES / sizeof VALUES[0] };

typedef struct Names {
    int n;
    char all[512];
} Names;

static void left_out(void *context, const char *name)
{
    Names *names = context;
    names->n++;
    (void)snprintf(names->all + strlen(names->all), sizeof names->all - strlen(names->all), "%s ",
                   name);
}

static void check_same_tensors(const char *a, const char *b, bool decoder)
{
    Model *x, *y;
    Err err = {0};
    const char *name;
    int n = 0;
    CHECK_OK(model_open_tensors(a, &x, &err), &err);
    CHECK_OK(model_open_tensors(b, &y, &err), &err);
    for (int32_t i = 0; (name = model_tensor_name(y, i)) != NULL; i++) {
        if (!decoder && is_of_decoder(name))
            continue;
        const Tensor *u = model_tensor(x, name), *v = model_tensor(y, name);
        CHECK(u != NULL && v != NULL && memcmp(u, v, sizeof *u) == 0);
        float *p = malloc((size_t)u->n_elements * sizeof *p);
        float *q = malloc((size_t)u->n_elements * sizeof *q);
        CHECK_OK(model_read(x, u, p, &err), &err);
        CHECK_OK(model_read(y, v, q, &err), &err);
        CHECK(memcmp(p, q, (size_t)u->n_elements * sizeof *p) == 0);
        free(p);
        free(q);
        n++;
    }
    CHECK(n > 50);
    model_close(x);
    model_close(y);
}

TEST(model_import_takes_whole_networks,
     "each architecture is seen; numbers stay; verify is content")
{
    static const struct {
        ModelArch arch;
        int32_t width;
    } NETS[] = {{ARCH_DRUNET34, 4}, {ARCH_DRUNET50, 2}, {ARCH_DRUNET101, 2}, {ARCH_UNET, 2}};
    for (size_t k = 0; k < sizeof NETS / sizeof NETS[0]; k++) {
        Names names = {0};
        const ModelImport import = {
            .values = VALUES, .n_values = N_VALUES, .left_out = left_out, .context = &names};
        ModelImportResult result;
        Model *model;
        Err err = {0};
        double difference;
        write_torch(path_of("t.safetensors"), NETS[k].arch, NETS[k].width, true, NULL, NULL);
        CHECK_OK(model_import(path_of("t.safetensors"), &import, path_of("m.safetensors"), &result,
                              &err),
                 &err);
        CHECK(result.arch == NETS[k].arch && result.width == NETS[k].width);
        CHECK(result.n_made == 0 && result.n_read > 50);
        CHECK_INT(names.n, 2);
        CHECK_STR(names.all, "bn1.num_batches_tracked fc.weight ");
        CHECK_OK(model_open(path_of("m.safetensors"), &model, &err), &err);
        const ModelInfo *info = model_info(model);
        CHECK(info->arch == NETS[k].arch && info->width == NETS[k].width && !info->untrained);
        CHECK_STR(info->target, "T2");
        CHECK_STR(info->label, "a trial");
        CHECK(info->grid_pixels == 448 && info->std[0] == 0.229f);
        CHECK_OK(model_verify(model, "cpu", &difference, &err), &err);
        model_close(model);
        check_same_tensors(path_of("t.safetensors"), path_of("m.safetensors"), true);
    }
}

TEST(model_import_of_a_resnet_is_untrained, "encoder read, decoder random and the same each time")
{
    const ModelImport import = {.values = VALUES, .n_values = N_VALUES};
    ModelImportResult result;
    Model *model;
    Err err = {0};
    char digest[65];
    double difference;
    write_torch(path_of("t.safetensors"), ARCH_DRUNET50, 4, false, NULL, NULL);
    CHECK_OK(
        model_import(path_of("t.safetensors"), &import, path_of("m.safetensors"), &result, &err),
        &err);
    CHECK(result.arch == ARCH_DRUNET50 && result.n_made > 50 && result.n_read > 50);
    CHECK_OK(model_open(path_of("m.safetensors"), &model, &err), &err);
    CHECK(model_info(model)->untrained);
    const CalibrateData data = {.n = 1, .height = 32, .width = 32};
    CHECK_STATUS(calibrate_check(model_info(model), &data, &err), ST_MODEL_UNFIT);
    CHECK(strstr(err.msg, "NOT TRAINED") != NULL);
    memcpy(digest, model_info(model)->digest, sizeof digest);
    CHECK_OK(model_verify(model, "cpu", &difference, &err), &err);
    /* He: variance 2 / fan in */
    const Tensor *weight = model_tensor(model, "ucenter.0.conv2.weight");
    CHECK(weight != NULL && weight->dims[1] == 32 && weight->dims[2] == 3);
    float *w = malloc((size_t)weight->n_elements * sizeof *w), one[128];
    double sum = 0;
    CHECK_OK(model_read(model, weight, w, &err), &err);
    for (int64_t i = 0; i < weight->n_elements; i++)
        sum += (double)w[i] * (double)w[i];
    CHECK_NEAR(sum / (double)weight->n_elements, 2.0 / (32 * 9), 0.05 * 2 / (32 * 9));
    free(w);
    const Tensor *variance = model_tensor(model, "up3.0.bn1.running_var");
    CHECK(variance != NULL && variance->n_elements <= 128);
    CHECK_OK(model_read(model, variance, one, &err), &err);
    CHECK(one[0] == 1);
    model_close(model);
    check_same_tensors(path_of("t.safetensors"), path_of("m.safetensors"), false);
    CHECK_OK(
        model_import(path_of("t.safetensors"), &import, path_of("m.safetensors"), &result, &err),
        &err);
    CHECK_OK(model_open(path_of("m.safetensors"), &model, &err), &err);
    CHECK_STR(model_info(model)->digest, digest);
    model_close(model);
    char *argv[] = {"model", "verify", (char *)(uintptr_t)path_of("m.safetensors"), NULL};
    CHECK_INT(cli_model(3, argv), CLI_NEGATIVE);
}

TEST(model_import_keeps_metadata, "the file's own, options win, measured precisions go; F16")
{
    const MetadataValue values[] = {{"label", "other"}};
    const ModelImport import = {.values = values, .n_values = 1, .f16 = true};
    ModelImportResult result;
    Model *model, *demo;
    Err err = {0};
    const char *path = "etc/models/demo-t1-w16.safetensors";
    CHECK_OK(model_import(path, &import, path_of("m.safetensors"), &result, &err), &err);
    CHECK_OK(model_open(path_of("m.safetensors"), &model, &err), &err);
    CHECK_OK(model_open(path, &demo, &err), &err);
    const ModelInfo *a = model_info(model), *b = model_info(demo);
    CHECK_STR(a->label, "other");
    CHECK_STR(a->licence, b->licence);
    CHECK_STR(a->training, b->training);
    CHECK(a->age_years.present && a->age_years.high == b->age_years.high);
    CHECK(a->grid_pixels == b->grid_pixels && a->n_parameters == b->n_parameters);
    CHECK_STR(model_metadata(model, "imported_from"), b->digest);
    CHECK(!result.was_calibrated);
    model_close(model);
    model_close(demo);
    const MetadataValue calibrated[] = {{"calibration", "{}"}, {"precisions", "[\"int8\"]"}};
    CHECK_OK(model_write_metadata(path, calibrated, 2, path_of("c.safetensors"), &err), &err);
    CHECK_OK(
        model_import(path_of("c.safetensors"), &import, path_of("m.safetensors"), &result, &err),
        &err);
    CHECK(result.was_calibrated);
    CHECK_OK(model_open(path_of("m.safetensors"), &model, &err), &err);
    CHECK(model_metadata(model, "calibration") == NULL &&
          model_metadata(model, "precisions") == NULL);
    model_close(model);
}

TEST(model_import_keeps_interpolation, "cubic stays cubic; --interpolation wins")
{
    const char *demo = "etc/models/demo-t1-w16.safetensors";
    char from[PATH_SIZE];
    const MetadataValue cubic = {"interpolation", "cubic"}, linear = {"interpolation", "linear"};
    ModelImport import = {0};
    ModelImportResult result;
    Model *model;
    Err err = {0};
    CHECK_OK(path_format(from, &err, "%s/cubic.safetensors", test_dir()), &err);
    CHECK_OK(model_write_metadata(demo, &cubic, 1, from, &err), &err);
    for (int given = 0; given <= 1; given++) {
        import.values = &linear;
        import.n_values = given;
        CHECK_OK(model_import(from, &import, path_of("m.safetensors"), &result, &err), &err);
        CHECK_OK(model_open(path_of("m.safetensors"), &model, &err), &err);
        CHECK_INT(model_info(model)->interpolation,
                  given ? INTERPOLATION_LINEAR : INTERPOLATION_CUBIC);
        model_close(model);
    }
}

static void check_refused_as(Status want, const ModelImport *import, const char *message)
{
    ModelImportResult result;
    Err err = {0};
    const char *from = path_of("t.safetensors");
    Status status = model_import(from, import, path_of("no.safetensors"), &result, &err);
    CHECK_STATUS(status, want);
    if (strstr(err.msg, message) == NULL)
        test_fail(__FILE__, __LINE__, "\"%s\" does not say \"%s\"", err.msg, message);
    FILE *f = fopen(path_of("no.safetensors"), "rb");
    CHECK(f == NULL);
}

static void check_refused(const ModelImport *import, const char *message)
{
    check_refused_as(ST_MODEL_FORMAT, import, message);
}

TEST(model_import_refuses_to_guess,
     "another network, a tensor missing or too many, metadata missing")
{
    ModelImport import = {.values = VALUES, .n_values = N_VALUES};
    char t[PATH_SIZE];
    CHECK_OK(path_format(t, NULL, "%s/t.safetensors", test_dir()), &(Err){0});
    write_torch(t, ARCH_DRUNET34, 2, true, "up4.bias", "up5.bias");
    check_refused(&import, "tensor up5.bias is none of drunet-34's of width 2");
    write_torch(t, ARCH_DRUNET34, 2, true, "up4.bias", "head.bias");
    check_refused(&import, "tensor up4.bias (1) is missing");
    write_torch(t, ARCH_DRUNET34, 2, false, "layer1.1.bn1.running_var", "x");
    check_refused(&import, "tensor layer1.1.bn1.running_var (2) is missing");
    write_torch(t, ARCH_DRUNET34, 2, true, "layer3.5.conv1.weight", "layer3.7.conv1.weight");
    check_refused(&import, "layer1 to layer4 have 3, 4, 5, 3 basic blocks");
    write_torch(t, ARCH_DRUNET34, 2, true, "conv1.weight", "stem.weight");
    check_refused(&import, "there is no tensor conv1.weight");
    model_file_write(t,
                     "{\"module.conv1.weight\":{\"dtype\":\"F32\",\"shape\":[1],"
                     "\"data_offsets\":[0,4]}}",
                     NULL, 4);
    check_refused(&import, "save the state_dict of model.module");
    model_file_write(t,
                     "{\"conv1.weight\":{\"dtype\":\"F64\",\"shape\":[1],"
                     "\"data_offsets\":[0,8]}}",
                     NULL, 8);
    check_refused(&import, "tensor conv1.weight is none of F32, F16, BF16");
    write_torch(t, ARCH_DRUNET101, 2, true, NULL, NULL);
    import.arch = "drunet-50";
    check_refused(&import, "tensor layer3.10.bn1.bias is none of drunet-50's of width 2");
    import.arch = "drunet-18";
    check_refused(&import, "arch is none of");
    import.arch = NULL;
    import.width = 4;
    check_refused(&import, "tensor conv1.weight has another shape than (4,3,7,7)");
    import.width = 0;
    import.n_values = 2;
    check_refused_as(ST_USAGE, &import, "nobody gave: grid, window, activation, mask");
    const MetadataValue bad[] = {
        VALUES[0], VALUES[1], {"grid", "{\"pixels\":100,\"spacing_mm\":1}"},
        VALUES[3], VALUES[4], VALUES[5]};
    import = (ModelImport){.values = bad, .n_values = 6};
    check_refused_as(ST_USAGE, &import, "what was given for metadata grid: wants");
}

static int run(const char *a, const char *b, const char *c)
{
    char *argv[] = {"model",
                    "import",
                    "--overwrite",
                    "--out",
                    (char *)(uintptr_t)path_of("cli.safetensors"),
                    (char *)(uintptr_t)a,
                    (char *)(uintptr_t)b,
                    (char *)(uintptr_t)c,
                    NULL};
    int n = c != NULL ? 8 : b != NULL ? 7 : 6;
    argv[n] = NULL;
    return cli_model(n, argv);
}

TEST(model_import_command,
     "options reach the file; what cannot be understood is usage; no part file")
{
    const char *demo = "etc/models/demo-t1-w16.safetensors";
    Model *model;
    char *mine;
    size_t n_mine;
    Err err = {0};
    CHECK_OK(file_write_durable(path_of("cli.safetensors.part"), "mine", 4, &err), &err);
    CHECK_INT(run("--grid", "64x4.5", demo), CLI_OK);
    CHECK_OK(model_open(path_of("cli.safetensors"), &model, &err), &err);
    CHECK(model_info(model)->grid_pixels == 64 && model_info(model)->grid_spacing_mm == 4.5);
    model_close(model);
    CHECK_INT(run("--interpolation", "cubic", demo), CLI_OK);
    CHECK_OK(model_open(path_of("cli.safetensors"), &model, &err), &err);
    CHECK(model_info(model)->interpolation == INTERPOLATION_CUBIC);
    model_close(model);
    CHECK_INT(run("--interpolation", "sinc", demo), CLI_USAGE);
    CHECK_INT(run("--window", "50.5,350", demo), CLI_OK);
    CHECK_OK(model_open(path_of("cli.safetensors"), &model, &err), &err);
    CHECK(model_info(model)->window_level_hu == 50.5 && model_info(model)->window_width_hu == 350);
    CHECK(model_info(model)->grid_pixels == 256);
    model_close(model);
    static const char *const USAGE[][2] = {
        {"--grid", "64"},       {"--grid", "64x1x1"}, {"--grid", "64x"},      {"--window", "40"},
        {"--window", "nan,80"}, {"--mean", "1,2"},    {"--width", "0"},       {"--width", "300"},
        {"--nothing", "x"},     {"--out", "twice"},   {"--grid", "100x1"},    {"--window", "40,0"},
        {"--std", "0,1,1"},     {"--envelope", "{"},  {"--label", "\xc3\xa9"}};
    for (size_t i = 0; i < sizeof USAGE / sizeof USAGE[0]; i++)
        CHECK_INT(run(USAGE[i][0], USAGE[i][1], demo), CLI_USAGE);
    CHECK_INT(run("--grid", "64x1", NULL), CLI_USAGE);
    char *again[] = {"model",
                     "import",
                     "--out",
                     (char *)(uintptr_t)path_of("cli.safetensors"),
                     (char *)(uintptr_t)demo,
                     NULL};
    CHECK_INT(cli_model(5, again), CLI_USAGE); /* it exists */
    CHECK(run("--target", "T3", demo) != CLI_OK);
    CHECK(run("/nonexistent/x", NULL, NULL) != CLI_OK);
    CHECK_OK(file_read(path_of("cli.safetensors.part"), 100, &mine, &n_mine, &err), &err);
    CHECK_STR(mine, "mine");
    free(mine);
    DIR *dir = opendir(test_dir());
    for (const struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        const char *dot = strrchr(e->d_name, '.');
        CHECK(dot == NULL || strcmp(dot, ".part") != 0 ||
              strcmp(e->d_name, "cli.safetensors.part") == 0);
    }
    CHECK(dir != NULL && closedir(dir) == 0);
}
