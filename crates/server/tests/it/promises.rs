//! What the API promises of requests that are repeated, raced, watched, bounded and recorded.

use crate::server::Server;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn job(name: &str, command: &str) -> String {
    format!(
        "apiVersion: moonshot/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec: {{command: [{command}], resources: {{cpu: 1m, memory: 1Mi}}}}\n"
    )
}

#[tokio::test]
async fn every_post_is_done_once_for_a_key() {
    let server = Server::start().await;
    server.apply(&job("one", "exit, '0'")).await;
    server.wait_for("jobs", "one", "Succeeded").await;
    let rerun = "/v1/projects/default/jobs/one/rerun";
    let first = server
        .call_with("POST", rerun, Value::Null, &[("idempotency-key", "r")])
        .await;
    let again = server
        .call_with("POST", rerun, Value::Null, &[("idempotency-key", "r")])
        .await;
    assert_eq!((first.status, &first.body), (again.status, &again.body));
    let uid = |answer: &crate::server::Answer| answer.body["metadata"]["uid"].clone();
    assert_ne!(uid(&first), Value::Null, "{:#}", first.body);
    let other = server
        .call_with("POST", rerun, Value::Null, &[("idempotency-key", "s")])
        .await;
    assert_ne!(uid(&first), uid(&other), "`rerun` makes a new uid");

    // A token's text is given again, and is nowhere on disk.
    let request = json!({"name": "ci", "role": "viewer"});
    let key = [("idempotency-key", "t")];
    let made = server
        .call_with("POST", "/v1/tokens", request.clone(), &key)
        .await;
    let again = server.call_with("POST", "/v1/tokens", request, &key).await;
    assert_eq!((made.status, &made.body), (201, &again.body));
    let text = made.body["token"].as_str().unwrap();
    let disk = server.on_disk();
    assert!(
        !disk
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    );

    // What failed may be tried again; a key that is no key is refused by name.
    let key = [("idempotency-key", "u")];
    let failed = server
        .call_with("POST", "/v1/apply", json!("kind: Jbo"), &key)
        .await;
    assert_eq!(failed.status, 422);
    let good = server
        .call_with("POST", "/v1/apply", json!(job("two", "exit, '0'")), &key)
        .await;
    assert_eq!(good.status, 200, "{:#}", good.body);
    let long = "k".repeat(200);
    let refused = server
        .call_with(
            "POST",
            "/v1/apply",
            json!(job("three", "x")),
            &[("idempotency-key", &long)],
        )
        .await;
    assert_eq!(
        (refused.status, &refused.body["errors"][0]["field"]),
        (422, &json!("Idempotency-Key"))
    );
}

#[tokio::test]
async fn requests_under_one_key_at_once_are_done_once() {
    let server = Server::start().await;
    let made = json!({"apiVersion": "moonshot/v1", "kind": "Job", "metadata": {"generateName": "try-"}, "spec": {"command": ["exit", "0"]}});
    let key = [("idempotency-key", "k")];
    let path = "/v1/projects/default/jobs";
    let calls = (0..8).map(|_| server.call_with("POST", path, made.clone(), &key));
    let answers = futures_util::future::join_all(calls).await;
    for answer in &answers {
        assert!([201, 409].contains(&answer.status), "{:#}", answer.body);
    }
    let jobs = server.call("GET", path, Value::Null).await.body;
    assert_eq!(jobs["items"].as_array().unwrap().len(), 1, "{jobs:#}");
}

#[tokio::test]
async fn generated_names_differ() {
    let server = Server::start().await;
    let made = json!({"apiVersion": "moonshot/v1", "kind": "Job", "metadata": {"generateName": "try-"}, "spec": {"command": ["exit", "0"]}});
    let mut names = BTreeSet::new();
    for _ in 0..5 {
        let answer = server
            .call("POST", "/v1/projects/default/jobs", made.clone())
            .await;
        let name = answer.body["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("try-"), "{name}");
        names.insert(name);
    }
    assert_eq!(names.len(), 5);
}

#[tokio::test]
async fn running_work_names_every_field_that_may_not_change() {
    let server = Server::start().await;
    server.apply(&job("one", "stay")).await;
    server.wait_for("jobs", "one", "Running").await;
    let changed = "apiVersion: moonshot/v1\nkind: Job\nmetadata: {name: one}\nspec: {command: [other], workdir: sub, priority: 7, resources: {cpu: 1m, memory: 1Mi}}\n";
    let refused = server.call("POST", "/v1/apply", json!(changed)).await;
    assert_eq!(refused.status, 409, "{:#}", refused.body);
    let text = refused.body.to_string();
    for field in ["spec.command", "spec.workdir"] {
        assert!(text.contains(field), "{field}: {:#}", refused.body);
    }
    assert!(
        !text.contains("spec.priority"),
        "that may change: {:#}",
        refused.body
    );
    let priority = job("one", "stay").replace("spec: {", "spec: {priority: 7, ");
    assert_eq!(server.apply(&priority).await[0]["action"], "configured");
}

#[tokio::test]
async fn replicas_that_are_left_out_belong_to_scale() {
    let server = Server::start().await;
    let app = |replicas: &str| {
        format!(
            "apiVersion: moonshot/v1\nkind: App\nmetadata: {{name: web}}\nspec: {{{replicas}template: {{command: [serve], ports: [{{name: http}}], resources: {{cpu: 1m, memory: 1Mi}}}}}}\n"
        )
    };
    let ready = async |n: u64| {
        for _ in 0..400 {
            let app = server
                .call("GET", "/v1/projects/default/apps/web", Value::Null)
                .await
                .body;
            if app["status"]["ready"] == n && app["status"]["phase"] == "Ready" {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        panic!("there are not {n} replicas");
    };
    server.apply(&app("")).await;
    ready(1).await;
    let scaled = server
        .call(
            "PUT",
            "/v1/projects/default/apps/web/scale",
            json!({"replicas": 3}),
        )
        .await;
    assert_eq!(scaled.status, 200, "{:#}", scaled.body);
    ready(3).await;
    assert_eq!(server.apply(&app("")).await[0]["action"], "unchanged");
    ready(3).await;
    server.apply(&app("replicas: 2, ")).await;
    ready(2).await;
}

#[tokio::test]
async fn a_watch_goes_on_where_it_was_left() {
    let server = Server::start().await;
    let queue = |name: &str| json!({"apiVersion": "moonshot/v1", "kind": "Queue", "metadata": {"name": name}, "spec": {}});
    for name in ["a", "b", "c"] {
        let made = server
            .call("PUT", &format!("/v1/queues/{name}"), queue(name))
            .await;
        assert_eq!(made.status, 201);
    }
    let has = |events: &[(u64, Value)], name: &str| {
        events
            .iter()
            .find(|(_, event)| event["object"]["metadata"]["name"] == name)
            .map(|(id, _)| *id)
    };
    let all = server
        .events("/v1/queues?watch=true&resourceVersion=0", &[], |events| {
            has(events, "c").is_some()
        })
        .await;
    assert!(all.is_sorted_by(|a, b| a.0 < b.0), "{all:?}");
    let at = has(&all, "a").unwrap();
    assert!(at < has(&all, "b").unwrap());
    let id = at.to_string();
    let resumed = server
        .events(
            "/v1/watch?kinds=Queue",
            &[("last-event-id", id.as_str())],
            |events| has(events, "c").is_some(),
        )
        .await;
    assert!(resumed.iter().all(|(id, _)| *id > at), "{resumed:?}");
    assert_eq!(has(&resumed, "b"), has(&all, "b"), "nothing is left out");
    let beyond = server
        .call(
            "GET",
            "/v1/queues?watch=true&resourceVersion=999999",
            Value::Null,
        )
        .await;
    assert_eq!(
        (beyond.status, &beyond.body["code"]),
        (410, &json!("gone")),
        "a position that is not kept: list again"
    );
}

#[tokio::test]
async fn a_change_and_its_record_are_one() {
    let server = Server::start().await;
    let queue = |priority: u32| json!({"apiVersion": "moonshot/v1", "kind": "Queue", "metadata": {"name": "q"}, "spec": {"priority": priority}});
    let id = [("x-request-id", "ticket-17")];
    server.call_with("PUT", "/v1/queues/q", queue(1), &id).await;
    server.call("PUT", "/v1/queues/q", queue(1)).await;
    server.call("PUT", "/v1/queues/q", queue(2)).await;
    server.call("DELETE", "/v1/queues/q", Value::Null).await;
    let audit = async |kind: &str| {
        let path = format!(
            "/v1/audit?kind={kind}&name={}",
            if kind == "Queue" { "q" } else { "s" }
        );
        let answer = server.call("GET", &path, Value::Null).await.body;
        let mut items = answer["items"].as_array().unwrap().clone();
        items.reverse();
        items
    };
    let items = audit("Queue").await;
    assert_eq!(
        items.len(),
        3,
        "what changed nothing is not told: {items:#?}"
    );
    assert_eq!(items[0]["requestId"], "ticket-17");
    assert_eq!(items[0]["before"], Value::Null);
    assert_eq!(items[0]["after"], items[1]["before"]);
    assert_ne!(items[1]["before"], items[1]["after"]);
    assert_eq!(items[2]["before"], items[1]["after"]);
    assert!(
        items.iter().all(|item| item["actor"] == "admin"),
        "{items:#?}"
    );

    // Digests of Secrets are keyed: they tell equal from different, and nothing to who guesses.
    let secret = |value: &str| {
        format!(
            "apiVersion: moonshot/v1\nkind: Secret\nmetadata: {{name: s}}\nspec: {{data: {{password: {value}}}}}\n"
        )
    };
    for value in ["one", "two", "one"] {
        server.apply(&secret(value)).await;
    }
    let path = "/v1/projects/default/secrets/s";
    server.call("DELETE", path, Value::Null).await;
    let mut items = audit("Secret").await;
    let deleted = items.pop().unwrap();
    for pair in items.windows(2) {
        assert_eq!(pair[0]["after"], pair[1]["before"]);
    }
    assert_eq!(deleted["before"], items[2]["after"]);
    let after: Vec<&str> = items
        .iter()
        .map(|item| item["after"].as_str().unwrap())
        .collect();
    assert_eq!(after.len(), 3);
    assert!(after[0] == after[2] && after[0] != after[1], "{after:?}");
    let plain = server::usecase::digest(&json!({"data": {"password": "one"}}));
    assert!(!after.contains(&plain.as_str()));
}

#[tokio::test]
async fn tokens_are_named_bounded_and_recorded() {
    let server = Server::start().await;
    let make = async |request: Value| server.call("POST", "/v1/tokens", request).await.body;
    let status = async |token: &Value, method: &str, path: &str, body: Value| {
        let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
        let headers = [("authorization", bearer.as_str())];
        server.call_with(method, path, body, &headers).await.status
    };
    let brief = make(json!({"name": "brief", "role": "viewer", "expiresIn": "1ms"})).await;
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    assert_eq!(status(&brief, "GET", "/v1/jobs", Value::Null).await, 401);
    let project = json!({"apiVersion": "moonshot/v1", "kind": "Project", "metadata": {"name": "risk"}, "spec": {}});
    assert_eq!(
        server
            .call("PUT", "/v1/projects/risk", project)
            .await
            .status,
        201
    );
    let only = make(json!({"name": "only", "role": "editor", "project": "risk"})).await;
    let made = json!({"apiVersion": "moonshot/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"command": ["exit", "0"]}});
    let put = |project: &str| format!("/v1/projects/{project}/jobs/j");
    assert_eq!(status(&only, "PUT", &put("risk"), made.clone()).await, 201);
    assert_eq!(status(&only, "PUT", &put("default"), made).await, 403);
    let id = only["id"].as_str().unwrap();
    let revoked = server
        .call("DELETE", &format!("/v1/tokens/{id}"), Value::Null)
        .await;
    assert_eq!(revoked.status, 204);
    let audit = server
        .call("GET", "/v1/audit?kind=Token&name=only", Value::Null)
        .await
        .body;
    let verbs: Vec<&str> = audit["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|item| item["verb"].as_str())
        .collect();
    assert_eq!(verbs, ["revoke", "create"], "{audit:#}");
    let text = only["token"].as_str().unwrap();
    let disk = server.on_disk();
    assert!(
        !disk
            .windows(text.len())
            .any(|window| window == text.as_bytes()),
        "only its hash is kept"
    );
}

#[tokio::test]
async fn what_is_too_large_is_refused_in_words() {
    let server = Server::start().await;
    let long = "n".repeat(300);
    let answer = server
        .call("POST", "/v1/apply", json!(job(&long, "x")))
        .await;
    assert_eq!(
        (answer.status, &answer.body["errors"][0]["field"]),
        (422, &json!("metadata.name")),
        "{:#}",
        answer.body
    );
    let huge = format!("{}# {}", job("one", "x"), "x".repeat(10 << 20));
    let answer = server.call("POST", "/v1/apply", json!(huge)).await;
    assert_eq!(answer.status, 422, "{:#}", answer.body);
    assert!(
        answer.body["detail"]
            .as_str()
            .unwrap()
            .contains("at most 4 MiB"),
        "{:#}",
        answer.body
    );
    let labels: serde_json::Map<String, Value> = (0..100_000)
        .map(|n| (format!("label-{n}"), json!("x")))
        .collect();
    let made = json!({"apiVersion": "moonshot/v1", "kind": "Job", "metadata": {"name": "l", "labels": labels}, "spec": {"command": ["x"]}});
    let answer = server
        .call("PUT", "/v1/projects/default/jobs/l", made)
        .await;
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.body["errors"].as_array().unwrap().len(),
        1,
        "one clear error"
    );
    assert!(
        answer.body["requestId"]
            .as_str()
            .is_some_and(|id| !id.is_empty())
    );
}
