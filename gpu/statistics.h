/* Means and t-tests, for independent samples and for pairs, as the tables of a comparison of two
** models need them. Student's distribution is GSL's. Thread: any. */
#ifndef CT2MR_GPU_STATISTICS_H
#define CT2MR_GPU_STATISTICS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct Summary {
    size_t n;
    double mean, deviation; /* deviation with n - 1; NaN for one value, which has none */
} Summary;

Summary summary_of(const double *values, size_t n); /* n >= 1 */

typedef struct TTest {
    Summary a, b;
    double difference; /* mean of a - mean of b */
    double t, dof, p;  /* p: two-sided */
    double low, high;  /* confidence interval of the difference */
} TTest;

/* Are the means of two independent samples the same? equal_variances: Student's test with pooled
** variance; else Welch's with Satterthwaite's degrees of freedom.
**   confidence  of the interval, 0.95 as a rule
** Errors: LIMIT (fewer than two values, one that is not finite, no variance at all). */
MUST_CHECK Status t_test(const double *a, size_t n_a, const double *b, size_t n_b,
                         bool equal_variances, double confidence, TTest *ret, Err *err);
/* Is the mean of a[i] - b[i] zero? Student's test of the differences, n - 1 degrees of freedom: for
** two measurements of the same things. Errors: as above (no variance: of the differences). */
MUST_CHECK Status t_test_paired(const double *a, const double *b, size_t n, double confidence,
                                TTest *ret, Err *err);

#endif
