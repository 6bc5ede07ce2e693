//! What the controllers keep: restart units, scheduler tasks, placements, ports and node numbers.

use crate::batch::{self, batches, values};
use crate::{Db, DbError, Row, Tx, Value};
use base::{Attempt, Epoch, Index, Time, Uid};
use serde_json::Value as Json;
use std::collections::{HashMap, HashSet};

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
    put_units(tx, std::slice::from_ref(unit)).await
}

/// Inserts or replaces units, each named once.
pub async fn put_units(tx: &mut Tx<'_>, units: &[Unit]) -> Result<(), DbError> {
    let row = |unit: &Unit| -> [Value; 5] {
        [
            unit.owner.into(),
            unit.unit.as_str().into(),
            unit.attempt.into(),
            unit.word.as_str().into(),
            (&unit.data).into(),
        ]
    };
    let rows: Vec<[Value; 5]> = units.iter().map(row).collect();
    let then = "ON CONFLICT (owner, unit) DO UPDATE SET attempt = excluded.attempt, word = excluded.word, data = excluded.data";
    batch::insert(tx, "units (owner, unit, attempt, word, data)", &rows, then).await
}

/// Those of the named units that are there.
pub async fn get_units(
    tx: &mut Tx<'_>,
    names: &[(Uid, &str)],
) -> Result<HashMap<(Uid, String), Unit>, DbError> {
    let mut units = HashMap::with_capacity(names.len());
    for batch in batches(names) {
        let sql = format!(
            "SELECT u.owner, u.unit, u.attempt, u.word, u.data FROM ({}) AS v CROSS JOIN units u \
             WHERE u.owner = v.column1 AND u.unit = v.column2",
            values(tx, batch.len(), 2)
        );
        let args: Vec<Value> = batch
            .iter()
            .flat_map(|(owner, unit)| [Value::from(*owner), Value::from(*unit)])
            .collect();
        for row in tx.fetch(&sql, &args).await? {
            let unit = unit_of(&row)?;
            units.insert((unit.owner, unit.unit.clone()), unit);
        }
    }
    Ok(units)
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

/// All units of these owners.
pub async fn units_of(db: &Db, owners: &[Uid]) -> Result<Vec<Unit>, DbError> {
    let sql = "SELECT owner, unit, attempt, word, data FROM units WHERE owner";
    let rows = batch::fetch_of(db, sql, owners).await?;
    rows.iter().map(unit_of).collect()
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

/// Moves tasks on that are where they are expected; which were.
pub async fn move_tasks(
    tx: &mut Tx<'_>,
    tasks: &[Uid],
    from: &str,
    to: &str,
) -> Result<HashSet<Uid>, DbError> {
    let mut moved = HashSet::with_capacity(tasks.len());
    for batch in batches(tasks) {
        let places: Vec<String> = (3..3 + batch.len()).map(|at| format!("${at}")).collect();
        let sql = format!(
            "UPDATE tasks SET state = $2 WHERE state = $1 AND uid IN ({}) RETURNING uid",
            places.join(", ")
        );
        let mut args: Vec<Value> = vec![from.into(), to.into()];
        args.extend(batch.iter().map(|task| Value::from(*task)));
        for row in tx.fetch(&sql, &args).await? {
            moved.insert(row.uid(0)?);
        }
    }
    Ok(moved)
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
    let row = |placement: &Placement| -> [Value; 19] {
        [
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
        ]
    };
    let rows: Vec<[Value; 19]> = placements.iter().map(row).collect();
    batch::insert(tx, &format!("placements ({PLACEMENT})"), &rows, "").await?;
    let ports: Vec<[Value; 7]> = placements.iter().flat_map(ports).collect();
    let table = "placement_ports (cluster, node, port, owner, grp, idx, attempt)";
    batch::insert(tx, table, &ports, "").await
}

fn ports(placement: &Placement) -> impl Iterator<Item = [Value; 7]> {
    let numbers = placement
        .ports
        .as_object()
        .into_iter()
        .flat_map(|ports| ports.values());
    numbers.filter_map(Json::as_i64).map(|port| {
        [
            placement.cluster.as_str().into(),
            placement.node.as_str().into(),
            port.into(),
            placement.owner.into(),
            placement.group.as_str().into(),
            placement.index.into(),
            placement.attempt.into(),
        ]
    })
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

/// Names a placement.
#[derive(Clone, Copy, Debug)]
pub struct SeatOf<'a> {
    /// The Job, App or PodGroup.
    pub owner: Uid,
    /// The group.
    pub group: &'a str,
    /// The member.
    pub index: Index,
    /// Its incarnation.
    pub attempt: Attempt,
}

/// Moves placements on that stand at `from`; neither state is `released`.
pub async fn move_placements(
    tx: &mut Tx<'_>,
    seats: &[SeatOf<'_>],
    from: &str,
    to: &str,
) -> Result<(), DbError> {
    for batch in batches(seats) {
        // The states come with each row: the places of such a statement have no numbers.
        let sql = format!(
            "UPDATE placements SET state = v.column6 FROM ({}) AS v \
             WHERE placements.owner = v.column1 AND placements.grp = v.column2 AND placements.idx = v.column3 \
             AND placements.attempt = v.column4 AND placements.state = v.column5",
            values(tx, batch.len(), 6)
        );
        let args = batch.iter().flat_map(|seat| -> [Value; 6] {
            [
                seat.owner.into(),
                seat.group.into(),
                seat.index.into(),
                seat.attempt.into(),
                from.into(),
                to.into(),
            ]
        });
        tx.execute(&sql, &args.collect::<Vec<Value>>()).await?;
    }
    Ok(())
}

const PLACEMENT: &str = "owner, grp, idx, attempt, task, tenant, project, cluster, unit, node, devices, ports, state, deadline, \
     reason, epoch, created_at, ended_at, ending";

fn one_placement() -> String {
    format!(
        "SELECT {PLACEMENT} FROM placements WHERE owner = $1 AND grp = $2 AND idx = $3 AND attempt = $4"
    )
}

/// One placement.
pub async fn get_placement(
    tx: &mut Tx<'_>,
    owner: Uid,
    group: &str,
    index: Index,
    attempt: Attempt,
) -> Result<Option<Placement>, DbError> {
    let args = [owner.into(), group.into(), index.into(), attempt.into()];
    let row = tx.fetch_one(&one_placement(), &args).await?;
    row.as_ref().map(placement_of).transpose()
}

/// One placement, outside a transaction.
pub async fn read_placement(
    db: &Db,
    owner: Uid,
    group: &str,
    index: Index,
    attempt: Attempt,
) -> Result<Option<Placement>, DbError> {
    let args = [owner.into(), group.into(), index.into(), attempt.into()];
    let rows = db.fetch(&one_placement(), &args).await?;
    rows.first().map(placement_of).transpose()
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

/// All placements of these owners.
pub async fn placements_of(db: &Db, owners: &[Uid]) -> Result<Vec<Placement>, DbError> {
    let sql = format!("SELECT {PLACEMENT} FROM placements WHERE owner");
    let rows = batch::fetch_of(db, &sql, owners).await?;
    rows.iter().map(placement_of).collect()
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

/// How many placements each node holds.
pub async fn held_by_node(db: &Db) -> Result<Vec<(String, u32)>, DbError> {
    let sql = "SELECT node, COUNT(*) FROM placements WHERE state <> 'released' GROUP BY node";
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
