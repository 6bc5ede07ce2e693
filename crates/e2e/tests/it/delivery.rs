//! From a Job to an App: what a Job has made reaches callers if it is good, and only then.

use e2e::{Installation, eventually};
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(90);
/// One row, and what each model says to it (`crates/trees/tests/it/golden/answers.json`).
const ROW: &str = r#"{"instances":[[2.04,-2.56,4.0]]}"#;
const XGBOOST: f64 = 0.811_972_975_7;
const LIGHTGBM: f64 = 0.525_841_842_6;

/// Has a Job make a model with these files, and waits until it has succeeded.
#[track_caller]
fn train(installation: &Installation, name: &str, model: (&str, &[u8]), metrics: &Value) {
    let code = installation.home().join(name);
    std::fs::create_dir_all(&code).expect("a directory");
    std::fs::write(code.join(model.0), model.1).expect("written");
    std::fs::write(code.join("measured.json"), metrics.to_string()).expect("written");
    let spec = json!({
        "code": {"dir": name},
        "command": ["sh", "-c", "mkdir $MOONSHOT_OUTPUTS/model && cp * $MOONSHOT_OUTPUTS/model"],
        "outputs": [{"name": "model"}],
        "resources": {"cpu": "10m", "memory": "64Mi"},
        "deliver": {
            "model": "late",
            "app": "web",
            "check": {"file": "measured.json", "metrics": {"auc": {"min": 0.8}}},
            "canary": {"percent": 50, "for": "3s"},
        },
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

#[test]
fn good_models_reach_callers_by_a_canary_and_bad_ones_never_do() {
    let mut installation = Installation::start(&[]);
    let app = "apiVersion: moonshot/v1\nkind: App\nmetadata: {name: web}\nspec:\n  model: {uri: model://late}\n  replicas: 1\n  \
               rollout: {drain: 200ms, progressDeadline: 8s}\n  route: {auth: none}\n  \
               template: {resources: {cpu: 300m, memory: 128Mi}}\n";
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
    installation.apply(app);
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
    assert!(installation.apply(app).contains("unchanged"));

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
    installation.apply(&app.replace("cpu: 300m", "cpu: 250m"));
    eventually("the changed App serves", PATIENCE, || {
        let object = installation.get("app", "web").expect("it is there");
        object["status"]["stableRevision"] == 4
    });
    assert!(says(&installation, LIGHTGBM));
}
