/* gpu/optimizer, gpu/schedule: first step worked by hand, three steps of PyTorch 1.13's AdamW with
** clip_grad_norm_, bits for any thread count. Tolerance against PyTorch 3e-7: float32 on both
** sides, values up to 2. */
#include "tests/test.h"

#include "base/random.h"
#include "gpu/optimizer.h"
#include "gpu/schedule.h"

static TrainParameter parameter(int32_t n_dims, int64_t n, float *value, float *gradient)
{
    TrainParameter p = {.n_dims = n_dims, .dims = {1, 1, 1, 1}, .n = n};
    p.dims[n_dims - 1] = n;
    p.value = value;
    p.gradient = gradient;
    return p;
}

TEST(optimizer_first_step_by_hand, "m and v are corrected: the first step is lr times the sign")
{
    float x[3] = {1, 2, 3}, g[3] = {0.5f, -4, 0}, still[2] = {7, 8};
    TrainParameter p[2] = {parameter(1, 3, x, g), parameter(1, 2, still, NULL)};
    const OptimizerOptions options = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8};
    Optimizer *optimizer;
    double norm;
    Err err = {0};
    CHECK_OK(optimizer_open(p, 2, &options, &optimizer, &err), &err);
    CHECK_OK(optimizer_step(optimizer, 0.1, &norm, &err), &err);
    CHECK_NEAR(norm, sqrt(0.25 + 16), 1e-12);
    CHECK_NEAR(x[0], 0.9, 2e-7);
    CHECK_NEAR(x[1], 2.1, 2e-7);
    CHECK_NEAR(x[2], 3, 0);
    CHECK(still[0] == 7 && still[1] == 8);
    CHECK_NEAR(optimizer_moment(optimizer, 0, 1)[1], -0.4, 1e-7);
    CHECK_NEAR(optimizer_moment(optimizer, 0, 2)[1], 0.016, 1e-8);
    CHECK(optimizer_moment(optimizer, 1, 1) == NULL);
    CHECK_INT(optimizer_steps(optimizer), 1);
    g[1] = NAN;
    float kept = x[0];
    CHECK_STATUS(optimizer_step(optimizer, 0.1, &norm, &err), ST_TRAIN_DIVERGED);
    CHECK(x[0] == kept && optimizer_steps(optimizer) == 1);
    optimizer_close(optimizer);
}

TEST(optimizer_is_pytorchs_adamw, "decay 0.1 on a convolution's weights, none on a bias, clip 1.5")
{
    /* torch.optim.AdamW(lr 0.01) over two groups, weight_decay 0.1 and 0, with clip_grad_norm_ */
    static const float G[3][4] = {
        {0.5f, -1, 0, 2}, {0.25f, 3, 1e-4f, -4}, {-0.1f, 0.2f, 0.3f, 0.05f}};
    static const double WANT[3][4] = {{0.989000022, -1.98800004, 0.499500006, 0.290000021},
                                      {0.979818702, -1.98808491, 0.491562665, 0.290084422},
                                      {0.97459507, -1.98880529, 0.484682381, 0.289969623}};
    static const double NORM[3] = {2.2912879, 5.00624609, 0.377491713};
    float x[3] = {1, -2, 0.5f}, gx[3], b[1] = {0.3f}, gb[1];
    TrainParameter p[2] = {parameter(4, 3, x, gx), parameter(1, 1, b, gb)};
    const OptimizerOptions options = {
        .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.1, .clip = 1.5};
    Optimizer *optimizer;
    double norm;
    Err err = {0};
    CHECK_OK(optimizer_open(p, 2, &options, &optimizer, &err), &err);
    for (int s = 0; s < 3; s++) {
        memcpy(gx, G[s], sizeof gx);
        gb[0] = G[s][3];
        CHECK_OK(optimizer_step(optimizer, 0.01, &norm, &err), &err);
        CHECK_NEAR(norm, NORM[s], 1e-6);
        for (int i = 0; i < 3; i++)
            CHECK_NEAR(x[i], WANT[s][i], 3e-7);
        CHECK_NEAR(b[0], WANT[s][3], 3e-7);
    }
    optimizer_close(optimizer);
}

TEST(optimizer_bits_for_any_threads, "1, 2 and 5 threads give the same parameters and norm")
{
    enum { N = 200001 };
    static float x[3][N], g[N];
    double norm[3];
    Err err = {0};
    Random random = random_stream(1, 2, 3);
    for (int i = 0; i < N; i++)
        g[i] = (float)random_normal(&random);
    for (int k = 0; k < 3; k++) {
        static const int32_t THREADS[3] = {1, 2, 5};
        TrainParameter p = parameter(4, N, x[k], g);
        const OptimizerOptions options = {.beta1 = 0.9,
                                          .beta2 = 0.999,
                                          .epsilon = 1e-8,
                                          .weight_decay = 0.01,
                                          .clip = 1,
                                          .threads = THREADS[k]};
        Optimizer *optimizer;
        CHECK_OK(optimizer_open(&p, 1, &options, &optimizer, &err), &err);
        for (int s = 0; s < 2; s++)
            CHECK_OK(optimizer_step(optimizer, 1e-3, &norm[k], &err), &err);
        optimizer_close(optimizer);
        CHECK(norm[k] == norm[0] && memcmp(x[k], x[0], sizeof x[0]) == 0);
    }
}

TEST(schedule_values, "constant, cosine and step at their ends and in the middle; warm-up")
{
    Schedule s = {.kind = SCHEDULE_COSINE, .lr = 1e-3, .lr_min = 1e-5, .warmup_steps = 10};
    CHECK_NEAR(schedule_lr(&s, 0, 0, 0), 1e-4, 1e-12);
    CHECK_NEAR(schedule_lr(&s, 8, 0, 0), 9e-4, 1e-12);
    CHECK_NEAR(schedule_lr(&s, 10, 0, 0), 1e-3, 1e-12);
    CHECK_NEAR(schedule_lr(&s, 50, 1, 0.5), (1e-3 + 1e-5) / 2, 1e-12);
    CHECK_NEAR(schedule_lr(&s, 99, 1, 1.5), 1e-5, 1e-12);
    s = (Schedule){.kind = SCHEDULE_STEP, .lr = 1, .step_factor = 0.5, .step_epochs = 3};
    CHECK_NEAR(schedule_lr(&s, 9, 2, 0.5), 1, 0);
    CHECK_NEAR(schedule_lr(&s, 9, 3, 0.5), 0.5, 0);
    CHECK_NEAR(schedule_lr(&s, 9, 6, 0.5), 0.25, 0);
    s.kind = SCHEDULE_CONSTANT;
    CHECK_NEAR(schedule_lr(&s, 9, 6, 0.5), 1, 0);
    ScheduleKind kind;
    CHECK(schedule_from_name("step", &kind) && kind == SCHEDULE_STEP);
    CHECK(!schedule_from_name("linear", &kind));
}
