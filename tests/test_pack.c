/* pipeline/pack: from pairs to a packed file. Claims: percentiles, names, lists as worked out by
** hand; MR images are read as they were written, nothing else is taken for them; pictures land
** where and as they should, the couch does not; a CT and a displaced MR of one head (simulated,
** Colin27) are laid over each other to 2 mm and to less than a slice's worth of intensity, and
** what the MR does not cover is left out; a case that fails is left out and said. */
#include "tests/test.h"

#include "base/random.h"
#include "daemon/cli.h"
#include "pipeline/mr_io.h"
#include "pipeline/nifti.h"
#include "pipeline/pack.h"
#include "pipeline/png_file.h"
#include "pipeline/simulate.h"
#include "tests/ct_file.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEMPLATES "/usr/share/mricron/templates/"

static const char *in_dir(const char *name)
{
    static char paths[8][PATH_SIZE];
    static int next;
    char *path = paths[next++ % 8];
    CHECK(path_format(path, NULL, "%s/%s", test_dir(), name) == ST_OK);
    return path;
}

static void write_text(const char *name, const char *text)
{
    Err err = {0};
    CHECK_OK(file_write_durable(in_dir(name), text, strlen(text), &err), &err);
}

TEST(pack_percentiles_by_hand, "of the masked values only; none of nothing or of equals")
{
    enum { COUNT = 1001 };
    float v[COUNT];
    uint8_t mask[COUNT];
    double low, high;
    for (int i = 0; i < COUNT; i++) {
        v[i] = (float)((i * 8) % COUNT); /* 0..1000 in another order */
        mask[i] = v[i] <= 500;
    }
    v[3] = v[4] = v[7] = NAN; /* 24, 32, 56: not counted */
    mask[7] = 1;
    CHECK(pack_percentiles(v, NULL, COUNT, 0.5, 99.5, &low, &high));
    CHECK_NEAR(low, 4, 0); /* of 998 */
    CHECK_NEAR(high, 995, 0);
    CHECK(pack_percentiles(v, mask, COUNT, 0, 50, &low, &high));
    CHECK_NEAR(low, 0, 0);
    CHECK_NEAR(high, 251, 0);
    memset(mask, 0, sizeof mask);
    CHECK(!pack_percentiles(v, mask, COUNT, 0, 100, &low, &high));
    for (int i = 0; i < COUNT; i++)
        v[i] = 3;
    CHECK(!pack_percentiles(v, NULL, COUNT, 0, 100, &low, &high));
}

TEST(pack_ids, "one name and salt, one id; another salt or name, another")
{
    char a[PACK_ID_SIZE], b[PACK_ID_SIZE];
    pack_case_id("salt", "A. Patient", a);
    pack_case_id("salt", "A. Patient", b);
    CHECK_STR(a, b);
    CHECK_INT(strlen(a), 16);
    CHECK_INT(strspn(a, "0123456789abcdef"), 16);
    pack_case_id("salt2", "A. Patient", b);
    CHECK(strcmp(a, b) != 0);
    pack_case_id("saltA.", " Patient", b);
    CHECK(strcmp(a, b) != 0);
}

static void check_list_refused(const char *text, const char *want)
{
    PackPair *pairs;
    int32_t n;
    Err err = {0};
    write_text("l.csv", text);
    CHECK_STATUS(pack_list_read(in_dir("l.csv"), &pairs, &n, &err), ST_USAGE);
    if (strstr(err.msg, want) == NULL)
        test_fail(__FILE__, __LINE__, "\"%s\" lacks \"%s\"", err.msg, want);
}

TEST(pack_list, "columns in any order, relative paths, blanks, quotes, a byte order mark; what is "
                "wrong is named by its line")
{
    PackPair *pairs;
    int32_t n;
    Err err = {0};
    write_text("l.csv", "mr, case ,other,ct\r\n m1 ,one,x,/abs/c1\r\n\r\nm2,two,,c 2\n");
    CHECK_OK(pack_list_read(in_dir("l.csv"), &pairs, &n, &err), &err);
    CHECK_INT(n, 2);
    CHECK_STR(pairs[0].name, "one");
    CHECK_STR(pairs[0].ct, "/abs/c1");
    CHECK_STR(pairs[0].mr, in_dir("m1"));
    CHECK_STR(pairs[1].ct, in_dir("c 2"));
    CHECK(pairs[0].line == 2 && pairs[1].line == 4);
    free(pairs);
    check_list_refused("case,ct\na,b\n", "no column \"mr\"");
    check_list_refused("case,ct,mr\na,b\n", "line 2: a field is missing");
    check_list_refused("case,ct,mr\na,b,c\n\na,d,e\n", "line 4: the case was named before");
    check_list_refused("\n \t\r\ncase,ct,mr\na,b\n", "line 4: a field is missing");
    check_list_refused("case,ct,mr,ct\na,b,c,d\n", "line 1: more than one column \"ct\"");
    check_list_refused("case;ct;mr\na;b;c\n",
                       "semicolons or tabs between its fields; it wants commas");
    check_list_refused("case\tct\tmr\n", "it wants commas");
    check_list_refused("case,ct,mr\ra,b,c\ra,b\r", "line 3: a field is missing");
    check_list_refused("case,ct,mr\n\"a,b,c\n", "line 2: a field's quotes");
    check_list_refused("case,ct,mr\n\"a\"b,b,c\n", "line 2: a field's quotes");
    write_text("l.csv",
               "\xef\xbb\xbf\"case\",ct,\"mr\"\r\n \"Doe, \"\"J\"\"\" ,\"a,b\", \"c \" \r\n");
    CHECK_OK(pack_list_read(in_dir("l.csv"), &pairs, &n, &err), &err);
    CHECK_INT(n, 1);
    CHECK_STR(pairs[0].name, "Doe, \"J\"");
    CHECK_STR(pairs[0].ct, in_dir("a,b"));
    CHECK_STR(pairs[0].mr, in_dir("c "));
    free(pairs);
    write_text("l.csv", "case,ct,mr\rone,c1,m1\r, ,\rtwo,c2,m2");
    CHECK_OK(pack_list_read(in_dir("l.csv"), &pairs, &n, &err), &err);
    CHECK(n == 2 && pairs[1].line == 4);
    CHECK_STR(pairs[1].mr, in_dir("m2"));
    free(pairs);
    check_list_refused("case,ct,mr\n", "names no case");
    check_list_refused("\n\n", "names no case");
}

/* ---- MR images ------------------------------------------------------------------------------- */

static const char *modality = "MR", *rescale_type = "-", *comments = "-", *maker; /* the next */
static int padding;                                                               /* 0: none */

static void write_mr(const char *name, int z, const char *series, const char *sop_class,
                     const char *slope)
{
    static uint16_t cells[4 * 6];
    char position[64], sop[32];
    for (int i = 0; i < 4 * 6; i++)
        cells[i] = (uint16_t)(60000 + 100 * z + i);
    (void)snprintf(position, sizeof position, "-10\\-20.5\\%d", 3 * z);
    (void)snprintf(sop, sizeof sop, "1.2.3.4.%d", z + 10);
    const CtFile file = {.cells = cells,
                         .slope = slope,
                         .intercept = slope,
                         .position = position,
                         .sop_uid = sop,
                         .series_uid = series,
                         .modality = modality,
                         .rescale_type = rescale_type,
                         .comments = comments,
                         .model = maker,
                         .has_padding = padding != 0,
                         .padding = (uint16_t)padding,
                         .sop_class = sop_class};
    ct_file_write(in_dir(name), &file);
}

static Status read_mr(Arena *arena, VolumeF32 *ret, MrSource *source, Err *err)
{
    *err = (Err){0};
    arena_reset(arena, 0);
    return mr_read(in_dir("mr"), 2, arena, ret, source, err);
}

TEST(pack_mr_series, "MR without rescale: stored values in order; other classes and series are not")
{
    Arena arena = {0};
    VolumeF32 mr;
    MrSource source;
    Err err = {0};
    CHECK_OK(arena_open((size_t)1 << 28, &arena, &err), &err);
    CHECK_OK(dir_make(in_dir("mr"), &err), &err);
    CHECK_STATUS(read_mr(&arena, &mr, &source, &err), ST_SERIES_NOT_MR);
    write_mr("mr/ct.dcm", 9, "1.2.9", NULL, NULL);
    CHECK_STATUS(read_mr(&arena, &mr, &source, &err), ST_SERIES_NOT_MR);
    for (int i = 0; i < 5; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "mr/%d.dcm", (i * 3) % 5);
        write_mr(name, i, "1.2.3.2", UID_MR_IMAGE, "-");
    }
    CHECK_OK(read_mr(&arena, &mr, &source, &err), &err);
    CHECK(mr.grid.nx == 6 && mr.grid.ny == 4 && mr.grid.nz == 5);
    CHECK_NEAR(grid_spacing_mm(&mr.grid, 2), 3, 1e-9);
    CHECK_NEAR(mr.grid.lps_from_vox.m[1][3], -20.5, 1e-9);
    for (int i = 0; i < 5 * 24; i++)
        CHECK_NEAR(mr.v[i], 60000 + 100 * (i / 24) + i % 24, 0);
    CHECK_INT(strlen(source.patient_key), 64);
    CHECK(!source.is_synthetic);
    write_mr("mr/2.dcm", 4, "1.2.3.2", UID_MR_IMAGE, "2"); /* slope and intercept 2 */
    CHECK_OK(read_mr(&arena, &mr, &source, &err), &err);
    CHECK_NEAR(mr.v[4 * 24 + 1], 2 * 60401 + 2, 0);
    padding = 60400 + 13; /* row 2, column 1: tissue may have that value */
    write_mr("mr/2.dcm", 4, "1.2.3.2", UID_MR_IMAGE, "-");
    CHECK_OK(read_mr(&arena, &mr, &source, &err), &err);
    CHECK_NEAR(mr.v[4 * 24 + 13], padding, 0);
    padding = 60400 + 12; /* column 0: the border */
    comments = "SYNTHETIC MR - NOT FOR DIAGNOSIS";
    write_mr("mr/2.dcm", 4, "1.2.3.2", UID_MR_IMAGE, "-");
    CHECK_OK(read_mr(&arena, &mr, &source, &err), &err);
    CHECK(mr.v[4 * 24 + 12] == 0 && source.is_synthetic);
    comments = "-";
    padding = 0;
    write_mr("mr/2.dcm", 4, "1.2.3.2", UID_MR_IMAGE, "-");
    maker = "ct2mr"; /* one slice, in the middle, is enough */
    write_mr("mr/1.dcm", 2, "1.2.3.2", UID_MR_IMAGE, "-");
    CHECK_OK(read_mr(&arena, &mr, &source, &err), &err);
    CHECK(source.is_synthetic);
    maker = NULL;
    write_mr("mr/1.dcm", 2, "1.2.3.2", UID_MR_IMAGE, "-");
    CHECK_OK(read_mr(&arena, &mr, &source, &err), &err);
    CHECK(!source.is_synthetic);
    write_mr("mr/6.dcm", 6, "1.2.3.9", UID_MR_IMAGE, "-");
    CHECK_STATUS(read_mr(&arena, &mr, &source, &err), ST_SERIES_MIXED);
    CHECK(unlink(in_dir("mr/6.dcm")) == 0);
    write_mr("mr/6.dcm", 6, "1.2.3.2", UID_MR_IMAGE, "-");
    CHECK_STATUS(read_mr(&arena, &mr, &source, &err), ST_SERIES_GAP); /* slice 5 is missing */
    modality = "CT"; /* an export that says MR Image Storage all the same */
    write_mr("mr/6.dcm", 5, "1.2.3.2", UID_MR_IMAGE, "-");
    CHECK_STATUS(read_mr(&arena, &mr, &source, &err), ST_SERIES_NOT_MR);
    CHECK(strstr(err.msg, "Modality is not MR") != NULL);
    modality = "-";
    rescale_type = "HU";
    write_mr("mr/6.dcm", 5, "1.2.3.2", UID_MR_IMAGE, "1");
    CHECK_STATUS(read_mr(&arena, &mr, &source, &err), ST_SERIES_NOT_MR);
    CHECK(strstr(err.msg, "HU") != NULL);
    arena_close(&arena);
}

/* ---- pictures -------------------------------------------------------------------------------- */

enum { W = 60, H = 50, GRID = 64 };

/* CT: a ring of 200 around 10, a bar (couch) apart; MR: 40 left, 240 right half, noise 3 outside.
*/
static void write_pictures(const char *name)
{
    static uint8_t ct[W * H], mr[W * H];
    char path[64];
    Err err = {0};
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            double r = hypot(x - 30, y - 20);
            ct[y * W + x] = r < 12 ? 10 : r < 15 ? 200 : y > 44 && y < 48 ? 220 : 0;
            mr[y * W + x] = r >= 15 ? 3 : x < 30 ? 40 : 240;
        }
    (void)snprintf(path, sizeof path, "ct/%s", name);
    CHECK_OK(png_write_grey(in_dir(path), ct, W, H, &err), &err);
    (void)snprintf(path, sizeof path, "mr/%s", name);
    CHECK_OK(png_write_grey(in_dir(path), mr, W, H, &err), &err);
}

/* Voxel axes to the right and to the front, as Colin27's. */
static const VolumeI16 REFERENCE = {{4, 4, 4, {{{-1, 0, 0, 0}, {0, -1, 0, 0}, {0, 0, 1, 0}}}},
                                    NULL};

static PackSpec picture_spec(void)
{
    return (PackSpec){.reference = &REFERENCE,
                      .low_percent = 0.5,
                      .high_percent = 99.5,
                      .wanted = {.target = "T2",
                                 .grid_pixels = GRID,
                                 .grid_spacing_mm = 1,
                                 .window_level_hu = 40,
                                 .window_width_hu = 80,
                                 .pose = POSE_REFERENCE}};
}

TEST(pack_pictures, "centred, turned as the reference lies, HU by the window, no couch, MR 0..1")
{
    PackSpec spec = picture_spec();
    PackInfo info;
    PackWriter *writer;
    PngList list;
    PackFacts facts;
    Pack *pack;
    Err err = {0};
    CHECK_OK(dir_make(in_dir("ct"), &err), &err);
    CHECK_OK(dir_make(in_dir("mr"), &err), &err);
    write_pictures("10002.PNG");
    write_pictures("10001.png");
    write_pictures("9007.png");
    CHECK_OK(pack_png_list(in_dir("ct"), in_dir("mr"), &list, &err), &err);
    const PngPair *pairs = list.pairs;
    CHECK_INT(list.n, 3);
    CHECK_INT(list.n_odd, 0);
    CHECK_STR(pairs[0].name, "9");
    CHECK_STR(pairs[1].name, "10");
    CHECK_STR(pairs[1].ct, in_dir("ct/10001.png"));
    CHECK_OK(pack_info_for(&spec, &info, &err), &err);
    CHECK_STR(info.axes, "RA");
    CHECK_OK(pack_create(in_dir("p.pack"), &info, &writer, &err), &err);
    CHECK_OK(pack_png_case(&spec, "0123456789abcdef", pairs + 1, 2, writer, &facts, &err), &err);
    CHECK_INT(facts.n_slices, 2);
    CHECK_NEAR(facts.mr_low, 40, 0);
    CHECK_NEAR(facts.mr_high, 240, 0);
    CHECK_OK(pack_end(writer, "{}", &err), &err);
    CHECK_OK(pack_open(in_dir("p.pack"), &pack, &err), &err);
    CHECK(pack_info(pack)->cases[0].slice_spacing_mm == 0);
    for (int y = 0; y < GRID; y++)
        for (int x = 0; x < GRID; x++) {
            int i = (GRID - 1 - y) * GRID + GRID - 1 - x; /* both axes turned */
            int px = x - 2, py = y - 7;                   /* of the picture */
            double r = hypot(px - 30, py - 20);
            CHECK_INT(pack_mask(pack, 0)[i], r < 15);
            CHECK_INT(pack_mr(pack, 0)[i], r < 15 && px >= 30 ? 65535 : 0);
            if (px >= 0 && px < W && py >= 0 && py < H) {
                int grey = r < 12 ? 10 : r < 15 ? 200 : py > 44 && py < 48 ? 220 : 0;
                CHECK_INT(pack_hu(pack, 0)[i], lrint(grey / 255.0 * 80));
            }
        }
    pack_close(pack);
    spec.wanted.grid_pixels = 32;
    info.pixels = 32;
    CHECK_OK(pack_create(in_dir("q.pack"), &info, &writer, &err), &err);
    CHECK_STATUS(pack_png_case(&spec, "0123456789abcdef", pairs, 1, writer, &facts, &err),
                 ST_PACK_CASE);
    pack_abandon(writer);
    pack_png_list_free(&list);
}

TEST(pack_pictures_that_do_not_belong,
     "unpaired and misnamed ones are left out by number; another size, twice the same, a CT as MR")
{
    static uint8_t small[W * (H - 1)];
    PackSpec spec = picture_spec();
    PackSeen seen = {0};
    PackInfo info;
    PackWriter *writer;
    PackFacts facts;
    PngList list;
    Err err = {0};
    CHECK_OK(dir_make(in_dir("ct"), &err), &err);
    CHECK_OK(dir_make(in_dir("mr"), &err), &err);
    CHECK_STATUS(pack_png_list(in_dir("ct"), in_dir("mr"), &list, &err), ST_NOT_FOUND);
    pack_png_list_free(&list);
    write_pictures("10001.png");
    write_pictures("20001.png");
    write_pictures("30001.png");
    write_pictures("40001.png");
    write_pictures("x.png");
    CHECK(unlink(in_dir("mr/20001.png")) == 0 && unlink(in_dir("ct/40001.png")) == 0);
    CHECK_OK(pack_png_list(in_dir("ct"), in_dir("mr"), &list, &err), &err);
    CHECK_INT(list.n, 2);
    CHECK_STR(list.pairs[1].name, "30");
    CHECK_INT(list.n_odd, 3);
    CHECK(!list.odd[0].is_mr && list.odd[0].number == 2);
    CHECK(list.odd[1].is_mr && list.odd[1].number == 3);
    CHECK(strstr(list.odd[1].why, "no partner") != NULL);
    CHECK(list.odd[2].number == 4 && strstr(list.odd[2].why, "three digits") != NULL);

    CHECK_OK(pack_info_for(&spec, &info, &err), &err);
    CHECK_OK(pack_create(in_dir("p.pack"), &info, &writer, &err), &err);
    CHECK_OK(pack_png_case(&spec, "0123456789abcdef", list.pairs, 1, writer, &facts, &err), &err);
    CHECK_OK(pack_seen_add(&seen, 7, &facts, &err), &err);
    spec.seen = &seen;
    CHECK_STATUS(pack_png_case(&spec, "0123456789abcdee", list.pairs + 1, 1, writer, &facts, &err),
                 ST_PACK_CASE);
    CHECK(strstr(err.msg, "its CT and MR are that of case 7") != NULL);
    spec.seen = NULL;
    CHECK_OK(png_write_grey(in_dir("mr/30001.png"), small, W, H - 1, &err), &err);
    err = (Err){0};
    CHECK_STATUS(pack_png_case(&spec, "0123456789abcdee", list.pairs + 1, 1, writer, &facts, &err),
                 ST_PACK_CASE);
    CHECK(strstr(err.msg,
                 "PNG file 3 by name in the CT folder is of 60 x 50 pixels, its MR of 60 x 49") !=
          NULL);
    write_text("mr/30001.png", "no picture");
    err = (Err){0};
    CHECK_STATUS(pack_png_case(&spec, "0123456789abcdee", list.pairs + 1, 1, writer, &facts, &err),
                 ST_UNSUPPORTED);
    CHECK_STR(err.msg, "PNG file 2 by name in the MR folder: not a PNG picture");
    CHECK(unlink(in_dir("mr/30001.png")) == 0);
    err = (Err){0};
    CHECK_STATUS(pack_png_case(&spec, "0123456789abcdee", list.pairs + 1, 1, writer, &facts, &err),
                 ST_NOT_FOUND);
    CHECK(strncmp(err.msg, "PNG file 2 by name in the MR folder: opening it: ", 49) == 0);
    static uint8_t large[1 << 12];
    CHECK_OK(png_write_grey(in_dir("mr/30001.png"), large, 1 << 12, 1, &err), &err);
    CHECK_STATUS(pack_png_case(&spec, "0123456789abcdee", list.pairs + 1, 1, writer, &facts, &err),
                 ST_PACK_CASE); /* of this case alone */
    CHECK(strstr(err.msg, "at most 2048") != NULL);
    memcpy(list.pairs[1].mr, list.pairs[1].ct, PATH_SIZE);
    err = (Err){0};
    CHECK_STATUS(pack_png_case(&spec, "0123456789abcdee", list.pairs + 1, 1, writer, &facts, &err),
                 ST_PACK_CASE);
    CHECK(strstr(err.msg, "the MR is a CT") != NULL);
    pack_abandon(writer);
    pack_png_list_free(&list);
    pack_seen_free(&seen);
}

static void fill_slice(VolumeF32 *mr, int z, float first)
{
    for (int i = 0; i < mr->grid.nx * mr->grid.ny; i++)
        mr->v[z * mr->grid.nx * mr->grid.ny + i] = first > 0 ? first + (float)i : first;
}

TEST(pack_mr_slices, "blank ends are right; blank between others, or one slice twice, is not")
{
    static float v[6 * 20];
    VolumeF32 mr = {{4, 5, 6, affine_identity()}, v};
    Err err = {0};
    for (int z = 1; z < 5; z++)
        fill_slice(&mr, z, (float)z);
    for (int i = 0; i < 20; i++)
        v[5 * 20 + i] = NAN;
    CHECK_OK(pack_mr_slices_gate(&mr, &err), &err);
    fill_slice(&mr, 3, 0);
    CHECK_STATUS(pack_mr_slices_gate(&mr, &err), ST_PACK_CASE);
    CHECK(strstr(err.msg, "blank between slices 2 and 4") != NULL);
    for (int i = 0; i < 20; i++)
        v[3 * 20 + i] = NAN;
    CHECK_STATUS(pack_mr_slices_gate(&mr, &err), ST_PACK_CASE);
    v[3 * 20 + 7] = 1;
    CHECK_OK(pack_mr_slices_gate(&mr, &err), &err);
    fill_slice(&mr, 3, 4);
    CHECK_STATUS(pack_mr_slices_gate(&mr, &err), ST_PACK_CASE);
    CHECK(strstr(err.msg, "slices 3 and 4 of the MR (the first is 0) are one") != NULL);
    v[3 * 20 + 19]++;
    CHECK_OK(pack_mr_slices_gate(&mr, &err), &err);
}

static float clipped(double x, double low, double high)
{
    return (float)fmin(fmax(x, low), high);
}

TEST(pack_mr_is_no_ct,
     "a CT in a window, with noise, inverted, in another unit: refused; T1, T2 not")
{
    enum { COUNT = 20000, KINDS = 7 };
    static int16_t hu[COUNT];
    static uint8_t mask[COUNT];
    static float mr[KINDS][COUNT];
    Random random = random_stream(3, 0, 0);
    for (int i = 0; i < COUNT; i++) { /* bone, fluid, grey and white matter, fat */
        static const double HU[] = {900, 8, 38, 29, -90}, T1[] = {10, 20, 72, 108, 140},
                            T2[] = {10, 150, 80, 60, 70};
        int tissue = i % 20 < 3 ? 0 : i % 20 < 6 ? 1 : i % 20 < 12 ? 2 : i % 20 < 18 ? 3 : 4;
        double x = HU[tissue] + 6 * random_normal(&random);
        hu[i] = (int16_t)lrint(x);
        mask[i] = 1;
        mr[0][i] = (float)(T1[tissue] + 6 * random_normal(&random));
        mr[1][i] = (float)(T2[tissue] + 6 * random_normal(&random));
        mr[2][i] = clipped(x, 0, 80);
        mr[3][i] = clipped(x + 5 * random_normal(&random), -20, 100);
        mr[4][i] = (float)(3000 - x);
        mr[5][i] = clipped(80 - x, 0, 80);
        mr[6][i] = clipped((x + 160) * 255 / 400, 0, 255);
    }
    for (int k = 0; k < KINDS; k++) {
        Err err = {0};
        Status status = pack_pair_gate(hu, mr[k], mask, COUNT, &err);
        (void)printf("# kind %d: %.3f, soft tissue %.3f\n", k,
                     pack_correlation(hu, mr[k], mask, COUNT, INT16_MIN, INT16_MAX),
                     pack_correlation(hu, mr[k], mask, COUNT, 1, 79));
        if (status != (k < 2 ? ST_OK : ST_PACK_CASE))
            test_fail(__FILE__, __LINE__, "kind %d: %s", k, status_name(status));
    }
}

TEST(pack_gates, "air in HU is no MR; contents are the same turned, another with one voxel changed")
{
    enum { COUNT = 1000 };
    static float v[COUNT], turned[COUNT];
    static int16_t hu[COUNT], turned_hu[COUNT];
    Err err = {0};
    for (int i = 0; i < COUNT; i++) {
        v[i] = turned[COUNT - 1 - i] = (float)(i % 97);
        hu[i] = turned_hu[COUNT - 1 - i] = (int16_t)(i % 97 - 50);
    }
    CHECK(pack_content(v, COUNT) == pack_content(turned, COUNT));
    CHECK(pack_content_hu(hu, COUNT) == pack_content_hu(turned_hu, COUNT));
    turned[5]++;
    turned_hu[5]++;
    CHECK(pack_content(v, COUNT) != pack_content(turned, COUNT));
    CHECK(pack_content_hu(hu, COUNT) != pack_content_hu(turned_hu, COUNT));
    for (int i = 0; i < 49; i++)
        v[i * 20] = -1000;
    CHECK_OK(pack_mr_gate(v, COUNT, &err), &err);
    v[1] = -500;
    CHECK_STATUS(pack_mr_gate(v, COUNT, &err), ST_PACK_CASE);
    CHECK(strstr(err.msg, "the MR is a CT: 5 %") != NULL);
}

TEST(pack_one_patient, "in two cases is refused; unknown ones are not compared")
{
    PackFacts first = {.ct_content = 1, .mr_content = 1, .patient = "ab"},
              second = {.ct_content = 2, .mr_content = 2, .patient = "ab"};
    PackSeen seen = {.unit = "line"};
    Err err = {0};
    pack_sketch(NULL, 1, 0, first.ct_sketch);
    pack_sketch(NULL, 1, 0, second.ct_sketch);
    CHECK_OK(pack_seen_add(&seen, 5, &first, &err), &err);
    CHECK_STATUS(pack_seen_check(&seen, &second, &err), ST_SERIES_PATIENT);
    CHECK_STR(err.msg, "its patient is that of line 5: one head in two cases, which are split; "
                       "--any-patient packs both");
    second.patient[1] = 'c';
    CHECK_OK(pack_seen_check(&seen, &second, &err), &err);
    first.patient[0] = second.patient[0] = '\0';
    CHECK_OK(pack_seen_add(&seen, 6, &first, &err), &err);
    CHECK_OK(pack_seen_check(&seen, &second, &err), &err);
    pack_seen_free(&seen);
}

TEST(pack_mr_scaled, "to 0..1 between two intensities; a fifth beyond one of them is refused")
{
    enum { COUNT = 1000 };
    static float mr[COUNT];
    static uint8_t mask[COUNT];
    const PackSpec range = {.has_range = true, .low = 100, .high = 1100};
    const PackSpec percentiles = {.low_percent = 10, .high_percent = 90};
    const double shifts[] = {0, -200, -202, 199, 203};
    PackFacts facts = {0};
    Err err = {0};
    for (int k = 0; k < 5; k++) {
        for (int i = 0; i < COUNT; i++) {
            mask[i] = i != 0;
            mr[i] = (float)(101 + i + shifts[k]);
        }
        Status status = pack_scale_mr(&range, mask, COUNT, mr, &facts, &err);
        CHECK_INT(status, k == 2 || k == 4 ? ST_PACK_CASE : ST_OK);
        if (k == 0)
            CHECK(mr[0] == 0 && fabsf(mr[500] - 0.501f) < 1e-6f);
    }
    CHECK(strstr(err.msg, "0 % is below 100 and 20 % above 1100") != NULL);
    for (int i = 0; i < COUNT; i++)
        mr[i] = (float)(i / 3);
    CHECK_OK(pack_scale_mr(&percentiles, mask, COUNT, mr, &facts, &err), &err);
    CHECK(facts.mr_low == 33 && facts.mr_high == 299);
}

TEST(pack_one_value, "the part of a mask that has one value, 0 or another, also once resampled")
{
    enum { COUNT = 20000 };
    static float mr[COUNT];
    static uint8_t mask[COUNT];
    for (int i = 0; i < COUNT; i++) {
        mask[i] = i % 2 == 0;
        mr[i] = i % 2 == 1      ? 7
                : i < COUNT / 4 ? 100.0f + (float)(i % 4) * 1e-5f
                                : 100.0f + (float)i;
    }
    CHECK_NEAR(pack_one_value_frac(mr, mask, COUNT), 0.25, 0.01);
    for (int i = 0; i < COUNT; i++)
        mr[i] = i < COUNT / 2 ? 0 : (float)i;
    CHECK_NEAR(pack_one_value_frac(mr, mask, COUNT), 0.5, 0.01);
    mr[0] = 1e30f; /* a value far off hides nothing */
    CHECK_NEAR(pack_one_value_frac(mr, mask, COUNT), 0.5, 0.01);
    CHECK(pack_one_value_frac(mr, mask, 2) == 1);
    CHECK(pack_one_value_frac(mr, mask + 1, 1) == 0);
}

TEST(pack_shared_slices, "a CT with its first slices cut is one head; blank slices are nobody's")
{
    enum { PIXELS = 50, SLICES = 180 };
    static int16_t a[SLICES * PIXELS], b[SLICES * PIXELS];
    PackFacts first = {.ct_content = 1, .mr_content = 1},
              second = {.ct_content = 2, .mr_content = 2};
    PackSeen seen = {.unit = "line"};
    Err err = {0};
    for (int i = 0; i < SLICES * PIXELS; i++) {
        a[i] = (int16_t)(i < 3 * PIXELS ? -1024 - i % 2 : i % 1009);
        b[i] = (int16_t)(i < 3 * PIXELS ? -1024 - i % 2 : 2 * (i % 1013));
    }
    pack_sketch(a, PIXELS, SLICES, first.ct_sketch);
    for (int k = 1; k < PACK_SKETCH; k++)
        CHECK(first.ct_sketch[k - 1] <= first.ct_sketch[k]);
    CHECK_OK(pack_seen_add(&seen, 5, &first, &err), &err);
    pack_sketch(b, PIXELS, SLICES, second.ct_sketch);
    CHECK_OK(pack_seen_check(&seen, &second, &err), &err);
    pack_sketch(a + PIXELS * 4, PIXELS, SLICES - 4, second.ct_sketch); /* its first slices cut */
    CHECK_STATUS(pack_seen_check(&seen, &second, &err), ST_PACK_CASE);
    CHECK_STR(err.msg, "its CT has slices of that of line 5: one head in two cases");
    pack_sketch(b, PIXELS, 10, second.ct_sketch); /* few: unused places are no slices */
    CHECK_OK(pack_seen_check(&seen, &second, &err), &err);
    pack_sketch(b, PIXELS, 3, second.ct_sketch); /* none but blank ones, which `a` has, too */
    CHECK_OK(pack_seen_check(&seen, &second, &err), &err);
    pack_seen_free(&seen);
}

TEST(pack_costs_that_stand_out, "more than twice the median of the others; of three cases none")
{
    static const double costs[] = {0.1, 0.21, 0.08, 0.12};
    PackSeen seen = {0};
    bool odd[6];
    Err err = {0};
    for (int i = 0; i < 4; i++) {
        PackFacts facts = {.id = "0123456789abcdef", .pair = {.cost = costs[i]}};
        CHECK_OK(pack_seen_add(&seen, i + 2, &facts, &err), &err);
        CHECK_OK(pack_seen_odd(&seen, odd, &err), &err);
        for (int k = 0; k <= i; k++)
            CHECK_INT(odd[k], i == 3 && k == 1);
    }
    CHECK_STR(seen.cases[1].id, "0123456789abcdef");
    seen.cases[1].cost = 0.2; /* just twice the median of 0.08, 0.1, 0.12 */
    CHECK_OK(pack_seen_odd(&seen, odd, &err), &err);
    CHECK(!odd[0] && !odd[1] && !odd[2] && !odd[3]);
    for (int i = 0; i < 4; i++)
        seen.cases[i].cost = 0; /* pictures, and what is registered already */
    CHECK_OK(pack_seen_odd(&seen, odd, &err), &err);
    CHECK(!odd[0] && !odd[1] && !odd[2] && !odd[3]);
    seen.cases[0].cost = 0.23, seen.cases[1].cost = 0.1;
    seen.cases[2].cost = 0.12, seen.cases[3].cost = 0.12;
    const PackFacts fifth = {.pair = {.cost = 0.1}}; /* the others' median is 0.11 */
    CHECK_OK(pack_seen_add(&seen, 9, &fifth, &err), &err);
    CHECK_OK(pack_seen_odd(&seen, odd, &err), &err);
    CHECK(odd[0] && !odd[1] && !odd[2] && !odd[3] && !odd[4]);
    pack_seen_free(&seen);
}

static void check_pair_refused(double overlap, double cost, double low, double high,
                               const char *want)
{
    const RegResult r = {
        .overlap_frac = overlap, .cost = cost, .scale_min = low, .scale_max = high};
    Err err = {0};
    CHECK_STATUS(pack_registration_gate(&r, &err), ST_REG_QUALITY);
    CHECK_STR(err.msg, want);
}

TEST(pack_registration_gates, "overlap, cost and scales at their limits and just beyond")
{
    const RegResult good = {
        .overlap_frac = 0.60, .cost = 0.40, .scale_min = 0.90, .scale_max = 1.12};
    Err err = {0};
    CHECK_OK(pack_registration_gate(&good, &err), &err);
    check_pair_refused(0.59, 0.1, 1, 1, "CT and MR: overlap 0.59, at least 0.60 needed");
    check_pair_refused((double)NAN, 0.1, 1, 1, "CT and MR: overlap nan, at least 0.60 needed");
    check_pair_refused(1, 0.401, 1, 1, "CT and MR: cost 0.401, at most 0.40 accepted");
    const RegResult same = {
        .overlap_frac = 1, .cost = 0.0099, .scale_min = 1, .scale_max = 1}; /* a windowed CT's */
    CHECK_STATUS(pack_registration_gate(&same, &err), ST_PACK_CASE);
    CHECK(strstr(err.msg, "the MR is a CT") != NULL);
    check_pair_refused(1, 0.1, 0.899, 1,
                       "CT and MR: scales 0.899 to 1.000, one patient has 0.90 to 1.12");
    check_pair_refused(1, 0.1, 1, 1.121,
                       "CT and MR: scales 1.000 to 1.121, one patient has 0.90 to 1.12");
}

/* ---- volumes --------------------------------------------------------------------------------- */

enum { HOLE = 10, HOLE_X = 90, HOLE_Y = 120, HOLE_Z = 75, CUT_Z = 95, HOLE_SLICES = 6 };

/* The template's T1 turned by 8 degrees, shifted, in other units, its upper 30 slices missing:
** half of them are not in the file, half are no numbers. Of six slices a hundredth of the head is
** no number, of six a tenth. */
static void write_moved_mr(const VolumeF32 *t1, Arena *arena)
{
    enum { CUT = 15, BLANK = 15 };
    Err err = {0};
    double c = cos(0.14), s = sin(0.14);
    Affine moved = {{{c, -s, 0, 5}, {s, c, 0, -12}, {0, 0, 1, 20}}};
    VolumeF32 mr = {t1->grid, NULL};
    mr.grid.nz -= CUT;
    mr.grid.lps_from_vox = affine_mul(moved, t1->grid.lps_from_vox);
    size_t n = grid_voxels(&mr.grid);
    mr.v = arena_alloc(arena, n, sizeof(float), &err);
    CHECK(mr.v != NULL);
    for (size_t i = 0; i < n; i++)
        mr.v[i] = t1->v[i] / 1000;
    size_t blank = (size_t)mr.grid.nx * (size_t)mr.grid.ny * BLANK;
    for (size_t i = n - blank; i < n; i++)
        mr.v[i] = NAN;
    for (int k = 0; k < HOLE_SLICES; k++)
        for (int y = 0; y < 5 * HOLE; y++)
            for (int x = 0; x < 5 * HOLE; x++) {
                size_t row = (size_t)(HOLE_Y - 2 * HOLE + y) * (size_t)mr.grid.nx;
                size_t at = row + (size_t)(HOLE_X - 2 * HOLE + x), plane = blank / BLANK;
                mr.v[(size_t)(CUT_Z + k) * plane + at] = NAN;
                if (x / HOLE == 2 && y / HOLE == 2)
                    mr.v[(size_t)(HOLE_Z + k) * plane + at] = NAN;
            }
    CHECK_OK(nifti_write_f32(in_dir("mr.nii.gz"), &mr, &err), &err);
}

/* Mean difference of a packed slice's MR from the template's slice z, over the packed mask. */
static double difference(const Pack *pack, int32_t slice, const VolumeF32 *t1, int z, double low,
                         double high)
{
    enum { SIDE = 256 };
    double sum = 0, n = 0;
    for (int y = 0; y < t1->grid.ny; y++)
        for (int x = 0; x < t1->grid.nx - 1; x++) {
            /* centres: pixel 127.5 is voxel 90 and 108: half a pixel between two voxels */
            int px = x + 38, py = y + 20;
            if (pack_mask(pack, slice)[py * SIDE + px] == 0)
                continue;
            const float *v =
                t1->v + ((size_t)z * (size_t)t1->grid.ny + (size_t)y) * (size_t)t1->grid.nx + x;
            size_t up = y + 1 < t1->grid.ny ? (size_t)t1->grid.nx : 0;
            double t = (double)(v[0] + v[1] + v[up] + v[up + 1]) / 4000;
            t = fmin(fmax((t - low) / (high - low), 0), 1);
            sum += fabs(t - pack_mr(pack, slice)[py * SIDE + px] / 65535.0);
            n++;
        }
    return sum / n;
}

static void check_packed(const Pack *pack, const VolumeF32 *t1, double low, double high)
{
    const PackInfo *info = pack_info(pack);
    for (int32_t slice = 40; slice < 120; slice += 26) {
        double best = 1, second = 1;
        int at = -1;
        for (int z = 0; z < t1->grid.nz; z++) {
            double d = difference(pack, slice, t1, z, low, high);
            second = d < best ? best : fmin(second, d);
            at = d < best ? z : at;
            best = fmin(best, d);
        }
        (void)printf("# packed slice %d is template slice %d: mean difference %.4f, next %.4f\n",
                     slice, at, best, second);
        CHECK(best < 0.035); /* interpolated twice against once; the next slice: 0.028 to 0.038 */
        CHECK(best < second);
    }
    CHECK(info->cases[0].slice_spacing_mm == 1);
    CHECK_STR(info->axes, "RA");
}

/* Largest distance over a head's box between the matrix recorded and the displacement. */
static double displacement_error_mm(const cJSON *matrix)
{
    double worst = 0, c = cos(0.14), s = sin(0.14);
    Affine found, truth = {{{c, -s, 0, 5}, {s, c, 0, -12}, {0, 0, 1, 20}}};
    CHECK_INT(cJSON_GetArraySize(matrix), 12);
    for (int i = 0; i < 12; i++)
        found.m[i / 4][i % 4] = cJSON_GetNumberValue(cJSON_GetArrayItem(matrix, i));
    for (int corner = 0; corner < 8; corner++) {
        Vec3 p = {corner & 1 ? 70 : -70, corner & 2 ? 90 : -90, corner & 4 ? 70 : -50};
        worst = fmax(worst, vec3_norm(vec3_sub(affine_apply(found, p), affine_apply(truth, p))));
    }
    return worst;
}

static int call(int (*command)(int, char **), const char *arguments)
{
    char text[4096], *argv[32];
    int argc = 0;
    (void)snprintf(text, sizeof text, "%s", arguments);
    for (char *save, *p = strtok_r(text, " ", &save); p != NULL; p = strtok_r(NULL, " ", &save))
        argv[argc++] = p;
    argv[argc] = NULL;
    return command(argc, argv);
}

/* Every second voxel, with noise of its own, so that it is another case; 3 % smaller, since coarse
** voxels give a brain more ml. */
static void write_coarse(const char *name, const float *v, const Grid *grid, double stretch,
                         double noise, double cut_frac, uint64_t seed, Arena *arena)
{
    Err err = {0};
    const Affine twice = {{{1.94 * stretch, 0, 0, 0}, {0, 1.94, 0, 0}, {0, 0, 1.94, 0}}};
    const size_t mark = arena_mark(arena), nx = (size_t)grid->nx, ny = (size_t)grid->ny;
    size_t at = 0;
    VolumeF32 out = {
        .grid = {grid->nx / 2, grid->ny / 2, grid->nz / 2, affine_mul(grid->lps_from_vox, twice)}};
    out.v = arena_alloc(arena, grid_voxels(&out.grid), sizeof *out.v, &err);
    CHECK(out.v != NULL);
    Random random = random_stream(seed, 0, 0);
    for (size_t z = 0; z < (size_t)out.grid.nz; z++)
        for (size_t y = 0; y < (size_t)out.grid.ny; y++)
            for (size_t x = 0; x < (size_t)out.grid.nx; x++)
                out.v[at++] = v[(2 * z * ny + 2 * y) * nx + 2 * x] +
                              (float)random_between(&random, -noise, noise);
    for (size_t i = 0; i < at; i++) /* from the lower rows on, in the upper third of the slices */
        if (i / ((size_t)out.grid.nx * (size_t)out.grid.ny) > 2 * (size_t)out.grid.nz / 3 &&
            (double)(i / (size_t)out.grid.nx % (size_t)out.grid.ny) < cut_frac * out.grid.ny)
            out.v[i] = 9;
    CHECK_OK(nifti_write_f32(in_dir(name), &out, &err), &err);
    arena_reset(arena, mark);
}

/* White where a CT in a window has bone, in the folder `bone`. */
static void write_bone(const char *bone, const char *other)
{
    static uint8_t white[W * H], grey[W * H];
    char path[64];
    Err err = {0};
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            double r = hypot(x - 30, y - 20);
            white[y * W + x] = r < 12 ? 90 : r < 15 ? 255 : 0;
            grey[y * W + x] = r >= 15 ? 3 : (uint8_t)(60 + 3 * x);
        }
    CHECK_OK(dir_make(in_dir(bone), &err), &err);
    CHECK_OK(dir_make(in_dir(other), &err), &err);
    (void)snprintf(path, sizeof path, "%s/1001.png", bone);
    CHECK_OK(png_write_grey(in_dir(path), white, W, H, &err), &err);
    (void)snprintf(path, sizeof path, "%s/1001.png", other);
    CHECK_OK(png_write_grey(in_dir(path), grey, W, H, &err), &err);
}

TEST(pack_folders_exchanged, "a CT's white bone in the MR's folder is noted, in its own it is not")
{
    char command[1000], *said;
    size_t n_said;
    Err err = {0};
    if (access(TEMPLATES "ch2.nii.gz", R_OK) != 0)
        SKIP("mricron-data is not installed");
    write_bone("c", "m");
    for (int k = 0; k < 2; k++) {
        (void)snprintf(command, sizeof command,
                       "pack --png %s %s --target T2 --pixels 64 --out %s --overwrite --reference "
                       "%s",
                       in_dir(k == 0 ? "c" : "m"), in_dir(k == 0 ? "m" : "c"), in_dir("x.pack"),
                       TEMPLATES "ch2.nii.gz");
        CHECK(freopen(in_dir("said"), "w", stderr) != NULL);
        CHECK_INT(call(cli_pack, command), CLI_OK);
        CHECK(fflush(stderr) == 0);
        CHECK_OK(file_read(in_dir("said"), 1 << 20, &said, &n_said, &err), &err);
        CHECK((strstr(said, "are the folders exchanged?") != NULL) == (k == 1));
        free(said);
    }
}

TEST(pack_cannot_write, "a slice that does not go to the disk ends it: no case after it, no file")
{
    const struct rlimit limit = {12000, RLIM_INFINITY}; /* HU of one slice and a half */
    char command[1000], *said;
    size_t n_said;
    Err err = {0};
    if (access(TEMPLATES "ch2.nii.gz", R_OK) != 0)
        SKIP("mricron-data is not installed");
    CHECK_OK(dir_make(in_dir("ct"), &err), &err);
    CHECK_OK(dir_make(in_dir("mr"), &err), &err);
    write_pictures("1001.png");
    write_pictures("1002.png");
    write_pictures("2001.png");
    (void)snprintf(command, sizeof command,
                   "pack --png %s %s --target T2 --pixels 64 --out %s --reference %s", in_dir("ct"),
                   in_dir("mr"), in_dir("x.pack"), TEMPLATES "ch2.nii.gz");
    (void)signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK(freopen(in_dir("said"), "w", stderr) != NULL);
    CHECK_INT(call(cli_pack, command), CLI_NEGATIVE);
    CHECK(fflush(stderr) == 0);
    CHECK_OK(file_read(in_dir("said"), 1 << 20, &said, &n_said, &err), &err);
    CHECK(strstr(said, "case 1: writing the packed file") != NULL);
    CHECK(strstr(said, "left out") == NULL && access(in_dir("x.pack"), F_OK) != 0);
    free(said);
}

/* ct0 .. ct4 and mr0 .. mr4: mr1 has a part set to one value, mr2 is noisy, mr4 a fifth wider. */
static void write_five(Arena *arena, Arena *scratch)
{
    static const TissueHu tissue = {8, 38, 29};
    SimulatedHead head;
    VolumeI16 ct;
    char name[32];
    float largest = 0;
    Err err = {0};
    CHECK_OK(simulate_head(TEMPLATES "ch2.nii.gz", TEMPLATES "ch2bet.nii.gz", 0, &head, arena,
                           scratch, &err),
             &err);
    CHECK_OK(simulate_ct(&head, &tissue, &ct, arena, &err), &err);
    const size_t n = grid_voxels(&ct.grid);
    float *hu = arena_alloc(arena, n, sizeof *hu, &err);
    CHECK(hu != NULL);
    for (size_t i = 0; i < n; i++) {
        hu[i] = ct.v[i];
        largest = fmaxf(largest, head.t1.v[i]);
    }
    for (int k = 0; k < 5; k++) {
        double noise = (double)largest * (k == 2 ? 0.3 : 0.01);
        (void)snprintf(name, sizeof name, "ct%d.nii.gz", k);
        write_coarse(name, hu, &ct.grid, 1, 2, 0, 10 + (uint64_t)k, arena);
        (void)snprintf(name, sizeof name, "mr%d.nii.gz", k);
        write_coarse(name, head.t1.v, &ct.grid, k == 4 ? 1.2 : 1, noise, k == 1 ? 0.4 : 0,
                     20 + (uint64_t)k, arena);
    }
}

TEST_TIMEOUT(pack_volumes_that_fit_worse,
             "of four cases the ones with a noisy MR and with a part of an MR are noted by their "
             "lines; an MR that is a fifth wider is left out",
             240)
{
    Arena arena = {0}, scratch = {0};
    char command[3000], *said;
    size_t n_said;
    Err err = {0};
    if (access(TEMPLATES "ch2.nii.gz", R_OK) != 0)
        SKIP("mricron-data is not installed");
    CHECK_OK(arena_open((size_t)4 << 30, &arena, &err), &err);
    CHECK_OK(arena_open((size_t)4 << 30, &scratch, &err), &err);
    write_five(&arena, &scratch);
    write_text("l.csv", "case,ct,mr\na,ct0.nii.gz,mr0.nii.gz\nb,ct1.nii.gz,mr1.nii.gz\n"
                        "c,ct2.nii.gz,mr2.nii.gz\nd,ct3.nii.gz,mr3.nii.gz\n"
                        "e,ct4.nii.gz,mr4.nii.gz\n");
    (void)snprintf(command, sizeof command,
                   "pack --cases %s --out %s --target T1 --dof 12 --reference %s", in_dir("l.csv"),
                   in_dir("v.pack"), TEMPLATES "ch2.nii.gz");
    CHECK(freopen(in_dir("said"), "w", stderr) != NULL);
    int code = call(cli_pack, command);
    CHECK(fflush(stderr) == 0);
    CHECK_OK(file_read(in_dir("said"), 1 << 20, &said, &n_said, &err), &err);
    (void)printf("# %s\n", said);
    CHECK_INT(code, CLI_PARTIAL);
    const char *cut = strstr(said, "ct2mr: note: line 3 (");
    CHECK(cut != NULL && strstr(cut, "): in ") != NULL && strstr(cut, "is the MR cut") != NULL);
    CHECK(strstr(said, "note: line 4 (") != NULL);
    CHECK(strstr(said, "note: line 2 (") == NULL && strstr(said, "note: line 5 (") == NULL);
    CHECK(strstr(said, "line 6 left out: REG_QUALITY: CT and MR: scales ") != NULL);
    free(said);
    arena_close(&scratch);
    arena_close(&arena);
}

/* Each slice is packed or left out for one reason. */
static void check_counts(const cJSON *item, int32_t n_slices)
{
    static const char *const COUNTS[] = {"without_mask", "too_wide", "without_mr"};
    double all = cJSON_GetNumberValue(cJSON_GetObjectItem(item, "slices"));
    CHECK_NEAR(all, n_slices, 0);
    for (int k = 0; k < 3; k++)
        all += cJSON_GetNumberValue(cJSON_GetObjectItem(item, COUNTS[k]));
    CHECK(all == cJSON_GetNumberValue(cJSON_GetObjectItem(item, "of_slices")));
}

static void write_ct(const char *name, const VolumeI16 *ct)
{
    Err err = {0};
    CHECK_OK(nifti_write_i16(in_dir(name), ct, &err), &err);
}

/* ct: as HU + 1024. What a job refuses is not trained on; nor are slices wider than the grid. */
static void check_job_gates(VolumeI16 *ct, Arena *arena)
{
    const size_t n = grid_voxels(&ct->grid), slice = n / (size_t)ct->grid.nz;
    int16_t *moved = arena_alloc(arena, slice, sizeof *moved, NULL);
    char command[3000], *said;
    size_t n_said;
    Pack *pack;
    Err err = {0};
    CHECK(moved != NULL);
    for (size_t i = 0; i < n; i++) /* a wrong intercept: the brain has 70 HU */
        ct->v[i] = (int16_t)(ct->v[i] - 1024 + 35);
    write_ct("high.nii.gz", ct);
    for (size_t i = 0; i < n; i++)
        ct->v[i] = (int16_t)(ct->v[i] - 35);
    memcpy(moved, ct->v + 80 * slice, slice * sizeof *moved);
    memcpy(ct->v + 80 * slice, ct->v + 95 * slice, slice * sizeof *moved);
    memcpy(ct->v + 95 * slice, moved, slice * sizeof *moved);
    write_ct("exchanged.nii.gz", ct);
    write_text("g.csv", "case,ct,mr\na,high.nii.gz,mr.nii.gz\nb,exchanged.nii.gz,mr.nii.gz\n"
                        "c,ct.nii.gz,mr.nii.gz\n");
    (void)snprintf(command, sizeof command,
                   "pack --cases %s --out %s --target T1 --pixels 160 --reference %s",
                   in_dir("g.csv"), in_dir("g.pack"), TEMPLATES "ch2.nii.gz");
    CHECK(freopen(in_dir("said"), "w", stderr) != NULL);
    CHECK_INT(call(cli_pack, command), CLI_PARTIAL);
    CHECK(fflush(stderr) == 0);
    CHECK_OK(file_read(in_dir("said"), 1 << 20, &said, &n_said, &err), &err);
    (void)printf("# %s\n", said);
    CHECK(strstr(said, "line 2 left out: HU_SCALE") != NULL);
    CHECK(strstr(said, "line 3 left out: SERIES_JUMP") != NULL);
    free(said);
    CHECK_OK(pack_open(in_dir("g.pack"), &pack, &err), &err);
    cJSON *json = cJSON_Parse(pack_info(pack)->provenance);
    const cJSON *item = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "cases"), 0);
    double wide = cJSON_GetNumberValue(cJSON_GetObjectItem(item, "too_wide"));
    (void)printf("# %g slices are wider than 160 mm, %d are packed\n", wide,
                 pack_info(pack)->n_slices);
    CHECK(wide > 50 && pack_info(pack)->n_slices > 10);
    check_counts(item, pack_info(pack)->n_slices);
    cJSON_Delete(json);
    pack_close(pack);
}

TEST_TIMEOUT(
    pack_volumes,
    "CT and displaced, cut MR of one head: overlaid; a missing case, the same images again "
    "and CT as MR are left out",
    180)
{
    static const TissueHu tissue = {8, 38, 29};
    Arena arena = {0}, scratch = {0};
    SimulatedHead head;
    VolumeI16 ct;
    Pack *pack;
    char command[3000];
    double low, high;
    Err err = {0};
    if (access(TEMPLATES "ch2.nii.gz", R_OK) != 0)
        SKIP("mricron-data is not installed");
    CHECK_OK(arena_open((size_t)4 << 30, &arena, &err), &err);
    CHECK_OK(arena_open((size_t)4 << 30, &scratch, &err), &err);
    CHECK_OK(simulate_head(TEMPLATES "ch2.nii.gz", TEMPLATES "ch2bet.nii.gz", 0, &head, &arena,
                           &scratch, &err),
             &err);
    CHECK_OK(simulate_ct(&head, &tissue, &ct, &arena, &err), &err);
    CHECK_OK(nifti_write_i16(in_dir("ct.nii.gz"), &ct, &err), &err);
    write_moved_mr(&head.t1, &arena);
    for (size_t i = 0; i < grid_voxels(&ct.grid); i++) /* a CT without negative values */
        ct.v[i] = (int16_t)(ct.v[i] + 1024);
    CHECK_OK(nifti_write_i16(in_dir("ct1024.nii.gz"), &ct, &err), &err);
    write_text("SECRET.nii", "no volume");
    write_text("l.csv", "\ncase,ct,mr\n\nmoved,ct.nii.gz,ct1024.nii.gz\n"
                        "SECRET^NAME,ct.nii.gz,mr.nii.gz\ngone,SECRET_x.nii,mr.nii.gz\n"
                        "again,ct.nii.gz,mr.nii.gz\nct,ct.nii.gz,ct.nii.gz\n"
                        "text,ct.nii.gz,SECRET.nii\n");
    (void)snprintf(command, sizeof command,
                   "pack --cases %s --out %s --target T1 --sheets %s --reference %s",
                   in_dir("l.csv"), in_dir("v.pack"), in_dir("sheets"), TEMPLATES "ch2.nii.gz");
    CHECK(freopen(in_dir("said"), "w", stderr) != NULL);
    CHECK_INT(call(cli_pack, command), CLI_PARTIAL);
    CHECK(fflush(stderr) == 0);
    char *said;
    size_t n_said;
    CHECK_OK(file_read(in_dir("said"), 1 << 20, &said, &n_said, &err), &err);
    (void)printf("# %s\n", said);
    CHECK(strstr(said, "line 4 left out: PACK_CASE: the MR is a CT: it follows from") != NULL);
    CHECK(strstr(said, "line 6 left out: NOT_FOUND: column ct: reading the path given: ") != NULL);
    CHECK(strstr(said, "line 7 left out: PACK_CASE: its CT and MR are that of line 5") != NULL);
    CHECK(strstr(said, "line 8 left out: PACK_CASE: the MR is a CT: 4") != NULL);
    CHECK(strstr(said, "line 9 left out: NIFTI: column mr: not a NIfTI-1 file: the path given") !=
          NULL);
    CHECK(strstr(said, test_dir()) == NULL && strstr(said, "SECRET") == NULL);
    free(said);
    CHECK_OK(pack_open(in_dir("v.pack"), &pack, &err), &err);
    const PackInfo *info = pack_info(pack);
    CHECK_INT(info->n_cases, 1);
    CHECK(info->n_slices > 130 &&
          info->n_slices < 165); /* 181 less the 30 without MR and the ends */
    CHECK(strstr(info->provenance, "SECRET") == NULL);
    cJSON *json = cJSON_Parse(info->provenance);
    const cJSON *item = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "cases"), 0);
    low = cJSON_GetNumberValue(cJSON_GetObjectItem(item, "mr_low"));
    high = cJSON_GetNumberValue(cJSON_GetObjectItem(item, "mr_high"));
    check_counts(item, info->n_slices);
    const double without = cJSON_GetNumberValue(cJSON_GetObjectItem(item, "without_mr"));
    CHECK(without >= 29 && without <= 33); /* the upper end's 23 and those with a tenth less */
    for (int y = -4; y <= 4; y++)          /* of a hundredth less the mask is without it */
        for (int x = -4; x <= 4; x++) {
            const uint8_t *mask = pack_mask(pack, HOLE_Z) + (HOLE_Y + 5 + 20 + y) * 256;
            CHECK(mask[HOLE_X + 5 + 38 + x] == 0 && mask[HOLE_X + 5 + 38 + x + 20] == 1);
        }
    CHECK(low >= 0 && low < 0.02 && high > 0.14 && high < 0.25);
    double error_mm =
        displacement_error_mm(cJSON_GetObjectItem(cJSON_GetObjectItem(item, "mr"), "matrix"));
    (void)printf("# the MR's displacement is found to %.2f mm at a head's corners\n", error_mm);
    CHECK(error_mm < 2);
    cJSON_Delete(json);
    check_packed(pack, &head.t1, low, high);
    static float grey[256 * 256];
    for (int i = 0; i < 256 * 256; i++)
        grey[i] = pack_mr(pack, 80)[i];
    double r = pack_correlation(pack_hu(pack, 80), grey, pack_mask(pack, 80), 256 * 256, INT16_MIN,
                                INT16_MAX);
    (void)printf("# correlation of MR and CT in slice 80: %.2f\n", r);
    CHECK(r < 0.2);
    (void)snprintf(command, sizeof command, "%s/sheets/%s.png", test_dir(), info->cases[0].id);
    CHECK(access(command, R_OK) == 0);
    pack_close(pack);
    check_job_gates(&ct, &arena);
    arena_close(&scratch);
    arena_close(&arena);
}
