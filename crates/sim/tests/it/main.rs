//! The simulator on real traces. Where the data are absent a test says so and passes.

use sim::{Dice, openb, philly};
use std::path::PathBuf;

fn data(name: &str) -> Option<PathBuf> {
    let found = sim::data_dir().map(|dir| dir.join(name));
    let found = found.filter(|path| path.exists());
    if found.is_none() {
        println!("skipped: no `{name}` under MOONSHOT_DATA");
    }
    found
}

#[test]
fn the_dice_depend_on_the_seed_alone() {
    let rolls = |seed| {
        let mut dice = Dice::new(seed);
        [dice.roll(), dice.below(10) as u64, dice.roll()]
    };
    assert_eq!(rolls(1), rolls(1));
    assert_ne!(rolls(1), rolls(2));
}

#[test]
fn the_core_hands_out_more_of_openb_than_best_fit() {
    let (Some(nodes), Some(pods)) = (
        data("openb/openb_node_list_gpu_node.csv"),
        data("openb/openb_pod_list_default.csv"),
    ) else {
        return;
    };
    let machines = openb::read_nodes(&nodes).unwrap();
    let pods = openb::read_pods(&pods).unwrap();
    assert_eq!(openb::capacity(&machines), 6_212_000);
    let run = openb::run(&machines, &pods, openb::Policy::Moonshot, 42);
    // The published means are 93.08 for best fit and 95.39 for FGD.
    assert!(run.at_130 > 94.5, "{run:?}");
    let again = openb::run(&machines, &pods, openb::Policy::Moonshot, 42);
    assert_eq!(again.at_130.to_bits(), run.at_130.to_bits());
}

#[test]
fn waiting_on_philly_is_shorter_than_under_fifo() {
    let Some(trace) = data("philly/philly.csv") else {
        return;
    };
    let jobs = philly::read(&trace).unwrap();
    assert_eq!(jobs.len(), 82_247);
    // A part is enough here; the whole is a bench.
    let jobs = &jobs[..12_000];
    let mean = |order| {
        let outcome = philly::run(jobs, 40, 8, order);
        let sum: u64 = outcome.waits.iter().map(|wait| wait.as_ms()).sum();
        sum / jobs.len() as u64
    };
    let (fifo, easy) = (mean(philly::Order::Fifo), mean(philly::Order::Easy));
    assert!(2 * easy <= fifo, "{easy} and {fifo} ms");
}

#[test]
fn commands_say_what_is_wrong() {
    let check = |args: &[&str], want: &str| {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let error = sim::cli::run(&args).unwrap_err().to_string();
        assert!(error.starts_with(want), "{error}");
    };
    check(&[], "no command");
    check(&["fly"], "unknown command `fly`");
    check(&["openb"], "`--nodes` is missing");
    check(&["openb", "--nodes"], "`--nodes` has no value");
    check(
        &["openb", "--nodes", "/nowhere.csv", "--pods", "x"],
        "could not read `/nowhere.csv`",
    );
}
