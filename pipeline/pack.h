/* From paired CT and MR to a packed file (gpu/pack_file.h), through the very steps of a job: the
** network is trained on what it will be given.
**
** A pair of volumes: the CT is aligned to the reference head, masked and gated as in a job; the MR
** is registered to the CT; both are resampled once onto the model's grid; the MR is scaled to 0..1
** between two percentiles inside the mask. Slices are left out, and counted, that have no mask,
** that are wider than the grid, or where the MR's field of view ends inside the mask.
** Thread: one call at a time; parallel inside. */
#ifndef CT2MR_PIPELINE_PACK_H
#define CT2MR_PIPELINE_PACK_H

#include "base/digest.h"
#include "base/files.h"
#include "base/instance.h"
#include "gpu/pack_file.h"
#include "registration/register.h"

enum { PACK_SKETCH = 64 };

typedef struct PackSeenCase {
    int32_t number;
    uint64_t ct, mr;              /* pack_content() */
    uint64_t sketch[PACK_SKETCH]; /* as PackFacts' */
    double cost;                  /* of the MR's registration; 0 without */
    char id[PACK_ID_SIZE], patient[HEX_SIZE];
} PackSeenCase;

typedef struct PackSeen { /* what has been packed; zero-initialised is none */
    int32_t n, room;
    PackSeenCase *cases; /* owned */
    const char *unit;    /* what their numbers count: "line", or NULL for "case"; static text */
} PackSeen;

typedef struct PackSpec {
    ModelInfo wanted;           /* target, pose, mask, grid, window of the model to come */
    const VolumeI16 *reference; /* borrowed */
    int32_t dof, threads;       /* of the MR's registration: 6 or 12 */
    bool is_registered;         /* the MR lies on the CT as it is: no registration */
    bool any_patient;           /* CT and MR need not be of one patient, nor cases of several */
    double low_percent, high_percent; /* of the MR inside the mask: 0 and 1 */
    bool has_range;                   /* or these intensities instead */
    double low, high;
    const char *sheet_dir; /* for contact sheets; NULL: none */
    const PackSeen *seen;  /* a case with the images of one of these is refused; NULL: none */
} PackSpec;

typedef struct PackFacts { /* what was measured and done; goes into the file's provenance */
    char id[PACK_ID_SIZE];
    int32_t n_all;                                  /* slices of the grid, or pictures */
    int32_t n_slices, n_empty, n_wide, n_uncovered; /* packed; left out: no mask, too wide, no MR */
    int32_t
        n_partial; /* of the packed: a fifth or more of the mask has one and the same MR value */
    int64_t ct_white,
        mr_white; /* of pictures: pixels of 250 and more, as bone is in a CT's window */
    RegResult reference, pair; /* the CT's and the MR's registration */
    double mask_ml, mr_low, mr_high;
    uint64_t ct_content, mr_content; /* pack_content() of the images */
    uint64_t ct_sketch[PACK_SKETCH]; /* pack_sketch() of the CT */
    char patient[HEX_SIZE];          /* as Instance's key; "": not known, or not to be compared */
} PackFacts;

/* A sum over values in which their order is of no matter: a turned copy has it, too. */
uint64_t pack_content(const float *values, size_t n);
uint64_t pack_content_hu(const int16_t *hu, size_t n);
/* The least of the contents of those slices that have three values or more, ascending; the rest
** UINT64_MAX: two series that share most of their slices share some of these. */
void pack_sketch(const int16_t *hu, size_t pixels, int32_t n, uint64_t ret[PACK_SKETCH]);
/* Errors: PACK_CASE: the CT or the MR is that of a case seen, whose number is named, or the CT has
** slices of it; SERIES_PATIENT: one patient in both. */
MUST_CHECK Status pack_seen_check(const PackSeen *seen, const PackFacts *facts, Err *err);
MUST_CHECK Status pack_seen_add(PackSeen *seen, int32_t number, const PackFacts *facts, Err *err);
/* Which cases' MR fits its CT by a cost of more than twice the median of the others: they may be
** another head's, and are to be looked at. Of fewer than four cases none. ret_odd: [seen->n].
** Errors: NO_MEMORY. */
MUST_CHECK Status pack_seen_odd(const PackSeen *seen, bool *ret_odd, Err *err);
void pack_seen_free(PackSeen *seen);

/* Is the MR of the CT's head, by its registration: overlap, cost, scales. Errors: REG_QUALITY,
** PACK_CASE (a cost so low that it is a CT). */
MUST_CHECK Status pack_registration_gate(const RegResult *r, Err *err);
/* Is the MR a CT? By its values (a twentieth as low as air), by Pearson's correlation with the CT's
** HU inside the mask (0.9 either way; bone is bright in CT and dark in MR), and in soft tissue
** (0.8). Errors: PACK_CASE. */
MUST_CHECK Status pack_mr_gate(const float *values, size_t n, Err *err);
/* Blank slices between others, or one slice twice: what a broken export leaves. That others are in
** their place is not looked at. Errors: PACK_CASE. */
MUST_CHECK Status pack_mr_slices_gate(const VolumeF32 *mr, Err *err);
MUST_CHECK Status pack_pair_gate(const int16_t *hu, const float *mr, const uint8_t *mask, size_t n,
                                 Err *err);
/* Of the voxels in the mask that have HU from low to high; of fewer than 100: 0. */
double pack_correlation(const int16_t *hu, const float *mr, const uint8_t *mask, size_t n,
                        int16_t low_hu, int16_t high_hu);

/* Where a slice of the packed file runs to (PackInfo.axes): the reference's in-plane axes, "LP" for
** pose native. Errors: REFERENCE (its slices are not axial). */
MUST_CHECK Status pack_axes(const PackSpec *spec, char ret[3], Err *err);
/* The PackInfo to create a writer with. Errors: those of pack_axes(). */
MUST_CHECK Status pack_info_for(const PackSpec *spec, PackInfo *ret, Err *err);
/* The first 16 hex digits of SHA-256 over salt and name. */
void pack_case_id(const char *salt, const char *name, char ret[PACK_ID_SIZE]);

/* One pair of volumes, each a DICOM folder or a NIfTI file, becomes one case. Nothing is written on
** failure. Errors: those of reading, which name the list's column and no path, of a job's steps up
** to the window, PACK_CASE (nothing left to pack, two patients, an MR without contrast),
** REG_QUALITY, REG_OVERLAP. */
MUST_CHECK Status pack_pair(const PackSpec *spec, const char *id, const char *ct_path,
                            const char *mr_path, PackWriter *writer, PackFacts *ret, Err *err);

/* Slices of a case that are 2-D pictures of one size: grey PNG files of the same names in two
** folders, NAME = case, then three digits. HU = window floor + grey / 255 * window width. */
typedef struct PngPair {
    char name[64]; /* of the case */
    char ct[PATH_SIZE], mr[PATH_SIZE];
    int32_t ct_number, mr_number; /* as PngOdd.number */
} PngPair;
typedef struct PngOdd { /* a picture that cannot be packed */
    bool is_mr;         /* of the MR's folder, else of the CT's */
    int32_t number;     /* its place among the folder's PNG files by name, from 1 */
    const char *why;    /* static text */
} PngOdd;

typedef struct PngList {
    PngPair *pairs; /* [n], owned: in order of case and number */
    PngOdd *odd;    /* [n_odd], owned: without a partner, or a name without a number */
    int32_t n, n_odd;
} PngList;
/* Errors: NOT_FOUND (no pair), NO_MEMORY. ret is to be freed, on failure too. */
MUST_CHECK Status pack_png_list(const char *ct_dir, const char *mr_dir, PngList *ret, Err *err);
void pack_png_list_free(PngList *list);
/* pairs[0..n) of one case: centred on the grid, turned as the reference lies, masked by the largest
** part of the CT. Errors: those of png_read_grey(), PACK_CASE (also: sizes of a pair differ);
** a picture is named by its number and folder. */
MUST_CHECK Status pack_png_case(const PackSpec *spec, const char *id, const PngPair *pairs,
                                int32_t n, PackWriter *writer, PackFacts *ret, Err *err);

/* Percentiles of the numbers where mask is 1, from at most a million of them, evenly chosen.
** False if there are none or all are equal. */
bool pack_percentiles(const float *values, const uint8_t *mask, size_t n, double low_percent,
                      double high_percent, double *ret_low, double *ret_high);

/* Of a slice's mask, the part in which the MR has its most frequent value, within a millionth: from
** 4096 places at most, evenly chosen. An MR that is not there is padding: one value. 0: no mask. */
double pack_one_value_frac(const float *mr, const uint8_t *mask, size_t n);
/* The MR becomes 0..1 between the two intensities of spec, which go into facts; 0 outside the mask.
** Errors: PACK_CASE: one intensity, or more than a fifth of the mask lies beyond one of the two. */
MUST_CHECK Status pack_scale_mr(const PackSpec *spec, const uint8_t *mask, size_t n, float *mr,
                                PackFacts *facts, Err *err);

/* What is too large in one case is that case's failure, not the pack's. Returns PACK_CASE. */
Status pack_case_limit(Err *err);

typedef struct PackPair { /* a row of the list of cases */
    char name[128], ct[PATH_SIZE], mr[PATH_SIZE];
    int32_t line; /* of the file, from 1 */
} PackPair;
/* A CSV file with the columns case, ct, mr in its first line that is not blank; lines end with LF,
** CRLF or CR; paths count from the file's folder. *ret is
** malloc'ed. Errors: NOT_FOUND, IO, LIMIT, USAGE (the line is named), NO_MEMORY. */
MUST_CHECK Status pack_list_read(const char *path, PackPair **ret, int32_t *ret_n, Err *err);

#endif
