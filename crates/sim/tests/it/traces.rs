//! Published traces.

use crate::data;
use sim::plain::Rule;
use sim::{Dice, openb, philly, tidal};

#[test]
fn the_dice_depend_on_the_seed_alone() {
    let rolls = |seed| {
        let mut dice = Dice::new(seed);
        [dice.roll(), dice.below(10) as u64, dice.roll()]
    };
    assert_eq!(rolls(1), rolls(1));
    assert_ne!(rolls(1), rolls(2));
    let mut dice = Dice::new(3);
    let draws: Vec<f64> = (0..10_000).map(|_| dice.exponential(5.0)).collect();
    let mean = draws.iter().sum::<f64>() / 1e4;
    assert!((4.8..5.2).contains(&mean), "{mean}");
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
fn lists_without_models_are_read() {
    let Some(pods) = data("openb/openb_pod_list_multigpu30.csv") else {
        return;
    };
    let pods = openb::read_pods(&pods).unwrap();
    assert_eq!(pods.len(), 8_508);
    assert!(pods.iter().all(|pod| pod.models.is_empty()));
    assert!(pods.iter().any(|pod| pod.gpus > 1));
}

/// A cluster of two sizes that any rule can fill: what plain rules do is what they say.
#[test]
fn plain_rules_choose_as_published() {
    let machine = |cpu, gpus| openb::Machine {
        cpu,
        memory: 1 << 20,
        gpus,
        model: "T4".to_owned(),
    };
    let machines = [machine(64_000, 8), machine(64_000, 2), machine(64_000, 4)];
    let pod = |gpus, milli| openb::Pod {
        cpu: 1_000,
        memory: 1,
        gpus,
        milli,
        models: Vec::new(),
    };
    // Sixteen whole GPUs are asked of fourteen: every rule hands out all.
    let pods = vec![pod(1, 1_000); 16];
    for rule in [
        Rule::Random,
        Rule::BestFit,
        Rule::DotProduct,
        Rule::GpuPacking,
        Rule::GpuClustering,
        Rule::Fgd,
    ] {
        let run = openb::run(&machines, &pods, openb::Policy::Plain(rule), 1);
        assert!((run.at_130 - 100.0).abs() < 1e-9, "{rule:?} {run:?}");
    }
    // A part does not fit where less than that is left of every device.
    let run = openb::run(
        &[machine(64_000, 1)],
        &vec![pod(1, 600); 9],
        openb::Policy::Plain(Rule::BestFit),
        1,
    );
    assert!((run.at_130 - 60.0).abs() < 1e-9, "{run:?}");
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
    let mean = |name| {
        let mut policy =
            sim::policies::policy(name, sched::Config::standard(), Vec::new(), 42).unwrap();
        let outcome = philly::run(jobs, (40, 8), philly::Queues::One, policy.as_mut());
        assert_eq!(outcome.complaints, Vec::<String>::new(), "{name}");
        assert!(
            outcome.works.iter().all(|(_, fate)| fate.ended.is_some()),
            "{name}"
        );
        sim::waits::Waits::of(&outcome).mean_h
    };
    let [fifo, easy, moonshot, oracle] = ["fifo", "easy", "moonshot", "sjf"].map(mean);
    assert!(
        2.0 * moonshot <= fifo && easy <= fifo && oracle <= moonshot,
        "{fifo} {easy} {moonshot} {oracle}"
    );
}

#[test]
fn the_curve_of_the_tide_has_one_peak_hour() {
    let Some(qps) = data("genai-qps/qps.csv") else {
        return;
    };
    let curve = tidal::read_curve(&qps).unwrap();
    assert_eq!(curve.len(), 24);
    assert_eq!(curve.iter().filter(|hour| **hour >= 1.0).count(), 1);
    // The week leaves Jobs about 275,000 GPU hours of 336,000.
    let asked = tidal::Demand::new(&curve, 1_000.0, 42).gpu_hours();
    assert!((50_000.0..75_000.0).contains(&asked), "{asked}");
}
