/* Gauss-Newton steps with damping, on the transforms of the asked number of degrees of freedom.
** See optimize.h.
**
** The 12 x 12 system of the metric is projected on the tangent of the allowed transforms; the step
** is then made on the transforms themselves (rotation by the Cayley map, columns scaled), so that a
** rigid transform stays rigid. Only sums, products and square roots: the same bits everywhere. */
#include "registration/optimize.h"

#include <math.h>
#include <string.h>

enum { N = METRIC_PARAMETERS, DAMPING_TRIALS = 5 };
#define STEP_LEAST 0.01 /* mm at METRIC_RADIUS_MM; smaller steps end the search */
#define GAIN_LEAST 1e-6
enum { POLISH_STEPS = 12 };
#define POLISH_LEAST 0.002 /* mm at METRIC_RADIUS_MM */
/* The system leaves out how the knots follow the transform, which makes steps along some directions
** ten times too short; every other step is this much longer. Errors along the other directions,
** which it over-shoots, were removed by the step before. */
#define POLISH_LONG 4.0
#define POLISH_WORSE                                                                               \
    1.05 /* the robust solution may have a slightly higher plain cost; not more                    \
          */

/* Cross product matrices of the axes. */
static const double turn[3][3][3] = {{{0, 0, 0}, {0, 0, -1}, {0, 1, 0}},
                                     {{0, 0, 1}, {0, 0, 0}, {-1, 0, 0}},
                                     {{0, -1, 0}, {1, 0, 0}, {0, 0, 0}}};

/* Columns: d parameters / d degree of freedom, in the order translation, rotation, scale. */
static void tangent_of(Affine t, int dof, double ret[N][N])
{
    memset(ret, 0, N * sizeof *ret);
    if (dof == N) {
        for (int i = 0; i < N; i++)
            ret[i][i] = 1;
        return;
    }
    for (int a = 0; a < 3; a++)
        ret[4 * a + 3][a] = 1;
    if (dof == 3)
        return;
    for (int q = 0; q < 3; q++)
        for (int r = 0; r < 3; r++)
            for (int c = 0; c < 3; c++)
                for (int e = 0; e < 3; e++)
                    ret[4 * r + c][3 + q] += turn[q][r][e] * t.m[e][c];
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 3; c++)
            if (dof == 7)
                ret[4 * r + c][6] = t.m[r][c];
            else if (dof == 9)
                ret[4 * r + c][6 + c] = t.m[r][c];
}

/* (1 - w/2)^-1 (1 + w/2) for the rotation vector w. */
static Affine cayley(const double w[3])
{
    double x = w[0] / 2, y = w[1] / 2, z = w[2] / 2, s = 1 / (1 + x * x + y * y + z * z);
    double d = 1 - x * x - y * y - z * z;
    return (Affine){{{s * (d + 2 * x * x), s * 2 * (x * y - z), s * 2 * (x * z + y), 0},
                     {s * 2 * (x * y + z), s * (d + 2 * y * y), s * 2 * (y * z - x), 0},
                     {s * 2 * (x * z - y), s * 2 * (y * z + x), s * (d + 2 * z * z), 0}}};
}

/* t after a step; the linear part acts about the centre, which only the translation moves. */
static Affine apply_step(Affine t, Vec3 centre, int dof, const double step[N])
{
    Vec3 image = affine_apply(t, centre);
    Affine l = t;
    const double to[3] = {image.x + step[dof == N ? 3 : 0], image.y + step[dof == N ? 7 : 1],
                          image.z + step[dof == N ? 11 : 2]};
    if (dof == N) {
        for (int r = 0; r < 3; r++)
            for (int c = 0; c < 3; c++)
                l.m[r][c] += step[4 * r + c] / METRIC_RADIUS_MM;
    } else if (dof >= 6) {
        double w[3], scale[3] = {1, 1, 1};
        for (int a = 0; a < 3; a++) {
            w[a] = step[3 + a] / METRIC_RADIUS_MM;
            if (dof == 7 || dof == 9)
                scale[a] += step[dof == 7 ? 6 : 6 + a] / METRIC_RADIUS_MM;
        }
        l = affine_mul(cayley(w), l);
        for (int r = 0; r < 3; r++)
            for (int c = 0; c < 3; c++)
                l.m[r][c] *= scale[c];
    }
    for (int r = 0; r < 3; r++)
        l.m[r][3] = to[r] - (l.m[r][0] * centre.x + l.m[r][1] * centre.y + l.m[r][2] * centre.z);
    return l;
}

/* Solves a x = b in place by Cholesky; false if a is not positive definite. */
static bool solve(double a[N][N], double b[N], int n)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j <= i; j++) {
            double s = a[i][j];
            for (int k = 0; k < j; k++)
                s -= a[i][k] * a[j][k];
            if (i == j && !(s > 0))
                return false;
            a[i][j] = i == j ? sqrt(s) : s / a[j][j];
        }
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < i; k++)
            b[i] -= a[i][k] * b[k];
        b[i] /= a[i][i];
    }
    for (int i = n - 1; i >= 0; i--) {
        for (int k = i + 1; k < n; k++)
            b[i] -= a[k][i] * b[k];
        b[i] /= a[i][i];
    }
    return true;
}

/* The system on the tangent: ret_h = B'HB, ret_g = B'g. */
static void project(const MetricSystem *full, double basis[N][N], int dof, double ret_h[N][N],
                    double ret_g[N])
{
    for (int i = 0; i < dof; i++) {
        double hb[N];
        for (int a = 0; a < N; a++) {
            hb[a] = 0;
            for (int b = 0; b < N; b++)
                hb[a] += full->h[a][b] * basis[b][i];
        }
        ret_g[i] = 0;
        for (int a = 0; a < N; a++)
            ret_g[i] += basis[a][i] * full->g[a];
        for (int j = 0; j < dof; j++) {
            ret_h[j][i] = 0;
            for (int a = 0; a < N; a++)
                ret_h[j][i] += basis[a][j] * hb[a];
        }
    }
}

static double longest(const double step[N], int n)
{
    double most = 0;
    for (int i = 0; i < n; i++)
        most = fmax(most, fabs(step[i]));
    return most;
}

/* E = (L'L - 1) / 2: 0 for a rotation. */
static void strain_of(Affine t, double ret[3][3])
{
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            double s = i == j ? -1 : 0;
            for (int r = 0; r < 3; r++)
                s += t.m[r][i] * t.m[r][j];
            ret[i][j] = s / 2;
        }
}

static double stiffness_cost(Affine t, double stiffness)
{
    double e[3][3], sum = 0;
    strain_of(t, e);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            sum += e[i][j] * e[i][j];
    return stiffness * sum;
}

/* Adds the term to the system, in the metric's unit (total variance). */
static void add_stiffness(Affine t, double weight, MetricSystem *system)
{
    double e[3][3], slope[9][N] = {{0}};
    strain_of(t, e);
    for (int a = 0; a < 3; a++) /* dE_ij = (L_ai d_cj + L_aj d_ci) / 2 for a change of L_ac */
        for (int c = 0; c < 3; c++)
            for (int i = 0; i < 3; i++) {
                slope[3 * i + c][4 * a + c] += t.m[a][i] / 2 / METRIC_RADIUS_MM;
                slope[3 * c + i][4 * a + c] += t.m[a][i] / 2 / METRIC_RADIUS_MM;
            }
    for (int k = 0; k < 9; k++)
        for (int p = 0; p < N; p++) {
            system->g[p] += weight * slope[k][p] * e[k / 3][k % 3];
            for (int q = 0; q < N; q++)
                system->h[p][q] += weight * slope[k][p] * slope[k][q];
        }
}

/* The system in the allowed degrees of freedom. */
static void system_at(const MetricLevel *level, const OptimizeOptions *options, Affine t,
                      const MetricCost *at, double ret_basis[N][N], double ret_h[N][N],
                      double ret_g[N])
{
    MetricSystem full;
    metric_system(level, t, at, options->threads, &full);
    add_stiffness(t, options->stiffness * at->total, &full);
    tangent_of(t, options->dof, ret_basis);
    project(&full, ret_basis, options->dof, ret_h, ret_g);
}

static double cost_at(const MetricLevel *level, const OptimizeOptions *options, Affine t,
                      MetricCost *ret)
{
    metric_cost(level, t, options->threads, ret);
    return ret->cost + (ret->cost < METRIC_REJECTED ? stiffness_cost(t, options->stiffness) : 0);
}

double optimize_affine(const MetricLevel *level, const OptimizeOptions *options,
                       Affine *moving_from_fixed)
{
    const int dof = options->dof;
    Affine best = *moving_from_fixed;
    MetricCost at;
    double damping = 1e-2, cost = cost_at(level, options, best, &at);
    for (int n = 0; n < options->max_steps && cost < METRIC_REJECTED; n++) {
        double basis[N][N], h[N][N], g[N], step[N], gain = 0;
        system_at(level, options, best, &at, basis, h, g);
        for (int trial = 0; trial < DAMPING_TRIALS && !(gain > 0); trial++, damping *= 8) {
            double damped[N][N];
            memcpy(damped, h, sizeof damped);
            for (int i = 0; i < dof; i++) {
                damped[i][i] += damping * h[i][i] + 1e-9;
                step[i] = -g[i];
            }
            if (!solve(damped, step, dof))
                continue;
            Affine next = apply_step(best, level->centre_lps, dof, step);
            MetricCost there;
            double next_cost = cost_at(level, options, next, &there);
            if (next_cost < cost) {
                gain = cost - next_cost;
                cost = next_cost;
                best = next;
                at = there;
            }
        }
        if (gain < GAIN_LEAST || longest(step, dof) < STEP_LEAST)
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
        double basis[N][N], h[N][N], g[N], step[N];
        system_at(level, options, best, &at, basis, h, g);
        for (int i = 0; i < dof; i++) {
            h[i][i] += 1e-6 * h[i][i] + 1e-9;
            step[i] = -g[i];
        }
        if (!solve(h, step, dof) || longest(step, dof) < POLISH_LEAST)
            break;
        for (int i = 0; i < dof && n % 2 == 1; i++)
            step[i] *= POLISH_LONG;
        best = apply_step(best, level->centre_lps, dof, step);
        cost = cost_at(level, options, best, &at);
    }
    bool better = cost <= first_cost * POLISH_WORSE;
    *ret = better ? at : first;
    if (better)
        *moving_from_fixed = best;
}
