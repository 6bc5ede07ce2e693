//! What is done to pods that others made: bound, evicted, told about. Each effect names the pod's uid.

use crate::allotments;
use crate::claims;
use crate::error::{failed, is_conflict, is_gone};
use crate::foreign::GroupRef;
use crate::names;
use crate::port::Shared;
use base::{Epoch, Span};
use engine::{EngineError, PodName, Prepared};
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PostParams};
use kube::{Api, Client};
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Events that wait to be written; beyond it they are dropped, as everybody's are.
const NOTES_MAX: usize = 20_000;
/// Events written at once.
const NOTES_AT_ONCE: usize = 16;
/// Characters of an event's sentence that Kubernetes takes.
const NOTE_CHARS_MAX: usize = 1_000;
/// Who says it.
const REPORTER: &str = "moonshot";

/// Gives a pod its devices and its node; `false` where it is gone or has one.
pub(crate) async fn bind(
    shared: &Shared,
    epoch: Epoch,
    pod: &PodName,
    node: &str,
) -> Result<bool, EngineError> {
    allotments::write(shared, pod).await?;
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {
            "name": pod.name, "namespace": pod.namespace, "uid": pod.uid,
            "annotations": {names::EPOCH: epoch.0.to_string()},
        },
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let pods: Api<Pod> = Api::namespaced(shared.client.clone(), &pod.namespace);
    let bound: kube::Result<Status> = pods
        .create_subresource("binding", &pod.name, &PostParams::default(), &binding)
        .await;
    match bound {
        Ok(_) => Ok(true),
        Err(error) if is_gone(&error) => Ok(false),
        // Somebody else gave it one, or wrote it in this moment.
        Err(error) if is_conflict(&error) && !shared.cache.is_unbound(pod) => Ok(false),
        Err(error) => Err(failed(format!("binding `{pod}` to `{node}`"), error)),
    }
}

/// Brings a pod's volumes to a node, one step a call, asks whether its rules still allow it there, then keeps devices of the node for it.
pub(crate) async fn prepare(
    shared: &Shared,
    pod: &PodName,
    node: &str,
) -> Result<Prepared, EngineError> {
    let needs = shared.cache.needs_of_other(pod, node);
    for claim in &needs.unheard {
        let said = claims::said(&shared.client, claim).await;
        let what = || format!("asking about the claim `{}`", claim.place.1);
        let said = said.map_err(|error| failed(what(), error))?;
        shared.cache.hear(claim, said);
    }
    for act in &needs.acts {
        match claims::act(&shared.client, act).await {
            // It is not as it was: the watch will tell.
            Err(error) if is_conflict(&error) || is_gone(&error) => {}
            Err(error) => return Err(failed(format!("preparing the volumes of `{pod}`"), error)),
            Ok(()) => {}
        }
    }
    let steps = [needs.prepared(), shared.cache.keep_place(pod, node)];
    match steps.into_iter().find(|step| *step != Prepared::Ready) {
        None => allotments::prepare(shared, pod, node).await,
        Some(other) => Ok(other),
    }
}

/// Asks a pod to end through the eviction API, which heeds disruption budgets.
pub(crate) async fn evict(client: &Client, pod: &PodName, grace: Span) -> Result<(), EngineError> {
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": pod.name, "namespace": pod.namespace},
        "deleteOptions": {
            "gracePeriodSeconds": grace.as_ms().div_ceil(1000),
            "preconditions": {"uid": pod.uid},
        },
    });
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace);
    let evicted: kube::Result<Status> = pods
        .create_subresource("eviction", &pod.name, &PostParams::default(), &eviction)
        .await;
    match evicted {
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) || is_conflict(&error) => Ok(()),
        Err(error) => Err(failed(format!("evicting `{pod}`"), error)),
    }
}

/// How many members a PodGroup wants; `None` where there is no such object or kind.
pub(crate) async fn size(client: &Client, group: &GroupRef) -> kube::Result<Option<u32>> {
    let kind = GroupVersionKind::gvk(group.kind.group, group.kind.version, "PodGroup");
    let resource = ApiResource::from_gvk_with_plural(&kind, "podgroups");
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &group.namespace, &resource);
    let found = match api.get_opt(&group.name).await {
        // Nor is there such a kind.
        Err(error) if is_gone(&error) => None,
        other => other?,
    };
    let least = found.and_then(|found| found.data["spec"]["minMember"].as_u64());
    Ok(least.and_then(|least| u32::try_from(least).ok()))
}

// ---- events ----

/// Takes events; they are written in the background.
#[derive(Clone)]
pub(crate) struct Notes(mpsc::Sender<Event>);

/// Events on their way.
pub(crate) fn notes() -> (Notes, mpsc::Receiver<Event>) {
    let (sender, receiver) = mpsc::channel(NOTES_MAX);
    (Notes(sender), receiver)
}

impl Notes {
    pub(crate) fn add(&self, pod: &PodName, is_warning: bool, reason: &str, sentence: String) {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = since.unwrap_or_default();
        let mut sentence = sentence;
        if let Some((at, _)) = sentence.char_indices().nth(NOTE_CHARS_MAX) {
            sentence.truncate(at);
        }
        let event = json!({
            "metadata": {
                // Unique, and the pod's first.
                "name": format!("{}.{:x}{n:04x}", pod.name, now.as_nanos()),
                "namespace": pod.namespace,
            },
            "eventTime": micro_time(now),
            "reportingController": REPORTER,
            "reportingInstance": REPORTER,
            "action": if reason == "Scheduled" { "Binding" } else { "Scheduling" },
            "reason": reason,
            "note": sentence,
            "type": if is_warning { "Warning" } else { "Normal" },
            "regarding": {
                "apiVersion": "v1", "kind": "Pod",
                "namespace": pod.namespace, "name": pod.name, "uid": pod.uid,
            },
        });
        match serde_json::from_value(event) {
            // A full queue drops it: the same is said in the object's status.
            Ok(event) => drop(self.0.try_send(event)),
            Err(error) => tracing::warn!(%error, "an event cannot be written"),
        }
    }
}

fn micro_time(since: std::time::Duration) -> String {
    let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
    k8s_openapi::jiff::Timestamp::from_microsecond(micros)
        .map(|time| format!("{time:.6}"))
        .unwrap_or_default()
}

/// Writes events until `stop`.
pub(crate) async fn write_notes(
    client: Client,
    notes: mpsc::Receiver<Event>,
    stop: CancellationToken,
) {
    let notes =
        futures_util::stream::unfold(notes, |mut notes: mpsc::Receiver<Event>| async move {
            let next = notes.recv().await?;
            Some((next, notes))
        });
    let written = notes.for_each_concurrent(NOTES_AT_ONCE, |event| {
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
        async move {
            if let Err(error) = events.create(&PostParams::default(), &event).await {
                tracing::debug!(%error, "an event was not written");
            }
        }
    });
    tokio::select! {
        () = written => {}
        () = stop.cancelled() => {}
    }
}
