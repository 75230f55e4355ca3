/* A CT simulated from a T1-weighted MR of a whole head and its brain mask: what demonstrates the
** chain, and tests it, where no paired data may be had. Hounsfield units by tissue: brain from the
** T1 intensity (fluid, grey, white matter), outside the brain skin, muscle and fat by intensity,
** bone where it is dark near the brain, air where it is darker and farther away. Made for the
** Colin27 template (ch2, ch2bet; intensities 0..254, 1 mm).
** Thread: any; parallel inside; same bits for any number of threads. */
#ifndef CT2MR_PIPELINE_SIMULATE_H
#define CT2MR_PIPELINE_SIMULATE_H

#include "base/affine.h"
#include "base/arena.h"
#include "base/err.h"
#include "base/random.h"

typedef struct TissueHu {
    double fluid, grey, white;
} TissueHu;

typedef struct SimulatedHead { /* all on one grid, in arena */
    VolumeF32 t1;              /* intensities of the template */
    VolumeF32 hu;              /* without brain tissue */
    VolumeU8 brain, head;
} SimulatedHead;

/* t1, brain (> 0 inside): NIfTI files on one grid. Errors: those of nifti_read_f32(), NIFTI
** (the grids differ, no head), LIMIT. */
MUST_CHECK Status simulate_head(const char *t1_path, const char *brain_path, int threads,
                                SimulatedHead *ret, Arena *arena, Arena *scratch, Err *err);
/* The head with its ventricles wider by wider_mm on every side (negative: narrower), other tissue
** pushed away: |wider_mm| <= 12, else tissue folds. ret: t1 is taken from arena, the rest is head's
** own. Errors: NIFTI (no ventricles), LIMIT. */
MUST_CHECK Status simulate_ventricles(const SimulatedHead *head, double wider_mm, int threads,
                                      SimulatedHead *ret, Arena *arena, Arena *scratch, Err *err);
/* HU of brain tissue of that T1 intensity. */
double simulate_brain_hu(double intensity, const TissueHu *tissue);
/* The whole head's CT on the template's grid; ret->v is taken from arena. */
MUST_CHECK Status simulate_ct(const SimulatedHead *head, const TissueHu *tissue, VolumeI16 *ret,
                              Arena *arena, Err *err);
/* The target: T1 intensity / 160 in 0..1, 0 outside the head. */
float simulate_target(double intensity);

/* How one slice is cut from the head and spoilt. */
typedef struct SliceRecipe {
    Affine vox_from_pixel; /* pixel (x, y) in the plane z = 0 -> template voxel */
    int32_t thick;         /* planes 1 mm apart along the template's z that are averaged */
    TissueHu tissue;
    /* what follows is 0 for a clean slice */
    double elastic_px; /* deviation of a smooth displacement */
    double bone_hu, noise_hu, grain_hu, drift_hu, offset_hu; /* deviations but for the last */
    double blur_px;
    int32_t couch_row; /* first of three rows of a couch; the mask holds it, too */
    double couch_hu;
} SliceRecipe;

/* Centred on the template, turned by the angles about its x, y, z axes, at height z_vox. */
Affine simulate_pose(const Grid *grid, int32_t side, const double turn_rad[3],
                     const double scale[2], const double shift_px[2], double z_vox);
/* A recipe as the demonstration model was trained with: everything at random. */
SliceRecipe simulate_random_recipe(const Grid *grid, int32_t side, Random *random);
TissueHu simulate_random_tissue(Random *random);

/* [side][side] each; hu is -1000 outside the template. scratch is given back. Errors: LIMIT. */
MUST_CHECK Status simulate_slice(const SimulatedHead *head, const SliceRecipe *recipe, int32_t side,
                                 Random *random, int16_t *ret_hu, uint8_t *ret_mask,
                                 uint16_t *ret_mr, Arena *scratch, Err *err);

#endif
