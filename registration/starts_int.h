/* Transforms that compete: between the files of the registration. Each is moved by itself, on all
** threads; mutual information says which are the best. */
#ifndef CT2MR_REGISTRATION_STARTS_INT_H
#define CT2MR_REGISTRATION_STARTS_INT_H

#include "registration/optimize.h"
#include "registration/samples_int.h"

typedef struct Start {
    Affine moving_from_fixed;
    double cost; /* METRIC_REJECTED and more: it does not overlap */
} Start;

/* Mean over the head's samples of the distance between where two transforms put them. */
double starts_distance_mm(const MetricLevel *level, Affine a, Affine b);

typedef enum StartWay { START_BY_CORRELATION_RATIO, START_BY_MUTUAL_INFORMATION } StartWay;

/* Moves each along the body's axis, and enlarges it unless dof is 6, to where it costs least. */
void starts_place(const MetricLevel *level, int dof, int threads, int n, Start *start);
/* Betters n starts (by mutual information STARTS_RANKERS at most) and sorts them by mutual
** information. Errors: LIMIT. */
enum { STARTS_RANKERS = 8 };
MUST_CHECK Status starts_refine(const MetricLevel *level, const Image *moving,
                                const OptimizeOptions *options, StartWay way, int n, Arena *arena,
                                Start *start, Err *err);

#endif
