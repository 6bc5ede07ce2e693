//! Where pods of others may be for the sake of nodes and of other pods, on nodes that exist on paper.

use super::PATIENCE;
use super::devices::{Lab, apply, is_told, server};
use e2e::{eventually, kubectl};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const HOST: &str = "kubernetes.io/hostname";

/// A Deployment whose pods may go to the lab's nodes only, which takes more than one value of a label.
fn deployment(lab: &Lab, title: &str, name: &str, replicas: usize, spec: &Value) -> Value {
    let nodes =
        json!([{"matchExpressions": [{"key": HOST, "operator": "In", "values": lab.nodes}]}]);
    let mut whole = json!({
        "schedulerName": "moonshot",
        "terminationGracePeriodSeconds": 0,
        "affinity": {},
        "containers": [{
            "name": "main", "image": "moonshot.test/busybox:1", "command": ["sleep", "100000"],
            "resources": {"requests": {"cpu": "10m"}},
        }],
    });
    for (field, value) in spec.as_object().expect("an object") {
        whole[field] = value.clone();
    }
    whole["affinity"]["nodeAffinity"] =
        json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": nodes}});
    let labels = json!({"lab": title, "app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": whole},
        },
    })
}

/// Pods by node, of those whose names begin so.
fn by_node(lab: &Lab, name: &str) -> BTreeMap<String, Vec<String>> {
    let mut by_node: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (pod, node) in lab.nodes_of_pods() {
        if pod.starts_with(name) {
            by_node.entry(node).or_default().push(pod);
        }
    }
    by_node
}

fn counts(lab: &Lab, name: &str) -> Vec<usize> {
    by_node(lab, name).values().map(Vec::len).collect()
}

fn unbound(lab: &Lab, name: &str) -> Vec<String> {
    let bound = lab.nodes_of_pods();
    let words = [
        "get",
        "pods",
        "-l",
        &format!("app={name}"),
        "-o",
        "jsonpath={.items[*].metadata.name}",
    ];
    let pods = kubectl(&words, "");
    let pods = pods
        .split_whitespace()
        .filter(|pod| !bound.contains_key(*pod));
    pods.map(str::to_owned).collect()
}

/// One of them has no node, and is told why.
#[track_caller]
fn one_waits(lab: &Lab, name: &str, why: &str) {
    let waiting = unbound(lab, name);
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    eventually("it is told why", PATIENCE, || is_told(&waiting[0], why));
}

fn delete(names: &[&str]) {
    kubectl(&[&["delete", "deployment"], names].concat(), "");
}

#[test]
fn pods_of_others_keep_apart_and_together() {
    let lab = Lab::new("beds", &[0, 0, 0]);
    let _installation = server();
    let alone = |app: &str| {
        let term = json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": HOST});
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
    };
    apply(&[deployment(
        &lab,
        "beds",
        "beds-alone",
        4,
        &alone("beds-alone"),
    )]);
    eventually("each node has one", PATIENCE, || {
        counts(&lab, "beds-alone") == [1, 1, 1]
    });
    one_waits(&lab, "beds-alone", "podAntiAffinity");

    // A place that is free again is taken by one of those that wait.
    let gone = by_node(&lab, "beds-alone").into_values().flatten().next();
    let gone = gone.expect("one has a node");
    kubectl(&["delete", "pod", &gone, "--force", "--grace-period=0"], "");
    eventually("each node has one again", PATIENCE, || {
        counts(&lab, "beds-alone") == [1, 1, 1] && !lab.nodes_of_pods().contains_key(&gone)
    });

    // Those that are there keep others away that want nothing themselves: none is left for these.
    delete(&["beds-alone"]);
    apply(&[deployment(
        &lab,
        "beds",
        "beds-guard",
        1,
        &alone("beds-guest"),
    )]);
    eventually("the guard has its node", PATIENCE, || {
        counts(&lab, "beds-guard") == [1]
    });
    apply(&[deployment(&lab, "beds", "beds-guest", 4, &json!({}))]);
    eventually("its guests have theirs", PATIENCE, || {
        unbound(&lab, "beds-guest").is_empty()
            && counts(&lab, "beds-guest").iter().sum::<usize>() == 4
    });
    let guard = by_node(&lab, "beds-guard").into_keys().next();
    let guests = by_node(&lab, "beds-guest");
    assert!(
        !guests.contains_key(&guard.clone().expect("it has one")),
        "{guard:?} {guests:?}"
    );

    // With the guard: on its node, all of them.
    let term =
        json!({"labelSelector": {"matchLabels": {"app": "beds-guard"}}, "topologyKey": HOST});
    let near = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
    apply(&[deployment(&lab, "beds", "beds-near", 3, &near)]);
    eventually("they are where the guard is", PATIENCE, || {
        counts(&lab, "beds-near") == [3]
    });
    assert_eq!(by_node(&lab, "beds-near").into_keys().next(), guard);
    delete(&["beds-guard", "beds-guest", "beds-near"]);
}

#[test]
fn pods_of_others_are_spread_and_have_ports_of_their_own() {
    let lab = Lab::new("even", &[0, 0, 0]);
    let _installation = server();
    let spread = json!({"topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": HOST, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "even-spread"}},
        "matchLabelKeys": ["pod-template-hash"],
    }]});
    apply(&[deployment(&lab, "even", "even-spread", 7, &spread)]);
    eventually("they are spread evenly", PATIENCE, || {
        let mut counts = counts(&lab, "even-spread");
        counts.sort();
        counts == [2, 2, 3]
    });
    let mut port = json!({"containers": [{
        "name": "main", "image": "moonshot.test/busybox:1", "command": ["sleep", "100000"],
        "ports": [{"containerPort": 8080, "hostPort": 8080}],
        "resources": {"requests": {"cpu": "10m"}},
    }]});
    apply(&[deployment(&lab, "even", "even-port", 4, &port)]);
    eventually("each node's port is taken", PATIENCE, || {
        counts(&lab, "even-port") == [1, 1, 1]
    });
    one_waits(&lab, "even-port", "hostPort");
    port["containers"][0]["ports"][0]["hostPort"] = json!(8081);
    apply(&[deployment(&lab, "even", "even-other", 1, &port)]);
    eventually("another port is free", PATIENCE, || {
        counts(&lab, "even-other") == [1]
    });
    delete(&["even-spread", "even-port", "even-other"]);
}
