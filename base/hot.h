/* Loops over every voxel are compiled once per instruction set; the loader picks one at start.
**
** The loops so marked keep a fixed lane order in sums and are built without contraction to fused
** multiply-add, so that the bits do not depend on which clone ran. Sanitizers cannot run before
** the loader's choice, so they get the plain code. Clang 14 lacks these names: plain code. */
#ifndef CT2MR_BASE_HOT_H
#define CT2MR_BASE_HOT_H

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) &&                             \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define HOT_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define HOT_CLONES
#endif

#endif
