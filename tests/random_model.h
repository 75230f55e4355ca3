/* A network with random weights, written into the test's folder and opened. */
#ifndef CT2MR_TESTS_RANDOM_MODEL_H
#define CT2MR_TESTS_RANDOM_MODEL_H

#include "tests/model_file.h"

/* The caller closes. */
Model *random_model(ModelArch arch, int32_t width);

#endif
