/* The slow change of brightness over an MR (coil sensitivity), estimated from how the fixed image
** explains it, and taken out.
**
** moving(x) = mean(fixed bin) * (1 + sum of c_k times the products of x, y, z up to degree 3), c by
** robust least squares over every second sample along each axis. The idea is Van Leemput et al.
** 1999, with the CT in place of tissue classes.
** Thread: any; same bits for any number of threads. */
#ifndef CT2MR_REGISTRATION_BIAS_H
#define CT2MR_REGISTRATION_BIAS_H

#include "registration/metric.h"

/* at: the metric at this transform. Divides the voxels of level->moving, which is `moving`. */
void bias_correct(const MetricLevel *level, Affine moving_from_fixed, const MetricCost *at,
                  int threads, VolumeF32 *moving);

#endif
