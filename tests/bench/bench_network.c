/* What bench_network.sh measures with: DRUNet-101 of width 64 with random weights, plain and with
** what int8 needs to know, and slices of 448 x 448, written into a folder. Prints the number of
** processors, their own peak of float32 multiply-adds in GFLOP/s (independent sums in registers,
** all threads) and the GFLOP of a slice.
**
**   bench_network FOLDER [SLICES]     4 slices in x.npy and, if asked for, SLICES in many.npy
**
** int8 keeps as many of the last convolutions in floats as calibration left of the demonstration
** model: random weights say nothing of how many a trained network needs, and the accuracy of int8
** is not measured here. */
#include "base/clock.h"
#include "base/digest.h"
#include "base/parallel.h"
#include "gpu/graph_passes.h"
#include "gpu/model_write.h"
#include "gpu/net.h"
#include "gpu/network.h"
#include "gpu/npy.h"
#include "tests/model_file.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 448, PIXELS = SIDE * SIDE, N = 4, N_FLOAT = 5 };

/* ---- the processor's peak ------------------------------------------------------------------ */

typedef float Lanes __attribute__((vector_size(64)));
enum { SUMS = 16, TURNS = 20 * 1000 * 1000 };
static volatile Lanes sink[64]; /* or the compiler would leave the sums out */

__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"))) static void
multiply_add(void *context, int item)
{
    (void)context;
    Lanes sums[SUMS], a, b;
    for (int k = 0; k < 16; k++) {
        a[k] = 1.0f - 1e-7f * (float)(k + item);
        b[k] = 1e-7f;
    }
    for (int i = 0; i < SUMS; i++)
        sums[i] = a + (float)i;
    for (int turn = 0; turn < TURNS; turn++)
        for (int i = 0; i < SUMS; i++)
            sums[i] = sums[i] * a + b;
    for (int i = 1; i < SUMS; i++)
        sums[0] += sums[i];
    sink[item] = sums[0];
}

static double peak_gflops(int threads)
{
    double best = 0;
    for (int round = 0; round < 3; round++) {
        double start = clock_monotonic_s();
        parallel_for(threads, threads, multiply_add, NULL);
        double seconds = clock_monotonic_s() - start;
        double rate = 2e-9 * 16 * SUMS * (double)TURNS * threads / seconds;
        best = rate > best ? rate : best;
    }
    return best;
}

/* ---- the network --------------------------------------------------------------------------- */

static float *slices;

static void fill(void *context, int32_t i, float *ret_x)
{
    (void)context;
    memcpy(ret_x, slices + (size_t)i * 3 * PIXELS, 3 * PIXELS * sizeof *ret_x);
}

static void take(void *context, int32_t i, const float *y)
{
    (void)context;
    (void)i;
    (void)y;
}

static void must(Status status, const Err *err)
{
    if (status == ST_OK)
        return;
    (void)fprintf(stderr, "bench_network: %s: %s\n", status_name(status), err->msg);
    exit(1);
}

static double gmac(void)
{
    Graph *literal = malloc(sizeof *literal), *fast = malloc(sizeof *fast);
    Err err = {0};
    const ModelInfo info = {.arch = ARCH_DRUNET101, .width = 64};
    must(network_build(&info, SIDE, SIDE, literal, &err), &err);
    must(graph_rewrite(literal, GRAPH_PASSES_ALL, fast, &err), &err);
    double ret = 1e-9 * (double)graph_macs(fast);
    free(literal);
    free(fast);
    return ret;
}

/* The model once more, with the range of every convolution's output but the last ones'. */
static void write_ranges(const char *from, const char *to)
{
    const NetOptions options = {.backend = "cpu",
                                .batch = 1,
                                .height = SIDE,
                                .width = SIDE,
                                .threads = 1,
                                .precision = "f32",
                                .without = 1u << GRAPH_PASS_SPLIT_CONCAT};
    const NetFeed feed = {NULL, fill, take};
    static NetRange ranges[NET_MAX_RANGES];
    static char text[NET_MAX_RANGES * 64];
    char calibration[256], function[65], digest[DIGEST_HEX_SIZE];
    size_t used = 0;
    int32_t n;
    Model *model;
    Net *net;
    Err err = {0};
    must(model_open(from, &model, &err), &err);
    memcpy(function, model_info(model)->function_digest, sizeof function);
    must(net_open(model, &options, &net, &err), &err);
    must(net_run_ranges(net, 1, &feed, ranges, &n, &err), &err);
    net_close(net);
    model_close(model);
    for (int32_t i = 0; i < n - N_FLOAT; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%c\"%s\":%g", i == 0 ? '{' : ',',
                                 ranges[i].conv, (double)ranges[i].range);
    (void)snprintf(text + used, sizeof text - used, "}");
    digest_text(text, digest);
    (void)snprintf(calibration, sizeof calibration,
                   "{\"function\":\"%s\",\"int8\":{\"allowed\":true,\"ranges\":\"%s\"}}", function,
                   digest);
    const MetadataValue values[] = {
        {"precisions", "[\"f32\",\"int8\"]"}, {"int8", text}, {"calibration", calibration}};
    must(model_write_metadata(from, values, 3, to, &err), &err);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    long many = argc > 2 ? strtol(argv[2], NULL, 10) : N;
    if (many < N || many > 4096)
        return 2;
    char plain[4096], path[4096];
    (void)snprintf(plain, sizeof plain, "%s/plain.safetensors", argv[1]);
    (void)snprintf(path, sizeof path, "%s/ranges.safetensors", argv[1]);
    size_t n_numbers = (size_t)many * 3 * PIXELS;
    slices = malloc(n_numbers * sizeof *slices);
    uint64_t seed = 1;
    for (size_t i = 0; slices != NULL && i < n_numbers; i++)
        slices[i] = (float)(4 * model_file_random(&seed) - 2);
    model_file_write_random(plain, ARCH_DRUNET101, 64);
    write_ranges(plain, path);

    Err err = {0};
    const Npy x = {4, {N, 3, SIDE, SIDE}, slices};
    (void)snprintf(path, sizeof path, "%s/x.npy", argv[1]);
    must(npy_write(path, &x, &err), &err);
    if (many > N) {
        const Npy all = {4, {many, 3, SIDE, SIDE}, slices};
        (void)snprintf(path, sizeof path, "%s/many.npy", argv[1]);
        must(npy_write(path, &all, &err), &err);
    }
    int threads = parallel_processors();
    (void)printf("%d %.1f %.1f\n", threads, peak_gflops(threads), 2 * gmac());
    free(slices);
    return 0;
}
