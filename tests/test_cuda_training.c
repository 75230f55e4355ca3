/* gpu/train on CUDA without a GPU (cuda_emulator.h). Claims: a training learns as one on the CPU
** does; one that was stopped and resumed gives the same files as one that was not, scale of the
** loss included; `ct2mr train --backend cuda` says why it cannot where it cannot, and does not go
** elsewhere. */
#include "tests/test.h"

#include "base/files.h"
#include "daemon/cli.h"
#include "gpu/model.h"
#include "gpu/train.h"
#include "tests/cuda_fixture.h"
#include "tests/pack_fixture.h"
#include "tests/training_fixture.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *path_of(char ret[PATH_SIZE], const char *name)
{
    (void)snprintf(ret, PATH_SIZE, "%s/%s", test_dir(), name);
    return ret;
}

static Pack *open_pack(void)
{
    char path[PATH_SIZE];
    Pack *pack;
    Err err = {0};
    pack_fixture_write(path_of(path, "p.pack"), 32, 4, 4, 4);
    CHECK_OK(pack_open(path, &pack, &err), &err);
    return pack;
}

/* A narrow DRUNet-34 on the emulated GPU. Its files are named after `name`, in paths. */
static TrainConfig config_of(const Pack *pack, const char *name, char paths[2][PATH_SIZE])
{
    char file[64];
    TrainConfig config = training_config(pack);
    (void)snprintf(file, sizeof file, "%s.safetensors", name);
    config.model = path_of(paths[0], file);
    (void)snprintf(file, sizeof file, "%s.checkpoint", name);
    config.checkpoint = path_of(paths[1], file);
    config.width = 8;
    config.backend = "cuda";
    config.precision = PRECISION_F16;
    config.threads = 1;
    return config;
}

/* The exponent of the loss's scale in a checkpoint; -1 if there is none. */
static int scale_of(const char *checkpoint)
{
    Err err = {0};
    Model *file;
    CHECK_OK(model_open_tensors(checkpoint, &file, &err), &err);
    const char *state = model_metadata(file, "state");
    const char *at = state != NULL ? strstr(state, "\"scale\":[") : NULL;
    int exponent = at != NULL ? atoi(at + strlen("\"scale\":[")) : -1;
    model_close(file);
    return exponent;
}

static void check_clean(const CudaEmulator *emulator)
{
    CHECK_STR(emulator->complaint, "");
    CHECK_INT(emulator->n_live, 0);
}

TEST_TIMEOUT(cuda_training_learns, "losses and held-out PSNR of a training are those on the CPU",
             300)
{
    CudaEmulator *emulator = cuda_emulator_open();
    Pack *pack = open_pack();
    char cuda_paths[2][PATH_SIZE], cpu_paths[2][PATH_SIZE];
    TrainConfig cuda = config_of(pack, "cuda", cuda_paths), cpu = config_of(pack, "cpu", cpu_paths);
    Seen by_cuda = {0}, by_cpu = {0};
    cuda.epochs = cpu.epochs = 8;
    cpu.backend = "cpu";
    cpu.precision = PRECISION_F32;
    TrainResult a = training_run(cuda, &by_cuda), b = training_run(cpu, &by_cpu);
    (void)printf("# cuda: loss %.4f to %.4f, %.2f dB; cpu: %.4f to %.4f, %.2f dB\n",
                 by_cuda.first_loss, by_cuda.last_loss, a.psnr_db, by_cpu.first_loss,
                 by_cpu.last_loss, b.psnr_db);
    CHECK(by_cpu.last_loss < 0.9 * by_cpu.first_loss &&
          by_cuda.last_loss < 0.9 * by_cuda.first_loss);
    CHECK_NEAR(by_cuda.first_loss, by_cpu.first_loss, 0.03 * by_cpu.first_loss);
    CHECK_NEAR(by_cuda.last_loss, by_cpu.last_loss, 0.08 * by_cpu.last_loss);
    CHECK_NEAR(a.psnr_db, b.psnr_db, 1);
    CHECK_INT(scale_of(cuda.checkpoint) > 0, 1);
    CHECK_INT(scale_of(cpu.checkpoint), -1);
    pack_close(pack);
    check_clean(emulator);
}

TEST_TIMEOUT(cuda_training_resumes,
             "stopped and resumed: the same files, and the same scale of the "
             "loss after overflows",
             300)
{
    CudaEmulator *emulator = cuda_emulator_open();
    Pack *pack = open_pack();
    char whole_paths[2][PATH_SIZE], paths[2][PATH_SIZE];
    TrainConfig whole = config_of(pack, "whole", whole_paths);
    TrainConfig halves = config_of(pack, "halves", paths);
    Seen one = {0}, first = {.stop_after = 5}, second = {0};
    whole.loss = halves.loss = "300*bce"; /* overflows f16 in the beginning */
    (void)training_run(whole, &one);
    TrainResult result = training_run(halves, &first);
    CHECK_INT(result.end, TRAIN_STOPPED);
    CHECK(scale_of(halves.checkpoint) < 16);
    halves.resume = true;
    (void)training_run(halves, &second);
    CHECK_INT(first.steps + second.steps, one.steps);
    CHECK(one.last_loss == second.last_loss);
    CHECK(training_same_files(whole.model, halves.model));
    (void)printf("# scale 2^%d\n", scale_of(whole.checkpoint));
    CHECK_INT(scale_of(whole.checkpoint), scale_of(halves.checkpoint));
    pack_close(pack);
    check_clean(emulator);
}

TEST_TIMEOUT(cuda_training_checks_the_card,
             "a kernel or plan gives a quarter too much: nothing is trained, and the error says "
             "which gradient is off",
             300)
{
    CudaEmulator *emulator = cuda_emulator_open();
    Pack *pack = open_pack();
    char paths[2][PATH_SIZE];
    TrainConfig config = config_of(pack, "m", paths);
    TrainResult result;
    Err err = {0};
    static const int WORKS[] = {1,   149, 371,
                                593, 741, 963}; /* of about 1060; from 460 on backward */
    for (int k = 0; k < 6; k++) {
        emulator->restart();
        emulator->spoil_work = WORKS[k];
        CHECK_STATUS(train_run(&config, &result, &err), ST_SELF_TEST);
        CHECK(strstr(err.msg, "does not compute what ref does") != NULL);
    }
    (void)printf("# %s\n", err.msg);
    CHECK(access(config.model, F_OK) != 0 && access(config.checkpoint, F_OK) != 0);
    pack_close(pack);
    check_clean(emulator);
}

/* ---- the command --------------------------------------------------------------------------- */

/* cli_train() in a child, with `more` at the end (NULL: nothing); its output goes to *ret_out. */
static int run_command(char *more, char *value, char ret_out[4096])
{
    char data[PATH_SIZE], model[PATH_SIZE], out[PATH_SIZE];
    char *argv[] = {"train",
                    "--data",
                    (char *)path_of(data, "p.pack"),
                    "--out",
                    (char *)path_of(model, "m.safetensors"),
                    "--width",
                    "8",
                    "--epochs",
                    "1",
                    "--batch",
                    "3",
                    "--validation",
                    "0.3",
                    "--backend",
                    "cuda",
                    more,
                    value,
                    NULL};
    int argc = 15, status = 0;
    while (argv[argc] != NULL)
        argc++;
    path_of(out, "out.txt");
    (void)fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        int fd = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
            _exit(99);
        int code = cli_train(argc, argv);
        (void)fflush(NULL);
        _exit(code);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    char *text;
    size_t n;
    Err err = {0};
    CHECK_OK(file_read(out, 1 << 20, &text, &n, &err), &err);
    (void)snprintf(ret_out, 4096, "%s", text);
    free(text);
    return WEXITSTATUS(status);
}

TEST_TIMEOUT(cuda_training_command,
             "ct2mr train --backend cuda: f16 without being asked; no driver, another precision: "
             "exit 1 with the reason, and nothing is trained elsewhere",
             120)
{
    CudaEmulator *emulator = cuda_emulator_open();
    char out[4096], model[PATH_SIZE];
    pack_close(open_pack());
    path_of(model, "m.safetensors");
    emulator->no_driver = 1;
    CHECK_INT(run_command(NULL, NULL, out), CLI_NEGATIVE);
    CHECK(strstr(out, "the NVIDIA driver is missing") != NULL);
    emulator->no_driver = 0;
    CHECK_INT(run_command("--precision", "f32", out), CLI_NEGATIVE);
    CHECK(strstr(out, "training backend cuda has no f32") != NULL);
    emulator->memory_bytes = 1 << 20;
    CHECK_INT(run_command(NULL, NULL, out), CLI_NEGATIVE);
    CHECK(strstr(out, "a batch of 3 slices needs") != NULL);
    emulator->memory_bytes = 0;
    CHECK(access(model, F_OK) != 0);
    CHECK_INT(run_command(NULL, NULL, out), CLI_OK);
    CHECK(strstr(out, "all epochs done") != NULL);
    CHECK(access(model, F_OK) == 0);
}

TEST(cuda_training_without_plugin, "ct2mr train --backend cuda where the plugin is not: exit 1")
{
    char out[4096];
    pack_close(open_pack());
    CHECK(setenv("CT2MR_PLUGIN_DIR", test_dir(), 1) == 0);
    CHECK_INT(run_command(NULL, NULL, out), CLI_NEGATIVE);
    CHECK(strstr(out, "backend cuda is not installed") != NULL);
}
