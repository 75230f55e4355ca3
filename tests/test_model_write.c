/* gpu/model_write: what is written is what model_open() reads; a refused file leaves the old one.
** And files of tensors that are not models (model_open_tensors). */
#include "tests/test.h"

#include "base/files.h"
#include "gpu/model_write.h"
#include "tests/model_file.h"

#include <unistd.h>

static const MetadataValue VALUES[] = {{"format", "ct2mr-model-1"},
                                       {"arch", "drunet-34"},
                                       {"width", "4"},
                                       {"target", "T2"},
                                       {"pose", "native"},
                                       {"grid", "{\"pixels\":64,\"spacing_mm\":1.5}"},
                                       {"window", "{\"level_hu\":40,\"width_hu\":80}"},
                                       {"mean", "[0.485,0.456,0.406]"},
                                       {"std", "[0.229,0.224,0.225]"},
                                       {"activation", "sigmoid"},
                                       {"mask", "brain"},
                                       {"licence", NULL}};
enum { N_VALUES = sizeof VALUES / sizeof VALUES[0] };

static const char *path_of(const char *name)
{
    static char path[PATH_SIZE];
    (void)snprintf(path, sizeof path, "%s/%s", test_dir(), name);
    return path;
}

static void check_tensor(const Model *model, const char *name, const float *want, int64_t n)
{
    Err err = {0};
    float got[8];
    const Tensor *tensor = model_tensor(model, name);
    CHECK(tensor != NULL && tensor->n_elements == n && n <= 8);
    CHECK_OK(model_read(model, tensor, got, &err), &err);
    CHECK(memcmp(got, want, (size_t)n * sizeof *got) == 0);
}

TEST(model_write_new_is_read_back, "names, shapes, every bit of F32; F16 rounds to the nearest")
{
    static const float A[6] = {1, -2.5f, 0x1.fffffep-3f, 1e-30f, 3e30f, 0}, B[1] = {0.1f};
    static const float SMALL[2] = {0.1f, 65504}, ROUNDED[2] = {0x1.998p-4f, 65504};
    const NewTensor tensors[] = {{"b.weight", 4, {1, 2, 3, 1}, A}, {"a.bias", 1, {1}, B}};
    const NewTensor half[] = {{"x", 1, {2}, SMALL}};
    Err err = {0};
    Model *model;
    CHECK_OK(model_write_new(path_of("m.safetensors"), VALUES, N_VALUES, tensors, 2, false, &err),
             &err);
    CHECK_OK(model_open(path_of("m.safetensors"), &model, &err), &err);
    check_tensor(model, "b.weight", A, 6);
    check_tensor(model, "a.bias", B, 1);
    CHECK_INT(model_tensor(model, "b.weight")->n_dims, 4);
    CHECK_INT(model_tensor(model, "b.weight")->dims[2], 3);
    CHECK_STR(model_info(model)->target, "T2");
    CHECK_STR(model_metadata(model, "mask"), "brain");
    CHECK(model_metadata(model, "licence") == NULL);
    model_close(model);
    CHECK_OK(model_write_new(path_of("m.safetensors"), VALUES, N_VALUES, half, 1, true, &err),
             &err);
    CHECK_OK(model_open(path_of("m.safetensors"), &model, &err), &err);
    check_tensor(model, "x", ROUNDED, 2);
    model_close(model);
}

TEST(model_write_new_refuses_what_is_no_number, "NaN, or too large for F16: the old file stands")
{
    static const float GOOD[2] = {1, 2}, NAN_IN_IT[2] = {1, NAN}, LARGE[2] = {65520, 1};
    const NewTensor good = {"t", 1, {2}, GOOD}, bad = {"u", 1, {2}, NAN_IN_IT},
                    large = {"v", 1, {2}, LARGE};
    Err err = {0};
    Model *model;
    CHECK_OK(model_write_new(path_of("m.safetensors"), VALUES, N_VALUES, &good, 1, false, &err),
             &err);
    CHECK_STATUS(model_write_new(path_of("m.safetensors"), VALUES, N_VALUES, &bad, 1, false, &err),
                 ST_MODEL_FORMAT);
    CHECK(strstr(err.msg, "tensor u: element 1") != NULL);
    err = (Err){0};
    CHECK_STATUS(model_write_new(path_of("m.safetensors"), VALUES, N_VALUES, &large, 1, true, &err),
                 ST_MODEL_FORMAT);
    CHECK(strstr(err.msg, "tensor v: element 0") != NULL);
    err = (Err){0};
    CHECK_OK(model_write_new(path_of("n.safetensors"), VALUES, N_VALUES, &large, 1, false, &err),
             &err);
    CHECK_OK(model_open(path_of("m.safetensors"), &model, &err), &err);
    check_tensor(model, "t", GOOD, 2);
    model_close(model);
    CHECK_STATUS(model_write_new("/nowhere/m", VALUES, N_VALUES, &good, 1, false, &err),
                 ST_NOT_FOUND);
}

TEST(model_open_tensors_takes_torchvision,
     "no metadata, I64 scalars: tensors are read, I64 passed over")
{
    static const float ONE[1] = {1.5f};
    unsigned char data[12] = {0};
    memcpy(data + 8, ONE, 4);
    model_file_write(path_of("r.safetensors"),
                     "{\"bn1.num_batches_tracked\":{\"dtype\":\"I64\",\"shape\":[],"
                     "\"data_offsets\":[0,8]},\"bn1.weight\":{\"dtype\":\"F32\",\"shape\":[1],"
                     "\"data_offsets\":[8,12]}}",
                     data, sizeof data);
    Err err = {0};
    Model *model;
    CHECK_OK(model_open_tensors(path_of("r.safetensors"), &model, &err), &err);
    check_tensor(model, "bn1.weight", ONE, 1);
    CHECK(model_tensor(model, "bn1.num_batches_tracked") == NULL);
    CHECK(model_metadata(model, "format") == NULL);
    model_close(model);
    CHECK_STATUS(model_open(path_of("r.safetensors"), &model, &err), ST_MODEL_FORMAT);
    err = (Err){0};
    model_file_write(path_of("s.safetensors"),
                     "{\"a\":{\"dtype\":\"I64\",\"shape\":[2],"
                     "\"data_offsets\":[0,8]}}",
                     data, 8);
    CHECK_STATUS(model_open_tensors(path_of("s.safetensors"), &model, &err), ST_MODEL_FORMAT);
}
