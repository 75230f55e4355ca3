/* ct2mr gpu: which GPU is there, what one would do, and whether it can be believed. */
#include "daemon/cli.h"

#include "gpu/cuda_plugin.h"
#include "gpu/gpu_predict.h"
#include "gpu/graph_passes.h"
#include "gpu/network.h"
#include "gpu/trust.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_GPUS = 16, PAPER_WIDTH = 64, PAPER_SIDE = 448, DEADLINE_S = 60 };

typedef struct Gpu { /* the command's arguments */
    const char *model;
    int64_t batch, device;
    bool json;
} Gpu;

/* ---- list ---------------------------------------------------------------------------------- */

static void print_list_json(const CudaPlugin *plugin, const CudaDeviceText *gpus, int n,
                            const Err *err)
{
    cJSON *object = cJSON_CreateObject();
    (void)cJSON_AddBoolToObject(object, "ok", n > 0);
    (void)cJSON_AddBoolToObject(object, "plugin", plugin != NULL);
    (void)cJSON_AddStringToObject(object, "reason", err->msg);
    if (plugin != NULL)
        (void)cJSON_AddNumberToObject(object, "cudnn", (double)plugin->dnn_version());
    cJSON *list = cJSON_AddArrayToObject(object, "gpus");
    for (int i = 0; i < n; i++) {
        cJSON *gpu = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(gpu, "name", gpus[i].name);
        (void)cJSON_AddNumberToObject(gpu, "compute", gpus[i].compute / 10.0);
        (void)cJSON_AddNumberToObject(gpu, "driver_cuda", gpus[i].driver);
        (void)cJSON_AddNumberToObject(gpu, "memory_bytes", (double)gpus[i].memory_bytes);
        (void)cJSON_AddItemToArray(list, gpu);
    }
    cli_print_json(object);
}

static int list(const Gpu *gpu)
{
    const CudaPlugin *plugin = NULL;
    CudaDeviceText gpus[MAX_GPUS];
    int n = 0;
    Err err = {0};
    Status status = cuda_plugin(&plugin, &err);
    if (status == ST_OK)
        status = plugin->devices(gpus, MAX_GPUS, &n, &err);
    if (status == ST_OK && n == 0)
        (void)err_set(&err, ST_BACKEND, "there is no GPU");
    if (gpu->json) {
        print_list_json(plugin, gpus, n, &err);
    } else if (n == 0) {
        (void)cli_fail(&err, false);
    } else {
        (void)printf("cuDNN %lld\n", (long long)plugin->dnn_version());
        for (int i = 0; i < n; i++)
            (void)printf("%d  %s, compute capability %d.%d, %.1f GB, driver for CUDA %d.%d\n", i,
                         gpus[i].name, gpus[i].compute / 10, gpus[i].compute % 10,
                         (double)gpus[i].memory_bytes * 1e-9, gpus[i].driver / 1000,
                         gpus[i].driver % 1000 / 10);
    }
    return n > 0 ? CLI_OK : CLI_NEGATIVE;
}

/* ---- plan ---------------------------------------------------------------------------------- */

static void print_plan(const Gpu *gpu, const char *name, const Graph *graph)
{
    (void)printf("%s, %d x %d, %.1f GMAC, %lld slices at a time; predicted, not measured\n\n", name,
                 graph->values[graph->input].h, graph->values[graph->input].w,
                 (double)graph_macs(graph) * 1e-9, (long long)gpu->batch);
    (void)printf("%-24s %9s %12s %12s %12s\n", "GPU", "floor ms", "predicted ms", "180 slices s",
                 "memory MB");
    for (int i = 0; i < GPU_CATALOG_COUNT; i++) {
        const GpuCard *card = gpu_catalog_card(i);
        GpuPrediction p = gpu_predict(graph, (int32_t)gpu->batch, card);
        (void)printf("%-24s %9.3f %12.3f %12.2f %12.0f%s\n", card->name, p.floor_ms, p.predicted_ms,
                     180e-3 * p.predicted_ms, (double)p.memory_bytes * 1e-6,
                     p.memory_bytes > card->memory_bytes ? "  more than it has" : "");
    }
    (void)printf("\nfloor: operations at the data sheet's f16 rate; predicted: %.0f %% of it, or "
                 "%.0f %% of the\nmemory's bandwidth, whichever is slower for an operation\n",
                 100 * GPU_PREDICT_COMPUTE, 100 * GPU_PREDICT_BANDWIDTH);
}

static void print_plan_json(const Gpu *gpu, const char *name, const Graph *graph)
{
    cJSON *object = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(object, "network", name);
    (void)cJSON_AddNumberToObject(object, "height", graph->values[graph->input].h);
    (void)cJSON_AddNumberToObject(object, "width", graph->values[graph->input].w);
    (void)cJSON_AddNumberToObject(object, "gmac_per_slice", (double)graph_macs(graph) * 1e-9);
    (void)cJSON_AddNumberToObject(object, "batch", (double)gpu->batch);
    (void)cJSON_AddFalseToObject(object, "measured");
    const GpuKernelBytes bytes = gpu_kernel_bytes(graph);
    cJSON *kernels = cJSON_AddObjectToObject(object, "kernel_bytes_per_slice");
    (void)cJSON_AddNumberToObject(kernels, "pack", (double)bytes.pack);
    (void)cJSON_AddNumberToObject(kernels, "maxpool", (double)bytes.maxpool);
    (void)cJSON_AddNumberToObject(kernels, "concat", (double)bytes.concat);
    (void)cJSON_AddNumberToObject(kernels, "unpack", (double)bytes.unpack);
    cJSON *cards = cJSON_AddArrayToObject(object, "gpus");
    for (int i = 0; i < GPU_CATALOG_COUNT; i++) {
        const GpuCard *card = gpu_catalog_card(i);
        GpuPrediction p = gpu_predict(graph, (int32_t)gpu->batch, card);
        cJSON *row = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(row, "name", card->name);
        (void)cJSON_AddNumberToObject(row, "floor_ms", p.floor_ms);
        (void)cJSON_AddNumberToObject(row, "predicted_ms", p.predicted_ms);
        (void)cJSON_AddNumberToObject(row, "memory_bytes", (double)p.memory_bytes);
        (void)cJSON_AddBoolToObject(row, "fits", p.memory_bytes <= card->memory_bytes);
        (void)cJSON_AddItemToArray(cards, row);
    }
    cli_print_json(object);
}

static Status plan_network(const Gpu *gpu, const ModelInfo *info, const char *name, Err *err)
{
    Graph *literal = malloc(sizeof *literal), *fast = malloc(sizeof *fast);
    Status status = literal == NULL || fast == NULL
                        ? err_set(err, ST_NO_MEMORY, "the network's table")
                        : network_build(info, info->grid_pixels, info->grid_pixels, literal, err);
    if (status == ST_OK)
        status = graph_rewrite(literal, GRAPH_PASSES_ALL, fast, err);
    if (status == ST_OK && gpu->json)
        print_plan_json(gpu, name, fast);
    else if (status == ST_OK)
        print_plan(gpu, name, fast);
    free(literal);
    free(fast);
    return status;
}

static int plan(const Gpu *gpu)
{
    const ModelInfo paper = {.arch = ARCH_DRUNET101,
                             .width = PAPER_WIDTH,
                             .grid_pixels = PAPER_SIDE,
                             .activation = ACTIVATION_SIGMOID};
    Err err = {0};
    Model *model = NULL;
    Status status = ST_OK;
    if (gpu->model != NULL)
        status = model_open(gpu->model, &model, &err);
    if (status == ST_OK) {
        const ModelInfo *info = model != NULL ? model_info(model) : &paper;
        status =
            plan_network(gpu, info, model != NULL ? info->name : "drunet-101 of width 64", &err);
    }
    model_close(model);
    return status == ST_OK ? CLI_OK : cli_fail(&err, gpu->json);
}

/* ---- selftest ------------------------------------------------------------------------------ */

static int selftest(const Gpu *gpu)
{
    const BackendOptions options = {.precision = PRECISION_F16,
                                    .threads = 1,
                                    .batch = (int32_t)gpu->batch,
                                    .deadline_s = DEADLINE_S,
                                    .device = (int32_t)gpu->device};
    const double operation_tolerance = trust_operation_tolerance(options.precision);
    const CudaPlugin *plugin;
    TrustResult trust = {0};
    Err err = {0};
    Model *model;
    if (model_open(gpu->model, &model, &err) != ST_OK)
        return cli_fail(&err, gpu->json);
    Status status = cuda_plugin(&plugin, &err);
    if (status == ST_OK)
        status = trust_check(&plugin->backend, model, &options, GRAPH_PASSES_ALL, &trust, &err);
    if (status == ST_OK && gpu->json) {
        cJSON *object = cJSON_CreateObject();
        (void)cJSON_AddTrueToObject(object, "ok");
        (void)cJSON_AddNumberToObject(object, "operation_rms", trust.operation_rms);
        (void)cJSON_AddStringToObject(object, "operation", trust.operation);
        (void)cJSON_AddNumberToObject(object, "operation_tolerance", operation_tolerance);
        (void)cJSON_AddNumberToObject(object, "output_rms", trust.output_rms);
        (void)cJSON_AddNumberToObject(object, "output_tolerance", TRUST_OUTPUT_TOLERANCE);
        (void)cJSON_AddNumberToObject(object, "batch", options.batch);
        (void)cJSON_AddNumberToObject(object, "served_rms", trust.served_rms);
        cli_print_json(object);
    } else if (status == ST_OK) {
        (void)printf(
            "%s: GPU %d may serve; on the golden slice no operation differs from ref by "
            "more than %.2g (%s; %.0e allowed), the output by %.2g (%.0e), in a batch of %d "
            "by %.2g more\n",
            model_info(model)->name, (int)gpu->device, trust.operation_rms, trust.operation,
            operation_tolerance, trust.output_rms, TRUST_OUTPUT_TOLERANCE, options.batch,
            trust.served_rms);
        if (trust.note[0] != '\0')
            (void)printf("%s\n", trust.note);
    }
    model_close(model);
    return status == ST_OK ? CLI_OK : cli_fail(&err, gpu->json);
}

int cli_gpu(int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"model", required_argument, NULL, 'm'},
                                            {"batch", required_argument, NULL, 'n'},
                                            {"device", required_argument, NULL, 'd'},
                                            {NULL, 0, NULL, 0}};
    Gpu gpu = {.batch = 4};
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'j')
            gpu.json = true;
        else if (c == 'm')
            gpu.model = optarg;
        else if (c == 'd') {
            if (!cli_parse_int(optarg, 0, 63, &gpu.device))
                return cli_usage("gpu", "--device wants a number in 0..63");
        } else if (c != 'n')
            return cli_usage("gpu", "unknown option or missing value");
        else if (!cli_parse_int(optarg, 1, 1024, &gpu.batch))
            return cli_usage("gpu", "--batch wants a number in 1..1024");
    }
    if (optind + 1 != argc)
        return cli_usage("gpu", "say list, plan or selftest");
    const char *verb = argv[optind];
    if (strcmp(verb, "list") == 0)
        return list(&gpu);
    if (strcmp(verb, "plan") == 0)
        return plan(&gpu);
    if (strcmp(verb, "selftest") != 0)
        return cli_usage("gpu", "unknown verb: list, plan or selftest");
    if (gpu.model == NULL)
        return cli_usage("gpu", "selftest needs --model");
    return selftest(&gpu);
}
