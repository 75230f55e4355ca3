/* See mr_io.h. As load.c does it: headers, the gate, then pixels straight into their place; each
** item writes its own slot only, the first error in file order is reported. */
#include "pipeline/mr_io.h"

#include "base/parallel.h"
#include "dicom/prescan.h"
#include "pipeline/load.h"
#include "pipeline/nifti.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum { MIN_SLICES = 3, MAX_SLICES = 4096 };

typedef struct MrLoading {
    const char **paths;
    CtHeader *headers;
    bool *is_mr;
    Err *errors;
    const int32_t *file_of; /* slice -> file */
    float *v;
    size_t slice_voxels;
} MrLoading;

/* By its number: names of files name patients. */
static void name_file(const MrLoading *l, int32_t file)
{
    err_replace(&l->errors[file], l->paths[file], "it");
    (void)err_wrap(&l->errors[file], "MR file %d", file + 1);
}

static void read_header(void *context, int item)
{
    MrLoading *l = context;
    char class_uid[UID_SIZE];
    if (prescan_media_class(l->paths[item], class_uid, NULL) == ST_OK && class_uid[0] != '\0' &&
        strcmp(class_uid, UID_MR_IMAGE) != 0)
        return;
    l->is_mr[item] = true;
    if (dicom_read_mr_header(l->paths[item], &l->headers[item], &l->errors[item]) != ST_OK)
        name_file(l, item);
}

static void read_pixels(void *context, int item)
{
    MrLoading *l = context;
    int32_t file = l->file_of[item];
    if (dicom_read_mr(l->paths[file], &l->headers[file], l->v + (size_t)item * l->slice_voxels,
                      &l->errors[file]) != ST_OK)
        name_file(l, file);
}

static Status first_error(const MrLoading *l, int32_t n, Err *err)
{
    for (int32_t i = 0; i < n; i++)
        if (l->errors[i].status != ST_OK) {
            if (err != NULL)
                *err = l->errors[i];
            return l->errors[i].status;
        }
    return ST_OK;
}

/* images: those that are MR, of file_of[] each. */
static Status gate(MrLoading *l, int32_t n, Instance *images, int32_t *file_of, int32_t *order,
                   Geometry *ret, int32_t *ret_n_images, Err *err)
{
    static const GeometryLimits limits = {MIN_SLICES, MAX_SLICES, .is_mr = true};
    int32_t n_images = 0;
    const char *series = NULL;
    for (int32_t i = 0; i < n; i++) {
        if (!l->is_mr[i] || l->headers[i].instance.geometry.is_localizer)
            continue;
        if (series != NULL && strcmp(series, l->headers[i].instance.series_uid) != 0)
            return err_set(err, ST_SERIES_MIXED, "more than one MR series in the folder");
        series = l->headers[i].instance.series_uid;
        file_of[n_images] = i;
        images[n_images++] = l->headers[i].instance;
    }
    *ret_n_images = n_images;
    if (n_images == 0)
        return err_set(err, ST_SERIES_NOT_MR, "none of %d files is MR Image Storage", n);
    TRY(geometry_check(images, n_images, &limits, order, ret, err));
    for (int32_t i = 0; i < ret->n_slices; i++)
        order[i] = file_of[order[i]];
    return ST_OK;
}

static Status read_folder(const char *path, int threads, Arena *arena, VolumeF32 *ret,
                          MrSource *ret_source, Err *err)
{
    Listing list;
    TRY(load_list(path, arena, &list, err));
    size_t n = (size_t)list.n;
    MrLoading l = {.paths = list.paths,
                   .headers = arena_alloc(arena, n + 1, sizeof *l.headers, err),
                   .is_mr = arena_alloc(arena, n + 1, sizeof *l.is_mr, err),
                   .errors = arena_alloc(arena, n + 1, sizeof *l.errors, err)};
    Instance *images = arena_alloc(arena, n + 1, sizeof *images, err);
    int32_t *file_of = arena_alloc(arena, n + 1, sizeof *file_of, err);
    int32_t *order = arena_alloc(arena, n + 1, sizeof *order, err);
    if (l.headers == NULL || l.is_mr == NULL || l.errors == NULL || images == NULL ||
        file_of == NULL || order == NULL)
        return ST_LIMIT;
    memset(l.is_mr, 0, n * sizeof *l.is_mr);
    memset(l.errors, 0, n * sizeof *l.errors);
    parallel_for(threads, list.n, read_header, &l);
    TRY(first_error(&l, list.n, err));
    Geometry geometry;
    int32_t n_images;
    TRY(gate(&l, list.n, images, file_of, order, &geometry, &n_images, err));
    VolumeF32 volume = {geometry.grid,
                        arena_alloc(arena, grid_voxels(&geometry.grid), sizeof(float), err)};
    if (volume.v == NULL)
        return ST_LIMIT;
    l.file_of = order;
    l.v = volume.v;
    l.slice_voxels = (size_t)geometry.grid.nx * (size_t)geometry.grid.ny;
    parallel_for(threads, geometry.n_slices, read_pixels, &l);
    TRY(first_error(&l, list.n, err));
    memcpy(ret_source->patient_key, images[0].patient_key, HEX_SIZE);
    for (int32_t i = 0; i < geometry.n_slices; i++)
        ret_source->is_synthetic |= l.headers[order[i]].is_synthetic;
    *ret = volume;
    return ST_OK;
}

Status mr_read(const char *path, int threads, Arena *arena, VolumeF32 *ret, MrSource *ret_source,
               Err *err)
{
    struct stat st;
    *ret_source = (MrSource){0};
    if (stat(path, &st) != 0)
        return err_sys(err, errno, "reading the MR");
    if (S_ISDIR(st.st_mode))
        return read_folder(path, threads, arena, ret, ret_source, err);
    return nifti_read_f32(path, arena, ret, err);
}
