//! What the controllers keep: restart units, scheduler tasks, placements, ports and node numbers.

use crate::{Db, DbError, Row, Tx, Value};
use base::{Attempt, Epoch, Index, Time, Uid};
use serde_json::Value as Json;

/// A restart unit's row. `data` is the server's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// The Job or App.
    pub owner: Uid,
    /// Its text: `gang`, `index/7`.
    pub unit: String,
    /// The present attempt.
    pub attempt: Attempt,
    /// Where it stands, for counts.
    pub word: String,
    /// All of it.
    pub data: Json,
}

/// A scheduler task's row.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its identity.
    pub uid: Uid,
    /// The Job or App.
    pub owner: Uid,
    /// `Job` or `App`.
    pub owner_kind: String,
    /// The tenant.
    pub tenant: String,
    /// The project.
    pub project: String,
    /// The cluster.
    pub cluster: String,
    /// The restart unit's text.
    pub unit: String,
    /// Its attempt.
    pub attempt: Attempt,
    /// The queue.
    pub queue: String,
    /// The priority.
    pub priority: i32,
    /// `waiting`, `admitted` or `ended`.
    pub state: String,
    /// When its owner was submitted.
    pub submitted_at: Time,
    /// Whether it goes first.
    pub readmit: bool,
}

/// A placement's row.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// The Job or App.
    pub owner: Uid,
    /// The group, or the Revision (`r3`).
    pub group: String,
    /// The member.
    pub index: Index,
    /// Its incarnation.
    pub attempt: Attempt,
    /// The task that was admitted.
    pub task: Uid,
    /// The tenant.
    pub tenant: String,
    /// The project.
    pub project: String,
    /// The cluster.
    pub cluster: String,
    /// The restart unit's text.
    pub unit: String,
    /// The node.
    pub node: String,
    /// Devices, as the server writes them.
    pub devices: Json,
    /// Ports by name.
    pub ports: Json,
    /// `reserved`, `bound`, `releasing` or `released`.
    pub state: String,
    /// When the grace ends.
    pub deadline: Option<Time>,
    /// Why it is releasing.
    pub reason: String,
    /// The term in which it was admitted.
    pub epoch: Epoch,
    /// When.
    pub created_at: Time,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// How it ended, as the server writes it.
    pub ending: Json,
}

/// Inserts or replaces a unit.
pub async fn put_unit(tx: &mut Tx<'_>, unit: &Unit) -> Result<(), DbError> {
    let sql = "INSERT INTO units (owner, unit, attempt, word, data) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (owner, unit) \
         DO UPDATE SET attempt = excluded.attempt, word = excluded.word, data = excluded.data";
    let args: [Value; 5] = [
        unit.owner.into(),
        unit.unit.as_str().into(),
        unit.attempt.into(),
        unit.word.as_str().into(),
        (&unit.data).into(),
    ];
    tx.execute(sql, &args).await.map(|_| ())
}

/// One unit.
pub async fn get_unit(tx: &mut Tx<'_>, owner: Uid, unit: &str) -> Result<Option<Unit>, DbError> {
    let sql = "SELECT owner, unit, attempt, word, data FROM units WHERE owner = $1 AND unit = $2";
    let row = tx.fetch_one(sql, &[owner.into(), unit.into()]).await?;
    row.as_ref().map(unit_of).transpose()
}

/// Removes a unit.
pub async fn remove_unit(tx: &mut Tx<'_>, owner: Uid, unit: &str) -> Result<(), DbError> {
    tx.execute(
        "DELETE FROM units WHERE owner = $1 AND unit = $2",
        &[owner.into(), unit.into()],
    )
    .await
    .map(|_| ())
}

/// All units of an owner.
pub async fn units(db: &Db, owner: Uid) -> Result<Vec<Unit>, DbError> {
    let sql = "SELECT owner, unit, attempt, word, data FROM units WHERE owner = $1";
    db.fetch(sql, &[owner.into()])
        .await?
        .iter()
        .map(unit_of)
        .collect()
}

/// Inserts a task.
pub async fn insert_task(tx: &mut Tx<'_>, task: &Task) -> Result<(), DbError> {
    let sql = "INSERT INTO tasks (uid, owner, owner_kind, tenant, project, cluster, unit, attempt, queue, priority, state, \
         submitted_at, readmit) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT (uid) DO NOTHING";
    let args: [Value; 13] = [
        task.uid.into(),
        task.owner.into(),
        task.owner_kind.as_str().into(),
        task.tenant.as_str().into(),
        task.project.as_str().into(),
        task.cluster.as_str().into(),
        task.unit.as_str().into(),
        task.attempt.into(),
        task.queue.as_str().into(),
        task.priority.into(),
        task.state.as_str().into(),
        task.submitted_at.into(),
        task.readmit.into(),
    ];
    tx.execute(sql, &args).await.map(|_| ())
}

/// Moves a task on, if it is where it is expected; whether it was.
pub async fn move_task(tx: &mut Tx<'_>, task: Uid, from: &str, to: &str) -> Result<bool, DbError> {
    let sql = "UPDATE tasks SET state = $3 WHERE uid = $1 AND state = $2";
    Ok(tx
        .execute(sql, &[task.into(), from.into(), to.into()])
        .await?
        == 1)
}

/// A task is over.
pub async fn end_task(tx: &mut Tx<'_>, task: Uid) -> Result<(), DbError> {
    tx.execute(
        "UPDATE tasks SET state = 'ended' WHERE uid = $1",
        &[task.into()],
    )
    .await
    .map(|_| ())
}

/// Whether an owner has a task that holds capacity.
pub async fn has_admitted(tx: &mut Tx<'_>, owner: Uid) -> Result<bool, DbError> {
    let sql = "SELECT 1 FROM tasks WHERE owner = $1 AND state = 'admitted' LIMIT 1";
    Ok(tx.fetch_one(sql, &[owner.into()]).await?.is_some())
}

/// Takes back every task of an owner that waits.
pub async fn end_waiting_tasks(tx: &mut Tx<'_>, owner: Uid) -> Result<(), DbError> {
    let sql = "UPDATE tasks SET state = 'ended' WHERE owner = $1 AND state = 'waiting'";
    tx.execute(sql, &[owner.into()]).await.map(|_| ())
}

/// All tasks that are not over.
pub async fn open_tasks(db: &Db) -> Result<Vec<Task>, DbError> {
    let sql = "SELECT uid, owner, owner_kind, tenant, project, cluster, unit, attempt, queue, priority, state, submitted_at, \
         readmit FROM tasks WHERE state <> 'ended' ORDER BY uid";
    db.fetch(sql, &[]).await?.iter().map(task_of).collect()
}

/// Uids of an owner's tasks that are not over.
pub async fn tasks_of(db: &Db, owner: Uid) -> Result<Vec<Uid>, DbError> {
    let sql = "SELECT uid FROM tasks WHERE owner = $1 AND state <> 'ended'";
    db.fetch(sql, &[owner.into()])
        .await?
        .iter()
        .map(|row| row.uid(0))
        .collect()
}

/// Inserts placements, all in few statements, with their ports. A port that is taken is [`DbError::is_duplicate`].
pub async fn insert_placements(tx: &mut Tx<'_>, placements: &[Placement]) -> Result<(), DbError> {
    const WIDTH: usize = 19;
    for chunk in placements.chunks(50) {
        let mut args: Vec<Value> = Vec::with_capacity(WIDTH * chunk.len());
        let mut sql = String::from(
            "INSERT INTO placements (owner, grp, idx, attempt, task, tenant, project, cluster, unit, node, devices, ports, state, \
             deadline, reason, epoch, created_at, ended_at, ending) VALUES ",
        );
        for (i, placement) in chunk.iter().enumerate() {
            let places: Vec<String> = (1..=WIDTH).map(|n| format!("${}", WIDTH * i + n)).collect();
            sql.push_str(if i == 0 { "(" } else { ", (" });
            sql.push_str(&places.join(", "));
            sql.push(')');
            args.extend([
                placement.owner.into(),
                placement.group.as_str().into(),
                placement.index.into(),
                placement.attempt.into(),
                placement.task.into(),
                placement.tenant.as_str().into(),
                placement.project.as_str().into(),
                placement.cluster.as_str().into(),
                placement.unit.as_str().into(),
                placement.node.as_str().into(),
                (&placement.devices).into(),
                (&placement.ports).into(),
                placement.state.as_str().into(),
                placement.deadline.into(),
                placement.reason.as_str().into(),
                placement.epoch.into(),
                placement.created_at.into(),
                placement.ended_at.into(),
                (&placement.ending).into(),
            ] as [Value; WIDTH]);
        }
        tx.execute(&sql, &args).await?;
        for placement in chunk {
            insert_ports(tx, placement).await?;
        }
    }
    Ok(())
}

async fn insert_ports(tx: &mut Tx<'_>, placement: &Placement) -> Result<(), DbError> {
    let Some(ports) = placement.ports.as_object() else {
        return Ok(());
    };
    for port in ports.values().filter_map(Json::as_i64) {
        let sql = "INSERT INTO placement_ports (cluster, node, port, owner, grp, idx, attempt) VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let args: [Value; 7] = [
            placement.cluster.as_str().into(),
            placement.node.as_str().into(),
            port.into(),
            placement.owner.into(),
            placement.group.as_str().into(),
            placement.index.into(),
            placement.attempt.into(),
        ];
        tx.execute(sql, &args).await?;
    }
    Ok(())
}

/// Writes where a placement stands. A released one gives its ports back.
pub async fn update_placement(tx: &mut Tx<'_>, placement: &Placement) -> Result<(), DbError> {
    let sql = "UPDATE placements SET state = $5, deadline = $6, reason = $7, ended_at = $8, ending = $9 \
         WHERE owner = $1 AND grp = $2 AND idx = $3 AND attempt = $4";
    let key: [Value; 4] = [
        placement.owner.into(),
        placement.group.as_str().into(),
        placement.index.into(),
        placement.attempt.into(),
    ];
    let rest: [Value; 5] = [
        placement.state.as_str().into(),
        placement.deadline.into(),
        placement.reason.as_str().into(),
        placement.ended_at.into(),
        (&placement.ending).into(),
    ];
    tx.execute(sql, &[key.as_slice(), rest.as_slice()].concat())
        .await?;
    if placement.state == "released" {
        let sql = "DELETE FROM placement_ports WHERE owner = $1 AND grp = $2 AND idx = $3 AND attempt = $4";
        tx.execute(sql, &key).await?;
    }
    Ok(())
}

const PLACEMENT: &str = "owner, grp, idx, attempt, task, tenant, project, cluster, unit, node, devices, ports, state, deadline, \
     reason, epoch, created_at, ended_at, ending";

/// One placement.
pub async fn get_placement(
    tx: &mut Tx<'_>,
    owner: Uid,
    group: &str,
    index: Index,
    attempt: Attempt,
) -> Result<Option<Placement>, DbError> {
    let sql = format!(
        "SELECT {PLACEMENT} FROM placements WHERE owner = $1 AND grp = $2 AND idx = $3 AND attempt = $4"
    );
    let row = tx
        .fetch_one(
            &sql,
            &[owner.into(), group.into(), index.into(), attempt.into()],
        )
        .await?;
    row.as_ref().map(placement_of).transpose()
}

/// All placements of an owner, oldest attempt first.
pub async fn placements(db: &Db, owner: Uid) -> Result<Vec<Placement>, DbError> {
    let sql =
        format!("SELECT {PLACEMENT} FROM placements WHERE owner = $1 ORDER BY grp, idx, attempt");
    db.fetch(&sql, &[owner.into()])
        .await?
        .iter()
        .map(placement_of)
        .collect()
}

/// An owner's placements of one task.
pub async fn placements_of_task(
    tx: &mut Tx<'_>,
    owner: Uid,
    task: Uid,
) -> Result<Vec<Placement>, DbError> {
    let sql = format!("SELECT {PLACEMENT} FROM placements WHERE owner = $1 AND task = $2");
    tx.fetch(&sql, &[owner.into(), task.into()])
        .await?
        .iter()
        .map(placement_of)
        .collect()
}

/// All placements that hold capacity.
pub async fn live_placements(db: &Db) -> Result<Vec<Placement>, DbError> {
    let sql = format!("SELECT {PLACEMENT} FROM placements WHERE state <> 'released'");
    db.fetch(&sql, &[])
        .await?
        .iter()
        .map(placement_of)
        .collect()
}

/// A node's number, given once and never to another node.
pub async fn node_id(tx: &mut Tx<'_>, cluster: &str, name: &str) -> Result<u32, DbError> {
    let sql = "SELECT id FROM node_ids WHERE cluster = $1 AND name = $2";
    if let Some(row) = tx.fetch_one(sql, &[cluster.into(), name.into()]).await? {
        return row.small(0);
    }
    let row = tx
        .fetch_one("SELECT COALESCE(MAX(id), 0) FROM node_ids", &[])
        .await?;
    let id = row.map_or(Ok(0), |row| row.small(0))? + 1;
    tx.execute(
        "INSERT INTO node_ids (id, cluster, name) VALUES ($1, $2, $3)",
        &[id.into(), cluster.into(), name.into()],
    )
    .await?;
    Ok(id)
}

fn unit_of(row: &Row) -> Result<Unit, DbError> {
    Ok(Unit {
        owner: row.uid(0)?,
        unit: row.text(1)?,
        attempt: Attempt(row.small(2)?),
        word: row.text(3)?,
        data: row.json(4)?,
    })
}

fn task_of(row: &Row) -> Result<Task, DbError> {
    Ok(Task {
        uid: row.uid(0)?,
        owner: row.uid(1)?,
        owner_kind: row.text(2)?,
        tenant: row.text(3)?,
        project: row.text(4)?,
        cluster: row.text(5)?,
        unit: row.text(6)?,
        attempt: Attempt(row.small(7)?),
        queue: row.text(8)?,
        priority: i32::try_from(row.int(9)?).unwrap_or(0),
        state: row.text(10)?,
        submitted_at: row.time(11)?,
        readmit: row.truth(12)?,
    })
}

fn placement_of(row: &Row) -> Result<Placement, DbError> {
    Ok(Placement {
        owner: row.uid(0)?,
        group: row.text(1)?,
        index: Index(row.small(2)?),
        attempt: Attempt(row.small(3)?),
        task: row.uid(4)?,
        tenant: row.text(5)?,
        project: row.text(6)?,
        cluster: row.text(7)?,
        unit: row.text(8)?,
        node: row.text(9)?,
        devices: row.json(10)?,
        ports: row.json(11)?,
        state: row.text(12)?,
        deadline: row.time_or_null(13)?,
        reason: row.text(14)?,
        epoch: Epoch(row.count(15)?),
        created_at: row.time(16)?,
        ended_at: row.time_or_null(17)?,
        ending: row.json(18)?,
    })
}

/// How many tasks of each queue are admitted.
pub async fn admitted_by_queue(db: &Db) -> Result<Vec<(String, u32)>, DbError> {
    let sql = "SELECT queue, COUNT(*) FROM tasks WHERE state = 'admitted' GROUP BY queue";
    db.fetch(sql, &[])
        .await?
        .iter()
        .map(|row| Ok((row.text(0)?, row.small(1)?)))
        .collect()
}

/// Uids of an owner's tasks that wait.
pub async fn waiting_tasks_of(db: &Db, owner: Uid) -> Result<Vec<Uid>, DbError> {
    let sql = "SELECT uid FROM tasks WHERE owner = $1 AND state = 'waiting' ORDER BY uid";
    db.fetch(sql, &[owner.into()])
        .await?
        .iter()
        .map(|row| row.uid(0))
        .collect()
}
