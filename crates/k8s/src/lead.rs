//! The leader's epoch on a cluster: the highest stands in a ConfigMap, and a new leader stamps its own on every live object
//! first, so that what a late one still has in hand (with a resource version) meets a conflict.

use crate::cache::Cache;
use crate::error::{failed, is_conflict, is_gone};
use crate::names;
use crate::view::{HolderKind, Place};
use base::Epoch;
use engine::EngineError;
use futures_util::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

/// The ConfigMap.
const NAME: &str = "moonshot-leader";
/// Its entry.
const KEY: &str = "epoch";
/// Other leaders may write at the same time.
const TRIES: u32 = 10;
/// Stamps at once.
const STAMPS: usize = 16;

/// Takes the lead, or says who has it.
pub(crate) async fn take(
    client: &Client,
    namespace: &str,
    epoch: Epoch,
) -> Result<(), EngineError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    for _ in 0..TRIES {
        let found = maps
            .get_opt(NAME)
            .await
            .map_err(|error| failed("reading the leader's epoch", error))?;
        let highest = found.as_ref().map_or(Epoch(0), known);
        if highest > epoch {
            return Err(EngineError::Superseded {
                ours: epoch,
                highest,
            });
        }
        let written = match found {
            Some(map) if highest < epoch => write(&maps, map, epoch).await,
            Some(_) => Ok(()),
            None => create(client, &maps, namespace, epoch).await,
        };
        match written {
            Ok(()) => return Ok(()),
            Err(error) if is_conflict(&error) => {}
            Err(error) => return Err(failed("writing the leader's epoch", error)),
        }
    }
    Err(EngineError::Failed {
        operation: "writing the leader's epoch".to_owned(),
        source: "others write it all the time".into(),
    })
}

fn known(map: &ConfigMap) -> Epoch {
    let text = map.data.as_ref().and_then(|data| data.get(KEY));
    Epoch(text.and_then(|text| text.parse().ok()).unwrap_or(0))
}

async fn write(maps: &Api<ConfigMap>, mut map: ConfigMap, epoch: Epoch) -> kube::Result<()> {
    map.data
        .get_or_insert_default()
        .insert(KEY.to_owned(), epoch.0.to_string());
    // With the resource version that was read.
    maps.replace(NAME, &params(), &map).await.map(drop)
}

async fn create(
    client: &Client,
    maps: &Api<ConfigMap>,
    namespace: &str,
    epoch: Epoch,
) -> kube::Result<()> {
    let space: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}}))
        .map_err(kube::Error::SerdeError)?;
    match Api::<Namespace>::all(client.clone())
        .create(&params(), &space)
        .await
    {
        Err(error) if !is_conflict(&error) => return Err(error),
        Ok(_) | Err(_) => {}
    }
    let map = json!({
        "metadata": {"name": NAME, "labels": {names::MANAGED.0: names::MANAGED.1}},
        "data": {KEY: epoch.0.to_string()},
    });
    let map: ConfigMap = serde_json::from_value(map).map_err(kube::Error::SerdeError)?;
    maps.create(&params(), &map).await.map(drop)
}

fn params() -> PostParams {
    PostParams {
        dry_run: false,
        field_manager: Some(names::MANAGER.to_owned()),
    }
}

/// Stamps every live object and pod.
pub(crate) async fn stamp(client: &Client, cache: &Cache, epoch: Epoch) -> Result<(), EngineError> {
    let (holders, pods) = cache.below(epoch);
    let holders = holders
        .into_iter()
        .map(|holder| (Some(holder.kind), holder.place));
    let objects = holders.chain(pods.into_iter().map(|pod| (None, pod.place)));
    let stamps = objects.map(|(kind, place)| async move { one(client, kind, &place, epoch).await });
    let stamps = futures_util::stream::iter(stamps);
    let done: Vec<Result<(), EngineError>> = stamps.buffer_unordered(STAMPS).collect().await;
    done.into_iter().collect()
}

async fn one(
    client: &Client,
    kind: Option<HolderKind>,
    place: &Place,
    epoch: Epoch,
) -> Result<(), EngineError> {
    let patch =
        Patch::Merge(json!({"metadata": {"annotations": {names::EPOCH: epoch.0.to_string()}}}));
    let params = PatchParams::default();
    let (client, (namespace, name)) = (client.clone(), place);
    let done = match kind {
        Some(HolderKind::Job) => Api::<Job>::namespaced(client, namespace)
            .patch(name, &params, &patch)
            .await
            .map(drop),
        Some(HolderKind::Deployment) => Api::<Deployment>::namespaced(client, namespace)
            .patch(name, &params, &patch)
            .await
            .map(drop),
        None => Api::<Pod>::namespaced(client, namespace)
            .patch(name, &params, &patch)
            .await
            .map(drop),
    };
    match done {
        Err(error) if is_gone(&error) => Ok(()),
        other => other.map_err(|error| failed(format!("stamping `{namespace}/{name}`"), error)),
    }
}
