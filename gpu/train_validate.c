/* The held-out slices after an epoch: loss, PSNR and SSIM as the node would deliver them. */
#include "gpu/training_int.h"

#include "base/parallel.h"
#include "gpu/metrics.h"

#include <math.h>
#include <string.h>

typedef struct Validation {
    Training *t;
    int32_t first; /* of t->validation */
} Validation;

static int64_t pixels_of(const Training *t)
{
    return (int64_t)t->pack->pixels * t->pack->pixels;
}

static void fill_slice(void *context, int i)
{
    Validation *v = context;
    Training *t = v->t;
    const int64_t n = pixels_of(t);
    const LoaderWindow *window = &t->config->window;
    AugmentPair pair = augment_pair(t->work[i], t->config->pack, t->validation[v->first + i], 0,
                                    random_stream(0, 0, 0));
    window->apply(window->context, pair.hu, pair.mask, (int32_t)n, t->x + 3 * i * n);
    memcpy(t->t + i * n, pair.mr, (size_t)n * sizeof *t->t);
    t->samples[i].mask = pair.mask;
}

/* The result is 0 outside the mask and within 0..1; the real image is so already. */
static void measure_slice(void *context, int i)
{
    Validation *v = context;
    Training *t = v->t;
    TrainSample *sample = &t->samples[i];
    const int64_t n = pixels_of(t);
    float *p = t->p + i * n;
    const float *real = t->t + i * n;
    const uint8_t *mask = sample->mask;
    for (int64_t k = 0; k < n; k++)
        p[k] = mask[k] == 0 || p[k] < 0 ? 0 : p[k] > 1 ? 1 : p[k]; /* NaN stays */
    sample->psnr_db = metric_psnr_db(metric_mse(p, real, (size_t)n));
    sample->err = (Err){0};
    sample->status =
        metric_ssim(p, real, t->pack->pixels, t->pack->pixels, &sample->ssim, &sample->err);
}

/* n slices; sums are added to row, *ret_measured counts those with a head. */
static Status validate_batch(Validation *v, int32_t n, TrainRow *row, int32_t *measured, Err *err)
{
    Training *t = v->t;
    const float *z;
    LossValue value;
    parallel_for(t->threads, n, fill_slice, v);
    TRY(train_net_forward(t->net, t->x, n, false, &z, err));
    TRY(loss_run(t->loss, z, t->t, n, t->p, NULL, &value, err));
    parallel_for(t->threads, n, measure_slice, v);
    row->validation.total += n * value.total;
    for (int k = 0; k < LOSS_TERMS; k++)
        row->validation.term[k] += n * value.term[k];
    for (int32_t i = 0; i < n; i++) {
        const TrainSample *sample = &t->samples[i];
        if (sample->status != ST_OK) {
            *err = sample->err;
            return sample->status;
        }
        if (isnan(sample->psnr_db) || !isfinite(value.total))
            return err_set(err, ST_TRAIN_DIVERGED, "epoch %d: the network's result is no number",
                           row->epoch);
        if (isinf(sample->psnr_db)) /* nothing but background */
            continue;
        row->psnr_db += sample->psnr_db;
        row->ssim += sample->ssim;
        ++*measured;
    }
    return ST_OK;
}

Status training_validate(Training *t, TrainRow *row, bool *ret_stopped, Err *err)
{
    Validation v = {.t = t};
    int32_t measured = 0;
    *ret_stopped = false;
    for (v.first = 0; v.first < t->n_validation; v.first += t->batch) {
        const TrainConfig *c = t->config;
        if (c->is_stopped != NULL && c->is_stopped(c->report.context)) {
            *ret_stopped = true;
            return ST_OK;
        }
        int32_t n = t->n_validation - v.first;
        TRY(validate_batch(&v, n < t->batch ? n : t->batch, row, &measured, err));
    }
    if (t->n_validation > 0) {
        row->validation.total /= t->n_validation;
        for (int k = 0; k < LOSS_TERMS; k++)
            row->validation.term[k] /= t->n_validation;
    }
    if (measured > 0) {
        row->psnr_db /= measured;
        row->ssim /= measured;
    }
    return ST_OK;
}
