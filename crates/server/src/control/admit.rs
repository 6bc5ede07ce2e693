//! Commits the scheduler's decisions: all placements of a gang with their ports in one transaction, under
//! the term's epoch, only while the task still waits.

use super::OwnerKind;
use super::dirty::Dirty;
use super::placement_row;
use super::rows;
use super::scheduler::{Admission, Commit, Seat, TaskOwner};
use super::seat_row::{SeatRow, SeatWord};
use super::unit_row::{StageRow, UnitRow};
use crate::platform::Clock;
use base::{Epoch, Time};
use db::control::{self, Placement, Unit};
use db::{Db, DbError, Tx, events, objects};
use engine::{BoxFuture, StopReason};
use sched::{EvictReason, TaskId};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

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
    /// PodGroups to look at.
    pub pods: Dirty,
}

impl Admit {
    fn poke(&self, owner: &TaskOwner) -> impl FnOnce() + Send + 'static + use<> {
        let dirty = match owner.kind {
            OwnerKind::App => self.apps.clone(),
            OwnerKind::Job => self.jobs.clone(),
            OwnerKind::Pods => self.pods.clone(),
        };
        let uid = owner.owner;
        move || dirty.add(uid)
    }
}

impl Commit for Admit {
    fn admit(&self, epoch: Epoch, admissions: Vec<Admission>) -> BoxFuture<'static, Vec<bool>> {
        let pokes: Vec<_> = admissions
            .iter()
            .map(|admission| self.poke(&admission.owner))
            .collect();
        let batch = Batch {
            cluster: self.cluster.clone(),
            epoch,
            now: self.clock.now(),
            admissions,
        };
        let db = self.db.clone();
        Box::pin(async move {
            let durable = batch.write(&db).await;
            // Admitted or refused: its controller knows what follows.
            for poke in pokes {
                poke();
            }
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

/// Gangs that are admitted in one transaction.
struct Batch {
    cluster: String,
    epoch: Epoch,
    now: Time,
    admissions: Vec<Admission>,
}

impl Batch {
    /// Writes all of them; for each, whether it is durable.
    async fn write(self, db: &Db) -> Vec<bool> {
        let n = self.admissions.len();
        let batch = Arc::new(self);
        let error = match Batch::transaction(db, Arc::clone(&batch)).await {
            Ok(durable) => return durable,
            Err(error) => error,
        };
        if n > 1 && error.is_duplicate() {
            // One of them takes what is taken, as a port: each for itself tells which.
            let mut durable = Vec::with_capacity(n);
            for admission in &batch.admissions {
                let one = Batch {
                    cluster: batch.cluster.clone(),
                    epoch: batch.epoch,
                    now: batch.now,
                    admissions: vec![admission.clone()],
                };
                durable.extend(Box::pin(one.write(db)).await);
            }
            return durable;
        }
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "admissions could not be committed"
        );
        vec![false; n]
    }

    async fn transaction(db: &Db, batch: Arc<Batch>) -> Result<Vec<bool>, DbError> {
        db.write(Some(batch.epoch), move |tx| {
            let batch = Arc::clone(&batch);
            Box::pin(async move { batch.admit(tx).await })
        })
        .await
    }

    async fn admit(&self, tx: &mut Tx<'_>) -> Result<Vec<bool>, DbError> {
        let names: Vec<(base::Uid, &str)> = self
            .admissions
            .iter()
            .map(|admission| (admission.owner.owner, admission.owner.unit.as_str()))
            .collect();
        let mut known = control::get_units(tx, &names).await?;
        let closed = self.closed_nodes(tx).await?;
        // Only gangs whose unit still is at the attempt that was decided about, on nodes that still take work.
        let units: Vec<Option<Unit>> = self
            .admissions
            .iter()
            .map(|admission| {
                let owner = &admission.owner;
                if admission.nodes().any(|node| closed.contains(node)) {
                    return None;
                }
                let unit = known.remove(&(owner.owner, owner.unit.clone()))?;
                placed(unit, admission.task, owner, self.now)
            })
            .collect();
        let tasks: Vec<base::Uid> = self
            .admissions
            .iter()
            .zip(&units)
            .filter(|(_, unit)| unit.is_some())
            .map(|(admission, _)| admission.task.0)
            .collect();
        let moved = control::move_tasks(tx, &tasks, "waiting", "admitted").await?;
        let durable: Vec<bool> = self
            .admissions
            .iter()
            .map(|admission| moved.contains(&admission.task.0))
            .collect();
        let written: Vec<(&Admission, Unit)> = self
            .admissions
            .iter()
            .zip(units)
            .filter(|(admission, _)| moved.contains(&admission.task.0))
            .filter_map(|(admission, unit)| Some((admission, unit?)))
            .collect();
        let mut placements = Vec::new();
        let mut events = Vec::new();
        let mut rows = Vec::new();
        for (admission, unit) in written {
            let seats = admission.seats.iter();
            placements.extend(seats.map(|seat| self.placement(admission, seat)));
            events.push(self.event(admission));
            rows.push(unit);
        }
        control::put_units(tx, &rows).await?;
        control::insert_placements(tx, &placements).await?;
        events::record_all(tx, &events).await?;
        Ok(durable)
    }

    /// Nodes that the scheduler chose and that were cordoned, went silent or away since: it may not have heard yet.
    async fn closed_nodes<'a>(&'a self, tx: &mut Tx<'_>) -> Result<BTreeSet<&'a str>, DbError> {
        let mut closed: BTreeSet<&str> =
            self.admissions.iter().flat_map(Admission::nodes).collect();
        let names: Vec<&str> = closed.iter().copied().collect();
        for node in objects::get_named(tx, "Node", &names).await? {
            if node.spec["unschedulable"] != true && node.status["ready"] != false {
                closed.remove(node.name.as_str());
            }
        }
        Ok(closed)
    }

    fn placement(&self, admission: &Admission, seat: &Seat) -> Placement {
        let owner = &admission.owner;
        Placement {
            owner: owner.owner,
            group: seat.group.clone(),
            index: seat.index,
            attempt: owner.attempt,
            task: admission.task.0,
            tenant: owner.tenant.clone(),
            project: owner.project.clone(),
            cluster: self.cluster.clone(),
            unit: owner.unit.clone(),
            node: seat.node.clone(),
            devices: placement_row::devices(&seat.devices),
            ports: json!(seat.ports),
            state: "reserved".to_owned(),
            deadline: None,
            reason: String::new(),
            epoch: self.epoch,
            created_at: self.now,
            ended_at: None,
            ending: json!({}),
        }
    }

    fn event(&self, admission: &Admission) -> events::Event {
        let Admission { owner, seats, .. } = admission;
        let mut nodes: Vec<&str> = admission.nodes().collect();
        nodes.sort_unstable();
        nodes.dedup();
        let sentence = format!(
            "{} placed on {}",
            counted(seats.len(), "replica"),
            nodes.join(", ")
        );
        let subject = rows::Subject {
            uid: owner.owner,
            kind: owner.kind.as_str(),
            name: &owner.name,
            tenant: &owner.tenant,
            project: &owner.project,
        };
        rows::event(subject, false, "Admitted", &sentence, self.now)
    }
}

/// The unit's row once its task is admitted; `None` where it has moved on since the decision.
fn placed(mut unit: Unit, task: TaskId, owner: &TaskOwner, now: Time) -> Option<Unit> {
    if unit.attempt != owner.attempt {
        return None;
    }
    if owner.kind == OwnerKind::App {
        let mut seat: SeatRow = serde_json::from_value(unit.data).ok()?;
        seat.stage = SeatWord::Placed;
        seat.since = now;
        unit.data = serde_json::to_value(&seat).expect("a row is JSON");
    } else {
        let mut row: UnitRow = serde_json::from_value(unit.data).ok()?;
        row.stage = StageRow::Placed {
            task: task.0,
            since: now,
        };
        unit.word = row.word().to_owned();
        unit.data = serde_json::to_value(&row).expect("a row is JSON");
    }
    Some(unit)
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
