/* Model files made by tests: arbitrary (damaged) ones, and whole networks with random weights. */
#ifndef CT2MR_TESTS_MODEL_FILE_H
#define CT2MR_TESTS_MODEL_FILE_H

#include "gpu/model.h"

/* Uniform in [0, 1); the same sequence everywhere for the same seed. */
double model_file_random(uint64_t *seed);
/* 8-byte length, header, data_bytes bytes (data NULL: zeros). */
void model_file_write(const char *path, const char *header, const void *data, size_t data_bytes);
/* A network of that kind with random float32 weights, fixed by arch and width. */
void model_file_write_random(const char *path, ModelArch arch, int32_t width);
/* The same less one tensor; with another width in its metadata; with a tensor of that name more. */
void model_file_write_random_without(const char *path, ModelArch arch, int32_t width,
                                     const char *tensor);
void model_file_write_random_as(const char *path, ModelArch arch, int32_t width,
                                int32_t stated_width);
void model_file_write_random_with(const char *path, ModelArch arch, int32_t width,
                                  const char *tensor);

#endif
