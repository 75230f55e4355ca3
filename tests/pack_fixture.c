/* See pack_fixture.h. */
#include "tests/pack_fixture.h"

#include "base/random.h"
#include "tests/test.h"

typedef struct Blob {
    double x, y, z, radius, hu;
} Blob;

enum { N_BLOBS = 6 };

static double hu_at(const Blob *blobs, double x, double y, double z)
{
    double hu = 35;
    for (int b = 0; b < N_BLOBS; b++) {
        double dx = x - blobs[b].x, dy = y - blobs[b].y, dz = z - blobs[b].z;
        hu +=
            blobs[b].hu * exp(-(dx * dx + dy * dy + dz * dz) / (blobs[b].radius * blobs[b].radius));
    }
    return hu < 0 ? 0 : hu > 80 ? 80 : hu;
}

/* Coordinates in shares of the side, -0.5..0.5. */
static void draw_slice(const Blob *blobs, int32_t pixels, double z, int16_t *hu, uint8_t *mask,
                       uint16_t *mr)
{
    for (int32_t i = 0; i < pixels * pixels; i++) {
        double x = (i % pixels + 0.5) / pixels - 0.5, y = (i / pixels + 0.5) / pixels - 0.5;
        bool inside = x * x / 0.14 + y * y / 0.2 < 1;
        hu[i] = inside ? (int16_t)lround(hu_at(blobs, x, y, z)) : -1000;
        mask[i] = inside;
        mr[i] = inside ? (uint16_t)lround(65535 * (0.9 - 0.6 * hu[i] / 80.0)) : 0;
    }
}

void pack_fixture_write(const char *path, int32_t pixels, int32_t n_cases, int32_t n_slices,
                        double slice_mm)
{
    Err err = {0};
    PackWriter *writer;
    size_t n = (size_t)pixels * (size_t)pixels;
    int16_t *hu = malloc(n * sizeof *hu);
    uint8_t *mask = malloc(n);
    uint16_t *mr = malloc(n * sizeof *mr);
    CHECK(hu != NULL && mask != NULL && mr != NULL);
    const PackInfo info = {.pixels = pixels,
                           .spacing_mm = 4,
                           .window_level_hu = 40,
                           .window_width_hu = 80,
                           .pose = POSE_NATIVE,
                           .mask = MASK_HEAD,
                           .target = "T1"};
    CHECK_OK(pack_create(path, &info, &writer, &err), &err);
    for (int32_t c = 0; c < n_cases; c++) {
        Random random = random_stream(99, (uint64_t)c, 0);
        Blob blobs[N_BLOBS];
        for (int b = 0; b < N_BLOBS; b++)
            blobs[b] =
                (Blob){random_between(&random, -0.25, 0.25), random_between(&random, -0.3, 0.3),
                       random_between(&random, -0.3, 0.3), random_between(&random, 0.06, 0.2),
                       random_between(&random, -45, 45)};
        char id[PACK_ID_SIZE];
        (void)snprintf(id, sizeof id, "%016x", (unsigned)c + 1);
        CHECK_OK(pack_begin_case(writer, id, slice_mm, &err), &err);
        for (int32_t z = 0; z < n_slices; z++) {
            draw_slice(blobs, pixels, (z + 0.5) / n_slices - 0.5, hu, mask, mr);
            CHECK_OK(pack_add_slice(writer, hu, mask, mr, &err), &err);
        }
    }
    CHECK_OK(pack_end(writer, "{}", &err), &err);
    free(hu);
    free(mask);
    free(mr);
}

void pack_fixture_window(const void *context, const int16_t *hu, const uint8_t *mask, int32_t n,
                         float *ret_x)
{
    static const float MEAN[3] = {0.485f, 0.456f, 0.406f}, STD[3] = {0.229f, 0.224f, 0.225f};
    (void)context;
    for (int c = 0; c < 3; c++)
        for (int32_t i = 0; i < n; i++) {
            float norm = mask[i] == 0 ? 0 : hu[i] < 0 ? 0 : hu[i] > 80 ? 1 : (float)hu[i] / 80;
            ret_x[c * n + i] = (norm - MEAN[c]) / STD[c];
        }
}
