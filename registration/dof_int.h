/* Steps on transforms of 3, 6, 7, 9 or 12 degrees of freedom, and small linear algebra for them.
**
** The 12 x 12 system of a metric is projected on the tangent of the allowed transforms; the step is
** then made on the transforms themselves (rotation by the Cayley map, columns scaled), so that a
** rigid transform stays rigid. Only sums, products and square roots: the same bits everywhere.
** Thread: pure functions. */
#ifndef CT2MR_REGISTRATION_DOF_INT_H
#define CT2MR_REGISTRATION_DOF_INT_H

#include "registration/metric.h"

enum { DOF_MAX = METRIC_PARAMETERS };

/* The system in the allowed degrees of freedom, in the order translation, rotation, scale. */
void dof_project(const MetricSystem *full, Affine t, int dof, double ret_h[DOF_MAX][DOF_MAX],
                 double ret_g[DOF_MAX]);
/* t after a step; the linear part acts about the centre, which only the translation moves. */
Affine dof_step(Affine t, Vec3 centre, int dof, const double step[DOF_MAX]);
/* Solves a x = b in place by Cholesky; false if a is not positive definite. */
bool dof_solve(double a[DOF_MAX][DOF_MAX], double b[DOF_MAX], int n);
/* Greatest component. */
double dof_longest(const double step[DOF_MAX], int n);

/* stiffness times the sum of squares of the Green strain (L'L - 1) / 2, and its system. */
double dof_stiffness(Affine t, double stiffness);
void dof_add_stiffness(Affine t, double stiffness, MetricSystem *system);

#endif
