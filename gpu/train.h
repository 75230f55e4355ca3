/* Training a model on a packed file: the loop over epochs, validation, the files it leaves.
**
** The cases are split, never the slices. After each epoch the held-out cases are computed (running
** statistics, result 0 outside the mask, as the node delivers it); the model file is written when
** their mean PSNR is the best so far. The checkpoint holds all else: parameters, moments, position.
**
** Bits: the same configuration and seed give the same model, and a training that was interrupted
** and resumed gives the same as one that was not, as far as the backend's bits allow (train_net.h:
** of cpu, for one number of threads) and unless time limits the training. Nothing is printed.
** Thread: train_run() belongs to one thread and uses several; callbacks come on the caller's. */
#ifndef CT2MR_GPU_TRAIN_H
#define CT2MR_GPU_TRAIN_H

#include "gpu/loader.h"
#include "gpu/loss.h"
#include "gpu/optimizer.h"
#include "gpu/schedule.h"

typedef struct TrainRow { /* of an epoch */
    int32_t epoch;        /* 1.. */
    int64_t step;         /* steps of the whole training at its end */
    double lr;            /* of its last step */
    LossValue training;   /* mean over its steps */
    LossValue validation; /* mean over the held-out slices; 0 without any */
    double psnr_db, ssim; /* means over the held-out slices that hold a head; 0 without any */
    double gradient_norm; /* mean, before clipping */
    double elapsed_s;     /* of the whole training, at its end */
    double waited_frac;   /* share of the epoch's time that the loop waited for data */
} TrainRow;

typedef struct TrainProgress {
    int32_t epoch;         /* 1.. */
    int32_t n_epochs;      /* 0: as many as the time allows */
    int64_t step, n_steps; /* within the epoch */
    double loss, lr;       /* loss: mean of the epoch so far */
    double slices_per_s, left_s;
} TrainProgress;

typedef struct TrainReport { /* any may be NULL */
    void *context;
    void (*note)(void *context, const char *text);
    void (*step)(void *context, const TrainProgress *progress);
    /* rows[n - 1] is new; all of the training, before a resume too (of more than 2048 epochs every
    ** second, fourth, ...). is_written: so is the file. */
    void (*epoch)(void *context, const TrainRow *rows, int32_t n, bool is_written);
} TrainReport;

typedef struct TrainConfig { /* pointers are borrowed */
    const Pack *pack;
    LoaderWindow window; /* of the pack's level and width and ImageNet's mean and deviation */
    ModelArch arch;
    int32_t width;
    ModelActivation activation;
    const char *loss;          /* loss.h */
    const char *vgg, *encoder; /* files of weights, or NULL */
    OptimizerOptions optimizer;
    Schedule schedule;      /* its warm-up is cut to a tenth of the steps where they are known */
    int32_t batch;          /* slices per step; fewer if there are fewer */
    int32_t epochs;         /* 0: only `minutes` limits */
    double minutes;         /* 0: only `epochs` limits */
    int32_t epoch_slices;   /* an epoch is that many slices of the training set; 0: all */
    double validation_frac; /* one of train_folds() is held out; 0: none */
    int32_t fold;           /* which one */
    int32_t patience;       /* epochs without a better PSNR until it ends; 0: no early end */
    unsigned augment;
    uint64_t seed;
    const char *backend; /* train_net.h */
    Precision precision;
    int32_t threads, loader_threads;   /* 0: as this machine has them */
    const char *model, *checkpoint;    /* files to write */
    double checkpoint_s;               /* between checkpoints; one more is written at the end */
    bool resume;                       /* from the checkpoint */
    bool is_f16;                       /* the model's tensors are F16 */
    const char *label, *licence;       /* metadata; NULL: none */
    const char *envelope;              /* metadata, JSON; NULL: none */
    bool (*is_stopped)(void *context); /* asked after each step; NULL: never */
    TrainReport report;
} TrainConfig;

typedef enum TrainEnd { TRAIN_DONE, TRAIN_EARLY, TRAIN_TIME, TRAIN_STOPPED } TrainEnd;

typedef struct TrainResult {
    TrainEnd end;
    int32_t epochs; /* finished */
    int64_t steps;
    int32_t best_epoch;   /* whose weights the model file holds; 0: none, it was not written */
    double psnr_db, ssim; /* of the best epoch */
    int32_t n_training_cases, n_validation_cases, n_training_slices, n_validation_slices;
    double elapsed_s, waited_s;
} TrainResult;

/* The defaults: what `ct2mr train` does when nothing else is said. pack, window and the files are
** left empty. */
TrainConfig train_defaults(void);
/* Errors: USAGE (loss, split, a recipe or number of threads other than the checkpoint's), LIMIT
** (no room for a batch, sizes), MODEL_FORMAT (weights, metadata that no model may have),
** MODEL_UNFIT (weights of another network), MODEL_NOT_FOUND (weights; the model of a training that
** is over and would be resumed), CHECKPOINT (missing,
** damaged), TRAIN_RUNS (another training has these files), TRAIN_DIVERGED (the training
** diverged: the last checkpoint stands), BACKEND, IO, DISK_FULL, NO_MEMORY. */
MUST_CHECK Status train_run(const TrainConfig *config, TrainResult *ret, Err *err);

#define TRAIN_MAX_VALIDATION 0.5
/* Into how many folds the cases are cut: the whole number nearest to 1 / validation_frac, at most
** one for each case; 0 without validation. Pure. */
int32_t train_folds(double validation_frac, int32_t n_cases);
/* Which cases a training with that seed holds out: the shuffled cases are cut into pieces that
** differ by at most one, and each belongs to one fold. folds: 1..n_cases; fold: 0..folds - 1.
** ret_held: [n_cases]. Pure. */
void train_held_out(uint64_t seed, int32_t n_cases, int32_t folds, int32_t fold, bool *ret_held);

#endif
