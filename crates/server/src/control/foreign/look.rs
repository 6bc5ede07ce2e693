//! What is done for a PodGroup: rows are read, steps are decided ([`steps`]), the cluster is called, then it is written down.

use super::super::unit_row::UnitRow;
use super::super::{Control, ControlError, lock};
use super::steps::{self, Pods, Step};
use super::{failed, group, spec, write};
use api::Kind;
use api::pods::PodGroupSpec;
use base::{Span, Uid};
use db::objects::{self, Object};
use db::{control as tables, control::Placement};
use engine::{Note, PodName, Prepared};
use futures_util::StreamExt;
use sched::{Event, SlotId, TaskId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinError;

/// What the cluster refused is tried again after this.
pub(super) const AGAIN: Span = Span::from_secs(1);

/// PodGroups with their steps.
pub(super) type Batch = Vec<(Rows, Vec<Step>)>;

/// All rows of a PodGroup.
pub(super) struct Rows {
    pub(super) object: Object,
    pub(super) spec: PodGroupSpec,
    pub(super) unit: Option<UnitRow>,
    pub(super) placements: Vec<Placement>,
}

/// Those of the PodGroups that are there, with their rows.
pub(super) async fn load(control: &Control, uids: &[Uid]) -> Result<Vec<Rows>, ControlError> {
    let mut units = HashMap::with_capacity(uids.len());
    for unit in tables::units_of(&control.db, uids).await? {
        units.entry(unit.owner).or_insert(unit);
    }
    let mut placements: HashMap<Uid, Vec<Placement>> = HashMap::with_capacity(uids.len());
    for placement in tables::placements_of(&control.db, uids).await? {
        placements
            .entry(placement.owner)
            .or_default()
            .push(placement);
    }
    let mut all = Vec::with_capacity(uids.len());
    for object in objects::read_by_uids(&control.db, uids).await? {
        if object.kind != Kind::PodGroup.as_str() {
            continue;
        }
        let unit = units.remove(&object.uid);
        all.push(Rows {
            spec: spec(&object)?,
            unit: unit.and_then(|unit| serde_json::from_value(unit.data).ok()),
            placements: placements.remove(&object.uid).unwrap_or_default(),
            object,
        });
    }
    Ok(all)
}

/// Looks at PodGroups and takes those steps that need no call of the cluster. The others come back: no step of theirs changes
/// who belongs to them.
pub(super) async fn look(control: &Control, uids: &[Uid]) -> Result<Batch, ControlError> {
    let (mut here, mut called) = (Batch::new(), Batch::new());
    for rows in load(control, uids).await? {
        let pods: Pods = {
            let mut state = lock(&control.foreign.state);
            if rows
                .unit
                .as_ref()
                .is_some_and(|unit| unit.word() == "placed")
            {
                state.waiting.remove(&rows.object.uid);
            }
            let members = rows.spec.pods.iter();
            members
                .filter_map(|member| {
                    Some((member.uid.clone(), state.pods.get(&member.uid)?.clone()))
                })
                .collect()
        };
        let steps = steps::steps(&rows.spec, rows.unit.as_ref(), &rows.placements, &pods);
        let is_called = steps
            .iter()
            .any(|step| matches!(step, Step::Bind { .. } | Step::Evict { .. }));
        if is_called {
            called.push((rows, steps));
        } else {
            here.push((rows, steps));
        }
    }
    take(control, &here, &BTreeSet::new()).await?;
    Ok(called)
}

/// Makes steps durable, then tells of them.
async fn take(
    control: &Control,
    all: &[(Rows, Vec<Step>)],
    bound: &BTreeSet<String>,
) -> Result<(), ControlError> {
    write::steps(control, all, bound).await?;
    for (rows, steps) in all {
        for step in steps {
            after(control, rows, step).await;
        }
    }
    Ok(())
}

/// Whether the members of a PodGroup can be bound.
enum Readiness {
    Ready,
    /// Something is waited for, or the cluster refused.
    NotYet,
    /// No member is bound, and one never could be where it was placed.
    Misplaced,
}

/// What the cluster answered.
pub(super) struct Called {
    batch: Batch,
    /// PodGroups that must be placed again.
    misplaced: BTreeSet<Uid>,
    /// Pods that were given their node, by uid.
    bound: BTreeSet<String>,
    /// PodGroups of which it refused something.
    refused: BTreeSet<Uid>,
}

/// Has what a PodGroup's members claim, volumes and devices, brought to their nodes: all of them before any member is bound, so that a gang that cannot
/// be where it was placed has not half begun.
async fn prepare(control: &Control, room: &Semaphore, rows: &Rows, steps: &[Step]) -> Readiness {
    let (mut elsewhere, mut waits) = (None, None);
    let mut is_refused = false;
    for step in steps {
        let Step::Bind { pod, node, .. } = step else {
            continue;
        };
        // It is never closed.
        let _permit = room.acquire().await;
        match control.engine.prepare(control.epoch, pod, node).await {
            Ok(Prepared::Ready) => {}
            Ok(Prepared::Waits(sentence)) => drop(waits.get_or_insert((pod, sentence))),
            Ok(Prepared::Elsewhere(sentence)) => drop(elsewhere.get_or_insert((pod, sentence))),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, %pod, "what a pod of others claims cannot be prepared now");
                is_refused = true;
            }
        }
    }
    let has_begun = rows.placements.iter().any(|row| row.state == "bound");
    let is_misplaced = elsewhere.is_some() && !has_begun;
    let Some((pod, sentence)) = elsewhere.or(waits) else {
        return if is_refused {
            Readiness::NotYet
        } else {
            Readiness::Ready
        };
    };
    hold_up(control, rows.object.uid, pod, &sentence).await;
    if is_misplaced {
        Readiness::Misplaced
    } else {
        Readiness::NotYet
    }
}

/// Tells what a PodGroup waits for that has its place, once.
async fn hold_up(control: &Control, uid: Uid, pod: &PodName, sentence: &str) {
    let told = {
        let mut state = lock(&control.foreign.state);
        let told = state.told.insert(uid, sentence.to_owned());
        told.as_deref() == Some(sentence)
    };
    if told {
        return;
    }
    if let Err(error) = write::waits(control, uid, "WaitingToBind", sentence).await {
        failed(&error);
    }
    let note = Note {
        is_warning: true,
        reason: "WaitingToBind".to_owned(),
        sentence: sentence.to_owned(),
    };
    if let Err(error) = control.engine.tell(control.epoch, pod, &note).await {
        tracing::debug!(%error, %pod, "nobody could be told");
    }
}

/// Calls the cluster: binds and evicts. Before anything is written of it, since it may be repeated.
pub(super) async fn call(control: Arc<Control>, room: Arc<Semaphore>, batch: Batch) -> Called {
    let (control, room) = (&*control, &*room);
    let checks = batch.iter().map(|(rows, steps)| async move {
        (rows.object.uid, prepare(control, room, rows, steps).await)
    });
    let checks: Vec<_> = checks.collect();
    let checks = futures_util::stream::iter(checks).buffer_unordered(super::BINDS_MAX);
    let readiness: HashMap<Uid, Readiness> = checks.collect().await;
    let is_ready = |uid: &Uid| matches!(readiness.get(uid), Some(Readiness::Ready) | None);
    let calls = batch.iter().flat_map(|(rows, steps)| {
        let uid = rows.object.uid;
        steps.iter().filter_map(move |step| match step {
            Step::Bind { pod, node, .. } if is_ready(&uid) => {
                Some((uid, pod.clone(), Some(node.clone())))
            }
            Step::Evict { pod } => Some((uid, pod.clone(), None)),
            _ => None,
        })
    });
    let calls: Vec<_> = calls
        .map(|(uid, pod, node)| async move {
            // It is never closed.
            let _permit = room.acquire().await;
            let (engine, epoch) = (&control.engine, control.epoch);
            let Some(node) = node else {
                let evicted = engine.evict(epoch, &pod, group::GRACE).await;
                return (uid, pod, evicted.map(|()| false));
            };
            let bound = engine.bind(epoch, &pod, &node).await;
            if let Ok(true) = bound {
                control.foreign.bound(&pod.uid, &node);
            }
            (uid, pod, bound)
        })
        .collect();
    let calls = futures_util::stream::iter(calls);
    let called: Vec<_> = calls.buffer_unordered(super::BINDS_MAX).collect().await;
    let (mut bound, mut refused) = (BTreeSet::new(), BTreeSet::new());
    let mut misplaced = BTreeSet::new();
    for (uid, readiness) in readiness {
        match readiness {
            Readiness::Ready => {}
            Readiness::NotYet => drop(refused.insert(uid)),
            Readiness::Misplaced => drop(misplaced.insert(uid)),
        }
    }
    for (uid, pod, done) in called {
        match done {
            Ok(true) => drop(bound.insert(pod.uid)),
            // It is not as it was: the next observation tells.
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, %pod, "a pod of others cannot be acted on now");
                refused.insert(uid);
            }
        }
    }
    Called {
        batch,
        misplaced,
        bound,
        refused,
    }
}

/// Writes down what the cluster answered.
pub(super) async fn called_back(control: &Control, called: Result<Called, JoinError>) {
    let mut called = match called {
        Ok(called) => called,
        // Its batch is lost with it: the loop begins anew, from the tables.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    for (rows, steps) in &mut called.batch {
        if called.misplaced.contains(&rows.object.uid) {
            *steps = steps::given_back(&rows.placements);
        }
    }
    let taken = take(control, &called.batch, &called.bound).await;
    if let Err(error) = &taken {
        failed(error);
    }
    let again = control.now() + AGAIN;
    for (rows, _) in &called.batch {
        let uid = rows.object.uid;
        let is_done = taken.is_ok() && !called.refused.contains(&uid);
        control
            .foreign
            .groups
            .done(uid, (!is_done).then_some(again));
    }
}

/// Tells the scheduler, and what is known here, of a step that is durable.
async fn after(control: &Control, rows: &Rows, step: &Step) {
    let task = rows.unit.as_ref().and_then(UnitRow::task);
    match step {
        Step::Release {
            seat: (group, index),
        } => {
            let number = group
                .strip_prefix('g')
                .and_then(|number| number.parse().ok());
            if let (Some(task), Some(group)) = (task, number) {
                let slot = SlotId {
                    group,
                    index: index.0,
                };
                control.sched.event(Event::Released { task, slot }).await;
            }
        }
        Step::Withdraw { task } => control.sched.event(Event::TaskGone(TaskId(*task))).await,
        Step::Remove { .. } => {
            if let Some(task) = task {
                control.sched.event(Event::TaskGone(task)).await;
            }
            control.foreign.forget(&rows.object, &rows.spec);
            control.foreign.poke.notify_one();
        }
        Step::Keep { uids } => {
            let mut spec = rows.spec.clone();
            spec.pods.retain(|member| uids.contains(&member.uid));
            control.foreign.forget(&rows.object, &rows.spec);
            control.foreign.know(&rows.object, &spec, None, false);
        }
        Step::Bind { .. } | Step::Bound { .. } | Step::Evict { .. } => {}
    }
}
