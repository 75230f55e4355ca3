/* How alike two images are. Images are [h][w] float32, 0..1; figures are those of 8-bit images, so
** `peak` is 1. Sources: PSNR as Li et al. 2022 eq. 9; SSIM as Wang et al. 2004, 11 x 11 Gaussian of
** sigma 1.5, K1 0.01, K2 0.03, means over the part where the window lies inside the image; RMSE,
** Tenengrad as Li et al. eq. 11-13, in grey levels of 0..255.
** Thread: any. */
#ifndef CT2MR_GPU_METRICS_H
#define CT2MR_GPU_METRICS_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Mean squared difference. */
double metric_mse(const float *a, const float *b, size_t n);
/* 10 log10(1 / mse) in dB; INFINITY for equal images; not a number is none. */
double metric_psnr_db(double mse);
/* -1..1; 1 for equal images. h, w at least 11. Errors: LIMIT, NO_MEMORY. */
MUST_CHECK Status metric_ssim(const float *a, const float *b, int32_t h, int32_t w, double *ret,
                              Err *err);
/* The same formula on the means, variances and covariance of whole images. */
double metric_ssim_global(const float *a, const float *b, size_t n);
/* Root of the mean squared difference in grey levels. */
double metric_rmse_grey(double mse);
/* Sharpness of one image: the mean over all pixels of the Sobel gradient's magnitude where it is
** above the threshold (0 elsewhere), both in grey levels. The image is rounded to 8 bits; edge
** pixels are repeated outwards. */
double metric_tenengrad(const float *image, int32_t h, int32_t w, double threshold_grey);

#endif
