/* base/random: the generator is SplitMix64, streams differ, the order is a permutation. Limits on
** moments: 5 standard deviations of the estimate. */
#include "tests/test.h"

#include "base/random.h"

TEST(random_is_splitmix64, "key 0 gives the first numbers of Vigna's splitmix64.c with seed 0")
{
    Random r = {0, 0};
    CHECK(random_bits(&r) == 0xe220a8397b1dcdafu);
    CHECK(random_bits(&r) == 0x6e789e6aa1b965f4u);
    CHECK(random_bits(&r) == 0x06c45d188009454fu);
    r.counter = 1;
    CHECK(random_bits(&r) == 0x6e789e6aa1b965f4u);
}

TEST(random_streams_differ, "each of seed, a and b changes the stream; the same three do not")
{
    Random first = random_stream(1, 2, 3), same = random_stream(1, 2, 3);
    const Random others[4] = {random_stream(2, 2, 3), random_stream(1, 3, 3),
                              random_stream(1, 2, 4), random_stream(1, 3, 2)};
    CHECK(random_bits(&first) == random_bits(&same));
    for (int i = 0; i < 4; i++)
        CHECK(others[i].key != same.key);
}

TEST(random_moments, "uniform and normal numbers have mean and variance as they should")
{
    enum { N = 100000 };
    Random r = random_stream(7, 0, 0);
    double sum = 0, sum2 = 0, normal = 0, normal2 = 0;
    int counts[5] = {0};
    for (int i = 0; i < N; i++) {
        double u = random_unit(&r), g = random_normal(&r);
        CHECK(u >= 0 && u < 1);
        sum += u, sum2 += u * u, normal += g, normal2 += g * g;
        counts[random_below(&r, 5)]++;
    }
    CHECK_NEAR(sum / N, 0.5, 5 * sqrt(1.0 / 12 / N));
    CHECK_NEAR(sum2 / N, 1.0 / 3, 5 * sqrt(4.0 / 45 / N));
    CHECK_NEAR(normal / N, 0, 5 / sqrt(N));
    CHECK_NEAR(normal2 / N, 1, 5 * sqrt(2.0 / N));
    for (int i = 0; i < 5; i++)
        CHECK_NEAR(counts[i] / (double)N, 0.2, 5 * sqrt(0.16 / N));
}

TEST(random_order_is_a_permutation, "every place once for many n; rounds and seeds differ")
{
    static const uint32_t SIZES[] = {1, 2, 3, 4, 5, 16, 17, 100, 257, 4800};
    static unsigned char seen[4800];
    for (size_t k = 0; k < sizeof SIZES / sizeof *SIZES; k++) {
        uint32_t n = SIZES[k];
        memset(seen, 0, sizeof seen);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t at = random_order(11, 3, n, i);
            CHECK(at < n && seen[at] == 0);
            seen[at] = 1;
        }
    }
    int same_round = 0, same_seed = 0, fixed = 0;
    for (uint32_t i = 0; i < 4800; i++) {
        uint32_t at = random_order(11, 3, 4800, i);
        same_round += at == random_order(11, 4, 4800, i);
        same_seed += at == random_order(12, 3, 4800, i);
        fixed += at == i;
    }
    CHECK(same_round < 10 && same_seed < 10 && fixed < 10); /* 1 expected of each */
}
