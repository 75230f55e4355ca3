/* The loop. See train.h; training_int.h says which file does what. */
#include "gpu/train.h"

#include "base/clock.h"
#include "base/parallel.h"
#include "gpu/network.h"
#include "gpu/train_init.h"
#include "gpu/train_trust.h"
#include "gpu/trained_cases.h"
#include "gpu/training_int.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AHEAD = 3, MAX_LOADERS = 8, PROCESSORS_PER_LOADER = 4 };

TrainConfig train_defaults(void)
{
    return (TrainConfig){.arch = ARCH_DRUNET34,
                         .width = 64,
                         .activation = ACTIVATION_SIGMOID,
                         .loss = "bce+2*l1+2*gradient",
                         .optimizer = {.beta1 = 0.9,
                                       .beta2 = 0.999,
                                       .epsilon = 1e-8,
                                       .weight_decay = 1e-4,
                                       .clip = 1},
                         .schedule = {.kind = SCHEDULE_COSINE,
                                      .lr = 1e-3,
                                      .lr_min = 1e-5,
                                      .step_factor = 0.1,
                                      .step_epochs = 30,
                                      .warmup_steps = 100},
                         .batch = 5,
                         .epochs = 100,
                         .validation_frac = 0.1,
                         .augment = AUGMENT_ALL & ~(1u << AUGMENT_ROTATE90),
                         .seed = 1,
                         .backend = "cpu",
                         .checkpoint_s = 300};
}

double training_elapsed_s(const Training *t)
{
    return t->state.elapsed_s + clock_monotonic_s() - t->began_s;
}

static void note(const Training *t, const char *text)
{
    if (t->config->report.note != NULL)
        t->config->report.note(t->config->report.context, text);
}

static bool is_over(const Training *t, TrainEnd *ret)
{
    const TrainConfig *c = t->config;
    if (c->epochs > 0 && t->state.step >= c->epochs * t->steps_per_epoch)
        *ret = TRAIN_DONE;
    else if (c->minutes > 0 && training_elapsed_s(t) >= 60 * c->minutes)
        *ret = TRAIN_TIME;
    else if (c->patience > 0 && t->state.epochs_since_best >= c->patience)
        *ret = TRAIN_EARLY;
    else
        return false;
    return true;
}

/* ---- opening ------------------------------------------------------------------------------- */

static Status check_config(Training *t, Err *err)
{
    const TrainConfig *c = t->config;
    TRY(loss_parse(c->loss, &t->spec, err));
    if (c->epochs <= 0 && !(c->minutes > 0))
        return err_set(err, ST_USAGE, "neither a number of epochs nor of minutes");
    TRY(training_split(t, err));
    int32_t n = t->n_training;
    if (c->epoch_slices > 0 && c->epoch_slices < n)
        n = c->epoch_slices;
    t->batch = c->batch < n ? c->batch : n;
    t->steps_per_epoch = n / t->batch;
    t->threads = c->threads > 0 ? c->threads : parallel_processors();
    int32_t loaders = t->threads / PROCESSORS_PER_LOADER;
    t->loader_threads = c->loader_threads > 0   ? c->loader_threads
                        : loaders < 1           ? 1
                        : loaders > MAX_LOADERS ? MAX_LOADERS
                                                : loaders;
    return ST_OK;
}

/* The first digits of a file's SHA-256; every byte of it has been checked. */
static Status open_weights(const char *path, Model **ret, char ret_digest[13], Err *err)
{
    TRY(model_open_tensors(path, ret, err));
    (void)snprintf(ret_digest, 13, "%.12s", model_info(*ret)->digest);
    return ST_OK;
}

/* Held-out cases that the encoder's own training has used are no test of this one. */
static Status note_known(const Training *t, const Model *encoder, Err *err)
{
    char text[ERR_MSG_SIZE];
    CaseUse *use = calloc((size_t)t->pack->n_cases, sizeof *use);
    if (use == NULL)
        return err_set(err, ST_NO_MEMORY, "%d cases", t->pack->n_cases);
    int32_t n = 0;
    (void)trained_cases_find(encoder, t->config->pack, use);
    for (int32_t c = 0; c < t->pack->n_cases; c++)
        n += t->is_held[c] && use[c] == CASE_TRAINED;
    free(use);
    (void)snprintf(text, sizeof text,
                   "%s was trained on %d of the %d held-out cases: their figures are no test",
                   model_info(encoder)->name, n, t->n_validation_cases);
    if (n > 0)
        note(t, text);
    return ST_OK;
}

/* What says that it was trained, and not on which cases, would let those pass as held out. */
static Status check_encoder(const Model *file, Err *err)
{
    const char *format = model_metadata(file, "format");
    if (format != NULL && strcmp(format, "ct2mr-model-1") != 0)
        return err_set(err, ST_USAGE,
                       "--encoder: a checkpoint does not say which cases it was trained on: give "
                       "its model file");
    return ST_OK;
}

/* A model of ours whose training, if it had one, is not said. */
static bool has_unknown_past(const Model *file)
{
    const char *training = model_metadata(file, "training");
    return model_metadata(file, "format") != NULL &&
           model_metadata(file, TRAINED_CASES_KEY) == NULL &&
           (training == NULL || strstr(training, "\"untrained\"") == NULL);
}

static Status init_from_encoder(Training *t, const Model *file, Err *err)
{
    char text[ERR_MSG_SIZE];
    int32_t n;
    TRY(check_encoder(file, err));
    TRY(train_init_encoder(t->net, file, &n, err));
    (void)snprintf(text, sizeof text, "%d of %d tensors from %s", n, t->n_parameters,
                   model_info(file)->name);
    note(t, text);
    if (has_unknown_past(file)) { /* nor will this one's be, which eval then says */
        note(t,
             "the encoder's file does not say which cases it was trained on: whether the held-out "
             "figures are a test cannot be told");
        return ST_OK;
    }
    TRY(note_known(t, file, err));
    return trained_cases_text(t->config->pack, t->is_held, file, &t->cases_text, err);
}

static Status init_weights(Training *t, Err *err)
{
    Model *file;
    train_init_random(t->net, t->config->seed);
    if (t->config->encoder == NULL)
        return trained_cases_text(t->config->pack, t->is_held, NULL, &t->cases_text, err);
    TRY(open_weights(t->config->encoder, &file, t->encoder_digest, err));
    Status status = init_from_encoder(t, file, err);
    model_close(file);
    return status;
}

/* What has never run on a card is not believed: see train_trust.h. */
static Status check_backend(const Training *t, Err *err)
{
    const TrainConfig *c = t->config;
    const TrainOptions options = {
        .backend = c->backend, .precision = c->precision, .threads = t->threads};
    TrainDistances d;
    char text[160];
    if (strcmp(c->backend, "cuda") != 0)
        return ST_OK;
    TRY(train_trust(c->arch, &options, &d, err));
    (void)snprintf(text, sizeof text,
                   "backend cuda agrees with ref in a small network: gradients to %.2g, the worst "
                   "to %.2g",
                   d.gradients, d.worst);
    note(t, text);
    return ST_OK;
}

static Status open_net(Training *t, Err *err)
{
    const TrainConfig *c = t->config;
    const ModelInfo info = {.arch = c->arch, .width = c->width, .activation = ACTIVATION_LINEAR};
    if ((t->graph = malloc(sizeof *t->graph)) == NULL)
        return err_set(err, ST_NO_MEMORY, "the network's table");
    TRY(network_build(&info, t->pack->pixels, t->pack->pixels, t->graph, err));
    const TrainOptions options = {
        .backend = c->backend, .precision = c->precision, .batch = t->batch, .threads = t->threads};
    TRY(train_net_open(t->graph, &options, &t->net, err));
    t->parameters = train_net_parameters(t->net, &t->n_parameters);
    TRY(init_weights(t, err));
    OptimizerOptions optimizer = c->optimizer;
    optimizer.threads = t->threads;
    return optimizer_open(t->parameters, t->n_parameters, &optimizer, &t->optimizer, err);
}

static Status open_loss(Training *t, Err *err)
{
    const TrainConfig *c = t->config;
    const bool is_contextual = t->spec.weight[LOSS_CONTEXTUAL] > 0;
    const LossOptions options = {.spec = t->spec,
                                 .activation = c->activation,
                                 .batch = t->batch,
                                 .height = t->pack->pixels,
                                 .width = t->pack->pixels,
                                 .threads = t->threads,
                                 .vgg = is_contextual ? c->vgg : NULL,
                                 .backend = c->backend,
                                 .precision = c->precision};
    if (is_contextual && c->vgg == NULL)
        note(t, "no weights of VGG-19: the contextual loss compares normalised image patches");
    if (options.vgg != NULL) {
        Model *file;
        TRY(open_weights(c->vgg, &file, t->vgg_digest, err));
        model_close(file);
    }
    return loss_open(&options, &t->loss, err);
}

static Status reserve(Training *t, Err *err)
{
    size_t batch = (size_t)t->batch, n = (size_t)t->pack->pixels * (size_t)t->pack->pixels * batch;
    t->x = calloc(3 * n, sizeof *t->x);
    t->t = calloc(n, sizeof *t->t);
    t->p = calloc(n, sizeof *t->p);
    t->dz = calloc(n, sizeof *t->dz);
    t->work = calloc(batch, sizeof *t->work);
    t->samples = calloc(batch, sizeof *t->samples);
    t->state.max_rows = 1;
    t->state.rows = calloc(1, sizeof *t->state.rows);
    if (t->x == NULL || t->t == NULL || t->p == NULL || t->dz == NULL || t->work == NULL ||
        t->samples == NULL || t->state.rows == NULL)
        return err_set(err, ST_NO_MEMORY, "batches of %d slices", t->batch);
    for (size_t i = 0; i < batch; i++)
        TRY(augment_work_open(t->pack->pixels, &t->work[i], err));
    return ST_OK;
}

static Status open_loader(Training *t, Err *err)
{
    const LoaderOptions options = {.pack = t->config->pack,
                                   .window = t->config->window,
                                   .slices = t->training,
                                   .n_slices = t->n_training,
                                   .batch = t->batch,
                                   .steps_per_epoch = (int32_t)t->steps_per_epoch,
                                   .threads = t->loader_threads,
                                   .ahead = AHEAD,
                                   .augment = t->config->augment,
                                   .seed = t->config->seed,
                                   .first_step = t->state.step};
    return loader_open(&options, &t->loader, err);
}

/* Killed between checkpoint and model file, or the file is gone, or another's. */
static Status restore_model(Training *t, Err *err)
{
    char text[ERR_MSG_SIZE];
    bool is_written;
    TRY(training_best_restore(t, &is_written, err));
    (void)snprintf(text, sizeof text, "%s did not hold epoch %d: written from the checkpoint",
                   t->config->model, t->state.best.epoch);
    if (is_written)
        note(t, text);
    return ST_OK;
}

/* From here on `--resume` goes on with this training, not with one that was there before. */
static Status save(Training *t, Err *err)
{
    TRY(checkpoint_save(t, err));
    t->saved_s = clock_monotonic_s();
    t->is_saved = true;
    return ST_OK;
}

static Status open_all(Training *t, Err *err)
{
    TRY(check_config(t, err));
    TRY(check_backend(t, err));
    TRY(open_net(t, err));
    TRY(open_loss(t, err));
    TRY(reserve(t, err));
    TRY(training_check_metadata(t, err));
    TRY(training_best_open(t, err));
    if (t->config->resume) {
        TRY(checkpoint_load(t, err));
        TRY(restore_model(t, err));
    }
    TRY(train_net_changed(t->net, err));
    return open_loader(t, err);
}

static void close_all(Training *t)
{
    loader_close(t->loader);
    training_best_close(t);
    optimizer_close(t->optimizer);
    loss_close(t->loss);
    train_net_close(t->net);
    for (int32_t i = 0; t->work != NULL && i < t->batch; i++)
        augment_work_close(t->work[i]);
    free(t->work);
    free(t->samples);
    free(t->graph);
    free(t->training);
    free(t->is_held);
    cJSON_free(t->cases_text);
    free(t->x);
    free(t->t);
    free(t->p);
    free(t->dz);
    free(t->state.rows);
}

/* ---- the loop ------------------------------------------------------------------------------ */

/* 0..1 of the whole training when `step` steps are done. */
static double done_frac(const Training *t, int64_t step)
{
    const TrainConfig *c = t->config;
    double done = 0;
    if (c->epochs > 0)
        done = (double)step / ((double)c->epochs * (double)t->steps_per_epoch);
    if (c->minutes > 0) {
        double by_time = training_elapsed_s(t) / (60 * c->minutes);
        done = by_time > done ? by_time : done;
    }
    return done;
}

/* Of the step after `step` others. */
static double learning_rate(const Training *t, int64_t step)
{
    int32_t epoch = (int32_t)(step / t->steps_per_epoch);
    Schedule schedule = t->config->schedule;
    int64_t tenth = t->config->epochs * t->steps_per_epoch / 10;
    if (t->config->epochs > 0 && schedule.warmup_steps > tenth)
        schedule.warmup_steps = tenth;
    return schedule_lr(&schedule, step, epoch, done_frac(t, step));
}

static void report_step(const Training *t, double lr)
{
    const TrainConfig *c = t->config;
    const TrainState *s = &t->state;
    if (c->report.step == NULL)
        return;
    double run_s = clock_monotonic_s() - t->began_s;
    double steps = (double)(s->step - t->first_step);
    TrainProgress progress = {.epoch = (int32_t)((s->step - 1) / t->steps_per_epoch) + 1,
                              .n_epochs = c->epochs,
                              .step = (s->step - 1) % t->steps_per_epoch + 1,
                              .n_steps = t->steps_per_epoch,
                              .loss = s->sum.total / (double)s->n_sum,
                              .lr = lr,
                              .slices_per_s = steps * t->batch / run_s};
    if (c->epochs > 0)
        progress.left_s =
            run_s / steps * ((double)c->epochs * (double)t->steps_per_epoch - (double)s->step);
    double time_left_s = 60 * c->minutes - training_elapsed_s(t);
    if (c->minutes > 0 && (c->epochs == 0 || time_left_s < progress.left_s))
        progress.left_s = time_left_s > 0 ? time_left_s : 0;
    c->report.step(c->report.context, &progress);
}

static Status one_step(Training *t, Err *err)
{
    TrainState *s = &t->state;
    const float *x, *real, *z;
    double waited, norm, lr = learning_rate(t, s->step);
    LossValue value;
    loader_next(t->loader, &x, &real, &waited);
    TRY(train_net_forward(t->net, x, t->batch, true, &z, err));
    TRY(loss_run(t->loss, z, real, t->batch, t->p, t->dz, &value, err));
    TRY(train_net_backward(t->net, t->dz, NULL, err));
    TRY(optimizer_step(t->optimizer, lr, &norm, err));
    TRY(train_net_changed(t->net, err));
    s->step++;
    s->n_sum++;
    s->sum.total += value.total;
    for (int k = 0; k < LOSS_TERMS; k++)
        s->sum.term[k] += value.term[k];
    s->norm_sum += norm;
    s->waited_s += waited;
    report_step(t, lr);
    return ST_OK;
}

/* Epochs that are multiples of it fit beside each other, and the last one. */
static int32_t row_stride(int32_t epoch)
{
    int32_t stride = 1;
    while (epoch / stride >= TRAIN_MAX_ROWS)
        stride *= 2;
    return stride;
}

static void thin_rows(TrainState *s, int32_t stride)
{
    int32_t n = 0;
    for (int32_t i = 0; i < s->n_rows; i++)
        if (s->rows[i].epoch % stride == 0)
            s->rows[n++] = s->rows[i];
    s->n_rows = n;
}

Status training_add_row(TrainState *s, const TrainRow *row, Err *err)
{
    const int32_t stride = row_stride(row->epoch), last = s->n_rows - 1;
    if (last >= 0 && (s->rows[0].epoch % stride != 0 || s->rows[last].epoch % stride != 0))
        thin_rows(s, stride);
    if (s->n_rows == TRAIN_MAX_ROWS) /* epochs that were begun twice */
        thin_rows(s, 2 * stride);
    if (s->n_rows == s->max_rows) {
        TrainRow *more = realloc(s->rows, 2 * (size_t)s->max_rows * sizeof *more);
        if (more == NULL)
            return err_set(err, ST_NO_MEMORY, "%d epochs", s->n_rows);
        s->rows = more;
        s->max_rows *= 2;
    }
    s->rows[s->n_rows++] = *row;
    return ST_OK;
}

/* The training part of a row: means over the steps since the last one. */
static TrainRow begin_row(const Training *t)
{
    const TrainState *s = &t->state;
    double n = (double)s->n_sum;
    double before_s = s->n_rows > 0 ? s->rows[s->n_rows - 1].elapsed_s : 0;
    TrainRow row = {.epoch = (int32_t)((s->step - 1) / t->steps_per_epoch) + 1,
                    .step = s->step,
                    .lr = learning_rate(t, s->step - 1),
                    .gradient_norm = s->norm_sum / n,
                    .elapsed_s = training_elapsed_s(t)};
    row.waited_frac = s->waited_s / (row.elapsed_s - before_s);
    row.training.total = s->sum.total / n;
    for (int k = 0; k < LOSS_TERMS; k++)
        row.training.term[k] = s->sum.term[k] / n;
    return row;
}

/* By PSNR; a contextual loss is there for what PSNR punishes, so it judges itself. */
static bool is_best_row(const Training *t, const TrainRow *row)
{
    const TrainState *s = &t->state;
    if (s->best.epoch == 0 || t->n_validation == 0)
        return true;
    return t->spec.weight[LOSS_CONTEXTUAL] > 0 ? row->validation.total < s->best.validation.total
                                               : row->psnr_db > s->best.psnr_db;
}

/* Validation, the model if it is the best, the row. *ret_stopped: given up for a person. */
static Status end_epoch(Training *t, bool *ret_stopped, Err *err)
{
    TrainState *s = &t->state;
    TrainRow row = begin_row(t);
    TRY(training_validate(t, &row, ret_stopped, err));
    if (*ret_stopped)
        return ST_OK;
    bool is_best = is_best_row(t, &row);
    row.elapsed_s = training_elapsed_s(t);
    if (is_best)
        training_best_take(t, &row);
    const bool is_whole = s->step % t->steps_per_epoch == 0; /* else the time was up within it */
    s->epochs_since_best = is_best ? 0 : s->epochs_since_best + is_whole;
    TRY(training_add_row(s, &row, err));
    s->n_sum = 0;
    s->sum = (LossValue){0};
    s->norm_sum = s->waited_s = 0;
    t->is_saved = false;
    if (is_best) { /* in this order: what the checkpoint holds can be written again */
        TRY(save(t, err));
        TRY(training_write_model(t, err));
    }
    const TrainReport *report = &t->config->report;
    if (report->epoch != NULL)
        report->epoch(report->context, s->rows, s->n_rows, is_best);
    return ST_OK;
}

/* An epoch has ended, or the whole training within one, and has not been validated. */
static bool is_due(const Training *t)
{
    TrainEnd end;
    return t->state.n_sum > 0 && (t->state.step % t->steps_per_epoch == 0 || is_over(t, &end));
}

static Status loop(Training *t, TrainEnd *ret, Err *err)
{
    const TrainConfig *c = t->config;
    bool is_stopped = false;
    for (;;) {
        if (is_due(t))
            TRY(end_epoch(t, &is_stopped, err));
        if (is_stopped || (c->is_stopped != NULL && c->is_stopped(c->report.context))) {
            *ret = TRAIN_STOPPED;
            return ST_OK;
        }
        if (is_over(t, ret))
            return ST_OK;
        TRY(one_step(t, err));
        t->is_saved = false;
        if (clock_monotonic_s() - t->saved_s >= c->checkpoint_s)
            TRY(save(t, err));
    }
}

static Status train(Training *t, TrainResult *result, Err *err)
{
    if (!t->config->resume)
        TRY(save(t, err));
    t->is_saved = true;
    TRY(loop(t, &result->end, err));
    const TrainState *s = &t->state;
    if (!t->is_saved)
        TRY(save(t, err));
    result->epochs = (int32_t)(s->step / t->steps_per_epoch);
    result->steps = s->step;
    result->best_epoch = s->best.epoch;
    result->psnr_db = s->best.psnr_db;
    result->ssim = s->best.ssim;
    result->n_training_cases = t->n_training_cases;
    result->n_validation_cases = t->n_validation_cases;
    result->n_training_slices = t->n_training;
    result->n_validation_slices = t->n_validation;
    result->elapsed_s = training_elapsed_s(t);
    return ST_OK;
}

static Status run(const TrainConfig *config, TrainResult *ret, Err *err)
{
    Training training = {.config = config, .pack = pack_info(config->pack)}, *t = &training;
    TrainResult result = {0};
    t->began_s = t->saved_s = clock_monotonic_s();
    Status status = open_all(t, err);
    t->first_step = t->state.step;
    t->began_s = t->saved_s = clock_monotonic_s(); /* the time of opening is not trained */
    if (status == ST_OK)
        status = train(t, &result, err);
    close_all(t);
    if (status == ST_OK)
        *ret = result;
    return status;
}

Status train_run(const TrainConfig *config, TrainResult *ret, Err *err)
{
    Err own = {0};
    int lock = -1;
    Status status = training_lock(config, &lock, &own);
    if (status == ST_OK) {
        status = run(config, ret, &own);
        training_unlock(config, lock);
    }
    if (status != ST_OK && err != NULL)
        *err = own;
    return status;
}
