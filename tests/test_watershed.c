/* pipeline/watershed.h, components.h and filter.h on arrays small enough to know the answer.
** Errors (a) and (c) of masking heads: markers entered below their own level win a free shell; a
** saturated gradient leaves the place of the edge to the queue's order. (b), the missing marker
** outside the skull, is in test_mask.c. */
#include "tests/test.h"

#include "pipeline/components.h"
#include "pipeline/filter.h"
#include "pipeline/watershed.h"

static Grid row_grid(int nx)
{
    return (Grid){nx, 1, 1, affine_identity()};
}

static void check_row(int n, const uint8_t *level, const uint8_t *marker, const uint8_t *want)
{
    uint8_t label[32];
    int32_t next[32];
    CHECK(n <= 32);
    memcpy(label, marker, (size_t)n);
    Grid g = row_grid(n);
    watershed_flood(&g, level, label, next);
    for (int i = 0; i < n; i++)
        CHECK_INT(label[i], want[i]);
}

TEST(watershed_meets_on_the_ridge, "two basins, the ridge goes to the side that comes first")
{
    const uint8_t level[9] = {1, 2, 3, 9, 30, 9, 3, 2, 1};
    const uint8_t marker[9] = {1, 0, 0, 0, 0, 0, 0, 0, 2};
    const uint8_t want[9] = {1, 1, 1, 1, 1, 2, 2, 2, 2};
    check_row(9, level, marker, want);
}

TEST(watershed_ridge_off_centre, "the border is where the gradient is, not half way")
{
    /* The ridge voxel itself goes to the marker that reaches it in fewer steps. */
    const uint8_t level[9] = {5, 5, 5, 5, 5, 5, 40, 5, 5};
    const uint8_t marker[9] = {7, 0, 0, 0, 0, 0, 0, 0, 3};
    const uint8_t want[9] = {7, 7, 7, 7, 7, 7, 3, 3, 3};
    check_row(9, level, marker, want);
}

TEST(watershed_plateau_is_shared, "on a plateau both sides advance in turn: first in, first out")
{
    const uint8_t level[8] = {4, 4, 4, 4, 4, 4, 4, 4};
    const uint8_t marker[8] = {1, 0, 0, 0, 0, 0, 0, 2};
    const uint8_t even[8] = {1, 1, 1, 1, 2, 2, 2, 2};
    check_row(8, level, marker, even);
    /* An odd plateau: the middle goes to the marker that comes first in memory. */
    const uint8_t odd_marker[7] = {2, 0, 0, 0, 0, 0, 1}, odd[7] = {2, 2, 2, 2, 1, 1, 1};
    check_row(7, level, odd_marker, odd);
}

TEST(watershed_marker_enters_at_own_level, "(a) a marker on a steep slope gets no free shell")
{
    /* Entered at level 0, marker 2 would take the voxel beside it before marker 1 came there. */
    const uint8_t level[5] = {0, 10, 10, 10, 200};
    const uint8_t marker[5] = {1, 0, 0, 0, 2};
    const uint8_t want[5] = {1, 1, 1, 1, 2};
    check_row(5, level, marker, want);
}

TEST(watershed_needs_marker_outside, "(b) through a gap in the bone the flood fills the muscle")
{
    /* 9 x 5: brain, a wall of bone (a marker) with a gap in row 2, muscle, fat (a marker). The
    ** gradient is high beside bone and fat, low in the gap's middle. */
    enum { NX = 9, NY = 5, N = NX * NY, BRAIN = 1, OUTSIDE = 2 };
    uint8_t level[N], label[N];
    int32_t next[N];
    Grid g = {NX, NY, 1, affine_identity()};
    for (int with_marker = 0; with_marker < 2; with_marker++) {
        for (int y = 0, i = 0; y < NY; y++)
            for (int x = 0; x < NX; x++, i++) {
                level[i] = y == 2 ? (x == 3 ? 20 : 10) : (x >= 2 && x <= 4 ? 90 : 10);
                level[i] = x >= 7 ? 80 : level[i];
                label[i] = x == 0 ? BRAIN : (x == 3 && y != 2) || x == 8 ? OUTSIDE : 0;
            }
        if (with_marker)
            label[2 * NX + 5] = OUTSIDE;
        watershed_flood(&g, level, label, next);
        for (int y = 0; y < NY; y++)
            for (int x = 5; x < 7; x++)
                CHECK_INT(label[y * NX + x], with_marker ? OUTSIDE : BRAIN);
        CHECK_INT(label[2 * NX + 2], BRAIN);
    }
}

TEST(watershed_low_behind_high, "a basin reached over a ridge is flooded at the ridge's level")
{
    const uint8_t level[7] = {0, 50, 0, 0, 0, 60, 0};
    const uint8_t marker[7] = {1, 0, 0, 0, 0, 0, 2};
    const uint8_t want[7] = {1, 1, 1, 1, 1, 2, 2};
    check_row(7, level, marker, want);
}

TEST(watershed_six_neighbours_in_space, "a wall with a diagonal gap only is tight")
{
    /* 4 x 4 x 1: marker 1 in one corner, marker 2 in the other, a diagonal wall between. */
    const uint8_t level[16] = {0, 0, 0, 90, 0, 0, 90, 0, 0, 90, 0, 0, 90, 0, 0, 0};
    uint8_t label[16] = {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
    int32_t next[16];
    Grid g = {4, 4, 1, affine_identity()};
    watershed_flood(&g, level, label, next);
    for (int y = 0; y < 4; y++)
        for (int x = 0; x < 4; x++)
            if (x + y != 3)
                CHECK_INT(label[y * 4 + x], x + y < 3 ? 1 : 2);
}

TEST(watershed_edge_of_steep_profile, "(c) the border is at the steepest point of a strong edge")
{
    /* 0 to 1000 HU in unequal steps, clipped to [-200, 400] nowhere near the steepest one; a scale
    ** that saturates would make a plateau of voxels 6..13 and put the border between 9 and 10. */
    enum { N = 20 };
    static const float hu[N] = {0,   0,   0,   0,   0,   0,   40,  80,  120, 150,
                                180, 210, 330, 390, 399, 399, 399, 399, 399, 399};
    float v[N];
    memcpy(v, hu, sizeof v);
    VolumeF32 volume = {row_grid(N), v};
    uint8_t level[N], label[N] = {0};
    int32_t next[N];
    Arena scratch;
    Err err = {0};
    CHECK_OK(arena_open(1 << 20, &scratch, &err), &err);
    CHECK_OK(filter_gradient(&volume, -200, 400, 2, level, &scratch, &err), &err);
    int peak = 0, n_peak = 0;
    for (int i = 0; i < N; i++)
        peak = level[i] > level[peak] ? i : peak;
    for (int i = 0; i < N; i++)
        n_peak += level[i] == level[peak];
    CHECK_INT(level[peak], 255);
    CHECK(peak == 11 || peak == 12); /* 150 HU and 180 HU over two voxels */
    CHECK_INT(n_peak, 1);
    label[0] = 1;
    label[N - 1] = 2;
    watershed_flood(&volume.grid, level, label, next);
    CHECK_INT(label[peak - 1], 1);
    CHECK_INT(label[peak + 1], 2);
    arena_close(&scratch);
}

TEST(component_largest_and_holes, "the larger of two parts stays; only true holes are filled")
{
    /* 7 x 5: a ring with a hole, a bar apart; diagonal contact does not join. */
    const char *picture = "###...."
                          "#.#...#"
                          "###...#"
                          "...#..#"
                          "......#";
    uint8_t mask[35];
    int32_t queue[35];
    Grid g = {7, 5, 1, affine_identity()};
    for (int i = 0; i < 35; i++)
        mask[i] = picture[i] == '#';
    CHECK_INT(component_keep_largest(&g, mask, queue), 8);
    for (int i = 0; i < 35; i++)
        CHECK_INT(mask[i], i % 7 < 3 && i / 7 < 3 && i != 8);
    component_fill_slices(&g, mask, 2, 2, queue);
    for (int i = 0; i < 35; i++)
        CHECK_INT(mask[i], i % 7 < 3 && i / 7 < 3);
    uint8_t empty[35] = {0};
    CHECK_INT(component_keep_largest(&g, empty, queue), 0);
}

/* Holes of one slice by relabelling until nothing changes. */
static void fill_plainly(const Grid *g, const uint8_t *in, uint8_t *out, int axis)
{
    const int n[3] = {g->nx, g->ny, g->nz}, step[3] = {1, g->nx, g->nx * g->ny};
    int u = axis == 0 ? 1 : 0, v = axis == 2 ? 1 : 2;
    for (int s = 0; s < n[axis]; s++) {
        static bool outside[64][64];
        memset(outside, 0, sizeof outside);
        for (bool changed = true; changed;) {
            changed = false;
            for (int i = 0; i < n[v]; i++)
                for (int k = 0; k < n[u]; k++) {
                    bool is_rim = i == 0 || k == 0 || i == n[v] - 1 || k == n[u] - 1;
                    bool joined = is_rim || outside[i - 1][k] || outside[i + 1][k] ||
                                  outside[i][k - 1] || outside[i][k + 1];
                    if (in[s * step[axis] + i * step[v] + k * step[u]] == 0 && !outside[i][k] &&
                        joined)
                        changed = outside[i][k] = true;
                }
        }
        for (int i = 0; i < n[v]; i++)
            for (int k = 0; k < n[u]; k++)
                out[s * step[axis] + i * step[v] + k * step[u]] = !outside[i][k];
    }
}

TEST(component_fill_equals_relabelling, "random mazes along each axis, slices no multiple of 16")
{
    enum { MX = 35, MY = 22, MZ = 19, M = MX * MY * MZ };
    static uint8_t in[M], want[M], got[M];
    static int32_t work[M];
    Grid g = {MX, MY, MZ, affine_identity()};
    uint32_t r = 12345;
    for (int density = 30; density <= 70; density += 10)
        for (int axis = 0; axis < 3; axis++)
            for (int threads = 1; threads < 3; threads++) {
                for (int i = 0; i < M; i++) {
                    r = r * 1664525u + 1013904223u;
                    in[i] = (r >> 8) % 100 < (uint32_t)density;
                }
                fill_plainly(&g, in, want, axis);
                memcpy(got, in, M);
                component_fill_slices(&g, got, axis, threads, work);
                CHECK(memcmp(want, got, M) == 0);
            }
    /* A single slice: the work memory is as small as it gets. */
    Grid flat = {MX, MY, 1, affine_identity()};
    fill_plainly(&flat, in, want, 2);
    component_fill_slices(&flat, in, 2, 1, work);
    CHECK(memcmp(want, in, (size_t)MX * MY) == 0);
}

TEST(component_flood_measures, "size, box and members of one part; small parts are dropped")
{
    Grid g = {4, 3, 2, affine_identity()};
    uint8_t mask[24] = {0};
    int32_t queue[24];
    mask[5] = mask[6] = mask[6 + 12] = 1; /* (1,1,0) (2,1,0) (2,1,1) */
    mask[3] = 1;                          /* alone */
    Component c;
    component_flood(&g, mask, 5, 9, queue, &c);
    CHECK_INT(c.voxels, 3);
    CHECK(c.low[0] == 1 && c.low[1] == 1 && c.low[2] == 0);
    CHECK(c.high[0] == 2 && c.high[1] == 1 && c.high[2] == 1);
    CHECK(mask[5] == 9 && mask[6] == 9 && mask[18] == 9 && mask[3] == 1);
    for (int i = 0; i < 24; i++)
        mask[i] = mask[i] != 0;
    component_drop_small(&g, mask, 2, queue);
    CHECK(mask[3] == 0 && mask[5] == 1 && mask[6] == 1 && mask[18] == 1);
}

TEST(filter_shrink_keeps_the_mean, "a ramp stays the same ramp in patient coordinates")
{
    enum { NX = 40, NY = 30, NZ = 12 };
    static int16_t v[NX * NY * NZ];
    VolumeI16 ct = {{NX, NY, NZ, {{{0.5, 0, 0, 10}, {0, 0.4, 0, -5}, {0, 0, 3, 1}}}}, v};
    for (int z = 0; z < NZ; z++)
        for (int y = 0; y < NY; y++)
            for (int x = 0; x < NX; x++)
                v[(z * NY + y) * NX + x] = (int16_t)(10 * x - 7 * y + 20 * z);
    Arena scratch;
    Err err = {0};
    CHECK_OK(arena_open(1 << 22, &scratch, &err), &err);
    VolumeF32 copy = {filter_shrink_grid(&ct.grid, 1.3), NULL};
    CHECK_NEAR(grid_spacing_mm(&copy.grid, 0), 1.3, 1e-9);
    CHECK_NEAR(grid_spacing_mm(&copy.grid, 2), 3, 1e-9);
    copy.v = arena_alloc(&scratch, grid_voxels(&copy.grid), sizeof(float), &err);
    CHECK(copy.v != NULL);
    CHECK_OK(filter_shrink(&ct, 2, &copy, &scratch, &err), &err);
    for (int z = 0; z < copy.grid.nz; z++)
        for (int y = 0; y < copy.grid.ny - 1; y++) /* the last ones are partly outside */
            for (int x = 0; x < copy.grid.nx - 1; x++) {
                Vec3 p = affine_apply(copy.grid.lps_from_vox, (Vec3){x, y, z});
                double want = 10 * (p.x - 10) / 0.5 - 7 * (p.y + 5) / 0.4 + 20 * (p.z - 1) / 3;
                /* A voxel cut in two counts with its centre's value: the mean's place is off by at
                ** most 1/8 voxel / factor, 0.48 + 0.27 HU here. */
                CHECK_NEAR(copy.v[(z * copy.grid.ny + y) * copy.grid.nx + x], want, 0.75);
            }
    arena_close(&scratch);
}

TEST(filter_gauss_known_width, "an impulse becomes a Gaussian of the asked width, sum kept")
{
    enum { N = 41 };
    Grid g = {N, N, N, {{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 2, 0}}}};
    Arena scratch;
    Err err = {0};
    CHECK_OK(arena_open(1 << 24, &scratch, &err), &err);
    VolumeF32 v = {g, arena_alloc(&scratch, N * N * N, sizeof(float), &err)};
    CHECK(v.v != NULL);
    v.v[(20 * N + 20) * N + 20] = 1000;
    CHECK_OK(filter_gauss(&v, 2.5, 2, &scratch, &err), &err);
    double sum = 0, sum_x2 = 0, sum_z2 = 0;
    for (int i = 0; i < N * N * N; i++) {
        double x = i % N - 20, z = 2 * (i / (N * N) - 20), w = (double)v.v[i];
        sum += w, sum_x2 += w * x * x, sum_z2 += w * z * z;
    }
    CHECK_NEAR(sum, 1000, 0.1);
    /* Cut at 2.5 sigma: the width comes out a few percent smaller. */
    CHECK_NEAR(sqrt(sum_x2 / sum), 2.5, 0.2);
    CHECK_NEAR(sqrt(sum_z2 / sum), 2.5, 0.2);
    arena_close(&scratch);
}
