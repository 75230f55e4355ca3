/* The CPU backend: oneDNN's convolutions and pooling, loops of ours between them (dnnl_int.h says
** which file does what).
**
** All primitives are made once in open for one slice; one reservation holds the weights, another
** the values and scratch of every worker, so that a run allocates nothing.
**
** Threads: oneDNN's choice of blocking, and with it the order of its sums, depends on the number of
** its threads (met with 2.6.3: DRUNet-34 of width 32 on 64 x 64 has other bits with 3 than with 1).
** So oneDNN is held to one thread, and the slices are what is shared out: the bits cannot depend on
** threads or batch, and no core waits for another within a slice. Debian's oneDNN gets its threads
** from OpenMP, whose setting belongs to the calling thread and is put back. */
#include "gpu/dnnl_int.h"

#include "gpu/graph_passes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WORKER_SLACK_BYTES = 512 };

Status dnnl_check(dnnl_status_t status, const Op *op, const char *what, Err *err)
{
    if (status == dnnl_success)
        return ST_OK;
    (void)err_set(err, status == dnnl_out_of_memory ? ST_NO_MEMORY : ST_BACKEND,
                  "oneDNN: %s%s%s: status %d", what, op != NULL ? " of " : "",
                  op != NULL ? op->name : "", (int)status);
    if (err != NULL)
        err->native = (int)status;
    return status == dnnl_out_of_memory ? ST_NO_MEMORY : ST_BACKEND;
}

/* ---- workers ------------------------------------------------------------------------------- */

static dnnl_status_t add_arg(const Dnnl *d, StepArgs *args, int kind,
                             const dnnl_memory_desc_t *desc, void *data)
{
    dnnl_memory_t memory;
    dnnl_status_t s = dnnl_memory_create(&memory, desc, d->engine, data);
    if (s == dnnl_success)
        args->args[args->n++] = (dnnl_exec_arg_t){kind, memory};
    return s;
}

static Status bind_step(const Dnnl *d, int32_t i, Worker *worker, Err *err)
{
    const Op *op = &d->graph->ops[i];
    const Step *step = &d->steps[i];
    StepArgs *args = &worker->args[i];
    const Value *in = &d->graph->values[op->input], *out = &d->graph->values[op->output];
    dnnl_memory_desc_t src, dst;
    if (step->primitive == NULL)
        return ST_OK;
    dnnl_status_t s = dnnl_value_desc(d, op->input, &src);
    if (s == dnnl_success)
        s = dnnl_value_desc(d, op->output, &dst);
    if (s == dnnl_success)
        s = add_arg(d, args, DNNL_ARG_SRC, &src, worker->values + in->offset_bytes);
    if (s == dnnl_success)
        s = add_arg(d, args, DNNL_ARG_DST, &dst, worker->values + out->offset_bytes);
    if (s == dnnl_success)
        s = add_arg(d, args, DNNL_ARG_SCRATCHPAD,
                    dnnl_primitive_desc_query_md(step->desc, dnnl_query_scratchpad_md, 0),
                    worker->scratch);
    if (s == dnnl_success && op->kind == OP_CONV) {
        args->args[args->n++] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, step->weights};
        args->args[args->n++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, step->bias};
    }
    return dnnl_check(s, op, "binding memory", err);
}

static Status open_workers(Dnnl *d, Err *err)
{
    size_t n = (size_t)d->n_workers, bytes = (size_t)d->graph->arena_bytes;
    size_t n_in = (size_t)graph_value_elements(&d->graph->values[d->graph->input]);
    size_t each = bytes + d->scratch_bytes + n_in * sizeof(float) + WORKER_SLACK_BYTES;
    TRY(arena_open(n * each, &d->work, err));
    for (size_t w = 0; w < n; w++) {
        Worker *worker = &d->workers[w];
        worker->x = arena_alloc(&d->work, n_in, sizeof *worker->x, err);
        worker->values = arena_alloc(&d->work, bytes, 1, err);
        worker->scratch = arena_alloc(&d->work, d->scratch_bytes + 1, 1, err);
        if (worker->x == NULL || worker->values == NULL || worker->scratch == NULL)
            return ST_LIMIT;
        worker->args = calloc((size_t)d->graph->n_ops, sizeof *worker->args);
        if (worker->args == NULL)
            return err_set(err, ST_NO_MEMORY, "tables of %zu workers", n);
        for (int32_t i = 0; i < d->graph->n_ops; i++)
            TRY(bind_step(d, i, worker, err));
    }
    return ST_OK;
}

/* ---- running ------------------------------------------------------------------------------- */

dnnl_status_t dnnl_run_step(const Dnnl *d, const Worker *worker, int32_t i)
{
    const StepArgs *args = &worker->args[i];
    if (d->steps[i].primitive != NULL)
        return dnnl_primitive_execute(d->steps[i].primitive, worker->stream, args->n, args->args);
    dnnl_run_own(d, i, worker->values);
    return dnnl_success;
}

dnnl_status_t dnnl_run_steps(const Dnnl *d, const Worker *worker, int32_t *ret_i)
{
    const Graph *graph = d->graph;
    dnnl_status_t s = dnnl_success;
    int before = dnnl_team_enter(&d->team);
    for (int32_t i = 0; s == dnnl_success && i < graph->n_ops; i++) {
        *ret_i = i;
        s = dnnl_run_step(d, worker, i);
        if (worker->observed != NULL && s == dnnl_success && graph->ops[i].kind == OP_CONV) {
            s = dnnl_stream_wait(worker->stream);
            dnnl_observe(graph, graph->ops[i].output, worker->values,
                         d->tops != NULL ? d->tops[i] : 0, &worker->observed[i]);
        }
    }
    if (s == dnnl_success)
        s = dnnl_stream_wait(worker->stream);
    dnnl_team_leave(&d->team, before);
    return s;
}

static Status run_slice(void *state, int32_t w, int32_t slice, Err *err)
{
    const Dnnl *d = state;
    const Graph *graph = d->graph;
    const Worker *worker = &d->workers[w];
    int32_t failed = 0;
    d->feed->fill(d->feed->context, slice, worker->x);
    dnnl_interleave(d, worker->x, graph->input, worker->values);
    TRY(dnnl_check(dnnl_run_steps(d, worker, &failed), &graph->ops[failed], "running", err));
    const Value *out = &graph->values[graph->output];
    d->feed->take(d->feed->context, slice,
                  (const float *)(const void *)(worker->values + out->offset_bytes));
    return ST_OK;
}

static Status dnnl_run(void *state, int32_t n, const NetFeed *feed, Err *err)
{
    Dnnl *d = state;
    d->feed = feed;
    return backend_each_slice(d->n_workers, n, run_slice, d, err);
}

/* ---- calibration --------------------------------------------------------------------------- */

/* Adds up in observed[0 .. n_ops) what the workers saw. */
static void add_up(const Dnnl *d, Observed *observed)
{
    size_t n_ops = (size_t)d->graph->n_ops;
    for (int32_t w = 1; w < d->n_workers; w++)
        for (size_t i = 0; i < n_ops; i++) {
            const Observed *other = &observed[(size_t)w * n_ops + i];
            observed[i].largest = fmaxf(observed[i].largest, other->largest);
            for (int k = 0; k < OBSERVED_BINS; k++)
                observed[i].bins[k] += other->bins[k];
        }
}

static Status observe_round(Dnnl *d, int32_t n, const NetFeed *feed, Observed *observed,
                            const float *tops, Err *err)
{
    size_t n_ops = (size_t)d->graph->n_ops;
    memset(observed, 0, (size_t)d->n_workers * n_ops * sizeof *observed);
    for (int32_t w = 0; w < d->n_workers; w++)
        d->workers[w].observed = observed + (size_t)w * n_ops;
    d->tops = tops;
    Status status = dnnl_run(d, n, feed, err);
    for (int32_t w = 0; w < d->n_workers; w++)
        d->workers[w].observed = NULL;
    d->tops = NULL;
    add_up(d, observed);
    return status;
}

static Status check_ranges(const Dnnl *d, const Observed *observed, Err *err)
{
    for (int32_t i = 0; i < d->graph->n_ops; i++)
        if ((double)observed[i].largest > MODEL_MAX_RANGE)
            return err_set(err, ST_BACKEND,
                           "convolution %s gives values that are no numbers, or beyond %.0e, on "
                           "these slices",
                           d->graph->ops[i].name, MODEL_MAX_RANGE);
    return ST_OK;
}

/* Two rounds: how large the outputs get, then how they are spread. */
static Status dnnl_run_ranges(void *state, int32_t n, const NetFeed *feed, float *ret, Err *err)
{
    Dnnl *d = state;
    size_t n_ops = (size_t)d->graph->n_ops;
    float tops[GRAPH_MAX_OPS];
    ASSERT(d->precision == PRECISION_F32);
    Observed *observed = calloc((size_t)d->n_workers * n_ops, sizeof *observed);
    if (observed == NULL)
        return err_set(err, ST_NO_MEMORY, "observing %zu operations", n_ops);
    Status status = observe_round(d, n, feed, observed, NULL, err);
    if (status == ST_OK)
        status = check_ranges(d, observed, err);
    for (size_t i = 0; i < n_ops; i++)
        tops[i] = observed[i].largest;
    if (status == ST_OK)
        status = observe_round(d, n, feed, observed, tops, err);
    for (size_t i = 0; i < n_ops; i++)
        ret[i] = dnnl_best_range(&observed[i], d->graph->ops[i].relu ? 255 : 127);
    free(observed);
    return status;
}

/* ---- opening and closing ------------------------------------------------------------------- */

static void close_worker(Worker *worker, int32_t n_ops)
{
    for (int32_t i = 0; worker->args != NULL && i < n_ops; i++)
        for (int k = 0; k < worker->args[i].n; k++) {
            int kind = worker->args[i].args[k].arg;
            if (kind != DNNL_ARG_WEIGHTS && kind != DNNL_ARG_BIAS) /* those are the step's */
                (void)dnnl_memory_destroy(worker->args[i].args[k].memory);
        }
    free(worker->args);
    (void)dnnl_stream_destroy(worker->stream);
}

void dnnl_close(void *state)
{
    Dnnl *d = state;
    if (d == NULL)
        return;
    for (int32_t w = 0; d->workers != NULL && w < d->n_workers; w++)
        close_worker(&d->workers[w], d->graph->n_ops);
    dnnl_destroy_steps(d);
    (void)dnnl_engine_destroy(d->engine);
    arena_close(&d->work);
    free(d->workers);
    free(d->graph);
    free(d);
}

static Status open_parts(Dnnl *d, const Graph *graph, const Model *model, Err *err)
{
    d->graph = calloc(1, sizeof *d->graph);
    d->workers = calloc((size_t)d->n_workers, sizeof *d->workers);
    if (d->graph == NULL || d->workers == NULL)
        return err_set(err, ST_NO_MEMORY, "tables of backend cpu");
    TRY(dnnl_choose_types(d, graph, model, err));
    TRY(dnnl_check(dnnl_engine_create(&d->engine, dnnl_cpu, 0), NULL, "making the engine", err));
    for (int32_t w = 0; w < d->n_workers; w++)
        TRY(dnnl_check(
            dnnl_stream_create(&d->workers[w].stream, d->engine, dnnl_stream_default_flags), NULL,
            "making a stream", err));
    TRY(dnnl_make_steps(d, model, err));
    return open_workers(d, err);
}

Status dnnl_open_with(const Graph *graph, const Model *model, const BackendOptions *options,
                      const WinogradChoice *winograd, Dnnl **ret, Err *err)
{
    Dnnl *d = calloc(1, sizeof *d);
    if (d == NULL)
        return err_set(err, ST_NO_MEMORY, "opening backend cpu");
    d->precision = options->precision;
    d->n_workers = options->threads;
    d->winograd = *winograd;
    Status status = dnnl_team_find(1, &d->team, err);
    if (status == ST_OK) {
        int before =
            dnnl_team_enter(&d->team); /* primitives settle their blocking when they are made */
        status = open_parts(d, graph, model, err);
        dnnl_team_leave(&d->team, before);
    }
    if (status != ST_OK) {
        dnnl_close(d);
        return status;
    }
    *ret = d;
    return ST_OK;
}

static Status dnnl_open(const Graph *graph, const Model *model, const BackendOptions *options,
                        void **ret, Err *err)
{
    WinogradChoice winograd = {0};
    Dnnl *d;
    if (options->precision == PRECISION_F32 && options->winograd_mib > 0)
        TRY(winograd_choose(graph, options->winograd_mib, &winograd, err));
    TRY(dnnl_open_with(graph, model, options, &winograd, &d, err));
    *ret = d;
    return ST_OK;
}

static const char *dnnl_signature(const void *state)
{
    const Dnnl *d = state;
    return d->winograd.name;
}

/* Without the instructions oneDNN emulates bf16 (measured 3x slower than f32), and sums of int8
** products saturate at 16 bits. */
static unsigned dnnl_precisions(void)
{
    unsigned isa = (unsigned)dnnl_get_effective_cpu_isa(), ret = 0;
    if ((isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16)
        ret |= 1u << PRECISION_BF16;
    if ((isa & dnnl_cpu_isa_avx512_core_vnni) == dnnl_cpu_isa_avx512_core_vnni ||
        (isa & dnnl_cpu_isa_avx2_vnni) == dnnl_cpu_isa_avx2_vnni)
        ret |= 1u << PRECISION_INT8;
    return ret;
}

static unsigned dnnl_slow_precisions(void)
{
    return dnnl_bf16_is_faster() ? 0 : 1u << PRECISION_BF16;
}

const Backend backend_dnnl = {.name = "cpu",
                              .passes = GRAPH_PASSES_ALL,
                              .precisions = dnnl_precisions,
                              .slow_precisions = dnnl_slow_precisions,
                              .open = dnnl_open,
                              .run = dnnl_run,
                              .run_ranges = dnnl_run_ranges,
                              .run_shown = dnnl_run_shown,
                              .close = dnnl_close,
                              .signature = dnnl_signature};
