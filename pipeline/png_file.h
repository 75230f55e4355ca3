/* PNG pictures (libpng): to a file, to memory, and grey ones from a file. Thread: any. */
#ifndef CT2MR_PIPELINE_PNG_FILE_H
#define CT2MR_PIPELINE_PNG_FILE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Rows top to bottom; grey [h][w], rgb [h][w][3]. Errors: IO, DISK_FULL, NO_MEMORY. */
MUST_CHECK Status png_write_grey(const char *path, const uint8_t *pixels, int32_t width,
                                 int32_t height, Err *err);
MUST_CHECK Status png_write_rgb(const char *path, const uint8_t *pixels, int32_t width,
                                int32_t height, Err *err);
/* The file's bytes in malloc'ed memory; the caller frees. */
MUST_CHECK Status png_encode_rgb(const uint8_t *pixels, int32_t width, int32_t height,
                                 uint8_t **ret, size_t *ret_bytes, Err *err);
/* Colour becomes grey. *ret_pixels [h][w] is malloc'ed, the caller frees. Errors: NOT_FOUND, IO,
** UNSUPPORTED (not a PNG, damaged), LIMIT (a side above max_side). */
MUST_CHECK Status png_read_grey(const char *path, int32_t max_side, uint8_t **ret_pixels,
                                int32_t *ret_width, int32_t *ret_height, Err *err);

#endif
