//! What is done to claims and volumes: claims for checkpoints are made and deleted, free volumes are given to claims, nodes are named for
//! which volumes shall be made, and Kubernetes is asked what keeps a claim from being bound.

use crate::config::{Checkpoints, Config};
use crate::error::{failed, is_gone, status};
use crate::names;
use crate::port::{Shared, only};
use crate::storage::{Claim, SELECTED_NODE, Wish};
use crate::volumes::Act;
use base::Uid;
use engine::{EngineError, Group};
use k8s_openapi::api::core::v1::{Event, PersistentVolume, PersistentVolumeClaim};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

/// Marks a volume whose claim was chosen by a controller, so that it is free again when that claim turns out to have another.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Events of one claim that are looked through for the newest.
const EVENTS_MAX: u32 = 50;

/// The names of a Group's claims.
pub(crate) fn of_group(group: &Group) -> impl Iterator<Item = String> + '_ {
    let claims = group.template.checkpoints();
    claims.map(|claim| names::checkpoint(group.owner, claim))
}

/// What a claim for checkpoints asks for.
pub(crate) fn wish(checkpoints: &Checkpoints, default_class: Option<&str>) -> Wish {
    let class = checkpoints.class.as_deref().or(default_class);
    Wish {
        class: class.map(str::to_owned),
        modes: vec![checkpoints.access.as_str().to_owned()],
        size: checkpoints.size,
        is_block: false,
        marks: Default::default(),
    }
}

/// A claim for checkpoints. It belongs to no pod: it stays until its Job is gone.
fn manifest(config: &Config, group: &Group, name: &str) -> Value {
    let Checkpoints {
        class,
        size,
        access,
    } = &config.checkpoints;
    let mut claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": group.project,
            "labels": {names::MANAGED.0: names::MANAGED.1, names::OWNER: group.owner.to_string()},
            "annotations": {names::TITLE: group.title},
        },
        "spec": {
            "accessModes": [access.as_str()],
            "resources": {"requests": {"storage": size.0.to_string()}},
        },
    });
    if let Some(class) = class {
        claim["spec"]["storageClassName"] = json!(class);
    }
    claim
}

/// Makes a Group's claims, unless they are there: one that is there stays as it was asked for, whatever the settings say now.
pub(crate) async fn make(shared: &Shared, group: &Group) -> Result<(), EngineError> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(shared.client.clone(), &group.project);
    for name in of_group(group) {
        let place = (group.project.clone(), name.clone());
        if shared.cache.has_claim(&place) {
            continue;
        }
        let params = PatchParams::apply(names::MANAGER).force();
        let claim = Patch::Apply(manifest(&shared.config, group, &name));
        match api.patch(&name, &params, &claim).await {
            Ok(made) => shared.cache.put_claim(Claim::new(&made)),
            // Made earlier with other settings, and the watch has not told of it yet.
            Err(error) if status(&error) == Some(422) => {
                tracing::debug!(%error, claim = name, "it is there already");
            }
            Err(error) => return Err(failed(format!("making the claim `{name}`"), error)),
        }
    }
    Ok(())
}

/// Deletes the claims of a Job; Kubernetes lets them go when no pod uses them any more.
pub(crate) async fn drop(shared: &Shared, owner: Uid) -> Result<(), EngineError> {
    for claim in shared.cache.claims_of(owner) {
        let (namespace, name) = &claim.place;
        let api: Api<PersistentVolumeClaim> = Api::namespaced(shared.client.clone(), namespace);
        match api.delete(name, &only(&claim.uid)).await {
            Err(error) if !is_gone(&error) => {
                return Err(failed(format!("deleting the claim `{name}`"), error));
            }
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

/// Takes a step towards a bound claim. Each meets a conflict where somebody else was faster.
pub(crate) async fn act(client: &Client, act: &Act) -> kube::Result<()> {
    let params = PatchParams::default();
    match act {
        Act::Take {
            volume,
            version,
            claim,
        } => {
            let (namespace, name) = &claim.place;
            let patch = json!({
                "metadata": {
                    "resourceVersion": version,
                    "annotations": {BOUND_BY_CONTROLLER: "yes"},
                },
                "spec": {"claimRef": {
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                    "namespace": namespace, "name": name, "uid": claim.uid,
                }},
            });
            let volumes: Api<PersistentVolume> = Api::all(client.clone());
            let taken = volumes.patch(volume, &params, &Patch::Merge(patch)).await?;
            tracing::info!(claim = ?claim.place, volume = ?taken.metadata.name, "given a volume");
        }
        Act::Select { claim, node } => {
            let (namespace, name) = &claim.place;
            let patch = json!({"metadata": {
                "resourceVersion": claim.version,
                "annotations": {SELECTED_NODE: node},
            }});
            let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
            claims.patch(name, &params, &Patch::Merge(patch)).await?;
            tracing::info!(claim = ?claim.place, node, "its volume is to be made for a node");
        }
    }
    Ok(())
}

/// What Kubernetes said last of a claim.
pub(crate) async fn said(client: &Client, claim: &Claim) -> kube::Result<Option<String>> {
    let (namespace, _) = &claim.place;
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let params = ListParams::default()
        .fields(&format!("involvedObject.uid={}", claim.uid))
        .limit(EVENTS_MAX);
    let found = events.list(&params).await?.items.into_iter();
    let newest = found.max_by_key(|event| {
        let at = event.last_timestamp.as_ref().map(|time| time.0);
        at.or(event.event_time.as_ref().map(|time| time.0))
    });
    Ok(newest.and_then(|event| {
        let message = event.message?;
        Some(match event.reason {
            Some(reason) => format!("{reason}: {message}"),
            None => message,
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::{config, group};
    use engine::suite::checkpoint;

    #[test]
    fn a_claim_asks_for_what_the_settings_say() {
        let mut group = group();
        group.template.mounts = vec![checkpoint("3")];
        let names: Vec<String> = of_group(&group).collect();
        let [name] = names.as_slice() else {
            panic!("one claim, got {names:?}");
        };
        assert_ne!(*name, crate::names::checkpoint(group.owner, ""));
        let mut config = config();
        let plain = manifest(&config, &group, name);
        assert_eq!(plain["spec"]["accessModes"], json!(["ReadWriteOnce"]));
        assert_eq!(
            plain["spec"]["resources"]["requests"]["storage"],
            json!("1073741824")
        );
        assert_eq!(
            plain["spec"].get("storageClassName"),
            None,
            "the cluster's default"
        );
        assert_eq!(
            plain["metadata"].get("ownerReferences"),
            None,
            "it outlives pods"
        );
        config.checkpoints.class = Some("fast".to_owned());
        let classed = manifest(&config, &group, name);
        assert_eq!(classed["spec"]["storageClassName"], json!("fast"));
    }
}
