/* What the numbers of a volume say where no header does: CT or MR, and how an MR fits int16.
** Thread: any. */
#ifndef CT2MR_PIPELINE_INTENSITY_H
#define CT2MR_PIPELINE_INTENSITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum Modality { MODALITY_UNKNOWN, MODALITY_CT, MODALITY_MR } Modality;

const char *modality_name(Modality modality); /* "CT", "MR", "" */
/* By shares of the voxels, of which a few wrong ones change nothing. Measured limits: intensity.c.
**   v      [n] `scale` times the numbers that are judged
** CT: air, fat and soft tissue where they are in HU. MR: next to nothing below 0, and not a CT in
** another unit or stored too high, nor one cut at 0 or at a window's ends. Else UNKNOWN: those, and
** what is padded or standardised. */
Modality modality_of(const int16_t *v, size_t n, double scale);
/* By what an MR's numbers are multiplied: 1 where int16 can hold them and tell them apart, else so
** that the largest becomes 4095.
**   largest   greatest absolute value
**   is_whole  they are whole numbers: few of them are told apart all the same */
double mr_scale(double largest, bool is_whole);

#endif
