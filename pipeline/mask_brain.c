/* Brain mask: the intracranial content. See mask.h.
**
** 1. Soft tissue is 0..90 HU of the smoothed copy inside the head. Small specks of other values
**    in it (calcification, gas) are taken as soft tissue.
** 2. The anchor is the largest block of soft tissue that is deep (15 mm, less if there is none)
**    and has bone in at least four of the six directions of the grid: brain, not shoulder muscle.
** 3. Inner marker: soft tissue deeper than 6 mm, within reach of the anchor. Reach is the anchor
**    grown by its depth and 10 mm: it ends a little below the foramen magnum and outside a hole in
**    the skull, as nothing in the CT itself does.
** 4. Outer marker: bone, fat, air, all beyond reach, and soft tissue that is thicker than 5 mm and
**    can be reached from the inner marker through nothing that thick (globes, muscles): without it
**    the flood leaks through orbits and foramina.
** 5. Watershed; opening by 3 mm cuts vessels and nerves; closing and filling take sulci and
**    ventricles in. */
#include "pipeline/mask.h"

#include "pipeline/components.h"
#include "pipeline/filter.h"
#include "pipeline/mask_copy.h"
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
#define PASSAGE_MM 2.5
#define OPEN_MM 3.0
#define CLOSE_MM 4.0
#define ANCHOR_MAX_MM 15.0
#define ANCHOR_MIN_ML 20.0
#define BRAIN_MIN_ML 200.0

enum { SIDES_NEEDED = 4, INSIDE = 1, OUTSIDE = 2 };

/* One direction: adds 1 to sides[i] where bone was met before i on the way along the axis. */
static void look_along(const MaskCopy *c, int axis, bool backwards, uint8_t *sides)
{
    const Grid *g = &c->hu.grid;
    size_t nx = (size_t)g->nx, nxy = nx * (size_t)g->ny;
    const size_t n[3] = {nx, (size_t)g->ny, (size_t)g->nz}, step[3] = {1, nx, nxy};
    int u = axis == 0 ? 1 : 0, v = axis == 2 ? 1 : 2;
    for (size_t j = 0; j < n[v]; j++)
        for (size_t i = 0; i < n[u]; i++) {
            size_t base = j * step[v] + i * step[u];
            uint8_t seen = 0;
            for (size_t k = 0; k < n[axis]; k++) {
                size_t at = base + (backwards ? n[axis] - 1 - k : k) * step[axis];
                sides[at] = (uint8_t)(sides[at] + seen);
                seen |= c->hu.v[at] > BONE_HU;
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

/* b = anchor; *ret_mm its depth. */
static Status find_anchor(MaskCopy *c, double *ret_mm, Err *err)
{
    static const double depth_mm[] = {ANCHOR_MAX_MM, 12, 9, 7};
    uint8_t *sides = c->level; /* not yet in use */
    memset(sides, 0, c->n);
    for (int axis = 0; axis < 3; axis++) {
        look_along(c, axis, false, sides);
        look_along(c, axis, true, sides);
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

/* a = soft tissue -> 0 nothing, INSIDE: inner marker, OUTSIDE: thick soft tissue that cannot be
** reached from it. Expects the anchor in b and the depth of a in mm2. On return mm2 is the
** distance to the anchor. */
static void sort_soft(MaskCopy *c)
{
    enum { THICK = 3, REACHED = 4 };
    float core2 = (float)mask_square(CORE_MM), passage2 = (float)mask_square(PASSAGE_MM);
    uint8_t *deep = c->label; /* the head is in a by now */
    int64_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        c->a[i] = c->mm2[i] > passage2 ? THICK : 0;
        deep[i] = c->mm2[i] > core2 ? THICK : 0;
        if (c->b[i] != 0) {
            deep[i] = INSIDE;
            c->queue[n++] = (int32_t)i;
        }
    }
    n = component_reach(&c->hu.grid, deep, THICK, INSIDE, c->queue, n);
    for (int64_t k = 0; k < n; k++)
        c->a[c->queue[k]] = REACHED;
    (void)component_reach(&c->hu.grid, c->a, THICK, REACHED, c->queue, n);
    for (size_t i = 0; i < c->n; i++)
        c->a[i] = deep[i] == INSIDE ? INSIDE : c->a[i] == THICK ? OUTSIDE : 0;
    mask_distance(c, c->b, true, ANCHOR_MAX_MM + REACH_MM);
}

static void set_markers(MaskCopy *c, double anchor_mm)
{
    float reach2 = (float)mask_square(anchor_mm + REACH_MM);
    const float *hu = c->hu.v;
    for (size_t i = 0; i < c->n; i++) {
        if (c->mm2[i] > reach2)
            c->label[i] = OUTSIDE;
        else if (c->a[i] != 0)
            c->label[i] = c->a[i];
        else
            c->label[i] = hu[i] > BONE_HU || hu[i] < FAT_HU ? OUTSIDE : 0;
    }
}

static Status brain_on_copy(MaskCopy *c, Err *err)
{
    TRY(mask_head_on_copy(c, err));
    find_soft(c);
    double anchor_mm = 0;
    TRY(find_anchor(c, &anchor_mm, err));
    sort_soft(c);
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
    return ST_OK;
}

Status mask_brain(const VolumeI16 *ct, int threads, VolumeU8 *ret, MaskResult *ret_result,
                  Arena *arena, Arena *scratch, Err *err)
{
    return mask_run(ct, threads, brain_on_copy, ret, ret_result, arena, scratch, err);
}
