/* The core of the contextual loss. See loss_contextual.h.
**
** All matrices of pairs are kept as [j][i], j a point of r, i one of s: then what an equation does
** for each i over all j runs along rows, many i at a time. Rows are padded to whole vectors; the
** padding holds zeros in the features and is never summed over. */
#include "gpu/loss_contextual.h"

#include "base/hot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 8, TILE_I = 2, TILE_J = 4, STEP = LANES * TILE_I };
#define BANDWIDTH 0.5f  /* h of equation (6) */
#define EPSILON 1e-5f   /* of equation (5) */
#define MIN_NORM 1e-12f /* of a point that is the mean itself */

typedef float Lanes __attribute__((vector_size(LANES * sizeof(float))));

struct ContextualWork {
    int32_t c, n, c_row, n_row; /* rows are multiples of STEP */
    float *s, *r;               /* [c_row][n_row] unit vectors */
    float *packed;              /* r as the left factor of a product, either way round */
    float *strip;               /* [the longer of both rows][STEP] */
    float *ds;                  /* [c_row][n_row] */
    float *d, *cx;              /* [n_row][n_row]: d_ij, then CX_ij and the gradient by d_ij */
    float *norm, *least, *sum;  /* [n_row] of each i: |s_i - mu|, min d + eps, sum of w */
    float *a, *b;               /* [n_row] sums for the gradient */
    int32_t *nearest, *best;    /* [n_row] j of the least d of an i; i of the largest CX of a j */
    float *memory;
};

static int32_t padded(int32_t n)
{
    return (n + STEP - 1) / STEP * STEP;
}

Status contextual_work_open(int32_t c, int32_t n, ContextualWork **ret, Err *err)
{
    ContextualWork *work = calloc(1, sizeof *work);
    if (work == NULL)
        return err_set(err, ST_NO_MEMORY, "contextual loss");
    *work = (ContextualWork){.c = c, .n = n, .c_row = padded(c), .n_row = padded(n)};
    size_t row = (size_t)work->n_row, features = (size_t)work->c_row * row, pairs = row * row;
    size_t longer = (size_t)(work->c_row > work->n_row ? work->c_row : work->n_row);
    work->memory = calloc(4 * features + 2 * pairs + 5 * row + longer * STEP, sizeof *work->memory);
    work->nearest = calloc(2 * row, sizeof *work->nearest);
    if (work->memory == NULL || work->nearest == NULL) {
        contextual_work_close(work);
        return err_set(err, ST_NO_MEMORY, "contextual loss of %d points", n);
    }
    float *p = work->memory;
    work->s = p, p += features;
    work->r = p, p += features;
    work->packed = p, p += features;
    work->ds = p, p += features;
    work->d = p, p += pairs;
    work->cx = p, p += pairs;
    work->norm = p, p += row;
    work->least = p, p += row;
    work->sum = p, p += row;
    work->a = p, p += row;
    work->b = p, p += row;
    work->strip = p;
    work->best = work->nearest + row;
    *ret = work;
    return ST_OK;
}

void contextual_work_close(ContextualWork *work)
{
    if (work == NULL)
        return;
    free(work->memory);
    free(work->nearest);
    free(work);
}

/* The left factor in strips of TILE_J columns, each from top to bottom: [n_j / TILE_J][n_k][TILE_J]
** of a[k * k_step + j * j_step]. Memory is then read in order: a product takes half the time. */
static void pack_left(const float *a, size_t k_step, size_t j_step, int32_t n_k, int32_t n_j,
                      float *ret)
{
    for (int32_t j = 0; j < n_j; j += TILE_J)
        for (int32_t k = 0; k < n_k; k++)
            for (int t = 0; t < TILE_J; t++)
                *ret++ = a[(size_t)k * k_step + (size_t)(j + t) * j_step];
}

/* ret[j][i] = sum over k < n_k of a[k][j] b[k][i], in the order of k; a packed, rows of b: n_i.
** strip: [n_k][STEP], memory for a strip of b. */
HOT_CLONES static void product(const float *a, const float *b, int32_t n_k, int32_t n_j,
                               int32_t n_i, float *strip, float *ret)
{
    for (int32_t i = 0; i < n_i; i += STEP) {
        for (int32_t k = 0; k < n_k; k++)
            memcpy(strip + (size_t)k * STEP, b + (size_t)k * (size_t)n_i + (size_t)i,
                   STEP * sizeof *b);
        for (int32_t j = 0; j < n_j; j += TILE_J) {
            const float *u = a + (size_t)j * (size_t)n_k;
            Lanes sum[TILE_J][TILE_I] = {{{0}}};
            for (int32_t k = 0; k < n_k; k++, u += TILE_J) {
                Lanes v[TILE_I];
                memcpy(v, strip + (size_t)k * STEP, sizeof v);
                for (int t = 0; t < TILE_J; t++)
                    for (int l = 0; l < TILE_I; l++)
                        sum[t][l] += u[t] * v[l];
            }
            for (int t = 0; t < TILE_J; t++)
                memcpy(ret + (size_t)(j + t) * (size_t)n_i + (size_t)i, sum[t], sizeof sum[t]);
        }
    }
}

/* Unit vectors of x - mu along the channels of every point; norms, unless NULL, are kept. */
HOT_CLONES static void normalise(const ContextualWork *w, const float *x, const float *mu,
                                 float *ret, float *ret_norm)
{
    const int32_t n = w->n, row = w->n_row;
    float *sum = w->a;
    memset(sum, 0, (size_t)row * sizeof *sum);
    for (int32_t c = 0; c < w->c; c++) {
        float *out = ret + (size_t)c * (size_t)row;
        const float *in = x + (size_t)c * (size_t)n;
        for (int32_t i = 0; i < n; i++) {
            out[i] = in[i] - mu[c];
            sum[i] += out[i] * out[i];
        }
    }
    for (int32_t i = 0; i < n; i++) {
        float norm = sqrtf(sum[i]);
        norm = norm > MIN_NORM ? norm : MIN_NORM;
        sum[i] = 1 / norm;
        if (ret_norm != NULL)
            ret_norm[i] = norm;
    }
    for (int32_t c = 0; c < w->c; c++) {
        float *out = ret + (size_t)c * (size_t)row;
        for (int32_t i = 0; i < n; i++)
            out[i] *= sum[i];
    }
}

/* Equations (3), (4): unit vectors of both and their distances. */
static void distances(ContextualWork *w, const float *s, const float *r)
{
    const int32_t n = w->n, row = w->n_row;
    float *mu = w->ds; /* [c]; not yet in use */
    for (int32_t c = 0; c < w->c; c++) {
        double sum = 0;
        for (int32_t i = 0; i < n; i++)
            sum += (double)r[(size_t)c * (size_t)n + (size_t)i];
        mu[c] = (float)(sum / n);
    }
    normalise(w, s, mu, w->s, w->norm);
    normalise(w, r, mu, w->r, NULL);
    pack_left(w->r, (size_t)row, 1, w->c, row, w->packed);
    product(w->packed, w->s, w->c, row, row, w->strip, w->d);
    for (int32_t j = 0; j < n; j++) {
        float *d = w->d + (size_t)j * (size_t)row;
        for (int32_t i = 0; i < n; i++)
            d[i] = 1 - d[i] > 0 ? 1 - d[i] : 0;
    }
}

/* Equation (5): the nearest point of r for every i; d becomes d~. */
HOT_CLONES static void relate(ContextualWork *w)
{
    const int32_t n = w->n, row = w->n_row;
    for (int32_t i = 0; i < n; i++) {
        w->least[i] = HUGE_VALF;
        w->nearest[i] = 0;
    }
    for (int32_t j = 0; j < n; j++) {
        const float *d = w->d + (size_t)j * (size_t)row;
        for (int32_t i = 0; i < n; i++)
            if (d[i] < w->least[i]) {
                w->least[i] = d[i];
                w->nearest[i] = j;
            }
    }
    for (int32_t i = 0; i < n; i++)
        w->least[i] += EPSILON;
    for (int32_t j = 0; j < n; j++) {
        float *d = w->d + (size_t)j * (size_t)row;
        for (int32_t i = 0; i < n; i++)
            d[i] /= w->least[i];
    }
}

/* Equations (6) to (8). */
HOT_CLONES static double similarity(ContextualWork *w)
{
    const int32_t n = w->n, row = w->n_row;
    memset(w->sum, 0, (size_t)row * sizeof *w->sum);
    for (int32_t j = 0; j < n; j++) {
        const float *d = w->d + (size_t)j * (size_t)row;
        float *cx = w->cx + (size_t)j * (size_t)row;
        for (int32_t i = 0; i < n; i++) {
            cx[i] = expf((1 - d[i]) / BANDWIDTH);
            w->sum[i] += cx[i];
        }
    }
    double mean = 0;
    for (int32_t j = 0; j < n; j++) {
        float *cx = w->cx + (size_t)j * (size_t)row;
        int32_t best = 0;
        for (int32_t i = 0; i < n; i++) {
            cx[i] /= w->sum[i];
            best = cx[i] > cx[best] ? i : best;
        }
        w->best[j] = best;
        mean += (double)cx[best];
    }
    return mean / n;
}

/* The loss's derivative by d_ij, in cx. With g_ij = -1 / (n mean) where i is the best of j, else 0:
** by w_ij (g_ij - sum_k g_ik CX_ik) / sum_k w_ik; by d~_ij that times -w_ij / h, called e_ij; by
** d_ij e_ij / m_i, less sum_k e_ik d~_ik / m_i where j is the nearest of i. */
HOT_CLONES static void derive_distances(ContextualWork *w, double mean)
{
    const int32_t n = w->n, row = w->n_row;
    const float g = (float)(-1 / (mean * n));
    float *a = w->a, *b = w->b;
    memset(a, 0, (size_t)row * sizeof *a);
    memset(b, 0, (size_t)row * sizeof *b);
    for (int32_t j = 0; j < n; j++)
        a[w->best[j]] += g * w->cx[(size_t)j * (size_t)row + (size_t)w->best[j]];
    for (int32_t j = 0; j < n; j++) {
        float *cx = w->cx + (size_t)j * (size_t)row;
        const float *d = w->d + (size_t)j * (size_t)row;
        const int32_t best = w->best[j];
        const float extra = g * cx[best];
        for (int32_t i = 0; i < n; i++)
            cx[i] *= a[i];
        cx[best] -= extra;
        for (int32_t i = 0; i < n; i++) {
            cx[i] /= BANDWIDTH;
            b[i] += cx[i] * d[i];
        }
    }
    for (int32_t j = 0; j < n; j++) {
        float *cx = w->cx + (size_t)j * (size_t)row;
        for (int32_t i = 0; i < n; i++)
            cx[i] /= w->least[i];
    }
    for (int32_t i = 0; i < n; i++)
        w->cx[(size_t)w->nearest[i] * (size_t)row + (size_t)i] -= b[i] / w->least[i];
}

/* d_ij = 1 - s_i . r_j of unit vectors; then through the division by the norm. */
HOT_CLONES static void derive_features(ContextualWork *w, float *ret_ds)
{
    const int32_t n = w->n, row = w->n_row;
    float *dot = w->a;
    pack_left(w->r, 1, (size_t)row, n, w->c_row, w->packed);
    product(w->packed, w->cx, n, w->c_row, row, w->strip, w->ds);
    memset(dot, 0, (size_t)row * sizeof *dot);
    for (int32_t c = 0; c < w->c; c++) {
        const float *s = w->s + (size_t)c * (size_t)row, *ds = w->ds + (size_t)c * (size_t)row;
        for (int32_t i = 0; i < n; i++)
            dot[i] += s[i] * ds[i];
    }
    for (int32_t c = 0; c < w->c; c++) {
        const float *s = w->s + (size_t)c * (size_t)row, *ds = w->ds + (size_t)c * (size_t)row;
        float *out = ret_ds + (size_t)c * (size_t)n;
        for (int32_t i = 0; i < n; i++)
            out[i] = (s[i] * dot[i] - ds[i]) / w->norm[i];
    }
}

double contextual_loss(ContextualWork *work, const float *s, const float *r, float *ret_ds)
{
    distances(work, s, r);
    relate(work);
    double mean = similarity(work);
    if (ret_ds != NULL) {
        derive_distances(work, mean);
        derive_features(work, ret_ds);
    }
    return -log(mean);
}
