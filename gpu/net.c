/* Choosing a backend and driving it. See net.h. */
#include "gpu/net.h"

#include "base/parallel.h"
#include "gpu/backend.h"
#include "gpu/drunet.h"

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
    Graph *graph;
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

static Status open_parts(const Model *model, const NetOptions *options, Net *net, Err *err)
{
    NetOptions resolved = *options;
    if (options->batch < 1 || options->batch > MAX_BATCH)
        return err_set(err, ST_LIMIT, "batch %d is not in 1..%d", options->batch, MAX_BATCH);
    if (options->threads < 0 || options->threads > MAX_THREADS)
        return err_set(err, ST_LIMIT, "threads %d is not in 0..%d", options->threads, MAX_THREADS);
    if (options->threads == 0)
        resolved.threads = parallel_processors();
    if ((net->backend = find_backend(options->backend)) == NULL)
        return err_set(err, ST_BACKEND, "no backend of that name in this build (auto, cpu, ref)");
    if ((net->graph = malloc(sizeof *net->graph)) == NULL)
        return err_set(err, ST_NO_MEMORY, "the network's table");
    TRY(drunet_build(model_info(model), options->height, options->width, net->graph, err));
    TRY(graph_check_model(net->graph, model, err));
    return net->backend->open(net->graph, model, &resolved, &net->state, err);
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

Status net_run(Net *net, const float *x, int32_t n, float *ret_y, Err *err)
{
    return n > 0 ? net->backend->run(net->state, x, n, ret_y, err) : ST_OK;
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
