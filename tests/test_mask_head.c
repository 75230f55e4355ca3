/* Head masks of heads whose truth is a formula. Dice >= 0.97: a 1.5 mm copy of a head of 75..100 mm
** radius errs by half a voxel at most points of the surface, about 1 % of Dice. Couch, holder and
** posts must be gone to the last voxel. */
#include "tests/mask_phantom.h"
#include "tests/test.h"

static void check_head(const MaskScene *s, const char *what)
{
    VolumeU8 mask;
    MaskResult result;
    Err err = {0};
    CHECK_OK(mask_head(&s->ct, NULL, 0, &mask, &result, &mask_arena, &mask_scratch, &err), &err);
    double d = mask_dice(s, &mask, IS_HEAD);
    long long equipment = (long long)mask_inside(s, &mask, IS_EQUIPMENT);
    (void)printf("# head, %s: Dice %.4f, %.0f ml, equipment %lld voxels, %.2f s\n", what, d,
                 result.volume_ml, equipment, result.seconds);
    CHECK(d >= 0.97);
    CHECK_INT(equipment, 0);
    CHECK(grid_equal(&mask.grid, &s->ct.grid, 0));
}

TEST(mask_head_plain, "skin, nose, ears, sinus with an open airway: Dice >= 0.97")
{
    MaskScene s = mask_scene(0, 1, 1.5, -100, 110);
    check_head(&s, "plain");
}

TEST(mask_head_couch_and_holder, "couch slab and head holder: not one voxel inside")
{
    MaskScene s = mask_scene(COUCH | HOLDER, 1, 1.5, -100, 110);
    check_head(&s, "couch and holder");
}

TEST(mask_head_contact, "a couch that touches the head: nothing of it beyond 5 mm from the skin")
{
    MaskScene s = mask_scene(COUCH | CONTACT, 1, 1.5, -100, 110);
    VolumeU8 mask;
    MaskResult result;
    Err err = {0};
    CHECK_OK(mask_head(&s.ct, NULL, 0, &mask, &result, &mask_arena, &mask_scratch, &err), &err);
    double d = mask_dice(&s, &mask, IS_HEAD);
    (void)printf("# head, couch in contact: Dice %.4f, equipment %lld voxels\n", d,
                 (long long)mask_inside(&s, &mask, IS_EQUIPMENT));
    CHECK(d >= 0.97);
    CHECK_INT(mask_inside(&s, &mask, IS_FAR), 0);
}

TEST(mask_head_board,
     "a solid board pressed into the scalp: nothing of it beyond 5 mm from the skin")
{
    MaskScene s = mask_scene(BOARD, 1, 1.5, -100, 110);
    VolumeU8 mask;
    MaskResult result;
    Err err = {0};
    CHECK_OK(mask_head(&s.ct, NULL, 0, &mask, &result, &mask_arena, &mask_scratch, &err), &err);
    double d = mask_dice(&s, &mask, IS_HEAD);
    (void)printf("# head, board: Dice %.4f, equipment %lld voxels, far %lld\n", d,
                 (long long)mask_inside(&s, &mask, IS_EQUIPMENT),
                 (long long)mask_inside(&s, &mask, IS_FAR));
    CHECK(d >= 0.97);
    CHECK_INT(mask_inside(&s, &mask, IS_FAR), 0);
}

TEST(mask_head_frame, "metal posts pinned to the skull: not one voxel of a post inside")
{
    MaskScene s = mask_scene(COUCH | POSTS, 1, 1.5, -100, 110);
    check_head(&s, "posts");
}

TEST(mask_head_metal_block,
     "a block of metal as thick as a head's parts, against the skin: cut off")
{
    MaskScene s = mask_scene(BLOCK, 1, 1.5, -100, 110);
    VolumeU8 mask;
    MaskResult result;
    Err err = {0};
    CHECK_OK(mask_head(&s.ct, NULL, 0, &mask, &result, &mask_arena, &mask_scratch, &err), &err);
    CHECK(mask_dice(&s, &mask, IS_HEAD) >= 0.97);
    CHECK_INT(mask_inside(&s, &mask, IS_FAR), 0);
}

TEST(mask_head_band, "a strap near the skin, with an ear's volume but longer: gone")
{
    MaskScene s = mask_scene(BAND, 1, 1.5, -100, 110);
    check_head(&s, "strap");
}

TEST(mask_head_strip_at_the_edge, "a plate as small as an ear that the field of view cuts: gone")
{
    Grid g = {198, 260, 140, {{{1, 0, 0, -119.5}, {0, 1, 0, -124.5}, {0, 0, 1.5, -99.25}}}};
    MaskScene s = mask_scene_in(STRIP, g, affine_identity(), false);
    check_head(&s, "plate at the edge");
}

TEST(mask_head_thermoplast, "a thermoplastic shell that does not touch the skin: gone")
{
    MaskScene s = mask_scene(COUCH | THERMOPLAST, 1, 1.5, -100, 110);
    check_head(&s, "thermoplastic shell");
}

TEST(mask_head_cut_field_of_view, "vertex and neck cut off by the field of view")
{
    MaskScene s = mask_scene(COUCH, 1, 1.5, -45, 60);
    check_head(&s, "cut");
}

TEST(mask_head_thick_slices, "5 mm slices")
{
    MaskScene s = mask_scene(COUCH | HOLDER, 1, 5, -100, 110);
    check_head(&s, "5 mm slices");
}

TEST(mask_head_thin_parts_are_in, "most of the ears, the nose and the sinus are inside")
{
    MaskScene s = mask_scene(COUCH, 1, 1.5, -100, 110);
    VolumeU8 mask;
    MaskResult result;
    Err err = {0};
    CHECK_OK(mask_head(&s.ct, NULL, 0, &mask, &result, &mask_arena, &mask_scratch, &err), &err);
    int64_t ear[2] = {0}, nose[2] = {0}, sinus[2] = {0};
    const Grid *g = &s.ct.grid;
    for (int32_t z = 0, i = 0; z < g->nz; z++)
        for (int32_t y = 0; y < g->ny; y++)
            for (int32_t x = 0; x < g->nx; x++, i++) {
                Vec3 p = affine_apply(g->lps_from_vox, (Vec3){x, y, z});
                if (fabs(p.x) > 82 && mask_in_head(0, p))
                    ear[mask.v[i]]++;
                if (p.y < -101 && mask_in_head(0, p))
                    nose[mask.v[i]]++;
                if (mask_ellipsoid(p, 0, -35, -72, 18, 20, 10) <= 1)
                    sinus[mask.v[i]]++;
            }
    (void)printf("# inside: ears %lld of %lld, nose %lld of %lld, sinus %lld of %lld\n",
                 (long long)ear[1], (long long)(ear[0] + ear[1]), (long long)nose[1],
                 (long long)(nose[0] + nose[1]), (long long)sinus[1],
                 (long long)(sinus[0] + sinus[1]));
    /* The ear is a plate that tapers to nothing over 28 mm: its rim is thinner than a voxel. */
    CHECK(ear[1] > 4 * ear[0]);
    CHECK(nose[1] > 9 * nose[0]);
    CHECK_INT(sinus[0], 0);
}

TEST(mask_head_contour_is_smooth, "0.5 mm pixels: no voxel further than 1.5 mm from the skin errs")
{
    MaskScene s = mask_scene(COUCH, 0.5, 2.5, 0, 50);
    VolumeU8 mask;
    MaskResult result;
    Err err = {0};
    CHECK_OK(mask_head(&s.ct, NULL, 0, &mask, &result, &mask_arena, &mask_scratch, &err), &err);
    const Grid *g = &s.ct.grid;
    int64_t wrong = 0, half_mm_wrong = 0;
    for (int32_t z = 0, i = 0; z < g->nz; z++)
        for (int32_t y = 0; y < g->ny; y++)
            for (int32_t x = 0; x < g->nx; x++, i++) {
                Vec3 p = affine_apply(g->lps_from_vox, (Vec3){x, y, z});
                bool found = mask.v[i] != 0;
                bool deep = mask_ellipsoid(p, 0, 0, 0, 76.5, 96.5, 97.5) <= 1;
                bool far = mask_ellipsoid(p, 0, 0, 0, 79.5, 99.5, 100.5) > 1;
                wrong += (deep && !found) || (far && found);
                bool just_in = mask_ellipsoid(p, 0, 0, 0, 77.3, 97.3, 98.3) <= 1;
                bool just_out = mask_ellipsoid(p, 0, 0, 0, 78.7, 98.7, 99.7) > 1;
                half_mm_wrong += (just_in && !found) || (just_out && found);
            }
    (void)printf("# beyond 1.5 mm: %lld, beyond 0.7 mm: %lld of %zu voxels\n", (long long)wrong,
                 (long long)half_mm_wrong, grid_voxels(g));
    CHECK_INT(wrong, 0);
    /* 1.5 mm blocks would err by more than 0.7 mm at their corners, all around. */
    CHECK(half_mm_wrong < 2000);
}
