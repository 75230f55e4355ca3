/* pipeline/kfold: which cases each of K models has not seen. Claims: every case is held out by
** exactly one fold, the last may be smaller; models that do not belong together are refused and
** named. */
#include "tests/test.h"

#include "gpu/train.h"
#include "pipeline/kfold.h"

enum { CASES = 13 };

TEST(kfold_covers_every_case,
     "13 cases in folds of 3, 3, 3, 3, 1: each case once; other seeds differ")
{
    Fold folds[5];
    bool held[5][CASES], first[CASES], other[CASES];
    Err err = {0};
    for (int i = 0; i < 5; i++)
        folds[i] = (Fold){77, (i + 2) % 5, (i + 2) % 5 == 4 ? 1 : 3}; /* in another order */
    CHECK_OK(kfold_held_out(folds, 5, CASES, &held[0][0], &err), &err);
    for (int c = 0; c < CASES; c++) {
        int n = 0;
        for (int i = 0; i < 5; i++)
            n += held[i][c];
        CHECK_INT(n, 1);
    }
    for (int i = 0; i < 5; i++) {
        int n = 0;
        for (int c = 0; c < CASES; c++)
            n += held[i][c];
        CHECK_INT(n, folds[i].n_held_out);
    }
    train_held_out(77, CASES, 6, 3, first); /* fold 2 is model 0 */
    CHECK(memcmp(first, held[0], sizeof first) == 0);
    train_held_out(78, CASES, 6, 3, other);
    CHECK(memcmp(first, other, sizeof first) != 0);
}

static void check_refused(const Fold *folds, int32_t n, const char *want)
{
    bool held[KFOLD_MAX * CASES];
    Err err = {0};
    CHECK_STATUS(kfold_held_out(folds, n, CASES, held, &err), ST_USAGE);
    if (strstr(err.msg, want) == NULL)
        test_fail(__FILE__, __LINE__, "\"%s\" lacks \"%s\"", err.msg, want);
}

TEST(kfold_refuses, "other seeds, a fold twice or beyond, folds that are missing")
{
    const Fold seeds[2] = {{1, 0, 7}, {2, 1, 6}}, twice[2] = {{1, 0, 7}, {1, 0, 7}};
    const Fold beyond[2] = {{1, 0, 7}, {1, 2, 6}}, missing[2] = {{1, 0, 3}, {1, 1, 3}};
    check_refused(seeds, 2, "models 1 and 2 were trained with other seeds");
    check_refused(twice, 2, "model 2 is fold 0");
    check_refused(beyond, 2, "model 2 is fold 2");
    check_refused(missing, 2, "held out 6 of 13 cases");
}

static void check_model_refused(const char *training, const char *want)
{
    PackInfo pack = {.digest = "abc"};
    ModelInfo model = {.name = "m"};
    Fold fold;
    Err err = {0};
    (void)snprintf(model.training, sizeof model.training, "%s", training);
    CHECK_STATUS(kfold_of_model(&model, &pack, &fold, &err), ST_USAGE);
    if (strstr(err.msg, want) == NULL)
        test_fail(__FILE__, __LINE__, "\"%s\" lacks \"%s\"", err.msg, want);
}

TEST(kfold_reads_models, "seed, fold and held-out cases from the metadata; another file is refused")
{
    PackInfo pack = {.digest = "abc"};
    ModelInfo model = {.name = "m",
                       .training = "{\"data\":\"abc\",\"seed\":\"18446744073709551615\",\"fold\":3,"
                                   "\"validation_cases\":2}"};
    Fold fold;
    Err err = {0};
    CHECK_OK(kfold_of_model(&model, &pack, &fold, &err), &err);
    CHECK(fold.seed == UINT64_MAX && fold.fold == 3 && fold.n_held_out == 2);
    check_model_refused("", "does not say how");
    check_model_refused("{\"data\":\"abc\",\"fold\":0,\"validation_cases\":2}", "does not say how");
    check_model_refused("{\"data\":\"x\",\"seed\":\"1\",\"fold\":0,\"validation_cases\":2}",
                        "another packed file");
    check_model_refused("{\"data\":\"abc\",\"seed\":\"1\",\"fold\":0,\"validation_cases\":0}",
                        "no case held out");
}
