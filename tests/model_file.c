/* See model_file.h. */
#include "tests/model_file.h"

#include "gpu/network.h"
#include "tests/test.h"

#include <stdarg.h>

double model_file_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u; /* Knuth, MMIX */
    return (double)(*seed >> 11) * 0x1p-53;
}

void model_file_write(const char *path, const char *header, const void *data, size_t data_bytes)
{
    FILE *f = fopen(path, "wb");
    CHECK(f != NULL);
    uint64_t length = strlen(header);
    for (int i = 0; i < 8; i++)
        CHECK(fputc((int)(length >> 8 * i & 0xff), f) != EOF);
    CHECK(fputs(header, f) >= 0);
    for (size_t i = 0; data == NULL && i < data_bytes; i++)
        CHECK(fputc(0, f) != EOF);
    CHECK(data == NULL || fwrite(data, 1, data_bytes, f) == data_bytes);
    CHECK(fclose(f) == 0);
}

typedef struct Maker {
    uint64_t seed;
    const char *left_out; /* name of a tensor, or NULL */
    char *header;
    size_t header_used, header_size;
    float *data;
    size_t n, n_max;
} Maker;

__attribute__((format(printf, 2, 3))) static void say(Maker *m, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(m->header + m->header_used, m->header_size - m->header_used, format, args);
    va_end(args);
    CHECK(n >= 0 && (size_t)n < m->header_size - m->header_used);
    m->header_used += (size_t)n;
}

/* A tensor of n numbers, uniform in [low, high). */
static void add(Maker *m, const char *module, const char *leaf, const char *shape, size_t n,
                double low, double high)
{
    char name[128];
    (void)snprintf(name, sizeof name, "%s.%s", module, leaf);
    if (m->left_out != NULL && strcmp(name, m->left_out) == 0)
        return;
    say(m, ",\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}", name, shape,
        4 * m->n, 4 * (m->n + n));
    CHECK(m->n + n <= m->n_max);
    for (size_t i = 0; i < n; i++)
        m->data[m->n++] = (float)(low + (high - low) * model_file_random(&m->seed));
}

static void add_conv(Maker *m, const Graph *graph, const Op *op)
{
    int32_t c_out = graph->values[op->output].c, c_in = graph->values[op->input].c, k = op->kernel;
    size_t fan_in = (size_t)c_in * (size_t)k * (size_t)k, n = (size_t)c_out;
    char shape[64], vector[16];
    (void)snprintf(shape, sizeof shape, "%d,%d,%d,%d", c_out, c_in, k, k);
    (void)snprintf(vector, sizeof vector, "%d", c_out);
    double bound = sqrt(6.0 / (double)fan_in); /* He: keeps the signal's size through ReLU */
    if (op->has_bias)
        bound *= 0.2; /* the head: a sigmoid should not saturate */
    add(m, op->name, "weight", shape, n * fan_in, -bound, bound);
    if (op->has_bias)
        add(m, op->name, "bias", vector, n, -0.1, 0.1);
}

static void add_norm(Maker *m, const Graph *graph, const Op *op)
{
    size_t n = (size_t)graph->values[op->output].c;
    char vector[16];
    (void)snprintf(vector, sizeof vector, "%zu", n);
    add(m, op->name, "weight", vector, n, 0.5, 1);
    add(m, op->name, "bias", vector, n, -0.2, 0.2);
    add(m, op->name, "running_mean", vector, n, -0.2, 0.2);
    add(m, op->name, "running_var", vector, n, 0.5, 2);
}

static void write_network(const char *path, ModelArch arch, int32_t width, int32_t stated_width,
                          const char *left_out, const char *added)
{
    Err err = {0};
    Graph *graph = malloc(sizeof *graph);
    ModelInfo info = {.arch = arch, .width = width, .activation = ACTIVATION_SIGMOID};
    CHECK(graph != NULL);
    CHECK_OK(network_build(&info, 32, 32, graph, &err), &err);
    Maker m = {.seed = (uint64_t)arch * 1000 + (uint64_t)width,
               .left_out = left_out,
               .header_size = 1 << 20};
    m.n_max = 2 * (size_t)graph_parameters(graph);
    m.header = malloc(m.header_size);
    m.data = calloc(m.n_max, sizeof *m.data);
    CHECK(m.header != NULL && m.data != NULL);
    say(&m,
        "{\"__metadata__\":{\"format\":\"ct2mr-model-1\",\"arch\":\"%s\",\"width\":\"%d\","
        "\"target\":\"T1\",\"pose\":\"native\",\"grid\":\"{\\\"pixels\\\":256,"
        "\\\"spacing_mm\\\":1.0}\",\"window\":\"{\\\"level_hu\\\":40,\\\"width_hu\\\":80}\","
        "\"mean\":\"[0.485,0.456,0.406]\",\"std\":\"[0.229,0.224,0.225]\","
        "\"activation\":\"sigmoid\",\"mask\":\"head\",\"label\":\"random weights\"}",
        network_name(arch), stated_width);
    for (int32_t i = 0; i < graph->n_ops; i++)
        if (graph->ops[i].kind == OP_CONV)
            add_conv(&m, graph, &graph->ops[i]);
        else if (graph->ops[i].kind == OP_NORM)
            add_norm(&m, graph, &graph->ops[i]);
    if (added != NULL)
        say(&m, ",\"%s\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[%zu,%zu]}", added,
            4 * m.n, 4 * (m.n + 1));
    m.n += added != NULL; /* a zero: the memory is cleared */
    say(&m, "}");
    model_file_write(path, m.header, m.data, m.n * sizeof *m.data);
    free(m.header);
    free(m.data);
    free(graph);
}

void model_file_write_random(const char *path, ModelArch arch, int32_t width)
{
    write_network(path, arch, width, width, NULL, NULL);
}

void model_file_write_random_without(const char *path, ModelArch arch, int32_t width,
                                     const char *tensor)
{
    write_network(path, arch, width, width, tensor, NULL);
}

void model_file_write_random_as(const char *path, ModelArch arch, int32_t width,
                                int32_t stated_width)
{
    write_network(path, arch, width, stated_width, NULL, NULL);
}

void model_file_write_random_with(const char *path, ModelArch arch, int32_t width,
                                  const char *tensor)
{
    write_network(path, arch, width, width, NULL, tensor);
}
