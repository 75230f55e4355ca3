/* A loss: its text, its terms over a batch. See loss.h. */
#include "gpu/loss.h"

#include "base/parallel.h"
#include "gpu/loss_contextual.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct Loss {
    LossOptions options;
    Contextual *contextual;      /* NULL if the term is not in it */
    double *dp, *dz;             /* [batch][h][w] */
    double (*terms)[LOSS_TERMS]; /* [batch]: shares of each slice */
};

static const char *const NAMES[LOSS_TERMS] = {"mse", "bce", "contextual", "l1", "gradient"};

const char *loss_name(LossTerm term)
{
    return NAMES[term];
}

/* One summand of n characters: NAME or WEIGHT*NAME. */
static Status parse_term(const char *text, size_t n, LossSpec *ret, Err *err)
{
    const char *star = memchr(text, '*', n);
    const char *name = star != NULL ? star + 1 : text;
    size_t name_length = n - (size_t)(name - text);
    double weight = 1;
    if (star != NULL) {
        char number[32] = "", *end = number;
        size_t length = (size_t)(star - text);
        if (length < sizeof number && strspn(text, "0123456789.eE-") >= length) {
            memcpy(number, text, length);
            weight = strtod(number, &end); /* the program stays in the C locale */
        }
        if (end == number || *end != '\0' || !(weight > 0 && weight <= 1e6))
            return err_set(err, ST_USAGE, "loss: weight \"%.*s\" is not a number above 0",
                           (int)length, text);
    }
    for (int t = 0; t < LOSS_TERMS; t++)
        if (strlen(NAMES[t]) == name_length && memcmp(NAMES[t], name, name_length) == 0) {
            if (ret->weight[t] > 0)
                return err_set(err, ST_USAGE, "loss: %s stands twice", NAMES[t]);
            ret->weight[t] = weight;
            return ST_OK;
        }
    return err_set(err, ST_USAGE, "loss: \"%.*s\" is none of mse, bce, contextual, l1, gradient",
                   (int)(name_length < 40 ? name_length : 40), name);
}

Status loss_parse(const char *text, LossSpec *ret, Err *err)
{
    LossSpec spec = {{0}};
    for (;;) {
        size_t n = strcspn(text, "+");
        TRY(parse_term(text, n, &spec, err));
        if (text[n] == '\0')
            break;
        text += n + 1;
    }
    *ret = spec;
    return ST_OK;
}

Status loss_open(const LossOptions *options, Loss **ret, Err *err)
{
    const double *weight = options->spec.weight;
    size_t batch = (size_t)options->batch,
           n = batch * (size_t)options->height * (size_t)options->width;
    if (weight[LOSS_BCE] > 0 && options->activation != ACTIVATION_SIGMOID)
        return err_set(err, ST_USAGE, "loss bce wants a network that ends in a sigmoid");
    Loss *loss = calloc(1, sizeof *loss);
    if (loss == NULL)
        return err_set(err, ST_NO_MEMORY, "the loss");
    loss->options = *options;
    loss->dp = calloc(n, sizeof *loss->dp);
    loss->dz = calloc(n, sizeof *loss->dz);
    loss->terms = calloc(batch, sizeof *loss->terms);
    Status status = loss->dp != NULL && loss->dz != NULL && loss->terms != NULL
                        ? ST_OK
                        : err_set(err, ST_NO_MEMORY, "the loss of %d slices", options->batch);
    if (status == ST_OK && weight[LOSS_CONTEXTUAL] > 0)
        status = contextual_open(options, &loss->contextual, err);
    if (status != ST_OK) {
        loss_close(loss);
        return status;
    }
    *ret = loss;
    return ST_OK;
}

void loss_close(Loss *loss)
{
    if (loss == NULL)
        return;
    contextual_close(loss->contextual);
    free(loss->dp);
    free(loss->dz);
    free(loss->terms);
    free(loss);
}

typedef struct Batch {
    Loss *loss;
    const float *z, *t;
    float *p, *ret_dz; /* ret_dz may be NULL */
    int32_t n;
} Batch;

static void activate_slice(void *context, int i)
{
    const Batch *b = context;
    const int64_t n = (int64_t)b->loss->options.height * b->loss->options.width;
    const float *z = b->z + i * n;
    float *p = b->p + i * n;
    if (b->loss->options.activation == ACTIVATION_SIGMOID)
        for (int64_t k = 0; k < n; k++)
            p[k] = (float)(1 / (1 + exp(-(double)z[k])));
    else
        memcpy(p, z, (size_t)n * sizeof *p);
}

static void pixel_terms(void *context, int i)
{
    const Batch *b = context;
    const LossOptions *o = &b->loss->options;
    const int64_t n = (int64_t)o->height * o->width;
    const double count = (double)b->n * (double)n;
    const double pairs[2] = {(double)b->n * o->height * (o->width - 1),
                             (double)b->n * (o->height - 1) * o->width};
    const float *p = b->p + i * n, *t = b->t + i * n;
    const double *weight = o->spec.weight;
    double *dp = b->ret_dz != NULL ? b->loss->dp + i * n : NULL;
    double *dz = b->ret_dz != NULL ? b->loss->dz + i * n : NULL;
    double *terms = b->loss->terms[i];
    memset(terms, 0, sizeof b->loss->terms[i]);
    if (dp != NULL) {
        memset(dp, 0, (size_t)n * sizeof *dp);
        memset(dz, 0, (size_t)n * sizeof *dz);
    }
    if (weight[LOSS_MSE] > 0)
        terms[LOSS_MSE] = loss_mse(p, t, n, count, weight[LOSS_MSE], dp);
    if (weight[LOSS_BCE] > 0)
        terms[LOSS_BCE] = loss_bce(b->z + i * n, t, n, count, weight[LOSS_BCE], dz);
    if (weight[LOSS_L1] > 0)
        terms[LOSS_L1] = loss_l1(p, t, n, count, weight[LOSS_L1], dp);
    if (weight[LOSS_GRADIENT] > 0)
        terms[LOSS_GRADIENT] =
            loss_gradient(p, t, o->height, o->width, pairs, weight[LOSS_GRADIENT], dp);
}

/* Through the activation: dp/dz = p (1 - p) of the sigmoid. */
static void join_derivatives(void *context, int i)
{
    const Batch *b = context;
    const int64_t n = (int64_t)b->loss->options.height * b->loss->options.width;
    const bool is_sigmoid = b->loss->options.activation == ACTIVATION_SIGMOID;
    const double *dp = b->loss->dp + i * n, *dz = b->loss->dz + i * n;
    const float *p = b->p + i * n;
    for (int64_t k = 0; k < n; k++) {
        double slope = is_sigmoid ? (double)p[k] * (1 - (double)p[k]) : 1;
        b->ret_dz[i * n + k] = (float)(dz[k] + dp[k] * slope);
    }
}

Status loss_run(Loss *loss, const float *z, const float *t, int32_t n, float *ret_p, float *ret_dz,
                LossValue *ret, Err *err)
{
    Batch batch = {loss, z, t, ret_p, ret_dz, n};
    const LossSpec *spec = &loss->options.spec;
    LossValue value = {0};
    parallel_for(loss->options.threads, n, activate_slice, &batch);
    parallel_for(loss->options.threads, n, pixel_terms, &batch);
    for (int32_t i = 0; i < n; i++)
        for (int k = 0; k < LOSS_TERMS; k++)
            value.term[k] += loss->terms[i][k];
    if (loss->contextual != NULL)
        TRY(contextual_run(loss->contextual, ret_p, t, n, spec->weight[LOSS_CONTEXTUAL],
                           ret_dz != NULL ? loss->dp : NULL, &value.term[LOSS_CONTEXTUAL], err));
    for (int k = 0; k < LOSS_TERMS; k++)
        value.total += spec->weight[k] * value.term[k];
    if (ret_dz != NULL)
        parallel_for(loss->options.threads, n, join_derivatives, &batch);
    *ret = value;
    return ST_OK;
}
