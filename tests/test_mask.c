/* What head and brain masks have in common: any axis order, any threads, moved heads, what is no
** head, a real head. */
#include "tests/mask_phantom.h"
#include "tests/test.h"

#include "pipeline/import.h"
#include "registration/resample.h"
#include "tests/head_phantom.h"

#include <unistd.h>

static double dice_of_mask(const MaskScene *s, bool brain)
{
    VolumeU8 mask;
    MaskResult result;
    Err err = {0};
    CHECK_OK((brain ? mask_brain : mask_head)(&s->ct, NULL, 0, &mask, &result, &mask_arena,
                                              &mask_scratch, &err),
             &err);
    return mask_dice(s, &mask, brain ? IS_BRAIN : IS_HEAD);
}

static double dice_of(const VolumeU8 *a, const VolumeU8 *b)
{
    double both = 0, sum = 0;
    for (size_t i = 0; i < grid_voxels(&a->grid); i++) {
        both += a->v[i] & b->v[i];
        sum += a->v[i] + b->v[i];
    }
    return 2 * both / sum;
}

TEST_TIMEOUT(mask_moves_with_the_head, "20 affines: mask of the moved CT, moved mask: Dice >= 0.98",
             300)
{
    MaskScene s = mask_scene(COUCH, 2.2, 2.2, -100, 110);
    VolumeU8 mask[2], moved[2];
    MaskResult result;
    Err err = {0};
    CHECK_OK(mask_head(&s.ct, NULL, 0, &mask[0], &result, &mask_arena, &mask_scratch, &err), &err);
    CHECK_OK(mask_brain(&s.ct, NULL, 0, &mask[1], &result, &mask_arena, &mask_scratch, &err), &err);
    Grid g = phantom_grid(110, 120, 112, 2.2, 2.2, 2.2);
    size_t n = grid_voxels(&g);
    VolumeI16 ct = {g, arena_alloc(&mask_arena, n, sizeof(int16_t), &err)};
    CHECK(ct.v != NULL);
    double least[2] = {1, 1};
    uint64_t state = 77;
    for (int k = 0; k < 20; k++) {
        size_t mark = arena_mark(&mask_arena);
        Affine src_from_moved = phantom_affine(&state, 20, 0.1, 15);
        resample_i16(&s.ct, src_from_moved, -1000, 0, &ct);
        for (int brain = 0; brain < 2; brain++) {
            VolumeU8 want = {g, arena_alloc(&mask_arena, n, 1, &err)};
            CHECK(want.v != NULL);
            resample_mask(&mask[brain], src_from_moved, 0, &want);
            CHECK_OK((brain ? mask_brain : mask_head)(&ct, NULL, 0, &moved[brain], &result,
                                                      &mask_arena, &mask_scratch, &err),
                     &err);
            least[brain] = fmin(least[brain], dice_of(&want, &moved[brain]));
        }
        arena_reset(&mask_arena, mark);
    }
    (void)printf("# least Dice of 20: head %.4f, brain %.4f\n", least[0], least[1]);
    CHECK(least[0] >= 0.98 && least[1] >= 0.98);
}

TEST(mask_any_axis_order, "the same head stored as sagittal slices, feet first")
{
    MaskScene axial = mask_scene(COUCH, 1.3, 1.3, -100, 110), s = axial;
    const Grid *a = &axial.ct.grid;
    /* Voxel axes of s: posterior, feet, left. */
    s.ct.grid.nx = a->ny, s.ct.grid.ny = a->nz, s.ct.grid.nz = a->nx;
    Affine axial_from_s = {{{0, 0, 1, 0}, {1, 0, 0, 0}, {0, -1, 0, a->nz - 1}}};
    s.ct.grid.lps_from_vox = affine_mul(a->lps_from_vox, axial_from_s);
    Err err = {0};
    size_t n = grid_voxels(a);
    s.ct.v = arena_alloc(&mask_arena, n, sizeof(int16_t), &err);
    s.truth = arena_alloc(&mask_arena, n, 1, &err);
    CHECK(s.ct.v != NULL && s.truth != NULL);
    mask_scene_fill(&s);
    CHECK(dice_of_mask(&s, false) >= 0.97);
    CHECK(dice_of_mask(&s, true) >= 0.97);
}

TEST(mask_same_bits_for_any_threads, "1 and 2 threads give the same masks")
{
    MaskScene s = mask_scene(COUCH | HOLDER, 0.8, 2, -100, 110);
    Err err = {0};
    MaskResult result;
    VolumeU8 one, two;
    CHECK_OK(mask_head(&s.ct, NULL, 1, &one, &result, &mask_arena, &mask_scratch, &err), &err);
    CHECK_OK(mask_head(&s.ct, NULL, 2, &two, &result, &mask_arena, &mask_scratch, &err), &err);
    CHECK(memcmp(one.v, two.v, grid_voxels(&one.grid)) == 0);
    CHECK_OK(mask_brain(&s.ct, NULL, 1, &one, &result, &mask_arena, &mask_scratch, &err), &err);
    CHECK_OK(mask_brain(&s.ct, NULL, 2, &two, &result, &mask_arena, &mask_scratch, &err), &err);
    CHECK(memcmp(one.v, two.v, grid_voxels(&one.grid)) == 0);
    CHECK_INT(arena_mark(&mask_scratch), 0);
}

TEST(mask_refuses_what_is_no_head, "air, a water bottle, too few slices: MASK; outputs untouched")
{
    MaskScene s = mask_scene(0, 1.5, 3, -100, 110);
    size_t n = grid_voxels(&s.ct.grid), used = 0;
    Err err = {0};
    VolumeU8 mask = {0};
    MaskResult result = {0};
    for (size_t i = 0; i < n; i++)
        s.ct.v[i] = -1000;
    used = arena_mark(&mask_arena);
    CHECK_STATUS(mask_head(&s.ct, NULL, 0, &mask, &result, &mask_arena, &mask_scratch, &err),
                 ST_MASK);
    CHECK_STATUS(mask_brain(&s.ct, NULL, 0, &mask, &result, &mask_arena, &mask_scratch, NULL),
                 ST_MASK);
    for (size_t i = 0; i < n; i++)
        s.ct.v[i] = s.truth[i] & IS_HEAD ? 0 : -1000;
    CHECK_STATUS(mask_head(&s.ct, NULL, 0, &mask, &result, &mask_arena, &mask_scratch, NULL),
                 ST_MASK);
    CHECK_STATUS(mask_brain(&s.ct, NULL, 0, &mask, &result, &mask_arena, &mask_scratch, NULL),
                 ST_MASK);
    VolumeI16 thin = {s.ct.grid, s.ct.v};
    thin.grid.nz = 2;
    CHECK_STATUS(mask_head(&thin, NULL, 0, &mask, &result, &mask_arena, &mask_scratch, NULL),
                 ST_MASK);
    CHECK(mask.v == NULL && result.volume_ml == 0);
    CHECK_INT(arena_mark(&mask_arena), used);
    CHECK_INT(arena_mark(&mask_scratch), 0);
}

TEST(mask_real_head, "Debian's example CT: head 2.5..5.5 l, brain 1300..1600 ml, couch out")
{
    const char *path = "/usr/share/doc/invesalius-examples/examples/Cranium.inv3";
    if (access(path, R_OK) != 0)
        SKIP("package invesalius-examples is not installed");
    Err err = {0};
    VolumeI16 ct;
    VolumeU8 head, brain;
    MaskResult r;
    mask_open_arenas();
    CHECK_OK(import_inv3(path, &mask_arena, &ct, &err), &err);
    CHECK_OK(mask_head(&ct, NULL, 0, &head, &r, &mask_arena, &mask_scratch, &err), &err);
    (void)printf("# real head: %.0f ml in %.2f s\n", r.volume_ml, r.seconds);
    CHECK(r.volume_ml > 2500 && r.volume_ml < 5500);
    CHECK_OK(mask_brain(&ct, NULL, 0, &brain, &r, &mask_arena, &mask_scratch, &err), &err);
    (void)printf("# real brain: %.0f ml in %.2f s\n", r.volume_ml, r.seconds);
    CHECK(r.volume_ml > 1300 && r.volume_ml < 1600);
    /* The couch's shell is a trough around the back of the head: it fills the 14 mm along the left
    ** and right edge of the field of view and the 8 mm along the posterior one. */
    int64_t couch = 0, couch_in = 0, outside_head = 0;
    double x_edge = 0.5 * ct.grid.nx * grid_spacing_mm(&ct.grid, 0) - 14;
    double y_edge = 0.5 * ct.grid.ny * grid_spacing_mm(&ct.grid, 1) - 8;
    for (int32_t z = 0, i = 0; z < ct.grid.nz; z++)
        for (int32_t y = 0; y < ct.grid.ny; y++)
            for (int32_t x = 0; x < ct.grid.nx; x++, i++) {
                Vec3 p = affine_apply(ct.grid.lps_from_vox, (Vec3){x, y, z});
                bool is_edge = fabs(p.x) > x_edge || p.y > y_edge;
                couch += is_edge && ct.v[i] > -300;
                couch_in += is_edge && head.v[i] != 0;
                outside_head += brain.v[i] != 0 && head.v[i] == 0;
            }
    CHECK(couch > 1000);
    CHECK_INT(couch_in, 0);
    CHECK_INT(outside_head, 0);
}
