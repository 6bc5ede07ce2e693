//! What keeps a Project apart on a cluster: its namespace's profile of Pod Security, and a NetworkPolicy. Pure.
//!
//! What is asked for by default holds for what the platform made itself: a namespace of somebody else's, and their pods in it, stay
//! as they are until the Project's spec says something about them.

use crate::config::{Access, Config};
use crate::registries::needs_secret;
use crate::{manifest, names};
use base::Net;
use engine::{Network, Peer, PeerEnd, PodSecurity, Project};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// Whose a Project's namespace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The platform made it.
    Ours,
    /// It was there before.
    Adopted,
}

/// Labels of a Project's namespace.
pub(crate) fn labels(project: &Project, standing: Standing) -> Map<String, Value> {
    let mut labels = Map::new();
    let mut put = |name: &str, value: &str| labels.insert(name.to_owned(), json!(value));
    put(names::PROJECT, &project.name);
    put(names::TENANT, &project.tenant);
    let profile = match standing {
        Standing::Ours => {
            // Whoever removes the platform deletes namespaces with this label.
            put(names::MANAGED.0, names::MANAGED.1);
            Some(project.pod_security.unwrap_or(PodSecurity::Restricted))
        }
        Standing::Adopted => project.pod_security,
    };
    if let Some(profile) = profile {
        put(names::POD_SECURITY, profile.as_str());
    }
    labels
}

/// A Project's namespace, as far as it is ours to write.
pub(crate) fn namespace(project: &Project, standing: Standing) -> Value {
    let mut space = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": project.name, "labels": labels(project, standing)},
    });
    let mut annotations = Map::new();
    if standing == Standing::Adopted {
        annotations.insert(names::ADOPTED.to_owned(), json!("true"));
    }
    if needs_secret(&project.registries) {
        annotations.insert(names::PULLS.to_owned(), json!(names::PULL_SECRET));
    }
    if !annotations.is_empty() {
        space["metadata"]["annotations"] = json!(annotations);
    }
    space
}

/// Who reaches the pods of a Project, and what they reach.
pub(crate) fn policy(config: &Config, project: &Project, standing: Standing) -> Value {
    let is_for_all = standing == Standing::Ours || project.network.is_some();
    let pods = if is_for_all {
        json!({})
    } else {
        json!({"matchLabels": {names::MANAGED.0: names::MANAGED.1}})
    };
    let open = Network::default();
    let network = project.network.as_ref().unwrap_or(&open);
    let mut spec = json!({
        "podSelector": pods,
        "policyTypes": ["Ingress"],
        "ingress": ingress(config, &network.ingress),
    });
    if let Some(peers) = &network.egress {
        spec["policyTypes"] = json!(["Ingress", "Egress"]);
        spec["egress"] = json!(egress(config, peers));
    }
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": names::POLICY,
            "namespace": project.name,
            "labels": {names::MANAGED.0: names::MANAGED.1},
        },
        "spec": spec,
    })
}

fn ingress(config: &Config, peers: &[Peer]) -> Vec<Value> {
    let mut always = vec![same_project(), in_namespace(&config.namespace)];
    always.extend(config.clients.iter().map(block));
    let mut rules = vec![json!({"from": always})];
    rules.extend(peers.iter().map(|peer| rule("from", peer)));
    rules
}

fn egress(config: &Config, peers: &[Peer]) -> Vec<Value> {
    let mut rules = vec![
        json!({"to": [same_project()]}),
        // Where name servers are differs: pods, processes of the node, a cache beside the kubelet.
        json!({"ports": [port("UDP", 53), port("TCP", 53)]}),
        json!({
            "to": [in_namespace(&config.namespace)],
            "ports": [port("TCP", config.listen.port())],
        }),
    ];
    rules.extend(server_outside(config));
    rules.extend(peers.iter().map(|peer| rule("to", peer)));
    rules
}

/// A server that is no pod in the platform's namespace, by the address that pods are told.
fn server_outside(config: &Config) -> Option<Value> {
    let url: hyper::Uri = manifest::endpoint(config).parse().ok()?;
    let ports = json!([port("TCP", url.port_u16().unwrap_or(80))]);
    let host = url.host()?.trim_matches(['[', ']']);
    match host.parse::<IpAddr>() {
        Ok(address) => Some(json!({"to": [block(&Net::one(address))], "ports": ports})),
        // A Service, behind which the platform's pods are.
        Err(_) if config.access == Access::InCluster => None,
        // Policies know no names.
        Err(_) => Some(json!({"ports": ports})),
    }
}

fn rule(direction: &str, peer: &Peer) -> Value {
    let end = match &peer.end {
        PeerEnd::Project(project) => in_namespace(project),
        PeerEnd::Net(net) => block(net),
    };
    let mut rule = json!({direction: [end]});
    if !peer.ports.is_empty() {
        let ports = peer.ports.iter().map(|number| port("TCP", *number));
        rule["ports"] = ports.collect();
    }
    rule
}

fn same_project() -> Value {
    json!({"podSelector": {}})
}

fn in_namespace(name: &str) -> Value {
    json!({"namespaceSelector": {"matchLabels": {names::NAMESPACE: name}}})
}

fn block(net: &Net) -> Value {
    json!({"ipBlock": {"cidr": net.to_string()}})
}

fn port(protocol: &str, number: u16) -> Value {
    json!({"protocol": protocol, "port": number})
}

#[cfg(test)]
mod tests;
