/* Correlation ratio and its Gauss-Newton system. See metric.h.
**
** The fixed samples are a grid, so a row of them is a line through the moving image: positions come
** from a start and a step. Each row is clipped to the moving image, sampled into small arrays
** (vectorised), then summed. In the system, j and k are constant along a row and the Jacobian is
** (image gradient) x (i, j, k, 1); so a row needs only the 18 + 6 moments of w g g' i^p and w r g
** i^p instead of 90 sums per sample, and the change to the parameters of metric.h is made once at
** the end. Chunks of slices are summed in order: the bits do not depend on the
** number of threads. */
#include "registration/metric.h"

#include "base/err.h"
#include "base/parallel.h"
#include "registration/hot.h"
#include "registration/pyramid.h"

#include <math.h>
#include <string.h>

enum {
    ROW_MAX = PYRAMID_LEVEL_ROW_MAX,
    CHUNKS_MAX = 32,
    SAMPLES_PER_CHUNK = 4096,
    BANKS = 4, /* neighbours mostly fall in one interval: four sums in flight instead of one */
    LANES = 16,
    PAIRS_G = 6,  /* xx xy xz yy yz zz of the image gradient */
    PAIRS_Q = 10, /* of (i, j, k, 1) */
    MOMENTS = 3 * PAIRS_G + 2 * 3
};
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

typedef struct SystemChunk {
    double h[PAIRS_G][PAIRS_Q], g[3][4];
} SystemChunk;

typedef struct Walk {
    const MetricLevel *level;
    const MetricCost *at;
    Affine vox_from_fixed; /* moving voxel from fixed voxel */
    int n_chunks;
    CostChunk *cost;
    SystemChunk *system;
} Walk;

typedef struct Line {
    float start[3], step[3]; /* moving voxel of the first sample, and per sample */
    int first, n;            /* samples inside the moving image */
    size_t at;               /* index of the first of them in the fixed arrays */
} Line;

typedef struct Row {
    float value[ROW_MAX + LANES], weight[ROW_MAX + LANES], i[ROW_MAX + LANES];
    float gradient[3][ROW_MAX + LANES];
} Row;

/* The part of row (j, k) inside the moving image; n is 0 if there is none. */
static Line line_at(const Walk *walk, int j, int k)
{
    const Grid *f = &walk->level->fixed, *m = &walk->level->moving.grid;
    const int n[3] = {m->nx, m->ny, m->nz};
    double from = 0, to = f->nx - 1;
    double start[3], step[3];
    for (int r = 0; r < 3; r++) {
        const double *t = walk->vox_from_fixed.m[r];
        start[r] = t[1] * j + t[2] * k + t[3];
        step[r] = t[0];
        if (fabs(step[r]) < 1e-9) {
            if (start[r] <= 0 || start[r] >= n[r] - 1)
                to = -1;
            continue;
        }
        double a = (0 - start[r]) / step[r], b = (n[r] - 1 - start[r]) / step[r];
        from = fmax(from, fmin(a, b));
        to = fmin(to, fmax(a, b));
    }
    Line line = {.n = 0};
    if (!(from <= to))
        return line;
    line.first = (int)ceil(from);
    line.n = (int)floor(to) - line.first + 1;
    line.at = ((size_t)k * (size_t)f->ny + (size_t)j) * (size_t)f->nx + (size_t)line.first;
    for (int r = 0; r < 3; r++) {
        line.start[r] = (float)(start[r] + step[r] * line.first);
        line.step[r] = (float)step[r];
    }
    return line;
}

static inline float minf(float a, float b)
{
    return a < b ? a : b;
}

static inline float maxf(float a, float b)
{
    return a > b ? a : b;
}

/* Voxel at or below position p that has a neighbour above, and the distance to it. */
static inline int32_t split(float p, int32_t n, float *ret_frac)
{
    int32_t i = (int32_t)maxf(p, 0);
    i = i > n - 2 ? n - 2 : i;
    *ret_frac = p - (float)i;
    return i;
}

/* How far inside the moving image, in voxels, cut to 0..1. */
static inline float apodise(float x, float y, float z, int32_t nx, int32_t ny, int32_t nz)
{
    float e = minf(minf(minf(x, (float)(nx - 1) - x), minf(y, (float)(ny - 1) - y)),
                   minf(z, (float)(nz - 1) - z));
    return minf(maxf(e, 0), 1);
}

HOT_CLONES
static void sample_values(const VolumeF32 *moving, const Line *line, float *restrict value,
                          float *restrict weight)
{
    const float *restrict v = moving->v;
    const int32_t nx = moving->grid.nx, ny = moving->grid.ny, nz = moving->grid.nz;
    const int32_t sy = nx, sz = nx * ny;
    const float x0 = line->start[0], y0 = line->start[1], z0 = line->start[2];
    const float dx = line->step[0], dy = line->step[1], dz = line->step[2];
    const int n = line->n;
    for (int i = 0; i < n; i++) {
        float x = x0 + dx * (float)i, y = y0 + dy * (float)i, z = z0 + dz * (float)i;
        float fx, fy, fz;
        int32_t at = split(x, nx, &fx) + split(y, ny, &fy) * sy + split(z, nz, &fz) * sz;
        float a = v[at] + fx * (v[at + 1] - v[at]);
        float b = v[at + sy] + fx * (v[at + sy + 1] - v[at + sy]);
        float c = v[at + sz] + fx * (v[at + sz + 1] - v[at + sz]);
        float d = v[at + sz + sy] + fx * (v[at + sz + sy + 1] - v[at + sz + sy]);
        a += fy * (b - a);
        c += fy * (d - c);
        value[i] = a + fz * (c - a);
        weight[i] = apodise(x, y, z, nx, ny, nz);
    }
}

/* The same, and the gradient along the moving voxel axes. */
HOT_CLONES
static void sample_gradients(const VolumeF32 *moving, const Line *line, float *restrict value,
                             float *restrict weight, float *restrict gx, float *restrict gy,
                             float *restrict gz)
{
    const float *restrict v = moving->v;
    const int32_t nx = moving->grid.nx, ny = moving->grid.ny, nz = moving->grid.nz;
    const int32_t sy = nx, sz = nx * ny;
    const float x0 = line->start[0], y0 = line->start[1], z0 = line->start[2];
    const float dx = line->step[0], dy = line->step[1], dz = line->step[2];
    const int n = line->n;
    for (int i = 0; i < n; i++) {
        float x = x0 + dx * (float)i, y = y0 + dy * (float)i, z = z0 + dz * (float)i;
        float fx, fy, fz;
        int32_t at = split(x, nx, &fx) + split(y, ny, &fy) * sy + split(z, nz, &fz) * sz;
        float da = v[at + 1] - v[at], db = v[at + sy + 1] - v[at + sy];
        float dc = v[at + sz + 1] - v[at + sz], dd = v[at + sz + sy + 1] - v[at + sz + sy];
        float a = v[at] + fx * da, b = v[at + sy] + fx * db;
        float c = v[at + sz] + fx * dc, d = v[at + sz + sy] + fx * dd;
        float low = a + fy * (b - a), high = c + fy * (d - c);
        float dlow = da + fy * (db - da), dhigh = dc + fy * (dd - dc);
        value[i] = low + fz * (high - low);
        weight[i] = apodise(x, y, z, nx, ny, nz);
        gx[i] = dlow + fz * (dhigh - dlow);
        gy[i] = (b - a) + fz * ((d - c) - (b - a));
        gz[i] = high - low;
    }
}

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
    const Walk *walk = context;
    const Grid *f = &walk->level->fixed;
    Interval bank[BANKS][METRIC_BINS];
    Row row;
    memset(bank, 0, sizeof bank);
    int from = f->nz * chunk / walk->n_chunks, to = f->nz * (chunk + 1) / walk->n_chunks;
    for (int k = from; k < to; k++)
        for (int j = 0; j < f->ny; j++) {
            Line line = line_at(walk, j, k);
            if (line.n <= 0)
                continue;
            sample_values(&walk->level->moving, &line, row.value, row.weight);
            add_intervals(walk->level, &line, &row, bank);
        }
    for (int b = 0; b < METRIC_BINS; b++)
        for (int s = 0; s < 8; s++)
            walk->cost[chunk].interval[b].s[s] =
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
    if (ret->overlap_frac < OVERLAP_WANTED)
        ret->cost += 0.5 * (OVERLAP_WANTED - ret->overlap_frac);
}

static void walk_init(Walk *walk, const MetricLevel *level, Affine moving_from_fixed)
{
    Affine vox_from_moving;
    bool invertible = affine_inverse(level->moving.grid.lps_from_vox, &vox_from_moving);
    ASSERT(invertible && level->fixed.nx <= ROW_MAX);
    Affine moving_from_vox = affine_mul(moving_from_fixed, level->fixed.lps_from_vox);
    size_t chunks = grid_voxels(&level->fixed) / SAMPLES_PER_CHUNK;
    int most = level->fixed.nz < CHUNKS_MAX ? level->fixed.nz : CHUNKS_MAX;
    *walk = (Walk){.level = level, .vox_from_fixed = affine_mul(vox_from_moving, moving_from_vox)};
    walk->n_chunks = chunks < 1 ? 1 : chunks > (size_t)most ? most : (int)chunks;
}

void metric_cost(const MetricLevel *level, Affine moving_from_fixed, int threads, MetricCost *ret)
{
    Walk walk;
    CostChunk chunks[CHUNKS_MAX], sum;
    walk_init(&walk, level, moving_from_fixed);
    walk.cost = chunks;
    parallel_for(threads, walk.n_chunks, cost_chunk, &walk);
    sum = chunks[0];
    for (int c = 1; c < walk.n_chunks; c++)
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
        float u = maxf(bin[i], 0);
        int32_t b = (int32_t)minf(u, METRIC_BINS - 2);
        float q = u - (float)b;
        float r = value[i] - (mean[b] + q * (mean[b + 1] - mean[b]));
        float robust = scale_squared / (scale_squared + r * r);
        value[i] = r;
        weight[i] = bin[i] < 0 ? 0 : weight[i] * robust * robust;
    }
}

/* Moments of a row, in LANES separate sums. n is a multiple of LANES. */
HOT_CLONES
static void add_moments(const Row *restrict row, int n, float sum[restrict MOMENTS][LANES])
{
    const float *restrict gx = row->gradient[0], *restrict gy = row->gradient[1];
    const float *restrict gz = row->gradient[2];
    for (int at = 0; at < n; at += LANES) {
        for (int l = 0; l < LANES; l++) {
            float x = gx[at + l], y = gy[at + l], z = gz[at + l];
            float w = row->weight[at + l], i = row->i[at + l], r = row->value[at + l];
            float wx = w * x, wy = w * y, wz = w * z, ix = i * wx, iy = i * wy, iz = i * wz;
            sum[0][l] += wx * x;
            sum[1][l] += wx * y;
            sum[2][l] += wx * z;
            sum[3][l] += wy * y;
            sum[4][l] += wy * z;
            sum[5][l] += wz * z;
            sum[6][l] += ix * x;
            sum[7][l] += ix * y;
            sum[8][l] += ix * z;
            sum[9][l] += iy * y;
            sum[10][l] += iy * z;
            sum[11][l] += iz * z;
            sum[12][l] += ix * i * x;
            sum[13][l] += ix * i * y;
            sum[14][l] += ix * i * z;
            sum[15][l] += iy * i * y;
            sum[16][l] += iy * i * z;
            sum[17][l] += iz * i * z;
            sum[18][l] += wx * r;
            sum[19][l] += wy * r;
            sum[20][l] += wz * r;
            sum[21][l] += ix * r;
            sum[22][l] += iy * r;
            sum[23][l] += iz * r;
        }
    }
}

/* Adds a row's moments, with its j and k (from the middle), to the chunk. PAIRS_Q in the order
** ii ij ik i1 jj jk j1 kk k1 11. */
static void add_row(float sum[MOMENTS][LANES], double j, double k, SystemChunk *chunk)
{
    double m[MOMENTS];
    for (int s = 0; s < MOMENTS; s++) {
        m[s] = 0;
        for (int l = 0; l < LANES; l++)
            m[s] += (double)sum[s][l];
    }
    for (int p = 0; p < PAIRS_G; p++) {
        double m0 = m[p], m1 = m[PAIRS_G + p], m2 = m[2 * PAIRS_G + p];
        const double term[PAIRS_Q] = {m2,         m1 * j, m1 * k,     m1,     m0 * j * j,
                                      m0 * j * k, m0 * j, m0 * k * k, m0 * k, m0};
        for (int q = 0; q < PAIRS_Q; q++)
            chunk->h[p][q] += term[q];
    }
    for (int a = 0; a < 3; a++) {
        double g0 = m[3 * PAIRS_G + a], g1 = m[3 * PAIRS_G + 3 + a];
        chunk->g[a][0] += g1;
        chunk->g[a][1] += g0 * j;
        chunk->g[a][2] += g0 * k;
        chunk->g[a][3] += g0;
    }
}

static void system_chunk(void *context, int chunk)
{
    const Walk *walk = context;
    const MetricLevel *level = walk->level;
    const Grid *f = &level->fixed;
    const float scale_squared = (float)(9 * walk->at->variance) + 1e-12f; /* 3 sigma */
    Row row;
    SystemChunk *ret = &walk->system[chunk];
    memset(ret, 0, sizeof *ret);
    int from = f->nz * chunk / walk->n_chunks, to = f->nz * (chunk + 1) / walk->n_chunks;
    for (int k = from; k < to; k++)
        for (int j = 0; j < f->ny; j++) {
            Line line = line_at(walk, j, k);
            if (line.n <= 0)
                continue;
            sample_gradients(&level->moving, &line, row.value, row.weight, row.gradient[0],
                             row.gradient[1], row.gradient[2]);
            weigh_residuals(level->bin + line.at, walk->at->mean, scale_squared, line.n, row.value,
                            row.weight);
            int n = (line.n + LANES - 1) / LANES * LANES;
            for (int i = 0; i < n; i++)
                row.i[i] = (float)(line.first + i) - 0.5f * (float)f->nx;
            for (int i = line.n; i < n; i++)
                row.weight[i] = row.value[i] = row.gradient[0][i] = row.gradient[1][i] =
                    row.gradient[2][i] = 0;
            float sum[MOMENTS][LANES];
            memset(sum, 0, sizeof sum);
            add_moments(&row, n, sum);
            add_row(sum, j - 0.5 * f->ny, k - 0.5 * f->nz, ret);
        }
}

static int pair_index(int a, int b, int n)
{
    int low = a < b ? a : b, high = a < b ? b : a;
    return low * n - low * (low - 1) / 2 + (high - low);
}

/* From (moving voxel gradient) x (i, j, k, 1) to the parameters of MetricSystem. With the gradient
** in mm G = L'g and Q = C (i, j, k, 1): H = sum over g, g', q, q' of L L C C (sums). */
static void change_parameters(const Walk *walk, const SystemChunk *sum, MetricSystem *ret)
{
    const Grid *f = &walk->level->fixed;
    Affine l;
    bool invertible = affine_inverse(walk->level->moving.grid.lps_from_vox, &l);
    ASSERT(invertible);
    double c[4][4] = {{0}};
    Vec3 middle = affine_apply(f->lps_from_vox, (Vec3){0.5 * f->nx, 0.5 * f->ny, 0.5 * f->nz});
    Vec3 d = vec3_sub(middle, walk->level->centre_lps);
    const double offset[3] = {d.x, d.y, d.z};
    for (int r = 0; r < 3; r++) {
        for (int e = 0; e < 3; e++)
            c[r][e] = f->lps_from_vox.m[r][e] / METRIC_RADIUS_MM;
        c[r][3] = offset[r] / METRIC_RADIUS_MM;
    }
    c[3][3] = 1;
    memset(ret, 0, sizeof *ret);
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++) {
            double s[PAIRS_Q] = {0};
            for (int v = 0; v < 3; v++)
                for (int w = 0; w < 3; w++)
                    for (int q = 0; q < PAIRS_Q; q++)
                        s[q] += l.m[v][a] * l.m[w][b] * sum->h[pair_index(v, w, 3)][q];
            for (int p = 0; p < 4; p++)
                for (int q = 0; q < 4; q++)
                    for (int e = 0; e < 4; e++)
                        for (int h = 0; h < 4; h++)
                            ret->h[4 * a + p][4 * b + q] +=
                                c[p][e] * c[q][h] * s[pair_index(e, h, 4)];
        }
    for (int a = 0; a < 3; a++)
        for (int p = 0; p < 4; p++)
            for (int v = 0; v < 3; v++)
                for (int e = 0; e < 4; e++)
                    ret->g[4 * a + p] += l.m[v][a] * c[p][e] * sum->g[v][e];
}

void metric_system(const MetricLevel *level, Affine moving_from_fixed, const MetricCost *at,
                   int threads, MetricSystem *ret)
{
    Walk walk;
    SystemChunk chunks[CHUNKS_MAX], sum;
    walk_init(&walk, level, moving_from_fixed);
    walk.at = at;
    walk.system = chunks;
    parallel_for(threads, walk.n_chunks, system_chunk, &walk);
    sum = chunks[0];
    for (int c = 1; c < walk.n_chunks; c++) {
        for (int p = 0; p < PAIRS_G; p++)
            for (int q = 0; q < PAIRS_Q; q++)
                sum.h[p][q] += chunks[c].h[p][q];
        for (int a = 0; a < 3; a++)
            for (int e = 0; e < 4; e++)
                sum.g[a][e] += chunks[c].g[a][e];
    }
    change_parameters(&walk, &sum, ret);
}
