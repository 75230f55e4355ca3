/* Plans of the CUDA backend without a device, and the mistakes that cuDNN must refuse. Private to
** the emulated plugin. Thread: one. */
#ifndef CT2MR_TESTS_CUDA_EMULATOR_PLANS_H
#define CT2MR_TESTS_CUDA_EMULATOR_PLANS_H

#include "tests/cuda_emulator.h"

/* The three functions of CudaEmulator. */
Status emulated_networks(int card, const EmulatedNetworks *networks, EmulatedTally *ret, Err *err);
Status emulated_plan(EmulatedPlan *plan, Err *err);
Status emulated_reload(const EmulatedPlan *plan, int other_card, const char *from, const char *to,
                       Err *err);

#endif
