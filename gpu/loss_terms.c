/* The terms of loss.h that look at pixels. */
#include "gpu/loss.h"

#include <math.h>

/* Equation (1). */
double loss_mse(const float *p, const float *t, int64_t n, double count, double weight,
                double *ret_d)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)p[i] - (double)t[i];
        sum += d * d;
        if (ret_d != NULL)
            ret_d[i] += 2 * weight / count * d;
    }
    return sum / count;
}

/* Equation (2) with p = 1 / (1 + exp(-z)) put in: max(z, 0) - z t + log(1 + exp(-|z|)), which
** neither overflows nor takes the logarithm of 0. The derivative is p - t. */
double loss_bce(const float *z, const float *t, int64_t n, double count, double weight,
                double *ret_d)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double zi = (double)z[i], ti = (double)t[i], e = exp(-fabs(zi));
        sum += fmax(zi, 0) - zi * ti + log1p(e);
        if (ret_d != NULL)
            ret_d[i] += weight / count * ((zi >= 0 ? 1 : e) / (1 + e) - ti);
    }
    return sum / count;
}

static double sign(double v)
{
    return v > 0 ? 1 : v < 0 ? -1 : 0;
}

double loss_l1(const float *p, const float *t, int64_t n, double count, double weight,
               double *ret_d)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)p[i] - (double)t[i];
        sum += fabs(d);
        if (ret_d != NULL)
            ret_d[i] += weight / count * sign(d);
    }
    return sum / count;
}

/* Differences between pixels `step` apart in a row of n pairs. */
static double differences(const float *p, const float *t, int32_t n, int32_t step, double weight,
                          double *ret_d)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++) {
        double d = ((double)p[i + step] - (double)p[i]) - ((double)t[i + step] - (double)t[i]);
        sum += fabs(d);
        if (ret_d != NULL) {
            ret_d[i + step] += weight * sign(d);
            ret_d[i] -= weight * sign(d);
        }
    }
    return sum;
}

double loss_gradient(const float *p, const float *t, int32_t h, int32_t w, const double count[2],
                     double weight, double *ret_d)
{
    double along_x = 0, along_y = 0;
    for (int32_t y = 0; y < h; y++) {
        int64_t row = (int64_t)y * w;
        double *d = ret_d != NULL ? ret_d + row : NULL;
        along_x += differences(p + row, t + row, w - 1, 1, weight / count[0], d);
        if (y + 1 < h)
            along_y += differences(p + row, t + row, w, w, weight / count[1], d);
    }
    return along_x / count[0] + along_y / count[1];
}
