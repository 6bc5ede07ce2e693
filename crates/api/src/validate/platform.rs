//! What operators write: projects, queues, pools, clusters, nodes.

use super::{Errors, program, syntax};
use crate::path;
use crate::platform::{AmountSpec, ClusterSpec, NodeSpec, PoolSpec, ProjectSpec, QueueSpec};

/// The largest weight of a queue.
const WEIGHT_MAX: u32 = 10_000;

pub(super) fn project(spec: &ProjectSpec, errors: &mut Errors) {
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
        guaranteed_within_limit(&at, &quota.guaranteed, &quota.limit, errors);
        if quota
            .weight
            .is_some_and(|weight| weight == 0 || weight > WEIGHT_MAX)
        {
            errors.add(
                format!("{at}.weight"),
                format!("from 1 to {WEIGHT_MAX} is expected"),
            );
        }
    }
}

fn amount(at: &str, amount: &AmountSpec, errors: &mut Errors) {
    // A queue's share may be any part of several GPUs, unlike a replica's.
    if let Some(gpu) = amount.gpu.filter(|gpu| !gpu.is_finite() || *gpu < 0.0) {
        errors.add(
            format!("{at}.gpu"),
            format!("is {gpu}; 0 or more is expected"),
        );
    }
    program::extended(&format!("{at}.extended"), &amount.extended, errors);
}

fn guaranteed_within_limit(
    at: &str,
    guaranteed: &AmountSpec,
    limit: &AmountSpec,
    errors: &mut Errors,
) {
    let over = [
        (
            "cpu",
            matches!((guaranteed.cpu, limit.cpu), (Some(g), Some(l)) if g > l),
        ),
        (
            "memory",
            matches!((guaranteed.memory, limit.memory), (Some(g), Some(l)) if g > l),
        ),
        (
            "gpu",
            matches!((guaranteed.gpu, limit.gpu), (Some(g), Some(l)) if g > l),
        ),
    ];
    for (resource, _) in over.iter().filter(|(_, over)| *over) {
        errors.add(
            format!("{at}.guaranteed.{resource}"),
            "is more than the limit",
        );
    }
    for (name, guaranteed) in &guaranteed.extended {
        if limit
            .extended
            .get(name)
            .is_some_and(|limit| guaranteed > limit)
        {
            errors.add(
                path::field(&format!("{at}.guaranteed.extended"), name),
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
