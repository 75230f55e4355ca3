/* Levenberg-Marquardt on the metric, over 3 (translation), 6 (rigid), 7 (and one scale), 9 (and
** three scales) or 12 (affine) degrees of freedom. Thread: any. */
#ifndef CT2MR_REGISTRATION_OPTIMIZE_H
#define CT2MR_REGISTRATION_OPTIMIZE_H

#include "registration/metric.h"
#include "registration/mutual.h"

typedef struct OptimizeOptions {
    int dof, max_steps;
    int threads; /* for the metric */
    /* Added to the cost: this times the sum of squares of the Green strain (L'L - 1) / 2, that is
    ** about the sum of (scale - 1)^2. Keeps coarse searches from collapsing the head, and holds
    ** what the images leave open (a cut head's height). */
    double stiffness;
} OptimizeOptions;

/* Betters *moving_from_fixed in place and returns its cost, with the stiffness term
** (METRIC_REJECTED, and no change, where it does not overlap). */
double optimize_affine(const MetricLevel *level, const OptimizeOptions *options,
                       Affine *moving_from_fixed);

/* Goes on to where the robust gradient vanishes (the search above stops where the plain cost, which
** outliers pull on, is least); no change if that makes it worse. *ret: the metric there. */
void optimize_polish(const MetricLevel *level, const OptimizeOptions *options,
                     Affine *moving_from_fixed, MetricCost *ret);

/* Betters the mutual information (no random samples: BFGS, preconditioned by the Fisher
** information). Returns the cost, with the stiffness term. */
double optimize_mutual(Mutual *mutual, const OptimizeOptions *options, Affine *moving_from_fixed);

#endif
