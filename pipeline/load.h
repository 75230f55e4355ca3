/* Step "load": files -> one CT volume in HU on a grid whose third axis is the slice normal.
**
** Every file's header is read, the geometry gate decides which images make the volume and in what
** order, then the pixels are decoded straight into their place. Thread: any; parallel inside. */
#ifndef CT2MR_PIPELINE_LOAD_H
#define CT2MR_PIPELINE_LOAD_H

#include "base/arena.h"
#include "dicom/read.h"
#include "pipeline/geometry.h"

enum { LEFT_OUT_SIZE = 224 };

typedef struct CtSeries {
    VolumeI16 ct;                /* HU, clipped to [-1024, 3071] */
    Geometry geometry;           /* geometry.grid == ct.grid */
    CtHeader *headers;           /* [n_slices] ascending along the normal */
    const char **paths;          /* [n_slices] in the same order */
    char pixel_digest[HEX_SIZE]; /* SHA-256 over the slices' digests in that order */
    int32_t n_skipped;           /* files of a folder that are not DICOM */
    int32_t n_subfolders;        /* of a folder; not read */
    char dropped[LEFT_OUT_SIZE]; /* "left out: 2 localizers (files 1, 2)", "" if nothing */
} CtSeries;

/* paths[0..n): all images of one series, in any order; strings are copied to the arena.
** All of *ret lives in arena. On failure only n_skipped, n_subfolders and dropped are written: they
** may be the reason.
** Localizers, and files whose meta information names another class than CT Image Storage, are left
** out and named; a damaged CT image is an error. Files are numbered from 1 in the order of paths:
** their names may hold a patient's.
** Errors: SERIES_NOT_CT, SERIES_MIXED (more than one CT series), those of geometry_check(),
** dicom_read_header(), dicom_read_hu(), HU_SCALE (12 bits that cannot hold air, air that has
** wrapped), LIMIT. */
MUST_CHECK Status load_series(const char *const *paths, int32_t n, const GeometryLimits *limits,
                              int threads, Arena *arena, CtSeries *ret, Err *err);
/* The same for all files of a folder in the order of their names. Files without the DICOM prefix
** are skipped, subfolders not read; both are counted. */
MUST_CHECK Status load_series_dir(const char *dir, const GeometryLimits *limits, int threads,
                                  Arena *arena, CtSeries *ret, Err *err);

/* A folder's DICOM files in the order of their names, and how much else is there. In arena. */
typedef struct Listing {
    const char **paths;
    int32_t n, n_skipped, n_subfolders;
} Listing;
MUST_CHECK Status load_list(const char *dir, Arena *arena, Listing *ret, Err *err);

#endif
