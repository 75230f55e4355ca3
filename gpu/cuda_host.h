/* Compiles cuda_kernels.cu for the host: kernels without barriers, run thread by thread. Only for
** tests. Thread: one at a time per thread of the host. */
#ifndef CT2MR_GPU_CUDA_HOST_H
#define CT2MR_GPU_CUDA_HOST_H

#include "gpu/half.h"

#include <cmath>
#include <cstddef>
#include <cuda_runtime_api.h>

#undef __global__
#undef __device__
#undef __launch_bounds__
#define __global__
#define __device__
#define __launch_bounds__(n)

struct HostIndex {
    unsigned x;
};
static thread_local HostIndex blockIdx, threadIdx, blockDim;

struct __half {
    uint16_t bits;
};
static inline float __half2float(__half h)
{
    return f32_from_f16(h.bits);
}
static inline __half __float2half(float f)
{
    return __half{f16_from_f32(f)};
}
static inline unsigned atomicAdd(unsigned *at, unsigned value)
{
    unsigned before = *at;
    *at += value;
    return before;
}
using std::isfinite;
using std::isnan;

template <class Kernel>
static void host_launch(Kernel kernel, unsigned grid, unsigned block, const KernelCall &call)
{
    blockDim.x = block;
    for (blockIdx.x = 0; blockIdx.x < grid; blockIdx.x++)
        for (threadIdx.x = 0; threadIdx.x < block; threadIdx.x++)
            kernel(call);
}
#define LAUNCH(kernel, grid, block, stream, call) host_launch(kernel, grid, block, call)
#define LAUNCH_ERROR() cudaSuccess

#endif
