//! What is made on a cluster for a Group: a Job for each batch replica, one Deployment for a service. Pure; text goldens below.

use crate::claims;
use crate::config::{Config, Images};
use crate::devices::COUNTED;
use crate::names;
use crate::registries::{mirrored, needs_secret};
use crate::view::Slots;
use base::{Epoch, MilliCpu, Resources};
use engine::{
    EngineError, EnvValue, Group, Isolation, Life, MountSource, Probe, ProbeAction, Registry,
    Runtime, Slot, Template,
};
use pod::wire;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The extended resource that whole GPUs are counted by.
pub(crate) const GPU: &str = "nvidia.com/gpu";
/// What a pod's grace has beyond the program's: for outputs and the last of the log.
pub(crate) const GRACE_BEYOND: u64 = 20;
/// What a pod calls the claim of its devices.
const CLAIM: &str = "devices";
/// How long a pod's token is good; the kubelet replaces it well before.
const TOKEN_SECONDS: u64 = 3600;

/// Refuses what cannot be had here, by field.
pub(crate) fn check(images: &Images, group: &Group) -> Result<(), EngineError> {
    let refuse = |field: &str, why: &str| {
        Err(EngineError::Unsupported {
            field: field.to_owned(),
            why: why.to_owned(),
        })
    };
    let template = &group.template;
    if group.life == Life::Session {
        return refuse("life", "sessions are not there yet on Kubernetes");
    }
    if !template.resources.gpu_milli.is_multiple_of(1000) {
        return refuse(
            "resources.gpu",
            "a part of a GPU needs named devices, which this cluster does not have: ask for whole ones",
        );
    }
    if template.runtime == Runtime::Platform && images.server.is_none() {
        return refuse(
            "model",
            "the model server needs an image with `moonshot`: name it in MOONSHOT_IMAGE_SERVER",
        );
    }
    if template.user == Some(0) {
        return refuse("user", "programs do not run as root on Kubernetes");
    }
    for mount in &template.mounts {
        match mount.source {
            MountSource::Volume(_) => return refuse("mounts.volume", "volumes are not there yet"),
            MountSource::Dataset(_) => {
                return refuse("mounts.dataset", "data sets are not there yet");
            }
            MountSource::Code(_)
            | MountSource::Outputs
            | MountSource::Secret { .. }
            | MountSource::Input(_)
            | MountSource::Checkpoint(_)
            | MountSource::Scratch => {}
        }
    }
    Ok(())
}

/// The Group as an annotation: what a server that starts anew knows it by. Tokens stay out.
pub(crate) fn asked(group: &Group) -> String {
    let mut group = group.clone();
    for slot in &mut group.slots {
        slot.token.clear();
    }
    serde_json::to_string(&group).expect("its parts all have a JSON form")
}

fn annotations(group: &Group, epoch: Epoch) -> Value {
    json!({
        names::ASKED: asked(group),
        names::EPOCH: epoch.0.to_string(),
        names::SLOTS: Slots::default().to_text(),
        names::TITLE: group.title,
    })
}

/// The Job of one batch replica.
pub(crate) fn job(
    config: &Config,
    registries: &[Registry],
    group: &Group,
    slot: &Slot,
    epoch: Epoch,
) -> Value {
    let mut one = group.clone();
    one.slots = vec![slot.clone()];
    let labels = names::replica_labels(group, slot);
    let mut pod = pod(config, registries, group);
    pod["restartPolicy"] = json!("Never");
    pod["hostname"] = json!(names::hostname(&group.name, slot.index));
    pod["subdomain"] = json!(names::peers(group.owner));
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names::job(group, slot),
            "namespace": group.project,
            "labels": labels,
            "annotations": annotations(&one, epoch),
        },
        "spec": {
            // `plan` owns attempts: a Job here is one try of one replica.
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "completions": 1,
            "parallelism": 1,
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {names::EPOCH: epoch.0.to_string(), names::TITLE: group.title},
                },
                "spec": pod,
            },
        },
    })
}

/// The Deployment of a service's Group.
pub(crate) fn deployment(
    config: &Config,
    registries: &[Registry],
    group: &Group,
    epoch: Epoch,
) -> Value {
    let labels = names::labels(group);
    let mut pod = pod(config, registries, group);
    pod["restartPolicy"] = json!("Always");
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": names::deployment(group),
            "namespace": group.project,
            "labels": labels,
            "annotations": annotations(group, epoch),
        },
        "spec": {
            "replicas": group.slots.len(),
            "selector": {"matchLabels": labels},
            // A Revision never changes: there is nothing to roll here.
            "strategy": {"type": "Recreate"},
            "revisionHistoryLimit": 0,
            "template": {
                "metadata": {"labels": labels, "annotations": {names::TITLE: group.title}},
                "spec": pod,
            },
        },
    })
}

/// The headless Service under which an owner's batch replicas find each other, before they are ready too.
pub(crate) fn peers(group: &Group) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": names::peers(group.owner),
            "namespace": group.project,
            "labels": {names::MANAGED.0: names::MANAGED.1, names::OWNER: group.owner.to_string()},
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "selector": {names::OWNER: group.owner.to_string()},
        },
    })
}

fn pod(config: &Config, registries: &[Registry], group: &Group) -> Value {
    let template = &group.template;
    let user = template.user.unwrap_or(config.user);
    let asked = Asked::new(config.gpu_class.as_ref(), &template.resources);
    let home = json!({"name": "moonshot", "mountPath": wire::HOME});
    let token_dir = wire::TOKEN
        .rsplit_once('/')
        .map_or(wire::TOKEN, |(dir, _)| dir);
    let confined = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": false,
    });
    let mut container = json!({
        "name": "main",
        "image": image(config, &mirrored(registries, &template.runtime)),
        "imagePullPolicy": "IfNotPresent",
        "command": [format!("{}/bin/moonshot-pod", wire::HOME), "run"],
        "env": [
            {"name": wire::ENDPOINT, "value": endpoint(config)},
            {"name": "MOONSHOT_NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "resources": resources(&asked.counted),
        "securityContext": confined,
        "volumeMounts": [home, {"name": "token", "mountPath": token_dir, "readOnly": true}],
    });
    if !template.ports.is_empty() {
        let ports = template
            .ports
            .iter()
            .map(|port| json!({"containerPort": port.number}));
        container["ports"] = ports.collect();
    }
    if group.life == Life::Service {
        let probes = [
            ("startupProbe", &template.probes.startup),
            ("readinessProbe", &template.probes.readiness),
            ("livenessProbe", &template.probes.liveness),
        ];
        for (name, probe) in probes {
            if let Some(probe) = probe {
                container[name] = self::probe(probe, template);
            }
        }
    }
    let grace = template.grace.as_ms().div_ceil(1000) + GRACE_BEYOND;
    let mut pod = json!({
        "schedulerName": names::SCHEDULER,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": grace,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": user, "runAsGroup": user, "fsGroup": user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        // Taints are the scheduler's to judge; a pod that it placed is not evicted for one.
        "tolerations": [{"operator": "Exists"}],
        "initContainers": [{
            "name": "moonshot",
            "image": config.images.agent,
            "imagePullPolicy": "IfNotPresent",
            "command": ["/moonshot-pod", "install", wire::HOME],
            // Counted within the pod's request, which is the larger of both.
            "resources": resources(&Resources { extended: Default::default(), gpu_milli: 0, ..template.resources.clone() }),
            "securityContext": confined,
            "volumeMounts": [home],
        }],
        "containers": [container],
        "volumes": [
            {"name": "moonshot", "emptyDir": {}},
            {"name": "token", "projected": {"sources": [{
                "serviceAccountToken": {"audience": wire::AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token"},
            }]}},
        ],
    });
    if !asked.claimed.is_empty() {
        let claim = json!({"name": CLAIM, "resourceClaimTemplateName": names::template(group)});
        pod["resourceClaims"] = json!([claim]);
        pod["containers"][0]["resources"]["claims"] = json!([{"name": CLAIM}]);
    }
    if needs_secret(registries) {
        pod["imagePullSecrets"] = json!([{"name": names::PULL_SECRET}]);
    }
    // A service keeps nothing between attempts; `plan` gives it no such mount.
    if let Some(claim) = claims::of_group(group).next() {
        push(
            &mut pod["containers"][0]["volumeMounts"],
            json!({"name": "checkpoint", "mountPath": wire::CHECKPOINT}),
        );
        push(
            &mut pod["volumes"],
            json!({"name": "checkpoint", "persistentVolumeClaim": {"claimName": claim}}),
        );
        // What earlier attempts wrote has its owner already: not each file is looked at again.
        pod["securityContext"]["fsGroupChangePolicy"] = json!("OnRootMismatch");
    }
    match template.isolation {
        Isolation::Gvisor => pod["runtimeClassName"] = json!("gvisor"),
        Isolation::Kata => pod["runtimeClassName"] = json!("kata"),
        // A container is a sandbox.
        Isolation::None | Isolation::Sandbox => {}
    }
    pod
}

fn push(list: &mut Value, item: Value) {
    list.as_array_mut()
        .expect("it was written as a list above")
        .push(item);
}

pub(crate) fn endpoint(config: &Config) -> String {
    let own = || format!("http://{}", config.listen);
    config.advertise.clone().unwrap_or_else(own)
}

fn image(config: &Config, runtime: &Runtime) -> String {
    match runtime {
        Runtime::Host => config.images.host.clone(),
        Runtime::Bundle(_) => config.images.python.clone(),
        Runtime::Image(image) => image.clone(),
        // `check` refused those that have none.
        Runtime::Platform => config.images.server.clone().unwrap_or_default(),
    }
}

/// What a program asks for, by who counts it.
struct Asked {
    /// Kubernetes, as `resources` of a container.
    counted: Resources,
    /// Nobody but who gives them away: devices, by class.
    claimed: BTreeMap<String, u64>,
}

impl Asked {
    fn new(gpu_class: Option<&String>, resources: &Resources) -> Asked {
        let mut counted = resources.clone();
        counted
            .extended
            .retain(|name, count| *count != 0 && !name.starts_with(COUNTED));
        if gpu_class.is_some() {
            counted.gpu_milli = 0;
        }
        let mut claimed = BTreeMap::new();
        for (class, count) in self::claimed(gpu_class, resources) {
            *claimed.entry(class.to_owned()).or_default() += count;
        }
        Asked { counted, claimed }
    }
}

/// Devices that are claimed, with their classes; one class may come twice.
fn claimed<'a>(
    gpu_class: Option<&'a String>,
    resources: &'a Resources,
) -> impl Iterator<Item = (&'a str, u64)> {
    let extended = resources.extended.iter();
    let named = extended.filter_map(|(name, count)| Some((name.strip_prefix(COUNTED)?, *count)));
    let gpus = gpu_class.map(|class| (class.as_str(), resources.gpu_milli / 1000));
    named.chain(gpus).filter(|(_, count)| *count != 0)
}

/// Whether a Group's pods claim devices.
pub(crate) fn claims_devices(gpu_class: Option<&String>, group: &Group) -> bool {
    let mut claimed = claimed(gpu_class, &group.template.resources);
    claimed.next().is_some()
}

/// What the claims of a Group's pods are made from; `None` where they claim no devices.
pub(crate) fn template(config: &Config, group: &Group) -> Option<Value> {
    let asked = Asked::new(config.gpu_class.as_ref(), &group.template.resources);
    let requests = asked.claimed.iter().enumerate();
    let requests = requests.map(|(n, (class, count))| {
        let exactly =
            json!({"deviceClassName": class, "allocationMode": "ExactCount", "count": count});
        json!({"name": format!("devices-{n}"), "exactly": exactly})
    });
    let requests: Vec<Value> = requests.collect();
    (!requests.is_empty()).then(|| {
        json!({
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaimTemplate",
            "metadata": {
                "name": names::template(group),
                "namespace": group.project,
                "labels": names::labels(group),
                "annotations": {names::TITLE: group.title},
            },
            "spec": {"spec": {"devices": {"requests": requests}}},
        })
    })
}

/// Requests equal limits: what was placed is what may be used.
fn resources(resources: &Resources) -> Value {
    let mut amounts = Map::new();
    if resources.cpu != MilliCpu(0) {
        amounts.insert("cpu".to_owned(), json!(format!("{}m", resources.cpu.0)));
    }
    if resources.memory.0 != 0 {
        amounts.insert("memory".to_owned(), json!(resources.memory.0.to_string()));
    }
    if resources.gpu_milli != 0 {
        amounts.insert(
            GPU.to_owned(),
            json!((resources.gpu_milli / 1000).to_string()),
        );
    }
    for (name, amount) in &resources.extended {
        amounts.insert(name.clone(), json!(amount.to_string()));
    }
    json!({"requests": amounts, "limits": amounts})
}

/// Kubernetes counts probes in whole seconds: shorter times are rounded up.
fn probe(probe: &Probe, template: &Template) -> Value {
    let seconds = |span: base::Span, least: u64| span.as_ms().div_ceil(1000).max(least);
    let number = |name: &str| {
        let port = template.ports.iter().find(|port| port.name == name);
        port.map_or(0, |port| port.number)
    };
    let mut value = json!({
        "initialDelaySeconds": seconds(probe.initial_delay, 0),
        "periodSeconds": seconds(probe.period, 1),
        "timeoutSeconds": seconds(probe.timeout, 1),
        "successThreshold": probe.successes.max(1),
        "failureThreshold": probe.failures.max(1),
    });
    match &probe.action {
        ProbeAction::Http { port, path } => {
            value["httpGet"] = json!({"path": path, "port": number(port)})
        }
        ProbeAction::Tcp { port } => value["tcpSocket"] = json!({"port": number(port)}),
        ProbeAction::Exec { command } => {
            // With the program's own variables and directory.
            let words = [
                format!("{}/bin/moonshot-pod", wire::HOME),
                "exec".to_owned(),
                "--".to_owned(),
            ];
            let words: Vec<&String> = words.iter().chain(command).collect();
            value["exec"] = json!({"command": words});
        }
    }
    value
}

/// The variables that a Secret's entry goes into, so that the endpoint opens only what is needed.
pub(crate) fn secrets(template: &Template) -> impl Iterator<Item = (&str, u32)> {
    let mounted = template
        .mounts
        .iter()
        .filter_map(|mount| match &mount.source {
            MountSource::Secret { name, version } => Some((name.as_str(), *version)),
            _ => None,
        });
    let named = template
        .env
        .iter()
        .filter_map(|variable| match &variable.value {
            EnvValue::Secret { name, version, .. } => Some((name.as_str(), *version)),
            EnvValue::Plain(_) => None,
        });
    mounted.chain(named)
}

#[cfg(test)]
pub(crate) mod tests;
