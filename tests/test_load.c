/* Loading a folder: claim: whatever a person's folder holds beside one CT series is left out and
** named, or refused with a verdict; never is a damaged CT image left out. Method: folders of small
** files written byte by byte. */
#include "tests/test.h"

#include "base/arena.h"
#include "base/files.h"
#include "pipeline/load.h"
#include "tests/ct_file.h"

#include <sys/stat.h>

#define SECONDARY_CAPTURE "1.2.840.10008.5.1.4.1.1.7"
#define MR_IMAGE "1.2.840.10008.5.1.4.1.1.4"
#define DICOMDIR "1.2.840.10008.1.3.10"

static const GeometryLimits limits = {.min_slices = 3, .max_slices = 100};
static Arena arena;
static CtSeries series;
static Err err;

/* Writes NAME into the test's folder: a CT slice at z mm where `file` does not say otherwise. */
static void put(const char *name, CtFile file, int z_mm)
{
    char path[PATH_SIZE], position[32], sop_uid[64];
    CHECK_OK(path_format(path, &err, "%s/%s", test_dir(), name), &err);
    (void)snprintf(position, sizeof position, "-10\\-20.5\\%d", z_mm);
    (void)snprintf(sop_uid, sizeof sop_uid, "%s.%d",
                   file.series_uid != NULL ? file.series_uid : "1.2.9", z_mm + 1);
    if (file.position == NULL)
        file.position = position;
    if (file.sop_uid == NULL)
        file.sop_uid = sop_uid;
    ct_file_write(path, &file);
}

static void put_slices(const char *prefix, CtFile file, int n)
{
    char name[32];
    for (int i = 0; i < n; i++) {
        (void)snprintf(name, sizeof name, "%s%03d", prefix, i);
        put(name, file, 2 * i);
    }
}

static Status load(void)
{
    err = (Err){0};
    memset(&series, 0, sizeof series);
    arena_close(&arena);
    CHECK_OK(arena_open((size_t)1 << 28, &arena, &err), &err);
    return load_series_dir(test_dir(), &limits, 1, &arena, &series, &err);
}

TEST(load_names_what_it_leaves_out, "localizers and other classes by number; subfolders counted")
{
    char path[PATH_SIZE];
    put("a0", (CtFile){.image_type = "ORIGINAL\\PRIMARY\\LOCALIZER"}, 500);
    put("a1", (CtFile){.image_type = "ORIGINAL\\PRIMARY\\LOCALIZER"}, 600);
    put_slices("ct", (CtFile){0}, 5);
    CHECK_OK(load(), &err);
    CHECK_STR(series.dropped, "left out: 2 localizers (files 1, 2)");
    put("z0", (CtFile){.sop_class = SECONDARY_CAPTURE, .slope = "-"}, 0);
    CHECK_OK(path_format(path, &err, "%s/sub", test_dir()), &err);
    CHECK(mkdir(path, 0700) == 0);
    CHECK_OK(load(), &err);
    CHECK_STR(series.dropped,
              "left out: 2 localizers (files 1, 2), 1 not CT Image Storage (file 8)");
    CHECK_INT(series.geometry.n_slices, 5);
    CHECK_INT(series.geometry.n_dropped, 3);
    CHECK_INT(series.n_subfolders, 1);
    CHECK_INT(series.n_skipped, 0);
    for (int i = 0; i < 5; i++) /* paths and headers still belong to their slices */
        CHECK(strstr(series.paths[i], "/ct00") != NULL &&
              series.headers[i].instance.geometry.ipp_lps_mm[2] == 2.0 * i);
}

TEST(load_leaves_out_any_syntax,
     "MR, JPEG 2000, big endian, DICOMDIR: not CT is not judged further")
{
    put_slices("m", (CtFile){.sop_class = MR_IMAGE, .patient_name = "OTHER"}, 4);
    put_slices("ct", (CtFile){0}, 4);
    put("z0", (CtFile){.sop_class = SECONDARY_CAPTURE, .syntax = "1.2.840.10008.1.2.4.90"}, 0);
    put("z1", (CtFile){.sop_class = SECONDARY_CAPTURE, .syntax = "1.2.840.10008.1.2.2"}, 0);
    put("DICOMDIR", (CtFile){.sop_class = DICOMDIR, .rows = 1, .columns = 1}, 0);
    CHECK_OK(load(), &err); /* order: DICOMDIR, ct, m, z */
    CHECK_STR(series.dropped, "left out: 7 not CT Image Storage (files 1, 6-11)");
    CHECK_INT(series.geometry.n_slices, 4);
}

TEST(load_cuts_a_long_list, "every second of 60 files: the first five numbers, then dots")
{
    char name[32];
    put_slices("ct", (CtFile){0}, 4);
    for (int i = 0; i < 60; i++) {
        (void)snprintf(name, sizeof name, "z%02d", i);
        put(name,
            i % 2 == 0 ? (CtFile){.sop_class = MR_IMAGE}
                       : (CtFile){.image_type = "DERIVED\\SECONDARY\\LOCALIZER"},
            i);
    }
    CHECK_OK(load(), &err);
    CHECK_STR(series.dropped, "left out: 30 localizers (files 6, 8, 10, 12, 14, ...), "
                              "30 not CT Image Storage (files 5, 7, 9, 11, 13, ...)");
}

TEST(load_refuses_a_damaged_ct, "a CT image without rescale or in an unknown syntax is an error")
{
    put_slices("ct", (CtFile){0}, 4);
    put("z", (CtFile){.slope = "-"}, 8);
    CHECK_STATUS(load(), ST_DICOM_ATTRIBUTE);
    CHECK(strncmp(err.msg, "file 5: ", 8) == 0);
    put("z", (CtFile){.syntax = "1.2.840.10008.1.2.4.90"}, 8);
    CHECK_STATUS(load(), ST_DICOM_SYNTAX);
}

TEST(load_without_ct, "only other classes, or nothing: SERIES_NOT_CT, and what was there")
{
    char path[PATH_SIZE];
    CHECK_OK(path_format(path, &err, "%s/sub", test_dir()), &err);
    CHECK(mkdir(path, 0700) == 0);
    CHECK_STATUS(load(), ST_SERIES_NOT_CT);
    CHECK_STR(err.msg, "no DICOM file in the folder (0 other files, 1 subfolders not read)");
    CHECK_INT(series.n_subfolders, 1);
    put_slices("m", (CtFile){.sop_class = MR_IMAGE}, 4);
    CHECK_STATUS(load(), ST_SERIES_NOT_CT);
    CHECK_STR(err.msg, "none of 4 files is CT Image Storage");
    CHECK_STR(series.dropped, "left out: 4 not CT Image Storage (files 1-4)");
}

TEST(load_rescales_each_slice_by_its_own, "slope and intercept change from slice to slice")
{
    static const char *const SLOPES[] = {"1", "2", "0.5", "1", "4"};
    static const char *const INTERCEPTS[] = {"-1024", "-2000", "10", "0", "-1000.4"};
    static const double WANT[] = {-1024 + 300, -2000 + 600, 10 + 150, 300, 199.6};
    uint16_t cells[24];
    for (int i = 0; i < 24; i++)
        cells[i] = 300;
    for (int z = 0; z < 5; z++) {
        char name[8];
        (void)snprintf(name, sizeof name, "s%d", z);
        put(name, (CtFile){.cells = cells, .slope = SLOPES[z], .intercept = INTERCEPTS[z]}, 2 * z);
    }
    CHECK_OK(load(), &err);
    for (int z = 0; z < 5; z++)
        for (int i = 0; i < 24; i++)
            CHECK_INT(series.ct.v[24 * z + i], WANT[z] < -1024 ? -1024 : lrint(WANT[z]));
}

TEST(load_refuses_wrapped_air, "12 bits, unsigned, intercept above -100: HU_SCALE, with the slice")
{
    put_slices("ct", (CtFile){.bits_stored = 12, .intercept = "-1024"}, 5);
    CHECK_OK(load(), &err);
    put("ct002", (CtFile){.bits_stored = 12, .intercept = "-24"}, 4);
    CHECK_STATUS(load(), ST_HU_SCALE);
    CHECK(strstr(err.msg, "slice 3: 12 bits unsigned with Rescale Intercept -24") != NULL);
    put("ct002", (CtFile){.bits_stored = 12, .is_signed = true, .intercept = "0"}, 4);
    CHECK_OK(load(), &err);
    put("ct002", (CtFile){.bits_stored = 16, .intercept = "0"}, 4);
    CHECK_OK(load(), &err);
}

TEST(load_refuses_a_dense_rim,
     "air that wrapped, however it is stored: HU_SCALE; a dense spot is not")
{
    static const CtFile wrapped[] = {
        {.is_signed = true, .intercept = "0"},    /* 12 bits stored as 16 signed */
        {.bits_stored = 13, .intercept = "0"},    /* 13 unsigned */
        {.intercept = "0"},                       /* 16 unsigned */
        {.bits_stored = 12, .intercept = "-524"}, /* 12 with half the offset */
        {.bits_stored = 12, .intercept = "-976"},
    };
    static const uint16_t air[] = {3096, 7192, 64536, 3620, 4072};
    static const uint16_t soft[] = {40, 40, 40, 564, 1016};
    uint16_t cells[24];
    for (size_t k = 0; k < sizeof air / sizeof *air; k++) {
        (void)printf("# %zu\n", k);
        CtFile file = wrapped[k];
        file.cells = cells;
        for (int i = 0; i < 24; i++)
            cells[i] = i % 6 == 0 || i % 6 == 5 || i < 6 || i >= 18 ? air[k] : soft[k];
        put_slices("r", file, 4);
        CHECK_STATUS(load(), ST_HU_SCALE);
        CHECK(strstr(err.msg, "100 % of the images' rim") != NULL);
        for (int i = 1; i < 24; i++)
            cells[i] = soft[k]; /* one of 16 on the rim is left: 6 % */
        put_slices("r", file, 4);
        CHECK_STATUS(load(), ST_HU_SCALE);
        cells[0] = soft[k];
        cells[7] = air[k]; /* dense, not on the rim */
        put_slices("r", file, 4);
        CHECK_OK(load(), &err);
    }
}

TEST(load_refuses_two_series, "SERIES_MIXED with the number of series and of images, no UID")
{
    put_slices("a", (CtFile){0}, 3);
    put_slices("b", (CtFile){.series_uid = "1.2.3.77"}, 5);
    CHECK_STATUS(load(), ST_SERIES_MIXED);
    CHECK_STR(err.msg, "2 CT series (5, 3 images)");
    put_slices("c", (CtFile){.series_uid = "1.2.3.78", .patient_name = "OTHER"}, 4);
    CHECK_STATUS(load(), ST_SERIES_MIXED);
    CHECK_STR(err.msg, "3 CT series (5, 4, 3 images), of more than one patient");
}
