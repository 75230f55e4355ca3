/* See load.h. Two parallel passes over the files: headers, then (after the gate) pixels. Each item
** writes only its own slot; the first error in file order is reported, whatever the thread count.
*/
#include "pipeline/load.h"

#include "base/digest.h"
#include "base/files.h"
#include "base/parallel.h"
#include "dicom/prescan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef enum FileKind { FILE_SLICE, FILE_LOCALIZER, FILE_NOT_CT } FileKind;

typedef struct Loading {
    const char *const *paths;
    FileKind *kinds;      /* [n] in the order of paths */
    CtHeader *headers;    /* [n] likewise; not of a FILE_NOT_CT */
    const int32_t *order; /* slice -> file */
    int16_t *hu;          /* [n_slices][rows][columns] */
    size_t slice_voxels;
    unsigned char (*digests)[DIGEST_SIZE]; /* [n_slices] */
    Err *errors;                           /* [n] */
} Loading;

static void read_header(void *context, int item)
{
    Loading *l = context;
    Err *err = &l->errors[item];
    char class_uid[UID_SIZE];
    if (prescan_media_class(l->paths[item], class_uid, NULL) == ST_OK && class_uid[0] != '\0' &&
        strcmp(class_uid, UID_CT_IMAGE) != 0)
        l->kinds[item] = FILE_NOT_CT; /* not judged: in any syntax, whatever it lacks */
    else if (dicom_read_header(l->paths[item], &l->headers[item], err) != ST_OK)
        (void)err_wrap(err, "file %d", item + 1);
    else if (l->headers[item].instance.geometry.is_localizer)
        l->kinds[item] = FILE_LOCALIZER;
}

static void read_pixels(void *context, int item)
{
    Loading *l = context;
    int file = l->order[item];
    Err *err = &l->errors[item];
    if (dicom_read_hu(l->paths[file], &l->headers[file], l->hu + (size_t)item * l->slice_voxels,
                      l->digests[item], err) != ST_OK)
        (void)err_wrap(err, "slice %d", item + 1);
}

static Status first_error(const Err *errors, int32_t n, Err *err)
{
    for (int32_t i = 0; i < n; i++) {
        if (errors[i].status != ST_OK) {
            if (err != NULL)
                *err = errors[i];
            return errors[i].status;
        }
    }
    return ST_OK;
}

static void digest_series(const Loading *l, int32_t n_slices, char ret[HEX_SIZE])
{
    Digest *digest = digest_new();
    uint8_t sum[DIGEST_SIZE];
    digest_add(digest, l->digests, (size_t)n_slices * DIGEST_SIZE);
    digest_end(digest, sum);
    (void)digest_hex(sum, ret);
}

/* Unsigned numbers of 12 bits and an intercept near 0 hold nothing below it: a scanner or converter
** that wrote so has let air wrap to the top of the range. It can be undone only by guessing, so it
** is refused. */
static Status check_wrap(const CtHeader *headers, const int32_t *order, int32_t n, Err *err)
{
    static const double INTERCEPT_MIN = -100;
    for (int32_t i = 0; i < n; i++) {
        const CtHeader *h = &headers[order[i]];
        if (h->bits_stored == 12 && !h->is_signed && h->slope > 0 && h->intercept > INTERCEPT_MIN)
            return err_set(err, ST_HU_SCALE,
                           "slice %d: 12 bits unsigned with Rescale Intercept %g hold no air: "
                           "negative values have wrapped or were cut off",
                           i + 1, h->intercept);
    }
    return ST_OK;
}

/* The same by what came of it, whatever the header says: the rim of the images is air, and the
** densest a patient has there (teeth, a clip, a plate) is a small part. Measured: right series at
** most 0.002 of the rim, wrapped ones 0.99, or 0.04 where only noise of 14 HU reaches the end. */
static Status check_rim(const VolumeI16 *ct, Err *err)
{
    static const int DENSE_HU = 2000;
    static const double DENSE_MAX = 0.02;
    int64_t rim = 0, dense = 0;
    const Grid *g = &ct->grid;
    const int16_t *v = ct->v;
    for (int32_t z = 0; z < g->nz; z++)
        for (int32_t y = 0; y < g->ny; y++)
            for (int32_t x = 0; x < g->nx; x++, v++) {
                bool is_rim = x == 0 || y == 0 || x == g->nx - 1 || y == g->ny - 1;
                rim += is_rim;
                dense += is_rim && *v >= DENSE_HU;
            }
    double part = (double)dense / (double)rim;
    return part <= DENSE_MAX ? ST_OK
                             : err_set(err, ST_HU_SCALE,
                                       "%.0f %% of the images' rim is at %d HU or more, where air "
                                       "is: negative values have wrapped, or padding is not named",
                                       100 * part, DENSE_HU);
}

/* Decodes the gated slices into ret->ct and puts headers and paths in slice order. */
static Status fill(Loading *l, const Geometry *geometry, const int32_t *order, int threads,
                   Arena *arena, CtSeries *ret, Err *err)
{
    int32_t n = geometry->n_slices;
    size_t voxels = grid_voxels(&geometry->grid);
    CtSeries s = {.geometry = *geometry, .ct = {.grid = geometry->grid}};
    s.ct.v = arena_alloc(arena, voxels, sizeof *s.ct.v, err);
    s.headers = arena_alloc(arena, (size_t)n, sizeof *s.headers, err);
    s.paths = arena_alloc(arena, (size_t)n, sizeof *s.paths, err);
    l->digests = arena_alloc(arena, (size_t)n, sizeof *l->digests, err);
    if (s.ct.v == NULL || s.headers == NULL || s.paths == NULL || l->digests == NULL)
        return ST_LIMIT;
    l->hu = s.ct.v;
    l->order = order;
    l->slice_voxels = voxels / (size_t)n;
    parallel_for(threads, n, read_pixels, l);
    TRY(first_error(l->errors, n, err));
    TRY(check_rim(&s.ct, err));
    for (int32_t i = 0; i < n; i++) {
        s.headers[i] = l->headers[order[i]];
        s.paths[i] = arena_strdup(arena, l->paths[order[i]], err);
        if (s.paths[i] == NULL)
            return ST_LIMIT;
    }
    digest_series(l, n, s.pixel_digest);
    *ret = s;
    return ST_OK;
}

/* ---- what is left out ---- */

__attribute__((format(printf, 2, 3))) static void append(char text[LEFT_OUT_SIZE],
                                                         const char *format, ...)
{
    size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text + used, LEFT_OUT_SIZE - used, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= LEFT_OUT_SIZE - used)
        memcpy(text + LEFT_OUT_SIZE - 4, "...", 4);
}

/* The numbers of the files of one kind: "3, 4, 7-20", after five such "...". */
static void append_numbers(const FileKind *kinds, int32_t n, FileKind kind, char *text)
{
    int n_parts = 0;
    for (int32_t i = 0, end; i < n; i = end) {
        for (end = i; end < n && kinds[end] == kind; end++)
            ;
        if (end == i) {
            end++;
            continue;
        }
        if (end == i + 2)
            end--; /* "3, 4" rather than "3-4" */
        append(text, "%s", n_parts > 0 ? ", " : "");
        if (n_parts++ == 5) {
            append(text, "...");
            return;
        }
        append(text, "%d", i + 1);
        if (end > i + 1)
            append(text, "-%d", end);
    }
}

static void append_kind(const FileKind *kinds, int32_t n, FileKind kind, const char *one,
                        const char *many, char *text)
{
    int32_t count = 0;
    for (int32_t i = 0; i < n; i++)
        count += kinds[i] == kind;
    if (count == 0)
        return;
    append(text, "%s%d %s (file%s ", text[0] == '\0' ? "left out: " : ", ", count,
           count == 1 ? one : many, count == 1 ? "" : "s");
    append_numbers(kinds, n, kind, text);
    append(text, ")");
}

/* ---- one series ---- */

static int compare_counts(const void *a, const void *b)
{
    int32_t p = *(const int32_t *)a, q = *(const int32_t *)b;
    return (q > p) - (q < p);
}

/* A folder may hold several series; the receiver never mixes them, a person may. Up to MAX_SERIES
** are told apart, the larger first. */
static Status one_series(const Instance *images, int32_t n, Err *err)
{
    enum { MAX_SERIES = 8 };
    const Instance *first[MAX_SERIES] = {NULL};
    int32_t counts[MAX_SERIES] = {0};
    int n_series = 0;
    bool more = false, one_patient = true;
    for (int32_t i = 0; i < n; i++) {
        if (images[i].geometry.is_localizer)
            continue;
        int k = 0;
        while (k < n_series && strcmp(first[k]->series_uid, images[i].series_uid) != 0)
            k++;
        more = more || k == MAX_SERIES;
        if (k == MAX_SERIES)
            continue;
        if (k == n_series)
            first[n_series++] = &images[i];
        counts[k]++;
        one_patient = one_patient && strcmp(first[0]->patient_key, images[i].patient_key) == 0;
    }
    if (n_series <= 1)
        return ST_OK;
    qsort(counts, (size_t)n_series, sizeof *counts, compare_counts);
    char text[LEFT_OUT_SIZE] = "";
    for (int k = 0; k < n_series; k++)
        append(text, "%s%d", k > 0 ? ", " : "", counts[k]);
    return err_set(err, ST_SERIES_MIXED, "%s%d CT series (%s%s images)%s", more ? "more than " : "",
                   n_series, text, more ? ", ..." : "",
                   one_patient ? "" : ", of more than one patient");
}

static Status open_loading(const char *const *paths, int32_t n, Arena *arena, Loading *ret,
                           Err *err)
{
    size_t count = (size_t)n;
    Loading l = {.paths = paths};
    l.kinds = arena_alloc(arena, count, sizeof *l.kinds, err);
    l.headers = arena_alloc(arena, count, sizeof *l.headers, err);
    l.errors = arena_alloc(arena, count, sizeof *l.errors, err);
    if (l.kinds == NULL || l.headers == NULL || l.errors == NULL)
        return ST_LIMIT;
    memset(l.kinds, 0, count * sizeof *l.kinds);
    memset(l.errors, 0, count * sizeof *l.errors);
    *ret = l;
    return ST_OK;
}

Status load_series(const char *const *paths, int32_t n, const GeometryLimits *limits, int threads,
                   Arena *arena, CtSeries *ret, Err *err)
{
    if (n <= 0)
        return err_set(err, ST_SERIES_NOT_CT, "no files");
    size_t count = (size_t)n;
    Loading l;
    TRY(open_loading(paths, n, arena, &l, err));
    Instance *images = arena_alloc(arena, count, sizeof *images, err);
    int32_t *file_of = arena_alloc(arena, count, sizeof *file_of, err); /* image -> file */
    int32_t *order = arena_alloc(arena, count, sizeof *order, err);
    if (images == NULL || file_of == NULL || order == NULL)
        return ST_LIMIT;
    parallel_for(threads, n, read_header, &l);
    TRY(first_error(l.errors, n, err));
    char dropped[LEFT_OUT_SIZE] = "";
    append_kind(l.kinds, n, FILE_LOCALIZER, "localizer", "localizers", dropped);
    append_kind(l.kinds, n, FILE_NOT_CT, "not CT Image Storage", "not CT Image Storage", dropped);
    memcpy(ret->dropped, dropped, sizeof dropped);
    int32_t n_images = 0;
    for (int32_t i = 0; i < n; i++) {
        if (l.kinds[i] == FILE_NOT_CT)
            continue;
        file_of[n_images] = i;
        images[n_images++] = l.headers[i].instance;
    }
    if (n_images == 0)
        return err_set(err, ST_SERIES_NOT_CT, "none of %d files is CT Image Storage", n);
    TRY(one_series(images, n_images, err));
    Geometry geometry;
    TRY(geometry_check(images, n_images, limits, order, &geometry, err));
    geometry.n_dropped += n - n_images;
    for (int32_t i = 0; i < geometry.n_slices; i++)
        order[i] = file_of[order[i]];
    TRY(check_wrap(l.headers, order, geometry.n_slices, err));
    TRY(fill(&l, &geometry, order, threads, arena, ret, err));
    memcpy(ret->dropped, dropped, sizeof dropped);
    return ST_OK;
}

/* ---- folders ---- */

/* PS3.10 section 7.1: 128 bytes of preamble, then "DICM". */
static bool has_dicom_prefix(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char prefix[4];
    bool yes = fd >= 0 && pread(fd, prefix, 4, 128) == 4 && memcmp(prefix, "DICM", 4) == 0;
    if (fd >= 0)
        (void)close(fd);
    return yes;
}

static int is_entry(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

Status load_list(const char *dir, Arena *arena, Listing *ret, Err *err)
{
    struct dirent **entries;
    int n = scandir(dir, &entries, is_entry, alphasort);
    if (n < 0)
        return err_sys(err, errno, "reading folder %s", dir);
    Listing list = {.paths = arena_alloc(arena, (size_t)n + 1, sizeof *list.paths, err)};
    Status status = list.paths == NULL ? ST_LIMIT : ST_OK;
    for (int i = 0; i < n; i++) {
        char path[PATH_SIZE];
        if (status == ST_OK)
            status = path_format(path, err, "%s/%s", dir, entries[i]->d_name);
        if (status == ST_OK && is_folder(path))
            list.n_subfolders++;
        else if (status == ST_OK && !has_dicom_prefix(path))
            list.n_skipped++;
        else if (status == ST_OK && (list.paths[list.n++] = arena_strdup(arena, path, err)) == NULL)
            status = ST_LIMIT;
        free(entries[i]);
    }
    free(entries);
    if (status != ST_OK)
        return status;
    *ret = list;
    return ST_OK;
}

Status load_series_dir(const char *dir, const GeometryLimits *limits, int threads, Arena *arena,
                       CtSeries *ret, Err *err)
{
    Listing list;
    TRY(load_list(dir, arena, &list, err));
    ret->n_skipped = list.n_skipped;
    ret->n_subfolders = list.n_subfolders;
    if (list.n == 0)
        return err_set(err, ST_SERIES_NOT_CT,
                       "no DICOM file in the folder (%d other files, %d subfolders not read)",
                       list.n_skipped, list.n_subfolders);
    Status status = load_series(list.paths, list.n, limits, threads, arena, ret, err);
    for (int32_t i = 0; status != ST_OK && i < list.n; i++)
        err_replace(err, list.paths[i], "it"); /* the message has its number; names name patients */
    if (status != ST_OK)
        return status;
    ret->n_skipped = list.n_skipped;
    ret->n_subfolders = list.n_subfolders;
    return ST_OK;
}
