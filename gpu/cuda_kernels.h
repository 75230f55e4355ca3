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
    KERNEL_UNPACK,

    /* Of training (cuda_train_kernels.cu). x, d and dx are half (n, h, w, c) unless it says
    ** otherwise; d is the gradient of a result. */

    /* a: float, number (o, i, t) at o * stride_o + i * stride_i + t, o < n, i < c, t < side * side
    ** -> y: half (h, side, side, w), zero from n or c on; and back: y: float = a * scale, adding
    ** the number of those that are not finite to *count */
    KERNEL_CAST_WEIGHTS,
    KERNEL_TAKE_WEIGHTS,
    /* a: float (n, c2, h, w) -> y: half (n, h, w, c) of a * scale, channels from c2 on are zero;
    ** if wide: float, c2 1 */
    KERNEL_LOSS_GRADIENT,
    /* y: float (n) of a * scale, a: float (n); *count as above */
    KERNEL_SCALE,
    /* Sums over SUM_PIXELS pixels each -> y: float (ceil(n h w / SUM_PIXELS), columns).
    ** MOMENTS: 2 c columns, of x - x0 and its square, x0 being a's first pixel.
    ** PRODUCTS: 2 c columns, of d (a) and of d (x - norm.mean), x being b. COLUMNS: c, of d */
    KERNEL_MOMENTS,
    KERNEL_PRODUCTS,
    KERNEL_COLUMNS,
    /* a: float (n, c) -> y: float (ceil(n / SUM_ROWS), c), sums of SUM_ROWS rows each */
    KERNEL_SUM_ROWS,
    /* a: float (2 c), the sums of MOMENTS; b: its x. norm.mean, inverse_sd, scale and the running
    ** statistics. a NULL: from the running statistics, which stay */
    KERNEL_NORM_STATISTICS,
    /* y = norm(a) + b, then ReLU if relu. b may be NULL; if doubles it is (n, h/2, w/2, c) */
    KERNEL_NORM_APPLY,
    /* a: float (2 c), the sums of PRODUCTS. norm.dgamma and dbeta are them times `scale` (with
    ** *count as above); norm.k0, norm.k2 */
    KERNEL_NORM_GRADIENTS,
    /* a: d, b: x -> y: dx = norm.scale d + norm.k2 (x - norm.mean) + norm.k0; norm.k0 NULL: the
    ** statistics are constants, dx = norm.scale d */
    KERNEL_NORM_BACK,
    /* y = a + b, 0 where gate is not above 0; then ReLU if relu. b, gate, y2 may be NULL; y2 gets
    ** what y gets; both may be a or b */
    KERNEL_POINT,
    /* As MAXPOOL; y2: byte (n, h/2, w/2, c), which of the window was the largest */
    KERNEL_POOL,
    /* a: d (n, h/2, w/2, c), b: those bytes -> y: dx (n, h, w, c) */
    KERNEL_POOL_BACK,
    /* y: half (n, h, w, c): channels offset .. offset + c - 1 of a (n, h, w, c2); if doubles a is
    ** (n, 2h, 2w, c2), and y sums of four */
    KERNEL_TAKE,
    /* a: half (n, h, w, c), or (n, h/2, w/2, c) nearest x2 if doubles; b: float (1) or NULL
    ** -> y: float (n, h, w): b + sum over taps t = (ky, kx) of a at (+ky - side/2, +kx - side/2),
    ** channel t */
    KERNEL_TAPS,
    /* a: float (n, h, w) -> y: its dx; half, as a of TAPS */
    KERNEL_TAPS_BACK
} KernelKind;

enum { SUM_PIXELS = 32, SUM_ROWS = 64 };

typedef struct KernelNorm { /* float (c) each */
    const float *gamma, *beta;
    float *running_mean, *running_variance, *mean, *inverse_sd, *scale, *dgamma, *dbeta, *k0, *k2;
    double momentum, epsilon;
    int32_t repeats; /* each value counts so often in the unbiased variance */
} KernelNorm;

typedef struct KernelCall {
    KernelKind kind;
    const void *a, *b;
    void *y;
    uint32_t *count;
    int32_t n, h, w, c, c2, side;
    int32_t doubles, shuffle, sigmoid; /* 0 or 1 */
    /* Of training. */
    const void *gate;
    void *y2;
    int32_t relu, wide; /* 0 or 1 */
    int32_t stride_o, stride_i, offset;
    float scale;
    KernelNorm norm;
} KernelCall;

/* Enqueues; errors as cudaGetLastError() after the launch. */
cudaError_t kernel_launch(const KernelCall *call, cudaStream_t stream);
/* Those of training; kernel_launch() calls it. */
cudaError_t train_kernel_launch(const KernelCall *call, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
