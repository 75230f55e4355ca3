/* Opening the CUDA backend's plugin. See cuda_plugin.h. */
#include "gpu/cuda_plugin.h"

#include "base/files.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One per process: a shared object is opened once, and stays because its libraries keep threads. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static const CudaPlugin *opened;
static Err failure;

static bool plugin_path(char ret[PATH_SIZE])
{
    const char *dir = getenv("CT2MR_PLUGIN_DIR");
    char self[PATH_SIZE];
    if (dir != NULL && dir[0] != '\0')
        return path_format(ret, NULL, "%s/" CUDA_PLUGIN_FILE, dir) == ST_OK;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return false;
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (slash == NULL)
        return false;
    *slash = '\0';
    return path_format(ret, NULL, "%s/" CUDA_PLUGIN_FILE, self) == ST_OK;
}

bool cuda_plugin_present(void)
{
    char path[PATH_SIZE];
    return plugin_path(path) && access(path, R_OK) == 0;
}

static void open_plugin(void)
{
    char path[PATH_SIZE];
    if (!plugin_path(path) || access(path, R_OK) != 0) {
        (void)err_set(&failure, ST_BACKEND,
                      "backend cuda is not installed: no " CUDA_PLUGIN_FILE
                      " beside the program (or in $CT2MR_PLUGIN_DIR)");
        return;
    }
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        const char *why = dlerror();
        (void)err_set(&failure, ST_BACKEND, "backend cuda does not load: %.200s",
                      why != NULL ? why : "?");
        return;
    }
    const CudaPlugin *plugin = dlsym(handle, CUDA_PLUGIN_SYMBOL);
    if (plugin == NULL || strcmp(plugin->version, CUDA_PLUGIN_VERSION) != 0 ||
        plugin->graph_bytes != sizeof(Graph))
        (void)err_set(&failure, ST_BACKEND,
                      CUDA_PLUGIN_FILE " is not of this build (" CUDA_PLUGIN_VERSION ")");
    else
        opened = plugin;
}

Status cuda_plugin(const CudaPlugin **ret, Err *err)
{
    if (pthread_once(&once, open_plugin) != 0)
        return err_set(err, ST_BACKEND, "opening backend cuda");
    if (opened == NULL)
        return err_set(err, failure.status, "%s", failure.msg);
    *ret = opened;
    return ST_OK;
}
