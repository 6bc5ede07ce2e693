//! Which content is kept, how large it is, and who needs it. The bytes are elsewhere; this table is the authority
//! for quotas and for garbage collection.
//!
//! Content goes in three steps, so that a crash between any two leaves nothing wrong: it is marked as doomed
//! while nobody needs it, its bytes are removed, its row is forgotten. Doomed content is not to be had any more:
//! nobody can begin to need it, and keeping it again has to wait until it is gone.

use crate::{Db, DbError, Row, Tx, Value};
use base::{Digest, Time, Uid};
use std::collections::BTreeMap;

/// The most rows that one call dooms or reads.
pub const STEP: u32 = 500;

/// Content of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Whose.
    pub project: String,
    /// Which.
    pub digest: Digest,
    /// Its bytes, as they are kept.
    pub size: u64,
}

/// Whether content can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is kept.
    Kept,
    /// It is being removed.
    Doomed,
    /// There is none.
    Absent,
}

/// The state of content.
pub async fn state(tx: &mut Tx<'_>, project: &str, digest: Digest) -> Result<State, DbError> {
    let sql = "SELECT state FROM blobs WHERE project = $1 AND digest = $2";
    let row = tx.fetch_one(sql, &[project.into(), digest.into()]).await?;
    Ok(match row {
        None => State::Absent,
        Some(row) if row.text(0)? == "kept" => State::Kept,
        Some(_) => State::Doomed,
    })
}

/// Writes down that content is kept, and is young. Doomed content is not touched: look at [`state`] first.
pub async fn put(tx: &mut Tx<'_>, blob: &Blob) -> Result<(), DbError> {
    let now = tx.now();
    let sql = "INSERT INTO blobs (project, digest, size, state, used_at) VALUES ($1, $2, $3, 'kept', $4) \
         ON CONFLICT (project, digest) DO UPDATE SET used_at = excluded.used_at WHERE blobs.state = 'kept'";
    let args: [Value; 4] = [
        blob.project.as_str().into(),
        blob.digest.into(),
        blob.size.into(),
        now.into(),
    ];
    tx.execute(sql, &args).await.map(|_| ())
}

/// Makes kept content young again: its next holder is about to come. Whether it is kept.
pub async fn touch(tx: &mut Tx<'_>, project: &str, digest: Digest) -> Result<bool, DbError> {
    let now = tx.now();
    let sql = "UPDATE blobs SET used_at = $3 WHERE project = $1 AND digest = $2 AND state = 'kept'";
    let args: [Value; 3] = [project.into(), digest.into(), now.into()];
    Ok(tx.execute(sql, &args).await? == 1)
}

/// The bytes of kept content.
pub async fn size(tx: &mut Tx<'_>, project: &str, digest: Digest) -> Result<Option<u64>, DbError> {
    let sql = "SELECT size FROM blobs WHERE project = $1 AND digest = $2 AND state = 'kept'";
    let row = tx.fetch_one(sql, &[project.into(), digest.into()]).await?;
    row.map(|row| row.count(0)).transpose()
}

/// All bytes of a project, those that are being removed too.
pub async fn total(tx: &mut Tx<'_>, project: &str) -> Result<u64, DbError> {
    let sql = "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM blobs WHERE project = $1";
    let row = tx.fetch_one(sql, &[project.into()]).await?;
    row.map_or(Ok(0), |row| row.count(0))
}

/// [`total`] of every project that has any, outside a write.
pub async fn totals(db: &Db) -> Result<BTreeMap<String, u64>, DbError> {
    let sql = "SELECT project, CAST(SUM(size) AS BIGINT) FROM blobs GROUP BY project";
    let rows = db.fetch(sql, &[]).await?;
    rows.iter()
        .map(|row| Ok((row.text(0)?, row.count(1)?)))
        .collect()
}

/// `holder` needs these bytes: garbage collection leaves them.
pub async fn hold(
    tx: &mut Tx<'_>,
    project: &str,
    digest: Digest,
    holder: Uid,
    what: &str,
) -> Result<(), DbError> {
    let now = tx.now();
    let sql = "INSERT INTO blob_refs (project, digest, holder, what, created_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    let args: [Value; 5] = [
        project.into(),
        digest.into(),
        holder.into(),
        what.into(),
        now.into(),
    ];
    tx.execute(sql, &args).await.map(|_| ())
}

/// Digests that somebody needs with their projects, in order, after this one and at most `limit`.
pub async fn held_after(
    db: &Db,
    (project, digest): (&str, &str),
    limit: u32,
) -> Result<Vec<(String, String)>, DbError> {
    let sql = "SELECT DISTINCT project, digest FROM blob_refs WHERE (project, digest) > ($1, $2) ORDER BY project, digest LIMIT $3";
    let args: [Value; 3] = [project.into(), digest.into(), limit.into()];
    db.fetch(sql, &args)
        .await?
        .iter()
        .map(|row| Ok((row.text(0)?, row.text(1)?)))
        .collect()
}

/// Marks content that nobody needs and that was not used since `before`; at most [`STEP`].
pub async fn doom(tx: &mut Tx<'_>, before: Time) -> Result<u64, DbError> {
    let sql = "UPDATE blobs SET state = 'doomed' WHERE (project, digest) IN (\
         SELECT b.project, b.digest FROM blobs b WHERE b.state = 'kept' AND b.used_at < $1 AND NOT EXISTS (\
         SELECT 1 FROM blob_refs r WHERE r.project = b.project AND r.digest = b.digest) \
         ORDER BY b.used_at LIMIT $2)";
    tx.execute(sql, &[before.into(), STEP.into()]).await
}

/// Marks bytes that were found without a row: an upload whose end was never written down. Whether it was so.
pub async fn doom_unknown(tx: &mut Tx<'_>, blob: &Blob) -> Result<bool, DbError> {
    let now = tx.now();
    let sql = "INSERT INTO blobs (project, digest, size, state, used_at) VALUES ($1, $2, $3, 'doomed', $4) ON CONFLICT DO NOTHING";
    let args: [Value; 4] = [
        blob.project.as_str().into(),
        blob.digest.into(),
        blob.size.into(),
        now.into(),
    ];
    Ok(tx.execute(sql, &args).await? == 1)
}

/// What is to be removed, at most [`STEP`].
pub async fn doomed(tx: &mut Tx<'_>) -> Result<Vec<Blob>, DbError> {
    let sql = "SELECT project, digest, size FROM blobs WHERE state = 'doomed' ORDER BY project, digest LIMIT $1";
    let rows = tx.fetch(sql, &[STEP.into()]).await?;
    rows.iter().map(blob).collect()
}

/// All content of one of a project's 256 parts (by the first two digits) that a row tells of, in whatever state.
pub async fn known(db: &Db, project: &str, shard: u8) -> Result<Vec<Digest>, DbError> {
    let sql = "SELECT project, digest, size FROM blobs WHERE project = $1 AND digest >= $2 AND digest <= $3";
    let first = format!("sha256:{shard:02x}");
    let last = format!("{first}{}", "f".repeat(62));
    let args: [Value; 3] = [project.into(), first.into(), last.into()];
    let rows = db.fetch(sql, &args).await?;
    rows.iter().map(|row| Ok(blob(row)?.digest)).collect()
}

/// Forgets doomed content whose bytes are gone.
pub async fn forget(tx: &mut Tx<'_>, project: &str, digest: Digest) -> Result<(), DbError> {
    let sql = "DELETE FROM blobs WHERE project = $1 AND digest = $2 AND state = 'doomed'";
    tx.execute(sql, &[project.into(), digest.into()])
        .await
        .map(|_| ())
}

fn blob(row: &Row) -> Result<Blob, DbError> {
    let text = row.text(1)?;
    Ok(Blob {
        project: row.text(0)?,
        digest: text.parse().map_err(|_| DbError::Shape {
            at: 1,
            wanted: "a digest",
            found: text.clone(),
        })?,
        size: row.count(2)?,
    })
}
