/* See random.h. */
#include "base/random.h"

#include <math.h>

static const uint64_t GOLDEN = 0x9e3779b97f4a7c15u; /* 2^64 / the golden ratio, odd */

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

Random random_stream(uint64_t seed, uint64_t a, uint64_t b)
{
    uint64_t key = mix(seed + GOLDEN);
    key = mix((key ^ a) + GOLDEN);
    return (Random){mix((key ^ b) + GOLDEN), 0};
}

uint64_t random_bits(Random *random)
{
    return mix(random->key + GOLDEN * ++random->counter);
}

double random_unit(Random *random)
{
    return (double)(random_bits(random) >> 11) * 0x1p-53;
}

double random_between(Random *random, double low, double high)
{
    return low + (high - low) * random_unit(random);
}

double random_normal(Random *random)
{
    double u = 1 - random_unit(random); /* (0, 1] */
    double v = random_unit(random);
    return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

uint32_t random_below(Random *random, uint32_t n)
{
    return (uint32_t)((random_bits(random) >> 32) * n >> 32);
}

uint32_t random_order(uint64_t seed, uint64_t round, uint32_t n, uint32_t i)
{
    enum { ROUNDS = 6 };
    Random keys = random_stream(seed, round, n);
    uint64_t key[ROUNDS];
    for (int r = 0; r < ROUNDS; r++)
        key[r] = random_bits(&keys);
    unsigned half = 1; /* bits of a half: 4^half >= n */
    while (half < 16 && (uint64_t)1 << 2 * half < n)
        half++;
    const uint32_t mask = (1u << half) - 1;
    do {
        uint32_t left = i >> half, right = i & mask;
        for (int r = 0; r < ROUNDS; r++) {
            uint32_t next = left ^ ((uint32_t)mix(key[r] + right) & mask);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}
