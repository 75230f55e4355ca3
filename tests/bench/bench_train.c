/* One step of training (forward, backward, Adam) of DRUNet-34, width 64, 224 x 224, batch 5, with
** random weights and data: the best of some rounds, in wall and in processor time.
**   bench_train FOLDER f32|bf16|f16 [ROUNDS]     "MS CPU_MS", or "-" if the machine has it not
** f16 is the GPU's. */
#include "base/clock.h"
#include "gpu/network.h"
#include "gpu/optimizer.h"
#include "gpu/train_net.h"
#include "tests/model_file.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SIDE = 224, BATCH = 5, PIXELS = SIDE * SIDE };

static void must(Status status, const Err *err)
{
    if (status == ST_OK)
        return;
    (void)fprintf(stderr, "bench_train: %s: %s\n", status_name(status), err->msg);
    exit(1);
}

static float *random_numbers(size_t n, uint64_t seed)
{
    float *x = malloc(n * sizeof *x);
    if (x == NULL)
        exit(1);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(4 * model_file_random(&seed) - 2);
    return x;
}

static void load(TrainNet *net, const char *path)
{
    Err err = {0};
    Model *model;
    int32_t n;
    TrainParameter *p = train_net_parameters(net, &n);
    must(model_open(path, &model, &err), &err);
    for (int32_t i = 0; i < n; i++)
        must(model_read(model, model_tensor(model, p[i].name), p[i].value, &err), &err);
    model_close(model);
    must(train_net_changed(net, &err), &err);
}

static double processor_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void step(TrainNet *net, Optimizer *adam, const float *x, const float *target, float *dy)
{
    Err err = {0};
    const float *y;
    double norm;
    size_t n = (size_t)BATCH * PIXELS;
    must(train_net_forward(net, x, BATCH, true, &y, &err), &err);
    for (size_t i = 0; i < n; i++)
        dy[i] = 2 * (y[i] - target[i]) / (float)n;
    must(train_net_backward(net, dy, NULL, &err), &err);
    must(optimizer_step(adam, 1e-4, &norm, &err), &err);
    must(train_net_changed(net, &err), &err);
}

int main(int argc, char **argv)
{
    TrainOptions options = {.backend = "cpu", .batch = BATCH};
    if (argc < 3 || !precision_from_name(argv[2], &options.precision))
        return 2;
    if (options.precision == PRECISION_F16)
        options.backend = "cuda";
    long rounds = argc > 3 ? strtol(argv[3], NULL, 10) : 5;
    char path[4096];
    Err err = {0};
    Graph *graph = malloc(sizeof *graph);
    TrainNet *net;
    Optimizer *adam;
    const ModelInfo info = {.arch = ARCH_DRUNET34, .width = 64};
    (void)snprintf(path, sizeof path, "%s/train.safetensors", argv[1]);
    model_file_write_random(path, ARCH_DRUNET34, 64);
    if (graph == NULL)
        return 1;
    must(network_build(&info, SIDE, SIDE, graph, &err), &err);
    Status status = train_net_open(graph, &options, &net, &err);
    if (status == ST_BACKEND && options.precision != PRECISION_F32) {
        (void)fprintf(stderr, "bench_train: %s\n", err.msg);
        (void)puts("-");
        return 0;
    }
    must(status, &err);
    load(net, path);
    int32_t n;
    TrainParameter *parameters = train_net_parameters(net, &n);
    const OptimizerOptions adam_options = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8};
    must(optimizer_open(parameters, n, &adam_options, &adam, &err), &err);
    float *x = random_numbers((size_t)BATCH * 3 * PIXELS, 1);
    float *target = random_numbers((size_t)BATCH * PIXELS, 2);
    float *dy = random_numbers((size_t)BATCH * PIXELS, 3);
    double best = 1e9, best_cpu = 1e9;
    for (long round = 0; round <= rounds; round++) { /* the first commits the memory */
        double start = clock_monotonic_s(), cpu = processor_s();
        step(net, adam, x, target, dy);
        double ms = 1e3 * (clock_monotonic_s() - start), cpu_ms = 1e3 * (processor_s() - cpu);
        best = round > 0 && ms < best ? ms : best;
        best_cpu = round > 0 && cpu_ms < best_cpu ? cpu_ms : best_cpu;
    }
    (void)printf("%.1f %.1f\n", best, best_cpu);
    optimizer_close(adam);
    train_net_close(net);
    free(graph);
    free(x);
    free(target);
    free(dy);
    return 0;
}
