/* Configuration: one table of options (options.def), YAML (libyaml), refused whole if one line is
** wrong. Thread: a Config is immutable after config_load(). */
#ifndef CT2MR_DAEMON_CONFIG_H
#define CT2MR_DAEMON_CONFIG_H

#include "base/err.h"
#include "base/instance.h"

#include <stdint.h>
#include <stdio.h>

enum { CONFIG_MAX_LIST = 64, CONFIG_MAX_DESTINATIONS = 16 };

typedef struct StringList {
    int32_t n;
    char items[CONFIG_MAX_LIST][64];
} StringList;

typedef struct ConfigDestination {
    char name[64], ae_title[AE_SIZE], host[256];
    char calling_ae[AE_SIZE]; /* default: listen.ae_title */
    int32_t port;
} ConfigDestination;

typedef struct Config {
#define STRING(key, field, size, def, reload, text) char field[size];
#define INT(key, field, min, max, def, unit, reload, text) int32_t field;
#define BOOL(key, field, def, reload, text) bool field;
#define ENUM(key, field, values, def, reload, text) char field[32];
#define LIST(key, field, reload, text) StringList field;
#include "daemon/options.def"
#undef STRING
#undef INT
#undef BOOL
#undef ENUM
#undef LIST
    int32_t n_destinations;
    ConfigDestination destinations[CONFIG_MAX_DESTINATIONS]; /* reloadable */
} Config;

/* Every option at its default, no destinations. */
void config_defaults(Config *ret);
/* Errors: CONFIG_SYNTAX, CONFIG_KEY (unknown, repeated), CONFIG_TYPE, CONFIG_RANGE; messages read
** "FILE:LINE:COLUMN: KEY: what is wrong, what is allowed". CONFIG_FILE (missing, unreadable; err's
** native is the errno), NO_MEMORY. */
MUST_CHECK Status config_load(const char *path, Config *ret, Err *err);
/* The same for who must go on with a wrong file: *ret is written in any case, with the values that
** stand before the error and the defaults of all others. Returns what config_load() would. */
MUST_CHECK Status config_load_partly(const char *path, Config *ret, Err *err);
/* Takes the reloadable options of `fresh` over into `config`; returns how many options that need a
** restart differ, and names the first in ret_first. */
int config_reload(Config *config, const Config *fresh, char ret_first[64]);
/* NULL if there is none of that name. */
const ConfigDestination *config_destination(const Config *config, const char *name);
/* The commented example file (etc/ct2mr.yaml is this text: a test compares). */
void config_print_example(FILE *out);

#endif
