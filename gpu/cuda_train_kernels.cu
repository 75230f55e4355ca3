/* What lies between the convolutions of a training step on a GPU. See cuda_kernels.h; the formulas
** stand in train_ref_ops.c.
**
** As cuda_kernels.cu: 16 bytes a thread, no barriers, no shared memory. Sums over pixels are made
** in a tree of fixed form (32 pixels, then 64 rows at a time), so that every run has the same bits;
** a gradient is gathered where it arrives, never scattered. Numbers are float32 within a thread. */
#include "gpu/cuda_device.h"

namespace
{

/* ---- weights and gradients ----------------------------------------------------------------- */

/* One thread is one half. */
__global__ void __launch_bounds__(BLOCK) cast_weights(const KernelCall k)
{
    long long i = thread_index(), taps = (long long)k.side * k.side;
    if (i >= k.h * taps * k.w)
        return;
    long long in = i % k.w, p = i / k.w, tap = p % taps, out = p / taps;
    const float *x = (const float *)k.a;
    float v = out < k.n && in < k.c ? x[out * k.stride_o + in * k.stride_i + tap] : 0.0f;
    ((__half *)k.y)[i] = __float2half(v);
}

/* One thread is one half. */
__global__ void __launch_bounds__(BLOCK) take_weights(const KernelCall k)
{
    long long i = thread_index(), taps = (long long)k.side * k.side;
    if (i >= k.n * taps * k.c)
        return;
    long long in = i % k.c, p = i / k.c, tap = p % taps, out = p / taps;
    float v = k.scale * __half2float(((const __half *)k.a)[(out * taps + tap) * k.w + in]);
    if (!isfinite(v))
        atomicAdd(k.count, 1u);
    ((float *)k.y)[out * k.stride_o + in * k.stride_i + tap] = v;
}

/* One thread is one number of y. */
__global__ void __launch_bounds__(BLOCK) loss_gradient(const KernelCall k)
{
    long long i = thread_index(), plane = (long long)k.h * k.w;
    int channels = k.wide != 0 ? 1 : k.c;
    if (i >= k.n * plane * channels)
        return;
    long long c = i % channels, p = i / channels, slice = p / plane, pixel = p % plane;
    float v = c < k.c2 ? k.scale * ((const float *)k.a)[(slice * k.c2 + c) * plane + pixel] : 0.0f;
    if (k.wide != 0)
        ((float *)k.y)[i] = v;
    else
        ((__half *)k.y)[i] = __float2half(v);
}

__global__ void __launch_bounds__(BLOCK) scale(const KernelCall k)
{
    long long i = thread_index();
    if (i >= k.n)
        return;
    float v = k.scale * ((const float *)k.a)[i];
    if (!isfinite(v))
        atomicAdd(k.count, 1u);
    ((float *)k.y)[i] = v;
}

/* ---- sums ---------------------------------------------------------------------------------- */

struct Sums {
    float s[LANES], q[LANES];
};

/* One thread is 8 channels of SUM_PIXELS pixels. */
__global__ void __launch_bounds__(BLOCK) sum_pixels(const KernelCall k)
{
    long long i = thread_index(), pixels = (long long)k.n * k.h * k.w;
    int vectors = k.c / LANES;
    if (i >= (pixels + SUM_PIXELS - 1) / SUM_PIXELS * vectors)
        return;
    long long c = i % vectors, row = i / vectors;
    long long begin = row * SUM_PIXELS, end = begin + SUM_PIXELS;
    const Vector *a = (const Vector *)k.a, *b = (const Vector *)k.b;
    const Vector first = a[c];
    const float *mean = k.kind == KERNEL_PRODUCTS ? k.norm.mean + c * LANES : nullptr;
    Sums sums = {};
    for (long long p = begin; p < end && p < pixels; p++) {
        Vector v = a[p * vectors + c], x = v;
        if (k.kind == KERNEL_PRODUCTS)
            x = b[p * vectors + c];
        for (int lane = 0; lane < LANES; lane++) {
            float d = at(v, lane), shift = at(first, lane);
            if (k.kind == KERNEL_MOMENTS) {
                sums.s[lane] += d - shift;
                sums.q[lane] += (d - shift) * (d - shift);
            } else {
                sums.s[lane] += d;
                if (k.kind == KERNEL_PRODUCTS)
                    sums.q[lane] += d * (at(x, lane) - mean[lane]);
            }
        }
    }
    int columns = k.kind == KERNEL_COLUMNS ? k.c : 2 * k.c;
    float *y = (float *)k.y + row * columns + c * LANES;
    for (int lane = 0; lane < LANES; lane++) {
        y[lane] = sums.s[lane];
        if (k.kind != KERNEL_COLUMNS)
            y[k.c + lane] = sums.q[lane];
    }
}

/* One thread is one sum. */
__global__ void __launch_bounds__(BLOCK) sum_rows(const KernelCall k)
{
    long long i = thread_index(), row = i / k.c, c = i % k.c;
    if (i >= ((long long)k.n + SUM_ROWS - 1) / SUM_ROWS * k.c)
        return;
    float sum = 0;
    for (long long r = row * SUM_ROWS; r < (row + 1) * SUM_ROWS && r < k.n; r++)
        sum += ((const float *)k.a)[r * k.c + c];
    ((float *)k.y)[i] = sum;
}

/* ---- batch norm ---------------------------------------------------------------------------- */

/* One thread is one channel. */
__global__ void __launch_bounds__(BLOCK) norm_statistics(const KernelCall k)
{
    long long c = thread_index();
    const KernelNorm &norm = k.norm;
    if (c >= k.c)
        return;
    double mean = (double)norm.running_mean[c], variance = (double)norm.running_variance[c];
    if (k.a != nullptr) {
        const float *sums = (const float *)k.a;
        double count = (double)k.n * k.h * k.w, repeated = count * norm.repeats;
        mean = (double)sums[c] / count;
        variance = fmax((double)sums[k.c + c] / count - mean * mean, 0.0);
        mean += (double)__half2float(((const __half *)k.b)[c]);
        norm.running_mean[c] =
            (float)((1 - norm.momentum) * (double)norm.running_mean[c] + norm.momentum * mean);
        norm.running_variance[c] =
            (float)((1 - norm.momentum) * (double)norm.running_variance[c] +
                    norm.momentum * variance * repeated / (repeated - 1));
    }
    norm.mean[c] = (float)mean;
    norm.inverse_sd[c] = (float)(1 / sqrt(variance + norm.epsilon));
    norm.scale[c] = norm.gamma[c] * norm.inverse_sd[c];
}

/* One thread is 8 channels of one pixel. */
__global__ void __launch_bounds__(BLOCK) norm_apply(const KernelCall k)
{
    long long i = thread_index();
    int vectors = k.c / LANES;
    if (i >= (long long)k.n * k.h * k.w * vectors)
        return;
    long long v = i % vectors, p = i / vectors;
    if (k.doubles != 0) {
        long long x = p % k.w, q = p / k.w, y = q % k.h, slice = q / k.h;
        p = (slice * (k.h / 2) + y / 2) * (k.w / 2) + x / 2;
    }
    const Vector x = ((const Vector *)k.a)[i];
    Vector residual = {}, y;
    if (k.b != nullptr)
        residual = ((const Vector *)k.b)[p * vectors + v];
    for (int lane = 0; lane < LANES; lane++) {
        long long c = v * LANES + lane;
        float value = (at(x, lane) - k.norm.mean[c]) * k.norm.scale[c] + k.norm.beta[c];
        if (k.b != nullptr)
            value += at(residual, lane);
        y.lane[lane] = __float2half(k.relu != 0 && value < 0.0f ? 0.0f : value);
    }
    ((Vector *)k.y)[i] = y;
}

/* One thread is one channel. */
__global__ void __launch_bounds__(BLOCK) norm_gradients(const KernelCall k)
{
    long long c = thread_index();
    const KernelNorm &norm = k.norm;
    if (c >= k.c)
        return;
    const float *sums = (const float *)k.a;
    float count = (float)k.n * (float)k.h * (float)k.w;
    float dbeta = sums[c], dgamma = sums[k.c + c] * norm.inverse_sd[c];
    norm.dgamma[c] = k.scale * dgamma;
    norm.dbeta[c] = k.scale * dbeta;
    if (!isfinite(dgamma) || !isfinite(dbeta))
        atomicAdd(k.count, 1u);
    norm.k0[c] = -norm.scale[c] * (dbeta / count);
    norm.k2[c] = -norm.scale[c] * norm.inverse_sd[c] * (dgamma / count);
}

/* One thread is 8 channels of one pixel. */
__global__ void __launch_bounds__(BLOCK) norm_back(const KernelCall k)
{
    long long i = thread_index();
    int vectors = k.c / LANES;
    if (i >= (long long)k.n * k.h * k.w * vectors)
        return;
    const KernelNorm &norm = k.norm;
    const Vector d = ((const Vector *)k.a)[i];
    Vector x = {}, y;
    if (norm.k0 != nullptr)
        x = ((const Vector *)k.b)[i];
    for (int lane = 0; lane < LANES; lane++) {
        long long c = i % vectors * LANES + lane;
        float v = norm.scale[c] * at(d, lane);
        if (norm.k0 != nullptr)
            v += norm.k2[c] * (at(x, lane) - norm.mean[c]) + norm.k0[c];
        y.lane[lane] = __float2half(v);
    }
    ((Vector *)k.y)[i] = y;
}

/* ---- the others ---------------------------------------------------------------------------- */

/* One thread is 8 channels of one pixel. */
__global__ void __launch_bounds__(BLOCK) point(const KernelCall k)
{
    long long i = thread_index();
    if (i >= (long long)k.n * k.h * k.w * (k.c / LANES))
        return;
    Vector v = ((const Vector *)k.a)[i], second = {}, gate = {};
    if (k.b != nullptr)
        second = ((const Vector *)k.b)[i];
    if (k.gate != nullptr)
        gate = ((const Vector *)k.gate)[i];
    for (int lane = 0; lane < LANES; lane++) {
        float x = at(v, lane);
        if (k.b != nullptr)
            x += at(second, lane);
        if ((k.relu != 0 && x < 0.0f) || (k.gate != nullptr && !(at(gate, lane) > 0.0f)))
            x = 0.0f;
        v.lane[lane] = __float2half(x);
    }
    ((Vector *)k.y)[i] = v;
    if (k.y2 != nullptr)
        ((Vector *)k.y2)[i] = v;
}

/* One thread is 8 channels of one input pixel: of every window that it is in, if it was largest. */
__global__ void __launch_bounds__(BLOCK) pool_back(const KernelCall k)
{
    long long i = thread_index();
    int vectors = k.c / LANES, out_h = k.h / 2, out_w = k.w / 2, pad = k.side == 3 ? 1 : 0;
    if (i >= (long long)k.n * k.h * k.w * vectors)
        return;
    long long c = i % vectors, p = i / vectors, ix = p % k.w, q = p / k.w, iy = q % k.h;
    long long slice = q / k.h;
    float sum[LANES] = {};
    for (long long oy = (iy + pad) / 2; oy >= 0 && 2 * oy - pad + k.side > iy; oy--)
        for (long long ox = (ix + pad) / 2; ox >= 0 && 2 * ox - pad + k.side > ix; ox--) {
            if (oy >= out_h || ox >= out_w)
                continue;
            long long o = ((slice * out_h + oy) * out_w + ox) * vectors + c;
            long long tap = (iy - 2 * oy + pad) * k.side + (ix - 2 * ox + pad);
            const Vector d = ((const Vector *)k.a)[o];
            const Bytes which = ((const Bytes *)k.b)[o];
            for (int lane = 0; lane < LANES; lane++)
                if (which.lane[lane] == tap)
                    sum[lane] += at(d, lane);
        }
    Vector v;
    for (int lane = 0; lane < LANES; lane++)
        v.lane[lane] = __float2half(sum[lane]);
    ((Vector *)k.y)[i] = v;
}

/* One thread is 8 channels of one pixel of y. */
__global__ void __launch_bounds__(BLOCK) take(const KernelCall k)
{
    long long i = thread_index();
    int vectors = k.c / LANES, from = k.c2 / LANES;
    if (i >= (long long)k.n * k.h * k.w * vectors)
        return;
    long long c = i % vectors + k.offset / LANES, p = i / vectors;
    const Vector *a = (const Vector *)k.a + c;
    if (k.doubles == 0) {
        ((Vector *)k.y)[i] = a[p * from];
        return;
    }
    long long x = p % k.w, q = p / k.w; /* q: row of all slices */
    float sum[LANES] = {};
    for (int part = 0; part < 4; part++) {
        const Vector v = a[((2 * q + part / 2) * 2 * k.w + 2 * x + part % 2) * from];
        for (int lane = 0; lane < LANES; lane++)
            sum[lane] += at(v, lane);
    }
    Vector v;
    for (int lane = 0; lane < LANES; lane++)
        v.lane[lane] = __float2half(sum[lane]);
    ((Vector *)k.y)[i] = v;
}

/* One thread is one output. */
__global__ void __launch_bounds__(BLOCK) taps(const KernelCall k)
{
    long long i = thread_index();
    int halving = k.doubles != 0 ? 2 : 1, w = k.w / halving, h = k.h / halving;
    if (i >= (long long)k.n * k.h * k.w)
        return;
    int ox = (int)(i % k.w), oy = (int)(i / k.w % k.h);
    const __half *x = (const __half *)k.a + i / k.w / k.h * h * w * k.c;
    float sum = k.b != nullptr ? *(const float *)k.b : 0.0f;
    for (int ky = 0; ky < k.side; ky++)
        for (int kx = 0; kx < k.side; kx++) {
            int iy = oy + ky - k.side / 2, ix = ox + kx - k.side / 2;
            if (iy < 0 || iy >= k.h || ix < 0 || ix >= k.w)
                continue;
            long long p = (long long)(iy / halving) * w + ix / halving;
            sum += __half2float(x[p * k.c + ky * k.side + kx]);
        }
    ((float *)k.y)[i] = sum;
}

/* One thread is 8 taps of one pixel of y. */
__global__ void __launch_bounds__(BLOCK) taps_back(const KernelCall k)
{
    long long i = thread_index();
    int vectors = k.c / LANES, halving = k.doubles != 0 ? 2 : 1, w = k.w / halving;
    int h = k.h / halving;
    if (i >= (long long)k.n * h * w * vectors)
        return;
    long long p = i / vectors;
    int x = (int)(p % w), y = (int)(p / w % h);
    const float *d = (const float *)k.a + p / w / h * k.h * k.w;
    Vector v;
    for (int lane = 0; lane < LANES; lane++) {
        int tap = (int)(i % vectors) * LANES + lane;
        float sum = 0;
        for (int part = 0; tap < k.side * k.side && part < halving * halving; part++) {
            int oy = halving * y + part / 2 - (tap / k.side - k.side / 2);
            int ox = halving * x + part % 2 - (tap % k.side - k.side / 2);
            if (oy >= 0 && oy < k.h && ox >= 0 && ox < k.w)
                sum += d[(long long)oy * k.w + ox];
        }
        v.lane[lane] = __float2half(sum);
    }
    ((Vector *)k.y)[i] = v;
}

} // namespace

extern "C" cudaError_t train_kernel_launch(const KernelCall *call, cudaStream_t stream)
{
    const KernelCall &k = *call;
    const long long pixels = (long long)k.n * k.h * k.w, vectors = k.c / LANES;
    const long long side = k.side, quarter = k.doubles != 0 ? 4 : 1;
    (void)stream; /* unused on the host */
    switch (k.kind) {
    case KERNEL_CAST_WEIGHTS:
        LAUNCH(cast_weights, blocks(side * side * k.h * k.w), BLOCK, stream, k);
        break;
    case KERNEL_TAKE_WEIGHTS:
        LAUNCH(take_weights, blocks(side * side * k.n * k.c), BLOCK, stream, k);
        break;
    case KERNEL_LOSS_GRADIENT:
        LAUNCH(loss_gradient, blocks(pixels * (k.wide != 0 ? 1 : k.c)), BLOCK, stream, k);
        break;
    case KERNEL_SCALE:
        LAUNCH(scale, blocks(k.n), BLOCK, stream, k);
        break;
    case KERNEL_MOMENTS:
    case KERNEL_PRODUCTS:
    case KERNEL_COLUMNS:
        LAUNCH(sum_pixels, blocks((pixels + SUM_PIXELS - 1) / SUM_PIXELS * vectors), BLOCK, stream,
               k);
        break;
    case KERNEL_SUM_ROWS:
        LAUNCH(sum_rows, blocks(((long long)k.n + SUM_ROWS - 1) / SUM_ROWS * k.c), BLOCK, stream,
               k);
        break;
    case KERNEL_NORM_STATISTICS:
        LAUNCH(norm_statistics, blocks(k.c), BLOCK, stream, k);
        break;
    case KERNEL_NORM_APPLY:
        LAUNCH(norm_apply, blocks(pixels * vectors), BLOCK, stream, k);
        break;
    case KERNEL_NORM_GRADIENTS:
        LAUNCH(norm_gradients, blocks(k.c), BLOCK, stream, k);
        break;
    case KERNEL_NORM_BACK:
        LAUNCH(norm_back, blocks(pixels * vectors), BLOCK, stream, k);
        break;
    case KERNEL_POINT:
        LAUNCH(point, blocks(pixels * vectors), BLOCK, stream, k);
        break;
    case KERNEL_POOL_BACK:
        LAUNCH(pool_back, blocks(pixels * vectors), BLOCK, stream, k);
        break;
    case KERNEL_TAKE:
        LAUNCH(take, blocks(pixels * vectors), BLOCK, stream, k);
        break;
    case KERNEL_TAPS:
        LAUNCH(taps, blocks(pixels), BLOCK, stream, k);
        break;
    case KERNEL_TAPS_BACK:
        LAUNCH(taps_back, blocks(pixels / quarter * vectors), BLOCK, stream, k);
        break;
    default:
        return cudaErrorInvalidValue;
    }
    return LAUNCH_ERROR();
}
