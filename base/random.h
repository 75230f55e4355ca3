/* Random numbers without a state to keep: a stream is a key, its i-th number a function of both.
** So sample i of epoch e is the same for any number of threads and after a resume.
**
** SplitMix64's output function over key + i * the golden ratio (Steele, Lea, Flood, OOPSLA 2014);
** not for secrets. Thread: a Random belongs to one caller. */
#ifndef CT2MR_BASE_RANDOM_H
#define CT2MR_BASE_RANDOM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Random {
    uint64_t key, counter;
} Random;

/* The stream of (seed, a, b), at its beginning. */
Random random_stream(uint64_t seed, uint64_t a, uint64_t b);
uint64_t random_bits(Random *random);
double random_unit(Random *random);                             /* [0, 1) in steps of 2^-53 */
double random_between(Random *random, double low, double high); /* [low, high) */
double random_normal(Random *random); /* mean 0, deviation 1 (Box-Muller, one number of the two) */
/* [0, n), n >= 1; the bias of 2^-32 n is of no matter here. */
uint32_t random_below(Random *random, uint32_t n);

/* Place i of a shuffle of 0..n-1 that (seed, round) choose, without an array: a Feistel network
** over the next power of 4, walked until the value is below n. 0 <= i < n. */
uint32_t random_order(uint64_t seed, uint64_t round, uint32_t n, uint32_t i);

#ifdef __cplusplus
}
#endif
#endif
