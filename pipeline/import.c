/* See import.h.
**
** Which way an InVesalius matrix lies. The program keeps no direction cosines. It reads the slices
** of a series sorted by position along the normal (gdcm::IPPSorter), so z runs to the head for
** axial images, and stores every slice with its rows in reverse order (its reader puts the last row
** first, the convention of VTK; dcm2memmap in invesalius/data/imagedata_utils.py), so y runs to
** anterior. Columns stay as they are: x runs to the patient's left, as in the axial images of a
** patient lying supine, head first. The matrix is thus a mirrored frame (left, anterior, head) and
** is made a true one by reversing the rows once more. That the rows, and only the rows, are
** reversed can be seen
** in Debian's example: couch at low y, nose at high y, vertex at high z. Left and right cannot be
** seen in a head; they rest on the source named above. */
#include "pipeline/import.h"

#include "pipeline/nifti.h"
#include "pipeline/turn.h"

#include <archive.h>
#include <archive_entry.h>
#include <math.h>
#include <plist/plist.h>
#include <stdlib.h>
#include <string.h>

enum { PLIST_MAX_BYTES = 1 << 20, MAX_SIDE = 4096, AXIAL = 1 /* InVesalius constants.py */ };

typedef struct Project {
    char matrix_file[128];
    int32_t nx, ny, nz;
    double spacing_mm[3]; /* x, y, z */
} Project;

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

/* Archive member `name` (in any folder): opens the archive at its data. The caller frees. */
static Status open_member(const char *path, const char *name, struct archive **ret,
                          int64_t *ret_size_bytes, Err *err)
{
    struct archive *a = archive_read_new();
    if (a == NULL)
        return err_set(err, ST_NO_MEMORY, "reading an archive");
    (void)archive_read_support_filter_gzip(a);
    (void)archive_read_support_format_tar(a);
    if (archive_read_open_filename(a, path, 1 << 16) != ARCHIVE_OK) {
        (void)archive_read_free(a);
        return err_set(err, ST_UNSUPPORTED, "%s is not a gzipped tar archive", path);
    }
    struct archive_entry *entry;
    int rc;
    while ((rc = archive_read_next_header(a, &entry)) == ARCHIVE_OK) {
        const char *member = archive_entry_pathname(entry);
        if (member == NULL || archive_entry_filetype(entry) != AE_IFREG ||
            strcmp(base_name(member), name) != 0)
            continue;
        *ret = a;
        *ret_size_bytes = archive_entry_size(entry);
        return ST_OK;
    }
    (void)archive_read_free(a);
    if (rc != ARCHIVE_EOF)
        return err_set(err, ST_UNSUPPORTED, "%s is a damaged archive", path);
    return err_set(err, ST_UNSUPPORTED, "%s: a member of the project is missing", path);
}

static Status read_member(struct archive *a, void *data, size_t size_bytes, Err *err)
{
    for (size_t done = 0; done < size_bytes;) {
        la_ssize_t n = archive_read_data(a, (char *)data + done, size_bytes - done);
        if (n <= 0)
            return err_set(err, ST_UNSUPPORTED, "the archive is damaged or cut short");
        done += (size_t)n;
    }
    return ST_OK;
}

static bool get_text(plist_t dict, const char *key, char *ret, size_t size)
{
    plist_t node = plist_dict_get_item(dict, key);
    if (node == NULL || plist_get_node_type(node) != PLIST_STRING)
        return false;
    char *text = NULL;
    plist_get_string_val(node, &text);
    bool fits = text != NULL && strlen(text) < size;
    if (fits)
        memcpy(ret, text, strlen(text) + 1);
    free(text);
    return fits;
}

static bool get_int(plist_t node, int64_t min, int64_t max, int32_t *ret)
{
    if (node == NULL || plist_get_node_type(node) != PLIST_UINT)
        return false;
    uint64_t value = 0;
    plist_get_uint_val(node, &value);
    if (value > INT32_MAX || (int64_t)value < min || (int64_t)value > max)
        return false;
    *ret = (int32_t)value;
    return true;
}

static bool get_real(plist_t node, double *ret)
{
    if (node == NULL)
        return false;
    uint64_t whole = 0;
    switch (plist_get_node_type(node)) {
    case PLIST_REAL:
        plist_get_real_val(node, ret);
        return true;
    case PLIST_UINT:
        plist_get_uint_val(node, &whole);
        *ret = (double)whole;
        return true;
    default:
        return false;
    }
}

/* A project with an affine came from NIfTI or the like, whose axes InVesalius lays otherwise. The
** identity (newer versions write it for DICOM) and the empty string say nothing. */
static bool affine_says_nothing(plist_t node)
{
    if (node == NULL || plist_get_node_type(node) == PLIST_STRING)
        return true;
    if (plist_get_node_type(node) != PLIST_ARRAY || plist_array_get_size(node) != 4)
        return false;
    for (uint32_t i = 0; i < 16; i++) {
        plist_t row = plist_array_get_item(node, i / 4);
        double value;
        if (plist_get_node_type(row) != PLIST_ARRAY || plist_array_get_size(row) != 4 ||
            !get_real(plist_array_get_item(row, i % 4), &value) ||
            value != (i / 4 == i % 4 ? 1.0 : 0.0))
            return false;
    }
    return true;
}

/* NULL or what is wrong with it. */
static const char *parse_project(plist_t root, Project *p)
{
    char text[32];
    int32_t number;
    if (root == NULL || plist_get_node_type(root) != PLIST_DICT)
        return "main.plist is not a property list";
    if (!get_text(root, "modality", text, sizeof text) || strcmp(text, "CT") != 0)
        return "the modality is not CT";
    if (!get_int(plist_dict_get_item(root, "orientation"), AXIAL, AXIAL, &number))
        return "the slices are not axial";
    if (!affine_says_nothing(plist_dict_get_item(root, "affine")))
        return "the project has an affine transform: it was not made from DICOM";
    plist_t matrix = plist_dict_get_item(root, "matrix");
    if (matrix == NULL || plist_get_node_type(matrix) != PLIST_DICT ||
        !get_text(matrix, "dtype", text, sizeof text) || strcmp(text, "int16") != 0 ||
        !get_text(matrix, "filename", p->matrix_file, sizeof p->matrix_file))
        return "the matrix is not int16";
    plist_t shape = plist_dict_get_item(matrix, "shape"),
            spacing = plist_dict_get_item(root, "spacing");
    if (shape == NULL || plist_get_node_type(shape) != PLIST_ARRAY ||
        plist_array_get_size(shape) != 3 ||
        !get_int(plist_array_get_item(shape, 0), 1, MAX_SIDE, &p->nz) ||
        !get_int(plist_array_get_item(shape, 1), 1, MAX_SIDE, &p->ny) ||
        !get_int(plist_array_get_item(shape, 2), 1, MAX_SIDE, &p->nx))
        return "the shape of the matrix is missing or impossible";
    if (spacing == NULL || plist_get_node_type(spacing) != PLIST_ARRAY ||
        plist_array_get_size(spacing) != 3)
        return "the spacing is missing";
    for (uint32_t i = 0; i < 3; i++)
        if (!get_real(plist_array_get_item(spacing, i), &p->spacing_mm[i]) ||
            !(p->spacing_mm[i] > 0.05 && p->spacing_mm[i] < 50))
            return "the spacing is impossible";
    return NULL;
}

static Status read_project(const char *path, Arena *arena, Project *ret, Err *err)
{
    struct archive *a;
    int64_t size_bytes;
    TRY(open_member(path, "main.plist", &a, &size_bytes, err));
    if (size_bytes <= 0 || size_bytes > PLIST_MAX_BYTES) {
        (void)archive_read_free(a);
        return err_set(err, ST_UNSUPPORTED, "%s: main.plist has an impossible size", path);
    }
    char *text = arena_alloc(arena, (size_t)size_bytes, 1, err);
    Status status = text == NULL ? ST_LIMIT : read_member(a, text, (size_t)size_bytes, err);
    (void)archive_read_free(a);
    if (status != ST_OK)
        return status;
    plist_t root = NULL;
    plist_from_memory(text, (uint32_t)size_bytes, &root);
    Project project = {0};
    const char *wrong = parse_project(root, &project);
    plist_free(root);
    if (wrong != NULL)
        return err_set(err, ST_UNSUPPORTED, "%s: %s", path, wrong);
    *ret = project;
    return ST_OK;
}

static int16_t from_little_endian(const unsigned char *bytes)
{
    return (int16_t)(uint16_t)(bytes[0] | bytes[1] << 8);
}

/* Row by row into its place: row y of the file is row ny-1-y of the volume. */
static Status read_matrix(struct archive *a, const Project *p, int16_t *v, Err *err)
{
    size_t nx = (size_t)p->nx, row_bytes = nx * 2;
    unsigned char row[MAX_SIDE * 2];
    for (int32_t z = 0; z < p->nz; z++) {
        for (int32_t y = 0; y < p->ny; y++) {
            TRY(read_member(a, row, row_bytes, err));
            int16_t *out = v + ((size_t)z * (size_t)p->ny + (size_t)(p->ny - 1 - y)) * nx;
            for (size_t x = 0; x < nx; x++)
                out[x] = from_little_endian(row + 2 * x);
        }
    }
    return ST_OK;
}

Status import_inv3(const char *path, Arena *arena, VolumeI16 *ret, Err *err)
{
    Project p;
    TRY(read_project(path, arena, &p, err));
    VolumeI16 volume = {.grid = {p.nx, p.ny, p.nz, affine_identity()}};
    int32_t n[3] = {p.nx, p.ny, p.nz};
    for (int i = 0; i < 3; i++) {
        volume.grid.lps_from_vox.m[i][i] = p.spacing_mm[i];
        volume.grid.lps_from_vox.m[i][3] = -0.5 * (n[i] - 1) * p.spacing_mm[i];
    }
    size_t voxels = grid_voxels(&volume.grid);
    volume.v = arena_alloc(arena, voxels, sizeof *volume.v, err);
    if (volume.v == NULL)
        return ST_LIMIT;
    struct archive *a;
    int64_t size_bytes;
    TRY(open_member(path, p.matrix_file, &a, &size_bytes, err));
    Status status = ST_OK;
    if ((uint64_t)size_bytes != voxels * 2)
        status = err_set(err, ST_UNSUPPORTED, "%s: the matrix has %lld bytes, not %zu", path,
                         (long long)size_bytes, voxels * 2);
    else
        status = read_matrix(a, &p, volume.v, err);
    (void)archive_read_free(a);
    if (status == ST_OK)
        *ret = volume;
    return status;
}

/* Air must be far below water and bone far above it, or this is no CT in Hounsfield units. */
static Status check_hu(const VolumeI16 *volume, Err *err)
{
    size_t n = grid_voxels(&volume->grid), n_air = 0, n_bone = 0;
    int least = INT16_MAX, greatest = INT16_MIN;
    for (size_t i = 0; i < n; i++) {
        int hu = volume->v[i];
        least = hu < least ? hu : least;
        greatest = hu > greatest ? hu : greatest;
        n_air += hu < -500;
        n_bone += hu > 300;
    }
    if (n_air < n / 1000 + 1 || n_bone < n / 10000 + 1)
        return err_set(err, ST_UNSUPPORTED,
                       "the values (%d to %d) are not Hounsfield units of a head with air around",
                       least, greatest);
    return ST_OK;
}

Status import_volume(const char *path, Arena *arena, VolumeI16 *ret, Err *err)
{
    VolumeI16 volume, turned;
    if (ends_with(path, ".inv3"))
        TRY(import_inv3(path, arena, &volume, err));
    else if (ends_with(path, ".nii") || ends_with(path, ".nii.gz"))
        TRY(nifti_read(path, arena, &volume, err));
    else
        return err_set(err, ST_UNSUPPORTED, "%s is neither .inv3 nor .nii nor .nii.gz", path);
    TRY(check_hu(&volume, err));
    TRY(volume_turn(&volume, "LP", arena, &turned, err));
    if (!(affine_det(turned.grid.lps_from_vox) > 0))
        return err_set(err, ST_UNSUPPORTED,
                       "%s: the axes cannot be turned to left, posterior, head", path);
    *ret = turned;
    return ST_OK;
}
