/* See bias.h. */
#include "registration/bias.h"

#include "base/parallel.h"
#include "registration/walk_int.h"

#include <math.h>
#include <string.h>

enum { TERMS = 19, STRIDE = 2 };
#define RIDGE 1e-3
#define FACTOR_LEAST 0.4 /* of what is divided by; beyond is no coil but a wrong model */
#define FACTOR_MOST 2.5

typedef struct Sums {
    double a[TERMS][TERMS], b[TERMS];
} Sums;

typedef struct Task {
    Walk walk;
    const MetricCost *at;
    Sums *sums;
    VolumeF32 *moving;
    double c[TERMS];
} Task;

/* Coordinates from -1 to 1 over the moving image. */
static void terms_at(const Grid *g, double x, double y, double z, double ret[TERMS])
{
    double u = 2 * x / (g->nx - 1) - 1, v = 2 * y / (g->ny - 1) - 1, w = 2 * z / (g->nz - 1) - 1;
    const double t[TERMS] = {u,         v,         w,         u * u,     u * v,
                             u * w,     v * v,     v * w,     w * w,     u * u * u,
                             u * u * v, u * u * w, u * v * v, u * v * w, u * w * w,
                             v * v * v, v * v * w, v * w * w, w * w * w};
    memcpy(ret, t, sizeof t);
}

static void add_sample(const double term[TERMS], double mean, double residual, double weight,
                       Sums *sums)
{
    double wm = weight * mean, wmm = wm * mean;
    for (int i = 0; i < TERMS; i++) {
        sums->b[i] += wm * residual * term[i];
        for (int j = 0; j <= i; j++)
            sums->a[i][j] += wmm * term[i] * term[j];
    }
}

static void sum_chunk(void *context, int chunk)
{
    const Task *task = context;
    const Walk *walk = &task->walk;
    const MetricLevel *level = walk->level;
    const double scale_squared = 9 * task->at->variance + 1e-12; /* 3 sigma, as in metric.c */
    const float *mean = task->at->mean;
    Row row;
    Sums *sums = &task->sums[chunk];
    memset(sums, 0, sizeof *sums);
    for (int k = walk_slice(walk, chunk); k < walk_slice(walk, chunk + 1); k++)
        for (int j = 0; j < level->fixed.ny; j += STRIDE) {
            Line line = k % STRIDE == 0 ? walk_line(walk, j, k) : (Line){.n = 0};
            if (line.n <= 0)
                continue;
            walk_values(&level->moving, &line, &row);
            for (int i = 0; i < line.n; i += STRIDE) {
                float u = level->bin[line.at + (size_t)i];
                if (u < 0)
                    continue;
                int b = u < METRIC_BINS - 2 ? (int)u : METRIC_BINS - 2;
                double m = (double)(mean[b] + (u - (float)b) * (mean[b + 1] - mean[b]));
                double r = (double)row.value[i] - m,
                       robust = scale_squared / (scale_squared + r * r);
                double term[TERMS];
                terms_at(&level->moving.grid, (double)(line.start[0] + line.step[0] * (float)i),
                         (double)(line.start[1] + line.step[1] * (float)i),
                         (double)(line.start[2] + line.step[2] * (float)i), term);
                add_sample(term, m, r, (double)row.weight[i] * robust * robust, sums);
            }
        }
}

/* Solves for c by Cholesky; false if the samples do not determine it. */
static bool solve(Sums *s, double ret[TERMS])
{
    double trace = 0;
    for (int i = 0; i < TERMS; i++)
        trace += s->a[i][i];
    for (int i = 0; i < TERMS; i++) {
        s->a[i][i] += RIDGE * trace / TERMS;
        for (int j = 0; j <= i; j++) {
            double v = s->a[i][j];
            for (int k = 0; k < j; k++)
                v -= s->a[i][k] * s->a[j][k];
            if (i == j && !(v > 0))
                return false;
            s->a[i][j] = i == j ? sqrt(v) : v / s->a[j][j];
        }
    }
    for (int i = 0; i < TERMS; i++) {
        ret[i] = s->b[i];
        for (int k = 0; k < i; k++)
            ret[i] -= s->a[i][k] * ret[k];
        ret[i] /= s->a[i][i];
    }
    for (int i = TERMS - 1; i >= 0; i--) {
        for (int k = i + 1; k < TERMS; k++)
            ret[i] -= s->a[k][i] * ret[k];
        ret[i] /= s->a[i][i];
    }
    return true;
}

static void divide_slice(void *context, int z)
{
    const Task *task = context;
    const Grid *g = &task->moving->grid;
    float *v = task->moving->v + (size_t)z * (size_t)g->ny * (size_t)g->nx;
    for (int y = 0; y < g->ny; y++)
        for (int x = 0; x < g->nx; x++, v++) {
            double term[TERMS], factor = 1;
            terms_at(g, x, y, z, term);
            for (int i = 0; i < TERMS; i++)
                factor += task->c[i] * term[i];
            *v = (float)((double)*v / fmin(fmax(factor, FACTOR_LEAST), FACTOR_MOST));
        }
}

void bias_correct(const MetricLevel *level, Affine moving_from_fixed, const MetricCost *at,
                  int threads, VolumeF32 *moving)
{
    Sums chunks[WALK_CHUNKS_MAX];
    Task task = {.at = at, .moving = moving};
    task.sums = chunks;
    walk_init(&task.walk, level, moving_from_fixed);
    parallel_for(threads, task.walk.n_chunks, sum_chunk, &task);
    for (int c = 1; c < task.walk.n_chunks; c++)
        for (int i = 0; i < TERMS; i++) {
            chunks[0].b[i] += chunks[c].b[i];
            for (int j = 0; j <= i; j++)
                chunks[0].a[i][j] += chunks[c].a[i][j];
        }
    if (solve(&chunks[0], task.c))
        parallel_for(threads, moving->grid.nz, divide_slice, &task);
}
