//! Events: what happened to an object, repeated ones counted. Kept 30 days and 1,000 an object.

use crate::{Db, DbError, Op, Row, Tx, Value};
use base::{Span, Time, Uid};
use serde_json::Value as Json;

/// Kept this long.
pub const KEPT: Span = Span::from_secs(30 * 24 * 3_600);
/// And at most this many an object.
pub const KEPT_MAX: u32 = 1_000;

/// An event as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its identity.
    pub uid: Uid,
    /// What it is about.
    pub object: Uid,
    /// The object's kind.
    pub object_kind: String,
    /// The object's name.
    pub object_name: String,
    /// The tenant.
    pub tenant: String,
    /// The project.
    pub project: String,
    /// `Normal` or `Warning`.
    pub kind: String,
    /// A stable code.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Typed parameters.
    pub params: Json,
    /// When it first happened.
    pub first_at: Time,
    /// When it last happened.
    pub last_at: Time,
    /// How often.
    pub count: u32,
    /// Its place in the feed.
    pub seq: u64,
}

const COLUMNS: &str = "uid, object, object_kind, object_name, tenant, project, kind, reason, message, params, first_at, last_at, count, seq";

/// Records an event; one with the same object, reason and message is counted up.
pub async fn record(tx: &mut Tx<'_>, event: &Event) -> Result<(), DbError> {
    let sql = "SELECT uid FROM events WHERE object = $1 AND reason = $2 AND message = $3";
    let known = tx
        .fetch_one(
            sql,
            &[
                event.object.into(),
                event.reason.as_str().into(),
                event.message.as_str().into(),
            ],
        )
        .await?;
    if let Some(row) = known {
        let uid = row.uid(0)?;
        let seq = tx.change("Event", uid, &event.project, &event.object_name, Op::Put);
        let sql = "UPDATE events SET last_at = $2, count = count + 1, seq = $3 WHERE uid = $1";
        tx.execute(sql, &[uid.into(), event.last_at.into(), seq.into()])
            .await?;
        return Ok(());
    }
    let seq = tx.change(
        "Event",
        event.uid,
        &event.project,
        &event.object_name,
        Op::Put,
    );
    let sql = "INSERT INTO events (uid, object, object_kind, object_name, tenant, project, kind, reason, message, params, \
         first_at, last_at, count, seq) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
    let args: [Value; 14] = [
        event.uid.into(),
        event.object.into(),
        event.object_kind.as_str().into(),
        event.object_name.as_str().into(),
        event.tenant.as_str().into(),
        event.project.as_str().into(),
        event.kind.as_str().into(),
        event.reason.as_str().into(),
        event.message.as_str().into(),
        (&event.params).into(),
        event.first_at.into(),
        event.last_at.into(),
        event.count.into(),
        seq.into(),
    ];
    tx.execute(sql, &args).await?;
    // The newest that is one too many; nearly always there is none.
    let sql = "SELECT last_at, uid FROM events WHERE object = $1 ORDER BY last_at DESC, uid DESC LIMIT 1 OFFSET $2";
    let cut = tx
        .fetch_one(sql, &[event.object.into(), KEPT_MAX.into()])
        .await?;
    if let Some(cut) = cut {
        let sql = "DELETE FROM events WHERE object = $1 AND (last_at, uid) <= ($2, $3)";
        let args: [Value; 3] = [event.object.into(), cut.int(0)?.into(), cut.uid(1)?.into()];
        tx.execute(sql, &args).await?;
    }
    Ok(())
}

/// Events of one object, newest first.
pub async fn of_object(db: &Db, object: Uid, limit: u32) -> Result<Vec<Event>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM events WHERE object = $1 ORDER BY last_at DESC, uid DESC LIMIT $2"
    );
    db.fetch(&sql, &[object.into(), limit.into()])
        .await?
        .iter()
        .map(event)
        .collect()
}

/// One page of events, newest first, and whether another follows.
pub async fn list(
    db: &Db,
    project: Option<&str>,
    after: Option<(Time, Uid)>,
    limit: u32,
) -> Result<(Vec<Event>, bool), DbError> {
    let mut args: Vec<Value> = Vec::new();
    let mut conditions = Vec::new();
    if let Some(project) = project {
        args.push(project.into());
        conditions.push(format!("project = ${}", args.len()));
    }
    if let Some((at, uid)) = after {
        args.extend([at.into(), uid.into()] as [Value; 2]);
        conditions.push(format!(
            "(last_at, uid) < (${}, ${})",
            args.len() - 1,
            args.len()
        ));
    }
    args.push((limit + 1).into());
    let condition = if conditions.is_empty() {
        String::new()
    } else {
        format!("WHERE {}", conditions.join(" AND "))
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM events {condition} ORDER BY last_at DESC, uid DESC LIMIT ${}",
        args.len()
    );
    let rows = db.fetch(&sql, &args).await?;
    let has_more = rows.len() > limit as usize;
    Ok((
        rows.iter()
            .take(limit as usize)
            .map(event)
            .collect::<Result<_, _>>()?,
        has_more,
    ))
}

/// One event.
pub async fn read(db: &Db, uid: Uid) -> Result<Option<Event>, DbError> {
    let rows = db
        .fetch(
            &format!("SELECT {COLUMNS} FROM events WHERE uid = $1"),
            &[uid.into()],
        )
        .await?;
    rows.first().map(event).transpose()
}

/// Forgets events that are too old, at most `limit`; how many.
pub async fn forget(tx: &mut Tx<'_>, limit: u32) -> Result<u64, DbError> {
    let too_old = tx.now() - KEPT;
    let sql =
        "DELETE FROM events WHERE uid IN (SELECT uid FROM events WHERE last_at < $1 LIMIT $2)";
    tx.execute(sql, &[too_old.into(), limit.into()]).await
}

fn event(row: &Row) -> Result<Event, DbError> {
    Ok(Event {
        uid: row.uid(0)?,
        object: row.uid(1)?,
        object_kind: row.text(2)?,
        object_name: row.text(3)?,
        tenant: row.text(4)?,
        project: row.text(5)?,
        kind: row.text(6)?,
        reason: row.text(7)?,
        message: row.text(8)?,
        params: row.json(9)?,
        first_at: row.time(10)?,
        last_at: row.time(11)?,
        count: row.small(12)?,
        seq: row.count(13)?,
    })
}
