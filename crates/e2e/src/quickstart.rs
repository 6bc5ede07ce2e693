//! The README's first command, from applying to a prediction, on real data.

use crate::Installation;
use std::path::Path;
use std::time::Duration;

/// Where the App is asked for predictions.
const PATH: &str = "/default/flights/v1/models/flights:predict";

/// Learns from the flights with two replicas, serves the model with two, and asks it once; the same on every engine.
#[track_caller]
pub fn learn_and_serve(installation: &Installation) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/flights");
    let apply = |file: &str| {
        installation
            .run(&["apply", "-f", &example.join(file).display().to_string()])
            .ok()
    };
    apply("environment.yaml");
    installation.wait_for(
        "environment",
        "flights",
        &["Ready"],
        Duration::from_secs(600),
    );
    apply("job.yaml");
    let log = installation.run(&["logs", "--follow", "job/flights"]).ok();
    let job = installation.wait_for(
        "job",
        "flights",
        &["Succeeded", "Failed"],
        Duration::from_secs(120),
    );
    assert_eq!(job["status"]["phase"], "Succeeded", "{log}\n{job:#}");
    // Both replicas saw all the data and ended with the same model.
    assert_eq!(log.matches("336,776 flights").count(), 2, "{log}");
    assert_eq!(log.matches("the same on all replicas").count(), 2, "{log}");
    let outputs = job["status"]["outputs"].as_array().expect("outputs");
    assert!(
        outputs.iter().any(|output| output["name"] == "model"),
        "{job:#}"
    );

    // The Job's check holds, and its model is version 1.
    installation
        .run(&["wait", "job/flights", "--for", "delivery"])
        .ok();
    let version = installation.get("modelversion", "flights-v1");
    let version = version.expect("the Model has a version");
    let error = &version["spec"]["lineage"]["metrics"]["rmse_minutes"];
    assert!(
        error.as_f64().is_some_and(|error| error < 25.0),
        "{version:#}"
    );

    apply("app.yaml");
    let app = installation.wait_for("app", "flights", &["Ready"], Duration::from_secs(240));
    assert_eq!(app["status"]["ready"], 2, "{app:#}");
    let flight = r#"{"instances": [{"dep_delay": 40, "distance": 760, "carrier": "DL", "origin": "LGA", "dest": "ATL"}]}"#;
    let (status, answer) = installation.ask("POST", PATH, flight, true);
    assert_eq!(status, 200, "{answer}");
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    let minutes = answer["predictions"][0].as_f64().expect("a number");
    // A flight that left 40 minutes late arrives late, and not by hours more.
    assert!((5.0..120.0).contains(&minutes), "{minutes}");
    let (status, _) = installation.ask("POST", PATH, flight, false);
    assert_eq!(status, 401, "without a token nobody is answered");

    // The same files again change nothing.
    assert!(apply("job.yaml").contains("unchanged"));
    assert!(apply("app.yaml").contains("unchanged"));
}
