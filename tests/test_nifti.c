/* pipeline/nifti.h: what is written is read back, and what is not a volume is refused. */
#include "tests/test.h"

#include "base/files.h"
#include "pipeline/nifti.h"
#include "tests/head_phantom.h"

#include <nifti/nifti1.h>
#include <signal.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NX = 19, NY = 23, NZ = 11, N = NX * NY * NZ };

static Arena arena;
static Err err;
static char path[PATH_SIZE];

static const char *file(const char *name)
{
    CHECK_OK(path_format(path, &err, "%s/%s", test_dir(), name), &err);
    return path;
}

static VolumeI16 make_volume(void)
{
    CHECK_OK(arena_open((size_t)64 << 20, &arena, &err), &err);
    uint64_t state = 77;
    Affine turn = phantom_affine(&state, 25, 0, 120);
    VolumeI16 v = {{NX, NY, NZ, {{{0.48, 0, 0, 0}, {0, 0.48, 0, 0}, {0, 0, 1.25, 0}}}}, NULL};
    v.grid.lps_from_vox = affine_mul(turn, v.grid.lps_from_vox);
    v.v = arena_alloc(&arena, N, sizeof *v.v, &err);
    CHECK(v.v != NULL);
    for (int i = 0; i < N; i++)
        v.v[i] = (int16_t)(phantom_random(&state) * 65535 - 32768);
    v.v[0] = INT16_MIN;
    v.v[1] = INT16_MAX;
    return v;
}

TEST(nifti_round_trip_oblique, "int16, plain and gzipped: the same voxels, the grid to 1e-4 mm")
{
    VolumeI16 v = make_volume(), got;
    static const char *const names[] = {"a.nii", "a.nii.gz"};
    for (int i = 0; i < 2; i++) {
        CHECK_OK(nifti_write_i16(file(names[i]), &v, &err), &err);
        CHECK_OK(nifti_read(path, &arena, &got, &err), &err);
        CHECK(grid_equal(&v.grid, &got.grid, 1e-4));
        CHECK(memcmp(v.v, got.v, N * sizeof *v.v) == 0);
        char *data;
        size_t size;
        CHECK_OK(file_read(path, 1 << 20, &data, &size, &err), &err);
        CHECK((i == 0) == (size == 352 + N * sizeof *v.v)); /* one is compressed, one is not */
        free(data);
        strcat(path, ".tmp");
        CHECK(access(path, F_OK) != 0);
    }
}

TEST(nifti_round_trip_other_types,
     "uint8 and float32 volumes read back as their rounded values; what int16 cannot hold is NIFTI")
{
    VolumeI16 v = make_volume(), got;
    static uint8_t mask[N];
    static float real[N];
    for (int i = 0; i < N; i++) {
        mask[i] = v.v[i] > 0;
        real[i] = (float)v.v[i] * 0.5f + 0.125f;
    }
    real[0] = 32767.4f;
    real[1] = -32768.4f;
    VolumeU8 u8 = {v.grid, mask};
    VolumeF32 f32 = {v.grid, real};
    CHECK_OK(nifti_write_u8(file("m.nii.gz"), &u8, &err), &err);
    CHECK_OK(nifti_read(path, &arena, &got, &err), &err);
    for (int i = 0; i < N; i++)
        CHECK_INT(got.v[i], mask[i]);
    CHECK_OK(nifti_write_f32(file("f.nii"), &f32, &err), &err);
    CHECK_OK(nifti_read(path, &arena, &got, &err), &err);
    CHECK(got.v[0] == INT16_MAX && got.v[1] == INT16_MIN);
    for (int i = 2; i < N; i++)
        CHECK_INT(got.v[i], lrintf(real[i]));
    CHECK(grid_equal(&v.grid, &got.grid, 1e-4));
    real[0] = 32767.6f;
    real[1] = -1e9f;
    CHECK_OK(nifti_write_f32(file("f.nii"), &f32, &err), &err);
    CHECK_STATUS(nifti_read(path, &arena, &got, &err), ST_NIFTI);
    CHECK(strstr(err.msg, "2 voxels") != NULL && strstr(err.msg, "1e+09") != NULL);
}

/* An MR whose numbers are k * whole[i], as int16: relative to those of the file. */
static void check_mr(VolumeF32 *f32, const int16_t *whole, float k, double want_scale)
{
    VolumeI16 got;
    double scale = 0, worst = 0;
    for (int i = 0; i < N; i++)
        f32->v[i] = k * (float)whole[i];
    CHECK_OK(nifti_write_f32(file("mr.nii.gz"), f32, &err), &err);
    CHECK_OK(nifti_read_mr(path, &arena, &got, &scale, &err), &err);
    CHECK_NEAR(scale, want_scale, 1e-4 * want_scale);
    for (int i = 0; i < N; i++)
        worst = fmax(worst, fabs(got.v[i] - scale * (double)f32->v[i]));
    CHECK(worst <= 0.5);
}

TEST(nifti_read_mr_fits, "0..1 and 0..1e6 are scaled to 4095; 0..254 and 0..30000 are as they are")
{
    VolumeI16 v = make_volume();
    static float real[N];
    VolumeF32 f32 = {v.grid, real};
    for (int i = 0; i < N; i++)
        v.v[i] = (int16_t)(i % 255);
    check_mr(&f32, v.v, 1, 1);
    check_mr(&f32, v.v, 100, 1);
    check_mr(&f32, v.v, 1.0f / 254, 4095);
    check_mr(&f32, v.v, 4000, 4095.0 / 1016000);
}

/* Writes v, lets `change` alter the header in the file, and reads it again. */
static Status read_changed(const VolumeI16 *v, void (*change)(nifti_1_header *), VolumeI16 *ret)
{
    char *data;
    size_t size;
    nifti_1_header h;
    err = (Err){0};
    CHECK_OK(nifti_write_i16(file("c.nii"), v, &err), &err);
    CHECK_OK(file_read(path, 1 << 20, &data, &size, &err), &err);
    memcpy(&h, data, sizeof h);
    change(&h);
    memcpy(data, &h, sizeof h);
    CHECK_OK(file_write_durable(path, data, size, &err), &err);
    free(data);
    return nifti_read(path, &arena, ret, &err);
}

static void only_qform(nifti_1_header *h)
{
    h->sform_code = 0;
    h->srow_x[0] = 99;
}

static void scaled(nifti_1_header *h)
{
    h->scl_slope = 0.25f;
    h->scl_inter = -100;
}

static void in_metres(nifti_1_header *h)
{
    float *rows[] = {h->srow_x, h->srow_y, h->srow_z};
    for (int i = 0; i < 12; i++)
        rows[i / 4][i % 4] /= 1000;
    h->xyzt_units = NIFTI_UNITS_METER;
}

static void in_microns(nifti_1_header *h)
{
    h->sform_code = 0;
    for (int i = 1; i <= 3; i++)
        h->pixdim[i] *= 1000;
    h->qoffset_x *= 1000;
    h->qoffset_y *= 1000;
    h->qoffset_z *= 1000;
    h->xyzt_units = NIFTI_UNITS_MICRON | NIFTI_UNITS_SEC;
}

static void in_no_unit(nifti_1_header *h)
{
    h->xyzt_units = 0;
}

static void in_odd_unit(nifti_1_header *h)
{
    h->xyzt_units = 5;
}

static void no_form(nifti_1_header *h)
{
    h->sform_code = h->qform_code = 0;
}

static void singular(nifti_1_header *h)
{
    memcpy(h->srow_y, h->srow_x, sizeof h->srow_x);
}

static void not_finite(nifti_1_header *h)
{
    h->srow_x[0] = NAN;
}

static void complex_type(nifti_1_header *h)
{
    h->datatype = DT_COMPLEX64;
    h->bitpix = 64;
}

static void many_volumes(nifti_1_header *h)
{
    h->dim[0] = 4;
    h->dim[4] = 3;
}

static void flat(nifti_1_header *h)
{
    h->dim[3] = 1;
}

static void too_long(nifti_1_header *h)
{
    h->dim[3] = NZ + 1;
}

static void huge(nifti_1_header *h)
{
    h->dim[1] = h->dim[2] = h->dim[3] = 32767;
}

static void bad_magic(nifti_1_header *h)
{
    memcpy(h->magic, "xyz", 4);
}

TEST(nifti_orientation_and_scale,
     "qform alone gives the same grid; slope and intercept are applied")
{
    VolumeI16 v = make_volume(), got;
    CHECK_OK(read_changed(&v, only_qform, &got), &err);
    CHECK(grid_equal(&v.grid, &got.grid, 1e-3));
    CHECK_OK(read_changed(&v, scaled, &got), &err);
    for (int i = 0; i < N; i++)
        CHECK_INT(got.v[i], lrint(v.v[i] * 0.25 - 100));
}

TEST(nifti_units, "metres and microns become mm; no unit means mm; another is NIFTI")
{
    VolumeI16 v = make_volume(), got;
    void (*const changes[])(nifti_1_header *) = {in_metres, in_microns, in_no_unit};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        (void)printf("# change %zu\n", i);
        CHECK_OK(read_changed(&v, changes[i], &got), &err);
        CHECK(grid_equal(&v.grid, &got.grid, 1e-3));
    }
    CHECK_STATUS(read_changed(&v, in_odd_unit, &got), ST_NIFTI);
}

TEST(nifti_refuses_what_is_no_volume, "each bad header is NIFTI, and nothing is left allocated")
{
    VolumeI16 v = make_volume(), got;
    void (*const changes[])(nifti_1_header *) = {
        no_form, singular, not_finite, complex_type, many_volumes, flat, too_long, huge, bad_magic};
    size_t mark = arena_mark(&arena);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        (void)printf("# change %zu\n", i);
        CHECK_STATUS(read_changed(&v, changes[i], &got), ST_NIFTI);
        CHECK_INT(arena_mark(&arena), mark);
    }
    err = (Err){0};
    CHECK_STATUS(nifti_read(file("missing.nii"), &arena, &got, &err), ST_NOT_FOUND);
    err = (Err){0};
    CHECK_OK(file_write_durable(file("text.nii"), "not an image", 12, &err), &err);
    CHECK_STATUS(nifti_read(path, &arena, &got, &err), ST_NIFTI);
}

TEST(nifti_refuses_a_sheared_grid,
     "axes 18 and 0.6 degrees off the right angle are NIFTI, 0.4 are not")
{
    VolumeI16 v = make_volume(), got;
    const Grid straight = v.grid;
    CHECK_OK(nifti_write_i16(file("s.nii"), &v, &err), &err);
    static const double LEAN_DEG[] = {0.4, 0.6, 18};
    for (int k = 0; k < 3; k++) {
        v.grid = straight;
        double part = tan(LEAN_DEG[k] * M_PI / 180) * 1.25 / 0.48;
        for (int r = 0; r < 3; r++)
            v.grid.lps_from_vox.m[r][2] += part * v.grid.lps_from_vox.m[r][1];
        CHECK_OK(nifti_write_i16(file("s.nii"), &v, &err), &err);
        CHECK_STATUS(nifti_read(path, &arena, &got, &err), k == 0 ? ST_OK : ST_NIFTI);
    }
    CHECK(strstr(err.msg, "18.0 degrees") != NULL);
}

TEST(nifti_refuses_what_is_no_number, "NaN, infinity: NIFTI with their count; MR read them as NaN")
{
    VolumeI16 v = make_volume(), got;
    VolumeF32 got_f32;
    static float real[N];
    VolumeF32 f32 = {v.grid, real};
    real[5] = NAN;
    real[N - 1] = INFINITY;
    CHECK_OK(nifti_write_f32(file("n.nii.gz"), &f32, &err), &err);
    CHECK_STATUS(nifti_read(path, &arena, &got, &err), ST_NIFTI);
    CHECK(strstr(err.msg, "2 voxels") != NULL);
    CHECK_OK(nifti_read_f32(path, &arena, &got_f32, &err), &err);
    CHECK(isnan(got_f32.v[5]) && isnan(got_f32.v[N - 1]) && got_f32.v[6] == 0);
}

TEST(nifti_reads_the_other_byte_order, "a big-endian file gives the same voxels")
{
    VolumeI16 v = make_volume(), got;
    char *data;
    size_t size;
    CHECK_OK(nifti_write_i16(file("b.nii"), &v, &err), &err);
    CHECK_OK(file_read(path, 1 << 20, &data, &size, &err), &err);
    static const struct {
        size_t at, width, count;
    } fields[] = {{0, 4, 1},   {40, 2, 8},   {68, 2, 4}, {76, 4, 11},
                  {252, 2, 2}, {256, 4, 18}, {352, 2, N}};
    for (size_t f = 0; f < sizeof fields / sizeof *fields; f++)
        for (size_t i = 0; i < fields[f].count; i++) {
            char *p = data + fields[f].at + i * fields[f].width;
            for (size_t k = 0; k < fields[f].width / 2; k++) {
                char swap = p[k];
                p[k] = p[fields[f].width - 1 - k];
                p[fields[f].width - 1 - k] = swap;
            }
        }
    CHECK_OK(file_write_durable(path, data, size, &err), &err);
    free(data);
    CHECK_OK(nifti_read(path, &arena, &got, &err), &err);
    CHECK(grid_equal(&v.grid, &got.grid, 1e-4));
    CHECK(memcmp(v.v, got.v, N * sizeof *v.v) == 0);
}

TEST(nifti_write_reports_failure,
     "a folder that is not there, a file that may not grow: what was there stays, plain or gzipped")
{
    VolumeI16 v = make_volume();
    CHECK(nifti_write_i16(file("none/a.nii"), &v, &err) != ST_OK);
    static const char *const NAMES[] = {"full.nii", "full.nii.gz"};
    for (size_t k = 0; k < 2; k++) {
        CHECK_OK(file_write_durable(file(NAMES[k]), "old", 3, &err), &err);
        struct rlimit before, small;
        CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
        small = before;
        small.rlim_cur = 200;
        (void)signal(SIGXFSZ, SIG_IGN);
        CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
        err = (Err){0};
        Status status = nifti_write_i16(path, &v, &err);
        CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
        CHECK(status != ST_OK);
        char *data;
        size_t size;
        CHECK_OK(file_read(path, 100, &data, &size, &err), &err);
        CHECK(size == 3 && memcmp(data, "old", 3) == 0);
        free(data);
    }
}

TEST(nifti_write_replaces_only_files,
     "a FIFO, a folder: IO, and they are left; no link is followed")
{
    VolumeI16 v = make_volume();
    err = (Err){0};
    CHECK(mkfifo(file("fifo.nii"), 0600) == 0);
    CHECK_STATUS(nifti_write_i16(path, &v, &err), ST_IO);
    struct stat st;
    CHECK(stat(path, &st) == 0 && S_ISFIFO(st.st_mode));
    err = (Err){0};
    CHECK(mkdir(file("folder.nii"), 0700) == 0);
    CHECK_STATUS(nifti_write_i16(path, &v, &err), ST_IO);
    CHECK_OK(file_write_durable(file("precious"), "old", 3, &err), &err);
    CHECK(symlink("precious", file("linked.nii.tmp")) == 0);
    CHECK_OK(nifti_write_i16(file("linked.nii"), &v, &err), &err);
    CHECK(stat(file("precious"), &st) == 0 && st.st_size == 3);
}

TEST(nifti_gzip_is_checked,
     "without its last bytes, with a wrong one, with a wrong checksum: NIFTI")
{
    VolumeI16 small = make_volume(), got; /* niftilib reads the first 16 kB, for the header */
    VolumeI16 v = {{NX, NY, 8 * NZ, small.grid.lps_from_vox}, NULL};
    v.v = arena_alloc(&arena, 8 * N, sizeof *v.v, &err);
    CHECK(v.v != NULL);
    for (int i = 0; i < 8 * N; i++)
        v.v[i] = small.v[i % N];
    char *data;
    size_t size;
    err = (Err){0};
    CHECK_OK(nifti_write_i16(file("z.nii.gz"), &v, &err), &err);
    CHECK_OK(file_read(path, 1 << 20, &data, &size, &err), &err);
    for (int k = 0; k < 3; k++) {
        size_t at = k == 2 ? size - 8 : size / 2; /* the checksum, the voxels */
        err = (Err){0};
        data[at] = (char)(data[at] ^ (k > 0 ? 1 : 0));
        CHECK_OK(file_write_durable(path, data, size - (k == 0 ? 100 : 0), &err), &err);
        CHECK_STATUS(nifti_read(path, &arena, &got, &err), ST_NIFTI);
        (void)printf("# %s\n", err.msg);
        CHECK(strstr(err.msg, k == 0 ? "cut short" : "damaged") != NULL);
        data[at] = (char)(data[at] ^ (k > 0 ? 1 : 0));
    }
    free(data);
}

static void other_side(nifti_1_header *h)
{
    for (int c = 0; c < 4; c++)
        h->srow_x[c] = -h->srow_x[c];
}

static void moved_a_little(nifti_1_header *h)
{
    h->srow_x[3] += 30;
    for (int c = 0; c < 3; c++) { /* by 11 degrees */
        float x = h->srow_x[c], y = h->srow_y[c];
        h->srow_x[c] = 0.98f * x - 0.199f * y;
        h->srow_y[c] = 0.199f * x + 0.98f * y;
    }
}

TEST(nifti_forms_that_disagree,
     "sform mirrored against qform: NIFTI; moved and turned: sform counts")
{
    VolumeI16 v = make_volume(), got;
    CHECK_STATUS(read_changed(&v, other_side, &got), ST_NIFTI);
    CHECK(strstr(err.msg, "sform and qform") != NULL);
    CHECK_OK(read_changed(&v, moved_a_little, &got), &err);
    CHECK_NEAR(got.grid.lps_from_vox.m[0][3], v.grid.lps_from_vox.m[0][3] - 30, 1e-3);
}
