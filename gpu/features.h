/* What the network's first layer looks at: its filters, and what it makes of a slice. For people to
** look at. Thread: any. */
#ifndef CT2MR_GPU_FEATURES_H
#define CT2MR_GPU_FEATURES_H

#include "gpu/model.h"

typedef struct FirstLayer {
    int32_t c, kernel, h, w;
    float *filters; /* (c, 3, kernel, kernel), as in the model file */
    float *maps;    /* (c, h, w): after normalisation and ReLU */
} FirstLayer;

/* The first convolution of the model's network, on backend ref.
**   x  (3, height, width), normalised; height and width multiples of 32
** ret is to be freed by first_layer_free(). Errors: those of network_build(), of reading tensors,
** NO_MEMORY. */
MUST_CHECK Status first_layer(const Model *model, const float *x, int32_t height, int32_t width,
                              FirstLayer *ret, Err *err);
void first_layer_free(FirstLayer *layer); /* zeroed is fine */

#endif
