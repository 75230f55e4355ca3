/* The option table and the checks of single values. See config_options.h. */
#include "daemon/config_options.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static const Option options[] = {
#define FIELD(field) offsetof(Config, field), sizeof(((Config *)NULL)->field)
#define STRING(key, field, size, def, reload, text)                                                \
    {key, OPTION_STRING, FIELD(field), 0, 0, 0, def, "", "", reload, text},
#define INT(key, field, min, max, def, unit, reload, text)                                         \
    {key, OPTION_INT, FIELD(field), min, max, def, "", "", unit, reload, text},
#define BOOL(key, field, def, reload, text)                                                        \
    {key, OPTION_BOOL, FIELD(field), 0, 1, def, "", "", "", reload, text},
#define ENUM(key, field, values, def, reload, text)                                                \
    {key, OPTION_ENUM, FIELD(field), 0, 0, 0, def, values, "", reload, text},
#define LIST(key, field, reload, text)                                                             \
    {key, OPTION_LIST, FIELD(field), 0, 0, 0, "", "", "", reload, text},
#include "daemon/options.def"
#undef STRING
#undef INT
#undef BOOL
#undef ENUM
#undef LIST
#undef FIELD
};
enum { N_OPTIONS = sizeof options / sizeof *options };

const Option *config_option_at(int index)
{
    return index >= 0 && index < N_OPTIONS ? &options[index] : NULL;
}

size_t config_option_section_length(const Option *option)
{
    return strcspn(option->key, ".");
}

const char *config_option_type(const Option *option, char ret[OPTION_TEXT_SIZE])
{
    switch (option->kind) {
    case OPTION_STRING:
        (void)snprintf(ret, OPTION_TEXT_SIZE, "text of 1..%zu bytes", option->size_bytes - 1);
        break;
    case OPTION_INT:
        (void)snprintf(ret, OPTION_TEXT_SIZE, "integer %d..%d%s%s", option->min, option->max,
                       option->unit[0] ? " " : "", option->unit);
        break;
    case OPTION_BOOL:
        (void)snprintf(ret, OPTION_TEXT_SIZE, "true or false");
        break;
    case OPTION_ENUM:
        (void)snprintf(ret, OPTION_TEXT_SIZE, "one of %s", option->values);
        break;
    case OPTION_LIST:
        (void)snprintf(ret, OPTION_TEXT_SIZE, "list of 0..%d texts of 1..%zu bytes",
                       CONFIG_MAX_LIST, sizeof((StringList *)NULL)->items[0] - 1);
        break;
    }
    return ret;
}

const char *config_option_default(const Option *option, char ret[1024])
{
    switch (option->kind) {
    case OPTION_STRING:
    case OPTION_ENUM:
        (void)snprintf(ret, 1024, "%s", option->default_text);
        break;
    case OPTION_INT:
        (void)snprintf(ret, 1024, "%d", option->default_int);
        break;
    case OPTION_BOOL:
        (void)snprintf(ret, 1024, "%s", option->default_int ? "true" : "false");
        break;
    case OPTION_LIST:
        (void)snprintf(ret, 1024, "[]");
        break;
    }
    return ret;
}

bool config_is_null(const char *value, bool is_plain)
{
    return is_plain && (value[0] == '\0' || strcmp(value, "~") == 0 || strcmp(value, "null") == 0 ||
                        strcmp(value, "Null") == 0 || strcmp(value, "NULL") == 0);
}

bool config_parse_int64(const char *text, int64_t *ret, bool *ret_overflow)
{
    bool negative = text[0] == '-', overflow = false;
    const char *p = text + (negative ? 1 : 0);
    if (*p == '\0' || (*p == '0' && (p[1] != '\0' || negative)))
        return false;
    int64_t value = 0; /* kept negative: the range is larger there */
    for (; *p != '\0'; p++) {
        if (*p < '0' || *p > '9')
            return false;
        if (__builtin_mul_overflow(value, (int64_t)10, &value) ||
            __builtin_sub_overflow(value, (int64_t)(*p - '0'), &value))
            overflow = true;
    }
    if (!negative && value == INT64_MIN)
        overflow = true;
    if (ret_overflow != NULL)
        *ret_overflow = overflow;
    if (overflow)
        return false;
    *ret = negative ? value : -value;
    return true;
}

/* The value as a message may show it: short, without control characters. */
static const char *shown(const char *value, char ret[44])
{
    size_t n = strnlen(value, 40);
    for (size_t i = 0; i < n; i++)
        ret[i] = value[i] < 32 || value[i] > 126 ? '?' : value[i];
    memcpy(ret + n, value[n] != '\0' ? "..." : "", value[n] != '\0' ? 4 : 1);
    return ret;
}

Status config_check_int(const char *value, bool is_plain, int32_t min, int32_t max, int32_t *ret,
                        Err *err)
{
    char text[44];
    int64_t number;
    bool overflow = false;
    if (!is_plain || (!config_parse_int64(value, &number, &overflow) && !overflow))
        return err_set(err, ST_CONFIG_TYPE,
                       "'%s' is not a whole number (without quotes, decimal, no leading zero), "
                       "allowed %d..%d",
                       shown(value, text), min, max);
    if (overflow || number < min || number > max)
        return err_set(err, ST_CONFIG_RANGE, "%s is out of range, allowed %d..%d",
                       shown(value, text), min, max);
    *ret = (int32_t)number;
    return ST_OK;
}

Status config_check_text(const char *value, bool is_plain, size_t size_bytes, char *ret, Err *err)
{
    size_t n = strlen(value);
    if (config_is_null(value, is_plain))
        return err_set(err, ST_CONFIG_TYPE, "no value, expected text of 1..%zu bytes",
                       size_bytes - 1);
    if (n == 0 || n >= size_bytes)
        return err_set(err, ST_CONFIG_RANGE, "%zu bytes, allowed 1..%zu", n, size_bytes - 1);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)value[i] < 32 || value[i] == 127)
            return err_set(err, ST_CONFIG_RANGE, "control character at byte %zu, none allowed",
                           i + 1);
    memset(ret, 0, size_bytes); /* fields are compared whole by config_reload() */
    memcpy(ret, value, n);
    return ST_OK;
}

Status config_check_ae(const char *value, bool is_plain, char ret[AE_SIZE], Err *err)
{
    static const char allowed[] =
        "allowed are 1..16 characters of ASCII 32..126 without backslash and without spaces around";
    size_t n = strlen(value);
    bool ok = n >= 1 && n < AE_SIZE && value[0] != ' ' && value[n - 1] != ' ';
    for (size_t i = 0; i < n; i++)
        if (value[i] < 32 || value[i] > 126 || value[i] == '\\')
            ok = false;
    if (config_is_null(value, is_plain))
        return err_set(err, ST_CONFIG_TYPE, "no value; %s", allowed);
    char text[44];
    if (!ok)
        return err_set(err, ST_CONFIG_RANGE, "'%s' is not an AE title; %s", shown(value, text),
                       allowed);
    memset(ret, 0, AE_SIZE);
    memcpy(ret, value, n);
    return ST_OK;
}

/* "a.b.c.d", "IPv6" and, with_length, "a.b.c.d/0..32" or "IPv6/0..128". */
static Status check_address(const char *value, bool with_length, Err *err)
{
    char host[64], text[44];
    unsigned char bytes[16];
    const char *slash = with_length ? strchr(value, '/') : NULL;
    size_t n = slash ? (size_t)(slash - value) : strlen(value);
    int family = 0;
    if (n < sizeof host) {
        memcpy(host, value, n);
        host[n] = '\0';
        family = inet_pton(AF_INET, host, bytes) == 1    ? AF_INET
                 : inet_pton(AF_INET6, host, bytes) == 1 ? AF_INET6
                                                         : 0;
    }
    int64_t length = 0;
    bool ok = family != 0;
    if (ok && slash != NULL)
        ok = config_parse_int64(slash + 1, &length, NULL) && length >= 0 &&
             length <= (family == AF_INET ? 32 : 128);
    if (!ok)
        return err_set(err, ST_CONFIG_RANGE, "'%s' is not an address, allowed are IPv4 and IPv6%s",
                       shown(value, text), with_length ? ", each with or without /length" : "");
    return ST_OK;
}

/* What text means, beyond its length, for the few options where it matters. */
static Status check_format(const Option *option, const char *value, bool is_plain, Err *err)
{
    char ae[AE_SIZE];
    if (strcmp(option->key, "listen.ae_title") == 0 ||
        strcmp(option->key, "listen.calling_ae") == 0)
        return config_check_ae(value, is_plain, ae, err);
    if (strcmp(option->key, "listen.allow") == 0)
        return check_address(value, true, err);
    if (strcmp(option->key, "listen.address") == 0)
        return check_address(value, false, err);
    return ST_OK;
}

static Status check_enum(const Option *option, const char *value, bool is_plain, Err *err)
{
    char text[44];
    size_t n = strlen(value);
    if (config_is_null(value, is_plain))
        return err_set(err, ST_CONFIG_TYPE, "no value, allowed %s", option->values);
    for (const char *p = option->values; n > 0; p++) {
        size_t length = strcspn(p, "|");
        if (length == n && memcmp(p, value, n) == 0)
            return ST_OK;
        p += length;
        if (*p == '\0')
            break;
    }
    return err_set(err, ST_CONFIG_RANGE, "'%s' is unknown, allowed %s", shown(value, text),
                   option->values);
}

static Status set_bool(const char *value, bool is_plain, bool *ret, Err *err)
{
    char text[44];
    if (is_plain && (strcmp(value, "true") == 0 || strcmp(value, "false") == 0)) {
        *ret = value[0] == 't';
        return ST_OK;
    }
    return err_set(err, ST_CONFIG_TYPE, "'%s' is neither true nor false (without quotes)",
                   shown(value, text));
}

Status config_option_set(const Option *option, const char *value, bool is_plain, Config *config,
                         Err *err)
{
    unsigned char *field = (unsigned char *)config + option->offset;
    switch (option->kind) {
    case OPTION_INT:
        return config_check_int(value, is_plain, option->min, option->max, (int32_t *)(void *)field,
                                err);
    case OPTION_BOOL:
        return set_bool(value, is_plain, (bool *)(void *)field, err);
    case OPTION_ENUM:
        TRY(check_enum(option, value, is_plain, err));
        return config_check_text(value, is_plain, option->size_bytes, (char *)field, err);
    case OPTION_STRING: {
        char text[1024];
        ASSERT(option->size_bytes <= sizeof text);
        TRY(config_check_text(value, is_plain, option->size_bytes, text, err));
        TRY(check_format(option, value, is_plain, err));
        memcpy(field, text, option->size_bytes);
        return ST_OK;
    }
    case OPTION_LIST: {
        StringList *list = (StringList *)(void *)field;
        if (list->n == CONFIG_MAX_LIST)
            return err_set(err, ST_CONFIG_RANGE, "more than %d items", CONFIG_MAX_LIST);
        char text[sizeof list->items[0]];
        TRY(config_check_text(value, is_plain, sizeof text, text, err));
        TRY(check_format(option, value, is_plain, err));
        memcpy(list->items[list->n++], text, sizeof text);
        return ST_OK;
    }
    }
    return err_set(err, ST_INTERNAL, "option %s has no kind", option->key);
}
