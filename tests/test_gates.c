/* The pipeline's gates as pure functions: each limit from both sides, with a known cause. */
#include "tests/test.h"

#include "pipeline/steps.h"

static ModelInfo demo_envelope(void)
{
    ModelInfo info = {.body_part = "HEAD",
                      .age_years = {true, 18, 90},
                      .slice_thickness_mm = {true, 0.5, 5},
                      .pixel_spacing_mm = {true, 0.3, 1.2},
                      .kvp = {true, 100, 140}};
    return info;
}

static CtHeader good_header(void)
{
    CtHeader header = {.kvp = 120, .age_years = 50, .body_part = "HEAD"};
    header.instance.geometry.pixel_spacing_mm[0] = 0.5;
    header.instance.geometry.pixel_spacing_mm[1] = 0.5;
    header.instance.geometry.slice_thickness_mm = 1;
    return header;
}

TEST(envelope_refuses_what_the_model_never_saw, "each limit of the model file, one at a time")
{
    ModelInfo info = demo_envelope();
    CtHeader h = good_header();
    Err err = {0};
    CHECK_OK(envelope_check(&info, &h, 1.0, &err), &err);
    CHECK_STATUS(envelope_check(&info, &h, 5.1, &err), ST_MODEL_ENVELOPE);
    CHECK(strstr(err.msg, "slice spacing 5.1 mm") != NULL);
    h.age_years = 12;
    CHECK_STATUS(envelope_check(&info, &h, 1.0, &err), ST_MODEL_ENVELOPE);
    h = good_header();
    h.kvp = 80;
    CHECK_STATUS(envelope_check(&info, &h, 1.0, &err), ST_MODEL_ENVELOPE);
    h = good_header();
    strcpy(h.body_part, "PELVIS");
    CHECK_STATUS(envelope_check(&info, &h, 1.0, &err), ST_MODEL_ENVELOPE);
    h = good_header();
    h.instance.geometry.pixel_spacing_mm[1] = 1.5;
    CHECK_STATUS(envelope_check(&info, &h, 1.0, &err), ST_MODEL_ENVELOPE);
    h = good_header();
    h.instance.geometry.slice_thickness_mm = 10;
    CHECK_STATUS(envelope_check(&info, &h, 1.0, &err), ST_MODEL_ENVELOPE);
}

TEST(envelope_passes_what_the_ct_does_not_say, "absent age, kVp and body part cannot be checked")
{
    ModelInfo info = demo_envelope();
    CtHeader h = good_header();
    h.age_years = -1;
    h.kvp = 0;
    h.body_part[0] = '\0';
    h.instance.geometry.slice_thickness_mm = 0;
    Err err = {0};
    CHECK_OK(envelope_check(&info, &h, 1.0, &err), &err);
}

enum { NX = 40, NY = 40, NZ = 20 };

typedef struct Result {
    Grid grid;
    VolumeF32 mr;
    VolumeU8 mask;
} Result;

/* A smooth image inside a block of mask, 0 outside. */
static Result smooth_result(void)
{
    static float mr[NX * NY * NZ];
    static uint8_t mask[NX * NY * NZ];
    Result r = {.grid = {NX, NY, NZ, affine_identity()}};
    for (int z = 0, i = 0; z < NZ; z++)
        for (int y = 0; y < NY; y++)
            for (int x = 0; x < NX; x++, i++) {
                mask[i] = x >= 5 && x < 35 && y >= 5 && y < 35;
                mr[i] = mask[i] ? 0.3f + 0.01f * (float)x + 0.005f * (float)z : 0.0f;
            }
    r.mr = (VolumeF32){r.grid, mr};
    r.mask = (VolumeU8){r.grid, mask};
    return r;
}

TEST(result_gate_accepts_a_smooth_image, "and measures its mean and continuity")
{
    Result r = smooth_result();
    CheckResult got;
    Err err = {0};
    CHECK_OK(result_check(&r.mr, &r.grid, &r.mask, 2, &got, &err), &err);
    CHECK_NEAR(got.inside_mean, 0.3 + 0.01 * 19.5 + 0.005 * 9.5, 1e-6);
    CHECK_NEAR(got.continuity_max, 0, 1e-6);
}

TEST(result_gate_finds_one_nan, "a single value that is not finite")
{
    Result r = smooth_result();
    CheckResult got;
    r.mr.v[NX * NY * 3 + NX * 10 + 10] = NAN;
    CHECK_STATUS(result_check(&r.mr, &r.grid, &r.mask, 2, &got, NULL), ST_CHECK_FINITE);
    r.mr.v[NX * NY * 3 + NX * 10 + 10] = INFINITY;
    CHECK_STATUS(result_check(&r.mr, &r.grid, &r.mask, 2, &got, NULL), ST_CHECK_FINITE);
}

TEST(result_gate_finds_one_voxel_outside, "intensity outside the mask is a misplaced result")
{
    Result r = smooth_result();
    CheckResult got;
    r.mr.v[0] = 0.1f;
    CHECK_STATUS(result_check(&r.mr, &r.grid, &r.mask, 2, &got, NULL), ST_CHECK_GEOMETRY);
}

TEST(result_gate_finds_a_shifted_grid, "half a voxel is another geometry")
{
    Result r = smooth_result();
    CheckResult got;
    r.mr.grid.lps_from_vox.m[0][3] = 0.5;
    CHECK_STATUS(result_check(&r.mr, &r.grid, &r.mask, 2, &got, NULL), ST_CHECK_GEOMETRY);
}

TEST(result_gate_refuses_a_constant, "black, white and flat images are not MR")
{
    Result r = smooth_result();
    CheckResult got;
    for (int i = 0; i < NX * NY * NZ; i++)
        r.mr.v[i] = r.mask.v[i] ? 0.5f : 0.0f;
    CHECK_STATUS(result_check(&r.mr, &r.grid, &r.mask, 2, &got, NULL), ST_CHECK_RANGE);
    for (int i = 0; i < NX * NY * NZ; i++)
        r.mr.v[i] = 0.0f;
    CHECK_STATUS(result_check(&r.mr, &r.grid, &r.mask, 2, &got, NULL), ST_CHECK_RANGE);
}

TEST(result_gate_finds_one_dark_slice, "a slice unlike its neighbours, named")
{
    Result r = smooth_result();
    CheckResult got;
    Err err = {0};
    for (int i = NX * NY * 8; i < NX * NY * 9; i++)
        r.mr.v[i] = r.mask.v[i] ? 0.05f : 0.0f;
    CHECK_STATUS(result_check(&r.mr, &r.grid, &r.mask, 2, &got, &err), ST_CHECK_CONTINUITY);
    CHECK(got.continuity_at == 8 || got.continuity_at == 9);
    CHECK(got.continuity_max > 0.4);
}

TEST(align_gate_limits, "a plausible result passes, each implausible one is refused")
{
    RegResult good = {.cost = 0.3,
                      .overlap_frac = 0.9,
                      .runner_up_mm = 1,
                      .inverse_mm = 4,
                      .score_mm = 4,
                      .turned_nats = 0.12,
                      .determinant = 1.05,
                      .scale_min = 0.95,
                      .scale_max = 1.08};
    Err err = {0};
    CHECK_OK(align_gate(&good, &err), &err);
    RegResult bad = good;
    bad.overlap_frac = 0.3;
    CHECK_STATUS(align_gate(&bad, &err), ST_REG_QUALITY);
    bad = good;
    bad.determinant = 2.0;
    CHECK_STATUS(align_gate(&bad, &err), ST_REG_QUALITY);
    bad = good;
    bad.scale_min = 0.5;
    CHECK_STATUS(align_gate(&bad, &err), ST_REG_QUALITY);
    bad = good;
    bad.cost = 0.48;
    CHECK_STATUS(align_gate(&bad, &err), ST_REG_QUALITY);
    bad = good;
    bad.turned_nats = HUGE_VAL; /* no other way overlaps */
    CHECK_OK(align_gate(&bad, &err), &err);
    bad.turned_nats = 0.04;
    CHECK_STATUS(align_gate(&bad, &err), ST_REG_QUALITY);
    bad.turned_nats = -0.1;
    CHECK_STATUS(align_gate(&bad, &err), ST_REG_QUALITY);
    bad = good;
    bad.score_mm = 7.0;
    CHECK_OK(align_gate(&bad, &err), &err);
    CHECK(align_doubtful(&bad) && !align_doubtful(&good));
    bad.score_mm = 7.6;
    CHECK_STATUS(align_gate(&bad, &err), ST_REG_QUALITY);
    bad.score_mm = HUGE_VAL; /* the way back does not overlap */
    CHECK_STATUS(align_gate(&bad, &err), ST_REG_QUALITY);
    bad = good;
    bad.cost = (double)NAN;
    CHECK_STATUS(align_gate(&bad, &err), ST_REG_QUALITY);
}

TEST(align_gate_each_limit, "just inside passes, just outside does not")
{
    const RegResult good = {.cost = 0.3,
                            .overlap_frac = 0.9,
                            .score_mm = 4,
                            .turned_nats = 0.12,
                            .determinant = 1,
                            .scale_min = 1,
                            .scale_max = 1};
    static const struct {
        size_t field;
        double inside, outside;
    } LIMITS[] = {{offsetof(RegResult, overlap_frac), 0.501, 0.499},
                  {offsetof(RegResult, determinant), 0.701, 0.699},
                  {offsetof(RegResult, determinant), 1.749, 1.751},
                  {offsetof(RegResult, scale_min), 0.851, 0.849},
                  {offsetof(RegResult, scale_max), 1.349, 1.351},
                  {offsetof(RegResult, cost), 0.469, 0.471},
                  {offsetof(RegResult, turned_nats), 0.051, 0.049},
                  {offsetof(RegResult, score_mm), 7.49, 7.51}};
    for (size_t i = 0; i < sizeof LIMITS / sizeof LIMITS[0]; i++) {
        RegResult r = good;
        Err err = {0};
        double *field = (double *)((char *)&r + LIMITS[i].field);
        *field = LIMITS[i].inside;
        CHECK_OK(align_gate(&r, &err), &err);
        *field = LIMITS[i].outside;
        CHECK_STATUS(align_gate(&r, &err), ST_REG_QUALITY);
    }
    RegResult r = good;
    r.score_mm = 6.49;
    CHECK(!align_doubtful(&r));
    r.score_mm = 6.51;
    CHECK(align_doubtful(&r));
}

TEST(mask_gate_limits, "volumes of head and brain, just inside and just outside each limit")
{
    Err err = {0};
    CHECK_OK(mask_gate(MASK_HEAD, 3233, 1444, &err), &err);
    CHECK_OK(mask_gate(MASK_HEAD, 1001, 0, &err), &err); /* noise may hide the brain */
    CHECK_OK(mask_gate(MASK_HEAD, 8999, 1999, &err), &err);
    CHECK_STATUS(mask_gate(MASK_HEAD, 999, 1444, &err), ST_MASK);
    CHECK(strstr(err.msg, "head of 999 ml") != NULL);
    CHECK_STATUS(mask_gate(MASK_HEAD, 9001, 1444, &err), ST_MASK);
    CHECK_STATUS(mask_gate(MASK_HEAD, 3233, 2001, &err), ST_MASK);
    CHECK(strstr(err.msg, "brain of 2001 ml") != NULL);
    CHECK_OK(mask_gate(MASK_BRAIN, 0, 901, &err), &err);
    CHECK_STATUS(mask_gate(MASK_BRAIN, 0, 899, &err), ST_MASK);
    CHECK_STATUS(mask_gate(MASK_BRAIN, 0, 2001, &err), ST_MASK);
    CHECK(mask_doubtful(899) && !mask_doubtful(901));
}
