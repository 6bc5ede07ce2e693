//! The controller of Apps: reads an App's rows and what the engine sees, asks `plan`, performs what it says.
//! The same shape as [`super::jobs`].

use super::app_status;
use super::convert;
use super::dirty::Dirty;
use super::environments::{self, Bundles};
use super::placement_row::PlacementRow;
use super::projects;
use super::relations;
use super::rows::{self, AppRows, RowOp};
use super::scheduler::{TaskGroup, TaskOwner};
use super::seat_row::{AppRow, SeatRow, SeatWord};
use super::served;
use super::sights::Sighting;
use super::{Control, ControlError};
use crate::auth;
use crate::pinned::{Pinned, PinnedProgram, TEMPLATE};
use crate::platform;
use crate::shares;
use crate::usecase::revision;
use api::app::{AppSpec, AppTemplate, IntOrPercent, Revised};
use base::{Attempt, Index, Span, Time, Uid};
use engine::ReplicaKey;
use plan::app::group_name;
use plan::{
    AppAction, AppInput, AppPlan, Placement, Progress, RevisionInput, Rollout, SeatStage,
    SeatState, Stage, Traffic, plan_app,
};
use sched::{Event, SlotId, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Apps looked at at once.
const LOOKS_MAX: usize = 32;
/// Plans performed for one App before others get their turn.
const ROUNDS_MAX: usize = 32;
/// Without any poke, every App is looked at this often.
const RESYNC: Duration = Duration::from_secs(30);
/// An App whose look failed is looked at again after this.
const FAILED_DELAY: Span = Span::from_secs(1);
/// The default of `priority`: before Jobs.
const PRIORITY: i32 = 100;
/// The default of `rollout.history`.
const HISTORY: u32 = 10;

/// The loop. Ends with `stop`; looks under way are finished.
pub async fn run(control: Arc<Control>, stop: CancellationToken) {
    let dirty = control.apps.clone();
    let mut looks = JoinSet::new();
    let mut resync = tokio::time::interval(RESYNC);
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
                    tracing::error!(%error, "looking at an App panicked");
                }
            }
            () = tokio::time::sleep(due), if looks.len() < LOOKS_MAX => {}
            _ = resync.tick() => match rows::active(&control.db, "App").await {
                Ok(uids) => dirty.add_all(uids),
                Err(error) => tracing::warn!(%error, "cannot list Apps"),
            },
            () = stop.cancelled() => break,
        }
    }
    while looks.join_next().await.is_some() {}
}

async fn look(control: Arc<Control>, dirty: Dirty, uid: Uid) {
    let wake = match reconcile(&control, uid).await {
        Ok(wake) => wake,
        Err(error) => {
            tracing::warn!(app = %uid, error = &error as &dyn std::error::Error, "cannot act on an App; it is looked at again");
            Some(control.now() + FAILED_DELAY)
        }
    };
    dirty.done(uid, wake);
}

async fn reconcile(control: &Control, uid: Uid) -> Result<Option<Time>, ControlError> {
    let mut performed = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let Some(rows) = rows::load_app(&control.db, uid).await? else {
            control.sights.forget(uid);
            return Ok(None);
        };
        let object = &rows.owned.object;
        let spec: AppSpec = serde_json::from_value(object.spec.clone())
            .map_err(|source| ControlError::Spec { uid, source })?;
        let target = target(&rows);
        if rows.app.target != target {
            // A new target: its progress begins now.
            let app = AppRow {
                target,
                stable: rows.app.stable,
                ready_max: 0,
                progress_at: control.now(),
            };
            rows::write(control, uid, vec![RowOp::PutApp { app }]).await?;
            continue;
        }
        let context = match context(control, &rows, &spec).await? {
            Ready::Yes(context) => context,
            Ready::No { reason, sentence } => {
                if object.deleted_at.is_some() && rows.seats.is_empty() {
                    rows::write(control, uid, vec![RowOp::Delete]).await?;
                    continue;
                }
                app_status::write_waiting(control, &rows, &reason, &sentence).await?;
                return Ok(None);
            }
        };
        let sights = control.sights.of(uid);
        let input = input(control, &rows, &spec, &context, &sights);
        let now = control.now();
        let plan = plan_app(&input, now);
        if plan.actions.is_empty() {
            remember(control, &rows, &plan).await?;
            app_status::write(control, &rows, &spec, &input, &plan, &sights).await?;
            return Ok(plan.wake);
        }
        if plan.actions == performed {
            // Asked for, and not yet seen to be so: what the engine reports wakes this App.
            remember(control, &rows, &plan).await?;
            app_status::write(control, &rows, &spec, &input, &plan, &sights).await?;
            return Ok(Some(super::patiently(plan.wake, now)));
        }
        tracing::debug!(app = %uid, %plan, "performing");
        perform(control, &rows, &context, &plan, &sights, now).await?;
        if plan.actions.contains(&AppAction::Delete) {
            control.sights.forget(uid);
            return Ok(None);
        }
        performed = plan.actions;
    }
    Ok(Some(control.now()))
}

/// What does not change while a plan is performed.
struct Context {
    queue: String,
    priority: i32,
    templates: BTreeMap<u32, (AppTemplate, engine::Template)>,
}

enum Ready {
    Yes(Context),
    No { reason: String, sentence: String },
}

/// The Revision that shall serve: the one a subresource chose, else the newest.
fn target(rows: &AppRows) -> u32 {
    let chosen = revision::target(&rows.owned.object);
    let exists = |number: &u32| {
        rows.revisions
            .iter()
            .any(|revision| revision.number == *number)
    };
    chosen
        .filter(exists)
        .or_else(|| rows.revisions.first().map(|revision| revision.number))
        .unwrap_or(0)
}

async fn context(control: &Control, rows: &AppRows, spec: &AppSpec) -> Result<Ready, ControlError> {
    let mut templates = BTreeMap::new();
    let target = target(rows);
    let shares = shares::of(&rows.owned.object, spec);
    for revision in &rows.revisions {
        let has_seats = rows
            .seats
            .keys()
            .any(|(number, _)| *number == revision.number);
        let is_named = shares.iter().any(|share| share.revision == revision.number);
        let is_wanted =
            revision.number == target || rows.app.stable == Some(revision.number) || is_named;
        if !has_seats && !is_wanted {
            continue;
        }
        let uid = rows.owned.uid();
        let revised: Revised = serde_json::from_value(revision.template.clone())
            .map_err(|source| ControlError::Spec { uid, source })?;
        let pinned: Pinned = serde_json::from_value(revision.pinned.clone()).unwrap_or_default();
        let bundles = match environments::bundles(&control.db, &pinned).await? {
            Bundles::Ready(bundles) => bundles,
            Bundles::Building(sentence) => {
                return Ok(Ready::No {
                    reason: "EnvironmentBuilding".to_owned(),
                    sentence,
                });
            }
            Bundles::Failed(sentence) => {
                return Ok(Ready::No {
                    reason: "EnvironmentFailed".to_owned(),
                    sentence,
                });
            }
        };
        let nothing = PinnedProgram::default();
        let pins = pinned.programs.get(TEMPLATE).unwrap_or(&nothing);
        let bundle = pins
            .environment
            .as_ref()
            .and_then(|pin| bundles.get(&(pin.uid, pin.version)))
            .copied();
        let mut engine = convert::app_template(&revised.template, pins, bundle);
        if let Some(model) = &revised.model {
            served::serve(&mut engine, &revised.template, model, &pins.model);
        }
        templates.insert(revision.number, (revised.template, engine));
    }
    let queue = control
        .queue_of(&rows.owned.object.project, spec.queue.as_deref())
        .await?;
    Ok(Ready::Yes(Context {
        queue,
        priority: spec.priority.unwrap_or(PRIORITY),
        templates,
    }))
}

/// How many replicas are wanted: by the spec, else by `scale`, else one.
pub fn wanted(object: &db::objects::Object, spec: &AppSpec) -> u32 {
    let scaled = object.desired["replicas"]
        .as_u64()
        .and_then(|n| u32::try_from(n).ok());
    spec.replicas.or(scaled).unwrap_or(1)
}

fn input(
    control: &Control,
    rows: &AppRows,
    spec: &AppSpec,
    context: &Context,
    sights: &BTreeMap<ReplicaKey, Sighting>,
) -> AppInput {
    let object = &rows.owned.object;
    let replicas = wanted(object, spec);
    let revisions = context.templates.iter().map(|(number, (_, template))| {
        let group = group_name(*number);
        let of_revision = |placement: &&PlacementRow| placement.key.group == group;
        let placed_max = rows
            .placements
            .iter()
            .filter(of_revision)
            .map(|placement| placement.key.attempt)
            .max();
        let seats_max = rows
            .seats
            .iter()
            .filter(|((of, _), _)| of == number)
            .map(|(_, seat)| seat.attempt)
            .max();
        let seats = rows.seats.iter().filter(|((of, _), _)| of == number);
        let created = rows
            .revisions
            .iter()
            .find(|revision| revision.number == *number);
        let input = RevisionInput {
            template: template.clone(),
            created: created
                .map(|revision| revision.created_at)
                .unwrap_or_default(),
            attempt_max: placed_max.max(seats_max).unwrap_or(Attempt(0)),
            seats: seats
                .map(|((_, index), seat)| (*index, seat_state(control, rows, &group, *index, seat)))
                .collect(),
        };
        (*number, input)
    });
    AppInput {
        uid: object.uid,
        name: object.name.clone(),
        tenant: object.tenant.clone(),
        project: object.project.clone(),
        replicas,
        revisions: revisions.collect(),
        target: rows.app.target,
        stable: rows.app.stable,
        progress: Progress {
            ready_max: rows.app.ready_max,
            at: rows.app.progress_at,
        },
        traffic: shares::of(object, spec)
            .into_iter()
            .map(|share| Traffic {
                revision: share.revision,
                percent: u32::from(share.percent),
            })
            .filter(|share| context.templates.contains_key(&share.revision))
            .collect(),
        rollout: rollout(spec, replicas),
        paused: false,
        deleting: object.deleted_at.is_some(),
        leaving: leaving(control, rows, context),
        replicas_seen: sights
            .iter()
            .map(|(key, sighting)| (key.clone(), sighting.sight()))
            .collect(),
    }
}

/// Replicas that must leave their node.
fn leaving(control: &Control, rows: &AppRows, context: &Context) -> BTreeSet<ReplicaKey> {
    let held = rows
        .placements
        .iter()
        .filter(|placement| !matches!(placement.stage, Stage::Released(_)));
    let must = held.filter(|placement| {
        let revision = context
            .templates
            .iter()
            .find(|(number, _)| group_name(**number) == placement.key.group);
        let wishes = revision.map(|(_, (template, _))| &template.program.placement);
        let tolerations: Vec<sched::Toleration> = wishes
            .map(|wishes| wishes.tolerations.iter().map(convert::toleration).collect())
            .unwrap_or_default();
        let devices = placement.devices.iter().map(|device| device.id.as_str());
        control
            .hearing
            .must_leave(&placement.node, devices, &tolerations)
    });
    must.map(|placement| placement.key.clone()).collect()
}

fn seat_state(
    control: &Control,
    rows: &AppRows,
    group: &str,
    index: Index,
    seat: &SeatRow,
) -> SeatState {
    let of_seat = |placement: &&PlacementRow| {
        placement.key.group == group
            && placement.key.index == index
            && placement.key.attempt == seat.attempt
    };
    let placement = rows.placements.iter().find(of_seat);
    let stage = match (seat.stage, placement) {
        (SeatWord::BackingOff, _) => SeatStage::BackingOff { until: seat.since },
        (SeatWord::Placed, Some(placement)) => SeatStage::Placed {
            since: placement.admitted,
            placement: Placement {
                node: placement.node.clone(),
                host: control.engine.peer_host(&placement.key, &placement.node),
                devices: placement.devices.clone(),
                ports: placement.ports.clone(),
                token: auth::attempt::token(&control.key, &placement.key),
                stage: placement.stage.clone(),
            },
        },
        (SeatWord::Waiting | SeatWord::Placed, _) => SeatStage::Waiting { since: seat.since },
    };
    SeatState {
        attempt: seat.attempt,
        losses: seat.losses,
        readmit: seat.readmit,
        draining: seat.draining,
        stage,
    }
}

fn rollout(spec: &AppSpec, replicas: u32) -> Rollout {
    let rollout = &spec.rollout;
    let count = |value: &IntOrPercent, round_up: bool| match value {
        IntOrPercent::Count(count) => *count,
        IntOrPercent::Percent(text) => {
            let percent: u32 = text.trim_end_matches('%').parse().unwrap_or(0);
            let exact = replicas.saturating_mul(percent);
            if round_up {
                exact.div_ceil(100)
            } else {
                exact / 100
            }
        }
    };
    Rollout {
        max_surge: rollout
            .max_surge
            .as_ref()
            .map_or_else(|| replicas.div_ceil(4).max(1), |value| count(value, true)),
        max_unavailable: rollout
            .max_unavailable
            .as_ref()
            .map_or(0, |value| count(value, false)),
        progress_deadline: rollout
            .progress_deadline
            .unwrap_or(plan::app::PROGRESS_DEADLINE),
        drain: rollout.drain.unwrap_or(plan::app::DRAIN),
    }
}

/// What the planner wants to be told next time.
async fn remember(control: &Control, rows: &AppRows, plan: &AppPlan) -> Result<(), ControlError> {
    let progress = plan.status.progress;
    let app = AppRow {
        ready_max: progress.ready_max,
        progress_at: progress.at,
        ..rows.app.clone()
    };
    if app == rows.app {
        return Ok(());
    }
    rows::write(control, rows.owned.uid(), vec![RowOp::PutApp { app }]).await
}

async fn perform(
    control: &Control,
    rows: &AppRows,
    context: &Context,
    plan: &AppPlan,
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
            AppAction::AddSeat {
                revision,
                index,
                attempt,
            } => {
                submit(
                    rows,
                    context,
                    &mut pending,
                    *revision,
                    *index,
                    *attempt,
                    false,
                    now,
                );
            }
            AppAction::Submit {
                revision,
                index,
                attempt,
                readmit,
            } => {
                submit(
                    rows,
                    context,
                    &mut pending,
                    *revision,
                    *index,
                    *attempt,
                    *readmit,
                    now,
                );
            }
            AppAction::Bind { key } => pending.ops.push(RowOp::Bind {
                keys: vec![key.clone()],
            }),
            AppAction::Ensure(group) => {
                flush(control, uid, &mut pending).await?;
                projects::ensure(control, group).await?;
            }
            AppAction::Drain { key } => {
                if let Some((unit, seat)) = seat_of(rows, key) {
                    pending.ops.push(RowOp::PutSeat {
                        unit,
                        seat: SeatRow {
                            draining: Some(now),
                            ..seat
                        },
                    });
                }
            }
            AppAction::Stop { key, grace, reason } => {
                pending.ops.push(RowOp::Releasing {
                    key: key.clone(),
                    deadline: now + *grace,
                    reason: *reason,
                });
                if let Some((task, slot)) = slot_of(rows, key) {
                    pending.notes.push(Note::Event(Event::Releasing {
                        task,
                        slot,
                        deadline: now + *grace,
                    }));
                }
                flush(control, uid, &mut pending).await?;
                control
                    .engine
                    .remove(control.epoch, key, *grace, *reason)
                    .await?;
            }
            AppAction::Release { key, end } => {
                let report = sights.get(key).and_then(Sighting::report).cloned();
                pending.ops.push(RowOp::Release {
                    key: key.clone(),
                    end: end.clone(),
                    report: report.map(Box::new),
                });
                if let Some((task, slot)) = slot_of(rows, key) {
                    pending
                        .notes
                        .push(Note::Event(Event::Released { task, slot }));
                }
                if let Some(placement) = rows
                    .placements
                    .iter()
                    .find(|placement| placement.key == *key)
                {
                    pending.notes.push(Note::Ports(
                        placement.node.clone(),
                        placement.ports.values().copied().collect(),
                    ));
                }
            }
            AppAction::Forget { key } => {
                flush(control, uid, &mut pending).await?;
                control
                    .engine
                    .remove(control.epoch, key, Span::ZERO, engine::StopReason::Forget)
                    .await?;
            }
            AppAction::ReplaceSeat {
                revision,
                index,
                attempt,
                losses,
                not_before,
                readmit,
                reason,
            } => {
                let unit = SeatRow::unit(*revision, *index);
                if let Some(task) = rows
                    .seats
                    .get(&(*revision, *index))
                    .and_then(|seat| seat.task)
                {
                    pending.notes.push(Note::TaskGone(TaskId(task)));
                }
                let seat = SeatRow {
                    attempt: *attempt,
                    losses: *losses,
                    readmit: *readmit,
                    draining: None,
                    task: None,
                    since: *not_before,
                    stage: SeatWord::BackingOff,
                };
                pending.ops.push(RowOp::PutSeat { unit, seat });
                pending.ops.push(RowOp::event(true, reason));
            }
            AppAction::RemoveSeat {
                revision,
                index,
                attempt: _,
            } => {
                let task = rows
                    .seats
                    .get(&(*revision, *index))
                    .and_then(|seat| seat.task);
                pending.ops.push(RowOp::RemoveSeat {
                    unit: SeatRow::unit(*revision, *index),
                    task,
                });
                pending
                    .notes
                    .extend(task.map(|task| Note::TaskGone(TaskId(task))));
            }
            AppAction::Promote { revision } => promote(rows, &mut pending, *revision),
            AppAction::RollBack { from, to, reason } => {
                pending.ops.push(RowOp::RevisionState {
                    number: *from,
                    state: "RolledBack",
                    message: reason.sentence.clone(),
                });
                pending.ops.push(RowOp::Retarget { to: *to });
                let app = AppRow {
                    target: *to,
                    stable: rows.app.stable,
                    ready_max: 0,
                    progress_at: now,
                };
                pending.ops.push(RowOp::PutApp { app });
                let sentence = format!(
                    "rolled back from revision {from} to {to}: {}",
                    reason.sentence
                );
                pending.ops.push(RowOp::Event {
                    warning: true,
                    code: "RolledBack".to_owned(),
                    sentence,
                });
            }
            AppAction::Delete => pending.ops.push(RowOp::Delete),
        }
    }
    flush(control, uid, &mut pending).await
}

/// The stable Revision changes; the one before is old, and what is older than the history is forgotten.
fn promote(rows: &AppRows, pending: &mut Pending, revision: u32) {
    let app = AppRow {
        stable: Some(revision),
        ..rows.app.clone()
    };
    pending.ops.push(RowOp::PutApp { app });
    for other in &rows.revisions {
        let state = if other.number == revision {
            "Stable"
        } else {
            "Old"
        };
        if other.state != state && other.state != "RolledBack" {
            pending.ops.push(RowOp::RevisionState {
                number: other.number,
                state,
                message: String::new(),
            });
        }
    }
    let history = rows.owned.object.spec["rollout"]["history"]
        .as_u64()
        .map_or(HISTORY, |n| u32::try_from(n).unwrap_or(HISTORY));
    let old = rows
        .revisions
        .iter()
        .filter(|other| other.number != revision);
    pending.ops.extend(
        old.skip(history as usize)
            .map(|other| RowOp::RemoveRevision {
                number: other.number,
            }),
    );
    let sentence = format!("revision {revision} is ready");
    pending.ops.push(RowOp::Event {
        warning: false,
        code: "Promoted".to_owned(),
        sentence,
    });
}

struct Pending {
    ops: Vec<RowOp>,
    notes: Vec<Note>,
}

enum Note {
    Submit(Box<(sched::TaskSpec, TaskOwner)>),
    TaskGone(TaskId),
    Event(Event),
    Ports(String, Vec<u16>),
}

async fn flush(control: &Control, uid: Uid, pending: &mut Pending) -> Result<(), ControlError> {
    if !pending.ops.is_empty() {
        rows::write(control, uid, std::mem::take(&mut pending.ops)).await?;
    }
    for note in pending.notes.drain(..) {
        match note {
            Note::Submit(submitted) => {
                let (spec, owner) = *submitted;
                control.sched.submit(spec, owner).await;
            }
            Note::TaskGone(task) => control.sched.event(Event::TaskGone(task)).await,
            Note::Event(event) => control.sched.event(event).await,
            Note::Ports(node, numbers) => control.sched.ports_free(node, numbers).await,
        }
    }
    Ok(())
}

#[expect(
    clippy::too_many_arguments,
    reason = "both ways to submit a seat share it"
)]
fn submit(
    rows: &AppRows,
    context: &Context,
    pending: &mut Pending,
    revision: u32,
    index: Index,
    attempt: Attempt,
    readmit: bool,
    now: Time,
) {
    let task = platform::new_uid(now);
    let unit = SeatRow::unit(revision, index);
    pending.ops.push(RowOp::SubmitSeat {
        unit,
        attempt,
        task,
        now,
        queue: context.queue.clone(),
        priority: context.priority,
        readmit,
    });
    if let Some((template, engine)) = context.templates.get(&revision) {
        let made = seat_task(
            rows,
            context,
            revision,
            index,
            attempt,
            TaskId(task),
            readmit,
            template,
            engine,
        );
        pending.notes.push(Note::Submit(Box::new(made)));
    }
}

#[expect(clippy::too_many_arguments, reason = "a task has that many sides")]
fn seat_task(
    rows: &AppRows,
    context: &Context,
    revision: u32,
    index: Index,
    attempt: Attempt,
    task: TaskId,
    readmit: bool,
    template: &AppTemplate,
    engine: &engine::Template,
) -> (sched::TaskSpec, TaskOwner) {
    let object = &rows.owned.object;
    let group = group_name(revision);
    let spec = sched::TaskSpec {
        id: task,
        generation: 1,
        name: format!("app/{}", object.name),
        queue: context.queue.clone(),
        kind: sched::TaskKind::Service,
        priority: context.priority,
        submitted: object.created_at,
        groups: vec![convert::sched_group(
            &group,
            &template.program,
            &convert::resources(&template.program.resources),
            1,
            1,
            relations::of_app(&template.program.placement, &object.project, &object.name),
        )],
        preemptible: false,
        min_runtime: Span::ZERO,
        grace: engine.grace,
        checkpoints: false,
        time_limit: None,
        expected: None,
        // The scheduler stops none of them: what must leave a node is moved by the App's own rollout.
        disruption: Some((object.uid, 0)),
        readmit,
    };
    let ports = engine.ports.iter().map(|port| port.name.clone()).collect();
    let owner = TaskOwner {
        owner: object.uid,
        kind: super::OwnerKind::App,
        tenant: object.tenant.clone(),
        project: object.project.clone(),
        unit: SeatRow::unit(revision, index),
        attempt,
        name: object.name.clone(),
        groups: vec![TaskGroup {
            name: group,
            first: index,
            ports: vec![ports],
        }],
    };
    (spec, owner)
}

/// A waiting or admitted task of an App, rebuilt from its rows at the start of a term.
pub async fn rebuilt(
    control: &Control,
    rows: &AppRows,
    unit: &str,
    attempt: Attempt,
    task: TaskId,
    readmit: bool,
) -> Result<Option<(sched::TaskSpec, TaskOwner)>, ControlError> {
    let uid = rows.owned.uid();
    let spec: AppSpec = serde_json::from_value(rows.owned.object.spec.clone())
        .map_err(|source| ControlError::Spec { uid, source })?;
    let Ready::Yes(context) = context(control, rows, &spec).await? else {
        return Ok(None);
    };
    let Some((revision, index)) = SeatRow::parse_unit(unit) else {
        return Ok(None);
    };
    let Some((template, engine)) = context.templates.get(&revision) else {
        return Ok(None);
    };
    Ok(Some(seat_task(
        rows, &context, revision, index, attempt, task, readmit, template, engine,
    )))
}

fn seat_of(rows: &AppRows, key: &ReplicaKey) -> Option<(String, SeatRow)> {
    let ((revision, index), seat) = rows.seats.iter().find(|((revision, index), seat)| {
        group_name(*revision) == key.group && *index == key.index && seat.attempt == key.attempt
    })?;
    Some((SeatRow::unit(*revision, *index), seat.clone()))
}

fn slot_of(rows: &AppRows, key: &ReplicaKey) -> Option<(TaskId, SlotId)> {
    let placement = rows
        .placements
        .iter()
        .find(|placement| placement.key == *key)?;
    // Released ones are known to the scheduler no more.
    let holds = !matches!(placement.stage, Stage::Released(_));
    holds.then_some((TaskId(placement.task), SlotId { group: 0, index: 0 }))
}
