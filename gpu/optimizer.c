/* See optimizer.h. All numbers are one long list, cut into pieces that threads share. */
#include "gpu/optimizer.h"

#include "base/hot.h"
#include "base/parallel.h"

#include <math.h>
#include <stdlib.h>

enum { PIECE = 1 << 15, LANES = 8 };
#define NORM_EPSILON 1e-6 /* of PyTorch's clip_grad_norm_ */

typedef struct Piece {
    float *x, *m, *v;
    const float *g;
    int32_t n;
    bool decays;
    double squares; /* of its gradient */
} Piece;

struct Optimizer {
    OptimizerOptions options;
    int32_t n_parameters, n_pieces;
    int64_t steps;
    int64_t *offsets; /* [n_parameters] in m and v; -1: none */
    float *m, *v;
    Piece *pieces;
    float scale, decay, rate, beta1, beta2, rest1, rest2, root_correction; /* of the step */
};

static void cut(Optimizer *o, const TrainParameter *parameters)
{
    for (int32_t i = 0; i < o->n_parameters; i++) {
        const TrainParameter *p = &parameters[i];
        for (int64_t at = 0; o->offsets[i] >= 0 && at < p->n; at += PIECE) {
            Piece *piece = &o->pieces[o->n_pieces++];
            *piece = (Piece){.x = p->value + at,
                             .m = o->m + o->offsets[i] + at,
                             .v = o->v + o->offsets[i] + at,
                             .g = p->gradient + at,
                             .n = (int32_t)(p->n - at < PIECE ? p->n - at : PIECE),
                             .decays = p->n_dims == 4};
        }
    }
}

Status optimizer_open(TrainParameter *parameters, int32_t n, const OptimizerOptions *options,
                      Optimizer **ret, Err *err)
{
    Optimizer *o = calloc(1, sizeof *o);
    if (o == NULL || (o->offsets = calloc((size_t)n + 1, sizeof *o->offsets)) == NULL) {
        optimizer_close(o);
        return err_set(err, ST_NO_MEMORY, "the optimizer");
    }
    int64_t total = 0, pieces = 0;
    for (int32_t i = 0; i < n; i++) {
        o->offsets[i] = parameters[i].gradient != NULL ? total : -1;
        total += parameters[i].gradient != NULL ? parameters[i].n : 0;
        pieces += parameters[i].n / PIECE + 1;
    }
    o->options = *options;
    o->n_parameters = n;
    o->m = calloc((size_t)total + 1, sizeof *o->m);
    o->v = calloc((size_t)total + 1, sizeof *o->v);
    o->pieces = calloc((size_t)pieces + 1, sizeof *o->pieces);
    if (o->m == NULL || o->v == NULL || o->pieces == NULL) {
        optimizer_close(o);
        return err_set(err, ST_NO_MEMORY, "moments of %lld parameters", (long long)total);
    }
    cut(o, parameters);
    *ret = o;
    return ST_OK;
}

void optimizer_close(Optimizer *o)
{
    if (o == NULL)
        return;
    free(o->offsets);
    free(o->m);
    free(o->v);
    free(o->pieces);
    free(o);
}

HOT_CLONES static double sum_squares(const float *g, int32_t n)
{
    double lanes[LANES] = {0}, sum = 0;
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++)
            lanes[l] += (double)g[i + l] * (double)g[i + l];
    for (int l = 0; i < n; i++, l++)
        lanes[l] += (double)g[i] * (double)g[i];
    for (int l = 0; l < LANES; l++)
        sum += lanes[l];
    return sum;
}

static void sum_piece(void *context, int i)
{
    Piece *piece = &((Optimizer *)context)->pieces[i];
    piece->squares = sum_squares(piece->g, piece->n);
}

HOT_CLONES static void step_numbers(const Optimizer *o, float *restrict x, float *restrict m,
                                    float *restrict v, const float *restrict g, int32_t n,
                                    float decay)
{
    const float b1 = o->beta1, b2 = o->beta2, c1 = o->rest1, c2 = o->rest2, rate = o->rate,
                root = o->root_correction, scale = o->scale, epsilon = (float)o->options.epsilon;
    for (int32_t i = 0; i < n; i++) {
        float d = g[i] * scale;
        m[i] = b1 * m[i] + c1 * d;
        v[i] = b2 * v[i] + c2 * d * d;
        x[i] = x[i] * decay - rate * m[i] / (sqrtf(v[i]) / root + epsilon);
    }
}

static void step_piece(void *context, int i)
{
    const Optimizer *o = context;
    const Piece *p = &o->pieces[i];
    step_numbers(o, p->x, p->m, p->v, p->g, p->n, p->decays ? o->decay : 1);
}

Status optimizer_step(Optimizer *o, double lr, double *ret_norm, Err *err)
{
    double squares = 0;
    parallel_for(o->options.threads, o->n_pieces, sum_piece, o);
    for (int32_t i = 0; i < o->n_pieces; i++)
        squares += o->pieces[i].squares;
    double norm = sqrt(squares), clip = o->options.clip;
    if (!isfinite(norm))
        return err_set(err, ST_TRAIN_DIVERGED, "step %lld: the gradient is not finite",
                       (long long)o->steps + 1);
    double t = (double)++o->steps;
    o->scale = clip > 0 && norm + NORM_EPSILON > clip ? (float)(clip / (norm + NORM_EPSILON)) : 1;
    o->beta1 = (float)o->options.beta1;
    o->beta2 = (float)o->options.beta2;
    o->rest1 = (float)(1 - o->options.beta1); /* 1 - float32(0.999) is 1e-5 off */
    o->rest2 = (float)(1 - o->options.beta2);
    o->rate = (float)(lr / (1 - pow(o->options.beta1, t)));
    o->root_correction = (float)sqrt(1 - pow(o->options.beta2, t));
    o->decay = (float)(1 - lr * o->options.weight_decay);
    parallel_for(o->options.threads, o->n_pieces, step_piece, o);
    *ret_norm = norm;
    return ST_OK;
}

int64_t optimizer_steps(const Optimizer *o)
{
    return o->steps;
}

void optimizer_set_steps(Optimizer *o, int64_t steps)
{
    o->steps = steps;
}

float *optimizer_moment(Optimizer *o, int32_t i, int order)
{
    if (o->offsets[i] < 0)
        return NULL;
    return (order == 1 ? o->m : o->v) + o->offsets[i];
}
