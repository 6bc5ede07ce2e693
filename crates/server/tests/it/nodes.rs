//! Nodes that go silent, come back, and are drained, on the engine in memory.

use crate::server::{KEY, Server};
use base::{Bytes, MilliCpu, Resources};
use engine::fake::Fake;
use engine::{Engine, Phase, ReplicaKey};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const NODES: [&str; 2] = ["node-a", "node-b"];

fn two_nodes() -> Arc<Fake> {
    let room = Resources {
        cpu: MilliCpu(4_000),
        memory: Bytes(8 << 30),
        ..Resources::default()
    };
    let nodes = NODES.map(|name| Fake::node(name, room.clone()));
    Arc::new(Fake::new(nodes.to_vec(), None, None))
}

/// Waits until an object is as it should be.
pub(crate) async fn eventually(
    server: &Server,
    path: &str,
    holds: impl Fn(&Value) -> bool,
) -> Value {
    let mut last = Value::Null;
    for _ in 0..800 {
        last = server.call("GET", path, Value::Null).await.body;
        if holds(&last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{path} is not as expected: {last:#}");
}

/// The replicas that the engine holds and that are not over, with their nodes.
async fn live(fake: &Fake) -> Vec<(ReplicaKey, String)> {
    let seen = fake.observe(None, base::Span::ZERO).await.unwrap();
    seen.replicas
        .into_iter()
        .filter(|report| !matches!(report.phase, Phase::Ended(_)))
        .map(|report| (report.key, report.node))
        .collect()
}

async fn send_output(server: &Server, token: &str, seq: u64) -> u16 {
    let frame =
        json!({"stream": "stdout", "seq": seq, "time": "2026-01-01T00:00:00Z", "data": "aGk="});
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let body = json!({"frames": [frame]});
    server
        .call_with("POST", "/v1/ingest", body, &headers)
        .await
        .status
}

#[tokio::test]
async fn work_of_a_lost_node_starts_elsewhere_and_its_old_attempt_is_worth_nothing() {
    let fake = two_nodes();
    let server = Server::start_on(Arc::clone(&fake) as Arc<dyn Engine>).await;
    server
        .apply("apiVersion: moonshot/v1\nkind: Job\nmetadata: {name: long}\nspec: {command: [sleep], resources: {cpu: '3'}}\n")
        .await;
    let path = "/v1/projects/default/jobs/long";
    let runs = |attempt: u32| {
        move |job: &Value| {
            let replica = &job["status"]["replicas"][0];
            replica["phase"] == "Running" && replica["attempt"] == attempt
        }
    };
    let job = eventually(&server, path, runs(1)).await;
    let lost = job["status"]["replicas"][0]["node"]
        .as_str()
        .unwrap()
        .to_owned();
    let (old, _) = live(&fake).await.remove(0);
    let token = server::auth::attempt::token(&KEY, &old);
    assert_eq!(send_output(&server, &token, 1).await, 200);

    fake.change_node(&lost, |node| node.ready = false);
    let job = eventually(&server, path, runs(2)).await;
    assert_ne!(job["status"]["replicas"][0]["node"], json!(lost));
    assert_eq!(job["status"]["failures"], 0, "nobody's fault: {job:#}");
    assert_eq!(send_output(&server, &token, 2).await, 401);
    let still = live(&fake).await;
    assert_eq!(
        still.len(),
        2,
        "what is on the lost node cannot be reached: {still:?}"
    );
    let node = server
        .call("GET", &format!("/v1/nodes/{lost}"), Value::Null)
        .await
        .body;
    assert_eq!(node["status"]["ready"], json!(false), "{node:#}");
    // There is room for it, but nothing goes to a fenced node.
    server
        .apply("apiVersion: moonshot/v1\nkind: Job\nmetadata: {name: next}\nspec: {command: [sleep], resources: {cpu: '3'}}\n")
        .await;
    let why = "/v1/projects/default/jobs/next/why";
    eventually(&server, why, |why| {
        why["sentence"]
            .as_str()
            .is_some_and(|words| !words.is_empty())
    })
    .await;

    fake.change_node(&lost, |node| node.ready = true);
    let next = eventually(&server, "/v1/projects/default/jobs/next", runs(1)).await;
    assert_eq!(next["status"]["replicas"][0]["node"], json!(lost));
    for _ in 0..400 {
        if !live(&fake).await.iter().any(|(key, _)| *key == old) {
            assert_eq!(send_output(&server, &token, 3).await, 401);
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the old attempt still runs on the node that came back");
}

#[tokio::test]
async fn a_drain_moves_jobs_at_once_and_apps_as_a_rollout_does() {
    let fake = two_nodes();
    let server = Server::start_on(Arc::clone(&fake) as Arc<dyn Engine>).await;
    server
        .call("POST", "/v1/nodes/node-b/cordon", Value::Null)
        .await;
    server
        .apply(
            "apiVersion: moonshot/v1\nkind: App\nmetadata: {name: shop}\nspec:\n  replicas: 2\n  rollout: {maxSurge: 1, maxUnavailable: 0}\n  template: {command: [serve], resources: {cpu: '1'}, ports: [{}]}\n---\napiVersion: moonshot/v1\nkind: Job\nmetadata: {name: long}\nspec: {command: [sleep], resources: {cpu: '1'}, grace: 1s}\n",
        )
        .await;
    let shop = "/v1/projects/default/apps/shop";
    let app = eventually(&server, shop, |app| app["status"]["ready"] == 2).await;
    let nodes = |object: &Value, field: &str| -> BTreeSet<String> {
        let members = object["status"][field]
            .as_array()
            .cloned()
            .unwrap_or_default();
        members
            .iter()
            .map(|one| one["node"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        nodes(&app, "instances"),
        BTreeSet::from(["node-a".to_owned()])
    );
    server.wait_for("jobs", "long", "Running").await;

    server
        .call("POST", "/v1/nodes/node-b/uncordon", Value::Null)
        .await;
    let drained = server
        .call("POST", "/v1/nodes/node-a/drain", Value::Null)
        .await;
    assert_eq!(drained.status, 200, "{:#}", drained.body);
    let on_b = BTreeSet::from(["node-b".to_owned()]);
    let moved = eventually(&server, shop, |app| {
        assert!(app["status"]["ready"].as_u64() >= Some(2), "{app:#}");
        nodes(app, "instances") == on_b && app["status"]["ready"] == 2
    });
    moved.await;
    let job = eventually(&server, "/v1/projects/default/jobs/long", |job| {
        job["status"]["phase"] == "Running" && nodes(job, "replicas") == on_b
    });
    let job = job.await;
    assert_eq!(
        job["status"]["failures"], 0,
        "a drain is not charged: {job:#}"
    );
    let left = live(&fake).await;
    assert!(left.iter().all(|(_, node)| node == "node-b"), "{left:?}");

    // Cordoned, it takes nothing; uncordoned it does.
    server
        .call("POST", "/v1/nodes/node-b/cordon", Value::Null)
        .await;
    server
        .apply("apiVersion: moonshot/v1\nkind: Job\nmetadata: {name: next}\nspec: {command: [sleep]}\n")
        .await;
    eventually(&server, "/v1/projects/default/jobs/next/why", |why| {
        why.to_string().contains("unschedulable")
    })
    .await;
    server
        .call("POST", "/v1/nodes/node-a/uncordon", Value::Null)
        .await;
    let next = server.wait_for("jobs", "next", "Running").await;
    assert_eq!(
        nodes(&next, "replicas"),
        BTreeSet::from(["node-a".to_owned()])
    );
}
