/* registration/resample.h: known answers. Trilinear interpolation reproduces fields that are linear
** in space, so those are exact but for rounding; the rules at the edge are checked on both sides.
*/
#include "tests/test.h"

#include "registration/resample.h"
#include "tests/head_phantom.h"

enum { NX = 37, NY = 29, NZ = 23, N = NX * NY * NZ };

/* Oblique and anisotropic, so that inverting and multiplying leaves rounding errors. */
static Grid oblique_grid(void)
{
    uint64_t state = 5;
    Affine turn = phantom_affine(&state, 25, 0, 70);
    Grid g = {NX, NY, NZ, {{{0.7, 0, 0, 0}, {0, 0.9, 0, 0}, {0, 0, 2.3, 0}}}};
    g.lps_from_vox = affine_mul(turn, g.lps_from_vox);
    return g;
}

static int16_t noise_i16[N], result_i16[N];
static float noise_f32[N], result_f32[N];
static uint8_t noise_u8[N], result_u8[N];

static void make_noise(void)
{
    uint64_t state = 11;
    for (int i = 0; i < N; i++) {
        noise_i16[i] = (int16_t)(phantom_random(&state) * 65535 - 32768);
        noise_f32[i] = (float)(phantom_random(&state) * 2e5 - 1e5);
        noise_u8[i] = phantom_random(&state) < 0.5;
    }
    noise_i16[0] = INT16_MIN;
    noise_i16[N - 1] = INT16_MAX;
}

/* Moves by whole voxels: out(x, y, z) = in(x + i, y + j, z + k). */
static Affine voxel_shift(const Grid *g, int i, int j, int k)
{
    Affine vox_from_lps, shift = affine_identity();
    CHECK(affine_inverse(g->lps_from_vox, &vox_from_lps));
    shift.m[0][3] = i;
    shift.m[1][3] = j;
    shift.m[2][3] = k;
    return affine_mul(g->lps_from_vox, affine_mul(shift, vox_from_lps));
}

TEST(resample_identity_same_bits, "onto its own oblique grid: every value comes back exactly")
{
    make_noise();
    VolumeI16 i16 = {oblique_grid(), noise_i16}, to_i16 = {i16.grid, result_i16};
    VolumeF32 f32 = {i16.grid, noise_f32}, to_f32 = {i16.grid, result_f32};
    VolumeU8 u8 = {i16.grid, noise_u8}, to_u8 = {i16.grid, result_u8};
    resample_i16(&i16, affine_identity(), -1, 2, &to_i16);
    resample_f32(&f32, affine_identity(), -1, 2, &to_f32);
    resample_mask(&u8, affine_identity(), 2, &to_u8);
    CHECK(memcmp(noise_i16, result_i16, sizeof noise_i16) == 0);
    CHECK(memcmp(noise_f32, result_f32, sizeof noise_f32) == 0);
    CHECK(memcmp(noise_u8, result_u8, sizeof noise_u8) == 0);
}

TEST(resample_integer_shift_same_bits,
     "shifted by (3, -2, 1) voxels: moved exactly, outside filled")
{
    make_noise();
    VolumeI16 i16 = {oblique_grid(), noise_i16}, to_i16 = {i16.grid, result_i16};
    VolumeF32 f32 = {i16.grid, noise_f32}, to_f32 = {i16.grid, result_f32};
    VolumeU8 u8 = {i16.grid, noise_u8}, to_u8 = {i16.grid, result_u8};
    Affine shift = voxel_shift(&i16.grid, 3, -2, 1);
    resample_i16(&i16, shift, -777, 0, &to_i16);
    resample_f32(&f32, shift, -777, 0, &to_f32);
    resample_mask(&u8, shift, 0, &to_u8);
    for (int z = 0, at = 0; z < NZ; z++)
        for (int y = 0; y < NY; y++)
            for (int x = 0; x < NX; x++, at++) {
                bool inside = x + 3 < NX && y >= 2 && z + 1 < NZ;
                int from = ((z + 1) * NY + (y - 2)) * NX + x + 3;
                CHECK_INT(result_i16[at], inside ? noise_i16[from] : -777);
                CHECK(result_f32[at] == (inside ? noise_f32[from] : -777.0f));
                CHECK_INT(result_u8[at], inside ? noise_u8[from] : 0);
            }
}

TEST(resample_linear_field_is_exact, "a field linear in mm, through a general affine: to 1e-3")
{
    VolumeF32 source = {oblique_grid(), noise_f32}, to = {.v = result_f32};
    int i = 0, inside = 0;
    for (int z = 0; z < NZ; z++)
        for (int y = 0; y < NY; y++)
            for (int x = 0; x < NX; x++) {
                Vec3 p = affine_apply(source.grid.lps_from_vox, (Vec3){x, y, z});
                source.v[i++] = (float)(2 * p.x - 3 * p.y + 0.5 * p.z);
            }
    uint64_t state = 9;
    Affine t = phantom_affine(&state, 20, 0.1, 5), vox_from_lps;
    CHECK(affine_inverse(source.grid.lps_from_vox, &vox_from_lps));
    Vec3 centre = affine_apply(source.grid.lps_from_vox, (Vec3){NX / 2, NY / 2, NZ / 2});
    Vec3 moved = vec3_sub(centre, affine_apply(t, centre)); /* the centre stays where it is */
    t.m[0][3] += moved.x;
    t.m[1][3] += moved.y;
    t.m[2][3] += moved.z;
    to.grid = source.grid;
    to.grid.nx = 31;
    to.grid.ny = 33; /* 31 * 33 * 23 < N */
    resample_f32(&source, t, NAN, 0, &to);
    i = 0;
    for (int z = 0; z < to.grid.nz; z++)
        for (int y = 0; y < to.grid.ny; y++)
            for (int x = 0; x < to.grid.nx; x++, i++) {
                Vec3 p = affine_apply(t, affine_apply(to.grid.lps_from_vox, (Vec3){x, y, z}));
                Vec3 v = affine_apply(vox_from_lps, p);
                bool in = v.x >= 0 && v.y >= 0 && v.z >= 0 && v.x <= NX - 1 && v.y <= NY - 1 &&
                          v.z <= NZ - 1;
                if (in)
                    CHECK_NEAR(result_f32[i], 2 * p.x - 3 * p.y + 0.5 * p.z, 1e-3);
                inside += in;
            }
    CHECK(inside > N / 4);
}

/* A row of 3 voxels 0, 10, 20, sampled at one x. */
static float row_at(double x)
{
    float v[3] = {0, 10, 20}, got = NAN;
    VolumeF32 source = {{3, 1, 1, affine_identity()}, v}, to = {{1, 1, 1, affine_identity()}, &got};
    Affine shift = affine_identity();
    shift.m[0][3] = x;
    resample_f32(&source, shift, -5, 1, &to);
    return got;
}

TEST(resample_half_voxel_edge, "held to half a voxel past the last centre, outside beyond it")
{
    CHECK_NEAR(row_at(-0.51), -5, 0);
    CHECK_NEAR(row_at(-0.5), 0, 0);
    CHECK_NEAR(row_at(-0.2), 0, 0);
    CHECK_NEAR(row_at(0.25), 2.5, 1e-6);
    CHECK_NEAR(row_at(1.5), 15, 1e-6);
    CHECK_NEAR(row_at(2.3), 20, 0);
    CHECK_NEAR(row_at(2.5), 20, 0);
    CHECK_NEAR(row_at(2.51), -5, 0);
    CHECK_NEAR(row_at(1e12), -5, 0);
    CHECK_NEAR(row_at(-1e12), -5, 0);
}

TEST(resample_rounds_to_nearest, "int16 halves go away from zero, also below it; no overflow")
{
    int16_t v[2] = {-3, -2}, extreme[2] = {INT16_MAX, INT16_MIN}, got = 99;
    VolumeI16 source = {{2, 1, 1, affine_identity()}, v}, to = {{1, 1, 1, affine_identity()}, &got};
    Affine shift = affine_identity();
    static const double at[] = {0.25, 0.5, 0.75};
    static const int want[] = {-3, -3, -2};
    for (int i = 0; i < 3; i++) {
        shift.m[0][3] = at[i];
        resample_i16(&source, shift, 0, 1, &to);
        CHECK_INT(got, want[i]);
    }
    source.v = extreme;
    shift.m[0][3] = 0;
    resample_i16(&source, shift, 0, 1, &to);
    CHECK_INT(got, INT16_MAX);
    shift.m[0][3] = 1;
    resample_i16(&source, shift, 0, 1, &to);
    CHECK_INT(got, INT16_MIN);
}

TEST(resample_fully_outside, "a target far away is all outside, masks 0")
{
    make_noise();
    VolumeI16 i16 = {oblique_grid(), noise_i16}, to_i16 = {i16.grid, result_i16};
    VolumeU8 u8 = {i16.grid, noise_u8}, to_u8 = {i16.grid, result_u8};
    Affine away = affine_identity();
    away.m[1][3] = 500;
    resample_i16(&i16, away, -1024, 0, &to_i16);
    resample_mask(&u8, away, 0, &to_u8);
    for (int i = 0; i < N; i++)
        CHECK(result_i16[i] == -1024 && result_u8[i] == 0);
}

TEST(resample_round_trip, "there through a rotation and back: a smooth field to 1 % of its range")
{
    enum { S = 64 };
    static float field[S * S * S], there[S * S * S], back[S * S * S];
    Grid g = phantom_grid(S, S, S, 1, 1, 1);
    int i = 0, n = 0;
    for (int z = 0; z < S; z++)
        for (int y = 0; y < S; y++)
            for (int x = 0; x < S; x++)
                field[i++] = (float)(100 * sin(x * 0.15) * cos(y * 0.12) * sin(z * 0.1 + 1));
    VolumeF32 a = {g, field}, b = {g, there}, c = {g, back};
    uint64_t state = 21;
    Affine t = phantom_affine(&state, 20, 0.05, 3), inverse;
    CHECK(affine_inverse(t, &inverse));
    resample_f32(&a, t, 0, 0, &b);
    resample_f32(&b, inverse, 0, 0, &c);
    i = 0;
    for (int z = 0; z < S; z++)
        for (int y = 0; y < S; y++)
            for (int x = 0; x < S; x++, i++) {
                Vec3 d = {x - 31.5, y - 31.5, z - 31.5};
                if (vec3_norm(d) > 20)
                    continue;
                CHECK_NEAR(back[i], field[i], 2.0);
                n++;
            }
    CHECK(n > 20000);
}

/* Brain with slow changes, and, if asked, a skull: a shell that a scanner has blurred (3 mm). */
static double smooth_hu(Vec3 p, bool has_bone)
{
    double r = sqrt(p.x * p.x / (62 * 62) + p.y * p.y / (70 * 70) + p.z * p.z / (60 * 60)) * 64;
    double bone = has_bone ? 700 * exp(-0.5 * (r - 40) * (r - 40) / 9) : 0;
    return 35 + 12 * sin(p.x / 5) * cos(p.y / 6) * sin(p.z / 7 + 1) + bone;
}

/* CT -> a model's grid in another pose -> CT, as a job does; RMS over the inside, HU. */
static double round_trip_rms(ResampleKind kind, bool has_bone)
{
    static int16_t ct[180 * 200 * 80], there[224 * 224 * 110];
    static float wide[224 * 224 * 110], back[180 * 200 * 80];
    Grid g = phantom_grid(180, 200, 80, 0.7, 0.7, 1.5);
    Grid model = phantom_grid(224, 224, 110, 0.5714, 0.5714, 1);
    size_t i = 0, n = 0;
    for (int z = 0; z < g.nz; z++)
        for (int y = 0; y < g.ny; y++)
            for (int x = 0; x < g.nx; x++)
                ct[i++] = (int16_t)lrint(
                    smooth_hu(affine_apply(g.lps_from_vox, (Vec3){x, y, z}), has_bone));
    uint64_t state = 9;
    Affine ct_from_model = phantom_affine(&state, 8, 0.04, 2), model_from_ct;
    CHECK(affine_inverse(ct_from_model, &model_from_ct));
    VolumeI16 a = {g, ct}, b = {model, there};
    VolumeF32 c = {model, wide}, d = {g, back};
    resample_i16_as(kind, &a, ct_from_model, -1024, 0, &b);
    for (i = 0; i < sizeof there / sizeof there[0]; i++)
        wide[i] = there[i];
    resample_f32_as(kind, &c, model_from_ct, -1024, 0, &d);
    double sum = 0;
    i = 0;
    for (int z = 0; z < g.nz; z++)
        for (int y = 0; y < g.ny; y++)
            for (int x = 0; x < g.nx; x++, i++) {
                Vec3 p = affine_apply(g.lps_from_vox, (Vec3){x, y, z});
                if (fabs(p.x) > 54 || fabs(p.y) > 54 || fabs(p.z) > 44)
                    continue;
                double e = (double)back[i] - ct[i];
                sum += e * e;
                n++;
            }
    CHECK(n > 500000);
    return sqrt(sum / (double)n);
}

TEST(resample_ct_round_trip, "CT to a model's grid and back: RMS below 1 HU; cubic the better")
{
    double rms[2][2];
    for (int bone = 0; bone < 2; bone++)
        for (int cubic = 0; cubic < 2; cubic++)
            rms[bone][cubic] = round_trip_rms(cubic ? RESAMPLE_CUBIC : RESAMPLE_LINEAR, bone);
    (void)printf("# RMS brain %.3f HU linear, %.3f cubic; with bone %.2f, %.2f\n", rms[0][0],
                 rms[0][1], rms[1][0], rms[1][1]);
    CHECK(rms[0][0] < 1 && rms[0][1] < 1);
    CHECK(rms[1][1] < 0.5 * rms[1][0]);
}

TEST(resample_cubic_is_exact_to_second_degree, "a quadratic in mm through a general affine; voxels")
{
    static float field[N], found[N];
    Grid g = oblique_grid();
    Affine vox_from_lps;
    CHECK(affine_inverse(g.lps_from_vox, &vox_from_lps));
    int i = 0;
    for (int z = 0; z < NZ; z++)
        for (int y = 0; y < NY; y++)
            for (int x = 0; x < NX; x++)
                field[i++] = (float)(3 + 0.5 * x - y + 2 * z + 0.1 * x * x - 0.07 * y * y +
                                     0.2 * z * z + 0.03 * x * y);
    uint64_t state = 4;
    Affine t = phantom_affine(&state, 10, 0.05, 2);
    VolumeF32 a = {g, field}, b = {g, found};
    resample_f32_as(RESAMPLE_CUBIC, &a, t, -1e6f, 2, &b);
    Affine vox_from_ret = affine_mul(vox_from_lps, affine_mul(t, g.lps_from_vox));
    int n = 0;
    i = 0;
    for (int z = 0; z < NZ; z++)
        for (int y = 0; y < NY; y++)
            for (int x = 0; x < NX; x++, i++) {
                Vec3 p = affine_apply(vox_from_ret, (Vec3){x, y, z});
                if (p.x < 1 || p.y < 1 || p.z < 1 || p.x > NX - 2 || p.y > NY - 2 || p.z > NZ - 2)
                    continue; /* nearer to the edge a value is held */
                double want = 3 + 0.5 * p.x - p.y + 2 * p.z + 0.1 * p.x * p.x - 0.07 * p.y * p.y +
                              0.2 * p.z * p.z + 0.03 * p.x * p.y;
                CHECK_NEAR(found[i], want, 2e-3);
                n++;
            }
    CHECK(n > 2000);
    make_noise(); /* on its own grid: the same bits; beyond: outside; overshoot is clipped */
    VolumeI16 i16 = {g, noise_i16}, to = {g, result_i16};
    resample_i16_as(RESAMPLE_CUBIC, &i16, affine_identity(), -1, 2, &to);
    CHECK(memcmp(noise_i16, result_i16, sizeof noise_i16) == 0);
    Affine away = affine_identity();
    away.m[2][3] = 1000;
    resample_i16_as(RESAMPLE_CUBIC, &i16, away, -7, 2, &to);
    for (i = 0; i < N; i++)
        CHECK_INT(result_i16[i], -7);
    static int16_t again[N];
    for (i = 0; i < N; i++) /* any overshoot leaves the range of the type */
        noise_i16[i] = (noise_i16[i] & 1) != 0 ? INT16_MAX : INT16_MIN;
    VolumeI16 other = {g, again};
    resample_i16_as(RESAMPLE_CUBIC, &i16, t, 0, 1, &to);
    resample_i16_as(RESAMPLE_CUBIC, &i16, t, 0, 3, &other);
    CHECK(memcmp(again, result_i16, sizeof again) == 0);
}

TEST(resample_same_bits_on_any_number_of_threads, "1 and 3 threads through a general affine")
{
    make_noise();
    static int16_t again[N];
    uint64_t state = 2;
    Affine t = phantom_affine(&state, 20, 0.1, 4);
    VolumeI16 i16 = {oblique_grid(), noise_i16}, a = {i16.grid, result_i16}, b = {i16.grid, again};
    resample_i16(&i16, t, 0, 1, &a);
    resample_i16(&i16, t, 0, 3, &b);
    CHECK(memcmp(result_i16, again, sizeof again) == 0);
}
