/* See metrics.h. The Gaussian is separable: rows first, then columns, in double. */
#include "gpu/metrics.h"

#include <math.h>
#include <stdlib.h>

enum { HALF = 5, TAPS = 2 * HALF + 1, N_MOMENTS = 5 };
#define SIGMA 1.5
#define GREY_MAX 255.0
#define C1 (0.01 * 0.01)
#define C2 (0.03 * 0.03)

double metric_mse(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        sum += d * d;
    }
    return sum / (double)n;
}

double metric_psnr_db(double mse)
{
    return mse == 0 ? (double)INFINITY : -10 * log10(mse);
}

static void make_window(double ret[TAPS])
{
    double sum = 0;
    for (int i = 0; i < TAPS; i++) {
        ret[i] = exp(-(i - HALF) * (i - HALF) / (2 * SIGMA * SIGMA));
        sum += ret[i];
    }
    for (int i = 0; i < TAPS; i++)
        ret[i] /= sum;
}

/* Along a row: Gaussian means of a, b, a^2, b^2, ab at the positions where the window fits. */
static void smooth_row(const float *a, const float *b, int32_t w, const double window[TAPS],
                       double *ret)
{
    for (int32_t x = 0; x + TAPS <= w; x++) {
        double m[N_MOMENTS] = {0};
        for (int k = 0; k < TAPS; k++) {
            double u = (double)a[x + k], v = (double)b[x + k], g = window[k];
            m[0] += g * u;
            m[1] += g * v;
            m[2] += g * u * u;
            m[3] += g * v * v;
            m[4] += g * u * v;
        }
        for (int i = 0; i < N_MOMENTS; i++)
            ret[(size_t)x * N_MOMENTS + (size_t)i] = m[i];
    }
}

static double similarity(const double m[N_MOMENTS])
{
    double saa = m[2] - m[0] * m[0], sbb = m[3] - m[1] * m[1], sab = m[4] - m[0] * m[1];
    return (2 * m[0] * m[1] + C1) * (2 * sab + C2) /
           ((m[0] * m[0] + m[1] * m[1] + C1) * (saa + sbb + C2));
}

Status metric_ssim(const float *a, const float *b, int32_t h, int32_t w, double *ret, Err *err)
{
    if (h < TAPS || w < TAPS)
        return err_set(err, ST_LIMIT, "an image of %d x %d is too small for SSIM", h, w);
    double window[TAPS], sum = 0;
    size_t row = (size_t)(w - TAPS + 1) * N_MOMENTS;
    double *rows = malloc((size_t)h * row * sizeof *rows);
    if (rows == NULL)
        return err_set(err, ST_NO_MEMORY, "SSIM of %d x %d", h, w);
    make_window(window);
    for (int32_t y = 0; y < h; y++)
        smooth_row(a + (size_t)y * (size_t)w, b + (size_t)y * (size_t)w, w, window,
                   rows + (size_t)y * row);
    for (int32_t y = 0; y + TAPS <= h; y++)
        for (size_t x = 0; x < row; x += N_MOMENTS) {
            double m[N_MOMENTS] = {0};
            for (int k = 0; k < TAPS; k++)
                for (size_t i = 0; i < N_MOMENTS; i++)
                    m[i] += window[k] * rows[(size_t)(y + k) * row + x + i];
            sum += similarity(m);
        }
    free(rows);
    *ret = sum / ((double)(h - TAPS + 1) * (double)(w - TAPS + 1));
    return ST_OK;
}

double metric_ssim_global(const float *a, const float *b, size_t n)
{
    double m[N_MOMENTS] = {0};
    for (size_t i = 0; i < n; i++) {
        double u = (double)a[i], v = (double)b[i];
        m[0] += u;
        m[1] += v;
        m[2] += u * u;
        m[3] += v * v;
        m[4] += u * v;
    }
    for (int i = 0; i < N_MOMENTS; i++)
        m[i] /= (double)n;
    return similarity(m);
}

double metric_rmse_grey(double mse)
{
    return GREY_MAX * sqrt(mse);
}

/* A pixel of the image as an 8-bit one shows it. */
static int32_t grey_at(const float *row, int32_t x)
{
    return (int32_t)lround(fmin(fmax((double)row[x], 0), 1) * GREY_MAX);
}

double metric_tenengrad(const float *image, int32_t h, int32_t w, double threshold_grey)
{
    double sum = 0;
    for (int32_t y = 0; y < h; y++) {
        const float *row = image + (size_t)y * (size_t)w;
        const float *above = y > 0 ? row - w : row, *below = y < h - 1 ? row + w : row;
        for (int32_t x = 0; x < w; x++) {
            int32_t l = x > 0 ? x - 1 : x, r = x < w - 1 ? x + 1 : x;
            int32_t a = grey_at(above, l), c = grey_at(above, r);
            int32_t d = grey_at(below, l), f = grey_at(below, r);
            int32_t across = c + 2 * grey_at(row, r) + f - a - 2 * grey_at(row, l) - d;
            int32_t down = d + 2 * grey_at(below, x) + f - a - 2 * grey_at(above, x) - c;
            double g = sqrt((double)across * across + (double)down * down);
            sum += g > threshold_grey ? g : 0;
        }
    }
    return sum / ((double)h * (double)w);
}
