/* The geometry gate: do these images make one regular volume, and which?
**
** Pure: works on what the structural scan found, so the daemon asks it when a series has gone quiet
** and the load step asks it again with the same answer. Localizers and images that are not CT are
** dropped and counted, not errors. Rules: README, "Geometry gate". Thread: pure functions. */
#ifndef CT2MR_PIPELINE_GEOMETRY_H
#define CT2MR_PIPELINE_GEOMETRY_H

#include "base/affine.h"
#include "base/err.h"
#include "base/instance.h"

typedef struct GeometryLimits {
    int32_t min_slices, max_slices;
    bool is_mr; /* MR Image Storage, which only training data have; else CT Image Storage */
} GeometryLimits;

typedef struct Geometry {
    /* x along a row, y down a column, z from slice to slice, ascending along the normal. The z step
    ** is that of the positions: up to the tilt that is let pass it may lean against the normal. */
    Grid grid;
    int32_t n_slices;
    int32_t n_dropped; /* localizers, secondary captures */
    double slice_spacing_mm, tilt_deg;
} Geometry;

/* images[0..n): borrowed. ret_order: room for n; the first ret->n_slices entries are indexes into
** images, ascending along the normal.
** The order of the images does not matter, neither for the answer nor for the message.
** Errors, in the order of the checks: SERIES_PATIENT, SERIES_NOT_CT, LIMIT, SERIES_FRAME,
** DICOM_ATTRIBUTE, SERIES_ORIENTATION, SERIES_GRID, SERIES_DUPLICATE, SERIES_TILT, SERIES_FEW,
** SERIES_SPACING, SERIES_GAP (waiting may help); NO_MEMORY. Messages give positions in mm along the
** normal. */
MUST_CHECK Status geometry_check(const Instance *images, int32_t n, const GeometryLimits *limits,
                                 int32_t *ret_order, Geometry *ret, Err *err);

#endif
