/* See prescan.h.
**
** The walk keeps its own stack of open sequences and items (at most 2 * PRESCAN_MAX_DEPTH + 1
** frames, on the stack of the function), so that no nesting of the input can exhaust ours. Each
** frame knows the byte it must not pass: the end of its own defined length, or of its parent's.
** Whatever a later parser (DCMTK) would descend into must be descended into here, else the depth
** limit could be evaded: sequences of defined and undefined length, UN of undefined length
** (Implicit VR inside, PS3.5 section 6.2.2 note 4) and, where there are no VRs, values that begin
** with an item tag. Wanted attributes are noted on the way as pointers into the data and judged
** afterwards. */
#include "dicom/prescan.h"

#include "base/digest.h"
#include "dicom/prescan_int.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- tags, syntaxes, limits ---- */

/* The attributes that are looked at, in the root of the data set only. */
#define ATTRIBUTE_MAP(X)                                                                           \
    X(IMAGE_TYPE, 0x00080008)                                                                      \
    X(SOP_CLASS_UID, 0x00080016)                                                                   \
    X(SOP_INSTANCE_UID, 0x00080018)                                                                \
    X(PATIENT_NAME, 0x00100010)                                                                    \
    X(PATIENT_ID, 0x00100020)                                                                      \
    X(PATIENT_ID_ISSUER, 0x00100021)                                                               \
    X(PATIENT_BIRTH_DATE, 0x00100030)                                                              \
    X(PATIENT_SEX, 0x00100040)                                                                     \
    X(SLICE_THICKNESS, 0x00180050)                                                                 \
    X(STUDY_UID, 0x0020000D)                                                                       \
    X(SERIES_UID, 0x0020000E)                                                                      \
    X(INSTANCE_NUMBER, 0x00200013)                                                                 \
    X(IMAGE_POSITION, 0x00200032)                                                                  \
    X(IMAGE_ORIENTATION, 0x00200037)                                                               \
    X(FRAME_UID, 0x00200052)                                                                       \
    X(IMAGES_IN_ACQUISITION, 0x00201002)                                                           \
    X(SAMPLES_PER_PIXEL, 0x00280002)                                                               \
    X(PHOTOMETRIC, 0x00280004)                                                                     \
    X(NUMBER_OF_FRAMES, 0x00280008)                                                                \
    X(ROWS, 0x00280010)                                                                            \
    X(COLUMNS, 0x00280011)                                                                         \
    X(PIXEL_SPACING, 0x00280030)                                                                   \
    X(BITS_ALLOCATED, 0x00280100)                                                                  \
    X(BITS_STORED, 0x00280101)                                                                     \
    X(HIGH_BIT, 0x00280102)                                                                        \
    X(PIXEL_REPRESENTATION, 0x00280103)                                                            \
    X(RESCALE_INTERCEPT, 0x00281052)                                                               \
    X(RESCALE_SLOPE, 0x00281053)                                                                   \
    X(PIXEL_DATA, 0x7FE00010)

enum Attribute {
#define ATTRIBUTE_ENUM(name, tag) A_##name,
    ATTRIBUTE_MAP(ATTRIBUTE_ENUM)
#undef ATTRIBUTE_ENUM
        N_ATTRIBUTES
};

static const uint32_t attribute_tags[N_ATTRIBUTES] = {
#define ATTRIBUTE_TAG(name, tag) tag,
    ATTRIBUTE_MAP(ATTRIBUTE_TAG)
#undef ATTRIBUTE_TAG
};

static const uint32_t TAG_ITEM = 0xFFFEE000, TAG_ITEM_END = 0xFFFEE00D,
                      TAG_SEQUENCE_END = 0xFFFEE0DD, TAG_PIXEL_DATA = 0x7FE00010,
                      TAG_META_CLASS = 0x00020002, TAG_META_INSTANCE = 0x00020003,
                      TAG_META_SYNTAX = 0x00020010, LENGTH_UNDEFINED = 0xFFFFFFFF;

enum {
    PREAMBLE_SIZE = 128,
    /* Rows and Columns: a compressed image may unfold to 2 * 8192 * 8192 bytes and no more. */
    MAX_MATRIX = 8192,
    MAX_FRAMES = 1 + 2 * PRESCAN_MAX_DEPTH,
    NUMBER_SIZE = 33 /* PS3.5 allows 16 characters in a DS; longer ones are met */
};

typedef struct Syntax {
    const char *uid;
    bool implicit, encapsulated;
} Syntax;

static const Syntax syntaxes[] = {
    {"1.2.840.10008.1.2.1", false, false},   /* Explicit VR Little Endian */
    {"1.2.840.10008.1.2", true, false},      /* Implicit VR Little Endian */
    {"1.2.840.10008.1.2.5", false, true},    /* RLE */
    {"1.2.840.10008.1.2.4.70", false, true}, /* JPEG lossless, first order prediction */
    {"1.2.840.10008.1.2.4.57", false, true}, /* JPEG lossless, any prediction */
    {"1.2.840.10008.1.2.4.80", false, true}, /* JPEG-LS lossless */
};

/* ---- the scan's state ---- */

typedef struct Value {
    const unsigned char *data; /* NULL: the attribute is absent */
    uint32_t length;           /* bytes; of all fragments for encapsulated pixel data */
    bool encapsulated;
} Value;

typedef struct Element {
    uint32_t tag, length;
    char vr[3]; /* "" where the syntax has none */
} Element;

typedef enum FrameKind { FRAME_DATA_SET, FRAME_SEQUENCE, FRAME_ITEM } FrameKind;

typedef struct Frame {
    FrameKind kind;
    bool implicit, undefined; /* undefined: closed by a delimiter, not by its length */
    size_t limit;             /* first byte that does not belong to it */
    uint32_t last_tag;
} Frame;

typedef struct Scan {
    const unsigned char *data;
    size_t size_bytes, at, data_set_at;
    const Syntax *syntax;
    bool wants_mr; /* MR Image Storage, which has no Rescale Slope; else CT Image Storage */
    char meta_class[UID_SIZE], meta_instance[UID_SIZE]; /* "" if absent */
    Frame frames[MAX_FRAMES];
    int n_frames;
    int32_t n_elements;
    Value values[N_ATTRIBUTES];
    unsigned dimse;
    Err *err;
} Scan;

/* ---- refusals: a sentence of ours, never a value of the file ---- */

static Status bad_structure(Scan *scan, const char *why)
{
    scan->dimse = DIMSE_CANNOT_UNDERSTAND;
    return err_set(scan->err, ST_DICOM_PARSE, "byte %zu: %s", scan->at, why);
}

static Status bad_tag(Scan *scan, uint32_t tag, const char *why)
{
    scan->dimse = DIMSE_DATA_SET_MISMATCH;
    return err_set(scan->err, ST_DICOM_ATTRIBUTE, "(%04X,%04X) %s", tag >> 16, tag & 0xFFFF, why);
}

static Status bad_attribute(Scan *scan, enum Attribute which, const char *why)
{
    return bad_tag(scan, attribute_tags[which], why);
}

/* ---- reading elements ---- */

static uint32_t read_u16(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t read_u32(const unsigned char *p)
{
    return read_u16(p) | read_u16(p + 2) << 16;
}

static uint32_t read_tag(const unsigned char *p)
{
    return read_u16(p) << 16 | read_u16(p + 2);
}

/* VRs with a 32-bit length after two reserved bytes (PS3.5 table 7.1-1), and the others. An unknown
** VR is refused: two parsers might disagree about the size of its header. */
static bool vr_is_known(const char vr[3], bool *ret_long)
{
    static const char with_long[] = "OB OD OF OL OV OW SQ SV UC UN UR UT UV ";
    static const char with_short[] = "AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL "
                                     "US ";
    char key[4] = {vr[0], vr[1], ' ', '\0'};
    if (vr[0] < 'A' || vr[0] > 'Z' || vr[1] < 'A' || vr[1] > 'Z')
        return false;
    *ret_long = strstr(with_long, key) != NULL;
    return *ret_long || strstr(with_short, key) != NULL;
}

/* Reads tag, VR and length; the scan stands at the value afterwards. */
static Status read_element(Scan *scan, bool implicit, size_t limit, Element *ret)
{
    if (limit - scan->at < 8)
        return bad_structure(scan, "element header is cut off");
    const unsigned char *p = scan->data + scan->at;
    Element element = {.tag = read_tag(p)};
    size_t header = 8;
    bool has_vr = !implicit && element.tag >> 16 != 0xFFFE;
    if (has_vr) {
        element.vr[0] = (char)p[4];
        element.vr[1] = (char)p[5];
        bool is_long;
        if (!vr_is_known(element.vr, &is_long))
            return bad_structure(scan, "unknown value representation");
        header = is_long ? 12 : 8;
        if (limit - scan->at < header)
            return bad_structure(scan, "element header is cut off");
        element.length = is_long ? read_u32(p + 8) : read_u16(p + 6);
    } else {
        element.length = read_u32(p + 4);
    }
    scan->at += header;
    if (element.length != LENGTH_UNDEFINED && element.length > limit - scan->at)
        return bad_structure(scan, "element length goes past the end");
    if (++scan->n_elements > PRESCAN_MAX_ELEMENTS)
        return bad_structure(scan, "too many elements");
    *ret = element;
    return ST_OK;
}

/* ---- text values ---- */

/* Copies a value without trailing padding; false if it does not fit or is not printable ASCII. */
static bool copy_text(const unsigned char *data, uint32_t length, char *ret, size_t size)
{
    while (length > 0 && (data[length - 1] == ' ' || data[length - 1] == '\0'))
        length--;
    if (length >= size)
        return false;
    for (uint32_t i = 0; i < length; i++)
        if (data[i] < 0x20 || data[i] > 0x7E)
            return false;
    memcpy(ret, data, length);
    ret[length] = '\0';
    return true;
}

bool uid_is_valid(const char *uid)
{
    size_t n = strnlen(uid, UID_SIZE);
    if (n == 0 || n >= UID_SIZE || uid[0] == '.' || uid[n - 1] == '.')
        return false;
    for (size_t i = 0; i < n; i++) {
        bool is_digit = uid[i] >= '0' && uid[i] <= '9';
        if (!is_digit && (uid[i] != '.' || uid[i + 1] == '.'))
            return false;
    }
    return true;
}

/* The n backslash-separated decimals of a DS value; false if there are more or fewer, or one is no
** finite number. The C locale is used whatever the process has set. */
static bool parse_decimals(const Value *value, int n, double *ret)
{
    static locale_t c_locale;
    if (c_locale == (locale_t)0)
        c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    double numbers[6] = {0};
    uint32_t at = 0;
    for (int i = 0; i < n; i++) {
        char text[NUMBER_SIZE];
        size_t used = 0;
        for (; at < value->length && value->data[at] != '\\'; at++) {
            char c = (char)value->data[at];
            if ((c == ' ' || c == '\0') && (used == 0 || at + 1 == value->length))
                continue;
            if (strchr("+-0123456789.eE ", c) == NULL || c == '\0' || used + 1 >= sizeof text)
                return false;
            text[used++] = c;
        }
        while (used > 0 && text[used - 1] == ' ')
            used--;
        text[used] = '\0';
        char *end;
        numbers[i] = strtod_l(text, &end, c_locale);
        if (used == 0 || *end != '\0' || !isfinite(numbers[i]))
            return false;
        bool more = at < value->length; /* standing at a backslash */
        if (more != (i + 1 < n))
            return false;
        at++;
    }
    memcpy(ret, numbers, (size_t)n * sizeof *ret);
    return true;
}

static bool parse_integer(const Value *value, int32_t *ret)
{
    double number;
    if (!parse_decimals(value, 1, &number) || fabs(number) > INT32_MAX || number != floor(number))
        return false;
    *ret = (int32_t)number;
    return true;
}

static bool value_is_empty(const Value *value)
{
    return value->data == NULL || value->length == 0;
}

/* ---- the file's meta information, PS3.10 section 7.1: always Explicit VR Little Endian ---- */

static Status take_meta_uid(Scan *scan, const Element *element, char ret[UID_SIZE])
{
    char uid[UID_SIZE];
    if (!copy_text(scan->data + scan->at, element->length, uid, sizeof uid) || !uid_is_valid(uid))
        return bad_tag(scan, element->tag, "is not a UID");
    memcpy(ret, uid, sizeof uid);
    return ST_OK;
}

static Status scan_meta_elements(Scan *scan, char ret_syntax[UID_SIZE])
{
    if (scan->size_bytes < PREAMBLE_SIZE + 4 || memcmp(scan->data + PREAMBLE_SIZE, "DICM", 4) != 0)
        return bad_structure(scan, "not a DICOM file: no DICM after the preamble");
    scan->at = PREAMBLE_SIZE + 4;
    while (scan->size_bytes - scan->at >= 2 && read_u16(scan->data + scan->at) == 0x0002) {
        Element element;
        TRY(read_element(scan, false, scan->size_bytes, &element));
        if (element.length == LENGTH_UNDEFINED)
            return bad_structure(scan, "undefined length in the meta information");
        if (element.tag == TAG_META_SYNTAX)
            TRY(take_meta_uid(scan, &element, ret_syntax));
        else if (element.tag == TAG_META_CLASS)
            TRY(take_meta_uid(scan, &element, scan->meta_class));
        else if (element.tag == TAG_META_INSTANCE)
            TRY(take_meta_uid(scan, &element, scan->meta_instance));
        scan->at += element.length;
    }
    return ST_OK;
}

static Status scan_meta(Scan *scan)
{
    char syntax[UID_SIZE] = "";
    TRY(scan_meta_elements(scan, syntax));
    for (size_t i = 0; i < sizeof syntaxes / sizeof syntaxes[0]; i++)
        if (strcmp(syntaxes[i].uid, syntax) == 0)
            scan->syntax = &syntaxes[i];
    if (scan->syntax == NULL) {
        scan->dimse = DIMSE_CANNOT_UNDERSTAND;
        return err_set(scan->err, ST_DICOM_SYNTAX, "transfer syntax is missing or not supported");
    }
    scan->data_set_at = scan->at;
    return ST_OK;
}

/* ---- the data set ---- */

static Status push(Scan *scan, FrameKind kind, bool implicit, uint32_t length)
{
    const Frame *parent = &scan->frames[scan->n_frames - 1];
    if (scan->n_frames == MAX_FRAMES)
        return bad_structure(scan, "sequences are nested too deeply");
    bool undefined = length == LENGTH_UNDEFINED;
    size_t limit = undefined ? parent->limit : scan->at + length;
    scan->frames[scan->n_frames++] = (Frame){kind, implicit, undefined, limit, 0};
    return ST_OK;
}

/* Fragments of encapsulated pixel data: an offset table, then at least one fragment (PS3.5 A.4). */
static Status scan_fragments(Scan *scan, size_t limit, Value *ret)
{
    Value value = {scan->data + scan->at, 0, true};
    for (int n = 0;; n++) {
        Element element;
        TRY(read_element(scan, true, limit, &element));
        if (element.tag == TAG_SEQUENCE_END && element.length == 0)
            break;
        if (element.tag != TAG_ITEM || element.length == LENGTH_UNDEFINED)
            return bad_structure(scan, "not a fragment of pixel data");
        if (n > 0)
            value.length += element.length;
        scan->at += element.length;
    }
    *ret = value;
    return ST_OK;
}

/* True if a value without a VR is a sequence: it begins with an item. */
static bool value_begins_with_item(const Scan *scan, uint32_t length)
{
    return length >= 8 && read_tag(scan->data + scan->at) == TAG_ITEM;
}

static Status check_order(Scan *scan, Frame *frame, uint32_t tag)
{
    bool is_root = frame->kind == FRAME_DATA_SET;
    bool is_first = frame->last_tag == 0;
    if (is_root && is_first && tag >> 16 != 0x0008)
        return bad_structure(scan, "data set does not begin with group 0008: wrong syntax?");
    bool descends = is_root ? tag <= frame->last_tag : tag >> 16 < frame->last_tag >> 16;
    if (tag >> 16 < 0x0008 || tag >> 16 == 0xFFFE || (!is_first && descends))
        return bad_structure(scan, "elements are not in ascending order");
    frame->last_tag = tag;
    return ST_OK;
}

/* One element of the data set or of an item. The scan stands behind the value afterwards, or at its
** first item if it is a sequence. */
static Status scan_element(Scan *scan, Frame *frame)
{
    size_t header_at = scan->at;
    Element element;
    TRY(read_element(scan, frame->implicit, frame->limit, &element));
    if (element.tag == TAG_ITEM_END && frame->kind == FRAME_ITEM && frame->undefined &&
        element.length == 0) {
        scan->n_frames--;
        return ST_OK;
    }
    bool is_root = frame->kind == FRAME_DATA_SET, is_first = frame->last_tag == 0, is_long;
    char letters[3] = {(char)scan->data[header_at + 4], (char)scan->data[header_at + 5], '\0'};
    if (is_root && is_first && frame->implicit && vr_is_known(letters, &is_long))
        return bad_structure(scan, "Explicit VR in a data set declared Implicit VR");
    TRY(check_order(scan, frame, element.tag));

    bool is_pixel_data = element.tag == TAG_PIXEL_DATA;
    bool is_unknown = strcmp(element.vr, "UN") == 0;
    Value value = {scan->data + scan->at, element.length, false};
    if (element.length == LENGTH_UNDEFINED) {
        if (is_pixel_data && scan->syntax->encapsulated && element.vr[0] == 'O') {
            TRY(scan_fragments(scan, frame->limit, &value));
            element.length = 0;
        } else if (!is_pixel_data &&
                   (frame->implicit || is_unknown || strcmp(element.vr, "SQ") == 0)) {
            return push(scan, FRAME_SEQUENCE, frame->implicit || is_unknown, element.length);
        } else {
            return bad_structure(scan, "undefined length of an element that is no sequence");
        }
    } else if (strcmp(element.vr, "SQ") == 0 || (frame->implicit && !is_pixel_data &&
                                                 value_begins_with_item(scan, element.length))) {
        return push(scan, FRAME_SEQUENCE, frame->implicit, element.length);
    }
    for (int i = 0; is_root && i < N_ATTRIBUTES; i++)
        if (attribute_tags[i] == element.tag)
            scan->values[i] = value;
    scan->at += element.length;
    return ST_OK;
}

static Status scan_item_header(Scan *scan, const Frame *frame)
{
    Element element;
    TRY(read_element(scan, true, frame->limit, &element));
    if (element.tag == TAG_ITEM)
        return push(scan, FRAME_ITEM, frame->implicit, element.length);
    if (element.tag != TAG_SEQUENCE_END || element.length != 0 || !frame->undefined)
        return bad_structure(scan, "not an item in a sequence");
    scan->n_frames--;
    return ST_OK;
}

static Status scan_data_set(Scan *scan)
{
    if (scan->at == scan->size_bytes)
        return bad_structure(scan, "data set is empty");
    scan->frames[0] = (Frame){FRAME_DATA_SET, scan->syntax->implicit, false, scan->size_bytes, 0};
    scan->n_frames = 1;
    while (scan->n_frames > 0) {
        Frame *frame = &scan->frames[scan->n_frames - 1];
        if (scan->at == frame->limit) {
            if (frame->undefined)
                return bad_structure(scan, "sequence or item is not closed");
            scan->n_frames--;
        } else if (frame->kind == FRAME_SEQUENCE) {
            TRY(scan_item_header(scan, frame));
        } else {
            TRY(scan_element(scan, frame));
        }
    }
    return ST_OK;
}

/* ---- judging what was found ---- */

static Status take_uid(Scan *scan, enum Attribute which, char ret[UID_SIZE])
{
    const Value *value = &scan->values[which];
    if (value_is_empty(value))
        return bad_attribute(scan, which, "is missing or empty");
    if (!copy_text(value->data, value->length, ret, UID_SIZE) || !uid_is_valid(ret))
        return bad_attribute(scan, which, "is not a UID");
    return ST_OK;
}

static Status judge_identity(Scan *scan, Instance *instance)
{
    TRY(take_uid(scan, A_SOP_CLASS_UID, instance->sop_class_uid));
    TRY(take_uid(scan, A_SOP_INSTANCE_UID, instance->sop_uid));
    TRY(take_uid(scan, A_SERIES_UID, instance->series_uid));
    TRY(take_uid(scan, A_STUDY_UID, instance->study_uid));
    if (scan->meta_class[0] != '\0' && strcmp(scan->meta_class, instance->sop_class_uid) != 0)
        return bad_attribute(scan, A_SOP_CLASS_UID, "is not the one announced");
    if (scan->meta_instance[0] != '\0' && strcmp(scan->meta_instance, instance->sop_uid) != 0)
        return bad_attribute(scan, A_SOP_INSTANCE_UID, "is not the one announced");
    if (strcmp(instance->sop_class_uid, scan->wants_mr ? UID_MR_IMAGE : UID_CT_IMAGE) != 0) {
        Status status =
            bad_attribute(scan, A_SOP_CLASS_UID,
                          scan->wants_mr ? "is not MR Image Storage" : "is not CT Image Storage");
        scan->dimse = DIMSE_SOP_CLASS_NOT_SUPPORTED;
        return status;
    }
    return ST_OK;
}

static Status take_u16(Scan *scan, enum Attribute which, int32_t low, int32_t high, int32_t *ret)
{
    const Value *value = &scan->values[which];
    if (value_is_empty(value))
        return bad_attribute(scan, which, "is missing or empty");
    if (value->length != 2)
        return bad_attribute(scan, which, "is not one 16-bit number");
    int32_t number = (int32_t)read_u16(value->data);
    if (number < low || number > high)
        return bad_attribute(scan, which, "has a value that is not supported");
    *ret = number;
    return ST_OK;
}

static Status judge_pixel_format(Scan *scan)
{
    int32_t samples, allocated, stored, high_bit, is_signed, frames = 1;
    TRY(take_u16(scan, A_SAMPLES_PER_PIXEL, 1, 1, &samples));
    TRY(take_u16(scan, A_BITS_ALLOCATED, 16, 16, &allocated));
    TRY(take_u16(scan, A_BITS_STORED, 1, allocated, &stored));
    TRY(take_u16(scan, A_HIGH_BIT, stored - 1, stored - 1, &high_bit));
    TRY(take_u16(scan, A_PIXEL_REPRESENTATION, 0, 1, &is_signed));
    const Value *photometric = &scan->values[A_PHOTOMETRIC];
    char text[17];
    if (value_is_empty(photometric) ||
        !copy_text(photometric->data, photometric->length, text, sizeof text) ||
        strcmp(text, "MONOCHROME2") != 0)
        return bad_attribute(scan, A_PHOTOMETRIC, "is not MONOCHROME2");
    const Value *n_frames = &scan->values[A_NUMBER_OF_FRAMES];
    if (!value_is_empty(n_frames) && (!parse_integer(n_frames, &frames) || frames != 1))
        return bad_attribute(scan, A_NUMBER_OF_FRAMES, "is not 1");
    return ST_OK;
}

static Status judge_pixels(Scan *scan, ImageGeometry *geometry)
{
    TRY(take_u16(scan, A_ROWS, 1, MAX_MATRIX, &geometry->rows));
    TRY(take_u16(scan, A_COLUMNS, 1, MAX_MATRIX, &geometry->columns));
    const Value *pixels = &scan->values[A_PIXEL_DATA];
    uint64_t need = (uint64_t)geometry->rows * (uint64_t)geometry->columns * 2;
    if (value_is_empty(pixels))
        return bad_attribute(scan, A_PIXEL_DATA, "is missing or empty");
    if (pixels->encapsulated != scan->syntax->encapsulated)
        return bad_attribute(scan, A_PIXEL_DATA, "is not encoded as the transfer syntax says");
    if (!pixels->encapsulated && pixels->length < need)
        return bad_attribute(scan, A_PIXEL_DATA, "is shorter than Rows x Columns");
    if (!pixels->encapsulated && pixels->length > need + 1)
        return bad_attribute(scan, A_PIXEL_DATA, "is longer than Rows x Columns");
    return ST_OK;
}

static Status judge_rescale(Scan *scan)
{
    double slope, intercept;
    if (value_is_empty(&scan->values[A_RESCALE_SLOPE]) ||
        !parse_decimals(&scan->values[A_RESCALE_SLOPE], 1, &slope) || fpclassify(slope) == FP_ZERO)
        return bad_attribute(scan, A_RESCALE_SLOPE, "is missing, zero or not a number");
    if (value_is_empty(&scan->values[A_RESCALE_INTERCEPT]) ||
        !parse_decimals(&scan->values[A_RESCALE_INTERCEPT], 1, &intercept))
        return bad_attribute(scan, A_RESCALE_INTERCEPT, "is missing or not a number");
    return ST_OK;
}

static bool image_type_has(const Value *value, const char *word)
{
    uint32_t start = 0;
    for (uint32_t i = 0; value->data != NULL && i <= value->length; i++) {
        if (i < value->length && value->data[i] != '\\')
            continue;
        char text[17];
        if (copy_text(value->data + start, i - start, text, sizeof text) && strcmp(text, word) == 0)
            return true;
        start = i + 1;
    }
    return false;
}

/* Position is not demanded here: the geometry gate of the series says what is missing. But what is
** there must be possible. */
static Status judge_geometry(Scan *scan, ImageGeometry *geometry)
{
    const Value *values = scan->values;
    if (!value_is_empty(&values[A_FRAME_UID]))
        TRY(take_uid(scan, A_FRAME_UID, geometry->frame_uid));
    bool has_ipp = parse_decimals(&values[A_IMAGE_POSITION], 3, geometry->ipp_lps_mm);
    bool has_iop = parse_decimals(&values[A_IMAGE_ORIENTATION], 6, geometry->iop);
    bool has_spacing = parse_decimals(&values[A_PIXEL_SPACING], 2, geometry->pixel_spacing_mm);
    if (!has_ipp && !value_is_empty(&values[A_IMAGE_POSITION]))
        return bad_attribute(scan, A_IMAGE_POSITION, "is not three numbers");
    if (!has_iop && !value_is_empty(&values[A_IMAGE_ORIENTATION]))
        return bad_attribute(scan, A_IMAGE_ORIENTATION, "is not six numbers");
    if ((!has_spacing && !value_is_empty(&values[A_PIXEL_SPACING])) ||
        (has_spacing && !(geometry->pixel_spacing_mm[0] > 0 && geometry->pixel_spacing_mm[1] > 0)))
        return bad_attribute(scan, A_PIXEL_SPACING, "is not two positive numbers");
    geometry->has_position = has_ipp && has_iop && has_spacing;
    if (!parse_decimals(&values[A_SLICE_THICKNESS], 1, &geometry->slice_thickness_mm) ||
        geometry->slice_thickness_mm < 0)
        geometry->slice_thickness_mm = 0;
    (void)parse_integer(&values[A_INSTANCE_NUMBER], &geometry->instance_number);
    (void)parse_integer(&values[A_IMAGES_IN_ACQUISITION], &geometry->images_in_acquisition);
    geometry->is_localizer = image_type_has(&values[A_IMAGE_TYPE], "LOCALIZER");
    return ST_OK;
}

/* Equal exactly when all five values are equal byte by byte (padding apart, absent = empty). */
static void make_patient_key(const Scan *scan, char ret[HEX_SIZE])
{
    static const enum Attribute who[] = {A_PATIENT_ID, A_PATIENT_ID_ISSUER, A_PATIENT_NAME,
                                         A_PATIENT_BIRTH_DATE, A_PATIENT_SEX};
    Digest *digest = digest_new();
    for (size_t i = 0; i < sizeof who / sizeof who[0]; i++) {
        const Value *value = &scan->values[who[i]];
        uint32_t n = value->length;
        while (n > 0 && (value->data[n - 1] == ' ' || value->data[n - 1] == '\0'))
            n--;
        unsigned char length[4] = {(unsigned char)n, (unsigned char)(n >> 8),
                                   (unsigned char)(n >> 16), (unsigned char)(n >> 24)};
        digest_add(digest, length, sizeof length);
        if (n > 0)
            digest_add(digest, value->data, n);
    }
    uint8_t sum[DIGEST_SIZE];
    digest_end(digest, sum);
    (void)digest_hex(sum, ret);
}

static void make_digest(const Scan *scan, char ret[HEX_SIZE])
{
    Digest *digest = digest_new();
    digest_add(digest, scan->syntax->uid, strlen(scan->syntax->uid));
    digest_add(digest, scan->data + scan->data_set_at, scan->size_bytes - scan->data_set_at);
    uint8_t sum[DIGEST_SIZE];
    digest_end(digest, sum);
    (void)digest_hex(sum, ret);
}

static Status scan_all(Scan *scan, Instance *instance)
{
    TRY(scan_meta(scan));
    TRY(scan_data_set(scan));
    TRY(judge_identity(scan, instance));
    TRY(judge_pixel_format(scan));
    TRY(judge_pixels(scan, &instance->geometry));
    if (!scan->wants_mr)
        TRY(judge_rescale(scan));
    TRY(judge_geometry(scan, &instance->geometry));
    (void)snprintf(instance->transfer_syntax_uid, UID_SIZE, "%s", scan->syntax->uid);
    instance->size_bytes = scan->size_bytes;
    make_patient_key(scan, instance->patient_key);
    return ST_OK;
}

static Status scan_file(const unsigned char *data, size_t size_bytes, const uint8_t *known_digest,
                        bool wants_mr, Instance *ret, unsigned *ret_dimse, Err *err)
{
    Scan scan = {.data = data, .size_bytes = size_bytes, .wants_mr = wants_mr, .err = err};
    Instance instance;
    memset(&instance, 0, sizeof instance); /* padding too: it is sent as bytes */
    Status status = scan_all(&scan, &instance);
    *ret_dimse = scan.dimse;
    if (status != ST_OK)
        return status;
    if (known_digest != NULL)
        (void)digest_hex(known_digest, instance.digest);
    else
        make_digest(&scan, instance.digest);
    memcpy(instance.file, ret->file, sizeof instance.file);
    memcpy(ret, &instance, sizeof instance);
    return ST_OK;
}

Status prescan_memory(const unsigned char *data, size_t size_bytes, Instance *ret,
                      unsigned *ret_dimse, Err *err)
{
    return scan_file(data, size_bytes, NULL, false, ret, ret_dimse, err);
}

Status prescan_hashed(const unsigned char *data, size_t size_bytes,
                      const uint8_t digest[DIGEST_SIZE], Instance *ret, unsigned *ret_dimse,
                      Err *err)
{
    return scan_file(data, size_bytes, digest, false, ret, ret_dimse, err);
}

/* Maps a whole file read-only; the caller unmaps. */
static Status map_file(const char *path, void **ret_data, size_t *ret_size_bytes,
                       unsigned *ret_dimse, Err *err)
{
    *ret_dimse = DIMSE_OUT_OF_RESOURCES;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO would wait */
    if (fd < 0)
        return err_sys(err, errno, "opening %s", path);
    struct stat st;
    void *data = MAP_FAILED;
    Status status = ST_OK;
    if (fstat(fd, &st) != 0) {
        status = err_sys(err, errno, "fstat of %s", path);
    } else if (!S_ISREG(st.st_mode) || st.st_size == 0) {
        *ret_dimse = DIMSE_CANNOT_UNDERSTAND;
        status = err_set(err, ST_DICOM_PARSE, "%s is empty or not a file", path);
    } else {
        data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED)
            status = err_sys(err, errno, "mapping %s", path);
    }
    (void)close(fd);
    if (status != ST_OK)
        return status;
    *ret_data = data;
    *ret_size_bytes = (size_t)st.st_size;
    return ST_OK;
}

Status prescan_file(const char *path, Instance *ret, unsigned *ret_dimse, Err *err)
{
    void *data;
    size_t size_bytes;
    TRY(map_file(path, &data, &size_bytes, ret_dimse, err));
    Status status = prescan_memory(data, size_bytes, ret, ret_dimse, err);
    (void)munmap(data, size_bytes);
    return status;
}

Status prescan_file_mr(const char *path, Instance *ret, Err *err)
{
    void *data;
    size_t size_bytes;
    unsigned dimse;
    TRY(map_file(path, &data, &size_bytes, &dimse, err));
    Status status = scan_file(data, size_bytes, NULL, true, ret, &dimse, err);
    (void)munmap(data, size_bytes);
    return status;
}

Status prescan_media_class(const char *path, char ret[UID_SIZE], Err *err)
{
    void *data;
    size_t size_bytes;
    unsigned dimse;
    char syntax[UID_SIZE] = "";
    TRY(map_file(path, &data, &size_bytes, &dimse, err));
    Scan scan = {.data = data, .size_bytes = size_bytes, .err = err};
    Status status = scan_meta_elements(&scan, syntax);
    if (status == ST_OK)
        memcpy(ret, scan.meta_class, UID_SIZE);
    (void)munmap(data, size_bytes);
    return status;
}
