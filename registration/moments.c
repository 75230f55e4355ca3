/* See moments_int.h. */
#include "registration/moments_int.h"

#include "base/err.h"
#include "base/hot.h"

#include <string.h>

enum { LANES = WALK_LANES, MOMENTS = 3 * PAIRS_G + 2 * 3 };

/* Moments of a row, in LANES separate sums. n is a multiple of LANES. */
HOT_CLONES
static void add_moments(const Row *restrict row, int n, float sum[restrict MOMENTS][LANES])
{
    const float *restrict gx = row->gradient[0], *restrict gy = row->gradient[1];
    const float *restrict gz = row->gradient[2];
    for (int at = 0; at < n; at += LANES) {
        for (int l = 0; l < LANES; l++) {
            float x = gx[at + l], y = gy[at + l], z = gz[at + l];
            float w = row->weight[at + l], i = row->i[at + l], r = row->value[at + l];
            float wx = w * x, wy = w * y, wz = w * z, ix = i * wx, iy = i * wy, iz = i * wz;
            sum[0][l] += wx * x;
            sum[1][l] += wx * y;
            sum[2][l] += wx * z;
            sum[3][l] += wy * y;
            sum[4][l] += wy * z;
            sum[5][l] += wz * z;
            sum[6][l] += ix * x;
            sum[7][l] += ix * y;
            sum[8][l] += ix * z;
            sum[9][l] += iy * y;
            sum[10][l] += iy * z;
            sum[11][l] += iz * z;
            sum[12][l] += ix * i * x;
            sum[13][l] += ix * i * y;
            sum[14][l] += ix * i * z;
            sum[15][l] += iy * i * y;
            sum[16][l] += iy * i * z;
            sum[17][l] += iz * i * z;
            sum[18][l] += wx * r;
            sum[19][l] += wy * r;
            sum[20][l] += wz * r;
            sum[21][l] += ix * r;
            sum[22][l] += iy * r;
            sum[23][l] += iz * r;
        }
    }
}

/* Adds a row's moments, with its j and k (from the middle), to the chunk. PAIRS_Q in the order
** ii ij ik i1 jj jk j1 kk k1 11. */
static void add_row(float sum[MOMENTS][LANES], double j, double k, MomentSum *chunk)
{
    double m[MOMENTS];
    for (int s = 0; s < MOMENTS; s++) {
        m[s] = 0;
        for (int l = 0; l < LANES; l++)
            m[s] += (double)sum[s][l];
    }
    for (int p = 0; p < PAIRS_G; p++) {
        double m0 = m[p], m1 = m[PAIRS_G + p], m2 = m[2 * PAIRS_G + p];
        const double term[PAIRS_Q] = {m2,         m1 * j, m1 * k,     m1,     m0 * j * j,
                                      m0 * j * k, m0 * j, m0 * k * k, m0 * k, m0};
        for (int q = 0; q < PAIRS_Q; q++)
            chunk->h[p][q] += term[q];
    }
    for (int a = 0; a < 3; a++) {
        double g0 = m[3 * PAIRS_G + a], g1 = m[3 * PAIRS_G + 3 + a];
        chunk->g[a][0] += g1;
        chunk->g[a][1] += g0 * j;
        chunk->g[a][2] += g0 * k;
        chunk->g[a][3] += g0;
    }
}

void moments_add(const Walk *walk, const Line *line, const Row *row, int j, int k, MomentSum *sum)
{
    const Grid *f = &walk->level->fixed;
    float lanes[MOMENTS][LANES];
    memset(lanes, 0, sizeof lanes);
    add_moments(row, (line->n + LANES - 1) / LANES * LANES, lanes);
    add_row(lanes, j - 0.5 * f->ny, k - 0.5 * f->nz, sum);
}

static int pair_index(int a, int b, int n)
{
    int low = a < b ? a : b, high = a < b ? b : a;
    return low * n - low * (low - 1) / 2 + (high - low);
}

/* From (moving voxel gradient) x (i, j, k, 1) to the parameters of MetricSystem. With the gradient
** in mm G = L'g and Q = C (i, j, k, 1): H = sum over g, g', q, q' of L L C C (sums). */
static void change_parameters(const Walk *walk, const MomentSum *sum, MetricSystem *ret)
{
    const Grid *f = &walk->level->fixed;
    Affine l;
    bool invertible = affine_inverse(walk->level->moving.grid.lps_from_vox, &l);
    ASSERT(invertible);
    double c[4][4] = {{0}};
    Vec3 middle = affine_apply(f->lps_from_vox, (Vec3){0.5 * f->nx, 0.5 * f->ny, 0.5 * f->nz});
    Vec3 d = vec3_sub(middle, walk->level->centre_lps);
    const double offset[3] = {d.x, d.y, d.z};
    for (int r = 0; r < 3; r++) {
        for (int e = 0; e < 3; e++)
            c[r][e] = f->lps_from_vox.m[r][e] / METRIC_RADIUS_MM;
        c[r][3] = offset[r] / METRIC_RADIUS_MM;
    }
    c[3][3] = 1;
    memset(ret, 0, sizeof *ret);
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++) {
            double s[PAIRS_Q] = {0};
            for (int v = 0; v < 3; v++)
                for (int w = 0; w < 3; w++)
                    for (int q = 0; q < PAIRS_Q; q++)
                        s[q] += l.m[v][a] * l.m[w][b] * sum->h[pair_index(v, w, 3)][q];
            for (int p = 0; p < 4; p++)
                for (int q = 0; q < 4; q++)
                    for (int e = 0; e < 4; e++)
                        for (int h = 0; h < 4; h++)
                            ret->h[4 * a + p][4 * b + q] +=
                                c[p][e] * c[q][h] * s[pair_index(e, h, 4)];
        }
    for (int a = 0; a < 3; a++)
        for (int p = 0; p < 4; p++)
            for (int v = 0; v < 3; v++)
                for (int e = 0; e < 4; e++)
                    ret->g[4 * a + p] += l.m[v][a] * c[p][e] * sum->g[v][e];
}

void moments_system(const Walk *walk, const MomentSum *chunks, MetricSystem *ret)
{
    MomentSum sum = chunks[0];
    for (int c = 1; c < walk->n_chunks; c++) {
        for (int p = 0; p < PAIRS_G; p++)
            for (int q = 0; q < PAIRS_Q; q++)
                sum.h[p][q] += chunks[c].h[p][q];
        for (int a = 0; a < 3; a++)
            for (int e = 0; e < 4; e++)
                sum.g[a][e] += chunks[c].g[a][e];
    }
    change_parameters(walk, &sum, ret);
}
