//! Each sentence of the API's contract.

use crate::server::Server;
use serde_json::{Value, json};

const JOB: &str =
    "apiVersion: moonshot/v1\nkind: Job\nmetadata: {name: one}\nspec: {command: [exit, '0']}\n";

#[tokio::test]
async fn the_same_spec_is_a_no_op_and_another_is_refused_when_it_is_over() {
    let server = Server::start().await;
    assert_eq!(server.apply(JOB).await[0]["action"], "created");
    let first = server.wait_for("jobs", "one", "Succeeded").await;
    assert_eq!(server.apply(JOB).await[0]["action"], "unchanged");
    let other = JOB.replace("'0'", "'1'");
    let refused = server.call("POST", "/v1/apply", json!(other)).await;
    assert_eq!(refused.status, 409, "{:#}", refused.body);
    assert!(refused.body["detail"].as_str().unwrap().contains("replace"));
    let replaced = server
        .call("POST", "/v1/apply?replace=true", json!(other))
        .await;
    assert_eq!(
        replaced.body["results"][0]["action"], "replaced",
        "{:#}",
        replaced.body
    );
    let second = server.wait_for("jobs", "one", "Failed").await;
    assert_ne!(first["metadata"]["uid"], second["metadata"]["uid"]);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let server = Server::start().await;
    let answer = server
        .call("POST", "/v1/apply?dryRun=true", json!(JOB))
        .await;
    assert_eq!(
        answer.body["results"][0]["action"], "created",
        "{:#}",
        answer.body
    );
    assert!(
        !answer.body["results"][0]["plan"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        server
            .call("GET", "/v1/projects/default/jobs/one", Value::Null)
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn every_invalid_field_is_named() {
    let server = Server::start().await;
    let yaml = "apiVersion: moonshot/v1\nkind: Job\nmetadata: {name: Bad_Name}\nspec:\n  comand: [x]\n  priority: 99999\n  timeLimit: soon\n";
    let answer = server.call("POST", "/v1/apply", json!(yaml)).await;
    assert_eq!(answer.status, 422, "{:#}", answer.body);
    let fields: Vec<&str> = answer.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|error| error["field"].as_str())
        .collect();
    for field in ["metadata.name", "spec.comand", "spec.timeLimit"] {
        assert!(fields.contains(&field), "{field} is not in {fields:?}");
    }
    assert_eq!(
        server.call("GET", "/v1/jobs", Value::Null).await.body["items"],
        json!([])
    );
}

#[tokio::test]
async fn generations_guard_changes() {
    let server = Server::start().await;
    let queue = |weight: u32| json!({"apiVersion": "moonshot/v1", "kind": "Queue", "metadata": {"name": "risk"}, "spec": {"priority": weight}});
    assert_eq!(
        server.call("PUT", "/v1/queues/risk", queue(1)).await.status,
        201
    );
    assert_eq!(
        server
            .call_with("PUT", "/v1/queues/risk", queue(2), &[("if-match", "\"7\"")])
            .await
            .status,
        409
    );
    let changed = server
        .call_with("PUT", "/v1/queues/risk", queue(2), &[("if-match", "\"1\"")])
        .await;
    assert_eq!(
        changed.body["metadata"]["generation"], 2,
        "{:#}",
        changed.body
    );
    let patched = server
        .call("PATCH", "/v1/queues/risk", json!({"spec": {"priority": 3}}))
        .await;
    assert_eq!(
        (patched.status, &patched.body["spec"]["priority"]),
        (200, &json!(3)),
        "{:#}",
        patched.body
    );
    assert_eq!(
        server.call("POST", "/v1/queues", queue(3)).await.status,
        409,
        "the name is taken"
    );
}

#[tokio::test]
async fn a_key_makes_a_request_once() {
    let server = Server::start().await;
    let job = json!({"apiVersion": "moonshot/v1", "kind": "Job", "metadata": {"generateName": "try-"}, "spec": {"command": ["exit", "0"]}});
    let key = [("idempotency-key", "k1")];
    let first = server
        .call_with("POST", "/v1/projects/default/jobs", job.clone(), &key)
        .await;
    assert_eq!(first.status, 201, "{:#}", first.body);
    let again = server
        .call_with("POST", "/v1/projects/default/jobs", job, &key)
        .await;
    assert_eq!(first.body["metadata"]["uid"], again.body["metadata"]["uid"]);
    let other = json!({"apiVersion": "moonshot/v1", "kind": "Job", "metadata": {"generateName": "x-"}, "spec": {"command": ["exit", "0"]}});
    assert_eq!(
        server
            .call_with("POST", "/v1/projects/default/jobs", other, &key)
            .await
            .status,
        409
    );
}

#[tokio::test]
async fn lists_are_paged_and_filtered() {
    let server = Server::start().await;
    for n in 0..7 {
        let team = if n % 2 == 0 { "a" } else { "b" };
        let yaml = format!(
            "apiVersion: moonshot/v1\nkind: Job\nmetadata: {{name: j{n}, labels: {{team: {team}}}}}\nspec: {{command: [stay], resources: {{cpu: 1m, memory: 1Mi}}}}\n"
        );
        server.apply(&yaml).await;
    }
    let page = server
        .call("GET", "/v1/projects/default/jobs?limit=3", Value::Null)
        .await
        .body;
    assert_eq!(
        (page["items"].as_array().unwrap().len(), &page["hasMore"]),
        (3, &json!(true)),
        "{page:#}"
    );
    let mut seen = 3;
    let mut next = page["continue"].as_str().map(str::to_owned);
    while let Some(at) = next {
        let page = server
            .call(
                "GET",
                &format!("/v1/jobs?limit=3&continue={at}"),
                Value::Null,
            )
            .await
            .body;
        seen += page["items"].as_array().unwrap().len();
        next = page["continue"].as_str().map(str::to_owned);
    }
    assert_eq!(seen, 7);
    let team = server
        .call("GET", "/v1/jobs?labelSelector=team%3Da", Value::Null)
        .await
        .body;
    assert_eq!(team["items"].as_array().unwrap().len(), 4);
    assert_eq!(
        server
            .call("GET", "/v1/jobs?limit=0", Value::Null)
            .await
            .status,
        422
    );
}

#[tokio::test]
async fn secrets_are_never_shown() {
    let server = Server::start().await;
    let yaml = "apiVersion: moonshot/v1\nkind: Secret\nmetadata: {name: key}\nspec: {data: {password: hunter2}}\n";
    server.apply(yaml).await;
    let shown = server
        .call("GET", "/v1/projects/default/secrets/key", Value::Null)
        .await
        .body;
    assert_eq!(
        (&shown["status"]["version"], &shown["status"]["keys"]),
        (&json!(1), &json!(["password"])),
        "{shown:#}"
    );
    assert!(!shown.to_string().contains("hunter2"));
    assert_eq!(server.apply(yaml).await[0]["action"], "unchanged");
    assert_eq!(
        server.apply(&yaml.replace("hunter2", "other")).await[0]["action"],
        "configured"
    );
    let audit = server
        .call("GET", "/v1/audit?kind=Secret", Value::Null)
        .await
        .body;
    assert_eq!(audit["items"].as_array().unwrap().len(), 2, "{audit:#}");
    assert!(!audit.to_string().contains("hunter2"));
}

#[tokio::test]
async fn tokens_allow_what_they_say() {
    let server = Server::start().await;
    assert_eq!(
        server
            .call_with(
                "GET",
                "/v1/jobs",
                Value::Null,
                &[("authorization", "Bearer no")]
            )
            .await
            .status,
        401
    );
    let made = server
        .call(
            "POST",
            "/v1/tokens",
            json!({"name": "look", "role": "viewer"}),
        )
        .await;
    assert_eq!(made.status, 201, "{:#}", made.body);
    let bearer = format!("Bearer {}", made.body["token"].as_str().unwrap());
    let viewer = [("authorization", bearer.as_str())];
    assert_eq!(
        server
            .call_with("GET", "/v1/jobs", Value::Null, &viewer)
            .await
            .status,
        200
    );
    assert_eq!(
        server
            .call_with("POST", "/v1/apply", json!(JOB), &viewer)
            .await
            .status,
        403
    );
    assert_eq!(
        server
            .call_with("POST", "/v1/tokens", json!({"name": "x"}), &viewer)
            .await
            .status,
        403
    );
}

#[tokio::test]
async fn foreign_pages_may_not_act() {
    let server = Server::start().await;
    let evil = [("origin", "http://evil.example.org")];
    assert_eq!(
        server
            .call_with("POST", "/v1/apply", json!(JOB), &evil)
            .await
            .status,
        403
    );
    let own = [("origin", "http://localhost")];
    assert_eq!(
        server
            .call_with("POST", "/v1/apply", json!(JOB), &own)
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn references_that_do_not_exist_name_the_nearest() {
    let server = Server::start().await;
    server.apply("apiVersion: moonshot/v1\nkind: Environment\nmetadata: {name: flights}\nspec: {image: python}\n").await;
    let yaml = "apiVersion: moonshot/v1\nkind: Job\nmetadata: {name: one}\nspec: {command: [x], environment: flihgts}\n";
    let answer = server.call("POST", "/v1/apply", json!(yaml)).await;
    assert_eq!(answer.status, 422, "{:#}", answer.body);
    assert!(
        answer.body["detail"]
            .as_str()
            .unwrap()
            .contains("did you mean `flights`?"),
        "{:#}",
        answer.body
    );
}
