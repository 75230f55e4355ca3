/* See read.h. Stored values: PS3.3 C.7.6.3.1 (bits), C.7.5.1.1.2 (padding), C.11.1 (rescale). */
#include "dicom/read.h"

#include "base/digest.h"
#include "dicom/prescan.h"
#include "dicom/shim.hh"

#include "dcmtk/dcmdata/dccodec.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

static const double HU_LOWEST = -1024, HU_HIGHEST = 3071;
static const double PADDING_MAX_HU = -900; /* padding above may as well be tissue or fat */
static const Uint32 MAX_PIXELS = 8192 * 8192;

static Status get_u16(DcmItem *item, const DcmTagKey &key, const char *name, Uint16 *ret, Err *err)
{
    if (item->findAndGetUint16(key, *ret).bad())
        return err_set(err, ST_DICOM_ATTRIBUTE, "%s (%04x,%04x) is missing or empty", name,
                       key.getGroup(), key.getElement());
    return ST_OK;
}

/* How one sample lies in its cell. */
struct Cell {
    Uint16 bits_allocated, bits_stored, high_bit;
    bool is_signed;
};

static Status read_cell(DcmItem *item, Cell *ret, Err *err)
{
    Cell c;
    Uint16 representation, samples, rows, columns;
    TRY(get_u16(item, DCM_Rows, "Rows", &rows, err));
    TRY(get_u16(item, DCM_Columns, "Columns", &columns, err));
    TRY(get_u16(item, DCM_SamplesPerPixel, "Samples per Pixel", &samples, err));
    TRY(get_u16(item, DCM_BitsAllocated, "Bits Allocated", &c.bits_allocated, err));
    TRY(get_u16(item, DCM_BitsStored, "Bits Stored", &c.bits_stored, err));
    TRY(get_u16(item, DCM_HighBit, "High Bit", &c.high_bit, err));
    TRY(get_u16(item, DCM_PixelRepresentation, "Pixel Representation", &representation, err));
    if (samples != 1)
        return err_set(err, ST_DICOM_ATTRIBUTE, "Samples per Pixel is %u, not 1", samples);
    if (rows == 0 || columns == 0 || (Uint32)rows * columns > MAX_PIXELS)
        return err_set(err, ST_DICOM_ATTRIBUTE, "%u x %u pixels are not supported", columns, rows);
    if ((c.bits_allocated != 8 && c.bits_allocated != 16) || c.bits_stored < 1 ||
        c.bits_stored > c.bits_allocated || c.high_bit >= c.bits_allocated ||
        c.high_bit + 1 < c.bits_stored || representation > 1)
        return err_set(err, ST_DICOM_ATTRIBUTE,
                       "pixel cell is impossible: allocated %u, stored %u, high bit %u, "
                       "representation %u",
                       c.bits_allocated, c.bits_stored, c.high_bit, representation);
    Sint32 frames;
    if (item->findAndGetSint32(DCM_NumberOfFrames, frames).good() && frames != 1)
        return err_set(err, ST_DICOM_ATTRIBUTE, "Number of Frames is not 1");
    OFString photometric = text_of(item, DCM_PhotometricInterpretation);
    if (photometric != "MONOCHROME2" && photometric != "MONOCHROME1")
        return err_set(err, ST_DICOM_ATTRIBUTE, "Photometric Interpretation is not monochrome");
    c.is_signed = representation == 1;
    *ret = c;
    return ST_OK;
}

/* Padding is "US or SS": read as it came, then taken with the sign of the pixels. */
static bool read_padding(DcmItem *item, const DcmTagKey &key, bool is_signed, int32_t *ret)
{
    Uint16 bits = 0;
    Sint16 as_signed = 0;
    if (item->findAndGetUint16(key, bits).bad()) {
        if (item->findAndGetSint16(key, as_signed).bad())
            return false;
        bits = (Uint16)as_signed;
    }
    *ret = is_signed ? (int32_t)(Sint16)bits : (int32_t)bits;
    return true;
}

/* "045Y", "018M", "003W", "010D" (PS3.5 table 6.2-1, AS); < 0 otherwise. */
static double age_from_text(const OFString &text)
{
    unsigned number;
    char unit, more;
    if (std::sscanf(text.c_str(), "%3u%c%c", &number, &unit, &more) != 2)
        return -1;
    switch (unit) {
    case 'Y':
        return number;
    case 'M':
        return number / 12.0;
    case 'W':
        return number * 7 / 365.25;
    case 'D':
        return number / 365.25;
    default:
        return -1;
    }
}

static bool date_from_text(const OFString &text, int *ret_year, int *ret_month, int *ret_day)
{
    char more;
    return std::sscanf(text.c_str(), "%4d%2d%2d%c", ret_year, ret_month, ret_day, &more) == 3 &&
           *ret_year > 1800 && *ret_month >= 1 && *ret_month <= 12 && *ret_day >= 1 &&
           *ret_day <= 31;
}

static double read_age_years(DcmItem *item)
{
    double age = age_from_text(text_of(item, DCM_PatientAge));
    if (age >= 0)
        return age;
    int by, bm, bd, sy, sm, sd;
    if (!date_from_text(text_of(item, DCM_PatientBirthDate), &by, &bm, &bd) ||
        !date_from_text(text_of(item, DCM_StudyDate), &sy, &sm, &sd))
        return -1;
    age = sy - by + ((sm - bm) * 30.4375 + (sd - bd)) / 365.25;
    return age >= 0 && age < 150 ? age : -1;
}

/* Upper-case letters and digits of a code string; anything else is left out. */
static void copy_code(const OFString &text, char *ret, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < text.size() && n + 1 < size; i++) {
        char c = text[i];
        if (c >= 'a' && c <= 'z')
            c = (char)(c - 'a' + 'A');
        if ((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
            ret[n++] = c;
    }
    ret[n] = '\0';
}

static Status read_rescale(DcmItem *item, CtHeader *h, Err *err)
{
    if (!number_of(item, DCM_RescaleSlope, 0, &h->slope) || h->slope == 0)
        return err_set(err, ST_DICOM_ATTRIBUTE, "Rescale Slope is missing, zero or not a number");
    if (!number_of(item, DCM_RescaleIntercept, 0, &h->intercept))
        return err_set(err, ST_DICOM_ATTRIBUTE, "Rescale Intercept is missing or not a number");
    OFString unit = text_of(item, DCM_RescaleType);
    if (unit != "" && unit != "HU")
        return err_set(err, ST_DICOM_ATTRIBUTE, "Rescale Type is not HU");
    return ST_OK;
}

/* MR: often absent, and then the stored values are the intensities (PS3.3 C.8.3.1). */
static Status read_mr_rescale(DcmItem *item, CtHeader *h, Err *err)
{
    OFString modality = text_of(item, DCM_Modality);
    if (modality != "" && modality != "MR")
        return err_set(err, ST_SERIES_NOT_MR, "Modality is not MR");
    if (text_of(item, DCM_RescaleType) == "HU")
        return err_set(err, ST_SERIES_NOT_MR, "Rescale Type is HU: this is a CT");
    if (!number_of(item, DCM_RescaleSlope, 0, &h->slope) || h->slope == 0 ||
        !number_of(item, DCM_RescaleIntercept, 0, &h->intercept)) {
        h->slope = 1;
        h->intercept = 0;
    }
    return ST_OK;
}

/* One value may well be tissue's and the margin's; of a range of them nothing can be told apart. */
static Status check_padding_range(const CtHeader *h, Err *err)
{
    double a = h->padding_low * h->slope + h->intercept;
    double b = h->padding_high * h->slope + h->intercept;
    if (h->padding_low == h->padding_high || std::fmax(a, b) <= PADDING_MAX_HU)
        return ST_OK;
    return err_set(err, ST_DICOM_ATTRIBUTE,
                   "Pixel Padding Value and Range Limit are %.0f to %.0f HU, which tissue has; a "
                   "range is at most %.0f",
                   std::fmin(a, b), std::fmax(a, b), PADDING_MAX_HU);
}

/* As write_mr.cc labels ours; free text and dates are what an anonymiser takes away, the maker's
** name stays. Synthetic Data (0008,001C) is not in this DCMTK's dictionary. */
static bool says_synthetic(DcmItem *item)
{
    static const char LABEL[] = "SYNTHETIC MR";
    OFString comments = text_of(item, DCM_ImageComments);
    OFString derivation = text_of(item, DCM_DerivationDescription);
    return text_of(item, DcmTagKey(0x0008, 0x001c)) == "YES" ||
           text_of(item, DCM_ManufacturerModelName) == "ct2mr" ||
           comments.compare(0, sizeof LABEL - 1, LABEL) == 0 ||
           derivation.compare(0, sizeof LABEL - 1, LABEL) == 0;
}

static Status fill_header(DcmItem *item, bool is_mr, CtHeader *h, Err *err)
{
    Cell c;
    TRY(read_cell(item, &c, err));
    h->bits_allocated = c.bits_allocated;
    h->bits_stored = c.bits_stored;
    h->high_bit = c.high_bit;
    h->is_signed = c.is_signed;
    if (is_mr)
        TRY(read_mr_rescale(item, h, err));
    else
        TRY(read_rescale(item, h, err));
    h->has_padding = read_padding(item, DCM_PixelPaddingValue, c.is_signed, &h->padding_low);
    if (h->has_padding) {
        int32_t limit = h->padding_low;
        (void)read_padding(item, DCM_PixelPaddingRangeLimit, c.is_signed, &limit);
        h->padding_high = limit > h->padding_low ? limit : h->padding_low;
        h->padding_low = limit < h->padding_low ? limit : h->padding_low;
        if (!is_mr)
            TRY(check_padding_range(h, err));
    }
    h->is_synthetic = is_mr && says_synthetic(item);
    if (!number_of(item, DCM_KVP, 0, &h->kvp) || h->kvp < 0)
        h->kvp = 0;
    h->age_years = read_age_years(item);
    copy_code(text_of(item, DCM_BodyPartExamined), h->body_part, sizeof h->body_part);
    copy_code(text_of(item, DCM_PatientPosition), h->patient_position, sizeof h->patient_position);
    return ST_OK;
}

static Status read_any_header(const char *path, bool is_mr, CtHeader *ret, Err *err)
{
    return guard(err, [&]() -> Status {
        CtHeader header = {};
        unsigned dimse;
        TRY(is_mr ? prescan_file_mr(path, &header.instance, err)
                  : prescan_file(path, &header.instance, &dimse, err));
        DcmFileFormat file;
        TRY_DCMTK(file.loadFileUntilTag(path, EXS_Unknown, EGL_noChange, DCM_MaxReadLength,
                                        ERM_autoDetect, DCM_PixelData),
                  ST_DICOM_PARSE, err, "a DICOM file cannot be read");
        TRY(fill_header(file.getDataset(), is_mr, &header, err));
        *ret = header;
        return ST_OK;
    });
}

Status dicom_read_header(const char *path, CtHeader *ret, Err *err)
{
    return read_any_header(path, false, ret, err);
}

Status dicom_read_mr_header(const char *path, CtHeader *ret, Err *err)
{
    return read_any_header(path, true, ret, err);
}

/* The cells as 16-bit words, decoded. */
static Status read_cells(DcmDataset *dataset, const Cell &cell, size_t n, std::vector<Uint16> *ret,
                         Err *err)
{
    DcmElement *element = nullptr;
    if (dataset->findAndGetElement(DCM_PixelData, element).bad())
        return err_set(err, ST_DICOM_ATTRIBUTE, "Pixel Data (7fe0,0010) is missing");
    size_t cell_bytes = cell.bits_allocated / 8u;
    if (element->getLength(EXS_LittleEndianExplicit) < n * cell_bytes)
        return err_set(err, ST_DICOM_DECODE, "Pixel Data is shorter than rows x columns");
    Uint16 *words = nullptr;
    Uint8 *bytes = nullptr;
    ret->resize(n);
    if (element->getUint16Array(words).good() && words != nullptr) {
        if (cell_bytes == 2) {
            std::memcpy(ret->data(), words, n * 2);
        } else { /* two little-endian bytes per word */
            for (size_t i = 0; i < n; i++)
                (*ret)[i] = (Uint16)(i % 2 == 0 ? words[i / 2] & 0xff : words[i / 2] >> 8);
        }
    } else if (element->getUint8Array(bytes).good() && bytes != nullptr) {
        for (size_t i = 0; i < n; i++)
            (*ret)[i] = cell_bytes == 1 ? bytes[i]
                                        : (Uint16)(bytes[2 * i] | (unsigned)bytes[2 * i + 1] << 8);
    } else {
        return err_set(err, ST_DICOM_DECODE, "Pixel Data cannot be read");
    }
    return ST_OK;
}

static int32_t stored_from_cell(const Cell &cell, Uint16 bits)
{
    int32_t value = bits >> (cell.high_bit + 1 - cell.bits_stored);
    int32_t range = (int32_t)1 << cell.bits_stored;
    value &= range - 1;
    return cell.is_signed && value >= range / 2 ? value - range : value;
}

/* Some scanners mark padding outside the bits stored (-2000 in a 12-bit image): then the whole cell
** is compared. Where the padding fits the bits stored, both comparisons say the same. */
static bool is_padding(const CtHeader *h, const Cell &cell, int32_t stored, Uint16 bits)
{
    int32_t whole = cell.is_signed ? (int32_t)(Sint16)bits : (int32_t)bits;
    return h->has_padding && ((stored >= h->padding_low && stored <= h->padding_high) ||
                              (whole >= h->padding_low && whole <= h->padding_high));
}

/* Padding that an image's margin has, 4-connected to its border: where padding is a value that
** tissue may have, only this was not scanned. */
static std::vector<bool> connected_to_border(const std::vector<bool> &padding, size_t columns)
{
    size_t n = padding.size(), rows = n / columns;
    std::vector<bool> found(n);
    std::vector<size_t> open;
    auto visit = [&](size_t i) {
        if (padding[i] && !found[i]) {
            found[i] = true;
            open.push_back(i);
        }
    };
    for (size_t x = 0; x < columns; x++) {
        visit(x);
        visit((rows - 1) * columns + x);
    }
    for (size_t y = 0; y < rows; y++) {
        visit(y * columns);
        visit(y * columns + columns - 1);
    }
    while (!open.empty()) {
        size_t i = open.back();
        open.pop_back();
        if (i >= columns)
            visit(i - columns);
        if (i + columns < n)
            visit(i + columns);
        if (i % columns > 0)
            visit(i - 1);
        if (i % columns + 1 < columns)
            visit(i + 1);
    }
    return found;
}

static void hu_from_cells(const CtHeader *h, const Cell &cell, const std::vector<Uint16> &cells,
                          int16_t *ret_hu, unsigned char ret_digest[32])
{
    std::vector<Uint8> plain(cells.size() * 4);
    std::vector<bool> doubtful; /* padding that may as well be tissue; empty: none */
    for (size_t i = 0; i < cells.size(); i++) {
        int32_t stored = stored_from_cell(cell, cells[i]);
        Uint32 u = (Uint32)stored;
        for (int b = 0; b < 4; b++)
            plain[4 * i + (size_t)b] = (Uint8)(u >> (8 * b));
        double hu = stored * h->slope + h->intercept;
        bool padding = is_padding(h, cell, stored, cells[i]);
        if (padding && stored >= h->padding_low && stored <= h->padding_high &&
            hu > PADDING_MAX_HU) {
            doubtful.resize(cells.size());
            doubtful[i] = true;
            padding = false;
        }
        if (padding || hu < HU_LOWEST)
            hu = HU_LOWEST;
        else if (hu > HU_HIGHEST)
            hu = HU_HIGHEST;
        ret_hu[i] = (int16_t)(hu < 0 ? hu - 0.5 : hu + 0.5); /* to the nearest */
    }
    if (!doubtful.empty()) {
        std::vector<bool> margin =
            connected_to_border(doubtful, (size_t)h->instance.geometry.columns);
        for (size_t i = 0; i < cells.size(); i++)
            if (margin[i])
                ret_hu[i] = HU_LOWEST;
    }
    Digest *digest = digest_new();
    digest_add(digest, plain.data(), plain.size());
    digest_end(digest, ret_digest);
}

/* Decodes the pixels of a file whose header was read. */
static Status read_image(const char *path, const CtHeader *header, Cell *ret_cell,
                         std::vector<Uint16> *ret_cells, Err *err)
{
    DcmFileFormat file;
    TRY_DCMTK(file.loadFile(path), ST_DICOM_PARSE, err, "a DICOM file cannot be read");
    DcmDataset *dataset = file.getDataset();
    DcmXfer syntax(dataset->getOriginalXfer());
    if (syntax.isEncapsulated()) {
        if (!DcmCodecList::canChangeCoding(syntax.getXfer(), EXS_LittleEndianExplicit))
            return err_set(err, ST_DICOM_SYNTAX, "no decoder for the transfer syntax");
        unsigned before = dcmtk_warnings();
        TRY_DCMTK(dataset->chooseRepresentation(EXS_LittleEndianExplicit, nullptr), ST_DICOM_DECODE,
                  err, "Pixel Data cannot be decompressed");
        if (dcmtk_warnings() != before)
            return err_set(err, ST_DICOM_DECODE, "compressed Pixel Data is damaged or incomplete");
    }
    /* A decoder may have changed the cell (8-bit JPEG in 16 bits allocated): look again. */
    TRY(read_cell(dataset, ret_cell, err));
    Uint16 rows = 0, columns = 0;
    (void)dataset->findAndGetUint16(DCM_Rows, rows);
    (void)dataset->findAndGetUint16(DCM_Columns, columns);
    if (rows != header->instance.geometry.rows || columns != header->instance.geometry.columns)
        return err_set(err, ST_DICOM_DECODE, "decoded image is %u x %u, not %d x %d", columns, rows,
                       header->instance.geometry.columns, header->instance.geometry.rows);
    return read_cells(dataset, *ret_cell, (size_t)rows * columns, ret_cells, err);
}

Status dicom_read_hu(const char *path, const CtHeader *header, int16_t *ret_hu,
                     unsigned char ret_digest[32], Err *err)
{
    return guard(err, [&]() -> Status {
        Cell cell;
        std::vector<Uint16> cells;
        TRY(read_image(path, header, &cell, &cells, err));
        hu_from_cells(header, cell, cells, ret_hu, ret_digest);
        return ST_OK;
    });
}

Status dicom_read_mr(const char *path, const CtHeader *header, float *ret, Err *err)
{
    return guard(err, [&]() -> Status {
        Cell cell;
        std::vector<Uint16> cells;
        TRY(read_image(path, header, &cell, &cells, err));
        std::vector<bool> doubtful(cells.size()); /* any intensity may be tissue's */
        for (size_t i = 0; i < cells.size(); i++) {
            int32_t stored = stored_from_cell(cell, cells[i]);
            bool padding = is_padding(header, cell, stored, cells[i]);
            doubtful[i] =
                padding && stored >= header->padding_low && stored <= header->padding_high;
            ret[i] = padding && !doubtful[i] ? 0.0f
                                             : (float)(stored * header->slope + header->intercept);
        }
        std::vector<bool> margin =
            connected_to_border(doubtful, (size_t)header->instance.geometry.columns);
        for (size_t i = 0; i < cells.size(); i++)
            if (margin[i])
                ret[i] = 0.0f;
        return ST_OK;
    });
}
