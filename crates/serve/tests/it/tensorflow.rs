//! SavedModels that TensorFlow made, served by its C library; TensorFlow's own answers are the oracle.

use crate::host::{Host, XGBOOST, put};
use crate::oracle::{run, runtimes, same};
use serde_json::{Value, json};
use serve::runtimes::Runtimes;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

pub(crate) struct Models {
    pub(crate) python: PathBuf,
    /// A repository of them.
    pub(crate) dir: PathBuf,
    /// What TensorFlow answered.
    pub(crate) cases: Vec<Value>,
    /// The same, for clients.
    file: PathBuf,
}

/// Where TensorFlow, TensorFlow Serving's client and Triton's are.
pub(crate) fn python() -> PathBuf {
    e2e::python::with_tensorflow().expect("a package index with TensorFlow")
}

/// Installs what is needed and makes the models, once for all tests. Without the packages the tests fail.
pub(crate) fn models() -> &'static Models {
    static MODELS: OnceLock<Models> = OnceLock::new();
    MODELS.get_or_init(|| {
        let python = python();
        runtimes()
            .install("tensorflow", None)
            .expect("TensorFlow's library");
        // Not a temporary directory: nobody would remove it at the end of all tests.
        let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tensorflow");
        let _ = std::fs::remove_dir_all(&made);
        let (dir, cases) = (made.join("models"), made.join("cases.json"));
        std::fs::create_dir_all(&dir).unwrap();
        let paths = [dir.to_str().unwrap(), cases.to_str().unwrap()];
        run(&python, "make_tensorflow.py", &paths);
        Models {
            python,
            dir,
            cases: serde_json::from_slice(&std::fs::read(&cases).unwrap()).unwrap(),
            file: cases,
        }
    })
}

/// A server on the models that are good.
pub(crate) fn served() -> Host {
    let models = models();
    let host = Host::start(&models.dir, |_| {});
    host.until("all models but one are ready", || {
        let index = host.call("POST", "/v2/repository/index", &[], b"").json();
        let models = index.as_array().unwrap();
        models.len() == 9
            && models.iter().all(|model| {
                model["state"] == "READY"
                    || model["name"] == "cold" && model["state"] == "UNAVAILABLE"
            })
    });
    host
}

#[test]
fn answers_are_tensorflows_own() {
    let host = served();
    let mut n = 0;
    for case in models()
        .cases
        .iter()
        .filter(|case| case["inputs"].is_object())
    {
        let (model, signature) = (case["model"].as_str().unwrap(), &case["signature"]);
        let outputs = case["outputs"].as_object().unwrap();
        let body = json!({ "signature_name": signature, "inputs": case["inputs"] }).to_string();
        let got = host.post(&format!("/v1/models/{model}:predict"), &body);
        assert_eq!(got.status, 200, "{model}: {}", got.text());
        let got = got.json();
        for (name, wanted) in outputs {
            let got = if outputs.len() == 1 {
                &got["outputs"]
            } else {
                &got["outputs"][name]
            };
            assert!(
                same(got, wanted),
                "{model} {signature} {name}: {got} is not {wanted}"
            );
            n += 1;
        }
        // The same by rows, where it has rows.
        if signature == "scale" || model == "coupled" {
            continue;
        }
        let inputs = case["inputs"].as_object().unwrap();
        let n_rows = inputs.values().next().unwrap().as_array().unwrap().len();
        let rows: Vec<Value> = (0..n_rows)
            .map(|row| {
                let fields = inputs
                    .iter()
                    .map(|(name, values)| (name.clone(), values[row].clone()));
                Value::Object(fields.collect())
            })
            .collect();
        let body = json!({ "instances": rows, "signature_name": signature }).to_string();
        let got = host.post(&format!("/v1/models/{model}:predict"), &body);
        assert_eq!(got.status, 200, "{model}: {}", got.text());
        for (row, got) in got.json()["predictions"]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
        {
            for (name, wanted) in outputs {
                let got = if outputs.len() == 1 { got } else { &got[name] };
                assert!(same(got, &wanted[row]), "{model} {name} row {row}: {got}");
            }
        }
    }
    assert!(n > 20, "{n} outputs were compared");
}

#[test]
fn examples_are_classified_and_regressed() {
    let host = served();
    let case = models()
        .cases
        .iter()
        .find(|case| case["model"] == "example")
        .unwrap();
    let body = json!({ "examples": case["rows"] }).to_string();
    let got = host.post("/v1/models/example:classify", &body).json();
    for (row, scores) in case["scores"].as_array().unwrap().iter().enumerate() {
        for (class, label) in ["no", "yes"].iter().enumerate() {
            let got = &got["results"][row][class];
            assert_eq!(got[0], *label);
            assert!(same(&got[1], &scores[class]), "{got}");
        }
    }
    let body = json!({ "signature_name": "regress", "examples": case["rows"] }).to_string();
    let got = host.post("/v1/models/example:regress", &body).json();
    for (row, scores) in case["scores"].as_array().unwrap().iter().enumerate() {
        assert!(same(&got["results"][row], &scores[1]), "{got}");
    }
    // What the model itself says of an example that lacks a feature.
    let got = host.post(
        "/v1/models/example:classify",
        "{\"examples\":[{\"word\":\"a\"}]}",
    );
    assert_eq!(got.status, 400);
    assert!(got.text().contains("Feature: x"), "{}", got.text());
}

#[test]
fn clients_of_tensorflow_serving_and_triton_speak_grpc() {
    let models = models();
    // A repository of its own: it is reconfigured.
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(&models.dir).unwrap() {
        let entry = entry.unwrap();
        std::os::unix::fs::symlink(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    put(dir.path(), "late/1/model.json", XGBOOST);
    let host = Host::start(dir.path(), |_| {});
    host.until("all models but one are ready", || {
        let index = host.call("POST", "/v2/repository/index", &[], b"").json();
        let ready = |model: &&Value| model["state"] == "READY";
        index.as_array().unwrap().iter().filter(ready).count() == 9
    });
    let cases = &models.file;
    let address = host.address.to_string();
    run(
        &models.python,
        "grpc_clients.py",
        &[&address, cases.to_str().unwrap()],
    );
}

#[test]
fn wrong_requests_name_the_input_and_what_is_expected() {
    let host = served();
    let refused = |path: &str, body: Value| {
        let got = host.post(path, &body.to_string());
        assert_eq!(got.status, 400, "{}", got.text());
        got.text()
    };
    for (body, wanted) in [
        (
            json!({"inputs": {"carrier": ["a"], "dest": ["b"]}}),
            "input `numbers` is missing: signature `serving_default` wants FP32 [-1,3]",
        ),
        (
            json!({"inputs": {"carrier": ["a"], "dest": ["b"], "numbers": [[1, 2]]}}),
            "input `numbers`: expected shape [-1,3], got [1,2]",
        ),
        (
            json!({"inputs": {"carrier": ["a"], "dest": ["b"], "numbers": [[1, 2, 3]], "x": [1]}}),
            "no input `x`",
        ),
        (
            json!({"instances": [{"carrier": "a", "dest": "b"}]}),
            "an instance has no `numbers`",
        ),
        (
            json!({"signature_name": "other", "instances": []}),
            "has no signature `other`; it has `serving_default`",
        ),
    ] {
        let text = refused("/v1/models/wide:predict", body);
        assert!(text.contains(wanted), "{text}");
    }
    let input = json!({"name": "x", "shape": [1], "datatype": "FP64", "data": [1]});
    let text = refused("/v2/models/coupled/infer", json!({"inputs": [input]}));
    assert!(
        text.contains("input `x`: expected FP32, got FP64"),
        "{text}"
    );
    // A value for each row is asked for where there is none.
    let body = json!({"signature_name": "scale", "instances": [{"n": 1, "m": [1.0]}]});
    let text = refused("/v1/models/coupled:predict", body);
    assert!(
        text.contains("input `m`: expected shape [2,-1]") || text.contains("input `n`"),
        "{text}"
    );
}

#[test]
fn metadata_has_every_signature() {
    let host = served();
    let got = host.get("/v1/models/coupled/metadata").json();
    let all = &got["metadata"]["signature_def"]["signature_def"];
    let input = &all["scale"]["inputs"]["m"];
    assert_eq!(input["dtype"], "DT_DOUBLE");
    assert_eq!(input["tensor_shape"]["dim"][1]["size"], "-1");
    assert_eq!(
        all["serving_default"]["outputs"]["share"]["dtype"],
        "DT_FLOAT"
    );
    let got = host.get("/v2/models/old").json();
    assert_eq!(got["platform"], "tensorflow_savedmodel");
    assert_eq!(
        got["inputs"][0],
        json!({"name": "x", "datatype": "FP32", "shape": [-1, 4]})
    );
}

#[test]
fn the_warm_up_file_decides() {
    let host = served();
    let status = host.get("/v1/models/cold").json();
    let error = status["model_version_status"][0]["status"]["error_message"]
        .as_str()
        .unwrap();
    assert!(error.contains("the first run failed: signature `serving_default`: input `x`: expected shape [-1,2], got [1,3]"), "{error}");
}

#[test]
fn requests_are_run_together_only_where_rows_are_independent() {
    let host = served();
    let body = "{\"instances\": [1.0, 3.0]}";
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let got = host.post("/v1/models/coupled:predict", body);
                    assert_eq!(got.json()["predictions"], json!([0.25, 0.75]));
                }
            });
        }
    });
}

#[test]
fn broken_models_end_in_a_clear_error() {
    let good = std::fs::read(models().dir.join("wide/1/saved_model.pb")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "empty/1/saved_model.pb", b"");
    put(dir.path(), "noise/1/saved_model.pb", &[0x5a; 4_000]);
    put(dir.path(), "cut/1/saved_model.pb", &good[..good.len() / 2]);
    // Whole, but its variables are not there.
    put(dir.path(), "bare/1/saved_model.pb", &good);
    put(dir.path(), "text/1/saved_model.pbtxt", b"x");
    // Damaged at many places: it loads and runs, or it says why not.
    for at in 0..40 {
        let mut damaged = good.clone();
        let place = at * (good.len() - 1) / 40;
        damaged[place] ^= 0xff;
        put(
            dir.path(),
            &format!("damaged{at}/1/saved_model.pb"),
            &damaged,
        );
    }
    let host = Host::start(dir.path(), |_| {});
    host.until("all were tried", || {
        let index = host.call("POST", "/v2/repository/index", &[], b"").json();
        index.as_array().unwrap().len() >= 44
            && index
                .as_array()
                .unwrap()
                .iter()
                .all(|model| model["state"] == "UNAVAILABLE")
    });
    let why = |model: &str| {
        let got = host.post(&format!("/v1/models/{model}:predict"), "{}");
        assert_eq!(got.status, 503, "{}", got.text());
        got.text()
    };
    assert!(
        why("empty").contains("it holds no graph"),
        "{}",
        why("empty")
    );
    assert!(
        why("noise").contains("it is no SavedModel, or it is cut off"),
        "{}",
        why("noise")
    );
    assert!(
        why("cut").contains("it is no SavedModel, or it is cut off"),
        "{}",
        why("cut")
    );
    assert!(why("bare").contains("variable"), "{}", why("bare"));
}

#[test]
fn operations_of_a_models_own_are_loaded_once_for_all_its_versions() {
    let has_compiler = Command::new("g++").arg("--version").output();
    if has_compiler.is_err() {
        println!("skipped: g++ is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let first = dir.path().join("plus/1");
    let path = first.to_str().unwrap();
    run(&models().python, "make_operation.py", &[path]);
    let settings = b"op_libraries = [\"plus_one.so\"]\n";
    put(dir.path(), "plus/model.toml", settings);
    // The same model, and a library that is not there.
    let copy = |to: &str| {
        // Whole or not at all, as whoever copies models should.
        let part = dir.path().join(".part");
        let copied = Command::new("cp").arg("-r").arg(&first).arg(&part).status();
        assert!(copied.unwrap().success());
        std::fs::rename(part, dir.path().join(to)).unwrap();
    };
    std::fs::create_dir(dir.path().join("odd")).unwrap();
    put(
        dir.path(),
        "odd/model.toml",
        b"op_libraries = [\"none.so\"]\n",
    );
    copy("odd/1");
    let host = Host::start(dir.path(), |_| {});
    let answers = |version: u64| {
        let path = format!("/v1/models/plus/versions/{version}:predict");
        let got = host.post(&path, "{\"instances\": [1.0, 2.5]}");
        got.status == 200 && got.json()["predictions"] == json!([2.0, 3.5])
    };
    host.until("the first version", || answers(1));
    let got = host.post("/v1/models/odd:predict", "{}");
    assert!(
        got.status == 503 && got.text().contains("none.so`: it cannot be loaded"),
        "{}",
        got.text()
    );
    // It brings the library again, under another path.
    copy("plus/2");
    host.until("the second version", || answers(2));
}

#[test]
fn without_the_library_the_remedy_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let none = tempfile::tempdir().unwrap();
    let model = models().dir.join("table/1/saved_model.pb");
    put(
        dir.path(),
        "m/1/saved_model.pb",
        &std::fs::read(model).unwrap(),
    );
    let host = Host::start(dir.path(), |config| {
        config.runtimes = Runtimes::new(none.path().to_owned())
    });
    host.until("it was tried", || {
        host.post("/v1/models/m:predict", "{}")
            .text()
            .contains("moonshot serve runtimes install tensorflow")
    });
}

#[test]
fn a_runtime_whose_hash_is_another_is_not_kept() {
    let (wheels, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let runtimes = Runtimes::new(kept.path().to_owned());
    let dir = wheels.path().to_str().unwrap();
    run(&models().python, "make_wheel.py", &[dir]);
    let error = runtimes
        .install("tensorflow", Some(wheels.path()))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("Hash mismatch for `tensorflow-cpu==2.21.0`"),
        "{error}"
    );
    assert!(runtimes.list().is_empty());
    let error = runtimes.install("torch", None).unwrap_err().to_string();
    assert!(error.contains("`tensorflow`"), "{error}");
}
