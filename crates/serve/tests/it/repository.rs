//! Versions come, go, break and swap while requests go on.

use crate::host::{Host, LIGHTGBM, XGBOOST, put};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

const BODY: &str = "{\"instances\":[[2.04,-2.56,4.0]]}";

fn state(host: &Host, model: &str, version: &str) -> (String, String) {
    let status = host.get(&format!("/v1/models/{model}")).json();
    let all = status["model_version_status"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let found = all.iter().find(|status| status["version"] == version);
    let text = |value: Option<&serde_json::Value>| {
        value
            .and_then(|value| value.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    (
        text(found.map(|status| &status["state"])),
        text(found.map(|status| &status["status"]["error_message"])),
    )
}

#[test]
fn a_new_version_replaces_the_old_one_without_a_failed_request() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "m/1/model.json", XGBOOST);
    let host = Host::start(dir.path(), |_| {});
    host.ready();
    let done = AtomicBool::new(false);
    let n = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    let got = host.post("/v1/models/m:predict", BODY);
                    assert_eq!(got.status, 200, "{}", got.text());
                    n.fetch_add(1, Relaxed);
                }
            });
        }
        // Every second version is the other library's, so that a swap changes the answer.
        for version in 2..8 {
            let model = if version % 2 == 0 { LIGHTGBM } else { XGBOOST };
            let file = if version % 2 == 0 {
                "model.txt"
            } else {
                "model.json"
            };
            let before = n.load(Relaxed);
            put(dir.path(), &format!("m/{version}/{file}"), model);
            let version = version.to_string();
            let old = (version.parse::<u64>().unwrap() - 1).to_string();
            host.until("the swap", || {
                state(&host, "m", &version).0 == "AVAILABLE" && state(&host, "m", &old).0 == "END"
            });
            host.until("requests go on", || n.load(Relaxed) > before + 10);
        }
        done.store(true, Relaxed);
    });
    let got = host.post("/v1/models/m:predict", BODY).json();
    assert!((got["predictions"][0].as_f64().unwrap() - 0.811973).abs() < 1e-6);
}

#[test]
fn a_broken_version_never_replaces_a_good_one_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "m/1/model.json", XGBOOST);
    let host = Host::start(dir.path(), |_| {});
    host.ready();
    put(dir.path(), "m/2/model.json", &XGBOOST[..XGBOOST.len() / 2]);
    host.until("the refusal", || !state(&host, "m", "2").1.is_empty());
    let (_, why) = state(&host, "m", "2");
    assert!(why.contains("`model.json`: the model is corrupt"), "{why}");
    assert_eq!(state(&host, "m", "1").0, "AVAILABLE");
    assert_eq!(host.post("/v1/models/m:predict", BODY).status, 200);
    let got = host.post("/v1/models/m/versions/2:predict", BODY);
    assert_eq!(got.status, 503);
    assert!(got.text().contains("could not be loaded"), "{}", got.text());
    let got = host.post("/v2/repository/models/m/load", "");
    assert!(
        got.status == 400 && got.text().contains("corrupt"),
        "{}",
        got.text()
    );
    // Mended in place, it is taken.
    put(dir.path(), "m/2/model.json", XGBOOST);
    host.until("the mended version", || {
        state(&host, "m", "2").0 == "AVAILABLE"
    });
    host.until("the old one goes", || state(&host, "m", "1").0 == "END");
}

#[test]
fn a_server_of_a_broken_model_is_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "good/1/model.json", XGBOOST);
    put(dir.path(), "bad/1/model.json", b"{}");
    let host = Host::start(dir.path(), |_| {});
    host.until("the refusal", || !state(&host, "bad", "1").1.is_empty());
    assert_eq!(host.get("/v2/health/ready").status, 503);
    // It may be loaded after the bad one.
    host.until("the good one answers", || {
        host.post("/v1/models/good:predict", BODY).status == 200
    });
    assert_eq!(host.get("/v2/health/ready").status, 503);
    std::fs::remove_dir_all(dir.path().join("bad")).unwrap();
    put(dir.path(), "bad/1/model.json", XGBOOST);
    host.ready();
}

#[test]
fn labels_and_policies_are_read_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "m/1/model.json", XGBOOST);
    put(dir.path(), "m/2/model.txt", LIGHTGBM);
    put(
        dir.path(),
        "m/model.toml",
        b"versions = \"all\"\n[labels]\nstable = 1\n",
    );
    let host = Host::start(dir.path(), |_| {});
    host.ready();
    let answer = || {
        let got = host.post("/v1/models/m/labels/stable:predict", BODY);
        got.json()["predictions"][0].as_f64().unwrap_or(f64::NAN)
    };
    host.until("the label", || (answer() - 0.811973).abs() < 1e-6);
    put(dir.path(), "m/model.toml", b"[labels]\nstable = 2\n");
    host.until("the label moves", || (answer() - 0.525842).abs() < 1e-6);
    host.until("version 1 goes", || state(&host, "m", "1").0 == "END");
    // A slip takes nothing away, and whoever asks is told.
    put(dir.path(), "m/model.toml", b"[lables]\nstable = 2\n");
    put(dir.path(), "m/3/model.json", XGBOOST);
    let got = host.post("/v2/repository/models/m/load", "");
    assert!(
        got.status == 400 && got.text().contains("lables"),
        "{}",
        got.text()
    );
    assert!((answer() - 0.525842).abs() < 1e-6);
    assert_eq!(state(&host, "m", "3").0, "");
    put(dir.path(), "m/model.toml", b"[labels]\nstable = 3\n");
    host.until("the new version", || (answer() - 0.811973).abs() < 1e-6);
}

#[test]
fn a_load_that_does_not_fit_is_refused_with_both_numbers() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "a/1/model.json", XGBOOST);
    let max = XGBOOST.len() as u64 + 500;
    let host = Host::start(dir.path(), |config| config.memory_max = max);
    host.ready();
    put(dir.path(), "b/1/model.txt", LIGHTGBM);
    host.until("the refusal", || !state(&host, "b", "1").1.is_empty());
    let (_, why) = state(&host, "b", "1");
    assert!(
        why.contains(&format!("needs {} bytes", LIGHTGBM.len())),
        "{why}"
    );
    assert!(why.contains(&format!("of {max} are in use")), "{why}");
}

#[test]
fn models_are_loaded_and_unloaded_by_order() {
    let (dir, host) = Host::golden();
    assert_eq!(
        host.post("/v2/repository/models/late/unload", "{}").status,
        200
    );
    assert_ne!(host.post("/v1/models/late:predict", BODY).status, 200);
    host.until("the unload", || state(&host, "late", "1").0 == "END");
    assert_eq!(host.post("/v1/models/late:predict", BODY).status, 404);
    assert_eq!(host.get("/v2/health/ready").status, 200);
    assert_eq!(
        host.post("/v2/repository/models/late/load", "{}").status,
        200
    );
    assert_eq!(host.post("/v1/models/late:predict", BODY).status, 200);
    assert_eq!(
        host.post("/v2/repository/models/none/load", "{}").status,
        404
    );
    assert_eq!(
        host.post("/v2/repository/models/none/unload", "{}").status,
        404
    );
    // A directory that goes takes its model with it.
    std::fs::remove_dir_all(dir.path().join("gbm")).unwrap();
    host.until("the removal", || {
        host.post("/v1/models/gbm:predict", BODY).status == 404
    });
}
