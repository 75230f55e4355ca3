/* See walk_int.h. */
#include "registration/walk_int.h"

#include "base/err.h"
#include "base/hot.h"

#include <math.h>

enum { SAMPLES_PER_CHUNK = 4096 };

void walk_init(Walk *walk, const MetricLevel *level, Affine moving_from_fixed)
{
    Affine vox_from_moving;
    bool invertible = affine_inverse(level->moving.grid.lps_from_vox, &vox_from_moving);
    ASSERT(invertible && level->fixed.nx <= WALK_ROW_MAX);
    Affine moving_from_vox = affine_mul(moving_from_fixed, level->fixed.lps_from_vox);
    size_t chunks = grid_voxels(&level->fixed) / SAMPLES_PER_CHUNK;
    int most = level->fixed.nz < WALK_CHUNKS_MAX ? level->fixed.nz : WALK_CHUNKS_MAX;
    *walk = (Walk){.level = level, .vox_from_fixed = affine_mul(vox_from_moving, moving_from_vox)};
    walk->n_chunks = chunks < 1 ? 1 : chunks > (size_t)most ? most : (int)chunks;
}

int walk_slice(const Walk *walk, int chunk)
{
    return walk->level->fixed.nz * chunk / walk->n_chunks;
}

Line walk_line(const Walk *walk, int j, int k)
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

void walk_values(const VolumeF32 *moving, const Line *line, Row *ret)
{
    sample_values(moving, line, ret->value, ret->weight);
}

void walk_gradients(const Walk *walk, const Line *line, Row *ret)
{
    sample_gradients(&walk->level->moving, line, ret->value, ret->weight, ret->gradient[0],
                     ret->gradient[1], ret->gradient[2]);
    int n = (line->n + WALK_LANES - 1) / WALK_LANES * WALK_LANES;
    for (int i = 0; i < n; i++)
        ret->i[i] = (float)(line->first + i) - 0.5f * (float)walk->level->fixed.nx;
    for (int i = line->n; i < n; i++)
        ret->weight[i] = ret->value[i] = ret->gradient[0][i] = ret->gradient[1][i] =
            ret->gradient[2][i] = 0;
}
