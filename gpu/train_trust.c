/* See train_trust.h. */
#include "gpu/train_trust.h"

#include "base/random.h"
#include "gpu/network.h"
#include "gpu/train_init.h"
#include "gpu/trust.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 8, HEIGHT_PX = 64, WIDTH_PX = 96, BATCH = 3, SEED = 17 };
#define FLOOR 1e-4
#define MARGIN 5 /* of the shift, in deviations */

static double square(const float *a, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)a[i];
    return sum;
}

static double square_distance(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return isnan(sum) ? HUGE_VAL : sum;
}

void train_trust_compare(TrainNet *got, TrainNet *want, TrainDistances *ret)
{
    int32_t n, n_gradients = 0;
    const TrainParameter *a = train_net_parameters(got, &n), *b = train_net_parameters(want, &n);
    double all = 0, sum = 0;
    ret->statistics = ret->gradients = ret->worst = 0;
    ret->worst_name[0] = '\0';
    for (int32_t i = 0; i < n; i++)
        all += b[i].gradient != NULL ? square(b[i].gradient, b[i].n) : 0;
    for (int32_t i = 0; i < n; i++) {
        if (b[i].gradient == NULL) {
            double d = trust_difference(b[i].value, a[i].value, (size_t)b[i].n);
            ret->statistics = fmax(ret->statistics, d);
            continue;
        }
        double size = fmax(square(b[i].gradient, b[i].n), FLOOR * FLOOR * all);
        double e = square_distance(a[i].gradient, b[i].gradient, b[i].n) / fmax(size, 1e-300);
        sum += e;
        n_gradients++;
        if (sqrt(e) > ret->worst) {
            ret->worst = sqrt(e);
            (void)snprintf(ret->worst_name, sizeof ret->worst_name, "%s", b[i].name);
        }
    }
    ret->gradients = n_gradients > 0 ? sqrt(sum / n_gradients) : 0;
}

/* ---- the step ------------------------------------------------------------------------------ */

/* Shifts at +-MARGIN, of one sign in a channel throughout: a third of the channels is closed. */
static void set_values(TrainNet *net)
{
    int32_t n;
    TrainParameter *p = train_net_parameters(net, &n);
    for (int32_t i = 0; i < n; i++) {
        train_init_values(p[i].name, p[i].n_dims, p[i].dims, SEED, i, p[i].value);
        const char *leaf = strrchr(p[i].name, '.');
        bool is_shift = strcmp(leaf, ".bias") == 0 && i + 1 < n &&
                        strstr(p[i + 1].name, ".running_mean") != NULL;
        for (int64_t k = 0; is_shift && k < p[i].n; k++)
            p[i].value[k] = k % 3 == 1 ? -MARGIN : MARGIN;
    }
}

typedef struct Step { /* arrays of BATCH slices; one allocation, owned by x */
    const Graph *graph;
    size_t n_in, n_out;
    float *x, *dy, *y;
} Step;

/* y to step->y; the gradients stay in the net. */
static Status run_step(TrainNet *net, const Step *step, Err *err)
{
    const float *y;
    set_values(net);
    TRY(train_net_changed(net, err));
    TRY(train_net_forward(net, step->x, BATCH, true, &y, err));
    memcpy(step->y, y, step->n_out * sizeof *y);
    return train_net_backward(net, step->dy, NULL, err);
}

static Status judge(const TrainOptions *options, const TrainDistances *d, Err *err)
{
    if (d->y <= TRAIN_TRUST_VALUES && d->statistics <= TRAIN_TRUST_VALUES &&
        d->gradients <= TRAIN_TRUST_GRADIENTS && d->worst <= TRAIN_TRUST_WORST)
        return ST_OK;
    return err_set(err, ST_SELF_TEST,
                   "training backend %s does not compute what ref does: output off by %.2g, "
                   "statistics %.2g (%g allowed), gradients %.2g (%g), worst %s %.2g (%g)",
                   options->backend, d->y, d->statistics, TRAIN_TRUST_VALUES, d->gradients,
                   TRAIN_TRUST_GRADIENTS, d->worst_name, d->worst, TRAIN_TRUST_WORST);
}

static Status compare(const TrainOptions *options, Step *step, TrainDistances *ret, Err *err)
{
    TrainOptions got = *options, want = {.backend = "ref", .batch = BATCH, .threads = got.threads};
    TrainNet *nets[2] = {NULL, NULL};
    float *y = step->y;
    got.batch = BATCH;
    Status status = train_net_open(step->graph, &got, &nets[0], err);
    if (status == ST_OK)
        status = run_step(nets[0], step, err);
    if (status == ST_OK)
        status = train_net_open(step->graph, &want, &nets[1], err);
    step->y = y + step->n_out;
    if (status == ST_OK)
        status = run_step(nets[1], step, err);
    if (status == ST_OK) {
        ret->y = trust_difference(step->y, y, step->n_out);
        train_trust_compare(nets[0], nets[1], ret);
        status = judge(options, ret, err);
    }
    train_net_close(nets[0]);
    train_net_close(nets[1]);
    return status;
}

Status train_trust(ModelArch arch, const TrainOptions *options, TrainDistances *ret, Err *err)
{
    const ModelInfo info = {.arch = arch, .width = WIDTH, .activation = ACTIVATION_LINEAR};
    const size_t pixels = (size_t)HEIGHT_PX * WIDTH_PX;
    Step step = {.n_in = BATCH * 3 * pixels, .n_out = BATCH * pixels};
    Graph *graph = malloc(sizeof *graph);
    float *numbers = calloc(step.n_in + 3 * step.n_out, sizeof *numbers);
    Random random = random_stream(SEED, 0, 0);
    Status status = graph == NULL || numbers == NULL
                        ? err_set(err, ST_NO_MEMORY, "a step to compare")
                        : network_build(&info, HEIGHT_PX, WIDTH_PX, graph, err);
    if (status == ST_OK) {
        step.graph = graph;
        step.x = numbers;
        step.dy = step.x + step.n_in;
        step.y = step.dy + step.n_out;
        for (size_t i = 0; i < step.n_in; i++)
            step.x[i] = (float)random_between(&random, -2, 2);
        for (size_t i = 0; i < step.n_out; i++)
            step.dy[i] = (float)(random_between(&random, -2, 2) / (double)step.n_out);
        status = compare(options, &step, ret, err);
    }
    free(graph);
    free(numbers);
    return status;
}
