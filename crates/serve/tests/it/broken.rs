//! Requests that are broken: refused or answered, in bounded time, and the server goes on.

use crate::host::{Host, XGBOOST, put};
use e2e::Dice;
use serde_json::json;
use std::time::{Duration, Instant};

/// Broken forms of each request.
const ROUNDS: u64 = 500;
/// For one request of some hundred bytes, with much to spare for a loaded machine.
const TIME_MAX: Duration = Duration::from_secs(10);

/// What parsers stumble over.
const PIECES: &[&str] = &[
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "]]]]",
    "{",
    "}}",
    "\"",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "1e999",
    "-1e999",
    "-0",
    "0x10",
    "NaN",
    "-Infinity",
    "null",
    "true",
    "9223372036854775807",
    "18446744073709551616",
    "-9223372036854775809",
    "[9223372036854775807,2]",
    "[0]",
    "[-1,3]",
    "[4294967296,4294967296]",
    "{\"b64\":\"%%\"}",
    "{\"b64\":\"AAA\"}",
    "\"BYTES\"",
    "\"UINT64\"",
    "\"BOOL\"",
    "\"shape\":[],",
    "\"data\":[],",
    "\"instances\":[],",
    "\"inputs\":{},",
    "\"signature_name\":\"x\",",
    "\"parameters\":{\"binary_data_size\":18446744073709551615},",
    ",,",
    ":",
    "\r\n",
];

/// A few wounds to a request.
fn broken(request: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = request.to_vec();
    for _ in 0..=dice.pick(3) {
        let at = dice.pick(bytes.len() + 1);
        let end = (at + dice.pick(12)).min(bytes.len());
        match dice.pick(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let again = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, again));
            }
            3 if at < bytes.len() => bytes[at] = dice.pick(256) as u8,
            _ => {
                let piece = PIECES[dice.pick(PIECES.len())].bytes();
                drop(bytes.splice(at..end, piece));
            }
        }
    }
    bytes
}

/// A model with words and classes, so that every way through a request is there.
fn host() -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    let steps = json!({
        "columns": [{"name": "a"}, {"name": "b"}, {"name": "c", "words": ["x", "y"]}],
        "output": {"classes": ["no", "yes"], "top": 2},
    });
    put(dir.path(), "late/1/model.json", XGBOOST);
    put(
        dir.path(),
        "late/1/steps.json",
        steps.to_string().as_bytes(),
    );
    let host = Host::start(dir.path(), |_| {});
    host.ready();
    (dir, host)
}

#[track_caller]
fn survives(host: &Host, path: &str, request: &[u8], length: Option<usize>) {
    let whole = send(host, path, request, length);
    assert_eq!(whole.0, 200, "{}", whole.1);
    let mut n_answered = 0;
    for round in 1..=ROUNDS {
        let mut dice = Dice(round);
        let body = broken(request, &mut dice);
        // Now and then the length of the JSON part lies.
        let length = length.map(|length| match dice.pick(4) {
            0 => dice.pick(2 * body.len() + 2),
            _ => length,
        });
        let begun = Instant::now();
        let (status, text) = send(host, path, &body, length);
        let told = || {
            format!(
                "round {round}: {status} {text} for {}",
                String::from_utf8_lossy(&body)
            )
        };
        assert!(matches!(status, 200 | 400 | 404 | 413), "{}", told());
        assert!(begun.elapsed() < TIME_MAX, "{}", told());
        n_answered += u32::from(status == 200);
    }
    assert!(n_answered > 0, "not every wound is deadly");
    assert_eq!(
        send(host, path, request, length),
        whole,
        "it answers as before"
    );
}

fn send(host: &Host, path: &str, body: &[u8], length: Option<usize>) -> (u16, String) {
    let length = length.map(|length| length.to_string());
    let headers: Vec<(&str, &str)> = length
        .iter()
        .map(|length| ("inference-header-content-length", length.as_str()))
        .collect();
    let got = host.call("POST", path, &headers, body);
    (got.status, got.text())
}

#[test]
fn broken_requests_of_tensorflow_serving_are_refused_or_answered() {
    let (_dir, host) = host();
    for body in [
        json!({"instances": [[2.04, -2.56, 1.0], [null, -0.45, 0.0]]}),
        json!({"signature_name": "serving_default", "instances": [{"a": 2.04, "b": -2.56, "c": "x"}, {"c": "z"}]}),
        json!({"inputs": {"a": [2.04, 1], "b": [-2.56, 2], "c": ["x", "y"]}}),
    ] {
        survives(
            &host,
            "/v1/models/late:predict",
            body.to_string().as_bytes(),
            None,
        );
    }
    let examples = json!({"context": {"c": "x"}, "examples": [{"a": 2.04, "b": [-2.56]}]});
    survives(
        &host,
        "/v1/models/late:classify",
        examples.to_string().as_bytes(),
        None,
    );
}

#[test]
fn broken_requests_of_open_inference_are_refused_or_answered() {
    let (_dir, host) = host();
    let json = json!({"id": "1", "inputs": [{"name": "input", "shape": [2, 3], "datatype": "FP32",
        "data": [2.04, -2.56, 1.0, 0.0, -0.45, 0.0]}], "outputs": [{"name": "scores"}]});
    survives(
        &host,
        "/v2/models/late/infer",
        json.to_string().as_bytes(),
        None,
    );

    // Binary tensors behind the JSON: numbers as they lie in memory, words each after its length.
    let head = json!({"inputs": [
        {"name": "a", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
        {"name": "b", "shape": [2], "datatype": "FP64", "parameters": {"binary_data_size": 16}},
        {"name": "c", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 10}},
    ], "outputs": [{"name": "classes", "parameters": {"binary_data": true}}]});
    let mut body = head.to_string().into_bytes();
    let length = body.len();
    body.extend([2.04_f32, 1.0].iter().flat_map(|value| value.to_le_bytes()));
    body.extend(
        [-2.56_f64, 2.0]
            .iter()
            .flat_map(|value| value.to_le_bytes()),
    );
    for word in ["x", "y"] {
        body.extend(1_u32.to_le_bytes());
        body.extend(word.bytes());
    }
    survives(&host, "/v2/models/late/infer", &body, Some(length));
}
