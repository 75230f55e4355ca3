/* Makes the series that the benchmark runs on: the real head of a .inv3 file, resampled to 170
** slices of 512 x 512, as DICOM.   big_series CRANIUM.inv3 DIR */
#include "dicom/write.h"
#include "pipeline/import.h"
#include "registration/resample.h"

#include <stdio.h>

enum { N = 512, NZ = 170 };

int main(int argc, char **argv)
{
    Err err = {0};
    Arena arena;
    VolumeI16 head;
    if (argc != 3 || arena_open((size_t)1 << 30, &arena, &err) != ST_OK ||
        import_inv3(argv[1], &arena, &head, &err) != ST_OK)
        return fprintf(stderr, "big_series: %s\n", err.msg), 1;
    double sx = (double)head.grid.nx / N, sy = (double)head.grid.ny / N;
    double sz = (double)head.grid.nz / NZ;
    Affine head_vox_from_big = {{{sx, 0, 0, 0}, {0, sy, 0, 0}, {0, 0, sz, 0}}};
    VolumeI16 big = {{N, N, NZ, affine_mul(head.grid.lps_from_vox, head_vox_from_big)}, NULL};
    big.v = arena_alloc(&arena, grid_voxels(&big.grid), sizeof *big.v, &err);
    if (big.v == NULL)
        return fprintf(stderr, "big_series: %s\n", err.msg), 1;
    resample_i16(&head, affine_identity(), -1024, 0, &big);
    if (dicom_write_ct(&big, "HFS", argv[2], &err) != ST_OK)
        return fprintf(stderr, "big_series: %s\n", err.msg), 1;
    arena_close(&arena);
    return 0;
}
