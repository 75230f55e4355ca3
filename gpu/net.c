/* Choosing a backend and driving it. See net.h. */
#include "gpu/net.h"

#include "base/parallel.h"
#include "gpu/backend.h"
#include "gpu/graph_passes.h"
#include "gpu/network.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BATCH = 1024, MAX_THREADS = 64 };

static const Backend *const BACKENDS[] = {&backend_dnnl, &backend_ref}; /* fastest first */
enum { N_BACKENDS = sizeof BACKENDS / sizeof BACKENDS[0] };

struct Net {
    const Backend *backend;
    void *state;
    Precision precision;
    Graph *graph;       /* as the backend runs it */
    size_t n_in, n_out; /* numbers of a slice */
};

const char *net_backend_name(int index)
{
    return index >= 0 && index < N_BACKENDS ? BACKENDS[index]->name : NULL;
}

static const Backend *find_backend(const char *name)
{
    if (strcmp(name, "auto") == 0)
        return BACKENDS[0];
    for (int i = 0; i < N_BACKENDS; i++)
        if (strcmp(name, BACKENDS[i]->name) == 0)
            return BACKENDS[i];
    return NULL;
}

static Status choose_precision(const Model *model, const char *wanted, Net *net, Err *err)
{
    unsigned have = 1u << PRECISION_F32 | net->backend->precisions();
    unsigned allowed = model_info(model)->precisions & have;
    if (wanted != NULL && strcmp(wanted, "auto") != 0) {
        if (!precision_from_name(wanted, &net->precision))
            return err_set(err, ST_BACKEND, "precision is none of auto, f32, bf16, int8");
        if ((have & 1u << net->precision) == 0)
            return err_set(err, ST_BACKEND, "backend %s has no %s on this machine",
                           net->backend->name, wanted);
        return ST_OK;
    }
    net->precision = (allowed & 1u << PRECISION_INT8) != 0   ? PRECISION_INT8
                     : (allowed & 1u << PRECISION_BF16) != 0 ? PRECISION_BF16
                                                             : PRECISION_F32;
    return ST_OK;
}

static Status build(const Model *model, const NetOptions *options, Graph *literal, Net *net,
                    Err *err)
{
    unsigned passes = net->backend->passes & ~options->without;
    if (net->precision == PRECISION_INT8) /* half a sum in 8 bits would lose what the whole keeps */
        passes &= ~(1u << GRAPH_PASS_SPLIT_CONCAT);
    TRY(network_build(model_info(model), options->height, options->width, literal, err));
    TRY(graph_check_model(literal, model, err));
    net->n_in = (size_t)graph_value_elements(&literal->values[literal->input]);
    net->n_out = (size_t)graph_value_elements(&literal->values[literal->output]);
    return graph_rewrite(literal, passes, net->graph, err);
}

static Status open_parts(const Model *model, const NetOptions *options, Net *net, Err *err)
{
    if (options->batch < 1 || options->batch > MAX_BATCH)
        return err_set(err, ST_LIMIT, "batch %d is not in 1..%d", options->batch, MAX_BATCH);
    if (options->threads < 0 || options->threads > MAX_THREADS)
        return err_set(err, ST_LIMIT, "threads %d is not in 0..%d", options->threads, MAX_THREADS);
    int32_t threads = options->threads > 0 ? options->threads : parallel_processors();
    if ((net->backend = find_backend(options->backend)) == NULL)
        return err_set(err, ST_BACKEND, "no backend of that name in this build (auto, cpu, ref)");
    TRY(choose_precision(model, options->precision, net, err));
    Graph *literal = malloc(sizeof *literal);
    net->graph = malloc(sizeof *net->graph);
    Status status = literal == NULL || net->graph == NULL
                        ? err_set(err, ST_NO_MEMORY, "the network's table")
                        : build(model, options, literal, net, err);
    free(literal);
    TRY(status);
    return net->backend->open(net->graph, model, net->precision, threads, &net->state, err);
}

Status net_open(const Model *model, const NetOptions *options, Net **ret, Err *err)
{
    Net *net = calloc(1, sizeof *net);
    if (net == NULL)
        return err_set(err, ST_NO_MEMORY, "opening the network");
    Status status = open_parts(model, options, net, err);
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
    if (net->backend != NULL)
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

Status net_run_feed(Net *net, int32_t n, const NetFeed *feed, Err *err)
{
    return n > 0 ? net->backend->run(net->state, n, feed, err) : ST_OK;
}

Status net_run_ranges(Net *net, int32_t n, const NetFeed *feed, NetRange *ret, int32_t *ret_n,
                      Err *err)
{
    float ranges[GRAPH_MAX_OPS];
    const Graph *graph = net->graph;
    if (net->backend->run_ranges == NULL || net->precision != PRECISION_F32)
        return err_set(err, ST_BACKEND, "ranges are found by backend cpu in f32");
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

typedef struct Memory {
    const float *x;
    float *y;
    size_t n_in, n_out;
} Memory;

static void fill_from_memory(void *context, int32_t i, float *ret_x)
{
    const Memory *m = context;
    memcpy(ret_x, m->x + (size_t)i * m->n_in, m->n_in * sizeof *ret_x);
}

static void take_to_memory(void *context, int32_t i, const float *y)
{
    const Memory *m = context;
    memcpy(m->y + (size_t)i * m->n_out, y, m->n_out * sizeof *y);
}

Status net_run(Net *net, const float *x, int32_t n, float *ret_y, Err *err)
{
    Memory memory = {x, ret_y, net->n_in, net->n_out};
    const NetFeed feed = {&memory, fill_from_memory, take_to_memory};
    return net_run_feed(net, n, &feed, err);
}

/* ---- one slice, one thread ----------------------------------------------------------------- */

typedef struct SliceLoop {
    BackendSlice *slice;
    void *state;
    int32_t n;
    atomic_int next;
    atomic_bool failed;
    pthread_mutex_t lock; /* guards what follows; held for copies only */
    int32_t failed_slice;
    Err err;
} SliceLoop;

static void run_worker(void *context, int worker)
{
    SliceLoop *loop = context;
    for (int32_t i;
         !atomic_load(&loop->failed) && (i = atomic_fetch_add(&loop->next, 1)) < loop->n;) {
        Err err = {0};
        if (loop->slice(loop->state, worker, i, &err) == ST_OK)
            continue;
        (void)pthread_mutex_lock(&loop->lock);
        if (!atomic_load(&loop->failed) || i < loop->failed_slice) {
            loop->failed_slice = i;
            loop->err = err;
        }
        atomic_store(&loop->failed, true);
        (void)pthread_mutex_unlock(&loop->lock);
    }
}

Status backend_each_slice(int32_t n_workers, int32_t n, BackendSlice *slice, void *state, Err *err)
{
    SliceLoop loop = {.slice = slice, .state = state, .n = n, .lock = PTHREAD_MUTEX_INITIALIZER};
    int32_t busy = n < n_workers ? n : n_workers;
    parallel_for(busy, busy, run_worker, &loop);
    if (!atomic_load(&loop.failed))
        return ST_OK;
    if (err != NULL)
        *err = loop.err;
    return loop.err.status;
}
