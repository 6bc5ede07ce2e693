//! New versions are warmed with requests that came before, and with nothing where that is switched off.

use crate::host::{Host, LIGHTGBM, XGBOOST, put};
use e2e::tree_models;

fn warmed(host: &Host, outcome: &str) -> u64 {
    let text = host.get("/metrics").text();
    let name = format!("moonshot_serve_warm_up_requests_total{{outcome=\"{outcome}\"}} ");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(&name));
    lines.next().unwrap().parse().unwrap()
}

fn until_ready(host: &Host, version: &str) {
    host.until("the new version is ready", || {
        host.get(&format!("/v2/models/m/versions/{version}/ready"))
            .status
            == 200
    });
}

/// Sends three requests, one of them twice, and one that is wrong.
fn ask(host: &Host) {
    for row in ["[1,2,3]", "[1,2,3]", "[4,5,1]", "[null,0,2]"] {
        let body = format!("{{\"instances\":[{row}]}}");
        let got = host.post("/v1/models/m:predict", &body);
        assert_eq!(got.status, 200, "{}", got.text());
    }
    let got = host.post(
        "/v1/models/m:predict",
        "{\"instances\":[[1,2,3,4,5,6,7,8,9]]}",
    );
    assert_eq!(got.status, 400);
}

#[test]
fn a_new_version_runs_what_was_recorded_before_it_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "m/1/model.json", XGBOOST);
    let host = Host::start(dir.path(), |_| {});
    host.ready();
    ask(&host);
    assert_eq!(warmed(&host, "ok"), 0);
    put(dir.path(), "m/2/model.json", XGBOOST);
    until_ready(&host, "2");
    assert_eq!((warmed(&host, "ok"), warmed(&host, "unfit")), (3, 0));
    // What the callers of the old version sent does not fit this one: told, and no reason not to be ready.
    put(dir.path(), "m/3/model.txt", &wider());
    until_ready(&host, "3");
    assert_eq!((warmed(&host, "ok"), warmed(&host, "unfit")), (3, 3));
}

/// A LightGBM model of one column more, which takes only rows of just so many.
fn wider() -> Vec<u8> {
    let text = String::from_utf8(LIGHTGBM.to_vec()).unwrap();
    let wider = text
        .replacen("max_feature_idx=2", "max_feature_idx=3", 1)
        .replacen(
            "Column_0 Column_1 Column_2",
            "Column_0 Column_1 Column_2 Column_3",
            1,
        )
        .replacen("feature_infos=", "feature_infos=[0:1] ", 1);
    assert_ne!(wider, text, "the golden model has other columns");
    wider.into_bytes()
}

#[test]
fn a_model_may_keep_nothing() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "m/1/model.json", XGBOOST);
    put(dir.path(), "m/model.toml", b"record_requests = false\n");
    let host = Host::start(dir.path(), |_| {});
    host.ready();
    ask(&host);
    put(dir.path(), "m/2/model.json", XGBOOST);
    until_ready(&host, "2");
    assert_eq!(warmed(&host, "ok"), 0);
    // A slip in the file is no permission.
    put(dir.path(), "m/model.toml", b"record_request = false\n");
    host.until("the slip is seen", || {
        host.post("/v2/repository/models/m/load", "").status == 400
    });
    ask(&host);
    put(dir.path(), "m/model.toml", b"");
    put(dir.path(), "m/3/model.json", XGBOOST);
    until_ready(&host, "3");
    assert_eq!(warmed(&host, "ok"), 0);
    ask(&host);
    put(dir.path(), "m/4/model.json", XGBOOST);
    until_ready(&host, "4");
    assert_eq!(warmed(&host, "ok"), 3, "now it may");
}

#[test]
fn what_comes_back_from_disk_is_warmed_too() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "m/1/model.json", XGBOOST);
    let other = tree_models::model(0, 20);
    put(dir.path(), "n/1/model.json", &other);
    // It wants all the room there is.
    let max = other.len() as u64;
    let host = Host::start(dir.path(), |config| {
        config.on_demand = true;
        config.memory_max = max;
    });
    host.ready();
    ask(&host);
    let zeros = serde_json::json!({ "instances": [vec![0; tree_models::FEATURES]] }).to_string();
    assert_eq!(host.post("/v1/models/n:predict", &zeros).status, 200);
    let text = host.get("/metrics").text();
    assert!(text.contains("moonshot_serve_evictions_total 1"), "{text}");
    assert_eq!(warmed(&host, "ok"), 0);
    ask(&host);
    assert_eq!(warmed(&host, "ok"), 3);
}
