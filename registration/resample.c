/* Trilinear, cubic and nearest-neighbour resampling. See resample.h. The cubic kernel is Keys's
** with a = -1/2 (Keys, Cubic convolution interpolation for digital image processing, 1981); beyond
** the last voxel its value is held.
**
** A row of the output is a line through the source: start and step, in double. Positions within
** SNAP of a voxel centre are taken to be on it, so that resampling onto the same grid, or one
** shifted by whole voxels, returns the same bits although the matrices were multiplied and
** inverted on the way. Rows run in blocks through small arrays; every loop is plain and vectorises.
*/
#include "registration/resample.h"

#include "base/hot.h"
#include "base/parallel.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 256 };
#define SNAP 1e-6
#define EDGE (0.5 + SNAP) /* exactly half a voxel outside still is inside */

typedef struct Job {
    ResampleKind kind;
    const Grid *source, *ret;
    const void *from; /* voxels */
    void *to;
    Affine source_vox_from_ret_vox;
    int16_t outside_i16;
    float outside_f32;
} Job;

/* Positions of a block in the source: nearest lower voxel, step to the next, fraction. */
typedef struct Block {
    int64_t at[BLOCK];                                   /* index of the lower corner */
    int32_t next_x[BLOCK], next_y[BLOCK], next_z[BLOCK]; /* 1 or 0 (at the last voxel) */
    float fx[BLOCK], fy[BLOCK], fz[BLOCK];
    int32_t inside[BLOCK];
    float value[BLOCK];
} Block;

/* One axis: adds index * stride to at. */
HOT_CLONES
static void split_axis(double start, double step, int first, int n, int32_t size, int64_t stride,
                       int64_t *restrict at, int32_t *restrict next, float *restrict frac,
                       int32_t *restrict inside)
{
    const double last = size - 1;
    for (int i = 0; i < n; i++) {
        double p = start + step * (double)(first + i);
        inside[i] &= (p >= -EDGE) & (p <= last + EDGE);
        p = p < 0 ? 0 : p;
        p = p > last ? last : p;
        double near = (double)(int32_t)(p + 0.5), off = p - near;
        p = ((off < SNAP) & (off > -SNAP)) ? near : p;
        int32_t low = (int32_t)p;
        at[i] += low * stride;
        next[i] = low < size - 1;
        frac[i] = (float)(p - low);
    }
}

/* Whether any of the block may be inside; most blocks of a large output may not be. */
static bool locate(const Job *job, int x, int y, int z, int n, Block *b)
{
    const Grid *s = job->source;
    const int32_t size[3] = {s->nx, s->ny, s->nz};
    const int64_t stride[3] = {1, s->nx, (int64_t)s->nx * s->ny};
    double start[3];
    for (int a = 0; a < 3; a++) {
        const double *m = job->source_vox_from_ret_vox.m[a];
        start[a] = m[1] * y + m[2] * z + m[3];
        double p = start[a] + m[0] * x, q = start[a] + m[0] * (x + n - 1);
        if (!(fmax(p, q) >= -1 && fmin(p, q) <= size[a]))
            return false;
    }
    memset(b->at, 0, (size_t)n * sizeof *b->at);
    for (int i = 0; i < n; i++)
        b->inside[i] = 1;
    int32_t *next[3] = {b->next_x, b->next_y, b->next_z};
    float *frac[3] = {b->fx, b->fy, b->fz};
    for (int a = 0; a < 3; a++)
        split_axis(start[a], job->source_vox_from_ret_vox.m[a][0], x, n, size[a], stride[a], b->at,
                   next[a], frac[a], b->inside);
    return true;
}

#define TRILINEAR(TYPE, NAME)                                                                      \
    HOT_CLONES                                                                                     \
    static void NAME(const TYPE *restrict v, Block *restrict b, int n, int64_t sy, int64_t sz)     \
    {                                                                                              \
        for (int i = 0; i < n; i++) {                                                              \
            const TYPE *low = v + b->at[i], *high = low + sz * b->next_z[i];                       \
            int64_t x = b->next_x[i], y = sy * b->next_y[i];                                       \
            float fx = b->fx[i], fy = b->fy[i], fz = b->fz[i];                                     \
            float p = (float)low[0], q = (float)low[y], r = (float)high[0], s = (float)high[y];    \
            p += fx * ((float)low[x] - p);                                                         \
            q += fx * ((float)low[x + y] - q);                                                     \
            r += fx * ((float)high[x] - r);                                                        \
            s += fx * ((float)high[x + y] - s);                                                    \
            p += fy * (q - p);                                                                     \
            r += fy * (s - r);                                                                     \
            b->value[i] = p + fz * (r - p);                                                        \
        }                                                                                          \
    }
TRILINEAR(int16_t, trilinear_i16)
TRILINEAR(float, trilinear_f32)

/* Keys's weights of voxels -1, 0, 1, 2 at fraction f between 0 and 1. */
static inline void cubic_weights(float f, float ret[4])
{
    float f2 = f * f, f3 = f2 * f;
    ret[0] = -0.5f * f + f2 - 0.5f * f3;
    ret[1] = 1 - 2.5f * f2 + 1.5f * f3;
    ret[2] = 0.5f * f + 2 * f2 - 1.5f * f3;
    ret[3] = -0.5f * f2 + 0.5f * f3;
}

/* Offsets of the four voxels along an axis of `size` voxels, from voxel `low`. */
static inline void cubic_offsets(int64_t low, int64_t size, int64_t stride, int64_t ret[4])
{
    for (int64_t k = 0; k < 4; k++) {
        int64_t i = low + k - 1;
        i = i < 0 ? 0 : i > size - 1 ? size - 1 : i;
        ret[k] = (i - low) * stride;
    }
}

#define CUBIC(TYPE, NAME)                                                                          \
    HOT_CLONES                                                                                     \
    static void NAME(const TYPE *restrict v, const Grid *g, Block *restrict b, int n)              \
    {                                                                                              \
        const int64_t sy = g->nx, sz = sy * g->ny;                                                 \
        for (int i = 0; i < n; i++) {                                                              \
            float wx[4], wy[4], wz[4], sum = 0;                                                    \
            int64_t at = b->at[i], z = at / sz, y = (at - z * sz) / sy, x = at - z * sz - y * sy;  \
            int64_t ox[4], oy[4], oz[4];                                                           \
            cubic_weights(b->fx[i], wx);                                                           \
            cubic_weights(b->fy[i], wy);                                                           \
            cubic_weights(b->fz[i], wz);                                                           \
            cubic_offsets(x, g->nx, 1, ox);                                                        \
            cubic_offsets(y, g->ny, sy, oy);                                                       \
            cubic_offsets(z, g->nz, sz, oz);                                                       \
            for (int k = 0; k < 4; k++)                                                            \
                for (int j = 0; j < 4; j++) {                                                      \
                    const TYPE *row = v + at + oz[k] + oy[j];                                      \
                    float line = wx[0] * (float)row[ox[0]] + wx[1] * (float)row[ox[1]] +           \
                                 wx[2] * (float)row[ox[2]] + wx[3] * (float)row[ox[3]];            \
                    sum += wz[k] * wy[j] * line;                                                   \
                }                                                                                  \
            b->value[i] = sum;                                                                     \
        }                                                                                          \
    }
CUBIC(int16_t, cubic_i16)
CUBIC(float, cubic_f32)

HOT_CLONES
static void store_i16(const Block *restrict b, int n, int16_t outside, int16_t *restrict ret)
{
    for (int i = 0; i < n; i++) {
        float v = b->value[i]; /* a cubic may overshoot */
        v = v < INT16_MIN ? INT16_MIN : v > INT16_MAX ? INT16_MAX : v;
        int32_t rounded = (int32_t)(v < 0 ? v - 0.5f : v + 0.5f);
        ret[i] = (int16_t)(b->inside[i] ? rounded : outside);
    }
}

HOT_CLONES
static void store_f32(const Block *restrict b, int n, float outside, float *restrict ret)
{
    for (int i = 0; i < n; i++)
        ret[i] = b->inside[i] ? b->value[i] : outside;
}

static void fill_i16(int16_t *ret, int n, int16_t value)
{
    for (int i = 0; i < n; i++)
        ret[i] = value;
}

static void fill_f32(float *ret, int n, float value)
{
    for (int i = 0; i < n; i++)
        ret[i] = value;
}

static size_t row_start(const Grid *g, int y, int z)
{
    return ((size_t)z * (size_t)g->ny + (size_t)y) * (size_t)g->nx;
}

static void slice_i16(void *context, int z)
{
    const Job *job = context;
    const int64_t sy = job->source->nx, sz = sy * job->source->ny;
    Block b;
    for (int y = 0; y < job->ret->ny; y++) {
        int16_t *row = (int16_t *)job->to + row_start(job->ret, y, z);
        for (int x = 0; x < job->ret->nx; x += BLOCK) {
            int n = job->ret->nx - x < BLOCK ? job->ret->nx - x : BLOCK;
            if (!locate(job, x, y, z, n, &b)) {
                fill_i16(row + x, n, job->outside_i16);
                continue;
            }
            if (job->kind == RESAMPLE_CUBIC)
                cubic_i16(job->from, job->source, &b, n);
            else
                trilinear_i16(job->from, &b, n, sy, sz);
            store_i16(&b, n, job->outside_i16, row + x);
        }
    }
}

static void slice_f32(void *context, int z)
{
    const Job *job = context;
    const int64_t sy = job->source->nx, sz = sy * job->source->ny;
    Block b;
    for (int y = 0; y < job->ret->ny; y++) {
        float *row = (float *)job->to + row_start(job->ret, y, z);
        for (int x = 0; x < job->ret->nx; x += BLOCK) {
            int n = job->ret->nx - x < BLOCK ? job->ret->nx - x : BLOCK;
            if (!locate(job, x, y, z, n, &b)) {
                fill_f32(row + x, n, job->outside_f32);
                continue;
            }
            if (job->kind == RESAMPLE_CUBIC)
                cubic_f32(job->from, job->source, &b, n);
            else
                trilinear_f32(job->from, &b, n, sy, sz);
            store_f32(&b, n, job->outside_f32, row + x);
        }
    }
}

static void slice_mask(void *context, int z)
{
    const Job *job = context;
    const int64_t sy = job->source->nx, sz = sy * job->source->ny;
    const uint8_t *v = job->from;
    Block b;
    for (int y = 0; y < job->ret->ny; y++) {
        uint8_t *row = (uint8_t *)job->to + row_start(job->ret, y, z);
        for (int x = 0; x < job->ret->nx; x += BLOCK) {
            int n = job->ret->nx - x < BLOCK ? job->ret->nx - x : BLOCK;
            if (!locate(job, x, y, z, n, &b)) {
                memset(row + x, 0, (size_t)n);
                continue;
            }
            for (int i = 0; i < n; i++) {
                int64_t at = b.at[i] + (b.fx[i] >= 0.5f) + (b.fy[i] >= 0.5f ? sy : 0) +
                             (b.fz[i] >= 0.5f ? sz : 0);
                row[x + i] = b.inside[i] ? v[at] : 0;
            }
        }
    }
}

/* False if the source's grid cannot be inverted: a broken volume, a bug of the caller. */
static bool job_init(Job *job, const Grid *source, Affine src_from_dst_lps, const Grid *ret)
{
    Affine vox_from_lps;
    job->source = source;
    job->ret = ret;
    if (!affine_inverse(source->lps_from_vox, &vox_from_lps))
        return false;
    job->source_vox_from_ret_vox =
        affine_mul(vox_from_lps, affine_mul(src_from_dst_lps, ret->lps_from_vox));
    return true;
}

void resample_i16(const VolumeI16 *source, Affine src_from_dst_lps, int16_t outside, int threads,
                  VolumeI16 *ret)
{
    resample_i16_as(RESAMPLE_LINEAR, source, src_from_dst_lps, outside, threads, ret);
}

void resample_i16_as(ResampleKind kind, const VolumeI16 *source, Affine src_from_dst_lps,
                     int16_t outside, int threads, VolumeI16 *ret)
{
    Job job = {.kind = kind, .from = source->v, .to = ret->v, .outside_i16 = outside};
    ASSERT(job_init(&job, &source->grid, src_from_dst_lps, &ret->grid));
    parallel_for(threads, ret->grid.nz, slice_i16, &job);
}

void resample_f32(const VolumeF32 *source, Affine src_from_dst_lps, float outside, int threads,
                  VolumeF32 *ret)
{
    resample_f32_as(RESAMPLE_LINEAR, source, src_from_dst_lps, outside, threads, ret);
}

void resample_f32_as(ResampleKind kind, const VolumeF32 *source, Affine src_from_dst_lps,
                     float outside, int threads, VolumeF32 *ret)
{
    Job job = {.kind = kind, .from = source->v, .to = ret->v, .outside_f32 = outside};
    ASSERT(job_init(&job, &source->grid, src_from_dst_lps, &ret->grid));
    parallel_for(threads, ret->grid.nz, slice_f32, &job);
}

void resample_mask(const VolumeU8 *source, Affine src_from_dst_lps, int threads, VolumeU8 *ret)
{
    Job job = {.from = source->v, .to = ret->v};
    ASSERT(job_init(&job, &source->grid, src_from_dst_lps, &ret->grid));
    parallel_for(threads, ret->grid.nz, slice_mask, &job);
}
