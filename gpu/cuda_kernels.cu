/* What lies between the convolutions on a GPU. See cuda_kernels.h.
**
** All are limited by memory: a thread moves 16 bytes (8 halves) at a time, neighbouring threads
** neighbouring addresses. No barriers, no shared memory, sums in a fixed order: the same bits on
** every run, and the same source runs on the host in tests. */
#include "gpu/cuda_device.h"

namespace
{

/* One thread is one pixel. */
__global__ void __launch_bounds__(BLOCK) pack(const KernelCall k)
{
    long long i = thread_index(), plane = (long long)k.h * k.w;
    if (i >= k.n * plane)
        return;
    long long slice = i / plane, pixel = i % plane;
    const float *x = (const float *)k.a + slice * k.c * plane + pixel;
    Vector v;
    for (int c = 0; c < LANES; c++)
        v.lane[c] = __float2half(c < k.c ? x[c * plane] : 0.0f);
    ((Vector *)k.y)[i] = v;
}

/* One thread is 8 channels of one output pixel. */
__global__ void __launch_bounds__(BLOCK) maxpool(const KernelCall k)
{
    long long i = thread_index();
    int vectors = k.c / LANES, out_h = k.h / 2, out_w = k.w / 2, pad = k.side == 3 ? 1 : 0;
    if (i >= (long long)k.n * out_h * out_w * vectors)
        return;
    long long c = i % vectors, p = i / vectors, ox = p % out_w, q = p / out_w, oy = q % out_h;
    const Vector *x = (const Vector *)k.a + q / out_h * k.h * k.w * vectors + c;
    Vector largest = {};
    Bytes which = {};
    bool begun = false;
    for (int dy = 0; dy < k.side; dy++)
        for (int dx = 0; dx < k.side; dx++) {
            long long iy = 2 * oy - pad + dy, ix = 2 * ox - pad + dx;
            if (iy < 0 || iy >= k.h || ix < 0 || ix >= k.w)
                continue;
            Vector v = x[(iy * k.w + ix) * vectors];
            for (int lane = 0; lane < LANES; lane++) {
                float value = at(v, lane);
                if (begun && !(value > at(largest, lane)) && !isnan(value))
                    continue;
                largest.lane[lane] = v.lane[lane];
                which.lane[lane] = (unsigned char)(dy * k.side + dx);
            }
            begun = true;
        }
    ((Vector *)k.y)[i] = largest;
    if (k.y2 != nullptr)
        ((Bytes *)k.y2)[i] = which;
}

/* One thread is 8 channels of one output pixel. */
__global__ void __launch_bounds__(BLOCK) concat(const KernelCall k)
{
    long long i = thread_index();
    int first = k.c / LANES, second = k.c2 / LANES, vectors = first + second;
    if (i >= (long long)k.n * k.h * k.w * vectors)
        return;
    long long c = i % vectors, p = i / vectors;
    Vector v;
    if (c >= first) {
        v = ((const Vector *)k.b)[p * second + (c - first)];
    } else if (k.doubles != 0) {
        long long x = p % k.w, q = p / k.w, y = q % k.h, slice = q / k.h;
        v = ((const Vector *)k.a)[((slice * (k.h / 2) + y / 2) * (k.w / 2) + x / 2) * first + c];
    } else {
        v = ((const Vector *)k.a)[p * first + c];
    }
    ((Vector *)k.y)[i] = v;
}

/* One thread is one output number. */
__global__ void __launch_bounds__(BLOCK) unpack(const KernelCall k)
{
    long long i = thread_index();
    int scale = k.shuffle != 0 ? 2 : 1, out_h = scale * k.h, out_w = scale * k.w;
    if (i >= (long long)k.n * k.c2 * out_h * out_w)
        return;
    long long x = i % out_w, p = i / out_w, y = p % out_h, q = p / out_h, c = q % k.c2;
    long long slice = q / k.c2, channel = k.shuffle != 0 ? 2 * (y % 2) + x % 2 : c;
    long long pixel = (slice * k.h + y / scale) * k.w + x / scale;
    float v = __half2float(((const __half *)k.a)[pixel * k.c + channel]);
    if (!isfinite(v))
        atomicAdd(k.count, 1u);
    ((float *)k.y)[i] = k.sigmoid != 0 ? 1.0f / (1.0f + expf(-v)) : v;
}

} // namespace

extern "C" cudaError_t kernel_launch(const KernelCall *call, cudaStream_t stream)
{
    const KernelCall &k = *call;
    long long pixels = (long long)k.n * k.h * k.w;
    (void)stream; /* unused on the host */
    switch (k.kind) {
    case KERNEL_PACK:
        LAUNCH(pack, blocks(pixels), BLOCK, stream, k);
        break;
    case KERNEL_MAXPOOL:
    case KERNEL_POOL:
        LAUNCH(maxpool, blocks(pixels / 4 * (k.c / LANES)), BLOCK, stream, k);
        break;
    case KERNEL_CONCAT:
        LAUNCH(concat, blocks(pixels * ((k.c + k.c2) / LANES)), BLOCK, stream, k);
        break;
    case KERNEL_UNPACK:
        LAUNCH(unpack, blocks(pixels * k.c2 * (k.shuffle != 0 ? 4 : 1)), BLOCK, stream, k);
        break;
    default:
        return train_kernel_launch(call, stream);
    }
    return LAUNCH_ERROR();
}
