/* pipeline/volume_io.h: what a person names on the command line becomes a volume. Folders of CT are
** tested with the load step. */
#include "tests/test.h"

#include "base/files.h"
#include "pipeline/nifti.h"
#include "pipeline/turn.h"
#include "pipeline/volume_io.h"
#include "tests/ct_file.h"

enum { NX = 7, NY = 6, NZ = 5, N = NX * NY * NZ };

/* Half air, then fat, soft tissue and bone; or an MR of 0..209, times. */
static VolumeF32 make(bool is_ct, float times)
{
    static float v[N];
    for (int i = 0; i < N; i++)
        v[i] = times * (float)(!is_ct ? i : i < 105 ? -1000 : i < 120 ? -90 : i < 190 ? 40 : 700);
    return (VolumeF32){{NX, NY, NZ, {{{0.5, 0, 0, -10}, {0, 0.6, 0, 20}, {0, 0, 2, 30}}}}, v};
}

static char path[PATH_SIZE];
static Arena arena;
static Err err;
static Modality is; /* what it was read as */

static Status read_as(const char *name, Modality said, VolumeI16 *ret)
{
    is = said;
    return volume_read(name, &arena, ret, &is, &err);
}

static void put(const VolumeF32 *volume)
{
    CHECK_OK(path_format(path, &err, "%s/v.nii.gz", test_dir()), &err);
    CHECK_OK(nifti_write_f32(path, volume, &err), &err);
    if (arena.base == NULL)
        CHECK_OK(arena_open(1 << 24, &arena, &err), &err);
}

TEST(volume_read_nifti,
     "voxels and grid come back; CT and MR are told by their numbers or by what is said")
{
    for (int is_ct = 0; is_ct < 2; is_ct++) {
        VolumeF32 want = make(is_ct, 1);
        VolumeI16 got;
        put(&want);
        CHECK_OK(read_as(path, MODALITY_UNKNOWN, &got), &err);
        CHECK_INT(is, is_ct ? MODALITY_CT : MODALITY_MR);
        CHECK(grid_equal(&got.grid, &want.grid, 1e-3));
        for (int i = 0; i < N; i++)
            CHECK_INT(got.v[i], want.v[i]);
        CHECK_OK(read_as(path, MODALITY_MR, &got), &err);
        CHECK_INT(is, MODALITY_MR);
        CHECK_OK(read_as(path, MODALITY_CT, &got), &err);
        CHECK_INT(is, MODALITY_CT);
    }
    VolumeF32 clipped = make(true, 1);
    VolumeI16 got;
    for (int i = 0; i < N; i++)
        clipped.v[i] = fmaxf(clipped.v[i], -400);
    put(&clipped);
    CHECK_OK(read_as(path, MODALITY_UNKNOWN, &got), &err);
    CHECK_INT(is, MODALITY_UNKNOWN);
}

TEST(volume_read_scales_mr_only,
     "an MR of 0..1 or 0..1e6 keeps its contrast; HU that do not fit are NIFTI")
{
    static const float times[] = {1.0f / 209, 5000};
    VolumeI16 got;
    for (int k = 0; k < 2; k++) {
        VolumeF32 mr = make(false, times[k]);
        put(&mr);
        CHECK_OK(read_as(path, MODALITY_UNKNOWN, &got), &err);
        CHECK_INT(is, MODALITY_MR);
        for (int i = 0; i < N; i++)
            CHECK_NEAR(got.v[i], 4095.0 * i / 209, 0.51);
    }
    CHECK_STATUS(read_as(path, MODALITY_CT, &got), ST_NIFTI);
    VolumeF32 ct = make(true, 1);
    ct.v[N - 1] = 40000;
    put(&ct);
    CHECK_STATUS(read_as(path, MODALITY_UNKNOWN, &got), ST_NIFTI);
    CHECK(strstr(err.msg, "1 voxels") != NULL && strstr(err.msg, "40000") != NULL);
}

TEST(reference_read_nifti,
     "an MR, scaled if need be; a CT, or what is not clearly an MR, is REFERENCE")
{
    VolumeI16 got;
    char digest[DIGEST_HEX_SIZE];
    static const float times[] = {1, 1.0f / 209, 5000};
    for (int k = 0; k < 3; k++) {
        VolumeF32 mr = make(false, times[k]);
        put(&mr);
        CHECK_OK(reference_read(path, "", &arena, &got, digest, &err), &err);
        CHECK_INT(got.v[N - 1], k == 0 ? 209 : 4095);
    }
    VolumeF32 ct = make(true, 1);
    put(&ct);
    CHECK_STATUS(reference_read(path, "", &arena, &got, digest, &err), ST_REFERENCE);
    CHECK(strstr(err.msg, "it is a CT") != NULL);
    for (int i = 0; i < N; i++)
        ct.v[i] += 1024;
    put(&ct);
    CHECK_STATUS(reference_read(path, "", &arena, &got, digest, &err), ST_REFERENCE);
    CHECK(strstr(err.msg, "not clearly an MR") != NULL);
}

TEST(reference_read_turns, "stored as LP or as RA: the same volume in the axes that are asked for")
{
    static const char *const AXES[] = {"RA", "LP", "RP", "LA"};
    VolumeI16 as_is, got;
    char first[DIGEST_HEX_SIZE], digest[DIGEST_HEX_SIZE];
    VolumeF32 mr = make(false, 1);
    put(&mr);
    CHECK_OK(reference_read(path, "", &arena, &as_is, first, &err), &err);
    for (int k = 0; k < 8; k++) {
        char axes[3];
        if (k == 4) { /* the same from head to feet */
            mr.grid.lps_from_vox.m[2][2] *= -1;
            put(&mr);
            CHECK_OK(reference_read(path, "", &arena, &as_is, first, &err), &err);
        }
        CHECK_OK(reference_read(path, AXES[k % 4], &arena, &got, digest, &err), &err);
        CHECK_STR(digest, first);
        CHECK(grid_axes(&got.grid, axes));
        CHECK_STR(axes, AXES[k % 4]);
        CHECK(got.grid.lps_from_vox.m[2][2] > 0);
        Affine vox_from_lps;
        CHECK(affine_inverse(as_is.grid.lps_from_vox, &vox_from_lps));
        const Affine from_got = affine_mul(vox_from_lps, got.grid.lps_from_vox);
        const Vec3 q = affine_apply(from_got, (Vec3){2, 1, 3});
        const int32_t nx = got.grid.nx, ny = got.grid.ny;
        CHECK_INT(
            got.v[(3 * ny + 1) * nx + 2],
            as_is.v[(lround(q.z) * as_is.grid.ny + lround(q.y)) * as_is.grid.nx + lround(q.x)]);
    }
}

TEST(reference_read_oblique, "45 degrees off: no turning makes it axial, REFERENCE says so")
{
    VolumeI16 got;
    char digest[DIGEST_HEX_SIZE];
    VolumeF32 mr = make(false, 1);
    const double c = sqrt(0.5);
    Affine *m = &mr.grid.lps_from_vox;
    *m = (Affine){{{c, -c, 0, 0}, {c, c, 0, 0}, {0, 0, 1, 0}}};
    put(&mr);
    CHECK_STATUS(reference_read(path, "RA", &arena, &got, digest, &err), ST_REFERENCE);
    CHECK(strstr(err.msg, "oblique") != NULL);
    CHECK_OK(reference_read(path, "", &arena, &got, digest, &err), &err);
}

/* ---- folders --------------------------------------------------------------------------------- */

static void put_images(const char *name, const char *sop_class, const char *modality,
                       const char *series)
{
    static uint16_t cells[4 * 6];
    char file[PATH_SIZE], position[64], sop[64];
    for (int z = 0; z < 5; z++) {
        for (int i = 0; i < 4 * 6; i++)
            cells[i] = (uint16_t)(1000 + 100 * z + i);
        CHECK_OK(path_format(file, &err, "%s/%s%d", test_dir(), name, z), &err);
        (void)snprintf(position, sizeof position, "-10\\-20.5\\%d", 3 * z);
        (void)snprintf(sop, sizeof sop, "%s.%d", series, z);
        ct_file_write(file, &(CtFile){.cells = cells,
                                      .position = position,
                                      .sop_uid = sop,
                                      .series_uid = series,
                                      .sop_class = sop_class,
                                      .modality = modality,
                                      .rescale_type = sop_class != NULL ? "-" : NULL});
    }
}

TEST(volume_read_folder, "a folder of MR is an MR; of both, the CT, or what is said")
{
    VolumeI16 got;
    CHECK_OK(arena_open((size_t)1 << 28, &arena, &err), &err);
    put_images("m", "1.2.840.10008.5.1.4.1.1.4", "MR", "1.2.3.40");
    CHECK_OK(read_as(test_dir(), MODALITY_UNKNOWN, &got), &err);
    CHECK_INT(is, MODALITY_MR);
    CHECK_INT(got.grid.nz, 5);
    CHECK_INT(got.v[2 * 24 + 7], 1207);
    CHECK_STATUS(read_as(test_dir(), MODALITY_CT, &got), ST_SERIES_NOT_CT);
    put_images("c", NULL, NULL, "1.2.3.41");
    CHECK_OK(read_as(test_dir(), MODALITY_UNKNOWN, &got), &err);
    CHECK_INT(is, MODALITY_CT);
    CHECK_OK(read_as(test_dir(), MODALITY_MR, &got), &err);
    CHECK_INT(is, MODALITY_MR);
}

TEST(
    volume_says_whose_file,
    "a file that is no NIfTI: the user's own is NIFTI, the reference is REFERENCE; remedies differ")
{
    static const char text[] = "this is no volume";
    VolumeI16 got;
    char digest[DIGEST_HEX_SIZE];
    CHECK_OK(arena_open(1 << 24, &arena, &err), &err);
    CHECK_OK(path_format(path, &err, "%s/v.nii", test_dir()), &err);
    CHECK_OK(file_write_durable(path, text, sizeof text, &err), &err);
    CHECK_STATUS(read_as(path, MODALITY_UNKNOWN, &got), ST_NIFTI);
    CHECK_STATUS(reference_read(path, "", &arena, &got, digest, &err), ST_REFERENCE);
    CHECK_INT(err.status, ST_REFERENCE);
    CHECK(strstr(status_remedy(ST_NIFTI), "align.reference") == NULL);
    CHECK(strstr(status_remedy(ST_REFERENCE), "align.reference") != NULL);
    CHECK(strstr(status_remedy(ST_CHECKPOINT), "model.path") == NULL);
    CHECK(strstr(status_remedy(ST_MODEL_UNFIT), "copy it again") == NULL);
    arena_close(&arena);
}

TEST(volume_read_missing, "a path that is not there is NOT_FOUND, an empty folder an error")
{
    VolumeI16 got = {0};
    CHECK_OK(arena_open(1 << 24, &arena, &err), &err);
    CHECK_STATUS(read_as("/nonexistent/ct.nii", MODALITY_UNKNOWN, &got), ST_NOT_FOUND);
    CHECK_STATUS(read_as(test_dir(), MODALITY_UNKNOWN, &got), ST_SERIES_NOT_CT);
    CHECK(strstr(err.msg, "nor MR") != NULL);
    CHECK(got.v == NULL);
    arena_close(&arena);
}
