/* The packed file: paired CT and MR slices on the model's grid, what training and evaluation read.
**
** One file, in order of case and z, read through mmap:
**
**   8 bytes     "CT2MRPK1"
**   8 bytes     length of the JSON, little-endian
**   JSON        what PackInfo says, the case table, statistics of each slice, the arrays' places
**   0 bytes     up to a multiple of 4096, and behind each array likewise
**   hu          int16 [n_slices][pixels][pixels], little-endian
**   mask        uint8, the same shape
**   mr          uint16, the same shape
**
** Reading survives a hostile or cut file: every length, offset, table and mask byte is checked
** before anything is used, each failure with its own message. The file must not be written into
** while it is open (mmap); it is made under another name and renamed, so that it never is by us.
** There is no patient data in it but the pictures: cases are named by a salted hash.
** Thread: a Pack may be read from any number of threads; a PackWriter belongs to one. */
#ifndef CT2MR_GPU_PACK_FILE_H
#define CT2MR_GPU_PACK_FILE_H

#include "gpu/model.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { PACK_ID_SIZE = 17, PACK_MAX_SLICES = 1 << 18, PACK_MAX_CASES = 1 << 14 };

typedef struct PackCase {
    char id[PACK_ID_SIZE]; /* 16 hex digits: salted hash of what names the case */
    int32_t first_slice, n_slices;
    double slice_spacing_mm; /* of the slices in the file; 0: slices are not neighbours */
} PackCase;

/* Of a slice's windowed values (0..1) inside the mask: what the out-of-distribution score is made
** of. All 0 for a slice without mask. */
typedef struct PackStatistics {
    float masked_frac, mean, deviation; /* share of the slice's pixels; mean and standard dev. */
} PackStatistics;

typedef struct PackInfo {
    int32_t n_slices, n_cases, pixels; /* slices are pixels x pixels, a multiple of 32 */
    double spacing_mm, window_level_hu, window_width_hu;
    ModelPose pose;
    ModelInterpolation interpolation; /* from the CT's grid to this one */
    ModelMask mask;
    char target[8]; /* "T1", "T2" */
    /* Where a slice's columns and rows run to: "L" or "R", then "P" or "A"; "" to the writer is
    ** "LP". Pictures are shown with columns to the patient's left and rows to the back. */
    char axes[3];
    char digest[65];                  /* SHA-256 of the whole file */
    const PackCase *cases;            /* [n_cases] */
    const PackStatistics *statistics; /* [n_slices] */
    const char *provenance; /* JSON text: how the file was made, each case's registration */
} PackInfo;

typedef struct Pack Pack;

/* Errors: NOT_FOUND, IO, PACK_FORMAT, NO_MEMORY. Reads the whole file once (digest, checks). */
MUST_CHECK Status pack_open(const char *path, Pack **ret, Err *err);
void pack_close(Pack *pack); /* NULL is fine */
const PackInfo *pack_info(const Pack *pack);
/* Valid until pack_close(); slice in 0..n_slices-1. */
const int16_t *pack_hu(const Pack *pack, int32_t slice);   /* [pixels][pixels] HU, not windowed */
const uint8_t *pack_mask(const Pack *pack, int32_t slice); /* [pixels][pixels] 1 inside, else 0 */
/* [pixels][pixels] 0..65535 = 0..1; 0 outside the mask. */
const uint16_t *pack_mr(const Pack *pack, int32_t slice);
/* The first 16 hex digits of SHA-256 over a case's HU: the same for one CT under any salt. */
void pack_ct_digest(const Pack *pack, int32_t case_index, char ret[PACK_ID_SIZE]);

/* ---- writing: pack_create(), for each case pack_begin_case() and its slices, pack_end() ---- */

#define PACK_MAGIC "CT2MRPK1" /* a file's first bytes */

typedef struct PackWriter PackWriter;

/* `info`: pixels, spacing_mm, window, pose, mask and target are read. Nothing is at `path` before
** pack_end(). Errors: USAGE (a field that no reader would accept), IO, NO_MEMORY. */
MUST_CHECK Status pack_create(const char *path, const PackInfo *info, PackWriter **ret, Err *err);
/* id and slice_spacing_mm as in PackCase. Errors: USAGE (id malformed or there already), LIMIT. */
MUST_CHECK Status pack_begin_case(PackWriter *writer, const char *id, double slice_spacing_mm,
                                  Err *err);
/* Arrays as in pack_hu() and the others; mr outside the mask is written as 0.
** Errors: STATE (no case begun, or pack_has_failed()), USAGE (a mask byte above 1), LIMIT, IO,
** DISK_FULL. */
MUST_CHECK Status pack_add_slice(PackWriter *writer, const int16_t *hu, const uint8_t *mask,
                                 const uint16_t *mr, Err *err);
/* True once a slice could not be written: the file is lost, whatever comes. */
bool pack_has_failed(const PackWriter *writer);
/* provenance: JSON text of an object. Durable: fsync, rename, fsync of the folder. Frees the
** writer, on failure too. Errors: STATE (a case without slices, no case, pack_has_failed()), USAGE
** (provenance is not JSON), IO, DISK_FULL. */
MUST_CHECK Status pack_end(PackWriter *writer, const char *provenance, Err *err);
/* pack_end() then fails (IO) if something is at the path by then, instead of replacing it. */
void pack_must_be_new(PackWriter *writer);
/* Gives up; nothing is left of the file. NULL is fine. */
void pack_abandon(PackWriter *writer);

#ifdef __cplusplus
}
#endif
#endif
