/* gpu/half.h. Claims: every half survives widening and rounding; what lies between two halves goes
** to the nearer one, a tie to the even one. Exhaustive over all halves. */
#include "tests/test.h"

#include "gpu/half.h"

TEST(half_every_number_survives, "all 65536 halves: to float32 and back")
{
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        float wide = f32_from_f16((uint16_t)bits);
        if (isnan(wide))
            CHECK(isnan(f32_from_f16(f16_from_f32(wide))));
        else
            CHECK_INT(f16_from_f32(wide), bits);
    }
}

TEST(half_rounds_to_nearest_even, "between all neighbours: below, at and above the middle")
{
    for (uint32_t low = 0; low < 0x7bff; low++) { /* up to the largest finite */
        float a = f32_from_f16((uint16_t)low), b = f32_from_f16((uint16_t)(low + 1));
        float middle = (a + b) / 2; /* exact: float32 has 13 bits more */
        CHECK_INT(f16_from_f32(nextafterf(middle, 0)), low);
        CHECK_INT(f16_from_f32(middle), low % 2 == 0 ? low : low + 1);
        CHECK_INT(f16_from_f32(nextafterf(middle, 1e30f)), low + 1);
        CHECK_INT(f16_from_f32(-nextafterf(middle, 1e30f)), 0x8000 | (low + 1));
    }
    CHECK_INT(f16_from_f32(65519.996f), 0x7bff);
    CHECK_INT(f16_from_f32(65520.0f), 0x7c00);
    CHECK_INT(f16_from_f32(-1e30f), 0xfc00);
    CHECK_INT(f16_from_f32(INFINITY), 0x7c00);
}
