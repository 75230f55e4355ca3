/* Brain mask: the intracranial content. See mask.h.
**
** 1. Soft tissue is 0..90 HU of the smoothed copy inside the head. Small specks of other values
**    in it (calcification, gas) are taken as soft tissue.
** 2. The anchor is the largest block of soft tissue that is deep (15 mm, less if there is none)
**    and has bone in at least four of the six directions of the grid: brain, not shoulder muscle.
** 3. Inner marker: soft tissue deeper than 6 mm, within reach of the anchor. Reach is the anchor
**    grown by its depth and 10 mm: it ends a little below the foramen magnum and outside a hole in
**    the skull, as nothing in the CT itself does.
** 4. Outer marker: bone, fat, air and all beyond reach: without it the flood leaks through
**    orbits and foramina. (Soft tissue that no thick soft tissue joins to the brain is one, too, by
**    the book; it kept nothing out that reach does not, and cut cisterns off.)
** With a reference, step 2's anchor is soft tissue deeper than 6 mm where the reference surely has
**    brain, step 3's reach is where the reference may have brain, and what is surely brain and in
**    the head is an inner marker: blood, gas and clips stay in, and it ends at the foramen magnum.
** 5. Watershed; opening by 3 mm cuts vessels and nerves; closing and filling take sulci and
**    ventricles in. */
#include "pipeline/mask.h"

#include "base/parallel.h"
#include "pipeline/components.h"
#include "pipeline/distance.h"
#include "pipeline/filter.h"
#include "pipeline/mask_copy.h"
#include "pipeline/mask_prior.h"
#include "pipeline/watershed.h"

#include <math.h>
#include <string.h>

#define SOFT_LOW_HU 0.0f /* Muschelli et al. 2015: 0..100 */
#define SOFT_HIGH_HU 90.0f
#define BONE_HU 180.0f
#define FAT_HU (-25.0f)
#define SPECK_ML 1.0
#define CORE_MM 6.0
#define REACH_MM 10.0
#define OPEN_MM 3.0
#define CLOSE_MM 4.0
#define ANCHOR_MAX_MM 15.0
#define ANCHOR_MIN_ML 20.0
#define BRAIN_MIN_ML 200.0

enum { SIDES_NEEDED = 4, INSIDE = 1, OUTSIDE = 2 };

typedef struct Look {
    const MaskCopy *copy;
    uint8_t *sides;
    int axis;
} Look;

/* One plane of lines along the axis, there and back: adds 1 to sides[i] where bone was met before i
** on the way. A line lies along the plane's rows (axis 0) or across them, many at a time. */
static void look_plane(void *context, int plane)
{
    const Look *l = context;
    const Grid *g = &l->copy->hu.grid;
    size_t nx = (size_t)g->nx, nxy = nx * (size_t)g->ny;
    size_t stride = l->axis == 2 ? nxy : nx, base = (size_t)plane * (l->axis == 2 ? nx : nxy);
    int32_t n = l->axis == 2 ? g->nz : g->ny;
    const float *hu = l->copy->hu.v + base;
    uint8_t *sides = l->sides + base, seen[DISTANCE_AXIS_MAX];
    for (int way = 0; way < 2; way++) {
        memset(seen, 0, nx);
        for (int32_t k = 0; k < n; k++) {
            size_t row = (size_t)(way ? n - 1 - k : k) * stride;
            if (l->axis == 0)
                seen[0] = 0;
            for (size_t i = 0; i < nx; i++) {
                size_t x = way ? nx - 1 - i : i, s = l->axis == 0 ? 0 : x;
                sides[row + x] = (uint8_t)(sides[row + x] + seen[s]);
                seen[s] |= hu[row + x] > BONE_HU;
            }
        }
    }
}

/* a = soft tissue of the head in label, specks filled; mm2 = its depth. */
static void find_soft(MaskCopy *c)
{
    const float *hu = c->hu.v;
    for (size_t i = 0; i < c->n; i++)
        c->b[i] = !(c->label[i] != 0 && hu[i] > SOFT_LOW_HU && hu[i] < SOFT_HIGH_HU);
    component_drop_small(&c->hu.grid, c->b, (int64_t)(SPECK_ML / c->voxel_ml), c->queue);
    for (size_t i = 0; i < c->n; i++)
        c->a[i] = c->b[i] == 0;
    mask_distance(c, c->a, false, ANCHOR_MAX_MM);
}

static bool knows_brain(const MaskCopy *c)
{
    return (c->prior[0] & PRIOR_KNOWS_BRAIN) != 0;
}

/* b = anchor, in as many parts as it has. */
static Status anchor_from_reference(MaskCopy *c, Err *err)
{
    float core2 = (float)mask_square(CORE_MM);
    int64_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        c->b[i] = c->mm2[i] > core2 && (c->prior[i] & PRIOR_BRAIN) != 0;
        n += c->b[i];
    }
    if ((double)n * c->voxel_ml < ANCHOR_MIN_ML)
        return err_set(err, ST_MASK,
                       "where the reference has its brain are only %.0f ml of soft "
                       "tissue",
                       (double)n * c->voxel_ml);
    return ST_OK;
}

/* b = anchor; *ret_mm its depth. */
static Status find_anchor(MaskCopy *c, double *ret_mm, Err *err)
{
    static const double depth_mm[] = {ANCHOR_MAX_MM, 12, 9, 7};
    uint8_t *sides = c->level; /* not yet in use */
    memset(sides, 0, c->n);
    for (int axis = 0; axis < 3; axis++) {
        Look look = {c, sides, axis};
        parallel_for(c->threads, axis == 2 ? c->hu.grid.ny : c->hu.grid.nz, look_plane, &look);
    }
    for (size_t k = 0; k < sizeof depth_mm / sizeof depth_mm[0]; k++) {
        float r2 = (float)mask_square(depth_mm[k]);
        for (size_t i = 0; i < c->n; i++)
            c->b[i] = c->mm2[i] > r2 && sides[i] >= SIDES_NEEDED;
        int64_t n = component_keep_largest(&c->hu.grid, c->b, c->queue);
        if ((double)n * c->voxel_ml >= ANCHOR_MIN_ML) {
            *ret_mm = depth_mm[k];
            return ST_OK;
        }
    }
    return err_set(err, ST_MASK, "no soft tissue deep inside bone");
}

/* a = INSIDE where soft tissue is deep and joined to the anchor by such, else DEEP or 0. Expects
** the anchor in b and the depth of soft tissue in mm2. */
static void find_inner(MaskCopy *c)
{
    enum { DEEP = 3 };
    float core2 = (float)mask_square(CORE_MM);
    int64_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        c->a[i] = c->mm2[i] > core2 ? DEEP : 0;
        if (c->b[i] != 0) {
            c->a[i] = INSIDE;
            c->queue[n++] = (int32_t)i;
        }
    }
    (void)component_reach(&c->hu.grid, c->a, DEEP, INSIDE, c->queue, n);
}

/* From what find_inner() left in a; the anchor is in b, the head in label. */
static void set_markers(MaskCopy *c, double anchor_mm)
{
    float reach2 = (float)mask_square(anchor_mm + REACH_MM);
    const float *hu = c->hu.v;
    bool knows = knows_brain(c);
    if (!knows)
        mask_distance(c, c->b, true, anchor_mm + REACH_MM);
    for (size_t i = 0; i < c->n; i++) {
        bool is_far = knows ? (c->prior[i] & PRIOR_NO_BRAIN) != 0 : c->mm2[i] > reach2;
        bool is_sure = (c->prior[i] & PRIOR_BRAIN) != 0 && c->label[i] != 0;
        bool is_other = hu[i] > BONE_HU || hu[i] < FAT_HU;
        if (is_far)
            c->label[i] = OUTSIDE;
        else if (c->a[i] == INSIDE || is_sure)
            c->label[i] = INSIDE;
        else
            c->label[i] = is_other ? OUTSIDE : 0;
    }
}

/* The anchor in b; what it does not reach is cut off from the copy. */
static Status find_reach(MaskCopy *c, double *ret_anchor_mm, Err *err)
{
    int32_t low[3], high[3];
    if (knows_brain(c)) {
        TRY(anchor_from_reference(c, err));
        for (size_t i = 0; i < c->n; i++)
            c->level[i] = (c->prior[i] & PRIOR_NO_BRAIN) == 0;
        *ret_anchor_mm = 0;
    } else {
        TRY(find_anchor(c, ret_anchor_mm, err));
        memcpy(c->level, c->b, c->n);
    }
    if (mask_box(c, c->level, low, high))
        mask_crop(c, low, high, knows_brain(c) ? 0 : *ret_anchor_mm + REACH_MM);
    return ST_OK;
}

/* From the head in label to the brain in label and brain_ml. */
static Status brain_of_head(MaskCopy *c, Err *err)
{
    find_soft(c);
    double anchor_mm = 0;
    TRY(find_reach(c, &anchor_mm, err));
    find_inner(c);
    set_markers(c, anchor_mm);
    TRY(filter_gradient(&c->hu, -200, 400, c->threads, c->level, c->scratch, err));
    watershed_flood(&c->hu.grid, c->level, c->label, c->queue);
    for (size_t i = 0; i < c->n; i++)
        c->a[i] = c->label[i] == INSIDE;
    memcpy(c->b, c->a, c->n);
    mask_open(c, c->a, OPEN_MM);
    for (size_t i = 0; i < c->n; i++)
        c->label[i] = c->a[i] & c->b[i];
    TRY(mask_close(c, c->label, CLOSE_MM, err));
    TRY(mask_fill(c, c->label, err));
    (void)component_keep_largest(&c->hu.grid, c->label, c->queue);
    double ml = (double)mask_count(c, c->label) * c->voxel_ml;
    if (ml < BRAIN_MIN_ML)
        return err_set(err, ST_MASK, "the soft tissue inside bone has only %.0f ml", ml);
    c->brain_ml = ml;
    return ST_OK;
}

static Status brain_on_copy(MaskCopy *c, Err *err)
{
    TRY(mask_head_on_copy(c, err));
    return brain_of_head(c, err);
}

Status mask_head_and_brain_on_copy(MaskCopy *copy, Err *err)
{
    TRY(mask_head_on_copy(copy, err));
    /* The brain is cut out of a twin, so that the head stays: it has its own HU and label. */
    size_t mark = arena_mark(copy->scratch);
    MaskCopy twin = *copy;
    twin.hu.v = arena_alloc(copy->scratch, copy->n, sizeof(float), err);
    twin.label = arena_alloc(copy->scratch, copy->n, 1, err);
    if (twin.hu.v == NULL || twin.label == NULL)
        return ST_LIMIT;
    memcpy(twin.hu.v, copy->hu.v, copy->n * sizeof(float));
    memcpy(twin.label, copy->label, copy->n);
    Err none = {0};
    Status status = brain_of_head(&twin, &none);
    copy->brain_ml = status == ST_OK ? twin.brain_ml : 0;
    arena_reset(copy->scratch, mark);
    if (status == ST_OK || status == ST_MASK)
        return ST_OK;
    if (err != NULL)
        *err = none;
    return status;
}

Status mask_brain(const VolumeI16 *ct, const MaskReference *reference, int threads, VolumeU8 *ret,
                  MaskResult *ret_result, Arena *arena, Arena *scratch, Err *err)
{
    return mask_run(ct, reference, threads, brain_on_copy, ret, ret_result, NULL, arena, scratch,
                    err);
}
