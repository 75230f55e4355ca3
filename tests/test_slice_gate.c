/* pipeline/slice_gate: what slices tell of each other. Claims: a good head passes with room, each
** planted fault is named by its slices. */
#include "pipeline/slice_gate.h"

#include "tests/gate_fixture.h"
#include "tests/test.h"

static Status gate(const VolumeI16 *ct, const char *what, SliceFit *ret, Err *err)
{
    Status status = slice_gate(ct, 2.5, 2, ret, err);
    (void)printf("# %s: misfit %.2f of %d, exchange %.2f after %d, jump %.2f after %d, moved %.1f, "
                 "sides %.2f "
                 "after %d, order %.2f of %d to %d\n",
                 what, ret->misfit, ret->misfit_at, ret->exchange, ret->exchange_after, ret->jump,
                 ret->jump_after, ret->moved_mm, ret->sides, ret->sides_after, ret->order,
                 ret->order_first, ret->order_last);
    return status;
}

static void exchange_slices(GateFixture *f, size_t a, size_t b)
{
    static int16_t keep[NX * NY];
    size_t n = NX * NY;
    memcpy(keep, f->ct.v + a * n, sizeof keep);
    memmove(f->ct.v + a * n, f->ct.v + b * n, sizeof keep);
    memcpy(f->ct.v + b * n, keep, sizeof keep);
}

TEST(slice_gate_names_the_slice, "a good head passes; one blank, half blank, shifted, offset slice")
{
    GateFixture f = gate_fixture_open();
    size_t n = NX * NY;
    int16_t *slice = f.ct.v + 36 * n, keep[NX * NY];
    SliceFit fit;
    Err err = {0};
    CHECK_OK(gate(&f.ct, "good", &fit, &err), &err);
    CHECK(fit.misfit < 0.8 && fit.exchange < 1.05 && fit.jump < 2.45);
    memcpy(keep, slice, sizeof keep);
    for (int fault = 0; fault < 4; fault++) {
        for (size_t i = 0; i < n; i++) {
            size_t x = i % NX;
            slice[i] = fault == 0   ? -1024
                       : fault == 1 ? (x < NX / 2 ? -1024 : keep[i])
                       : fault == 2 ? keep[i - x + (x + 12) % NX]
                                    : (int16_t)(keep[i] + 60);
        }
        CHECK_STATUS(gate(&f.ct, "spoilt", &fit, &err), ST_SERIES_JUMP);
        CHECK_INT(fit.misfit_at, 36);
        CHECK(strstr(err.msg, "slice 37 is ") != NULL);
    }
    memcpy(slice, keep, sizeof keep);
    CHECK_OK(gate(&f.ct, "good again", &fit, &err), &err);
    gate_fixture_close(&f);
}

TEST(slice_gate_neighbours_exchanged, "anywhere, at both ends of the head, in the middle, by name")
{
    GateFixture f = gate_fixture_open();
    for (size_t z = 4; z < 66; z += 5) {
        SliceFit fit;
        Err err = {0};
        exchange_slices(&f, z, z + 1);
        CHECK_STATUS(gate(&f.ct, "exchanged", &fit, &err), ST_SERIES_JUMP);
        CHECK_INT(fit.exchange_after, z);
        CHECK(fit.exchange > 1.15);
        exchange_slices(&f, z, z + 1);
    }
    gate_fixture_close(&f);
}

TEST(slice_gate_blank_at_the_vertex, "one blank slice where the head ends")
{
    GateFixture f = gate_fixture_open(); /* the head ends in slice 69 */
    static int16_t keep[NX * NY];
    size_t n = NX * NY;
    for (size_t z = 63; z < 68; z++) {
        SliceFit fit;
        Err err = {0};
        memcpy(keep, f.ct.v + z * n, sizeof keep);
        for (size_t i = 0; i < n; i++)
            f.ct.v[z * n + i] = -1000;
        CHECK_STATUS(gate(&f.ct, "blank", &fit, &err), ST_SERIES_JUMP);
        memcpy(f.ct.v + z * n, keep, sizeof keep);
    }
    gate_fixture_close(&f);
}

TEST(slice_gate_two_heads, "the lower half from a head that is a quarter wider")
{
    GateFixture f = gate_fixture_open();
    SliceFit fit;
    Err err = {0};
    for (size_t row = 0; row < (size_t)NY * 36; row++)
        for (size_t x = 0; x < NX; x++) {
            static int16_t keep[NX];
            if (x == 0)
                memcpy(keep, f.ct.v + row * NX, sizeof keep);
            size_t from = 10 + x * 4 / 5;
            f.ct.v[row * NX + x] = keep[from];
        }
    CHECK_STATUS(gate(&f.ct, "another head", &fit, &err), ST_SERIES_JUMP);
    CHECK_INT(fit.jump_after, 35);
    CHECK(strstr(err.msg, "slices 36 and 37 differ") != NULL);
    gate_fixture_close(&f);
}

/* A ring of the given HU around the head, in slices [first, end). */
static void add_ring(GateFixture *f, size_t first, size_t end, double inner_mm, double outer_mm,
                     double from_x_mm, int16_t hu)
{
    for (size_t z = first; z < end; z++)
        for (size_t y = 0; y < NY; y++)
            for (size_t x = 0; x < NX; x++) {
                double u = ((double)x - 0.5 * (NX - 1)) * 2.2,
                       v = ((double)y - 0.5 * (NY - 1)) * 2.2;
                double r = hypot(u / 77, v / 97) * 87; /* as the head's outline is wide */
                int16_t *at = f->ct.v + (z * NY + y) * NX + x;
                if (r > 87 + inner_mm && r < 87 + outer_mm && u > from_x_mm && *at < -300)
                    *at = hu;
            }
}

TEST(slice_gate_passes_what_is_right,
     "a bolus with square ends, a ring in two slices, a 2.2 mm move")
{
    static const struct {
        const char *what;
        size_t first, end;
        double inner_mm, outer_mm, from_x_mm;
        int16_t hu;
    } RINGS[] = {{"bolus of 10 mm", 30, 44, 0, 10, 0, 0},
                 {"bolus of 20 mm", 30, 44, 0, 20, 0, 0},
                 {"ring in two slices", 36, 38, 6, 14, -1000, 3000}};
    for (size_t k = 0; k < sizeof RINGS / sizeof RINGS[0]; k++) {
        GateFixture f = gate_fixture_open();
        SliceFit fit;
        Err err = {0};
        add_ring(&f, RINGS[k].first, RINGS[k].end, RINGS[k].inner_mm, RINGS[k].outer_mm,
                 RINGS[k].from_x_mm, RINGS[k].hu);
        CHECK_OK(gate(&f.ct, RINGS[k].what, &fit, &err), &err);
        gate_fixture_close(&f);
    }
    for (size_t pixels = 1; pixels <= 3; pixels += 2) {
        GateFixture f = gate_fixture_open();
        SliceFit fit;
        Err err = {0};
        for (size_t row = (size_t)NY * NZ; row-- > (size_t)NY * 36;)
            memmove(f.ct.v + row * NX + pixels, f.ct.v + row * NX, (NX - pixels) * sizeof *f.ct.v);
        Status status = gate(&f.ct, pixels == 1 ? "moved 2.2 mm" : "moved 6.6 mm", &fit, &err);
        CHECK_INT(status, pixels == 1 ? ST_OK : ST_SERIES_JUMP);
        gate_fixture_close(&f);
    }
}

/* What the gate says when slices [first, end) are blank; -1: the head ends nowhere. */
static int32_t end_after_blank(GateFixture *f, size_t first, size_t end, Status want)
{
    static int16_t keep[NX * NY * NZ];
    size_t n = NX * NY;
    SliceFit fit;
    Err err = {0};
    size_t size = grid_voxels(&f->ct.grid) * sizeof keep[0];
    memcpy(keep, f->ct.v, size);
    for (size_t i = first * n; i < end * n; i++)
        f->ct.v[i] = -1024;
    CHECK_STATUS(gate(&f->ct, "blank", &fit, &err), want);
    (void)printf("# end %.0f mm2 per mm after %d\n", fit.end_mm, fit.end_after);
    memcpy(f->ct.v, keep, size);
    return fit.end_mm > 1500 ? fit.end_after : -1;
}

TEST(slice_gate_blank_from_some_slice_on,
     "all slices from 8 mm below the vertex on, the first one, the first ten")
{
    GateFixture f = gate_fixture_open(); /* the head ends in slice 69 */
    for (size_t z = 50; z <= 66; z += 4)
        CHECK_INT(end_after_blank(&f, z, NZ, ST_SERIES_JUMP), z - 1);
    CHECK_INT(end_after_blank(&f, 69, NZ, ST_OK), -1);
    f.ct.v += 24 * NX * NY; /* the phantom's neck has no bone */
    f.ct.grid.nz -= 24;
    CHECK_INT(end_after_blank(&f, 0, 1, ST_SERIES_JUMP), 0);
    CHECK_INT(end_after_blank(&f, 0, 10, ST_SERIES_JUMP), 9);
    gate_fixture_close(&f);
}

TEST(slice_gate_passes_plates, "a plate across the axis above the vertex, a thick board that ends")
{
    for (int k = 0; k < 2; k++) {
        GateFixture f = gate_fixture_open();
        SliceFit fit;
        Err err = {0};
        size_t n = NX * NY;
        memmove(f.ct.v, f.ct.v + 12 * n, (NZ - 12) * n * sizeof *f.ct.v); /* the head ends in 57 */
        for (size_t z = NZ - 12; z < NZ; z++)                             /* air */
            memcpy(f.ct.v + z * n, f.ct.v + (NZ - 13) * n, n * sizeof *f.ct.v);
        int16_t *v = f.ct.v;
        for (int z = 0; z < NZ; z++)
            for (int y = 0; y < NY; y++)
                for (int x = 0; x < NX; x++, v++)
                    if (k == 0 ? z >= 60 && z < 63 && x > 20 && x < 76 && y > 20 && y < 90
                               : z < 65 && y > 97 && y < 109 && x > 10 && x < 86)
                        *v = (int16_t)((k == 0 ? 600 : 120) + (x * 7 + y * 13 + z * 29) % 23);
        CHECK_OK(gate(&f.ct, k == 0 ? "plate" : "board", &fit, &err), &err);
        gate_fixture_close(&f);
    }
}

TEST(slice_gate_same_image_twice, "a copy of a slice, next to it or far away, exact or within 1 HU")
{
    GateFixture f = gate_fixture_open();
    static const struct {
        size_t from, to;
        int noise;
    } COPIES[] = {{30, 31, 0}, {60, 61, 0}, {2, 3, 0}, {40, 71, 0}, {45, 44, 1}, {58, 59, 1}};
    static int16_t keep[NX * NY];
    size_t n = NX * NY;
    for (size_t k = 0; k < sizeof COPIES / sizeof COPIES[0]; k++) {
        SliceFit fit;
        Err err = {0};
        memcpy(keep, f.ct.v + COPIES[k].to * n, sizeof keep);
        for (size_t i = 0; i < n; i++)
            f.ct.v[COPIES[k].to * n + i] = (int16_t)(f.ct.v[COPIES[k].from * n + i] +
                                                     COPIES[k].noise * ((int)(i * 7919 % 3) - 1));
        Status status = gate(&f.ct, "copy", &fit, &err);
        (void)printf("# repeat %.2f after %d\n", fit.repeat, fit.repeat_after);
        CHECK_INT(status, ST_SERIES_JUMP);
        if (COPIES[k].noise == 0)
            CHECK(strstr(err.msg, "is the same image as") != NULL);
        else
            CHECK(fit.repeat > 5 && fit.repeat_after == (int32_t)(k == 4 ? 44 : 58));
        memcpy(f.ct.v + COPIES[k].to * n, keep, sizeof keep);
    }
    gate_fixture_close(&f);
}

TEST(slice_gate_foreign_end, "the outermost slice from elsewhere; the head cut at either end")
{
    GateFixture f = gate_fixture_open();
    size_t n = NX * NY;
    VolumeI16 part = f.ct;
    part.grid.nz = 40; /* slices 20 to 59 */
    part.v = f.ct.v + 20 * n;
    SliceFit fit;
    Err err = {0};
    CHECK_OK(gate(&part, "cut at both ends", &fit, &err), &err);
    static int16_t keep[NX * NY];
    for (int k = 0; k < 4; k++) {
        int32_t to = k % 2 == 0 ? 0 : 39;
        int16_t *end = part.v + (size_t)to * n;
        memcpy(keep, end, sizeof keep);
        const int16_t *from = f.ct.v + (size_t)(k < 2 ? 33 : 66) * n;
        for (size_t i = 0; i < n; i++) /* another scan of it */
            end[i] = (int16_t)(from[i] + (int)(i * 7919 % 5));
        CHECK_STATUS(gate(&part, "foreign end", &fit, &err), ST_SERIES_JUMP);
        CHECK(fit.stray_at == to || fit.end_after == (to == 0 ? 0 : 38) || fit.jump_after >= 0);
        memcpy(end, keep, sizeof keep);
    }
    int16_t *last = f.ct.v + (NZ - 1) * n; /* air beyond the vertex */
    for (size_t i = 0; i < n; i++)
        last[i] = (int16_t)(f.ct.v[40 * n + i] + (int)(i * 7919 % 5));
    CHECK_STATUS(gate(&f.ct, "foreign beyond the vertex", &fit, &err), ST_SERIES_JUMP);
    CHECK_INT(fit.end_after, NZ - 2);
    gate_fixture_close(&f);
}

TEST(slice_gate_mirrored_slice, "one slice mirrored left to right, up to 9 mm below the vertex")
{
    GateFixture f = gate_fixture_open();
    size_t n = NX * NY; /* the phantom is symmetric; nobody lies exactly in the middle */
    memmove(f.ct.v + 4, f.ct.v, (NZ * n - 4) * sizeof *f.ct.v);
    for (size_t z = 24; z <= 66; z += 6) {
        SliceFit fit;
        Err err = {0};
        for (int back = 0; back < 2; back++) {
            for (size_t y = 0; y < NY; y++)
                for (size_t x = 0; x < NX / 2; x++) {
                    int16_t *row = f.ct.v + z * n + y * NX, keep = row[x];
                    row[x] = row[NX - 1 - x];
                    row[NX - 1 - x] = keep;
                }
            if (back == 0)
                CHECK_STATUS(gate(&f.ct, "mirrored", &fit, &err), ST_SERIES_JUMP);
        }
        CHECK(fit.mirror > 1.1);
        CHECK(fit.mirror_after == (int32_t)z || fit.mirror_after == (int32_t)z - 1);
    }
    gate_fixture_close(&f);
}

/* Mirrors slices [first, end) left to right: column x shows what was at axis - x. */
static void mirror_slices(VolumeI16 *ct, int32_t first, int32_t end, int axis)
{
    for (size_t row = (size_t)first * NY; row < (size_t)end * NY; row++) {
        int16_t keep[NX], *v = ct->v + row * NX;
        memcpy(keep, v, sizeof keep);
        for (int x = 0; x < NX; x++)
            v[x] = axis - x >= 0 && axis - x < NX ? keep[axis - x] : -1000;
    }
}

TEST(slice_gate_half_mirrored,
     "all from some slice on or below it, about any axis near the middle; the rings of a frame do "
     "not matter, nor does a move")
{
    GateFixture f =
        gate_fixture_open(); /* no head is as symmetric as the phantom: turned by 5 degrees */
    const PhantomOptions turned = {.kind = PHANTOM_CT,
                                   .image_from_head = {{{cos(0.09), -sin(0.09), 0, 3},
                                                        {sin(0.09), cos(0.09), 0, 0},
                                                        {0, 0, 1, 0}}},
                                   .noise = 8,
                                   .seed = 4};
    phantom_fill(&turned, &f.ct);
    int16_t *right = arena_alloc(&f.arena, grid_voxels(&f.ct.grid), sizeof *right, &(Err){0});
    CHECK(right != NULL);
    size_t bytes = grid_voxels(&f.ct.grid) * sizeof *right;
    memcpy(right, f.ct.v, bytes);
    int told_by_sides = 0;
    for (int32_t z = 17; z <= 52; z += 5) /* above, the phantom is round */
        for (int32_t upper = 0; upper < 2; upper++)
            for (int axis = NX - 4; axis <= NX + 2; axis += 3) {
                SliceFit fit;
                Err err = {0};
                mirror_slices(&f.ct, upper ? z : 0, upper ? NZ : z, axis);
                CHECK_STATUS(gate(&f.ct, "half mirrored", &fit, &err), ST_SERIES_JUMP);
                if (fit.sides > 0.25)
                    CHECK_INT(fit.sides_after, z - 1);
                told_by_sides += fit.sides > 0.25;
                memcpy(f.ct.v, right, bytes);
            }
    VolumeI16 lying = {phantom_grid(NY, NX, NZ, 2.2, 2.2, 2.8), NULL}; /* on the side */
    lying.v = arena_alloc(&f.arena, grid_voxels(&lying.grid), sizeof *lying.v, &(Err){0});
    CHECK(lying.v != NULL);
    for (int32_t end = 0; end <= 40;
         end += 20) { /* from foot to `end` mirrored side to side; 0: none */
        SliceFit fit;
        Err err = {0};
        mirror_slices(&f.ct, 0, end, NX - 4);
        for (size_t z = 0; z < NZ; z++)
            for (size_t y = 0; y < NY; y++)
                for (size_t x = 0; x < NX; x++)
                    lying.v[(z * NX + x) * NY + y] = f.ct.v[(z * NY + y) * NX + x];
        CHECK_STATUS(gate(&lying, "on the side", &fit, &err), end == 0 ? ST_OK : ST_SERIES_JUMP);
        CHECK(end == 0 ? fit.sides < 0.2 : fit.sides_after == end - 1);
        memcpy(f.ct.v, right, bytes);
    }
    (void)printf("# told by what is not symmetric: %d of 48\n", told_by_sides);
    CHECK(told_by_sides > 40);
    SliceFit fit;
    Err err = {0};
    memmove(f.ct.v + 40 * NX * NY + 1, f.ct.v + 40 * NX * NY, (32 * NX * NY - 1) * sizeof *right);
    CHECK_OK(gate(&f.ct, "moved to the side", &fit, &err), &err);
    CHECK(fit.sides < 0.1 && fit.moved_after == 39);
    gate_fixture_close(&f);
}

TEST(slice_gate_run_reversed, "three slices and many in reverse order")
{
    GateFixture f = gate_fixture_open();
    for (size_t m = 3; m <= 30; m += 3)
        for (size_t first = 8; first + m < 68; first += 8) {
            SliceFit fit;
            Err err = {0};
            for (int back = 0; back < 2; back++) {
                for (size_t i = 0; i < m / 2; i++)
                    exchange_slices(&f, first + i, first + m - 1 - i);
                if (back == 0)
                    CHECK_STATUS(gate(&f.ct, "reversed", &fit, &err), ST_SERIES_JUMP);
            }
            CHECK(fit.order > 1.15 || fit.misfit > 1 || fit.exchange > 1.15);
            if (fit.misfit <= 1 && fit.exchange <= 1.15) {
                CHECK_INT(fit.order_first, (int32_t)first);
                CHECK_INT(fit.order_last, (int32_t)(first + m - 1));
            }
        }
    gate_fixture_close(&f);
}

TEST(slice_gate_one_sided_bolus, "a bolus of 20 mm on the left that ends: no side changes")
{
    GateFixture f = gate_fixture_open();
    SliceFit fit;
    Err err = {0};
    add_ring(&f, 26, 44, 0, 20, 20, -50);
    CHECK_OK(gate(&f.ct, "bolus on one side", &fit, &err), &err);
    CHECK(fit.sides < 0.2);
    gate_fixture_close(&f);
}

TEST(slice_gate_ring_twice, "a ring in two slices, and again in two: no run is reversed")
{
    GateFixture f = gate_fixture_open();
    SliceFit fit;
    Err err = {0};
    add_ring(&f, 30, 32, 6, 14, -1000, 3000);
    add_ring(&f, 40, 42, 6, 14, -1000, 3000);
    CHECK_OK(gate(&f.ct, "ring twice", &fit, &err), &err);
    gate_fixture_close(&f);
}

TEST(slice_gate_slab_missing, "four slices left out, positions made even")
{
    GateFixture f = gate_fixture_open();
    size_t n = NX * NY;
    VolumeI16 part = f.ct;
    memmove(f.ct.v + 50 * n, f.ct.v + 54 * n, (NZ - 54) * n * sizeof *f.ct.v);
    part.grid.nz = NZ - 4;
    SliceFit fit;
    Err err = {0};
    CHECK_STATUS(gate(&part, "slab missing", &fit, &err), ST_SERIES_JUMP);
    CHECK(fit.jump > 2.5);
    CHECK_INT(fit.jump_after, 49);
    gate_fixture_close(&f);
}

TEST(slice_gate_few_or_equal_slices, "three slices, constant air: nothing to say")
{
    static int16_t v[4 * 64 * 64];
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++)
        v[i] = -1000;
    VolumeI16 ct = {.grid = {64, 64, 4, affine_identity()}, .v = v};
    SliceFit fit;
    Err err = {0};
    CHECK_OK(slice_gate(&ct, 2.5, 1, &fit, &err), &err);
    ct.grid.nz = 3;
    CHECK_OK(slice_gate(&ct, 2.5, 1, &fit, &err), &err);
    CHECK_INT(fit.jump_after, -1);
    ct.grid = (Grid){8, 8, 64, affine_identity()};
    CHECK_OK(slice_gate(&ct, 2.5, 1, &fit, &err), &err);
}
