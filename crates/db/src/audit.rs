//! The audit trail: a row in the same transaction as what it tells of.

use crate::{Db, DbError, Row, Tx, Value};
use base::{Time, Uid};

/// Who did what to what.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// When.
    pub at: Time,
    /// The principal.
    pub actor: String,
    /// `create`, `update`, `delete`, `cancel` …
    pub verb: String,
    /// The object's kind.
    pub kind: String,
    /// Its project.
    pub project: String,
    /// Its name.
    pub name: String,
    /// Its uid, if it has one.
    pub uid: Option<Uid>,
    /// Digest of the spec before; keyed for Secrets; empty where there was none.
    pub before: String,
    /// Digest of the spec after.
    pub after: String,
    /// The request's id.
    pub request: String,
}

/// Adds an entry.
pub async fn add(tx: &mut Tx<'_>, entry: &Entry) -> Result<(), DbError> {
    let row = tx
        .fetch_one("SELECT COALESCE(MAX(seq), 0) FROM audit", &[])
        .await?;
    let seq = row.map_or(Ok(0), |row| row.int(0))? + 1;
    let sql = "INSERT INTO audit (seq, at, actor, verb, kind, project, name, uid, before_digest, after_digest, request) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    let args: [Value; 11] = [
        seq.into(),
        entry.at.into(),
        entry.actor.as_str().into(),
        entry.verb.as_str().into(),
        entry.kind.as_str().into(),
        entry.project.as_str().into(),
        entry.name.as_str().into(),
        entry
            .uid
            .map(|uid| uid.to_string())
            .unwrap_or_default()
            .into(),
        entry.before.as_str().into(),
        entry.after.as_str().into(),
        entry.request.as_str().into(),
    ];
    tx.execute(sql, &args).await.map(|_| ())
}

/// Entries after `since`, oldest first, with their numbers.
pub async fn list(db: &Db, since: u64, limit: u32) -> Result<Vec<(u64, Entry)>, DbError> {
    let sql = "SELECT seq, at, actor, verb, kind, project, name, uid, before_digest, after_digest, request FROM audit \
         WHERE seq > $1 ORDER BY seq LIMIT $2";
    let entry = |row: &Row| {
        let entry = Entry {
            at: row.time(1)?,
            actor: row.text(2)?,
            verb: row.text(3)?,
            kind: row.text(4)?,
            project: row.text(5)?,
            name: row.text(6)?,
            uid: row.text(7)?.parse().ok(),
            before: row.text(8)?,
            after: row.text(9)?,
            request: row.text(10)?,
        };
        Ok((row.count(0)?, entry))
    };
    db.fetch(sql, &[since.into(), limit.into()])
        .await?
        .iter()
        .map(entry)
        .collect()
}
