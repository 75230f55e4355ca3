/* See dof_int.h. */
#include "registration/dof_int.h"

#include <math.h>
#include <string.h>

enum { N = DOF_MAX };

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

Affine dof_step(Affine t, Vec3 centre, int dof, const double step[N])
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

bool dof_solve(double a[N][N], double b[N], int n)
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

void dof_project(const MetricSystem *full, Affine t, int dof, double ret_h[N][N], double ret_g[N])
{
    double basis[N][N]; /* h = B'HB, g = B'g */
    tangent_of(t, dof, basis);
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

double dof_longest(const double step[N], int n)
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

double dof_stiffness(Affine t, double stiffness)
{
    double e[3][3], sum = 0;
    strain_of(t, e);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            sum += e[i][j] * e[i][j];
    return stiffness * sum;
}

void dof_add_stiffness(Affine t, double stiffness, MetricSystem *system)
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
            system->g[p] += stiffness * slope[k][p] * e[k / 3][k % 3];
            for (int q = 0; q < N; q++)
                system->h[p][q] += stiffness * slope[k][p] * slope[k][q];
        }
}
