//! Reading the change feed: dense, in commit order, kept for 24 hours or a million entries.

use crate::{Change, Db, DbError, Op, Tx};
use base::{Seq, Span};

/// Entries are kept this long …
pub const KEPT: Span = Span::from_secs(24 * 3_600);
/// … and at most this many.
pub const KEPT_MAX: u64 = 1_000_000;

/// Entries after `since`, oldest first, at most `limit`. [`DbError::Gone`] where `since` is no longer kept.
pub async fn since(db: &Db, since: Seq, limit: u32) -> Result<Vec<Change>, DbError> {
    let sql = "SELECT seq, kind, uid, project, name, op FROM changes WHERE seq > $1 ORDER BY seq LIMIT $2";
    let rows = db.fetch(sql, &[since.into(), limit.into()]).await?;
    let changes: Vec<Change> = rows
        .iter()
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
        .collect::<Result<_, DbError>>()?;
    // The feed is dense: the first entry after `since` is the next one, unless it was forgotten.
    let first = match changes.first() {
        Some(change) => change.seq.0,
        None => head(db).await?.0 + 1,
    };
    if first > since.0 + 1 && (changes.is_empty() || first != since.0 + 1) {
        return Err(DbError::Gone { first });
    }
    Ok(changes)
}

/// The last entry's number.
pub async fn head(db: &Db) -> Result<Seq, DbError> {
    let rows = db.fetch("SELECT seq FROM feed_head", &[]).await?;
    rows.first().map_or(Ok(Seq(0)), |row| row.count(0).map(Seq))
}

/// Forgets entries beyond the bounds, at most `limit` of them; how many.
pub async fn forget(tx: &mut Tx<'_>, limit: u32) -> Result<u64, DbError> {
    let too_old = tx.now() - KEPT;
    let row = tx
        .fetch_one("SELECT COALESCE(MIN(seq), 0) FROM changes", &[])
        .await?;
    let first = row.map_or(Ok(0), |row| row.count(0))?;
    let row = tx.fetch_one("SELECT seq FROM feed_head", &[]).await?;
    let head = row.map_or(Ok(0), |row| row.count(0))?;
    let sql = "DELETE FROM changes WHERE seq < $1 AND (at < $2 OR seq <= $3)";
    tx.execute(
        sql,
        &[
            (first + u64::from(limit)).into(),
            too_old.into(),
            head.saturating_sub(KEPT_MAX).into(),
        ],
    )
    .await
}
