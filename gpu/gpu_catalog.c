/* See gpu_catalog.h. Rates: NVIDIA's architecture white papers and data sheets (GeForce cards add
** in float32 at half the rate of f16). Other figures: deviceQuery of such cards. */
#include "gpu/gpu_catalog.h"

#include <stdio.h>

enum { MIB = 1 << 20, KIB = 1 << 10 };

typedef struct Row {
    GpuCard card;
    int32_t n_sm, sm_clock_khz, memory_clock_khz, l2_bytes;
    int32_t shared_bytes, reserved_bytes, blocks_per_sm, threads_per_sm;
} Row;

static const Row ROWS[GPU_CATALOG_COUNT] = {
    {{"NVIDIA GeForce RTX 2070", 75, 8366784512, 29.9, 448},
     36,
     1620000,
     7001000,
     4 * MIB,
     64 * KIB,
     0,
     16,
     1024},
    {{"Tesla T4", 75, 15642329088, 65, 320}, 40, 1590000, 5001000, 4 * MIB, 64 * KIB, 0, 16, 1024},
    {{"NVIDIA A100-SXM4-80GB", 80, 84987740160, 312, 2039},
     108,
     1410000,
     1593000,
     40 * MIB,
     163 * KIB,
     KIB,
     32,
     2048},
    {{"NVIDIA GeForce RTX 3090", 86, 25300107264, 71.2, 936},
     82,
     1695000,
     9751000,
     6 * MIB,
     99 * KIB,
     KIB,
     16,
     1536},
    {{"NVIDIA GeForce RTX 4090", 89, 25282281472, 165.2, 1008},
     128,
     2520000,
     10501000,
     72 * MIB,
     99 * KIB,
     KIB,
     24,
     1536},
    {{"NVIDIA H100 80GB HBM3", 90, 84942979072, 989, 3350},
     132,
     1980000,
     2619000,
     50 * MIB,
     227 * KIB,
     KIB,
     32,
     2048},
    {{"NVIDIA B200", 100, 191000000000, 2250, 8000},
     148,
     1965000,
     3996000,
     126 * MIB + 512 * KIB,
     227 * KIB,
     KIB,
     32,
     2048},
    {{"NVIDIA GeForce RTX 5090", 120, 33600000000, 209.5, 1792},
     170,
     2407000,
     14001000,
     96 * MIB,
     99 * KIB,
     KIB,
     24,
     1536}};

const GpuCard *gpu_catalog_card(int index)
{
    return index >= 0 && index < GPU_CATALOG_COUNT ? &ROWS[index].card : 0;
}

const char *gpu_catalog_profile(int index, char ret[GPU_PROFILE_SIZE])
{
    const Row *r = &ROWS[index];
    (void)snprintf(
        ret, GPU_PROFILE_SIZE,
        "{\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],"
        "\"regsPerBlock\":65536,\"multiProcessorCount\":%d,\"warpSize\":32,"
        "\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":%d,"
        "\"reservedSharedMemoryPerBlock\":%d,\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":%d,"
        "\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":%d,\"pciDeviceId\":0,\"isTccDriver\":0,"
        "\"supportCoopLaunch\":1,\"totalGlobalMem\":%lld,\"smClockRateKHz\":%d,"
        "\"memClockRateKHz\":%d,\"l2CacheSize\":%d,\"cudaDeviceId\":0,\"deviceVer\":%d,"
        "\"driverVer\":13000,\"deviceName\":\"%s\"}",
        r->n_sm, r->shared_bytes, r->reserved_bytes, r->blocks_per_sm, r->threads_per_sm,
        (long long)r->card.memory_bytes, r->sm_clock_khz, r->memory_clock_khz, r->l2_bytes,
        10 * r->card.compute, r->card.name);
    return ret;
}
