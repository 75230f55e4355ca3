/* Logging: one line per state change, `key=value`, to stderr; journald reads the priority prefix.
**
** Library code does not log; daemon/ and the child roles do. Never patient data, never raw UIDs:
** a series is named by log_hash() of its UID. Thread: any. */
#ifndef CT2MR_BASE_LOG_H
#define CT2MR_BASE_LOG_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum LogLevel { /* syslog's numbers */
                        LOG_LEVEL_ALERT = 1,
                        LOG_LEVEL_ERROR = 3,
                        LOG_LEVEL_WARNING = 4,
                        LOG_LEVEL_NOTICE = 5,
                        LOG_LEVEL_INFO = 6,
                        LOG_LEVEL_DEBUG = 7
} LogLevel;

/* Lines above this level are dropped. Default LOG_LEVEL_INFO. */
void log_set_level(LogLevel level);
/* `event` is a fixed dotted name ("job.state"); the rest is `key=value` text. Control characters
** in the formatted text are replaced by '?'. */
__attribute__((format(printf, 3, 4))) void log_event(LogLevel level, const char *event,
                                                     const char *format, ...);

enum { LOG_HASH_SIZE = 13 };
/* The first 12 hex digits of the SHA-256 of text: a name for a UID that can be logged. */
const char *log_hash(const char *text, char ret[LOG_HASH_SIZE]);

#ifdef __cplusplus
}
#endif
#endif
