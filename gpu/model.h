/* The model file: safetensors with ct2mr's metadata (README, "Model file").
**
** Reading survives a hostile file: header length, JSON, names, dtypes, shapes, offsets and overlaps
** are checked before anything is used; each failure has its own message that names the tensor.
** Tensors are F32, F16 or BF16, converted to float32 when read.
** Thread: a Model is immutable after opening. */
#ifndef CT2MR_GPU_MODEL_H
#define CT2MR_GPU_MODEL_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ModelArch { ARCH_DRUNET34 = 34, ARCH_DRUNET50 = 50, ARCH_DRUNET101 = 101 } ModelArch;
typedef enum ModelPose { POSE_REFERENCE, POSE_NATIVE } ModelPose;
typedef enum ModelMask { MASK_HEAD, MASK_BRAIN } ModelMask;
typedef enum ModelActivation { ACTIVATION_LINEAR, ACTIVATION_SIGMOID } ModelActivation;

typedef struct ModelRange { /* low <= x <= high; absent = not checked */
    bool present;
    double low, high;
} ModelRange;

typedef struct ModelInfo {
    char name[64];   /* file name without folder and ending */
    char digest[65]; /* SHA-256 of the whole file, hexadecimal */
    ModelArch arch;
    int32_t width;  /* channels of the first stage; 64 in the paper */
    char target[8]; /* "T1" or "T2" */
    ModelPose pose;
    int32_t grid_pixels; /* slices are grid_pixels x grid_pixels, a multiple of 32 */
    double grid_spacing_mm;
    double window_level_hu, window_width_hu;
    float mean[3], std[3];
    ModelActivation activation;
    ModelMask mask;
    char body_part[17]; /* envelope; "" = not checked */
    ModelRange age_years, slice_thickness_mm, pixel_spacing_mm, kvp;
    char label[256], licence[256];
    char training[1024]; /* JSON text as in the file, "" if absent */
    int64_t n_parameters;
} ModelInfo;

typedef struct Model Model;

/* Errors: MODEL_NOT_FOUND, MODEL_FORMAT, NO_MEMORY. */
MUST_CHECK Status model_open(const char *path, Model **ret, Err *err);
void model_close(Model *model); /* NULL is fine */
const ModelInfo *model_info(const Model *model);

typedef struct Tensor {
    const float *data; /* row-major; owned by the model */
    int32_t n_dims;
    int64_t dims[4];
} Tensor;

/* NULL if there is no tensor of that name. */
const Tensor *model_tensor(const Model *model, const char *name);
/* Names in the file, index 0.. in the order of their bytes; NULL past the end. */
const char *model_tensor_name(const Model *model, int32_t index);

#ifdef __cplusplus
}
#endif
#endif
