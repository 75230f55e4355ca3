/* gpu/: plans without a device. Claims: every distinct convolution of DRUNet-34, -50 and -101 of
** width 64 at 448 x 448 has a plan on each of eight GPUs at five batch sizes: precompiled,
** deterministic, on tensor cores, with a bounded workspace. So has, for training at 224 x 224,
** every convolution of these and of the U-Net with its two gradients. cuDNN and our own check
** refuse what is wrong.
**
** Plans are cuDNN's own, made for a card from a description of it. One child per card and batch:
** libcudnn may crash on what it does not like. */
#include "tests/test.h"

#include "gpu/gpu_catalog.h"
#include "tests/cuda_fixture.h"

#include <sys/wait.h>
#include <unistd.h>

enum { WIDTH = 64, MAX_WORKSPACE_MIB = 64 };

typedef struct Child {
    int card, fd;
    EmulatedNetworks networks;
    pid_t pid;
} Child;

static Child start(const CudaEmulator *emulator, int card, EmulatedNetworks networks)
{
    int fds[2];
    CHECK(pipe(fds) == 0);
    (void)fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        EmulatedTally tally = {0};
        Err err = {0};
        Status status = emulator->plan_networks(card, &networks, &tally, &err);
        bool sent = status == ST_OK && write(fds[1], &tally, sizeof tally) == sizeof tally;
        _exit(sent ? 0 : 1);
    }
    CHECK(close(fds[1]) == 0);
    return (Child){card, fds[0], networks, pid};
}

/* Adds to the totals. */
static bool finish(const Child *child, EmulatedTally *total)
{
    EmulatedTally tally = {0};
    int status = 0;
    bool came = read(child->fd, &tally, sizeof tally) == sizeof tally;
    CHECK(waitpid(child->pid, &status, 0) == child->pid && close(child->fd) == 0);
    (void)printf(
        "# %-24s batch %2d: %d of %d planned, %d on tensor cores, workspace %.1f MiB%s%s\n",
        gpu_catalog_card(child->card)->name, child->networks.batch, tally.n_good, tally.n_shapes,
        tally.n_tensor_core, (double)tally.workspace_bytes / (1 << 20),
        tally.trouble[0] != '\0' ? "; " : "", tally.trouble);
    if (!came || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        (void)printf("# the child ended with status %d\n", status);
        return false;
    }
    total->n_shapes += tally.n_shapes;
    total->n_good += tally.n_good;
    total->n_tensor_core += tally.n_tensor_core;
    total->n_back += tally.n_back;
    total->n_varies += tally.n_varies;
    total->n_more += tally.n_more;
    return tally.n_good == tally.n_shapes && tally.n_tensor_core == tally.n_shapes &&
           tally.n_shapes > 40 && tally.workspace_bytes <= (int64_t)MAX_WORKSPACE_MIB << 20;
}

/* For every card and each of the batch sizes. */
static EmulatedTally plan_all(EmulatedNetworks networks, const int32_t *batches, int n_batches)
{
    const CudaEmulator *emulator = cuda_emulator_open();
    bool good = true;
    int n = n_batches * GPU_CATALOG_COUNT;
    EmulatedTally total = {0};
    Child before = {0};
    for (int i = 0; i < n; i++) { /* two at a time */
        networks.batch = batches[i / GPU_CATALOG_COUNT];
        Child child = start(emulator, i % GPU_CATALOG_COUNT, networks);
        if (i > 0)
            good = finish(&before, &total) && good;
        before = child;
    }
    good = finish(&before, &total) && good;
    (void)printf("# %d of %d planned, %d of them gradients, %d on tensor cores, %d with bits that "
                 "vary, %d that need a compiler or cuBLASLt, %d children\n",
                 total.n_good, total.n_shapes, total.n_back, total.n_tensor_core, total.n_varies,
                 total.n_more, n);
    CHECK(good && total.n_varies == 0 && total.n_more == 0);
    return total;
}

TEST_TIMEOUT(cuda_plans_for_every_card, "all convolutions, 8 cards: planned, tensor cores, bounded",
             900)
{
    static const int32_t BATCHES[] = {1, 2, 4, 8, 16};
    (void)plan_all((EmulatedNetworks){.width = WIDTH, .side = 448}, BATCHES, 5);
}

TEST_TIMEOUT(cuda_plans_for_training,
             "all convolutions of training and their gradients, 8 cards: planned, tensor cores, "
             "bounded",
             900)
{
    static const int32_t BATCHES[] = {1, 5, 16};
    EmulatedTally total =
        plan_all((EmulatedNetworks){.width = WIDTH, .side = 224, .training = true}, BATCHES, 3);
    CHECK_INT(3 * total.n_back, 2 * total.n_good); /* two gradients for each */
}

/* A convolution in a child: the status, or -1 if the child crashed. */
static int plan_in_child(const CudaEmulator *emulator, EmulatedPlan plan)
{
    (void)fflush(stdout);
    pid_t pid = fork();
    int status = 0;
    CHECK(pid >= 0);
    if (pid == 0) {
        Err err = {0};
        Status made = emulator->plan(&plan, &err);
        if (made != ST_OK)
            (void)printf("#   %.150s\n", err.msg);
        (void)fflush(stdout);
        _exit(made == ST_OK ? 0 : 1);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int refused_mistakes(const CudaEmulator *emulator, EmulatedPlan p)
{
    Err err = {0};
    CHECK_OK(emulator->plan(&p, &err), &err); /* here: the children find cuDNN loaded */
    p.control = PLAN_DIMS;
    CHECK_INT(plan_in_child(emulator, p), 1);
    p.control = PLAN_LAYOUT; /* of gradients cuDNN has engines; our check refuses them (below) */
    CHECK_INT(plan_in_child(emulator, p), p.pass == 0 ? 1 : 0);
    p.control = PLAN_FLOAT; /* why gradients of weights are halves */
    CHECK_INT(plan_in_child(emulator, p), 1);
    p.control = PLAN_BF16; /* the same graph is good where the card has bf16 */
    bool has_bf16 = gpu_catalog_card(p.card)->compute >= 80;
    CHECK_INT(plan_in_child(emulator, p), has_bf16 ? 0 : 1);
    return (p.pass == 0 ? 3 : 2) + (has_bf16 ? 0 : 1);
}

TEST_TIMEOUT(cuda_plans_refuse_mistakes,
             "wrong output dims, mixed layouts, float32 weights, bf16 before 8.0; forward and "
             "gradients",
             300)
{
    const CudaEmulator *emulator = cuda_emulator_open();
    int n_refused = 0;
    for (int card = 0; card < GPU_CATALOG_COUNT; card++)
        for (int32_t pass = 0; pass < 3; pass++)
            n_refused += refused_mistakes(emulator, (EmulatedPlan){.card = card,
                                                                   .n = 2,
                                                                   .c_in = 64,
                                                                   .h = 56,
                                                                   .w = 40,
                                                                   .c_out = 64,
                                                                   .kernel = 3,
                                                                   .stride = 1,
                                                                   .pass = pass});
    (void)printf("# %d mistakes refused on %d cards\n", n_refused, GPU_CATALOG_COUNT);
}

TEST_TIMEOUT(cuda_plans_are_checked, "a plan's text: another card's or an edited one is refused",
             120)
{
    static const char *const EDITS[][2] = {
        {"\"isVirtual\":true", "\"isVirtual\":false"},
        {"\"pad\":[1,1]", "\"pad\":[0,0]"},
        {"\"stride\":[1,1],\"dil", "\"stride\":[2,2],\"dil"},
        {"CUDNN_CROSS_CORRELATION", "CUDNN_CONVOLUTION"},
        {"\"alpha\":1.0", "\"alpha\":2.0"},
        {"\"alpha2\":1.0", "\"alpha2\":0.5"},
        {"\"lowerClipSlope\":0.0", "\"lowerClipSlope\":0.1"},
        {"CUDNN_POINTWISE_RELU_FWD", "CUDNN_POINTWISE_TANH_FWD"},
        {"\"dim\":[64,64,3,3]", "\"dim\":[64,32,3,3]"}, /* read as a grouped convolution */
        {"CUDNN_DATA_FLOAT\",\"dim", "CUDNN_DATA_HALF\",\"dim"},
        {"\"dilation\":[1,1]", "\"dilation\":[2,2]"},
        {"\"mathPrec\":\"CUDNN_DATA_FLOAT\"", "\"mathPrec\":\"CUDNN_DATA_HALF\""},
        {"\"beta\":0.0", "\"beta\":1.0"},
        {"CUDNN_TENSOR_REORDERING_NONE", "CUDNN_TENSOR_REORDERING_INT8x32"},
        {"\"vectCount\":1", "\"vectCount\":4"},
        {"\"upperClip\":", "\"upperClip\":1,\"axis\":"},
        {"\"schemaVersion\":4", "\"schemaVersion\":5"},
        {"\"mode\"", "\"surprise\":1,\"mode\""},
        {"{", "["}};
    const CudaEmulator *emulator = cuda_emulator_open();
    const EmulatedPlan plan = {.card = 2,
                               .n = 2,
                               .c_in = 64,
                               .h = 56,
                               .w = 40,
                               .c_out = 64,
                               .kernel = 3,
                               .stride = 1,
                               .residual = true,
                               .relu = true};
    Err err = {0};
    CHECK_OK(emulator->reload(&plan, 2, NULL, NULL, &err), &err);
    for (size_t i = 0; i < sizeof EDITS / sizeof EDITS[0]; i++) {
        CHECK_STATUS(emulator->reload(&plan, 2, EDITS[i][0], EDITS[i][1], &err), ST_BACKEND);
        CHECK(strstr(err.msg, "not what was asked for") != NULL);
    }
    CHECK_STATUS(emulator->reload(&plan, 5, NULL, NULL, &err), ST_BACKEND);
    (void)printf("# another card: %s\n", err.msg);
}

TEST_TIMEOUT(
    cuda_plans_need_nothing_more,
    "an engine that wants a compiler or cuBLASLt, whose bits vary or whose sums are short is "
    "passed over; workspace is bounded",
    120)
{
    const CudaEmulator *emulator = cuda_emulator_open();
    const int64_t most = (int64_t)MAX_WORKSPACE_MIB << 20;
    EmulatedPlan plan = {
        .card = 2, .n = 2, .c_in = 64, .h = 56, .w = 40, .c_out = 64, .kernel = 3, .stride = 1};
    Err err = {0};
    CHECK_OK(emulator->plan(&plan, &err), &err);
    plan.noted = plan.engine;
    for (plan.note = NOTE_COMPILER; plan.note <= NOTE_REDUCED; plan.note++) {
        CHECK_OK(emulator->plan(&plan, &err), &err);
        CHECK(plan.engine != plan.noted);
    }
    plan.note = NOTE_NOTHING;
    CHECK_OK(emulator->plan(&plan, &err), &err);
    CHECK_INT(plan.engine, plan.noted);
    plan.claimed_bytes = most;
    CHECK_OK(emulator->reload(&plan, 2, NULL, NULL, &err), &err);
    for (int i = 0; i < 2; i++) {
        plan.claimed_bytes = i == 0 ? most + 1 : -1;
        CHECK_STATUS(emulator->reload(&plan, 2, NULL, NULL, &err), ST_BACKEND);
        CHECK(strstr(err.msg, "of workspace") != NULL);
    }
}

TEST_TIMEOUT(cuda_plans_of_gradients_are_checked, "a gradient's plan: edited ones are refused", 120)
{
    static const char *const EDITS[][2] = {
        {"\"isVirtual\":false", "\"isVirtual\":true"},
        {"\"pad\":[1,1]", "\"pad\":[0,0]"},
        {"\"stride\":[2,2],\"dil", "\"stride\":[1,1],\"dil"},
        {"CUDNN_CROSS_CORRELATION", "CUDNN_CONVOLUTION"},
        {"\"alpha\":1.0", "\"alpha\":2.0"},
        {"\"beta\":0.0", "\"beta\":1.0"},
        {"\"dim\":[64,64,3,3]", "\"dim\":[64,32,3,3]"},
        {"CUDNN_DATA_HALF\",\"dim", "CUDNN_DATA_FLOAT\",\"dim"},
        {"\"dY\":\"5\"", "\"dY\":\"1\""},
        {"\"stride\":[35840,1,1280,64]", "\"stride\":[35840,560,20,1]"}, /* (n, c, h, w) */
        {"\"mode\"", "\"surprise\":1,\"mode\""}};
    const CudaEmulator *emulator = cuda_emulator_open();
    EmulatedPlan plan = {
        .card = 2, .n = 2, .c_in = 64, .h = 56, .w = 40, .c_out = 64, .kernel = 3, .stride = 2};
    Err err = {0};
    for (plan.pass = 1; plan.pass < 3; plan.pass++) {
        CHECK_OK(emulator->reload(&plan, 2, NULL, NULL, &err), &err);
        for (size_t i = 0; i < sizeof EDITS / sizeof EDITS[0]; i++) {
            CHECK_STATUS(emulator->reload(&plan, 2, EDITS[i][0], EDITS[i][1], &err), ST_BACKEND);
            CHECK(strstr(err.msg, "not what was asked for") != NULL);
        }
    }
}
