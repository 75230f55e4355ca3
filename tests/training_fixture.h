/* What the tests of whole trainings (gpu/train.h) share: a small recipe, a run that is watched, and
** whether two files are the same. */
#ifndef CT2MR_TESTS_TRAINING_FIXTURE_H
#define CT2MR_TESTS_TRAINING_FIXTURE_H

#include "gpu/train.h"

typedef struct Seen {
    int32_t steps, rows;
    int32_t stop_after; /* set by the test: ends as Ctrl-C does after so many steps; 0: never */
    double first_loss, last_loss;
    int32_t least_loss, most_psnr; /* epochs, of the held-out slices */
} Seen;

/* 3 epochs of batches of 3, three tenths held out, of a file of pack_fixture_write(). Without
** network, backend and paths. */
TrainConfig training_config(const Pack *pack);
TrainResult training_run(TrainConfig config, Seen *seen);
void training_see_step(void *seen, const TrainProgress *progress);
bool training_same_files(const char *a, const char *b);

#endif
