//! Events: what happened to an object, repeated ones counted. Kept 30 days and 1,000 an object.

use crate::batch::{self, batches, values};
use crate::{Db, DbError, Op, Row, Tx, Value};
use base::{Span, Time, Uid};
use serde_json::Value as Json;
use std::collections::HashMap;

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
    record_all(tx, std::slice::from_ref(event)).await
}

/// Records events as [`record`] does, all in few statements.
pub async fn record_all(tx: &mut Tx<'_>, events: &[Event]) -> Result<(), DbError> {
    let merged = merged(events);
    for batch in batches(&merged) {
        let known = known(tx, batch).await?;
        let mut fresh = Vec::with_capacity(batch.len());
        for event in batch {
            match known.get(&sameness(event)) {
                Some(uid) => again(tx, *uid, event).await?,
                None => fresh.push(row(tx, event)),
            }
        }
        batch::insert(tx, &format!("events ({COLUMNS})"), &fresh, "").await?;
        trim(tx, batch).await?;
    }
    Ok(())
}

/// Events with the same of these are one event that happened several times.
fn sameness(event: &Event) -> (Uid, String, String) {
    (event.object, event.reason.clone(), event.message.clone())
}

/// Each once, the later ones counted with the first.
fn merged(events: &[Event]) -> Vec<Event> {
    let mut merged: Vec<Event> = Vec::with_capacity(events.len());
    let mut places = HashMap::with_capacity(events.len());
    for event in events {
        match places.get(&sameness(event)) {
            Some(place) => {
                let first: &mut Event = &mut merged[*place];
                first.count += event.count;
                first.last_at = first.last_at.max(event.last_at);
            }
            None => {
                places.insert(sameness(event), merged.len());
                merged.push(event.clone());
            }
        }
    }
    merged
}

/// The uids of those that were recorded before.
async fn known(
    tx: &mut Tx<'_>,
    events: &[Event],
) -> Result<HashMap<(Uid, String, String), Uid>, DbError> {
    let sql = format!(
        "SELECT e.uid, e.object, e.reason, e.message FROM ({}) AS v CROSS JOIN events e \
         WHERE e.object = v.column1 AND e.reason = v.column2 AND e.message = v.column3",
        values(tx, events.len(), 3)
    );
    let args: Vec<Value> = events
        .iter()
        .flat_map(|event| -> [Value; 3] {
            [
                event.object.into(),
                event.reason.as_str().into(),
                event.message.as_str().into(),
            ]
        })
        .collect();
    let rows = tx.fetch(&sql, &args).await?;
    rows.iter()
        .map(|row| Ok(((row.uid(1)?, row.text(2)?, row.text(3)?), row.uid(0)?)))
        .collect()
}

async fn again(tx: &mut Tx<'_>, uid: Uid, event: &Event) -> Result<(), DbError> {
    let seq = tx.change("Event", uid, &event.project, &event.object_name, Op::Put);
    let sql = "UPDATE events SET last_at = $2, count = count + $3, seq = $4 WHERE uid = $1";
    let args: [Value; 4] = [
        uid.into(),
        event.last_at.into(),
        event.count.into(),
        seq.into(),
    ];
    tx.execute(sql, &args).await.map(|_| ())
}

fn row(tx: &mut Tx<'_>, event: &Event) -> [Value; 14] {
    let seq = tx.change(
        "Event",
        event.uid,
        &event.project,
        &event.object_name,
        Op::Put,
    );
    [
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
    ]
}

/// Drops the oldest events of objects that have too many; nearly always there are none.
async fn trim(tx: &mut Tx<'_>, events: &[Event]) -> Result<(), DbError> {
    let sql = format!(
        "SELECT v.column1 FROM ({}) AS v CROSS JOIN events e WHERE e.object = v.column1 \
         GROUP BY v.column1 HAVING COUNT(*) > {KEPT_MAX}",
        values(tx, events.len(), 1)
    );
    let objects: Vec<Value> = events.iter().map(|event| event.object.into()).collect();
    for row in tx.fetch(&sql, &objects).await? {
        let object = row.uid(0)?;
        // The newest that is one too many.
        let sql = "SELECT last_at, uid FROM events WHERE object = $1 ORDER BY last_at DESC, uid DESC LIMIT 1 OFFSET $2";
        let Some(cut) = tx.fetch_one(sql, &[object.into(), KEPT_MAX.into()]).await? else {
            continue;
        };
        let sql = "DELETE FROM events WHERE object = $1 AND (last_at, uid) <= ($2, $3)";
        let args: [Value; 3] = [object.into(), cut.int(0)?.into(), cut.uid(1)?.into()];
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
