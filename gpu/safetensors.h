/* The safetensors container: named tensors and text in one file.
**
** Opening reads the whole file once, hashes it and checks every number in it; the tensors stay in
** the file, which is kept open, until they are read one by one. Reading survives a hostile file:
** header length, JSON, names, dtypes, shapes, offsets and overlaps are checked before anything is
** used, each failure has its own message that names the tensor.
** Format: https://huggingface.co/docs/safetensors. Thread: an open file belongs to one thread. */
#ifndef CT2MR_GPU_SAFETENSORS_H
#define CT2MR_GPU_SAFETENSORS_H

#include "gpu/model.h"

#include <cjson/cJSON.h>
#include <sys/stat.h>

typedef enum Dtype { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_OTHER } Dtype;

enum { TENSOR_MAX_NAME = 127 };

typedef struct TensorEntry {
    char name[TENSOR_MAX_NAME + 1];
    Dtype dtype;
    size_t element_bytes;
    size_t begin, end; /* bytes from the end of the header */
    Tensor tensor;     /* all 0 for DTYPE_OTHER */
    uint8_t hash[32];  /* SHA-256 of name, dtype, dimensions and bytes */
} TensorEntry;

typedef struct Safetensors {
    int fd;
    struct stat opened; /* the file as it was hashed */
    off_t data_at;      /* where the tensors begin */
    int32_t n_entries;
    TensorEntry *entries;    /* by name */
    cJSON *metadata;         /* NULL if there is none */
    char digest[65];         /* SHA-256 of the file, hexadecimal */
    char tensors_digest[65]; /* of the tensors' hashes in the order of names */
    unsigned char *block;    /* for reading */
} Safetensors;

typedef enum SafetensorsRules {
    SAFETENSORS_MODEL, /* F32, F16 and BF16 of 1 to 4 dimensions, nothing else */
    SAFETENSORS_ANY    /* scalars as well; what is none of these is listed as DTYPE_OTHER */
} SafetensorsRules;

/* ret is to be closed, on failure too, once or more. Errors: MODEL_NOT_FOUND, MODEL_FORMAT, IO,
** NO_MEMORY. */
MUST_CHECK Status safetensors_open(const char *path, SafetensorsRules rules, Safetensors *ret,
                                   Err *err);
void safetensors_close(Safetensors *file);
/* NULL if there is no tensor of that name. */
const TensorEntry *safetensors_find(const Safetensors *file, const char *name);
/* Its numbers, row-major, as float32; not of DTYPE_OTHER. Errors: IO, MODEL_FORMAT (changed since
** it was opened). */
MUST_CHECK Status safetensors_read(const Safetensors *file, const TensorEntry *entry, float *ret,
                                   Err *err);

#endif
