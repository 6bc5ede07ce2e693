//! The loop that makes pods be as the Slots say: it claims, binds, stops and writes ends down. It takes no input, may be
//! repeated at any moment, and runs when something changed and on a period. Only the leader's loop acts.

use crate::allotments;
use crate::cache::{Cache, Todo};
use crate::companions;
use crate::error::{is_conflict, is_gone, status};
use crate::names;
use crate::port::{Shared, only};
use crate::view::PodView;
use crate::volumes::Act;
use base::{Epoch, Time};
use engine::{End, EngineError, Prepared, ReplicaKey, Slot};
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Without a poke.
const PERIOD: Duration = Duration::from_secs(2);
/// Calls at once.
const CALLS: usize = 32;
/// The same thing is not done twice within this time: the watch has not told yet.
const AGAIN: Duration = Duration::from_secs(2);

/// Runs until `stop`.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut done: HashMap<String, Instant> = HashMap::new();
    loop {
        let now = Instant::now();
        done.retain(|_, at| now.duration_since(*at) < AGAIN);
        let mut rest = PERIOD;
        if let Some(epoch) = shared.epoch() {
            let mut todo = shared.cache.todo();
            todo.retain(|todo| {
                let name = name(todo);
                let is_new = !done.contains_key(&name);
                if is_new {
                    done.insert(name, now);
                }
                is_new
            });
            let shared = &*shared;
            let calls = todo
                .into_iter()
                .map(|todo| async move { perform(shared, epoch, &todo).await });
            let mut calls = futures_util::stream::iter(calls).buffer_unordered(CALLS);
            while calls.next().await.is_some() {}
            rest = shared.cache.rest(PERIOD);
        }
        tokio::select! {
            () = shared.cache.poke.notified() => {}
            () = tokio::time::sleep(rest) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn name(todo: &Todo) -> String {
    match todo {
        Todo::Bind(pod, _) => format!("bind {}", pod.uid),
        Todo::Claim(pod, _) => format!("claim {}", pod.uid),
        Todo::Stop(pod, grace) => format!("stop {} {grace}", pod.uid),
        Todo::Scale(holder) => format!("scale {} {}", holder.uid, holder.version),
        Todo::Record(key, _) => format!("record {key}"),
        Todo::Size(group) => format!("size {}/{}", group.namespace, group.name),
        Todo::Space(name) => format!("space {name}"),
        Todo::Claims(group) => format!("claims {}/{}", group.project, group.owner),
        Todo::Volume(Act::Take { claim, version, .. }) => {
            format!("take {} {version}", claim.uid)
        }
        Todo::Volume(Act::Select { claim, .. }) => {
            format!("select {} {}", claim.uid, claim.version)
        }
        Todo::Hear(claim) => format!("hear {}", claim.uid),
        Todo::Companions(group) => format!("companions {}/{}", group.owner, group.name),
        Todo::Tidy(companion) => format!("tidy {:?}", companion.of),
        Todo::Misplaced(key, _) => format!("misplaced {key}"),
        Todo::Release(release) => {
            format!("release {} {}", release.claim.uid, release.claim.version)
        }
    }
}

async fn perform(shared: &Shared, epoch: Epoch, todo: &Todo) {
    let client = &shared.client;
    let result = match todo {
        Todo::Bind(pod, node) => match with_devices(shared, pod, node).await {
            Ok(Prepared::Ready) => bind(client, pod, node).await,
            Ok(Prepared::Waits(sentence)) => {
                tracing::debug!(pod = ?pod.place, sentence, "not bound yet");
                return;
            }
            Ok(Prepared::Elsewhere(sentence)) => {
                if let Some(key) = pod.key() {
                    misplace(shared, epoch, &key, &sentence).await;
                }
                return;
            }
            Err(error) => {
                tracing::warn!(pod = ?pod.place, error = &error as &dyn std::error::Error, "it cannot be given its devices now");
                return;
            }
        },
        Todo::Claim(pod, slot) => claim(client, &shared.cache, epoch, pod, slot).await,
        Todo::Size(group) => crate::others::size(client, group).await.map(|size| {
            shared.cache.put_size(group.clone(), size);
        }),
        Todo::Stop(pod, grace_ms) => stop_pod(client, pod, *grace_ms).await,
        Todo::Scale(holder) => {
            tracing::info!(deployment = ?holder.place, replicas = holder.replicas, wanted = holder.n_live(), "scaled back");
            shared.rewrite(holder, epoch).await
        }
        Todo::Space(name) => {
            if let Err(error) = crate::spaces::keep(shared, name).await {
                tracing::warn!(
                    namespace = name,
                    error = &error as &dyn std::error::Error,
                    "a Project cannot be kept apart now"
                );
            }
            return;
        }
        Todo::Claims(group) => {
            if let Err(error) = crate::claims::make(shared, group).await {
                tracing::warn!(owner = %group.owner, error = &error as &dyn std::error::Error, "a claim cannot be made now");
            }
            return;
        }
        Todo::Companions(group) => {
            if let Err(error) = companions::make(shared, group).await {
                tracing::warn!(owner = %group.owner, error = &error as &dyn std::error::Error, "what its pods need cannot be made now");
            }
            return;
        }
        Todo::Tidy(companion) => companions::delete(shared, companion).await,
        Todo::Volume(act) => crate::claims::act(client, act).await,
        Todo::Hear(claim) => crate::claims::said(client, claim).await.map(|said| {
            shared.cache.hear(claim, said);
        }),
        Todo::Misplaced(key, sentence) => {
            misplace(shared, epoch, key, sentence).await;
            return;
        }
        Todo::Release(release) => allotments::release(shared, release).await,
        Todo::Record(key, end) => {
            write_end(shared, epoch, key, end).await;
            return;
        }
    };
    match result {
        Ok(()) => {}
        // It is not as it was: the watch will tell.
        Err(error) if is_conflict(&error) || is_gone(&error) => {}
        Err(error) => tracing::warn!(%error, ?todo, status = status(&error), "cannot be done now"),
    }
}

/// Gives a pod its devices on a node, where it claims some.
async fn with_devices(shared: &Shared, pod: &PodView, node: &str) -> Result<Prepared, EngineError> {
    if pod.devices.is_empty() {
        return Ok(Prepared::Ready);
    }
    let name = pod.name();
    let prepared = allotments::prepare(shared, &name, node).await?;
    if prepared == Prepared::Ready {
        allotments::write(shared, &name).await?;
    }
    Ok(prepared)
}

/// A replica was placed where it cannot be: it ends, and is placed again as another attempt.
async fn misplace(shared: &Shared, epoch: Epoch, key: &ReplicaKey, sentence: &str) {
    tracing::info!(replica = %key, sentence, "placed where it cannot be");
    let end = crate::report::misplaced(sentence, now());
    write_end(shared, epoch, key, &end).await;
}

/// Writes down how a replica ended, unless that is known.
async fn write_end(shared: &Shared, epoch: Epoch, key: &ReplicaKey, end: &End) {
    let recorded = shared.edit(key, epoch, |state| {
        let is_new = state.end.is_none();
        state.end.get_or_insert_with(|| end.clone());
        is_new
    });
    if let Err(error) = recorded.await {
        tracing::warn!(replica = %key, error = &error as &dyn std::error::Error, "an end cannot be written down now");
    }
}

/// The time by this machine's clock.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or_default();
    Time::from_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Gives a pod its node.
async fn bind(client: &Client, pod: &PodView, node: &str) -> kube::Result<()> {
    let (namespace, name) = &pod.place;
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        // Only this very pod, whatever has its name by then.
        "metadata": {"name": name, "namespace": namespace, "uid": pod.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let bound: Status = pods
        .create_subresource("binding", name, &PostParams::default(), &binding)
        .await?;
    drop(bound);
    Ok(())
}

/// A service's pod takes a Slot, by compare-and-set, then its node.
async fn claim(
    client: &Client,
    cache: &Cache,
    epoch: Epoch,
    pod: &PodView,
    slot: &Slot,
) -> kube::Result<()> {
    let (namespace, name) = &pod.place;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let patch = json!({"metadata": {
        "resourceVersion": pod.version,
        "annotations": {
            names::CLAIM: names::claim(slot.index, slot.attempt),
            names::EPOCH: epoch.0.to_string(),
        },
    }});
    let claimed = pods
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    // At once, so that no other pod is given the same Slot before the watch tells.
    let Some(claimed) = PodView::new(&claimed) else {
        return Ok(());
    };
    cache.put_pod(claimed.clone());
    if claimed.devices.is_empty() {
        return bind(client, &claimed, &slot.node).await;
    }
    // Its devices come first: that is seen at the next look.
    Ok(())
}

/// Deletes a pod: SIGTERM now, SIGKILL after the program's grace and the time its output needs.
pub(crate) async fn stop_pod(client: &Client, pod: &PodView, grace_ms: u64) -> kube::Result<()> {
    let (namespace, name) = &pod.place;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let seconds = grace_ms.div_ceil(1000) + crate::manifest::GRACE_BEYOND;
    let params = DeleteParams {
        // A pod that has no node has nothing to end.
        grace_period_seconds: Some(if pod.node.is_none() {
            0
        } else {
            u32::try_from(seconds).unwrap_or(u32::MAX)
        }),
        ..only(&pod.uid)
    };
    pods.delete(name, &params).await.map(drop)
}
