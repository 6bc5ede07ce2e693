//! What is kept in memory of the cluster's objects: the parts that matter, cut from what was received. Pure.

use crate::devices;
use crate::manifest::GPU;
use crate::names;
use crate::storage::{self, Named};
use base::quantity::{parse_milli, parse_whole};
use base::{Attempt, Bytes, Epoch, Index, MilliCpu, Resources, Time, Uid};
use engine::{End, Group, NodeReport, PodName, ReplicaKey, StopReason, TaintEffect};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerState, Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pod::wire::Report;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Namespace and name.
pub(crate) type Place = (String, String);

/// Which kind of object holds replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum HolderKind {
    Job,
    Deployment,
}

/// A Job or Deployment of ours.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) kind: HolderKind,
    pub(crate) place: Place,
    pub(crate) uid: String,
    pub(crate) version: String,
    pub(crate) group: Arc<Group>,
    pub(crate) epoch: Epoch,
    pub(crate) slots: Slots,
    /// How many pods a Deployment is asked for, by whoever wrote it last.
    pub(crate) replicas: Option<usize>,
    /// A Job that makes no more pods, or an object that is being deleted.
    pub(crate) is_over: bool,
    pub(crate) is_deleting: bool,
}

/// What became of the Slots of one object, by claim (`INDEX/ATTEMPT`); a Slot without an entry simply runs. An annotation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slots(BTreeMap<String, SlotState>);

/// What became of one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SlotState {
    /// It was asked to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stop: Option<Stop>,
    /// How it ended, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) end: Option<End>,
}

/// A request to end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stop {
    pub(crate) reason: StopReason,
    pub(crate) grace_ms: u64,
    pub(crate) at: Time,
}

impl Slots {
    pub(crate) fn get(&self, index: Index, attempt: Attempt) -> Option<&SlotState> {
        self.0.get(&names::claim(index, attempt))
    }

    pub(crate) fn entry(&mut self, index: Index, attempt: Attempt) -> &mut SlotState {
        self.0.entry(names::claim(index, attempt)).or_default()
    }

    pub(crate) fn remove(&mut self, index: Index, attempt: Attempt) {
        self.0.remove(&names::claim(index, attempt));
    }

    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("its parts all have a JSON form")
    }
}

impl Holder {
    /// The keys of its Slots.
    pub(crate) fn keys(&self) -> impl Iterator<Item = ReplicaKey> + '_ {
        self.group.slots.iter().map(|slot| self.group.key(slot))
    }

    /// Slots that are neither asked to end nor over: so many pods are wanted.
    pub(crate) fn n_live(&self) -> usize {
        let slots = self.group.slots.iter();
        slots
            .filter(|slot| {
                let state = self.slots.get(slot.index, slot.attempt);
                state.is_none_or(|state| state.stop.is_none() && state.end.is_none())
            })
            .count()
    }

    /// From a Job; `None` where its annotations are not ours.
    pub(crate) fn of_job(job: &Job) -> Option<Holder> {
        let conditions = job
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_ref());
        let is_over = conditions.into_iter().flatten().any(|condition| {
            let is_last = ["Complete", "Failed"].contains(&condition.type_.as_str());
            is_last && condition.status == "True"
        });
        Holder::new(HolderKind::Job, &job.metadata, is_over)
    }

    /// From a Deployment.
    pub(crate) fn of_deployment(deployment: &Deployment) -> Option<Holder> {
        let holder = Holder::new(HolderKind::Deployment, &deployment.metadata, false)?;
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        Some(Holder {
            replicas: replicas.and_then(|replicas| usize::try_from(replicas).ok()),
            ..holder
        })
    }

    fn new(kind: HolderKind, meta: &ObjectMeta, is_over: bool) -> Option<Holder> {
        let annotations = meta.annotations.as_ref()?;
        let group: Group = serde_json::from_str(annotations.get(names::ASKED)?).ok()?;
        let slots = annotations.get(names::SLOTS);
        let is_deleting = meta.deletion_timestamp.is_some();
        Some(Holder {
            kind,
            place: place(meta),
            uid: meta.uid.clone()?,
            version: meta.resource_version.clone()?,
            group: Arc::new(group),
            epoch: epoch(annotations),
            slots: slots
                .and_then(|text| serde_json::from_str(text).ok())
                .unwrap_or_default(),
            replicas: None,
            is_over: is_over || is_deleting,
            is_deleting,
        })
    }
}

pub(crate) fn place(meta: &ObjectMeta) -> Place {
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

/// The epoch in an object's annotations.
pub(crate) fn epoch(annotations: &BTreeMap<String, String>) -> Epoch {
    let text = annotations.get(names::EPOCH);
    Epoch(text.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// A pod of ours.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PodView {
    pub(crate) place: Place,
    pub(crate) uid: String,
    pub(crate) version: String,
    /// Whose: the owner and Group by label.
    pub(crate) owner: Uid,
    pub(crate) group: String,
    /// Which: by label (a Job's pod) or by claim (a Deployment's).
    pub(crate) seat: Option<(Index, Attempt)>,
    pub(crate) epoch: Epoch,
    pub(crate) created: Option<Time>,
    pub(crate) node: Option<String>,
    pub(crate) ip: Option<String>,
    pub(crate) is_deleting: bool,
    /// Its containers run no more, for good.
    pub(crate) is_over: bool,
    /// `Evicted`, `OutOfcpu`, `NodeLost` … with the sentence, where Kubernetes says so of the whole pod.
    pub(crate) reason: Option<(String, String)>,
    pub(crate) main: Main,
    pub(crate) ready_since: Option<Time>,
    pub(crate) restarts: u32,
    /// How the container ended before it was restarted in place.
    pub(crate) last: Option<Terminated>,
    /// The claims that it names.
    pub(crate) claims: Vec<Named>,
    /// The claims of devices that it names.
    pub(crate) devices: Vec<devices::Named>,
    pub(crate) labels: Arc<BTreeMap<String, String>>,
}

/// The state of the container with the program.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Main {
    /// Not yet there, or between two lives; with Kubernetes' reason and sentence.
    Waiting(String, String),
    Running(Time),
    Terminated(Terminated),
}

/// The end of a container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Terminated {
    pub(crate) exit_code: i32,
    /// `OOMKilled`, `Error`, `StartError`, `ContainerCannotRun` …
    pub(crate) reason: String,
    /// What the program in the pod said, or the runtime.
    pub(crate) message: String,
    pub(crate) report: Option<Box<Report>>,
    pub(crate) at: Option<Time>,
}

impl PodView {
    /// `None` where its labels are not ours.
    pub(crate) fn new(pod: &Pod) -> Option<PodView> {
        let meta = &pod.metadata;
        let labels = meta.labels.as_ref()?;
        let nothing = BTreeMap::new();
        let annotations = meta.annotations.as_ref().unwrap_or(&nothing);
        let number = |name| labels.get(name).and_then(|text| text.parse().ok());
        let by_label = number(names::INDEX).zip(number(names::ATTEMPT));
        let by_claim = annotations
            .get(names::CLAIM)
            .and_then(|claim| names::parse_claim(claim));
        let (spec, status) = (pod.spec.as_ref()?, pod.status.clone().unwrap_or_default());
        let container = status
            .container_statuses
            .iter()
            .flatten()
            .find(|container| container.name == "main");
        let main = container.and_then(|container| container.state.as_ref());
        let init = status.init_container_statuses.iter().flatten().next();
        let ready = status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == "Ready" && condition.status == "True");
        let phase = status.phase.as_deref().unwrap_or_default();
        Some(PodView {
            place: place(meta),
            uid: meta.uid.clone()?,
            version: meta.resource_version.clone()?,
            owner: labels.get(names::OWNER)?.parse().ok()?,
            group: labels.get(names::GROUP)?.clone(),
            seat: by_label
                .map(|(index, attempt)| (Index(index), Attempt(attempt)))
                .or(by_claim),
            epoch: epoch(annotations),
            created: meta.creation_timestamp.as_ref().map(time),
            node: spec.node_name.clone().filter(|name| !name.is_empty()),
            ip: status.pod_ip.clone(),
            is_deleting: meta.deletion_timestamp.is_some(),
            is_over: phase == "Failed" || phase == "Succeeded",
            reason: status
                .reason
                .clone()
                .map(|reason| (reason, status.message.clone().unwrap_or_default())),
            main: main
                .map(state)
                .filter(|main| !is_between(main))
                .or_else(|| init.and_then(|init| init.state.as_ref()).map(of_init))
                .unwrap_or_else(|| Main::Waiting(String::new(), String::new())),
            ready_since: ready
                .and_then(|ready| ready.last_transition_time.as_ref())
                .map(time),
            restarts: container.map_or(0, |container| {
                u32::try_from(container.restart_count).unwrap_or(0)
            }),
            last: container
                .and_then(|container| container.last_state.as_ref()?.terminated.as_ref())
                .map(terminated),
            claims: storage::named(pod),
            devices: devices::named(pod),
            labels: Arc::new(labels.clone()),
        })
    }

    /// Its name, with its uid.
    pub(crate) fn name(&self) -> PodName {
        let (namespace, name) = self.place.clone();
        PodName {
            namespace,
            name,
            uid: self.uid.clone(),
        }
    }

    /// It waits for a node.
    pub(crate) fn is_unbound(&self) -> bool {
        self.node.is_none() && !self.is_deleting && !self.is_over
    }

    /// The replica that it is.
    pub(crate) fn key(&self) -> Option<ReplicaKey> {
        let (index, attempt) = self.seat?;
        Some(ReplicaKey {
            owner: self.owner,
            group: self.group.clone(),
            index,
            attempt,
        })
    }
}

fn is_between(main: &Main) -> bool {
    matches!(main, Main::Waiting(reason, _) if reason == "PodInitializing")
}

fn state(state: &ContainerState) -> Main {
    if let Some(running) = &state.running {
        let at = running.started_at.as_ref().map(time);
        return Main::Running(at.unwrap_or(Time::from_ms(0)));
    }
    if let Some(ended) = &state.terminated {
        return Main::Terminated(terminated(ended));
    }
    let waiting = state.waiting.clone().unwrap_or_default();
    Main::Waiting(
        waiting.reason.unwrap_or_default(),
        waiting.message.unwrap_or_default(),
    )
}

/// The init step while the program's container waits for it.
fn of_init(of: &ContainerState) -> Main {
    match state(of) {
        // The kubelet's word for a container that never was, when its pod is deleted before: that is no failed start.
        Main::Terminated(ended) if ended.reason == "ContainerStatusUnknown" => {
            Main::Terminated(ended)
        }
        Main::Terminated(ended) if ended.exit_code != 0 => Main::Terminated(Terminated {
            reason: "StartError".to_owned(),
            ..ended
        }),
        Main::Waiting(reason, message) => Main::Waiting(reason, message),
        Main::Running(_) | Main::Terminated(_) => {
            Main::Waiting("PodInitializing".to_owned(), String::new())
        }
    }
}

fn terminated(ended: &k8s_openapi::api::core::v1::ContainerStateTerminated) -> Terminated {
    let message = ended.message.clone().unwrap_or_default();
    Terminated {
        exit_code: ended.exit_code,
        reason: ended.reason.clone().unwrap_or_default(),
        report: serde_json::from_str(&message).ok().map(Box::new),
        message,
        at: ended.finished_at.as_ref().map(time),
    }
}

pub(crate) fn time(time: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time) -> Time {
    Time::from_ms(time.0.as_millisecond())
}

/// A node as it is reported.
pub(crate) fn node(node: &Node) -> Option<NodeReport> {
    let name = node.metadata.name.clone()?;
    let status = node.status.clone().unwrap_or_default();
    let is_ready = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let address = status
        .addresses
        .iter()
        .flatten()
        .find(|address| address.type_ == "InternalIP")
        .map(|address| address.address.clone());
    let mut allocatable = Resources::default();
    let mut slots_max = 0;
    let mut warnings = Vec::new();
    for (resource, quantity) in status.allocatable.iter().flatten() {
        let mut whole = || {
            parse_whole(&quantity.0).unwrap_or_else(|error| {
                warnings.push(format!("{resource}: {error}"));
                0
            })
        };
        match resource.as_str() {
            "cpu" => allocatable.cpu = MilliCpu(parse_milli(&quantity.0).unwrap_or(0)),
            "memory" => allocatable.memory = Bytes(whole()),
            GPU => allocatable.gpu_milli = whole() * 1000,
            "pods" => slots_max = u32::try_from(whole()).unwrap_or(u32::MAX),
            "ephemeral-storage" => {}
            name if name.starts_with("hugepages-") => {}
            name => {
                let amount = whole();
                if amount != 0 {
                    allocatable.extended.insert(name.to_owned(), amount);
                }
            }
        }
    }
    for condition in status.conditions.iter().flatten() {
        if condition.type_.ends_with("Pressure") && condition.status == "True" {
            warnings.push(format!(
                "{}: {}",
                condition.type_,
                condition
                    .message
                    .as_deref()
                    .unwrap_or("reported by its kubelet")
            ));
        }
    }
    let marks = node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
    let taints = marks.into_iter().flatten().filter_map(taint).collect();
    Some(NodeReport {
        name,
        ready: is_ready,
        address: address.unwrap_or_default(),
        ports: None,
        allocatable,
        slots_max,
        taints,
        labels: node.metadata.labels.clone().unwrap_or_default(),
        devices: Vec::new(),
        warnings,
    })
}

/// A node that is silent says so by its conditions; its taints would move work away before it counts as lost.
fn taint(taint: &k8s_openapi::api::core::v1::Taint) -> Option<engine::Taint> {
    const SILENCE: [&str; 2] = [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ];
    if SILENCE.contains(&taint.key.as_str()) {
        return None;
    }
    Some(engine::Taint {
        key: taint.key.clone(),
        value: taint.value.clone().unwrap_or_default(),
        effect: effect(&taint.effect)?,
    })
}

pub(crate) fn effect(word: &str) -> Option<TaintEffect> {
    match word {
        "NoSchedule" => Some(TaintEffect::NoSchedule),
        "PreferNoSchedule" => Some(TaintEffect::PreferNoSchedule),
        "NoExecute" => Some(TaintEffect::NoExecute),
        _ => None,
    }
}
