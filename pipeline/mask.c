/* Head mask. See mask.h.
**
** 1. Tissue is what is denser than -300 HU. Its part deeper than 8 mm is the core: brain, skull,
**    neck; couches and holders are shells that are nowhere that deep.
** 2. From the core, everything reachable through tissue thicker than 5 mm is patient; thin bridges
**    (couch shells that touch the skin, pins of a frame) are not crossed. Metal is no bridge.
** 3. What is left over is judged part by part: small, close and not at the edge of the field of
**    view it is an ear, else it is equipment.
** 4. A board or head rest that lies against the head is thick, and so is its contact. Of what is
**    nowhere deeper than 12 mm, a part that stands out by more than 35 mm is such equipment.
** 5. The patient closed by 5 mm and its slices filled is the expected head. Its inside shrunk by
**    3 mm is the inner marker; what is beyond 3 mm, air beside it and equipment the outer marker.
** 6. The watershed finds the skin between the markers; holes in slices are filled.
** With a reference, what is more than 25 mm outside its head is out from the start. */
#include "pipeline/mask.h"

#include "pipeline/components.h"
#include "pipeline/filter.h"
#include "pipeline/mask_copy.h"
#include "pipeline/mask_prior.h"
#include "pipeline/watershed.h"

#include <math.h>
#include <string.h>

#define TISSUE_HU (-300.0f)
#define AIR_HU (-700.0f)
#define BONE_HU 200.0f
#define METAL_HU 2200.0f /* above enamel and petrous bone */
#define PASSAGE_MM 2.5   /* half the width of the thinnest bridge inside the patient */
#define EAR_MAX_ML 25.0
#define EAR_MAX_MM 80.0   /* extent along a voxel axis */
#define EAR_REACH_MM 35.0 /* how far an ear stands out */
#define BOARD_MM 12.0     /* half the thickness of the thickest board that is told from a head */
#define CONTACT_MM 40.0
#define STAND_OUT_MM 35.0 /* noses, ears and jaws stand out less from what is deeper than that */
#define CLOSE_MM 5.0      /* nostrils and ear canals are narrower than twice this */
#define BAND_MM 3.0       /* between expected skin and either marker */
#define ROOM_MM 6.0       /* beyond the outer marker's edge nothing can become head */
#define CORE_MIN_ML 50.0
#define HEAD_MIN_ML 300.0
#define BONE_MIN_ML 20.0

enum { NOTHING, TISSUE, PATIENT, OUTSIDE = 2 };
enum { REST = 1, SEEN = 2, EQUIPMENT = 3, BOARD = 4 }; /* of parts */

/* a = core (1), from the deepest radius that leaves one. */
static Status find_core(MaskCopy *c, Err *err)
{
    static const double radius_mm[] = {8, 5.5};
    const float *hu = c->hu.v;
    for (size_t i = 0; i < c->n; i++)
        c->b[i] = hu[i] > TISSUE_HU && hu[i] < METAL_HU && !(c->prior[i] & PRIOR_NO_HEAD);
    mask_distance(c, c->b, false, radius_mm[0]);
    for (size_t k = 0; k < sizeof radius_mm / sizeof radius_mm[0]; k++) {
        float r2 = (float)mask_square(radius_mm[k]);
        for (size_t i = 0; i < c->n; i++)
            c->a[i] = c->mm2[i] > r2;
        int64_t n = component_keep_largest(&c->hu.grid, c->a, c->queue);
        if ((double)n * c->voxel_ml >= CORE_MIN_ML)
            return ST_OK;
    }
    return err_set(err, ST_MASK, "no tissue deeper than %g mm", radius_mm[1]);
}

/* Expects tissue in b, its depth in mm2, the core in a. Leaves in a: PATIENT reached from the core
** through thick tissue and grown back to the tissue's surface; mm2: distance to what was reached.
*/
static void reach_thick(MaskCopy *c)
{
    float r2 = (float)mask_square(PASSAGE_MM);
    int64_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (c->a[i] != 0) {
            c->a[i] = PATIENT;
            c->queue[n++] = (int32_t)i;
        } else {
            c->a[i] = c->mm2[i] > r2 ? TISSUE : NOTHING;
        }
    }
    (void)component_reach(&c->hu.grid, c->a, TISSUE, PATIENT, c->queue, n);
    for (size_t i = 0; i < c->n; i++)
        c->a[i] = c->a[i] == PATIENT;
    mask_distance(c, c->a, true, EAR_REACH_MM);
    float back2 = (float)mask_square(PASSAGE_MM + 0.7);
    for (size_t i = 0; i < c->n; i++)
        c->a[i] = c->mm2[i] <= back2 && c->hu.v[i] > TISSUE_HU && !(c->prior[i] & PRIOR_NO_HEAD)
                      ? PATIENT
                      : NOTHING;
}

/* Does the box touch a face of the grid that a head does not cross? It crosses those towards head
** and feet. */
static bool touches_side(const Grid *grid, const Component *part)
{
    const int32_t size[3] = {grid->nx, grid->ny, grid->nz};
    for (int a = 0; a < 3; a++) {
        double along = grid->lps_from_vox.m[2][a] / grid_spacing_mm(grid, a);
        if (fabs(along) < 0.7 && (part->low[a] == 0 || part->high[a] == size[a] - 1))
            return true;
    }
    return false;
}

static bool is_ear(const MaskCopy *c, const Component *part)
{
    const Grid *grid = &c->hu.grid;
    if ((double)part->voxels * c->voxel_ml > EAR_MAX_ML || touches_side(grid, part))
        return false;
    for (int a = 0; a < 3; a++)
        if ((part->high[a] - part->low[a] + 1) * grid_spacing_mm(grid, a) > EAR_MAX_MM)
            return false;
    float nearest = INFINITY, farthest = 0;
    for (int64_t k = 0; k < part->voxels; k++) {
        float d = c->mm2[c->queue[k]];
        nearest = d < nearest ? d : nearest;
        farthest = d > farthest ? d : farthest;
    }
    return (double)nearest <= mask_square(PASSAGE_MM + 3) &&
           (double)farthest <= mask_square(EAR_REACH_MM);
}

/* Adds ears to a; b = 1 where equipment is. */
static void judge_rest(MaskCopy *c)
{
    /* The rim of the patient within a voxel of a is nobody's: the watershed decides there. */
    float rim2 = (float)mask_square(PASSAGE_MM + 1.5);
    for (size_t i = 0; i < c->n; i++)
        c->b[i] = c->mm2[i] > rim2 && c->hu.v[i] > TISSUE_HU && !(c->prior[i] & PRIOR_NO_HEAD);
    Component part;
    for (size_t i = 0; i < c->n; i++) {
        if (c->b[i] != REST)
            continue;
        component_flood(&c->hu.grid, c->b, (int32_t)i, SEEN, c->queue, &part);
        bool ear = is_ear(c, &part);
        for (int64_t k = 0; k < part.voxels; k++) {
            int32_t at = c->queue[k];
            c->b[at] = ear ? SEEN : EQUIPMENT;
            if (ear)
                c->a[at] = PATIENT;
        }
    }
    for (size_t i = 0; i < c->n; i++)
        c->b[i] = c->b[i] == EQUIPMENT;
}

/* part = what of the patient in a no ball of the radius covers that fits in its largest part; mm2:
** distance to the centres of such balls. False if none fits. */
static bool find_thin(MaskCopy *c, double radius_mm, double limit_mm, uint8_t *part)
{
    float deep2 = (float)mask_square(radius_mm), opened2 = (float)mask_square(radius_mm + 0.7);
    for (size_t i = 0; i < c->n; i++)
        part[i] = c->a[i] == PATIENT;
    mask_distance(c, part, false, radius_mm);
    for (size_t i = 0; i < c->n; i++)
        part[i] = c->mm2[i] > deep2;
    int64_t n_deep = component_keep_largest(&c->hu.grid, part, c->queue);
    if ((double)n_deep * c->voxel_ml < CORE_MIN_ML)
        return false;
    mask_distance(c, part, true, limit_mm);
    for (size_t i = 0; i < c->n; i++)
        part[i] = c->a[i] == PATIENT && c->mm2[i] > opened2;
    return true;
}

/* Moves what stands out from the patient in a to b, as BOARD. */
static bool cut_standing_out(MaskCopy *c, uint8_t *part)
{
    float out2 = (float)mask_square(BOARD_MM + STAND_OUT_MM);
    bool any = false;
    Component rest;
    if (!find_thin(c, BOARD_MM, BOARD_MM + STAND_OUT_MM, part))
        return false;
    for (size_t i = 0; i < c->n; i++) {
        if (part[i] != REST)
            continue;
        component_flood(&c->hu.grid, part, (int32_t)i, SEEN, c->queue, &rest);
        bool is_board = false;
        for (int64_t k = 0; k < rest.voxels; k++)
            is_board = is_board || c->mm2[c->queue[k]] > out2;
        for (int64_t k = 0; is_board && k < rest.voxels; k++) {
            c->a[c->queue[k]] = NOTHING;
            c->b[c->queue[k]] = BOARD;
        }
        any = any || is_board;
    }
    return any;
}

/* Between board and skull a ball of BOARD_MM still fits into both together; one of CONTACT_MM fits
** into the head alone. What only the small one covers, near the board and joined to it, is board.
*/
static void cut_contact(MaskCopy *c, uint8_t *part)
{
    if (!find_thin(c, CONTACT_MM, CONTACT_MM, part))
        return;
    int64_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        c->label[i] = c->b[i] == BOARD;
        if (c->label[i] != 0) {
            part[i] = SEEN;
            c->queue[n++] = (int32_t)i;
        }
    }
    n = component_reach(&c->hu.grid, part, REST, SEEN, c->queue, n);
    mask_distance(c, c->label, true, CONTACT_MM);
    float near2 = (float)mask_square(CONTACT_MM);
    for (int64_t k = 0; k < n; k++) {
        int32_t at = c->queue[k];
        if (c->mm2[at] <= near2) {
            c->a[at] = NOTHING;
            c->b[at] = BOARD;
        }
    }
}

/* From the expected head in a and equipment in b. */
static void set_markers(MaskCopy *c)
{
    float band2 = (float)mask_square(BAND_MM);
    mask_distance(c, c->a, false, BAND_MM);
    for (size_t i = 0; i < c->n; i++)
        c->label[i] = c->mm2[i] > band2 ? 1 : 0;
    mask_distance(c, c->a, true, BAND_MM);
    for (size_t i = 0; i < c->n; i++)
        if (c->mm2[i] > band2 || (c->prior[i] & PRIOR_NO_HEAD) ||
            (c->a[i] == 0 && (c->b[i] != 0 || c->hu.v[i] < AIR_HU)))
            c->label[i] = OUTSIDE;
}

Status mask_head_on_copy(MaskCopy *c, Err *err)
{
    TRY(find_core(c, err));
    reach_thick(c);
    judge_rest(c);
    int32_t low[3], high[3];
    if (mask_box(c, c->a, low, high))
        mask_crop(c, low, high, CLOSE_MM + BAND_MM + ROOM_MM);
    if (cut_standing_out(c, c->level))
        cut_contact(c, c->level); /* level is not yet in use */
    for (size_t i = 0; i < c->n; i++)
        c->a[i] = c->a[i] == PATIENT;
    TRY(mask_close(c, c->a, CLOSE_MM, err));
    TRY(mask_fill(c, c->a, err));
    set_markers(c);
    /* Only the skin's edge counts: bone's is outside the clip. */
    TRY(filter_gradient(&c->hu, -900, 100, c->threads, c->level, c->scratch, err));
    watershed_flood(&c->hu.grid, c->level, c->label, c->queue);
    for (size_t i = 0; i < c->n; i++)
        c->label[i] = c->label[i] == 1;
    (void)component_keep_largest(&c->hu.grid, c->label, c->queue);
    TRY(mask_fill(c, c->label, err));
    int64_t n = 0, n_bone = 0;
    for (size_t i = 0; i < c->n; i++) {
        n += c->label[i];
        n_bone += c->label[i] != 0 && c->hu.v[i] > BONE_HU;
    }
    double ml = (double)n * c->voxel_ml, bone_ml = (double)n_bone * c->voxel_ml;
    if (ml < HEAD_MIN_ML || bone_ml < BONE_MIN_ML)
        return err_set(err, ST_MASK, "the largest object has %.0f ml and %.0f ml of bone", ml,
                       bone_ml);
    return ST_OK;
}

Status mask_head(const VolumeI16 *ct, const MaskReference *reference, int threads, VolumeU8 *ret,
                 MaskResult *ret_result, Arena *arena, Arena *scratch, Err *err)
{
    return mask_run(ct, reference, threads, mask_head_on_copy, ret, ret_result, NULL, arena,
                    scratch, err);
}

Status mask_head_and_brain_ml(const VolumeI16 *ct, const MaskReference *reference, int threads,
                              VolumeU8 *ret, MaskResult *ret_result, double *ret_brain_ml,
                              Arena *arena, Arena *scratch, Err *err)
{
    return mask_run(ct, reference, threads, mask_head_and_brain_on_copy, ret, ret_result,
                    ret_brain_ml, arena, scratch, err);
}
