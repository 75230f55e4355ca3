/* Errors of cudart and cuDNN as Status. See cuda_api.h. */
#include "gpu/cuda_api.h"

/* By number, for those that a person can do something about: the texts of cudart need cudart. */
static const char *error_text(cudaError_t error)
{
    switch ((int)error) {
    case cudaErrorInsufficientDriver:
        return "the NVIDIA driver is missing or older than this CUDA";
    case cudaErrorNoDevice:
        return "no GPU";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorIllegalAddress:
        return "illegal address on the GPU";
    case cudaErrorNoKernelImageForDevice:
        return "this build has no kernels for the GPU";
    case cudaErrorLaunchFailure:
        return "a kernel failed";
    case cudaErrorECCUncorrectable:
        return "uncorrectable memory error on the GPU";
    default:
        return "CUDA failed";
    }
}

Status cuda_check(cudaError_t error, const char *what, Err *err)
{
    if (error == cudaSuccess)
        return ST_OK;
    Status status = error == cudaErrorMemoryAllocation ? ST_NO_MEMORY : ST_BACKEND;
    (void)err_set(err, status, "%s: %s (CUDA error %d)", what, error_text(error), (int)error);
    if (err != NULL)
        err->native = (int)error;
    return status;
}

Status cudnn_check(cudnnStatus_t code, const char *what, Err *err)
{
    if (code == CUDNN_STATUS_SUCCESS)
        return ST_OK;
    bool memory = code == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ||
                  code == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    Status status = memory ? ST_NO_MEMORY : ST_BACKEND;
    (void)err_set(err, status, "%s: cuDNN: %s", what, cudnnGetErrorString(code));
    if (err != NULL)
        err->native = (int)code;
    return status;
}
