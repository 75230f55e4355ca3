/* Eight GPUs by their data sheets, for plans and predictions on machines that have none of them.
** Thread: pure functions. */
#ifndef CT2MR_GPU_GPU_CATALOG_H
#define CT2MR_GPU_GPU_CATALOG_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { GPU_CATALOG_COUNT = 8, GPU_PROFILE_SIZE = 1024 };

typedef struct GpuCard {
    const char *name;
    int32_t compute; /* 75 is compute capability 7.5 */
    int64_t memory_bytes;
    double half_tflops;   /* tensor cores, f16 with float32 sums, no sparsity */
    double bandwidth_gbs; /* of device memory, 1e9 bytes a second */
} GpuCard;

/* NULL past the end. */
const GpuCard *gpu_catalog_card(int index);
/* The card as cuDNN describes a device (JSON of its DEVICEPROP descriptor). Returns ret. */
const char *gpu_catalog_profile(int index, char ret[GPU_PROFILE_SIZE]);

#ifdef __cplusplus
}
#endif
#endif
