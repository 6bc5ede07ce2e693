//! ONNX models of scikit-learn and of our own making, served by ONNX Runtime; its own answers are the oracle.

use crate::host::{Host, put};
use crate::oracle::{run, runtimes, same};
use serde_json::{Value, json};
use serve::runtimes::Runtimes;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const PACKAGES: &[&str] = &[
    "onnxruntime==1.31.1",
    "onnx==1.20.0",
    "skl2onnx==1.20.0",
    "scikit-learn==1.7.2",
    "tritonclient[grpc,http]==2.73.0",
];

pub(crate) struct Models {
    python: PathBuf,
    /// A repository of them.
    pub(crate) dir: PathBuf,
    /// What ONNX Runtime answered.
    pub(crate) cases: Vec<Value>,
    /// The same, for clients.
    file: PathBuf,
}

/// Installs what is needed and makes the models, once for all tests. Without the packages the tests fail.
pub(crate) fn models() -> &'static Models {
    static MODELS: OnceLock<Models> = OnceLock::new();
    MODELS.get_or_init(|| {
        let python = e2e::python(PACKAGES).expect("a package index with ONNX Runtime");
        runtimes()
            .install("onnx", None)
            .expect("ONNX Runtime's library");
        // Not a temporary directory: nobody would remove it at the end of all tests.
        let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("onnx");
        let _ = std::fs::remove_dir_all(&made);
        let (dir, file) = (made.join("models"), made.join("cases.json"));
        std::fs::create_dir_all(&dir).unwrap();
        let paths = [dir.to_str().unwrap(), file.to_str().unwrap()];
        run(&python, "make_onnx.py", &paths);
        Models {
            python,
            dir,
            cases: serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap(),
            file,
        }
    })
}

/// Models that are not to become ready.
const REFUSED: [&str; 2] = ["cold", "parts"];

/// A server on all models.
fn served() -> Host {
    let host = Host::start(&models().dir, |_| {});
    host.until("all models were tried, and all but two are ready", || {
        let index = host.call("POST", "/v2/repository/index", &[], b"").json();
        let models = index.as_array().unwrap();
        models.len() == 15
            && models.iter().all(|model| {
                let is_refused = REFUSED.contains(&model["name"].as_str().unwrap());
                model["state"] == if is_refused { "UNAVAILABLE" } else { "READY" }
            })
    });
    host
}

/// Compares the answers to one case.
fn compare(model: &str, got: &Value, outputs: &serde_json::Map<String, Value>) -> usize {
    for (name, wanted) in outputs {
        let got = if outputs.len() == 1 { got } else { &got[name] };
        assert!(same(got, wanted), "{model} {name}: {got} is not {wanted}");
    }
    outputs.len()
}

#[test]
fn answers_are_onnx_runtimes_own() {
    let host = served();
    let mut n = 0;
    for case in &models().cases {
        let model = case["model"].as_str().unwrap();
        let outputs = case["outputs"].as_object().unwrap();
        let path = format!("/v1/models/{model}:predict");
        let body = json!({ "inputs": case["inputs"] }).to_string();
        let got = host.post(&path, &body);
        assert_eq!(got.status, 200, "{model}: {}", got.text());
        n += compare(model, &got.json()["outputs"], outputs);
        // The same by rows, where it has rows; a column of a table may be a plain value.
        if ["coupled", "fixed"].contains(&model) {
            continue;
        }
        let inputs = case["inputs"].as_object().unwrap();
        let n_rows = inputs.values().next().unwrap().as_array().unwrap().len();
        let plain = |value: &Value| match value.as_array().map(Vec::as_slice) {
            Some([only]) if !only.is_array() => only.clone(),
            _ => value.clone(),
        };
        let rows: Vec<Value> = (0..n_rows)
            .map(|row| {
                let fields = inputs
                    .iter()
                    .map(|(name, values)| (name.clone(), plain(&values[row])));
                Value::Object(fields.collect())
            })
            .collect();
        let got = host.post(&path, &json!({ "instances": rows }).to_string());
        assert_eq!(got.status, 200, "{model}: {}", got.text());
        let got = got.json();
        for row in 0..n_rows {
            let wanted = outputs
                .iter()
                .map(|(name, values)| (name.clone(), values[row].clone()))
                .collect();
            compare(model, &got["predictions"][row], &wanted);
        }
    }
    assert!(n > 30, "{n} outputs were compared");
}

#[test]
fn requests_that_run_together_are_answered_as_alone() {
    let host = served();
    let case = &models().cases[0];
    assert_eq!(case["model"], "flights");
    let (inputs, outputs) = (&case["inputs"], case["outputs"].as_object().unwrap());
    std::thread::scope(|scope| {
        for first in 0..8 {
            let host = &host;
            scope.spawn(move || {
                for row in (first..40).step_by(8) {
                    let cut = |values: &serde_json::Map<String, Value>| -> serde_json::Map<String, Value> {
                        let each = values.iter();
                        each.map(|(name, rows)| (name.clone(), json!([rows[row]])))
                            .collect()
                    };
                    let body = json!({ "inputs": cut(inputs.as_object().unwrap()) }).to_string();
                    let got = host.post("/v1/models/flights:predict", &body);
                    assert_eq!(got.status, 200, "{}", got.text());
                    compare("flights", &got.json()["outputs"], &cut(outputs));
                }
            });
        }
    });
    // One that looks at the whole batch is never run with another's rows.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let body = "{\"instances\": [1.0, 3.0]}";
                    let got = host.post("/v1/models/coupled:predict", body);
                    assert_eq!(got.json()["predictions"], json!([0.25, 0.75]));
                }
            });
        }
    });
}

#[test]
fn triton_speaks_http_and_grpc_in_binary() {
    let host = served();
    let models = models();
    run(
        &models.python,
        "onnx_clients.py",
        &[&host.address.to_string(), models.file.to_str().unwrap()],
    );
}

#[test]
fn what_cannot_be_served_is_refused_in_words() {
    let host = served();
    let why = |model: &str| {
        let got = host.post(&format!("/v1/models/{model}:predict"), "{}");
        assert_eq!(got.status, 503, "{}", got.text());
        got.text()
    };
    let text = why("parts");
    assert!(
        text.contains("output `parts` is Sequence<") && text.contains("gives tensors"),
        "{text}"
    );
    let text = why("cold");
    assert!(
        text.contains("the first run failed: signature `serving_default`: input `x`: expected shape [-1,5], got [1,4]"),
        "{text}"
    );
}

#[test]
fn wrong_requests_name_the_input_and_what_is_expected() {
    let host = served();
    let tensor = |name: &str, datatype: &str, shape: Value, data: Value| json!({"name": name, "datatype": datatype, "shape": shape, "data": data});
    let row = |name: &str, datatype: &str, value: Value| {
        tensor(name, datatype, json!([1, 1]), json!([value]))
    };
    let flight = |delay: Value| {
        json!({"inputs": [
            row("carrier", "BYTES", json!("UA")), row("dest", "BYTES", json!("IAH")), delay, row("hour", "INT64", json!(7)),
        ]})
    };
    for (model, body, wanted) in [
        (
            "flights",
            flight(row("delay", "FP64", json!(1.5))),
            "input `delay`: expected FP32, got FP64",
        ),
        (
            "flights",
            flight(tensor("delay", "FP32", json!([1, 2]), json!([1, 2]))),
            "input `delay`: expected shape [-1,1], got [1,2]",
        ),
        (
            "flights",
            flight(tensor("delay", "FP32", json!([2, 1]), json!([1, 2]))),
            "input `delay` has 2 rows, `carrier` has 1",
        ),
        (
            "flights",
            json!({"inputs": [row("carrier", "BYTES", json!("UA"))]}),
            "input `dest` is missing: signature `serving_default` wants BYTES [-1,1]",
        ),
        (
            "words",
            json!({"inputs": [row("text", "BYTES", json!("a\u{0}b"))]}),
            "input `text`: string 0 holds a byte of zero",
        ),
        // What only ONNX Runtime knows of the model: the shapes that it is good for.
        (
            "fixed",
            json!({"inputs": [
                tensor("m", "FP64", json!([2, 3]), json!([1, 2, 3, 4, 5, 6])),
                tensor("factor", "FP64", json!([5]), json!([1, 2, 3, 4, 5])),
            ]}),
            "Attempting to broadcast",
        ),
    ] {
        let got = host.post(&format!("/v2/models/{model}/infer"), &body.to_string());
        assert_eq!(got.status, 400, "{}", got.text());
        assert!(got.text().contains(wanted), "{}", got.text());
    }
    // Numbers that a type does not have are not cut.
    let case = models()
        .cases
        .iter()
        .find(|case| case["model"] == "types")
        .unwrap();
    let mut inputs = case["inputs"].clone();
    inputs["int8"] = json!([128, 0, 0]);
    let got = host.post(
        "/v1/models/types:predict",
        &json!({ "inputs": inputs }).to_string(),
    );
    assert_eq!(got.status, 400, "{}", got.text());
    assert!(
        got.text()
            .contains("input `int8`: 128 is no INT8, which goes from -128 to 127"),
        "{}",
        got.text()
    );
}

#[test]
fn metadata_has_the_types_and_shapes() {
    let host = served();
    let got = host.get("/v2/models/flights").json();
    assert_eq!(got["platform"], "onnxruntime_onnx");
    assert_eq!(
        got["inputs"],
        json!([
            {"name": "carrier", "datatype": "BYTES", "shape": [-1, 1]},
            {"name": "dest", "datatype": "BYTES", "shape": [-1, 1]},
            {"name": "delay", "datatype": "FP32", "shape": [-1, 1]},
            {"name": "hour", "datatype": "INT64", "shape": [-1, 1]},
        ])
    );
    assert_eq!(
        got["outputs"],
        json!([
            {"name": "output_label", "datatype": "BYTES", "shape": [-1]},
            {"name": "output_probability", "datatype": "FP32", "shape": [-1, -1]},
            {"name": "output_probability_keys", "datatype": "BYTES", "shape": [-1, -1]},
        ])
    );
}

#[test]
fn broken_models_end_in_a_clear_error() {
    let file = |model: &str| std::fs::read(models().dir.join(model).join("1/model.onnx")).unwrap();
    let (good, beside) = (file("forest"), file("beside"));
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "empty/1/model.onnx", b"");
    put(dir.path(), "noise/1/model.onnx", &[0x5a; 4_000]);
    // Its weights are not beside it.
    put(dir.path(), "bare/1/model.onnx", &beside);
    for part in 1..8 {
        let cut = &good[..good.len() * part / 8];
        put(dir.path(), &format!("cut{part}/1/model.onnx"), cut);
    }
    // Damaged at many places: it loads and runs, or it says why not.
    for at in 0..40 {
        let mut damaged = good.clone();
        let place = at * (good.len() - 1) / 40;
        damaged[place] ^= 0xff;
        put(dir.path(), &format!("damaged{at}/1/model.onnx"), &damaged);
    }
    let host = Host::start(dir.path(), |_| {});
    host.until("all were tried", || {
        let index = host.call("POST", "/v2/repository/index", &[], b"").json();
        let models = index.as_array().unwrap();
        let is_over = |model: &Value| model["state"] == "READY" || model["reason"] != "";
        models.len() == 50 && models.iter().all(is_over)
    });
    let why = |model: &str| {
        let got = host.post(&format!("/v1/models/{model}:predict"), "{}");
        assert_eq!(got.status, 503, "{}", got.text());
        got.text()
    };
    let contains = |model: &str, wanted: &str| {
        let text = why(model);
        assert!(text.contains(wanted), "{model}: {text}");
    };
    contains(
        "empty",
        "`model.onnx`: it is no ONNX model: it holds no graph",
    );
    contains("noise", "it is no ONNX model, or it is cut off");
    contains("bare", "weights.bin");
    for part in 1..8 {
        contains(
            &format!("cut{part}"),
            "it is no ONNX model, or it is cut off",
        );
    }
}

#[test]
fn without_the_library_the_remedy_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let none = tempfile::tempdir().unwrap();
    let model = std::fs::read(models().dir.join("cnn/1/model.onnx")).unwrap();
    put(dir.path(), "m/1/model.onnx", &model);
    let host = Host::start(dir.path(), |config| {
        config.runtimes = Runtimes::new(none.path().to_owned())
    });
    host.until("it was tried", || {
        host.post("/v1/models/m:predict", "{}")
            .text()
            .contains("moonshot serve runtimes install onnx")
    });
}
