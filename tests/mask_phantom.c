/* See mask_phantom.h. */
#include "tests/mask_phantom.h"

#include "base/parallel.h"
#include "tests/test.h"

double mask_ellipsoid(Vec3 p, double cx, double cy, double cz, double rx, double ry, double rz)
{
    double x = (p.x - cx) / rx, y = (p.y - cy) / ry, z = (p.z - cz) / rz;
    return x * x + y * y + z * z;
}

static double disc(double u, double v, double cu, double cv)
{
    return hypot(u - cu, v - cv);
}

bool mask_canal(Vec3 p)
{
    return p.x > 36 && p.x < 52 && disc(p.y, p.z, 10, -38) < 4.0;
}

static bool in_cavity(unsigned extras, Vec3 p)
{
    if ((extras & PETROUS) && mask_ellipsoid(p, 60, 10, -38, 30, 20, 12) <= 1)
        return false;
    return mask_ellipsoid(p, 0, 0, 0, 65, 85, 86) <= 1 && p.z > -50;
}

/* Muscle on the left temple. */
static double temple(Vec3 p)
{
    return mask_ellipsoid(p, 66, -20, -10, 22, 36, 34);
}

bool mask_in_head(unsigned extras, Vec3 p)
{
    return ((extras & TEMPLE) && temple(p) <= 1) || mask_ellipsoid(p, 0, 0, 0, 78, 98, 99) <= 1 ||
           (p.z < -30 && mask_ellipsoid((Vec3){p.x, p.y, 0}, 0, 10, 0, 58, 62, 1) <= 1) ||
           ((extras & SHOULDERS) && p.z < -105) ||
           mask_ellipsoid(p, 0, -97, -42, 13, 18, 22) <= 1 || /* nose */
           mask_ellipsoid(p, 84, 12, -28, 12, 4, 28) <= 1 ||  /* ears: thin plates standing out */
           mask_ellipsoid(p, -84, 12, -28, 12, 4, 28) <= 1;
}

bool mask_open_air(Vec3 p)
{
    return mask_ellipsoid(p, 0, -65, 30, 24, 24, 20) <= 1;
}

/* HU inside the skin. */
static double head_value(unsigned extras, Vec3 p, unsigned *bits)
{
    if (in_cavity(extras, p)) {
        *bits |= IS_BRAIN;
        if ((extras & OPEN_AIR) && mask_open_air(p))
            return -950;
        if ((extras & BLOOD) && mask_ellipsoid(p, 28, 30, 25, 18, 16, 18) <= 1)
            return mask_ellipsoid(p, 32, 34, 33, 9, 9, 9) <= 1 ? -950 : 75;
        if ((extras & CLIP) && mask_ellipsoid(p, 5, -30, 0, 3, 3, 5) <= 1)
            return 3000;
        bool csf = mask_ellipsoid(p, 0, 0, 0, 62, 82, 83) > 1 || p.z < -47 ||
                   mask_ellipsoid(p, 11, 0, 12, 6, 30, 10) <= 1 ||
                   mask_ellipsoid(p, -11, 0, 12, 6, 30, 10) <= 1;
        return csf ? 10 : mask_ellipsoid(p, 0, 0, 5, 52, 70, 64) <= 1 ? 29 : 37;
    }
    double hole = disc(p.x, p.y, 0, 30);
    if (p.z <= -50 && p.z > -58 && hole < 14) /* foramen magnum */
        return 32;
    if (p.z <= -58 && hole < 16) /* vertebral canal in its bone */
        return hole < 9 ? 30 : 500;
    if ((extras & BURR_HOLE) && p.z > 40 && disc(p.x, p.y, 30, -30) < 7)
        return 30;
    if ((extras & PETROUS) && p.x < 52 && disc(p.y, p.z, 10, -38) < 4.0)
        return 20;
    if ((extras & CRANIECTOMY) && p.x > 30 && disc(p.y, p.z, 0, 30) < 30)
        return 45;
    if ((extras & TEMPLE) && p.x > 0 && temple(p) <= 1) {
        bool is_bone = mask_ellipsoid(p, 0, 0, 0, 67.5, 87.5, 88.5) <= 1;
        bool is_passage = disc(p.y, p.z, -20, -10) < 9;
        if (!is_bone || is_passage) {
            *bits |= IS_MUSCLE;
            return 50;
        }
    }
    if (mask_ellipsoid(p, 0, 0, 0, 71, 91, 92) <= 1 && p.z > -58)
        return 900;
    if (mask_ellipsoid(p, 0, -35, -72, 18, 20, 10) <= 1 || /* sinus, and a way out */
        (p.y < -45 && disc(p.x, p.z, 0, -70) < 3.5))
        return -980;
    if (mask_ellipsoid(p, 0, 0, 0, 75, 95, 96) > 1 && p.z > -30)
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
        if (mask_ellipsoid(p, 0, 0, 0, 83, 103, 104) > 1)
            *bits |= IS_FAR;
        return 150;
    }
    if ((extras & BOARD) && p.y > 95 && p.y < 110 && fabs(p.x) < 110) {
        *bits |= IS_EQUIPMENT;
        if (mask_ellipsoid(p, 0, 0, 0, 83, 103, 104) > 1)
            *bits |= IS_FAR;
        return 70;
    }
    double r = mask_ellipsoid((Vec3){p.x, p.y, 0}, 0, 0, 0, 100, 102, 1);
    if ((extras & HOLDER) && p.y > 15 && r > 1 && r < 1.07) {
        *bits |= IS_EQUIPMENT;
        return 250;
    }
    double shell = mask_ellipsoid(p, 0, 0, 0, 86, 106, 107);
    bool is_open = mask_ellipsoid(p, 0, -97, -42, 18, 23, 27) <= 1 ||
                   mask_ellipsoid((Vec3){fabs(p.x), p.y, p.z}, 84, 12, -28, 18, 10, 34) <= 1;
    if ((extras & THERMOPLAST) && p.y < 40 && p.z > -60 && shell > 1 && shell < 1.07 && !is_open) {
        *bits |= IS_EQUIPMENT;
        return 20;
    }
    double skin = mask_ellipsoid(p, 0, 0, 0, 80, 100, 101);
    bool is_plate = p.x > 0 && skin > 1 && mask_ellipsoid(p, 0, 0, 0, 83, 103, 104) <= 1;
    if (((extras & STRIP) && is_plate && fabs(p.y + 10) < 15 && fabs(p.z - 30) < 15) ||
        ((extras & BAND) && is_plate && fabs(p.y) < 55 && fabs(p.z - 30) < 6)) {
        *bits |= IS_EQUIPMENT;
        return 60;
    }
    if ((extras & BLOCK) && p.x > 0 && p.x < 110 && p.y > -18 && p.y < 18 && fabs(p.z - 10) < 18) {
        *bits |= IS_EQUIPMENT;
        if (mask_ellipsoid(p, 0, 0, 0, 83, 103, 104) > 1)
            *bits |= IS_FAR;
        return 3000;
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

/* T1: fat bright, white matter over grey, CSF and bone dark, nothing in air. */
static double t1_of_hu(double hu)
{
    return hu < -200  ? 0
           : hu < -40 ? 240
           : hu < 20  ? 40
           : hu < 33  ? 160
           : hu < 40  ? 110
           : hu < 100 ? 90
                      : 20;
}

static void fill_slice(void *context, int slice)
{
    MaskScene *s = context;
    const Grid *g = &s->ct.grid;
    Affine head_from_vox = affine_mul(s->head_from_lps, g->lps_from_vox);
    size_t i = (size_t)slice * (size_t)g->nx * (size_t)g->ny;
    for (int32_t y = 0; y < g->ny; y++)
        for (int32_t x = 0; x < g->nx; x++, i++) {
            Vec3 p = affine_apply(head_from_vox, (Vec3){x, y, slice});
            unsigned bits = 0;
            double hu = mask_in_head(s->extras, p) ? head_value(s->extras, p, &bits)
                                                   : equipment_value(s->extras, p, &bits);
            if (mask_in_head(s->extras, p))
                bits |= IS_HEAD;
            s->truth[i] = (uint8_t)bits;
            s->ct.v[i] = (int16_t)lrint(s->is_t1 ? t1_of_hu(hu) : hu + s->noise_hu * noise(i));
        }
}

Arena mask_arena, mask_scratch;

void mask_scene_fill(MaskScene *scene)
{
    parallel_for(0, scene->ct.grid.nz, fill_slice, scene);
}

void mask_open_arenas(void)
{
    Err err = {0};
    CHECK_OK(arena_open((size_t)2 << 30, &mask_arena, &err), &err);
    CHECK_OK(arena_open((size_t)2 << 30, &mask_scratch, &err), &err);
}

MaskScene mask_scene_in(unsigned extras, Grid g, Affine head_from_lps, bool is_t1)
{
    Err err = {0};
    if (mask_arena.base == NULL)
        mask_open_arenas();
    size_t n = grid_voxels(&g);
    MaskScene s = {extras,
                   12,
                   head_from_lps,
                   is_t1,
                   {g, arena_alloc(&mask_arena, n, sizeof(int16_t), &err)},
                   arena_alloc(&mask_arena, n, 1, &err)};
    CHECK(s.ct.v != NULL && s.truth != NULL);
    mask_scene_fill(&s);
    return s;
}

MaskScene mask_scene(unsigned extras, double pixel_mm, double slice_mm, double low_mm,
                     double high_mm)
{
    int32_t nx = (int32_t)(240 / pixel_mm), ny = (int32_t)(260 / pixel_mm);
    int32_t nz = (int32_t)((high_mm - low_mm) / slice_mm);
    Grid g = {nx,
              ny,
              nz,
              {{{pixel_mm, 0, 0, -120 + 0.5 * pixel_mm},
                {0, pixel_mm, 0, -125 + 0.5 * pixel_mm},
                {0, 0, slice_mm, low_mm + 0.5 * slice_mm}}}};
    return mask_scene_in(extras, g, affine_identity(), false);
}

double mask_dice(const MaskScene *s, const VolumeU8 *mask, unsigned bit)
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

int64_t mask_inside(const MaskScene *s, const VolumeU8 *mask, unsigned bit)
{
    int64_t count = 0;
    size_t n = grid_voxels(&s->ct.grid);
    for (size_t i = 0; i < n; i++)
        count += (s->truth[i] & bit) != 0 && mask->v[i] != 0;
    return count;
}
