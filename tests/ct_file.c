/* See ct_file.h. Source of the layout: PS3.5 section 7, PS3.10 section 7. */
#include "tests/ct_file.h"

#include "tests/test.h"

#include <unistd.h>

#define CT_CLASS "1.2.840.10008.5.1.4.1.1.2"

typedef struct Writer {
    uint8_t data[CT_FILE_MAX];
    size_t n;
    bool is_implicit;
} Writer;

static void put(Writer *w, const void *data, size_t n)
{
    CHECK(w->n + n <= sizeof w->data);
    memcpy(w->data + w->n, data, n);
    w->n += n;
}

static void put16(Writer *w, unsigned value)
{
    uint8_t b[2] = {(uint8_t)value, (uint8_t)(value >> 8)};
    put(w, b, 2);
}

static void put32(Writer *w, uint32_t value)
{
    put16(w, value & 0xffff);
    put16(w, value >> 16);
}

static void element(Writer *w, unsigned group, unsigned number, const char *vr, const void *value,
                    size_t n)
{
    put16(w, group);
    put16(w, number);
    if (w->is_implicit && group != 2) {
        put32(w, (uint32_t)n);
    } else {
        put(w, vr, 2);
        if (strcmp(vr, "OW") == 0 || strcmp(vr, "OB") == 0) {
            put16(w, 0);
            put32(w, (uint32_t)n);
        } else {
            put16(w, (unsigned)n);
        }
    }
    put(w, value, n);
}

static void text(Writer *w, unsigned group, unsigned number, const char *vr, const char *value,
                 const char *standard)
{
    char padded[256];
    const char *v = value == NULL ? standard : value;
    if (strcmp(v, "-") == 0)
        return;
    size_t n = strlen(v);
    CHECK(n + 1 < sizeof padded);
    memcpy(padded, v, n);
    if (n % 2 != 0)
        padded[n++] = strcmp(vr, "UI") == 0 ? '\0' : ' ';
    element(w, group, number, vr, padded, n);
}

static void word(Writer *w, unsigned group, unsigned number, const char *vr, unsigned value)
{
    uint8_t b[2] = {(uint8_t)value, (uint8_t)(value >> 8)};
    element(w, group, number, vr, b, 2);
}

static void meta(Writer *w, const CtFile *f)
{
    static Writer m;
    m.n = 0;
    element(&m, 2, 1, "OB", "\0\1", 2);
    text(&m, 2, 2, "UI", f->sop_class, CT_CLASS);
    text(&m, 2, 3, "UI", f->sop_uid, "1.2.3.4.5");
    text(&m, 2, 0x10, "UI", f->syntax,
         f->is_implicit ? "1.2.840.10008.1.2" : "1.2.840.10008.1.2.1");
    text(&m, 2, 0x12, "UI", "1.2.3", NULL);
    uint8_t zeros[128] = {0}, length[4] = {(uint8_t)m.n, (uint8_t)(m.n >> 8), 0, 0};
    put(w, zeros, sizeof zeros);
    put(w, "DICM", 4);
    element(w, 2, 0, "UL", length, 4);
    put(w, m.data, m.n);
}

static void group_0008_to_0018(Writer *w, const CtFile *f)
{
    text(w, 8, 0x05, "CS", f->charset, "-");
    text(w, 8, 0x08, "CS", f->image_type, "ORIGINAL\\PRIMARY\\AXIAL");
    text(w, 8, 0x16, "UI", f->sop_class, CT_CLASS);
    text(w, 8, 0x18, "UI", f->sop_uid, "1.2.3.4.5");
    text(w, 8, 0x20, "DA", "20200102", NULL);
    text(w, 8, 0x21, "DA", f->series_date, "-");
    text(w, 8, 0x22, "DA", f->acquisition_date, "-");
    text(w, 8, 0x23, "DA", f->content_date, "-");
    text(w, 8, 0x30, "TM", "030405", NULL);
    text(w, 8, 0x31, "TM", f->series_time, "-");
    text(w, 8, 0x32, "TM", f->acquisition_time, "-");
    text(w, 8, 0x33, "TM", f->content_time, "-");
    text(w, 8, 0x50, "SH", "A 17", NULL);
    text(w, 8, 0x60, "CS", f->modality, "CT");
    text(w, 8, 0x70, "LO", "Maker", NULL);
    text(w, 8, 0x80, "LO", "Clinic", NULL);
    text(w, 8, 0x90, "PN", "", NULL);
    text(w, 8, 0x1090, "LO", f->model, "Scanner 9");
    text(w, 0x10, 0x10, "PN", f->patient_name, "TEST^CT");
    text(w, 0x10, 0x20, "LO", "T 42  ", NULL);
    text(w, 0x10, 0x30, "DA", f->birth_date, "");
    text(w, 0x10, 0x40, "CS", "O", NULL);
    text(w, 0x10, 0x1010, "AS", f->age, "-");
    text(w, 0x18, 0x15, "CS", f->body_part, "HEAD");
    text(w, 0x18, 0x50, "DS", "2.50", NULL);
    text(w, 0x18, 0x60, "DS", "120", NULL);
    text(w, 0x18, 0x5100, "CS", "HFS", NULL);
}

static void group_0020_to_0028(Writer *w, const CtFile *f)
{
    int stored = f->bits_stored > 0 ? f->bits_stored : 16;
    text(w, 0x20, 0x0d, "UI", "1.2.3.1", NULL);
    text(w, 0x20, 0x0e, "UI", f->series_uid, "1.2.3.2");
    text(w, 0x20, 0x10, "SH", "7", NULL);
    text(w, 0x20, 0x11, "IS", f->series_number, "2");
    text(w, 0x20, 0x12, "IS", "1", NULL);
    text(w, 0x20, 0x13, "IS", "1", NULL);
    text(w, 0x20, 0x32, "DS", f->position, "-10\\-20.5\\30");
    text(w, 0x20, 0x37, "DS", "1.000\\0\\0\\0\\1\\0", NULL);
    text(w, 0x20, 0x52, "UI", f->frame_uid, "1.2.3.4");
    text(w, 0x20, 0x1040, "LO", "", NULL);
    text(w, 0x20, 0x4000, "LT", f->comments, "-");
    word(w, 0x28, 0x02, "US", 1);
    text(w, 0x28, 0x04, "CS", "MONOCHROME2", NULL);
    word(w, 0x28, 0x10, "US", (unsigned)(f->rows > 0 ? f->rows : 4));
    word(w, 0x28, 0x11, "US", (unsigned)(f->columns > 0 ? f->columns : 6));
    text(w, 0x28, 0x30, "DS", f->pixel_spacing, "0.5\\0.5");
    word(w, 0x28, 0x100, "US", (unsigned)(f->bits_allocated > 0 ? f->bits_allocated : 16));
    word(w, 0x28, 0x101, "US", (unsigned)stored);
    word(w, 0x28, 0x102, "US", (unsigned)(f->high_bit > 0 ? f->high_bit : stored - 1));
    word(w, 0x28, 0x103, "US", f->is_signed);
    if (f->has_padding)
        word(w, 0x28, 0x120, f->is_signed ? "SS" : "US", f->padding);
    if (f->has_limit)
        word(w, 0x28, 0x121, f->is_signed ? "SS" : "US", f->limit);
    text(w, 0x28, 0x1052, "DS", f->intercept, "0");
    text(w, 0x28, 0x1053, "DS", f->slope, "1");
    text(w, 0x28, 0x1054, "LO", f->rescale_type, "HU");
    text(w, 0x28, 0x2110, "CS", f->lossy, "-");
}

void ct_file_write(const char *path, const CtFile *f)
{
    static Writer w;
    w.n = 0;
    w.is_implicit = f->is_implicit;
    meta(&w, f);
    group_0008_to_0018(&w, f);
    group_0020_to_0028(&w, f);
    size_t n = (size_t)(f->rows > 0 ? f->rows : 4) * (size_t)(f->columns > 0 ? f->columns : 6);
    size_t cell_bytes = f->bits_allocated == 8 ? 1 : 2;
    uint8_t *pixels = calloc(n + 1, 2);
    CHECK(pixels != NULL);
    for (size_t i = 0; i < n && f->cells != NULL; i++) {
        pixels[i * cell_bytes] = (uint8_t)f->cells[i];
        if (cell_bytes == 2)
            pixels[2 * i + 1] = (uint8_t)(f->cells[i] >> 8);
    }
    size_t pixel_bytes = f->pixel_bytes > 0 ? f->pixel_bytes : (n * cell_bytes + 1) / 2 * 2;
    element(&w, 0x7fe0, 0x10, "OW", pixels, pixel_bytes);
    free(pixels);
    FILE *out = fopen(path, "wb");
    CHECK(out != NULL);
    CHECK(fwrite(w.data, 1, w.n, out) == w.n);
    CHECK(fclose(out) == 0);
}

const uint8_t *ct_file_load(const char *path, size_t *ret_size_bytes)
{
    static uint8_t data[CT_FILE_MAX];
    FILE *in = fopen(path, "rb");
    CHECK(in != NULL);
    *ret_size_bytes = fread(data, 1, sizeof data, in);
    CHECK(feof(in));
    CHECK(fclose(in) == 0);
    return data;
}

static size_t get16(const uint8_t *p)
{
    return (size_t)(p[0] | p[1] << 8);
}

static size_t get32(const uint8_t *p)
{
    return get16(p) | get16(p + 2) << 16;
}

const uint8_t *ct_file_find(const uint8_t *data, size_t size_bytes, uint16_t group, uint16_t number,
                            size_t *ret_length)
{
    for (size_t at = 132; at + 8 <= size_bytes;) {
        const uint8_t *p = data + at;
        static const char *const wide[] = {"OB", "OW", "SQ", "UN", "UT", "OF", "UC", "UR"};
        size_t head = 8, length = get16(p + 6);
        for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++) {
            if (memcmp(p + 4, wide[i], 2) == 0) {
                head = 12;
                length = get32(p + 8);
            }
        }
        CHECK(at + head + length <= size_bytes);
        if (get16(p) == group && get16(p + 2) == number) {
            *ret_length = length;
            return p + head;
        }
        at += head + length;
    }
    return NULL;
}

const char *ct_file_text(const uint8_t *data, size_t size_bytes, uint16_t group, uint16_t number)
{
    static char value[2048];
    size_t length;
    const uint8_t *p = ct_file_find(data, size_bytes, group, number, &length);
    if (p == NULL)
        return "(absent)";
    CHECK(length < sizeof value);
    memcpy(value, p, length);
    while (length > 0 && (value[length - 1] == ' ' || value[length - 1] == '\0'))
        length--;
    value[length] = '\0';
    return value;
}

int dciodvfy_errors(const char *path, char *ret_last, size_t size)
{
    if (access("/usr/bin/dciodvfy", X_OK) != 0)
        SKIP("dciodvfy (dicom3tools) is not installed");
    char command[4300], line[1024];
    (void)snprintf(command, sizeof command, "/usr/bin/dciodvfy '%s' 2>&1", path);
    FILE *pipe = popen(command, "r");
    CHECK(pipe != NULL);
    int n_errors = 0, n_lines = 0;
    ret_last[0] = '\0';
    while (fgets(line, sizeof line, pipe) != NULL) {
        n_lines++;
        if (strncmp(line, "Error", 5) == 0) {
            n_errors++;
            (void)snprintf(ret_last, size, "%s", line);
        }
    }
    (void)pclose(pipe);
    CHECK(n_lines > 0); /* it names the IOD at least */
    return n_errors;
}
