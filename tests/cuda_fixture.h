/* Opens the emulated plugin for a test. Thread: one. */
#ifndef CT2MR_TESTS_CUDA_FIXTURE_H
#define CT2MR_TESTS_CUDA_FIXTURE_H

#include "tests/cuda_emulator.h"

/* The emulated plugin, which is beside the tests' program, becomes backend cuda; its caches go to
** the test's folder. Skips the test where the plugin was not built. */
CudaEmulator *cuda_emulator_open(void);

#endif
