/* registration/metric.h and optimize_polish(): known answers on small images made by formula.
**
** The moving image is a function of the fixed one, or that plus noise whose share is known; the
** weights of a shifted volume's samples are counted by hand; a region that moved by itself must not
** pull on the rest. */
#include "tests/test.h"

#include "registration/optimize.h"
#include "tests/head_phantom.h"

#include <math.h>

enum { N = 34, INNER = 24 };
#define SPACING_MM 3.0

static float moving[N * N * N], bin[N * N * N];
static uint8_t head[N * N * N];

/* Moving N^3 and fixed n^3 voxels, both centred on the origin. */
static MetricLevel level_of(int n)
{
    MetricLevel level = {.bin = bin, .head = head, .n_head = n * n * n};
    level.moving = (VolumeF32){{N, N, N, affine_identity()}, moving};
    level.fixed = (Grid){n, n, n, affine_identity()};
    for (int a = 0; a < 3; a++) {
        level.moving.grid.lps_from_vox.m[a][a] = level.fixed.lps_from_vox.m[a][a] = SPACING_MM;
        level.moving.grid.lps_from_vox.m[a][3] = -0.5 * SPACING_MM * (N - 1);
        level.fixed.lps_from_vox.m[a][3] = -0.5 * SPACING_MM * (n - 1);
    }
    memset(head, 1, sizeof head);
    return level;
}

TEST(metric_cost_by_hand, "a function of the fixed image: 0; with noise: the noise's share")
{
    const double noise_sd[] = {0, 3, 12};
    MetricLevel level = level_of(N);
    uint64_t state = 1;
    for (int k = 0; k < 3; k++) {
        double signal = 0, square = 0;
        for (int i = 0; i < N * N * N; i++) {
            bin[i] = (float)((METRIC_BINS - 1) * phantom_random(&state));
            /* Up and down again, with its corner on a knot. */
            double y = bin[i] < 20 ? 2 * (double)bin[i] : 60 - (double)bin[i], noise = -6;
            signal += y;
            square += y * y;
            for (int n = 0; n < 12; n++)
                noise += phantom_random(&state);
            moving[i] = (float)(y + noise_sd[k] * noise);
        }
        double n = N * N * N, variance = square / n - signal / n * signal / n;
        double want = noise_sd[k] * noise_sd[k] / (noise_sd[k] * noise_sd[k] + variance);
        MetricCost got;
        metric_cost(&level, affine_identity(), 1, &got);
        (void)printf("# cost %.6f, noise's share %.6f\n", got.cost, want);
        CHECK_NEAR(got.cost, want, 1e-6 + 0.02 * want);
    }
}

TEST(metric_apodises, "weights fall to 0 within a voxel of the moving image's edge")
{
    static const double shift_vox[] = {0, 0.25, 0.5, 1.25, 1.5};
    /* Inside along the other axes N - 2 each; along x by hand, see apodise(). */
    static const double along_x[] = {N - 2, N - 2, N - 2, N - 2.25, N - 2.5};
    MetricLevel level = level_of(N);
    for (int i = 0; i < N * N * N; i++)
        moving[i] = bin[i] = (float)(i % (METRIC_BINS - 1));
    for (int k = 0; k < 5; k++) {
        Affine t = affine_identity();
        MetricCost got;
        t.m[0][3] = shift_vox[k] * SPACING_MM;
        metric_cost(&level, t, 1, &got);
        CHECK_NEAR(got.overlap_frac, along_x[k] * (N - 2) * (N - 2) / (1.0 * N * N * N), 1e-5);
    }
}

static double wave(Vec3 p)
{
    return 50 + 20 * sin(p.x / 11) * cos(p.y / 13) + 20 * cos(p.z / 9 + p.x / 23) * sin(p.y / 17);
}

TEST(metric_outliers_do_not_pull, "a twentieth of the volume moved by 10 mm: the rest to 0.2 mm")
{
    enum { ODD = 9 };
    const Vec3 shift = {0.7, -0.4, 0.3};
    MetricLevel level = level_of(INNER);
    int i = 0;
    for (int z = 0; z < N; z++)
        for (int y = 0; y < N; y++)
            for (int x = 0; x < N; x++)
                moving[i++] =
                    (float)wave(affine_apply(level.moving.grid.lps_from_vox, (Vec3){x, y, z}));
    i = 0;
    for (int z = 0; z < INNER; z++)
        for (int y = 0; y < INNER; y++)
            for (int x = 0; x < INNER; x++) {
                Vec3 p = affine_apply(level.fixed.lps_from_vox, (Vec3){x, y, z});
                bool odd =
                    x >= 8 && x < 8 + ODD && y >= 3 && y < 3 + ODD && z >= 10 && z < 10 + ODD;
                p = (Vec3){p.x + shift.x + (odd ? 10 : 0), p.y + shift.y, p.z + shift.z};
                bin[i++] = (float)((METRIC_BINS - 1) * wave(p) / 100);
            }
    const OptimizeOptions options = {3, 20, 1, 0};
    Affine t = affine_identity();
    MetricCost at;
    (void)optimize_affine(&level, &options, &t);
    double before = hypot(t.m[0][3] - shift.x, hypot(t.m[1][3] - shift.y, t.m[2][3] - shift.z));
    optimize_polish(&level, &options, &t, &at);
    double after = hypot(t.m[0][3] - shift.x, hypot(t.m[1][3] - shift.y, t.m[2][3] - shift.z));
    (void)printf("# off by %.3f mm where the cost is least, by %.3f mm after polishing\n", before,
                 after);

    CHECK(after < 0.2); /* 0.6 with equal weights */
}
