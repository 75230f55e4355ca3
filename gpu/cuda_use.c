/* See cuda_use.h. */
#include "gpu/cuda_use.h"

#include "base/clock.h"

#include <time.h>

enum { MIN_COMPUTE = 75 /* the first with tensor cores that take what cuda_plan.c asks for */ };

Status cuda_use_device(const CudaApi *api, int32_t index, CudaDevice *ret, Err *err)
{
    int count = 0;
    TRY(cuda_check(api->count(&count), "looking for GPUs", err));
    if (count < 1)
        return err_set(err, ST_BACKEND, "looking for GPUs: there is none");
    if (index < 0 || index >= count)
        return err_set(err, ST_BACKEND, "GPU %d: there are %d, from 0 on", index, count);
    TRY(cuda_check(api->use(index), "using the GPU", err));
    TRY(cuda_check(api->describe(index, ret), "describing the GPU", err));
    return ret->compute >= MIN_COMPUTE
               ? ST_OK
               : err_set(err, ST_BACKEND, "%s has compute capability %d.%d, 7.5 is needed",
                         ret->name, ret->compute / 10, ret->compute % 10);
}

Status cuda_await(const CudaApi *api, cudaEvent_t event, double deadline_s, const char *what,
                  Err *err)
{
    const struct timespec pause = {.tv_nsec = 50 * 1000};
    double end = clock_monotonic_s() + deadline_s;
    for (;;) {
        cudaError_t error = api->event_query(event);
        if (error != cudaErrorNotReady)
            return cuda_check(error, what, err);
        if (clock_monotonic_s() > end)
            return err_set(err, ST_BACKEND, "%s: the GPU did not finish within %g s", what,
                           deadline_s);
        (void)nanosleep(&pause, NULL);
    }
}

unsigned char *cuda_take(unsigned char *base, size_t *used, size_t bytes)
{
    unsigned char *at = base != NULL ? base + *used : NULL;
    *used += (bytes + CUDA_ALIGN_BYTES - 1) / CUDA_ALIGN_BYTES * CUDA_ALIGN_BYTES;
    return at;
}
