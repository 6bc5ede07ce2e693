//! What Projects say of themselves reaches the engine: who may connect to whom, what their pods may ask of a node, where images
//! come from. Told before the first Group of a Project, and when something changed; what somebody else changes in the cluster is
//! the engine's own to mend.

use super::{Control, ControlError, lock};
use api::platform::{NetworkPeer, PodSecurity, ProjectSpec, RegistrySpec};
use db::objects::{self, Object};
use engine::{Group, Network, Peer, PeerEnd, Project, Registry};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Without a poke, everything is read this often: an engine may have refused.
const PERIOD: Duration = Duration::from_secs(30);

/// What the engine was told in this term, by name: as many as there are Projects.
#[derive(Debug, Default)]
pub struct Projects(Mutex<HashMap<String, Project>>);

impl Projects {
    fn is_told(&self, name: &str) -> bool {
        lock(&self.0).contains_key(name)
    }
}

/// Makes a Group's Slots exist, in a Project that the engine knows.
pub async fn ensure(control: &Control, group: &Group) -> Result<(), ControlError> {
    if !control.projects.is_told(&group.project)
        && let Some(object) = objects::read(&control.db, "Project", "", &group.project).await?
    {
        tell(control, &object).await?;
    }
    control.engine.ensure(control.epoch, group).await?;
    Ok(())
}

/// Tells the engine every Project that is not as it was told. One that it refuses holds up no other.
pub async fn tell_all(control: &Control) -> Result<(), ControlError> {
    let projects = objects::all(&control.db, "Project").await?;
    let there: HashSet<&str> = projects.iter().map(|object| object.name.as_str()).collect();
    lock(&control.projects.0).retain(|name, _| there.contains(name.as_str()));
    for object in &projects {
        if let Err(error) = tell(control, object).await {
            tracing::warn!(
                project = object.name,
                error = &error as &dyn std::error::Error,
                "the engine cannot be told of a Project now"
            );
        }
    }
    Ok(())
}

async fn tell(control: &Control, object: &Object) -> Result<(), ControlError> {
    let project = read(control, object).await?;
    let is_told = lock(&control.projects.0).get(&project.name) == Some(&project);
    if !is_told {
        control.engine.project(control.epoch, &project).await?;
        lock(&control.projects.0).insert(project.name.clone(), project);
    }
    Ok(())
}

async fn read(control: &Control, object: &Object) -> Result<Project, ControlError> {
    let spec: ProjectSpec =
        serde_json::from_value(object.spec.clone()).map_err(|source| ControlError::Spec {
            uid: object.uid,
            source,
        })?;
    let mut registries = Vec::with_capacity(spec.registries.len());
    for registry in spec.registries {
        registries.push(read_registry(control, &object.name, registry).await?);
    }
    Ok(Project {
        name: object.name.clone(),
        // A Project is of no tenant's scope itself.
        tenant: spec.tenant.unwrap_or_else(|| "default".to_owned()),
        pod_security: spec.pod_security.map(|profile| match profile {
            PodSecurity::Restricted => engine::PodSecurity::Restricted,
            PodSecurity::Baseline => engine::PodSecurity::Baseline,
            PodSecurity::Privileged => engine::PodSecurity::Privileged,
        }),
        network: spec.network.map(|network| Network {
            ingress: peers(&network.ingress),
            egress: network.egress.as_deref().map(peers),
        }),
        registries,
    })
}

/// A registry with the newest version of its Secret; a Secret that is not there yet is left out until it is.
async fn read_registry(
    control: &Control,
    project: &str,
    registry: RegistrySpec,
) -> Result<Registry, ControlError> {
    let mut secret = None;
    if let Some(name) = registry.secret {
        let found = objects::read(&control.db, "Secret", project, &name).await?;
        let version = found.and_then(|object| object.status["version"].as_u64());
        let version = version.and_then(|version| u32::try_from(version).ok());
        secret = version.map(|version| (name, version));
    }
    Ok(Registry {
        host: registry.host,
        mirror: registry.mirror,
        secret,
    })
}

/// Validation has seen that each names one end, and that ranges are ranges.
fn peers(peers: &[NetworkPeer]) -> Vec<Peer> {
    let end = |peer: &NetworkPeer| match (&peer.project, &peer.cidr) {
        (Some(project), _) => Some(PeerEnd::Project(project.clone())),
        (None, Some(cidr)) => cidr.parse().ok().map(PeerEnd::Net),
        (None, None) => None,
    };
    let peers = peers.iter().filter_map(|peer| {
        Some(Peer {
            end: end(peer)?,
            ports: peer.ports.clone(),
        })
    });
    peers.collect()
}

/// The loop.
pub async fn run(control: Arc<Control>, stop: CancellationToken) {
    loop {
        if let Err(error) = tell_all(&control).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot read Projects now"
            );
        }
        tokio::select! {
            () = control.project_changed.poked() => {}
            () = tokio::time::sleep(PERIOD) => {}
            () = stop.cancelled() => break,
        }
    }
}
