/* The status table as lookups. One array, searched linearly: it is read when something went wrong
** or a person asks, never in a loop over data. */
#include "base/status.h"

#include <stddef.h>

typedef struct StatusRow {
    Status status;
    bool retryable;
    const char *name, *text, *remedy;
} StatusRow;

static const StatusRow rows[] = {
#define STATUS_ROW(name, number, retryable, text, remedy)                                          \
    {(Status)number, retryable, #name, text, remedy},
    STATUS_MAP(STATUS_ROW)
#undef STATUS_ROW
};
enum { N_ROWS = sizeof rows / sizeof *rows };

static const StatusRow *find(int number)
{
    for (size_t i = 0; i < N_ROWS; i++)
        if ((int)rows[i].status == number)
            return &rows[i];
    return NULL;
}

const char *status_name(Status status)
{
    const StatusRow *row = find((int)status);
    return row ? row->name : "?";
}

const char *status_text(Status status)
{
    const StatusRow *row = find((int)status);
    return row ? row->text : "?";
}

const char *status_remedy(Status status)
{
    const StatusRow *row = find((int)status);
    return row ? row->remedy : "?";
}

bool status_retryable(Status status)
{
    const StatusRow *row = find((int)status);
    return row && row->retryable;
}

bool status_from_number(int number, Status *ret)
{
    const StatusRow *row = find(number);
    if (row)
        *ret = row->status;
    return row != NULL;
}

bool status_at(int index, Status *ret)
{
    if (index < 0 || index >= N_ROWS)
        return false;
    *ret = rows[index].status;
    return true;
}
