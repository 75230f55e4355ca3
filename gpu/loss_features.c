/* The contextual loss of images: their features, slice by slice, then the core.
**
** Without VGG-19's weights the features are patches: squares of 2 s x 2 s pixels, s apart, s such
** that there are at most 31 x 31. See loss_contextual.h. */
#include "gpu/loss_contextual.h"

#include "base/parallel.h"
#include "gpu/vgg.h"

#include <stdlib.h>
#include <string.h>

enum { MIN_STRIDE = 8, MAX_STRIDES = 32 };

struct Contextual {
    LossOptions options;
    Vgg *vgg;                      /* NULL: patches */
    int32_t stride, rows, columns; /* of points */
    int32_t c, n;                  /* channels and points of one image's features */
    float *s, *r, *ds;             /* [batch][c][n]; s NULL with VGG, which owns it */
    ContextualWork **work;         /* [batch] */
    double *values;                /* [batch] */
};

static void set_sizes(Contextual *x)
{
    const LossOptions *o = &x->options;
    if (x->vgg != NULL) {
        x->c = vgg_channels(x->vgg);
        x->rows = o->height / VGG_STRIDE;
        x->columns = o->width / VGG_STRIDE;
    } else {
        int32_t side = o->height > o->width ? o->height : o->width;
        x->stride = side / MAX_STRIDES > MIN_STRIDE ? side / MAX_STRIDES : MIN_STRIDE;
        x->c = 4 * x->stride * x->stride;
        x->rows = o->height / x->stride - 1;
        x->columns = o->width / x->stride - 1;
    }
    x->n = x->rows * x->columns;
}

static Status reserve(Contextual *x, Err *err)
{
    size_t batch = (size_t)x->options.batch, n = batch * (size_t)x->c * (size_t)x->n;
    x->r = calloc(n, sizeof *x->r);
    x->ds = calloc(n, sizeof *x->ds);
    x->work = calloc(batch, sizeof *x->work);
    x->values = calloc(batch, sizeof *x->values);
    if (x->options.vgg == NULL)
        x->s = calloc(n, sizeof *x->s);
    if (x->r == NULL || x->ds == NULL || x->work == NULL || x->values == NULL ||
        (x->options.vgg == NULL && x->s == NULL))
        return err_set(err, ST_NO_MEMORY, "features of %d slices", x->options.batch);
    for (size_t i = 0; i < batch; i++)
        TRY(contextual_work_open(x->c, x->n, &x->work[i], err));
    return ST_OK;
}

Status contextual_open(const LossOptions *options, Contextual **ret, Err *err)
{
    Contextual *x = calloc(1, sizeof *x);
    if (x == NULL)
        return err_set(err, ST_NO_MEMORY, "the contextual loss");
    x->options = *options;
    Status status = options->vgg != NULL ? vgg_open(options, &x->vgg, err) : ST_OK;
    if (status == ST_OK) {
        set_sizes(x);
        status = reserve(x, err);
    }
    if (status != ST_OK) {
        contextual_close(x);
        return status;
    }
    *ret = x;
    return ST_OK;
}

void contextual_close(Contextual *x)
{
    if (x == NULL)
        return;
    for (int32_t i = 0; x->work != NULL && i < x->options.batch; i++)
        contextual_work_close(x->work[i]);
    vgg_close(x->vgg);
    free(x->work);
    free(x->values);
    free(x->s);
    free(x->r);
    free(x->ds);
    free(x);
}

typedef struct Images {
    Contextual *x;
    const float *p, *t, *s; /* s: features of p */
    double scale, *ret_dp;  /* ret_dp may be NULL */
} Images;

/* Features of patches: channel (a, b) of point (y, x) is the pixel at (y s + a, x s + b). */
static void gather(const Contextual *x, const float *image, float *ret)
{
    const int32_t s = x->stride, w = x->options.width;
    for (int32_t a = 0; a < 2 * s; a++)
        for (int32_t b = 0; b < 2 * s; b++)
            for (int32_t row = 0; row < x->rows; row++) {
                const float *in = image + (int64_t)(row * s + a) * w + b;
                for (int32_t column = 0; column < x->columns; column++)
                    *ret++ = in[column * s];
            }
}

static void scatter(const Contextual *x, const float *ds, double scale, double *ret_image)
{
    const int32_t s = x->stride, w = x->options.width;
    for (int32_t a = 0; a < 2 * s; a++)
        for (int32_t b = 0; b < 2 * s; b++)
            for (int32_t row = 0; row < x->rows; row++) {
                double *out = ret_image + (int64_t)(row * s + a) * w + b;
                for (int32_t column = 0; column < x->columns; column++)
                    out[column * s] += scale * (double)*ds++;
            }
}

static void run_slice(void *context, int i)
{
    const Images *images = context;
    Contextual *x = images->x;
    const int64_t pixels = (int64_t)x->options.height * x->options.width;
    const int64_t features = (int64_t)x->c * x->n;
    float *ds = images->ret_dp != NULL ? x->ds + i * features : NULL;
    if (x->vgg == NULL) {
        gather(x, images->p + i * pixels, x->s + i * features);
        gather(x, images->t + i * pixels, x->r + i * features);
    }
    x->values[i] = contextual_loss(x->work[i], images->s + i * features, x->r + i * features, ds);
    if (x->vgg == NULL && ds != NULL)
        scatter(x, ds, images->scale, images->ret_dp + i * pixels);
}

/* The real image's features are kept aside, since a forward takes the memory of the one before. */
static Status forward_both(Images *images, int32_t n, Err *err)
{
    Contextual *x = images->x;
    const float *r;
    TRY(vgg_forward(x->vgg, images->t, n, &r, err));
    memcpy(x->r, r, (size_t)n * (size_t)x->c * (size_t)x->n * sizeof *r);
    return vgg_forward(x->vgg, images->p, n, &images->s, err);
}

static Status add_backward(const Images *images, int32_t n, Err *err)
{
    const float *dp;
    TRY(vgg_backward(images->x->vgg, images->x->ds, &dp, err));
    const int64_t pixels = (int64_t)n * images->x->options.height * images->x->options.width;
    for (int64_t i = 0; i < pixels; i++)
        images->ret_dp[i] += images->scale * (double)dp[i];
    return ST_OK;
}

Status contextual_run(Contextual *x, const float *p, const float *t, int32_t n, double weight,
                      double *ret_dp, double *ret, Err *err)
{
    Images images = {x, p, t, x->s, weight / n, ret_dp};
    if (x->vgg != NULL)
        TRY(forward_both(&images, n, err));
    parallel_for(x->options.threads, n, run_slice, &images);
    if (x->vgg != NULL && ret_dp != NULL)
        TRY(add_backward(&images, n, err));
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += x->values[i];
    *ret = sum / n;
    return ST_OK;
}
