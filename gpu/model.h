/* The model file: safetensors with ct2mr's metadata (README, "Model file").
**
** Reading survives a hostile file: header length, JSON, names, dtypes, shapes, offsets and overlaps
** are checked before anything is used; each failure has its own message that names the tensor.
** Tensors are F32, F16 or BF16, converted to float32 when read. They stay in the file, which is
** kept open; a file that is replaced by renaming is no matter, one that is written into is refused.
** Thread: a Model belongs to one thread. */
#ifndef CT2MR_GPU_MODEL_H
#define CT2MR_GPU_MODEL_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ModelArch {
    ARCH_UNET = 1,
    ARCH_DRUNET34 = 34,
    ARCH_DRUNET50 = 50,
    ARCH_DRUNET101 = 101
} ModelArch;
typedef enum ModelPose { POSE_REFERENCE, POSE_NATIVE } ModelPose;
typedef enum ModelInterpolation { INTERPOLATION_LINEAR, INTERPOLATION_CUBIC } ModelInterpolation;
typedef enum ModelMask { MASK_HEAD, MASK_BRAIN } ModelMask;
typedef enum ModelActivation { ACTIVATION_LINEAR, ACTIVATION_SIGMOID } ModelActivation;

/* How a network stores weights and values; sums are float32 or, in int8, int32. */
typedef enum Precision {
    PRECISION_F32,
    PRECISION_BF16,
    PRECISION_INT8,
    PRECISION_F16,
    PRECISION_COUNT
} Precision;
#define MODEL_MAX_RANGE 1e30 /* of a convolution's output (metadata int8) */

/* "f32", "bf16", "int8", "f16" (precision.c); false if the name is none of them. */
const char *precision_name(Precision precision);
/* The nearest number that f16 or bf16 has; in other precisions the number itself. */
float precision_round(Precision precision, float value);
bool precision_from_name(const char *name, Precision *ret);

typedef struct ModelRange { /* low <= x <= high; absent = not checked */
    bool present;
    double low, high;
} ModelRange;

typedef struct ModelInfo {
    char name[64];   /* file name without folder and ending */
    char digest[65]; /* SHA-256 of the whole file, hexadecimal */
    /* Likewise of the function alone: arch, activation, tensors (names, types, dimensions, bytes),
    ** in whatever order the file has them; grid, window, pose, mask, interpolation and
    ** normalisation of its slices. */
    char function_digest[65];
    ModelArch arch;
    int32_t width;  /* channels of the first stage; 64 in the paper */
    char target[8]; /* "T1" or "T2" */
    ModelPose pose;
    char
        axes[3]; /* pose reference: to where columns and rows run, as PackInfo.axes; "" if unsaid */
    ModelInterpolation interpolation; /* from the CT's grid to the model's and back */
    int32_t grid_pixels;              /* slices are grid_pixels x grid_pixels, a multiple of 32 */
    double grid_spacing_mm;
    double window_level_hu, window_width_hu;
    float mean[3], std[3];
    ModelActivation activation;
    ModelMask mask;
    char body_part[17]; /* envelope; "" = not checked */
    ModelRange age_years, slice_thickness_mm, pixel_spacing_mm, kvp;
    char label[256], licence[256];
    char training[1024]; /* JSON text as in the file, "" if absent */
    bool untrained;      /* training says so: some weights are random (model_import.h) */
    unsigned precisions; /* in which it may be used unasked: bits 1 << Precision; f32 always is */
    /* Those that the file names, but that no calibration in it measured with these very tensors,
    ** and why: a clause for messages. They are not in precisions. */
    unsigned unproven;
    const char *unproven_why;
    int64_t n_parameters;
} ModelInfo;

enum { MODEL_UNPROVEN_SIZE = 160 };
/* A sentence that names the unproven precisions, why and what to do; "" if there are none. Returns
** ret. */
const char *model_unproven_text(const ModelInfo *info, char ret[MODEL_UNPROVEN_SIZE]);

typedef struct Model Model;

/* Errors: MODEL_NOT_FOUND, MODEL_FORMAT, NO_MEMORY. */
MUST_CHECK Status model_open(const char *path, Model **ret, Err *err);
/* A safetensors file of tensors without ct2mr's metadata (weights of somebody else's, checkpoints):
** of the info only name, digest and n_parameters are set. Tensors of other dtypes (PyTorch's
** num_batches_tracked) or more dimensions are named, but model_tensor() does not find them. */
MUST_CHECK Status model_open_tensors(const char *path, Model **ret, Err *err);
void model_close(Model *model); /* NULL is fine */
const ModelInfo *model_info(const Model *model);

typedef struct Tensor { /* owned by the model */
    int32_t n_dims;
    int64_t dims[4], n_elements;
} Tensor;

/* NULL if there is no tensor of that name. */
const Tensor *model_tensor(const Model *model, const char *name);
/* Its numbers, row-major, n_elements of them. Errors: IO, MODEL_FORMAT (changed since opened). */
MUST_CHECK Status model_read(const Model *model, const Tensor *tensor, float *ret, Err *err);
/* The largest absolute output of the convolution of that name, after its ReLU, on the calibration
** data (metadata int8); false if the file was not calibrated or has no such name. */
bool model_calibrated_range(const Model *model, const char *conv, float *ret);
/* A string of the file's __metadata__; NULL if there is none of that key. */
const char *model_metadata(const Model *model, const char *key);
/* Names in the file, index 0.. in the order of their bytes; NULL past the end. */
const char *model_tensor_name(const Model *model, int32_t index);

#ifdef __cplusplus
}
#endif
#endif
