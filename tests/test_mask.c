/* pipeline/mask.h on heads whose truth is a formula, and on a real head.
**
** Dice >= 0.97 (head) and >= 0.95 (brain): a 1.3 mm copy of a head of 75..100 mm radius errs by
** half a voxel at most points of the surface, about 1 % of Dice; the rest is what equipment or
** openings in the skull may cost. Couch, holder and posts must be gone to the last voxel. */
#include "tests/test.h"

#include "base/parallel.h"
#include "pipeline/import.h"
#include "pipeline/mask.h"

#include <unistd.h>

/* ---- the phantom; LPS mm, centre of the skull at the origin ---- */

typedef enum Extra {
    COUCH = 1,        /* slab of two thin shells with foam between, 8 mm below the head */
    HOLDER = 2,       /* U-shaped shell around the back of the head, on foam */
    POSTS = 4,        /* four metal rods, joined to the skull by thin pins */
    THERMOPLAST = 8,  /* thin shell 8 mm off the face, open for nose and ears */
    BURR_HOLE = 16,   /* 14 mm through the skull */
    CRANIECTOMY = 32, /* 60 mm of skull missing, under the skin */
    TEMPLE = 64,      /* thick muscle on a thin temple with a hole of 18 mm to the cavity */
    CONTACT = 128     /* the couch touches the head */
} Extra;

enum { IS_HEAD = 1, IS_BRAIN = 2, IS_EQUIPMENT = 4, IS_FAR = 8, IS_MUSCLE = 16 };

typedef struct Scene {
    unsigned extras;
    double noise_hu;
    VolumeI16 ct;
    uint8_t *truth; /* IS_* bits */
} Scene;

static double ellipsoid(Vec3 p, double cx, double cy, double cz, double rx, double ry, double rz)
{
    double x = (p.x - cx) / rx, y = (p.y - cy) / ry, z = (p.z - cz) / rz;
    return x * x + y * y + z * z;
}

static double disc(double u, double v, double cu, double cv)
{
    return hypot(u - cu, v - cv);
}

static bool in_cavity(Vec3 p)
{
    return ellipsoid(p, 0, 0, 0, 65, 85, 86) <= 1 && p.z > -50;
}

/* Muscle on the left temple. */
static double temple(Vec3 p)
{
    return ellipsoid(p, 66, -20, -10, 22, 36, 34);
}

static bool in_head(unsigned extras, Vec3 p)
{
    return ((extras & TEMPLE) && temple(p) <= 1) || ellipsoid(p, 0, 0, 0, 78, 98, 99) <= 1 ||
           (p.z < -30 && ellipsoid((Vec3){p.x, p.y, 0}, 0, 10, 0, 58, 62, 1) <= 1) ||
           ellipsoid(p, 0, -97, -42, 13, 18, 22) <= 1 || /* nose */
           ellipsoid(p, 84, 12, -28, 12, 4, 28) <= 1 ||  /* ears: thin plates standing out */
           ellipsoid(p, -84, 12, -28, 12, 4, 28) <= 1;
}

/* HU inside the skin. */
static double head_value(unsigned extras, Vec3 p, unsigned *bits)
{
    if (in_cavity(p)) {
        *bits |= IS_BRAIN;
        bool csf = ellipsoid(p, 0, 0, 0, 62, 82, 83) > 1 || p.z < -47 ||
                   ellipsoid(p, 11, 0, 12, 6, 30, 10) <= 1 ||
                   ellipsoid(p, -11, 0, 12, 6, 30, 10) <= 1;
        return csf ? 10 : ellipsoid(p, 0, 0, 5, 52, 70, 64) <= 1 ? 29 : 37;
    }
    double hole = disc(p.x, p.y, 0, 30);
    if (p.z <= -50 && p.z > -58 && hole < 14) /* foramen magnum */
        return 32;
    if (p.z <= -58 && hole < 16) /* vertebral canal in its bone */
        return hole < 9 ? 30 : 500;
    if ((extras & BURR_HOLE) && p.z > 40 && disc(p.x, p.y, 30, -30) < 7)
        return 30;
    if ((extras & CRANIECTOMY) && p.x > 30 && disc(p.y, p.z, 0, 30) < 30)
        return 45;
    if ((extras & TEMPLE) && p.x > 0 && temple(p) <= 1) {
        bool is_bone = ellipsoid(p, 0, 0, 0, 67.5, 87.5, 88.5) <= 1;
        bool is_passage = disc(p.y, p.z, -20, -10) < 9;
        if (!is_bone || is_passage) {
            *bits |= IS_MUSCLE;
            return 50;
        }
    }
    if (ellipsoid(p, 0, 0, 0, 71, 91, 92) <= 1 && p.z > -58)
        return 900;
    if (ellipsoid(p, 0, -35, -72, 18, 20, 10) <= 1 || /* sinus, and a way out */
        (p.y < -45 && disc(p.x, p.z, 0, -70) < 3.5))
        return -980;
    if (ellipsoid(p, 0, 0, 0, 75, 95, 96) > 1 && p.z > -30)
        return -80; /* fat under the skin */
    *bits |= IS_MUSCLE;
    return 50;
}

static double equipment_value(unsigned extras, Vec3 p, unsigned *bits)
{
    double top = extras & CONTACT ? 97 : 106;
    bool couch = (extras & COUCH) && p.y > top && p.y < top + 20 && fabs(p.x) < 110;
    if (couch && (p.y < top + 2 || p.y > top + 18)) {
        *bits |= IS_EQUIPMENT;
        if (ellipsoid(p, 0, 0, 0, 83, 103, 104) > 1)
            *bits |= IS_FAR;
        return 150;
    }
    double r = ellipsoid((Vec3){p.x, p.y, 0}, 0, 0, 0, 100, 102, 1);
    if ((extras & HOLDER) && p.y > 15 && r > 1 && r < 1.07) {
        *bits |= IS_EQUIPMENT;
        return 250;
    }
    double shell = ellipsoid(p, 0, 0, 0, 86, 106, 107);
    bool is_open = ellipsoid(p, 0, -97, -42, 18, 23, 27) <= 1 ||
                   ellipsoid((Vec3){fabs(p.x), p.y, p.z}, 84, 12, -28, 18, 10, 34) <= 1;
    if ((extras & THERMOPLAST) && p.y < 40 && p.z > -60 && shell > 1 && shell < 1.07 && !is_open) {
        *bits |= IS_EQUIPMENT;
        return 20;
    }
    if (extras & POSTS) {
        double x = fabs(p.x), y = fabs(p.y);
        if (disc(x, y, 92, 70) < 6) {
            *bits |= IS_EQUIPMENT;
            return 3000;
        }
        if (disc(y, p.z, 70 * (x - 30) / 62, 30) < 2.8 && x > 30 && x < 90)
            return 3000; /* a pin */
    }
    if ((extras & COUCH) && couch)
        return -900;
    return (extras & HOLDER) && p.y > 15 && r <= 1 ? -930 : -1000;
}

static double noise(size_t i)
{
    double sum = 0; /* of four uniform values: nearly normal, deviation 0.577 */
    for (uint32_t k = 0; k < 4; k++) {
        uint32_t h = ((uint32_t)i * 4 + k) * 2654435761u;
        h = (h ^ (h >> 15)) * 2246822519u;
        sum += (double)((h ^ (h >> 13)) & 0xffff) / 65536 - 0.5;
    }
    return sum / 0.577;
}

static void fill_slice(void *context, int slice)
{
    Scene *s = context;
    const Grid *g = &s->ct.grid;
    size_t i = (size_t)slice * (size_t)g->nx * (size_t)g->ny;
    for (int32_t y = 0; y < g->ny; y++)
        for (int32_t x = 0; x < g->nx; x++, i++) {
            Vec3 p = affine_apply(g->lps_from_vox, (Vec3){x, y, slice});
            unsigned bits = 0;
            double hu = in_head(s->extras, p) ? head_value(s->extras, p, &bits)
                                              : equipment_value(s->extras, p, &bits);
            if (in_head(s->extras, p))
                bits |= IS_HEAD;
            s->truth[i] = (uint8_t)bits;
            s->ct.v[i] = (int16_t)lrint(hu + s->noise_hu * noise(i));
        }
}

static Arena arena, scratch;

static void open_arenas(void)
{
    Err err = {0};
    CHECK_OK(arena_open((size_t)2 << 30, &arena, &err), &err);
    CHECK_OK(arena_open((size_t)2 << 30, &scratch, &err), &err);
}

/* 240 x 260 mm around the head, z from low to high. */
static Scene make_scene(unsigned extras, double pixel_mm, double slice_mm, double low_mm,
                        double high_mm)
{
    Err err = {0};
    if (arena.base == NULL)
        open_arenas();
    int32_t nx = (int32_t)(240 / pixel_mm), ny = (int32_t)(260 / pixel_mm);
    int32_t nz = (int32_t)((high_mm - low_mm) / slice_mm);
    Grid g = {nx,
              ny,
              nz,
              {{{pixel_mm, 0, 0, -120 + 0.5 * pixel_mm},
                {0, pixel_mm, 0, -125 + 0.5 * pixel_mm},
                {0, 0, slice_mm, low_mm + 0.5 * slice_mm}}}};
    size_t n = grid_voxels(&g);
    Scene s = {extras, 12, {g, arena_alloc(&arena, n, sizeof(int16_t), &err)}, NULL};
    s.truth = arena_alloc(&arena, n, 1, &err);
    CHECK(s.ct.v != NULL && s.truth != NULL);
    parallel_for(0, nz, fill_slice, &s);
    return s;
}

static double dice(const Scene *s, const VolumeU8 *mask, unsigned bit)
{
    double both = 0, either = 0;
    size_t n = grid_voxels(&s->ct.grid);
    for (size_t i = 0; i < n; i++) {
        bool truth = (s->truth[i] & bit) != 0, found = mask->v[i] != 0;
        CHECK(mask->v[i] <= 1);
        both += truth && found;
        either += truth + found;
    }
    return 2 * both / either;
}

static int64_t inside(const Scene *s, const VolumeU8 *mask, unsigned bit)
{
    int64_t count = 0;
    size_t n = grid_voxels(&s->ct.grid);
    for (size_t i = 0; i < n; i++)
        count += (s->truth[i] & bit) != 0 && mask->v[i] != 0;
    return count;
}

static void check_head(const Scene *s, const char *what)
{
    VolumeU8 mask;
    MaskResult result;
    Err err = {0};
    CHECK_OK(mask_head(&s->ct, 0, &mask, &result, &arena, &scratch, &err), &err);
    double d = dice(s, &mask, IS_HEAD);
    long long equipment = (long long)inside(s, &mask, IS_EQUIPMENT);
    (void)printf("# head, %s: Dice %.4f, %.0f ml, equipment %lld voxels, %.2f s\n", what, d,
                 result.volume_ml, equipment, result.seconds);
    CHECK(d >= 0.97);
    CHECK_INT(equipment, 0);
    CHECK(grid_equal(&mask.grid, &s->ct.grid, 0));
}

static double check_brain(const Scene *s, const char *what)
{
    VolumeU8 mask;
    MaskResult result;
    Err err = {0};
    CHECK_OK(mask_brain(&s->ct, 0, &mask, &result, &arena, &scratch, &err), &err);
    double d = dice(s, &mask, IS_BRAIN);
    double muscle_ml =
        (double)inside(s, &mask, IS_MUSCLE) * fabs(affine_det(s->ct.grid.lps_from_vox)) / 1000;
    (void)printf("# brain, %s: Dice %.4f, %.0f ml, muscle %.1f ml, %.2f s\n", what, d,
                 result.volume_ml, muscle_ml, result.seconds);
    CHECK(d >= 0.95);
    return muscle_ml;
}

TEST(mask_head_plain, "skin, nose, ears, sinus with an open airway: Dice >= 0.97")
{
    Scene s = make_scene(0, 1, 1.5, -100, 110);
    check_head(&s, "plain");
}

TEST(mask_head_couch_and_holder, "couch slab and head holder: not one voxel inside")
{
    Scene s = make_scene(COUCH | HOLDER, 1, 1.5, -100, 110);
    check_head(&s, "couch and holder");
}

TEST(mask_head_contact, "a couch that touches the head: nothing of it beyond 5 mm from the skin")
{
    Scene s = make_scene(COUCH | CONTACT, 1, 1.5, -100, 110);
    VolumeU8 mask;
    MaskResult result;
    Err err = {0};
    CHECK_OK(mask_head(&s.ct, 0, &mask, &result, &arena, &scratch, &err), &err);
    double d = dice(&s, &mask, IS_HEAD);
    (void)printf("# head, couch in contact: Dice %.4f, equipment %lld voxels\n", d,
                 (long long)inside(&s, &mask, IS_EQUIPMENT));
    CHECK(d >= 0.97);
    CHECK_INT(inside(&s, &mask, IS_FAR), 0);
}

TEST(mask_head_frame, "metal posts pinned to the skull: not one voxel of a post inside")
{
    Scene s = make_scene(COUCH | POSTS, 1, 1.5, -100, 110);
    check_head(&s, "posts");
}

TEST(mask_head_thermoplast, "a thermoplastic shell that does not touch the skin: gone")
{
    Scene s = make_scene(COUCH | THERMOPLAST, 1, 1.5, -100, 110);
    check_head(&s, "thermoplastic shell");
}

TEST(mask_head_cut_field_of_view, "vertex and neck cut off by the field of view")
{
    Scene s = make_scene(COUCH, 1, 1.5, -45, 60);
    check_head(&s, "cut");
}

TEST(mask_head_thick_slices, "5 mm slices")
{
    Scene s = make_scene(COUCH | HOLDER, 1, 5, -100, 110);
    check_head(&s, "5 mm slices");
}

TEST(mask_head_thin_parts_are_in, "most of the ears, the nose and the sinus are inside")
{
    Scene s = make_scene(COUCH, 1, 1.5, -100, 110);
    VolumeU8 mask;
    MaskResult result;
    Err err = {0};
    CHECK_OK(mask_head(&s.ct, 0, &mask, &result, &arena, &scratch, &err), &err);
    int64_t ear[2] = {0}, nose[2] = {0}, sinus[2] = {0};
    const Grid *g = &s.ct.grid;
    for (int32_t z = 0, i = 0; z < g->nz; z++)
        for (int32_t y = 0; y < g->ny; y++)
            for (int32_t x = 0; x < g->nx; x++, i++) {
                Vec3 p = affine_apply(g->lps_from_vox, (Vec3){x, y, z});
                if (fabs(p.x) > 82 && in_head(0, p))
                    ear[mask.v[i]]++;
                if (p.y < -101 && in_head(0, p))
                    nose[mask.v[i]]++;
                if (ellipsoid(p, 0, -35, -72, 18, 20, 10) <= 1)
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
    Scene s = make_scene(COUCH, 0.5, 2.5, 0, 50);
    VolumeU8 mask;
    MaskResult result;
    Err err = {0};
    CHECK_OK(mask_head(&s.ct, 0, &mask, &result, &arena, &scratch, &err), &err);
    const Grid *g = &s.ct.grid;
    int64_t wrong = 0, half_mm_wrong = 0;
    for (int32_t z = 0, i = 0; z < g->nz; z++)
        for (int32_t y = 0; y < g->ny; y++)
            for (int32_t x = 0; x < g->nx; x++, i++) {
                Vec3 p = affine_apply(g->lps_from_vox, (Vec3){x, y, z});
                bool found = mask.v[i] != 0;
                bool deep = ellipsoid(p, 0, 0, 0, 76.5, 96.5, 97.5) <= 1;
                bool far = ellipsoid(p, 0, 0, 0, 79.5, 99.5, 100.5) > 1;
                wrong += (deep && !found) || (far && found);
                bool just_in = ellipsoid(p, 0, 0, 0, 77.3, 97.3, 98.3) <= 1;
                bool just_out = ellipsoid(p, 0, 0, 0, 78.7, 98.7, 99.7) > 1;
                half_mm_wrong += (just_in && !found) || (just_out && found);
            }
    (void)printf("# beyond 1.5 mm: %lld, beyond 0.7 mm: %lld of %zu voxels\n", (long long)wrong,
                 (long long)half_mm_wrong, grid_voxels(g));
    CHECK_INT(wrong, 0);
    /* 1.3 mm blocks would err by more than 0.7 mm at their corners, all around. */
    CHECK(half_mm_wrong < 2000);
}

TEST(mask_brain_plain, "skull with foramen magnum: Dice >= 0.95")
{
    Scene s = make_scene(COUCH | HOLDER, 1, 1.5, -100, 110);
    (void)check_brain(&s, "plain");
}

TEST(mask_brain_leak, "(b) muscle joined to the brain through the temple stays outside")
{
    Scene s = make_scene(TEMPLE | BURR_HOLE, 1, 1.5, -100, 110);
    double muscle_ml = check_brain(&s, "open temple, burr hole");
    /* Without the outer marker there: 63 ml. */
    CHECK(muscle_ml < 5);
}

TEST(mask_brain_craniectomy, "60 mm of skull missing")
{
    Scene s = make_scene(CRANIECTOMY, 1, 1.5, -100, 110);
    (void)check_brain(&s, "craniectomy");
}

TEST(mask_brain_cut_field_of_view, "vertex cut off")
{
    Scene s = make_scene(COUCH, 1, 1.5, -100, 60);
    (void)check_brain(&s, "vertex cut");
}

TEST(mask_brain_thick_slices, "5 mm slices")
{
    Scene s = make_scene(COUCH, 1, 5, -100, 110);
    (void)check_brain(&s, "5 mm slices");
}

TEST(mask_brain_posts, "metal posts and pins")
{
    Scene s = make_scene(POSTS, 1, 1.5, -100, 110);
    (void)check_brain(&s, "posts");
}

TEST(mask_any_axis_order, "the same head stored as sagittal slices, feet first")
{
    Scene axial = make_scene(COUCH, 1.3, 1.3, -100, 110), s = axial;
    const Grid *a = &axial.ct.grid;
    /* Voxel axes of s: posterior, feet, left. */
    s.ct.grid.nx = a->ny, s.ct.grid.ny = a->nz, s.ct.grid.nz = a->nx;
    Affine axial_from_s = {{{0, 0, 1, 0}, {1, 0, 0, 0}, {0, -1, 0, a->nz - 1}}};
    s.ct.grid.lps_from_vox = affine_mul(a->lps_from_vox, axial_from_s);
    Err err = {0};
    size_t n = grid_voxels(a);
    s.ct.v = arena_alloc(&arena, n, sizeof(int16_t), &err);
    s.truth = arena_alloc(&arena, n, 1, &err);
    CHECK(s.ct.v != NULL && s.truth != NULL);
    parallel_for(0, s.ct.grid.nz, fill_slice, &s);
    check_head(&s, "sagittal");
    (void)check_brain(&s, "sagittal");
}

TEST(mask_same_bits_for_any_threads, "1 and 2 threads give the same masks")
{
    Scene s = make_scene(COUCH | HOLDER, 0.8, 2, -100, 110);
    Err err = {0};
    MaskResult result;
    VolumeU8 one, two;
    CHECK_OK(mask_head(&s.ct, 1, &one, &result, &arena, &scratch, &err), &err);
    CHECK_OK(mask_head(&s.ct, 2, &two, &result, &arena, &scratch, &err), &err);
    CHECK(memcmp(one.v, two.v, grid_voxels(&one.grid)) == 0);
    CHECK_OK(mask_brain(&s.ct, 1, &one, &result, &arena, &scratch, &err), &err);
    CHECK_OK(mask_brain(&s.ct, 2, &two, &result, &arena, &scratch, &err), &err);
    CHECK(memcmp(one.v, two.v, grid_voxels(&one.grid)) == 0);
    CHECK_INT(arena_mark(&scratch), 0);
}

TEST(mask_refuses_what_is_no_head, "air, a water bottle, too few slices: MASK; outputs untouched")
{
    Scene s = make_scene(0, 1.5, 3, -100, 110);
    size_t n = grid_voxels(&s.ct.grid), used = 0;
    Err err = {0};
    VolumeU8 mask = {0};
    MaskResult result = {0};
    for (size_t i = 0; i < n; i++)
        s.ct.v[i] = -1000;
    used = arena_mark(&arena);
    CHECK_STATUS(mask_head(&s.ct, 0, &mask, &result, &arena, &scratch, &err), ST_MASK);
    CHECK_STATUS(mask_brain(&s.ct, 0, &mask, &result, &arena, &scratch, NULL), ST_MASK);
    for (size_t i = 0; i < n; i++)
        s.ct.v[i] = s.truth[i] & IS_HEAD ? 0 : -1000;
    CHECK_STATUS(mask_head(&s.ct, 0, &mask, &result, &arena, &scratch, NULL), ST_MASK);
    CHECK_STATUS(mask_brain(&s.ct, 0, &mask, &result, &arena, &scratch, NULL), ST_MASK);
    VolumeI16 thin = {s.ct.grid, s.ct.v};
    thin.grid.nz = 2;
    CHECK_STATUS(mask_head(&thin, 0, &mask, &result, &arena, &scratch, NULL), ST_MASK);
    CHECK(mask.v == NULL && result.volume_ml == 0);
    CHECK_INT(arena_mark(&arena), used);
    CHECK_INT(arena_mark(&scratch), 0);
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
    open_arenas();
    CHECK_OK(import_inv3(path, &arena, &ct, &err), &err);
    CHECK_OK(mask_head(&ct, 0, &head, &r, &arena, &scratch, &err), &err);
    (void)printf("# real head: %.0f ml in %.2f s\n", r.volume_ml, r.seconds);
    CHECK(r.volume_ml > 2500 && r.volume_ml < 5500);
    CHECK_OK(mask_brain(&ct, 0, &brain, &r, &arena, &scratch, &err), &err);
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
