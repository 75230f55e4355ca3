/* pipeline/head_gate, step_window: what pixels alone can tell. Claims: a good head passes with
** room, each planted fault is named; nothing of the patient is cut off at the model's grid; a model
** of pose native sees every CT the same way round. */
#include "tests/test.h"

#include "pipeline/head_gate.h"
#include "pipeline/steps.h"
#include "tests/gate_fixture.h"
#include "tests/model_file.h"

/* ---- the whole head, Hounsfield units ------------------------------------------------------ */

static HeadFacts facts_of(GateFixture *f)
{
    HeadFacts facts;
    Err err = {0};
    CHECK_OK(head_facts(&f->ct, &f->mask, &f->mr, affine_identity(), 1, &facts, &f->scratch, &err),
             &err);
    return facts;
}

TEST(head_gate_passes_a_head, "all of it covered, brain near 40 HU, air near -1000")
{
    GateFixture f = gate_fixture_open();
    HeadFacts facts = facts_of(&f);
    Err err = {0};
    (void)printf("# covers %.4f, worst slice %.3f, brain %.0f, air %.0f\n", facts.covered_frac,
                 facts.slice_frac, facts.brain_hu, facts.air_hu);
    CHECK(facts.covered_frac > 0.99 && facts.slice_frac > 0.95);
    CHECK_NEAR(facts.brain_hu, 35, 8);
    CHECK_NEAR(facts.air_hu, -1000, 5);
    CHECK_OK(head_gate(&facts, true, &err), &err);
    gate_fixture_close(&f);
}

TEST(head_gate_refuses_a_lost_part,
     "half of the mask gone, one slice gone: MASK, the slice is named")
{
    GateFixture f = gate_fixture_open();
    size_t n = NX * NY;
    uint8_t keep[NX * NY];
    Err err = {0};
    memcpy(keep, f.mask.v + 40 * n, n);
    memset(f.mask.v + 40 * n, 0, n);
    HeadFacts facts = facts_of(&f);
    CHECK(facts.slice == 40 && facts.slice_frac == 0 && facts.covered_frac > 0.95);
    CHECK_STATUS(head_gate(&facts, true, &err), ST_MASK);
    CHECK(strstr(err.msg, "slice 41") != NULL);
    CHECK_OK(head_gate(&facts, false, &err), &err); /* a brain's mask covers no head */
    memcpy(f.mask.v + 40 * n, keep, n);
    memset(f.mask.v, 0, 36 * n);
    facts = facts_of(&f);
    CHECK(facts.covered_frac < 0.7);
    CHECK_STATUS(head_gate(&facts, true, &err), ST_MASK);
    gate_fixture_close(&f);
}

TEST(head_gate_each_limit, "covered, worst slice, brain and air: just inside and just outside")
{
    const HeadFacts good = {.covered_frac = 0.99,
                            .slice_frac = 0.9,
                            .slice = 3,
                            .brain_hu = 25,
                            .air_hu = -990,
                            .offset_hu = 0};
    static const struct {
        size_t field;
        double inside, outside;
        Status status;
    } LIMITS[] = {{offsetof(HeadFacts, covered_frac), 0.951, 0.949, ST_MASK},
                  {offsetof(HeadFacts, slice_frac), 0.801, 0.799, ST_MASK},
                  {offsetof(HeadFacts, brain_hu), 8, 7, ST_HU_SCALE},
                  {offsetof(HeadFacts, brain_hu), 50, 51, ST_HU_SCALE},
                  {offsetof(HeadFacts, air_hu), -850, -849, ST_HU_SCALE},
                  {offsetof(HeadFacts, offset_hu), 10, 10.5, ST_HU_SCALE},
                  {offsetof(HeadFacts, offset_hu), -10, -10.5, ST_HU_SCALE}};
    for (size_t i = 0; i < sizeof LIMITS / sizeof LIMITS[0]; i++) {
        HeadFacts facts = good;
        Err err = {0};
        double *field = (double *)((char *)&facts + LIMITS[i].field);
        *field = LIMITS[i].inside;
        CHECK_OK(head_gate(&facts, true, &err), &err);
        *field = LIMITS[i].outside;
        CHECK_STATUS(head_gate(&facts, true, &err), LIMITS[i].status);
    }
}

TEST(head_gate_passes_what_differs, "contrast in the brain, air 15 HU off: each alone is no offset")
{
    HeadFacts facts = {1, 1, 3, 25, -997, 0};
    Err err = {0};
    const struct {
        double brain_hu, air_hu;
        Status want;
    } CASES[] = {{25, -997, ST_OK},        {40, -995, ST_OK},       {25, -960, ST_OK},
                 {22, -1015, ST_OK},       {47, -972, ST_HU_SCALE}, {3, -1019, ST_HU_SCALE},
                 {44, (double)NAN, ST_OK}, {48, -990, ST_OK},       {48, (double)NAN, ST_HU_SCALE},
                 {36, -986, ST_HU_SCALE},  {36, -988, ST_OK}};
    for (size_t k = 0; k < sizeof CASES / sizeof CASES[0]; k++) {
        facts.brain_hu = CASES[k].brain_hu;
        facts.air_hu = CASES[k].air_hu;
        facts.offset_hu = head_offset_hu(facts.brain_hu, facts.air_hu);
        CHECK_STATUS(head_gate(&facts, true, &err), CASES[k].want);
    }
    CHECK_NEAR(head_offset_hu(50, -972), 25, 1e-9);
    CHECK_NEAR(head_offset_hu(40, -972), 15, 1e-9);
    CHECK_NEAR(head_offset_hu(10, -972), 0, 1e-9);
    CHECK_NEAR(head_offset_hu(5, -1020), -20, 1e-9);
}

TEST(head_gate_refuses_other_units, "offsets of 25, 40, 100, slopes of 2 and 0.5: HU_SCALE")
{
    static const struct {
        double slope, offset;
    } SCALES[] = {{1, 25}, {1, -25}, {1, 40}, {1, -40}, {1, 100}, {1, -300}, {2, 1024}, {0.5, 0}};
    for (size_t k = 0; k < sizeof SCALES / sizeof SCALES[0]; k++) {
        GateFixture f = gate_fixture_open();
        for (size_t i = 0; i < grid_voxels(&f.ct.grid); i++) {
            double hu = f.ct.v[i] * SCALES[k].slope + SCALES[k].offset;
            f.ct.v[i] = (int16_t)(hu < -1024 ? -1024 : hu > 3071 ? 3071 : hu);
        }
        HeadFacts facts = facts_of(&f);
        Err err = {0};
        CHECK_STATUS(head_gate(&facts, true, &err), ST_HU_SCALE);
        gate_fixture_close(&f);
    }
}

TEST(head_gate_passes_noise, "80 and 160 HU, cut off at -1024, with and without a padded rim")
{
    for (int k = 0; k < 4; k++) {
        GateFixture f = gate_fixture_open();
        uint64_t state = 5;
        double noise_hu = k % 2 == 0 ? 80 : 160;
        for (size_t i = 0; i < grid_voxels(&f.ct.grid); i++) {
            double sum = 0; /* four uniforms: close to normal, variance 1/3 */
            for (int u = 0; u < 4; u++)
                sum += phantom_random(&state) - 0.5;
            double hu = f.ct.v[i] + sum * sqrt(3.0) * noise_hu;
            bool is_rim = i % NX < 12 || i % NX >= NX - 12;
            f.ct.v[i] = (int16_t)(hu < -1024 || (k >= 2 && is_rim) ? -1024 : hu);
        }
        HeadFacts facts = facts_of(&f);
        Err err = {0};
        (void)printf("# noise %.0f: brain %.0f, air %.0f\n", noise_hu, facts.brain_hu,
                     facts.air_hu);
        CHECK_NEAR(facts.air_hu, -997, 20);
        CHECK_OK(head_gate(&facts, true, &err), &err);
        gate_fixture_close(&f);
    }
}

TEST(head_gate_air_of_one_value, "no evidence: the brain alone is judged, and 25 HU more refused")
{
    static const int16_t STORED[] = {-1024, -1000};
    for (size_t k = 0; k < 2; k++)
        for (int offset = 0; offset <= 25; offset += 25) {
            GateFixture f = gate_fixture_open();
            for (size_t i = 0; i < grid_voxels(&f.ct.grid); i++)
                f.ct.v[i] = (int16_t)((f.ct.v[i] < -900 ? STORED[k] : f.ct.v[i]) + offset);
            HeadFacts facts = facts_of(&f);
            Err err = {0};
            CHECK(isnan(facts.air_hu));
            CHECK_STATUS(head_gate(&facts, true, &err), offset == 0 ? ST_OK : ST_HU_SCALE);
            gate_fixture_close(&f);
        }
}

TEST(head_gate_offset_limit, "an intercept off by 16 HU is refused, either way")
{
    for (int offset = -16; offset <= 16; offset += 32) {
        Err err = {0};
        HeadFacts facts = {
            1, 1, 3, 25 + offset, -997 + offset, head_offset_hu(25 + offset, -997 + offset)};
        CHECK_STATUS(head_gate(&facts, true, &err), ST_HU_SCALE);
    }
}

/* ---- the model's grid ---------------------------------------------------------------------- */

/* A job whose CT is a block of the given width in the grid's middle, 100 HU in the patient's left
** back half, 0 HU elsewhere in it. The model is 256 x 256 at 1 mm, pose native. */
static void run_window(const Grid *grid, double half_mm, Job *job, Arena *arena, Status want)
{
    char path[PATH_SIZE];
    Err err = {0};
    memset(job, 0, sizeof *job);
    CHECK_OK(path_format(path, &err, "%s/native.safetensors", test_dir()), &err);
    model_file_write_random(path, ARCH_DRUNET34, 2);
    CHECK_OK(kept_model(&job->kept, path, &job->model, &err), &err);
    job->wanted = model_info(job->model);
    CHECK_OK(arena_open((size_t)512 << 20, &job->arena, &err), &err);
    CHECK_OK(arena_open((size_t)512 << 20, &job->scratch, &err), &err);
    size_t n = grid_voxels(grid);
    job->series.ct = (VolumeI16){*grid, arena_alloc(arena, n, sizeof(int16_t), &err)};
    job->mask = (VolumeU8){*grid, arena_alloc(arena, n, 1, &err)};
    CHECK(job->series.ct.v != NULL && job->mask.v != NULL);
    size_t i = 0;
    for (int z = 0; z < grid->nz; z++)
        for (int y = 0; y < grid->ny; y++)
            for (int x = 0; x < grid->nx; x++, i++) {
                Vec3 p = affine_apply(grid->lps_from_vox, (Vec3){x, y, z});
                job->mask.v[i] = fabs(p.x) <= half_mm && fabs(p.y) <= 60 && fabs(p.z) <= 30;
                job->series.ct.v[i] = !job->mask.v[i] ? -1000 : p.x > 5 && p.y > 5 ? 100 : 0;
            }
    CHECK_STATUS(step_window(job, &err), want);
}

static void close_window(Job *job, Arena *arena)
{
    job_close(job);
    arena_reset(arena, 0);
}

TEST(window_native_sees_every_ct_the_same_way,
     "eight ways to store a slice: left back is lower right")
{
    Arena arena;
    Err err = {0};
    static Job job;
    CHECK_OK(arena_open((size_t)512 << 20, &arena, &err), &err);
    for (int way = 0; way < 8; way++) {
        double sx = way & 1 ? -2 : 2, sy = way & 2 ? -2 : 2;
        Grid g = {100, 100, 24, {{{0}}}};
        g.lps_from_vox.m[0][way & 4 ? 1 : 0] = sx;
        g.lps_from_vox.m[1][way & 4 ? 0 : 1] = sy;
        g.lps_from_vox.m[2][2] = 3;
        Vec3 centre = affine_apply(g.lps_from_vox, (Vec3){49.5, 49.5, 11.5});
        g.lps_from_vox.m[0][3] = -centre.x;
        g.lps_from_vox.m[1][3] = -centre.y;
        g.lps_from_vox.m[2][3] = -centre.z;
        run_window(&g, 70, &job, &arena, ST_OK);
        const VolumeI16 *hu = &job.model_hu;
        CHECK(hu->grid.nx == 256 && hu->grid.ny == 256 && hu->grid.nz == 24);
        CHECK(hu->grid.lps_from_vox.m[0][0] == 1 && hu->grid.lps_from_vox.m[1][1] == 1);
        const int16_t *slice = hu->v + 12 * 256 * 256;
        CHECK_INT(slice[160 * 256 + 160], 100); /* row 160, column 160 */
        CHECK_INT(slice[160 * 256 + 96], 0);
        CHECK_INT(slice[96 * 256 + 160], 0);
        close_window(&job, &arena);
    }
    arena_close(&arena);
}

TEST(window_native_wants_axial_slices, "a sagittal CT is refused for a model of pose native")
{
    Arena arena;
    Err err = {0};
    static Job job;
    CHECK_OK(arena_open((size_t)512 << 20, &arena, &err), &err);
    Grid g = {60, 60, 60, {{{0, 0, 3, -90}, {3, 0, 0, -90}, {0, -3, 0, 90}}}};
    run_window(&g, 70, &job, &arena, ST_MODEL_ENVELOPE);
    close_window(&job, &arena);
    arena_close(&arena);
}

TEST(window_grid_grows_with_the_patient,
     "wider than 256 mm: 32 pixels more at a time, none cut off")
{
    Arena arena;
    Err err = {0};
    static Job job;
    static const struct {
        double half_mm;
        int32_t nx;
    } WIDTHS[] = {{125, 256}, {130, 288}, {150, 320}, {250, 512}};
    CHECK_OK(arena_open((size_t)512 << 20, &arena, &err), &err);
    Grid g = {300, 100, 12, {{{2, 0, 0, -299}, {0, 2, 0, -99}, {0, 0, 5, -27.5}}}};
    for (size_t k = 0; k < sizeof WIDTHS / sizeof WIDTHS[0]; k++) {
        run_window(&g, WIDTHS[k].half_mm, &job, &arena, ST_OK);
        CHECK_INT(job.model_hu.grid.nx, WIDTHS[k].nx);
        CHECK_INT(job.model_hu.grid.ny, 256);
        int64_t inside = 0;
        size_t n = (size_t)job.model_hu.grid.nx * 256;
        for (size_t i = 0; i < n; i++)
            inside += job.model_mask.v[6 * n + i];
        CHECK_NEAR((double)inside, 4 * WIDTHS[k].half_mm * 60, 0.03 * 4 * WIDTHS[k].half_mm * 60);
        close_window(&job, &arena);
    }
    run_window(&g, 270, &job, &arena, ST_MASK);
    close_window(&job, &arena);
    arena_close(&arena);
}
