/* Mutual information of the two images under an affine transform, and its derivative.
**
** Joint histogram with Parzen windows: linear over METRIC_BINS in the fixed image's bin coordinate,
** a cubic B-spline over MUTUAL_BINS in the moving image's value; weights apodised at the edge of
** the overlap as in metric.h. The gradient is analytic; all samples are summed, none is drawn.
** Sources: Viola & Wells 1997; Mattes et al. 2003 (windows, gradient); Thevenaz & Unser 2000.
** Thread: any; sums run in a fixed order, same bits for any number of threads. */
#ifndef CT2MR_REGISTRATION_MUTUAL_H
#define CT2MR_REGISTRATION_MUTUAL_H

#include "base/arena.h"
#include "base/err.h"
#include "registration/metric.h"

enum { MUTUAL_BINS = 48 };

typedef struct Mutual {
    const MetricLevel *level;
    float low, per_value;     /* of the moving image: bin = 1 + (value - low) * per_value */
    struct Histogram *chunks; /* in arena */
    struct Tables *tables;    /* in arena */
} Mutual;

/* low, high: range of the moving image's values. Errors: LIMIT (arena). */
MUST_CHECK Status mutual_open(const MetricLevel *level, double low, double high, Arena *arena,
                              Mutual *ret, Err *err);
/* Minus the mutual information in nats; the transform must overlap. */
double mutual_cost(Mutual *mutual, Affine moving_from_fixed, int threads);
/* At the transform that mutual_cost() saw last: the gradient of that cost, and a positive matrix
** that scales like its second derivative (Fisher information of the conditional histograms). */
void mutual_system(const Mutual *mutual, Affine moving_from_fixed, int threads, MetricSystem *ret);

#endif
