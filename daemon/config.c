/* Reading the configuration: YAML events (libyaml) against the option table.
**
** The grammar is smaller than YAML: one document, a mapping of sections to mappings of scalars or
** lists of scalars, and `destinations:`, a list of flat mappings. Everything else (anchors,
** aliases, tags, deeper nesting) is refused at the first event that shows it, so neither an alias
** bomb nor a million brackets costs anything: no tree is ever built. */
#include "daemon/config.h"

#include "base/files.h"
#include "daemon/config_options.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { MAX_FILE_BYTES = 1 << 18, MAX_OPTIONS = 128, KEY_SIZE = 96 };

typedef struct Loader {
    yaml_parser_t parser;
    yaml_event_t event; /* zeroed when there is none */
    const char *path, *data;
    size_t size_bytes;
    Config *config;
    yaml_mark_t marks[MAX_OPTIONS]; /* where option i was set */
    bool seen[MAX_OPTIONS];         /* option i was set */
    bool section_seen[MAX_OPTIONS]; /* by the section's first option */
    bool destinations_seen;
    size_t bad_byte; /* offset of the first byte that no YAML may hold, if it came to that */
    Err *err;
} Loader;

void config_defaults(Config *ret)
{
    memset(ret, 0, sizeof *ret); /* lists and the rest of every string too: see config_reload() */
    const Option *option;
    for (int i = 0; (option = config_option_at(i)) != NULL; i++) {
        unsigned char *field = (unsigned char *)ret + option->offset;
        if (option->kind == OPTION_INT) {
            memcpy(field, &option->default_int, sizeof option->default_int);
        } else if (option->kind == OPTION_BOOL) {
            bool value = option->default_int != 0;
            memcpy(field, &value, sizeof value);
        } else if (option->kind != OPTION_LIST) {
            ASSERT(strlen(option->default_text) < option->size_bytes);
            memcpy(field, option->default_text, strlen(option->default_text));
        }
    }
}

__attribute__((format(printf, 5, 6))) static Status
fail(Loader *loader, yaml_mark_t mark, Status status, const char *key, const char *format, ...)
{
    char text[ERR_MSG_SIZE];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return err_set(loader->err, status, "%s:%zu:%zu: %s%s%s", loader->path, mark.line + 1,
                   mark.column + 1, key, key[0] ? ": " : "", text);
}

/* A check's own message gets its place and key in front. */
static Status fail_value(Loader *loader, yaml_mark_t mark, const char *key)
{
    return err_wrap(loader->err, "%s:%zu:%zu: %s", loader->path, mark.line + 1, mark.column + 1,
                    key);
}

/* Line and column of a byte; a column is a character, as libyaml counts. */
static yaml_mark_t mark_at(const Loader *loader, size_t offset)
{
    yaml_mark_t mark = {0};
    for (size_t i = 0; i < offset && i < loader->size_bytes; i++) {
        if (loader->data[i] == '\n') {
            mark.line++;
            mark.column = 0;
        } else if (((unsigned char)loader->data[i] & 0xc0) != 0x80) {
            mark.column++;
        }
    }
    return mark;
}

static Status fail_parse(Loader *loader)
{
    const yaml_parser_t *parser = &loader->parser;
    if (parser->error == YAML_MEMORY_ERROR)
        return err_set(loader->err, ST_NO_MEMORY, "reading %s", loader->path);
    yaml_mark_t mark = parser->problem_mark;
    if (parser->error == YAML_READER_ERROR) { /* reads ahead and knows only the byte */
        loader->bad_byte = parser->problem_offset;
        mark = mark_at(loader, parser->problem_offset);
    }
    return fail(loader, mark, ST_CONFIG_SYNTAX, "", "%s",
                parser->problem ? parser->problem : "not YAML");
}

/* The next event; refuses what no configuration needs. */
static Status next(Loader *loader)
{
    yaml_event_delete(&loader->event);
    if (!yaml_parser_parse(&loader->parser, &loader->event))
        return fail_parse(loader);
    const yaml_event_t *event = &loader->event;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    }
    if (event->type == YAML_ALIAS_EVENT || anchor != NULL)
        return fail(loader, event->start_mark, ST_CONFIG_SYNTAX, "",
                    "anchors and aliases are not allowed");
    if (tag != NULL)
        return fail(loader, event->start_mark, ST_CONFIG_SYNTAX, "", "tags are not allowed");
    return ST_OK;
}

/* The present event's scalar; NULL if it is no scalar or holds a 0 byte (by way of "\0"). */
static const char *scalar(const Loader *loader, bool *ret_plain)
{
    if (loader->event.type != YAML_SCALAR_EVENT)
        return NULL;
    const char *text = (const char *)loader->event.data.scalar.value;
    if (strlen(text) != loader->event.data.scalar.length)
        return NULL;
    *ret_plain = loader->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return text;
}

/* A mapping's key as printable text, cut to what a message can hold. */
static Status read_key(Loader *loader, const char *prefix, char ret[KEY_SIZE])
{
    bool plain;
    const char *text = scalar(loader, &plain);
    if (text == NULL)
        return fail(loader, loader->event.start_mark, ST_CONFIG_TYPE, "", "a key must be text");
    int n = snprintf(ret, KEY_SIZE, "%s%s", prefix, text);
    for (size_t i = 0; ret[i] != '\0'; i++)
        if (ret[i] < 32 || ret[i] > 126)
            ret[i] = '?'; /* no known key has such, so this cannot make one */
    if (n >= KEY_SIZE)
        return fail(loader, loader->event.start_mark, ST_CONFIG_KEY, ret, "unknown (too long)");
    return ST_OK;
}

static Status load_list(Loader *loader, const Option *option)
{
    if (loader->event.type != YAML_SEQUENCE_START_EVENT)
        return fail(loader, loader->event.start_mark, ST_CONFIG_TYPE, option->key,
                    "not a list; write [A, B], or [] for none");
    for (;;) {
        TRY(next(loader));
        if (loader->event.type == YAML_SEQUENCE_END_EVENT)
            return ST_OK;
        bool plain;
        const char *text = scalar(loader, &plain);
        if (text == NULL)
            return fail(loader, loader->event.start_mark, ST_CONFIG_TYPE, option->key,
                        "an item must be text");
        if (config_option_set(option, text, plain, loader->config, loader->err) != ST_OK)
            return fail_value(loader, loader->event.start_mark, option->key);
    }
}

static Status load_option(Loader *loader, int index)
{
    const Option *option = config_option_at(index);
    yaml_mark_t key_mark = loader->event.start_mark;
    if (loader->seen[index])
        return fail(loader, key_mark, ST_CONFIG_KEY, option->key, "repeated; first on line %zu",
                    loader->marks[index].line + 1);
    TRY(next(loader));
    loader->seen[index] = true;
    loader->marks[index] = loader->event.start_mark;
    if (option->kind == OPTION_LIST)
        return load_list(loader, option);
    bool plain;
    const char *text = scalar(loader, &plain);
    char type[OPTION_TEXT_SIZE];
    if (text == NULL)
        return fail(loader, loader->event.start_mark, ST_CONFIG_TYPE, option->key, "expected %s",
                    config_option_type(option, type));
    if (config_option_set(option, text, plain, loader->config, loader->err) != ST_OK)
        return fail_value(loader, loader->event.start_mark, option->key);
    return ST_OK;
}

static int find_option(const char *key)
{
    const Option *option;
    for (int i = 0; (option = config_option_at(i)) != NULL; i++)
        if (strcmp(option->key, key) == 0)
            return i;
    return -1;
}

static int find_section(const char *name)
{
    const Option *option;
    for (int i = 0; (option = config_option_at(i)) != NULL; i++)
        if (config_option_section_length(option) == strlen(name) &&
            strncmp(option->key, name, strlen(name)) == 0)
            return i;
    return -1;
}

/* The value of a section: a mapping, or nothing (all its lines commented out). */
static Status load_section(Loader *loader, const char *name)
{
    TRY(next(loader));
    bool plain;
    const char *text = scalar(loader, &plain);
    if (text != NULL && config_is_null(text, plain))
        return ST_OK;
    if (loader->event.type != YAML_MAPPING_START_EVENT)
        return fail(loader, loader->event.start_mark, ST_CONFIG_TYPE, name,
                    "a section; its options belong below it, indented");
    char prefix[KEY_SIZE + 1], key[KEY_SIZE];
    (void)snprintf(prefix, sizeof prefix, "%s.", name);
    for (;;) {
        TRY(next(loader));
        if (loader->event.type == YAML_MAPPING_END_EVENT)
            return ST_OK;
        TRY(read_key(loader, prefix, key));
        int index = find_option(key);
        if (index < 0)
            return fail(loader, loader->event.start_mark, ST_CONFIG_KEY, key,
                        "unknown; `ct2mr config options` lists all");
        TRY(load_option(loader, index));
    }
}

enum { DEST_NAME, DEST_AE_TITLE, DEST_HOST, DEST_PORT, DEST_CALLING_AE, N_DEST_KEYS };
static const char *const dest_keys[N_DEST_KEYS] = {"name", "ae_title", "host", "port",
                                                   "calling_ae"};

static Status check_name(const char *value, bool is_plain, ConfigDestination *ret, Err *err)
{
    TRY(config_check_text(value, is_plain, sizeof ret->name, ret->name, err));
    if (strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") !=
        strlen(value))
        return err_set(err, ST_CONFIG_RANGE, "allowed are letters, digits, '_' and '-'");
    return ST_OK;
}

enum { HOST_MAX_BYTES = 100 }; /* DCMTK 3.6.7 takes no more, and no IPv6 address */

static Status check_host(const char *value, bool is_plain, ConfigDestination *ret, Err *err)
{
    TRY(config_check_text(value, is_plain, HOST_MAX_BYTES + 1, ret->host, err));
    if (strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.") !=
        strlen(value))
        return err_set(err, ST_CONFIG_RANGE,
                       "not a host name or IPv4 address (IPv6 is not possible)");
    return ST_OK;
}

static Status set_dest_value(Loader *loader, int which, ConfigDestination *dest, const char *key)
{
    yaml_mark_t mark = loader->event.start_mark;
    bool plain;
    const char *text = scalar(loader, &plain);
    if (text == NULL)
        return fail(loader, mark, ST_CONFIG_TYPE, key, "expected a single value");
    Status status = ST_OK;
    if (which == DEST_NAME)
        status = check_name(text, plain, dest, loader->err);
    else if (which == DEST_AE_TITLE)
        status = config_check_ae(text, plain, dest->ae_title, loader->err);
    else if (which == DEST_HOST)
        status = check_host(text, plain, dest, loader->err);
    else if (which == DEST_PORT)
        status = config_check_int(text, plain, 1, 65535, &dest->port, loader->err);
    else
        status = config_check_ae(text, plain, dest->calling_ae, loader->err);
    if (status != ST_OK)
        return fail_value(loader, mark, key);
    if (which == DEST_NAME && config_destination(loader->config, dest->name) != NULL)
        return fail(loader, mark, ST_CONFIG_KEY, key, "a destination '%s' is already there",
                    dest->name);
    return ST_OK;
}

/* One mapping of the list. */
static Status load_destination(Loader *loader)
{
    Config *config = loader->config;
    yaml_mark_t start = loader->event.start_mark;
    char prefix[32], key[KEY_SIZE];
    (void)snprintf(prefix, sizeof prefix, "destinations[%d]", config->n_destinations);
    if (loader->event.type != YAML_MAPPING_START_EVENT)
        return fail(loader, start, ST_CONFIG_TYPE, prefix,
                    "expected a mapping of name, ae_title, host, port");
    if (config->n_destinations == CONFIG_MAX_DESTINATIONS)
        return fail(loader, start, ST_CONFIG_RANGE, prefix, "more than %d destinations",
                    CONFIG_MAX_DESTINATIONS);
    (void)snprintf(prefix, sizeof prefix, "destinations[%d].", config->n_destinations);
    ConfigDestination dest;
    memset(&dest, 0, sizeof dest);
    bool seen[N_DEST_KEYS] = {false};
    for (;;) {
        TRY(next(loader));
        if (loader->event.type == YAML_MAPPING_END_EVENT)
            break;
        TRY(read_key(loader, prefix, key));
        int which = 0;
        while (which < N_DEST_KEYS && strcmp(key + strlen(prefix), dest_keys[which]) != 0)
            which++;
        if (which == N_DEST_KEYS)
            return fail(loader, loader->event.start_mark, ST_CONFIG_KEY, key,
                        "unknown, allowed name, ae_title, host, port, calling_ae");
        if (seen[which])
            return fail(loader, loader->event.start_mark, ST_CONFIG_KEY, key, "repeated");
        seen[which] = true;
        TRY(next(loader));
        TRY(set_dest_value(loader, which, &dest, key));
    }
    for (int i = 0; i < DEST_CALLING_AE; i++)
        if (!seen[i])
            return fail(loader, start, ST_CONFIG_KEY, "destinations",
                        "item %d: %s is missing (name, ae_title, host, port are needed)",
                        config->n_destinations + 1, dest_keys[i]);
    config->destinations[config->n_destinations++] = dest;
    return ST_OK;
}

static Status load_destinations(Loader *loader)
{
    TRY(next(loader));
    if (loader->event.type != YAML_SEQUENCE_START_EVENT)
        return fail(loader, loader->event.start_mark, ST_CONFIG_TYPE, "destinations",
                    "not a list; write [] for none");
    for (;;) {
        TRY(next(loader));
        if (loader->event.type == YAML_SEQUENCE_END_EVENT)
            return ST_OK;
        TRY(load_destination(loader));
    }
}

static Status load_root_entry(Loader *loader)
{
    yaml_mark_t mark = loader->event.start_mark;
    char key[KEY_SIZE];
    TRY(read_key(loader, "", key));
    if (strcmp(key, "destinations") == 0) {
        if (loader->destinations_seen)
            return fail(loader, mark, ST_CONFIG_KEY, key, "repeated");
        loader->destinations_seen = true;
        return load_destinations(loader);
    }
    int section = find_section(key);
    if (section < 0)
        return fail(loader, mark, ST_CONFIG_KEY, key,
                    "unknown section; `ct2mr config options` lists all");
    if (loader->section_seen[section])
        return fail(loader, mark, ST_CONFIG_KEY, key, "repeated section");
    loader->section_seen[section] = true;
    return load_section(loader, key);
}

static Status load_stream(Loader *loader)
{
    TRY(next(loader)); /* stream start */
    TRY(next(loader));
    if (loader->event.type == YAML_STREAM_END_EVENT)
        return ST_OK; /* nothing but comments: all defaults */
    if (loader->event.data.document_start.tag_directives.start !=
        loader->event.data.document_start.tag_directives.end)
        return fail(loader, loader->event.start_mark, ST_CONFIG_SYNTAX, "", "tags are not allowed");
    TRY(next(loader));
    bool plain;
    const char *text = scalar(loader, &plain);
    if (loader->event.type == YAML_MAPPING_START_EVENT) {
        for (;;) {
            TRY(next(loader));
            if (loader->event.type == YAML_MAPPING_END_EVENT)
                break;
            TRY(load_root_entry(loader));
        }
    } else if (text == NULL || !config_is_null(text, plain)) {
        return fail(loader, loader->event.start_mark, ST_CONFIG_TYPE, "",
                    "expected sections (`listen:` and so on)");
    }
    TRY(next(loader)); /* document end */
    TRY(next(loader));
    if (loader->event.type != YAML_STREAM_END_EVENT)
        return fail(loader, loader->event.start_mark, ST_CONFIG_SYNTAX, "",
                    "more than one document");
    return ST_OK;
}

/* low must not exceed high; the place is that of the one that was set. */
static Status check_order(Loader *loader, const char *low_key, int32_t low, const char *high_key,
                          int32_t high)
{
    if (low <= high)
        return ST_OK;
    int index = find_option(low_key);
    if (!loader->seen[index])
        index = find_option(high_key);
    return fail(loader, loader->marks[index], ST_CONFIG_RANGE, config_option_at(index)->key,
                "%s = %d is more than %s = %d", low_key, low, high_key, high);
}

static Status check_whole(Loader *loader)
{
    const Config *c = loader->config;
    TRY(check_order(loader, "series.quiet_s", c->quiet_s, "series.max_quiet_s", c->max_quiet_s));
    TRY(check_order(loader, "series.min_slices", c->min_slices, "series.max_slices",
                    c->max_slices));
    return check_order(loader, "send.retry_first_s", c->retry_first_s, "send.retry_max_s",
                       c->retry_max_s);
}

static Status load_bytes(Loader *loader, const char *data, size_t size_bytes)
{
    loader->data = data;
    loader->size_bytes = size_bytes;
    const char *zero = memchr(data, '\0', size_bytes);
    if (zero != NULL) {
        loader->bad_byte = (size_t)(zero - data);
        return fail(loader, mark_at(loader, loader->bad_byte), ST_CONFIG_SYNTAX, "",
                    "0 byte in the file");
    }
    if (!yaml_parser_initialize(&loader->parser))
        return err_set(loader->err, ST_NO_MEMORY, "reading %s", loader->path);
    yaml_parser_set_input_string(&loader->parser, (const unsigned char *)data, size_bytes);
    yaml_parser_set_encoding(&loader->parser, YAML_UTF8_ENCODING);
    Status status = load_stream(loader);
    yaml_event_delete(&loader->event);
    yaml_parser_delete(&loader->parser);
    return status != ST_OK ? status : check_whole(loader);
}

/* As far as the first error; then *ret_bad_byte is the offset of a byte that no YAML may hold,
** before which nothing was read, or size_bytes. */
static Status load_text(const char *path, const char *data, size_t size_bytes, Config *config,
                        size_t *ret_bad_byte, Err *err)
{
    Loader loader;
    memset(&loader, 0, sizeof loader);
    loader.path = path;
    loader.config = config;
    loader.err = err;
    loader.bad_byte = size_bytes;
    ASSERT(config_option_at(MAX_OPTIONS) == NULL);
    config_defaults(config);
    Status status = load_bytes(&loader, data, size_bytes);
    for (int i = 0; i < config->n_destinations; i++)
        if (config->destinations[i].calling_ae[0] == '\0')
            memcpy(config->destinations[i].calling_ae, config->listen_ae_title, AE_SIZE);
    *ret_bad_byte = loader.bad_byte;
    return status;
}

static Status read_text(const char *path, char **ret_data, size_t *ret_size_bytes, Err *err)
{
    Err own = {0};
    Status status = file_read(path, MAX_FILE_BYTES, ret_data, ret_size_bytes, &own);
    if (status == ST_LIMIT)
        return err_set(err, ST_CONFIG_SYNTAX, "%s: larger than %d bytes", path, MAX_FILE_BYTES);
    if (status == ST_NOT_FOUND || status == ST_IO)
        own.status = ST_CONFIG_FILE;
    if (status != ST_OK && err != NULL)
        *err = own;
    return own.status;
}

Status config_load(const char *path, Config *ret, Err *err)
{
    char *data;
    size_t size_bytes, bad_byte;
    Err own = {0};
    Config config;
    TRY(read_text(path, &data, &size_bytes, err));
    Status status = load_text(path, data, size_bytes, &config, &bad_byte, &own);
    free(data);
    if (status == ST_OK)
        *ret = config;
    else if (err != NULL)
        *err = own;
    return status;
}

Status config_load_partly(const char *path, Config *ret, Err *err)
{
    char *data;
    size_t size_bytes, bad_byte, ignored;
    Err own = {0};
    config_defaults(ret);
    TRY(read_text(path, &data, &size_bytes, err));
    Status status = load_text(path, data, size_bytes, ret, &bad_byte, &own);
    if (bad_byte < size_bytes) { /* the whole lines before it */
        while (bad_byte > 0 && data[bad_byte - 1] != '\n')
            bad_byte--;
        (void)load_text(path, data, bad_byte, ret, &ignored, NULL);
    }
    free(data);
    if (status != ST_OK && err != NULL)
        *err = own;
    return status;
}

int config_reload(Config *config, const Config *fresh, char ret_first[64])
{
    int n_restart = 0;
    const Option *option;
    for (int i = 0; (option = config_option_at(i)) != NULL; i++) {
        unsigned char *field = (unsigned char *)config + option->offset;
        const unsigned char *wanted = (const unsigned char *)fresh + option->offset;
        if (option->reloadable)
            memcpy(field, wanted, option->size_bytes);
        else if (memcmp(field, wanted, option->size_bytes) != 0 && n_restart++ == 0)
            (void)snprintf(ret_first, 64, "%s", option->key);
    }
    config->n_destinations = fresh->n_destinations;
    memcpy(config->destinations, fresh->destinations, sizeof config->destinations);
    if (n_restart == 0)
        ret_first[0] = '\0';
    return n_restart;
}

const ConfigDestination *config_destination(const Config *config, const char *name)
{
    for (int i = 0; i < config->n_destinations; i++)
        if (strcmp(config->destinations[i].name, name) == 0)
            return &config->destinations[i];
    return NULL;
}
