//! What is written into claims of devices: which devices a pod gets, before it is bound, and that it does not want them any more.
//!
//! The API server does not look whether two claims have the same device, and kube-scheduler may give devices away at the same time
//! and never looks back. So a claim that was written is waited for: once the watch tells of it, everything that was written before
//! is known. While pods with claims wait for another scheduler, it may have decided before it heard of us, and not yet have written
//! it: that is waited for, too. If a device is in another claim then, it is we who give it back.

use crate::devices::{Claim, FINALIZER, Grant, Release, Reserve};
use crate::error::{failed, is_conflict, is_gone};
use crate::names;
use crate::port::Shared;
use engine::{EngineError, PodName, Prepared};
use futures_util::TryFutureExt;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimConsumerReference};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;

/// For the watch to tell of what was written.
const SEEN: Duration = Duration::from_secs(5);

/// For other schedulers to write down what they decided.
const RIVALS: Duration = Duration::from_secs(2);
/// Between looks at whether they still may.
const LOOK: Duration = Duration::from_millis(50);

/// Keeps devices of a node for a pod. Those that its claims have elsewhere are given back first.
pub(crate) async fn prepare(
    shared: &Shared,
    pod: &PodName,
    node: &str,
) -> Result<Prepared, EngineError> {
    let releases = match shared.cache.reserve_devices(pod, node) {
        Reserve::Done(prepared) => return Ok(prepared),
        Reserve::First(releases) => releases,
    };
    for given_back in &releases {
        match release(shared, given_back).await {
            // It is not as it was: the watch will tell.
            Err(error) if is_conflict(&error) || is_gone(&error) => {}
            Err(error) => return Err(failed(format!("giving devices of `{pod}` back"), error)),
            Ok(()) => {}
        }
    }
    let sentence = format!(
        "devices of `{pod}` are given back: they are not on the node `{node}`, or others have them too"
    );
    Ok(Prepared::Waits(sentence))
}

/// Writes into a pod's claims what is kept for it.
pub(crate) async fn write(shared: &Shared, pod: &PodName) -> Result<(), EngineError> {
    let grants = shared.cache.device_grants(pod);
    if grants.is_empty() {
        return Ok(());
    }
    let failed_now = |why: &str| EngineError::Failed {
        operation: format!("giving `{pod}` its devices"),
        source: why.into(),
    };
    let mut newest = 0;
    for grant in grants {
        if grant.claim.allocation.is_none() && grant.result.is_none() {
            return Err(failed_now("they are not kept for it any more"));
        }
        let what = || {
            format!(
                "giving `{pod}` the devices of the claim `{}`",
                grant.claim.place.1
            )
        };
        let claim = give(shared, &grant, pod)
            .await
            .map_err(|error| failed(what(), error))?;
        newest = newest.max(claim.version.parse().unwrap_or(0));
        shared.cache.put_device_claim(claim);
    }
    let mut seen = shared.cache.seen_claims.subscribe();
    // What is waited for is let go of at once: it holds a lock.
    let waited = seen.wait_for(|seen| *seen >= newest).map_ok(drop);
    if !matches!(tokio::time::timeout(SEEN, waited).await, Ok(Ok(()))) {
        return Err(failed_now(
            "the cluster does not tell yet who else was given some",
        ));
    }
    let begun = tokio::time::Instant::now();
    while shared.cache.has_rivals() && begun.elapsed() < RIVALS {
        tokio::time::sleep(LOOK).await;
    }
    if shared.cache.is_contested(pod) {
        return Err(failed_now(
            "another scheduler gave one of them away at the same time",
        ));
    }
    Ok(())
}

/// Writes one claim. It meets a conflict where somebody else was faster.
async fn give(shared: &Shared, grant: &Grant, pod: &PodName) -> kube::Result<Claim> {
    let claim = &grant.claim;
    let mut version = claim.version.clone();
    if grant.result.is_some() && !claim.finalizers.iter().any(|name| name == FINALIZER) {
        let mut finalizers = claim.finalizers.clone();
        finalizers.push(FINALIZER.to_owned());
        let patch = json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
        let api = api(shared, claim);
        let kept = api
            .patch(&claim.place.1, &params(), &Patch::Merge(patch))
            .await?;
        version = kept.metadata.resource_version.unwrap_or(version);
    }
    let mut users = claim.users.clone();
    if !claim.is_used_by(&pod.uid) {
        users.push(ResourceClaimConsumerReference {
            api_group: None,
            resource: "pods".to_owned(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
        });
    }
    let mut status = json!({"reservedFor": users});
    if let Some(result) = &grant.result {
        status["allocation"] = json!(**result);
    }
    let written = patch_status(shared, claim, &version, status).await?;
    tracing::info!(claim = ?claim.place, %pod, "given its devices");
    Ok(written)
}

/// Takes a pod off a claim's users, and its devices from the claim if there is no other.
pub(crate) async fn release(shared: &Shared, release: &Release) -> kube::Result<()> {
    let Release { claim, pod } = release;
    let users: Vec<_> = claim.users.iter().filter(|user| user.uid != *pod).collect();
    let mut status = json!({"reservedFor": users});
    if users.is_empty() {
        status["allocation"] = Value::Null;
    }
    let written = patch_status(shared, claim, &claim.version, status).await?;
    tracing::info!(claim = ?claim.place, pod, "its devices are given back");
    shared.cache.put_device_claim(written);
    Ok(())
}

async fn patch_status(
    shared: &Shared,
    claim: &Claim,
    version: &str,
    status: Value,
) -> kube::Result<Claim> {
    let patch = json!({
        // Only this very claim, as it is known.
        "metadata": {"uid": claim.uid, "resourceVersion": version},
        "status": status,
    });
    let api = api(shared, claim);
    let written = api
        .patch_status(&claim.place.1, &params(), &Patch::Merge(patch))
        .await?;
    Ok(Claim::new(written).unwrap_or_else(|| claim.clone()))
}

fn api(shared: &Shared, claim: &Claim) -> Api<ResourceClaim> {
    Api::namespaced(shared.client.clone(), &claim.place.0)
}

fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(names::MANAGER.to_owned()),
        ..PatchParams::default()
    }
}
