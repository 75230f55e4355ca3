/* See trust.h.
**
** An error made in one layer spoils those behind it, so that the first wrong layer is found by
** bisection: each trial cuts the network off behind one operation and runs what is left on both
** backends. */
#include "gpu/trust.h"

#include "gpu/golden.h"
#include "gpu/graph_passes.h"
#include "gpu/network.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEIGHT = 32, WIDTH = 64 };

typedef struct Trial {
    const Backend *backend;
    const Model *model;
    BackendOptions options;
    Graph *literal, *fast, *cut;
    float *x;
} Trial;

double trust_difference(const float *ref, const float *other, size_t n)
{
    double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)other[i] - (double)ref[i];
        sum += d * d;
        square += (double)ref[i] * (double)ref[i];
    }
    if (!isfinite(sum) || !isfinite(square))
        return (double)INFINITY;
    return sum > 0 ? sqrt(sum / fmax(square, 1e-300)) : 0;
}

/* ---- one slice through one table ------------------------------------------------------------ */

static size_t n_out(const Graph *graph)
{
    return (size_t)graph_value_elements(&graph->values[graph->output]);
}

static Status run(const Trial *trial, const Backend *backend, const BackendOptions *options,
                  const Graph *graph, float *ret_y, Err *err)
{
    NetMemory one = {trial->x, ret_y, (size_t)graph_value_elements(&graph->values[graph->input]),
                     n_out(graph)};
    const NetFeed feed = net_feed_memory(&one);
    void *state;
    TRY(backend->open(graph, trial->model, options, &state, err));
    Status status = backend->run(state, 1, &feed, err);
    backend->close(state);
    return status;
}

static const BackendOptions REF_OPTIONS = {
    .precision = PRECISION_F32, .threads = 1, .batch = 1, .deadline_s = 1};

/* One table on both backends. */
static Status compare(const Trial *trial, const Graph *table, double *ret_difference, Err *err)
{
    size_t n = n_out(table);
    float *ref = malloc(2 * n * sizeof *ref);
    if (ref == NULL)
        return err_set(err, ST_NO_MEMORY, "a slice for the self-test");
    Status status = run(trial, &backend_ref, &REF_OPTIONS, table, ref, err);
    if (status == ST_OK)
        status = run(trial, trial->backend, &trial->options, table, ref + n, err);
    if (status == ST_OK)
        *ret_difference = trust_difference(ref, ref + n, n);
    free(ref);
    return status;
}

/* The table's first n operations. */
static void cut(const Graph *table, int32_t n, Graph *ret)
{
    *ret = *table;
    ret->n_ops = n;
    ret->n_stages = 0;
    ret->output = ret->ops[n - 1].output;
    graph_plan(ret);
}

/* Cuts the activation off: it hides differences. False if there is none. */
static bool drop_activation(Graph *graph)
{
    if (graph->ops[graph->n_ops - 1].kind != OP_SIGMOID || graph->n_ops == 1)
        return false;
    graph->output = graph->ops[--graph->n_ops].input;
    graph_plan(graph);
    return true;
}

/* ---- the check ------------------------------------------------------------------------------ */

static Status make_tables(Trial *trial, Err *err)
{
    trial->literal = malloc(sizeof *trial->literal);
    trial->fast = malloc(sizeof *trial->fast);
    trial->cut = malloc(sizeof *trial->cut);
    trial->x = malloc(sizeof *trial->x * 3 * HEIGHT * WIDTH);
    if (trial->literal == NULL || trial->fast == NULL || trial->cut == NULL || trial->x == NULL)
        return err_set(err, ST_NO_MEMORY, "the self-test of backend %s", trial->backend->name);
    TRY(network_build(model_info(trial->model), HEIGHT, WIDTH, trial->literal, err));
    TRY(graph_rewrite(trial->literal, trial->backend->passes, trial->fast, err));
    golden_slice(HEIGHT, WIDTH, trial->x);
    return ST_OK;
}

/* The network is wrong: fills ret->layer. */
static Status find_layer(const Trial *trial, TrustResult *ret, Err *err)
{
    int32_t good = 0, wrong = trial->fast->n_ops; /* numbers of operations */
    ret->layer_rms = ret->linear_rms;
    while (wrong - good > 1) {
        int32_t middle = good + (wrong - good) / 2;
        double difference = 0;
        cut(trial->fast, middle, trial->cut);
        TRY(compare(trial, trial->cut, &difference, err));
        if (difference <= TRUST_LAYER_TOLERANCE) {
            good = middle;
        } else {
            wrong = middle;
            ret->layer_rms = difference;
        }
    }
    (void)snprintf(ret->layer, sizeof ret->layer, "%s", trial->fast->ops[wrong - 1].name);
    return ST_OK;
}

/* ref, the slow one, runs once and gets its activation here. n numbers in each of three pieces. */
static Status compare_ends(const Trial *trial, float *ref, size_t n, TrustResult *ret, Err *err)
{
    float *output = ref + n, *linear = output + n;
    TRY(run(trial, trial->backend, &trial->options, trial->fast, output, err));
    bool activated = drop_activation(trial->fast);
    (void)drop_activation(trial->literal);
    TRY(run(trial, trial->backend, &trial->options, trial->fast, linear, err));
    TRY(run(trial, &backend_ref, &REF_OPTIONS, trial->literal, ref, err));
    ret->linear_rms = trust_difference(ref, linear, n);
    for (size_t i = 0; activated && i < n; i++)
        ref[i] = (float)(1 / (1 + exp(-(double)ref[i])));
    ret->relative_rms = trust_difference(ref, output, n);
    return ST_OK;
}

static Status judge(const Trial *trial, TrustResult *ret, Err *err)
{
    size_t n = n_out(trial->fast);
    float *memory = malloc(3 * n * sizeof *memory);
    Status status = memory == NULL ? err_set(err, ST_NO_MEMORY, "a slice for the self-test")
                                   : compare_ends(trial, memory, n, ret, err);
    free(memory);
    TRY(status);
    if (ret->relative_rms <= TRUST_TOLERANCE && ret->linear_rms <= TRUST_LAYER_TOLERANCE)
        return ST_OK;
    TRY(find_layer(trial, ret, err));
    return err_set(err, ST_BACKEND,
                   "backend %s is out of service: its golden slice differs from ref by %.3g (%.3g "
                   "before the activation); first in layer %s (%.3g)",
                   trial->backend->name, ret->relative_rms, ret->linear_rms, ret->layer,
                   ret->layer_rms);
}

Status trust_check(const Backend *backend, const Model *model, const BackendOptions *options,
                   TrustResult *ret, Err *err)
{
    Trial trial = {.backend = backend, .model = model, .options = *options};
    trial.options.batch = 1;
    *ret = (TrustResult){0};
    Status status = make_tables(&trial, err);
    if (status == ST_OK)
        status = judge(&trial, ret, err);
    free(trial.literal);
    free(trial.fast);
    free(trial.cut);
    free(trial.x);
    return status;
}
