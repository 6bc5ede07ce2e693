//! The controller of Jobs: reads a Job's rows and what the engine sees, asks `plan`, performs what it says.
//!
//! Rows first, then the scheduler, then the engine: whatever dies in between, the next look repeats only what
//! is not done yet. Nothing is retried here; a Job whose look failed is looked at again on the next period.

use super::dirty::Dirty;
use super::environments::{self, Bundles};
use super::job_context::{JobContext, JobIdentity, checkpoint_claim};
use super::job_status;
use super::projects;
use super::rows::{self, JobRows, RowOp};
use super::sights::Sighting;
use super::ties;
use super::unit_row::UnitRow;
use super::{Control, ControlError};
use crate::auth;
use crate::platform;
use api::job::JobSpec;
use base::{Span, Time, Uid};
use engine::{Group, MountSource, ReplicaKey};
use plan::{
    Finished, Intent, JobAction, JobInput, JobPlan, MemberState, Placement, Restart, Then, UnitKey,
    UnitOutcome, UnitState, plan_job,
};
use sched::{Event, SlotId, TaskId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Jobs looked at at once: their commits are grouped.
const LOOKS_MAX: usize = 64;
/// Plans performed for one Job before others get their turn.
const ROUNDS_MAX: usize = 32;
/// Without any poke, every active Job is looked at this often …
const RESYNC: Duration = Duration::from_secs(30);
/// … a few each second, so that many Jobs do not make everybody wait at once.
const SLICE: Duration = Duration::from_secs(1);
/// A Job whose look failed is looked at again after this.
const FAILED_DELAY: Span = Span::from_secs(1);

/// The loop. Ends with `stop`; looks under way are finished.
pub async fn run(control: Arc<Control>, stop: CancellationToken) {
    let dirty = control.jobs.clone();
    let mut looks = JoinSet::new();
    let mut resync = Resync::default();
    let mut slice = tokio::time::interval(SLICE);
    loop {
        let now = control.now();
        for uid in dirty.take(now, LOOKS_MAX - looks.len()) {
            looks.spawn(look(Arc::clone(&control), dirty.clone(), uid));
        }
        let due = dirty.next_wake().map_or(RESYNC, |at| {
            at.since(now).as_std().max(Duration::from_millis(1))
        });
        tokio::select! {
            () = dirty.added() => {}
            Some(ended) = looks.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "looking at a Job panicked");
                }
            }
            () = tokio::time::sleep(due), if looks.len() < LOOKS_MAX => {}
            _ = slice.tick() => match resync.next(&control).await {
                Ok(uids) => dirty.add_all(uids),
                Err(error) => tracing::warn!(%error, "cannot list active Jobs"),
            },
            () = stop.cancelled() => break,
        }
    }
    while looks.join_next().await.is_some() {}
}

/// Active Jobs that were listed and are still to be looked at.
#[derive(Default)]
struct Resync {
    left: Vec<Uid>,
    /// How many a slice.
    n: usize,
    /// When they are listed again.
    next: Option<tokio::time::Instant>,
}

impl Resync {
    async fn next(&mut self, control: &Control) -> Result<Vec<Uid>, db::DbError> {
        let now = tokio::time::Instant::now();
        if self.left.is_empty() && self.next.is_none_or(|at| at <= now) {
            self.left = rows::active(&control.db, "Job").await?;
            self.next = Some(now + RESYNC);
            let n_slices = RESYNC.as_secs() / SLICE.as_secs();
            self.n = self
                .left
                .len()
                .div_ceil(usize::try_from(n_slices).unwrap_or(1));
            // What was listed may be younger than what the feed has told of.
            control.queues.changed();
        }
        let from = self.left.len().saturating_sub(self.n);
        Ok(self.left.split_off(from))
    }
}

async fn look(control: Arc<Control>, dirty: Dirty, uid: Uid) {
    let wake = match reconcile(&control, uid).await {
        Ok(wake) => wake,
        Err(error) => {
            tracing::warn!(job = %uid, error = &error as &dyn std::error::Error, "cannot act on a Job; it is looked at again");
            Some(control.now() + FAILED_DELAY)
        }
    };
    dirty.done(uid, wake);
}

/// Looks at one Job until nothing is left to do now; when to look again.
async fn reconcile(control: &Control, uid: Uid) -> Result<Option<Time>, ControlError> {
    let mut performed = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let Some(rows) = rows::load_job(&control.db, uid).await? else {
            control.sights.forget(uid);
            return Ok(None);
        };
        let context = match context(control, &rows).await? {
            Ready::Yes(context) => context,
            Ready::Waits { code, sentence } => {
                job_status::write_waiting(control, &rows, code, &sentence).await?;
                if !is_cancelled(&rows) {
                    return Ok(None);
                }
                rows::write(control, uid, vec![job_status::cancelled(control.now())]).await?;
                continue;
            }
            Ready::Never { .. } if rows.owned.object.finished_at.is_some() => {
                if rows.owned.object.deleted_at.is_some() {
                    rows::write(control, uid, vec![RowOp::Delete]).await?;
                }
                return Ok(None);
            }
            Ready::Never { code, sentence } => {
                rows::write(
                    control,
                    uid,
                    vec![RowOp::Finish {
                        phase: "Failed".to_owned(),
                        code,
                        sentence,
                        at: control.now(),
                        status: serde_json::Value::Null,
                    }],
                )
                .await?;
                continue;
            }
        };
        let sights = control.sights.of(uid);
        let input = input(control, &rows, &context, &sights);
        let now = control.now();
        let plan = plan_job(&input, now);
        if plan.actions.is_empty() {
            job_status::write(control, &rows, &context, &plan, &sights).await?;
            if rows.owned.object.finished_at.is_some() && rows.owned.object.deleted_at.is_some() {
                rows::write(control, uid, vec![RowOp::Delete]).await?;
                control.sights.forget(uid);
                return Ok(None);
            }
            return Ok(plan.wake);
        }
        if plan.actions == performed {
            // Asked for, and not yet seen to be so: what the engine reports wakes this Job.
            job_status::write(control, &rows, &context, &plan, &sights).await?;
            return Ok(Some(super::patiently(plan.wake, now)));
        }
        tracing::debug!(job = %uid, %plan, "performing");
        perform(control, &rows, &context, &plan, &sights, now).await?;
        performed = plan.actions;
    }
    Ok(Some(control.now()))
}

/// Whether a Job's Environments are there.
enum Ready {
    Yes(Box<JobContext>),
    Waits {
        code: &'static str,
        sentence: String,
    },
    Never {
        code: String,
        sentence: String,
    },
}

async fn context(control: &Control, rows: &JobRows) -> Result<Ready, ControlError> {
    let object = &rows.owned.object;
    let spec: JobSpec =
        serde_json::from_value(object.spec.clone()).map_err(|source| ControlError::Spec {
            uid: object.uid,
            source,
        })?;
    let bundles = match environments::bundles(&control.db, &rows.owned.pinned).await? {
        Bundles::Ready(bundles) => bundles,
        Bundles::Building(sentence) => {
            return Ok(Ready::Waits {
                code: "EnvironmentBuilding",
                sentence,
            });
        }
        Bundles::Failed(sentence) => {
            return Ok(Ready::Never {
                code: "EnvironmentFailed".to_owned(),
                sentence,
            });
        }
    };
    let queue = control
        .queue_of(&object.project, spec.queue.as_deref())
        .await?;
    let context = JobContext::new(identity(object), &spec, &rows.owned.pinned, queue, &bundles);
    if let Some(sentence) = ties::refused(control, &context, rows)
        && object.finished_at.is_none()
    {
        return Ok(Ready::Never {
            code: "Unsupported".to_owned(),
            sentence,
        });
    }
    Ok(Ready::Yes(Box::new(context)))
}

/// The context of a Job whose Environments are there.
pub async fn context_if_ready(
    control: &Control,
    rows: &JobRows,
) -> Result<Option<JobContext>, ControlError> {
    match context(control, rows).await? {
        Ready::Yes(context) => Ok(Some(*context)),
        Ready::Waits { .. } | Ready::Never { .. } => Ok(None),
    }
}

fn identity(object: &db::objects::Object) -> JobIdentity {
    JobIdentity {
        uid: object.uid,
        name: object.name.clone(),
        tenant: object.tenant.clone(),
        project: object.project.clone(),
        submitted: object.created_at,
    }
}

/// Whether it shall stop for good and has not.
pub fn is_cancelled(rows: &JobRows) -> bool {
    let object = &rows.owned.object;
    object.finished_at.is_none()
        && (object.deleted_at.is_some() || object.desired["cancel"] == true)
}

fn input(
    control: &Control,
    rows: &JobRows,
    context: &JobContext,
    sights: &BTreeMap<ReplicaKey, Sighting>,
) -> JobInput {
    let object = &rows.owned.object;
    let intent = if is_cancelled(rows) {
        Intent::Cancel
    } else if object.spec["suspend"] == true {
        Intent::Suspend
    } else {
        Intent::Run
    };
    let units = rows.units.iter().map(|(key, row)| {
        let state = UnitState {
            attempt: row.attempt,
            tally: row.tally(),
            readmit: row.readmit,
            stage: row.stage(),
            members: members(control, rows, key, row),
        };
        (key.clone(), state)
    });
    JobInput {
        uid: object.uid,
        name: object.name.clone(),
        tenant: object.tenant.clone(),
        project: object.project.clone(),
        spec: context.spec.clone(),
        intent,
        started: job_status::started(&object.status),
        finished: job_status::finished(&object.status).filter(|_| object.finished_at.is_some()),
        units: units.collect(),
        replicas: sights
            .iter()
            .map(|(key, sighting)| (key.clone(), sighting.sight()))
            .collect(),
    }
}

fn members(control: &Control, rows: &JobRows, unit: &UnitKey, row: &UnitRow) -> Vec<MemberState> {
    let of_attempt = rows.placements.iter().filter(|placement| {
        placement.unit == unit.to_string() && placement.key.attempt == row.attempt
    });
    of_attempt
        .map(|placement| MemberState {
            group: placement.key.group.clone(),
            index: placement.key.index,
            placement: Placement {
                node: placement.node.clone(),
                host: control.engine.peer_host(&placement.key, &placement.node),
                devices: placement.devices.clone(),
                ports: placement.ports.clone(),
                token: auth::attempt::token(&control.key, &placement.key),
                stage: placement.stage.clone(),
            },
        })
        .collect()
}

/// Performs a plan in its order. Consecutive row actions share a transaction.
async fn perform(
    control: &Control,
    rows: &JobRows,
    context: &JobContext,
    plan: &JobPlan,
    sights: &BTreeMap<ReplicaKey, Sighting>,
    now: Time,
) -> Result<(), ControlError> {
    let uid = rows.owned.uid();
    let mut pending = Pending {
        ops: Vec::new(),
        notes: Vec::new(),
    };
    for action in &plan.actions {
        match action {
            JobAction::Submit {
                unit,
                attempt,
                readmit,
            } => {
                let task = platform::new_uid(now);
                pending.ops.push(RowOp::Submit {
                    unit: unit.to_string(),
                    attempt: *attempt,
                    task,
                    now,
                    queue: context.queue.clone(),
                    priority: context.priority,
                    readmit: *readmit,
                });
                pending.notes.push(Note::Submit {
                    unit: unit.clone(),
                    attempt: *attempt,
                    task: TaskId(task),
                    readmit: *readmit,
                });
            }
            JobAction::Withdraw { unit, attempt } => {
                pending.ops.push(RowOp::Withdraw {
                    unit: unit.to_string(),
                    attempt: *attempt,
                });
                pending
                    .notes
                    .extend(task_of(rows, unit).map(Note::TaskGone));
            }
            JobAction::Bind {
                unit: _,
                attempt,
                members,
            } => {
                let key = |(group, index): &(String, base::Index)| ReplicaKey {
                    owner: uid,
                    group: group.clone(),
                    index: *index,
                    attempt: *attempt,
                };
                pending.ops.push(RowOp::Bind {
                    keys: members.iter().map(key).collect(),
                });
            }
            JobAction::Ensure(group) => {
                flush(control, rows, context, &mut pending).await?;
                for group in patched(group, &context.spec.restart) {
                    projects::ensure(control, &group).await?;
                }
            }
            JobAction::Stop { key, grace, reason } => {
                pending.ops.push(RowOp::Releasing {
                    key: key.clone(),
                    deadline: now + *grace,
                    reason: *reason,
                });
                if let Some((task, slot)) = slot_of(rows, context, key) {
                    pending.notes.push(Note::Event(Event::Releasing {
                        task,
                        slot,
                        deadline: now + *grace,
                    }));
                }
                flush(control, rows, context, &mut pending).await?;
                control
                    .engine
                    .remove(control.epoch, key, *grace, *reason)
                    .await?;
            }
            JobAction::Release { unit: _, key, end } => {
                let report = sights.get(key).and_then(Sighting::report).cloned();
                pending.ops.push(RowOp::Release {
                    key: key.clone(),
                    end: end.clone(),
                    report: report.map(Box::new),
                });
                if let Some((task, slot)) = slot_of(rows, context, key) {
                    pending
                        .notes
                        .push(Note::Event(Event::Released { task, slot }));
                }
                if let Some(placement) = rows
                    .placements
                    .iter()
                    .find(|placement| placement.key == *key)
                {
                    let numbers = placement.ports.values().copied().collect();
                    pending
                        .notes
                        .push(Note::Ports(placement.node.clone(), numbers));
                }
            }
            JobAction::Forget { key } => {
                flush(control, rows, context, &mut pending).await?;
                control
                    .engine
                    .remove(control.epoch, key, Span::ZERO, engine::StopReason::Forget)
                    .await?;
            }
            JobAction::Replace {
                unit,
                attempt,
                tally,
                not_before,
                readmit,
                reason,
            } => {
                pending.ops.push(RowOp::Replace {
                    unit: unit.to_string(),
                    attempt: *attempt,
                    tally: *tally,
                    not_before: *not_before,
                    readmit: *readmit,
                });
                pending.ops.push(RowOp::event(false, reason));
            }
            JobAction::EndAttempt {
                unit,
                attempt,
                reason,
                charged,
                tally,
                then,
            } => {
                pending.ops.push(RowOp::EndAttempt {
                    unit: unit.to_string(),
                    attempt: *attempt,
                    tally: *tally,
                    then: then.clone(),
                });
                // Of a gang that ended well or was told to, the Job's own end says the same.
                let is_said = *unit == UnitKey::Gang
                    && matches!(
                        then,
                        Then::Over(UnitOutcome::Succeeded | UnitOutcome::Stopped)
                    );
                if !is_said {
                    pending.ops.push(RowOp::event(*charged, reason));
                }
                pending
                    .notes
                    .extend(task_of(rows, unit).map(Note::TaskGone));
            }
            JobAction::Finish { phase, reason } => {
                pending.notes.extend(
                    rows.units
                        .values()
                        .filter_map(UnitRow::task)
                        .map(Note::TaskGone),
                );
                pending.ops.push(RowOp::Finish {
                    phase: phase.as_str().to_owned(),
                    code: reason.code.as_str().to_owned(),
                    sentence: reason.sentence.clone(),
                    at: now,
                    status: job_status::last(rows, context, plan, sights),
                });
            }
            JobAction::Expire => pending.ops.push(RowOp::Delete),
        }
    }
    flush(control, rows, context, &mut pending).await?;
    if plan.actions.contains(&JobAction::Expire) {
        control.sights.forget(uid);
    }
    Ok(())
}

/// Rows to write, and what the scheduler hears once they are durable.
struct Pending {
    ops: Vec<RowOp>,
    notes: Vec<Note>,
}

enum Note {
    Submit {
        unit: UnitKey,
        attempt: base::Attempt,
        task: TaskId,
        readmit: bool,
    },
    TaskGone(TaskId),
    Event(Event),
    Ports(String, Vec<u16>),
}

async fn flush(
    control: &Control,
    rows: &JobRows,
    context: &JobContext,
    pending: &mut Pending,
) -> Result<(), ControlError> {
    if !pending.ops.is_empty() {
        rows::write(control, rows.owned.uid(), std::mem::take(&mut pending.ops)).await?;
    }
    for note in pending.notes.drain(..) {
        match note {
            Note::Submit {
                unit,
                attempt,
                task,
                readmit,
            } => {
                let (mut spec, owner) = context.task(&unit, attempt, task, readmit);
                ties::tie(control, context, &unit, &mut spec);
                control.sched.submit(spec, owner).await;
            }
            Note::TaskGone(task) => control.sched.event(Event::TaskGone(task)).await,
            Note::Event(event) => control.sched.event(event).await,
            Note::Ports(node, numbers) => control.sched.ports_free(node, numbers).await,
        }
    }
    Ok(())
}

fn task_of(rows: &JobRows, unit: &UnitKey) -> Option<TaskId> {
    rows.units.get(unit).and_then(UnitRow::task)
}

/// The scheduler's name for a replica's seat.
fn slot_of(rows: &JobRows, context: &JobContext, key: &ReplicaKey) -> Option<(TaskId, SlotId)> {
    let placement = rows
        .placements
        .iter()
        .find(|placement| placement.key == *key)?;
    let unit: UnitKey = placement.unit.parse().ok()?;
    let seats = plan::unit_seats(&context.spec, &unit);
    let group = seats.iter().position(|seat| seat.group.name == key.group)?;
    let index = key.index.0.checked_sub(seats[group].first.0)?;
    Some((
        TaskId(placement.task),
        SlotId {
            group: u16::try_from(group).ok()?,
            index,
        },
    ))
}

/// What differs between the members of a group: each index of an array has a checkpoint directory of its own, and
/// the outputs of a gang are those of member 0.
fn patched(group: &Group, restart: &Restart) -> Vec<Group> {
    match restart {
        Restart::Index { .. } => group
            .slots
            .iter()
            .map(|slot| of_index(group, slot, restart))
            .collect(),
        Restart::Gang | Restart::Rank => {
            let (first, others): (Vec<_>, Vec<_>) = group
                .slots
                .iter()
                .cloned()
                .partition(|slot| slot.index.0 == 0);
            let mut others = Group {
                slots: others,
                ..group.clone()
            };
            others.template.outputs.clear();
            let first = Group {
                slots: first,
                ..group.clone()
            };
            [first, others]
                .into_iter()
                .filter(|group| !group.slots.is_empty())
                .collect()
        }
    }
}

fn of_index(group: &Group, slot: &engine::Slot, restart: &Restart) -> Group {
    let mut group = Group {
        slots: vec![slot.clone()],
        ..group.clone()
    };
    for mount in &mut group.template.mounts {
        if let MountSource::Checkpoint(claim) = &mut mount.source {
            *claim = checkpoint_claim(restart, slot.index);
        }
    }
    group
}

/// A Job that is over, as the planner wants to know it.
pub fn finished_of(phase: plan::JobPhase, code: &str, sentence: &str, at: Time) -> Finished {
    Finished {
        phase,
        reason: super::unit_row::reason(code, sentence),
        at,
    }
}
