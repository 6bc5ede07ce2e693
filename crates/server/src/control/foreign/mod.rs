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
mod look;
pub mod steps;
mod tell;
mod write;

use super::dirty::Dirty;
use super::unit_row::UnitRow;
use super::{Control, ControlError, lock};
use api::Kind;
use api::pods::PodGroupSpec;
use base::Uid;
use db::control as tables;
use db::objects::{self, Object};
use engine::{ForeignPod, Note, Observation};
use gather::{GangKey, Known};
use sched::TaskId;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use steps::Pods;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// PodGroups looked at in one transaction.
const LOOKS_MAX: usize = 128;
/// Pods gathered in one transaction.
const GATHER_MAX: usize = 512;
/// Bindings at once.
const BINDS_MAX: usize = 64;
/// Batches of PodGroups for which the cluster is called at once: the next is read meanwhile.
const BATCHES_MAX: usize = 3;
/// People are told why their pods wait this often.
const TELL: Duration = Duration::from_secs(2);
/// Everything is looked at again this often.
const RESYNC: Duration = Duration::from_secs(30);
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
            let before = state.pods.insert(uid.clone(), pod.clone());
            // Of what was done here, only the cluster's word that it is so.
            if !observation.complete && before.as_ref() == Some(pod) {
                continue;
            }
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

    /// A pod has its node now: the observation that says so is no news.
    fn bound(&self, uid: &str, node: &str) {
        if let Some(pod) = lock(&self.state).pods.get_mut(uid) {
            pod.node = Some(node.to_owned());
        }
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

fn spec(object: &Object) -> Result<PodGroupSpec, ControlError> {
    serde_json::from_value(object.spec.clone()).map_err(|source| ControlError::Spec {
        uid: object.uid,
        source,
    })
}

/// Reads what earlier leaders knew, before the engine is asked.
pub async fn remember(control: &Control) -> Result<(), ControlError> {
    let uids = objects::active(&control.db, Kind::PodGroup.as_str()).await?;
    for some in uids.chunks(LOOKS_MAX) {
        for rows in look::load(control, some).await? {
            let task = rows.unit.as_ref().and_then(UnitRow::task);
            let waits = rows.placements.is_empty();
            control.foreign.know(&rows.object, &rows.spec, task, waits);
            control.foreign.groups.add(rows.object.uid);
        }
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

/// The loop. While the cluster is called for some PodGroups, others are gathered and read: everything else is done in turn, so
/// that no two steps see each other half done.
pub async fn run(control: Arc<Control>, stop: CancellationToken) {
    let mut tell = tokio::time::interval(TELL);
    let mut resync = tokio::time::interval(RESYNC);
    let room = Arc::new(Semaphore::new(BINDS_MAX));
    let mut calls = JoinSet::new();
    while !stop.is_cancelled() {
        let acted = act(&control, calls.len() < BATCHES_MAX).await;
        match acted {
            Ok(Acted {
                called: Some(batch),
                ..
            }) => {
                calls.spawn(look::call(Arc::clone(&control), Arc::clone(&room), batch));
                continue;
            }
            Ok(Acted { is_more: true, .. }) => continue,
            Ok(_) => {}
            Err(error) => {
                failed(&error);
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
            Some(called) = calls.join_next() => look::called_back(&control, called).await,
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
    // What was asked of the cluster is written down.
    while let Some(called) = calls.join_next().await {
        look::called_back(&control, called).await;
    }
}

fn failed(error: &ControlError) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "cannot act on pods of others now"
    );
}

/// What one round did.
struct Acted {
    /// PodGroups for which the cluster is to be called.
    called: Option<look::Batch>,
    /// Whether there is more to do at once.
    is_more: bool,
}

/// One round. PodGroups are looked at while there is room for their calls.
async fn act(control: &Control, has_room: bool) -> Result<Acted, ControlError> {
    let n_gathered = gather_some(control).await?;
    let uids = if has_room {
        control.foreign.groups.take(control.now(), LOOKS_MAX)
    } else {
        Vec::new()
    };
    let looked = look::look(control, &uids).await;
    let called = looked.as_ref().ok().map(|batch| batch.iter());
    let called: BTreeSet<Uid> = called
        .into_iter()
        .flatten()
        .map(|(rows, _)| rows.object.uid)
        .collect();
    let again = control.now() + look::AGAIN;
    for uid in uids.iter().filter(|uid| !called.contains(uid)) {
        control
            .foreign
            .groups
            .done(*uid, looked.is_err().then_some(again));
    }
    let batch = looked?;
    Ok(Acted {
        is_more: n_gathered > 0 || !uids.is_empty(),
        called: (!batch.is_empty()).then_some(batch),
    })
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
            // It is looked at again when this changes.
            (None, Some(_)) if let Some(lacks) = &pod.lacks => {
                Some(("FailedScheduling", lacks.clone()))
            }
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
