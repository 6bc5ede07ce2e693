//! How a pod that others made is understood: with whom it starts, what it asks for, and what of that is not supported. Pure.
//!
//! The gang's size stands on the pod (`moonshot/gang-size`, label or annotation) or in the PodGroup that it names. Spark's
//! executors are known by `spark-app-selector`; its driver makes them, so it starts alone, before them.

use crate::devices;
use crate::manifest::GPU;
use crate::names;
use crate::relations::{Neighbour, Rules, selector};
use crate::storage::{self, Named};
use crate::view::{effect, place, time};
use base::quantity::{parse_milli, parse_whole};
use base::{Bytes, MilliCpu, Resources, Time};
use engine::{ForeignPod, Gang, PodName, Toleration};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The least number of members that start together.
const GANG_SIZE: &str = "moonshot/gang-size";
/// The gang's name, where the pod's owner is not the gang.
const GANG: &str = "moonshot/gang";
/// The Queue to wait in.
const QUEUE: &str = "moonshot/queue";
/// Names the Spark application.
const SPARK_APP: &str = "spark-app-selector";
/// `driver` or `executor`.
const SPARK_ROLE: &str = "spark-role";

/// An object with the least number of a gang's members (`spec.minMember`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupRef {
    pub(crate) kind: &'static GroupKind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// A kind of such objects, and how a pod names one.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupKind {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    /// The label or annotation of its pods.
    mark: &'static str,
}

const GROUP_KINDS: [&GroupKind; 2] = [
    &GroupKind {
        group: "scheduling.x-k8s.io",
        version: "v1alpha1",
        mark: "scheduling.x-k8s.io/pod-group",
    },
    &GroupKind {
        group: "scheduling.volcano.sh",
        version: "v1beta1",
        mark: "scheduling.k8s.io/group-name",
    },
];

/// A pod that others made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Other {
    pub(crate) place: crate::view::Place,
    /// It names our scheduler; then also the PodGroup that would say how large its gang is.
    pub(crate) foreign: Option<(ForeignPod, Option<GroupRef>)>,
    /// Its uid.
    pub(crate) uid: String,
    /// The claims that it names.
    pub(crate) claims: Vec<Named>,
    /// The claims of devices that it names.
    pub(crate) devices: Vec<devices::Named>,
    /// How it stands to other pods, unless it is over.
    pub(crate) neighbour: Option<Neighbour>,
    /// It has a node and is not over.
    pub(crate) is_there: bool,
    /// It waits for whomever it names as its scheduler.
    pub(crate) is_unbound: bool,
    /// What it uses where somebody else put it.
    pub(crate) usage: Option<(String, Resources)>,
}

impl Other {
    pub(crate) fn new(pod: &Pod) -> Option<Other> {
        let spec = pod.spec.as_ref()?;
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        let is_over = matches!(phase, Some("Succeeded" | "Failed"));
        let node = spec.node_name.clone().filter(|node| !node.is_empty());
        let is_foreign = spec.scheduler_name.as_deref() == Some(names::SCHEDULER);
        let asked = request(spec).and_then(|request| Ok((request, Rules::new(pod)?)));
        let (asked, refused) = match asked {
            Ok(asked) => (asked, None),
            Err(sentence) => (<(Resources, Rules)>::default(), Some(sentence)),
        };
        let (request, rules) = asked;
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let is_there = node.is_some() && !is_over;
        let is_unbound = node.is_none() && !is_over;
        let usage = node.clone().filter(|_| !is_foreign && !is_over);
        let foreign = if is_foreign {
            let (gang, group) = gang(pod);
            let meta = &pod.metadata;
            let foreign = ForeignPod {
                pod: PodName {
                    namespace: meta.namespace.clone()?,
                    name: meta.name.clone()?,
                    uid: meta.uid.clone()?,
                },
                gang,
                queue: mark(pod, QUEUE).map(str::to_owned),
                priority: spec.priority.unwrap_or(0),
                request: request.clone(),
                node_selector: selector(spec),
                tolerations: tolerations(spec),
                relations: rules.among_themselves(&meta.namespace.clone()?, &labels),
                refused: refused.clone(),
                lacks: None,
                created: meta
                    .creation_timestamp
                    .as_ref()
                    .map_or(Time::from_ms(0), time),
                node,
                is_over,
            };
            Some((foreign, group))
        } else {
            None
        };
        Some(Other {
            place: place(&pod.metadata),
            foreign,
            usage: usage.map(|node| (node, request)),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            claims: storage::named(pod),
            devices: devices::named(pod),
            neighbour: (!is_over).then(|| Neighbour {
                uid: pod.metadata.uid.clone().unwrap_or_default(),
                labels: Arc::new(labels),
                rules: Arc::new(rules),
                waits: is_foreign && is_unbound && refused.is_none(),
                is_ending: pod.metadata.deletion_timestamp.is_some(),
                node: spec.node_name.clone().filter(|node| !node.is_empty()),
            }),
            is_unbound,
            is_there,
        })
    }

    /// It waits for a node from us, and names claims.
    pub(crate) fn waits_with_claims(&self) -> bool {
        let waits = |pod: &ForeignPod| pod.node.is_none() && !pod.is_over;
        !self.claims.is_empty() && self.foreign.as_ref().is_some_and(|(pod, _)| waits(pod))
    }
}

/// A label or, where there is none, an annotation.
fn mark<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let of = |marks: &'a Option<BTreeMap<String, String>>| marks.as_ref()?.get(name);
    let meta = &pod.metadata;
    of(&meta.labels)
        .or_else(|| of(&meta.annotations))
        .map(|text| text.trim())
        .filter(|text| !text.is_empty())
}

/// With whom it starts, and who else may say how many they are.
fn gang(pod: &Pod) -> (Gang, Option<GroupRef>) {
    if mark(pod, SPARK_ROLE) == Some("driver") {
        return (Gang::Single, None);
    }
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let group = GROUP_KINDS.into_iter().find_map(|kind| {
        let name = mark(pod, kind.mark)?.to_owned();
        let namespace = namespace.clone();
        Some(GroupRef {
            kind,
            namespace,
            name,
        })
    });
    let owners = pod.metadata.owner_references.iter().flatten();
    let owner = owners
        .filter(|owner| owner.controller == Some(true))
        .map(|owner| owner.name.as_str());
    let named = mark(pod, GANG)
        .or(group.as_ref().map(|group| group.name.as_str()))
        .or_else(|| mark(pod, SPARK_APP));
    let size = mark(pod, GANG_SIZE);
    let name = match (named, size) {
        (Some(name), _) => name.to_owned(),
        (None, Some(_)) => match owner.into_iter().next() {
            Some(owner) => owner.to_owned(),
            None => pod.metadata.name.clone().unwrap_or_default(),
        },
        (None, None) => return (Gang::Single, None),
    };
    match size.map(str::parse::<u32>) {
        Some(Ok(0 | 1)) => (Gang::Single, None),
        Some(Ok(size)) => (Gang::Of { name, size }, None),
        Some(Err(_)) | None => (Gang::Unsized { name }, group),
    }
}

/// What all its containers ask for: the larger of what runs at the start and what runs then, and the pod's own overhead.
fn request(spec: &PodSpec) -> Result<Resources, String> {
    let mut running = Resources::default();
    let mut starting = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let one = of_container(container)?;
        if container.restart_policy.as_deref() == Some("Always") {
            // A sidecar stays.
            running.add(&one);
            starting = larger(&starting, &running);
        } else {
            let mut with = running.clone();
            with.add(&one);
            starting = larger(&starting, &with);
        }
    }
    for container in &spec.containers {
        running.add(&of_container(container)?);
    }
    let mut all = larger(&starting, &running);
    if let Some(overhead) = &spec.overhead {
        all.add(&amounts("overhead", overhead)?);
    }
    Ok(all)
}

fn of_container(container: &Container) -> Result<Resources, String> {
    let Some(resources) = &container.resources else {
        return Ok(Resources::default());
    };
    let requests = resources.requests.clone().unwrap_or_default();
    amounts(&container.name, &requests)
}

fn amounts(what: &str, amounts: &BTreeMap<String, Quantity>) -> Result<Resources, String> {
    let mut resources = Resources::default();
    for (name, quantity) in amounts {
        let wrong = |error: base::quantity::BadQuantity| format!("`{name}` of {what} {error}");
        match name.as_str() {
            "cpu" => resources.cpu = MilliCpu(parse_milli(&quantity.0).map_err(wrong)?),
            "memory" => resources.memory = Bytes(parse_whole(&quantity.0).map_err(wrong)?),
            GPU => resources.gpu_milli = parse_whole(&quantity.0).map_err(wrong)? * 1000,
            // The kubelet alone guards it.
            "ephemeral-storage" => {}
            name => {
                let amount = parse_whole(&quantity.0).map_err(wrong)?;
                if amount != 0 {
                    resources.extended.insert(name.to_owned(), amount);
                }
            }
        }
    }
    Ok(resources)
}

fn larger(a: &Resources, b: &Resources) -> Resources {
    let mut extended = a.extended.clone();
    for (name, amount) in &b.extended {
        let most = extended.entry(name.clone()).or_default();
        *most = (*most).max(*amount);
    }
    Resources {
        cpu: a.cpu.max(b.cpu),
        memory: a.memory.max(b.memory),
        gpu_milli: a.gpu_milli.max(b.gpu_milli),
        extended,
    }
}

fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let one = |toleration: &k8s_openapi::api::core::v1::Toleration| {
        let exists = toleration.operator.as_deref() == Some("Exists");
        Toleration {
            key: toleration.key.clone().unwrap_or_default(),
            value: (!exists).then(|| toleration.value.clone().unwrap_or_default()),
            effect: toleration.effect.as_deref().and_then(effect),
        }
    };
    spec.tolerations.iter().flatten().map(one).collect()
}

/// Whether somebody holds it back for now.
pub(crate) fn is_gated(pod: &Pod) -> bool {
    let gates = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.scheduling_gates.as_ref());
    gates.is_some_and(|gates| !gates.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(meta: Value, spec: Value) -> Pod {
        let mut meta = meta;
        meta["namespace"] = json!("lab");
        meta["name"] = json!("p");
        meta["uid"] = json!("u");
        let mut whole = json!({"schedulerName": "moonshot", "containers": [{"name": "main"}]});
        for (name, value) in spec.as_object().expect("an object") {
            whole[name] = value.clone();
        }
        serde_json::from_value(json!({"metadata": meta, "spec": whole})).expect("a pod")
    }

    fn seen(meta: Value, spec: Value) -> (ForeignPod, Option<GroupRef>) {
        Other::new(&pod(meta, spec))
            .and_then(|other| other.foreign)
            .expect("it is foreign")
    }

    #[test]
    fn gangs_are_known_by_their_marks() {
        let check = |meta: Value, expect: Gang| assert_eq!(seen(meta, json!({})).0.gang, expect);
        let of = |name: &str, size| Gang::Of {
            name: name.to_owned(),
            size,
        };
        let unsized_ = |name: &str| Gang::Unsized {
            name: name.to_owned(),
        };
        let owner = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "ring", "uid": "o", "controller": true}]);
        check(json!({}), Gang::Single);
        check(
            json!({"labels": {"moonshot/gang-size": "4"}, "ownerReferences": owner}),
            of("ring", 4),
        );
        check(
            json!({"annotations": {"moonshot/gang-size": "4", "moonshot/gang": "x"}, "ownerReferences": owner}),
            of("x", 4),
        );
        check(json!({"labels": {"moonshot/gang-size": "1"}}), Gang::Single);
        check(
            json!({"labels": {"scheduling.x-k8s.io/pod-group": "g"}}),
            unsized_("g"),
        );
        check(
            json!({"annotations": {"scheduling.k8s.io/group-name": "v"}}),
            unsized_("v"),
        );
        check(
            json!({"labels": {"spark-app-selector": "spark-1", "spark-role": "executor"}}),
            unsized_("spark-1"),
        );
        check(
            json!({"labels": {"spark-app-selector": "spark-1", "spark-role": "executor", "moonshot/gang-size": "3"}}),
            of("spark-1", 3),
        );
        check(
            json!({"labels": {"spark-app-selector": "spark-1", "spark-role": "driver", "moonshot/gang-size": "3"}}),
            Gang::Single,
        );
        let (_, group) = seen(
            json!({"labels": {"scheduling.x-k8s.io/pod-group": "g"}}),
            json!({}),
        );
        assert_eq!(
            group.map(|group| (group.kind.group, group.name)),
            Some(("scheduling.x-k8s.io", "g".to_owned()))
        );
    }

    #[test]
    fn requests_count_what_runs_at_once() {
        let asks = |cpu: &str| json!({"requests": {"cpu": cpu, "memory": "64Mi"}});
        let spec = json!({
            "initContainers": [
                {"name": "sidecar", "restartPolicy": "Always", "resources": asks("100m")},
                {"name": "once", "resources": asks("2")},
            ],
            "containers": [{"name": "a", "resources": asks("500m")}, {"name": "b", "resources": asks("250m")}],
            "overhead": {"cpu": "10m"},
        });
        let (pod, _) = seen(json!({}), spec);
        assert_eq!(
            (pod.request.cpu, pod.request.memory),
            (MilliCpu(2110), Bytes(192 << 20))
        );
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let check = |spec: Value, expect: Option<&str>| {
            let refused = seen(json!({}), spec).0.refused;
            assert_eq!(refused.is_some(), expect.is_some(), "{refused:?}");
            if let (Some(refused), Some(expect)) = (refused, expect) {
                assert!(refused.contains(expect), "{refused}");
            }
        };
        check(json!({}), None);
        check(json!({"nodeSelector": {"disk": "ssd"}}), None);
        let affinity = |operator: &str, values: &[&str]| {
            let terms = json!([{"matchExpressions": [{"key": "zone", "operator": operator, "values": values}]}]);
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
        };
        check(affinity("In", &["a"]), None);
        check(affinity("In", &["a", "b"]), None);
        check(affinity("NotIn", &["a"]), None);
        check(
            json!({"resourceClaims": [{"name": "gpu", "resourceClaimName": "gpu"}]}),
            None,
        );
        check(
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 1, "hostPort": 80}]}]}),
            None,
        );
        check(
            json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "x"}}}]}),
            Some("`cpu` of a"),
        );
        let spread = |taints: &str| {
            json!({"topologySpreadConstraints": [{
                "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "nodeTaintsPolicy": taints,
            }]})
        };
        check(spread("Ignore"), None);
        check(spread("Honor"), Some("nodeTaintsPolicy"));
        let volume = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
        check(json!({"volumes": volume}), None);
    }

    #[test]
    fn claims_are_those_of_the_pod_and_those_that_are_made_for_it() {
        let volumes = json!([
            {"name": "a", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "b", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
            {"name": "c", "emptyDir": {}},
        ]);
        let other = Other::new(&pod(json!({}), json!({"volumes": volumes}))).expect("a pod");
        let of = |named: &Named| (named.claim.1.clone(), named.for_pod.clone());
        let claims: Vec<_> = other.claims.iter().map(of).collect();
        let expect = [("data", None), ("p-b", Some("u"))];
        assert_eq!(
            claims,
            expect.map(|(claim, pod)| (claim.to_owned(), pod.map(str::to_owned)))
        );
    }

    #[test]
    fn pods_that_others_bound_are_usage() {
        let mut one = pod(
            json!({}),
            json!({"nodeName": "n", "schedulerName": "default-scheduler"}),
        );
        let other = Other::new(&one).expect("a pod");
        assert!(other.foreign.is_none() && other.usage.is_some());
        one.status = serde_json::from_value(json!({"phase": "Succeeded"})).expect("a status");
        assert!(Other::new(&one).expect("a pod").usage.is_none());
    }
}
