/* The slice gate's questions that have a file of their own, and what they share. Each fills its
** fields of SliceFit. Thread: any; parallel inside. */
#ifndef CT2MR_PIPELINE_SLICE_GATE_INT_H
#define CT2MR_PIPELINE_SLICE_GATE_INT_H

#include "pipeline/slice_gate.h"

#include <math.h>

#define SLICE_TISSUE_HU (-300)
#define SLICE_LEAST_MM2 400.0 /* of tissue: with less a slice is blank, or the head's very end */
enum { SLICE_CLIP_HU = 500, SLICE_STRIDE = 2, SLICE_ROW_MAX = 8192 };

static inline int32_t slice_clip(int16_t hu)
{
    return hu < -SLICE_CLIP_HU ? -SLICE_CLIP_HU : hu > SLICE_CLIP_HU ? SLICE_CLIP_HU : hu;
}
/* Sections across the head's axis: others have no middle, and both their ends are alike. */
static inline bool slice_is_axial(const Grid *g)
{
    return fabs(g->lps_from_vox.m[2][2]) >= 0.7 * grid_spacing_mm(g, 2);
}
/* Every second value of a row, clipped; returns how many. */
int32_t slice_take_row(const int16_t *restrict row, int32_t nx, int32_t *restrict ret);
/* Sum of |a - b|. */
int32_t slice_sum_difference(const int32_t *restrict a, const int32_t *restrict b, int32_t n);

/* end_mm, end_after. ret_is_head[nz]: the slice shows a head's section. */
MUST_CHECK Status slice_find_end(const VolumeI16 *ct, int threads, bool *ret_is_head, SliceFit *ret,
                                 Err *err);
/* mirror, mirror_after. near_hu[nz - 1]: |z - z+1|. */
MUST_CHECK Status slice_find_mirror(const VolumeI16 *ct, const double *near_hu, const bool *is_head,
                                    int threads, SliceFit *ret, Err *err);
/* sides, sides_after. */
MUST_CHECK Status slice_find_sides(const VolumeI16 *ct, const bool *is_head, int threads,
                                   SliceFit *ret, Err *err);
/* order, order_first, order_last. Differences below least_hu count as that. */
MUST_CHECK Status slice_find_order(const VolumeI16 *ct, const bool *is_head, double least_hu,
                                   int threads, SliceFit *ret, Err *err);
/* same, same_as: two slices with tissue and equal bits. */
MUST_CHECK Status slice_find_same(const VolumeI16 *ct, int threads, SliceFit *ret, Err *err);

#endif
