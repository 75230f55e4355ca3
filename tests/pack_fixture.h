/* Packed files made by tests: soft ellipses whose MR is a function of the CT, so that a network can
** learn it. No patient. */
#ifndef CT2MR_TESTS_PACK_FIXTURE_H
#define CT2MR_TESTS_PACK_FIXTURE_H

#include "gpu/pack_file.h"

/* n_cases cases of n_slices each, pixels x pixels at 4 mm; slice_mm 0: not neighbours. Window
** 40/80, pose native, head mask, target T1. Inside an ellipse HU are 0..80, elsewhere air; MR is
** 0.9 - 0.6 hu / 80. The same values for the same arguments; cases differ. */
void pack_fixture_write(const char *path, int32_t pixels, int32_t n_cases, int32_t n_slices,
                        double slice_mm);

/* The window 40/80 with ImageNet's mean and deviation, as LoaderWindow's apply(). */
void pack_fixture_window(const void *context, const int16_t *hu, const uint8_t *mask, int32_t n,
                         float *ret_x);

#endif
