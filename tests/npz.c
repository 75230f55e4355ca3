/* See npz.h. The .npy format is described in gpu/npy.c. */
#include "tests/npz.h"

#include "tests/test.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdint.h>

static void parse_shape(const char *p, NpzArray *ret)
{
    ret->n = 1;
    for (p++; *p != ')';) {
        char *end;
        CHECK(ret->n_dims < 4);
        size_t dim = strtoul(p, &end, 10);
        CHECK(end != p);
        ret->dims[ret->n_dims++] = dim;
        ret->n *= dim;
        p = end + strspn(end, ", ");
    }
}

static void parse(const unsigned char *file, size_t size, NpzArray *ret)
{
    CHECK(size > 10 && memcmp(file, "\x93NUMPY\x01", 7) == 0);
    size_t header = 10 + (size_t)file[8] + 256 * (size_t)file[9];
    char text[512] = "";
    CHECK(header <= size && header - 10 < sizeof text);
    memcpy(text, file + 10, header - 10);
    CHECK(strstr(text, "'fortran_order': False") != NULL);
    const char *type = strstr(text, "'descr': '"), *shape = strstr(text, "'shape': (");
    CHECK(type != NULL && shape != NULL);
    type += strlen("'descr': '");
    *ret = (NpzArray){0};
    parse_shape(shape + strlen("'shape': "), ret);
    ret->data = malloc((ret->n + 1) * sizeof *ret->data);
    CHECK(ret->data != NULL);
    size_t each = strncmp(type, "<f4", 3) == 0 ? 4 : strncmp(type, "<f8", 3) == 0 ? 8 : 1;
    CHECK((each != 1 || strncmp(type, "|u1", 3) == 0) && size - header == ret->n * each);
    for (size_t i = 0; i < ret->n; i++) {
        float narrow;
        if (each == 8)
            memcpy(&ret->data[i], file + header + 8 * i, 8);
        else if (each == 1)
            ret->data[i] = file[header + i];
        else {
            memcpy(&narrow, file + header + 4 * i, 4);
            ret->data[i] = (double)narrow;
        }
    }
}

bool npz_find(const char *path, const char *name, NpzArray *ret)
{
    char member[128];
    (void)snprintf(member, sizeof member, "%s.npy", name);
    struct archive *zip = archive_read_new();
    struct archive_entry *entry;
    bool found = false;
    CHECK(zip != NULL && archive_read_support_format_zip(zip) == ARCHIVE_OK);
    CHECK(archive_read_open_filename(zip, path, 65536) == ARCHIVE_OK);
    while (!found && archive_read_next_header(zip, &entry) == ARCHIVE_OK) {
        if (strcmp(archive_entry_pathname(entry), member) != 0)
            continue;
        size_t size = 0, room = (size_t)1 << 24;
        unsigned char *file = malloc(room);
        CHECK(file != NULL);
        for (la_ssize_t n; (n = archive_read_data(zip, file + size, room - size)) != 0;) {
            CHECK(n > 0);
            size += (size_t)n;
        }
        CHECK(size < room);
        parse(file, size, ret);
        free(file);
        found = true;
    }
    CHECK(archive_read_free(zip) == ARCHIVE_OK);
    return found;
}

NpzArray npz_read(const char *path, const char *name)
{
    NpzArray ret = {0};
    if (!npz_find(path, name, &ret))
        test_fail(__FILE__, __LINE__, "%s has no %s", path, name);
    return ret;
}
