/* gpu/metrics, gpu/statistics: figures against scikit-image and NumPy (golden vectors, 1e-6),
** against values worked out by hand, and the t-test against SciPy 1.10. */
#include "tests/test.h"

#include "gpu/metrics.h"
#include "gpu/statistics.h"
#include "tests/npz.h"

static float *image_of(const NpzArray *a)
{
    float *image = malloc(a->n * sizeof *image);
    CHECK(image != NULL);
    for (size_t i = 0; i < a->n; i++)
        image[i] = (float)(a->data[i] / 255);
    return image;
}

static double number_of(const char *path, const char *name)
{
    NpzArray a = npz_read(path, name);
    double value = a.data[0];
    free(a.data);
    return value;
}

TEST(metrics_golden, "PSNR, SSIM, Tenengrad (T 20), RMSE equal those of scikit-image to 1e-6")
{
    const char *path = test_shared("golden/metrics.npz");
    NpzArray a = npz_read(path, "real"), b = npz_read(path, "synthetic");
    float *real = image_of(&a), *synthetic = image_of(&b);
    int32_t h = (int32_t)a.dims[0], w = (int32_t)a.dims[1];
    double ssim, mse = metric_mse(real, synthetic, a.n);
    CHECK_STATUS(metric_ssim(real, synthetic, h, w, &ssim, NULL), ST_OK);
    CHECK_NEAR(metric_psnr_db(mse), number_of(path, "psnr"), 1e-6);
    CHECK_NEAR(ssim, number_of(path, "ssim"), 1e-6);
    CHECK_NEAR(metric_rmse_grey(mse), number_of(path, "rmse"), 1e-6);
    CHECK_NEAR(metric_tenengrad(synthetic, h, w, 20), number_of(path, "tenengrad_T20_mean"), 1e-6);
    CHECK_NEAR(metric_ssim_global(real, synthetic, a.n), 0.9446075948926118, 1e-6);
    free(real);
    free(synthetic);
    free(a.data);
    free(b.data);
}

TEST(metrics_by_hand, "a step edge's Tenengrad; PSNR and RMSE of a constant difference")
{
    enum { H = 12, W = 16 };
    float step[H * W], shifted[H * W];
    for (int i = 0; i < H * W; i++) {
        step[i] = i % W < 8 ? 0.2f : 0.6f;
        shifted[i] = step[i] + 0.1f;
    }
    /* Sobel: 4 x 102 grey levels in the two columns beside the edge, in every row */
    CHECK_NEAR(metric_tenengrad(step, H, W, 20), 408.0 * 2 / W, 1e-9);
    CHECK_NEAR(metric_tenengrad(step, H, W, 409), 0, 0);
    double mse = metric_mse(step, shifted, H * W);
    CHECK_NEAR(metric_psnr_db(mse), 20, 1e-5);
    CHECK(isinf(metric_psnr_db(0)) && isnan(metric_psnr_db((double)NAN)));
    CHECK_NEAR(metric_rmse_grey(mse), 25.5, 1e-5);
    CHECK_NEAR(metric_ssim_global(step, step, H * W), 1, 1e-12);
    /* equal structure: only the means differ, 0.4 and 0.5 */
    CHECK_NEAR(metric_ssim_global(step, shifted, H * W), (2 * 0.4 * 0.5 + 1e-4) / (0.41 + 1e-4),
               1e-6);
}

/* ---- statistics ------------------------------------------------------------------------------ */

static const double A[] = {34.1, 33.2, 35.9, 36.4, 31.8, 34.7, 33.9};
static const double B[] = {23.5, 30.1, 28.7, 33.3, 29.9};

TEST(statistics_t_test,
     "Student and Welch: t and p equal SciPy's ttest_ind to 1e-9, the interval to 1e-7")
{
    TTest t;
    Err err = {0};
    CHECK_OK(t_test(A, 7, B, 5, true, 0.95, &t, &err), &err);
    CHECK_NEAR(t.t, 3.458102790334706, 1e-9);
    CHECK_NEAR(t.p, 0.006142238305184824, 1e-9);
    CHECK_NEAR(t.dof, 10, 0);
    CHECK_NEAR(t.low, 1.844433769853374, 1e-7);
    CHECK_NEAR(t.high, 8.526994801575206, 1e-7);
    CHECK_NEAR(t.a.mean, 34.28571428571429, 1e-12);
    CHECK_NEAR(t.a.deviation, 1.5699560200088096, 1e-12);
    CHECK_OK(t_test(A, 7, B, 5, false, 0.95, &t, &err), &err);
    CHECK_NEAR(t.t, 3.0493078254310984, 1e-9);
    CHECK_NEAR(t.p, 0.027586814119537027, 1e-9);
    CHECK_NEAR(t.dof, 5.120274707441075, 1e-9);
    CHECK_NEAR(t.low, 0.8448374568418213, 1e-7);
    CHECK_NEAR(t.high, 9.52659111458676, 1e-7);
}

TEST(statistics_paired,
     "t and p equal SciPy's ttest_rel to 1e-9, the interval to 1e-7; one value has no deviation")
{
    TTest t;
    Err err = {0};
    CHECK_OK(t_test_paired(A, B, 5, 0.95, &t, &err), &err);
    CHECK_NEAR(t.t, 3.1860186735599476, 1e-9);
    CHECK_NEAR(t.p, 0.03334279051979624, 1e-9);
    CHECK_NEAR(t.dof, 4, 0);
    CHECK_NEAR(t.difference, 5.18, 1e-12);
    CHECK_NEAR(t.low, 0.6659066695755866, 1e-7);
    CHECK_NEAR(t.high, 9.694093330424415, 1e-7);
    CHECK_STATUS(t_test_paired(A, B, 1, 0.95, &t, &err), ST_LIMIT);
    CHECK_STATUS(t_test_paired(A, A, 5, 0.95, &t, &err), ST_LIMIT);
    CHECK(isnan(summary_of(A, 1).deviation) && summary_of(A, 1).mean == A[0]);
}

TEST(statistics_extremes,
     "a negative t; a p of 1e-20 keeps its digits; what has no test is refused")
{
    static const double x[] = {1, 2, 3, 4, 5}, y[] = {1.5, 2.5, 3.5, 4.5, 5.25};
    static const double far_a[] = {0, 1e-3, 0}, far_b[] = {100, 100.001, 100.002};
    static const double same[] = {3, 3, 3}, infinite[] = {1, HUGE_VAL};
    TTest t;
    Err err = {0};
    CHECK_OK(t_test(x, 5, y, 5, true, 0.95, &t, &err), &err);
    CHECK_NEAR(t.t, -0.46108396762070414, 1e-12);
    CHECK_NEAR(t.p, 0.6570148568914843, 1e-12);
    CHECK_OK(t_test(far_a, 3, far_b, 3, true, 0.95, &t, &err), &err);
    CHECK_NEAR(t.p / 1.1851535804142154e-20, 1, 1e-6);
    CHECK_STATUS(t_test(x, 1, y, 5, true, 0.95, &t, &err), ST_LIMIT);
    CHECK_STATUS(t_test(same, 3, same, 3, true, 0.95, &t, &err), ST_LIMIT);
    CHECK_STATUS(t_test(x, 5, infinite, 2, true, 0.95, &t, &err), ST_LIMIT);
}
