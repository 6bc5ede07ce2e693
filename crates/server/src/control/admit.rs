//! Commits the scheduler's decisions: all placements of a gang with their ports in one transaction, under
//! the term's epoch, only while the task still waits.

use super::placement_row;
use super::rows;
use super::scheduler::{Commit, Seat, TaskOwner};
use super::seat_row::{SeatRow, SeatWord};
use super::unit_row::{StageRow, UnitRow};
use crate::platform::Clock;
use base::{Epoch, Time};
use db::control::{self, Placement};
use db::{Db, DbError, Tx, objects};
use engine::{BoxFuture, StopReason};
use sched::{EvictReason, TaskId};
use serde_json::json;
use std::sync::Arc;

use super::dirty::Dirty;

/// Commits into the database and pokes whom it concerns.
pub struct Admit {
    /// The database.
    pub db: Db,
    /// Names the placements' cluster.
    pub cluster: String,
    /// The server's time.
    pub clock: Arc<dyn Clock>,
    /// Jobs to look at.
    pub jobs: Dirty,
    /// Apps to look at.
    pub apps: Dirty,
}

impl Admit {
    fn poke(&self, owner: &TaskOwner) -> impl FnOnce() + Send + 'static + use<> {
        let dirty = if owner.is_app {
            self.apps.clone()
        } else {
            self.jobs.clone()
        };
        let uid = owner.owner;
        move || dirty.add(uid)
    }
}

impl Commit for Admit {
    fn admit(
        &self,
        epoch: Epoch,
        task: TaskId,
        owner: TaskOwner,
        seats: Vec<Seat>,
    ) -> BoxFuture<'static, bool> {
        let poke = self.poke(&owner);
        let now = self.clock.now();
        let placements: Arc<Vec<Placement>> = Arc::new(
            seats
                .iter()
                .map(|seat| placement(&self.cluster, epoch, task, &owner, seat, now))
                .collect(),
        );
        let db = self.db.clone();
        let owner = Arc::new(owner);
        Box::pin(async move {
            let written: Result<bool, DbError> = db
                .write(Some(epoch), move |tx| {
                    let (owner, placements) = (Arc::clone(&owner), Arc::clone(&placements));
                    Box::pin(async move { admit(tx, task, &owner, &placements, now).await })
                })
                .await;
            let durable = written.unwrap_or_else(|error| {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "an admission could not be committed"
                );
                false
            });
            // Admitted or refused: its controller knows what follows.
            poke();
            durable
        })
    }

    fn evict(
        &self,
        epoch: Epoch,
        task: TaskId,
        owner: TaskOwner,
        reason: EvictReason,
        deadline: Time,
    ) -> BoxFuture<'static, bool> {
        let poke = self.poke(&owner);
        let now = self.clock.now();
        let db = self.db.clone();
        Box::pin(async move {
            let written: Result<bool, DbError> = db
                .write(Some(epoch), move |tx| {
                    let owner = owner.clone();
                    Box::pin(async move { evict(tx, task, &owner, reason, deadline, now).await })
                })
                .await;
            poke();
            written.unwrap_or_else(|error| {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "an eviction could not be committed"
                );
                false
            })
        })
    }
}

fn placement(
    cluster: &str,
    epoch: Epoch,
    task: TaskId,
    owner: &TaskOwner,
    seat: &Seat,
    now: Time,
) -> Placement {
    Placement {
        owner: owner.owner,
        group: seat.group.clone(),
        index: seat.index,
        attempt: owner.attempt,
        task: task.0,
        tenant: owner.tenant.clone(),
        project: owner.project.clone(),
        cluster: cluster.to_owned(),
        unit: owner.unit.clone(),
        node: seat.node.clone(),
        devices: placement_row::devices(&seat.devices),
        ports: json!(seat.ports),
        state: "reserved".to_owned(),
        deadline: None,
        reason: String::new(),
        epoch,
        created_at: now,
        ended_at: None,
        ending: json!({}),
    }
}

async fn admit(
    tx: &mut Tx<'_>,
    task: TaskId,
    owner: &TaskOwner,
    placements: &[Placement],
    now: Time,
) -> Result<bool, DbError> {
    if !control::move_task(tx, task.0, "waiting", "admitted").await? {
        return Ok(false);
    }
    let Some(mut unit) = control::get_unit(tx, owner.owner, &owner.unit).await? else {
        return Ok(false);
    };
    if unit.attempt != owner.attempt {
        return Ok(false);
    }
    if owner.is_app {
        let Ok(mut seat) = serde_json::from_value::<SeatRow>(unit.data.clone()) else {
            return Ok(false);
        };
        seat.stage = SeatWord::Placed;
        seat.since = now;
        unit.data = serde_json::to_value(&seat).expect("a row is JSON");
    } else {
        let Ok(mut row) = serde_json::from_value::<UnitRow>(unit.data.clone()) else {
            return Ok(false);
        };
        row.stage = StageRow::Placed {
            task: task.0,
            since: now,
        };
        unit.word = row.word().to_owned();
        unit.data = serde_json::to_value(&row).expect("a row is JSON");
    }
    control::put_unit(tx, &unit).await?;
    control::insert_placements(tx, placements).await?;
    if let Some(object) = objects::get_by_uid(tx, owner.owner).await? {
        let mut nodes: Vec<&str> = placements
            .iter()
            .map(|placement| placement.node.as_str())
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        let sentence = format!(
            "{} placed on {}",
            counted(placements.len(), "replica"),
            nodes.join(", ")
        );
        rows::record(tx, &object, false, "Admitted", &sentence, now).await?;
    }
    Ok(true)
}

async fn evict(
    tx: &mut Tx<'_>,
    task: TaskId,
    owner: &TaskOwner,
    reason: EvictReason,
    deadline: Time,
    now: Time,
) -> Result<bool, DbError> {
    let mut n_stopping = 0;
    for mut placement in control::placements_of_task(tx, owner.owner, task.0).await? {
        if !matches!(placement.state.as_str(), "reserved" | "bound") {
            continue;
        }
        let stop = if reason == EvictReason::Drained {
            StopReason::Drained
        } else {
            StopReason::Preempted
        };
        placement.state = "releasing".to_owned();
        placement.deadline = Some(deadline);
        placement.reason = stop.as_str().to_owned();
        control::update_placement(tx, &placement).await?;
        n_stopping += 1;
    }
    if n_stopping > 0
        && let Some(object) = objects::get_by_uid(tx, owner.owner).await?
    {
        let sentence = format!(
            "{} stopping by {deadline}: {reason}",
            counted(n_stopping, "replica")
        );
        rows::record(tx, &object, true, "Evicted", &sentence, now).await?;
    }
    Ok(n_stopping > 0)
}

fn counted(n: usize, what: &str) -> String {
    if n == 1 {
        format!("1 {what}")
    } else {
        format!("{n} {what}s")
    }
}
