/* Sums of a Gauss-Newton system over samples: w grad grad' and w r grad, for the 12 parameters of
** an affine.
**
** j and k are constant along a row and the Jacobian is (image gradient) x (i, j, k, 1); so a row
** needs only the 18 + 6 moments of w g g' i^p and w r g i^p instead of 90 sums per sample, and the
** change to the parameters of metric.h is made once at the end. Thread: pure functions. */
#ifndef CT2MR_REGISTRATION_MOMENTS_INT_H
#define CT2MR_REGISTRATION_MOMENTS_INT_H

#include "registration/walk_int.h"

enum {
    PAIRS_G = 6, /* xx xy xz yy yz zz of the image gradient */
    PAIRS_Q = 10 /* of (i, j, k, 1) */
};

typedef struct MomentSum {
    double h[PAIRS_G][PAIRS_Q], g[3][4];
} MomentSum;

/* Adds row (j, k): weight w, value r, gradients, columns as walk_gradients() left them. */
void moments_add(const Walk *walk, const Line *line, const Row *row, int j, int k, MomentSum *sum);
/* Sum of the chunks, in order, in the parameters of metric.h. */
void moments_system(const Walk *walk, const MomentSum *chunks, MetricSystem *ret);

#endif
