//! What commands say: help, errors, and the same for the same seed.

use crate::{data, examples, sim};

#[test]
fn commands_say_what_is_wrong() {
    let check = |args: &[&str], want: &str| {
        let error = sim(args).unwrap_err();
        assert!(error.starts_with(want), "{error}");
    };
    check(&[], "The scheduler in virtual time");
    check(&["fly"], "unknown command `fly`; there are ");
    check(&["openb"], "`--nodes` is missing");
    check(&["openb", "--nodes"], "`--nodes` has no value");
    check(&["openb", "--speed", "9"], "unknown option `--speed`");
    check(&["openb", "there"], "`there` is not understood");
    check(&["run"], "`SCENARIO` is missing");
    check(
        &["replay", "/nowhere.jsonl"],
        "could not read `/nowhere.jsonl`",
    );
    check(
        &["replay", "x", "--what-if", "more GPUs"],
        "--what-if: `more GPUs` is not a change",
    );
    check(&["bench", "--full=1"], "`--full` takes no value");
    check(&["bench", "--id", "sched.no"], "unknown bench `sched.no`");
    let openb = ["openb", "--pods", "x", "--policy", "fgd", "--nodes"];
    check(
        &[&openb[..], &["/nowhere.csv"]].concat(),
        "could not read `/nowhere.csv`",
    );
}

#[test]
fn every_command_has_help() {
    let overview = sim(&["--help"]).unwrap();
    for command in ["run", "replay", "openb", "philly", "tidal", "bench"] {
        assert!(overview.contains(command), "{overview}");
        let help = sim(&[command, "--help"]).unwrap();
        assert!(
            help.contains(&format!("Usage: moonshot sim {command}")),
            "{help}"
        );
        assert!(help.contains("--json FILE"), "{help}");
    }
}

#[test]
fn the_same_seed_gives_the_same_and_another_does_not() {
    let scenario = examples().join("quota-morning.sim");
    let scenario = scenario.to_str().unwrap();
    let run = |seed: &str| {
        sim(&["run", scenario, "--seed", seed, "--told"]).unwrap_or_else(|error| error)
    };
    assert_eq!(run("3"), run("3"));
    assert_ne!(run("3"), run("4"));
    let Some(nodes) = data("openb/openb_node_list_gpu_node.csv") else {
        return;
    };
    let pods = nodes.with_file_name("openb_pod_list_default.csv");
    let openb = || {
        let args = ["openb", "--seeds", "1", "--policy", "random", "--nodes"];
        let said = sim(&[
            &args[..],
            &[nodes.to_str().unwrap(), "--pods", pods.to_str().unwrap()],
        ]
        .concat());
        // Speed is the machine's.
        let said: serde_json::Value = serde_json::from_str(&said.unwrap()).unwrap();
        (
            said["allocation_at_100"].clone(),
            said["allocation_at_130"].clone(),
        )
    };
    assert_eq!(openb(), openb());
}

#[test]
fn bench_lines_have_the_form_that_tools_read() {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("lines");
    let said = sim(&[
        "bench",
        "--id",
        "sched.reclaim_many",
        "--json",
        json.to_str().unwrap(),
    ])
    .unwrap();
    assert!(said.contains("sched.reclaim_many"), "{said}");
    let lines = std::fs::read_to_string(json).unwrap();
    assert!(lines.lines().count() >= 2, "{lines}");
    for line in lines.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let keys: Vec<&str> = value
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            keys,
            [
                "bench",
                "case",
                "metric",
                "value",
                "unit",
                "better",
                "peer",
                "peer_value",
                "aim",
                "met",
                "commit"
            ]
        );
    }
}
