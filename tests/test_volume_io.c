/* pipeline/volume_io.h: what a person names on the command line becomes a volume. DICOM folders
** are tested with the load step. */
#include "tests/test.h"

#include "base/files.h"
#include "pipeline/nifti.h"
#include "pipeline/volume_io.h"

static VolumeI16 make(Arena *arena, int16_t least)
{
    Err err = {0};
    VolumeI16 v = {{7, 6, 5, {{{0.5, 0, 0, -10}, {0, 0.6, 0, 20}, {0, 0, 2, 30}}}},
                   arena_alloc(arena, 210, sizeof(int16_t), &err)};
    CHECK(v.v != NULL);
    for (int i = 0; i < 210; i++)
        v.v[i] = (int16_t)(least + i);
    return v;
}

TEST(volume_read_nifti, "voxels and grid come back; HU are told from an MR by their air")
{
    Arena arena;
    Err err = {0};
    CHECK_OK(arena_open(1 << 24, &arena, &err), &err);
    for (int is_ct = 0; is_ct < 2; is_ct++) {
        VolumeI16 want = make(&arena, is_ct ? -1000 : 0), got;
        char path[PATH_SIZE];
        bool found = !is_ct;
        CHECK_OK(path_format(path, &err, "%s/v%d.nii.gz", test_dir(), is_ct), &err);
        CHECK_OK(nifti_write_i16(path, &want, &err), &err);
        CHECK_OK(volume_read(path, &arena, &got, &found, &err), &err);
        CHECK(grid_equal(&got.grid, &want.grid, 1e-3));
        CHECK(memcmp(got.v, want.v, 210 * sizeof(int16_t)) == 0);
        CHECK_INT(found, is_ct);
        CHECK_OK(volume_read(path, &arena, &got, NULL, &err), &err);
    }
    arena_close(&arena);
}

TEST(
    volume_says_whose_file,
    "a file that is no NIfTI: the user's own is NIFTI, the reference is REFERENCE; remedies differ")
{
    static const char text[] = "this is no volume";
    Arena arena;
    VolumeI16 got;
    char path[PATH_SIZE], digest[DIGEST_HEX_SIZE];
    Err err = {0};
    CHECK_OK(arena_open(1 << 24, &arena, &err), &err);
    CHECK_OK(path_format(path, &err, "%s/v.nii", test_dir()), &err);
    CHECK_OK(file_write_durable(path, text, sizeof text, &err), &err);
    CHECK_STATUS(volume_read(path, &arena, &got, NULL, &err), ST_NIFTI);
    CHECK_STATUS(reference_read(path, &arena, &got, digest, &err), ST_REFERENCE);
    CHECK_INT(err.status, ST_REFERENCE);
    CHECK(strstr(status_remedy(ST_NIFTI), "align.reference") == NULL);
    CHECK(strstr(status_remedy(ST_REFERENCE), "align.reference") != NULL);
    CHECK(strstr(status_remedy(ST_CHECKPOINT), "model.path") == NULL);
    CHECK(strstr(status_remedy(ST_MODEL_UNFIT), "copy it again") == NULL);
    arena_close(&arena);
}

TEST(volume_read_missing, "a path that is not there is NOT_FOUND, an empty folder an error")
{
    Arena arena;
    Err err = {0};
    VolumeI16 got = {0};
    CHECK_OK(arena_open(1 << 24, &arena, &err), &err);
    CHECK_STATUS(volume_read("/nonexistent/ct.nii", &arena, &got, NULL, &err), ST_NOT_FOUND);
    CHECK(volume_read(test_dir(), &arena, &got, NULL, NULL) != ST_OK);
    CHECK(got.v == NULL);
    arena_close(&arena);
}

TEST(volume_axes,
     "to where slices run: in patient coordinates, oblique ones to the nearest, else none")
{
    Grid grid = {4, 4, 4, {{{-2, 0, 0, 0}, {0, 0.9, 0.2, 0}, {0, -0.2, 0.9, 0}}}};
    char axes[3];
    CHECK(grid_axes(&grid, axes));
    CHECK_STR(axes, "RP");
    grid.lps_from_vox.m[0][0] = 2;
    grid.lps_from_vox.m[1][1] = -0.9;
    CHECK(grid_axes(&grid, axes));
    CHECK_STR(axes, "LA");
    const Grid sagittal = {4, 4, 4, {{{0, 0, 1, 0}, {1, 0, 0, 0}, {0, -1, 0, 0}}}};
    CHECK(!grid_axes(&sagittal, axes));
}
