/* What the tests of the slice gate and the head gate share: the phantom's head, whose brain is near
** 35 HU and whose size is known, as CT and MR, with its mask. */
#ifndef CT2MR_TESTS_GATE_FIXTURE_H
#define CT2MR_TESTS_GATE_FIXTURE_H

#include "base/arena.h"
#include "tests/head_phantom.h"

enum { NX = 96, NY = 112, NZ = 72 };

typedef struct GateFixture {
    VolumeI16 ct, mr;
    VolumeU8 mask;
    Arena arena, scratch;
} GateFixture;

GateFixture gate_fixture_open(void);
void gate_fixture_close(GateFixture *f);

#endif
