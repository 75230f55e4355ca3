/* See loader.h. Tickets are samples in the order of their use. A ring holds `ahead` batches; a
** thread takes a ticket whose batch has room in the ring, fills its place without the lock, and
** counts it. The batch in the caller's hands keeps its place until the next call. */
#include "gpu/loader.h"

#include "base/clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_THREADS = 64 };

struct Loader {
    LoaderOptions options;
    int32_t pixels;
    int64_t n_x, n_t;   /* numbers of one sample */
    float *x, *t;       /* [ahead][batch] samples */
    int32_t *filled;    /* [ahead] samples of the batch that are there */
    AugmentWork **work; /* [threads] */

    pthread_mutex_t lock; /* of what follows and filled */
    pthread_cond_t room, ready;
    int64_t ticket; /* next sample to make */
    int64_t step;   /* batch that loader_next() gives next */
    bool is_held;   /* batch step - 1 is in the caller's hands */
    bool is_ending;
    int32_t n_workers; /* that have taken their number */

    pthread_t threads[MAX_THREADS];
    int32_t n_threads;
};

void loader_sample(const Pack *pack, const LoaderWindow *window, int32_t slice, unsigned augment,
                   Random random, AugmentWork *work, float *ret_x, float *ret_t)
{
    const int32_t n = pack_info(pack)->pixels * pack_info(pack)->pixels;
    AugmentPair pair = augment_pair(work, pack, slice, augment, random);
    window->apply(window->context, pair.hu, pair.mask, n, ret_x);
    memcpy(ret_t, pair.mr, (size_t)n * sizeof *ret_t);
}

static void make(Loader *l, int64_t ticket, AugmentWork *work)
{
    const LoaderOptions *o = &l->options;
    int64_t step = ticket / o->batch, place = step % o->ahead * o->batch + ticket % o->batch;
    uint64_t epoch = (uint64_t)(step / o->steps_per_epoch);
    uint32_t j = (uint32_t)(step % o->steps_per_epoch * o->batch + ticket % o->batch);
    int32_t slice = o->slices[random_order(o->seed, epoch, (uint32_t)o->n_slices, j)];
    loader_sample(o->pack, &o->window, slice, o->augment, random_stream(o->seed, epoch, j), work,
                  l->x + place * l->n_x, l->t + place * l->n_t);
}

/* The oldest batch that is still needed. */
static int64_t oldest(const Loader *l)
{
    return l->is_held ? l->step - 1 : l->step;
}

static void *work(void *argument)
{
    Loader *l = argument;
    const int32_t batch = l->options.batch, ahead = l->options.ahead;
    (void)pthread_mutex_lock(&l->lock);
    AugmentWork *mine = l->work[l->n_workers++];
    for (;;) {
        while (!l->is_ending && l->ticket / batch >= oldest(l) + ahead)
            (void)pthread_cond_wait(&l->room, &l->lock);
        if (l->is_ending)
            break;
        int64_t ticket = l->ticket++;
        (void)pthread_mutex_unlock(&l->lock);
        make(l, ticket, mine);
        (void)pthread_mutex_lock(&l->lock);
        if (++l->filled[ticket / batch % ahead] == batch)
            (void)pthread_cond_signal(&l->ready);
    }
    (void)pthread_mutex_unlock(&l->lock);
    return NULL;
}

static Status reserve(Loader *l, Err *err)
{
    const LoaderOptions *o = &l->options;
    size_t samples = (size_t)o->ahead * (size_t)o->batch;
    l->x = calloc(samples * (size_t)l->n_x, sizeof *l->x);
    l->t = calloc(samples * (size_t)l->n_t, sizeof *l->t);
    l->filled = calloc((size_t)o->ahead, sizeof *l->filled);
    l->work = calloc((size_t)o->threads, sizeof *l->work);
    if (l->x == NULL || l->t == NULL || l->filled == NULL || l->work == NULL)
        return err_set(err, ST_NO_MEMORY, "%d batches of %d slices ahead", o->ahead, o->batch);
    for (int32_t i = 0; i < o->threads; i++)
        TRY(augment_work_open(l->pixels, &l->work[i], err));
    return ST_OK;
}

static Status start(Loader *l, Err *err)
{
    while (l->n_threads < l->options.threads) {
        int rc = pthread_create(&l->threads[l->n_threads], NULL, work, l);
        if (rc != 0)
            return err_sys(err, rc, "starting a loading thread");
        l->n_threads++;
    }
    return ST_OK;
}

Status loader_open(const LoaderOptions *options, Loader **ret, Err *err)
{
    Loader *l = calloc(1, sizeof *l);
    if (l == NULL)
        return err_set(err, ST_NO_MEMORY, "the loader");
    l->options = *options;
    if (l->options.threads > MAX_THREADS)
        l->options.threads = MAX_THREADS;
    l->pixels = pack_info(options->pack)->pixels;
    l->n_t = (int64_t)l->pixels * l->pixels;
    l->n_x = 3 * l->n_t;
    l->step = options->first_step;
    l->ticket = l->step * options->batch;
    (void)pthread_mutex_init(&l->lock, NULL);
    (void)pthread_cond_init(&l->room, NULL);
    (void)pthread_cond_init(&l->ready, NULL);
    Status status = reserve(l, err);
    if (status == ST_OK)
        status = start(l, err);
    if (status != ST_OK) {
        loader_close(l);
        return status;
    }
    *ret = l;
    return ST_OK;
}

void loader_close(Loader *l)
{
    if (l == NULL)
        return;
    (void)pthread_mutex_lock(&l->lock);
    l->is_ending = true;
    (void)pthread_cond_broadcast(&l->room);
    (void)pthread_mutex_unlock(&l->lock);
    for (int32_t i = 0; i < l->n_threads; i++)
        (void)pthread_join(l->threads[i], NULL);
    for (int32_t i = 0; l->work != NULL && i < l->options.threads; i++)
        augment_work_close(l->work[i]);
    (void)pthread_cond_destroy(&l->ready);
    (void)pthread_cond_destroy(&l->room);
    (void)pthread_mutex_destroy(&l->lock);
    free(l->x);
    free(l->t);
    free(l->filled);
    free(l->work);
    free(l);
}

void loader_next(Loader *l, const float **ret_x, const float **ret_t, double *ret_waited_s)
{
    const int32_t batch = l->options.batch, ahead = l->options.ahead;
    double began = clock_monotonic_s();
    (void)pthread_mutex_lock(&l->lock);
    if (l->is_held)
        l->filled[(l->step - 1) % ahead] = 0;
    l->is_held = false;
    (void)pthread_cond_broadcast(&l->room);
    while (l->filled[l->step % ahead] < batch)
        (void)pthread_cond_wait(&l->ready, &l->lock);
    int64_t place = l->step % ahead * batch;
    l->step++;
    l->is_held = true;
    (void)pthread_mutex_unlock(&l->lock);
    *ret_x = l->x + place * l->n_x;
    *ret_t = l->t + place * l->n_t;
    *ret_waited_s = clock_monotonic_s() - began;
}
