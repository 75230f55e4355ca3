/* See random_model.h. */
#include "tests/random_model.h"

#include "base/files.h"
#include "tests/test.h"

Model *random_model(ModelArch arch, int32_t width)
{
    char path[PATH_SIZE];
    Err err = {0};
    Model *model;
    CHECK_OK(path_format(path, &err, "%s/random.safetensors", test_dir()), &err);
    model_file_write_random(path, arch, width);
    CHECK_OK(model_open(path, &model, &err), &err);
    return model;
}
