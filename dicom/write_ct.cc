/* A volume as a CT series (PS3.3 A.3), for trials. Everything that is not known of the acquisition
** is empty or absent; the images say that they are derived. UIDs come from grid and voxels, so that
** the same volume gives the same files. */
#include "dicom/write.h"

#include "base/digest.h"
#include "base/files.h"
#include "dicom/shim.hh"

#include <cmath>
#include <cstdio>

struct CtSeriesIds {
    char study[UID_SIZE], series[UID_SIZE], frame[UID_SIZE];
    char digest[HEX_SIZE];
    OFString orientation, pixel_spacing, slice_spacing;
};

static Vec3 axis_of(const Affine &m, int axis)
{
    return Vec3{m.m[0][axis], m.m[1][axis], m.m[2][axis]};
}

/* Axes must be square to each other; 1e-4 is the error that ten digits of a DS leave many times
** over, and far below any tilt. */
static Status check_grid(const Grid *grid, Err *err)
{
    if (grid->nx < 1 || grid->ny < 1 || grid->nz < 1 || grid->nx > 65535 || grid->ny > 65535 ||
        grid->nz > 9999)
        return err_set(err, ST_UNSUPPORTED, "a grid of %d x %d x %d cannot be a CT series",
                       grid->nx, grid->ny, grid->nz);
    for (int a = 0; a < 3; a++) {
        double length_mm = grid_spacing_mm(grid, a);
        if (!(length_mm > 1e-3 && length_mm < 1e3))
            return err_set(err, ST_UNSUPPORTED, "voxel size along axis %d is impossible", a);
    }
    for (int a = 0; a < 3; a++) {
        int b = (a + 1) % 3;
        double cosine = vec3_dot(axis_of(grid->lps_from_vox, a), axis_of(grid->lps_from_vox, b)) /
                        (grid_spacing_mm(grid, a) * grid_spacing_mm(grid, b));
        if (!(std::fabs(cosine) < 1e-4))
            return err_set(err, ST_UNSUPPORTED, "the grid is sheared (axes %d and %d: cosine %.5f)",
                           a, b, cosine);
    }
    return ST_OK;
}

static void make_ids(const VolumeI16 *volume, CtSeriesIds *ret)
{
    const Grid *grid = &volume->grid;
    uint8_t sum[DIGEST_SIZE];
    Digest *digest = digest_new();
    char text[512];
    int n = std::snprintf(text, sizeof text, "%d %d %d", grid->nx, grid->ny, grid->nz);
    digest_add(digest, text, (size_t)n);
    for (const double(&row)[4] : grid->lps_from_vox.m) {
        n = std::snprintf(text, sizeof text, " %.9g %.9g %.9g %.9g", row[0], row[1], row[2],
                          row[3]);
        digest_add(digest, text, (size_t)n);
    }
    digest_add(digest, volume->v, grid_voxels(grid) * sizeof *volume->v);
    digest_end(digest, sum);
    (void)digest_hex(sum, ret->digest);

    char key[128];
    (void)std::snprintf(key, sizeof key, "ct2mr import study %s", ret->digest);
    uid_from_key(key, ret->study);
    (void)std::snprintf(key, sizeof key, "ct2mr import series %s", ret->digest);
    uid_from_key(key, ret->series);
    (void)std::snprintf(key, sizeof key, "ct2mr import frame %s", ret->digest);
    uid_from_key(key, ret->frame);
    for (int a = 0; a < 2; a++) {
        Vec3 v = axis_of(grid->lps_from_vox, a);
        double length_mm = grid_spacing_mm(grid, a);
        ret->orientation += (a > 0 ? "\\" : "") + ds_text(v.x / length_mm) + "\\" +
                            ds_text(v.y / length_mm) + "\\" + ds_text(v.z / length_mm);
    }
    ret->pixel_spacing =
        ds_text(grid_spacing_mm(grid, 1)) + "\\" + ds_text(grid_spacing_mm(grid, 0));
    ret->slice_spacing = ds_text(grid_spacing_mm(grid, 2));
}

static Status put_texts(DcmItem *item, const CtSeriesIds *ids, const char *patient_position,
                        Err *err)
{
    char patient_id[32];
    (void)std::snprintf(patient_id, sizeof patient_id, "TRIAL-%.8s", ids->digest);
    const struct {
        DcmTagKey key;
        const char *value;
    } rows[] = {
        {DCM_ImageType, "DERIVED\\SECONDARY\\AXIAL"},
        {DCM_SOPClassUID, UID_CTImageStorage},
        {DCM_StudyDate, ""},
        {DCM_StudyTime, ""},
        {DCM_AccessionNumber, ""},
        {DCM_Modality, "CT"},
        {DCM_Manufacturer, "ct2mr project"},
        {DCM_ReferringPhysicianName, ""},
        {DCM_SeriesDescription, "CT2MR TRIAL IMPORT"},
        {DCM_ManufacturerModelName, "ct2mr import"},
        {DCM_SoftwareVersions, CT2MR_VERSION},
        {DCM_PatientName, "CT2MR^TRIAL"},
        {DCM_PatientID, patient_id},
        {DCM_PatientBirthDate, ""},
        {DCM_PatientSex, ""},
        {DCM_BodyPartExamined, "HEAD"},
        {DCM_SliceThickness, ids->slice_spacing.c_str()},
        {DCM_KVP, ""},
        {DCM_SpacingBetweenSlices, ids->slice_spacing.c_str()},
        {DCM_PatientPosition, patient_position},
        {DCM_StudyInstanceUID, ids->study},
        {DCM_SeriesInstanceUID, ids->series},
        {DCM_StudyID, ""},
        {DCM_SeriesNumber, "1"},
        {DCM_AcquisitionNumber, ""},
        {DCM_ImageOrientationPatient, ids->orientation.c_str()},
        {DCM_FrameOfReferenceUID, ids->frame},
        {DCM_PositionReferenceIndicator, ""},
        {DCM_PhotometricInterpretation, "MONOCHROME2"},
        {DCM_PixelSpacing, ids->pixel_spacing.c_str()},
        {DCM_BurnedInAnnotation, "NO"},
        {DCM_WindowCenter, "40"},
        {DCM_WindowWidth, "80"},
        {DCM_RescaleIntercept, "0"},
        {DCM_RescaleSlope, "1"},
        {DCM_RescaleType, "HU"},
    };
    for (const auto &row : rows)
        TRY(put_text(item, row.key, row.value, err));
    return ST_OK;
}

static Status write_slice(const VolumeI16 *volume, const CtSeriesIds *ids,
                          const char *patient_position, int32_t z, const char *path, Err *err)
{
    const Grid *grid = &volume->grid;
    DcmFileFormat file;
    DcmItem *item = file.getDataset();
    TRY(put_texts(item, ids, patient_position, err));
    char key[160], uid[UID_SIZE], number[16];
    (void)std::snprintf(key, sizeof key, "ct2mr import image %d %s", z, ids->digest);
    uid_from_key(key, uid);
    TRY(put_text(item, DCM_SOPInstanceUID, uid, err));
    (void)std::snprintf(number, sizeof number, "%d", z + 1);
    TRY(put_text(item, DCM_InstanceNumber, number, err));
    Vec3 p = affine_apply(grid->lps_from_vox, Vec3{0, 0, (double)z});
    OFString position = ds_text(p.x) + "\\" + ds_text(p.y) + "\\" + ds_text(p.z);
    TRY(put_text(item, DCM_ImagePositionPatient, position.c_str(), err));

    TRY(put_u16(item, DCM_SamplesPerPixel, 1, err));
    TRY(put_u16(item, DCM_Rows, (Uint16)grid->ny, err));
    TRY(put_u16(item, DCM_Columns, (Uint16)grid->nx, err));
    TRY(put_u16(item, DCM_BitsAllocated, 16, err));
    TRY(put_u16(item, DCM_BitsStored, 16, err));
    TRY(put_u16(item, DCM_HighBit, 15, err));
    TRY(put_u16(item, DCM_PixelRepresentation, 1, err));
    size_t n = (size_t)grid->nx * (size_t)grid->ny;
    const int16_t *slice = volume->v + (size_t)z * n;
    TRY_DCMTK(item->putAndInsertUint16Array(DCM_PixelData, reinterpret_cast<const Uint16 *>(slice),
                                            (unsigned long)n),
              ST_DICOM_WRITE, err, "Pixel Data cannot be set");
    std::vector<Uint8> bytes;
    TRY(file_encode(&file, &bytes, err));
    return bytes_save(bytes, path, err);
}

Status dicom_write_ct(const VolumeI16 *volume, const char *patient_position, const char *dir,
                      Err *err)
{
    return guard(err, [&]() -> Status {
        CtSeriesIds ids = {};
        TRY(check_grid(&volume->grid, err));
        TRY(dir_make(dir, err));
        make_ids(volume, &ids);
        for (int32_t z = 0; z < volume->grid.nz; z++) {
            char path[PATH_SIZE];
            TRY(path_format(path, err, "%s/IM%04d.dcm", dir, z + 1));
            TRY(write_slice(volume, &ids, patient_position, z, path, err));
        }
        return dir_sync(dir, err);
    });
}
