//! The scenarios that users begin with do what they say, and small lives are told as people can follow them.

use crate::{examples, sim};
use expect_test::expect_file;
use sim::scenario;

#[test]
fn every_example_comes_out_as_it_expects() {
    let mut seen = 0;
    for entry in std::fs::read_dir(examples()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "sim") {
            continue;
        }
        seen += 1;
        let read = scenario::read(&path).unwrap();
        let mut policy =
            sim::policies::policy("moonshot", sched::Config::standard(), Vec::new(), 0).unwrap();
        let outcome = scenario::run(&read, policy.as_mut(), false);
        for check in scenario::check(&read, &outcome) {
            assert!(
                check.met,
                "{}: {} (found {})",
                path.display(),
                check.text,
                check.found
            );
        }
    }
    assert!(seen >= 5, "{seen} scenarios");
}

#[test]
fn an_expectation_that_does_not_come_about_fails_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("short.sim");
    let text = "pool p counted\nnodes 1 n cpu=4\nqueue q\njob a queue=q cpu=1 runs=1m\nexpect finished = 2\n";
    std::fs::write(&path, text).unwrap();
    let error = sim(&["run", path.to_str().unwrap()]).unwrap_err();
    assert!(
        error.contains("NOT as expected: finished = 2 (found 1.00)"),
        "{error}"
    );
    assert!(
        error.ends_with("1 of 2 expectations did not come about"),
        "{error}"
    );
}

fn told(name: &str) -> String {
    let path = examples().join(name);
    let read = scenario::read(&path).unwrap();
    let mut policy =
        sim::policies::policy("moonshot", sched::Config::standard(), Vec::new(), 0).unwrap();
    let outcome = scenario::run(&read, policy.as_mut(), true);
    scenario::told(&outcome)
}

#[test]
fn a_gang_a_guarantee_and_a_drain_are_told() {
    expect_file!["../golden/first-hours.txt"].assert_eq(&told("first-hours.sim"));
}

#[test]
fn a_sick_gpu_is_told() {
    expect_file!["../golden/sick-gpu.txt"].assert_eq(&told("sick-gpu.sim"));
}
