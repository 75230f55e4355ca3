/* How the transfer of a series stands: what associations say about it. See jobs.h.
**
** An image may be missing whose series nobody knows: its association was cut within it, it was
** refused, or the association was turned away. Then the peer is suspect from that moment, and a
** series of that peer is cut if the missing image may have been its own:
**   - an open association is bringing it (the caller knows), or one that was open at that moment
**     brings it later;
**   - it comes in more than one association, as from senders that use one for each image.
** A series that came in one association which was released in order is whole as far as its sender
** is concerned; what happens to the next association does not touch it.
**
** A cut is mended when every image of the series has come (again) since and the associations that
** brought them ended in order. Associations are counted anew from each cut: a series that was sent
** again whole in one is as good as one that came so at first. */
#include "db/db_int.h"

#define CUT "transfer = 3, cuts = cuts + 1, n_associations = 0,"
#define SUSPECT_KEPT_MS INT64_C(86400000) /* longer than any wait */

static const char sql_join[] =
    "UPDATE series SET n_associations = n_associations + 1 WHERE series_uid = ?1";
static const char sql_join_cut[] =
    "UPDATE series SET transfer = 3, cuts = cuts + 1, cut_ms = ?5, n_associations = 1"
    " WHERE series_uid = ?1 AND"
    " EXISTS(SELECT 1 FROM suspect p WHERE p.calling_ae = ?2 AND p.at_ms > series.cut_ms AND"
    "        p.at_ms >= series.first_image_ms - ?4 AND"
    "        (?3 <= p.at_ms OR series.n_associations > 1))"
    " AND " SERIES_IS_ARRIVING;
static const char sql_cut[] = "UPDATE series SET " CUT " cut_ms = ?2 WHERE series_uid = ?1"
                              " AND " SERIES_IS_ARRIVING;
static const char sql_suspect[] = "INSERT INTO suspect(calling_ae, at_ms) VALUES(?1, ?2)"
                                  " ON CONFLICT(calling_ae) DO UPDATE SET at_ms = ?2";
static const char sql_forget[] = "DELETE FROM suspect WHERE at_ms < ?1 - ?2";
/* A clock that had been ahead left times in the future. */
static const char sql_clamp_suspects[] = "UPDATE suspect SET at_ms = ?1 WHERE at_ms > ?1";
static const char sql_clamp_cuts[] = "UPDATE series SET cut_ms = ?1 WHERE cut_ms > ?1";
static const char sql_cut_peer[] =
    "UPDATE series SET " CUT " cut_ms = ?2 WHERE n_associations > 1 AND"
    " EXISTS(SELECT 1 FROM image i WHERE i.series_id = series.id AND i.calling_ae = ?1)"
    " AND " SERIES_IS_ARRIVING;
static const char sql_cut_interrupted[] =
    "UPDATE series SET " CUT " cut_ms = ?1"
    " WHERE (transfer = 1 OR (transfer = 2 AND n_associations <> 1)) AND " SERIES_IS_ARRIVING;
static const char sql_ended[] =
    "UPDATE series SET transfer = 2 WHERE series_uid = ?1 AND (transfer = 1 OR NOT EXISTS"
    " (SELECT 1 FROM image i WHERE i.series_id = series.id AND i.seen_cuts < series.cuts))"
    " RETURNING (SELECT j.id FROM job j WHERE j.series_id = series.id"
    " ORDER BY j.revision DESC LIMIT 1)";

_Static_assert(TRANSFER_OPEN == 1 && TRANSFER_ENDED == 2 && TRANSFER_CUT == 3,
               "the numbers in the statements above");

static Status join_in_tx(Db *db, const char *series_uid, const Arrival *arrival, int64_t now_ms,
                         Err *err)
{
    TRY(query_run(db, NULL, err, sql_join, "s", series_uid));
    return query_run(db, NULL, err, sql_join_cut, "ssiii", series_uid, arrival->calling_ae,
                     arrival->opened_ms, arrival->memory_ms, now_ms);
}

Status db_transfer_joined(Db *db, const char *series_uid, const Arrival *arrival, int64_t now_ms,
                          Err *err)
{
    TRY(tx_begin(db, TX_NORMAL, err));
    return tx_end(db, join_in_tx(db, series_uid, arrival, now_ms, err), err);
}

static Status ended_in_tx(Db *db, const char *series_uid, int64_t *ret_job_id, Err *err)
{
    sqlite3_stmt *query;
    bool row;
    TRY(query_open(db, &query, err, sql_ended, "s", series_uid));
    TRY(query_step(db, query, &row, err));
    *ret_job_id = row ? sqlite3_column_int64(query, 0) : 0;
    while (row)
        TRY(query_step(db, query, &row, err));
    return ST_OK;
}

Status db_transfer_ended(Db *db, const char *series_uid, int64_t *ret_job_id, Err *err)
{
    TRY(tx_begin(db, TX_FULL, err));
    return tx_end(db, ended_in_tx(db, series_uid, ret_job_id, err), err);
}

Status db_transfer_cut(Db *db, const char *series_uid, int64_t now_ms, Err *err)
{
    TRY(tx_begin(db, TX_FULL, err));
    return tx_end(db, query_run(db, NULL, err, sql_cut, "si", series_uid, now_ms), err);
}

static Status suspect_in_tx(Db *db, const char *calling_ae, int64_t now_ms, Err *err)
{
    TRY(query_run(db, NULL, err, sql_forget, "ii", now_ms, SUSPECT_KEPT_MS));
    TRY(query_run(db, NULL, err, sql_suspect, "si", calling_ae, now_ms));
    return query_run(db, NULL, err, sql_cut_peer, "si", calling_ae, now_ms);
}

Status db_peer_suspect(Db *db, const char *calling_ae, int64_t now_ms, Err *err)
{
    TRY(tx_begin(db, TX_FULL, err));
    return tx_end(db, suspect_in_tx(db, calling_ae, now_ms, err), err);
}

static Status interrupted_in_tx(Db *db, int64_t now_ms, Err *err)
{
    TRY(query_run(db, NULL, err, sql_clamp_suspects, "i", now_ms));
    TRY(query_run(db, NULL, err, sql_clamp_cuts, "i", now_ms));
    return query_run(db, NULL, err, sql_cut_interrupted, "i", now_ms);
}

Status db_transfers_interrupted(Db *db, int64_t now_ms, Err *err)
{
    TRY(tx_begin(db, TX_FULL, err));
    return tx_end(db, interrupted_in_tx(db, now_ms, err), err);
}
