/* dicom/read: stored values and HU with known answers, made byte by byte; every transfer syntax the
** receiver accepts gives the same values. */
#include "tests/ct_file.h"
#include "tests/test.h"

#include "base/digest.h"
#include "base/files.h"
#include "dicom/read.h"

#include <unistd.h>

enum { COLUMNS = 6, N = 4 * COLUMNS };

static const char *file_in_dir(const char *name)
{
    static char path[PATH_SIZE];
    CHECK_OK(path_format(path, NULL, "%s/%s", test_dir(), name), &(Err){0});
    return path;
}

static void read_file(const char *path, CtHeader *ret_header, int16_t *ret_hu, char ret_hex[65])
{
    Err err = {0};
    uint8_t digest[DIGEST_SIZE];
    CHECK_OK(dicom_read_header(path, ret_header, &err), &err);
    CHECK_OK(dicom_read_hu(path, ret_header, ret_hu, digest, &err), &err);
    if (ret_hex != NULL)
        (void)digest_hex(digest, ret_hex);
}

static void read_made(const CtFile *file, CtHeader *ret_header, int16_t ret_hu[N], char hex[65])
{
    const char *path = file_in_dir("ct.dcm");
    ct_file_write(path, file);
    read_file(path, ret_header, ret_hu, hex);
}

TEST(dicom_read_header_takes_all_fields, "bits, rescale, kVp, body part, position, geometry")
{
    CtHeader h;
    int16_t hu[N];
    CtFile f = {.bits_stored = 12, .slope = "2.5", .intercept = "-1024", .body_part = "Head neck"};
    read_made(&f, &h, hu, NULL);
    CHECK(h.bits_allocated == 16 && h.bits_stored == 12 && h.high_bit == 11 && !h.is_signed);
    CHECK(!h.has_padding && h.slope == 2.5 && h.intercept == -1024 && h.kvp == 120);
    CHECK_STR(h.body_part, "HEADNECK");
    CHECK_STR(h.patient_position, "HFS");
    CHECK_STR(h.instance.sop_uid, "1.2.3.4.5");
    CHECK_NEAR(h.instance.geometry.ipp_lps_mm[1], -20.5, 0);
    CHECK(h.age_years < 0);
    for (int i = 0; i < N; i++)
        CHECK_INT(hu[i], -1024);
}

TEST(dicom_read_masks_bits_above_stored, "12 bits unsigned: rubbish in the upper nibble is ignored")
{
    CtHeader h;
    int16_t hu[N];
    const uint16_t cells[N] = {0xf000, 0x1001, 0x0fff, 0xafff, 0x8400};
    CtFile f = {.bits_stored = 12, .intercept = "-1024", .cells = cells};
    read_made(&f, &h, hu, NULL);
    CHECK_INT(hu[0], -1024);
    CHECK_INT(hu[1], -1023);
    CHECK_INT(hu[2], 3071);
    CHECK_INT(hu[3], 3071);
    CHECK_INT(hu[4], 0);
}

TEST(dicom_read_extends_sign, "12 bits signed: 0xFFF is -1, 0x800 is -2048 whatever lies above")
{
    CtHeader h;
    int16_t hu[N];
    const uint16_t cells[N] = {0x0fff, 0xffff, 0x07ff, 0x0801, 0x0c18};
    CtFile f = {.bits_stored = 12, .is_signed = true, .intercept = "1024", .cells = cells};
    read_made(&f, &h, hu, NULL);
    CHECK_INT(hu[0], 1023);
    CHECK_INT(hu[1], 1023);
    CHECK_INT(hu[2], 3071);
    CHECK_INT(hu[3], -1023); /* -2047 + 1024 */
    CHECK_INT(hu[4], 24);    /* -1000 + 1024 */
}

TEST(dicom_read_rescales_in_double, "rounds half away from zero, no 16-bit overflow, clips")
{
    CtHeader h;
    int16_t hu[N];
    const uint16_t cells[N] = {0x8000, 0x7fff, 1, 3, 0xffff, 100};
    CtFile f = {.is_signed = true, .slope = "0.5", .intercept = "-1E1", .cells = cells};
    read_made(&f, &h, hu, NULL);
    CHECK_INT(hu[0], -1024);
    CHECK_INT(hu[1], 3071);
    CHECK_INT(hu[2], -10); /* -9.5 */
    CHECK_INT(hu[3], -9);  /* -8.5 */
    CHECK_INT(hu[4], -11); /* -10.5 */
    CHECK_INT(hu[5], 40);
}

TEST(dicom_read_maps_padding_to_air, "padding is a stored value, not HU: single, range either way")
{
    CtHeader h;
    int16_t hu[N];
    const uint16_t cells[N] = {(uint16_t)-1500, 40, (uint16_t)-1450, (uint16_t)-1400, 0};
    CtFile f = {.is_signed = true, .intercept = "500", .cells = cells};
    f.has_padding = true;
    f.padding = (uint16_t)-1500;
    read_made(&f, &h, hu, NULL);
    CHECK(h.has_padding && h.padding_low == -1500 && h.padding_high == -1500);
    CHECK_INT(hu[0], -1024);
    CHECK_INT(hu[1], 540);
    CHECK_INT(hu[2], -950);
    f.has_limit = true;
    f.limit = (uint16_t)-1420;
    read_made(&f, &h, hu, NULL);
    CHECK(h.padding_low == -1500 && h.padding_high == -1420);
    CHECK_INT(hu[2], -1024);
    CHECK_INT(hu[3], -900);
    f.padding = (uint16_t)-1420;
    f.limit = (uint16_t)-1500;
    read_made(&f, &h, hu, NULL);
    CHECK(h.padding_low == -1500 && h.padding_high == -1420);
    CHECK_INT(hu[2], -1024);
}

TEST(
    dicom_read_padding_like_tissue,
    "padding of 0 HU blanks what reaches the border, from any side, not pixels within the head; of "
    "-900 HU it blanks all; a range that reaches above is refused")
{
    CtHeader h;
    int16_t hu[N];
    static const uint16_t CELLS[N] = {
        0,  50, 50, 50, 50, 50, /* from the corner to the second row */
        0,  0,  50, 50, 0,  50, /* 0 in column 4: within */
        50, 50, 0,  50, 50, 0,  /* column 2 within, column 5 not */
        50, 0,  50, 50, 50, 50};
    static const bool MARGIN[N] = {true,  false, false, false, false, false, true,  true,
                                   false, false, false, false, false, false, false, false,
                                   false, true,  false, true,  false, false, false, false};
    CtFile f = {.is_signed = true, .intercept = "0", .cells = CELLS, .has_padding = true};
    read_made(&f, &h, hu, NULL);
    for (int i = 0; i < N; i++)
        CHECK_INT(hu[i], MARGIN[i] ? -1024 : CELLS[i]);
    f.intercept = "-900";
    read_made(&f, &h, hu, NULL);
    for (int i = 0; i < N; i++)
        CHECK_INT(hu[i], CELLS[i] == 0 ? -1024 : CELLS[i] - 900);
    f.has_limit = true;
    f.limit = 2; /* -898 HU */
    Err err = {0};
    const char *path = file_in_dir("range.dcm");
    ct_file_write(path, &f);
    CHECK_STATUS(dicom_read_header(path, &h, &err), ST_DICOM_ATTRIBUTE);
    CHECK(strstr(err.msg, "-900 to -898 HU") != NULL);
    f.limit = (uint16_t)-20; /* from there to 0: -920 to -900 */
    ct_file_write(path, &f);
    CHECK_OK(dicom_read_header(path, &h, &err), &err);
}

TEST(dicom_read_padding_of_minus_2000, "GE: stored -2000 and intercept -1024 is -3024 HU: air")
{
    CtHeader h;
    int16_t hu[N];
    const uint16_t cells[N] = {(uint16_t)-2000, 24, 1024, (uint16_t)-1, 0x8000};
    CtFile f = {.is_signed = true, .intercept = "-1024", .cells = cells};
    for (int padded = 0; padded < 2; padded++) {
        f.has_padding = padded != 0;
        f.padding = (uint16_t)-2000;
        read_made(&f, &h, hu, NULL);
        CHECK_INT(hu[0], -1024);
        CHECK_INT(hu[1], -1000);
        CHECK_INT(hu[2], 0);
        CHECK_INT(hu[3], -1024);
        CHECK_INT(hu[4], -1024); /* -32768 - 1024 does not fit 16 bits */
    }
}

TEST(dicom_read_padding_outside_bits_stored, "63536 in a 12-bit image is padding; 2096 is not")
{
    CtHeader h;
    int16_t hu[N];
    const uint16_t cells[N] = {63536, 2096, 1024};
    CtFile f = {.bits_stored = 12, .intercept = "-1024", .cells = cells};
    f.has_padding = true;
    f.padding = 63536;
    read_made(&f, &h, hu, NULL);
    CHECK_INT(hu[0], -1024);
    CHECK_INT(hu[1], 1072);
    CHECK_INT(hu[2], 0);
}

TEST(dicom_read_implicit_is_the_same,
     "Implicit and Explicit VR: same HU, same digest, same padding")
{
    CtHeader h;
    int16_t a[N], b[N];
    char hex_a[65], hex_b[65];
    const uint16_t cells[N] = {(uint16_t)-2000, 7, (uint16_t)-9};
    CtFile f = {.is_signed = true, .cells = cells, .has_padding = true, .padding = (uint16_t)-2000};
    read_made(&f, &h, a, hex_a);
    f.is_implicit = true;
    read_made(&f, &h, b, hex_b);
    CHECK(h.padding_low == -2000);
    CHECK(memcmp(a, b, sizeof a) == 0);
    CHECK_STR(hex_a, hex_b);
    /* SHA-256 of the values as little-endian int32, computed here: the definition of the digest. */
    int32_t values[N] = {-2000, 7, -9};
    char want[65];
    digest_memory(values, sizeof values, want);
    CHECK_STR(hex_a, want);
}

TEST(dicom_read_age, "years, months, weeks, days; else from birth and study date; else unknown")
{
    static const struct {
        const char *age, *birth;
        double years, tolerance;
    } rows[] = {
        {"045Y", "", 45, 0},           {"018M", "", 1.5, 0},         {"010D", "", 0.0274, 1e-4},
        {"003W", "", 0.0575, 1e-4},    {"-", "19700102", 50, 0.003}, {"", "19700702", 49.5, 0.003},
        {"45", "19700102", 50, 0.003}, {"-", "20300101", -1, 0},     {"-", "", -1, 0},
        {"-", "nonsense", -1, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CtHeader h;
        int16_t hu[N];
        CtFile f = {.age = rows[i].age, .birth_date = rows[i].birth};
        read_made(&f, &h, hu, NULL);
        CHECK_NEAR(h.age_years, rows[i].years, rows[i].tolerance);
    }
}

TEST(dicom_read_refuses_bad_attributes, "no slope, slope 0, impossible bits: DICOM_ATTRIBUTE")
{
    static const CtFile bad[] = {{.slope = "-"},
                                 {.slope = "0"},
                                 {.slope = "1x"},
                                 {.intercept = "-"},
                                 {.intercept = "nan"},
                                 {.bits_stored = 17},
                                 {.bits_stored = 12, .high_bit = 5},
                                 {.bits_allocated = 32, .bits_stored = 32}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CtHeader h = {.kvp = -7};
        Err err = {0};
        ct_file_write(file_in_dir("bad.dcm"), &bad[i]);
        CHECK_STATUS(dicom_read_header(file_in_dir("bad.dcm"), &h, &err), ST_DICOM_ATTRIBUTE);
        CHECK(err.msg[0] != '\0');
        CHECK(h.kvp == -7); /* untouched */
    }
}

TEST(dicom_read_refuses_short_pixels, "pixel data of half the size is an error, not a read beyond")
{
    CtHeader h;
    Err err = {0};
    int16_t hu[N];
    uint8_t digest[DIGEST_SIZE];
    CtFile f = {0};
    ct_file_write(file_in_dir("a.dcm"), &f);
    CHECK_OK(dicom_read_header(file_in_dir("a.dcm"), &h, &err), &err);
    f.pixel_bytes = N;
    ct_file_write(file_in_dir("a.dcm"), &f);
    CHECK_STATUS(dicom_read_hu(file_in_dir("a.dcm"), &h, hu, digest, &err), ST_DICOM_DECODE);
}

TEST(dicom_read_missing_file, "a path that is not there is an error")
{
    CtHeader h;
    Err err = {0};
    CHECK(dicom_read_header(file_in_dir("none.dcm"), &h, &err) != ST_OK);
}

/* A picture with edges, noise and the whole range, so that every predictor has work. */
static void make_picture(uint16_t *cells, int n, int bits, bool is_signed)
{
    uint32_t random = 12345;
    for (int i = 0; i < n * n; i++) {
        random = random * 1664525u + 1013904223u;
        int x = i % n, y = i / n, range = 1 << bits;
        int v = (x - n / 2) * (x - n / 2) + (y - n / 2) * (y - n / 2) < n * n / 9 ? range / 2
                                                                                  : range / 50;
        v += (int)(random >> 24) % 64;
        if (x == 0)
            v = y % 2 == 0 ? 0 : range - 1;
        if (is_signed)
            v -= range / 2;
        cells[i] = (uint16_t)(v & (range - 1));
        if (is_signed && v < 0)
            cells[i] = (uint16_t)v; /* sign-extended over the cell, as scanners write it */
    }
}

TEST(dicom_read_all_lossless_coders, "DCMTK's encoders: RLE, JPEG .57, .70, JPEG-LS give same bits")
{
    static const char *const commands[] = {"dcmcrle", "dcmcjpeg +e1", "dcmcjpeg +el",
                                           "dcmcjpls +el"};
    static const struct {
        int bits;
        bool is_signed;
    } kinds[] = {{8, false}, {12, false}, {12, true}, {16, false}, {16, true}};
    if (access("/usr/bin/dcmcrle", X_OK) != 0)
        SKIP("dcmtk is not installed");
    enum { SIDE = 48 };
    uint16_t cells[SIDE * SIDE];
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        CtHeader h;
        int16_t want[SIDE * SIDE], got[SIDE * SIDE];
        char want_hex[65], got_hex[65], command[PATH_SIZE * 3];
        make_picture(cells, SIDE, kinds[k].bits, kinds[k].is_signed);
        CtFile f = {.rows = SIDE,
                    .columns = SIDE,
                    .bits_stored = kinds[k].bits,
                    .is_signed = kinds[k].is_signed,
                    .slope = "0.05",
                    .cells = cells};
        ct_file_write(file_in_dir("plain.dcm"), &f);
        read_file(file_in_dir("plain.dcm"), &h, want, want_hex);
        for (size_t c = 0; c < sizeof commands / sizeof commands[0]; c++) {
            (void)snprintf(command, sizeof command, "%s '%s/plain.dcm' '%s/packed.dcm'",
                           commands[c], test_dir(), test_dir());
            CHECK_INT(system(command), 0);
            read_file(file_in_dir("packed.dcm"), &h, got, got_hex);
            CHECK(memcmp(want, got, sizeof want) == 0);
            CHECK_STR(got_hex, want_hex);
        }
    }
}

TEST(dicom_read_survives_damaged_streams, "a damaged compressed image fails or decodes, never more")
{
    if (access("/usr/bin/dcmcrle", X_OK) != 0)
        SKIP("dcmtk is not installed");
    static const char *const commands[] = {"dcmcrle", "dcmcjpeg +e1", "dcmcjpls +el"};
    enum { SIDE = 48 };
    uint16_t cells[SIDE * SIDE];
    int16_t hu[SIDE * SIDE];
    uint8_t digest[DIGEST_SIZE];
    make_picture(cells, SIDE, 12, false);
    CtFile f = {.rows = SIDE, .columns = SIDE, .bits_stored = 12, .cells = cells};
    ct_file_write(file_in_dir("plain.dcm"), &f);
    int n_failed = 0;
    for (size_t c = 0; c < sizeof commands / sizeof commands[0]; c++) {
        char command[PATH_SIZE * 3], *data;
        size_t size;
        Err err = {0};
        CtHeader h;
        (void)snprintf(command, sizeof command, "%s '%s/plain.dcm' '%s/p.dcm'", commands[c],
                       test_dir(), test_dir());
        CHECK_INT(system(command), 0);
        CHECK_OK(dicom_read_header(file_in_dir("p.dcm"), &h, &err), &err);
        CHECK_OK(file_read(file_in_dir("p.dcm"), CT_FILE_MAX, &data, &size, &err), &err);
        uint32_t random = 7;
        for (int round = 0; round < 60; round++) {
            random = random * 1664525u + 1013904223u;
            size_t at = size - 1 - (random >> 8) % (size / 2);
            char old = data[at];
            data[at] = (char)(random & 0xff);
            CHECK_OK(file_write_durable(file_in_dir("q.dcm"), data, size, &err), &err);
            Status status = dicom_read_hu(file_in_dir("q.dcm"), &h, hu, digest, &err);
            CHECK(status == ST_OK || status == ST_DICOM_DECODE || status == ST_DICOM_PARSE);
            n_failed += status != ST_OK;
            data[at] = old;
        }
        /* A stream that ends early is never read as if it were whole. */
        memset(data + size - size / 4, 0, size / 4);
        CHECK_OK(file_write_durable(file_in_dir("q.dcm"), data, size, &err), &err);
        CHECK(dicom_read_hu(file_in_dir("q.dcm"), &h, hu, digest, &err) != ST_OK);
        free(data);
    }
    CHECK(n_failed > 0);
}

TEST(dicom_read_real_syntaxes, "a real slice: six accepted syntaxes agree, the others are refused")
{
    static const char *const same[] = {
        "CTImage.dcm_LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm",
        "CTImage.dcm_LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2.dcm",
        "CTImage.dcm_RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm",
        "CTImage.dcm_JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57.dcm",
        "CTImage.dcm_JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70.dcm",
        "CTImage.dcm_JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80.dcm"};
    static const char *const refused[] = {
        "CTImage.dcm_BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2.dcm",
        "CTImage.dcm_DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99.dcm",
        "CTImage.dcm_JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90.dcm",
        "CTImage.dcm_JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81.dcm",
        "CTImage.dcm_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm"};
    static int16_t want[512 * 512], got[512 * 512];
    char folder[PATH_SIZE], path[PATH_SIZE], want_hex[65], got_hex[65];
    CtHeader h;
    CHECK_OK(path_format(folder, NULL, "%s", test_shared("data/syntaxes")), &(Err){0});
    CHECK_OK(path_format(path, NULL, "%s/CTImage.dcm", folder), &(Err){0});
    read_file(path, &h, want, want_hex);
    CHECK(h.has_padding && h.padding_low == -32768 && h.intercept == -1024);
    CHECK_INT(want[0], -1024); /* a corner outside the reconstruction circle */
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        CHECK_OK(path_format(path, NULL, "%s/%s", folder, same[i]), &(Err){0});
        read_file(path, &h, got, got_hex);
        CHECK(memcmp(want, got, sizeof want) == 0);
        CHECK_STR(got_hex, want_hex);
    }
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        Err err = {0};
        CHECK_OK(path_format(path, NULL, "%s/%s", folder, refused[i]), &err);
        CHECK_STATUS(dicom_read_header(path, &h, &err), ST_DICOM_SYNTAX);
    }
}
