//! Reading the change feed: dense, in commit order, kept for 24 hours or a million entries.

use crate::{Change, Db, DbError, Op, Tx};
use base::{Seq, Span};

/// Entries are kept this long …
pub const KEPT: Span = Span::from_secs(24 * 3_600);
/// … and at most this many.
pub const KEPT_MAX: u64 = 1_000_000;

/// Entries after `since`, oldest first, at most `limit`. [`DbError::Gone`] where `since` is no longer kept, or
/// lies beyond the head (it was read before the database was restored).
pub async fn since(db: &Db, since: Seq, limit: u32) -> Result<Vec<Change>, DbError> {
    let mut changes = read(db, since, limit).await?;
    if changes.is_empty() {
        let head = head(db).await?;
        if head == since {
            return Ok(changes);
        }
        if head < since {
            return Err(DbError::Gone { first: head.0 + 1 });
        }
        // The head moved between the two statements, or what followed was forgotten: looking again tells which.
        changes = read(db, since, limit).await?;
        if changes.is_empty() {
            return Err(DbError::Gone { first: head.0 + 1 });
        }
    }
    // The feed is dense: the first entry after `since` is the next one, unless it was forgotten.
    match changes.first() {
        Some(first) if first.seq.0 > since.0 + 1 => Err(DbError::Gone { first: first.seq.0 }),
        _ => Ok(changes),
    }
}

async fn read(db: &Db, since: Seq, limit: u32) -> Result<Vec<Change>, DbError> {
    let sql = "SELECT seq, kind, uid, project, name, op FROM changes WHERE seq > $1 ORDER BY seq LIMIT $2";
    let rows = db.fetch(sql, &[since.into(), limit.into()]).await?;
    rows.iter()
        .map(|row| {
            Ok(Change {
                seq: Seq(row.count(0)?),
                kind: row.text(1)?,
                uid: row.uid(2)?,
                project: row.text(3)?,
                name: row.text(4)?,
                op: if row.text(5)? == "delete" {
                    Op::Delete
                } else {
                    Op::Put
                },
            })
        })
        .collect()
}

/// The last entry's number.
pub async fn head(db: &Db) -> Result<Seq, DbError> {
    let rows = db.fetch("SELECT seq FROM feed_head", &[]).await?;
    rows.first().map_or(Ok(Seq(0)), |row| row.count(0).map(Seq))
}

/// Forgets entries beyond the bounds, at most `limit` of them; how many. What goes is always the beginning: an
/// entry with an early time among later ones (servers' clocks differ) leaves no gap.
pub async fn forget(tx: &mut Tx<'_>, limit: u32) -> Result<u64, DbError> {
    let too_old = tx.now() - KEPT;
    let sql = "SELECT (SELECT seq FROM feed_head), (SELECT COALESCE(MIN(seq), 0) FROM changes), \
         (SELECT seq FROM changes WHERE at >= $1 ORDER BY seq LIMIT 1)";
    let Some(row) = tx.fetch_one(sql, &[too_old.into()]).await? else {
        return Ok(0);
    };
    let (head, first) = (row.count(0)?, row.count(1)?);
    let young = match row.int_or_null(2)? {
        Some(seq) => u64::try_from(seq).unwrap_or(0),
        None => head + 1,
    };
    let kept = young.max((head + 1).saturating_sub(KEPT_MAX));
    let kept = kept.min(first + u64::from(limit));
    tx.execute("DELETE FROM changes WHERE seq < $1", &[kept.into()])
        .await
}
