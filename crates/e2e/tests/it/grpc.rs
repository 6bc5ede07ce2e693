//! gRPC through the gateway: clients that others wrote, an App that serves a model, and a program that streams.

use crate::model_app::{PATIENCE, XGBOOST, golden};
use e2e::{Installation, eventually};
use serde_json::{Value, json};
use std::path::Path;

/// Runs a script of this folder; what it printed.
#[track_caller]
fn run(python: &Path, script: &str, args: &[&str]) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    e2e::python::script(python, &dir.join(script), args)
}

#[test]
fn clients_of_tensorflow_serving_and_triton_reach_a_model_by_its_apps_name() {
    let python = e2e::python::with_tensorflow().expect("a package index with TensorFlow");
    let installation = Installation::start(&[]);
    let dir = installation.home().join("late");
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("model.json"), golden("xgboost.json")).expect("written");
    installation
        .run(&["model", "push", "late", &dir.to_string_lossy()])
        .ok();
    let spec = json!({
        "model": {"uri": "model://late"},
        "replicas": 2,
        "template": {"resources": {"cpu": "300m", "memory": "128Mi"}},
    });
    installation.apply(&format!(
        "apiVersion: moonshot/v1\nkind: App\nmetadata: {{name: late}}\nspec: {spec}\n"
    ));
    installation.wait_for("app", "late", &["Ready"], PATIENCE);
    eventually("the gateway knows both replicas", PATIENCE, || {
        let path = "/default/late/v2/health/ready";
        installation.ask("GET", path, "", true).0 == 200
    });
    let token = installation.run(&["token", "route", "late"]).ok();
    let said = run(
        &python,
        "grpc_app.py",
        &[installation.gateway(), token.trim(), &XGBOOST.to_string()],
    );
    print!("{said}");
    // One connection, and the requests still go to both.
    let table = std::fs::read(installation.data().join("run/routes.json")).expect("the table");
    let table: Value = serde_json::from_slice(&table).expect("JSON");
    let endpoints = table["routes"][0]["targets"][0]["endpoints"].as_array();
    let endpoints = endpoints.expect("endpoints").iter();
    let addresses = endpoints.map(|one| one["address"].as_str().expect("an address"));
    let answered: Vec<u64> = addresses
        .map(|address| {
            let (_, metrics) = e2e::ask(address, "GET", "/metrics", "", None);
            let lines = metrics
                .lines()
                .filter(|line| line.starts_with("moonshot_serve_requests_total"));
            lines
                .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
                .sum()
        })
        .collect();
    println!("answered by each replica: {answered:?}");
    assert!(
        answered.len() == 2 && answered.iter().all(|n| *n >= 20),
        "{answered:?}"
    );
}

#[test]
fn messages_stream_both_ways_and_errors_are_grpcs() {
    let python = e2e::python::with_tensorflow().expect("a package index with TensorFlow");
    let installation = Installation::start(&[]);
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/grpc_echo.py");
    let spec = json!({
        "route": {"auth": "none", "timeout": "3s"},
        "template": {
            "command": [python, server],
            "resources": {"cpu": "300m", "memory": "256Mi"},
            "ports": [{"name": "grpc"}],
        },
    });
    installation.apply(&format!(
        "apiVersion: moonshot/v1\nkind: App\nmetadata: {{name: echo}}\nspec: {spec}\n"
    ));
    installation.wait_for("app", "echo", &["Ready"], PATIENCE);
    let said = run(&python, "grpc_streams.py", &[installation.gateway()]);
    print!("{said}");
    // Its program answered two requests with an error of its own making and let one time out.
    let (_, metrics) = e2e::ask(installation.gateway(), "GET", "/-/metrics", "", None);
    let errors = metrics.lines().find(|line| {
        line.starts_with("moonshot_gateway_errors_total") && line.contains("app=\"echo\"")
    });
    assert!(errors.is_some_and(|line| line.ends_with(" 3")), "{metrics}");
}
