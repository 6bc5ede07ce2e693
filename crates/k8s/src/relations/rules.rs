//! What a pod says about the nodes and the pods beside it. Pure.
//!
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/> and `topology-spread-constraints` of the same place say what
//! each means. What is only preferred is not here.

use super::RELATED;
use crate::affinity::{Labels, Marks, Terms};
use k8s_openapi::api::core::v1::{
    NodeSelector, Pod, PodAffinityTerm, PodSpec, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::json;
use std::collections::BTreeSet;

/// The scheduler's own label whose values are the nodes themselves.
const HOST: &str = "host";
/// Labels that differ between the pods of one controller: they do not make their rules different.
const OF_ONE_POD: [&str; 3] = [
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/job-completion-index",
];

/// All that a pod requires of its place.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rules {
    /// Which nodes it means, where a plain selector cannot say it.
    pub(super) nodes: Option<Terms>,
    /// Node labels that its plain selector asks for.
    pub(super) selector: Labels,
    /// Ports of the node that are its own.
    pub(super) ports: Vec<HostPort>,
    /// Each names pods with which it shares a domain.
    pub(super) with: Vec<Term>,
    /// Each names pods with which it shares none.
    pub(super) against: Vec<Term>,
    pub(super) spread: Vec<Spread>,
    /// Tells these rules from others.
    text: String,
}

/// Pods, and the node label whose values are the domains.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Term {
    pub(super) marks: Marks,
    pub(super) spaces: Spaces,
    pub(super) label: String,
    text: String,
}

/// In which namespaces a term looks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spaces {
    pub(super) names: BTreeSet<String>,
    /// Those with such labels, too.
    pub(super) marked: Option<Marks>,
}

/// Pods of the same namespace are spread over domains.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) marks: Marks,
    pub(super) label: String,
    pub(super) skew_max: u32,
    /// With fewer domains than this none of them may have more than `skew_max`.
    pub(super) domains_min: u32,
    /// Only nodes that the pod means count.
    pub(super) is_by_nodes: bool,
    text: String,
}

/// A port of a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HostPort {
    protocol: String,
    /// `None`: of all addresses.
    address: Option<String>,
    port: i32,
}

impl HostPort {
    pub(super) fn meets(&self, other: &HostPort) -> bool {
        let is_same = self.protocol == other.protocol && self.port == other.port;
        let both = self.address.as_ref().zip(other.address.as_ref());
        is_same && both.is_none_or(|(own, theirs)| own == theirs)
    }
}

impl Rules {
    /// The rules of a pod; the field and what to do where one is not supported.
    pub(crate) fn new(pod: &Pod) -> Result<Rules, String> {
        let Some(spec) = &pod.spec else {
            return Ok(Rules::default());
        };
        let nothing = Labels::new();
        let labels = pod.metadata.labels.as_ref().unwrap_or(&nothing);
        let space = pod.metadata.namespace.as_deref().unwrap_or_default();
        let affinity = spec.affinity.clone().unwrap_or_default();
        let nodes = affinity
            .node_affinity
            .and_then(|node| node.required_during_scheduling_ignored_during_execution);
        let with = affinity
            .pod_affinity
            .and_then(|with| with.required_during_scheduling_ignored_during_execution);
        let against = affinity
            .pod_anti_affinity
            .and_then(|against| against.required_during_scheduling_ignored_during_execution);
        let terms = |terms: &Option<Vec<PodAffinityTerm>>| -> Vec<Term> {
            let terms = terms.iter().flatten();
            terms.map(|term| Term::new(term, space, labels)).collect()
        };
        let (with, against) = (terms(&with), terms(&against));
        let mut spread = Vec::new();
        for constraint in spec.topology_spread_constraints.iter().flatten() {
            if constraint.when_unsatisfiable == "DoNotSchedule" {
                spread.push(Spread::new(constraint, space, labels)?);
            }
        }
        let ports = ports(spec);
        let nodes = nodes.filter(|nodes| plain(spec, nodes).is_none());
        let said = json!(nodes);
        let mut rules = Rules {
            nodes: nodes.as_ref().map(Terms::of_selector),
            selector: selector(spec),
            ports,
            with,
            against,
            spread,
            text: String::new(),
        };
        if !rules.is_empty() {
            let mut kept = labels.clone();
            kept.retain(|key, _| !OF_ONE_POD.contains(&key.as_str()));
            let of_terms = |terms: &[Term]| -> Vec<String> {
                terms.iter().map(|term| term.text.clone()).collect()
            };
            let spread: Vec<&String> = rules.spread.iter().map(|spread| &spread.text).collect();
            let text = json!([
                space,
                kept,
                said,
                rules.selector,
                format!("{:?}", rules.ports),
                of_terms(&rules.with),
                of_terms(&rules.against),
                spread,
            ]);
            rules.text = text.to_string();
        }
        Ok(rules)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_none()
            && self.ports.is_empty()
            && self.with.is_empty()
            && self.against.is_empty()
            && self.spread.is_empty()
    }

    /// Tells these rules, of such a pod, from others.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The fields that it has.
    pub(super) fn fields(&self) -> Vec<&'static str> {
        let all = [
            (self.nodes.is_some(), "nodeAffinity"),
            (!self.ports.is_empty(), "hostPort"),
            (!self.with.is_empty(), "podAffinity"),
            (!self.against.is_empty(), "podAntiAffinity"),
            (!self.spread.is_empty(), "topologySpread"),
        ];
        let own = all.into_iter().filter(|(is_there, _)| *is_there);
        own.map(|(_, field)| field).collect()
    }

    /// What the scheduler itself can keep among the pods that it places at once: rules that hold between pods that have them.
    pub(crate) fn among_themselves(&self, space: &str, labels: &Labels) -> Vec<engine::Relation> {
        let relation = |kind, key: &str, label: &str| engine::Relation {
            kind,
            key: format!("{RELATED}{}", super::hash(key)),
            label: label.to_owned(),
        };
        let mut relations = Vec::new();
        for (terms, kind) in [
            (&self.with, engine::RelationKind::Near),
            (&self.against, engine::RelationKind::Apart),
        ] {
            let own = terms
                .iter()
                .filter(|term| term.spaces.names.contains(space) && term.marks.are_on(labels));
            relations.extend(own.map(|term| relation(kind, &term.text, &term.label)));
        }
        let own = self
            .spread
            .iter()
            .filter(|spread| spread.marks.are_on(labels));
        relations.extend(own.map(|spread| {
            let kind = engine::RelationKind::Spread(spread.skew_max);
            relation(kind, &spread.text, &spread.label)
        }));
        let ports = self.ports.iter();
        relations.extend(ports.map(|port| {
            let address = port.address.as_deref().unwrap_or("*");
            let key = format!("{address}/{}/{}", port.protocol, port.port);
            relation(engine::RelationKind::Apart, &key, HOST)
        }));
        relations
    }
}

impl Term {
    fn new(term: &PodAffinityTerm, space: &str, labels: &Labels) -> Term {
        let mut names: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        let marked = term.namespace_selector.as_ref().map(Marks::of);
        if names.is_empty() && marked.is_none() {
            names.insert(space.to_owned());
        }
        let selector = merged(
            term.label_selector.as_ref(),
            term.match_label_keys.as_ref(),
            labels,
        );
        let keys = &term.mismatch_label_keys;
        Term {
            text: json!([
                names,
                term.namespace_selector,
                selector,
                keys,
                term.topology_key
            ])
            .to_string(),
            marks: marks(selector.as_ref()).without(keys.iter().flatten(), labels),
            spaces: Spaces { names, marked },
            label: term.topology_key.clone(),
        }
    }
}

impl Spread {
    fn new(
        constraint: &TopologySpreadConstraint,
        space: &str,
        labels: &Labels,
    ) -> Result<Spread, String> {
        let no = |field: &str, why: &str| {
            Err(format!(
                "`spec.topologySpreadConstraints.{field}` is not supported by this scheduler: {why}"
            ))
        };
        if constraint.node_taints_policy.as_deref() == Some("Honor") {
            return no("nodeTaintsPolicy", "leave it out, or say `Ignore`");
        }
        let keys = constraint.match_label_keys.as_ref();
        let selector = merged(constraint.label_selector.as_ref(), keys, labels);
        let number = |n: i32| u32::try_from(n).unwrap_or(0).max(1);
        Ok(Spread {
            text: json!([
                space,
                selector,
                constraint.topology_key,
                constraint.max_skew
            ])
            .to_string(),
            marks: marks(selector.as_ref()),
            label: constraint.topology_key.clone(),
            skew_max: number(constraint.max_skew),
            domains_min: number(constraint.min_domains.unwrap_or(1)),
            is_by_nodes: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
        })
    }
}

/// Node labels that must match: what `nodeSelector` says, and the plain form of required affinity.
pub(crate) fn selector(spec: &PodSpec) -> Labels {
    let own = spec.node_selector.clone().unwrap_or_default();
    let affinity = spec.affinity.as_ref();
    let required = affinity.and_then(|all| {
        let node = all.node_affinity.as_ref()?;
        node.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let plain = required.and_then(|required| plain(spec, required));
    own.into_iter().chain(plain.unwrap_or_default()).collect()
}

/// The labels that required node affinity asks for, where labels can say it and do not contradict `nodeSelector`.
fn plain(spec: &PodSpec, required: &NodeSelector) -> Option<Labels> {
    let labels = Terms::of_selector(required).plain()?;
    let own = spec.node_selector.as_ref();
    let contradicts = |key: &String, value| {
        own.and_then(|own| own.get(key))
            .is_some_and(|own| own != value)
    };
    let is_one = !labels.iter().any(|(key, value)| contradicts(key, value));
    is_one.then_some(labels)
}

/// A selector that is not there means no pod; an empty one means all.
fn marks(selector: Option<&LabelSelector>) -> Marks {
    selector.map_or_else(Marks::none, Marks::of)
}

/// A selector with the pod's own values of these keys.
fn merged(
    selector: Option<&LabelSelector>,
    keys: Option<&Vec<String>>,
    labels: &Labels,
) -> Option<LabelSelector> {
    let mut selector = selector?.clone();
    for key in keys.into_iter().flatten() {
        if let Some(value) = labels.get(key) {
            let own = selector.match_labels.get_or_insert_default();
            own.insert(key.clone(), value.clone());
        }
    }
    Some(selector)
}

fn ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|one| one.restart_policy.as_deref() == Some("Always"));
    let all = spec.containers.iter().chain(sidecars);
    let ports = all.flat_map(|container| container.ports.iter().flatten());
    let own = ports.filter_map(|port| {
        let number = port.host_port.filter(|port| *port != 0)?;
        let address = port.host_ip.clone();
        Some(HostPort {
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            address: address.filter(|ip| !["", "0.0.0.0", "::"].contains(&ip.as_str())),
            port: number,
        })
    });
    own.collect()
}
