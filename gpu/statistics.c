/* See statistics.h. */
#include "gpu/statistics.h"

#include <gsl/gsl_cdf.h>
#include <math.h>

Summary summary_of(const double *values, size_t n)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++)
        sum += values[i];
    double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++)
        squares += (values[i] - mean) * (values[i] - mean);
    return (Summary){n, mean, n > 1 ? sqrt(squares / (double)(n - 1)) : (double)NAN};
}

/* Of the difference of the means, with its degrees of freedom. */
static double standard_error(const Summary *a, const Summary *b, bool equal_variances,
                             double *ret_dof)
{
    double n_a = (double)a->n, n_b = (double)b->n;
    double var_a = a->deviation * a->deviation, var_b = b->deviation * b->deviation;
    if (equal_variances) {
        double pooled = ((n_a - 1) * var_a + (n_b - 1) * var_b) / (n_a + n_b - 2);
        *ret_dof = n_a + n_b - 2;
        return sqrt(pooled * (1 / n_a + 1 / n_b));
    }
    double sq_a = var_a / n_a, sq_b = var_b / n_b, sum = sq_a + sq_b;
    *ret_dof = sum * sum / (sq_a * sq_a / (n_a - 1) + sq_b * sq_b / (n_b - 1));
    return sqrt(sum);
}

static bool all_finite(const double *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

/* t, p and the interval, from the difference, its error and the degrees of freedom. */
static void finish(TTest *test, double error, double confidence)
{
    double half = error * gsl_cdf_tdist_Pinv(0.5 + 0.5 * confidence, test->dof);
    test->t = test->difference / error;
    test->p = 2 * gsl_cdf_tdist_Q(fabs(test->t), test->dof);
    test->low = test->difference - half;
    test->high = test->difference + half;
}

Status t_test(const double *a, size_t n_a, const double *b, size_t n_b, bool equal_variances,
              double confidence, TTest *ret, Err *err)
{
    if (n_a < 2 || n_b < 2)
        return err_set(err, ST_LIMIT, "a t-test needs two values of each, there are %zu and %zu",
                       n_a, n_b);
    if (!all_finite(a, n_a) || !all_finite(b, n_b))
        return err_set(err, ST_LIMIT, "a t-test of values that are not finite");
    TTest test = {.a = summary_of(a, n_a), .b = summary_of(b, n_b)};
    double error = standard_error(&test.a, &test.b, equal_variances, &test.dof);
    if (!(error > 0))
        return err_set(err, ST_LIMIT, "a t-test of values without any variance");
    test.difference = test.a.mean - test.b.mean;
    finish(&test, error, confidence);
    *ret = test;
    return ST_OK;
}

Status t_test_paired(const double *a, const double *b, size_t n, double confidence, TTest *ret,
                     Err *err)
{
    if (n < 2)
        return err_set(err, ST_LIMIT, "a paired t-test needs two pairs, there are %zu", n);
    if (!all_finite(a, n) || !all_finite(b, n))
        return err_set(err, ST_LIMIT, "a t-test of values that are not finite");
    TTest test = {.a = summary_of(a, n), .b = summary_of(b, n), .dof = (double)(n - 1)};
    double squares = 0;
    test.difference = test.a.mean - test.b.mean;
    for (size_t i = 0; i < n; i++) {
        double d = a[i] - b[i] - test.difference;
        squares += d * d;
    }
    double error = sqrt(squares / (double)(n - 1) / (double)n);
    if (!(error > 0))
        return err_set(err, ST_LIMIT, "a paired t-test of differences without any variance");
    finish(&test, error, confidence);
    *ret = test;
    return ST_OK;
}
