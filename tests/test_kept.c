/* pipeline/kept.h: what stays in a worker between two patients. Claims: the model and its network
** on a GPU stay as long as nothing about them changed, and hold nothing of the slices; everything
** else is opened anew. The GPU is emulated (cuda_emulator.h). */
#include "tests/test.h"

#include "base/files.h"
#include "gpu/graph_passes.h"
#include "pipeline/pipeline.h"
#include "tests/cuda_fixture.h"
#include "tests/model_file.h"

#include <unistd.h>

enum { H = 64, W = 96, N = 3, PIXELS = H * W };

static const char *path_of(const char *name)
{
    static char paths[4][PATH_SIZE];
    static int next;
    char *path = paths[next++ % 4];
    CHECK_OK(path_format(path, NULL, "%s/%s", test_dir(), name), &(Err){0});
    return path;
}

static NetOptions options(const char *backend, const char *precision)
{
    return (NetOptions){.backend = backend,
                        .precision = precision,
                        .batch = 2,
                        .height = H,
                        .width = W,
                        .threads = 1};
}

TEST(kept_model_is_the_file_on_disk,
     "the same as long as the file is; replaced or touched: another")
{
    Kept kept = {0};
    Model *first, *again;
    Err err = {0};
    char digest[65];
    model_file_write_random(path_of("m.safetensors"), ARCH_DRUNET34, 2);
    CHECK_OK(kept_model(&kept, path_of("m.safetensors"), &first, &err), &err);
    memcpy(digest, model_info(first)->digest, sizeof digest);
    CHECK_OK(kept_model(&kept, path_of("m.safetensors"), &again, &err), &err);
    CHECK(first == again);
    model_file_write_random(path_of("other.safetensors"), ARCH_DRUNET34, 3);
    CHECK_OK(kept_model(&kept, path_of("other.safetensors"), &again, &err), &err);
    CHECK(strcmp(model_info(again)->digest, digest) != 0);
    CHECK_OK(kept_model(&kept, path_of("m.safetensors"), &again, &err), &err);
    CHECK_STR(model_info(again)->digest, digest);
    CHECK(rename(path_of("other.safetensors"), path_of("m.safetensors")) == 0);
    CHECK_OK(kept_model(&kept, path_of("m.safetensors"), &again, &err), &err);
    CHECK(strcmp(model_info(again)->digest, digest) != 0);
    CHECK(unlink(path_of("m.safetensors")) == 0);
    CHECK_STATUS(kept_model(&kept, path_of("m.safetensors"), &again, &err), ST_MODEL_NOT_FOUND);
    CHECK(kept.model == NULL);
    kept_close(&kept);
}

TEST_TIMEOUT(kept_net_stays_on_a_gpu,
             "same options: the same network, empty; another size: no golden slice; CPU: never",
             120)
{
    CudaEmulator *emulator = cuda_emulator_open();
    Kept kept = {0};
    Model *model;
    Net *first, *again;
    Err err = {0};
    int64_t pinned, device;
    float *x = calloc((size_t)N * 3 * PIXELS, sizeof *x),
          *y = calloc((size_t)N * PIXELS, sizeof *y);
    CHECK(x != NULL && y != NULL);
    for (int i = 0; i < N * 3 * PIXELS; i++)
        x[i] = (float)(i % 7);
    NetOptions o = options("auto", "f16");
    model_file_write_random(path_of("m.safetensors"), ARCH_DRUNET34, 8);
    CHECK_OK(kept_model(&kept, path_of("m.safetensors"), &model, &err), &err);
    CHECK_OK(kept_net(&kept, &o, &first, &err), &err);
    CHECK_OK(net_run(first, x, N, y, &err), &err);
    kept_net_end(&kept, true);
    CHECK(kept.net == first && kept.gpu_proven);
    emulator->remains(&pinned, &device);
    CHECK(pinned == 0 && device == 0);
    emulator->restart();
    CHECK_OK(kept_net(&kept, &o, &again, &err), &err);
    CHECK(again == first && emulator->n_works == 0);
    kept_net_end(&kept, true);

    o.height = 32; /* another patient, another field of view */
    CHECK_OK(kept_net(&kept, &o, &again, &err), &err);
    CHECK_INT(emulator->n_works, 0); /* no golden slice */
    CHECK(!net_self_tested(again));
    emulator->broken = 1; /* what was proven was the GPU: the CPU is tested before it computes */
    CHECK_OK(net_run(again, x, 1, y, &err), &err);
    CHECK_STR(net_backend(again), "cpu");
    CHECK(net_self_tested(again));
    emulator->broken = 0;
    kept_net_end(&kept, true);
    CHECK_OK(kept_net(&kept, &o, &again, &err), &err);
    CHECK(net_self_tested(again));
    CHECK_STR(net_backend(again), "cuda");
    kept_net_end(&kept, true);
    CHECK(kept.gpu_proven);
    o = options("cpu", "f32"); /* another backend, just after */
    CHECK_OK(kept_net(&kept, &o, &again, &err), &err);
    CHECK(net_self_tested(again));
    kept_net_end(&kept, true);
    o = options("auto", "f16");
    CHECK_OK(kept_net(&kept, &o, &again, &err), &err);
    kept_net_end(&kept, true);
    CHECK(kept.gpu_proven);
    o.device = 1;
    CHECK_STATUS(kept_net(&kept, &o, &again, &err), ST_OK); /* there is one GPU: the CPU computes */
    CHECK_STR(net_backend(again), "cpu");
    kept_net_end(&kept, true);
    CHECK(kept.net == NULL && !kept.gpu_proven);
    o.device = 0;
    CHECK_OK(kept_net(&kept, &o, &again, &err), &err);
    CHECK(emulator->n_works > 50); /* trust is earned again */
    kept_net_end(&kept, false);
    CHECK(kept.net == NULL);
    o = options("cpu", "f32");
    CHECK_OK(kept_net(&kept, &o, &again, &err), &err);
    kept_net_end(&kept, true);
    CHECK(kept.net == NULL);

    o = options("auto", "f16"); /* the GPU fails in use: the CPU's result, and nothing is kept */
    CHECK_OK(kept_net(&kept, &o, &again, &err), &err);
    emulator->broken = 1;
    CHECK_OK(net_run(again, x, N, y, &err), &err);
    kept_net_end(&kept, true);
    CHECK(kept.net == NULL && !kept.gpu_proven && kept.model != NULL);
    emulator->broken = 0;
    kept_close(&kept);
    free(x);
    free(y);
}

TEST_TIMEOUT(kept_net_is_of_its_options,
             "each option alone makes another network; batch: tested anew", 120)
{
    CudaEmulator *emulator = cuda_emulator_open();
    const NetOptions same = options("auto", "f16");
    Model *model;
    Net *net;
    Err err = {0};
    model_file_write_random(path_of("m.safetensors"), ARCH_DRUNET34, 8);
    for (int k = 0; k < 9; k++) {
        Kept kept = {0};
        NetOptions o = same;
        CHECK_OK(kept_model(&kept, path_of("m.safetensors"), &model, &err), &err);
        CHECK_OK(kept_net(&kept, &same, &net, &err), &err);
        kept_net_end(&kept, true);
        CHECK(kept.gpu_proven);
        o.batch = k == 1 ? 1 : same.batch;
        o.height = k == 2 ? 32 : same.height;
        o.width = k == 3 ? 64 : same.width;
        o.threads = k == 4 ? 2 : same.threads;
        o.without = k == 5 ? 1u << GRAPH_PASS_SPLIT_CONCAT : 0;
        o.backend = k == 6 ? "cuda" : same.backend;
        o.winograd_mib = k == 7 ? 8 : 0;
        o.precision = k == 8 ? "f32" : same.precision;
        emulator->restart();
        CHECK_OK(kept_net(&kept, &o, &net, &err), &err);
        CHECK_STR(net_backend(net), k == 8 ? "cpu" : "cuda"); /* which has no f32 */
        if ((emulator->n_allocs > 0) != (k > 0 && k < 8))
            test_fail(__FILE__, __LINE__, "option %d: %d allocations", k, emulator->n_allocs);
        if (net_self_tested(net) != (k == 1 || k == 5 || k == 8) && k > 0)
            test_fail(__FILE__, __LINE__, "option %d: tested %d", k, net_self_tested(net));
        kept_net_end(&kept, true);
        kept_close(&kept);
    }
}
