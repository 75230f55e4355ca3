/* See out_folder.h. */
#include "daemon/out_folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int is_real(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static Status list(const char *dir, struct dirent ***ret, int *ret_n, Err *err)
{
    *ret_n = scandir(dir, ret, is_real, alphasort);
    return *ret_n >= 0 ? ST_OK : err_sys(err, errno, "reading folder %s", dir);
}

static void list_free(struct dirent **entries, int n)
{
    for (int i = 0; i < n; i++)
        free(entries[i]);
    free(entries);
}

Status out_folder_open(const char *dir, OutFolder *ret, Err *err)
{
    OutFolder out = {.dir = dir, .made_dir = access(dir, F_OK) != 0};
    struct dirent **entries;
    int n;
    TRY(path_format(out.part, err, "%s/.part", dir));
    TRY(dir_make(dir, err));
    TRY(list(dir, &entries, &n, err));
    list_free(entries, n);
    if (n > 0)
        return err_set(err, ST_USAGE,
                       "the folder of --out is not empty (%d entries%s); name a new one", n,
                       access(out.part, F_OK) == 0 ? ", .part of a run that did not end" : "");
    if (mkdir(out.part, 0750) != 0)
        return err_sys(err, errno, "making folder %s", out.part);
    *ret = out;
    return ST_OK;
}

static Status move(const OutFolder *out, const char *name, Err *err)
{
    char from[PATH_SIZE], to[PATH_SIZE];
    TRY(path_format(from, err, "%s/%s", out->part, name));
    TRY(path_format(to, err, "%s/%s", out->dir, name));
    return rename(from, to) == 0 ? ST_OK : err_sys(err, errno, "renaming to %s", to);
}

static void take_back(const OutFolder *out, const char *name)
{
    char path[PATH_SIZE];
    if (path_format(path, NULL, "%s/%s", out->dir, name) == ST_OK)
        (void)unlink(path);
}

Status out_folder_publish(OutFolder *out, Err *err)
{
    struct dirent **entries;
    int n, n_moved = 0;
    TRY(list(out->part, &entries, &n, err));
    Status status = ST_OK;
    while (status == ST_OK && n_moved < n) {
        status = move(out, entries[n_moved]->d_name, err);
        n_moved += status == ST_OK;
    }
    for (int i = 0; status != ST_OK && i < n_moved; i++)
        take_back(out, entries[i]->d_name);
    list_free(entries, n);
    return status != ST_OK ? status : dir_sync(out->dir, err);
}

void out_folder_close(OutFolder *out)
{
    (void)dir_remove(out->part, NULL);
    if (out->made_dir)
        (void)rmdir(out->dir); /* fails if there is a result */
}
