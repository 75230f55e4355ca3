/* pipeline/intensity.h: CT and MR told apart by their numbers, and neither where these do not tell;
** Colin27 and its simulated CT, changed as files of such are. */
#include "tests/test.h"

#include "base/arena.h"
#include "pipeline/intensity.h"
#include "pipeline/nifti.h"
#include "pipeline/simulate.h"

#include <unistd.h>

#define TEMPLATES "/usr/share/mricron/templates/"

static Arena arena, scratch;
static Err err;

/* What value * times + plus is, of those below `floor` that number; the first voxel is `first`. */
static Modality changed(const VolumeI16 *from, double times, int plus, int least, int first)
{
    size_t n = grid_voxels(&from->grid), mark = arena_mark(&scratch);
    int16_t *v = arena_alloc(&scratch, n, sizeof *v, &err);
    CHECK(v != NULL);
    for (size_t i = 0; i < n; i++) {
        double x = times * from->v[i] + plus;
        v[i] = (int16_t)lrint(fmin(fmax(x, least), INT16_MAX));
    }
    if (first != 0)
        v[0] = (int16_t)first;
    Modality modality = modality_of(v, n, 1);
    arena_reset(&scratch, mark);
    return modality;
}

TEST_TIMEOUT(modality_of_heads,
             "clear CT and MR, one wrong voxel or not; clipped, shifted, padded ones are neither",
             180)
{
    static const TissueHu tissue = {8, 38, 29};
    SimulatedHead head;
    VolumeI16 ct, mr;
    if (access(TEMPLATES "ch2.nii.gz", R_OK) != 0)
        SKIP("mricron-data is not installed");
    CHECK_OK(arena_open((size_t)4 << 30, &arena, &err), &err);
    CHECK_OK(arena_open((size_t)4 << 30, &scratch, &err), &err);
    CHECK_OK(simulate_head(TEMPLATES "ch2.nii.gz", TEMPLATES "ch2bet.nii.gz", 0, &head, &arena,
                           &scratch, &err),
             &err);
    CHECK_OK(simulate_ct(&head, &tissue, &ct, &arena, &err), &err);
    CHECK_OK(nifti_read(TEMPLATES "ch2.nii.gz", &arena, &mr, &err), &err);
    const int none = INT16_MIN;
    CHECK_INT(changed(&ct, 1, 0, none, 0), MODALITY_CT);
    CHECK_INT(changed(&ct, 1, 0, none, 30000), MODALITY_CT);
    CHECK_INT(changed(&ct, 1, 0, -500, 0), MODALITY_CT); /* as research volumes often are */
    CHECK_INT(changed(&ct, 1, 0, -400, 0), MODALITY_UNKNOWN);
    CHECK_INT(changed(&ct, 1, 1024, none, 0), MODALITY_UNKNOWN);
    CHECK_INT(changed(&ct, 1, 0, 0, 0), MODALITY_UNKNOWN); /* cut at 0 */
    CHECK_INT(changed(&ct, 1, 8192, none, 0), MODALITY_UNKNOWN);
    CHECK_INT(changed(&ct, 4, 4000, none, 0), MODALITY_UNKNOWN);  /* 4 (HU + 1000) */
    CHECK_INT(changed(&ct, 0.5, 500, none, 0), MODALITY_UNKNOWN); /* density, scaled */
    size_t n = grid_voxels(&mr.grid);
    VolumeI16 window = {ct.grid, arena_alloc(&scratch, n, sizeof *window.v, &err)};
    static const int HIGHEST[] = {80, 200, 1000};
    CHECK(window.v != NULL);
    for (size_t k = 0; k < sizeof HIGHEST / sizeof *HIGHEST; k++) {
        for (size_t i = 0; i < n; i++)
            window.v[i] = ct.v[i] < HIGHEST[k] ? ct.v[i] : (int16_t)HIGHEST[k];
        CHECK_INT(changed(&window, 1, 0, 0, 0), MODALITY_UNKNOWN);
        if (HIGHEST[k] < 1000) /* as a picture of 8 bits; bone alone is not enough of it */
            CHECK_INT(changed(&window, 255.0 / HIGHEST[k], 0, 0, 0), MODALITY_UNKNOWN);
    }
    static const double times[] = {0.25, 1, 3, 8, 9.3, 10, 12, 40};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        (void)printf("# MR times %g\n", times[i]);
        CHECK_INT(changed(&mr, times[i], 0, none, 0), MODALITY_MR);
        CHECK_INT(changed(&mr, times[i], 0, none, -600), MODALITY_MR);
        CHECK_INT(changed(&mr, times[i], -1024, none, 0), MODALITY_UNKNOWN);
    }
    CHECK_INT(changed(&mr, 1, -40, none, 0), MODALITY_UNKNOWN); /* standardised: air is negative */
    for (size_t i = 0; i < n; i++)                              /* the background padded */
        mr.v[i] = mr.v[i] < 10 ? -1024 : mr.v[i];
    CHECK_INT(changed(&mr, 1, 0, none, 0), MODALITY_UNKNOWN);
    arena_close(&scratch);
    arena_close(&arena);
}

TEST(modality_of_scaled,
     "limits are of the numbers before they were scaled; nothing at all is an MR")
{
    enum { N = 1000 };
    int16_t v[N];
    for (int i = 0; i < N; i++) /* half air, then fat, soft tissue, bone */
        v[i] = i < 500 ? -1000 : i < 560 ? -90 : i < 900 ? 40 : 700;
    CHECK_INT(modality_of(v, N, 1), MODALITY_CT);
    CHECK_INT(modality_of(v, N, 3), MODALITY_UNKNOWN); /* air at -333 */
    for (int i = 0; i < N; i++)
        v[i] = (int16_t)(v[i] / 2);
    CHECK_INT(modality_of(v, N, 0.5), MODALITY_CT);
    memset(v, 0, sizeof v);
    CHECK_INT(modality_of(v, N, 1), MODALITY_MR);
}

TEST(mr_scale_fits_int16, "only numbers that int16 cannot hold or tell apart are scaled, to 4095")
{
    CHECK(mr_scale(254, true) == 1 && mr_scale(1, true) == 1 && mr_scale(0, false) == 1);
    CHECK(mr_scale(255, false) == 1 && mr_scale(32767, false) == 1);
    CHECK_NEAR(1 * mr_scale(1, false), 4095, 1e-9);
    CHECK_NEAR(32768 * mr_scale(32768, true), 4095, 1e-9);
    CHECK_NEAR(1e6 * mr_scale(1e6, false), 4095, 1e-9);
}
