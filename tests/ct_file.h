/* Makes small CT files byte by byte, without DCMTK, so that tests decide every bit of them; and
** walks the top level of an Explicit VR file to look at value bytes. */
#ifndef CT2MR_TESTS_CT_FILE_H
#define CT2MR_TESTS_CT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CT_FILE_MAX = 1 << 20 };

/* Zero-initialised fields get the default in brackets; a text "-" leaves the attribute out. */
typedef struct CtFile {
    int rows, columns;                         /* [4, 6] */
    int bits_allocated, bits_stored, high_bit; /* [16, 16, bits_stored - 1] */
    bool is_signed;
    bool has_padding, has_limit;
    uint16_t padding, limit;
    const uint16_t *cells;                /* [rows][columns], [zeros] */
    const char *slope, *intercept;        /* ["1", "0"] */
    const char *charset, *patient_name;   /* ["-", "TEST^CT"] */
    const char *age, *birth_date;         /* ["-", ""] */
    const char *body_part;                /* ["HEAD"] */
    const char *frame_uid;                /* ["1.2.3.4"] */
    const char *position, *pixel_spacing; /* ["-10\\-20.5\\30", "0.5\\0.5"] */
    const char *content_date, *content_time, *acquisition_date, *acquisition_time;
    const char *series_date, *series_time; /* the six: ["-"]; study: 20200102 030405 */
    const char *lossy;                     /* ["-"] */
    const char *sop_uid;                   /* ["1.2.3.4.5"] */
    const char *sop_class, *syntax;        /* [CT Image Storage, as is_implicit says] */
    const char *series_uid, *image_type;   /* ["1.2.3.2", an axial original] */
    const char *series_number;             /* ["2"] */
    const char *modality, *rescale_type;   /* ["CT", "HU"] */
    const char *comments, *model;          /* ["-", "Scanner 9"] */
    size_t pixel_bytes;                    /* length of Pixel Data [what the cells need] */
    bool is_implicit;
} CtFile;

void ct_file_write(const char *path, const CtFile *file);

/* The whole file in a static buffer; ends the test if it cannot be read. */
const uint8_t *ct_file_load(const char *path, size_t *ret_size_bytes);
/* Top-level element of an Explicit VR Little Endian file; NULL if absent. */
const uint8_t *ct_file_find(const uint8_t *data, size_t size_bytes, uint16_t group,
                            uint16_t element, size_t *ret_length);
/* The value as text without trailing padding, "(absent)" if absent. Static buffer. */
const char *ct_file_text(const uint8_t *data, size_t size_bytes, uint16_t group, uint16_t element);

/* Runs dciodvfy on a file: number of "Error" lines, text of the last one; skips the test if the
** program is missing. */
int dciodvfy_errors(const char *path, char *ret_last, size_t size);

#endif
