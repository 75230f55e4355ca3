/* ct2mr train: a model from a packed file. Options and printing; the work is gpu/train.h's. */
#include "daemon/cli_int.h"

#include "base/clock.h"
#include "base/files.h"
#include "gpu/imagenet.h"
#include "gpu/network.h"
#include "gpu/train.h"
#include "gpu/train_net.h"
#include "pipeline/train_curves.h"
#include "pipeline/window.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Train {
    TrainConfig config;
    LossSpec spec; /* for the table */
    const char *data, *augment;
    char base[PATH_SIZE]; /* of the model, without ".safetensors" */
    char checkpoint[PATH_SIZE], csv[PATH_SIZE], png[PATH_SIZE];
    bool json, overwrite, has_line, has_warned;
    double line_s; /* when the progress line was drawn last */
} Train;

static volatile sig_atomic_t stop_wanted;

static void want_stop(int signal_number)
{
    (void)signal_number;
    stop_wanted = 1;
}

/* The second signal ends the process as usual. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = want_stop, .sa_flags = (int)SA_RESETHAND};
    (void)sigemptyset(&action.sa_mask);
    cli_watch_mapped();
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    struct sigaction before; /* a lost terminal saves, too; under nohup it does not end it */
    if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        (void)sigaction(SIGHUP, &action, NULL);
}

static bool is_stopped(void *context)
{
    (void)context;
    return stop_wanted != 0;
}

/* ---- options ------------------------------------------------------------------------------- */

typedef enum OptionKind { TEXT, WHOLE, NUMBER, SWITCH } OptionKind;

typedef struct TrainOption {
    const char *name;
    OptionKind kind;
    double low, high;
    size_t at; /* in Train */
} TrainOption;

#define AT(member) offsetof(Train, member)
/* WHOLE: int32_t; NUMBER: double. What needs more than a range is in set_special(). */
static const TrainOption OPTIONS[] = {
    {"data", TEXT, 0, 0, AT(data)},
    {"out", TEXT, 0, 0, AT(config.model)},
    {"width", WHOLE, 1, NETWORK_MAX_WIDTH, AT(config.width)},
    {"loss", TEXT, 0, 0, AT(config.loss)},
    {"vgg", TEXT, 0, 0, AT(config.vgg)},
    {"encoder", TEXT, 0, 0, AT(config.encoder)},
    {"batch", WHOLE, 1, 1024, AT(config.batch)},
    {"epochs", WHOLE, 1, 1000000, AT(config.epochs)},
    {"minutes", NUMBER, 0.001, 1e6, AT(config.minutes)},
    {"epoch-slices", WHOLE, 1, PACK_MAX_SLICES, AT(config.epoch_slices)},
    {"lr", NUMBER, 1e-12, 100, AT(config.schedule.lr)},
    {"lr-min", NUMBER, 0, 100, AT(config.schedule.lr_min)},
    {"step-epochs", WHOLE, 1, 1000000, AT(config.schedule.step_epochs)},
    {"step-factor", NUMBER, 1e-6, 1, AT(config.schedule.step_factor)},
    {"weight-decay", NUMBER, 0, 100, AT(config.optimizer.weight_decay)},
    {"clip", NUMBER, 0, 1e9, AT(config.optimizer.clip)},
    {"validation", NUMBER, 0, TRAIN_MAX_VALIDATION, AT(config.validation_frac)},
    {"fold", WHOLE, 0, PACK_MAX_CASES, AT(config.fold)},
    {"patience", WHOLE, 0, 1000000, AT(config.patience)},
    {"augment", TEXT, 0, 0, AT(augment)},
    {"threads", WHOLE, 0, 64, AT(config.threads)},
    {"loader-threads", WHOLE, 0, 64, AT(config.loader_threads)},
    {"label", TEXT, 0, 0, AT(config.label)},
    {"licence", TEXT, 0, 0, AT(config.licence)},
    {"envelope", TEXT, 0, 0, AT(config.envelope)},
    {"resume", SWITCH, 0, 0, AT(config.resume)},
    {"overwrite", SWITCH, 0, 0, AT(overwrite)},
    {"f16", SWITCH, 0, 0, AT(config.is_f16)},
    {"json", SWITCH, 0, 0, AT(json)},
};
static const struct {
    const char *name, *values;
} SPECIAL[] = {{"arch", "drunet-34, drunet-50, drunet-101, unet"},
               {"activation", "sigmoid, linear"},
               {"schedule", "cosine, constant, step"},
               {"precision", "f32, bf16, f16"},
               {"backend", "cpu, cuda, ref"},
               {"warmup", "whole numbers from 0"},
               {"seed", "whole numbers from 0"}};
enum { N_OPTIONS = sizeof OPTIONS / sizeof *OPTIONS, N_SPECIAL = sizeof SPECIAL / sizeof *SPECIAL };

static bool set_plain(Train *train, const TrainOption *option, const char *text)
{
    char *at = (char *)train + option->at;
    int64_t whole;
    double number;
    switch (option->kind) {
    case TEXT:
        *(const char **)(void *)at = text;
        return true;
    case SWITCH:
        *(bool *)(void *)at = true;
        return true;
    case WHOLE:
        if (!cli_parse_int(text, (int64_t)option->low, (int64_t)option->high, &whole))
            return false;
        *(int32_t *)(void *)at = (int32_t)whole;
        return true;
    case NUMBER:
        if (!cli_parse_double(text, &number) || number < option->low || number > option->high)
            return false;
        *(double *)(void *)at = number;
        return true;
    }
    return false;
}

static bool set_special(TrainConfig *config, const char *name, const char *text)
{
    int64_t whole;
    bool ok = false;
    if (strcmp(name, "arch") == 0) {
        ok = network_from_name(text, &config->arch);
    } else if (strcmp(name, "activation") == 0) {
        ok = strcmp(text, "sigmoid") == 0 || strcmp(text, "linear") == 0;
        config->activation = strcmp(text, "linear") == 0 ? ACTIVATION_LINEAR : ACTIVATION_SIGMOID;
    } else if (strcmp(name, "schedule") == 0) {
        ok = schedule_from_name(text, &config->schedule.kind);
    } else if (strcmp(name, "precision") == 0) {
        ok = precision_from_name(text, &config->precision) && config->precision != PRECISION_INT8;
    } else if (strcmp(name, "backend") == 0) {
        for (int i = 0; train_backend_name(i) != NULL; i++)
            ok = ok || strcmp(text, train_backend_name(i)) == 0;
        config->backend = text;
    } else if (cli_parse_int(text, 0, INT64_MAX, &whole)) {
        ok = true;
        if (strcmp(name, "warmup") == 0)
            config->schedule.warmup_steps = whole;
        else
            config->seed = (uint64_t)whole;
    }
    return ok;
}

static bool was_given(const bool *given, const char *name)
{
    for (int i = 0; i < N_OPTIONS; i++)
        if (strcmp(OPTIONS[i].name, name) == 0)
            return given[i];
    return false;
}

/* What was given and would do nothing. given: [N_OPTIONS] */
static int check_effect(const TrainConfig *config, const bool *given)
{
    const ScheduleKind kind = config->schedule.kind;
    if (was_given(given, "vgg") && strstr(config->loss, "contextual") == NULL)
        return cli_usage("train", "--vgg is for --loss contextual");
    if (was_given(given, "patience") && config->patience > 0 && config->validation_frac <= 0)
        return cli_usage("train", "--patience wants held-out cases: --validation is 0");
    if (was_given(given, "step-epochs") && kind != SCHEDULE_STEP)
        return cli_usage("train", "--step-epochs is for --schedule step");
    if (was_given(given, "step-factor") && kind != SCHEDULE_STEP)
        return cli_usage("train", "--step-factor is for --schedule step");
    if (was_given(given, "lr-min") && kind != SCHEDULE_COSINE)
        return cli_usage("train", "--lr-min is for --schedule cosine");
    return CLI_OK;
}

static int get_options(int argc, char **argv, Train *train)
{
    struct option longs[N_OPTIONS + N_SPECIAL + 1] = {0};
    bool given[N_OPTIONS] = {false};
    bool has_epochs = false, has_precision = false;
    for (int i = 0; i < N_OPTIONS; i++)
        longs[i] = (struct option){OPTIONS[i].name, OPTIONS[i].kind != SWITCH, NULL, i + 1};
    for (int i = 0; i < N_SPECIAL; i++)
        longs[N_OPTIONS + i] =
            (struct option){SPECIAL[i].name, required_argument, NULL, N_OPTIONS + i + 1};
    optind = 0;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (c == '?')
            return cli_usage("train", "unknown option or missing value: %s", argv[optind - 1]);
        const char *name = longs[c - 1].name;
        bool ok = c <= N_OPTIONS ? set_plain(train, &OPTIONS[c - 1], optarg)
                                 : set_special(&train->config, name, optarg);
        if (c <= N_OPTIONS)
            given[c - 1] = true;
        has_epochs = has_epochs || strcmp(name, "epochs") == 0;
        has_precision = has_precision || strcmp(name, "precision") == 0;
        if (!ok && c <= N_OPTIONS)
            return cli_usage("train", "--%s wants a number in %g..%g", name, OPTIONS[c - 1].low,
                             OPTIONS[c - 1].high);
        if (!ok)
            return cli_usage("train", "--%s has no value \"%.40s\"; it has %s", name, optarg,
                             SPECIAL[c - 1 - N_OPTIONS].values);
    }
    if (optind != argc)
        return cli_usage("train", "unexpected argument %s", argv[optind]);
    if (train->data == NULL || train->config.model == NULL)
        return cli_usage("train", "--data and --out are needed");
    if (train->config.resume && train->overwrite)
        return cli_usage("train", "--resume goes on, --overwrite begins anew: give one of them");
    if (train->config.minutes > 0 && !has_epochs)
        train->config.epochs = 0;
    if (!has_precision && strcmp(train->config.backend, "cuda") == 0)
        train->config.precision = PRECISION_F16; /* it has no other */
    return check_effect(&train->config, given);
}

/* ---- files --------------------------------------------------------------------------------- */

/* What it reads, and --resume wants again, would be gone. */
static Status check_inputs(const Train *train, Err *err)
{
    const char *const outputs[] = {train->config.model, train->checkpoint, train->csv, train->png};
    const struct {
        const char *path, *name;
    } inputs[] = {{train->data, "packed file"},
                  {train->config.encoder, "encoder's file"},
                  {train->config.vgg, "VGG's file"}};
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
        for (size_t o = 0; o < sizeof outputs / sizeof *outputs; o++)
            if (cli_same_file(outputs[o], inputs[i].path))
                return err_set(err, ST_USAGE, "%s of --out is the %s: give another name",
                               outputs[o], inputs[i].name);
    return ST_OK;
}

static Status name_files(Train *train, Err *err)
{
    static const char ENDING[] = ".safetensors";
    const char *model = train->config.model;
    size_t n = strlen(model), ending = strlen(ENDING);
    if (n <= ending || strcmp(model + n - ending, ENDING) != 0)
        return err_set(err, ST_USAGE, "--out: the model file's name must end in .safetensors");
    TRY(path_format(train->base, err, "%.*s", (int)(n - ending), model));
    TRY(path_format(train->checkpoint, err, "%s.checkpoint", train->base));
    TRY(path_format(train->csv, err, "%s.csv", train->base));
    TRY(path_format(train->png, err, "%s.png", train->base));
    train->config.checkpoint = train->checkpoint;
    TRY(check_inputs(train, err));
    if (train->config.resume || train->overwrite)
        return ST_OK;
    const char *const files[2] = {model, train->checkpoint};
    for (int i = 0; i < 2; i++)
        if (access(files[i], F_OK) == 0)
            return err_set(err, ST_USAGE,
                           "%s exists: --resume goes on with its training, --overwrite begins anew",
                           files[i]);
    const char *const curves[2] = {train->csv, train->png}; /* a list of cases, say, is no curve */
    for (int i = 0; i < 2; i++)
        if (access(curves[i], F_OK) == 0)
            return err_set(
                err, ST_USAGE,
                "%s exists, where the curves go: give --out another name, or --overwrite "
                "to replace it",
                curves[i]);
    return ST_OK;
}

static void apply_window(const void *context, const int16_t *hu, const uint8_t *mask, int32_t n,
                         float *ret_x)
{
    window_slice(context, hu, mask, n, ret_x);
}

/* ---- reports ------------------------------------------------------------------------------- */

static void clear_line(Train *train)
{
    if (train->has_line)
        (void)fputs("\r\033[K", stderr);
    train->has_line = false;
}

static void on_note(void *context, const char *text)
{
    clear_line(context);
    (void)fputs("ct2mr: note: ", stderr);
    cli_print_text(stderr, text, 0);
    (void)fputc('\n', stderr);
}

/* On a terminal, once a second. */
static void on_step(void *context, const TrainProgress *p)
{
    Train *train = context;
    double now = (double)clock_monotonic_ms() * 1e-3;
    char left[32], of[16] = "";
    if (train->json || isatty(STDERR_FILENO) == 0 || now - train->line_s < 1)
        return;
    train->line_s = now;
    train->has_line = true;
    if (p->n_epochs > 0)
        (void)snprintf(of, sizeof of, "/%d", p->n_epochs);
    (void)fprintf(
        stderr, "\repoch %d%s  step %lld/%lld  loss %.4f  rate %.2e  %.2f slices/s  %s left\033[K",
        p->epoch, of, (long long)p->step, (long long)p->n_steps, p->loss, p->lr, p->slices_per_s,
        cli_duration_text((int64_t)(p->left_s * 1e3), left));
}

/* Of held-out cases; null where there are none. */
static void add_measured(cJSON *json, const char *key, double value, bool is_measured)
{
    (void)cJSON_AddItemToObject(json, key,
                                is_measured ? cJSON_CreateNumber(value) : cJSON_CreateNull());
}

static void print_row(const Train *train, const TrainRow *row, bool is_written)
{
    char elapsed[32];
    if (train->json) {
        cJSON *json = cJSON_CreateObject();
        (void)cJSON_AddNumberToObject(json, "epoch", row->epoch);
        (void)cJSON_AddNumberToObject(json, "step", (double)row->step);
        (void)cJSON_AddNumberToObject(json, "training_loss", row->training.total);
        const bool is_held = train->config.validation_frac > 0;
        add_measured(json, "validation_loss", row->validation.total, is_held);
        add_measured(json, "psnr_db", row->psnr_db, is_held);
        add_measured(json, "ssim", row->ssim, is_held);
        (void)cJSON_AddNumberToObject(json, "elapsed_s", row->elapsed_s);
        (void)cJSON_AddNumberToObject(json, "waited_frac", row->waited_frac);
        (void)cJSON_AddBoolToObject(json, "is_written", is_written);
        cli_print_json(json);
    } else {
        (void)printf("epoch %d: loss %.4f", row->epoch, row->training.total);
        if (train->config.validation_frac > 0)
            (void)printf(", held-out %.4f, PSNR %.2f dB, SSIM %.4f", row->validation.total,
                         row->psnr_db, row->ssim);
        (void)printf("%s, %s, waited for data %.1f %%\n", is_written ? " (model written)" : "",
                     cli_duration_text((int64_t)(row->elapsed_s * 1e3), elapsed),
                     100 * row->waited_frac);
    }
    (void)fflush(stdout);
}

static void on_epoch(void *context, const TrainRow *rows, int32_t n, bool is_written)
{
    Train *train = context;
    Err err = {0};
    clear_line(train);
    print_row(train, &rows[n - 1], is_written);
    Status status = train_curves_csv(train->csv, &train->spec, rows, n,
                                     train->config.validation_frac > 0, &err);
    if (status == ST_OK)
        status = train_curves_png(train->png, rows, n, train->config.validation_frac > 0, &err);
    if (status != ST_OK && !train->has_warned) /* worth a warning, not the end of a training */
        (void)cli_fail(&err, false);
    train->has_warned = train->has_warned || status != ST_OK;
}

static int report(const Train *train, const TrainResult *r)
{
    static const char *const ENDS[] = {"all epochs done", "no better for --patience epochs",
                                       "time is up", "stopped; --resume goes on"};
    char elapsed[32];
    if (train->json) {
        cJSON *json = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(json, "model", train->config.model);
        (void)cJSON_AddStringToObject(json, "end", ENDS[r->end]);
        (void)cJSON_AddNumberToObject(json, "epochs", r->epochs);
        (void)cJSON_AddNumberToObject(json, "steps", (double)r->steps);
        (void)cJSON_AddNumberToObject(json, "best_epoch", r->best_epoch);
        const bool is_measured = r->n_validation_slices > 0 && r->best_epoch > 0;
        add_measured(json, "psnr_db", r->psnr_db, is_measured);
        add_measured(json, "ssim", r->ssim, is_measured);
        (void)cJSON_AddNumberToObject(json, "training_slices", r->n_training_slices);
        (void)cJSON_AddNumberToObject(json, "validation_slices", r->n_validation_slices);
        (void)cJSON_AddNumberToObject(json, "elapsed_s", r->elapsed_s);
        cli_print_json(json);
    } else {
        (void)printf("%s: %d epochs, %lld steps in %s; %d slices of %d cases, held out %d of %d\n",
                     ENDS[r->end], r->epochs, (long long)r->steps,
                     cli_duration_text((int64_t)(r->elapsed_s * 1e3), elapsed),
                     r->n_training_slices, r->n_training_cases, r->n_validation_slices,
                     r->n_validation_cases);
        if (r->best_epoch == 0 && access(train->config.model, F_OK) == 0)
            (void)printf("%s is still the older model: no epoch was finished; --resume goes on",
                         train->config.model);
        else if (r->best_epoch == 0)
            (void)printf("no model yet: no epoch was finished; --resume goes on");
        else
            (void)printf("%s holds epoch %d", train->config.model, r->best_epoch);
        if (r->n_validation_slices > 0 && r->best_epoch > 0)
            (void)printf(": PSNR %.2f dB, SSIM %.4f", r->psnr_db, r->ssim);
        (void)printf("\n");
    }
    return r->end == TRAIN_STOPPED ? CLI_PARTIAL : CLI_OK;
}

static Status run(Train *train, TrainResult *result, Err *err)
{
    Pack *pack;
    Window *window = malloc(sizeof *window);
    if (window == NULL)
        return err_set(err, ST_NO_MEMORY, "the window's table");
    Status status = pack_open(train->data, &pack, err);
    if (status == ST_OK) {
        const PackInfo *info = pack_info(pack);
        status = window_init(info->window_level_hu, info->window_width_hu, IMAGENET_MEAN,
                             IMAGENET_STD, window, err);
        train->config.pack = pack;
        train->config.window = (LoaderWindow){window, apply_window};
        if (status == ST_OK)
            status = train_run(&train->config, result, err);
        pack_close(pack);
    }
    free(window);
    return status;
}

int cli_train(int argc, char **argv)
{
    static Train train; /* large */
    TrainResult result;
    Err err = {0};
    train = (Train){.config = train_defaults()};
    train.config.is_stopped = is_stopped;
    train.config.report = (TrainReport){&train, on_note, on_step, on_epoch};
    int code = get_options(argc, argv, &train);
    if (code != CLI_OK)
        return code;
    Status status = name_files(&train, &err);
    if (status == ST_OK)
        status = loss_parse(train.config.loss, &train.spec, &err);
    if (status == ST_OK && train.augment != NULL)
        status = augment_parse(train.augment, &train.config.augment, &err);
    if (status == ST_OK) {
        stop_wanted = 0;
        catch_signals();
        status = run(&train, &result, &err);
        clear_line(&train);
    }
    return status == ST_OK ? report(&train, &result) : cli_fail(&err, train.json);
}
