/* What the tests of the training engines share: a network with its table, its parameters from a
** model file, and comparisons. */
#ifndef CT2MR_TESTS_TRAIN_FIXTURE_H
#define CT2MR_TESTS_TRAIN_FIXTURE_H

#include "gpu/network.h"
#include "gpu/train_net.h"

typedef struct TrainCase {
    Graph *graph; /* literal, without the activation */
    TrainNet *net;
    size_t n_in, n_out; /* numbers of a slice */
} TrainCase;

TrainCase train_open(ModelArch arch, int32_t width, int32_t h, int32_t w,
                     const TrainOptions *options);
/* The same of a table that the test has made; the case takes it. */
TrainCase train_open_graph(Graph *graph, const TrainOptions *options);
void train_close(TrainCase *c);
/* All parameters from a model file, of which all fit in name and shape; tells the net. */
void train_load(TrainNet *net, const char *path);
/* A random model file of that kind, loaded. */
void train_load_random(TrainNet *net, ModelArch arch, int32_t width);
const TrainParameter *train_parameter(TrainNet *net, const char *name);
/* Batch norm's shift at +-margin of its scale, of one sign in a channel throughout: a third of the
** channels is closed, the others are open. At a ReLU's kink two right engines may part. */
void train_decide_gates(TrainNet *net, float margin);
/* malloc'ed, uniform in [-2, 2). */
float *train_random(size_t n, uint64_t seed);
/* |a - b| / |b| in the Euclidean norm; infinite if a value is not a number. */
double train_distance(const float *a, const float *b, size_t n);

#endif
