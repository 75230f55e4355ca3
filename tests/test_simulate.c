/* pipeline/simulate. Claims: tissue HU are those stated; a head of spheres becomes brain, bone,
** skin and air where they are; a clean slice is the volume's own slice; the Colin27 head has the
** brain and the head of an independent implementation (NumPy, SciPy) to 0.1 %; ventricles are as
** much wider as asked for; the same bits for any number of threads. */
#include "tests/test.h"

#include "base/files.h"
#include "pipeline/nifti.h"
#include "pipeline/simulate.h"

#include <unistd.h>

#define TEMPLATES "/usr/share/mricron/templates/"
static const TissueHu TISSUE = {8, 38, 29};

TEST(simulate_brain_tissue,
     "fluid, grey, white at their intensities, linear between, constant beyond")
{
    CHECK_NEAR(simulate_brain_hu(0, &TISSUE), 8, 0);
    CHECK_NEAR(simulate_brain_hu(28, &TISSUE), 8, 1e-12);
    CHECK_NEAR(simulate_brain_hu(48, &TISSUE), 23, 1e-12);
    CHECK_NEAR(simulate_brain_hu(60, &TISSUE), 30.5, 1e-12);
    CHECK_NEAR(simulate_brain_hu(72, &TISSUE), 38, 1e-12);
    CHECK_NEAR(simulate_brain_hu(108, &TISSUE), 29, 1e-12);
    CHECK_NEAR(simulate_brain_hu(300, &TISSUE), 28, 1e-12);
    CHECK_NEAR(simulate_target(80), 0.5, 1e-7);
    CHECK_NEAR(simulate_target(250), 1, 0);
}

typedef struct Head {
    Arena arena, scratch;
    SimulatedHead head;
} Head;

static void open_head(Head *h, const char *t1, const char *brain, int threads)
{
    Err err = {0};
    *h = (Head){0};
    CHECK_OK(arena_open((size_t)4 << 30, &h->arena, &err), &err);
    CHECK_OK(arena_open((size_t)4 << 30, &h->scratch, &err), &err);
    CHECK_OK(simulate_head(t1, brain, threads, &h->head, &h->arena, &h->scratch, &err), &err);
}

static void close_head(Head *h)
{
    arena_close(&h->scratch);
    arena_close(&h->arena);
}

/* ---- spheres --------------------------------------------------------------------------------- */

enum { N = 81, CENTRE = 40 };

static double radius_at(int x, int y, int z)
{
    return sqrt((x - CENTRE) * (x - CENTRE) + (y - CENTRE) * (y - CENTRE) +
                (z - CENTRE) * (z - CENTRE));
}

/* Brain to 20 mm (white matter within 10), skull to 26, skin to 32. */
static void write_spheres(const char *t1, const char *brain)
{
    static float t1_v[N * N * N];
    static int16_t brain_v[N * N * N];
    Err err = {0};
    Grid grid = {N, N, N, affine_identity()};
    for (int i = 0; i < N * N * N; i++) {
        double r = radius_at(i % N, i / N % N, i / N / N);
        t1_v[i] = r < 10 ? 108 : r < 20 ? 72 : r < 26 ? 5 : r < 32 ? 120 : 0;
        brain_v[i] = r < 20 && r > 3; /* a hole in the middle, which is filled */
    }
    t1_v[0] = NAN; /* far from the head */
    CHECK_OK(nifti_write_f32(t1, &(VolumeF32){grid, t1_v}, &err), &err);
    CHECK_OK(nifti_write_i16(brain, &(VolumeI16){grid, brain_v}, &err), &err);
}

TEST(simulate_spheres,
     "brain, skull, skin and air of a head of spheres, two voxels off the borders")
{
    char t1[PATH_SIZE], brain[PATH_SIZE];
    Head h;
    VolumeI16 ct;
    Err err = {0};
    CHECK_OK(path_format(t1, &err, "%s/t1.nii", test_dir()), &err);
    CHECK_OK(path_format(brain, &err, "%s/brain.nii", test_dir()), &err);
    write_spheres(t1, brain);
    open_head(&h, t1, brain, 1);
    CHECK_OK(simulate_ct(&h.head, &TISSUE, &ct, &h.arena, &err), &err);
    CHECK(h.head.t1.v[0] == 0);
    for (int i = 0; i < N * N * N; i++) {
        double r = radius_at(i % N, i / N % N, i / N / N);
        if (r < 8)
            CHECK_INT(ct.v[i], 29);
        else if (r > 12 && r < 18)
            CHECK_INT(ct.v[i], 38);
        else if (r > 22.5 && r < 23.5)
            CHECK(ct.v[i] > 900 && ct.v[i] <= 1300);
        else if (r > 28 && r < 30)
            CHECK_INT(ct.v[i], 30);
        else if (r > 36)
            CHECK_INT(ct.v[i], -1000);
    }
    close_head(&h);
}

/* ---- slices ---------------------------------------------------------------------------------- */

TEST(simulate_clean_slice,
     "an untilted slice without noise is the volume's; a turned one is turned")
{
    enum { Z = 44 };
    static const double none[3] = {0, 0, 0}, quarter[3] = {0, 0, 1.5707963267948966};
    static const double one[2] = {1, 1};
    static int16_t hu[N * N], turned[N * N];
    static uint8_t mask[N * N];
    static uint16_t mr[N * N];
    char t1[PATH_SIZE], brain[PATH_SIZE];
    Head h;
    VolumeI16 ct;
    Err err = {0};
    Random random = random_stream(1, 2, 3);
    CHECK_OK(path_format(t1, &err, "%s/t1.nii", test_dir()), &err);
    CHECK_OK(path_format(brain, &err, "%s/brain.nii", test_dir()), &err);
    write_spheres(t1, brain);
    open_head(&h, t1, brain, 1);
    h.head.t1.v[(Z * N + CENTRE) * N + CENTRE + 15] = 28; /* a mark to the side: fluid */
    CHECK_OK(simulate_ct(&h.head, &TISSUE, &ct, &h.arena, &err), &err);
    SliceRecipe r = {.thick = 1, .tissue = TISSUE};
    r.vox_from_pixel = simulate_pose(&ct.grid, N, none, one, none, Z);
    CHECK_OK(simulate_slice(&h.head, &r, N, &random, hu, mask, mr, &h.scratch, &err), &err);
    for (int i = 0; i < N * N; i++) {
        CHECK_INT(hu[i], ct.v[Z * N * N + i]);
        CHECK_INT(mask[i], h.head.head.v[Z * N * N + i]);
        float want = mask[i] ? simulate_target((double)h.head.t1.v[Z * N * N + i]) : 0;
        CHECK_NEAR(mr[i], lrintf(65535 * want), 1);
    }
    CHECK_INT(hu[CENTRE * N + CENTRE + 15], 8);
    r.vox_from_pixel = simulate_pose(&ct.grid, N, quarter, one, none, Z);
    CHECK_OK(simulate_slice(&h.head, &r, N, &random, turned, mask, mr, &h.scratch, &err), &err);
    CHECK_INT(turned[(CENTRE - 15) * N + CENTRE], 8); /* pixel y = -15 looks at voxel x = +15 */
    CHECK(turned[CENTRE * N + CENTRE + 15] > 20);
    close_head(&h);
}

TEST(simulate_noise, "noise has the deviation asked for; a stream gives the same slice each time")
{
    static int16_t a[N * N], b[N * N];
    static uint8_t mask[N * N];
    static uint16_t mr[N * N];
    static const double none[3] = {0, 0, 0}, one[2] = {1, 1};
    char t1[PATH_SIZE], brain[PATH_SIZE];
    Head h;
    Err err = {0};
    CHECK_OK(path_format(t1, &err, "%s/t1.nii", test_dir()), &err);
    CHECK_OK(path_format(brain, &err, "%s/brain.nii", test_dir()), &err);
    write_spheres(t1, brain);
    open_head(&h, t1, brain, 1);
    SliceRecipe r = {.thick = 3, .tissue = TISSUE, .noise_hu = 12, .offset_hu = 5};
    r.vox_from_pixel = simulate_pose(&h.head.t1.grid, N, none, one, none, CENTRE);
    for (int pass = 0; pass < 2; pass++) {
        Random random = random_stream(7, 7, 7);
        CHECK_OK(
            simulate_slice(&h.head, &r, N, &random, pass == 0 ? a : b, mask, mr, &h.scratch, &err),
            &err);
    }
    CHECK(memcmp(a, b, sizeof a) == 0);
    double sum = 0, squares = 0, n = 0;
    for (int i = 0; i < N * N; i++) {
        double rr = radius_at(i % N, i / N, CENTRE);
        if (rr > 12 && rr < 18) {
            sum += a[i], squares += (double)a[i] * a[i], n++;
        }
    }
    double mean = sum / n, deviation = sqrt(squares / n - mean * mean);
    CHECK_NEAR(mean, 43, 4 * 12 / sqrt(n));
    CHECK_NEAR(deviation, 12, 4 * 12 / sqrt(2 * n));
    close_head(&h);
}

/* ---- ventricles ------------------------------------------------------------------------------ */

TEST(simulate_ventricle_width,
     "a ball of fluid of 6 mm becomes one of 10 or of 4; the brain's surface stays")
{
    static const double wider[] = {4, -2, 0};
    char t1[PATH_SIZE], brain[PATH_SIZE];
    Head h;
    Err err = {0};
    CHECK_OK(path_format(t1, &err, "%s/t1.nii", test_dir()), &err);
    CHECK_OK(path_format(brain, &err, "%s/brain.nii", test_dir()), &err);
    write_spheres(t1, brain);
    open_head(&h, t1, brain, 1);
    SimulatedHead none;
    CHECK_STATUS(simulate_ventricles(&h.head, 4, 1, &none, &h.arena, &h.scratch, &err), ST_NIFTI);
    for (int i = 0; i < N * N * N; i++) { /* a brain that is deep enough, fluid in its middle */
        double r = radius_at(i % N, i / N % N, i / N / N);
        h.head.brain.v[i] = r < 36;
        h.head.t1.v[i] = r < 6 ? 32 : r < 36 ? 100 : 10;
    }
    for (size_t k = 0; k < sizeof wider / sizeof wider[0]; k++) {
        SimulatedHead other;
        CHECK_OK(simulate_ventricles(&h.head, wider[k], 2, &other, &h.arena, &h.scratch, &err),
                 &err);
        for (int i = 0; i < N * N * N; i++) {
            double r = radius_at(i % N, i / N % N, i / N / N), wall = 6 + wider[k];
            double value = (double)other.t1.v[i];
            if (r < wall - 2)
                CHECK_NEAR(value, 32, 0.5);
            else if (r > wall + 2 && r < 34)
                CHECK_NEAR(value, 100, 0.5);
            else if (r > 34)
                CHECK_NEAR(value, (double)h.head.t1.v[i], 0);
        }
    }
    close_head(&h);
}

/* ---- Colin27 --------------------------------------------------------------------------------- */

TEST_TIMEOUT(simulate_colin, "head and brain voxels as in NumPy; same bits with 1 and 2 threads",
             120)
{
    Head h, other;
    if (access(TEMPLATES "ch2.nii.gz", R_OK) != 0)
        SKIP("mricron-data is not installed");
    open_head(&h, TEMPLATES "ch2.nii.gz", TEMPLATES "ch2bet.nii.gz", 1);
    open_head(&other, TEMPLATES "ch2.nii.gz", TEMPLATES "ch2bet.nii.gz", 2);
    size_t n = grid_voxels(&h.head.t1.grid);
    double brain = 0, head = 0, bone = 0;
    for (size_t i = 0; i < n; i++) {
        brain += h.head.brain.v[i];
        head += h.head.head.v[i];
        bone += h.head.hu.v[i] > 340;
    }
    CHECK_NEAR(brain / 1777592, 1, 0.001);
    CHECK_NEAR(head / 4159224, 1, 0.001);
    (void)printf("# brain %.0f, head %.0f, bone %.0f ml\n", brain / 1000, head / 1000, bone / 1000);
    CHECK(memcmp(h.head.hu.v, other.head.hu.v, n * sizeof(float)) == 0);
    CHECK(memcmp(h.head.head.v, other.head.head.v, n) == 0);
    close_head(&h);
    close_head(&other);
}
