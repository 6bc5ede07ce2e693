//! The controller of pods that others made and that name our scheduler.
//!
//! ```text
//! observe ─► pods ─► gather (pure) ─► PodGroup + task, committed ─► scheduler ─► Admit
//!               └──► steps (pure) ◄── rows of the PodGroup ◄───────────────────────┘
//!                      └─► bind · evict · release
//! ```
//!
//! A PodGroup is the pods that start together and one task. It is tried once: when its pods are gone it is removed, and pods
//! that are left over are gathered anew. Nothing here starts or restarts pods: that is their owners' business.

pub mod gather;
pub mod group;
pub mod steps;
mod tell;
mod write;

use super::dirty::Dirty;
use super::unit_row::UnitRow;
use super::{Control, ControlError, lock};
use api::Kind;
use api::pods::PodGroupSpec;
use base::{Span, Uid};
use db::objects::{self, Object};
use db::{control as tables, control::Placement};
use engine::{ForeignPod, Note, Observation};
use futures_util::StreamExt;
use gather::{GangKey, Known};
use sched::{Event, SlotId, TaskId};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use steps::{Pods, Step};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// PodGroups looked at in one transaction.
const LOOKS_MAX: usize = 256;
/// Pods gathered in one transaction.
const GATHER_MAX: usize = 512;
/// Bindings at once.
const BINDS_MAX: usize = 64;
/// People are told why their pods wait this often.
const TELL: Duration = Duration::from_secs(2);
/// Everything is looked at again this often.
const RESYNC: Duration = Duration::from_secs(30);
/// What the cluster refused is tried again after this.
const AGAIN: Span = Span::from_secs(1);
/// After a failed look.
const FAILED_DELAY: Duration = Duration::from_secs(1);

/// What is known of pods of others, and which of their groups to look at.
#[derive(Default)]
pub struct Foreign {
    state: Mutex<State>,
    /// PodGroups to look at.
    pub groups: Dirty,
    poke: Notify,
}

#[derive(Default)]
struct State {
    pods: Pods,
    /// The PodGroup of each pod, by uid.
    group_of: HashMap<String, Uid>,
    /// Pods that belong nowhere yet.
    loose: BTreeSet<String>,
    /// Pods that cannot be taken in as they are, and why.
    held: HashMap<String, String>,
    gangs: HashMap<GangKey, Known>,
    /// Groups that wait, with their task.
    waiting: HashMap<Uid, TaskId>,
    /// What people were told last of a group.
    told: HashMap<Uid, String>,
}

impl Foreign {
    /// Takes in an observation.
    pub fn observe(&self, observation: &Observation) {
        let mut state = lock(&self.state);
        let mut gone: Vec<String> = observation.foreign_gone.clone();
        if observation.complete {
            let there: BTreeSet<&str> = observation
                .foreign
                .iter()
                .map(|pod| pod.pod.uid.as_str())
                .collect();
            let known = state.pods.keys().chain(state.group_of.keys());
            gone.extend(known.filter(|uid| !there.contains(uid.as_str())).cloned());
        }
        for pod in &observation.foreign {
            let uid = pod.pod.uid.clone();
            state.pods.insert(uid.clone(), pod.clone());
            match state.group_of.get(&uid).copied() {
                Some(group) => self.groups.add(group),
                None if pod.is_over => {
                    state.loose.remove(&uid);
                }
                None => {
                    state.held.remove(&uid);
                    state.loose.insert(uid);
                }
            }
        }
        for uid in gone {
            state.pods.remove(&uid);
            state.loose.remove(&uid);
            state.held.remove(&uid);
            if let Some(group) = state.group_of.get(&uid).copied() {
                self.groups.add(group);
            }
        }
        drop(state);
        self.poke.notify_one();
    }

    /// A Project or Queue changed: who was held back may come now.
    pub fn reconsider(&self) {
        let mut state = lock(&self.state);
        let held: Vec<String> = state.held.drain().map(|(uid, _)| uid).collect();
        state.loose.extend(held);
        drop(state);
        self.poke.notify_one();
    }

    /// A PodGroup's pods are known to be its.
    fn know(&self, object: &Object, spec: &PodGroupSpec, task: Option<TaskId>, waits: bool) {
        let mut state = lock(&self.state);
        for member in &spec.pods {
            state.loose.remove(&member.uid);
            state.group_of.insert(member.uid.clone(), object.uid);
        }
        if let Some(gang) = &spec.gang {
            let known = match task {
                Some(_) => Known::Started,
                None => Known::Gathering {
                    group: object.uid,
                    n_there: spec.pods.len(),
                },
            };
            let key = (object.project.clone(), gang.clone());
            state.gangs.insert(key, known);
        }
        match task.filter(|_| waits) {
            Some(task) => drop(state.waiting.insert(object.uid, task)),
            None => drop(state.waiting.remove(&object.uid)),
        }
    }

    /// A PodGroup is no more; its pods that are there belong nowhere.
    fn forget(&self, object: &Object, spec: &PodGroupSpec) {
        let mut state = lock(&self.state);
        for member in &spec.pods {
            state.group_of.remove(&member.uid);
            if state.pods.get(&member.uid).is_some_and(|pod| !pod.is_over) {
                state.loose.insert(member.uid.clone());
            }
        }
        if let Some(gang) = &spec.gang {
            let key = (object.project.clone(), gang.clone());
            state.gangs.remove(&key);
        }
        state.waiting.remove(&object.uid);
        state.told.remove(&object.uid);
    }
}

/// All rows of a PodGroup.
struct Rows {
    object: Object,
    spec: PodGroupSpec,
    unit: Option<UnitRow>,
    placements: Vec<Placement>,
}

async fn load(control: &Control, uid: Uid) -> Result<Option<Rows>, ControlError> {
    let found = objects::read_by_uid(&control.db, uid).await?;
    let Some(object) = found.filter(|object| object.kind == Kind::PodGroup.as_str()) else {
        return Ok(None);
    };
    let units = tables::units(&control.db, uid).await?;
    let unit = units.into_iter().next();
    Ok(Some(Rows {
        spec: spec(&object)?,
        unit: unit.and_then(|unit| serde_json::from_value(unit.data).ok()),
        placements: tables::placements(&control.db, uid).await?,
        object,
    }))
}

fn spec(object: &Object) -> Result<PodGroupSpec, ControlError> {
    serde_json::from_value(object.spec.clone()).map_err(|source| ControlError::Spec {
        uid: object.uid,
        source,
    })
}

/// Reads what earlier leaders knew, before the engine is asked.
pub async fn remember(control: &Control) -> Result<(), ControlError> {
    for object in objects::all(&control.db, Kind::PodGroup.as_str()).await? {
        let Some(rows) = load(control, object.uid).await? else {
            continue;
        };
        let task = rows.unit.as_ref().and_then(UnitRow::task);
        let waits = rows.placements.is_empty();
        control.foreign.know(&rows.object, &rows.spec, task, waits);
        control.foreign.groups.add(object.uid);
    }
    Ok(())
}

/// A task from its rows, at the start of a term.
pub async fn rebuilt(
    control: &Control,
    task: &tables::Task,
) -> Result<Option<(sched::TaskSpec, super::scheduler::TaskOwner)>, ControlError> {
    let Some(object) = objects::read_by_uid(&control.db, task.owner).await? else {
        return Ok(None);
    };
    let (spec, queue) = (spec(&object)?, task.queue.clone());
    Ok(Some(group::task(&object, &spec, queue, TaskId(task.uid))))
}

/// The loop.
pub async fn run(control: Arc<Control>, stop: CancellationToken) {
    let mut tell = tokio::time::interval(TELL);
    let mut resync = tokio::time::interval(RESYNC);
    while !stop.is_cancelled() {
        match act(&control).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot act on pods of others now"
                );
                tokio::select! {
                    () = tokio::time::sleep(FAILED_DELAY) => continue,
                    () = stop.cancelled() => break,
                }
            }
        }
        let now = control.now();
        let wake = control.foreign.groups.next_wake();
        let due = wake.map_or(RESYNC, |at| {
            at.since(now).as_std().max(Duration::from_millis(1))
        });
        tokio::select! {
            () = control.foreign.poke.notified() => {}
            () = control.foreign.groups.added() => {}
            () = tokio::time::sleep(due) => {}
            _ = tell.tick() => tell::tell(&control).await,
            _ = resync.tick() => {
                control.foreign.reconsider();
                let state = lock(&control.foreign.state);
                control.foreign.groups.add_all(state.group_of.values().copied());
            }
            () = stop.cancelled() => break,
        }
    }
}

/// One round; whether there is more to do at once.
async fn act(control: &Control) -> Result<bool, ControlError> {
    let n_gathered = gather_some(control).await?;
    let uids = control.foreign.groups.take(control.now(), LOOKS_MAX);
    let looked = look(control, &uids).await;
    let again = control.now() + AGAIN;
    for uid in &uids {
        let is_done = looked.as_ref().is_ok_and(|failed| !failed.contains(uid));
        control
            .foreign
            .groups
            .done(*uid, (!is_done).then_some(again));
    }
    looked?;
    Ok(n_gathered > 0 || !uids.is_empty())
}

/// Pods that belong nowhere become PodGroups.
async fn gather_some(control: &Control) -> Result<usize, ControlError> {
    let (loose, known) = {
        let state = lock(&control.foreign.state);
        let pods = state.loose.iter().take(GATHER_MAX);
        let pods: Vec<ForeignPod> = pods
            .filter_map(|uid| state.pods.get(uid).cloned())
            .collect();
        (pods, state.gangs.clone())
    };
    if loose.is_empty() {
        return Ok(0);
    }
    let mut n_done = 0;
    let mut taken = Vec::with_capacity(loose.len());
    let mut tenants: HashMap<String, Option<String>> = HashMap::new();
    for pod in loose {
        let project = &pod.pod.namespace;
        if !tenants.contains_key(project) {
            let found = objects::read(&control.db, "Project", "", project).await?;
            let tenant = |found: Object| {
                found.spec["tenant"]
                    .as_str()
                    .unwrap_or("default")
                    .to_owned()
            };
            let tenant = found.map(tenant);
            tenants.insert(project.clone(), tenant);
        }
        let why = match (&pod.refused, &tenants[project]) {
            (Some(refused), _) => Some(("Unsupported", refused.clone())),
            (None, None) => Some((
                "NoProject",
                format!("there is no Project `{project}`; make it with `kind: Project`"),
            )),
            (None, Some(_)) => match &pod.queue {
                Some(queue) if !takes(control, queue, project).await? => Some((
                    "QueueClosed",
                    format!(
                        "the Queue `{queue}` does not take the Project `{project}`: name another in `moonshot/queue`, or add it there"
                    ),
                )),
                Some(_) | None => None,
            },
        };
        // One that runs already is counted, whatever it asked for.
        match why.filter(|_| pod.node.is_none()) {
            Some((reason, sentence)) => {
                hold(control, &pod, reason, sentence).await;
                n_done += 1;
            }
            None => taken.push(pod),
        }
    }
    let drafts = gather::gather(taken, &known);
    let written = write::drafts(control, drafts, &tenants).await?;
    n_done += written.len();
    for made in written {
        let task = made.task.as_ref().map(|(spec, _)| spec.id);
        let waits = made.running.is_none();
        control.foreign.know(&made.object, &made.spec, task, waits);
        if let Some(warning) = made.warning {
            for pod in &made.pods {
                say(control, pod, true, "GangUnknown", &warning).await;
            }
        }
        match (made.task, made.running) {
            (Some((spec, owner)), None) => control.sched.submit(spec, owner).await,
            (Some((spec, owner)), Some(running)) => {
                let started = control.now();
                let running = sched::RunningTask {
                    spec,
                    started,
                    placements: vec![running],
                };
                control.sched.running(running, owner).await;
            }
            (None, _) => {}
        }
    }
    Ok(n_done)
}

/// Whether a Queue is there for a Project's work.
async fn takes(control: &Control, queue: &str, project: &str) -> Result<bool, ControlError> {
    let queues = control.queues.read(&control.db).await?;
    let found = queues.iter().find(|(name, _)| name == queue);
    Ok(found.is_some_and(|(_, projects)| projects.iter().any(|name| name == project)))
}

async fn hold(control: &Control, pod: &ForeignPod, reason: &str, sentence: String) {
    let uid = pod.pod.uid.clone();
    {
        let mut state = lock(&control.foreign.state);
        state.loose.remove(&uid);
        if state.held.insert(uid, sentence.clone()).as_ref() == Some(&sentence) {
            return;
        }
    }
    say(control, pod, true, reason, &sentence).await;
}

async fn say(control: &Control, pod: &ForeignPod, is_warning: bool, reason: &str, sentence: &str) {
    let note = Note {
        is_warning,
        reason: reason.to_owned(),
        sentence: sentence.to_owned(),
    };
    if let Err(error) = control.engine.tell(control.epoch, &pod.pod, &note).await {
        tracing::debug!(%error, pod = %pod.pod, "nobody could be told");
    }
}

/// Looks at PodGroups: rows first, then the scheduler; bindings before their rows, since they may be repeated. Those of which
/// the cluster refused something.
async fn look(control: &Control, uids: &[Uid]) -> Result<BTreeSet<Uid>, ControlError> {
    let mut all = Vec::with_capacity(uids.len());
    for uid in uids {
        let Some(rows) = load(control, *uid).await? else {
            continue;
        };
        let pods: Pods = {
            let state = lock(&control.foreign.state);
            let members = rows.spec.pods.iter();
            members
                .filter_map(|member| {
                    Some((member.uid.clone(), state.pods.get(&member.uid)?.clone()))
                })
                .collect()
        };
        if rows
            .unit
            .as_ref()
            .is_some_and(|unit| unit.word() == "placed")
        {
            lock(&control.foreign.state).waiting.remove(uid);
        }
        let steps = steps::steps(&rows.spec, rows.unit.as_ref(), &rows.placements, &pods);
        all.push((rows, steps));
    }
    let calls = all.iter().flat_map(|(rows, steps)| {
        let uid = rows.object.uid;
        steps.iter().filter_map(move |step| match step {
            Step::Bind { pod, node, .. } => Some((uid, pod.clone(), Some(node.clone()))),
            Step::Evict { pod } => Some((uid, pod.clone(), None)),
            _ => None,
        })
    });
    let calls: Vec<_> = calls
        .map(|(uid, pod, node)| async move {
            let (engine, epoch) = (&control.engine, control.epoch);
            let done = match node {
                Some(node) => engine.bind(epoch, &pod, &node).await,
                None => engine
                    .evict(epoch, &pod, group::GRACE)
                    .await
                    .map(|()| false),
            };
            (uid, pod, done)
        })
        .collect();
    let calls = futures_util::stream::iter(calls);
    let called: Vec<_> = calls.buffer_unordered(BINDS_MAX).collect().await;
    let (mut bound, mut failed) = (BTreeSet::new(), BTreeSet::new());
    for (uid, pod, done) in called {
        match done {
            Ok(true) => drop(bound.insert(pod.uid)),
            // It is not as it was: the next observation tells.
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, %pod, "a pod of others cannot be acted on now");
                failed.insert(uid);
            }
        }
    }
    write::steps(control, &all, &bound).await?;
    for (rows, steps) in &all {
        for step in steps {
            after(control, rows, step).await;
        }
    }
    Ok(failed)
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
