/* See mask_prior.h. The brain of a T1 image: brighter than 1.2 times Otsu's threshold, shrunk by
** 6 mm (the dark skull parts it from the scalp), the largest part, grown back, closed by 8 mm.
** Against ch2bet, FSL's brain of the default reference: Dice 0.96, at most 8 mm too large. */
#include "pipeline/mask_prior.h"

#include "base/parallel.h"
#include "pipeline/components.h"
#include "pipeline/distance.h"
#include "pipeline/filter.h"
#include "registration/head.h"

#include <math.h>
#include <string.h>

#define SPACING_MM 2.0
#define BRIGHT 1.2f
#define PART_MM 6.0
#define CLOSE_MM 8.0
#define BRAIN_MIN_ML 900.0 /* of a reference head, which is a grown-up's */
#define BRAIN_MAX_ML 2300.0
#define HEAD_MM 25.0 /* ears, a nose, hair and bandages stand out less from an average head */
#define BRAIN_MM 12.0

typedef struct Known { /* of the reference, on its 2 mm copy */
    Grid grid;
    uint8_t *below;              /* 1: too low to say what is head */
    float *head_mm2;             /* distance to the head */
    float *brain_mm2, *core_mm2; /* to the brain; to what is not brain. NULL: brain not found */
} Known;

static void within(const float *mm2, size_t n, double mm, bool is_near, uint8_t *ret)
{
    float limit2 = (float)(mm * mm);
    for (size_t i = 0; i < n; i++)
        ret[i] = (mm2[i] <= limit2) == is_near;
}

/* brain = 1 in the brain of image; false if there is nothing like one. mm2, queue: [n] work. */
static bool find_brain(const VolumeF32 *image, float otsu, int threads, uint8_t *brain, float *mm2,
                       int32_t *queue)
{
    const Grid *g = &image->grid;
    size_t n = grid_voxels(g);
    for (size_t i = 0; i < n; i++)
        brain[i] = image->v[i] > BRIGHT * otsu;
    distance_squared(g, brain, false, PART_MM, threads, mm2);
    within(mm2, n, PART_MM, false, brain);
    (void)component_keep_largest(g, brain, queue);
    distance_squared(g, brain, true, PART_MM + CLOSE_MM + 1, threads, mm2);
    within(mm2, n, PART_MM + CLOSE_MM, true, brain); /* grown back and further, to be closed */
    distance_squared(g, brain, false, CLOSE_MM, threads, mm2);
    within(mm2, n, CLOSE_MM, false, brain);
    component_fill_slices(g, brain, 2, threads, queue);
    double count = 0;
    for (size_t i = 0; i < n; i++)
        count += brain[i];
    double ml = count * fabs(affine_det(g->lps_from_vox)) / 1000;
    return ml >= BRAIN_MIN_ML && ml <= BRAIN_MAX_ML;
}

static Status know(const VolumeI16 *reference, int threads, Known *ret, Arena *scratch, Err *err)
{
    VolumeF32 image = {.grid = filter_shrink_grid(&reference->grid, SPACING_MM)};
    size_t n = grid_voxels(&image.grid);
    Known k = {.grid = image.grid};
    image.v = arena_alloc(scratch, n, sizeof(float), err);
    k.below = arena_alloc(scratch, n, 1, err);
    k.head_mm2 = arena_alloc(scratch, n, sizeof(float), err);
    k.brain_mm2 = arena_alloc(scratch, n, sizeof(float), err);
    k.core_mm2 = arena_alloc(scratch, n, sizeof(float), err);
    uint8_t *brain = arena_alloc(scratch, n, 1, err);
    int32_t *queue = arena_alloc(scratch, n, sizeof *queue, err);
    if (image.v == NULL || k.below == NULL || k.head_mm2 == NULL || k.brain_mm2 == NULL ||
        k.core_mm2 == NULL || brain == NULL || queue == NULL)
        return ST_LIMIT;
    TRY(filter_shrink(reference, threads, &image, scratch, err));
    float otsu = head_otsu(&image);
    Head head;
    if (head_find(&image, otsu, scratch, &head, err) != ST_OK)
        return ST_REFERENCE;
    for (size_t i = 0; i < n; i++) {
        k.below[i] = head.where.v[i] == HEAD_BELOW;
        head.where.v[i] = head.where.v[i] == HEAD_INSIDE;
    }
    distance_squared(&k.grid, head.where.v, true, HEAD_MM, threads, k.head_mm2);
    if (find_brain(&image, otsu, threads, brain, k.core_mm2, queue)) {
        distance_squared(&k.grid, brain, true, BRAIN_MM, threads, k.brain_mm2);
        distance_squared(&k.grid, brain, false, BRAIN_MM, threads, k.core_mm2);
    } else {
        k.brain_mm2 = k.core_mm2 = NULL;
    }
    *ret = k;
    return ST_OK;
}

typedef struct Lay {
    const Known *known;
    const Grid *copy;
    Affine known_vox_from_copy_vox;
    uint8_t *prior;
} Lay;

/* Nearest voxel of the reference and the squared distance to it where p lies outside its grid. */
static size_t nearest(const Known *k, Vec3 p, double *ret_mm2, double *ret_rise_mm)
{
    const int32_t n[3] = {k->grid.nx, k->grid.ny, k->grid.nz};
    const double at[3] = {p.x, p.y, p.z};
    double held[3], off_mm[3] = {0};
    for (int a = 0; a < 3; a++) {
        held[a] = at[a] < 0 ? 0 : at[a] > n[a] - 1 ? n[a] - 1 : floor(at[a] + 0.5);
        if (at[a] < -0.5 || at[a] > n[a] - 0.5)
            for (int r = 0; r < 3; r++)
                off_mm[r] += k->grid.lps_from_vox.m[r][a] * (held[a] - at[a]);
    }
    *ret_mm2 = off_mm[0] * off_mm[0] + off_mm[1] * off_mm[1] + off_mm[2] * off_mm[2];
    *ret_rise_mm = off_mm[2];
    return ((size_t)held[2] * (size_t)n[1] + (size_t)held[1]) * (size_t)n[0] + (size_t)held[0];
}

static void lay_slice(void *context, int slice)
{
    const Lay *l = context;
    const Known *k = l->known;
    size_t i = (size_t)slice * (size_t)l->copy->nx * (size_t)l->copy->ny;
    for (int32_t y = 0; y < l->copy->ny; y++)
        for (int32_t x = 0; x < l->copy->nx; x++, i++) {
            Vec3 p = affine_apply(l->known_vox_from_copy_vox, (Vec3){x, y, slice});
            double off_mm2, rise_mm;
            size_t at = nearest(k, p, &off_mm2, &rise_mm);
            unsigned bits = 0;
            bool is_below = k->below[at] != 0 || rise_mm > SPACING_MM;
            if (!is_below && (double)k->head_mm2[at] + off_mm2 > HEAD_MM * HEAD_MM)
                bits |= PRIOR_NO_HEAD;
            if (k->brain_mm2 != NULL) {
                bits |= PRIOR_KNOWS_BRAIN;
                if ((double)k->brain_mm2[at] + off_mm2 > BRAIN_MM * BRAIN_MM)
                    bits |= PRIOR_NO_BRAIN;
                else if (off_mm2 <= 0 && (double)k->core_mm2[at] > BRAIN_MM * BRAIN_MM)
                    bits |= PRIOR_BRAIN;
            }
            l->prior[i] = (uint8_t)bits;
        }
}

Status mask_prior(const MaskReference *reference, const Grid *copy, int threads, uint8_t *ret_prior,
                  Arena *scratch, Err *err)
{
    size_t mark = arena_mark(scratch);
    Known known = {0};
    Affine known_vox_from_ref;
    Status status = know(reference->image, threads, &known, scratch, err);
    if (status == ST_OK && !affine_inverse(known.grid.lps_from_vox, &known_vox_from_ref))
        status = err_set(err, ST_REFERENCE, "the reference's matrix is singular");
    if (status == ST_OK) {
        Lay lay = {
            &known, copy,
            affine_mul(known_vox_from_ref, affine_mul(reference->ref_from_ct, copy->lps_from_vox)),
            ret_prior};
        parallel_for(threads, copy->nz, lay_slice, &lay);
    }
    arena_reset(scratch, mark);
    return status;
}
