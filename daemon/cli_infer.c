/* ct2mr infer: the network alone, from one .npy file to another. */
#include "daemon/cli.h"

#include "base/clock.h"
#include "gpu/graph_passes.h"
#include "gpu/net.h"
#include "gpu/npy.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Infer {
    const char *model, *in, *out, *backend, *precision;
    unsigned without;
    int64_t batch, threads, winograd_mib;
    bool json;
    char used[16], used_precision[8], signature[256], notice[ERR_MSG_SIZE]; /* results */
    int64_t n_slices;
    double open_s, run_s;
} Infer;

static Status check_input(const Npy *x, Err *err)
{
    if (x->n_dims != 4 || x->dims[1] != 3 || x->dims[0] > INT32_MAX || x->dims[2] > INT32_MAX ||
        x->dims[3] > INT32_MAX)
        return err_set(err, ST_UNSUPPORTED, "input is not of shape (n, 3, h, w)");
    if (x->dims[0] == 0)
        return err_set(err, ST_UNSUPPORTED, "the input holds no slice");
    size_t slice = (size_t)(x->dims[1] * x->dims[2] * x->dims[3]);
    for (size_t i = 0; i < (size_t)x->dims[0] * slice; i++)
        if (!isfinite(x->data[i]))
            return err_set(err, ST_UNSUPPORTED, "slice %zu (the first is 0) holds NaN or infinity",
                           i / slice);
    return ST_OK;
}

static Status run_net(Infer *infer, const Model *model, const Npy *x, Npy *y, Err *err)
{
    const NetOptions options = {.backend = infer->backend,
                                .batch = (int32_t)infer->batch,
                                .height = (int32_t)x->dims[2],
                                .width = (int32_t)x->dims[3],
                                .threads = (int32_t)infer->threads,
                                .precision = infer->precision,
                                .without = infer->without,
                                .winograd_mib = (int32_t)infer->winograd_mib};
    Net *net;
    double start = clock_monotonic_s();
    TRY(net_open(model, &options, &net, err));
    double opened = clock_monotonic_s();
    Status status = net_run(net, x->data, (int32_t)x->dims[0], y->data, err);
    infer->open_s = opened - start;
    infer->run_s = clock_monotonic_s() - opened;
    (void)snprintf(infer->used, sizeof infer->used, "%s", net_backend(net));
    (void)snprintf(infer->used_precision, sizeof infer->used_precision, "%s",
                   precision_name(net_precision(net)));
    (void)snprintf(infer->notice, sizeof infer->notice, "%s", net_notice(net));
    (void)snprintf(infer->signature, sizeof infer->signature, "%s", net_signature(net));
    net_close(net);
    return status;
}

static Status check_output(const Npy *y, Err *err)
{
    size_t slice = (size_t)(y->dims[2] * y->dims[3]);
    for (size_t i = 0; i < (size_t)y->dims[0] * slice; i++)
        if (!isfinite(y->data[i]))
            return err_set(err, ST_MODEL_UNFIT,
                           "slice %zu (the first is 0) comes out with NaN or infinity: weights or "
                           "input are too large",
                           i / slice);
    return ST_OK;
}

static Status infer_file(Infer *infer, const Model *model, Err *err)
{
    Npy x = {0}, y = {0};
    TRY(npy_read(infer->in, &x, err));
    Status status = check_input(&x, err);
    if (status == ST_OK) {
        y = (Npy){.n_dims = 4, .dims = {x.dims[0], 1, x.dims[2], x.dims[3]}};
        /* a third of the input's size, so the product cannot overflow; 1: a side may be 0 */
        y.data = malloc((size_t)(x.dims[0] * x.dims[2] * x.dims[3]) * sizeof *y.data + 1);
        if (y.data == NULL)
            status = err_set(err, ST_NO_MEMORY, "output of %lld slices", (long long)x.dims[0]);
    }
    if (status == ST_OK)
        status = run_net(infer, model, &x, &y, err);
    if (status == ST_OK)
        status = check_output(&y, err);
    if (status == ST_OK)
        status = npy_write(infer->out, &y, err);
    infer->n_slices = x.dims[0];
    npy_free(&x);
    npy_free(&y);
    return status;
}

static void report(const Infer *infer, const ModelInfo *info)
{
    double per_slice_ms = infer->n_slices > 0 ? infer->run_s * 1e3 / (double)infer->n_slices : 0;
    if (!infer->json) {
        if (info->untrained)
            (void)fprintf(stderr, "ct2mr: note: the model is NOT TRAINED: its decoder is random\n");
        if (infer->notice[0] != '\0')
            (void)fprintf(stderr, "ct2mr: note: %s\n", infer->notice);
        (void)printf("%s: %lld slices on backend %s in %s%s%s, %.1f ms per slice (start %.0f ms)\n",
                     info->name, (long long)infer->n_slices, infer->used, infer->used_precision,
                     infer->signature[0] != '\0' ? ", " : "", infer->signature, per_slice_ms,
                     infer->open_s * 1e3);
        return;
    }
    cJSON *json = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(json, "model", info->name);
    (void)cJSON_AddStringToObject(json, "digest", info->digest);
    (void)cJSON_AddStringToObject(json, "backend", infer->used);
    (void)cJSON_AddStringToObject(json, "precision", infer->used_precision);
    (void)cJSON_AddStringToObject(json, "signature", infer->signature);
    (void)cJSON_AddStringToObject(json, "notice", infer->notice);
    (void)cJSON_AddBoolToObject(json, "untrained", info->untrained);
    (void)cJSON_AddNumberToObject(json, "n_slices", (double)infer->n_slices);
    (void)cJSON_AddNumberToObject(json, "open_ms", infer->open_s * 1e3);
    (void)cJSON_AddNumberToObject(json, "per_slice_ms", per_slice_ms);
    cli_print_json(json);
}

static bool parse_pass(const char *name, unsigned *passes)
{
    for (int p = 0; p < GRAPH_PASS_COUNT; p++)
        if (strcmp(name, graph_pass_name((GraphPass)p)) == 0) {
            *passes |= 1u << p;
            return true;
        }
    return false;
}

static int unknown_pass(void)
{
    char names[160] = "";
    for (int p = 0; p < GRAPH_PASS_COUNT; p++)
        (void)snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s",
                       p > 0 ? ", " : "", graph_pass_name((GraphPass)p));
    return cli_usage("infer", "--without is none of %s", names);
}

static int parse_arguments(int argc, char **argv, Infer *infer)
{
    static const struct option options[] = {{"model", required_argument, NULL, 'm'},
                                            {"in", required_argument, NULL, 'i'},
                                            {"out", required_argument, NULL, 'o'},
                                            {"backend", required_argument, NULL, 'b'},
                                            {"batch", required_argument, NULL, 'n'},
                                            {"threads", required_argument, NULL, 't'},
                                            {"precision", required_argument, NULL, 'p'},
                                            {"without", required_argument, NULL, 'w'},
                                            {"winograd-mib", required_argument, NULL, 'g'},
                                            {"json", no_argument, NULL, 'j'},
                                            {NULL, 0, NULL, 0}};
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'm')
            infer->model = optarg;
        else if (c == 'i')
            infer->in = optarg;
        else if (c == 'o')
            infer->out = optarg;
        else if (c == 'b')
            infer->backend = optarg;
        else if (c == 'n' && !cli_parse_int(optarg, 1, 1024, &infer->batch))
            return cli_usage("infer", "--batch wants a number in 1..1024");
        else if (c == 'p')
            infer->precision = optarg;
        else if (c == 'w' && !parse_pass(optarg, &infer->without))
            return unknown_pass();
        else if (c == 't' && !cli_parse_int(optarg, 0, 64, &infer->threads))
            return cli_usage("infer", "--threads wants a number in 0..64");
        else if (c == 'g' && !cli_parse_int(optarg, 0, 4096, &infer->winograd_mib))
            return cli_usage("infer", "--winograd-mib wants a number in 0..4096");
        else if (c == 'j')
            infer->json = true;
        else if (c == '?')
            return cli_usage("infer", "unknown option or missing value");
    }
    if (optind != argc)
        return cli_usage("infer", "unexpected argument");
    if (infer->model == NULL || infer->in == NULL || infer->out == NULL)
        return cli_usage("infer", "--model, --in and --out are needed");
    if (cli_same_file(infer->out, infer->in) || cli_same_file(infer->out, infer->model))
        return cli_usage("infer", "--out is one of the files to be read");
    if (!cli_knows_precision(infer->precision))
        return cli_usage("infer", "--precision is none of " CLI_PRECISIONS);
    if (!cli_knows_backend(infer->backend))
        return cli_usage("infer", "--backend is none of " CLI_BACKENDS);
    return CLI_OK;
}

int cli_infer(int argc, char **argv)
{
    Infer infer = {
        .backend = "auto", .batch = 4, .precision = "auto", .winograd_mib = NET_WINOGRAD_MIB};
    Err err = {0};
    Model *model;
    int code = parse_arguments(argc, argv, &infer);
    if (code != CLI_OK)
        return code;
    if (model_open(infer.model, &model, &err) != ST_OK)
        return cli_fail(&err, infer.json);
    Status status = infer_file(&infer, model, &err);
    if (status == ST_OK)
        report(&infer, model_info(model));
    model_close(model);
    return status == ST_OK ? CLI_OK : cli_fail(&err, infer.json);
}
