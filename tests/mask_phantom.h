/* A head with a skull, openings in it and equipment around it, whose masks are known exactly: every
** voxel of a scene carries its truth. LPS mm, centre of the skull at the origin. For tests of
** pipeline/mask.h; scenes live in mask_arena until the test ends. */
#ifndef CT2MR_TESTS_MASK_PHANTOM_H
#define CT2MR_TESTS_MASK_PHANTOM_H

#include "base/arena.h"
#include "pipeline/mask.h"

typedef enum MaskExtra {
    COUCH = 1,         /* slab of two thin shells with foam between, 8 mm below the head */
    HOLDER = 2,        /* U-shaped shell around the back of the head, on foam */
    POSTS = 4,         /* four metal rods, joined to the skull by thin pins */
    THERMOPLAST = 8,   /* thin shell 8 mm off the face, open for nose and ears */
    BURR_HOLE = 16,    /* 14 mm through the skull */
    CRANIECTOMY = 32,  /* 60 mm of skull missing, under the skin */
    TEMPLE = 64,       /* thick muscle on a thin temple with a hole of 18 mm to the cavity */
    CONTACT = 128,     /* the couch touches the head */
    BOARD = 256,       /* a solid board of 15 mm under the head, pressed 3 mm into the scalp */
    BLOOD = 512,       /* 75 HU, and a bubble of air beside it, inside the skull */
    CLIP = 1024,       /* a metal clip in the brain */
    BLOCK = 2048,      /* a cube of metal of 36 mm, a frame's corner, against the skin */
    STRIP = 4096,      /* a plate as small as an ear, 3 mm off the skin, out of the field of view */
    BAND = 8192,       /* a strap of 110 mm, 3 mm off the skin */
    SHOULDERS = 16384, /* more soft tissue, and deeper, than the brain */
    PETROUS = 32768,   /* thick bone into the cavity, on the left, with a canal of 8 mm */
    OPEN_AIR = 65536   /* air in the skull after surgery, from the bone to 45 mm deep */
} MaskExtra;

enum { IS_HEAD = 1, IS_BRAIN = 2, IS_EQUIPMENT = 4, IS_FAR = 8, IS_MUSCLE = 16 };

typedef struct MaskScene {
    unsigned extras;
    double noise_hu;
    Affine head_from_lps; /* identity unless the head is moved */
    bool is_t1;           /* an MR of the same head, without equipment */
    VolumeI16 ct;
    uint8_t *truth; /* IS_* bits */
} MaskScene;

extern Arena mask_arena, mask_scratch; /* open after the first scene */

void mask_open_arenas(void);
/* All in the grid; with is_t1 an MR of the head alone. */
MaskScene mask_scene_in(unsigned extras, Grid grid, Affine head_from_lps, bool is_t1);
/* 240 x 260 mm around the head, z from low to high. */
MaskScene mask_scene(unsigned extras, double pixel_mm, double slice_mm, double low_mm,
                     double high_mm);
/* Fills ct and truth for ct.grid. */
void mask_scene_fill(MaskScene *scene);
/* (x / rx)^2 + (y / ry)^2 + (z / rz)^2 from the centre c: at most 1 inside. */
double mask_ellipsoid(Vec3 p, double cx, double cy, double cz, double rx, double ry, double rz);
/* Is p inside the skin? */
bool mask_in_head(unsigned extras, Vec3 p);
/* Is p in the air of OPEN_AIR? */
bool mask_open_air(Vec3 p);
/* Is p in the canal of PETROUS, away from its mouth? */
bool mask_canal(Vec3 p);
double mask_dice(const MaskScene *scene, const VolumeU8 *mask, unsigned bit);
/* Voxels with the bit that the mask holds. */
int64_t mask_inside(const MaskScene *scene, const VolumeU8 *mask, unsigned bit);

#endif
