//! Logs of lives replay bit for bit, and questions about them are answered.

use crate::{examples, sim};

/// A log of an example, in a folder of its own.
fn log(example: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.jsonl").to_str().unwrap().to_owned();
    let scenario = examples().join(example);
    sim(&["run", scenario.to_str().unwrap(), "--log", &path]).unwrap();
    (dir, path)
}

#[test]
fn a_life_replays_bit_for_bit_and_a_changed_decision_is_shown() {
    let (_dir, path) = log("quota-morning.sim");
    let said = sim(&["replay", &path]).unwrap();
    assert!(said.ends_with("all as recorded\n"), "{said}");
    let text = std::fs::read_to_string(&path).unwrap();
    let is_start = |line: &str| line.contains("\"generation\":1,\"placements\"");
    let at = text.lines().position(is_start).unwrap();
    let (was, is) = (
        "\"generation\":1,\"placements\"",
        "\"generation\":7,\"placements\"",
    );
    std::fs::write(&path, text.replacen(was, is, 1)).unwrap();
    let error = sim(&["replay", &path]).unwrap_err();
    assert!(
        error.starts_with(&format!("line {}: decision 1 of the round differs", at + 1)),
        "{error}"
    );
    assert!(
        error.contains("recorded Start") && error.contains("decided  Start"),
        "{error}"
    );
}

#[test]
fn without_a_difference_nothing_differs() {
    let (_dir, path) = log("first-hours.sim");
    // The guarantee is what it was.
    let said = sim(&["replay", &path, "--what-if", "queue risk guaranteed gpu=8"]).unwrap();
    assert!(said.contains("0 start earlier, 0 later, of 4"), "{said}");
    assert!(said.contains("4 of 4 start when the log says"), "{said}");
}

#[test]
fn without_the_guarantee_nobody_is_stopped_and_risk_waits() {
    let (dir, path) = log("first-hours.sim");
    let json = dir.path().join("answer.json");
    let json = json.to_str().unwrap();
    let question = [
        "replay",
        &path,
        "--what-if",
        "queue risk guaranteed gpu=0",
        "--json",
        json,
    ];
    let said = sim(&question).unwrap();
    assert!(said.contains("urgent (risk): starts"), "{said}");
    let answer: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let urgent = answer["differences"]
        .as_array()
        .unwrap()
        .iter()
        .find(|task| task["task"] == "urgent")
        .unwrap();
    // It waits until the first gang ends, an hour later.
    assert!(urgent["later_s"].as_i64().unwrap() > 3_000, "{urgent}");
    assert!(said.contains("stopped for others"), "{said}");
}

#[test]
fn more_nodes_and_other_priorities_are_answered() {
    let (dir, path) = log("starvation.sim");
    let json = dir.path().join("answer.json");
    let ask = |question: &str| -> serde_json::Value {
        sim(&[
            "replay",
            &path,
            "--what-if",
            question,
            "--json",
            json.to_str().unwrap(),
        ])
        .unwrap();
        serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap()
    };
    let more = ask("add 8 like node-0");
    let mean = |side: &str| more[side]["mean_wait_h"].as_f64().unwrap();
    assert!(mean("with_it") < mean("as_it_was"), "{more}");
    // The first life is the log's own, to the millisecond.
    assert_eq!(more["recorded_starts"], more["same_when_lived_again"]);
    let first = ask("task gang* priority 10");
    let gangs = first["differences"].as_array().unwrap().iter();
    let mut gangs = gangs.filter(|task| task["task"].as_str().unwrap().starts_with("gang-"));
    assert!(
        gangs.all(|gang| gang["later_s"].as_i64().unwrap() <= 0),
        "{first}"
    );
}

#[test]
fn a_question_about_nothing_is_refused() {
    let (_dir, path) = log("first-hours.sim");
    for question in [
        "queue none weight 2",
        "drain node-99",
        "task nobody priority 1",
        "add 2 like other",
    ] {
        let error = sim(&["replay", &path, "--what-if", question]).unwrap_err();
        assert_eq!(
            error,
            format!("`{question}` is about something that the log does not name")
        );
    }
}
