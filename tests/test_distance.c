/* pipeline/distance.h: the transform is exact, so brute force over all pairs must agree. Float
** results: relative error of single precision, 1e-5. */
#include "tests/test.h"

#include "pipeline/distance.h"

#include <stdlib.h>

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static Grid make_grid(int nx, int ny, int nz, double dx, double dy, double dz)
{
    return (Grid){nx, ny, nz, {{{dx, 0, 0, 0}, {0, dy, 0, 0}, {0, 0, dz, 0}}}};
}

static double brute(const Grid *g, const uint8_t *mask, bool target, int x, int y, int z)
{
    double best = HUGE_VAL;
    for (int c = 0; c < g->nz; c++)
        for (int b = 0; b < g->ny; b++)
            for (int a = 0; a < g->nx; a++)
                if ((mask[(c * g->ny + b) * g->nx + a] != 0) == target) {
                    double dx = (a - x) * g->lps_from_vox.m[0][0];
                    double dy = (b - y) * g->lps_from_vox.m[1][1];
                    double dz = (c - z) * g->lps_from_vox.m[2][2];
                    best = fmin(best, dx * dx + dy * dy + dz * dz);
                }
    return best;
}

TEST(distance_equals_brute_force, "random anisotropic masks of every density, both targets")
{
    uint32_t state = 7;
    for (int round = 0; round < 60; round++) {
        int nx = 1 + (int)(next_random(&state) % 19), ny = 1 + (int)(next_random(&state) % 14);
        int nz = 1 + (int)(next_random(&state) % 9);
        Grid g = make_grid(nx, ny, nz, 0.3 + 0.01 * (next_random(&state) % 200),
                           0.3 + 0.01 * (next_random(&state) % 200),
                           0.3 + 0.01 * (next_random(&state) % 500));
        uint8_t mask[19 * 14 * 9];
        float d[19 * 14 * 9];
        uint32_t percent = next_random(&state) % 101;
        for (int i = 0; i < nx * ny * nz; i++)
            mask[i] = (uint8_t)(next_random(&state) % 100 < percent ? 1 + round % 5 : 0);
        bool target = round % 2 == 0;
        distance_squared(&g, mask, target, HUGE_VAL, 2, d);
        for (int z = 0, i = 0; z < nz; z++)
            for (int y = 0; y < ny; y++)
                for (int x = 0; x < nx; x++, i++) {
                    double want = brute(&g, mask, target, x, y, z);
                    if (isinf(want))
                        CHECK(isinf(d[i]));
                    else
                        CHECK_NEAR(d[i], want, 1e-5 * want + 1e-9);
                }
    }
}

TEST(distance_with_limit, "exact up to the limit, beyond the limit otherwise")
{
    enum { NX = 40, NY = 35, NZ = 12, N = NX * NY * NZ };
    Grid g = make_grid(NX, NY, NZ, 0.9, 1.3, 3);
    static uint8_t mask[N];
    static float exact[N], limited[N];
    uint32_t state = 11;
    for (int i = 0; i < N; i++)
        mask[i] = next_random(&state) % 1500 == 0;
    distance_squared(&g, mask, true, HUGE_VAL, 2, exact);
    for (double limit_mm = 0.5; limit_mm < 30; limit_mm += 2.4) {
        distance_squared(&g, mask, true, limit_mm, 2, limited);
        for (int i = 0; i < N; i++) {
            double want = (double)exact[i], limit2 = limit_mm * limit_mm;
            if (want <= limit2)
                CHECK_NEAR(limited[i], want, 1e-5 * want);
            else
                CHECK((double)limited[i] > limit2 * (1 - 1e-6));
        }
    }
}

TEST(distance_without_target_is_infinite, "an empty and a full mask")
{
    Grid g = make_grid(4, 3, 2, 1, 2, 3);
    uint8_t mask[24] = {0};
    float d[24];
    distance_squared(&g, mask, true, HUGE_VAL, 1, d);
    for (int i = 0; i < 24; i++)
        CHECK(isinf(d[i]));
    distance_squared(&g, mask, false, 4, 1, d);
    for (int i = 0; i < 24; i++)
        CHECK(d[i] == 0);
}

TEST(distance_same_bits_for_any_threads, "1, 2 and 3 threads, 70 x 61 x 33 voxels")
{
    enum { NX = 70, NY = 61, NZ = 33, N = NX * NY * NZ };
    Grid g = make_grid(NX, NY, NZ, 0.7, 0.7, 2.5);
    uint8_t *mask = calloc(N, 1);
    float *a = calloc(N, sizeof *a), *b = calloc(N, sizeof *b);
    CHECK(mask != NULL && a != NULL && b != NULL);
    uint32_t state = 3;
    for (int i = 0; i < N; i++)
        mask[i] = next_random(&state) % 50 == 0;
    for (int limited = 0; limited < 2; limited++) {
        double limit_mm = limited ? 6.0 : HUGE_VAL;
        distance_squared(&g, mask, true, limit_mm, 1, a);
        for (int threads = 2; threads <= 3; threads++) {
            distance_squared(&g, mask, true, limit_mm, threads, b);
            CHECK(memcmp(a, b, N * sizeof *a) == 0);
        }
    }
    free(mask);
    free(a);
    free(b);
}
