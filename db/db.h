/* The database (SQLite): open, schema version, who may write.
**
** One process, the daemon, opens it as DB_OWNER; command line tools open it DB_READ while the
** daemon runs or not. WAL; state changes are committed with synchronous=FULL, received images
** with NORMAL (the durable file in spool/incoming is their truth, recovery re-reads it).
** Thread: a Db belongs to one thread. */
#ifndef CT2MR_DB_DB_H
#define CT2MR_DB_DB_H

#include "base/err.h"

typedef struct Db Db;
typedef enum DbMode { DB_OWNER, DB_READ } DbMode;

enum { DB_SCHEMA_VERSION = 1 };

/* Makes and migrates the schema (owner only). Errors: DB_SCHEMA (written by a newer version, or an
** older one that cannot be migrated, or not a ct2mr database), NOT_FOUND (DB_READ of a missing
** file), DB, DISK_FULL. */
MUST_CHECK Status db_open(const char *path, DbMode mode, Db **ret, Err *err);
void db_close(Db *db); /* NULL is fine */

#endif
