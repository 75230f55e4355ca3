/* Correlation ratio and its Gauss-Newton system. See metric.h. */
#include "registration/metric.h"

#include "base/hot.h"
#include "base/parallel.h"
#include "registration/moments_int.h"

#include <string.h>

enum { BANKS = 4 /* neighbours mostly fall in one interval: four sums in flight, not one */ };
#define OVERLAP_LEAST 0.15 /* below: rejected */
#define OVERLAP_WANTED 0.6 /* below: penalty, so that sliding out of the picture never pays */

/* Sums over the samples of one interval: w times 1, q, q^2, r, r q, r^2, head; q is the position
** in the interval. */
typedef struct Interval {
    double s[8];
} Interval;

typedef struct CostChunk {
    Interval interval[METRIC_BINS];
} CostChunk;

typedef struct Task {
    Walk walk;
    const MetricCost *at;
    CostChunk *cost;
    MomentSum *moments;
} Task;

static int interval_of(float bin)
{
    int b = (int)bin;
    return b > METRIC_BINS - 2 ? METRIC_BINS - 2 : b;
}

static void add_intervals(const MetricLevel *level, const Line *line, const Row *row,
                          Interval bank[BANKS][METRIC_BINS])
{
    const float *bin = level->bin + line->at;
    const uint8_t *head = level->head + line->at;
    for (int i = 0; i < line->n; i++) {
        double w = (double)row->weight[i];
        if (bin[i] < 0 || w <= 0)
            continue;
        int b = interval_of(bin[i]);
        double q = (double)bin[i] - b, r = (double)row->value[i];
        double *s = bank[i % BANKS][b].s;
        s[0] += w;
        s[1] += w * q;
        s[2] += w * q * q;
        s[3] += w * r;
        s[4] += w * r * q;
        s[5] += w * r * r;
        s[6] += w * head[i];
    }
}

static void cost_chunk(void *context, int chunk)
{
    const Task *task = context;
    const Walk *walk = &task->walk;
    Interval bank[BANKS][METRIC_BINS];
    Row row;
    memset(bank, 0, sizeof bank);
    for (int k = walk_slice(walk, chunk); k < walk_slice(walk, chunk + 1); k++)
        for (int j = 0; j < walk->level->fixed.ny; j++) {
            Line line = walk_line(walk, j, k);
            if (line.n <= 0)
                continue;
            walk_values(&walk->level->moving, &line, &row);
            add_intervals(walk->level, &line, &row, bank);
        }
    for (int b = 0; b < METRIC_BINS; b++)
        for (int s = 0; s < 8; s++)
            task->cost[chunk].interval[b].s[s] =
                (bank[0][b].s[s] + bank[1][b].s[s]) + (bank[2][b].s[s] + bank[3][b].s[s]);
}

/* Knots of the piecewise linear function that explains r best. A small pull of neighbours towards
** each other carries it over empty intervals. Writes diagonal, off-diagonal and right side. */
static void solve_knots(const CostChunk *sum, double total_weight, double diagonal[METRIC_BINS],
                        double off[METRIC_BINS], double right[METRIC_BINS], double ret[METRIC_BINS])
{
    double pull = 1e-6 * total_weight, d[METRIC_BINS] = {0}, u[METRIC_BINS] = {0};
    memset(diagonal, 0, METRIC_BINS * sizeof *diagonal);
    memset(right, 0, METRIC_BINS * sizeof *right);
    for (int b = 0; b < METRIC_BINS - 1; b++) {
        const double *s = sum->interval[b].s;
        diagonal[b] += s[0] - 2 * s[1] + s[2];
        diagonal[b + 1] += s[2];
        off[b] = s[1] - s[2];
        right[b] += s[3] - s[4];
        right[b + 1] += s[4];
    }
    for (int b = 0; b < METRIC_BINS; b++) { /* Thomas' elimination, then back */
        bool end = b == 0 || b == METRIC_BINS - 1;
        double lower = b > 0 ? (off[b - 1] - pull) / d[b - 1] : 0;
        d[b] = diagonal[b] + pull * (end ? 1 : 2) + 1e-9 * pull;
        u[b] = right[b];
        if (b > 0) {
            d[b] -= lower * (off[b - 1] - pull);
            u[b] -= lower * u[b - 1];
        }
    }
    for (int b = METRIC_BINS - 1; b >= 0; b--) {
        double above = b < METRIC_BINS - 1 ? (off[b] - pull) * ret[b + 1] : 0;
        ret[b] = (u[b] - above) / d[b];
    }
}

static void finish_cost(const MetricLevel *level, const CostChunk *sum, MetricCost *ret)
{
    double w = 0, r = 0, rr = 0, head = 0;
    for (int b = 0; b < METRIC_BINS; b++) {
        w += sum->interval[b].s[0];
        r += sum->interval[b].s[3];
        rr += sum->interval[b].s[5];
        head += sum->interval[b].s[6];
    }
    *ret = (MetricCost){.cost = METRIC_REJECTED};
    ret->overlap_frac = level->n_head > 0 ? head / level->n_head : 0;
    double total = w > 0 ? rr - r * r / w : 0;
    if (ret->overlap_frac < OVERLAP_LEAST || !(total > 1e-9 * rr))
        return;
    double diagonal[METRIC_BINS], off[METRIC_BINS], right[METRIC_BINS], mean[METRIC_BINS];
    solve_knots(sum, w, diagonal, off, right, mean);
    double within = rr;
    for (int b = 0; b < METRIC_BINS; b++) {
        within += mean[b] * (mean[b] * diagonal[b] - 2 * right[b]);
        if (b < METRIC_BINS - 1)
            within += 2 * mean[b] * mean[b + 1] * off[b];
        ret->mean[b] = (float)mean[b];
    }
    within = within > 0 ? within : 0;
    ret->variance = within / w;
    ret->total = total;
    ret->cost = within / total;
    ret->cost += metric_penalty(ret->overlap_frac);
}

double metric_penalty(double overlap_frac)
{
    return overlap_frac < OVERLAP_WANTED ? 0.5 * (OVERLAP_WANTED - overlap_frac) : 0;
}

void metric_cost(const MetricLevel *level, Affine moving_from_fixed, int threads, MetricCost *ret)
{
    CostChunk chunks[WALK_CHUNKS_MAX], sum;
    Task task = {0};
    task.cost = chunks;
    walk_init(&task.walk, level, moving_from_fixed);
    parallel_for(threads, task.walk.n_chunks, cost_chunk, &task);
    sum = chunks[0];
    for (int c = 1; c < task.walk.n_chunks; c++)
        for (int b = 0; b < METRIC_BINS; b++)
            for (int s = 0; s < 8; s++)
                sum.interval[b].s[s] += chunks[c].interval[b].s[s];
    finish_cost(level, &sum, ret);
}

/* value becomes the residual; weight takes in the robust weight, and 0 for unused samples. */
HOT_CLONES
static void weigh_residuals(const float *restrict bin, const float *restrict mean,
                            float scale_squared, int n, float *restrict value,
                            float *restrict weight)
{
    for (int i = 0; i < n; i++) {
        float u = bin[i] > 0 ? bin[i] : 0;
        int32_t b = (int32_t)(u < METRIC_BINS - 2 ? u : METRIC_BINS - 2);
        float q = u - (float)b;
        float r = value[i] - (mean[b] + q * (mean[b + 1] - mean[b]));
        float robust = scale_squared / (scale_squared + r * r);
        value[i] = r;
        weight[i] = bin[i] < 0 ? 0 : weight[i] * robust * robust;
    }
}

static void system_chunk(void *context, int chunk)
{
    const Task *task = context;
    const Walk *walk = &task->walk;
    const MetricLevel *level = walk->level;
    const float scale_squared = (float)(9 * task->at->variance) + 1e-12f; /* 3 sigma */
    Row row;
    MomentSum *ret = &task->moments[chunk];
    memset(ret, 0, sizeof *ret);
    for (int k = walk_slice(walk, chunk); k < walk_slice(walk, chunk + 1); k++)
        for (int j = 0; j < level->fixed.ny; j++) {
            Line line = walk_line(walk, j, k);
            if (line.n <= 0)
                continue;
            walk_gradients(walk, &line, &row);
            weigh_residuals(level->bin + line.at, task->at->mean, scale_squared, line.n, row.value,
                            row.weight);
            moments_add(walk, &line, &row, j, k, ret);
        }
}

void metric_system(const MetricLevel *level, Affine moving_from_fixed, const MetricCost *at,
                   int threads, MetricSystem *ret)
{
    MomentSum chunks[WALK_CHUNKS_MAX];
    Task task = {.at = at};
    task.moments = chunks;
    walk_init(&task.walk, level, moving_from_fixed);
    parallel_for(threads, task.walk.n_chunks, system_chunk, &task);
    moments_system(&task.walk, chunks, ret);
}
