//! Steps beside a model: what they make of records in every protocol, and what is said of those that do not fit.

use crate::host::{Host, LIGHTGBM, XGBOOST, put};
use serde_json::{Value, json};

/// The golden rows of `wire.rs` with a word for the third column, and what XGBoost answered.
const STEPS: &str = r#"{
    "columns": [{"name": "a", "mean": 0, "scale": 1}, {"name": "b"},
                {"name": "c", "words": ["nil", "one", "two", "three", "four", "five"], "unknown": 5}],
    "output": {"classes": ["in time", "late"]}}"#;
const SAYS: [f64; 2] = [0.811972975730896, 1.0 - 0.4313484728336334];

fn host() -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "late/1/model.json", XGBOOST);
    put(dir.path(), "late/1/steps.json", STEPS.as_bytes());
    let host = Host::start(dir.path(), |_| {});
    host.ready();
    (dir, host)
}

fn agrees(classes: &Value, scores: &Value) {
    assert_eq!(*classes, json!(["late", "in time"]));
    for (got, wanted) in scores.as_array().unwrap().iter().zip(SAYS) {
        let got = got.as_f64().unwrap();
        assert!((got - wanted).abs() < 1e-6, "{got} instead of {wanted}");
    }
}

#[test]
fn records_with_words_are_answered_with_classes_in_every_protocol() {
    let (_dir, host) = host();
    // A word that the model has never seen is what `unknown` says, as is a row's order of columns.
    let rows = json!({"instances": [{"c": "four", "a": 2.04, "b": -2.56}, {"b": -0.45, "c": "a word of no list"}]});
    let got = host.post("/v1/models/late:predict", &rows.to_string());
    assert_eq!(got.status, 200, "{}", got.text());
    let predictions = got.json()["predictions"].clone();
    agrees(
        &json!([predictions[0]["classes"], predictions[1]["classes"]]),
        &json!([predictions[0]["scores"], predictions[1]["scores"]]),
    );

    let columns =
        json!({"inputs": {"a": [2.04, null], "b": [-2.56, -0.45], "c": ["four", "five"]}});
    let got = host.post("/v1/models/late:predict", &columns.to_string());
    assert_eq!(got.status, 200, "{}", got.text());
    let outputs = got.json()["outputs"].clone();
    agrees(&outputs["classes"], &outputs["scores"]);

    let examples =
        json!({"examples": [{"a": 2.04, "b": -2.56, "c": "four"}, {"b": [-0.45], "c": ["five"]}]});
    let got = host.post("/v1/models/late:classify", &examples.to_string());
    assert_eq!(got.status, 200, "{}", got.text());
    let results = got.json()["results"].clone();
    agrees(
        &json!([results[0][0][0], results[1][0][0]]),
        &json!([results[0][0][1], results[1][0][1]]),
    );

    let tensor = |name: &str, datatype: &str, data: Value| json!({"name": name, "shape": [2], "datatype": datatype, "data": data});
    let inference = json!({"inputs": [
        tensor("a", "FP32", json!([2.04, null])),
        tensor("b", "FP32", json!([-2.56, -0.45])),
        tensor("c", "BYTES", json!(["four", "five"])),
    ]});
    let got = host.post("/v2/models/late/infer", &inference.to_string());
    assert_eq!(got.status, 200, "{}", got.text());
    let outputs = got.json()["outputs"].clone();
    assert_eq!(outputs[0]["datatype"], "BYTES");
    agrees(&outputs[0]["data"], &outputs[1]["data"]);

    // Who sends the model's own matrix is understood too.
    let matrix = json!({"instances": [[2.04, -2.56, 4.0], [null, -0.45, 5.0]]});
    let got = host.post("/v1/models/late:predict", &matrix.to_string());
    let predictions = got.json()["predictions"].clone();
    assert_eq!(predictions[0]["classes"], "late");
}

#[test]
fn what_a_column_does_not_take_is_refused_by_name() {
    let (_dir, host) = host();
    for (record, told) in [
        (json!({"c": 4}), "column `c`: expected text, got 4"),
        (
            json!({"a": "fast"}),
            "column `a`: expected a number, got `fast`",
        ),
        (json!({"d": 1}), "no column `d`; its columns are a, b, c"),
        (json!({"a": [1]}), "a value is missing"),
    ] {
        let body = json!({"instances": [record]}).to_string();
        let got = host.post("/v1/models/late:predict", &body);
        assert_eq!(got.status, 400, "{body}: {}", got.text());
        assert!(got.text().contains(told), "{body}: {}", got.text());
    }
}

#[test]
fn missing_values_are_filled_before_they_are_scaled() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "plain/1/model.txt", LIGHTGBM);
    put(dir.path(), "scaled/1/model.txt", LIGHTGBM);
    let steps = json!({"columns": [
        {"name": "a", "mean": 1, "scale": 2, "missing": 5.08},
        {"name": "b", "missing": -2.56},
        {"name": "c", "scale": 0.5},
    ]});
    put(
        dir.path(),
        "scaled/1/steps.json",
        steps.to_string().as_bytes(),
    );
    let host = Host::start(dir.path(), |_| {});
    host.ready();
    let ask = |model: &str, rows: Value| {
        let body = json!({ "instances": rows }).to_string();
        let got = host.post(&format!("/v1/models/{model}:predict"), &body);
        assert_eq!(got.status, 200, "{}", got.text());
        got.json()["predictions"].clone()
    };
    let plain = ask("plain", json!([[2.04, -2.56, 4.0]]));
    assert_eq!(ask("scaled", json!([{"c": 2.0}])), plain);
    assert_eq!(
        ask("scaled", json!([{"a": 5.08, "b": null, "c": 2.0}])),
        plain
    );
    assert_ne!(
        ask("scaled", json!([{"a": -5.0, "b": null, "c": 2.0}])),
        plain
    );
}

#[test]
fn a_version_with_broken_steps_replaces_none_and_says_why() {
    let (dir, host) = host();
    let put_next = |number: u32, steps: &str| {
        put(
            dir.path(),
            &format!("late/{number}/steps.json"),
            steps.as_bytes(),
        );
        put(dir.path(), &format!("late/{number}/model.json"), XGBOOST);
    };
    for (number, steps, told) in [
        (2, "{", "EOF while parsing"),
        (3, r#"{"colums": []}"#, "unknown field `colums`"),
        (
            4,
            r#"{"columns": [{"name": "a"}, {"name": "b"}, {"name": "d"}]}"#,
            "column 2 is `d`, the model's is `c`",
        ),
        (
            5,
            r#"{"columns": [{"name": "a"}]}"#,
            "has 1 entries, the model has 3 columns",
        ),
    ] {
        put_next(number, steps);
        host.until("the version's status says why", || {
            let got = host.get(&format!("/v1/models/late/versions/{number}"));
            got.status == 200 && got.text().contains(told) && got.text().contains("steps.json")
        });
    }
    let body = json!({"instances": [{"c": "four", "a": 2.04, "b": -2.56}]}).to_string();
    let got = host.post("/v1/models/late:predict", &body);
    assert_eq!(got.json()["predictions"][0]["classes"], "late");
}
