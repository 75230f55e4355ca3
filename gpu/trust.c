/* See trust.h. */
#include "gpu/trust.h"

#include "gpu/golden.h"
#include "gpu/graph_passes.h"
#include "gpu/network.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEIGHT = TRUST_HEIGHT, WIDTH = TRUST_WIDTH, SERVED_SHIFT = 31 };

typedef struct Trial {
    const Backend *backend;
    const Model *model;
    BackendOptions options, served; /* alone: batch 1, one thread; as in service */
    unsigned passes;
    int32_t threads;        /* for backend ref */
    Graph *literal, *table; /* of backend ref, of `backend` */
    float *x;               /* the slice */
    float *alone;           /* [kinds_of()]: what the backend makes of each; NULL: not wanted */
    float *taken[2];        /* an operation's inputs as it rounds them; the largest value's */
    float *values[GRAPH_MAX_OPS + 1]; /* of table, as `backend` has them; NULL: not yet */
    int32_t n_done;                   /* operations that have been judged */
    TrustResult *ret;
} Trial;

double trust_operation_tolerance(Precision precision)
{
    switch (precision) {
    case PRECISION_F16:
        return 4e-3;
    case PRECISION_BF16:
    case PRECISION_INT8:
        return 1e-2;
    default:
        return 1e-4;
    }
}

/* ---- differences --------------------------------------------------------------------------- */

static double relative(double sum, double square)
{
    if (!isfinite(sum) || !isfinite(square))
        return (double)INFINITY;
    return sum > 0 ? sqrt(sum / fmax(square, 1e-300)) : 0;
}

double trust_difference(const float *ref, const float *other, size_t n)
{
    double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)other[i] - (double)ref[i];
        sum += d * d;
        square += (double)ref[i] * (double)ref[i];
    }
    return relative(sum, square);
}

static float in_steps(const Steps *to, float z)
{
    return fminf(fmaxf(to->step * rintf(z / to->step), to->low), to->high);
}

typedef struct Form { /* how a backend stores an operation's results */
    Precision precision;
    bool relu;
    const ShownValue *value;
} Form;

static float stored(const Form *form, float z)
{
    const Steps *steps = &form->value->steps;
    if (form->relu && z < 0)
        z = 0;
    return steps->step > 0 ? in_steps(steps, z) : precision_round(form->precision, z);
}

/* Of what the backend holds from what it should have made of z, relative to z. */
static double operation_difference(const Form *form, const float *z, size_t n)
{
    double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)form->value->y[i] - (double)stored(form, z[i]);
        sum += d * d;
        square += (double)z[i] * (double)z[i];
    }
    return relative(sum, square);
}

/* Are there values, rightly computed, that the precision cannot hold? */
static bool overflows(const Form *form, const float *z, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(z[i]) || !isfinite(stored(form, z[i])))
            return true;
    return false;
}

/* ---- operation by operation ---------------------------------------------------------------- */

static size_t elements(const Graph *graph, int32_t value)
{
    return (size_t)graph_value_elements(&graph->values[value]);
}

static Status judge(Trial *trial, const char *name, double difference, Err *err)
{
    double most = trust_operation_tolerance(trial->options.precision);
    TrustResult *ret = trial->ret;
    if (!(difference <= ret->operation_rms)) {
        ret->operation_rms = difference;
        (void)snprintf(ret->operation, sizeof ret->operation, "%s", name);
    }
    if (difference <= most)
        return ST_OK;
    return err_set(err, ST_SELF_TEST,
                   "backend %s is out of service in %s: on its golden slice %s differs from ref by "
                   "%.3g relative RMS on the same input (%.0e allowed)",
                   trial->backend->name, precision_name(trial->options.precision), name, difference,
                   most);
}

static Status not_for(Trial *trial, const char *name, Err *err)
{
    Precision precision = trial->options.precision;
    trial->ret->operation_rms = (double)INFINITY;
    (void)snprintf(trial->ret->operation, sizeof trial->ret->operation, "%s", name);
    return err_set(err, ST_MODEL_UNFIT,
                   "this model is not for %s: on the golden slice %s gives values beyond %s, its "
                   "largest (backend %s is not at fault)",
                   precision_name(precision), name, precision == PRECISION_F16 ? "65504" : "3.4e38",
                   trial->backend->name);
}

static float *new_value(Trial *trial, int32_t value, Err *err)
{
    size_t n = elements(trial->table, value);
    if (trial->values[value] == NULL)
        trial->values[value] = malloc(n * sizeof(float));
    if (trial->values[value] == NULL)
        (void)err_set(err, ST_NO_MEMORY, "a slice for the self-test");
    return trial->values[value];
}

/* Input k of an operation, as the operation rounds it first. */
static const float *taken(const Trial *trial, int32_t value, int k, const Steps *to)
{
    if (value < 0 || !(to->step > 0))
        return value < 0 ? NULL : trial->values[value];
    size_t n = elements(trial->table, value);
    for (size_t i = 0; i < n; i++)
        trial->taken[k][i] = in_steps(to, trial->values[value][i]);
    return trial->taken[k];
}

/* Operation i by backend ref from the values that `backend` has, into its own value. */
static Status compute(Trial *trial, int32_t i, const ShownValue *shown, Err *err)
{
    const Op *op = &trial->table->ops[i];
    float *z = new_value(trial, op->output, err);
    return z == NULL ? ST_NO_MEMORY
                     : ref_run_op(trial->table, op, trial->model, shown->weights, trial->threads,
                                  taken(trial, op->input, 0, &shown->inputs[0]),
                                  taken(trial, op->second, 1, &shown->inputs[1]), z, err);
}

/* BackendShow */
static Status see(void *context, int32_t i, const ShownValue *value, Err *err)
{
    Trial *trial = context;
    const Graph *table = trial->table;
    const Op *op = i >= 0 ? &table->ops[i] : NULL;
    int32_t v = op != NULL ? op->output : table->input;
    size_t n = elements(table, v);
    /* The output is float32 whatever the precision. */
    const Form form = {v == table->output ? PRECISION_F32 : trial->options.precision,
                       op != NULL && op->relu, value};
    if (op == NULL) {
        float *x = new_value(trial, v, err);
        if (x == NULL)
            return ST_NO_MEMORY;
        memcpy(x, trial->x, n * sizeof *x);
    }
    for (; trial->n_done <= i; trial->n_done++) { /* those before i were done together with it */
        ASSERT(trial->n_done == i || !table->ops[trial->n_done].relu);
        TRY(compute(trial, trial->n_done, value, err));
    }
    float *z = trial->values[v];
    const char *name = op != NULL ? op->name : "the input";
    if (overflows(&form, z, n))
        return not_for(trial, name, err);
    double difference = operation_difference(&form, z, n);
    memcpy(z, value->y, n * sizeof *z);
    return judge(trial, name, difference, err);
}

/* What runs and fails is out of service; what cannot be opened is not there. */
static Status failed_run(const Trial *trial, Status status, Err *err)
{
    if (status != ST_BACKEND)
        return status;
    Err why = *err;
    return err_set(err, ST_SELF_TEST, "backend %s is out of service: its golden slice: %.250s",
                   trial->backend->name, why.msg);
}

/* ---- end to end ---------------------------------------------------------------------------- */

static Status run(const Trial *trial, const Backend *backend, void *state, float *ret_y, Err *err)
{
    NetMemory one = {trial->x, ret_y, elements(trial->table, trial->table->input),
                     elements(trial->table, trial->table->output)};
    const NetFeed feed = net_feed_memory(&one);
    return backend->run(state, 1, &feed, err);
}

static Status run_literal(const Trial *trial, float *ret_y, Err *err)
{
    const BackendOptions options = {
        .precision = PRECISION_F32, .threads = trial->threads, .batch = 1, .deadline_s = 1};
    void *state;
    TRY(backend_ref.open(trial->literal, trial->model, &options, &state, err));
    Status status = run(trial, &backend_ref, state, ret_y, err);
    backend_ref.close(state);
    return status;
}

static Status judge_output(Trial *trial, const float *output, float *literal, Err *err)
{
    const Graph *table = trial->table;
    const char *name = trial->backend->name;
    const char *precision = precision_name(trial->options.precision);
    size_t n = elements(table, table->output);
    if (memcmp(output, trial->values[table->output], n * sizeof *output) != 0)
        return err_set(err, ST_SELF_TEST,
                       "backend %s is out of service in %s: its golden slice has other bits in an "
                       "ordinary run than operation by operation",
                       name, precision);
    if (trial->options.precision != PRECISION_F16)
        return ST_OK;
    TRY(run_literal(trial, literal, err));
    trial->ret->output_rms = trust_difference(literal, output, n);
    if (trial->ret->output_rms <= TRUST_OUTPUT_TOLERANCE)
        return ST_OK;
    return err_set(err, ST_SELF_TEST,
                   "backend %s is out of service in %s for this model: each operation is right "
                   "(%.2g at most), but the golden slice differs from ref by %.3g relative RMS "
                   "(%.0e allowed): the model magnifies rounding",
                   name, precision, trial->ret->operation_rms, trial->ret->output_rms,
                   TRUST_OUTPUT_TOLERANCE);
}

/* ---- as in service ------------------------------------------------------------------------- */

typedef struct Served { /* slices: the golden one, each of n_kinds shifted by other columns */
    const Trial *trial;
    int32_t n_kinds;
    float *y; /* [slices] */
} Served;

static bool is_gpu(const Trial *trial)
{
    return strcmp(trial->backend->name, "cuda") == 0;
}

/* Slices of the run: four batches of a GPU and one of a fifth; else two a thread. */
static int32_t served_slices(const Trial *trial)
{
    return is_gpu(trial) ? 4 * trial->served.batch + 1 : 2 * trial->served.threads;
}

/* More than two batches of a GPU have, so that no slice is that of two batches before. */
static int32_t kinds_of(const Trial *trial)
{
    return is_gpu(trial) ? 2 * trial->served.batch + 1 : trial->served.threads;
}

static void fill_served(void *context, int32_t i, float *ret_x)
{
    const Served *served = context;
    const size_t shift = (size_t)(i % served->n_kinds * SERVED_SHIFT % WIDTH);
    for (size_t row = 0; row < 3 * (size_t)HEIGHT; row++) {
        const float *from = served->trial->x + row * WIDTH;
        memcpy(ret_x + row * WIDTH, from + shift, (WIDTH - shift) * sizeof *from);
        memcpy(ret_x + row * WIDTH + WIDTH - shift, from, shift * sizeof *from);
    }
}

static void take_served(void *context, int32_t i, const float *y)
{
    const Served *served = context;
    memcpy(served->y + (size_t)i * HEIGHT * WIDTH, y, sizeof *y * HEIGHT * WIDTH);
}

static Status run_kinds(const Trial *trial, void *state, int32_t n, float *ret_y, Err *err)
{
    Served served = {trial, kinds_of(trial), ret_y};
    const NetFeed feed = {&served, fill_served, take_served};
    return trial->backend->run(state, n, &feed, err);
}

/* The CPU has the same bits for any number of threads, but for Winograd's way. */
static double served_tolerance(const Trial *trial)
{
    const BackendOptions *o = &trial->served;
    if (!is_gpu(trial) && o->winograd_mib == 0)
        return 0;
    return o->precision == PRECISION_F32 ? TRUST_SERVED_F32
                                         : fmax(TRUST_SERVED, 2 * trial->ret->output_rms);
}

static Status judge_served(Trial *trial, const float *together, int32_t n, Err *err)
{
    const BackendOptions *served = &trial->served;
    const double most = served_tolerance(trial);
    for (int32_t i = 0; i < n; i++) {
        const size_t pixels = (size_t)HEIGHT * WIDTH;
        double rms = trust_difference(trial->alone + (size_t)(i % kinds_of(trial)) * pixels,
                                      together + (size_t)i * pixels, pixels);
        trial->ret->served_rms = fmax(trial->ret->served_rms, rms);
        if (!(rms <= most))
            return err_set(err, ST_SELF_TEST,
                           "backend %s is out of service in %s: slice %d in batches of %d on %d "
                           "threads differs from the same slice alone by %.3g relative RMS (%.0e "
                           "allowed)",
                           trial->backend->name, precision_name(served->precision), i + 1,
                           served->batch, served->threads, rms, most);
    }
    return ST_OK;
}

static Status check_served(Trial *trial, Err *err)
{
    const int32_t n = served_slices(trial);
    void *state;
    float *together = malloc(sizeof *together * (size_t)n * HEIGHT * WIDTH);
    if (together == NULL)
        return err_set(err, ST_NO_MEMORY, "slices for the self-test");
    Status status = trial->backend->open(trial->table, trial->model, &trial->served, &state, err);
    if (status == ST_OK) {
        status = failed_run(trial, run_kinds(trial, state, n, together, err), err);
        trial->backend->close(state);
    }
    if (status == ST_OK)
        status = judge_served(trial, together, n, err);
    free(together);
    return status;
}

/* ---- the check ----------------------------------------------------------------------------- */

static Status make_tables(Trial *trial, Err *err)
{
    trial->literal = malloc(sizeof *trial->literal);
    trial->table = malloc(sizeof *trial->table);
    trial->x = malloc(sizeof *trial->x * 3 * HEIGHT * WIDTH);
    if (trial->literal == NULL || trial->table == NULL || trial->x == NULL)
        return err_set(err, ST_NO_MEMORY, "the self-test of backend %s", trial->backend->name);
    TRY(network_build(model_info(trial->model), HEIGHT, WIDTH, trial->literal, err));
    TRY(graph_rewrite(trial->literal, trial->passes, trial->table, err));
    size_t most = 0;
    for (int32_t v = 0; v < trial->table->n_values; v++)
        most = elements(trial->table, v) > most ? elements(trial->table, v) : most;
    for (int k = 0; k < 2; k++)
        trial->taken[k] = malloc(sizeof **trial->taken * most);
    if (trial->taken[0] == NULL || trial->taken[1] == NULL)
        return err_set(err, ST_NO_MEMORY, "the self-test of backend %s", trial->backend->name);
    golden_slice(HEIGHT, WIDTH, trial->x);
    if (!is_gpu(trial) && trial->served.threads == 1) /* as the slice alone */
        return ST_OK;
    trial->alone = malloc(sizeof *trial->alone * (size_t)kinds_of(trial) * HEIGHT * WIDTH);
    return trial->alone != NULL ? ST_OK : err_set(err, ST_NO_MEMORY, "slices for the self-test");
}

/* The backend's two runs. */
static Status run_backend(Trial *trial, float *ret_output, Err *err)
{
    NetMemory one = {trial->x, ret_output, elements(trial->table, trial->table->input),
                     elements(trial->table, trial->table->output)};
    const NetFeed feed = net_feed_memory(&one);
    const Backend *backend = trial->backend;
    void *state;
    TRY(backend->open(trial->table, trial->model, &trial->options, &state, err));
    (void)snprintf(trial->ret->note, sizeof trial->ret->note, "%s",
                   backend->note != NULL ? backend->note(state) : "");
    Status status = backend->run_shown(state, &feed, see, trial, err);
    if (status == ST_OK)
        status = run(trial, backend, state, ret_output, err);
    if (status == ST_OK && trial->alone != NULL)
        status = run_kinds(trial, state, kinds_of(trial), trial->alone, err);
    backend->close(state);
    return failed_run(trial, status, err);
}

static Status check(Trial *trial, Err *err)
{
    TRY(make_tables(trial, err));
    size_t n = elements(trial->table, trial->table->output);
    float *output = malloc(2 * n * sizeof *output);
    if (output == NULL)
        return err_set(err, ST_NO_MEMORY, "a slice for the self-test");
    Status status = run_backend(trial, output, err);
    if (status == ST_OK)
        status = judge_output(trial, output, output + n, err);
    free(output);
    return status == ST_OK && trial->alone != NULL ? check_served(trial, err) : status;
}

Status trust_check(const Backend *backend, const Model *model, const BackendOptions *options,
                   unsigned passes, TrustResult *ret, Err *err)
{
    Err local;
    Trial *trial = calloc(1, sizeof *trial);
    if (trial == NULL)
        return err_set(err, ST_NO_MEMORY, "the self-test of backend %s", backend->name);
    *ret = (TrustResult){0};
    *trial = (Trial){.backend = backend,
                     .model = model,
                     .options = *options,
                     .served = *options,
                     .passes = passes,
                     .threads = options->threads,
                     .ret = ret};
    trial->options.batch = trial->options.threads = 1;
    Status status = check(trial, err != NULL ? err : &local);
    for (int v = 0; v <= GRAPH_MAX_OPS; v++)
        free(trial->values[v]);
    free(trial->literal);
    free(trial->table);
    free(trial->x);
    free(trial->alone);
    free(trial->taken[0]);
    free(trial->taken[1]);
    free(trial);
    return status;
}
