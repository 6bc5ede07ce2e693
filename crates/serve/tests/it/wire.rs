//! What each path answers, and what each mistake gets.

use crate::host::{Host, LIGHTGBM, XGBOOST, put};

/// The first golden rows and what the libraries answered (`crates/trees/tests/it/golden/answers.json`).
const ROWS: &str = "[[2.04,-2.56,4.0],[null,-0.45,5.0]]";
const XGBOOST_SAYS: [f64; 2] = [0.811972975730896, 0.4313484728336334];
const LIGHTGBM_SAYS: f64 = 0.5258418425636303;

fn close(got: &serde_json::Value, wanted: &[f64]) {
    let got: Vec<f64> = got
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap())
        .collect();
    assert_eq!(got.len(), wanted.len());
    for (got, wanted) in got.iter().zip(wanted) {
        assert!((got - wanted).abs() < 1e-6, "{got} instead of {wanted}");
    }
}

#[test]
fn tensorflow_serving_predicts_in_every_form() {
    let (_dir, host) = Host::golden();
    let rows = [
        format!("{{\"instances\": {ROWS}}}"),
        format!("{{\"signature_name\":\"serving_default\",\"instances\":{ROWS}}}"),
        "{\"instances\":[{\"input\":[2.04,-2.56,4]},{\"input\":[null,-0.45,5]}]}".to_owned(),
        "{\"instances\":[{\"a\":2.04,\"b\":-2.56,\"c\":4},{\"c\":5,\"b\":-0.45}]}".to_owned(),
    ];
    for body in &rows {
        let got = host.post("/v1/models/late:predict", body);
        assert_eq!(got.status, 200, "{body}: {}", got.text());
        close(&got.json()["predictions"], &XGBOOST_SAYS);
    }
    let columns = [
        format!("{{\"inputs\": {ROWS}}}"),
        format!("{{\"inputs\": {{\"input\": {ROWS}}}}}"),
        "{\"inputs\":{\"a\":[2.04,null],\"c\":[4,5],\"b\":[-2.56,-0.45]}}".to_owned(),
    ];
    for body in &columns {
        let got = host.post("/v1/models/late/versions/1:predict", body);
        assert_eq!(got.status, 200, "{body}: {}", got.text());
        close(&got.json()["outputs"], &XGBOOST_SAYS);
    }
    let got = host.post(
        "/v1/models/gbm:predict",
        "{\"instances\":[[2.04,-2.56,4.0]]}",
    );
    close(&got.json()["predictions"], &[LIGHTGBM_SAYS]);
}

#[test]
fn tensorflow_serving_classifies_and_regresses_examples() {
    let (_dir, host) = Host::golden();
    let body = "{\"context\":{\"c\":4},\"examples\":[{\"a\":2.04,\"b\":[-2.56]}]}";
    let got = host.post("/v1/models/late:classify", body);
    assert_eq!(got.status, 200, "{}", got.text());
    let result = &got.json()["results"][0];
    assert_eq!(
        (result[0][0].as_str(), result[1][0].as_str()),
        (Some("0"), Some("1"))
    );
    close(
        &serde_json::json!([result[0][1], result[1][1]]),
        &[1.0 - XGBOOST_SAYS[0], XGBOOST_SAYS[0]],
    );
    let got = host.post("/v1/models/late:regress", body);
    close(&got.json()["results"], &XGBOOST_SAYS[..1]);
}

#[test]
fn tensorflow_serving_tells_status_and_metadata() {
    let (_dir, host) = Host::golden();
    let got = host.get("/v1/models/gbm");
    assert_eq!(
        got.json(),
        serde_json::json!({"model_version_status": [{"version": "7", "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""}}]})
    );
    let got = host.get("/v1/models/gbm/versions/7/metadata").json();
    assert_eq!(got["model_spec"]["version"], "7");
    let signature = &got["metadata"]["signature_def"]["signature_def"]["serving_default"];
    assert_eq!(signature["inputs"]["input"]["dtype"], "DT_DOUBLE");
    assert_eq!(
        signature["inputs"]["input"]["tensor_shape"]["dim"][1]["size"],
        "3"
    );
}

#[test]
fn open_inference_predicts_in_every_form() {
    let (_dir, host) = Host::golden();
    let bodies = [
        format!("{{\"id\":\"a\",\"inputs\":[{{\"name\":\"x\",\"shape\":[2,3],\"datatype\":\"FP32\",\"data\":{ROWS}}}]}}"),
        // The data first, flat, in 64 bits.
        "{\"inputs\":[{\"data\":[2.04,-2.56,4,null,-0.45,5],\"name\":\"input\",\"shape\":[2,3],\"datatype\":\"FP64\"}],\
          \"outputs\":[{\"name\":\"predict\"}],\"id\":\"a\"}"
            .to_owned(),
        // A tensor for each column.
        "{\"id\":\"a\",\"inputs\":[{\"name\":\"a\",\"shape\":[2],\"datatype\":\"FP32\",\"data\":[2.04,null]},\
          {\"name\":\"b\",\"shape\":[2,1],\"datatype\":\"FP64\",\"data\":[-2.56,-0.45]},\
          {\"name\":\"c\",\"shape\":[2],\"datatype\":\"INT32\",\"data\":[4,5]}]}"
            .to_owned(),
    ];
    for body in &bodies {
        let got = host.post("/v2/models/late/infer", body);
        assert_eq!(got.status, 200, "{body}: {}", got.text());
        let json = got.json();
        assert_eq!(
            (&json["model_name"], &json["model_version"], &json["id"]),
            (&"late".into(), &"1".into(), &"a".into())
        );
        let output = &json["outputs"][0];
        assert_eq!(
            (&output["name"], &output["datatype"]),
            (&"predict".into(), &"FP32".into())
        );
        assert_eq!(output["shape"], serde_json::json!([2]));
        close(&output["data"], &XGBOOST_SAYS);
    }
}

#[test]
fn binary_tensors_go_both_ways() {
    let (_dir, host) = Host::golden();
    let head = "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,3],\"datatype\":\"FP32\",\
        \"parameters\":{\"binary_data_size\":12}}],\"parameters\":{\"binary_data_output\":true}}";
    let mut body = head.as_bytes().to_vec();
    for value in [2.04_f32, -2.56, 4.0] {
        body.extend(value.to_le_bytes());
    }
    let length = head.len().to_string();
    let header = [("inference-header-content-length", length.as_str())];
    let got = host.call("POST", "/v2/models/late/infer", &header, &body);
    assert_eq!(got.status, 200, "{}", got.text());
    let json_length: usize = got
        .header("inference-header-content-length")
        .unwrap()
        .parse()
        .unwrap();
    let (json, binary) = got.body.split_at(json_length);
    let json: serde_json::Value = serde_json::from_slice(json).unwrap();
    assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], 4);
    let value = f32::from_le_bytes(binary.try_into().unwrap());
    assert!((f64::from(value) - XGBOOST_SAYS[0]).abs() < 1e-6);
    // What does not fit is named.
    let got = host.call(
        "POST",
        "/v2/models/late/infer",
        &header,
        &body[..body.len() - 1],
    );
    assert_eq!(got.status, 400);
    assert!(
        got.text()
            .contains("`binary_data_size` is 12, 11 bytes are left"),
        "{}",
        got.text()
    );
    body.push(0);
    let got = host.call("POST", "/v2/models/late/infer", &header, &body);
    assert!(
        got.text()
            .contains("1 bytes of binary data belong to no input"),
        "{}",
        got.text()
    );
    let got = host.call(
        "POST",
        "/v2/models/late/infer",
        &[("inference-header-content-length", "9999")],
        &body,
    );
    assert!(
        got.text().contains("is no length within the body"),
        "{}",
        got.text()
    );
}

#[test]
fn open_inference_tells_health_metadata_and_index() {
    let (_dir, host) = Host::golden();
    assert_eq!(host.get("/v2/health/live").status, 200);
    assert_eq!(host.get("/v2/models/late/ready").status, 200);
    assert_eq!(host.get("/v2/models/late/versions/9/ready").status, 404);
    assert_eq!(
        host.get("/v2/models/late").json(),
        serde_json::json!({"name": "late", "versions": ["1"], "platform": "xgboost",
            "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 3]}],
            "outputs": [{"name": "predict", "datatype": "FP32", "shape": [-1]}]})
    );
    let extensions = &host.get("/v2").json()["extensions"];
    assert_eq!(
        *extensions,
        serde_json::json!(["binary_tensor_data", "model_repository"])
    );
    let index = host.post("/v2/repository/index", "").json();
    assert_eq!(
        index[0],
        serde_json::json!({"name": "gbm", "version": "7", "state": "READY", "reason": ""})
    );
}

#[test]
fn mistakes_are_named() {
    let (_dir, host) = Host::golden();
    let v1 = "/v1/models/late:predict";
    let v2 = "/v2/models/late/infer";
    let tensor = |shape: &str, datatype: &str, data: &str| {
        format!(
            "{{\"inputs\":[{{\"name\":\"x\",\"shape\":{shape},\"datatype\":\"{datatype}\",\"data\":{data}}}]}}"
        )
    };
    let cases = [
        (
            v1,
            "{\"instances\":[[1,2,3,4]]}".to_owned(),
            400,
            "input `input`: expected shape [-1,3], got [1,4]",
        ),
        (
            v1,
            "{\"instances\":[[1,2,3],[1,2]]}".to_owned(),
            400,
            "an array has 2 items, those before it have 3",
        ),
        (
            v1,
            "{\"instances\":[[1,\"a\",3]]}".to_owned(),
            400,
            "a value is missing at byte",
        ),
        (
            v1,
            "{\"instances\":[{\"a\":1,\"z\":2}]}".to_owned(),
            400,
            "no column `z`; its columns are a, b, c",
        ),
        (v1, "{\"instances\":[]}".to_owned(), 400, "got [0]"),
        (v1, "{}".to_owned(), 400, "neither `instances` nor `inputs`"),
        (
            v1,
            "{\"inputs\":[[1,2,3]],\"instances\":[[1,2,3]]}".to_owned(),
            400,
            "both `instances` and `inputs`",
        ),
        (
            v1,
            "{\"signature_name\":\"x\",\"instances\":[[1,2,3]]}".to_owned(),
            400,
            "no signature `x`",
        ),
        (v1, "[1".to_owned(), 400, "`{` is missing at byte 0"),
        (
            "/v1/models/none:predict",
            "{}".to_owned(),
            404,
            "model `none` is not known",
        ),
        (
            "/v1/models/late/versions/3:predict",
            "{}".to_owned(),
            404,
            "model `late` has no version 3",
        ),
        (
            "/v1/models/late/versions/x:predict",
            "{}".to_owned(),
            400,
            "`x` is no version number",
        ),
        (
            "/v1/models/late/labels/x:predict",
            "{}".to_owned(),
            404,
            "no label `x`",
        ),
        ("/v1/models/late:guess", "{}".to_owned(), 404, "no `:guess`"),
        (
            v2,
            tensor("[1,3]", "FP32", "[1,2]"),
            400,
            "input `x`: shape [1, 3] has 3 elements, got 2",
        ),
        (
            v2,
            tensor("[1,2,3]", "FP32", "[1,2,3,4,5,6]"),
            400,
            "input `x`: expected shape [-1,3], got [1,2,3]",
        ),
        (
            v2,
            tensor("[1,3]", "BYTES", "[\"a\",\"b\",\"c\"]"),
            400,
            "input `x`: expected numbers (FP32), got BYTES",
        ),
        (
            v2,
            tensor("[1,3]", "FP99", "[1,2,3]"),
            400,
            "`FP99` is no datatype",
        ),
        (
            v2,
            tensor("[18446744073709551615,3]", "FP32", "[1,2,3]"),
            400,
            "has too many elements",
        ),
        (v2, "{\"inputs\":[]}".to_owned(), 400, "`inputs` is empty"),
        (
            v2,
            "{\"inputs\":[{\"name\":\"x\",\"shape\":[1]}]}".to_owned(),
            400,
            "input `x`: `datatype` is missing",
        ),
        (
            "/v2/models/gbm/infer",
            tensor("[1,2]", "FP64", "[1,2]"),
            400,
            "expected shape [-1,3], got [1,2]",
        ),
        ("/v3", String::new(), 404, "there is nothing here"),
    ];
    for (path, body, status, wanted) in cases {
        let got = host.post(path, &body);
        let error = got.json()["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(got.status, status, "{path} {body}: {error}");
        assert!(
            error.contains(wanted),
            "{path} {body}: `{error}` does not say `{wanted}`"
        );
    }
    let unknown = "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,2,3]}],\"outputs\":[{\"name\":\"y\"}]}";
    let got = host.post(v2, unknown);
    assert!(
        got.text().contains("unexpected inference output `y`"),
        "{}",
        got.text()
    );
    assert_eq!(host.get(v1).status, 400);
}

#[test]
fn a_body_over_the_bound_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "late/1/model.json", XGBOOST);
    let host = Host::start(dir.path(), |config| config.body_max = 1_000);
    host.ready();
    let body = format!("{{\"instances\":[[{}1,2]]}}", "1,".repeat(600));
    let got = host.post("/v1/models/late:predict", &body);
    assert_eq!(got.status, 413);
    assert!(
        got.text().contains("larger than 1000 bytes"),
        "{}",
        got.text()
    );
}

#[test]
fn a_request_may_bring_its_own_time_and_ask_where_it_went() {
    let (_dir, host) = Host::golden();
    let body = "{\"instances\":[[1,2,3]]}";
    let call = |headers: &[(&str, &str)]| {
        host.call("POST", "/v1/models/late:predict", headers, body.as_bytes())
    };
    let got = call(&[("x-moonshot-timing", "1")]);
    let timing = got.header("server-timing").unwrap();
    for part in ["queue;dur=", "compute;dur=", "serialise;dur="] {
        assert!(timing.contains(part), "{timing}");
    }
    assert!(call(&[]).header("server-timing").is_none());
    let got = call(&[("x-moonshot-timeout-ms", "0")]);
    assert_eq!(got.status, 504, "{}", got.text());
    let got = call(&[("x-moonshot-timeout-ms", "soon")]);
    assert_eq!(got.status, 400, "{}", got.text());
}

#[test]
fn metrics_count_what_happened() {
    let (_dir, host) = Host::golden();
    host.post(
        "/v1/models/late:predict",
        "{\"instances\":[[1,2,3],[1,2,3]]}",
    );
    host.post("/v1/models/late:predict", "{\"instances\":[[1,2,3,4]]}");
    let text = host.get("/metrics").text();
    let labels = "model=\"late\",version=\"1\"";
    for line in [
        format!("moonshot_serve_requests_total{{{labels},code=\"ok\"}} 1"),
        format!("moonshot_serve_requests_total{{{labels},code=\"invalid\"}} 1"),
        format!("moonshot_serve_rows_total{{{labels}}} 2"),
        format!("moonshot_serve_queue_seconds_count{{{labels}}} 1"),
        format!("moonshot_serve_request_seconds_bucket{{{labels},le=\"+Inf\"}} 1"),
    ] {
        assert!(
            text.lines().any(|known| known == line),
            "`{line}` is not in:\n{text}"
        );
    }
}

#[test]
fn requests_that_are_damaged_get_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "gbm/1/model.txt", LIGHTGBM);
    let host = Host::start(dir.path(), |_| {});
    host.ready();
    let bodies = [
        (
            "/v1/models/gbm:predict",
            format!("{{\"instances\": {ROWS}, \"signature_name\": \"\"}}"),
        ),
        (
            "/v1/models/gbm:classify",
            "{\"examples\":[{\"Column_0\":1}]}".to_owned(),
        ),
        (
            "/v2/models/gbm/infer",
            format!(
                "{{\"inputs\":[{{\"name\":\"x\",\"shape\":[2,3],\"datatype\":\"FP64\",\"data\":{ROWS}}}]}}"
            ),
        ),
    ];
    for (path, body) in &bodies {
        for at in 0..body.len() {
            for with in ["", "[", "}", "\\", "9999999999", "\u{0}"] {
                let damaged = format!("{}{with}{}", &body[..at], &body[at + 1..]);
                let got = host.post(path, &damaged);
                assert!(got.status < 500, "{damaged}: {got:?}");
            }
        }
    }
}
