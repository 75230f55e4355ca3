/* Private to gpu/train.c and its parts: a training in memory. */
#ifndef CT2MR_GPU_TRAINING_INT_H
#define CT2MR_GPU_TRAINING_INT_H

#include "gpu/train.h"
#include "gpu/train_net.h"

#include <cjson/cJSON.h>

typedef struct TrainState { /* what a checkpoint holds beside tensors */
    int64_t step;
    LossValue sum; /* over the steps of this epoch so far */
    double norm_sum, waited_s;
    int64_t n_sum;
    double elapsed_s; /* of earlier runs */
    int32_t epochs_since_best;
    TrainRow best; /* epoch 0: none yet */
    int32_t n_rows, max_rows;
    TrainRow *rows; /* owned */
} TrainState;

typedef struct TrainSample { /* a slice of a validation batch */
    const uint8_t *mask;     /* of its AugmentWork */
    double psnr_db, ssim;
    Status status;
    Err err;
} TrainSample;

typedef struct Training {
    const TrainConfig *config;
    const PackInfo *pack;
    LossSpec spec;
    int32_t *training, *validation; /* slices; one allocation, owned by `training` */
    bool *is_held;                  /* [cases], owned */
    char *cases_text;               /* trained_cases.h; owned, cJSON_free() */
    int32_t n_training, n_validation, n_training_cases, n_validation_cases;
    int32_t n_folds; /* train_folds() */
    int32_t batch, threads, loader_threads;
    int64_t steps_per_epoch;
    char vgg_digest[13], encoder_digest[13]; /* first digits of the files'; "" without */

    Graph *graph;
    TrainNet *net;
    TrainParameter *parameters; /* the net's */
    int32_t n_parameters;
    Loss *loss;
    Optimizer *optimizer;
    Loader *loader;
    float *x, *t, *p, *dz; /* [batch] of a sample each; x and t for validation */
    AugmentWork **work;    /* [batch] for validation */
    TrainSample *samples;  /* [batch] */

    TrainState state;
    float **best;       /* [n_parameters][its n]: weights of state.best, owned */
    int64_t first_step; /* of this run */
    bool is_saved;      /* the checkpoint is of this very state */
    double began_s, saved_s;
} Training;

/* The whole training's time so far. train.c */
double training_elapsed_s(const Training *t);

/* A checkpoint's header holds the rows and has a limit: beyond it every second, fourth, ... epoch
** is kept, and the last. */
enum { TRAIN_MAX_ROWS = 2048 };
MUST_CHECK Status training_add_row(TrainState *state, const TrainRow *row, Err *err);

/* Splits the cases. train_split.c. Errors: USAGE, LIMIT, NO_MEMORY. */
MUST_CHECK Status training_split(Training *t, Err *err);

/* Computes the held-out slices. *ret_stopped: given up because a person wants to stop.
** train_validate.c */
MUST_CHECK Status training_validate(Training *t, TrainRow *row, bool *ret_stopped, Err *err);

/* The model file's metadata can be read again (for `envelope`, `label`, `licence`); writes the
** model of the best epoch. train_model.c */
MUST_CHECK Status training_check_metadata(const Training *t, Err *err);
MUST_CHECK Status training_write_model(const Training *t, Err *err);

/* The best epoch's weights. They are in the checkpoint, too, so that the model file can be written
** again: it is what a training gives, not what it goes on from. train_best.c */
MUST_CHECK Status training_best_open(Training *t, Err *err);
void training_best_close(Training *t);
/* The present weights, of that row. */
void training_best_take(Training *t, const TrainRow *row);
/* Writes the model file unless its tensors are the best epoch's (one calibrated since stays).
** *ret_written: so it was. Errors: those of training_write_model(). */
MUST_CHECK Status training_best_restore(const Training *t, bool *ret_written, Err *err);

/* A status of model_write_new() as one of training: what it calls malformed has diverged. */
Status training_write_status(Status status, Err *err);

/* What makes a training the same training: of configuration, data and weights. The caller deletes.
** train_model.c */
cJSON *training_recipe(const Training *t);

/* checkpoint.c. Errors of load: CHECKPOINT (there is none, it is damaged), USAGE (another recipe or
** number of threads), IO, NO_MEMORY. */
MUST_CHECK Status checkpoint_save(Training *t, Err *err);
MUST_CHECK Status checkpoint_load(Training *t, Err *err);

/* CHECKPOINT.lock, until it is unlocked or the process ends. train_lock.c. Errors: TRAIN_RUNS,
** IO. */
MUST_CHECK Status training_lock(const TrainConfig *config, int *ret_fd, Err *err);
void training_unlock(const TrainConfig *config, int fd);

#endif
