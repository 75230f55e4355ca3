/* What the operator's commands share. Private to daemon/. Thread: one. */
#ifndef CT2MR_DAEMON_CLI_INT_H
#define CT2MR_DAEMON_CLI_INT_H

#include "daemon/cli.h"
#include "db/jobs.h"

#include <getopt.h>
#include <stdio.h>

typedef struct CliCommand {
    const char *name, *arguments, *summary, *help;
} CliCommand;

/* The commands' texts by index; NULL past the end. */
const CliCommand *cli_command_at(int index);
const CliCommand *cli_command_find(const char *name); /* NULL if there is none */
/* Usage line, summary and help of one command; of all. */
void cli_print_command_help(FILE *out, const CliCommand *command);
void cli_print_help(FILE *out);

/* Options of the operator's commands. */
typedef struct CliOptions {
    const char *config; /* -c; NULL if not given */
    bool json;
    const char *state, *number, *timeout; /* -s -n -t; NULL if not given */
} CliOptions;

/* Reads options: -c and --json, and those of "snt" that are in `extra`. On success optind is the
** first argument. CLI_OK, or CLI_USAGE after having said why. */
int cli_get_options(const char *command, int argc, char **argv, const char *extra, CliOptions *ret);

/* Like cli_fail(), but for what control_request() returns: TIMEOUT is "not reachable" as well. */
int cli_fail_control(const Err *err, bool json);
/* For what an operator needs although the file is wrong (the daemon goes on with what it read
** before): one line of warning on stderr, then what config_load_partly() gives. */
void cli_load_config_partly(const char *path_or_null, Config *ret);
/* cli_load_config_partly(), then opens the database for reading. */
MUST_CHECK Status cli_open(const char *path_or_null, Config *ret_config, Db **ret, Err *err);

/* Text for a terminal: control characters become '?', at most `width` columns (0: no limit; cut
** text ends in "..."). UTF-8 counts one column per character. */
void cli_print_text(FILE *out, const char *text, int width);
/* Columns of the terminal, $COLUMNS where stdout is none, 0 if unknown. */
int cli_terminal_width(void);
/* "5s", "3m12s", "2h05m", "4d03h". Returns ret. */
const char *cli_duration_text(int64_t duration_ms, char ret[32]);
/* Adds KEY (ISO 8601 text) and KEY_ms, or two nulls for 0. */
void cli_json_add_time(cJSON *object, const char *key, int64_t wall_ms);

#endif
