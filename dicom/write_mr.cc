/* One synthetic MR image for one CT slice: MR Image Storage (PS3.3 A.4), classic single frame,
 *since
 ** that is what treatment planning systems read.
 **
 ** What ties it to the CT is copied as it stands, value bytes and all: patient, study, frame of
 ** reference, position, orientation, spacing. So the TPS lays it over the CT with no registration.
 ** What would claim a measurement that never was made (echo time, field strength) stays empty.
 ** There is no clock in here: the same input gives the same bytes. */
#include "base/digest.h"
#include "dicom/write.h"

#include "dicom/shim.hh"

#include <cstdio>
#include <cstring>
#include <mutex>

/* Patient (C.7.1.1), Patient Study (C.7.2.2), General Study (C.7.2.1) and the little of other
** modules that must say the same as in the CT. Copied if present. */
static const DcmTagKey COPIED[] = {
    DCM_SpecificCharacterSet,
    DCM_TimezoneOffsetFromUTC,
    /* Patient */
    DCM_PatientName,
    DCM_PatientID,
    DCM_IssuerOfPatientID,
    DCM_IssuerOfPatientIDQualifiersSequence,
    DCM_PatientBirthDate,
    DCM_PatientBirthTime,
    DCM_PatientSex,
    DCM_OtherPatientIDsSequence,
    DCM_OtherPatientNames,
    DCM_EthnicGroup,
    DCM_PatientComments,
    DCM_PatientIdentityRemoved,
    DCM_DeidentificationMethod,
    DCM_DeidentificationMethodCodeSequence,
    /* General Study */
    DCM_StudyInstanceUID,
    DCM_StudyDate,
    DCM_StudyTime,
    DCM_ReferringPhysicianName,
    DCM_StudyID,
    DCM_AccessionNumber,
    DCM_IssuerOfAccessionNumberSequence,
    DCM_StudyDescription,
    DCM_PhysiciansOfRecord,
    DCM_NameOfPhysiciansReadingStudy,
    DCM_ReferencedStudySequence,
    DCM_ProcedureCodeSequence,
    /* Patient Study */
    DCM_AdmittingDiagnosesDescription,
    DCM_PatientAge,
    DCM_PatientSize,
    DCM_PatientWeight,
    DCM_Occupation,
    DCM_AdditionalPatientHistory,
    /* Frame of Reference */
    DCM_FrameOfReferenceUID,
    DCM_PositionReferenceIndicator,
    /* General Series, General Equipment, General Image */
    DCM_BodyPartExamined,
    DCM_PatientPosition,
    DCM_Laterality,
    DCM_InstitutionName,
    DCM_AcquisitionDate,
    DCM_AcquisitionTime,
    DCM_AcquisitionNumber,
    /* Image Plane */
    DCM_ImagePositionPatient,
    DCM_ImageOrientationPatient,
    DCM_PixelSpacing,
    DCM_SliceThickness,
    DCM_SliceLocation,
};

/* Without these there is no overlay: refused. */
static const DcmTagKey REQUIRED[] = {
    DCM_StudyInstanceUID,        DCM_SeriesInstanceUID,
    DCM_SOPInstanceUID,          DCM_SOPClassUID,
    DCM_FrameOfReferenceUID,     DCM_ImagePositionPatient,
    DCM_ImageOrientationPatient, DCM_PixelSpacing,
};

/* Type 2 (must be there, may be empty) of the modules above. */
static const DcmTagKey EMPTY_IF_ABSENT[] = {
    DCM_PatientName,
    DCM_PatientID,
    DCM_PatientBirthDate,
    DCM_PatientSex,
    DCM_StudyDate,
    DCM_StudyTime,
    DCM_ReferringPhysicianName,
    DCM_StudyID,
    DCM_AccessionNumber,
    DCM_PositionReferenceIndicator,
    DCM_PatientPosition,
    DCM_SliceThickness,
};

/* DCMTK trims text when it reads and when it encodes; this switch makes it keep the bytes. It is
** global, so one image at a time; other threads that read meanwhile see untrimmed text, which
** text_of() trims itself. */
static std::mutex raw_mutex;

struct RawText {
    std::lock_guard<std::mutex> lock{raw_mutex};
    RawText()
    {
        dcmEnableAutomaticInputDataCorrection.set(OFFalse);
    }
    ~RawText()
    {
        dcmEnableAutomaticInputDataCorrection.set(OFTrue);
    }
};

/* An odd length is against PS3.5 7.1.1. DCMTK makes it even with a NUL, which only UIDs may have.
 */
static void mend_padding(DcmItem *mr)
{
    for (const DcmTagKey &key : COPIED) {
        DcmElement *element = nullptr;
        char *value = nullptr;
        Uint32 length = 0;
        if (mr->findAndGetElement(key, element).good() && element->isaString() &&
            element->ident() != EVR_UI && element->getString(value, length).good() &&
            value != nullptr && length > 0 && value[length - 1] == '\0')
            value[length - 1] = ' ';
    }
}

/* Loads the CT's header into *source and copies the elements of COPIED into mr. */
static Status load_and_copy(const char *path, DcmFileFormat *source, DcmItem *mr, Err *err)
{
    TRY_DCMTK(source->loadFileUntilTag(path, EXS_Unknown, EGL_noChange, DCM_MaxReadLength,
                                       ERM_autoDetect, DCM_PixelData),
              ST_DICOM_PARSE, err, "the CT file cannot be read");
    for (const DcmTagKey &key : COPIED)
        TRY(copy_element(source->getDataset(), mr, key, nullptr, err));
    mend_padding(mr);
    /* "Identity removed" without saying how is against C.7.1.1; seen in the field. */
    if (text_of(mr, DCM_DeidentificationMethod).empty() &&
        !mr->tagExists(DCM_DeidentificationMethodCodeSequence)) {
        (void)mr->findAndDeleteElement(DCM_PatientIdentityRemoved);
        (void)mr->findAndDeleteElement(DCM_DeidentificationMethod);
    }
    return ST_OK;
}

static Status check_required(DcmItem *ct, Err *err)
{
    for (const DcmTagKey &key : REQUIRED)
        if (text_of(ct, key).empty())
            return err_set(err, ST_DICOM_ATTRIBUTE, "the CT lacks (%04x,%04x)", key.getGroup(),
                           key.getElement());
    return ST_OK;
}

/* Our own text as one value: printable ASCII without backslash, at most max_length characters. */
static OFString own_text(const OFString &text, size_t max_length)
{
    OFString value;
    for (size_t i = 0; i < text.size() && value.size() < max_length; i++)
        value += text[i] >= ' ' && text[i] <= '~' && text[i] != '\\' ? text[i] : '?';
    return value;
}

static OFString own_text(const char *text, size_t max_length)
{
    return own_text(OFString(text == nullptr ? "" : text), max_length);
}

static Status new_item(DcmItem *parent, const DcmTagKey &sequence, DcmItem **ret, Err *err)
{
    TRY_DCMTK(parent->findOrCreateSequenceItem(DcmTag(sequence), *ret, -2), ST_DICOM_WRITE, err,
              "a sequence item cannot be made");
    return ST_OK;
}

static Status put_code(DcmItem *parent, const DcmTagKey &sequence, const char *value,
                       const char *meaning, Err *err)
{
    DcmItem *code;
    TRY(new_item(parent, sequence, &code, err));
    TRY(put_text(code, DCM_CodeValue, value, err));
    TRY(put_text(code, DCM_CodingSchemeDesignator, "DCM", err));
    return put_text(code, DCM_CodeMeaning, meaning, err);
}

/* Date and time of the CT image: Content, else Acquisition, else Series, else Study. */
static Status put_dates(DcmItem *ct, DcmItem *mr, Err *err)
{
    static const DcmTagKey pairs[][2] = {{DCM_ContentDate, DCM_ContentTime},
                                         {DCM_AcquisitionDate, DCM_AcquisitionTime},
                                         {DCM_SeriesDate, DCM_SeriesTime},
                                         {DCM_StudyDate, DCM_StudyTime}};
    OFString date, time;
    for (const DcmTagKey(&pair)[2] : pairs) {
        date = text_of(ct, pair[0]);
        time = text_of(ct, pair[1]);
        if (!date.empty() && !time.empty())
            break;
    }
    if (date.empty() || time.empty())
        return ST_OK; /* type 2C and 3: nothing is better than something invented */
    TRY(put_text(mr, DCM_ContentDate, date.c_str(), err));
    TRY(put_text(mr, DCM_ContentTime, time.c_str(), err));
    OFString series_date = text_of(ct, DCM_SeriesDate), series_time = text_of(ct, DCM_SeriesTime);
    bool of_series = !series_date.empty() && !series_time.empty();
    TRY(put_text(mr, DCM_SeriesDate, of_series ? series_date.c_str() : date.c_str(), err));
    return put_text(mr, DCM_SeriesTime, of_series ? series_time.c_str() : time.c_str(), err);
}

static OFString series_number_text(DcmItem *ct)
{
    OFString text = text_of(ct, DCM_SeriesNumber);
    return text.empty() ? OFString("?") : own_text(text, 12);
}

/* The UIDs that say which object this is. */
static Status put_uids(const MrSeries *s, DcmItem *ct, DcmItem *mr, Err *err)
{
    char uid[UID_SIZE];
    mr_sop_uid(s, text_of(ct, DCM_SOPInstanceUID).c_str(), uid);
    TRY(put_text(mr, DCM_SOPInstanceUID, uid, err));
    mr_series_uid(s, uid);
    return put_text(mr, DCM_SeriesInstanceUID, uid, err);
}

/* SOP Common, General Series, General Equipment, General Image; all but the UIDs. */
static Status put_identity(const MrSeries *s, DcmItem *ct, DcmItem *mr, int32_t index, Err *err)
{
    char number[16];
    TRY(put_text(mr, DCM_SOPClassUID, UID_MRImageStorage, err));
    TRY(put_text(mr, DCM_Modality, "MR", err));

    double ct_number = 0;
    (void)number_of(ct, DCM_SeriesNumber, 0, &ct_number);
    double sum = ct_number + s->series_number_offset;
    (void)std::snprintf(number, sizeof number, "%.0f",
                        sum > 2147483647.0 || sum < -2147483648.0 ? s->series_number_offset : sum);
    TRY(put_text(mr, DCM_SeriesNumber, number, err));
    OFString description = "SYNTHETIC MR ";
    description += own_text(s->target, 8) + " (from CT " + series_number_text(ct) + ")";
    TRY(put_text(mr, DCM_SeriesDescription, own_text(description, 64).c_str(), err));
    TRY(put_text(mr, DCM_ProtocolName, "CT2MR", err));

    TRY(put_text(mr, DCM_Manufacturer, "ct2mr project", err));
    TRY(put_text(mr, DCM_ManufacturerModelName, "ct2mr", err));
    TRY(put_text(mr, DCM_StationName, "CT2MR", err));
    /* The nearest thing to a serial number that software with a model in it has. */
    TRY(put_text(mr, DCM_DeviceSerialNumber, own_text(s->model_digest, 16).c_str(), err));
    OFString versions = own_text(s->software_version, 64);
    versions += OFString("\\") + own_text(s->model_name, 64) + "\\" + own_text(s->model_digest, 64);
    TRY(put_text(mr, DCM_SoftwareVersions, versions.c_str(), err));

    (void)std::snprintf(number, sizeof number, "%d", index + 1);
    TRY(put_text(mr, DCM_InstanceNumber, number, err));
    TRY(put_text(mr, DCM_ImageType, "DERIVED\\SECONDARY\\OTHER", err));
    bool burned_in = text_of(ct, DCM_BurnedInAnnotation) == "YES";
    return put_text(mr, DCM_BurnedInAnnotation, burned_in ? "YES" : "NO", err);
}

/* What the image is, in words that a person sees and in attributes that a program sees. */
static Status put_labels(const MrSeries *s, DcmItem *mr, Err *err)
{
    if (s->synthetic_data) { /* not in this DCMTK's dictionary: the VR is given */
        DcmCodeString *element = new DcmCodeString(DcmTag(0x0008, 0x001c, EVR_CS));
        OFCondition condition = element->putString("YES");
        if (condition.good())
            condition = mr->insert(element, OFTrue);
        if (condition.bad()) {
            delete element;
            return err_dcmtk(err, ST_DICOM_WRITE, condition, "Synthetic Data cannot be set");
        }
    }
    TRY(put_text(mr, DCM_ContentQualification, "RESEARCH", err));
    TRY(put_text(mr, DCM_ImageComments,
                 "SYNTHETIC MR - NOT FOR DIAGNOSIS - RESEARCH USE ONLY. Computed from CT.", err));
    OFString text = "SYNTHETIC MR (";
    text += own_text(s->target, 8) + ") computed from CT by a neural network; ct2mr " +
            own_text(s->software_version, 64) + "; model " + own_text(s->model_name, 128) +
            ", SHA-256 " + own_text(s->model_digest, 64) + "; " + own_text(s->model_label, 256) +
            ". NOT FOR DIAGNOSIS. RESEARCH USE ONLY.";
    return put_text(mr, DCM_DerivationDescription, own_text(text, 1024).c_str(), err);
}

static Status put_reference(DcmItem *ct, DcmItem *item, Err *err)
{
    TRY(put_text(item, DCM_ReferencedSOPClassUID, text_of(ct, DCM_SOPClassUID).c_str(), err));
    return put_text(item, DCM_ReferencedSOPInstanceUID, text_of(ct, DCM_SOPInstanceUID).c_str(),
                    err);
}

/* General Reference (C.12.4) and Common Instance Reference (C.12.2). */
static Status put_sources(DcmItem *ct, DcmItem *mr, Err *err)
{
    DcmItem *source, *series, *instance;
    TRY(new_item(mr, DCM_SourceImageSequence, &source, err));
    TRY(put_reference(ct, source, err));
    TRY(put_text(source, DCM_SpatialLocationsPreserved, "YES", err));
    TRY(put_code(source, DCM_PurposeOfReferenceCodeSequence, "121322",
                 "Source image for image processing operation", err));
    TRY(new_item(mr, DCM_ReferencedSeriesSequence, &series, err));
    TRY(put_text(series, DCM_SeriesInstanceUID, text_of(ct, DCM_SeriesInstanceUID).c_str(), err));
    TRY(new_item(series, DCM_ReferencedInstanceSequence, &instance, err));
    return put_reference(ct, instance, err);
}

/* Contributing Equipment (C.12.1.1.5): the scanner, and this program with its model. */
static Status put_equipment(const MrSeries *s, DcmItem *ct, DcmItem *mr, Err *err)
{
    static const DcmTagKey copied[] = {DCM_Manufacturer,       DCM_ManufacturerModelName,
                                       DCM_DeviceSerialNumber, DCM_SoftwareVersions,
                                       DCM_StationName,        DCM_InstitutionName};
    DcmItem *item;
    if (!text_of(ct, DCM_Manufacturer).empty()) { /* type 1 in an item */
        TRY(new_item(mr, DCM_ContributingEquipmentSequence, &item, err));
        TRY(put_code(item, DCM_PurposeOfReferenceCodeSequence, "109101", "Acquisition Equipment",
                     err));
        for (const DcmTagKey &key : copied)
            if (!text_of(ct, key).empty())
                TRY(copy_element(ct, item, key, nullptr, err));
    }
    TRY(new_item(mr, DCM_ContributingEquipmentSequence, &item, err));
    TRY(put_code(item, DCM_PurposeOfReferenceCodeSequence, "109102", "Processing Equipment", err));
    TRY(put_text(item, DCM_Manufacturer, "ct2mr project", err));
    TRY(put_text(item, DCM_ManufacturerModelName, "ct2mr", err));
    OFString versions = own_text(s->software_version, 64);
    versions += OFString("\\") + own_text(s->model_name, 64) + "\\" + own_text(s->model_digest, 64);
    TRY(put_text(item, DCM_SoftwareVersions, versions.c_str(), err));
    return put_text(item, DCM_ContributionDescription, "Synthetic MR from CT by a neural network",
                    err);
}

/* MR Image (C.8.3.1). Research Mode and None are the only true answers; what a pulse sequence would
** have had stays empty. */
static Status put_mr_module(DcmItem *mr, Err *err)
{
    TRY(put_text(mr, DCM_ScanningSequence, "RM", err));
    TRY(put_text(mr, DCM_SequenceVariant, "NONE", err));
    TRY(put_text(mr, DCM_ScanOptions, "", err));
    TRY(put_text(mr, DCM_MRAcquisitionType, "3D", err));
    TRY(put_text(mr, DCM_RepetitionTime, "", err));
    TRY(put_text(mr, DCM_EchoTime, "", err));
    return put_text(mr, DCM_EchoTrainLength, "", err);
}

/* Image Pixel (C.7.6.3), VOI LUT (C.11.2), all but the pixels. No rescale: the IOD has none,
** readers differ. *ret_n: how many pixels there are. */
static Status put_pixel_module(const MrSeries *s, DcmItem *ct, DcmItem *mr, const uint16_t *pixels,
                               size_t *ret_n, Err *err)
{
    Uint16 rows = 0, columns = 0;
    if (ct->findAndGetUint16(DCM_Rows, rows).bad() || rows == 0 ||
        ct->findAndGetUint16(DCM_Columns, columns).bad() || columns == 0)
        return err_set(err, ST_DICOM_ATTRIBUTE, "the CT lacks Rows or Columns");
    size_t n = (size_t)rows * columns;
    *ret_n = n;
    uint16_t least = pixels[0], greatest = pixels[0];
    for (size_t i = 1; i < n; i++) {
        least = pixels[i] < least ? pixels[i] : least;
        greatest = pixels[i] > greatest ? pixels[i] : greatest;
    }
    TRY(put_u16(mr, DCM_SamplesPerPixel, 1, err));
    TRY(put_text(mr, DCM_PhotometricInterpretation, "MONOCHROME2", err));
    TRY(put_u16(mr, DCM_Rows, rows, err));
    TRY(put_u16(mr, DCM_Columns, columns, err));
    TRY(put_u16(mr, DCM_BitsAllocated, 16, err));
    TRY(put_u16(mr, DCM_BitsStored, 16, err));
    TRY(put_u16(mr, DCM_HighBit, 15, err));
    TRY(put_u16(mr, DCM_PixelRepresentation, 0, err));
    TRY(put_u16(mr, DCM_SmallestImagePixelValue, least, err));
    TRY(put_u16(mr, DCM_LargestImagePixelValue, greatest, err));
    TRY(put_text(mr, DCM_WindowCenter, ds_text(s->window_center).c_str(), err));
    return put_text(mr, DCM_WindowWidth, ds_text(s->window_width).c_str(), err);
}

/* Once lossy, always lossy (C.7.6.1.1.5). */
static Status put_lossy(DcmItem *ct, DcmItem *mr, Err *err)
{
    bool is_lossy = text_of(ct, DCM_LossyImageCompression) == "01";
    TRY(put_text(mr, DCM_LossyImageCompression, is_lossy ? "01" : "00", err));
    if (!is_lossy)
        return ST_OK;
    TRY(copy_element(ct, mr, DCM_LossyImageCompressionRatio, nullptr, err));
    return copy_element(ct, mr, DCM_LossyImageCompressionMethod, nullptr, err);
}

/* General Series' Laterality is asked for where no body part says that there are no two of it. */
static Status put_body_part(DcmItem *mr, Err *err)
{
    return text_of(mr, DCM_BodyPartExamined).empty() && !mr->tagExists(DCM_Laterality)
               ? put_text(mr, DCM_BodyPartExamined, "HEAD", err) /* the registration found one */
               : ST_OK;
}

/* Everything but the UIDs made here and the pixels. */
static Status make_header(const MrSeries *series, const char *ct_path, const uint16_t *pixels,
                          int32_t index, DcmFileFormat *source, DcmFileFormat *file, size_t *ret_n,
                          Err *err)
{
    DcmItem *mr = file->getDataset(), *ct = source->getDataset();
    TRY(load_and_copy(ct_path, source, mr, err));
    TRY(check_required(ct, err));
    for (const DcmTagKey &key : EMPTY_IF_ABSENT)
        if (!mr->tagExists(key))
            TRY(put_text(mr, key, "", err));
    TRY(put_body_part(mr, err));
    TRY(put_identity(series, ct, mr, index, err));
    TRY(put_dates(ct, mr, err));
    TRY(put_labels(series, mr, err));
    TRY(put_sources(ct, mr, err));
    TRY(put_equipment(series, ct, mr, err));
    TRY(put_text(mr, DCM_SpacingBetweenSlices, ds_text(series->slice_spacing_mm).c_str(), err));
    TRY(put_mr_module(mr, err));
    TRY(put_lossy(ct, mr, err));
    return put_pixel_module(series, ct, mr, pixels, ret_n, err);
}

static Status make_image(const MrSeries *series, const char *ct_path, const uint16_t *pixels,
                         int32_t index, std::vector<Uint8> *ret, Err *err)
{
    RawText raw;
    DcmFileFormat source, file;
    size_t n;
    TRY(make_header(series, ct_path, pixels, index, &source, &file, &n, err));
    TRY(put_uids(series, source.getDataset(), file.getDataset(), err));
    TRY_DCMTK(file.getDataset()->putAndInsertUint16Array(DCM_PixelData, pixels, (unsigned long)n),
              ST_DICOM_WRITE, err, "Pixel Data cannot be set");
    return file_encode(&file, ret, err);
}

Status dicom_digest_mr(const MrSeries *series, const char *ct_path, const uint16_t *pixels,
                       int32_t index, uint8_t ret[32], Err *err)
{
    return guard(err, [&]() -> Status {
        DcmFileFormat source, file;
        std::vector<Uint8> bytes;
        size_t n;
        {
            RawText raw;
            TRY(make_header(series, ct_path, pixels, index, &source, &file, &n, err));
            TRY(put_text(file.getDataset(), DCM_SOPInstanceUID, "2.25.0", err)); /* to encode */
            TRY(file_encode(&file, &bytes, err));
        }
        Digest *digest = digest_new();
        digest_add(digest, bytes.data(), bytes.size());
        digest_add(digest, pixels, n * sizeof *pixels);
        digest_end(digest, ret);
        return ST_OK;
    });
}

Status dicom_write_mr(const MrSeries *series, const char *ct_path, const uint16_t *pixels,
                      int32_t index, const char *path, Err *err)
{
    return guard(err, [&]() -> Status {
        std::vector<Uint8> bytes;
        TRY(make_image(series, ct_path, pixels, index, &bytes, err));
        return bytes_save(bytes, path, err);
    });
}
