/* gpu/: a step of training on CUDA without a GPU. Claims: output, gradients, statistics and what an
** optimizer makes of them are backend ref's as far as f16 allows; a gradient that overflows costs
** time and nothing else; what goes wrong with the device is an error.
**
** Method: the emulated plugin (cuda_emulator.h). Limits: measured, with room; that they are narrow
** enough is shown by planted faults, one in every kernel and plan of a step. A relative distance is
** of norms (cuda_train_fixture.h), and networks are such that ReLUs are decided (train_fixture.h).
** Max pool cannot be decided: it takes another pixel where two are equal in f16, which is most of
** what the first layer's gradient is off. */
#include "gpu/optimizer.h"
#include "tests/cuda_train_fixture.h"
#include "tests/test.h"

#include <stdlib.h>

static const TrainOptions CUDA = {.backend = "cuda", .precision = PRECISION_F16, .batch = 3};
static const TrainOptions REF = {.backend = "ref", .batch = 3, .threads = 2};

static void print(const char *name, const Distances *d)
{
    (void)printf("# %s: y %.2g, statistics %.2g, dx %.2g, gradients %.2g, worst %.2g (%s)\n", name,
                 d->of.y, d->of.statistics, d->dx, d->of.gradients, d->of.worst, d->of.worst_name);
}

static bool agrees(const Distances *d, double gradients, double worst)
{
    return d->of.y < TRAIN_TRUST_VALUES && d->of.statistics < TRAIN_TRUST_VALUES && d->dx < worst &&
           d->of.gradients < gradients && d->of.worst < worst;
}

/* ---- whole networks ------------------------------------------------------------------------ */

static void check_agrees(ModelArch arch)
{
    CudaEmulator *emulator = cuda_emulator_open();
    TrainCase got = train_open(arch, 8, 64, 96, &CUDA), want = train_open(arch, 8, 64, 96, &REF);
    train_load_random(got.net, arch, 8);
    train_load_random(want.net, arch, 8);
    train_decide_gates(got.net, CUDA_TRAIN_MARGIN);
    train_decide_gates(want.net, CUDA_TRAIN_MARGIN);
    for (int32_t n = 3; n >= 2; n--) { /* the second in memory that the first has used */
        Distances d = train_step_both(&got, &want, n, 1);
        print(network_name(arch), &d);
        CHECK(agrees(&d, 0.025, 0.1));
    }
    (void)printf("# %d plans run, %.1f MB at most\n", emulator->n_plans_run,
                 (double)emulator->peak_bytes * 1e-6);
    train_close(&got);
    train_close(&want);
    cuda_train_check_clean(emulator);
}

TEST_TIMEOUT(cuda_train_drunet34,
             "a step of DRUNet-34 emulated, of a whole batch and of a part, "
             "agrees with ref",
             300)
{
    check_agrees(ARCH_DRUNET34);
}

TEST_TIMEOUT(cuda_train_drunet50, "a step of DRUNet-50 emulated agrees with ref", 300)
{
    check_agrees(ARCH_DRUNET50);
}

TEST_TIMEOUT(cuda_train_drunet101, "a step of DRUNet-101 emulated agrees with ref", 300)
{
    check_agrees(ARCH_DRUNET101);
}

TEST_TIMEOUT(cuda_train_unet, "a step of the U-Net emulated agrees with ref", 300)
{
    check_agrees(ARCH_UNET);
}

/* ---- every kind of step, and a fault in every one ------------------------------------------ */

static bool every_step_agrees(const Distances *d)
{
    return agrees(d, 0.03, 0.06);
}

TEST_TIMEOUT(cuda_train_every_step,
             "each kind of step, fused and alone, agrees with ref; a quarter too much in what any "
             "one kernel or plan gives is seen",
             300)
{
    CudaEmulator *emulator = cuda_emulator_open();
    TrainCase got = train_open_graph(every_step_graph(), &CUDA),
              want = train_open_graph(every_step_graph(), &REF);
    every_step_weights(want.net);
    emulator->n_works = 0;
    every_step_weights(got.net);
    Distances d = train_step_both(&got, &want, 3, 1);
    print("every step", &d);
    CHECK(every_step_agrees(&d));
    int n_works = emulator->n_works, n_seen = 0;
    CHECK(n_works > 100);
    for (int k = 1; k <= n_works; k++) {
        emulator->n_works = 0;
        emulator->spoil_work = k;
        every_step_weights(got.net);
        d = train_step_both(&got, &want, 3, 1);
        n_seen += !every_step_agrees(&d);
        if (every_step_agrees(&d))
            (void)printf("# work %d of %d is not seen\n", k, n_works);
    }
    (void)printf("# %d of %d faults seen\n", n_seen, n_works);
    CHECK_INT(n_seen, n_works);
    train_close(&got);
    train_close(&want);
    cuda_train_check_clean(emulator);
}

/* ---- loss scaling, updates ----------------------------------------------------------------- */

static float *all_values(TrainNet *net, size_t *ret_n)
{
    int32_t n;
    size_t total = 0, at = 0;
    const TrainParameter *p = train_net_parameters(net, &n);
    for (int32_t i = 0; i < n; i++)
        total += (size_t)p[i].n;
    float *ret = malloc(total * sizeof *ret);
    CHECK(ret != NULL);
    for (int32_t i = 0; i < n; at += (size_t)p[i++].n)
        memcpy(ret + at, p[i].value, (size_t)p[i].n * sizeof *ret);
    *ret_n = total;
    return ret;
}

TEST_TIMEOUT(
    cuda_train_overflow,
    "a gradient too large for f16: the step is computed again with smaller scales until it "
    "fits; gradients are ref's, running statistics have moved once",
    120)
{
    CudaEmulator *emulator = cuda_emulator_open();
    TrainCase once = train_open_graph(every_step_graph(), &CUDA),
              again = train_open_graph(every_step_graph(), &CUDA);
    TrainCase want = train_open_graph(every_step_graph(), &REF);
    every_step_weights(once.net);
    every_step_weights(again.net);
    every_step_weights(want.net);
    int first = train_net_scale(once.net).exponent, n_plans = emulator->n_plans_run;
    (void)train_step_both(&once, &want, 3, 1);
    CHECK_INT(train_net_scale(once.net).exponent, first);
    CHECK_INT(train_net_scale(once.net).n_good, 1);
    int plans_of_step = emulator->n_plans_run - n_plans;
    train_close(&want); /* its running statistics have moved */
    want = train_open_graph(every_step_graph(), &REF);
    every_step_weights(want.net);
    n_plans = emulator->n_plans_run;
    Distances d = train_step_both(&again, &want, 3, 4096);
    TrainScale scale = train_net_scale(again.net);
    print("after overflows", &d);
    (void)printf("# scale 2^%d, then 2^%d\n", first, scale.exponent);
    CHECK(every_step_agrees(&d));
    CHECK(scale.exponent < first && scale.exponent > 0);
    CHECK_INT(scale.n_good, 1);
    CHECK_INT(emulator->n_plans_run - n_plans, (1 + first - scale.exponent) * plans_of_step);
    int32_t n;
    const TrainParameter *p = train_net_parameters(once.net, &n);
    const TrainParameter *q = train_net_parameters(again.net, &n);
    for (int32_t i = 0; i < n; i++)
        CHECK(memcmp(p[i].value, q[i].value, (size_t)p[i].n * sizeof *p[i].value) == 0);
    train_close(&once);
    train_close(&again);
    train_close(&want);
    cuda_train_check_clean(emulator);
}

TEST_TIMEOUT(cuda_train_overflow_for_good,
             "a gradient that no scale makes finite: the optimizer says that training diverged and "
             "changes nothing",
             120)
{
    CudaEmulator *emulator = cuda_emulator_open();
    const OptimizerOptions options = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .threads = 1};
    TrainCase c = train_open_graph(every_step_graph(), &CUDA);
    Optimizer *optimizer;
    Err err = {0};
    int32_t n_parameters;
    const float *y;
    double norm;
    size_t n;
    every_step_weights(c.net);
    TrainParameter *p = train_net_parameters(c.net, &n_parameters);
    CHECK_OK(optimizer_open(p, n_parameters, &options, &optimizer, &err), &err);
    float *x = train_random(3 * c.n_in, 1), *dy = train_random(3 * c.n_out, 2);
    for (int round = 0; round < 2; round++) {
        CHECK_OK(train_net_forward(c.net, x, 3, true, &y, &err), &err);
        float *before = all_values(c.net, &n);
        dy[0] = round == 0 ? 3e5f : NAN;
        emulator->n_works = 0;
        CHECK_OK(train_net_backward(c.net, dy, NULL, &err), &err);
        CHECK(round == 0 || emulator->n_works < 100); /* nothing is tried with what is no number */
        CHECK_STATUS(optimizer_step(optimizer, 0.1, &norm, &err), ST_TRAIN_DIVERGED);
        float *after = all_values(c.net, &n);
        CHECK(memcmp(before, after, n * sizeof *before) == 0);
        free(before);
        free(after);
    }
    optimizer_close(optimizer);
    free(x);
    free(dy);
    train_close(&c);
    cuda_train_check_clean(emulator);
}

TEST_TIMEOUT(cuda_train_scale_grows, "after 1000 good steps the scale doubles, up to its limit",
             120)
{
    CudaEmulator *emulator = cuda_emulator_open();
    TrainCase got = train_open_graph(every_step_graph(), &CUDA),
              want = train_open_graph(every_step_graph(), &REF);
    every_step_weights(want.net);
    every_step_weights(got.net);
    train_net_set_scale(got.net, (TrainScale){10, 998});
    static const TrainScale WANT[] = {{10, 999}, {11, 0}, {11, 1}};
    for (int i = 0; i < 3; i++) {
        (void)train_step_both(&got, &want, 3, 1);
        TrainScale scale = train_net_scale(got.net);
        CHECK(scale.exponent == WANT[i].exponent && scale.n_good == WANT[i].n_good);
    }
    train_net_set_scale(got.net, (TrainScale){TRAIN_MAX_EXPONENT, 999});
    (void)train_step_both(&got, &want, 3, 1e-6f);
    CHECK_INT(train_net_scale(got.net).exponent, TRAIN_MAX_EXPONENT);
    train_close(&got);
    train_close(&want);
    cuda_train_check_clean(emulator);
}

TEST_TIMEOUT(cuda_train_updates, "after an optimizer's step the output is another, and ref's", 120)
{
    CudaEmulator *emulator = cuda_emulator_open();
    const OptimizerOptions options = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-3, .threads = 1};
    TrainCase cases[2] = {train_open_graph(every_step_graph(), &CUDA),
                          train_open_graph(every_step_graph(), &REF)};
    Optimizer *optimizers[2];
    Err err = {0};
    const float *y;
    double norm;
    size_t n_out = 3 * cases[0].n_out;
    float *x = train_random(3 * cases[0].n_in, 11), *out[2][2];
    for (int i = 0; i < 2; i++) {
        int32_t n;
        every_step_weights(cases[i].net);
        TrainParameter *p = train_net_parameters(cases[i].net, &n);
        CHECK_OK(optimizer_open(p, n, &options, &optimizers[i], &err), &err);
    }
    Distances d = train_step_both(&cases[0], &cases[1], 3, 1);
    CHECK(every_step_agrees(&d));
    for (int i = 0; i < 2; i++) {
        CHECK_OK(train_net_forward(cases[i].net, x, 3, true, &y, &err), &err);
        out[i][0] = memcpy(malloc(n_out * sizeof *y), y, n_out * sizeof *y);
        CHECK_OK(optimizer_step(optimizers[i], 1e-3, &norm, &err), &err);
        CHECK_OK(train_net_changed(cases[i].net, &err), &err);
        CHECK_OK(train_net_forward(cases[i].net, x, 3, true, &y, &err), &err);
        out[i][1] = memcpy(malloc(n_out * sizeof *y), y, n_out * sizeof *y);
    }
    double moved = train_distance(out[1][1], out[1][0], n_out);
    double apart = train_distance(out[0][1], out[1][1], n_out);
    (void)printf("# moved by %.3g, apart %.3g\n", moved, apart);
    CHECK(moved > 0.1 && apart < 0.1 * moved);
    for (int i = 0; i < 2; i++) {
        free(out[i][0]);
        free(out[i][1]);
        optimizer_close(optimizers[i]);
        train_close(&cases[i]);
    }
    free(x);
    cuda_train_check_clean(emulator);
}
