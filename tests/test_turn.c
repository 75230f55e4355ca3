/* pipeline/turn: whole axes are permuted and flipped, nothing else. */
#include "pipeline/turn.h"
#include "tests/test.h"

#include <math.h>

TEST(turn_axes,
     "to where slices run: in patient coordinates, oblique ones to the nearest, else none")
{
    Grid grid = {4, 4, 4, {{{-2, 0, 0, 0}, {0, 0.9, 0.2, 0}, {0, -0.2, 0.9, 0}}}};
    char axes[3];
    CHECK(grid_axes(&grid, axes));
    CHECK_STR(axes, "RP");
    grid.lps_from_vox.m[0][0] = 2;
    grid.lps_from_vox.m[1][1] = -0.9;
    CHECK(grid_axes(&grid, axes));
    CHECK_STR(axes, "LA");
    const Grid sagittal = {4, 4, 4, {{{0, 0, 1, 0}, {1, 0, 0, 0}, {0, -1, 0, 0}}}};
    CHECK(!grid_axes(&sagittal, axes));
}

TEST(turn_moves_no_voxel, "48 orientations to each of four: same place, same value")
{
    static const char *const AXES[] = {"LP", "LA", "RP", "RA"};
    Arena arena;
    Err err = {0};
    CHECK_OK(arena_open((size_t)16 << 20, &arena, &err), &err);
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    int16_t values[60];
    for (int i = 0; i < 60; i++)
        values[i] = (int16_t)i;
    for (int c = 0; c < 4 * 48; c++) {
        const char *axes = AXES[c / 48];
        VolumeI16 in = {{5, 4, 3, {{{0}}}}, values}, out;
        for (int a = 0; a < 3; a++) {
            double step_mm = ((c >> a) & 1 ? -1.0 : 1.0) * (1.0 + 0.5 * a);
            in.grid.lps_from_vox.m[orders[c % 48 / 8][a]][a] = step_mm;
            in.grid.lps_from_vox.m[orders[c % 48 / 8][(a + 1) % 3]][a] = 0.1; /* a little oblique */
            in.grid.lps_from_vox.m[a][3] = 7 * a;
        }
        CHECK_OK(volume_turn(&in, axes, &arena, &out, &err), &err);
        char got[3];
        CHECK(grid_axes(&out.grid, got));
        CHECK_STR(got, axes);
        CHECK(out.grid.lps_from_vox.m[2][2] > 0.9);
        CHECK_INT(grid_voxels(&out.grid), 60);
        Affine vox_from_lps;
        CHECK(affine_inverse(in.grid.lps_from_vox, &vox_from_lps));
        Affine in_from_out = affine_mul(vox_from_lps, out.grid.lps_from_vox);
        for (int i = 0; i < 60; i++) {
            Vec3 p = {i % out.grid.nx, i / out.grid.nx % out.grid.ny,
                      i / (out.grid.nx * out.grid.ny)};
            Vec3 q = affine_apply(in_from_out, p);
            long at = lround(q.z) * 20 + lround(q.y) * 5 + lround(q.x);
            CHECK(fabs(q.x - round(q.x)) < 1e-9 && at >= 0 && at < 60);
            CHECK_INT(out.v[i], values[at]);
        }
    }
    arena_close(&arena);
}
