/* gpu/augment, gpu/loader. Exact where the change is exact (nothing, flips, quarter turns); the
** rest against what it must keep: the pair stays a pair, statistics of noise, constants under blur.
** Batches are the same for any number of threads and wherever they begin. */
#include "tests/test.h"

#include "base/files.h"
#include "gpu/augment.h"
#include "gpu/loader.h"
#include "tests/pack_fixture.h"

enum { SIDE = 64, PIXELS = SIDE * SIDE };

static Pack *open_pack(int32_t n_cases, int32_t n_slices, double slice_mm)
{
    char path[PATH_SIZE];
    Pack *pack;
    Err err = {0};
    (void)snprintf(path, sizeof path, "%s/p.pack", test_dir());
    pack_fixture_write(path, SIDE, n_cases, n_slices, slice_mm);
    CHECK_OK(pack_open(path, &pack, &err), &err);
    return pack;
}

static AugmentWork *open_work(void)
{
    AugmentWork *work;
    Err err = {0};
    CHECK_OK(augment_work_open(SIDE, &work, &err), &err);
    return work;
}

/* True if the pair is the slice with pixel (x, y) taken from m (x, y). */
static bool is_turned(const AugmentPair *pair, const Pack *pack, int32_t slice, const int m[4])
{
    const int16_t *hu = pack_hu(pack, slice);
    const uint16_t *mr = pack_mr(pack, slice);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            int u = 2 * x - (SIDE - 1), v = 2 * y - (SIDE - 1); /* from the centre, doubled */
            int sx = (m[0] * u + m[1] * v + SIDE - 1) / 2,
                sy = (m[2] * u + m[3] * v + SIDE - 1) / 2;
            int at = y * SIDE + x, from = sy * SIDE + sx;
            if (pair->hu[at] != hu[from] || pair->mask[at] != pack_mask(pack, slice)[from] ||
                fabsf(pair->mr[at] - (float)mr[from] / 65535) > 1e-7f)
                return false;
        }
    return true;
}

TEST(augment_names_are_parsed, "lists, all, none; what is unknown is named")
{
    unsigned kinds;
    Err err = {0};
    CHECK_OK(augment_parse("none", &kinds, &err), &err);
    CHECK(kinds == 0);
    CHECK_OK(augment_parse("all", &kinds, &err), &err);
    CHECK(kinds == AUGMENT_ALL);
    CHECK_OK(augment_parse("noise,rotate90", &kinds, &err), &err);
    CHECK(kinds == (1u << AUGMENT_NOISE | 1u << AUGMENT_ROTATE90));
    CHECK_STATUS(augment_parse("noise,,flip", &kinds, &err), ST_USAGE);
    CHECK_STATUS(augment_parse("Flip", &kinds, NULL), ST_USAGE);
}

TEST(augment_none_is_the_slice, "no kind: every HU, mask byte and MR value as in the file")
{
    static const int SAME[4] = {1, 0, 0, 1};
    Pack *pack = open_pack(2, 3, 4);
    AugmentWork *work = open_work();
    for (int32_t s = 0; s < 6; s++) {
        AugmentPair pair = augment_pair(work, pack, s, 0, random_stream(1, 2, (uint64_t)s));
        CHECK(is_turned(&pair, pack, s, SAME));
    }
    augment_work_close(work);
    pack_close(pack);
}

TEST(augment_turns_and_flips_are_exact, "all 8 of them occur, each about equally, bit for bit")
{
    static const int TURNS[8][4] = {{1, 0, 0, 1},  {0, 1, -1, 0}, {-1, 0, 0, -1}, {0, -1, 1, 0},
                                    {-1, 0, 0, 1}, {0, 1, 1, 0},  {1, 0, 0, -1},  {0, -1, -1, 0}};
    Pack *pack = open_pack(1, 1, 0);
    AugmentWork *work = open_work();
    int counts[8] = {0};
    for (uint64_t i = 0; i < 400; i++) {
        AugmentPair pair = augment_pair(work, pack, 0, 1u << AUGMENT_ROTATE90 | 1u << AUGMENT_FLIP,
                                        random_stream(1, 0, i));
        int found = -1;
        for (int t = 0; t < 8; t++)
            if (is_turned(&pair, pack, 0, TURNS[t]))
                found = t;
        CHECK(found >= 0);
        counts[found]++;
    }
    for (int t = 0; t < 8; t++)
        CHECK(counts[t] > 20 && counts[t] < 80); /* 50 +- 4.5 deviations */
    augment_work_close(work);
    pack_close(pack);
}

TEST(augment_pair_stays_a_pair, "all geometry: MR is still 0.9 - 0.6 hu / 80 well inside the mask")
{
    const unsigned geometry = 1u << AUGMENT_ROTATE90 | 1u << AUGMENT_FLIP | 1u << AUGMENT_POSE |
                              1u << AUGMENT_ELASTIC | 1u << AUGMENT_THICKNESS;
    Pack *pack = open_pack(2, 8, 4);
    AugmentWork *work = open_work();
    double worst = 0, moved = 0, masked = 0;
    for (uint64_t i = 0; i < 32; i++) {
        int32_t slice = (int32_t)(i % 16);
        AugmentPair pair = augment_pair(work, pack, slice, geometry, random_stream(3, 0, i));
        for (int y = 2; y < SIDE - 2; y++)
            for (int x = 2; x < SIDE - 2; x++) {
                int at = y * SIDE + x;
                CHECK(pair.mr[at] >= 0 && pair.mr[at] <= 1);
                CHECK(pair.mask[at] == 1 || pair.mr[at] == 0);
                moved += pair.hu[at] != pack_hu(pack, slice)[at];
                masked += pair.mask[at];
                /* no air within two pixels, on which the two would not be averaged alike */
                bool inside = true;
                for (int dy = -2; dy <= 2; dy++)
                    for (int dx = -2; dx <= 2; dx++)
                        inside = inside && pair.hu[at + dy * SIDE + dx] >= 0;
                if (inside)
                    worst = fmax(worst, fabs((double)pair.mr[at] - 0.9 + 0.6 * pair.hu[at] / 80));
            }
    }
    (void)printf("# MR differs by at most %.4f; %.2f of pixels moved, %.2f masked\n", worst,
                 moved / (32 * 60 * 60), masked / (32 * 60 * 60));
    CHECK(worst < 0.6 / 80); /* HU are rounded, partial air counts below 0 */
    CHECK(moved > 0.3 * 32 * 60 * 60 && masked > 0.3 * 32 * 60 * 60);
    augment_work_close(work);
    pack_close(pack);
}

TEST(augment_thickness_averages_neighbours, "1 to 5 slices, whole ones: means of the file's slices")
{
    Pack *pack = open_pack(1, 9, 1);
    AugmentWork *work = open_work();
    int counts[6] = {0};
    for (uint64_t i = 0; i < 60; i++) {
        AugmentPair pair =
            augment_pair(work, pack, 4, 1u << AUGMENT_THICKNESS, random_stream(4, 0, i));
        int found = 0;
        for (int thickness = 1; thickness <= 5; thickness += 2) { /* even ones lie between slices */
            double worst = 0;
            for (int at = 0; at < PIXELS; at++) {
                double mean = 0;
                for (int k = 0; k < thickness; k++)
                    mean += pack_hu(pack, 4 + k - thickness / 2)[at];
                worst = fmax(worst, fabs(mean / thickness - pair.hu[at]));
            }
            if (worst <= 0.501)
                found = thickness;
        }
        counts[found]++;
    }
    CHECK(counts[1] > 3 && counts[3] > 3 && counts[5] > 3 && counts[0] > 8);
    CHECK_INT(counts[1] + counts[3] + counts[5] + counts[0], 60);
    augment_work_close(work);
    pack_close(pack);
}

TEST(augment_thickness_is_in_mm, "slices of 3 mm or more stay single: 5 mm is the most")
{
    Pack *pack = open_pack(1, 9, 3);
    AugmentWork *work = open_work();
    for (uint64_t i = 0; i < 20; i++) {
        AugmentPair pair =
            augment_pair(work, pack, 4, 1u << AUGMENT_THICKNESS, random_stream(4, 0, i));
        for (int at = 0; at < PIXELS; at++)
            CHECK_INT(pair.hu[at], pack_hu(pack, 4)[at]);
    }
    augment_work_close(work);
    pack_close(pack);
}

TEST(augment_of_units_keeps_what_it_must,
     "noise has mean 0, blur keeps constants, contrast is linear")
{
    Pack *pack = open_pack(1, 1, 0);
    AugmentWork *work = open_work();
    const int16_t *hu = pack_hu(pack, 0);
    for (uint64_t i = 0; i < 20; i++) {
        double sum = 0, squares = 0;
        AugmentPair pair = augment_pair(work, pack, 0, 1u << AUGMENT_NOISE, random_stream(5, 0, i));
        for (int at = 0; at < PIXELS; at++) {
            double d = pair.hu[at] - hu[at];
            sum += d, squares += d * d;
        }
        double deviation = sqrt(squares / PIXELS);
        CHECK(deviation < 15.5 && fabs(sum / PIXELS) < 0.3 + deviation / 10);
        pair = augment_pair(work, pack, 0, 1u << AUGMENT_BLUR, random_stream(5, 0, i));
        CHECK_INT(pair.hu[0], -1000); /* air all around */
        pair = augment_pair(work, pack, 0, 1u << AUGMENT_CONTRAST, random_stream(5, 0, i));
        int inside = SIDE / 2 * SIDE + SIDE / 2;
        double factor = (double)(pair.hu[inside] - pair.hu[0]) / (hu[inside] + 1000);
        CHECK(factor > 0.965 && factor < 1.035);
    }
    augment_work_close(work);
    pack_close(pack);
}

/* ---- how far things move: HU are 20 x + 300 z, MR is y / SIDE, all masked -------------------- */

enum { PER_X = 20, PER_Z = 300, CASE_SLICES = 7, MIDDLE = 3, DRAWS = 600 };
#define SPACING_MM 1.6
#define SLICE_MM 2.0

static Pack *open_coordinates(void)
{
    static int16_t hu[PIXELS];
    static uint8_t mask[PIXELS];
    static uint16_t mr[PIXELS];
    PackInfo info = {.pixels = SIDE,
                     .spacing_mm = SPACING_MM,
                     .window_level_hu = 40,
                     .window_width_hu = 80,
                     .mask = MASK_HEAD,
                     .target = "T1",
                     .axes = "LP"};
    char path[PATH_SIZE];
    PackWriter *writer;
    Pack *pack;
    Err err = {0};
    memset(mask, 1, sizeof mask);
    (void)snprintf(path, sizeof path, "%s/c.pack", test_dir());
    CHECK_OK(pack_create(path, &info, &writer, &err), &err);
    CHECK_OK(pack_begin_case(writer, "00000000000000aa", SLICE_MM, &err), &err);
    for (int z = 0; z < CASE_SLICES; z++) {
        for (int i = 0; i < PIXELS; i++) {
            hu[i] = (int16_t)(PER_X * (i % SIDE - SIDE / 2) + PER_Z * (z - MIDDLE));
            mr[i] = (uint16_t)(65535 * (i / SIDE) / SIDE);
        }
        CHECK_OK(pack_add_slice(writer, hu, mask, mr, &err), &err);
    }
    CHECK_OK(pack_end(writer, "{}", &err), &err);
    CHECK_OK(pack_open(path, &pack, &err), &err);
    return pack;
}

/* Where the pixel (x, y), mm from the centre, of a pair came from, of the slice's plane. */
static double source_x_mm(const AugmentPair *pair, int x, int y)
{
    return SPACING_MM * ((double)pair->hu[y * SIDE + x] / PER_X + 0.5);
}

static double source_y_mm(const AugmentPair *pair, int x, int y)
{
    return SPACING_MM * ((double)pair->mr[y * SIDE + x] * SIDE - SIDE / 2 + 0.5);
}

static double deviation(const double *values)
{
    double squares = 0;
    for (int i = 0; i < DRAWS; i++)
        squares += values[i] * values[i];
    return sqrt(squares / DRAWS);
}

TEST(augment_pose_in_mm,
     "shift 4 mm, turn 0.08, tilt 0.05, sizes 0.87 to 1.13: deviations of 600 draws")
{
    enum { NEAR = SIDE / 2, FAR = NEAR + 8 };
    Pack *pack = open_coordinates();
    AugmentWork *work = open_work();
    static double shift[DRAWS], turn[DRAWS], tilt[DRAWS];
    double least = 9, most = 0;
    for (uint64_t i = 0; i < DRAWS; i++) {
        AugmentPair p =
            augment_pair(work, pack, MIDDLE, 1u << AUGMENT_POSE, random_stream(6, 0, i));
        const double apart = SPACING_MM * (FAR - NEAR);
        double y0 = source_y_mm(&p, NEAR, NEAR), scale = 0;
        shift[i] = y0 - SPACING_MM / 2; /* NEAR is half a pixel from the centre */
        turn[i] = (source_y_mm(&p, FAR, NEAR) - y0) / apart;
        scale = (source_y_mm(&p, NEAR, FAR) - y0) / apart;
        least = fmin(least, scale);
        most = fmax(most, scale);
        /* along y no x but the turn's: what HU change beyond that is z */
        double z = (source_x_mm(&p, NEAR, FAR) - source_x_mm(&p, NEAR, NEAR)) / apart + turn[i];
        tilt[i] = z * PER_X / SPACING_MM / PER_Z * SLICE_MM;
    }
    (void)printf("# shift %.2f mm, turn %.3f, tilt %.3f, sizes %.3f to %.3f\n", deviation(shift),
                 deviation(turn), deviation(tilt), least, most);
    CHECK(deviation(shift) > 3.5 && deviation(shift) < 4.5);
    CHECK(deviation(turn) > 0.07 && deviation(turn) < 0.09);
    CHECK(deviation(tilt) > 0.043 && deviation(tilt) < 0.057);
    CHECK(least > 0.82 && least < 0.92 && most < 1.15 && most > 1.08);
    augment_work_close(work);
    pack_close(pack);
}

TEST(augment_elastic_in_mm, "a deviation of 0.87 mm, in both directions, and smooth")
{
    enum { AT = SIDE / 2 };
    Pack *pack = open_coordinates();
    AugmentWork *work = open_work();
    static double x[DRAWS], y[DRAWS], stretch[DRAWS];
    for (uint64_t i = 0; i < DRAWS; i++) {
        AugmentPair p =
            augment_pair(work, pack, MIDDLE, 1u << AUGMENT_ELASTIC, random_stream(7, 0, i));
        x[i] = source_x_mm(&p, AT, AT) - SPACING_MM / 2;
        y[i] = source_y_mm(&p, AT, AT) - SPACING_MM / 2;
        stretch[i] = (source_x_mm(&p, AT + 2, AT) - source_x_mm(&p, AT, AT)) / 2 / SPACING_MM - 1;
    }
    (void)printf("# %.2f and %.2f mm, stretched by %.3f\n", deviation(x), deviation(y),
                 deviation(stretch));
    /* mean of amplitude^2: 3; times 0.5 each way at a knot of the spline */
    CHECK(deviation(x) > 0.78 && deviation(x) < 0.98);
    CHECK(deviation(y) > 0.78 && deviation(y) < 0.98);
    CHECK(deviation(stretch) < 0.12);
    augment_work_close(work);
    pack_close(pack);
}

static const LoaderWindow WINDOW = {NULL, pack_fixture_window};

/* Batches first..11 of a loader into x and t, [12][batch]. */
static void load(const Pack *pack, int32_t threads, int64_t first, float *x, float *t)
{
    enum { BATCH = 3 };
    static const int32_t SLICES[10] = {0, 1, 2, 3, 5, 6, 7, 8, 10, 11};
    const LoaderOptions options = {.pack = pack,
                                   .window = WINDOW,
                                   .slices = SLICES,
                                   .n_slices = 10,
                                   .batch = BATCH,
                                   .steps_per_epoch = 3,
                                   .threads = threads,
                                   .ahead = 4,
                                   .augment = AUGMENT_ALL,
                                   .seed = 77,
                                   .first_step = first};
    Loader *loader;
    Err err = {0};
    CHECK_OK(loader_open(&options, &loader, &err), &err);
    for (int64_t s = first; s < 12; s++) {
        const float *from_x, *from_t;
        double waited;
        loader_next(loader, &from_x, &from_t, &waited);
        memcpy(x + s * BATCH * 3 * PIXELS, from_x, BATCH * 3 * PIXELS * sizeof *x);
        memcpy(t + s * BATCH * PIXELS, from_t, BATCH * PIXELS * sizeof *t);
    }
    loader_close(loader);
}

TEST(loader_bits_for_any_threads, "4 epochs with 1, 2 and 7 threads, and begun in the middle")
{
    enum { N_X = 12 * 3 * 3 * PIXELS, N_T = 12 * 3 * PIXELS, LATER = 5 };
    Pack *pack = open_pack(3, 4, 4);
    float *x[3], *t[3];
    static const int32_t THREADS[3] = {1, 2, 7};
    for (int k = 0; k < 3; k++) {
        x[k] = calloc(N_X, sizeof **x);
        t[k] = calloc(N_T, sizeof **t);
        CHECK(x[k] != NULL && t[k] != NULL);
        load(pack, THREADS[k], 0, x[k], t[k]);
        CHECK(memcmp(x[k], x[0], N_X * sizeof **x) == 0);
        CHECK(memcmp(t[k], t[0], N_T * sizeof **t) == 0);
    }
    CHECK(memcmp(t[0], t[0] + 9 * PIXELS, 9 * PIXELS * sizeof **t) != 0); /* epochs differ */
    memset(t[1], 0, N_T * sizeof **t);
    load(pack, 2, LATER, x[1], t[1]);
    CHECK(memcmp(t[1] + LATER * 3 * PIXELS, t[0] + LATER * 3 * PIXELS,
                 (12 - LATER) * 3 * PIXELS * sizeof **t) == 0);
    for (int k = 0; k < 3; k++) {
        free(x[k]);
        free(t[k]);
    }
    pack_close(pack);
}

TEST(loader_changes_a_slice_anew_each_epoch, "one slice, one a batch: no two epochs are alike")
{
    enum { EPOCHS = 4 };
    static const int32_t SLICE[1] = {1};
    Pack *pack = open_pack(1, 4, 4);
    const LoaderOptions options = {.pack = pack,
                                   .window = WINDOW,
                                   .slices = SLICE,
                                   .n_slices = 1,
                                   .batch = 1,
                                   .steps_per_epoch = 1,
                                   .threads = 1,
                                   .ahead = 2,
                                   .augment = 1u << AUGMENT_NOISE,
                                   .seed = 77};
    static float seen[EPOCHS][3 * PIXELS];
    Loader *loader;
    Err err = {0};
    CHECK_OK(loader_open(&options, &loader, &err), &err);
    for (int e = 0; e < EPOCHS; e++) {
        const float *x, *t;
        double waited;
        loader_next(loader, &x, &t, &waited);
        memcpy(seen[e], x, sizeof seen[e]);
        for (int k = 0; k < e; k++)
            CHECK(memcmp(seen[e], seen[k], sizeof seen[e]) != 0);
    }
    loader_close(loader);
    pack_close(pack);
}

TEST(loader_ends_at_any_time, "closed before the first batch, and while batches are being made")
{
    Pack *pack = open_pack(1, 2, 4);
    static const int32_t SLICES[2] = {0, 1};
    for (int k = 0; k < 8; k++) {
        const LoaderOptions options = {.pack = pack,
                                       .window = WINDOW,
                                       .slices = SLICES,
                                       .n_slices = 2,
                                       .batch = 2,
                                       .steps_per_epoch = 1,
                                       .threads = 3,
                                       .ahead = 2,
                                       .augment = AUGMENT_ALL};
        Loader *loader;
        Err err = {0};
        CHECK_OK(loader_open(&options, &loader, &err), &err);
        for (int i = 0; i < k; i++) {
            const float *x, *t;
            double waited;
            loader_next(loader, &x, &t, &waited);
            CHECK(isfinite(x[0]) && waited >= 0);
        }
        loader_close(loader);
    }
    pack_close(pack);
}
