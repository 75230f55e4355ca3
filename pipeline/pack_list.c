/* The list of cases to pack: see pack.h. As spreadsheets write it: quotes, CRLF or CR, byte order
** mark. */
#include "pipeline/pack.h"

#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BOM "\xef\xbb\xbf" /* some programs put it in front of UTF-8 */
enum { MAX_BYTES = 16 << 20, N_COLUMNS = 3 };

typedef struct CaseList {
    char folder[PATH_SIZE];
    int column[N_COLUMNS]; /* of case, ct, mr */
    bool has_heading;
    PackPair *pairs;
    int32_t n, room;
} CaseList;

enum { MAX_FIELDS = 16 };

static char *skip_blanks(char *p)
{
    return p + strspn(p, " \t\r");
}

/* A field in quotes (RFC 4180; "" is a quote), unquoted in place. Returns what follows it, NULL if
** the closing quote is missing. */
static char *unquote(char *field)
{
    char *to = field;
    for (char *p = field + 1; *p != '\0'; p++) {
        if (*p == '"' && p[1] != '"') {
            *to = '\0';
            return skip_blanks(p + 1);
        }
        p += *p == '"';
        *to++ = *p;
    }
    return NULL;
}

/* Cuts the line at commas; blanks around a field go. *ret_n: fields, at most MAX_FIELDS. */
static Status cut_fields(char *line, int number, char *ret[MAX_FIELDS], int *ret_n, Err *err)
{
    int n = 0;
    for (char *p = line; p != NULL && n < MAX_FIELDS;) {
        char *field = skip_blanks(p), *end = NULL;
        if (*field == '"') {
            end = unquote(field);
            if (end == NULL || (*end != ',' && *end != '\0'))
                return err_set(err, ST_USAGE,
                               "list of cases, line %d: a field's quotes are not closed", number);
            p = *end == ',' ? end + 1 : NULL;
        } else {
            end = field + strcspn(field, ",");
            p = *end == ',' ? end + 1 : NULL;
            while (end > field && strchr(" \t\r", end[-1]) != NULL)
                end--;
            *end = '\0';
        }
        ret[n++] = field;
    }
    *ret_n = n;
    return ST_OK;
}

static Status read_heading(CaseList *list, char *line, int number, Err *err)
{
    static const char *const NAMES[N_COLUMNS] = {"case", "ct", "mr"};
    char *fields[MAX_FIELDS];
    int n;
    list->has_heading = true;
    const bool has_others = strchr(line, ',') == NULL && strpbrk(line, ";\t") != NULL;
    TRY(cut_fields(line, number, fields, &n, err));
    for (int c = 0; c < N_COLUMNS; c++) {
        int n_found = 0;
        for (int i = 0; i < n; i++)
            if (strcmp(fields[i], NAMES[c]) == 0) {
                list->column[c] = i;
                n_found++;
            }
        if (n_found != 1)
            return err_set(err, ST_USAGE, "list of cases, line %d: %s column \"%s\"%s; it wants %s",
                           number, n_found == 0 ? "no" : "more than one", NAMES[c],
                           has_others ? ", as it has semicolons or tabs between its fields" : "",
                           has_others ? "commas" : "case,ct,mr");
    }
    return ST_OK;
}

static Status copy_path(const CaseList *list, const char *text, char ret[PATH_SIZE], Err *err)
{
    return text[0] == '/' ? path_format(ret, err, "%s", text)
                          : path_format(ret, err, "%s/%s", list->folder, text);
}

static Status read_row(CaseList *list, char *line, int number, Err *err)
{
    char *fields[MAX_FIELDS];
    int n;
    TRY(cut_fields(line, number, fields, &n, err));
    for (int c = 0; c < N_COLUMNS; c++)
        if (list->column[c] >= n || fields[list->column[c]][0] == '\0')
            return err_set(err, ST_USAGE, "list of cases, line %d: a field is missing", number);
    const char *name = fields[list->column[0]];
    PackPair pair = {.line = number};
    if (strlen(name) >= sizeof pair.name)
        return err_set(err, ST_USAGE, "list of cases, line %d: the case's name is longer than %zu",
                       number, sizeof pair.name - 1);
    for (int32_t i = 0; i < list->n; i++)
        if (strcmp(list->pairs[i].name, name) == 0)
            return err_set(err, ST_USAGE, "list of cases, line %d: the case was named before",
                           number);
    memcpy(pair.name, name, strlen(name) + 1);
    TRY(copy_path(list, fields[list->column[1]], pair.ct, err));
    TRY(copy_path(list, fields[list->column[2]], pair.mr, err));
    if (list->n == list->room) {
        int32_t room = 2 * list->room + 16;
        PackPair *grown = reallocarray(list->pairs, (size_t)room, sizeof *grown);
        if (grown == NULL)
            return err_set(err, ST_NO_MEMORY, "a list of %d cases", room);
        list->pairs = grown;
        list->room = room;
    }
    list->pairs[list->n++] = pair;
    return ST_OK;
}

static Status read_lines(CaseList *list, char *text, Err *err)
{
    int number = 0;
    if (strncmp(text, BOM, strlen(BOM)) == 0)
        text += strlen(BOM);
    for (char *p = text, *next; *p != '\0'; p = next) {
        char *end = p + strcspn(p, "\r\n");
        next = end + (*end != '\0') + (end[0] == '\r' && end[1] == '\n');
        *end = '\0';
        number++;
        if (strspn(p, list->has_heading ? " \t," : " \t") == strlen(p)) /* a spreadsheet's ",," */
            continue;
        if (list->has_heading)
            TRY(read_row(list, p, number, err));
        else
            TRY(read_heading(list, p, number, err));
    }
    return list->n > 0 ? ST_OK : err_set(err, ST_USAGE, "the list names no case");
}

Status pack_list_read(const char *path, PackPair **ret, int32_t *ret_n, Err *err)
{
    char *text, copy[PATH_SIZE];
    size_t size;
    CaseList list = {0};
    TRY(path_format(copy, err, "%s", path));
    TRY(path_format(list.folder, err, "%s", dirname(copy)));
    TRY(file_read(path, MAX_BYTES, &text, &size, err));
    Status status = strlen(text) == size
                        ? read_lines(&list, text, err)
                        : err_set(err, ST_USAGE, "the list of cases is not a text");
    free(text);
    if (status != ST_OK) {
        free(list.pairs);
        return status;
    }
    *ret = list.pairs;
    *ret_n = list.n;
    return ST_OK;
}
