//! The chart's own NetworkPolicy, before a stand-in for the server. As in [`crate::isolation`], it is the tests' own enforcer that heeds it.

use crate::bench::Cluster;
use crate::isolation::{connects, group, running, say, until};
use base::Span;
use e2e::kubectl;
use engine::Life;
use engine::suite::{Program, Stage};
use serde_json::{Value, json};
use std::net::IpAddr;

/// A port of the stand-in that the policy does not name.
const OTHER: u16 = 9999;

/// The chart's NetworkPolicy, in another namespace.
fn policy(namespace: &str) -> Value {
    let plain = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/moonshot.yaml");
    let list = kubectl(
        &["apply", "--dry-run=client", "-o", "json", "-f", plain],
        "",
    );
    let list: Value = serde_json::from_str(&list).expect("JSON");
    let objects = list["items"].as_array().expect("a list");
    let policy = objects
        .iter()
        .find(|object| object["kind"] == "NetworkPolicy");
    let mut policy = policy.expect("the chart has a policy").clone();
    policy["metadata"] = json!({"name": "server", "namespace": namespace});
    policy
}

/// A pod that listens, and its address.
async fn pod(namespace: &str, labels: Value, ports: Value, script: &str) -> IpAddr {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "stand-in", "namespace": namespace, "labels": labels},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
            "name": "main", "image": "moonshot.test/busybox:1",
            "command": ["sh", "-c", script], "ports": ports,
        }]},
    });
    // Accounts of a new namespace come a moment later.
    until("the namespace has its account", async || {
        let accounts = kubectl(
            &["get", "serviceaccounts", "-n", namespace, "-o", "name"],
            "",
        );
        accounts.contains("default")
    })
    .await;
    kubectl(&["apply", "-f", "-"], &pod.to_string());
    let address = || {
        let path = "jsonpath={.status.podIP}";
        kubectl(&["get", "pod", "stand-in", "-n", namespace, "-o", path], "")
    };
    until("the pod has an address", async || !address().is_empty()).await;
    address().parse().expect("an address")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_charts_policy_lets_projects_reach_the_server_as_the_tests_own_enforcer_does_it() {
    let cluster = Cluster::fresh().await;
    let stage = Stage::new(&cluster).await;
    let (namespace, port) = cluster.place();
    kubectl(&["apply", "-f", "-"], &policy(&namespace).to_string());
    let labels =
        json!({"app.kubernetes.io/name": "moonshot", "app.kubernetes.io/instance": "moonshot"});
    let ports =
        json!([{"name": "pods", "containerPort": port}, {"name": "other", "containerPort": OTHER}]);
    let listen = format!("httpd -p {OTHER} -h /www; exec httpd -f -p {port} -h /www");
    let server = pod(&namespace, labels, ports, &listen).await;

    // Nothing but what is always let out.
    say(&cluster, "east", &[], Some(&[])).await;
    let caller = group(&stage, "east", Life::Batch, &Program::Sleep);
    stage.ensure(&caller).await;
    let (caller, _) = running(&cluster, &stage, &caller).await;
    connects(
        &cluster,
        &caller,
        (server, port),
        true,
        "a Project reaches its server",
    )
    .await;
    connects(
        &cluster,
        &caller,
        (server, OTHER),
        false,
        "at the port for pods alone",
    )
    .await;

    let elsewhere = format!("{namespace}-elsewhere");
    let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": elsewhere}});
    kubectl(&["apply", "-f", "-"], &space.to_string());
    pod(&elsewhere, json!({}), json!([]), "exec sleep 100000").await;
    let tries = async |port: u16| {
        let script =
            format!("timeout 2 nc -w 1 {server} {port} < /dev/null && echo in || echo out");
        let words = [
            "exec", "stand-in", "-n", &elsewhere, "--", "sh", "-c", &script,
        ];
        kubectl(&words, "")
    };
    let runs = || {
        let path = "jsonpath={.status.phase}";
        kubectl(
            &["get", "pod", "stand-in", "-n", &elsewhere, "-o", path],
            "",
        )
    };
    until("the other pod runs", async || runs() == "Running").await;
    until("who is no Project stays outside", async || {
        tries(port).await.trim() == "out"
    })
    .await;

    stage.remove(&caller, Span::ZERO).await;
    stage.end(&caller).await;
    stage.remove(&caller, Span::ZERO).await;
    for namespace in [&namespace, &elsewhere] {
        kubectl(&["delete", "namespace", "--wait=false", namespace], "");
    }
}
