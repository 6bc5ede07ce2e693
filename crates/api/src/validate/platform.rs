//! What operators write: projects, queues, pools, clusters, nodes.

use super::{Errors, program, reservation, syntax};
use crate::path;
use crate::platform::{
    AmountSpec, ClusterSpec, NetworkPeer, NetworkSpec, NodeQuota, NodeSpec, PoolSpec, ProjectSpec,
    QueueSpec,
};
use base::{Net, Span};
use std::collections::BTreeMap;

/// The largest weight of a queue.
const WEIGHT_MAX: u32 = 10_000;
/// The most nodes of one shape that a queue is guaranteed.
const NODES_MAX: u32 = 100_000;
/// The most peers in one direction.
const PEERS_MAX: usize = 200;
/// The most ports of one peer.
const PORTS_MAX: usize = 100;

pub(super) fn project(name: &str, spec: &ProjectSpec, errors: &mut Errors) {
    if let Some(Err(why)) = spec.tenant.as_deref().map(syntax::label) {
        errors.add("spec.tenant", why);
    }
    for (i, registry) in spec.registries.iter().enumerate() {
        for (field, host) in [
            ("host", Some(&registry.host)),
            ("mirror", registry.mirror.as_ref()),
        ] {
            if let Some(host) = host
                && !is_host_port(host)
            {
                errors.add(
                    format!("spec.registries[{i}].{field}"),
                    "is not a host such as `registry.example.org` or `registry.example.org:5000`",
                );
            }
        }
        if let Some(Err(why)) = registry.secret.as_deref().map(syntax::label) {
            errors.add(format!("spec.registries[{i}].secret"), why);
        }
    }
    program::unique(
        "spec.registries",
        "host",
        spec.registries
            .iter()
            .map(|registry| registry.host.as_str()),
        errors,
    );
    if let Some(spec) = &spec.network {
        network(name, spec, errors);
    }
}

fn network(project: &str, spec: &NetworkSpec, errors: &mut Errors) {
    let egress = spec.egress.as_deref().unwrap_or_default();
    for (direction, peers) in [("ingress", spec.ingress.as_slice()), ("egress", egress)] {
        let at = format!("spec.network.{direction}");
        if peers.len() > PEERS_MAX {
            let message = format!("has {} entries; at most {PEERS_MAX} are taken", peers.len());
            errors.add(at, message);
            continue;
        }
        for (i, peer) in peers.iter().enumerate() {
            network_peer(project, &format!("{at}[{i}]"), peer, errors);
        }
    }
}

fn network_peer(project: &str, at: &str, peer: &NetworkPeer, errors: &mut Errors) {
    match (&peer.project, &peer.cidr) {
        (Some(other), None) => {
            if let Err(why) = syntax::label(other) {
                errors.add(format!("{at}.project"), why);
            } else if other == project {
                let message =
                    "is the Project itself, whose programs always reach each other; leave it out";
                errors.add(format!("{at}.project"), message);
            }
        }
        (None, Some(cidr)) => {
            if let Err(why) = cidr.parse::<Net>() {
                errors.add(format!("{at}.cidr"), why.to_string());
            }
        }
        (None, None) => errors.add(at, "names nobody; give `project` or `cidr`"),
        (Some(_), Some(_)) => {
            errors.add(at, "has both `project` and `cidr`; make two entries of it");
        }
    }
    if peer.ports.len() > PORTS_MAX {
        let message = format!(
            "has {} entries; at most {PORTS_MAX} are taken",
            peer.ports.len()
        );
        errors.add(format!("{at}.ports"), message);
        return;
    }
    for (i, port) in peer.ports.iter().enumerate() {
        if peer.ports[..i].contains(port) {
            errors.add(format!("{at}.ports[{i}]"), format!("{port} is there twice"));
        }
    }
}

fn is_host_port(text: &str) -> bool {
    let (host, port) = text
        .split_once(':')
        .map_or((text, None), |(host, port)| (host, Some(port)));
    syntax::dns_name(host).is_ok()
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

pub(super) fn queue(name: &str, spec: &QueueSpec, errors: &mut Errors) {
    if let Some(parent) = &spec.parent {
        if parent == name {
            errors.add("spec.parent", "is the queue itself");
        } else if let Err(why) = syntax::label(parent) {
            errors.add("spec.parent", why);
        }
    }
    for (i, project) in spec.projects.iter().enumerate() {
        if let Err(why) = syntax::label(project) {
            errors.add(format!("spec.projects[{i}]"), why);
        } else if spec.projects[..i].contains(project) {
            errors.add(
                format!("spec.projects[{i}]"),
                format!("`{project}` is there twice"),
            );
        }
    }
    for (pool, quota) in &spec.quotas {
        let at = path::field("spec.quotas", pool);
        if pool != "*"
            && let Err(why) = syntax::label(pool)
        {
            errors.add(
                at.clone(),
                format!("the pool's name {why}; `*` stands for every other pool"),
            );
        }
        amount(&format!("{at}.guaranteed"), &quota.guaranteed, errors);
        amount(&format!("{at}.limit"), &quota.limit, errors);
        within_limit(
            &format!("{at}.guaranteed"),
            &quota.guaranteed,
            &quota.limit,
            errors,
        );
        if quota
            .weight
            .is_some_and(|weight| weight == 0 || weight > WEIGHT_MAX)
        {
            errors.add(
                format!("{at}.weight"),
                format!("from 1 to {WEIGHT_MAX} is expected"),
            );
        }
        for (i, nodes) in quota.nodes.iter().enumerate() {
            node_quota(&format!("{at}.nodes[{i}]"), nodes, errors);
        }
    }
    reservation::check(spec, errors);
}

fn node_quota(at: &str, nodes: &NodeQuota, errors: &mut Errors) {
    if nodes.count == 0 || nodes.count > NODES_MAX {
        errors.add(
            format!("{at}.count"),
            format!("from 1 to {NODES_MAX} is expected"),
        );
    }
    let each = &nodes.each;
    let nothing = AmountSpec {
        cpu: each.cpu.filter(|cpu| cpu.0 > 0),
        memory: each.memory.filter(|memory| memory.0 > 0),
        gpu: each.gpu.filter(|gpu| *gpu > 0.0),
        extended: BTreeMap::new(),
    };
    if nothing.is_empty() && each.extended.values().all(|n| *n == 0) {
        errors.add(
            format!("{at}.each"),
            "is empty; say what such a node has, for example `gpu: 8`",
        );
    }
    amount(&format!("{at}.each"), each, errors);
}

pub(super) fn amount(at: &str, amount: &AmountSpec, errors: &mut Errors) {
    // A queue's share may be any part of several GPUs, unlike a replica's.
    if let Some(gpu) = amount.gpu.filter(|gpu| !gpu.is_finite() || *gpu < 0.0) {
        errors.add(
            format!("{at}.gpu"),
            format!("is {gpu}; 0 or more is expected"),
        );
    }
    program::extended(&format!("{at}.extended"), &amount.extended, errors);
}

/// What `at` names is not more than the limit of its queue.
pub(super) fn within_limit(at: &str, amount: &AmountSpec, limit: &AmountSpec, errors: &mut Errors) {
    let over = [
        (
            "cpu",
            matches!((amount.cpu, limit.cpu), (Some(n), Some(most)) if n > most),
        ),
        (
            "memory",
            matches!((amount.memory, limit.memory), (Some(n), Some(most)) if n > most),
        ),
        (
            "gpu",
            matches!((amount.gpu, limit.gpu), (Some(n), Some(most)) if n > most),
        ),
    ];
    for (resource, _) in over.iter().filter(|(_, over)| *over) {
        errors.add(format!("{at}.{resource}"), "is more than the limit");
    }
    for (name, n) in &amount.extended {
        if limit.extended.get(name).is_some_and(|most| n > most) {
            errors.add(
                path::field(&format!("{at}.extended"), name),
                "is more than the limit",
            );
        }
    }
}

pub(super) fn pool(spec: &PoolSpec, errors: &mut Errors) {
    program::selector("spec.nodeSelector", &spec.node_selector, errors);
    for (i, level) in spec.levels.iter().enumerate() {
        if let Err(why) = syntax::label_key(level) {
            errors.add(format!("spec.levels[{i}]"), why);
        } else if spec.levels[..i].contains(level) {
            errors.add(
                format!("spec.levels[{i}]"),
                format!("`{level}` is there twice"),
            );
        }
    }
    if spec.half_life == Some(Span::ZERO) {
        errors.add(
            "spec.halfLife",
            "is 0; leave it out so that only what is used now counts",
        );
    }
}

pub(super) fn cluster(spec: &ClusterSpec, errors: &mut Errors) {
    if !["local", "k8s"].contains(&spec.engine.as_str()) {
        errors.add(
            "spec.engine",
            format!("is `{}`; `local` or `k8s` is expected", spec.engine),
        );
    }
}

pub(super) fn node(spec: &NodeSpec, errors: &mut Errors) {
    program::selector("spec.labels", &spec.labels, errors);
    for (i, taint) in spec.taints.iter().enumerate() {
        if let Err(why) = syntax::label_key(&taint.key) {
            errors.add(format!("spec.taints[{i}].key"), why);
        }
        if let Err(why) = syntax::label_value(&taint.value) {
            errors.add(format!("spec.taints[{i}].value"), why);
        }
    }
    if let Some(Err(why)) = spec.pool.as_deref().map(syntax::label) {
        errors.add("spec.pool", why);
    }
}
