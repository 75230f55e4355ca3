/* See load.h. Two parallel passes over the files: headers, then (after the gate) pixels. Each item
** writes only its own slot; the first error in file order is reported, whatever the thread count.
*/
#include "pipeline/load.h"

#include "base/digest.h"
#include "base/files.h"
#include "base/parallel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Loading {
    const char *const *paths;
    CtHeader *headers;    /* [n] in the order of paths */
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
    if (dicom_read_header(l->paths[item], &l->headers[item], err) != ST_OK)
        (void)err_wrap(err, "file %d", item + 1);
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

/* A folder may hold several series; the receiver never mixes them, a person may. */
static Status one_series(const Instance *images, int32_t n, Err *err)
{
    const char *first = NULL;
    for (int32_t i = 0; i < n; i++) {
        if (images[i].geometry.is_localizer || strcmp(images[i].sop_class_uid, UID_CT_IMAGE) != 0)
            continue;
        if (first == NULL)
            first = images[i].series_uid;
        else if (strcmp(first, images[i].series_uid) != 0)
            return err_set(err, ST_USAGE, "the files belong to more than one CT series");
    }
    return ST_OK;
}

Status load_series(const char *const *paths, int32_t n, const GeometryLimits *limits, int threads,
                   Arena *arena, CtSeries *ret, Err *err)
{
    if (n <= 0)
        return err_set(err, ST_SERIES_NOT_CT, "no files");
    size_t count = (size_t)n;
    Loading l = {.paths = paths};
    l.headers = arena_alloc(arena, count, sizeof *l.headers, err);
    l.errors = arena_alloc(arena, count, sizeof *l.errors, err);
    Instance *images = arena_alloc(arena, count, sizeof *images, err);
    int32_t *order = arena_alloc(arena, count, sizeof *order, err);
    if (l.headers == NULL || l.errors == NULL || images == NULL || order == NULL)
        return ST_LIMIT;
    memset(l.errors, 0, count * sizeof *l.errors);
    parallel_for(threads, n, read_header, &l);
    TRY(first_error(l.errors, n, err));
    for (int32_t i = 0; i < n; i++)
        images[i] = l.headers[i].instance;
    TRY(one_series(images, n, err));
    Geometry geometry;
    TRY(geometry_check(images, n, limits, order, &geometry, err));
    memset(l.errors, 0, count * sizeof *l.errors);
    TRY(fill(&l, &geometry, order, threads, arena, ret, err));
    if (geometry.n_dropped > 0)
        (void)snprintf(ret->dropped, sizeof ret->dropped,
                       "%d images left out (localizers or not CT Image Storage)",
                       geometry.n_dropped);
    return ST_OK;
}

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

/* The folder's DICOM files in the order of their names. */
static Status list_files(const char *dir, Arena *arena, const char ***ret, int32_t *ret_n,
                         int32_t *ret_skipped, Err *err)
{
    struct dirent **entries;
    int n = scandir(dir, &entries, is_entry, alphasort);
    if (n < 0)
        return err_sys(err, errno, "reading folder %s", dir);
    const char **paths = arena_alloc(arena, (size_t)n + 1, sizeof *paths, err);
    Status status = paths == NULL ? ST_LIMIT : ST_OK;
    int32_t found = 0, skipped = 0;
    for (int i = 0; i < n; i++) {
        char path[PATH_SIZE];
        if (status == ST_OK)
            status = path_format(path, err, "%s/%s", dir, entries[i]->d_name);
        if (status == ST_OK && !has_dicom_prefix(path))
            skipped++;
        else if (status == ST_OK && (paths[found++] = arena_strdup(arena, path, err)) == NULL)
            status = ST_LIMIT;
        free(entries[i]);
    }
    free(entries);
    if (status != ST_OK)
        return status;
    *ret = paths;
    *ret_n = found;
    *ret_skipped = skipped;
    return ST_OK;
}

Status load_series_dir(const char *dir, const GeometryLimits *limits, int threads, Arena *arena,
                       CtSeries *ret, Err *err)
{
    const char **paths;
    int32_t n, skipped;
    TRY(list_files(dir, arena, &paths, &n, &skipped, err));
    if (n == 0)
        return err_set(err, ST_SERIES_NOT_CT, "no DICOM file in %s (%d other files)", dir, skipped);
    TRY(load_series(paths, n, limits, threads, arena, ret, err));
    ret->n_skipped = skipped;
    return ST_OK;
}
