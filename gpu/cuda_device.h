/* Private to the kernels (*.cu): how they are launched, on a device or, in tests, on the host, and
** vectors of 8 halves. */
#ifndef CT2MR_GPU_CUDA_DEVICE_H
#define CT2MR_GPU_CUDA_DEVICE_H

#include "gpu/cuda_kernels.h"

#ifdef CUDA_ON_HOST
#include "gpu/cuda_host.h"
#else
#include <cuda_fp16.h>
#define LAUNCH(kernel, grid, block, stream, call) kernel<<<(grid), (block), 0, (stream)>>>(call)
#define LAUNCH_ERROR() cudaGetLastError()
#endif

namespace
{

enum { BLOCK = 256, LANES = 8 /* halves of 16 bytes */ };

struct alignas(16) Vector {
    __half lane[LANES];
};

struct alignas(8) Bytes {
    unsigned char lane[LANES];
};

__device__ inline float at(const Vector &v, int lane)
{
    return __half2float(v.lane[lane]);
}

__device__ inline long long thread_index()
{
    return (long long)blockIdx.x * blockDim.x + threadIdx.x;
}

inline unsigned blocks(long long n_threads)
{
    return (unsigned)((n_threads + BLOCK - 1) / BLOCK);
}

} // namespace

#endif
