/* dicom/prescan.h: one test per kind of input of the README's table of receiver cases. The data
** sets are made byte by byte (tests/dicom_peer.h): from one good slice, one thing is made wrong.
** Expected answers are the table's: C000H not walkable, A900H a wrong or missing attribute. */
#include "tests/dicom_peer.h"
#include "tests/test.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/files.h"
#include "dicom/prescan.h"

#include <dirent.h>
#include <unistd.h>

static const char RLE[] = "1.2.840.10008.1.2.5";

/* ---- helpers ---- */

static unsigned scan_bytes(const Bytes *file, Instance *ret, Err *err)
{
    unsigned dimse = 0xFFFF;
    *err = (Err){0};
    Status status = prescan_memory(file->data, file->size, ret, &dimse, err);
    CHECK((status == ST_OK) == (dimse == DIMSE_SUCCESS));
    CHECK(status == ST_OK || strlen(err->msg) > 0);
    CHECK(dimse != DIMSE_CANNOT_UNDERSTAND || status == ST_DICOM_PARSE ||
          status == ST_DICOM_SYNTAX);
    CHECK(dimse != DIMSE_DATA_SET_MISMATCH || status == ST_DICOM_ATTRIBUTE);
    return dimse;
}

static void file_of(const DataSet *ds, bool implicit, Bytes *ret)
{
    Bytes data_set = {0};
    data_set_encode(ds, implicit, &data_set);
    file_encode(PEER_CT, "1.2.3.4.000001", implicit ? PEER_IMPLICIT : PEER_EXPLICIT, &data_set,
                ret);
    bytes_free(&data_set);
}

/* The answer to ds in both uncompressed syntaxes, which must be the same. Frees ds. */
static unsigned answer_to(DataSet *ds)
{
    unsigned answers[2];
    for (int implicit = 0; implicit < 2; implicit++) {
        Bytes file = {0};
        Instance instance = {0};
        Err err;
        file_of(ds, implicit == 1, &file);
        answers[implicit] = scan_bytes(&file, &instance, &err);
        bytes_free(&file);
    }
    data_set_free(ds);
    CHECK_INT(answers[0], answers[1]);
    return answers[0];
}

/* The answer to a file whose data set is given as bytes. */
static unsigned answer_to_bytes(const char *syntax, const Bytes *data_set)
{
    Bytes file = {0};
    Instance instance = {0};
    Err err;
    file_encode(PEER_CT, "1.2.3.4.000001", syntax, data_set, &file);
    unsigned answer = scan_bytes(&file, &instance, &err);
    bytes_free(&file);
    return answer;
}

static unsigned answer_with_text(uint32_t tag, const char *vr, const char *text)
{
    DataSet ds;
    data_set_ct(&ds, 16, 8, 0);
    data_set_text(&ds, tag, vr, text);
    return answer_to(&ds);
}

static unsigned answer_with_u16(uint32_t tag, unsigned number)
{
    DataSet ds;
    data_set_ct(&ds, 16, 8, 0);
    data_set_u16(&ds, tag, number);
    return answer_to(&ds);
}

static unsigned answer_without(uint32_t tag)
{
    DataSet ds;
    data_set_ct(&ds, 16, 8, 0);
    data_set_remove(&ds, tag);
    return answer_to(&ds);
}

/* ---- what is right ---- */

TEST(prescan_fills_every_field,
     "all fields of Instance of a good file, in both uncompressed syntaxes")
{
    for (int implicit = 0; implicit < 2; implicit++) {
        DataSet ds;
        Bytes file = {0}, data_set = {0};
        Instance i = {.file = "kept"};
        Err err;
        data_set_ct(&ds, 16, 8, 0);
        data_set_encode(&ds, implicit == 1, &data_set);
        file_of(&ds, implicit == 1, &file);
        CHECK_INT(scan_bytes(&file, &i, &err), DIMSE_SUCCESS);
        CHECK_STR(i.file, "kept");
        CHECK_STR(i.sop_class_uid, PEER_CT);
        CHECK_STR(i.sop_uid, "1.2.3.4.000001");
        CHECK_STR(i.series_uid, "1.2.3.4");
        CHECK_STR(i.study_uid, "1.2.3");
        CHECK_STR(i.transfer_syntax_uid, implicit ? PEER_IMPLICIT : PEER_EXPLICIT);
        CHECK_INT(i.size_bytes, file.size);
        const ImageGeometry *g = &i.geometry;
        CHECK_STR(g->frame_uid, "1.2.3.5");
        CHECK(g->rows == 16 && g->columns == 8 && g->has_position && !g->is_localizer);
        CHECK(g->instance_number == 1 && g->images_in_acquisition == 93);
        CHECK_NEAR(g->ipp_lps_mm[0], -120.5, 0);
        CHECK_NEAR(g->ipp_lps_mm[2], 0, 0);
        CHECK_NEAR(g->iop[0], 1, 0);
        CHECK_NEAR(g->iop[4], 1, 0);
        CHECK_NEAR(g->pixel_spacing_mm[0], 0.5, 0);
        CHECK_NEAR(g->pixel_spacing_mm[1], 0.75, 0);
        CHECK_NEAR(g->slice_thickness_mm, 1.5, 0);
        /* The digest by its definition: syntax UID, then the data set's bytes. */
        Bytes hashed = {0};
        char want[DIGEST_HEX_SIZE];
        bytes_add(&hashed, i.transfer_syntax_uid, strlen(i.transfer_syntax_uid));
        bytes_add(&hashed, data_set.data, data_set.size);
        digest_memory(hashed.data, hashed.size, want);
        CHECK_STR(i.digest, want);
        bytes_free(&hashed);
        bytes_free(&data_set);
        bytes_free(&file);
        data_set_free(&ds);
    }
}

static void patient_key(uint32_t tag, const char *vr, const char *text, char ret[HEX_SIZE])
{
    DataSet ds;
    Bytes file = {0};
    Instance i = {0};
    Err err;
    data_set_ct(&ds, 16, 8, 0);
    if (vr == NULL)
        data_set_remove(&ds, tag);
    else
        data_set_text(&ds, tag, vr, text);
    file_of(&ds, false, &file);
    CHECK_INT(scan_bytes(&file, &i, &err), DIMSE_SUCCESS);
    memcpy(ret, i.patient_key, HEX_SIZE);
    bytes_free(&file);
    data_set_free(&ds);
}

TEST(prescan_patient_key_tells_patients_apart,
     "each of the five attributes changes it, padding does not")
{
    char same[HEX_SIZE], other[HEX_SIZE], padded[HEX_SIZE], absent[HEX_SIZE];
    patient_key(0x00100010, "PN", "Doe^Jane", same);
    CHECK_INT(strlen(same), 64);
    patient_key(0x00100010, "PN", "Doe^Jane  ", padded);
    CHECK_STR(same, padded);
    patient_key(0x00100010, "PN", "Doe^Joan", other);
    CHECK(strcmp(same, other) != 0);
    patient_key(0x00100020, "LO", "4712", other);
    CHECK(strcmp(same, other) != 0);
    patient_key(0x00100021, "LO", "Elsewhere", other);
    CHECK(strcmp(same, other) != 0);
    patient_key(0x00100030, "DA", "19700102", other);
    CHECK(strcmp(same, other) != 0);
    patient_key(0x00100040, "CS", "M", other);
    CHECK(strcmp(same, other) != 0);
    patient_key(0x00100040, "CS", "", other);
    patient_key(0x00100040, NULL, NULL, absent);
    CHECK_STR(other, absent);
}

TEST(uid_rules, "digits and single dots, 1 to 64 characters; leading zeros pass")
{
    char long_uid[70];
    memset(long_uid, '1', sizeof long_uid);
    long_uid[65] = '\0';
    CHECK(!uid_is_valid(long_uid));
    long_uid[64] = '\0';
    CHECK(uid_is_valid(long_uid));
    CHECK(uid_is_valid("1.2.840.10008.1.2") && uid_is_valid("1.02.3") && uid_is_valid("0"));
    CHECK(!uid_is_valid("") && !uid_is_valid(".1") && !uid_is_valid("1.") && !uid_is_valid("1..2"));
    CHECK(!uid_is_valid("1.2a") && !uid_is_valid("../1") && !uid_is_valid("1.2 ") &&
          !uid_is_valid("-1"));
}

/* ---- rows 18 to 20 ---- */

TEST(prescan_case_18_uid_differs_from_command, "class or instance other than announced: A900H")
{
    CHECK_INT(answer_with_text(0x00080018, "UI", "1.2.3.4.000002"), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_with_text(0x00080016, "UI", PEER_MR), DIMSE_DATA_SET_MISMATCH);
}

TEST(prescan_case_19_uids_missing,
     "no SOP Instance, Series, Study or class UID, or not a UID: A900H")
{
    static const uint32_t tags[] = {0x00080016, 0x00080018, 0x0020000D, 0x0020000E};
    for (int i = 0; i < 4; i++) {
        CHECK_INT(answer_without(tags[i]), DIMSE_DATA_SET_MISMATCH);
        CHECK_INT(answer_with_text(tags[i], "UI", ""), DIMSE_DATA_SET_MISMATCH);
        CHECK_INT(answer_with_text(tags[i], "UI", "1.2.x"), DIMSE_DATA_SET_MISMATCH);
        CHECK_INT(answer_with_text(tags[i], "UI", "../../etc/passwd"), DIMSE_DATA_SET_MISMATCH);
    }
}

TEST(prescan_case_20_empty_and_random, "no data set, random bytes, no DICM: C000H")
{
    Bytes empty = {0}, random = {0};
    CHECK_INT(answer_to_bytes(PEER_EXPLICIT, &empty), DIMSE_CANNOT_UNDERSTAND);
    for (int seed = 0; seed < 200; seed++) {
        random.size = 0;
        uint32_t state = (uint32_t)seed * 2654435761u + 1;
        for (int i = 0; i < 500; i++)
            bytes_u32(&random, state = state * 1664525u + 1013904223u);
        CHECK_INT(answer_to_bytes(seed % 2 ? PEER_EXPLICIT : PEER_IMPLICIT, &random),
                  DIMSE_CANNOT_UNDERSTAND);
    }
    Instance i;
    Err err;
    CHECK_INT(scan_bytes(&random, &i, &err), DIMSE_CANNOT_UNDERSTAND);
    Bytes none = {(unsigned char *)"", 0, 0};
    CHECK_INT(scan_bytes(&none, &i, &err), DIMSE_CANNOT_UNDERSTAND);
    bytes_free(&random);
}

/* ---- rows 21 to 25, 27: structure ---- */

TEST(prescan_case_21_length_past_end, "a length beyond the file, anywhere: C000H")
{
    for (int implicit = 0; implicit < 2; implicit++) {
        static const uint32_t lengths[] = {0x7FFFFFF0, 0xFFFFFFFE, 0x00010000};
        for (int i = 0; i < 3; i++) {
            DataSet ds;
            Bytes bytes = {0};
            data_set_ct(&ds, 16, 8, 0);
            data_set_encode(&ds, implicit == 1, &bytes);
            unsigned char *length = bytes.data + bytes.size - 16 * 8 * 2 - 4;
            for (int b = 0; b < 4; b++)
                length[b] = (unsigned char)(lengths[i] >> (8 * b));
            CHECK_INT(answer_to_bytes(implicit ? PEER_IMPLICIT : PEER_EXPLICIT, &bytes),
                      DIMSE_CANNOT_UNDERSTAND);
            bytes_free(&bytes);
            data_set_free(&ds);
        }
    }
}

TEST(prescan_cut_anywhere_is_refused,
     "every proper prefix of a good file is refused, and none crashes")
{
    DataSet ds;
    Bytes file = {0};
    data_set_ct(&ds, 16, 8, 0);
    file_of(&ds, false, &file);
    for (size_t n = 0; n < file.size; n++) {
        unsigned char *copy = malloc(n + 1); /* exact size: ASan sees a read too far */
        CHECK(copy != NULL);
        memcpy(copy, file.data, n);
        Instance i;
        unsigned dimse;
        CHECK(prescan_memory(copy, n, &i, &dimse, NULL) != ST_OK);
        free(copy);
    }
    bytes_free(&file);
    data_set_free(&ds);
}

TEST(prescan_case_22_23_pixel_data_size,
     "short: A900H; one pad byte: accepted; longer: A900H; none: A900H")
{
    static const unsigned char zeros[16 * 8 * 2 + 2];
    static const struct {
        size_t size;
        unsigned want;
    } rows[] = {{254, DIMSE_DATA_SET_MISMATCH},
                {0, DIMSE_DATA_SET_MISMATCH},
                {256, DIMSE_SUCCESS},
                {257, DIMSE_SUCCESS},
                {258, DIMSE_DATA_SET_MISMATCH}};
    for (int i = 0; i < 5; i++) {
        DataSet ds;
        data_set_ct(&ds, 16, 8, 0);
        data_set_bytes(&ds, 0x7FE00010, "OW", zeros, rows[i].size);
        CHECK_INT(answer_to(&ds), rows[i].want);
    }
    CHECK_INT(answer_without(0x7FE00010), DIMSE_DATA_SET_MISMATCH);
}

/* n nested sequences, each with one item, of undefined or defined length, put into (0008,1140). */
static void add_nested(DataSet *ds, int depth, bool implicit, bool undefined)
{
    Bytes inner = {0};
    for (int i = 0; i < depth; i++) {
        Bytes item = {0}, element = {0};
        bytes_u32(&item, 0xE000FFFE);
        bytes_u32(&item, undefined ? 0xFFFFFFFF : (uint32_t)inner.size);
        bytes_add(&item, inner.data, inner.size);
        if (undefined) {
            bytes_u32(&item, 0xE00DFFFE);
            bytes_u32(&item, 0);
            bytes_u32(&item, 0xE0DDFFFE);
            bytes_u32(&item, 0);
        }
        if (i + 1 < depth)
            element_add(&element, implicit, 0x00081140, "SQ", item.data, item.size, undefined);
        else
            bytes_add(&element, item.data, item.size);
        bytes_free(&item);
        bytes_free(&inner);
        inner = element;
    }
    data_set_bytes(ds, 0x00081140, "SQ", inner.data, inner.size);
    for (int i = 0; i < ds->n; i++)
        if (ds->items[i].tag == 0x00081140)
            ds->items[i].undefined_length = undefined;
    bytes_free(&inner);
}

TEST(prescan_case_24_nesting,
     "16 nested sequences pass, 17 are C000H, of defined and undefined length")
{
    for (int variant = 0; variant < 4; variant++) {
        bool implicit = variant % 2 == 1, undefined = variant >= 2;
        for (int depth = 15; depth <= 18; depth++) {
            DataSet ds;
            Bytes bytes = {0};
            data_set_ct(&ds, 16, 8, 0);
            add_nested(&ds, depth, implicit, undefined);
            data_set_encode(&ds, implicit, &bytes);
            CHECK_INT(answer_to_bytes(implicit ? PEER_IMPLICIT : PEER_EXPLICIT, &bytes),
                      depth <= PRESCAN_MAX_DEPTH ? DIMSE_SUCCESS : DIMSE_CANNOT_UNDERSTAND);
            bytes_free(&bytes);
            data_set_free(&ds);
        }
    }
}

/* depth headers of sequence and item, never closed: 20 bytes each. */
static void add_open_sequences(Bytes *out, int depth)
{
    for (int i = 0; i < depth; i++) {
        element_add(out, false, 0x00081140, "SQ", NULL, 0, true);
        bytes_u32(out, 0xE000FFFE);
        bytes_u32(out, 0xFFFFFFFF);
    }
}

TEST(prescan_case_24_depth_100000, "100 000 nested sequences: C000H in less than a second")
{
    Bytes bytes = {0};
    add_open_sequences(&bytes, 100000);
    double start = clock_monotonic_s();
    CHECK_INT(answer_to_bytes(PEER_EXPLICIT, &bytes), DIMSE_CANNOT_UNDERSTAND);
    CHECK(clock_monotonic_s() - start < 1.0);
    bytes_free(&bytes);
}

TEST(prescan_case_24_unknown_vr_hides_nothing,
     "UN of undefined length is walked as a sequence, with the same limit")
{
    for (int depth = 16; depth <= 17; depth++) {
        DataSet ds;
        Bytes bytes = {0};
        data_set_ct(&ds, 16, 8, 0);
        add_nested(&ds, depth, true, true); /* Implicit VR inside, PS3.5 section 6.2.2 */
        for (int i = 0; i < ds.n; i++)
            if (ds.items[i].tag == 0x00081140)
                memcpy(ds.items[i].vr, "UN", 2);
        data_set_encode(&ds, false, &bytes);
        CHECK_INT(answer_to_bytes(PEER_EXPLICIT, &bytes),
                  depth == 16 ? DIMSE_SUCCESS : DIMSE_CANNOT_UNDERSTAND);
        bytes_free(&bytes);
        data_set_free(&ds);
    }
}

TEST(prescan_case_25_many_elements,
     "10^6 tiny elements and a 1 GiB length: C000H; 1000 private ones pass")
{
    Bytes many = {0}, some = {0};
    for (uint32_t i = 0; i < 1000000; i++)
        element_add(&many, true, 0x00090000 + i * 2, "", NULL, 0, false);
    Bytes bytes = {0};
    element_add(&bytes, true, 0x00080005, "", NULL, 0, false);
    bytes_add(&bytes, many.data, many.size);
    CHECK_INT(answer_to_bytes(PEER_IMPLICIT, &bytes), DIMSE_CANNOT_UNDERSTAND);
    bytes.size = 0;
    element_add(&bytes, true, 0x00080005, "", NULL, 0, false);
    bytes_u32(&bytes, 0x10000009);
    bytes_u32(&bytes, 1u << 30);
    CHECK_INT(answer_to_bytes(PEER_IMPLICIT, &bytes), DIMSE_CANNOT_UNDERSTAND);

    DataSet ds;
    data_set_ct(&ds, 16, 8, 0);
    bytes.size = 0;
    data_set_encode(&ds, true, &bytes);
    bytes_add(&some, bytes.data, bytes.size - 256 - 8);
    for (uint32_t i = 0; i < 1000; i++)
        element_add(&some, true, 0x00291000 + i, "", "ab", 2, false);
    bytes_add(&some, bytes.data + bytes.size - 256 - 8, 256 + 8);
    CHECK_INT(answer_to_bytes(PEER_IMPLICIT, &some), DIMSE_SUCCESS);
    bytes_free(&many);
    bytes_free(&some);
    bytes_free(&bytes);
    data_set_free(&ds);
}

TEST(prescan_case_27_wrong_syntax, "big endian, implicit as explicit, explicit as implicit: C000H")
{
    DataSet ds;
    Bytes explicit_bytes = {0}, implicit_bytes = {0}, big_endian = {0};
    data_set_ct(&ds, 16, 8, 0);
    data_set_encode(&ds, false, &explicit_bytes);
    data_set_encode(&ds, true, &implicit_bytes);
    CHECK_INT(answer_to_bytes(PEER_IMPLICIT, &explicit_bytes), DIMSE_CANNOT_UNDERSTAND);
    CHECK_INT(answer_to_bytes(PEER_EXPLICIT, &implicit_bytes), DIMSE_CANNOT_UNDERSTAND);
    for (int i = 0; i < ds.n; i++) { /* tag and 16-bit length swapped; values as they are */
        unsigned tag = ds.items[i].tag, length = (unsigned)ds.items[i].value.size;
        unsigned char header[8] = {
            (unsigned char)(tag >> 24),       (unsigned char)(tag >> 16),
            (unsigned char)(tag >> 8),        (unsigned char)tag,
            (unsigned char)ds.items[i].vr[0], (unsigned char)ds.items[i].vr[1],
            (unsigned char)(length >> 8),     (unsigned char)length};
        bytes_add(&big_endian, header, 8);
        bytes_add(&big_endian, ds.items[i].value.data, length);
    }
    CHECK_INT(answer_to_bytes(PEER_EXPLICIT, &big_endian), DIMSE_CANNOT_UNDERSTAND);
    CHECK_INT(answer_to_bytes(PEER_IMPLICIT, &big_endian), DIMSE_CANNOT_UNDERSTAND);
    CHECK_INT(answer_to_bytes("1.2.840.10008.1.2.2", &explicit_bytes), DIMSE_CANNOT_UNDERSTAND);
    bytes_free(&explicit_bytes);
    bytes_free(&implicit_bytes);
    bytes_free(&big_endian);
    data_set_free(&ds);
}

TEST(prescan_order_and_repeats,
     "elements out of order or twice, stray delimiters, unknown VR: C000H")
{
    DataSet ds;
    data_set_ct(&ds, 16, 8, 0);
    DataSetItem first = ds.items[3];
    ds.items[3] = ds.items[4];
    ds.items[4] = first;
    CHECK_INT(answer_to(&ds), DIMSE_CANNOT_UNDERSTAND);
    data_set_ct(&ds, 16, 8, 0);
    ds.items[6].tag = ds.items[5].tag;
    CHECK_INT(answer_to(&ds), DIMSE_CANNOT_UNDERSTAND);
    data_set_ct(&ds, 16, 8, 0);
    memcpy(ds.items[5].vr, "XX", 2);
    Bytes bytes = {0};
    data_set_encode(&ds, false, &bytes);
    CHECK_INT(answer_to_bytes(PEER_EXPLICIT, &bytes), DIMSE_CANNOT_UNDERSTAND);
    data_set_free(&ds);
    data_set_ct(&ds, 16, 8, 0);
    bytes.size = 0;
    data_set_encode(&ds, false, &bytes);
    bytes_u32(&bytes, 0xE00DFFFE);
    bytes_u32(&bytes, 0);
    CHECK_INT(answer_to_bytes(PEER_EXPLICIT, &bytes), DIMSE_CANNOT_UNDERSTAND);
    bytes_free(&bytes);
    data_set_free(&ds);
}

/* ---- rows 26, compressed ---- */

/* Replaces the pixel data of an explicit data set by fragments; `close` writes the delimiter. */
static unsigned answer_to_fragments(int n_fragments, bool close)
{
    DataSet ds;
    Bytes bytes = {0};
    data_set_ct(&ds, 16, 8, 0);
    data_set_remove(&ds, 0x7FE00010);
    data_set_encode(&ds, false, &bytes);
    data_set_free(&ds);
    element_add(&bytes, false, 0x7FE00010, "OB", NULL, 0, true);
    for (int i = 0; i < n_fragments; i++) {
        bytes_u32(&bytes, 0xE000FFFE);
        bytes_u32(&bytes, i == 0 ? 0 : 6);
        bytes_add(&bytes, "abcdef", i == 0 ? 0 : 6);
    }
    if (close) {
        bytes_u32(&bytes, 0xE0DDFFFE);
        bytes_u32(&bytes, 0);
    }
    unsigned answer = answer_to_bytes(RLE, &bytes);
    bytes_free(&bytes);
    return answer;
}

TEST(prescan_encapsulated_pixel_data,
     "fragments are walked: none A900H, not closed C000H, native A900H")
{
    CHECK_INT(answer_to_fragments(2, true), DIMSE_SUCCESS);
    CHECK_INT(answer_to_fragments(4, true), DIMSE_SUCCESS);
    CHECK_INT(answer_to_fragments(1, true), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_to_fragments(0, true), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_to_fragments(2, false), DIMSE_CANNOT_UNDERSTAND);
    DataSet ds;
    Bytes bytes = {0};
    data_set_ct(&ds, 16, 8, 0);
    data_set_encode(&ds, false, &bytes);
    CHECK_INT(answer_to_bytes(RLE, &bytes), DIMSE_DATA_SET_MISMATCH);
    bytes_free(&bytes);
    data_set_free(&ds);
    CHECK_INT(answer_with_u16(0x00280010, 8193), DIMSE_DATA_SET_MISMATCH);
}

/* ---- rows 28 to 34: attributes ---- */

TEST(prescan_case_28_pixel_format, "8 or 32 bits, 3 samples, MONOCHROME1, RGB, two frames: A900H")
{
    CHECK_INT(answer_with_u16(0x00280100, 8), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_with_u16(0x00280100, 32), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_with_u16(0x00280002, 3), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_with_u16(0x00280103, 2), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_with_text(0x00280004, "CS", "MONOCHROME1"), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_with_text(0x00280004, "CS", "RGB"), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_with_text(0x00280008, "IS", "2"), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_with_text(0x00280008, "IS", "1"), DIMSE_SUCCESS);
    CHECK_INT(answer_without(0x00280004), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_without(0x00280100), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_with_u16(0x00280010, 0), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_without(0x00280011), DIMSE_DATA_SET_MISMATCH);
}

static unsigned answer_with_bits(unsigned stored, unsigned high, unsigned representation)
{
    DataSet ds;
    data_set_ct(&ds, 16, 8, 0);
    data_set_u16(&ds, 0x00280101, stored);
    data_set_u16(&ds, 0x00280102, high);
    data_set_u16(&ds, 0x00280103, representation);
    return answer_to(&ds);
}

TEST(prescan_case_29_30_bits,
     "12/11 and 16/15, signed or not, pass; 17 bits or another high bit: A900H")
{
    CHECK_INT(answer_with_bits(12, 11, 0), DIMSE_SUCCESS);
    CHECK_INT(answer_with_bits(12, 11, 1), DIMSE_SUCCESS);
    CHECK_INT(answer_with_bits(16, 15, 0), DIMSE_SUCCESS);
    CHECK_INT(answer_with_bits(16, 15, 1), DIMSE_SUCCESS);
    CHECK_INT(answer_with_bits(17, 16, 0), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_with_bits(12, 15, 0), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_with_bits(0, 0, 0), DIMSE_DATA_SET_MISMATCH);
}

TEST(prescan_case_31_32_rescale,
     "slope 0, missing, NaN, 1e999, words: A900H; any other number passes")
{
    static const char *const bad[] = {"0",   "-0.0", "NaN",  "inf",  "1e999",
                                      "abc", "",     "1\\2", "0x10", "1,5"};
    for (int i = 0; i < 10; i++)
        CHECK_INT(answer_with_text(0x00281053, "DS", bad[i]), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_without(0x00281053), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_without(0x00281052), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_with_text(0x00281052, "DS", "nan"), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_with_text(0x00281053, "DS", " 1.25E0 "), DIMSE_SUCCESS);
    CHECK_INT(answer_with_text(0x00281053, "DS", "-3.5"), DIMSE_SUCCESS);
    CHECK_INT(answer_with_text(0x00281052, "DS", "0"), DIMSE_SUCCESS);
}

TEST(prescan_case_33_34_accepted,
     "padding value and localizer are accepted; the localizer is marked")
{
    CHECK_INT(answer_with_u16(0x00280120, 63536), DIMSE_SUCCESS);
    DataSet ds;
    Bytes file = {0};
    Instance i;
    Err err;
    data_set_ct(&ds, 16, 8, 0);
    data_set_text(&ds, 0x00080008, "CS", "ORIGINAL\\PRIMARY\\LOCALIZER");
    file_of(&ds, false, &file);
    CHECK_INT(scan_bytes(&file, &i, &err), DIMSE_SUCCESS);
    CHECK(i.geometry.is_localizer);
    bytes_free(&file);
    data_set_free(&ds);
}

TEST(prescan_geometry, "missing position is told, an impossible one is A900H")
{
    DataSet ds;
    Bytes file = {0};
    Instance i;
    Err err;
    data_set_ct(&ds, 16, 8, 0);
    data_set_remove(&ds, 0x00280030);
    data_set_remove(&ds, 0x00200052);
    data_set_remove(&ds, 0x00180050);
    file_of(&ds, false, &file);
    CHECK_INT(scan_bytes(&file, &i, &err), DIMSE_SUCCESS);
    CHECK(!i.geometry.has_position && i.geometry.slice_thickness_mm <= 0);
    CHECK_STR(i.geometry.frame_uid, "");
    bytes_free(&file);
    data_set_free(&ds);
    CHECK_INT(answer_with_text(0x00280030, "DS", "0\\1"), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_with_text(0x00280030, "DS", "1"), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_with_text(0x00200032, "DS", "1\\2\\x"), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_with_text(0x00200037, "DS", "1\\0\\0\\0\\1e400\\0"), DIMSE_DATA_SET_MISMATCH);
    CHECK_INT(answer_with_text(0x00200052, "UI", "not a uid"), DIMSE_DATA_SET_MISMATCH);
}

/* ---- files, fuzz, real data ---- */

TEST(prescan_file_is_prescan_memory, "a file gives the same; a missing, empty or odd one an error")
{
    DataSet ds;
    Bytes file = {0};
    char path[PATH_SIZE];
    Instance a = {0}, b = {0};
    unsigned dimse;
    Err err = {0};
    data_set_ct(&ds, 16, 8, 0);
    file_of(&ds, true, &file);
    CHECK_INT(scan_bytes(&file, &a, &err), DIMSE_SUCCESS);
    CHECK_OK(path_format(path, &err, "%s/a.dcm", test_dir()), &err);
    CHECK_OK(file_write_durable(path, file.data, file.size, &err), &err);
    CHECK_OK(prescan_file(path, &b, &dimse, &err), &err);
    CHECK_INT(dimse, DIMSE_SUCCESS);
    CHECK(memcmp(&a, &b, sizeof a) == 0);
    CHECK_OK(file_write_durable(path, "", 0, &err), &err);
    CHECK_STATUS(prescan_file(path, &b, &dimse, NULL), ST_DICOM_PARSE);
    CHECK_INT(dimse, DIMSE_CANNOT_UNDERSTAND);
    CHECK_STATUS(prescan_file(test_dir(), &b, &dimse, NULL), ST_DICOM_PARSE);
    CHECK_STATUS(prescan_file("/nonexistent", &b, &dimse, NULL), ST_NOT_FOUND);
    bytes_free(&file);
    data_set_free(&ds);
}

TEST(prescan_survives_mutations,
     "20000 random changes of good files: never a crash, always an answer")
{
    uint32_t state = 12345;
    int accepted = 0;
    for (int round = 0; round < 4; round++) {
        DataSet ds;
        Bytes file = {0};
        bool implicit = round % 2 == 1;
        data_set_ct(&ds, 4, 4, 0);
        add_nested(&ds, 5, implicit, round >= 2);
        file_of(&ds, implicit, &file);
        for (int n = 0; n < 5000; n++) {
            size_t size = file.size;
            unsigned char *copy = malloc(size);
            CHECK(copy != NULL);
            memcpy(copy, file.data, size);
            for (int k = 0; k <= n % 4; k++) {
                state = state * 1664525u + 1013904223u;
                size_t at = 128 + (state >> 8) % (size - 128);
                state = state * 1664525u + 1013904223u;
                static const unsigned char special[] = {0x00, 0xFF, 0xFE, 0xE0,
                                                        0x7F, 'U',  'S',  'Q'};
                copy[at] = n % 2 == 0 ? (unsigned char)(state >> 24) : special[state >> 29];
            }
            if (n % 8 == 7)
                size = 128 + (state >> 8) % (size - 128);
            Instance i;
            unsigned dimse;
            accepted += prescan_memory(copy, size, &i, &dimse, NULL) == ST_OK;
            free(copy);
        }
        bytes_free(&file);
        data_set_free(&ds);
    }
    CHECK(accepted > 100 && accepted < 19900); /* the changes neither all matter nor all not */
}

static Status scan_shared(const char *dir, const char *name, Instance *ret)
{
    char path[PATH_SIZE];
    unsigned dimse;
    CHECK(path_format(path, NULL, "%s/%s", dir, name) == ST_OK);
    return prescan_file(path, ret, &dimse, NULL);
}

TEST(prescan_real_files_of_all_syntaxes,
     "a real CT slice passes in the six accepted syntaxes, is refused in the others")
{
    static const struct {
        const char *name;
        Status want;
    } rows[] = {
        {"LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1", ST_OK},
        {"LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2", ST_OK},
        {"RLELosslessTransferSyntax_1.2.840.10008.1.2.5", ST_OK},
        {"JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70", ST_OK},
        {"JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57", ST_OK},
        {"JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80", ST_OK},
        {"BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2", ST_DICOM_SYNTAX},
        {"DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99", ST_DICOM_SYNTAX},
        {"JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90", ST_DICOM_SYNTAX},
        {"JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50", ST_DICOM_SYNTAX},
    };
    char dir[PATH_SIZE], name[200];
    CHECK(path_format(dir, NULL, "%s", test_shared("data/syntaxes")) == ST_OK);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Instance instance;
        (void)snprintf(name, sizeof name, "CTImage.dcm_%s.dcm", rows[i].name);
        CHECK_STATUS(scan_shared(dir, name, &instance), rows[i].want);
    }
    Instance instance;
    CHECK_STATUS(scan_shared(dir, "no-pixel-data.dcm", &instance), ST_DICOM_ATTRIBUTE);
}

TEST(prescan_real_head, "all 93 slices of a real head CT pass, in one series, with positions")
{
    char dir[PATH_SIZE], series[UID_SIZE] = "";
    CHECK(path_format(dir, NULL, "%s", test_shared("data/ct_small")) == ST_OK);
    DIR *d = opendir(dir);
    CHECK(d != NULL);
    int n = 0;
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        size_t length = strlen(e->d_name);
        if (length < 4 || strcmp(e->d_name + length - 4, ".dcm") != 0)
            continue;
        Instance i;
        CHECK_STATUS(scan_shared(dir, e->d_name, &i), ST_OK);
        CHECK(i.geometry.has_position);
        if (n++ == 0)
            memcpy(series, i.series_uid, UID_SIZE);
        CHECK_STR(i.series_uid, series);
    }
    (void)closedir(d);
    CHECK_INT(n, 93);
}
