/* Running slices on the CUDA backend. See cuda_int.h.
**
** Three streams: up, compute, down. A slot's batch passes through them in turn; the other slot's
** batch is one stage behind, so that copies, computing and the host's filling overlap. The work of
** a batch is always that of a whole batch: the last one's missing slices are whatever the slot held
** before, so that the engines, and with them the bits, are the same for every slice. From a slot's
** second batch on its work is one captured CUDA graph. */
#include "gpu/cuda_int.h"

#include "base/parallel.h"
#include "gpu/half.h"

#include <stdlib.h>
#include <string.h>

static Status lose(Cuda *cuda, Status status)
{
    cuda->lost = cuda->lost || status == ST_BACKEND;
    return status;
}

Status cuda_wait(Cuda *cuda, cudaEvent_t event, const char *what, Err *err)
{
    return lose(cuda, cuda_await(cuda->api, event, cuda->deadline_s, what, err));
}

static unsigned char *value(const Cuda *cuda, int32_t v)
{
    return cuda->values + (size_t)cuda->graph->values[v].offset_bytes * (size_t)cuda->batch;
}

/* ---- one operation ------------------------------------------------------------------------- */

static Status run_conv(const Cuda *cuda, int32_t i, Err *err)
{
    const Op *op = &cuda->graph->ops[i];
    const CudaStep *step = &cuda->steps[i];
    int64_t uids[5] = {CONV_X, CONV_W, CONV_BIAS, CONV_Y, CONV_RESIDUAL};
    void *pointers[5] = {value(cuda, op->input), step->weight, step->bias, value(cuda, op->output),
                         NULL};
    int n = 4;
    if (op->second >= 0)
        pointers[n++] = value(cuda, op->second);
    return cudnn_check(cuda->api->dnn_execute(cuda->dnn, cuda->plans.plans[step->plan].plan, n,
                                              uids, pointers, cuda->workspace),
                       op->name, err);
}

static Status run_kernel(const Cuda *cuda, const Op *op, Err *err)
{
    const Value *in = &cuda->graph->values[op->input], *out = &cuda->graph->values[op->output];
    KernelCall call = {
        .a = value(cuda, op->input), .y = value(cuda, op->output), .n = cuda->batch, .c = in->c};
    if (op->kind == OP_MAXPOOL) {
        call.kind = KERNEL_MAXPOOL;
        call.h = in->h;
        call.w = in->w;
        call.side = op->kernel;
    } else {
        call.kind = KERNEL_CONCAT;
        call.h = out->h;
        call.w = out->w;
        call.doubles = op->kind == OP_UP2 || op->doubles;
        if (op->kind == OP_CONCAT) {
            call.b = value(cuda, op->second);
            call.c2 = cuda->graph->values[op->second].c;
        }
    }
    return cuda_check(cuda->api->kernel(&call, cuda->compute), op->name, err);
}

/* ---- one batch ----------------------------------------------------------------------------- */

static Status enqueue_pack(const Cuda *cuda, const CudaSlot *slot, Err *err)
{
    const Graph *graph = cuda->graph;
    const Value *in = &graph->values[graph->input];
    const KernelCall pack = {.kind = KERNEL_PACK,
                             .a = slot->in,
                             .y = value(cuda, graph->input),
                             .n = cuda->batch,
                             .h = in->h,
                             .w = in->w,
                             .c = cuda->layout.c_in};
    TRY(cuda_check(cuda->api->set(slot->count, 0, sizeof *slot->count, cuda->compute), "clearing",
                   err));
    return cuda_check(cuda->api->kernel(&pack, cuda->compute), "packing", err);
}

static Status enqueue_op(const Cuda *cuda, int32_t i, Err *err)
{
    const Op *op = &cuda->graph->ops[i];
    return op->kind == OP_CONV ? run_conv(cuda, i, err) : run_kernel(cuda, op, err);
}

static Status enqueue_unpack(const Cuda *cuda, const CudaSlot *slot, Err *err)
{
    const CudaLayout *layout = &cuda->layout;
    const Value *last = &cuda->graph->values[layout->last];
    const KernelCall unpack = {.kind = KERNEL_UNPACK,
                               .a = value(cuda, layout->last),
                               .y = slot->out,
                               .count = slot->count,
                               .n = cuda->batch,
                               .h = last->h,
                               .w = last->w,
                               .c = last->c,
                               .c2 = layout->c_out,
                               .shuffle = layout->shuffle,
                               .sigmoid = layout->sigmoid};
    return cuda_check(cuda->api->kernel(&unpack, cuda->compute), "unpacking", err);
}

static Status enqueue_work(const Cuda *cuda, const CudaSlot *slot, Err *err)
{
    TRY(enqueue_pack(cuda, slot, err));
    for (int32_t i = 0; i < cuda->graph->n_ops; i++)
        TRY(enqueue_op(cuda, i, err));
    return enqueue_unpack(cuda, slot, err);
}

/* The first batch of a slot is enqueued call by call, so that libraries load what they need before
** anything is captured. Where capturing fails the calls are good enough. */
static void capture(Cuda *cuda, CudaSlot *slot)
{
    if (cuda->no_graphs || slot->graph != NULL || slot->n_runs == 0)
        return;
    bool begun = cuda->api->capture_begin(cuda->compute) == cudaSuccess;
    bool good = begun && enqueue_work(cuda, slot, NULL) == ST_OK;
    if (begun && cuda->api->capture_end(cuda->compute, &slot->graph) != cudaSuccess)
        slot->graph = NULL;
    if (!good && slot->graph != NULL) {
        cuda->api->graph_free(slot->graph);
        slot->graph = NULL;
    }
    cuda->no_graphs = slot->graph == NULL;
}

/* What the host does for a batch, its slices at a time. */
typedef struct HostWork {
    const Cuda *cuda;
    const CudaSlot *slot;
    const NetFeed *feed;
} HostWork;

static void fill_slice(void *context, int i)
{
    const HostWork *w = context;
    w->feed->fill(w->feed->context, w->slot->first + i,
                  w->slot->host_in + (size_t)i * w->cuda->n_in);
}

static void take_slice(void *context, int i)
{
    const HostWork *w = context;
    w->feed->take(w->feed->context, w->slot->first + i,
                  w->slot->host_out + (size_t)i * w->cuda->n_out);
}

static Status start_batch(Cuda *cuda, CudaSlot *slot, Err *err)
{
    const CudaApi *api = cuda->api;
    size_t batch = (size_t)cuda->batch;
    capture(cuda, slot);
    TRY(cuda_check(
        api->to_device(slot->in, slot->host_in, batch * cuda->n_in * sizeof(float), cuda->up),
        "input", err));
    TRY(cuda_check(api->event_record(slot->arrived, cuda->up), "input", err));
    TRY(cuda_check(api->stream_wait(cuda->compute, slot->arrived), "input", err));
    if (slot->graph != NULL)
        TRY(cuda_check(api->graph_run(slot->graph, cuda->compute), "the network", err));
    else
        TRY(enqueue_work(cuda, slot, err));
    slot->n_runs++;
    TRY(cuda_check(api->event_record(slot->computed, cuda->compute), "the network", err));
    TRY(cuda_check(api->stream_wait(cuda->down, slot->computed), "output", err));
    TRY(cuda_check(
        api->to_host(slot->host_out, slot->out, batch * cuda->n_out * sizeof(float), cuda->down),
        "output", err));
    TRY(cuda_check(api->to_host(slot->host_count, slot->count, sizeof *slot->count, cuda->down),
                   "output", err));
    return cuda_check(api->event_record(slot->returned, cuda->down), "output", err);
}

static Status finish_batch(Cuda *cuda, CudaSlot *slot, const NetFeed *feed, Err *err)
{
    int32_t n = slot->n;
    if (n == 0)
        return ST_OK;
    slot->n = 0;
    TRY(cuda_wait(cuda, slot->returned, "the network", err));
    if (*slot->host_count != 0)
        return err_set(err, ST_BACKEND, "%u numbers of slices %d to %d are not finite in f16",
                       *slot->host_count, slot->first, slot->first + n - 1);
    HostWork work = {cuda, slot, feed};
    parallel_for(cuda->threads, n, take_slice, &work);
    return ST_OK;
}

static Status run_batches(Cuda *cuda, int32_t n, const NetFeed *feed, Err *err)
{
    int32_t begun = 0, turn = 0;
    for (; begun < n; turn = (turn + 1) % CUDA_SLOTS) {
        CudaSlot *slot = &cuda->slots[turn];
        TRY(finish_batch(cuda, slot, feed, err));
        slot->first = begun;
        slot->n = n - begun < cuda->batch ? n - begun : cuda->batch;
        HostWork work = {cuda, slot, feed};
        parallel_for(cuda->threads, slot->n, fill_slice, &work);
        begun += slot->n;
        TRY(lose(cuda, start_batch(cuda, slot, err)));
    }
    for (int i = 0; i < CUDA_SLOTS; i++, turn = (turn + 1) % CUDA_SLOTS)
        TRY(finish_batch(cuda, &cuda->slots[turn], feed, err));
    return ST_OK;
}

Status cuda_run(void *state, int32_t n, const NetFeed *feed, Err *err)
{
    Cuda *cuda = state;
    if (cuda->lost)
        return err_set(err, ST_BACKEND, "the GPU failed before");
    Status status = run_batches(cuda, n, feed, err);
    for (int i = 0; i < CUDA_SLOTS; i++) /* after a failure nothing is half taken */
        if (cuda->slots[i].n != 0 && !cuda->lost)
            cuda->lost = cuda_wait(cuda, cuda->slots[i].returned, "the network", NULL) != ST_OK;
    for (int i = 0; i < CUDA_SLOTS; i++)
        cuda->slots[i].n = 0;
    return status;
}

/* ---- operation by operation ---------------------------------------------------------------- */

typedef struct Shown { /* one run */
    Cuda *cuda;
    uint16_t *halves; /* pinned: the first slice's part of any value */
    float *floats;    /* the same as the caller sees it */
    BackendShow *show;
    void *context;
} Shown;

/* Channels without padding. */
static int32_t real_channels(const Cuda *cuda, int32_t v)
{
    if (v == cuda->graph->input)
        return cuda->layout.c_in;
    if (v == cuda->layout.last)
        return cuda->layout.shuffle ? 4 : cuda->layout.c_out;
    return cuda->graph->values[v].c;
}

static Status copy_and_wait(Cuda *cuda, void *host, const void *device, size_t bytes, Err *err)
{
    cudaEvent_t event = cuda->slots[0].returned;
    TRY(cuda_check(cuda->api->to_host(host, device, bytes, cuda->compute), "a result", err));
    TRY(cuda_check(cuda->api->event_record(event, cuda->compute), "a result", err));
    return cuda_wait(cuda, event, "the self-test", err);
}

static Status show_value(const Shown *s, int32_t v, int32_t op, Err *err)
{
    const Value *value_ = &s->cuda->graph->values[v];
    size_t n = (size_t)graph_value_elements(value_), lanes = (size_t)value_->c;
    size_t c = (size_t)real_channels(s->cuda, v), plane = n / lanes;
    TRY(copy_and_wait(s->cuda, s->halves, value(s->cuda, v), n * sizeof *s->halves, err));
    for (size_t i = 0; i < c; i++)
        for (size_t p = 0; p < plane; p++)
            s->floats[i * plane + p] = f32_from_f16(s->halves[p * lanes + i]);
    const ShownValue shown = {.y = s->floats, .weights = PRECISION_F16};
    return s->show(s->context, op, &shown, err);
}

/* The last to be shown is the output, which unpacking makes of the last value. */
static Status run_shown(const Shown *s, const NetFeed *feed, int32_t n_given, Err *err)
{
    Cuda *cuda = s->cuda;
    CudaSlot *slot = &cuda->slots[0];
    const Graph *graph = cuda->graph;
    feed->fill(feed->context, 0, slot->host_in);
    TRY(cuda_check(cuda->api->to_device(slot->in, slot->host_in,
                                        (size_t)cuda->batch * cuda->n_in * sizeof(float),
                                        cuda->compute),
                   "input", err));
    TRY(enqueue_pack(cuda, slot, err));
    TRY(show_value(s, graph->input, -1, err));
    for (int32_t i = 0; i < graph->n_ops; i++) {
        TRY(enqueue_op(cuda, i, err));
        TRY(show_value(s, graph->ops[i].output, i, err));
    }
    TRY(enqueue_unpack(cuda, slot, err));
    TRY(copy_and_wait(cuda, slot->host_out, slot->out, cuda->n_out * sizeof(float), err));
    const ShownValue shown = {.y = slot->host_out, .weights = PRECISION_F16};
    return n_given > graph->n_ops ? s->show(s->context, n_given - 1, &shown, err) : ST_OK;
}

Status cuda_run_shown(void *state, const NetFeed *feed, BackendShow *show, void *context, Err *err)
{
    Cuda *cuda = state;
    Shown s = {.cuda = cuda, .show = show, .context = context};
    void *pinned = NULL;
    size_t most = 0;
    if (cuda->lost)
        return err_set(err, ST_BACKEND, "the GPU failed before");
    for (int32_t v = 0; v < cuda->graph->n_values; v++) {
        size_t n = (size_t)graph_value_elements(&cuda->graph->values[v]);
        most = n > most ? n : most;
    }
    s.floats = malloc(most * sizeof *s.floats);
    if (s.floats == NULL)
        return err_set(err, ST_NO_MEMORY, "a slice for the self-test");
    Status status =
        cuda_check(cuda->api->alloc_pinned(&pinned, most * sizeof *s.halves), "pinned memory", err);
    s.halves = pinned;
    if (status == ST_OK)
        status = lose(cuda, run_shown(&s, feed, cuda->n_given, err));
    if (pinned != NULL && !cuda->lost)
        cuda->api->free_pinned(pinned);
    free(s.floats);
    return status;
}

/* ---- forgetting ---------------------------------------------------------------------------- */

/* The workspace as well: an engine may leave values there. */
Status cuda_forget(void *state, Err *err)
{
    Cuda *cuda = state;
    if (cuda->lost)
        return err_set(err, ST_BACKEND, "the GPU failed before");
    memset(cuda->pinned, 0, cuda->pinned_bytes);
    TRY(lose(cuda, cuda_check(cuda->api->set(cuda->arena, 0, cuda->arena_bytes, cuda->compute),
                              "clearing", err)));
    TRY(lose(cuda, cuda_check(cuda->api->event_record(cuda->slots[0].computed, cuda->compute),
                              "clearing", err)));
    return cuda_wait(cuda, cuda->slots[0].computed, "clearing", err);
}
