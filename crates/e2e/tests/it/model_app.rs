//! Apps that serve a model and have no program of their own.

use e2e::{Installation, eventually};
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// One row, and what each model says to it (`crates/trees/tests/it/golden/answers.json`).
const ROW: &str = r#"{"instances":[[2.04,-2.56,4.0]]}"#;
pub(crate) const XGBOOST: f64 = 0.811_972_975_7;
pub(crate) const LIGHTGBM: f64 = 0.525_841_842_6;

pub(crate) fn app(name: &str, model: &Value, memory: &str) -> String {
    let spec = json!({
        "model": model,
        "replicas": 1,
        "rollout": {"drain": "200ms", "progressDeadline": "8s"},
        "route": {"auth": "none"},
        "template": {"resources": {"cpu": "300m", "memory": memory}},
    });
    format!("apiVersion: moonshot/v1\nkind: App\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

/// Pushes one of the trees' models, or anything else, as the next version.
#[track_caller]
fn push(installation: &Installation, file: &str, content: &[u8]) {
    let dir = installation.home().join("pushed");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join(file), content).expect("written");
    let args = ["model", "push", "late", &dir.to_string_lossy()];
    installation.run(&args).ok();
}

pub(crate) fn golden(name: &str) -> Vec<u8> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../trees/tests/it/golden");
    std::fs::read(format!("{dir}/{name}")).expect("a model")
}

/// What the App says to [`ROW`], for a path under its model.
fn predict(installation: &Installation, app: &str, path: &str) -> Result<f64, String> {
    let path = format!("/default/{app}/v1/models/{path}:predict");
    let (status, body) = installation.ask("POST", &path, ROW, false);
    let answer: Value = serde_json::from_str(&body).unwrap_or_default();
    let prediction = answer["predictions"][0].as_f64();
    prediction
        .filter(|_| status == 200)
        .ok_or_else(|| format!("{status}: {body}"))
}

#[track_caller]
fn says(installation: &Installation, app: &str, path: &str, expected: f64) {
    let answer = predict(installation, app, path);
    let is_close = |answer: &f64| (answer - expected).abs() < 1e-6;
    assert!(answer.as_ref().is_ok_and(is_close), "{path}: {answer:?}");
}

/// The gateway hears of a change a moment after the App's status tells it.
#[track_caller]
pub(crate) fn comes_to_say(installation: &Installation, app: &str, path: &str, expected: f64) {
    eventually("the answer is the new one's", PATIENCE, || {
        predict(installation, app, path).is_ok_and(|answer| (answer - expected).abs() < 1e-6)
    });
}

#[test]
fn a_model_is_served_replaced_and_kept_when_the_next_one_is_broken() {
    let installation = Installation::start(&[]);
    push(&installation, "model.json", &golden("xgboost.json"));
    let ready = |revision: u64| {
        let mut object = Value::Null;
        eventually("the Revision serves alone", PATIENCE, || {
            object = installation.get("app", "late").expect("it is there");
            let status = &object["status"];
            status["phase"] == "Ready" && status["stableRevision"] == revision
        });
        object
    };

    // The newest version is meant, and pinned.
    installation.apply(&app("late", &json!({"uri": "model://late"}), "128Mi"));
    ready(1);
    comes_to_say(&installation, "late", "late", XGBOOST);
    says(&installation, "late", "late/versions/1", XGBOOST);

    // A new version changes nothing until the App is told; then it answers, and the older one where it is asked for.
    push(&installation, "model.txt", &golden("lightgbm.txt"));
    says(&installation, "late", "late", XGBOOST);
    let both = json!({"uri": "model://late@2", "versions": [1], "timeout": "2s", "batching": {"maxRows": 16}});
    installation.apply(&app("late", &both, "128Mi"));
    ready(2);
    comes_to_say(&installation, "late", "late", LIGHTGBM);
    says(&installation, "late", "late/versions/1", XGBOOST);
    let again = installation.apply(&app("late", &both, "128Mi"));
    assert!(again.contains("unchanged"), "{again}");

    // A broken one never answers a request, not even beside a good one, and the App says why.
    push(&installation, "model.json", b"{\"learner\": 1}");
    let broken = json!({"uri": "model://late@3", "versions": [2]});
    installation.apply(&app("late", &broken, "128Mi"));
    let mut events = String::new();
    eventually("the App is rolled back", PATIENCE, || {
        says(&installation, "late", "late", LIGHTGBM);
        events = installation.run(&["events", "app/late"]).ok();
        events.contains("RolledBack")
    });
    assert!(events.contains("model `late`, version 3"), "{events}");
    ready(2);

    // Back to the first Revision: the spec says so too.
    installation
        .run(&["rollout", "undo", "app/late", "--to-revision", "1"])
        .ok();
    let object = ready(1);
    assert_eq!(object["spec"]["model"], json!({"uri": "model://late"}));
    comes_to_say(&installation, "late", "late", XGBOOST);
}

#[test]
fn what_a_job_left_is_served_and_mistakes_are_told_by_their_field() {
    let installation = Installation::start(&[]);
    let dir = installation.home().join("code");
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("trained.json"), golden("xgboost.json")).expect("written");
    let job = "apiVersion: moonshot/v1\nkind: Job\nmetadata: {name: train}\nspec:\n  code: {dir: code}\n  command: [sh, -c, \
               'mkdir -p $MOONSHOT_OUTPUTS/model && cp trained.json $MOONSHOT_OUTPUTS/model/model.json']\n  \
               outputs: [{name: model}]\n  resources: {cpu: 10m, memory: 64Mi}\n";
    let wrong = |model: Value| {
        let output =
            installation.run_with_input(&["apply", "-f", "-"], &app("web", &model, "128Mi"));
        assert_ne!(output.code, 0, "{}", output.stdout);
        output.stderr
    };
    for (model, told) in [
        (json!({"uri": "job://train/model"}), "job `train`"),
        (json!({"uri": "model://flights"}), "model `flights`"),
        (json!({"uri": "gs://bucket/model"}), "moonshot model push"),
    ] {
        let stderr = wrong(model);
        assert!(stderr.contains("spec.model.uri"), "{stderr}");
        assert!(stderr.contains(told), "{stderr}");
    }
    std::fs::write(installation.home().join("job.yaml"), job).expect("written");
    installation.run(&["apply", "-f", "job.yaml"]).ok();
    installation.wait_for("job", "train", &["Succeeded"], PATIENCE);
    let stderr = wrong(json!({"uri": "job://train/modle"}));
    assert!(stderr.contains("left: model"), "{stderr}");
    let model = json!({"uri": "job://train/model", "name": "delays"});
    installation.apply(&app("web", &model, "128Mi"));
    installation.wait_for("app", "web", &["Ready"], PATIENCE);
    comes_to_say(&installation, "web", "delays", XGBOOST);
}
