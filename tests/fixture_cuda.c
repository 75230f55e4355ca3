/* See cuda_fixture.h. */
#include "tests/cuda_fixture.h"

#include "base/files.h"
#include "gpu/cuda_plugin.h"
#include "gpu/gpu_catalog.h"
#include "tests/test.h"

#include <dlfcn.h>
#include <libgen.h>
#include <unistd.h>

/* Making plans, libcudnn calls cublasLtCreate() and keeps what it gets. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libcublasLt";
}

/* For a gradient's plan libcudnn opens and closes libnvrtc, whose C++ runtime leaks 72 kB each
** time: here it stays open. */
static void keep_nvrtc(void)
{
    static const char *const NAMES[] = {"libnvrtc.so.13", "libnvrtc.so.12"};
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++)
        if (dlopen(NAMES[i], RTLD_LAZY | RTLD_NODELETE) != NULL)
            return;
}

CudaEmulator *cuda_emulator_open(void)
{
    char self[PATH_SIZE], dir[PATH_SIZE], file[PATH_SIZE];
    Err err = {0};
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    CHECK(n > 0);
    self[n] = '\0';
    CHECK_OK(path_format(dir, &err, "%s/plugin", dirname(self)), &err);
    CHECK_OK(path_format(file, &err, "%s/" CUDA_PLUGIN_FILE, dir), &err);
    if (access(file, R_OK) != 0)
        SKIP("no CUDA toolkit: the backend was not built");
    CHECK(setenv("CT2MR_PLUGIN_DIR", dir, 1) == 0);
    CHECK(setenv("CT2MR_CACHE_DIR", test_dir(), 1) == 0);
    keep_nvrtc();
    const CudaPlugin *plugin;
    CHECK_OK(cuda_plugin(&plugin, &err), &err);
    void *handle = dlopen(file, RTLD_NOW);
    CHECK(handle != NULL);
    CudaEmulator *emulator = dlsym(handle, CUDA_EMULATOR_SYMBOL);
    CHECK(emulator != NULL && gpu_catalog_card(emulator->card) != NULL);
    return emulator;
}
