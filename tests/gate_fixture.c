/* See gate_fixture.h. */
#include "tests/gate_fixture.h"

#include "pipeline/mask.h"
#include "tests/test.h"

static VolumeI16 make(PhantomKind kind, Arena *arena)
{
    Err err = {0};
    VolumeI16 v = {.grid = phantom_grid(NX, NY, NZ, 2.2, 2.2, 2.8)};
    v.v = arena_alloc(arena, grid_voxels(&v.grid), sizeof *v.v, &err);
    CHECK(v.v != NULL);
    const PhantomOptions options = {.kind = kind,
                                    .image_from_head = affine_identity(),
                                    .noise = kind == PHANTOM_CT ? 8 : 0,
                                    .seed = 3};
    phantom_fill(&options, &v);
    return v;
}

GateFixture gate_fixture_open(void)
{
    GateFixture f;
    Err err = {0};
    MaskResult result;
    CHECK_OK(arena_open((size_t)512 << 20, &f.arena, &err), &err);
    CHECK_OK(arena_open((size_t)512 << 20, &f.scratch, &err), &err);
    f.ct = make(PHANTOM_CT, &f.arena);
    f.mr = make(PHANTOM_MR, &f.arena);
    CHECK_OK(mask_head(&f.ct, NULL, 1, &f.mask, &result, &f.arena, &f.scratch, &err), &err);
    return f;
}

void gate_fixture_close(GateFixture *f)
{
    arena_close(&f->scratch);
    arena_close(&f->arena);
}
