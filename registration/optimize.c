/* Damped Gauss-Newton on the correlation ratio, BFGS on mutual information. See optimize.h. */
#include "registration/optimize.h"

#include "registration/dof_int.h"

#include <math.h>
#include <string.h>

enum { N = DOF_MAX, DAMPING_TRIALS = 5 };
#define STEP_LEAST 0.01 /* mm at METRIC_RADIUS_MM; smaller steps end the search */
#define GAIN_LEAST 1e-6
enum { POLISH_STEPS = 12, MUTUAL_TRIALS = 6 };
#define MUTUAL_STEP_LEAST 0.003 /* mm at METRIC_RADIUS_MM */
#define POLISH_LEAST 0.002      /* mm at METRIC_RADIUS_MM */
/* The system leaves out how the knots follow the transform, which makes steps along some directions
** ten times too short; every other step is this much longer. Errors along the other directions,
** which it over-shoots, were removed by the step before. */
#define POLISH_LONG 4.0
#define POLISH_WORSE                                                                               \
    1.05 /* the robust solution may have a slightly higher plain cost; not more                    \
          */

/* The system in the allowed degrees of freedom. */
static void system_at(const MetricLevel *level, const OptimizeOptions *options, Affine t,
                      const MetricCost *at, double ret_h[N][N], double ret_g[N])
{
    MetricSystem full;
    metric_system(level, t, at, options->threads, &full);
    dof_add_stiffness(t, options->stiffness * at->total, &full);
    dof_project(&full, t, options->dof, ret_h, ret_g);
}

static double cost_at(const MetricLevel *level, const OptimizeOptions *options, Affine t,
                      MetricCost *ret)
{
    metric_cost(level, t, options->threads, ret);
    return ret->cost + (ret->cost < METRIC_REJECTED ? dof_stiffness(t, options->stiffness) : 0);
}

double optimize_affine(const MetricLevel *level, const OptimizeOptions *options,
                       Affine *moving_from_fixed)
{
    const int dof = options->dof;
    Affine best = *moving_from_fixed;
    MetricCost at;
    double damping = 1e-2, cost = cost_at(level, options, best, &at);
    for (int n = 0; n < options->max_steps && cost < METRIC_REJECTED; n++) {
        double h[N][N], g[N], step[N], gain = 0;
        system_at(level, options, best, &at, h, g);
        for (int trial = 0; trial < DAMPING_TRIALS && !(gain > 0); trial++, damping *= 8) {
            double damped[N][N];
            memcpy(damped, h, sizeof damped);
            for (int i = 0; i < dof; i++) {
                damped[i][i] += damping * h[i][i] + 1e-9;
                step[i] = -g[i];
            }
            if (!dof_solve(damped, step, dof))
                continue;
            Affine next = dof_step(best, level->centre_lps, dof, step);
            MetricCost there;
            double next_cost = cost_at(level, options, next, &there);
            if (next_cost < cost) {
                gain = cost - next_cost;
                cost = next_cost;
                best = next;
                at = there;
            }
        }
        if (gain < GAIN_LEAST || dof_longest(step, dof) < STEP_LEAST)
            break;
        damping = fmax(damping * 0.3 / 8, 1e-5);
    }
    *moving_from_fixed = best;
    return cost;
}

void optimize_polish(const MetricLevel *level, const OptimizeOptions *options,
                     Affine *moving_from_fixed, MetricCost *ret)
{
    const int dof = options->dof;
    Affine best = *moving_from_fixed;
    MetricCost at, first;
    double first_cost = cost_at(level, options, best, &first), cost = first_cost;
    at = first;
    for (int n = 0; n < POLISH_STEPS && cost < METRIC_REJECTED; n++) {
        double h[N][N], g[N], step[N];
        system_at(level, options, best, &at, h, g);
        for (int i = 0; i < dof; i++) {
            h[i][i] += 1e-6 * h[i][i] + 1e-9;
            step[i] = -g[i];
        }
        if (!dof_solve(h, step, dof) || dof_longest(step, dof) < POLISH_LEAST)
            break;
        for (int i = 0; i < dof && n % 2 == 1; i++)
            step[i] *= POLISH_LONG;
        best = dof_step(best, level->centre_lps, dof, step);
        cost = cost_at(level, options, best, &at);
    }
    bool better = cost <= first_cost * POLISH_WORSE;
    *ret = better ? at : first;
    if (better)
        *moving_from_fixed = best;
}

/* BFGS update of the inverse second derivative b for a step s that changed the gradient by y. */
static void update_inverse(double b[N][N], const double s[N], const double y[N], int n)
{
    double sy = 0, by[N], yby = 0;
    for (int i = 0; i < n; i++) {
        sy += s[i] * y[i];
        by[i] = 0;
        for (int j = 0; j < n; j++)
            by[i] += b[i][j] * y[j];
        yby += y[i] * by[i];
    }
    if (!(sy > 0))
        return;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            b[i][j] += (1 + yby / sy) * s[i] * s[j] / sy - (by[i] * s[j] + s[i] * by[j]) / sy;
}

/* Inverse of h with some of its diagonal added; false if it is not positive definite. */
static bool invert(double h[N][N], int n, double ret[N][N])
{
    for (int i = 0; i < n; i++)
        h[i][i] += 1e-3 * h[i][i] + 1e-12;
    for (int c = 0; c < n; c++) {
        double copy[N][N], column[N] = {0};
        memcpy(copy, h, sizeof copy);
        column[c] = 1;
        if (!dof_solve(copy, column, n))
            return false;
        for (int r = 0; r < n; r++)
            ret[r][c] = column[r];
    }
    return true;
}

static void mutual_at(const Mutual *mutual, const OptimizeOptions *options, Affine t,
                      double ret_h[N][N], double ret_g[N])
{
    MetricSystem full;
    mutual_system(mutual, t, options->threads, &full);
    dof_add_stiffness(t, options->stiffness, &full);
    dof_project(&full, t, options->dof, ret_h, ret_g);
}

double optimize_mutual(Mutual *mutual, const OptimizeOptions *options, Affine *moving_from_fixed)
{
    const int n = options->dof;
    const Vec3 centre = mutual->level->centre_lps;
    Affine best = *moving_from_fixed;
    double h[N][N], inverse[N][N], g[N], next_g[N], step[N], change[N];
    double cost =
        mutual_cost(mutual, best, options->threads) + dof_stiffness(best, options->stiffness);
    mutual_at(mutual, options, best, h, g);
    if (!invert(h, n, inverse))
        return cost;
    for (int k = 0; k < options->max_steps; k++) {
        double slope = 0, next_cost = cost, length = 1;
        for (int i = 0; i < n; i++) {
            step[i] = 0;
            for (int j = 0; j < n; j++)
                step[i] -= inverse[i][j] * g[j];
            slope += step[i] * g[i];
        }
        if (dof_longest(step, n) < MUTUAL_STEP_LEAST)
            break;
        Affine next = best;
        bool better = false;
        for (int trial = 0; trial < MUTUAL_TRIALS && !better; trial++) {
            next = dof_step(best, centre, n, step);
            next_cost = mutual_cost(mutual, next, options->threads) +
                        dof_stiffness(next, options->stiffness);
            better = next_cost < cost + 1e-4 * length * slope;
            for (int i = 0; i < n && !better; i++)
                step[i] *= 0.4;
            length *= better ? 1 : 0.4;
        }
        if (!better)
            break;
        mutual_at(mutual, options, next, h, next_g);
        for (int i = 0; i < n; i++) {
            change[i] = next_g[i] - g[i];
            g[i] = next_g[i];
        }
        update_inverse(inverse, step, change, n);
        best = next;
        cost = next_cost;
    }
    *moving_from_fixed = best;
    return cost;
}
