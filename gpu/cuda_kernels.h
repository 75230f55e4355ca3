/* The kernels of the CUDA backend, each one call by value, so that a call can be recorded, replayed
** and, in tests, run on the host (cuda_host.h).
**
** Halves are IEEE binary16, values NHWC with c a multiple of 8. Pointers are device memory aligned
** to 16 bytes. Thread: any. */
#ifndef CT2MR_GPU_CUDA_KERNELS_H
#define CT2MR_GPU_CUDA_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum KernelKind {
    /* a: float (n, c, h, w), c <= 8 -> y: half (n, h, w, 8), channels from c on are zero */
    KERNEL_PACK,
    /* a: half (n, h, w, c) -> y: half (n, h/2, w/2, c); side 3 (padding 1) or 2; a NaN wins */
    KERNEL_MAXPOOL,
    /* y: half (n, h, w, c + c2): a (n, h, w, c) or, if doubles, a (n, h/2, w/2, c) nearest x2;
    ** then b (n, h, w, c2), c2 may be 0 */
    KERNEL_CONCAT,
    /* a: half (n, h, w, c) -> y: float (n, c2, h, w), c2 <= c. If shuffle: c2 is 1 and y is
    ** (n, 1, 2h, 2w), channel 2p+q being row phase p, column phase q. If sigmoid: 1/(1+e^-x).
    ** Adds the number of values that are not finite to *count. */
    KERNEL_UNPACK
} KernelKind;

typedef struct KernelCall {
    KernelKind kind;
    const void *a, *b;
    void *y;
    uint32_t *count;
    int32_t n, h, w, c, c2, side;
    int32_t doubles, shuffle, sigmoid; /* 0 or 1 */
} KernelCall;

/* Enqueues; errors as cudaGetLastError() after the launch. */
cudaError_t kernel_launch(const KernelCall *call, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
