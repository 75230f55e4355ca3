/* Batches of training pairs, made ahead of their use on threads of their own.
**
** Sample j of epoch e is slice random_order(e, j) of the training set, changed by stream (e, j): a
** pure function of the seed, whatever the number of threads and wherever the training was
** interrupted. Batches come in order. Thread: open, next and close belong to one. */
#ifndef CT2MR_GPU_LOADER_H
#define CT2MR_GPU_LOADER_H

#include "gpu/augment.h"

/* HU of one slice inside its mask -> the network's input (3, n), n pixels: pipeline/window.h, which
** this module may not know. Called on several threads at a time. */
typedef struct LoaderWindow {
    const void *context;
    void (*apply)(const void *context, const int16_t *hu, const uint8_t *mask, int32_t n,
                  float *ret_x);
} LoaderWindow;

typedef struct LoaderOptions { /* pack, slices: borrowed until close */
    const Pack *pack;
    LoaderWindow window;
    const int32_t *slices; /* of the pack; the training set */
    int32_t n_slices;
    int32_t batch, steps_per_epoch; /* steps_per_epoch * batch <= n_slices */
    int32_t threads, ahead;         /* >= 1; batches made ahead, >= 2 */
    unsigned augment;               /* bits of augment.h */
    uint64_t seed;
    int64_t first_step; /* counted from the training's beginning */
} LoaderOptions;

typedef struct Loader Loader;

/* Errors: NO_MEMORY. */
MUST_CHECK Status loader_open(const LoaderOptions *options, Loader **ret, Err *err);
void loader_close(Loader *loader); /* NULL is fine */
/* The next batch: x (batch, 3, h, w), t (batch, h, w), valid until the next call or close. Waits
** for it if need be; *ret_waited_s: how long. */
void loader_next(Loader *loader, const float **ret_x, const float **ret_t, double *ret_waited_s);

/* One sample: x (3, h, w), t (h, w). */
void loader_sample(const Pack *pack, const LoaderWindow *window, int32_t slice, unsigned augment,
                   Random random, AugmentWork *work, float *ret_x, float *ret_t);

#endif
