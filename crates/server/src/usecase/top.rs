//! Who uses what right now, as the engine last measured it.

use crate::auth::{Actor, Verb, authorize};
use crate::control::convert;
use crate::error::UseError;
use crate::platform::Platform;
use api::answer::{NodeUse, ReplicaUse, Top};
use api::platform::NodeStatus;
use base::{Bytes, MilliCpu, Span, Uid};
use db::objects;
use engine::{Phase, Usage};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

/// What replicas use, in one project or in all that the caller sees, and what nodes carry.
pub async fn top(
    platform: &Platform,
    actor: &Actor,
    project: Option<&str>,
) -> Result<Top, UseError> {
    let only = project.map(str::to_owned).or_else(|| actor.project.clone());
    authorize(actor, Verb::Read, only.as_deref().unwrap_or(""))?;
    let seen = platform.engine.observe(None, Span::ZERO).await?;
    let mut owners: HashMap<Uid, Option<objects::Object>> = HashMap::new();
    let mut replicas = Vec::new();
    let mut by_node: BTreeMap<&str, (MilliCpu, Bytes)> = BTreeMap::new();
    for report in &seen.replicas {
        if matches!(report.phase, Phase::Ended(_)) {
            continue;
        }
        let Usage { cpu, memory, .. } = report.usage;
        let node = by_node.entry(&report.node).or_default();
        *node = (MilliCpu(node.0.0 + cpu.0), Bytes(node.1.0 + memory.0));
        let uid = report.key.owner;
        let owner = match owners.entry(uid) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(objects::read_by_uid(&platform.db, uid).await?),
        };
        let Some(owner) = owner else { continue };
        if only.as_ref().is_some_and(|only| *only != owner.project) {
            continue;
        }
        replicas.push(ReplicaUse {
            project: owner.project.clone(),
            kind: owner.kind.clone(),
            name: owner.name.clone(),
            group: report.key.group.clone(),
            index: report.key.index.0,
            node: report.node.clone(),
            cpu,
            memory,
        });
    }
    let mut nodes = Vec::new();
    for node in &seen.nodes {
        let object = objects::read(&platform.db, "Node", "", &node.name).await?;
        let status = object.map(|object| object.status).unwrap_or_default();
        let status: NodeStatus = serde_json::from_value(status).unwrap_or_default();
        let (cpu, memory) = by_node.get(node.name.as_str()).copied().unwrap_or_default();
        nodes.push(NodeUse {
            name: node.name.clone(),
            allocatable: convert::shown(&node.allocatable),
            placed: status.used,
            cpu,
            memory,
        });
    }
    Ok(Top { nodes, replicas })
}
