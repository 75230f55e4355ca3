/* pipeline/import: the real head of Debian's invesalius-examples lies as a scanner stores it; axes
** of any orientation are turned without moving a voxel in space; what is no CT is refused. */
#include "tests/ct_file.h"
#include "tests/test.h"

#include "base/digest.h"
#include "base/files.h"
#include "dicom/read.h"
#include "dicom/write.h"
#include "pipeline/import.h"
#include "pipeline/nifti.h"

#include <archive.h>
#include <archive_entry.h>
#include <unistd.h>

static const char INV3[] = "/usr/share/doc/invesalius-examples/examples/Cranium.inv3";

static void read_head(Arena *arena, VolumeI16 *ret)
{
    Err err = {0};
    if (access(INV3, R_OK) != 0)
        SKIP("invesalius-examples is not installed");
    CHECK_OK(arena_open((size_t)256 << 20, arena, &err), &err);
    CHECK_OK(import_volume(INV3, arena, ret, &err), &err);
}

TEST(import_inv3_shape_and_values, "256x256x108, 0.957x0.957x1.5 mm, -1024..2986 HU, air and brain")
{
    Arena arena;
    VolumeI16 v;
    read_head(&arena, &v);
    CHECK(v.grid.nx == 256 && v.grid.ny == 256 && v.grid.nz == 108);
    CHECK_NEAR(grid_spacing_mm(&v.grid, 0), 0.9570312, 1e-6);
    CHECK_NEAR(grid_spacing_mm(&v.grid, 1), 0.9570312, 1e-6);
    CHECK_NEAR(grid_spacing_mm(&v.grid, 2), 1.5, 0);
    CHECK_NEAR(affine_det(v.grid.lps_from_vox), 0.9570312 * 0.9570312 * 1.5, 1e-6);
    size_t n = grid_voxels(&v.grid), n_air = 0, n_brain = 0, n_bone = 0;
    int least = 9999, greatest = -9999;
    for (size_t i = 0; i < n; i++) {
        int hu = v.v[i];
        least = hu < least ? hu : least;
        greatest = hu > greatest ? hu : greatest;
        n_air += hu < -900;
        n_brain += hu > 0 && hu < 80;
        n_bone += hu > 400;
    }
    CHECK_INT(least, -1024);
    CHECK_INT(greatest, 2986);
    double litre = 0.9570312 * 0.9570312 * 1.5 * 1e-6;
    CHECK_NEAR((double)n_brain * litre, 1.7, 0.6); /* brain and muscle */
    CHECK_NEAR((double)n_bone * litre, 0.6, 0.3);
    CHECK((double)n_air > 0.5 * (double)n);
    arena_close(&arena);
}

/* Least and greatest index along an axis of voxels above a threshold in a slab of another. */
static void extent_y(const VolumeI16 *v, int z, int hu, int x_low, int x_high, int *ret_low,
                     int *ret_high)
{
    *ret_low = v->grid.ny, *ret_high = -1;
    for (int y = 0; y < v->grid.ny; y++) {
        for (int x = x_low; x < x_high; x++) {
            if (v->v[((size_t)z * (size_t)v->grid.ny + (size_t)y) * (size_t)v->grid.nx +
                     (size_t)x] > hu) {
                *ret_low = y < *ret_low ? y : *ret_low;
                *ret_high = y > *ret_high ? y : *ret_high;
            }
        }
    }
}

static size_t count_above(const VolumeI16 *v, int z, int y_low, int y_high, int hu)
{
    size_t n = 0;
    for (int y = y_low; y < y_high; y++)
        for (int x = 0; x < v->grid.nx; x++)
            n += v->v[((size_t)z * (size_t)v->grid.ny + (size_t)y) * (size_t)v->grid.nx +
                      (size_t)x] > hu;
    return n;
}

TEST(import_inv3_lies_supine_head_up, "vertex at high z, nose anterior, headrest posterior")
{
    Arena arena;
    VolumeI16 v;
    int low, high, back, front;
    read_head(&arena, &v);
    /* Bone fades out towards the vertex: the last slice holds less skin than the middle, and the
    ** skull base at the other end has air cells and bone. */
    CHECK(count_above(&v, v.grid.nz - 1, 0, v.grid.ny, -300) <
          count_above(&v, v.grid.nz / 2, 0, v.grid.ny, -300) / 3);
    CHECK(count_above(&v, 0, 0, v.grid.ny, -300) >
          count_above(&v, v.grid.nz / 2, 0, v.grid.ny, -300) / 2);
    /* The headrest is an arc of plastic behind the head: in a slice through the brain the hindmost
    ** thing on the left and right flank is the rest, and in front of the head there is nothing. */
    extent_y(&v, 60, -500, 5, 45, &low, &high);
    CHECK(high > 0);
    CHECK(low > v.grid.ny / 2); /* only the posterior half holds the arms of the rest */
    /* The nose: in the lowest slices the midline reaches further to anterior (low y) than in the
    ** slice through the forehead. */
    int nose = v.grid.ny;
    for (int z = 0; z < 30; z++) {
        extent_y(&v, z, -300, 110, 150, &front, &back);
        nose = front < nose ? front : nose;
    }
    extent_y(&v, 60, -300, 110, 150, &front, &back);
    CHECK(nose < front - 5);
    CHECK(front < v.grid.ny / 4);
    arena_close(&arena);
}

TEST(import_inv3_makes_valid_ct, "108 images, dciodvfy clean, voxels and grid return, reproducible")
{
    Arena arena;
    VolumeI16 v;
    char path[PATH_SIZE], last[1024], a[65], b[65];
    static int16_t hu[256 * 256];
    uint8_t digest[DIGEST_SIZE];
    Err err = {0};
    CtHeader h;
    read_head(&arena, &v);
    for (int round = 0; round < 2; round++) {
        CHECK_OK(path_format(path, &err, "%s/%d", test_dir(), round), &err);
        CHECK_OK(dicom_write_ct(&v, "HFS", path, &err), &err);
    }
    for (int z = 0; z < 108; z += 20) {
        CHECK_OK(path_format(path, &err, "%s/1/IM%04d.dcm", test_dir(), z + 1), &err);
        CHECK_OK(digest_file(path, a, &err), &err);
        CHECK_OK(path_format(path, &err, "%s/0/IM%04d.dcm", test_dir(), z + 1), &err);
        CHECK_OK(digest_file(path, b, &err), &err);
        CHECK_STR(a, b);
        CHECK_OK(dicom_read_header(path, &h, &err), &err);
        CHECK_OK(dicom_read_hu(path, &h, hu, digest, &err), &err);
        CHECK(memcmp(hu, v.v + (size_t)z * 65536, sizeof hu) == 0);
        const ImageGeometry *g = &h.instance.geometry;
        CHECK(g->iop[0] == 1 && g->iop[1] == 0 && g->iop[4] == 1 && g->iop[5] == 0);
        CHECK_NEAR(g->ipp_lps_mm[2], -0.5 * 107 * 1.5 + z * 1.5, 1e-9);
        if (dciodvfy_errors(path, last, sizeof last) != 0)
            test_fail(__FILE__, __LINE__, "%s", last);
    }
    CHECK_OK(path_format(path, &err, "%s/0/IM0109.dcm", test_dir()), &err);
    CHECK(access(path, F_OK) != 0);
    arena_close(&arena);
}

/* A project of 2x2x2 voxels with the given main.plist body. */
static const char *make_project(const char *body, size_t matrix_bytes)
{
    static char path[PATH_SIZE];
    char text[2048], matrix[64] = {1, 0, 2, 0, 3, 0, 4, 0, 0, (char)0xfc}; /* 1 2 3 4 -1024 */
    CHECK_OK(path_format(path, NULL, "%s/p.inv3", test_dir()), &(Err){0});
    (void)snprintf(text, sizeof text,
                   "<?xml version=\"1.0\"?><plist version=\"1.0\"><dict>%s</dict></plist>", body);
    const struct {
        const char *name, *data;
        size_t n;
    } members[] = {{"x/main.plist", text, strlen(text)}, {"x/matrix.dat", matrix, matrix_bytes}};
    struct archive *a = archive_write_new();
    CHECK(archive_write_add_filter_gzip(a) == ARCHIVE_OK);
    CHECK(archive_write_set_format_ustar(a) == ARCHIVE_OK);
    CHECK(archive_write_open_filename(a, path) == ARCHIVE_OK);
    for (int i = 0; i < 2; i++) {
        struct archive_entry *e = archive_entry_new();
        archive_entry_set_pathname(e, members[i].name);
        archive_entry_set_size(e, (int64_t)members[i].n);
        archive_entry_set_filetype(e, AE_IFREG);
        archive_entry_set_perm(e, 0644);
        CHECK(archive_write_header(a, e) == ARCHIVE_OK);
        CHECK(archive_write_data(a, members[i].data, members[i].n) == (la_ssize_t)members[i].n);
        archive_entry_free(e);
    }
    CHECK(archive_write_free(a) == ARCHIVE_OK);
    return path;
}

#define KEY(k, v) "<key>" k "</key>" v
#define INTEGER(v) "<integer>" #v "</integer>"
#define MATRIX(type, n)                                                                            \
    KEY("matrix",                                                                                  \
        "<dict>" KEY("dtype", "<string>" type "</string>")                                         \
            KEY("filename", "<string>matrix.dat</string>")                                         \
                KEY("shape", "<array>" INTEGER(n) INTEGER(2) INTEGER(2) "</array>") "</dict>")
#define CT KEY("modality", "<string>CT</string>")
#define AXIAL KEY("orientation", INTEGER(1))
#define SPACING                                                                                    \
    KEY("spacing", "<array><real>0.5</real><integer>2</integer><real>3.0</real></array>")

TEST(import_inv3_reverses_rows, "a made project: row order is reversed, spacing is x y z")
{
    Arena arena;
    VolumeI16 v;
    Err err = {0};
    CHECK_OK(arena_open((size_t)16 << 20, &arena, &err), &err);
    CHECK_OK(import_inv3(make_project(CT AXIAL SPACING MATRIX("int16", 2), 16), &arena, &v, &err),
             &err);
    CHECK(v.v[0] == 3 && v.v[1] == 4 && v.v[2] == 1 && v.v[3] == 2 && v.v[6] == -1024);
    CHECK(grid_spacing_mm(&v.grid, 0) == 0.5 && grid_spacing_mm(&v.grid, 1) == 2 &&
          grid_spacing_mm(&v.grid, 2) == 3);
    CHECK_NEAR(v.grid.lps_from_vox.m[2][3], -1.5, 0);
    arena_close(&arena);
}

TEST(import_inv3_refuses, "MR, coronal, other type, impossible shape, size, affine, no archive")
{
    static const struct {
        const char *body;
        size_t matrix_bytes;
    } bad[] = {
        {KEY("modality", "<string>MRI</string>") AXIAL SPACING MATRIX("int16", 2), 16},
        {CT KEY("orientation", INTEGER(2)) SPACING MATRIX("int16", 2), 16},
        {CT AXIAL SPACING MATRIX("uint8", 2), 16},
        {CT AXIAL SPACING MATRIX("int16", 0), 16},
        {CT AXIAL SPACING MATRIX("int16", 2000000000), 16},
        {CT AXIAL SPACING MATRIX("int16", -3), 16},
        {CT AXIAL SPACING MATRIX("int16", 3), 16},
        {CT AXIAL SPACING MATRIX("int16", 2), 14},
        {CT AXIAL MATRIX("int16", 2), 16},
        {CT AXIAL SPACING, 16},
        {CT AXIAL SPACING MATRIX("int16", 2) KEY("affine", "<array>" INTEGER(1) "</array>"), 16},
        {"", 16},
        {"<nonsense", 16},
    };
    Arena arena;
    Err err = {0};
    CHECK_OK(arena_open((size_t)16 << 20, &arena, &err), &err);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        VolumeI16 v = {.v = NULL};
        Status status =
            import_inv3(make_project(bad[i].body, bad[i].matrix_bytes), &arena, &v, &err);
        if (status != ST_UNSUPPORTED || v.v != NULL)
            test_fail(__FILE__, __LINE__, "case %zu: %s", i, status_name(status));
    }
    VolumeI16 v;
    CHECK(import_inv3("/nonexistent.inv3", &arena, &v, &err) != ST_OK);
    CHECK_OK(file_write_durable(make_project("", 2), "no archive at all", 17, &err), &err);
    CHECK_STATUS(import_volume(make_project("", 2), &arena, &v, &err), ST_UNSUPPORTED);
    CHECK_STATUS(import_volume("/tmp/x.raw", &arena, &v, &err), ST_UNSUPPORTED);
    arena_close(&arena);
}

TEST(import_nifti_is_turned, "a NIfTI stored right-anterior-head comes out left-posterior-head")
{
    enum { X = 20, Y = 16, Z = 12 };
    static int16_t values[X * Y * Z];
    Arena arena;
    Err err = {0};
    char path[PATH_SIZE];
    CHECK_OK(arena_open((size_t)16 << 20, &arena, &err), &err);
    VolumeI16 in = {{X, Y, Z, {{{-1.5, 0, 0, 14}, {0, -2, 0, 15}, {0, 0, 2.5, -30}}}}, values}, out;
    for (int i = 0; i < X * Y * Z; i++)
        values[i] = (int16_t)(i % 3 == 0 ? -1000 : i % 3 == 1 ? 40 : 1000 + i % 100);
    for (int packed = 0; packed < 2; packed++) {
        CHECK_OK(path_format(path, &err, "%s/v.nii%s", test_dir(), packed ? ".gz" : ""), &err);
        CHECK_OK(nifti_write_i16(path, &in, &err), &err);
        CHECK_OK(import_volume(path, &arena, &out, &err), &err);
        CHECK(out.grid.nx == X && out.grid.ny == Y && out.grid.nz == Z);
        CHECK_NEAR(out.grid.lps_from_vox.m[0][0], 1.5, 1e-5);
        CHECK_NEAR(out.grid.lps_from_vox.m[1][1], 2, 1e-5);
        CHECK_NEAR(out.grid.lps_from_vox.m[0][3], 14 - 1.5 * (X - 1), 1e-4);
        CHECK_NEAR(out.grid.lps_from_vox.m[1][3], 15 - 2.0 * (Y - 1), 1e-4);
        CHECK_NEAR(out.grid.lps_from_vox.m[2][3], -30, 1e-4);
        for (int z = 0; z < Z; z++)
            for (int y = 0; y < Y; y++)
                for (int x = 0; x < X; x++)
                    CHECK_INT(out.v[(z * Y + y) * X + x],
                              values[(z * Y + Y - 1 - y) * X + X - 1 - x]);
    }
    arena_close(&arena);
}

TEST(import_refuses_what_is_not_hu, "a CT template in 0..100 units is no Hounsfield volume")
{
    Arena arena;
    VolumeI16 v;
    Err err = {0};
    const char *path = test_shared("data/template/scct.nii");
    CHECK_OK(arena_open((size_t)256 << 20, &arena, &err), &err);
    CHECK_STATUS(import_volume(path, &arena, &v, &err), ST_UNSUPPORTED);
    CHECK(strstr(err.msg, "Hounsfield") != NULL);
    arena_close(&arena);
}
