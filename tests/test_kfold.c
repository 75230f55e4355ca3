/* pipeline/kfold, ct2mr eval --kfold: which cases each of K models has not seen. Claims: every case
** is held out by exactly one fold, folds are even; models that do not belong together are refused
** and named. */
#include "tests/test.h"

#include "base/files.h"
#include "daemon/cli.h"
#include "gpu/train.h"
#include "pipeline/kfold.h"
#include "tests/pack_fixture.h"
#include "tests/training_fixture.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CASES = 13 };

/* Every number of cases and of folds: none is held out twice, folds differ by at most one case. */
TEST(kfold_covers_every_case, "2 to 40 cases, validation 1/2 to 1/10: each once, folds are even")
{
    for (int32_t n = 2; n <= 40; n++)
        for (int32_t k = 2; k <= 10; k++) {
            const int32_t folds = train_folds(1.0 / k, n);
            int held_by[41] = {0};
            bool held[41];
            CHECK_INT(folds, k < n ? k : n);
            for (int32_t fold = 0; fold < folds; fold++) {
                int n_held = 0;
                train_held_out(77, n, folds, fold, held);
                for (int32_t c = 0; c < n; c++) {
                    n_held += held[c];
                    held_by[c] += held[c];
                }
                CHECK(n_held == n / folds || n_held == n / folds + 1);
            }
            for (int32_t c = 0; c < n; c++)
                CHECK_INT(held_by[c], 1);
        }
    CHECK_INT(train_folds(0, 9), 0);
    CHECK_INT(train_folds(0.3, 9), 3);
    CHECK_INT(train_folds(1e-12, 9), 9);
}

TEST(kfold_models_in_any_order, "13 cases: each model judges what its own fold held out")
{
    Fold folds[5];
    bool held[5][CASES], want[CASES], other[CASES];
    Err err = {0};
    for (int i = 0; i < 5; i++)
        folds[i] = (Fold){77, (i + 2) % 5, 5, "a", ""};
    CHECK_OK(kfold_held_out(folds, 5, CASES, &held[0][0], &err), &err);
    for (int i = 0; i < 5; i++) {
        train_held_out(77, CASES, 5, folds[i].fold, want);
        CHECK(memcmp(want, held[i], sizeof want) == 0);
    }
    train_held_out(78, CASES, 5, folds[4].fold, other);
    CHECK(memcmp(want, other, sizeof want) != 0);
}

static void check_refused(const Fold *folds, int32_t n, const char *want)
{
    bool held[KFOLD_MAX * CASES];
    Err err = {0};
    CHECK_STATUS(kfold_held_out(folds, n, CASES, held, &err), ST_USAGE);
    if (strstr(err.msg, want) == NULL)
        test_fail(__FILE__, __LINE__, "\"%s\" lacks \"%s\"", err.msg, want);
}

TEST(kfold_refuses, "other seeds, networks or losses, a fold twice, other numbers of folds")
{
    const Fold seeds[2] = {{1, 0, 2, "a", ""}, {2, 1, 2, "a", ""}};
    const Fold kinds[2] = {{1, 0, 2, "loss bce", ""}, {1, 1, 2, "loss mse", ""}};
    const Fold twice[2] = {{1, 0, 2, "a", ""}, {1, 0, 2, "a", ""}};
    const Fold beyond[2] = {{1, 0, 2, "a", ""}, {1, 2, 2, "a", ""}};
    const Fold missing[2] = {{1, 0, 3, "a", ""}, {1, 1, 3, "a", ""}};
    check_refused(seeds, 2, "models 1 and 2 were trained with other seeds");
    check_refused(kinds, 2, "were not trained alike");
    check_refused(kinds, 2, "loss bce; loss mse");
    const Fold recipes[2] = {{1, 0, 2, "", "lr 1e-3;"}, {1, 1, 2, "", "lr 1e-4;"}};
    check_refused(recipes, 2, "learning rate, its schedule");
    check_refused(twice, 2, "model 2 is fold 0");
    check_refused(beyond, 2, "model 2 is fold 2");
    check_refused(missing, 2, "model 1 is one of 3 folds, here are 2 models");
}

static void check_model_refused(const char *training, const char *want)
{
    PackInfo pack = {.digest = "abc", .n_cases = CASES};
    ModelInfo model = {.name = "m"};
    Fold fold;
    Err err = {0};
    (void)snprintf(model.training, sizeof model.training, "%s", training);
    CHECK_STATUS(kfold_of_model(&model, &pack, &fold, &err), ST_USAGE);
    if (strstr(err.msg, want) == NULL)
        test_fail(__FILE__, __LINE__, "\"%s\" lacks \"%s\"", err.msg, want);
}

TEST(kfold_reads_models, "seed, fold, folds, network and loss from the metadata; another file is "
                         "refused")
{
    PackInfo pack = {.digest = "abc", .n_cases = CASES};
    ModelInfo model = {.name = "m",
                       .arch = ARCH_UNET,
                       .width = 8,
                       .activation = ACTIVATION_SIGMOID,
                       .training = "{\"data\":\"abc\",\"seed\":\"18446744073709551615\",\"fold\":3,"
                                   "\"validation_cases\":2,\"folds\":5,\"loss\":\"contextual\","
                                   "\"features\":\"patches\"}"};
    Fold fold;
    Err err = {0};
    CHECK_OK(kfold_of_model(&model, &pack, &fold, &err), &err);
    CHECK(fold.seed == UINT64_MAX && fold.fold == 3 && fold.n_folds == 5);
    CHECK_STR(fold.kind, "unet of width 8, loss contextual of patches");
    model.activation = ACTIVATION_LINEAR;
    CHECK_OK(kfold_of_model(&model, &pack, &fold, &err), &err);
    CHECK_STR(fold.kind, "unet of width 8, linear, loss contextual of patches");
    CHECK(strncmp(fold.recipe, "encoder ;batch ", 15) == 0);
    check_model_refused("", "does not say how");
    check_model_refused("{\"data\":\"abc\",\"fold\":0,\"validation_cases\":2,\"loss\":\"l1\"}",
                        "does not say how");
#define REST ",\"seed\":\"1\",\"fold\":0,\"loss\":\"l1\","
    check_model_refused("{\"data\":\"x\"" REST "\"validation_cases\":2}", "another packed file");
    check_model_refused("{\"data\":\"abc\"" REST "\"validation_cases\":0}", "no case held out");
    check_model_refused("{\"data\":\"abc\"" REST "\"validation_cases\":2}", "of how many folds");
    check_model_refused("{\"data\":\"abc\"" REST "\"validation_cases\":2,\"folds\":14}",
                        "of how many folds");
#undef REST
}

/* ---- the command --------------------------------------------------------------------------- */

enum { N_MODELS = 5 };

static char files[N_MODELS + 1][512]; /* of the models; the packed file */

static void train_fold(const Pack *pack, int32_t fold)
{
    Seen seen = {0};
    char checkpoint[PATH_SIZE];
    TrainConfig config = training_config(pack);
    CHECK(path_format(checkpoint, NULL, "%s.checkpoint", files[fold]) == ST_OK);
    config.width = 4;
    config.backend = "ref";
    config.epochs = 1;
    config.validation_frac = 0.2;
    config.fold = fold;
    config.model = files[fold];
    config.checkpoint = checkpoint;
    (void)training_run(config, &seen);
}

/* Runs ct2mr eval in a child, which writes to "said"; its exit code. */
static int eval(int argc, char **argv, char ret_said[4096])
{
    char said[PATH_SIZE], *text;
    size_t n;
    int status;
    Err err = {0};
    (void)snprintf(said, sizeof said, "%s/said", test_dir());
    (void)fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        if (freopen(said, "w", stdout) == NULL || dup2(fileno(stdout), 2) < 0)
            _exit(99);
        int code = cli_eval(argc, argv);
        (void)fflush(NULL);
        _exit(code);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    CHECK_OK(file_read(said, 1 << 16, &text, &n, &err), &err);
    (void)snprintf(ret_said, 4096, "%s", text);
    free(text);
    (void)printf("# %s\n", ret_said);
    return WEXITSTATUS(status);
}

static int eval_kfold(char ret_said[4096])
{
    char *argv[] = {"eval",   "--data", files[N_MODELS], "--kfold", "--json",
                    files[0], files[1], files[2],        files[3],  files[4]};
    return eval(sizeof argv / sizeof argv[0], argv, ret_said);
}

static int eval_unseen(char *model, char *other, char ret_said[4096])
{
    char *argv[] = {"eval",    "--data", files[N_MODELS], "--unseen",
                    "--model", model,    "--compare",     other};
    return eval(sizeof argv / sizeof argv[0], argv, ret_said);
}

/* Says the model were of another fold. */
static void set_fold(const char *path, char digit)
{
    char *text;
    size_t n;
    Err err = {0};
    CHECK_OK(file_read(path, 1 << 28, &text, &n, &err), &err);
    char *at = memmem(text, n, "fold\\\":", 7);
    CHECK(at != NULL);
    at[7] = digit;
    CHECK_OK(file_write_durable(path, text, n, &err), &err);
    free(text);
}

TEST_TIMEOUT(kfold_command,
             "7 cases, five folds trained: each case judged once; a model that was trained on what "
             "it should judge is refused; --unseen leaves out what either of two models has seen",
             120)
{
    Pack *pack;
    char said[4096];
    Err err = {0};
    for (int i = 0; i <= N_MODELS; i++)
        (void)snprintf(files[i], sizeof files[i], "%s/%d.%s", test_dir(), i,
                       i < N_MODELS ? "safetensors" : "pack");
    pack_fixture_write(files[N_MODELS], 32, 7, 1, 4);
    CHECK_OK(pack_open(files[N_MODELS], &pack, &err), &err);
    for (int32_t fold = 0; fold < N_MODELS; fold++)
        train_fold(pack, fold);
    pack_close(pack);
    CHECK_INT(eval_kfold(said), CLI_OK);
    cJSON *json = cJSON_Parse(said);
    int n_cases = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(json, "folds"))
    {
        n_cases += (int)cJSON_GetNumberValue(cJSON_GetObjectItem(item, "n_cases"));
    }
    CHECK_INT(n_cases, 7);
    cJSON_Delete(json);
    CHECK_INT(eval_unseen(files[2], files[2], said), CLI_OK);
    CHECK(strstr(said, "2 slices of 2 cases scored") != NULL);
    CHECK_INT(eval_unseen(files[2], files[3], said), CLI_USAGE); /* each has seen what is left */
    CHECK(strstr(said, "--unseen: 3 was trained on all of these cases") != NULL);
    set_fold(files[0], '1');
    set_fold(files[1], '0');
    CHECK_INT(eval_kfold(said), CLI_USAGE);
    CHECK(strstr(said, "was trained on 1 of the cases that it should judge") != NULL);
}
