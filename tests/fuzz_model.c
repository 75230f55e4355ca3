/* Fuzz target: the reader of model files.
**
** Bytes that begin with '{' are a header, and behind the first 0 byte the tensors' data: the length
** in front is put there, so that a mutation does not end at it. Other bytes are a whole file.
** Claims: opening comes back with a status from those that are documented and a message; what was
** opened can be read whole, every number is finite, every name is found again; what a model says
** fits its network or is refused; so is what is imported. */
#include "tests/fuzz.h"

#include "gpu/model_import.h"
#include "gpu/network.h"
#include "gpu/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PREFIX = 8, SIDE = 32, MAX_PARAMETERS = 1 << 20 };

static void put(int fd, const void *bytes, size_t n)
{
    ASSERT(n == 0 || write(fd, bytes, n) == (ssize_t)n);
}

static int make_file(const uint8_t *data, size_t size)
{
    int fd = memfd_create("model", MFD_CLOEXEC);
    ASSERT(fd >= 0);
    if (size == 0 || data[0] != '{') {
        put(fd, data, size);
        return fd;
    }
    const uint8_t *zero = memchr(data, 0, size);
    size_t header = zero != NULL ? (size_t)(zero - data) : size;
    uint8_t length[PREFIX];
    for (int i = 0; i < PREFIX; i++)
        length[i] = (uint8_t)((uint64_t)header >> 8 * i);
    put(fd, length, sizeof length);
    put(fd, data, header);
    if (zero != NULL)
        put(fd, zero + 1, size - header - 1);
    return fd;
}

static void check_refusal(Status status, const Err *err)
{
    ASSERT(status == ST_MODEL_FORMAT);
    ASSERT(err->status == status && err->msg[0] != '\0');
    for (const char *p = err->msg; *p != '\0'; p++) /* a terminal is shown nothing else */
        ASSERT(*p >= 0x20 && *p <= 0x7e);
}

static void read_all(const Safetensors *file)
{
    Err err = {0};
    for (int32_t i = 0; i < file->n_entries; i++) {
        const TensorEntry *entry = &file->entries[i];
        ASSERT(safetensors_find(file, entry->name) == entry);
        if (entry->dtype == DTYPE_OTHER)
            continue;
        size_t n = (size_t)entry->tensor.n_elements;
        float *values = malloc(n * sizeof *values);
        ASSERT(n > 0 && values != NULL);
        ASSERT(safetensors_read(file, entry, values, &err) == ST_OK);
        for (size_t k = 0; k < n; k++)
            ASSERT(isfinite(values[k]));
        free(values);
    }
}

static void try_container(const char *path, SafetensorsRules rules)
{
    Safetensors file;
    Err err = {0};
    Status status = safetensors_open(path, rules, &file, &err);
    if (status == ST_OK)
        read_all(&file);
    else
        check_refusal(status, &err);
    safetensors_close(&file);
}

static void try_network(const Model *model)
{
    static Graph graph;
    Err err = {0};
    ASSERT(network_build(model_info(model), SIDE, SIDE, &graph, &err) == ST_OK);
    if (graph_parameters(&graph) > MAX_PARAMETERS)
        return;
    Status status = graph_check_model(&graph, model, &err);
    if (status != ST_OK)
        check_refusal(status, &err);
}

/* Up to the writing: there is no such folder. */
static void try_import(const char *path)
{
    static const MetadataValue VALUES[] = {{"target", "T1"},
                                           {"pose", "native"},
                                           {"grid", "{\"pixels\":32,\"spacing_mm\":1}"},
                                           {"window", "{\"level_hu\":0,\"width_hu\":100}"},
                                           {"activation", "linear"},
                                           {"mask", "head"}};
    const ModelImport import = {.values = VALUES, .n_values = 6};
    ModelImportResult result;
    Err err = {0};
    Status status = model_import(path, &import, "/nonexistent/x", &result, &err);
    ASSERT(status != ST_OK && err.status == status);
    if (status == ST_MODEL_FORMAT)
        check_refusal(status, &err);
}

int fuzz_model(const uint8_t *data, size_t size)
{
    int fd = make_file(data, size);
    char path[64];
    Model *model;
    Err err = {0};
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    try_container(path, SAFETENSORS_MODEL);
    try_container(path, SAFETENSORS_ANY);
    Status status = model_open(path, &model, &err);
    if (status == ST_OK) {
        try_network(model);
        model_close(model);
    } else {
        check_refusal(status, &err);
    }
    try_import(path);
    (void)close(fd);
    return 0;
}
