/* gpu/pack_file: the packed file. Claims: what is written is read back, statistics as computed by
** hand; every kind of damage (cut, huge lengths, overlap, case table, values) is refused with its
** own message, none crashes (run under make asan); nothing is left of a file that was given up. */
#include "tests/test.h"

#include "base/digest.h"
#include "base/files.h"
#include "gpu/pack_file.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

enum { SIDE = 32, PIXELS = SIDE * SIDE };

static const PackInfo INFO = {.pixels = SIDE,
                              .spacing_mm = 0.5,
                              .window_level_hu = 40,
                              .window_width_hu = 80,
                              .pose = POSE_REFERENCE,
                              .interpolation = INTERPOLATION_CUBIC,
                              .mask = MASK_BRAIN,
                              .target = "T2"};

static const char *in_dir(const char *name)
{
    static char path[PATH_SIZE];
    CHECK(path_format(path, NULL, "%s/%s", test_dir(), name) == ST_OK);
    return path;
}

/* Slice k: HU k in all pixels, mask in the first row, MR 1000 k + pixel everywhere. */
static void add_slice(PackWriter *w, int k)
{
    static int16_t hu[PIXELS];
    static uint8_t mask[PIXELS];
    static uint16_t mr[PIXELS];
    Err err = {0};
    for (int i = 0; i < PIXELS; i++) {
        hu[i] = (int16_t)(i % 2 == 0 ? k : 40 + k);
        mask[i] = i < SIDE;
        mr[i] = (uint16_t)(1000 * k + i);
    }
    CHECK_OK(pack_add_slice(w, hu, mask, mr, &err), &err);
}

static void write_good(const char *path)
{
    Err err = {0};
    PackWriter *w;
    CHECK_OK(pack_create(path, &INFO, &w, &err), &err);
    CHECK_OK(pack_begin_case(w, "00112233445566aa", 1.5, &err), &err);
    add_slice(w, 0);
    add_slice(w, 1);
    CHECK_OK(pack_begin_case(w, "00112233445566bb", 0, &err), &err);
    add_slice(w, 2);
    CHECK_OK(pack_end(w, "{\"by\":\"test\"}", &err), &err);
}

static int files_in_dir(void)
{
    int n = 0;
    DIR *dir = opendir(test_dir());
    CHECK(dir != NULL);
    for (const struct dirent *e; (e = readdir(dir)) != NULL;)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    (void)closedir(dir);
    return n;
}

TEST(pack_file_round_trip, "fields, cases, pixels and statistics are read as they were written")
{
    Err err = {0};
    Pack *pack;
    char path[PATH_SIZE], digest[DIGEST_HEX_SIZE];
    CHECK(path_format(path, NULL, "%s", in_dir("a.pack")) == ST_OK);
    write_good(path);
    CHECK_INT(files_in_dir(), 1);
    CHECK_OK(pack_open(path, &pack, &err), &err);
    const PackInfo *info = pack_info(pack);
    CHECK_INT(info->n_slices, 3);
    CHECK_INT(info->n_cases, 2);
    CHECK_INT(info->pixels, SIDE);
    CHECK(info->spacing_mm == 0.5 && info->window_level_hu == 40 && info->window_width_hu == 80);
    CHECK(info->pose == POSE_REFERENCE && info->mask == MASK_BRAIN);
    CHECK(info->interpolation == INTERPOLATION_CUBIC);
    CHECK_STR(info->target, "T2");
    CHECK_STR(info->axes, "LP");
    CHECK_STR(info->provenance, "{\"by\":\"test\"}");
    CHECK_OK(digest_file(path, digest, &err), &err);
    CHECK_STR(info->digest, digest);
    CHECK_STR(info->cases[1].id, "00112233445566bb");
    CHECK_INT(info->cases[1].first_slice, 2);
    CHECK_INT(info->cases[1].n_slices, 1);
    CHECK(info->cases[0].slice_spacing_mm == 1.5 && info->cases[1].slice_spacing_mm == 0);
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < PIXELS; i++) {
            CHECK_INT(pack_hu(pack, k)[i], i % 2 == 0 ? k : 40 + k);
            CHECK_INT(pack_mask(pack, k)[i], i < SIDE);
            CHECK_INT(pack_mr(pack, k)[i], i < SIDE ? 1000 * k + i : 0);
        }
        /* half the masked pixels at k/80, half at (40 + k)/80: mean in between, deviation 1/4 */
        CHECK_NEAR(info->statistics[k].masked_frac, 1.0 / SIDE, 1e-5);
        CHECK_NEAR(info->statistics[k].mean, (k + 20) / 80.0, 1e-5);
        CHECK_NEAR(info->statistics[k].deviation, 0.25, 1e-5);
    }
    pack_close(pack);
}

/* ---- damage -------------------------------------------------------------------------------- */

/* A file made of its parts: magic, stated length (SIZE_MAX: the true one), JSON, data_bytes zeros
** behind the padding. */
static void write_parts(const char *path, const char *magic, uint64_t length, const char *json,
                        size_t data_bytes)
{
    size_t n = strlen(json), end = (16 + n + 4095) / 4096 * 4096;
    char *file = calloc(1, end + data_bytes);
    CHECK(file != NULL);
    if (length == UINT64_MAX)
        length = n;
    memcpy(file, magic, 8);
    memcpy(file + 8, &length, 8);
    memcpy(file + 16, json, n);
    FILE *f = fopen(path, "wb");
    CHECK(f != NULL && fwrite(file, 1, end + data_bytes, f) == end + data_bytes && fclose(f) == 0);
    free(file);
}

static void check_refused(const char *path, const char *want)
{
    Pack *pack;
    Err err = {0};
    CHECK_STATUS(pack_open(path, &pack, &err), ST_PACK_FORMAT);
    if (strstr(err.msg, want) == NULL)
        test_fail(__FILE__, __LINE__, "message \"%s\" lacks \"%s\"", err.msg, want);
}

static const char GOOD[] =
    "{\"format\":\"ct2mr-pack-1\",\"target\":\"T1\",\"pose\":\"native\",\"mask\":\"head\",\"axes\":"
    "\"RA\","
    "\"pixels\":64,\"spacing_mm\":1,\"window\":{\"level_hu\":40,\"width_hu\":80},\"n_slices\":2,"
    "\"arrays\":{\"hu\":[0,16384],\"mask\":[16384,8192],\"mr\":[24576,16384]},"
    "\"cases\":[{\"id\":\"0011223344556677\",\"first_slice\":0,\"n_slices\":1,"
    "\"slice_spacing_mm\":1},{\"id\":\"0011223344556688\",\"first_slice\":1,\"n_slices\":1,"
    "\"slice_spacing_mm\":1}],\"statistics\":{\"masked\":[0,0],\"mean\":[0,0],\"deviation\":[0,0]},"
    "\"provenance\":{}}";
enum { GOOD_BYTES = 40960 };

typedef struct Change { /* of GOOD: the first `from` becomes `to` */
    const char *from, *to, *message;
} Change;

static const Change CHANGES[] = {
    {"{\"format", "[\"format", "header is not one JSON object"},
    {"ct2mr-pack-1", "ct2mr-pack-9", "format is not"},
    {"\"T1\"", "\"T3\"", "target is none of"},
    {"native", "nativ", "pose is none of"},
    {"head", "body", "mask none of"},
    {"\"RA\"", "\"AR\"", "axes is none of"},
    {"\"RA\"", "\"RAS\"", "axes is none of"},
    {"64", "63", "pixels is not a multiple of 32"},
    {"64", "4096", "pixels is not a multiple of 32"},
    {"\"spacing_mm\":1", "\"spacing_mm\":0", "spacing_mm is not"},
    {"\"spacing_mm\":1", "\"spacing_mm\":1e999", "spacing_mm is not"},
    {"\"width_hu\":80", "\"width_hu\":0", "window wants"},
    {"\"n_slices\":2", "\"n_slices\":2.5", "n_slices is not"},
    {"\"n_slices\":2", "\"n_slices\":0", "n_slices is not"},
    {"\"n_slices\":2", "\"n_slices\":1e18", "n_slices is not"},
    {"\"n_slices\":2", "\"n_slices\":200000", "the slices need"},
    {"[0,16384]", "[0,1e15]", "are not within the file's"},
    {"[0,16384]", "[9e15,16384]", "are not within the file's"},
    {"[0,16384]", "[-4096,16384]", "place is not two whole numbers"},
    {"[0,16384]", "[0.5,16384]", "place is not two whole numbers"},
    {"[0,16384]", "[0,16384,1]", "place is not two whole numbers"},
    {"[0,16384]", "[0,8192]", "the slices need"},
    {"[0,16384]", "[100,16384]", "not a multiple of 4096"},
    {"[16384,8192]", "[12288,8192]", "array mask overlaps array hu"},
    {"[24576,16384]", "[0,16384]", "array mr overlaps array mask"},
    {"[16384,8192]", "[20480,8192]", "unused bytes in front of array mask"},
    {"\"mr\"", "\"rm\"", "array mr: place is not"},
    {"\"cases\"", "\"case\"", "cases is not a list"},
    {"0011223344556677", "0011223344556688", "two cases have one id"},
    {"0011223344556677", "../../etc/passwd", "case 0: id is not"},
    {"\"first_slice\":1", "\"first_slice\":0", "case 1: begins at slice 0, the case before ends"},
    {"\"first_slice\":0,\"n_slices\":1", "\"first_slice\":0,\"n_slices\":3", "hold more slices"},
    {"\"first_slice\":1,\"n_slices\":1", "\"first_slice\":1,\"n_slices\":5", "hold more slices"},
    {"\"first_slice\":1,\"n_slices\":1", "\"first_slice\":1,\"n_slices\":0", "case 1: wants"},
    {",{\"id\":\"0011223344556688\",\"first_slice\":1,\"n_slices\":1,\"slice_spacing_mm\":1}", "",
     "hold fewer slices"},
    {"\"slice_spacing_mm\":1", "\"slice_spacing_mm\":-1", "case 0: wants"},
    {"\"mean\":[0,0]", "\"mean\":[0]", "statistics wants"},
    {"\"mean\":[0,0]", "\"mean\":[0,7]", "statistics wants"},
    {"\"provenance\":{}", "\"provenance\":1", "provenance is not an object"},
};

TEST(pack_file_damaged_header, "each damage of the JSON has its own message")
{
    Err err = {0};
    Pack *pack;
    char path[PATH_SIZE], json[2048];
    CHECK(path_format(path, NULL, "%s", in_dir("a.pack")) == ST_OK);
    write_parts(path, "CT2MRPK1", UINT64_MAX, GOOD, GOOD_BYTES);
    CHECK_OK(pack_open(path, &pack, &err), &err); /* else the changes below prove nothing */
    pack_close(pack);
    for (size_t i = 0; i < sizeof CHANGES / sizeof CHANGES[0]; i++) {
        const Change *c = &CHANGES[i];
        const char *at = strstr(GOOD, c->from);
        CHECK(at != NULL);
        (void)snprintf(json, sizeof json, "%.*s%s%s", (int)(at - GOOD), GOOD, c->to,
                       at + strlen(c->from));
        write_parts(path, "CT2MRPK1", UINT64_MAX, json, GOOD_BYTES);
        check_refused(path, c->message);
    }
}

TEST(pack_file_damaged_frame, "magic, lengths, cut and grown files")
{
    Err err = {0};
    Pack *pack;
    char path[PATH_SIZE];
    CHECK(path_format(path, NULL, "%s", in_dir("a.pack")) == ST_OK);
    CHECK_STATUS(pack_open(path, &pack, &err), ST_NOT_FOUND);
    check_refused(test_dir(), "is not a file");
    write_parts(path, "CT2MRPK2", UINT64_MAX, GOOD, GOOD_BYTES);
    check_refused(path, "does not begin with CT2MRPK1");
    write_parts(path, "CT2MRPK1", UINT64_MAX - 1, GOOD, GOOD_BYTES);
    check_refused(path, "header length 18446744073709551614 is beyond");
    write_parts(path, "CT2MRPK1", 1 << 20, GOOD, GOOD_BYTES);
    check_refused(path, "header length 1048576 is beyond");
    write_parts(path, "CT2MRPK1", 100, GOOD, GOOD_BYTES);
    check_refused(path, "header is not one JSON object");
    write_parts(path, "CT2MRPK1", UINT64_MAX, GOOD, GOOD_BYTES + 4096);
    check_refused(path, "4096 trailing bytes");
    write_parts(path, "CT2MRPK1", UINT64_MAX, GOOD, GOOD_BYTES - 1);
    check_refused(path, "was it cut?");
    CHECK(truncate(path, 16 + (off_t)strlen(GOOD)) == 0);
    check_refused(path, "ends with its header");
    CHECK(truncate(path, 15) == 0);
    check_refused(path, "file of 15 bytes has no header");
    CHECK(truncate(path, 0) == 0);
    check_refused(path, "file of 0 bytes has no header");
}

static void set_byte(const char *path, long at_from_end, int value)
{
    FILE *f = fopen(path, "r+b");
    CHECK(f != NULL && fseek(f, -at_from_end, SEEK_END) == 0 && fputc(value, f) == value);
    CHECK(fclose(f) == 0);
}

TEST(pack_file_damaged_values, "a mask value of 2 and MR outside the mask are refused")
{
    char path[PATH_SIZE];
    CHECK(path_format(path, NULL, "%s", in_dir("a.pack")) == ST_OK);
    write_parts(path, "CT2MRPK1", UINT64_MAX, GOOD, GOOD_BYTES);
    set_byte(path, 16384 + 1, 2);
    check_refused(path, "slice 1: a mask value is neither 0 nor 1");
    set_byte(path, 16384 + 1, 1);
    set_byte(path, 16384, 9);
    check_refused(path, "slice 0: MR outside the mask is not 0");
}

/* ---- the writer ---------------------------------------------------------------------------- */

TEST(pack_file_writer_refuses, "what no reader would accept is refused; nothing is left behind")
{
    Err err = {0};
    PackWriter *w;
    PackInfo info = INFO;
    const char *path = in_dir("b.pack");
    info.pixels = 48;
    CHECK_STATUS(pack_create(path, &info, &w, &err), ST_USAGE);
    info = INFO;
    info.target[0] = '\0';
    CHECK_STATUS(pack_create(path, &info, &w, &err), ST_USAGE);
    CHECK_STATUS(pack_create("/nonexistent/x.pack", &INFO, &w, &err), ST_NOT_FOUND);

    static int16_t hu[PIXELS];
    static uint8_t mask[PIXELS];
    static uint16_t mr[PIXELS];
    CHECK_OK(pack_create(path, &INFO, &w, &err), &err);
    CHECK_STATUS(pack_add_slice(w, hu, mask, mr, &err), ST_STATE);
    CHECK_STATUS(pack_begin_case(w, "0011", 1, &err), ST_USAGE);
    CHECK_STATUS(pack_begin_case(w, "0011223344556677", -1, &err), ST_USAGE);
    CHECK_OK(pack_begin_case(w, "0011223344556677", 1, &err), &err);
    CHECK_STATUS(pack_begin_case(w, "0011223344556677", 1, &err), ST_USAGE);
    mask[7] = 2;
    CHECK_STATUS(pack_add_slice(w, hu, mask, mr, &err), ST_USAGE);
    CHECK_STATUS(pack_end(w, "{}", &err), ST_STATE); /* the case has no slice */

    CHECK_OK(pack_create(path, &INFO, &w, &err), &err);
    CHECK_OK(pack_begin_case(w, "0011223344556677", 1, &err), &err);
    add_slice(w, 1);
    CHECK_STATUS(pack_end(w, "no JSON", &err), ST_USAGE);

    CHECK_OK(pack_create(path, &INFO, &w, &err), &err);
    CHECK_STATUS(pack_end(w, "{}", &err), ST_STATE);
    CHECK_OK(pack_create(path, &INFO, &w, &err), &err);
    pack_abandon(w);

    /* a slice written in part would shift all later ones against their masks */
    const struct rlimit limit = {PIXELS * 3, RLIM_INFINITY}, none = {RLIM_INFINITY, RLIM_INFINITY};
    CHECK_OK(pack_create(path, &INFO, &w, &err), &err);
    CHECK_OK(pack_begin_case(w, "0011223344556677", 1, &err), &err);
    add_slice(w, 1);
    mask[7] = 0;
    (void)signal(SIGXFSZ, SIG_IGN);
    CHECK(!pack_has_failed(w) && setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK_STATUS(pack_add_slice(w, hu, mask, mr, &err), ST_IO);
    CHECK(pack_has_failed(w) && setrlimit(RLIMIT_FSIZE, &none) == 0);
    CHECK_STATUS(pack_add_slice(w, hu, mask, mr, &err), ST_STATE);
    CHECK_STATUS(pack_end(w, "{}", &err), ST_STATE);
    pack_abandon(NULL);
    pack_close(NULL);
    CHECK_INT(files_in_dir(), 0);
}
