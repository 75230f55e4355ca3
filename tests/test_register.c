/* registration/register.h: transforms that are exactly known must be found again.
**
** Method: a head phantom imaged twice, as CT and as MR or CT, under a random affine (rotation to
** 20 degrees and shift to 40 mm per axis, scale 0.9-1.1); and the Colin27 head against a CT
** simulated from it. Judged by the target registration error: the distance over the head between
** what the found and the true transform make of a point. Limits: a fifth of a voxel in the mean.
*/
#include "tests/test.h"

#include "base/parallel.h"
#include "pipeline/nifti.h"
#include "registration/register.h"
#include "registration/resample.h"
#include "tests/head_phantom.h"

#include <unistd.h>

#define ARENA_BYTES ((size_t)1 << 30)
#define COLIN27 "/usr/share/mricron/templates/ch2.nii.gz"
#define COLIN27_BRAIN "/usr/share/mricron/templates/ch2bet.nii.gz"

static Arena arena;
static Err err;

static void open_arena(void)
{
    CHECK_OK(arena_open(ARENA_BYTES, &arena, &err), &err);
}

static VolumeI16 make_volume(Grid grid)
{
    VolumeI16 v = {grid, arena_alloc(&arena, grid_voxels(&grid), sizeof *v.v, &err)};
    CHECK(v.v != NULL);
    return v;
}

static VolumeI16 ct_of(Affine image_from_head, uint64_t seed)
{
    PhantomOptions options = {PHANTOM_CT, image_from_head, 12, true, seed};
    VolumeI16 v = make_volume(phantom_grid(190, 190, 92, 1.3, 1.3, 2.5));
    phantom_fill(&options, &v);
    return v;
}

static VolumeI16 mr_of(Affine image_from_head, uint64_t seed)
{
    PhantomOptions options = {PHANTOM_MR, image_from_head, 8, false, seed};
    VolumeI16 v = make_volume(phantom_grid(170, 190, 170, 1.4, 1.4, 1.4));
    phantom_fill(&options, &v);
    return v;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Registers phantoms of several seeds; median of the mean and greatest of the greatest error. */
static void run_seeds(RegModality moving, int n_seeds, double *ret_median_mm, double *ret_max_mm)
{
    double mean[16], most;
    *ret_max_mm = 0;
    for (int s = 0; s < n_seeds; s++) {
        size_t mark = arena_mark(&arena);
        uint64_t state = (uint64_t)(100 + s);
        Affine truth = phantom_affine(&state, 20, 0.1, 40);
        VolumeI16 f = ct_of(affine_identity(), state + 1);
        VolumeI16 m = moving == REG_CT ? ct_of(truth, state + 2) : mr_of(truth, state + 2);
        RegResult r;
        RegOptions options = {REG_CT, moving, 12, 0};
        CHECK_OK(reg_affine(&f, &m, &options, &r, &arena, &err), &err);
        phantom_tre(r.moving_from_fixed, truth, affine_identity(), &mean[s], &most);
        (void)printf("# seed %d: mean %.3f mm, max %.3f mm, cost %.4f, overlap %.3f, runner-up "
                     "%.2f mm, back %.2f mm, %.2f s\n",
                     s, mean[s], most, r.cost, r.overlap_frac, r.runner_up_mm, r.inverse_mm,
                     r.seconds);
        *ret_max_mm = fmax(*ret_max_mm, most);
        CHECK(r.overlap_frac > 0.6 && r.cost < 0.3);
        CHECK_NEAR(r.score_mm, hypot(r.inverse_mm, r.runner_up_mm), 1e-9);
        CHECK(r.score_mm < 4 && r.inverse_mm > 0 && r.runner_up_mm > 0);
        CHECK_NEAR(r.determinant, affine_det(r.moving_from_fixed), 1e-12);
        CHECK(r.scale_min > 0.85 && r.scale_max < 1.15 && r.scale_min <= r.scale_max);
        arena_reset(&arena, mark);
    }
    qsort(mean, (size_t)n_seeds, sizeof *mean, compare);
    *ret_median_mm = mean[n_seeds / 2];
}

TEST_TIMEOUT(register_ct_to_mr_phantom,
             "3 random affines are found: median < 0.3 mm, worst point < 0.8 mm", 180)
{
    double median, most;
    open_arena();
    run_seeds(REG_MR, 3, &median, &most);
    CHECK(median < 0.3);
    CHECK(most < 0.8);
}

TEST_TIMEOUT(register_ct_to_ct_phantom,
             "2 random affines are found: median < 0.2 mm, worst point < 0.5 mm", 180)
{
    double median, most;
    open_arena();
    run_seeds(REG_CT, 2, &median, &most);
    CHECK(median < 0.2);
    CHECK(most < 0.5);
}

TEST_TIMEOUT(register_score_of_a_wrong_result,
             "a trunk laid on a head: there and back are more than 12 mm apart", 180)
{
    open_arena();
    VolumeI16 f = make_volume(phantom_grid(190, 190, 92, 2.6, 2.6, 2.5));
    phantom_fill_body(5, &f);
    VolumeI16 m = mr_of(affine_identity(), 2);
    RegOptions options = {REG_CT, REG_MR, 12, 0};
    RegResult r;
    CHECK_OK(reg_affine(&f, &m, &options, &r, &arena, &err), &err);
    (void)printf("# cost %.3f, back %.1f mm, runner-up %.1f mm\n", r.cost, r.inverse_mm,
                 r.runner_up_mm);
    CHECK(r.score_mm > 12);
}

TEST_TIMEOUT(register_fewer_degrees_of_freedom,
             "6: rigid to 1e-12 and right; 7: one scale; 9: three scales", 180)
{
    open_arena();
    uint64_t state = 7;
    Affine truth = phantom_affine(&state, 15, 0, 30);
    VolumeI16 f = ct_of(affine_identity(), 1), m = mr_of(truth, 2);
    static const int dofs[] = {6, 7, 9};
    for (int i = 0; i < 3; i++) {
        RegOptions options = {REG_CT, REG_MR, dofs[i], 0};
        RegResult r;
        double mean, most;
        CHECK_OK(reg_affine(&f, &m, &options, &r, &arena, &err), &err);
        phantom_tre(r.moving_from_fixed, truth, affine_identity(), &mean, &most);
        (void)printf("# dof %d: mean %.3f mm, max %.3f mm\n", dofs[i], mean, most);
        CHECK(mean < 0.3 && most < 0.8);
        if (dofs[i] == 6)
            CHECK(fabs(r.scale_min - 1) < 1e-12 && fabs(r.scale_max - 1) < 1e-12);
        if (dofs[i] == 7)
            CHECK(r.scale_max - r.scale_min < 1e-9);
        const Affine *l = &r.moving_from_fixed; /* 9: scales along the fixed axes, no shear */
        for (int a = 0; a < 3; a++)
            CHECK_NEAR(l->m[0][a] * l->m[0][(a + 1) % 3] + l->m[1][a] * l->m[1][(a + 1) % 3] +
                           l->m[2][a] * l->m[2][(a + 1) % 3],
                       0, 1e-9);
    }
}

TEST_TIMEOUT(register_same_bits_on_any_number_of_threads,
             "1 and 2 threads: all result fields equal", 180)
{
    open_arena();
    uint64_t state = 3;
    Affine truth = phantom_affine(&state, 20, 0.1, 40);
    VolumeI16 f = ct_of(affine_identity(), 1), m = mr_of(truth, 2);
    RegResult first, r;
    size_t mark = arena_mark(&arena);
    for (int threads = 1; threads <= 2; threads++) {
        RegOptions options = {REG_CT, REG_MR, 12, threads};
        CHECK_OK(reg_affine(&f, &m, &options, &r, &arena, &err), &err);
        if (threads == 1)
            first = r;
        first.seconds = r.seconds = 0;
        CHECK(memcmp(&first, &r, sizeof r) == 0);
    }
    CHECK_INT(arena_mark(&arena), mark);
}

TEST(register_without_a_head_fails, "air, a constant image and a thin slab are refused with a code")
{
    open_arena();
    VolumeI16 head = ct_of(affine_identity(), 1), air = make_volume(head.grid);
    for (size_t i = 0; i < grid_voxels(&air.grid); i++)
        air.v[i] = -1000;
    RegResult untouched, r;
    memset(&r, 0x5a, sizeof r);
    untouched = r;
    RegOptions ct = {REG_CT, REG_CT, 12, 0}, mr = {REG_CT, REG_MR, 12, 0}, odd = {.dof = 8};
    CHECK_STATUS(reg_affine(&air, &head, &ct, &r, &arena, &err), ST_REG_OVERLAP);
    CHECK(strstr(err.msg, "fixed") != NULL);
    err = (Err){0};
    CHECK_STATUS(reg_affine(&head, &air, &ct, &r, &arena, &err), ST_REG_OVERLAP);
    CHECK(strstr(err.msg, "moving") != NULL);
    err = (Err){0};
    CHECK_STATUS(reg_affine(&head, &air, &mr, &r, &arena, &err), ST_REG_OVERLAP);
    VolumeI16 slab = head;
    slab.grid.nz = 1;
    slab.v += 45 * head.grid.nx * head.grid.ny;
    err = (Err){0};
    CHECK_STATUS(reg_affine(&head, &slab, &ct, &r, &arena, &err), ST_REG_OVERLAP);
    err = (Err){0};
    CHECK_STATUS(reg_affine(&head, &head, &odd, &r, &arena, &err), ST_USAGE);
    CHECK(memcmp(&r, &untouched, sizeof r) == 0);
}

TEST(register_small_arena_is_limit, "scratch memory too small: LIMIT, arena as before")
{
    Arena small;
    open_arena();
    VolumeI16 head = ct_of(affine_identity(), 1);
    CHECK_OK(arena_open((size_t)4 << 20, &small, &err), &err);
    RegOptions ct = {REG_CT, REG_CT, 12, 0};
    RegResult r;
    CHECK_STATUS(reg_affine(&head, &head, &ct, &r, &small, &err), ST_LIMIT);
    CHECK_INT(small.used_bytes, 0);
}

/* Piecewise linear through n points. */
static double ramp(double x, int n, const double at[], const double value[])
{
    if (x <= at[0])
        return value[0];
    for (int i = 1; i < n; i++)
        if (x < at[i])
            return value[i - 1] + (value[i] - value[i - 1]) * (x - at[i - 1]) / (at[i] - at[i - 1]);
    return value[n - 1];
}

/* v becomes (a + 2b + c) / 4 of the neighbours along one axis. */
static void smooth_axis(VolumeI16 *v, size_t stride)
{
    size_t n = grid_voxels(&v->grid);
    int16_t *copy = malloc(n * sizeof *copy);
    CHECK(copy != NULL);
    memcpy(copy, v->v, n * sizeof *copy);
    for (size_t i = stride; i + stride < n; i++)
        v->v[i] = (int16_t)((copy[i - stride] + 2 * copy[i] + copy[i + stride] + 2) / 4);
    free(copy);
}

/* Marks (1) the voxels <= limit that reach the volume's border. */
static void flood_background(const VolumeI16 *v, int limit, uint8_t *ret)
{
    const size_t nx = (size_t)v->grid.nx, ny = (size_t)v->grid.ny, nz = (size_t)v->grid.nz;
    const size_t n = nx * ny * nz, stride[3] = {1, nx, nx * ny}, size[3] = {nx, ny, nz};
    uint32_t *stack = malloc(n * sizeof *stack);
    size_t top = 0;
    CHECK(stack != NULL);
    for (size_t i = 0; i < n; i++) {
        size_t x = i % nx, y = i / nx % ny;
        ret[i] = (x == 0 || y == 0 || x == nx - 1 || y == ny - 1) && v->v[i] <= limit;
        if (ret[i])
            stack[top++] = (uint32_t)i;
    }
    while (top > 0) {
        size_t i = stack[--top];
        for (int a = 0; a < 3; a++) {
            size_t at = i / stride[a] % size[a];
            for (int up = 0; up < 2; up++) {
                size_t j = up ? i + stride[a] : i - stride[a];
                if ((up ? at + 1 < size[a] : at > 0) && !ret[j] && v->v[j] <= limit) {
                    ret[j] = 1;
                    stack[top++] = (uint32_t)j;
                }
            }
        }
    }
    free(stack);
}

/* Grows a mask by `reach` voxels along one axis. */
static void grow_axis(const Grid *g, uint8_t *mask, int axis, int reach)
{
    const size_t stride[3] = {1, (size_t)g->nx, (size_t)g->nx * (size_t)g->ny};
    const int size[3] = {g->nx, g->ny, g->nz};
    for (size_t i = 0; i < grid_voxels(g); i++) {
        if (mask[i] != 1)
            continue;
        int at = (int)(i / stride[axis] % (size_t)size[axis]);
        for (int d = -reach; d <= reach; d++) {
            size_t j = i + (size_t)((int64_t)d * (int64_t)stride[axis]);
            if (at + d >= 0 && at + d < size[axis] && mask[j] == 0)
                mask[j] = 2;
        }
    }
    for (size_t i = 0; i < grid_voxels(g); i++)
        mask[i] = mask[i] != 0;
}

/* HU from the T1 value, by tissue: brain (inside the brain image), bone (dark, near the brain), air
** and cartilage (dark, further away), muscle to fat by brightness. Air outside. */
static VolumeI16 simulate_ct(const VolumeI16 *t1, const VolumeI16 *brain)
{
    static const double brain_t1[] = {0, 28, 48, 72, 88, 108, 140};
    static const double brain_hu[] = {8, 8, 23, 38, 35, 29, 28};
    static const double soft_t1[] = {38, 70, 120, 170, 254};
    static const double soft_hu[] = {60, 50, 30, -80, -110};
    static const double bone_t1[] = {5, 25, 38}, bone_hu[] = {1300, 900, 350};
    size_t n = grid_voxels(&t1->grid);
    VolumeI16 smooth = make_volume(t1->grid), ct = make_volume(t1->grid);
    uint8_t *near = malloc(n), *background = malloc(n);
    CHECK(near != NULL && background != NULL);
    memcpy(smooth.v, t1->v, n * sizeof *t1->v);
    for (int pass = 0; pass < 2; pass++) {
        smooth_axis(&smooth, 1);
        smooth_axis(&smooth, (size_t)t1->grid.nx);
        smooth_axis(&smooth, (size_t)t1->grid.nx * (size_t)t1->grid.ny);
    }
    for (size_t i = 0; i < n; i++)
        near[i] = brain->v[i] > 0;
    for (int axis = 0; axis < 3; axis++)
        grow_axis(&t1->grid, near, axis, 12);
    flood_background(&smooth, 14, background);
    for (size_t i = 0; i < n; i++) {
        double s = smooth.v[i], v;
        if (brain->v[i] > 0)
            v = ramp(t1->v[i], 7, brain_t1, brain_hu);
        else if (background[i])
            v = -1000;
        else if (s >= 38)
            v = ramp(t1->v[i], 5, soft_t1, soft_hu);
        else if (near[i])
            v = ramp(s, 3, bone_t1, bone_hu);
        else
            v = s < 16 ? -900 : 250;
        ct.v[i] = (int16_t)lrint(v);
    }
    free(near);
    free(background);
    return ct;
}

/* A scan of the simulated head: other grid, noise, a table. */
static VolumeI16 scan(const VolumeI16 *head, Affine head_from_scan, uint64_t seed)
{
    VolumeI16 v = make_volume(phantom_grid(220, 220, 90, 1.1, 1.1, 2.5));
    resample_i16(head, head_from_scan, -1000, 0, &v);
    uint64_t state = seed;
    size_t i = 0;
    for (int z = 0; z < v.grid.nz; z++)
        for (int y = 0; y < v.grid.ny; y++)
            for (int x = 0; x < v.grid.nx; x++, i++) {
                double noise = 0;
                for (int k = 0; k < 4; k++)
                    noise += phantom_random(&state) - 0.5;
                if (y >= 213 && y < 217 && v.v[i] < -900)
                    v.v[i] = -60;
                v.v[i] = (int16_t)(v.v[i] + lrint(noise * sqrt(3.0) * 12));
            }
    return v;
}

TEST_TIMEOUT(register_simulated_ct_to_colin27,
             "3 random affines are found: mean < 0.1 mm, worst point < 0.13 mm", 180)
{
    if (access(COLIN27, R_OK) != 0 || access(COLIN27_BRAIN, R_OK) != 0)
        SKIP("mricron-data is not installed");
    open_arena();
    VolumeI16 t1, brain;
    CHECK_OK(nifti_read(COLIN27, &arena, &t1, &err), &err);
    CHECK_OK(nifti_read(COLIN27_BRAIN, &arena, &brain, &err), &err);
    CHECK(grid_equal(&t1.grid, &brain.grid, 1e-3));
    VolumeI16 head = simulate_ct(&t1, &brain);
    for (int s = 0; s < 3; s++) {
        uint64_t state = (uint64_t)(40 + s);
        /* The phantom's head space, with Colin27's centre at its origin. */
        Affine scan_from_head = phantom_affine(&state, 20, 0.1, 15), head_from_scan;
        CHECK(affine_inverse(scan_from_head, &head_from_scan));
        Affine colin_from_head = affine_identity();
        colin_from_head.m[1][3] = 18;
        colin_from_head.m[2][3] = 10;
        Affine truth = affine_mul(colin_from_head, head_from_scan);
        VolumeI16 ct = scan(&head, truth, state);
        RegOptions options = {REG_CT, REG_MR, 12, 0};
        RegResult r;
        double mean, most;
        CHECK_OK(reg_affine(&ct, &t1, &options, &r, &arena, &err), &err);
        phantom_tre(r.moving_from_fixed, truth, scan_from_head, &mean, &most);
        (void)printf("# seed %d: mean %.3f mm, max %.3f mm, cost %.4f, overlap %.3f, runner-up "
                     "%.2f mm, %.2f s\n",
                     s, mean, most, r.cost, r.overlap_frac, r.runner_up_mm, r.seconds);
        CHECK(mean < 0.1 && most < 0.13); /* 0.14 to 0.15 without mutual information */
    }
}

/* What a thermoplastic shell of the open face and skull looks like: 0 HU around the tissue, thicker
** than what finding the head cuts off; none under the head. */
static void add_shell(VolumeI16 *v, int gap, int thickness, int y_end)
{
    size_t n = grid_voxels(&v->grid), nx = (size_t)v->grid.nx, ny = (size_t)v->grid.ny;
    uint8_t *inner = malloc(n), *outer = malloc(n);
    CHECK(inner != NULL && outer != NULL);
    for (size_t i = 0; i < n; i++)
        inner[i] = v->v[i] > -400;
    for (int axis = 0; axis < 2; axis++)
        grow_axis(&v->grid, inner, axis, gap);
    memcpy(outer, inner, n);
    for (int axis = 0; axis < 2; axis++)
        grow_axis(&v->grid, outer, axis, thickness);
    for (size_t i = 0; i < n; i++)
        if (outer[i] && !inner[i] && i / nx % ny < (size_t)y_end)
            v->v[i] = 0;
    free(inner);
    free(outer);
}

TEST_TIMEOUT(register_a_cut_head_in_a_shell,
             "pitched by 40 degrees, a fifth smaller, without base, in a shell: mean < 1 mm", 180)
{
    if (access(COLIN27, R_OK) != 0 || access(COLIN27_BRAIN, R_OK) != 0)
        SKIP("mricron-data is not installed");
    enum { FIRST_SLICE = 40, GAP = 2, THICKNESS = 6, Y_END = 140 };
    open_arena();
    VolumeI16 t1, brain;
    CHECK_OK(nifti_read(COLIN27, &arena, &t1, &err), &err);
    CHECK_OK(nifti_read(COLIN27_BRAIN, &arena, &brain, &err), &err);
    const double degree = acos(-1.0) / 180, p = 40 * degree, q = 20 * degree, scale = 0.8;
    Affine pitch = {{{1, 0, 0, 0}, {0, cos(p), -sin(p), 0}, {0, sin(p), cos(p), 0}}};
    Affine roll = {{{cos(q), 0, sin(q), 0}, {0, 1, 0, 0}, {-sin(q), 0, cos(q), 0}}};
    Affine smaller = {{{scale, 0, 0, 0}, {0, scale, 0, 0}, {0, 0, scale, 0}}}, head_from_scan;
    Affine scan_from_head = affine_mul(affine_mul(pitch, roll), smaller);
    CHECK(affine_inverse(scan_from_head, &head_from_scan));
    Affine colin_from_head = affine_identity();
    colin_from_head.m[1][3] = 18;
    colin_from_head.m[2][3] = 10;
    Affine truth = affine_mul(colin_from_head, head_from_scan);
    VolumeI16 head = simulate_ct(&t1, &brain), ct = scan(&head, truth, 77);
    add_shell(&ct, GAP, THICKNESS, Y_END);
    ct.v += (size_t)FIRST_SLICE * (size_t)ct.grid.nx * (size_t)ct.grid.ny;
    ct.grid.nz -= FIRST_SLICE;
    ct.grid.lps_from_vox.m[2][3] += FIRST_SLICE * ct.grid.lps_from_vox.m[2][2];
    RegOptions options = {REG_CT, REG_MR, 12, 0};
    RegResult r;
    double mean, most;
    CHECK_OK(reg_affine(&ct, &t1, &options, &r, &arena, &err), &err);
    phantom_tre(r.moving_from_fixed, truth, scan_from_head, &mean, &most);
    (void)printf("# mean %.3f mm, max %.3f mm, cost %.4f, score %.2f mm, scales %.2f to %.2f\n",
                 mean, most, r.cost, r.score_mm, r.scale_min, r.scale_max);
    CHECK(mean < 1.0 && most < 3.0);
}
