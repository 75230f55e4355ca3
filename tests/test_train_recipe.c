/* gpu/train.h: what an option of a training changes, and what its figures are of. */
#include "base/digest.h"
#include "base/files.h"
#include "daemon/cli.h"
#include "gpu/model.h"
#include "gpu/training_int.h"
#include "tests/pack_fixture.h"
#include "tests/test.h"
#include "tests/training_fixture.h"

#include <cjson/cJSON.h>
#include <unistd.h>

static char pack_path[PATH_SIZE], model_path[PATH_SIZE], checkpoint_path[PATH_SIZE];

static Pack *open_pack(int32_t n_cases, int32_t n_slices)
{
    Pack *pack;
    Err err = {0};
    CHECK_OK(path_format(pack_path, &err, "%s/p.pack", test_dir()), &err);
    CHECK_OK(path_format(model_path, &err, "%s/m.safetensors", test_dir()), &err);
    CHECK_OK(path_format(checkpoint_path, &err, "%s/m.checkpoint", test_dir()), &err);
    pack_fixture_write(pack_path, 32, n_cases, n_slices, 4);
    CHECK_OK(pack_open(pack_path, &pack, &err), &err);
    return pack;
}

static TrainConfig narrow_config(const Pack *pack)
{
    TrainConfig config = training_config(pack);
    config.width = 4;
    config.backend = "ref";
    config.model = model_path;
    config.checkpoint = checkpoint_path;
    return config;
}

static double loss_of(TrainConfig config)
{
    Seen seen = {0};
    (void)training_run(config, &seen);
    return seen.last_loss;
}

TEST(train_options_have_effect,
     "augmentation, seed, clip, weight decay, least rate, loss: each changes the last loss")
{
    Pack *pack = open_pack(3, 3);
    TrainConfig base = narrow_config(pack), other[6];
    for (int k = 0; k < 6; k++)
        other[k] = base;
    other[0].augment = 0;
    other[1].seed = 2;
    other[2].optimizer.clip = 1e-3;
    other[3].optimizer.weight_decay = 0.1;
    other[4].schedule.lr_min = 0.9 * base.schedule.lr;
    other[5].loss = "bce";
    const double loss = loss_of(base);
    CHECK(loss_of(base) == loss); /* else a difference says nothing */
    for (int k = 0; k < 6; k++)
        if (loss_of(other[k]) == loss)
            test_fail(__FILE__, __LINE__, "option %d changes nothing", k);
    /* from one network on, the seed is that of the order and the changes alone */
    char begun[PATH_SIZE];
    CHECK(path_format(begun, NULL, "%s/begun.safetensors", test_dir()) == ST_OK);
    CHECK(rename(model_path, begun) == 0);
    base.encoder = other[1].encoder = begun;
    CHECK(loss_of(base) != loss_of(other[1]));
    pack_close(pack);
}

typedef struct Rates {
    double first, last;
} Rates;

static void see_rate(void *context, const TrainRow *rows, int32_t n, bool is_written)
{
    Rates *rates = context;
    (void)is_written;
    if (n == 1)
        rates->first = rows[0].lr;
    rates->last = rows[n - 1].lr;
}

TEST(train_rate_falls_with_the_clock, "limited by minutes alone, the cosine reaches its end")
{
    Pack *pack = open_pack(2, 3);
    TrainConfig config = narrow_config(pack);
    TrainResult result;
    Rates rates = {0};
    Err err = {0};
    config.epochs = 0;
    config.minutes = 0.03;
    config.schedule.warmup_steps = 0;
    config.report = (TrainReport){&rates, NULL, NULL, see_rate};
    CHECK_OK(train_run(&config, &result, &err), &err);
    CHECK_INT(result.end, TRAIN_TIME);
    CHECK(result.epochs > 1);
    CHECK(rates.last < 0.5 * rates.first);
    pack_close(pack);
}

TEST(train_goes_on_with_the_clock, "resumed for its last steps: the time before counts, too")
{
    Pack *pack = open_pack(3, 6);
    TrainConfig config = narrow_config(pack);
    Seen first = {.stop_after = 11}, rest = {0}; /* of 12 */
    TrainResult before = training_run(config, &first);
    config.resume = true;
    TrainResult after = training_run(config, &rest);
    CHECK(before.end == TRAIN_STOPPED && after.end == TRAIN_DONE);
    CHECK(rest.steps < 4 && after.elapsed_s >= before.elapsed_s);
    pack_close(pack);
}

typedef struct Saves {
    char digest[DIGEST_HEX_SIZE]; /* of the checkpoint as last seen; "" while there is none */
    int32_t steps, n;
} Saves;

static void see_checkpoint(void *context, const TrainProgress *progress)
{
    Saves *saves = context;
    Err err = {0};
    char now[DIGEST_HEX_SIZE] = "";
    (void)progress;
    if (access(checkpoint_path, F_OK) == 0)
        CHECK_OK(digest_file(checkpoint_path, now, &err), &err);
    saves->n += strcmp(now, saves->digest) != 0;
    saves->steps++;
    memcpy(saves->digest, now, sizeof now);
}

TEST(train_saves_now_and_then,
     "at its beginning, at each best epoch, every 5 minutes unless told otherwise: here each step")
{
    Pack *pack = open_pack(3, 6);
    TrainConfig config = narrow_config(pack);
    CHECK_NEAR(train_defaults().checkpoint_s, 300, 0);
    config.validation_frac = 0; /* each epoch is the best */
    for (int k = 0; k < 2; k++) {
        TrainResult result;
        Saves saves = {0};
        Err err = {0};
        config.checkpoint_s = k == 0 ? 0 : 1e9;
        config.report = (TrainReport){&saves, NULL, see_checkpoint, NULL};
        CHECK_OK(train_run(&config, &result, &err), &err);
        CHECK_INT(saves.steps, result.steps);
        CHECK_INT(result.epochs, 3);
        CHECK_INT(saves.n, k == 0 ? result.steps : 3); /* a step is seen before it is saved */
        CHECK(unlink(checkpoint_path) == 0);
    }
    pack_close(pack);
}

TEST(train_thins_its_rows, "of 10000 epochs 2048 rows at most: the last, and evenly the others")
{
    TrainState state = {.max_rows = 1, .rows = calloc(1, sizeof(TrainRow))};
    Err err = {0};
    CHECK(state.rows != NULL);
    for (int32_t e = 1; e <= 10000; e++) {
        const TrainRow row = {.epoch = e};
        CHECK_OK(training_add_row(&state, &row, &err), &err);
        CHECK(state.n_rows <= TRAIN_MAX_ROWS && state.rows[state.n_rows - 1].epoch == e);
        CHECK(e > TRAIN_MAX_ROWS / 2 || state.n_rows >= e); /* all, as long as they fit */
        if (e % 100 == 0)                                   /* of an epoch that time had cut */
            CHECK_OK(training_add_row(&state, &row, &err), &err);
        CHECK(state.n_rows <= TRAIN_MAX_ROWS);
    }
    CHECK(state.n_rows > TRAIN_MAX_ROWS / 2);
    for (int32_t i = 0; i + 2 < state.n_rows; i++) {
        int32_t step = state.rows[i + 1].epoch - state.rows[i].epoch;
        CHECK(state.rows[i].epoch % 8 == 0 && (step == 0 || step == 8));
    }
    free(state.rows);
}

/* A network that has learned nothing says 0.5 nearly everywhere, also where there is no head: that
** alone would be 7 dB, inside the mask it is 0.02 of the mean square. */
TEST(train_measures_inside_the_mask, "held-out PSNR is of the image as delivered: 0 outside")
{
    Pack *pack = open_pack(2, 3);
    TrainConfig config = narrow_config(pack);
    Seen seen = {0};
    config.schedule.lr = 1e-12;
    config.schedule.lr_min = 1e-12;
    config.epochs = 1;
    TrainResult result = training_run(config, &seen);
    (void)printf("# untrained: %.1f dB\n", result.psnr_db);
    CHECK(result.psnr_db > 9);
    pack_close(pack);
}

TEST(train_model_says_its_recipe,
     "target, clip, rates, weight decay: of the packed file and options")
{
    static char *argv[] = {"train", "--data",         pack_path, "--out",   model_path, "--width",
                           "4",     "--backend",      "ref",     "--clip",  "0.5",      "--lr-min",
                           "3e-6",  "--weight-decay", "0.02",    "--lr",    "2e-3",     "--epochs",
                           "1",     "--validation",   "0",       "--batch", "3"};
    static const struct {
        const char *key;
        double value;
    } want[] = {
        {"clip", 0.5}, {"lr_min", 3e-6}, {"weight_decay", 0.02}, {"lr", 2e-3}, {"batch", 3}};
    Pack *pack = open_pack(1, 3);
    Model *model;
    Err err = {0};
    CHECK_INT(cli_train(sizeof argv / sizeof *argv, argv), CLI_OK);
    CHECK_OK(model_open(model_path, &model, &err), &err);
    cJSON *json = cJSON_Parse(model_info(model)->training);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        CHECK_NEAR(cJSON_GetNumberValue(cJSON_GetObjectItem(json, want[i].key)), want[i].value,
                   1e-12);
    cJSON_Delete(json);
    model_close(model);
    Seen seen = {0};
    TrainConfig config = narrow_config(pack);
    PackInfo *info = (PackInfo *)(uintptr_t)pack_info(pack);
    (void)snprintf(info->target, sizeof info->target, "T2");
    config.validation_frac = 0;
    config.epochs = 1;
    (void)training_run(config, &seen);
    CHECK_OK(model_open(model_path, &model, &err), &err);
    CHECK_STR(model_info(model)->target, "T2");
    model_close(model);
    pack_close(pack);
}
