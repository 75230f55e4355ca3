/* See png_file.h. */
#include "pipeline/png_file.h"

#include "base/files.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FILE_BYTES ((size_t)64 << 20)

static Status encode(png_uint_32 format, const void *pixels, int32_t width, int32_t height,
                     uint8_t **ret, size_t *ret_bytes, Err *err)
{
    png_image image;
    memset(&image, 0, sizeof image);
    image.version = PNG_IMAGE_VERSION;
    image.width = (png_uint_32)width;
    image.height = (png_uint_32)height;
    image.format = format;
    png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
    uint8_t *file = malloc(size);
    if (file == NULL)
        return err_set(err, ST_NO_MEMORY, "picture of %d x %d pixels", width, height);
    int ok = png_image_write_to_memory(&image, file, &size, 0, pixels, 0, NULL);
    png_image_free(&image);
    if (!ok) {
        free(file);
        return err_set(err, ST_INTERNAL, "libpng refuses a picture of %d x %d", width, height);
    }
    *ret = file;
    *ret_bytes = size;
    return ST_OK;
}

static Status write_file(const char *path, png_uint_32 format, const void *pixels, int32_t width,
                         int32_t height, Err *err)
{
    uint8_t *file;
    size_t size;
    TRY(encode(format, pixels, width, height, &file, &size, err));
    Status status = file_write_durable(path, file, size, err);
    free(file);
    return status;
}

Status png_write_grey(const char *path, const uint8_t *pixels, int32_t width, int32_t height,
                      Err *err)
{
    return write_file(path, PNG_FORMAT_GRAY, pixels, width, height, err);
}

Status png_write_rgb(const char *path, const uint8_t *pixels, int32_t width, int32_t height,
                     Err *err)
{
    return write_file(path, PNG_FORMAT_RGB, pixels, width, height, err);
}

Status png_encode_rgb(const uint8_t *pixels, int32_t width, int32_t height, uint8_t **ret,
                      size_t *ret_bytes, Err *err)
{
    return encode(PNG_FORMAT_RGB, pixels, width, height, ret, ret_bytes, err);
}

static uint32_t big_endian(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The image's gamma (gAMA chunk) in 1/100000; 0 if it says none. */
static uint32_t gamma_of(const char *file, size_t size)
{
    const unsigned char *f = (const unsigned char *)file;
    for (size_t at = 8; at + 12 <= size;) { /* length, type, data, checksum */
        uint32_t n = big_endian(f + at);
        if (n > size - at - 12 || memcmp(f + at + 4, "IDAT", 4) == 0)
            return 0;
        if (n == 4 && memcmp(f + at + 4, "gAMA", 4) == 0)
            return big_endian(f + at + 8);
        at += 12 + n;
    }
    return 0;
}

/* Samples must come through as they are: libpng's simple interface turns 16 bits, another gamma
** and transparency into something else. */
static Status check_samples(const png_image *image, uint32_t gamma, Err *err)
{
    enum { SRGB_LOW = 44000, SRGB_HIGH = 47000 }; /* 1 / 2.2 and rounding */
    if ((image->format & PNG_FORMAT_FLAG_LINEAR) != 0)
        return err_set(err, ST_UNSUPPORTED, "a PNG picture of 16 bits a sample: save it with 8");
    if ((image->format & PNG_FORMAT_FLAG_ALPHA) != 0)
        return err_set(err, ST_UNSUPPORTED,
                       "a PNG picture with transparency: save it without an alpha channel");
    if (gamma != 0 && (gamma < SRGB_LOW || gamma > SRGB_HIGH))
        return err_set(err, ST_UNSUPPORTED,
                       "a PNG picture whose gamma is %.5f, not 1/2.2: its values would be changed; "
                       "save it without gAMA",
                       gamma / 1e5);
    return ST_OK;
}

static Status decode(png_image *image, int32_t max_side, uint8_t **ret, Err *err)
{
    if (image->width > (png_uint_32)max_side || image->height > (png_uint_32)max_side)
        return err_set(err, ST_LIMIT, "a picture of %u x %u pixels, at most %d a side",
                       image->width, image->height, max_side);
    image->format = PNG_FORMAT_GRAY;
    uint8_t *pixels = malloc(PNG_IMAGE_SIZE(*image));
    if (pixels == NULL)
        return err_set(err, ST_NO_MEMORY, "picture of %u x %u", image->width, image->height);
    if (!png_image_finish_read(image, NULL, pixels, 0, NULL)) {
        free(pixels);
        return err_set(err, ST_UNSUPPORTED, "a damaged PNG picture");
    }
    *ret = pixels;
    return ST_OK;
}

Status png_read_grey(const char *path, int32_t max_side, uint8_t **ret_pixels, int32_t *ret_width,
                     int32_t *ret_height, Err *err)
{
    char *file;
    size_t size;
    TRY(file_read(path, MAX_FILE_BYTES, &file, &size, err));
    png_image image;
    memset(&image, 0, sizeof image);
    image.version = PNG_IMAGE_VERSION;
    Status status = ST_OK;
    if (!png_image_begin_read_from_memory(&image, file, size))
        status = err_set(err, ST_UNSUPPORTED, "not a PNG picture");
    if (status == ST_OK)
        status = check_samples(&image, gamma_of(file, size), err);
    if (status == ST_OK)
        status = decode(&image, max_side, ret_pixels, err);
    if (status == ST_OK) {
        *ret_width = (int32_t)image.width;
        *ret_height = (int32_t)image.height;
    }
    png_image_free(&image);
    free(file);
    return status;
}
