/* The option table (options.def) as data: what the parser, the example file, `ct2mr config options`
** and the tests walk over. Private to daemon/ and its tests. Thread: pure, but for *config. */
#ifndef CT2MR_DAEMON_CONFIG_OPTIONS_H
#define CT2MR_DAEMON_CONFIG_OPTIONS_H

#include "daemon/config.h"

#include <stddef.h>

typedef enum OptionKind {
    OPTION_STRING,
    OPTION_INT,
    OPTION_BOOL,
    OPTION_ENUM,
    OPTION_LIST
} OptionKind;

typedef struct Option {
    const char *key; /* "section.name" */
    OptionKind kind;
    size_t offset, size_bytes; /* of the field in Config */
    int32_t min, max;          /* INT */
    int32_t default_int;       /* INT, BOOL */
    const char *default_text;  /* STRING, ENUM */
    const char *values;        /* ENUM: "a|b|c" */
    const char *unit;          /* INT, "" if none */
    bool reloadable;
    const char *text;
} Option;

enum { OPTION_TEXT_SIZE = 160 };

/* The table by index; NULL past the end. */
const Option *config_option_at(int index);
/* Length of "section" in "section.name". */
size_t config_option_section_length(const Option *option);
/* "integer 1..65535 MiB", "text of 1..63 bytes", "true or false", "one of a|b|c", "list of text".
** Returns ret. */
const char *config_option_type(const Option *option, char ret[OPTION_TEXT_SIZE]);
/* The default as YAML writes it. Returns ret. */
const char *config_option_default(const Option *option, char ret[1024]);

/* Checks one scalar and stores it. is_plain: written without quotes, as numbers, booleans and
** nothing must be. For a list: appends. The message says what is allowed, not where it stood.
** Errors: CONFIG_TYPE, CONFIG_RANGE. */
MUST_CHECK Status config_option_set(const Option *option, const char *value, bool is_plain,
                                    Config *config, Err *err);
/* The checks that destinations share with options. what: for the message. */
MUST_CHECK Status config_check_int(const char *value, bool is_plain, int32_t min, int32_t max,
                                   int32_t *ret, Err *err);
MUST_CHECK Status config_check_text(const char *value, bool is_plain, size_t size_bytes, char *ret,
                                    Err *err);
/* PS3.5 6.2, AE: 1..16 characters of the default repertoire, no backslash, no control, not only
** spaces; spaces around it are not significant and refused here. */
MUST_CHECK Status config_check_ae(const char *value, bool is_plain, char ret[AE_SIZE], Err *err);
/* Plain and empty, "~" or "null": YAML's nothing. */
bool config_is_null(const char *value, bool is_plain);

/* Whole decimal number without sign '+', leading zeros (YAML 1.1 would read them as octal) or
** blanks. False if it is none; *ret_overflow (may be NULL) tells "a number, but too large". */
bool config_parse_int64(const char *text, int64_t *ret, bool *ret_overflow);

#endif
