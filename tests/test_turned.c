/* registration/turned, and its gate. Claims, on the real head and Colin27: right way round it fits
** better than turned by more than the gate wants, whole and cut to the vertex; with its header
** turned by 180 degrees the same vertex fits worse so, and is refused. Skipped where
** invesalius-examples or mricron-data is not installed. */
#include "tests/test.h"

#include "pipeline/import.h"
#include "pipeline/nifti.h"
#include "pipeline/steps.h"
#include "pipeline/turn.h"

#include <unistd.h>

#define CRANIUM "/usr/share/doc/invesalius-examples/examples/Cranium.inv3"
#define COLIN27 "/usr/share/mricron/templates/ch2.nii.gz"
#define VERTEX_MM 87.0

typedef struct Heads {
    Arena arena;
    VolumeI16 ct, t1;
} Heads;

static bool open_heads(Heads *h)
{
    Err err = {0};
    VolumeI16 read;
    *h = (Heads){0};
    if (access(CRANIUM, R_OK) != 0 || access(COLIN27, R_OK) != 0)
        return false;
    CHECK_OK(arena_open((size_t)4 << 30, &h->arena, &err), &err);
    CHECK_OK(import_volume(CRANIUM, &h->arena, &read, &err), &err);
    CHECK_OK(volume_turn(&read, "LP", &h->arena, &h->ct, &err), &err);
    CHECK_OK(nifti_read(COLIN27, &h->arena, &h->t1, &err), &err);
    return true;
}

/* The uppermost slices, as a view. */
static VolumeI16 vertex_of(const VolumeI16 *ct)
{
    VolumeI16 v = *ct;
    int32_t n = (int32_t)lrint(VERTEX_MM / grid_spacing_mm(&ct->grid, 2)), cut = ct->grid.nz - n;
    CHECK(cut > 0 && ct->grid.lps_from_vox.m[2][2] > 0);
    v.grid.nz = n;
    v.v += (size_t)cut * (size_t)ct->grid.nx * (size_t)ct->grid.ny;
    v.grid.lps_from_vox.m[2][3] += cut * ct->grid.lps_from_vox.m[2][2];
    return v;
}

/* As a header with the wrong patient position says: half a turn about the long axis. */
static VolumeI16 backwards(const VolumeI16 *ct)
{
    VolumeI16 v = *ct;
    const Affine half = {{{-1, 0, 0, 0}, {0, -1, 0, 0}, {0, 0, 1, 0}}};
    v.grid.lps_from_vox = affine_mul(half, v.grid.lps_from_vox);
    return v;
}

static RegResult registered(Heads *h, const VolumeI16 *ct, const VolumeI16 *to,
                            RegModality modality)
{
    const RegOptions options = {REG_CT, modality, 12, 0};
    RegResult r;
    Err err = {0};
    CHECK_OK(reg_affine(ct, to, &options, &r, &h->arena, &err), &err);
    (void)printf(
        "# turned %.3f nats, score %.2f mm, cost %.3f, overlap %.2f, scales %.2f to %.2f\n",
        r.turned_nats, r.score_mm, r.cost, r.overlap_frac, r.scale_min, r.scale_max);
    return r;
}

TEST_TIMEOUT(turned_right_way_round, "the real head, whole and its vertex: at least 0.1 nats", 180)
{
    Heads h;
    Err err = {0};
    if (!open_heads(&h))
        SKIP("invesalius-examples or mricron-data is not installed");
    const VolumeI16 vertex = vertex_of(&h.ct);
    RegResult whole = registered(&h, &h.ct, &h.t1, REG_MR);
    RegResult part = registered(&h, &vertex, &h.t1, REG_MR);
    CHECK(whole.turned_nats > 0.1 && part.turned_nats > 0.1);
    CHECK_OK(align_gate(&whole, &err), &err);
    CHECK_OK(align_gate(&part, &err), &err);
    arena_close(&h.arena);
}

TEST_TIMEOUT(turned_backwards, "the vertex backwards is refused, to the MR and to its own CT", 180)
{
    Heads h;
    Err err = {0};
    if (!open_heads(&h))
        SKIP("invesalius-examples or mricron-data is not installed");
    const VolumeI16 vertex = vertex_of(&h.ct), turned = backwards(&vertex);
    RegResult to_mr = registered(&h, &turned, &h.t1, REG_MR);
    CHECK(to_mr.turned_nats < 0);
    CHECK_STATUS(align_gate(&to_mr, &err), ST_REG_QUALITY);
    CHECK(strstr(err.msg, "facing another way") != NULL);
    RegResult to_ct = registered(&h, &h.ct, &turned, REG_CT);
    CHECK(to_ct.turned_nats < 0);
    CHECK_STATUS(align_gate(&to_ct, &err), ST_REG_QUALITY);
    arena_close(&h.arena);
}
