/* ct2mr import: a volume that is not DICOM becomes a CT series, to try the node with. */
#include "daemon/cli.h"

#include "base/files.h"
#include "dicom/write.h"
#include "pipeline/import.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

/* Room for 1024 slices of 1024 x 1024, twice (read and turned). */
static const size_t ARENA_BYTES = (size_t)5 << 30;

/* True for the names that this run will write. Anything else would become part of the "series". */
static bool is_ours(const char *name, int32_t n_slices)
{
    int number = 0, end = 0;
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
           (sscanf(name, "IM%4d.dcm%n", &number, &end) == 1 && end > 0 && name[end] == '\0' &&
            number >= 1 && number <= n_slices);
}

static Status check_folder(const char *dir, int32_t n_slices, Err *err)
{
    DIR *d = opendir(dir);
    if (d == NULL)
        return errno == ENOENT ? ST_OK : err_sys(err, errno, "opening folder %s", dir);
    Status status = ST_OK;
    for (struct dirent *e; status == ST_OK && (e = readdir(d)) != NULL;)
        if (!is_ours(e->d_name, n_slices))
            status = err_set(err, ST_USAGE, "folder %s holds other files", dir);
    (void)closedir(d);
    return status;
}

static Status import(const char *path, const char *dir, Grid *ret_grid, Err *err)
{
    Arena arena;
    VolumeI16 volume;
    TRY(arena_open(ARENA_BYTES, &arena, err));
    Status status = import_volume(path, &arena, &volume, err);
    if (status == ST_OK)
        status = check_folder(dir, volume.grid.nz, err);
    if (status == ST_OK)
        status = dicom_write_ct(&volume, "HFS", dir, err);
    if (status == ST_OK)
        *ret_grid = volume.grid;
    arena_close(&arena);
    return status;
}

int cli_import(int argc, char **argv)
{
    static const struct option options[] = {
        {"out", required_argument, NULL, 'o'}, {"json", no_argument, NULL, 'j'}, {0}};
    const char *dir = NULL;
    bool json = false;
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, "o:j", options, NULL)) != -1;) {
        if (c == 'o')
            dir = optarg;
        else if (c == 'j')
            json = true;
        else
            return cli_usage("import", "unknown option or missing value");
    }
    if (dir == NULL)
        return cli_usage("import", "--out DIR is missing");
    if (optind + 1 != argc)
        return cli_usage("import", "name one file");

    Err err = {0};
    Grid grid;
    if (import(argv[optind], dir, &grid, &err) != ST_OK)
        return cli_fail(&err, json);
    double mm[3] = {grid_spacing_mm(&grid, 0), grid_spacing_mm(&grid, 1),
                    grid_spacing_mm(&grid, 2)};
    if (json) {
        cJSON *o = cJSON_CreateObject();
        (void)cJSON_AddNumberToObject(o, "images", grid.nz);
        (void)cJSON_AddNumberToObject(o, "rows", grid.ny);
        (void)cJSON_AddNumberToObject(o, "columns", grid.nx);
        (void)cJSON_AddItemToObject(o, "spacing_mm", cJSON_CreateDoubleArray(mm, 3));
        (void)cJSON_AddStringToObject(o, "folder", dir);
        cli_print_json(o);
    } else {
        (void)printf("%d CT images of %d x %d, %.4g x %.4g x %.4g mm, in %s\n", grid.nz, grid.nx,
                     grid.ny, mm[0], mm[1], mm[2], dir);
    }
    return CLI_OK;
}
