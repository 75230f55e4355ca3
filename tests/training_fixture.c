/* See training_fixture.h. */
#include "tests/training_fixture.h"

#include "base/files.h"
#include "tests/pack_fixture.h"
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

TrainConfig training_config(const Pack *pack)
{
    TrainConfig config = train_defaults();
    config.pack = pack;
    config.window = (LoaderWindow){NULL, pack_fixture_window};
    config.batch = 3;
    config.epochs = 3;
    config.schedule.warmup_steps = 2;
    config.validation_frac = 0.3;
    return config;
}

void training_see_step(void *context, const TrainProgress *progress)
{
    Seen *seen = context;
    seen->steps++;
    CHECK(progress->left_s >= 0 && progress->slices_per_s > 0 && progress->step >= 1);
}

static void see_epoch(void *context, const TrainRow *rows, int32_t n, bool is_written)
{
    Seen *seen = context;
    (void)is_written;
    seen->rows = n;
    seen->first_loss = rows[0].training.total;
    seen->last_loss = rows[n - 1].training.total;
    int32_t least = 0, most = 0;
    for (int32_t i = 1; i < n; i++) {
        least = rows[i].validation.total < rows[least].validation.total ? i : least;
        most = rows[i].psnr_db > rows[most].psnr_db ? i : most;
    }
    seen->least_loss = least + 1;
    seen->most_psnr = most + 1;
}

static bool stop(void *context)
{
    const Seen *seen = context;
    return seen->stop_after > 0 && seen->steps >= seen->stop_after;
}

TrainResult training_run(TrainConfig config, Seen *seen)
{
    TrainResult result;
    Err err = {0};
    config.report = (TrainReport){seen, NULL, training_see_step, see_epoch};
    config.is_stopped = stop;
    CHECK_OK(train_run(&config, &result, &err), &err);
    return result;
}

bool training_same_files(const char *a, const char *b)
{
    char *x, *y;
    size_t n, m;
    Err err = {0};
    CHECK_OK(file_read(a, 1 << 28, &x, &n, &err), &err);
    CHECK_OK(file_read(b, 1 << 28, &y, &m, &err), &err);
    bool same = n == m && memcmp(x, y, n) == 0;
    free(x);
    free(y);
    return same;
}
