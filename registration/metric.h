/* How well an affine transform explains the moving image by the fixed one, and in which direction
** it would explain it better.
**
** Cost: within / total variance of the moving image's values at the fixed image's samples, "within"
** being what is left after the best function of the fixed intensity is subtracted. The function is
** piecewise linear over METRIC_BINS - 1 intervals; its knots come from a tridiagonal least squares
** system, so that the derivative by the transform may leave them out (variable projection).
**   0 perfect, 1 unrelated; METRIC_REJECTED where too little overlaps.
** Weights fall linearly to 0 within one moving voxel of its edge (apodisation: the cost stays
** continuous when samples leave). The Gauss-Newton system has Geman-McClure weights: table, frame
** and pathology, which the function cannot explain, do not pull.
** Sources: Roche et al. 1998 (correlation ratio); Jenkinson et al. 2002 (apodisation); Geman and
** McClure 1987.
** Thread: any; sums run in a fixed order, same bits for any number of threads. */
#ifndef CT2MR_REGISTRATION_METRIC_H
#define CT2MR_REGISTRATION_METRIC_H

#include "base/affine.h"

enum { METRIC_BINS = 48, METRIC_PARAMETERS = 12 };
#define METRIC_REJECTED 2.0
/* Translations are in mm, the linear part in steps of one per METRIC_RADIUS_MM: the same order of
** displacement at the surface of a head. */
#define METRIC_RADIUS_MM 100.0

typedef struct MetricLevel {
    Grid fixed;          /* the box of samples that is looked at */
    const float *bin;    /* [nz][ny][nx] 0 .. METRIC_BINS-1; negative: sample not used */
    const uint8_t *head; /* [nz][ny][nx] 1: counts for the overlap */
    double n_head;
    VolumeF32 moving;
    Vec3 centre_lps; /* the linear part acts about this point of the fixed space */
} MetricLevel;

typedef struct MetricCost {
    double cost;
    double overlap_frac;     /* of the head's samples inside moving */
    double variance;         /* within, per unit of weight */
    double total;            /* total variance, summed */
    float mean[METRIC_BINS]; /* the knots */
} MetricCost;

/* Parameters: row-major 3x4, columns x, y, z (about centre_lps, / METRIC_RADIUS_MM) and 1. */
typedef struct MetricSystem {
    double h[METRIC_PARAMETERS][METRIC_PARAMETERS], g[METRIC_PARAMETERS];
} MetricSystem;

/* moving.grid and fixed.nx must be at most PYRAMID_LEVEL_ROW_MAX wide, moving 2 voxels at least. */
void metric_cost(const MetricLevel *level, Affine moving_from_fixed, int threads, MetricCost *ret);
/* What too little overlap adds to that cost. */
double metric_penalty(double overlap_frac);
/* Gauss-Newton matrix J'WJ and gradient J'Wr at a transform whose cost is known. */
void metric_system(const MetricLevel *level, Affine moving_from_fixed, const MetricCost *at,
                   int threads, MetricSystem *ret);

#endif
