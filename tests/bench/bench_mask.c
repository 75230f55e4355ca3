/* Times and overlaps of the masks on the real head of a .inv3 file; writes what mask_peers.py and
** itk_flood.cc compare with.   bench_mask CRANIUM.inv3 REFERENCE.nii.gz DIR
**   DIR/level, marker, label   gradient, markers and our flood, 512 x 512 x 170, 8 bits a voxel
**   DIR/ct, brain              HU (16 bits) and our brain mask, as the head came
**   DIR/moved                  a line per affine: Dice of the mask of the moved head and the moved
**                              mask, head and brain */
#include "base/clock.h"
#include "pipeline/distance.h"
#include "pipeline/filter.h"
#include "pipeline/import.h"
#include "pipeline/mask.h"
#include "pipeline/volume_io.h"
#include "pipeline/watershed.h"
#include "registration/register.h"
#include "registration/resample.h"
#include "tests/head_phantom.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { N = 512, NZ = 170, REPEAT = 3, MOVES = 20 };

static Arena arena, scratch;
static Err err;

static void need(Status status, const char *what)
{
    if (status == ST_OK)
        return;
    (void)fprintf(stderr, "bench_mask: %s: %s\n", what, err.msg);
    exit(1);
}

static void *room(size_t count, size_t size)
{
    void *p = arena_alloc(&arena, count, size, &err);
    need(p == NULL ? ST_LIMIT : ST_OK, "memory");
    return p;
}

static void write_raw(const char *dir, const char *name, const void *data, size_t bytes)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(data, 1, bytes, f) != bytes || fclose(f) != 0) {
        (void)fprintf(stderr, "bench_mask: cannot write %s\n", path);
        exit(1);
    }
}

static double cpu_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static VolumeI16 enlarge(const VolumeI16 *head)
{
    double s[3] = {(double)head->grid.nx / N, (double)head->grid.ny / N,
                   (double)head->grid.nz / NZ};
    Affine vox = {{{s[0], 0, 0, 0}, {0, s[1], 0, 0}, {0, 0, s[2], 0}}};
    VolumeI16 big = {{N, N, NZ, affine_mul(head->grid.lps_from_vox, vox)}, NULL};
    big.v = room(grid_voxels(&big.grid), sizeof *big.v);
    resample_i16(head, affine_identity(), -1024, 0, &big);
    return big;
}

static VolumeU8 measure(const char *what, const VolumeI16 *ct, const MaskReference *reference,
                        bool brain)
{
    double wall = 1e9, cpu = 1e9;
    VolumeU8 mask = {0};
    MaskResult r = {0};
    for (int k = 0; k < REPEAT; k++) {
        double begin = cpu_s();
        need((brain ? mask_brain : mask_head)(ct, reference, 0, &mask, &r, &arena, &scratch, &err),
             what);
        double used = cpu_s() - begin;
        wall = r.seconds < wall ? r.seconds : wall;
        cpu = used < cpu ? used : cpu;
    }
    (void)printf("%-5s of %d x %d x %d%-16s %.2f s, %.2f s of CPU, %.0f ml\n", what, ct->grid.nx,
                 ct->grid.ny, ct->grid.nz, reference != NULL ? ", with reference" : "", wall, cpu,
                 r.volume_ml);
    return mask;
}

/* Markers: 6 mm inside and outside the mask's surface; the gradient of the smoothed CT. */
static void flood(const VolumeI16 *ct, const VolumeU8 *brain, const char *dir)
{
    const Grid *g = &ct->grid;
    size_t n = grid_voxels(g);
    VolumeF32 hu = {*g, room(n, sizeof(float))};
    float *mm2 = room(n, sizeof *mm2);
    uint8_t *level = room(n, 1), *marker = room(n, 1), *label = room(n, 1);
    int32_t *next = room(n, sizeof *next);
    for (size_t i = 0; i < n; i++)
        hu.v[i] = ct->v[i];
    need(filter_gauss(&hu, 0.8, 0, &scratch, &err), "gauss");
    need(filter_gradient(&hu, -200, 400, 0, level, &scratch, &err), "gradient");
    distance_squared(g, brain->v, false, 6, 0, mm2);
    for (size_t i = 0; i < n; i++)
        marker[i] = mm2[i] > 36;
    distance_squared(g, brain->v, true, 6, 0, mm2);
    for (size_t i = 0; i < n; i++)
        marker[i] = mm2[i] > 36 ? 2 : marker[i];
    double best = 1e9;
    for (int k = 0; k < REPEAT; k++) {
        memcpy(label, marker, n);
        double begin = cpu_s();
        watershed_flood(g, level, label, next);
        best = cpu_s() - begin < best ? cpu_s() - begin : best;
    }
    (void)printf("flood of %d x %d x %d: ours %.2f s of CPU\n", N, N, NZ, best);
    write_raw(dir, "level", level, n);
    write_raw(dir, "marker", marker, n);
    write_raw(dir, "label", label, n);
}

static double dice(const VolumeU8 *a, const VolumeU8 *b)
{
    double both = 0, sum = 0;
    for (size_t i = 0; i < grid_voxels(&a->grid); i++) {
        both += a->v[i] & b->v[i];
        sum += a->v[i] + b->v[i];
    }
    return 2 * both / sum;
}

/* The head is moved on a grid that is large enough for all of it. */
static void move(const VolumeI16 *ct, const VolumeU8 *head, const VolumeU8 *brain)
{
    const VolumeU8 *masks[2] = {head, brain};
    Grid g = phantom_grid(240, 240, 170, 1.25, 1.25, 1.25);
    size_t n = grid_voxels(&g);
    VolumeI16 moved = {g, room(n, sizeof(int16_t))};
    double least[2] = {1, 1}, sum[2] = {0};
    uint64_t state = 5;
    for (int k = 0; k < MOVES; k++) {
        size_t mark = arena_mark(&arena);
        Affine src_from_moved = phantom_affine(&state, 15, 0.08, 10);
        resample_i16(ct, src_from_moved, -1024, 0, &moved);
        for (int i = 0; i < 2; i++) {
            VolumeU8 want = {g, room(n, 1)}, found;
            MaskResult r;
            resample_mask(masks[i], src_from_moved, 0, &want);
            need((i ? mask_brain : mask_head)(&moved, NULL, 0, &found, &r, &arena, &scratch, &err),
                 "moved");
            double d = dice(&want, &found);
            least[i] = d < least[i] ? d : least[i];
            sum[i] += d / MOVES;
        }
        arena_reset(&arena, mark);
    }
    (void)printf("%d affines, mask of the moved head against the moved mask: Dice head %.4f (least "
                 "%.4f), brain %.4f (least %.4f)\n",
                 MOVES, sum[0], least[0], sum[1], least[1]);
}

int main(int argc, char **argv)
{
    VolumeI16 head, t1;
    RegResult r;
    if (argc != 4)
        return 2;
    need(arena_open((size_t)4 << 30, &arena, &err), "memory");
    need(arena_open((size_t)4 << 30, &scratch, &err), "memory");
    need(import_inv3(argv[1], &arena, &head, &err), argv[1]);
    need(volume_read(argv[2], &arena, &t1, NULL, &err), argv[2]);
    const RegOptions options = {.fixed_modality = REG_CT, .moving_modality = REG_MR, .dof = 12};
    need(reg_affine(&head, &t1, &options, &r, &scratch, &err), "registration");
    const MaskReference reference = {&t1, r.moving_from_fixed};
    VolumeU8 small_head = measure("head", &head, NULL, false);
    VolumeU8 small_brain = measure("brain", &head, NULL, true);
    VolumeU8 known_brain = measure("brain", &head, &reference, true);
    VolumeI16 big = enlarge(&head);
    (void)measure("head", &big, NULL, false);
    VolumeU8 big_brain = measure("brain", &big, NULL, true);
    (void)measure("brain", &big, &reference, true);
    size_t n = grid_voxels(&head.grid);
    write_raw(argv[3], "ct", head.v, 2 * n);
    write_raw(argv[3], "brain", small_brain.v, n);
    write_raw(argv[3], "known", known_brain.v, n);
    char grid[128];
    int length = snprintf(grid, sizeof grid, "%d %d %d %.6f %.6f %.6f\n", head.grid.nx,
                          head.grid.ny, head.grid.nz, grid_spacing_mm(&head.grid, 0),
                          grid_spacing_mm(&head.grid, 1), grid_spacing_mm(&head.grid, 2));
    write_raw(argv[3], "grid", grid, (size_t)length);
    move(&head, &small_head, &small_brain);
    flood(&big, &big_brain, argv[3]);
    arena_close(&scratch);
    arena_close(&arena);
    return 0;
}
