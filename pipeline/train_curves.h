/* The curves of a training (the paper's Figure 8): a table and a picture, written anew after each
** epoch. Thread: any. */
#ifndef CT2MR_PIPELINE_TRAIN_CURVES_H
#define CT2MR_PIPELINE_TRAIN_CURVES_H

#include "gpu/train.h"

/* CSV with one line per epoch; columns are named in the first. Terms that the loss has not are left
** out, and what is of held-out cases where there are none. Errors: IO, DISK_FULL, NO_MEMORY. */
MUST_CHECK Status train_curves_csv(const char *path, const LossSpec *spec, const TrainRow *rows,
                                   int32_t n, bool has_validation, Err *err);
/* PNG: loss of training and validation, PSNR and SSIM of validation over epochs; the last two only
** if there are held-out cases. Errors: as above. */
MUST_CHECK Status train_curves_png(const char *path, const TrainRow *rows, int32_t n,
                                   bool has_validation, Err *err);

#endif
