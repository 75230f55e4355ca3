/* Operations in training: forward against known answers, backward against finite differences, in
** double and away from kinks. */
#include "gpu/train_ref_ops.h"
#include "tests/model_file.h"
#include "tests/test.h"

enum { MAX_NUMBERS = 4096 };

typedef struct Arrays { /* of one operation under test */
    double x[MAX_NUMBERS], x2[MAX_NUMBERS], y[MAX_NUMBERS], dy[MAX_NUMBERS];
    double weight[MAX_NUMBERS], bias[64], mean[64], variance[64];
    double used_mean[64], used_inverse_sd[64];
    double dx[MAX_NUMBERS], dx2[MAX_NUMBERS], dweight[MAX_NUMBERS], dbias[64];
} Arrays;

static Arrays a;
static uint64_t seed = 7;

static double uniform(double low, double high)
{
    return low + (high - low) * model_file_random(&seed);
}

static size_t count(const RefOp *op, const Value *v)
{
    size_t n = (size_t)op->n * (size_t)graph_value_elements(v);
    CHECK(n <= MAX_NUMBERS);
    return n;
}

/* Random numbers no two of which are near each other or near 0, for max pool and ReLU. */
static void fill_apart(double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = ((double)i + 0.5) * (i % 2 == 0 ? 0.01 : -0.01);
    for (size_t i = n - 1; i > 0; i--) {
        size_t k = (size_t)(model_file_random(&seed) * (double)(i + 1));
        double swap = x[i];
        x[i] = x[k];
        x[k] = swap;
    }
}

static RefOp make(OpKind kind, const Value *in, const Value *out, int32_t kernel, int32_t stride)
{
    RefOp op = {.kind = kind,
                .kernel = kernel,
                .stride = stride,
                .in = in,
                .out = out,
                .n = 3,
                .threads = 2,
                .x = a.x,
                .y = a.y,
                .batch_statistics = true};
    fill_apart(a.x, count(&op, in));
    for (size_t i = 0; i < MAX_NUMBERS; i++) {
        a.dy[i] = uniform(-1, 1);
        a.weight[i] = uniform(-1, 1);
        a.x2[i] = uniform(-1, 1);
    }
    for (size_t i = 0; i < 64; i++) {
        a.bias[i] = uniform(-1, 1);
        a.mean[i] = uniform(-1, 1);
        a.variance[i] = uniform(0.5, 2);
    }
    if (kind == OP_CONV || kind == OP_NORM) {
        op.weight = a.weight;
        op.bias = a.bias;
    }
    if (kind == OP_NORM) {
        op.mean = a.mean;
        op.variance = a.variance;
        op.used_mean = a.used_mean;
        op.used_inverse_sd = a.used_inverse_sd;
    }
    return op;
}

/* L = sum of dy y, so that dy is the gradient of L by y. */
static double loss(const RefOp *op)
{
    double sum = 0;
    ref_op_forward(op);
    for (size_t i = 0; i < count(op, op->out); i++)
        sum += a.dy[i] * a.y[i];
    return sum;
}

static void check_gradient(const RefOp *op, double *numbers, size_t n, const double *gradient,
                           double offset)
{
    const double h = 1e-4;
    for (size_t i = 0; i < n; i++) {
        double before = numbers[i];
        numbers[i] = before + h;
        double up = loss(op);
        numbers[i] = before - h;
        double down = loss(op);
        numbers[i] = before;
        CHECK_NEAR(gradient[i] - offset, (up - down) / (2 * h), 1e-6);
    }
}

/* Backward of everything that the operation has, against differences. dx is added to what is there,
** the parameters' gradients are overwritten. */
static void check_backward(const RefOp *forward, size_t n_weight, size_t n_bias, size_t n_second)
{
    RefOp back = *forward;
    for (size_t i = 0; i < MAX_NUMBERS; i++)
        a.dx[i] = a.dx2[i] = a.dweight[i] = 3;
    for (size_t i = 0; i < 64; i++)
        a.dbias[i] = 3;
    back.dy = a.dy;
    back.dx = a.dx;
    back.dx2 = n_second > 0 ? a.dx2 : NULL;
    back.dweight = n_weight > 0 ? a.dweight : NULL;
    back.dbias = n_bias > 0 ? a.dbias : NULL;
    (void)loss(forward);
    ref_op_backward(&back);
    check_gradient(forward, a.x, count(forward, forward->in), a.dx, 3);
    check_gradient(forward, a.x2, n_second, a.dx2, 3);
    check_gradient(forward, a.weight, n_weight, a.dweight, 0);
    check_gradient(forward, a.bias, n_bias, a.dbias, 0);
    for (size_t i = count(forward, forward->in); i < MAX_NUMBERS; i++)
        CHECK_NEAR(a.dx[i], 3, 0);
}

static void check_conv(int32_t kernel, int32_t stride, bool has_bias)
{
    const Value in = {.c = 3, .h = 6, .w = 8};
    const Value out = {.c = 2, .h = 6 / stride, .w = 8 / stride};
    RefOp op = make(OP_CONV, &in, &out, kernel, stride);
    if (!has_bias)
        op.bias = NULL;
    check_backward(&op, 6 * (size_t)kernel * (size_t)kernel, has_bias ? 2 : 0, 0);
}

TEST(train_conv_gradients, "1x1, 3x3, 5x5 and 7x7 convolutions of stride 1 and 2, with and without "
                           "bias: dx, dw, db are the differences' limits to 1e-6")
{
    for (int32_t kernel = 1; kernel <= 7; kernel += 2)
        for (int32_t stride = 1; stride <= 2; stride++)
            check_conv(kernel, stride, kernel != 3);
}

TEST(train_conv_is_the_sum, "3x3 over a plane of ones with a kernel of ones and bias 10 counts the "
                            "pixels under it: 19 inside, 16 at sides, 14 in corners")
{
    const Value v = {.c = 1, .h = 4, .w = 4};
    RefOp op = make(OP_CONV, &v, &v, 3, 1);
    op.n = 1;
    for (int i = 0; i < 16; i++)
        a.x[i] = 1;
    for (int i = 0; i < 9; i++)
        a.weight[i] = 1;
    a.bias[0] = 10;
    ref_op_forward(&op);
    CHECK_NEAR(a.y[5], 19, 0);
    CHECK_NEAR(a.y[1], 16, 0);
    CHECK_NEAR(a.y[0], 14, 0);
}

TEST(train_norm_gradients, "batch norm by the batch's statistics, and by the running ones: dx, "
                           "dgamma, dbeta are the differences' limits to 1e-6")
{
    const Value v = {.c = 3, .h = 4, .w = 5};
    RefOp op = make(OP_NORM, &v, &v, 0, 0);
    check_backward(&op, 3, 3, 0);
    op.batch_statistics = false;
    check_backward(&op, 3, 3, 0);
}

TEST(train_norm_statistics, "1, 2, 3, 4 have mean 2.5, variance 1.25 in use and 5/3 in the running "
                            "one, which both move by a tenth; running ones stay when used")
{
    const Value v = {.c = 1, .h = 1, .w = 4};
    RefOp op = make(OP_NORM, &v, &v, 0, 0);
    op.n = 1;
    for (int i = 0; i < 4; i++)
        a.x[i] = i + 1;
    a.weight[0] = 2;
    a.bias[0] = 7;
    a.mean[0] = 1;
    a.variance[0] = 3;
    ref_op_forward(&op);
    CHECK_NEAR(a.y[3], 2 * 1.5 / sqrt(1.25 + 1e-5) + 7, 1e-12);
    CHECK_NEAR(a.mean[0], 0.9 * 1 + 0.1 * 2.5, 1e-12);
    CHECK_NEAR(a.variance[0], 0.9 * 3 + 0.1 * 5 / 3, 1e-12);
    a.mean[0] = 1;
    a.variance[0] = 3;
    op.batch_statistics = false;
    ref_op_forward(&op);
    CHECK_NEAR(a.y[3], 2 * 3 / sqrt(3 + 1e-5) + 7, 1e-12);
    CHECK_NEAR(a.mean[0], 1, 0);
    CHECK_NEAR(a.variance[0], 3, 0);
}

TEST(train_pool_gradients, "max pool 3x3 / 2 and 2x2 / 2: the gradient goes to the largest")
{
    const Value in = {.c = 2, .h = 6, .w = 8}, out = {.c = 2, .h = 3, .w = 4};
    for (int32_t kernel = 2; kernel <= 3; kernel++) {
        RefOp op = make(OP_MAXPOOL, &in, &out, kernel, 2);
        check_backward(&op, 0, 0, 0);
    }
}

TEST(train_pool_takes_the_first_of_equals,
     "in a plane of equals each gradient goes to the window's "
     "first pixel, as in PyTorch")
{
    const Value in = {.c = 1, .h = 4, .w = 4}, out = {.c = 1, .h = 2, .w = 2};
    RefOp op = make(OP_MAXPOOL, &in, &out, 2, 2);
    op.n = 1;
    for (int i = 0; i < 16; i++)
        a.x[i] = a.dx[i] = 0;
    op.dy = a.dy;
    op.dx = a.dx;
    ref_op_backward(&op);
    CHECK_NEAR(a.dx[0], a.dy[0], 0);
    CHECK_NEAR(a.dx[2], a.dy[1], 0);
    CHECK_NEAR(a.dx[8], a.dy[2], 0);
    CHECK_NEAR(a.dx[10], a.dy[3], 0);
    CHECK_NEAR(a.dx[1] + a.dx[4] + a.dx[5], 0, 0);
}

TEST(train_pointwise_gradients,
     "ReLU (away from 0), sum, nearest x2, concatenation: dx and dx2 are "
     "the differences' limits to 1e-6")
{
    const Value v = {.c = 3, .h = 4, .w = 5}, large = {.c = 3, .h = 8, .w = 10};
    const Value more = {.c = 5, .h = 4, .w = 5};
    RefOp op = make(OP_RELU, &v, &v, 0, 0);
    check_backward(&op, 0, 0, 0);
    op = make(OP_UP2, &v, &large, 0, 0);
    check_backward(&op, 0, 0, 0);
    op = make(OP_ADD, &v, &v, 0, 0);
    op.x2 = a.x2;
    check_backward(&op, 0, 0, 3 * 60);
    op = make(OP_CONCAT, &v, &more, 0, 0);
    op.x2 = a.x2;
    check_backward(&op, 0, 0, 3 * 40);
}
