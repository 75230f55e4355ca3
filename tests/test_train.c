/* gpu/train, gpu/checkpoint, ct2mr train. Claims: a small network learns by heart four slices; an
** interrupted training that is resumed gives the same file as one that was not, and so does any
** number of threads (backend ref); the model is good for `model verify` and for the network; bad
** input has an error that says what. */
#include "tests/test.h"

#include "base/files.h"
#include "daemon/cli.h"
#include "gpu/model_write.h"
#include "gpu/net.h"
#include "gpu/train.h"
#include "gpu/trained_cases.h"
#include "gpu/verify.h"
#include "tests/model_file.h"
#include "tests/pack_fixture.h"
#include "tests/training_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *path_of(const char *name)
{
    static char paths[8][PATH_SIZE];
    static int next;
    char *path = paths[next++ % 8];
    (void)snprintf(path, PATH_SIZE, "%s/%s", test_dir(), name);
    return path;
}

/* A text that stays as long as the test. */
static char *keep(const char *text)
{
    static char kept[64][PATH_SIZE];
    static int n;
    CHECK(n < 64);
    (void)snprintf(kept[n], PATH_SIZE, "%s", text);
    return kept[n++];
}

static Pack *open_pack(int32_t pixels, int32_t n_cases, int32_t n_slices, double slice_mm)
{
    Pack *pack;
    Err err = {0};
    pack_fixture_write(path_of("p.pack"), pixels, n_cases, n_slices, slice_mm);
    CHECK_OK(pack_open(path_of("p.pack"), &pack, &err), &err);
    return pack;
}

static int links_of(const char *path)
{
    struct stat st;
    CHECK(stat(path, &st) == 0);
    return (int)st.st_nlink;
}

/* A narrow DRUNet-34 on backend ref; files model.safetensors and model.checkpoint. */
static TrainConfig small_config(const Pack *pack)
{
    TrainConfig config = training_config(pack);
    config.width = 4;
    config.backend = "ref";
    config.model = keep(path_of("model.safetensors"));
    config.checkpoint = keep(path_of("model.checkpoint"));
    return config;
}

TEST_TIMEOUT(train_learns_by_heart,
             "4 slices of 64 x 64, width 8, 150 steps on oneDNN: loss falls to a seventh", 120)
{
    Pack *pack = open_pack(64, 2, 2, 0);
    TrainConfig config = small_config(pack);
    config.width = 8;
    config.batch = 4;
    config.epochs = 150;
    config.backend = "cpu";
    config.threads = 1; /* on a busy machine OpenMP's threads spend their time waiting spinning */
    config.validation_frac = 0;
    config.augment = 0;
    config.loss = "l1+gradient";
    config.schedule.lr = 1e-2;
    Seen seen = {0};
    TrainResult result = training_run(config, &seen);
    (void)printf("# loss %.4f at first, %.4f at last\n", seen.first_loss, seen.last_loss);
    CHECK_INT(result.end, TRAIN_DONE);
    CHECK_INT(seen.steps, 150);
    CHECK(seen.last_loss < 0.14 * seen.first_loss);
    pack_close(pack);
}

TEST_TIMEOUT(train_resumed_has_the_same_bits,
             "stopped in the middle of an epoch and resumed; 1 and 2 threads", 120)
{
    Pack *pack = open_pack(32, 4, 4, 4);
    TrainConfig config = small_config(pack);
    Seen whole = {0}, first = {.stop_after = 6}, second = {0}, threads = {0};
    TrainResult result = training_run(config, &whole);
    CHECK_INT(result.end, TRAIN_DONE);
    CHECK_INT(result.epochs, 3);
    CHECK_INT(result.n_validation_cases, 1);
    CHECK_INT(result.n_training_slices, 12);
    CHECK_INT(result.steps, 12);
    CHECK(result.psnr_db > 3 && result.psnr_db < 60);
    CHECK(rename(config.model, path_of("whole.safetensors")) == 0);
    CHECK(rename(config.checkpoint, path_of("whole.checkpoint")) == 0);

    result = training_run(config, &first);
    CHECK_INT(result.end, TRAIN_STOPPED);
    CHECK_INT(result.steps, 6);
    config.resume = true;
    result = training_run(config, &second);
    CHECK_INT(result.end, TRAIN_DONE);
    CHECK_INT(second.steps, 6);
    CHECK_INT(second.rows, 3);
    CHECK(whole.last_loss == second.last_loss && whole.first_loss == second.first_loss);
    CHECK(training_same_files(config.model, path_of("whole.safetensors")));

    config.resume = false;
    config.threads = 1;
    config.loader_threads = 3;
    (void)training_run(config, &threads);
    CHECK(training_same_files(config.model, path_of("whole.safetensors")));
    pack_close(pack);
}

/* The model file's bytes are those of a copy. */
static bool is_copy(const TrainConfig *config, const char *copy)
{
    return training_same_files(config->model, path_of(copy));
}

TEST(train_resumed_writes_its_model_again,
     "gone, or another's in its place, as after kill -9 between the two: as it was; calibrated: "
     "left")
{
    static const MetadataValue added[] = {{"calibration", "{}"}};
    Pack *pack = open_pack(32, 4, 4, 4);
    TrainConfig config = small_config(pack);
    Seen seen = {0};
    Err err = {0};
    config.schedule.lr = 1e-2;
    TrainResult other = training_run(config, &seen);
    CHECK(rename(config.model, path_of("other.safetensors")) == 0);
    config.epochs = 6;
    TrainResult first = training_run(config, &seen);
    CHECK(first.best_epoch > 0 && first.best_epoch < 6); /* else the last weights would do */
    CHECK(other.psnr_db != first.psnr_db);
    CHECK(rename(config.model, path_of("best.safetensors")) == 0);
    config.resume = true;
    TrainResult again = training_run(config, &seen);
    CHECK(is_copy(&config, "best.safetensors"));
    CHECK(again.best_epoch == first.best_epoch && again.psnr_db == first.psnr_db);
    CHECK(rename(path_of("other.safetensors"), config.model) == 0);
    (void)training_run(config, &seen);
    CHECK(is_copy(&config, "best.safetensors"));
    CHECK_OK(model_write_metadata(config.model, added, 1, config.model, &err), &err);
    (void)training_run(config, &seen);
    CHECK(!is_copy(&config, "best.safetensors"));
    config.is_f16 = true; /* asked for now: the file is written so */
    (void)training_run(config, &seen);
    CHECK(rename(config.model, path_of("f16.safetensors")) == 0);
    CHECK(link(path_of("f16.safetensors"), config.model) == 0); /* a new file has another inode */
    (void)training_run(config, &seen);
    CHECK_INT(links_of(config.model), 2);
    pack_close(pack);
}

/* As kill -9: nothing is saved. */
static bool die(void *context)
{
    Seen *seen = context;
    if (seen->steps >= seen->stop_after)
        _exit(9);
    return false;
}

TEST(train_begun_anew_is_what_goes_on,
     "over an older training, killed in its first epoch, resumed: it, not the older one")
{
    Pack *pack = open_pack(32, 4, 4, 4);
    TrainConfig config = small_config(pack);
    Seen fresh = {0}, old = {0}, killed = {.stop_after = 2}, rest = {0};
    int status = 0;
    (void)training_run(config, &fresh);
    CHECK(rename(config.model, path_of("fresh.safetensors")) == 0);
    config.epochs = 6;
    (void)training_run(config, &old);
    CHECK(rename(config.model, path_of("old.safetensors")) == 0);
    CHECK(link(path_of("old.safetensors"), config.model) == 0);
    config.epochs = 3;
    (void)fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        TrainResult result;
        config.report = (TrainReport){&killed, NULL, training_see_step, NULL};
        config.is_stopped = die;
        _exit(train_run(&config, &result, NULL) == ST_OK ? 0 : 1);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 9);
    CHECK(is_copy(&config, "old.safetensors")); /* no epoch of the new one is done */
    config.resume = true;
    TrainResult result = training_run(config, &rest);
    CHECK(rest.steps == fresh.steps && result.epochs == 3);
    CHECK(is_copy(&config, "fresh.safetensors"));
    pack_close(pack);
}

typedef struct Rows {
    double best, best_psnr_db; /* least held-out loss so far */
    int32_t n, twice;          /* rows; of one epoch */
} Rows;

static void see_rows(void *context, const TrainRow *rows, int32_t n, bool is_written)
{
    Rows *seen = context;
    const TrainRow *row = &rows[n - 1];
    bool is_best = n == 1 || row->validation.total < seen->best;
    CHECK(is_written == is_best);
    if (is_best) {
        seen->best = row->validation.total;
        seen->best_psnr_db = row->psnr_db;
    }
    seen->twice += n > 1 && rows[n - 2].epoch == row->epoch;
    seen->n = n;
}

TEST_TIMEOUT(train_out_of_time_goes_on,
             "within an epoch, judged there, resumed: the best stays the best, epochs are whole "
             "ones",
             120)
{
    Pack *pack = open_pack(32, 4, 20, 4);
    TrainConfig config = small_config(pack);
    TrainResult result;
    Rows rows = {0};
    Err err = {0};
    config.loss = "contextual";
    config.batch = 2;
    config.epochs = 0;
    config.schedule.kind = SCHEDULE_CONSTANT;
    config.schedule.lr = 3e-2;
    config.report = (TrainReport){&rows, NULL, NULL, see_rows};
    for (int k = 1; k <= 6; k++) {
        config.minutes = 0.01 * k;
        config.resume = k > 1;
        CHECK_OK(train_run(&config, &result, &err), &err);
        CHECK(result.psnr_db == rows.best_psnr_db); /* every digit */
        CHECK_INT(result.epochs, result.steps / 30);
    }
    (void)printf("# %d rows, %d of an epoch that had one\n", rows.n, rows.twice);
    pack_close(pack);
}

TEST(train_checkpoint_is_of_its_training,
     "another recipe, another file, a cut file: refused by name")
{
    Pack *pack = open_pack(32, 2, 3, 4);
    TrainConfig config = small_config(pack);
    Seen seen = {0};
    TrainResult result;
    config.epochs = 1;
    (void)training_run(config, &seen);
    config.resume = true;
    config.seed = 2;
    Err err = {0};
    CHECK_STATUS(train_run(&config, &result, &err), ST_USAGE);
    CHECK(strstr(err.msg, "seed was \"1\" and is now \"2\"") != NULL);
    config.seed = 1;
    config.loss = "bce";
    err = (Err){0};
    CHECK_STATUS(train_run(&config, &result, &err), ST_USAGE);
    CHECK(strstr(err.msg, "loss was") != NULL);
    config.loss = "bce+2*l1+2*gradient";
    const TrainConfig same = config;
    static const char *const SAYS[] = {"fold was",  "epoch_slices was", "width was",
                                       "batch was", "lr was",           "validation was"};
    for (int k = 0; k < 6; k++) { /* another fold would train on what was held out */
        config = same;
        config.fold = k == 0 ? 1 : 0;
        config.epoch_slices = k == 1 ? 3 : 0;
        config.width = k == 2 ? 8 : same.width;
        config.batch = k == 3 ? 2 : same.batch;
        config.schedule.lr *= k == 4 ? 2 : 1;
        config.validation_frac = k == 5 ? 0.4 : same.validation_frac;
        err = (Err){0};
        Status status = train_run(&config, &result, &err);
        if (status != ST_USAGE || strstr(err.msg, SAYS[k]) == NULL)
            test_fail(__FILE__, __LINE__, "%s: %s", SAYS[k], err.msg);
    }
    config = same;
    config.epochs = 2; /* more of the same is no other training */
    result = training_run(config, &seen);
    CHECK_INT(result.epochs, 2);

    CHECK(truncate(config.checkpoint, 100000) == 0);
    CHECK_STATUS(train_run(&config, &result, &err), ST_CHECKPOINT);
    config.checkpoint = config.model;
    err = (Err){0};
    CHECK_STATUS(train_run(&config, &result, &err), ST_CHECKPOINT);
    CHECK(strstr(err.msg, "is not a checkpoint") != NULL);
    config.checkpoint = keep(path_of("missing"));
    CHECK_STATUS(train_run(&config, &result, &err), ST_CHECKPOINT);
    pack_close(pack);
}

/* Flips the lowest bit of byte `at` (from the end if negative) of the file. */
static void flip(const char *path, long at)
{
    FILE *f = fopen(path, "r+");
    CHECK(f != NULL && fseek(f, at, at < 0 ? SEEK_END : SEEK_SET) == 0);
    int c = fgetc(f);
    CHECK(c != EOF && fseek(f, -1, SEEK_CUR) == 0 && fputc(c ^ 1, f) != EOF && fclose(f) == 0);
}

TEST(train_checkpoint_has_a_checksum,
     "one bit of a number, of the position, of the recipe: damaged; mended again: it goes on")
{
    Pack *pack = open_pack(32, 2, 3, 4);
    TrainConfig config = small_config(pack);
    Seen seen = {0};
    TrainResult result;
    char *text;
    size_t n;
    config.epochs = 1;
    (void)training_run(config, &seen);
    config.resume = true;
    config.epochs = 2;
    Err err = {0};
    CHECK_OK(file_read(config.checkpoint, 1 << 28, &text, &n, &err), &err);
    CHECK(memmem(text, n, "\\\"folds\\\":2", 11) !=
          NULL); /* how the cases were cut is of the recipe */
    const char *position = memmem(text, n, "position\\\":[", 12);
    const char *recipe = memmem(text, n, "\"recipe\"", 8);
    CHECK(position != NULL && recipe != NULL);
    const long places[] = {-4, -1000, position - text + 12, strstr(recipe, "batch") - text + 8};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        flip(config.checkpoint, places[i]);
        err = (Err){0};
        CHECK_STATUS(train_run(&config, &result, &err), ST_CHECKPOINT);
        if (strstr(err.msg, "it is damaged") == NULL)
            test_fail(__FILE__, __LINE__, "place %zu: %s", i, err.msg);
        flip(config.checkpoint, places[i]);
    }
    free(text);
    CHECK_INT(training_run(config, &seen).epochs, 2);
    pack_close(pack);
}

TEST(train_resume_wants_the_same_threads, "cpu: another number is refused, both are named")
{
    Pack *pack = open_pack(32, 2, 3, 4);
    TrainConfig config = small_config(pack);
    Seen seen = {0};
    TrainResult result;
    Err err = {0};
    config.backend = "cpu";
    config.threads = 2;
    config.epochs = 1;
    (void)training_run(config, &seen);
    config.resume = true;
    config.epochs = 2;
    config.threads = 1;
    CHECK_STATUS(train_run(&config, &result, &err), ST_USAGE);
    CHECK(strstr(err.msg, "is of 2 threads, here are 1") != NULL);
    CHECK(strstr(err.msg, "--threads 2") != NULL);
    config.threads = 2;
    CHECK_INT(training_run(config, &seen).epochs, 2);
    pack_close(pack);
}

TEST(train_model_is_good,
     "verify, metadata, provenance, F16; the network gives the validation's numbers")
{
    Pack *pack = open_pack(32, 3, 3, 4);
    TrainConfig config = small_config(pack);
    Seen seen = {0};
    Model *model;
    Err err = {0};
    double difference;
    ((PackInfo *)(uintptr_t)pack_info(pack))->interpolation = INTERPOLATION_CUBIC;
    config.label = "a test";
    config.licence = "none";
    config.envelope = "{\"kvp\":[80,140]}";
    config.epochs = 2;
    TrainResult result = training_run(config, &seen);
    CHECK_OK(model_open(config.model, &model, &err), &err);
    CHECK(model_info(model)->interpolation == INTERPOLATION_CUBIC); /* fed as it was trained */
    CHECK_OK(model_verify(model, "cpu", &difference, &err), &err);
    const ModelInfo *info = model_info(model);
    CHECK_STR(info->label, "a test");
    CHECK_STR(info->licence, "none");
    CHECK(info->kvp.present && info->kvp.high == 140);
    CHECK(info->grid_pixels == 32 && info->grid_spacing_mm == 4 && info->pose == POSE_NATIVE);
    cJSON *training = cJSON_Parse(info->training);
    CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(training, "data")), pack_info(pack)->digest);
    CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(training, "seed")), "1");
    CHECK_NEAR(cJSON_GetNumberValue(cJSON_GetObjectItem(training, "epochs")), result.best_epoch, 0);
    CHECK_NEAR(cJSON_GetNumberValue(cJSON_GetObjectItem(training, "validation_psnr_db")),
               result.psnr_db, 1e-3);
    CHECK_NEAR(cJSON_GetNumberValue(cJSON_GetObjectItem(training, "cases")), 2, 0);
    cJSON_Delete(training);
    CaseUse use[3];
    int n_use[CASE_TRAINED + 1] = {0};
    CHECK(trained_cases_find(model, pack, use));
    for (int c = 0; c < 3; c++)
        n_use[use[c]]++;
    CHECK(n_use[CASE_TRAINED] == 2 && n_use[CASE_HELD_OUT] == 1);
    model_close(model);
    config.is_f16 = true;
    (void)training_run(config, &seen);
    CHECK_OK(model_open(config.model, &model, &err), &err);
    CHECK_OK(model_verify(model, "cpu", &difference, &err), &err);
    model_close(model);
    pack_close(pack);
}

TEST(train_begins_from_an_encoder,
     "tensors of torchvision's names are taken; another width is named")
{
    Pack *pack = open_pack(32, 2, 3, 4);
    TrainConfig config = small_config(pack);
    TrainResult result;
    Err err = {0};
    config.epochs = 1;
    config.schedule.lr = 1e-12; /* what was read stays */
    config.schedule.lr_min = 0;
    config.optimizer.weight_decay = 0;
    model_file_write_random(path_of("encoder.safetensors"), ARCH_DRUNET34, 4);
    config.encoder = keep(path_of("encoder.safetensors"));
    CHECK_OK(train_run(&config, &result, &err), &err);
    Model *was, *is;
    CHECK_OK(model_open(config.encoder, &was, &err), &err);
    CHECK_OK(model_open(config.model, &is, &err), &err);
    const Tensor *tensor = model_tensor(was, "layer2.0.conv1.weight");
    float *a = malloc((size_t)tensor->n_elements * 8), *b = a + tensor->n_elements;
    CHECK(a != NULL);
    CHECK_OK(model_read(was, tensor, a, &err), &err);
    CHECK_OK(model_read(is, model_tensor(is, "layer2.0.conv1.weight"), b, &err), &err);
    for (int64_t i = 0; i < tensor->n_elements; i++)
        CHECK_NEAR(a[i], b[i], 1e-9);
    free(a);
    model_close(was);
    model_close(is);
    CHECK(access(config.checkpoint, R_OK) == 0);
    config.encoder = keep(path_of("older.checkpoint"));
    CHECK(rename(config.checkpoint, config.encoder) == 0);
    CHECK_STATUS(train_run(&config, &result, &err), ST_USAGE);
    CHECK(strstr(err.msg, "a checkpoint does not say which cases") != NULL);
    config.encoder = keep(path_of("encoder.safetensors"));
    err = (Err){0};
    config.width = 5;
    CHECK_STATUS(train_run(&config, &result, &err), ST_MODEL_UNFIT);
    CHECK(strstr(err.msg, "conv1.weight has shape (4,3,7,7), the network (5,3,7,7)") != NULL);
    config.arch = ARCH_UNET;
    err = (Err){0};
    CHECK_STATUS(train_run(&config, &result, &err), ST_MODEL_UNFIT);
    CHECK(strstr(err.msg, "none of its tensors") != NULL);
    pack_close(pack);
}

static void see_note(void *context, const char *text)
{
    bool *told = context;
    *told = *told || strstr(text, "trained on 1 of the 1 held-out cases") != NULL;
}

TEST(train_further_remembers,
     "begun from a model: what that was trained on counts as trained on, and held-out is told")
{
    Pack *pack = open_pack(32, 3, 3, 4);
    TrainConfig config = small_config(pack);
    Seen seen = {0};
    TrainResult result;
    CaseUse use[3];
    Model *model;
    bool told = false;
    Err err = {0};
    config.epochs = 1;
    (void)training_run(config, &seen);
    CHECK(rename(config.model, path_of("first.safetensors")) == 0);
    config.encoder = keep(path_of("first.safetensors"));
    config.fold = 1;
    config.report = (TrainReport){&told, see_note, NULL, NULL};
    CHECK_OK(train_run(&config, &result, &err), &err);
    CHECK(told);
    CHECK_OK(model_open(config.model, &model, &err), &err);
    CHECK(trained_cases_find(model, pack, use));
    for (int c = 0; c < 3; c++)
        CHECK_INT(use[c], CASE_TRAINED);
    model_close(model);
    pack_close(pack);
}

TEST(train_refuses_what_cannot_be, "one case, a fold too far, bad envelope, divergence")
{
    Pack *pack = open_pack(32, 1, 3, 4);
    TrainConfig config = small_config(pack);
    TrainResult result;
    Err err = {0};
    CHECK_STATUS(train_run(&config, &result, &err), ST_USAGE);
    CHECK(strstr(err.msg, "1 case: none would be left") != NULL);
    pack_close(pack);
    pack = open_pack(32, 4, 2, 4);
    config.pack = pack;
    config.validation_frac = 0.25;
    config.fold = 4;
    err = (Err){0};
    CHECK_STATUS(train_run(&config, &result, &err), ST_USAGE);
    CHECK(strstr(err.msg, "fold 4: 4 cases make 4 folds, 0 to 3") != NULL);
    config.fold = 0;
    config.validation_frac = 0.6;
    err = (Err){0};
    CHECK_STATUS(train_run(&config, &result, &err), ST_USAGE);
    CHECK(strstr(err.msg, "0.6 of the cases") != NULL);
    config.validation_frac = 0.25;
    config.fold = 3;
    config.envelope = "{\"kvp\":";
    err = (Err){0};
    CHECK_STATUS(train_run(&config, &result, &err), ST_MODEL_FORMAT);
    CHECK(strstr(err.msg, "envelope") != NULL);
    config.envelope = NULL;
    config.backend = "abacus";
    CHECK_STATUS(train_run(&config, &result, &err), ST_BACKEND);
    config.backend = "ref";
    config.schedule.lr = 1e30;
    config.schedule.warmup_steps = 0;
    err = (Err){0};
    CHECK_STATUS(train_run(&config, &result, &err), ST_TRAIN_DIVERGED);
    /* The steps stay finite, the network's result on held-out slices does not. */
    config.optimizer.clip = 0;
    config.activation = ACTIVATION_LINEAR;
    config.loss = "mse";
    config.epochs = 1;
    config.epoch_slices = config.batch; /* one step */
    config.schedule.lr = 1e2;
    err = (Err){0};
    CHECK_STATUS(train_run(&config, &result, &err), ST_TRAIN_DIVERGED);
    CHECK(strstr(err.msg, "epoch 1: the network's result is no number") != NULL);
    CHECK(access(config.model, F_OK) != 0);
    pack_close(pack);
}

TEST(train_folds_hold_out_each_case_once,
     "4 cases in folds of one: no case in two, training without it")
{
    Pack *pack = open_pack(32, 4, 2, 4);
    TrainConfig config = small_config(pack);
    double psnr[4];
    config.validation_frac = 0.25;
    config.epochs = 1;
    for (int32_t fold = 0; fold < 4; fold++) {
        Seen seen = {0};
        config.fold = fold;
        TrainResult result = training_run(config, &seen);
        CHECK_INT(result.n_validation_slices, 2);
        CHECK_INT(result.n_training_slices, 6);
        psnr[fold] = result.psnr_db;
        for (int k = 0; k < fold; k++)
            CHECK(psnr[k] != psnr[fold]);
    }
    pack_close(pack);
}

TEST(train_ends_early, "without progress for `patience` epochs; by time")
{
    Pack *pack = open_pack(32, 2, 3, 4);
    TrainConfig config = small_config(pack);
    Seen seen = {0};
    config.schedule.lr = 1e-12; /* never gets better, after batch norm has settled */
    config.schedule.warmup_steps = 0;
    config.epochs = 200;
    config.patience = 3;
    TrainResult result = training_run(config, &seen);
    CHECK_INT(result.end, TRAIN_EARLY);
    CHECK(result.epochs < 200 && result.best_epoch == result.epochs - 3);
    config.patience = 0;
    config.epochs = 0;
    config.minutes = 0.01;
    result = training_run(config, &seen);
    CHECK_INT(result.end, TRAIN_TIME);
    CHECK(result.elapsed_s >= 0.6 && result.elapsed_s < 10 && result.epochs >= 1);
    pack_close(pack);
}

static void see_rate(void *context, const TrainRow *rows, int32_t n, bool is_written)
{
    double *rates = context;
    (void)is_written;
    rates[n - 1] = rows[n - 1].lr;
}

TEST(train_warms_up_for_a_tenth, "20 steps, a warm-up of 1000: the rate rises over two steps")
{
    Pack *pack = open_pack(32, 2, 3, 4);
    TrainConfig config = small_config(pack);
    TrainResult result;
    double rates[20];
    Err err = {0};
    config.validation_frac = 0;
    config.batch = 6;
    config.epochs = 20;
    config.schedule.kind = SCHEDULE_CONSTANT;
    config.schedule.lr = 1e-3;
    config.schedule.warmup_steps = 1000;
    config.report = (TrainReport){rates, NULL, NULL, see_rate};
    CHECK_OK(train_run(&config, &result, &err), &err);
    CHECK_INT(result.steps, 20);
    CHECK_NEAR(rates[0], 0.5e-3, 1e-12);
    for (int i = 1; i < 20; i++)
        CHECK_NEAR(rates[i], 1e-3, 1e-12);
    pack_close(pack);
}

TEST_TIMEOUT(train_keeps_the_best_epoch,
             "the model is of the best PSNR; with a contextual loss, of the least held-out loss",
             120)
{
    Pack *pack = open_pack(32, 4, 4, 4);
    TrainConfig config = small_config(pack);
    Seen seen = {0};
    config.epochs = 12;
    config.schedule.lr = 2e-2;
    TrainResult result = training_run(config, &seen);
    (void)printf("# best %d, least loss %d, most PSNR %d\n", result.best_epoch, seen.least_loss,
                 seen.most_psnr);
    CHECK_INT(result.best_epoch, seen.most_psnr);
    config.loss = "contextual";
    result = training_run(config, &seen);
    (void)printf("# best %d, least loss %d, most PSNR %d\n", result.best_epoch, seen.least_loss,
                 seen.most_psnr);
    CHECK(seen.least_loss != seen.most_psnr); /* else it would show nothing */
    CHECK_INT(result.best_epoch, seen.least_loss);
    pack_close(pack);
}

static int see_since_best; /* rows since the best one */

static void see_best(void *context, const TrainRow *rows, int32_t n, bool is_written)
{
    (void)context, (void)rows, (void)n;
    see_since_best = is_written ? 0 : see_since_best + 1;
}

TEST_TIMEOUT(train_patience_counts_epochs,
             "not the parts of one, when the time is up again and again and it is resumed", 120)
{
    Pack *pack = open_pack(32, 4, 40, 4);
    TrainConfig config = small_config(pack);
    TrainResult result = {0};
    Err err = {0};
    config.batch = 2;
    config.epochs = 50;
    config.patience = 3;
    config.schedule.kind = SCHEDULE_CONSTANT;
    config.schedule.lr = 1e-12; /* the first row stays the best, or nearly */
    config.schedule.warmup_steps = 0;
    config.report = (TrainReport){NULL, NULL, NULL, see_best};
    for (int k = 0; k < 40 && (k == 0 || result.end == TRAIN_TIME) && see_since_best < 6; k++) {
        config.resume = k > 0;
        config.minutes = (result.elapsed_s + 0.02) / 60; /* a few steps of 60 */
        CHECK_OK(train_run(&config, &result, &err), &err);
    }
    (void)printf("# %d rows since the best, %d epochs, best %d\n", see_since_best, result.epochs,
                 result.best_epoch);
    CHECK(result.end != TRAIN_EARLY || result.epochs >= result.best_epoch + 2);
    CHECK(see_since_best >= 4 || result.epochs >= 3); /* else it shows nothing */
    pack_close(pack);
}

/* ---- the command --------------------------------------------------------------------------- */

enum { MAX_ARGUMENTS = 40 };

/* Starts cli_train() in a child; stdout and stderr go to out.txt. */
static pid_t start_cli(const char *const *more)
{
    static char width[] = "4", epochs[] = "6", batch[] = "3";
    char *argv[MAX_ARGUMENTS] = {"train",
                                 "--data",
                                 keep(path_of("p.pack")),
                                 "--out",
                                 keep(path_of("m.safetensors")),
                                 "--width",
                                 width,
                                 "--epochs",
                                 epochs,
                                 "--batch",
                                 batch,
                                 "--backend",
                                 "ref",
                                 "--validation",
                                 "0.3"};
    int argc = 15;
    for (; more != NULL && *more != NULL; more++)
        argv[argc++] = keep(*more);
    (void)fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        int fd = open(path_of("out.txt"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
            _exit(99);
        int code = cli_train(argc, argv);
        (void)fflush(NULL);
        _exit(code);
    }
    return pid;
}

static int wait_cli(pid_t pid)
{
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static bool out_has(const char *text)
{
    char *out;
    size_t n;
    Err err = {0};
    CHECK_OK(file_read(path_of("out.txt"), 1 << 20, &out, &n, &err), &err);
    bool has = strstr(out, text) != NULL;
    if (!has)
        (void)printf("# output: %s\n", out);
    free(out);
    return has;
}

TEST_TIMEOUT(train_command_saves_on_ctrl_c,
             "SIGINT after the first epoch: exit 5, --resume, same bits", 120)
{
    static const char *const RESUME[] = {"--resume", NULL}, *const AGAIN[] = {"--overwrite", NULL};
    pack_fixture_write(path_of("p.pack"), 32, 3, 4, 4);
    CHECK_INT(wait_cli(start_cli(NULL)), CLI_OK);
    CHECK(out_has("epoch 6:") && out_has("all epochs done: 6 epochs"));
    CHECK(rename(path_of("m.safetensors"), path_of("whole.safetensors")) == 0);
    CHECK(access(path_of("m.csv"), F_OK) == 0 && access(path_of("m.png"), F_OK) == 0);
    CHECK_INT(wait_cli(start_cli(NULL)), CLI_USAGE); /* the checkpoint is there */
    CHECK(out_has("--resume goes on with its training"));
    CHECK(unlink(path_of("m.csv")) == 0);
    pid_t pid = start_cli(AGAIN);
    for (int i = 0; i < 6000 && access(path_of("m.csv"), F_OK) != 0; i++)
        (void)usleep(5000);
    CHECK(kill(pid, SIGINT) == 0);
    CHECK_INT(wait_cli(pid), CLI_PARTIAL);
    CHECK(out_has("stopped; --resume goes on"));
    CHECK_INT(wait_cli(start_cli(RESUME)), CLI_OK);
    CHECK(training_same_files(path_of("m.safetensors"), path_of("whole.safetensors")));
    char *csv;
    size_t n;
    Err err = {0};
    CHECK_OK(file_read(path_of("m.csv"), 1 << 20, &csv, &n, &err), &err);
    int lines = 0;
    for (size_t i = 0; i < n; i++)
        lines += csv[i] == '\n';
    CHECK_INT(lines, 7);
    CHECK(strncmp(csv, "epoch,step,learning_rate,training_loss,training_bce,training_l1,", 64) ==
          0);
    free(csv);
}

TEST_TIMEOUT(train_command_says_what_the_model_is,
             "an overwrite that was stopped in epoch 1 leaves the older model; one that is gone is "
             "written again",
             120)
{
    static const char *const RESUME[] = {"--resume", NULL};
    static const char *const SLOW[] = {"--overwrite", "--width", "64", NULL};
    pack_fixture_write(path_of("p.pack"), 32, 3, 10, 4);
    CHECK_INT(wait_cli(start_cli(NULL)), CLI_OK);
    CHECK(rename(path_of("m.checkpoint"), path_of("whole.checkpoint")) == 0);
    pid_t pid = start_cli(SLOW);
    for (int i = 0; i < 60000 && access(path_of("m.checkpoint.lock"), F_OK) != 0; i++)
        (void)usleep(1000);
    CHECK(kill(pid, SIGINT) == 0);
    CHECK_INT(wait_cli(pid), CLI_PARTIAL);
    CHECK(out_has("m.safetensors is still the older model: no epoch was finished"));
    CHECK(rename(path_of("whole.checkpoint"), path_of("m.checkpoint")) == 0);
    CHECK(rename(path_of("m.safetensors"), path_of("whole.safetensors")) == 0);
    CHECK_INT(wait_cli(start_cli(RESUME)), CLI_OK);
    CHECK(out_has("written from the checkpoint"));
    CHECK(training_same_files(path_of("m.safetensors"), path_of("whole.safetensors")));
}

TEST(train_command_keeps_other_files, "NAME.csv or NAME.png that is not the training's stays")
{
    static const char *const NAMES[] = {"m.csv", "m.png"};
    Err err = {0};
    pack_fixture_write(path_of("p.pack"), 32, 3, 2, 4);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(file_write_durable(path_of(NAMES[i]), "mine", 4, &err), &err);
        CHECK_INT(wait_cli(start_cli(NULL)), CLI_USAGE);
        CHECK(out_has("exists, where the curves go"));
        CHECK(access(path_of("m.checkpoint"), F_OK) != 0);
        CHECK(unlink(path_of(NAMES[i])) == 0);
    }
    CHECK_INT(wait_cli(start_cli(NULL)), CLI_OK);
}

TEST(train_command_one_at_a_time,
     "a second training of the same files: exit 4; the lock goes with the first")
{
    pack_fixture_write(path_of("p.pack"), 32, 3, 2, 4);
    int fd = open(path_of("m.checkpoint.lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0);
    CHECK_INT(wait_cli(start_cli(NULL)), CLI_REFUSED);
    CHECK(out_has("TRAIN_RUNS"));
    CHECK(access(path_of("m.checkpoint"), F_OK) != 0);
    CHECK(close(fd) == 0);
    CHECK_INT(wait_cli(start_cli(NULL)), CLI_OK);
    CHECK(access(path_of("m.checkpoint"), F_OK) == 0);
    CHECK(access(path_of("m.checkpoint.lock"), F_OK) != 0);
    const char *const itself[] = {"--overwrite", "--encoder", path_of("m.safetensors"), NULL};
    CHECK_INT(wait_cli(start_cli(itself)), CLI_USAGE);
    CHECK(out_has("m.safetensors of --out is the encoder's file"));
    CHECK(link(path_of("p.pack"), path_of("m.csv.pack")) == 0 && unlink(path_of("m.csv")) == 0 &&
          rename(path_of("m.csv.pack"), path_of("m.csv")) == 0);
    const char *const curves[] = {"--overwrite", NULL};
    CHECK_INT(wait_cli(start_cli(curves)), CLI_USAGE);
    CHECK(out_has("m.csv of --out is the packed file"));
}

TEST(train_command_says_what_is_wrong, "options, loss, files: exit 2 or 1 and the reason")
{
    static const struct {
        const char *more[3];
        int code;
        const char *says;
    } BAD[] = {
        {{"--loss", "huber"}, CLI_USAGE, "\"huber\" is none of mse"},
        {{"--augment", "flip,warp"}, CLI_USAGE, "\"warp\" is none of"},
        {{"--arch", "resnet"}, CLI_USAGE, "--arch has no value \"resnet\"; it has drunet-34"},
        {{"--batch", "0"}, CLI_USAGE, "--batch wants a number in 1..1024"},
        {{"--verbose"}, CLI_USAGE, "unknown option"},
        {{"--data", "/nowhere.pack"}, CLI_NEGATIVE, "NOT_FOUND"},
        {{"--out", "model.pt"}, CLI_USAGE, "must end in .safetensors"},
        {{"--vgg", "/nowhere", "--loss=contextual"}, CLI_NEGATIVE, "MODEL_NOT_FOUND"},
        {{"--activation", "linear"}, CLI_USAGE, "ends in a sigmoid"},
        {{"--vgg", "/nowhere"}, CLI_USAGE, "--vgg is for --loss contextual"},
        {{"--patience", "3", "--validation=0"}, CLI_USAGE, "--patience wants held-out cases"},
        {{"--step-epochs", "3"}, CLI_USAGE, "--step-epochs is for --schedule step"},
        {{"--step-factor", "0.5"}, CLI_USAGE, "--step-factor is for --schedule step"},
        {{"--lr-min", "1e-5", "--schedule=step"}, CLI_USAGE, "--lr-min is for --schedule cosine"},
        {{"--resume"}, CLI_NEGATIVE, "CHECKPOINT: checkpoint: opening"}};
    pack_fixture_write(path_of("p.pack"), 32, 3, 2, 4);
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        const char *more[4] = {BAD[i].more[0], BAD[i].more[1], BAD[i].more[2], NULL};
        CHECK_INT(wait_cli(start_cli(more)), BAD[i].code);
        CHECK(out_has(BAD[i].says));
    }
    CHECK(truncate(path_of("p.pack"), 9000) == 0);
    CHECK_INT(wait_cli(start_cli(NULL)), CLI_NEGATIVE);
    CHECK(out_has("PACK_FORMAT"));
}
