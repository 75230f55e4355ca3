/* Choosing a backend and driving it. See net.h. */
#include "gpu/net.h"

#include "base/parallel.h"
#include "gpu/backend.h"
#include "gpu/cuda_plugin.h"
#include "gpu/graph_passes.h"
#include "gpu/network.h"
#include "gpu/trust.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BATCH = 1024, MAX_THREADS = 64, MAX_GPUS = 64 };
#define DEFAULT_DEADLINE_S 60.0

static const Backend *const BACKENDS[] = {&backend_dnnl, &backend_ref}; /* fastest first */
enum { N_BACKENDS = sizeof BACKENDS / sizeof BACKENDS[0] };

struct Net {
    const Backend *backend;
    void *state;
    const Model *model;
    NetOptions options; /* its strings are not used after net_open() */
    Precision precision;
    Graph *graph;       /* as the backend runs it */
    size_t n_in, n_out; /* numbers of a slice */
    bool may_fall;      /* from the GPU to the CPU */
    bool is_tested;
    char unproven[MODEL_UNPROVEN_SIZE]; /* a precision that was passed over, "" if none */
    char notice[ERR_MSG_SIZE];
    char out_of_service[ERR_MSG_SIZE]; /* why the GPU's self-test failed, "" if it did not */
};

const char *net_backend_name(int index)
{
    if (index == N_BACKENDS && cuda_plugin_present())
        return "cuda";
    return index >= 0 && index < N_BACKENDS ? BACKENDS[index]->name : NULL;
}

bool net_has(const char *backend, Precision precision)
{
    for (int i = 0; i < N_BACKENDS; i++)
        if (strcmp(backend, BACKENDS[i]->name) == 0)
            return ((1u << PRECISION_F32 | BACKENDS[i]->precisions()) & 1u << precision) != 0;
    return false;
}

/* ---- precision ----------------------------------------------------------------------------- */

static bool is_auto(const char *precision)
{
    return precision == NULL || strcmp(precision, "auto") == 0;
}

static Precision fastest(const Backend *backend, unsigned allowed)
{
    if ((allowed & 1u << PRECISION_F16) != 0)
        return PRECISION_F16;
    if ((allowed & 1u << PRECISION_INT8) != 0)
        return PRECISION_INT8;
    bool slow = backend->slow_precisions != NULL && (allowed & 1u << PRECISION_BF16) != 0 &&
                (backend->slow_precisions() & 1u << PRECISION_BF16) != 0;
    return (allowed & 1u << PRECISION_BF16) != 0 && !slow ? PRECISION_BF16 : PRECISION_F32;
}

static Status refuse_int8(const ModelInfo *info, Err *err)
{
    char text[MODEL_UNPROVEN_SIZE];
    return (info->unproven & 1u << PRECISION_INT8) != 0
               ? err_set(err, ST_MODEL_UNFIT, "%s", model_unproven_text(info, text))
               : err_set(err, ST_MODEL_UNFIT,
                         "the model file does not allow int8: `ct2mr model calibrate` measures "
                         "whether it may");
}

static Status choose_precision(const char *wanted, Net *net, Err *err)
{
    bool gpu = strcmp(net->backend->name, "cuda") == 0;
    unsigned have = (gpu ? 0u : 1u << PRECISION_F32) | net->backend->precisions();
    unsigned allowed = model_info(net->model)->precisions & have;
    if (!is_auto(wanted)) {
        if (!precision_from_name(wanted, &net->precision))
            return err_set(err, ST_BACKEND, "precision is none of auto, f32, bf16, int8, f16");
        if ((have & 1u << net->precision) == 0)
            return err_set(err, ST_BACKEND, "backend %s has no %s on this machine",
                           net->backend->name, wanted);
        return net->precision == PRECISION_INT8 && (allowed & 1u << PRECISION_INT8) == 0
                   ? refuse_int8(model_info(net->model), err)
                   : ST_OK;
    }
    (void)model_unproven_text(model_info(net->model), net->unproven);
    if (allowed == 0)
        return err_set(err, ST_BACKEND,
                       "the model file does not allow f16, which is all that "
                       "backend cuda has: ask for it by name");
    net->precision = fastest(net->backend, allowed);
    return ST_OK;
}

/* Whether "auto" should try the GPU: its precision is asked for, or allowed by the model. */
static bool wants_gpu(const Model *model, const char *precision)
{
    Precision wanted;
    if (is_auto(precision))
        return cuda_plugin_present() && (model_info(model)->precisions & 1u << PRECISION_F16) != 0;
    return precision_from_name(precision, &wanted) && wanted == PRECISION_F16;
}

/* ---- opening ------------------------------------------------------------------------------- */

static unsigned passes(const Net *net)
{
    unsigned set = net->backend->passes & ~net->options.without;
    if (net->precision == PRECISION_INT8) /* half a sum in 8 bits would lose what the whole keeps */
        set &= ~(1u << GRAPH_PASS_SPLIT_CONCAT);
    return set;
}

static Status build(Graph *literal, Net *net, Err *err)
{
    TRY(network_build(model_info(net->model), net->options.height, net->options.width, literal,
                      err));
    TRY(graph_check_model(literal, net->model, err));
    net->n_in = (size_t)graph_value_elements(&literal->values[literal->input]);
    net->n_out = (size_t)graph_value_elements(&literal->values[literal->output]);
    return graph_rewrite(literal, passes(net), net->graph, err);
}

/* Behind those that are there, as much as fits; "" is none. */
static void add_note(const char *title, const char *note, char ret[ERR_MSG_SIZE])
{
    size_t n = strlen(ret);
    if (note[0] != '\0')
        (void)snprintf(ret + n, ERR_MSG_SIZE - n, "%s%s%s", n > 0 ? "; " : "", title, note);
}

static Status open_backend(Net *net, const Backend *backend, const char *precision, Err *err)
{
    net->backend = backend;
    net->unproven[0] = net->notice[0] = '\0';
    TRY(choose_precision(precision, net, err));
    Graph *literal = malloc(sizeof *literal);
    Status status = literal == NULL ? err_set(err, ST_NO_MEMORY, "the network's table")
                                    : build(literal, net, err);
    free(literal);
    TRY(status);
    const NetOptions *o = &net->options;
    const BackendOptions options = {.precision = net->precision,
                                    .threads = o->threads > 0 ? o->threads : parallel_processors(),
                                    .batch = o->batch,
                                    .winograd_mib = o->winograd_mib,
                                    .deadline_s =
                                        o->deadline_s > 0 ? o->deadline_s : DEFAULT_DEADLINE_S,
                                    .device = o->device};
    TrustResult trust = {0};
    bool is_proven = o->gpu_proven && strcmp(backend->name, "cuda") == 0;
    net->is_tested = backend->run_shown != NULL && !is_proven; /* trust is earned on the machine */
    if (net->is_tested)
        TRY(trust_check(backend, net->model, &options, passes(net), &trust, err));
    TRY(backend->open(net->graph, net->model, &options, &net->state, err));
    const char *note = backend->note != NULL ? backend->note(net->state) : "";
    add_note("", net->unproven, net->notice);
    add_note("", note, net->notice);
    add_note("self-test: ", trust.note, net->notice);
    return ST_OK;
}

static Status open_gpu(Net *net, const char *precision, Err *err)
{
    const CudaPlugin *plugin;
    TRY(cuda_plugin(&plugin, err));
    return open_backend(net, &plugin->backend, precision, err);
}

/* The GPU has failed for the reason in `why`: the CPU computes, in the fastest precision that the
** model allows. */
static Status fall_to_cpu(Net *net, const Err *why, Err *err)
{
    if (net->state != NULL)
        net->backend->close(net->state);
    net->state = NULL;
    net->may_fall = false;
    if (why->status == ST_SELF_TEST)
        (void)snprintf(net->out_of_service, sizeof net->out_of_service, "%s", why->msg);
    Err cpu = {0};
    Status status = open_backend(net, BACKENDS[0], "auto", &cpu);
    if (status != ST_OK) /* a failed self-test is told whatever the CPU does */
        return err_set(err, why->status == ST_SELF_TEST ? ST_SELF_TEST : status,
                       "%.150s (the CPU was to compute instead of the GPU: %.170s)", cpu.msg,
                       why->msg);
    char note[ERR_MSG_SIZE];
    memcpy(note, net->notice, sizeof note);
    net->notice[0] = '\0';
    (void)snprintf(net->notice, sizeof net->notice,
                   "the CPU computes instead of the GPU, in %s: %.300s",
                   precision_name(net->precision), why->msg);
    add_note("", note, net->notice);
    return ST_OK;
}

static Status open_auto(Net *net, Err *err)
{
    Err why = {0};
    const char *precision = net->options.precision;
    if (!wants_gpu(net->model, precision))
        return open_backend(net, BACKENDS[0], precision, err);
    net->may_fall = true;
    Status status = open_gpu(net, precision, &why);
    if (status == ST_BACKEND || status == ST_SELF_TEST || status == ST_NO_MEMORY ||
        status == ST_MODEL_UNFIT) /* for f16 */
        return fall_to_cpu(net, &why, err);
    return status == ST_OK ? ST_OK : err_set(err, status, "%s", why.msg);
}

static Status open_parts(Net *net, Err *err)
{
    const NetOptions *options = &net->options;
    if (options->batch < 1 || options->batch > MAX_BATCH)
        return err_set(err, ST_LIMIT, "batch %d is not in 1..%d", options->batch, MAX_BATCH);
    if (options->threads < 0 || options->threads > MAX_THREADS)
        return err_set(err, ST_LIMIT, "threads %d is not in 0..%d", options->threads, MAX_THREADS);
    net->graph = malloc(sizeof *net->graph);
    if (net->graph == NULL)
        return err_set(err, ST_NO_MEMORY, "the network's table");
    if (strcmp(options->backend, "auto") == 0)
        return open_auto(net, err);
    if (strcmp(options->backend, "cuda") == 0)
        return open_gpu(net, options->precision, err);
    for (int i = 0; i < N_BACKENDS; i++)
        if (strcmp(options->backend, BACKENDS[i]->name) == 0)
            return open_backend(net, BACKENDS[i], options->precision, err);
    return err_set(err, ST_BACKEND, "no backend of that name in this build (auto, cpu, ref, cuda)");
}

Status net_open(const Model *model, const NetOptions *options, Net **ret, Err *err)
{
    Net *net = calloc(1, sizeof *net);
    if (net == NULL)
        return err_set(err, ST_NO_MEMORY, "opening the network");
    net->model = model;
    net->options = *options;
    Status status = open_parts(net, err);
    if (status != ST_OK) {
        net_close(net);
        return status;
    }
    *ret = net;
    return ST_OK;
}

void net_close(Net *net)
{
    if (net == NULL)
        return;
    if (net->state != NULL)
        net->backend->close(net->state);
    free(net->graph);
    free(net);
}

const char *net_backend(const Net *net)
{
    return net->backend->name;
}

Precision net_precision(const Net *net)
{
    return net->precision;
}

const char *net_notice(const Net *net)
{
    return net->notice;
}

const char *net_out_of_service(const Net *net)
{
    return net->out_of_service;
}

bool net_self_tested(const Net *net)
{
    return net->is_tested;
}

const char *net_signature(const Net *net)
{
    return net->state != NULL && net->backend->signature != NULL
               ? net->backend->signature(net->state)
               : "";
}

Status net_forget(Net *net, Err *err)
{
    if (net->state == NULL || net->backend->forget == NULL)
        return err_set(err, ST_BACKEND, "backend %s does not forget", net->backend->name);
    return net->backend->forget(net->state, err);
}

int32_t net_gpus(void)
{
    const CudaPlugin *plugin;
    CudaDeviceText devices[MAX_GPUS];
    int n = 0;
    if (!cuda_plugin_present() || cuda_plugin(&plugin, NULL) != ST_OK ||
        plugin->devices(devices, MAX_GPUS, &n, NULL) != ST_OK)
        return 0;
    return n;
}

Status net_run_feed(Net *net, int32_t n, const NetFeed *feed, Err *err)
{
    Err why = {0};
    if (n == 0)
        return ST_OK;
    if (net->state == NULL) /* neither the GPU nor then the CPU could be had */
        return err_set(err, ST_BACKEND, "the network is not open");
    Status status = net->backend->run(net->state, n, feed, &why);
    if (status == ST_OK)
        return ST_OK;
    if (!net->may_fall || (status != ST_BACKEND && status != ST_NO_MEMORY)) {
        if (err != NULL)
            *err = why;
        return status;
    }
    TRY(fall_to_cpu(net, &why, err)); /* all slices anew: a volume is of one backend */
    return net->backend->run(net->state, n, feed, err);
}

Status net_run_ranges(Net *net, int32_t n, const NetFeed *feed, NetRange *ret, int32_t *ret_n,
                      Err *err)
{
    float ranges[GRAPH_MAX_OPS];
    const Graph *graph = net->graph;
    if (net->backend->run_ranges == NULL || net->precision != PRECISION_F32 ||
        net->options.winograd_mib > 0)
        return err_set(err, ST_BACKEND, "ranges are found by backend cpu in f32, all direct");
    TRY(net->backend->run_ranges(net->state, n, feed, ranges, err));
    int32_t count = 0;
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        ASSERT(op->c_tensor == 0 && count < NET_MAX_RANGES);
        if (op->kind != OP_CONV)
            continue;
        memcpy(ret[count].conv, op->name, sizeof ret[count].conv);
        ret[count++].range = ranges[i];
    }
    *ret_n = count;
    return ST_OK;
}

/* ---- from and to memory -------------------------------------------------------------------- */

static void fill_from_memory(void *context, int32_t i, float *ret_x)
{
    const NetMemory *m = context;
    memcpy(ret_x, m->x + (size_t)i * m->n_in, m->n_in * sizeof *ret_x);
}

static void take_to_memory(void *context, int32_t i, const float *y)
{
    const NetMemory *m = context;
    memcpy(m->y + (size_t)i * m->n_out, y, m->n_out * sizeof *y);
}

NetFeed net_feed_memory(NetMemory *memory)
{
    return (NetFeed){memory, fill_from_memory, take_to_memory};
}

Status net_run(Net *net, const float *x, int32_t n, float *ret_y, Err *err)
{
    NetMemory memory = {x, ret_y, net->n_in, net->n_out};
    const NetFeed feed = net_feed_memory(&memory);
    return net_run_feed(net, n, &feed, err);
}
