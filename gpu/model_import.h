/* From a file of PyTorch tensors to a model file.
**
** The file holds a whole network (names as in this project's model files: the state_dict of DRUNet
** or the U-Net), or torchvision's ResNet-34, -50 or -101: then that is DRUNet's encoder, the
** decoder gets the trainer's first weights, and the model says that it is untrained.
** Thread: any, one call per file. */
#ifndef CT2MR_GPU_MODEL_IMPORT_H
#define CT2MR_GPU_MODEL_IMPORT_H

#include "gpu/model_write.h"
#include "gpu/network.h"

typedef struct ModelImport {
    const char *arch; /* NULL: as the tensors say */
    int32_t width;    /* 0: as the tensors say */
    /* Metadata (README, "Model file"); they win over the file's own. */
    const MetadataValue *values;
    int n_values;
    bool f16; /* tensors are written as F16, else F32 */
    /* Called for each tensor that is not taken over; may be NULL. */
    void (*left_out)(void *context, const char *name);
    void *context;
} ModelImport;

typedef struct ModelImportResult {
    ModelArch arch;
    int32_t width;
    int32_t n_read, n_made; /* tensors taken over; tensors of an untrained decoder */
    bool was_calibrated;    /* the file has a calibration, which is left out */
} ModelImportResult;

/* Writes `to`, durably, whole or not at all. What the file does not say and nobody gave is refused,
** all keys in one message; only mean and standard deviation default to ImageNet's. What was
** measured with other metadata (precisions, int8, calibration) is left out.
** Errors: MODEL_NOT_FOUND, USAGE (something was not given, or is no value of its key), MODEL_FORMAT
** (the message names tensor or key), LIMIT (width), those of model_write_new(). */
MUST_CHECK Status model_import(const char *from, const ModelImport *import, const char *to,
                               ModelImportResult *ret, Err *err);

#endif
