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
    let sql = "INSERT INTO audit (seq, at, actor, verb, kind, project, name, uid, before_digest, after_digest, request) \
         SELECT COALESCE(MAX(seq), 0) + 1, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 FROM audit";
    let args: [Value; 10] = [
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

const COLUMNS: &str =
    "seq, at, actor, verb, kind, project, name, uid, before_digest, after_digest, request";

fn entry(row: &Row) -> Result<Entry, DbError> {
    Ok(Entry {
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
    })
}

/// Which entries.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this kind.
    pub kind: Option<String>,
    /// Only this project.
    pub project: Option<String>,
    /// Only this name.
    pub name: Option<String>,
    /// At most this many.
    pub limit: u32,
}

/// Entries that match, newest first.
pub async fn newest(db: &Db, filter: &Filter) -> Result<Vec<Entry>, DbError> {
    let mut args: Vec<Value> = Vec::new();
    let mut conditions = String::new();
    for (column, value) in [
        ("kind", &filter.kind),
        ("project", &filter.project),
        ("name", &filter.name),
    ] {
        if let Some(value) = value {
            args.push(value.as_str().into());
            let word = if args.len() == 1 { "WHERE" } else { "AND" };
            conditions.push_str(&format!(" {word} {column} = ${}", args.len()));
        }
    }
    args.push(filter.limit.into());
    let sql = format!(
        "SELECT {COLUMNS} FROM audit{conditions} ORDER BY seq DESC LIMIT ${}",
        args.len()
    );
    db.fetch(&sql, &args).await?.iter().map(entry).collect()
}
