/* What a kernel of the CUDA backend may touch. From cuda_kernels.h alone, not from the kernels. */
#ifndef CT2MR_TESTS_CUDA_EMULATOR_KERNELS_H
#define CT2MR_TESTS_CUDA_EMULATOR_KERNELS_H

#include "gpu/cuda_kernels.h"

#include <stdbool.h>
#include <stddef.h>

/* True if is_device() holds for all memory that the call reads and writes. */
bool emulated_kernel_fits(const KernelCall *call,
                          bool (*is_device)(const void *at, size_t size_bytes));
/* A planted fault: what a kernel wrote is multiplied. Of POOL the places stay. */
void emulated_kernel_spoil(const KernelCall *call, float factor);

#endif
