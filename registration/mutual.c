/* See mutual.h. */
#include "registration/mutual.h"

#include "base/hot.h"
#include "base/parallel.h"
#include "registration/moments_int.h"

#include <math.h>
#include <string.h>

enum { F = METRIC_BINS, M = MUTUAL_BINS, SPAN = 4 /* bins under a cubic B-spline */ };
#define LEAST 1e-12 /* in logarithms of probabilities */

typedef struct Histogram {
    double p[F][M];
} Histogram;

typedef struct Tables {
    float log_ratio[F][M];    /* ln p(f, m) - ln p(m) */
    float information[F + 1]; /* of the moving value, per bin^2 */
    double weight;            /* of all samples */
} Tables;

typedef struct Task {
    Walk walk;
    const Mutual *mutual;
    MomentSum *moments;
} Task;

/* Parzen weights of a row's values: bin[i] is the first of the four. */
typedef struct Windows {
    int32_t bin[WALK_ROW_MAX + WALK_LANES];
    float weight[SPAN][WALK_ROW_MAX + WALK_LANES];
} Windows;

Status mutual_open(const MetricLevel *level, double low, double high, Arena *arena, Mutual *ret,
                   Err *err)
{
    Mutual m = {.level = level, .low = (float)low};
    m.per_value = (float)((M - 3) / fmax(high - low, 1e-6));
    m.chunks = arena_alloc(arena, WALK_CHUNKS_MAX, sizeof *m.chunks, err);
    if (m.chunks == NULL)
        return ST_LIMIT;
    m.tables = arena_alloc(arena, 1, sizeof *m.tables, err);
    if (m.tables == NULL)
        return ST_LIMIT;
    *ret = m;
    return ST_OK;
}

/* Position of a value in bins, where its four bins start, and how far it is into the second. */
static inline int32_t bin_of(float value, float low, float per_value, float *ret_frac)
{
    float u = 1 + (value - low) * per_value;
    u = u > 1 ? u : 1;
    u = u < M - 2 ? u : M - 2;
    int32_t b = (int32_t)u;
    b = b < M - 3 ? b : M - 3;
    *ret_frac = u - (float)b;
    return b - 1;
}

HOT_CLONES
static void make_windows(const float *restrict value, const float *restrict weight, int n,
                         float low, float per_value, Windows *restrict ret)
{
    for (int i = 0; i < n; i++) {
        float t, w = weight[i] / 6;
        ret->bin[i] = bin_of(value[i], low, per_value, &t);
        float s = 1 - t;
        ret->weight[0][i] = w * s * s * s;
        ret->weight[1][i] = w * (4 - 3 * t * t * (2 - t));
        ret->weight[2][i] = w * (4 - 3 * s * s * (2 - s));
        ret->weight[3][i] = w * t * t * t;
    }
}

static void add_windows(const float *restrict bin, const Windows *windows, int n, Histogram *sum)
{
    for (int i = 0; i < n; i++) {
        if (bin[i] < 0)
            continue;
        int f = (int)bin[i];
        f = f < F - 2 ? f : F - 2;
        double q = (double)bin[i] - f;
        double *low = &sum->p[f][windows->bin[i]], *high = &sum->p[f + 1][windows->bin[i]];
        for (int k = 0; k < SPAN; k++) {
            double w = (double)windows->weight[k][i];
            low[k] += w - q * w;
            high[k] += q * w;
        }
    }
}

static void histogram_chunk(void *context, int chunk)
{
    const Task *task = context;
    const Walk *walk = &task->walk;
    const MetricLevel *level = walk->level;
    Histogram *sum = &task->mutual->chunks[chunk];
    Row row;
    Windows windows;
    memset(sum, 0, sizeof *sum);
    for (int k = walk_slice(walk, chunk); k < walk_slice(walk, chunk + 1); k++)
        for (int j = 0; j < level->fixed.ny; j++) {
            Line line = walk_line(walk, j, k);
            if (line.n <= 0)
                continue;
            walk_values(&level->moving, &line, &row);
            make_windows(row.value, row.weight, line.n, task->mutual->low, task->mutual->per_value,
                         &windows);
            add_windows(level->bin + line.at, &windows, line.n, sum);
        }
}

/* Mean over m of the squared slope of ln p(m | f). */
static double information_of(const double p[M])
{
    double sum = 0, weight = 0;
    for (int m = 1; m < M - 1; m++) {
        double slope = (log(p[m + 1] + LEAST) - log(p[m - 1] + LEAST)) / 2;
        if (p[m] > 1e-9) {
            sum += p[m] * slope * slope;
            weight += p[m];
        }
    }
    return weight > 0 ? sum / weight : 0;
}

double mutual_cost(Mutual *mutual, Affine moving_from_fixed, int threads)
{
    Task task = {.mutual = mutual};
    walk_init(&task.walk, mutual->level, moving_from_fixed);
    parallel_for(threads, task.walk.n_chunks, histogram_chunk, &task);
    Histogram *sum = &mutual->chunks[0];
    Tables *t = mutual->tables;
    double of_f[F] = {0}, of_m[M] = {0}, cost = 0;
    t->weight = 0;
    for (int f = 0; f < F; f++)
        for (int m = 0; m < M; m++) {
            for (int c = 1; c < task.walk.n_chunks; c++)
                sum->p[f][m] += mutual->chunks[c].p[f][m];
            t->weight += sum->p[f][m];
        }
    for (int f = 0; f < F; f++)
        for (int m = 0; m < M; m++) {
            sum->p[f][m] /= t->weight > 0 ? t->weight : 1;
            of_f[f] += sum->p[f][m];
            of_m[m] += sum->p[f][m];
        }
    for (int f = 0; f < F; f++) {
        for (int m = 0; m < M; m++) {
            double p = sum->p[f][m], ratio = log(p + LEAST) - log(of_m[m] + LEAST);
            t->log_ratio[f][m] = (float)ratio;
            if (p > 0)
                cost -= p * (ratio - log(of_f[f] + LEAST));
        }
        t->information[f] = (float)information_of(sum->p[f]);
    }
    t->information[F] = t->information[F - 1];
    return cost;
}

/* weight becomes the information about the value, and value the slope of the cost by it over that
** information: as if they were weight and residual of a least squares system. */
HOT_CLONES
static void weigh_scores(const float *restrict bin, const Tables *restrict t, float low,
                         float per_value, int n, float *restrict value, float *restrict weight)
{
    const float *restrict table = t->log_ratio[0];
    for (int i = 0; i < n; i++) {
        float u = bin[i] > 0 ? bin[i] : 0, x;
        int32_t f = (int32_t)(u < F - 2 ? u : F - 2);
        float q = u - (float)f;
        int32_t at = f * M + bin_of(value[i], low, per_value, &x);
        float y = 1 - x;
        float d0 = -y * y / 2, d1 = x * (1.5f * x - 2), d2 = y * (2 - 1.5f * y), d3 = x * x / 2;
        float a = d0 * table[at] + d1 * table[at + 1] + d2 * table[at + 2] + d3 * table[at + 3];
        at += M;
        float b = d0 * table[at] + d1 * table[at + 1] + d2 * table[at + 2] + d3 * table[at + 3];
        float information = t->information[f] + q * (t->information[f + 1] - t->information[f]);
        information = (information + 1e-4f) * per_value * per_value;
        weight[i] = bin[i] < 0 ? 0 : weight[i] * information;
        value[i] = -(a + q * (b - a)) * per_value / information;
    }
}

static void system_chunk(void *context, int chunk)
{
    const Task *task = context;
    const Walk *walk = &task->walk;
    const MetricLevel *level = walk->level;
    Row row;
    MomentSum *ret = &task->moments[chunk];
    memset(ret, 0, sizeof *ret);
    for (int k = walk_slice(walk, chunk); k < walk_slice(walk, chunk + 1); k++)
        for (int j = 0; j < level->fixed.ny; j++) {
            Line line = walk_line(walk, j, k);
            if (line.n <= 0)
                continue;
            walk_gradients(walk, &line, &row);
            weigh_scores(level->bin + line.at, task->mutual->tables, task->mutual->low,
                         task->mutual->per_value, line.n, row.value, row.weight);
            moments_add(walk, &line, &row, j, k, ret);
        }
}

void mutual_system(const Mutual *mutual, Affine moving_from_fixed, int threads, MetricSystem *ret)
{
    MomentSum chunks[WALK_CHUNKS_MAX];
    Task task = {.mutual = mutual};
    task.moments = chunks;
    walk_init(&task.walk, mutual->level, moving_from_fixed);
    parallel_for(threads, task.walk.n_chunks, system_chunk, &task);
    moments_system(&task.walk, chunks, ret);
    for (int a = 0; a < METRIC_PARAMETERS; a++) {
        ret->g[a] /= mutual->tables->weight;
        for (int b = 0; b < METRIC_PARAMETERS; b++)
            ret->h[a][b] /= mutual->tables->weight;
    }
}
