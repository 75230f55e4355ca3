/* See head_phantom.h. */
#include "tests/head_phantom.h"

#include "base/err.h"
#include "base/parallel.h"

#include <math.h>

typedef struct Ellipsoid {
    double centre[3], radius[3]; /* mm; x to the left, y to the back, z up */
    int16_t ct, mr;
} Ellipsoid;

/* Painted in this order. */
static const Ellipsoid parts[] = {
    {{0, 18, -100}, {52, 58, 70}, 50, 90},  /* neck */
    {{0, 0, 0}, {77, 97, 96}, -70, 240},    /* scalp fat */
    {{0, -98, -38}, {13, 17, 20}, 40, 120}, /* nose */
    {{79, 8, -28}, {7, 16, 24}, 60, 110},   /* ears */
    {{-79, 6, -26}, {7, 15, 22}, 60, 110},
    {{0, 0, 0}, {73, 93, 92}, 50, 90},        /* muscle */
    {{0, 2, 2}, {70, 89, 89}, 1100, 25},      /* skull */
    {{0, 2, 2}, {67.5, 86.5, 86.5}, 500, 70}, /* diploe */
    {{0, 2, 2}, {66, 85, 85}, 1100, 25},
    {{0, 2, 3}, {62, 80, 80}, 6, 40},    /* CSF */
    {{0, 2, 3}, {60, 78, 78}, 38, 110},  /* cortex */
    {{1, 4, 8}, {52, 68, 64}, 28, 160},  /* white matter */
    {{24, 0, 5}, {11, 22, 16}, 36, 120}, /* basal ganglia */
    {{-25, 1, 5}, {11, 21, 15}, 36, 120},
    {{12, -2, 14}, {7, 34, 11}, 6, 40}, /* ventricles, the left one larger */
    {{-11, 0, 13}, {5, 29, 9}, 6, 40},
    {{0, 2, -62}, {63, 80, 16}, 900, 30},   /* base of the skull */
    {{0, 30, -60}, {19, 17, 30}, 30, 150},  /* brain stem */
    {{0, -62, -52}, {20, 24, 17}, -950, 4}, /* sinuses */
    {{33, -78, -24}, {13, 13, 13}, 15, 45}, /* eyes */
    {{-31, -78, -24}, {13, 13, 13}, 15, 45},
    {{44, 42, 12}, {10, 12, 11}, 12, 55}, /* an old infarct, left, at the back */
};

static const Ellipsoid body[] = {
    {{0, 0, 0}, {190, 120, 600}, -90, 200},  {{0, 0, 0}, {175, 105, 600}, 50, 90},
    {{75, -15, 40}, {60, 75, 140}, -850, 5}, {{-75, -15, 40}, {62, 78, 150}, -850, 5},
    {{10, -20, 0}, {50, 45, 60}, 40, 100},   {{0, 75, 0}, {22, 25, 600}, 500, 120},
    {{240, 10, 0}, {45, 45, 600}, 40, 120},  {{-240, 10, 0}, {45, 45, 600}, 40, 120},
    {{240, 10, 0}, {14, 14, 600}, 1000, 20}, {{-240, 10, 0}, {14, 14, 600}, 1000, 20},
    {{-60, 0, -150}, {90, 80, 90}, 60, 110},
};

typedef struct Fill {
    PhantomOptions options;
    Affine head_from_vox;
    bool is_body;
    VolumeI16 *ret;
} Fill;

double phantom_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u); /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

static double between(uint64_t *state, double most)
{
    return (2 * phantom_random(state) - 1) * most;
}

Affine phantom_affine(uint64_t *state, double rotation_deg, double scale, double shift_mm)
{
    Affine t = affine_identity();
    for (int a = 0; a < 3; a++) {
        double angle = between(state, rotation_deg) * acos(-1.0) / 180;
        int p = (a + 1) % 3, q = (a + 2) % 3;
        Affine r = affine_identity();
        r.m[p][p] = r.m[q][q] = cos(angle);
        r.m[q][p] = sin(angle);
        r.m[p][q] = -sin(angle);
        t = affine_mul(t, r);
    }
    for (int a = 0; a < 3; a++) {
        double s = 1 + between(state, scale);
        for (int r = 0; r < 3; r++)
            t.m[r][a] *= s;
    }
    for (int r = 0; r < 3; r++)
        t.m[r][3] = between(state, shift_mm);
    return t;
}

Grid phantom_grid(int nx, int ny, int nz, double dx_mm, double dy_mm, double dz_mm)
{
    Grid g = {nx, ny, nz, {{{dx_mm, 0, 0, 0}, {0, dy_mm, 0, 0}, {0, 0, dz_mm, 0}}}};
    g.lps_from_vox.m[0][3] = -0.5 * (nx - 1) * dx_mm;
    g.lps_from_vox.m[1][3] = -0.5 * (ny - 1) * dy_mm;
    g.lps_from_vox.m[2][3] = -0.5 * (nz - 1) * dz_mm;
    return g;
}

static bool holds(const Ellipsoid *e, Vec3 p)
{
    double x = (p.x - e->centre[0]) / e->radius[0], y = (p.y - e->centre[1]) / e->radius[1];
    double z = (p.z - e->centre[2]) / e->radius[2];
    return x * x + y * y + z * z <= 1;
}

static double value_at(const Fill *fill, Vec3 p)
{
    const Ellipsoid *list = fill->is_body ? body : parts;
    int n = fill->is_body ? (int)(sizeof body / sizeof *body) : (int)(sizeof parts / sizeof *parts);
    bool is_ct = fill->options.kind == PHANTOM_CT;
    double v = is_ct ? -1000 : 0;
    for (int i = 0; i < n; i++)
        if (holds(&list[i], p))
            v = is_ct ? list[i].ct : list[i].mr;
    bool is_white = v == (is_ct ? 28 : 160); /* sulci: grey and CSF folded into the white matter */
    if (is_white && !fill->is_body) {
        double fold = sin(p.x / 6) * sin(p.y / 7) * sin(p.z / 6.5);
        if (fold > 0.45)
            v = is_ct ? 38 : 110;
    }
    return v;
}

static void fill_slice(void *context, int z)
{
    const Fill *fill = context;
    VolumeI16 *ret = fill->ret;
    uint64_t state = fill->options.seed * 100003 + (uint64_t)z;
    size_t i = (size_t)z * (size_t)ret->grid.nx * (size_t)ret->grid.ny;
    for (int y = 0; y < ret->grid.ny; y++)
        for (int x = 0; x < ret->grid.nx; x++, i++) {
            double v = value_at(fill, affine_apply(fill->head_from_vox, (Vec3){x, y, z}));
            Vec3 p = affine_apply(ret->grid.lps_from_vox, (Vec3){x, y, z});
            if (fill->options.has_table && p.y > 122 && p.y < 128 && fabs(p.x) < 180 && v < -900)
                v = -100;
            double noise = 0; /* four uniforms: close to normal, variance 1/3 */
            for (int k = 0; k < 4; k++)
                noise += phantom_random(&state) - 0.5;
            v += noise * sqrt(3.0) * fill->options.noise;
            if (fill->options.kind == PHANTOM_MR)
                v = fabs(v);
            ret->v[i] = (int16_t)lrint(v < -1024 ? -1024 : v);
        }
}

static void fill_with(Fill *fill, Affine image_from_head)
{
    Affine head_from_image;
    ASSERT(affine_inverse(image_from_head, &head_from_image));
    fill->head_from_vox = affine_mul(head_from_image, fill->ret->grid.lps_from_vox);
    parallel_for(0, fill->ret->grid.nz, fill_slice, fill);
}

void phantom_fill(const PhantomOptions *options, VolumeI16 *ret)
{
    Fill fill = {.options = *options, .ret = ret};
    fill_with(&fill, options->image_from_head);
}

void phantom_fill_body(uint64_t seed, VolumeI16 *ret)
{
    Fill fill = {
        .options = {.kind = PHANTOM_CT, .noise = 12, .seed = seed}, .is_body = true, .ret = ret};
    fill_with(&fill, affine_identity());
}

void phantom_tre(Affine found, Affine truth, Affine image_from_head, double *ret_mean_mm,
                 double *ret_max_mm)
{
    double sum = 0, n = 0, most = 0;
    for (int z = -90; z <= 90; z += 6)
        for (int y = -90; y <= 90; y += 6)
            for (int x = -72; x <= 72; x += 6) {
                Vec3 p = {x, y, z};
                if (!holds(&parts[1], p))
                    continue;
                p = affine_apply(image_from_head, p);
                double d = vec3_norm(vec3_sub(affine_apply(found, p), affine_apply(truth, p)));
                sum += d;
                n++;
                most = d > most ? d : most;
            }
    *ret_mean_mm = sum / n;
    *ret_max_mm = most;
}
