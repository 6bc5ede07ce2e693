//! From a Job to an App: what a Job has made reaches callers if it is good, and only then.

use e2e::{Installation, eventually};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(90);
/// What is promised of a canary whose callers fare worse.
const STEP_BACK_MAX: Duration = Duration::from_secs(30);
/// One row, and what each model says to it (`crates/trees/tests/it/golden/answers.json`).
const ROW: &str = r#"{"instances":[[2.04,-2.56,4.0]]}"#;
const XGBOOST: f64 = 0.811_972_975_7;
const LIGHTGBM: f64 = 0.525_841_842_6;

/// Has a Job make a model that measured these metrics, and waits until it has succeeded.
#[track_caller]
fn train(installation: &Installation, name: &str, model: (&str, &[u8]), metrics: &Value) {
    let deliver = json!({
        "model": "late",
        "app": "web",
        "check": {"file": "measured.json", "metrics": {"auc": {"min": 0.8}}},
        "canary": {"percent": 50, "for": "3s"},
    });
    let measured = metrics.to_string();
    let files = [model, ("measured.json", measured.as_bytes())];
    make(installation, name, &files, &deliver);
}

/// Has a Job make these files and deliver them so, and waits until it has succeeded.
#[track_caller]
fn make(installation: &Installation, name: &str, files: &[(&str, &[u8])], deliver: &Value) {
    let code = installation.home().join(name);
    std::fs::create_dir_all(&code).expect("a directory");
    for (file, bytes) in files {
        std::fs::write(code.join(file), bytes).expect("written");
    }
    let spec = json!({
        "code": {"dir": name},
        "command": ["sh", "-c", "mkdir $MOONSHOT_OUTPUTS/model && cp * $MOONSHOT_OUTPUTS/model"],
        "outputs": [{"name": "model"}],
        "resources": {"cpu": "10m", "memory": "64Mi"},
        "deliver": deliver,
    });
    let manifest =
        format!("apiVersion: moonshot/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec: {spec}\n");
    let file = installation.home().join(format!("{name}.yaml"));
    std::fs::write(&file, manifest).expect("written");
    installation
        .run(&["apply", "-f", &file.to_string_lossy()])
        .ok();
    installation.wait_for("job", name, &["Succeeded"], PATIENCE);
}

fn golden(name: &str) -> Vec<u8> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../trees/tests/it/golden");
    std::fs::read(format!("{dir}/{name}")).expect("a model")
}

/// What the App says to [`ROW`].
fn predict(installation: &Installation) -> Result<f64, String> {
    let (status, body) =
        installation.ask("POST", "/default/web/v1/models/late:predict", ROW, false);
    let answer: Value = serde_json::from_str(&body).unwrap_or_default();
    let prediction = answer["predictions"][0].as_f64();
    prediction
        .filter(|_| status == 200)
        .ok_or_else(|| format!("{status}: {body}"))
}

fn says(installation: &Installation, expected: f64) -> bool {
    predict(installation).is_ok_and(|answer| (answer - expected).abs() < 1e-6)
}

fn delivery(installation: &Installation, job: &str) -> Value {
    let job = installation.get("job", job).expect("it is there");
    job["status"]["delivery"].clone()
}

/// Waits until a delivery is over in this way; its sentence.
#[track_caller]
fn ends(installation: &Installation, job: &str, phase: &str) -> String {
    let state = format!("delivery={phase}");
    let waited = installation.run(&["wait", &format!("job/{job}"), "--for", &state]);
    let found = delivery(installation, job);
    assert_eq!(waited.code, 0, "{} {found:#}", waited.stderr);
    found["message"].as_str().unwrap_or_default().to_owned()
}

const APP: &str = "apiVersion: moonshot/v1\nkind: App\nmetadata: {name: web}\nspec:\n  model: {uri: model://late}\n  replicas: 1\n  \
                   rollout: {drain: 200ms, progressDeadline: 8s}\n  route: {auth: none}\n  \
                   template: {resources: {cpu: 300m, memory: 128Mi}}\n";

#[test]
fn good_models_reach_callers_by_a_canary_and_bad_ones_never_do() {
    let mut installation = Installation::start(&[]);
    let xgboost = golden("xgboost.json");
    let lightgbm = golden("lightgbm.txt");

    // The first one comes before there is an App.
    train(
        &installation,
        "one",
        ("model.json", &xgboost),
        &json!({"auc": 0.9, "note": "x"}),
    );
    assert!(ends(&installation, "one", "Delivered").contains("no app `web` yet"));
    installation.apply(APP);
    installation.wait_for("app", "web", &["Ready"], PATIENCE);
    eventually("the first answers", PATIENCE, || {
        says(&installation, XGBOOST)
    });

    // One that learnt nothing changes nothing, and the metric is named on both sides.
    train(
        &installation,
        "two",
        ("model.txt", &lightgbm),
        &json!({"auc": 0.5}),
    );
    let why = ends(&installation, "two", "Refused");
    assert_eq!(why, "metric `auc` is 0.5, at least 0.8 is wanted");
    let waited = installation.run(&["wait", "job/two", "--for", "delivery"]);
    assert_ne!(waited.code, 0, "{}", waited.stdout);
    for object in ["job/two", "app/web"] {
        let told = installation.run(&["why", object]).ok();
        assert!(told.contains("metric `auc` is 0.5"), "{object}: {told}");
    }
    assert!(says(&installation, XGBOOST));
    let versions = installation.run(&["model", "ls", "late"]).ok();
    assert!(!versions.contains("late-v2"), "{versions}");

    // A good one has half of the requests for a while, over a new server too, and then all of them.
    train(
        &installation,
        "three",
        ("model.txt", &lightgbm),
        &json!({"auc": 0.95}),
    );
    let mut seen = [false; 2];
    eventually("both answer", PATIENCE, || {
        let answer = predict(&installation).unwrap_or_default();
        for (seen, expected) in seen.iter_mut().zip([XGBOOST, LIGHTGBM]) {
            *seen |= (answer - expected).abs() < 1e-6;
        }
        seen == [true; 2]
    });
    assert_eq!(delivery(&installation, "three")["version"], 2);
    installation.kill_server();
    installation.start_server();
    let told = ends(&installation, "three", "Delivered");
    assert_eq!(
        told,
        "app `web` serves version 2 of model `late` in revision 2"
    );
    for _ in 0..10 {
        eventually("the new one answers alone", PATIENCE, || {
            says(&installation, LIGHTGBM)
        });
    }
    assert!(installation.apply(APP).contains("unchanged"));

    // One that cannot be loaded is measured well, becomes a version, and never answers.
    train(
        &installation,
        "four",
        ("model.json", b"{\"learner\": 1}"),
        &json!({"auc": 0.99}),
    );
    let why = ends(&installation, "four", "NotTaken");
    assert!(why.contains("went back from revision 3 to 2"), "{why}");
    assert!(says(&installation, LIGHTGBM));
    let told = installation.run(&["why", "app/web"]).ok();
    assert!(told.contains("job/four was not delivered"), "{told}");

    // Nor does it come in by another change: the App keeps the version that it serves.
    installation.apply(&APP.replace("cpu: 300m", "cpu: 250m"));
    eventually("the changed App serves", PATIENCE, || {
        let object = installation.get("app", "web").expect("it is there");
        object["status"]["stableRevision"] == 4
    });
    assert!(says(&installation, LIGHTGBM));
}

/// The golden model with another name for its third column.
fn named(third: &str) -> Vec<u8> {
    let mut model: Value = serde_json::from_slice(&golden("xgboost.json")).expect("JSON");
    model["learner"]["feature_names"] = json!(["a", "b", third]);
    model.to_string().into_bytes()
}

/// Asks with a record, with a third column or without; whether it was answered.
fn ask(installation: &Installation, third: bool) -> bool {
    let mut record = json!({"a": 2.04, "b": -2.56});
    if third {
        record["c"] = json!(4);
    }
    let body = json!({ "instances": [record] }).to_string();
    let path = "/default/web/v1/models/late:predict";
    installation.ask("POST", path, &body, false).0 == 200
}

#[test]
fn a_model_that_fails_its_samples_or_its_callers_leaves_the_app_as_it_was() {
    let installation = Installation::start(&[]);
    let xgboost = named("c");
    let deliver = |check: Value, percent: u32| json!({"model": "late", "app": "web", "check": check, "canary": {"percent": percent, "for": "5m"}});
    let samples = |answer: f64| {
        let expected = json!({ "predictions": [answer] });
        let rows: Value = serde_json::from_str(ROW).expect("JSON");
        let first = json!({ "request": rows });
        let second = json!({"request": rows, "response": expected});
        format!("{first}\n{second}\n").into_bytes()
    };
    let check = json!({"samples": "samples.jsonl"});
    let model = ("model.json", xgboost.as_slice());

    // The first has nobody before it.
    let wrong = samples(9.0);
    let files = [model, ("samples.jsonl", wrong.as_slice())];
    make(&installation, "one", &files, &deliver(check.clone(), 100));
    ends(&installation, "one", "Delivered");
    installation.apply(APP);
    installation.wait_for("app", "web", &["Ready"], PATIENCE);
    eventually("the first answers", PATIENCE, || ask(&installation, true));

    // One that answers otherwise than its maker says gets no request.
    let lightgbm = golden("lightgbm.txt");
    let right = samples(XGBOOST);
    let right = ("samples.jsonl", right.as_slice());
    let files = [("model.txt", lightgbm.as_slice()), right];
    make(&installation, "two", &files, &deliver(check.clone(), 50));
    let is_first = |answer: &f64| (answer - XGBOOST).abs() < 1e-6;
    let mut asked = 0;
    eventually("the second is judged", PATIENCE, || {
        let answer = predict(&installation);
        assert!(
            answer.as_ref().is_ok_and(is_first),
            "the first answers all the time, not {answer:?}: {}",
            installation.run(&["describe", "app/web"]).stdout
        );
        asked += 1;
        delivery(&installation, "two")["phase"] == "NotTaken"
    });
    assert!(asked > 1);
    // Nor while its replica ends.
    for _ in 0..100 {
        let answer = predict(&installation);
        assert!(answer.as_ref().is_ok_and(is_first), "{answer:?}");
    }
    let why = ends(&installation, "two", "NotTaken");
    let told = "app `web` keeps its revision: sample request 2: `predictions[0]` is 0.5258";
    assert!(why.starts_with(told), "{why}");
    assert!(why.ends_with("0.8119729757 is expected"), "{why}");
    let told = installation.run(&["why", "app/web"]).ok();
    assert!(told.contains("sample request 2"), "{told}");
    let files = [model, ("samples.jsonl", b"{}\n".as_slice())];
    make(&installation, "three", &files, &deliver(check.clone(), 50));
    let why = ends(&installation, "three", "Refused");
    assert!(
        why.contains("`samples.jsonl` has no sample in line 1"),
        "{why}"
    );

    // One that is right in its samples and refuses a twentieth of what callers send gives its share back.
    let other = named("d");
    let files = [("model.json", other.as_slice()), right];
    make(&installation, "four", &files, &deliver(check, 50));
    eventually("it has half of the requests", PATIENCE, || {
        delivery(&installation, "four")["phase"] == "Canary"
    });
    let found = delivery(&installation, "four");
    assert_eq!(
        (&found["samples"], &found["revision"]),
        (&json!(2), &json!(3))
    );
    let begun = Instant::now();
    let (mut n, mut n_errors, mut looked) = (0, 0, begun);
    eventually("it is given up", PATIENCE, || {
        while looked.elapsed() < Duration::from_secs(1) {
            n += 1;
            // The two Revisions take turns: not always the same one gets the third column.
            let has_third = n % 20 == (n / 20) % 2;
            n_errors += usize::from(!ask(&installation, has_third));
        }
        looked = Instant::now();
        delivery(&installation, "four")["phase"] == "NotTaken"
    });
    let took = begun.elapsed();
    println!(
        "the canary with 5 % of errors was given up after {took:.1?}; {n_errors} of {n} callers saw one"
    );
    assert!(took < STEP_BACK_MAX, "{took:?}");
    let why = ends(&installation, "four", "NotTaken");
    assert!(why.contains("went back from revision 3 to 1"), "{why}");
    assert!(why.contains("were errors (") && n_errors > 0, "{why}");
    eventually("all requests are answered", PATIENCE, || {
        (0..40).all(|_| ask(&installation, true))
    });
}
