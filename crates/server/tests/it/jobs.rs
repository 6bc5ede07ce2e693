//! Jobs and Apps through the whole control plane.

use crate::server::Server;
use serde_json::{Value, json};

fn job(name: &str, spec: &str) -> String {
    format!("apiVersion: moonshot/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

#[tokio::test]
async fn a_gang_runs_and_succeeds() {
    let server = Server::start().await;
    let groups = "{groups: [{name: worker, replicas: 2, command: [exit, '0']}, {name: ps, command: [exit, '0']}]}";
    server.apply(&job("gang", groups)).await;
    let job = server.wait_for("jobs", "gang", "Succeeded").await;
    assert_eq!(
        job["status"]["replicas"].as_array().unwrap().len(),
        3,
        "{job:#}"
    );
    assert_eq!(server.engine.starts(), [1, 1, 1]);
    let events = server
        .call("GET", "/v1/projects/default/jobs/gang/events", Value::Null)
        .await;
    let reasons: Vec<&str> = events.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|event| event["spec"]["reason"].as_str())
        .collect();
    assert!(
        reasons.contains(&"Admitted") && reasons.contains(&"Succeeded"),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn a_failure_is_retried_as_often_as_said() {
    let server = Server::start().await;
    server
        .apply(&job(
            "flaky",
            "{command: [exit, '3'], retry: {limit: 2, backoff: 10ms}}",
        ))
        .await;
    let job = server.wait_for("jobs", "flaky", "Failed").await;
    assert_eq!(
        (&job["status"]["attempts"], &job["status"]["failures"]),
        (&json!(3), &json!(3)),
        "{job:#}"
    );
    assert_eq!(
        server.engine.starts(),
        [1, 1, 1],
        "each attempt is started once"
    );
    let path = "/v1/projects/default/jobs/flaky/attempts";
    let attempts = server.call("GET", path, Value::Null).await.body;
    let attempts = attempts["items"].as_array().unwrap();
    let numbers: Vec<&Value> = attempts.iter().map(|each| &each["attempt"]).collect();
    assert_eq!(numbers, [1, 2, 3]);
    for attempt in attempts {
        assert_eq!(attempt["phase"], "Failed", "{attempt:#}");
        assert_eq!(attempt["charged"], true, "{attempt:#}");
        assert_eq!(attempt["replicas"][0]["exitCode"], 3, "{attempt:#}");
    }
}

#[tokio::test]
async fn a_node_that_was_taken_back_lets_the_next_server_lead() {
    let server = Server::start().await;
    let ends = |name| job(name, "{command: [exit, '0']}");
    server.apply(&ends("first")).await;
    server.wait_for("jobs", "first", "Succeeded").await;
    for verb in ["cordon", "uncordon"] {
        let path = format!("/v1/nodes/node-1/{verb}");
        let answer = server.call("POST", &path, Value::Null).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let node = server.call("GET", "/v1/nodes/node-1", Value::Null).await;
    assert_eq!(node.body["spec"], json!({"unschedulable": false}));
    let server = server.restart().await;
    server.apply(&ends("second")).await;
    server.wait_for("jobs", "second", "Succeeded").await;
}

#[tokio::test]
async fn what_can_never_fit_says_so() {
    let server = Server::start().await;
    server
        .apply(&job(
            "huge",
            "{command: [exit, '0'], resources: {cpu: '400'}}",
        ))
        .await;
    server.wait_for("jobs", "huge", "Queued").await;
    let mut why = Value::Null;
    for _ in 0..100 {
        why = server
            .call("GET", "/v1/projects/default/jobs/huge/why", Value::Null)
            .await
            .body;
        if why["reason"] == "NeverFits" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    assert!(
        why["sentence"]
            .as_str()
            .unwrap()
            .contains("can never start"),
        "{why:#}"
    );
}

#[tokio::test]
async fn cancel_stops_what_runs_and_suspend_gives_it_back() {
    let server = Server::start().await;
    server.apply(&job("long", "{command: [stay]}")).await;
    server.wait_for("jobs", "long", "Running").await;
    server
        .call(
            "POST",
            "/v1/projects/default/jobs/long/suspend",
            Value::Null,
        )
        .await;
    server.wait_for("jobs", "long", "Suspended").await;
    assert_eq!(server.engine.running(), 0);
    server
        .call("POST", "/v1/projects/default/jobs/long/resume", Value::Null)
        .await;
    server.wait_for("jobs", "long", "Running").await;
    server
        .call("POST", "/v1/projects/default/jobs/long/cancel", Value::Null)
        .await;
    server.wait_for("jobs", "long", "Cancelled").await;
    assert_eq!(server.engine.running(), 0);
}

#[tokio::test]
async fn a_restarted_server_finds_everything_and_starts_nothing_twice() {
    let mut server = Server::start().await;
    server
        .apply(&job(
            "long",
            "{command: [stay], groups: [{name: worker, replicas: 2}]}",
        ))
        .await;
    server.wait_for("jobs", "long", "Running").await;
    for _ in 0..2 {
        server = server.restart().await;
        server.wait_for("jobs", "long", "Running").await;
    }
    server.apply(&job("next", "{command: [exit, '0']}")).await;
    server.wait_for("jobs", "next", "Succeeded").await;
    assert_eq!(server.engine.starts(), [1, 1, 1]);
    server
        .call("DELETE", "/v1/projects/default/jobs/long", Value::Null)
        .await;
    for _ in 0..200 {
        if server
            .call("GET", "/v1/projects/default/jobs/long", Value::Null)
            .await
            .status
            == 404
        {
            assert_eq!(server.engine.running(), 0);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("the deleted Job is still there");
}

#[tokio::test]
async fn an_array_runs_each_index_once() {
    let server = Server::start().await;
    server
        .apply(&job(
            "array",
            "{command: [exit, '0'], array: {count: 30, parallelism: 8}}",
        ))
        .await;
    let job = server.wait_for("jobs", "array", "Succeeded").await;
    assert_eq!(job["status"]["units"]["succeeded"], 30, "{job:#}");
    assert_eq!(server.engine.starts(), vec![1; 30]);
}

#[tokio::test]
async fn an_app_rolls_to_a_new_revision_and_back() {
    let server = Server::start().await;
    let app = |word: &str| {
        format!(
            "apiVersion: moonshot/v1\nkind: App\nmetadata: {{name: web}}\nspec: {{replicas: 2, rollout: {{drain: 10ms}}, template: {{command: [{word}], ports: [{{name: http}}]}}}}\n"
        )
    };
    server.apply(&app("one")).await;
    let first = server.wait_for("apps", "web", "Ready").await;
    assert_eq!(
        (&first["status"]["ready"], &first["status"]["revision"]),
        (&json!(2), &json!(1)),
        "{first:#}"
    );
    let results = server.apply(&app("two")).await;
    assert_eq!(results[0]["action"], "configured");
    let ready_with = |revision: u64| {
        let server = &server;
        async move {
            for _ in 0..400 {
                let app = server
                    .call("GET", "/v1/projects/default/apps/web", Value::Null)
                    .await
                    .body;
                let instances = app["status"]["instances"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                let group = format!("r{revision}");
                let all = instances.len() == 2
                    && instances
                        .iter()
                        .all(|instance| instance["group"] == group.as_str());
                if app["status"]["phase"] == "Ready" && app["status"]["revision"] == revision && all
                {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(25)).await;
            }
            panic!(
                "revision {revision} does not stand: {:#}",
                server
                    .call("GET", "/v1/projects/default/apps/web", Value::Null)
                    .await
                    .body
            );
        }
    };
    ready_with(2).await;
    let answer = server
        .call(
            "POST",
            "/v1/projects/default/apps/web/rollback",
            json!({"revision": 1}),
        )
        .await;
    assert_eq!(answer.status, 200, "{:#}", answer.body);
    ready_with(1).await;
    let scaled = server
        .call(
            "PUT",
            "/v1/projects/default/apps/web/scale",
            json!({"replicas": 0}),
        )
        .await;
    assert_eq!(scaled.status, 200, "{:#}", scaled.body);
    server.wait_for("apps", "web", "Stopped").await;
    assert_eq!(server.engine.running(), 0);
}
