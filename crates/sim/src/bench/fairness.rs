//! Who waits how long when many want the same: small jobs against a gang, and cohorts of queues.

use super::{BenchError, Better, Effort, Line};
use crate::dice::Dice;
use crate::life::{Fate, Happening, Life, Outcome, Pace, Saves, Work};
use crate::philly;
use crate::policies::policy;
use crate::specs;
use crate::waits::Waits;
use base::{Span, Time};
use sched::*;
use std::collections::BTreeMap;

fn live(name: &str, fill: impl FnOnce(&mut Life<'_>), end: Option<Time>) -> Outcome {
    let mut policy = policy(name, Config::standard(), Vec::new(), 42).expect("a name of the table");
    let pace = Pace {
        tick: None,
        sample: None,
        told: false,
    };
    let mut life = Life::new(policy.as_mut(), pace);
    fill(&mut life);
    life.run(end);
    life.finish()
}

fn batch(
    number: u64,
    queue: &str,
    at: Time,
    groups: Vec<GroupSpec>,
    runs: Span,
    class: &str,
) -> Work {
    Work {
        spec: specs::task(number, queue, at, groups),
        runs: Some(runs),
        saves: Saves::default(),
        loads: Span::ZERO,
        class: class.to_owned(),
    }
}

/// A flood of one-GPU jobs that keeps 95 % of the cluster busy, and every half hour a gang of 6.4 % of it.
/// All declare an hour at most and nobody may be stopped.
pub(crate) fn starvation(effort: Effort) -> Result<Vec<Line>, BenchError> {
    const ID: &str = "sched.starvation";
    const LIMIT: Span = Span::from_secs(3_600);
    let hours = match effort {
        Effort::Quick => 12,
        Effort::Full => 48,
    };
    let fill = |nodes: u32, life: &mut Life<'_>| {
        let start = Time::default();
        philly::cluster(life, start, nodes, 8);
        life.at(start, Happening::Queue(specs::queue("all")));
        let mut dice = Dice::new(8);
        // Run times are even between 10 and 50 minutes.
        let gap = 1_800_000.0 / (0.95 * f64::from(nodes) * 8.0);
        let (mut at, mut number) = (0.0, 0);
        loop {
            at += dice.exponential(gap);
            if at > f64::from(hours) * 3.6e6 {
                break;
            }
            number += 1;
            let runs = Span::from_ms(600_000 + dice.below(2_400_000) as u64);
            let groups = philly::groups(1, 8);
            let mut work = batch(
                number,
                "all",
                Time::from_ms(at as i64),
                groups,
                runs,
                "flood",
            );
            work.spec.time_limit = Some(LIMIT);
            work.spec.preemptible = false;
            life.arrive(work);
        }
        for gang in 2..hours * 2 {
            number += 1;
            let gpus = u64::from(nodes * 8) * 64 / 1_000;
            let at = Time::from_ms(i64::from(gang) * 1_800_000);
            let runs = Span::from_secs(300);
            let mut work = batch(number, "all", at, philly::groups(gpus, 8), runs, "gang");
            work.spec.time_limit = Some(LIMIT);
            work.spec.preemptible = false;
            life.arrive(work);
        }
    };
    let mut lines = Vec::new();
    let end = Time::from_ms(i64::from(hours) * 3_600_000);
    let mut cases = vec![
        ("moonshot", 1_000),
        ("moonshot", 100),
        ("easy", 100),
        ("bestfit", 100),
        ("fifo", 100),
    ];
    if effort == Effort::Quick {
        cases.remove(0);
    }
    for (name, nodes) in cases {
        let outcome = live(name, |life| fill(nodes, life), Some(end));
        let gangs = Waits::among(&outcome, |number| outcome.works[number].0.class == "gang");
        let flood = Waits::among(&outcome, |number| outcome.works[number].0.class == "flood");
        let case = format!("{nodes}x8 {name}, {hours} h");
        let line = |metric, value| Line::new(ID, case.clone(), metric, value, "h", Better::Lower);
        let max = line("gang_max_wait_h", gangs.max_h);
        // Whoever is in the way of the first gang is gone within his hour.
        lines.push(if name == "moonshot" {
            max.aim(1.0)
        } else {
            max
        });
        lines.push(line("gang_p50_wait_h", gangs.p50_h));
        lines.push(line("flood_mean_wait_h", flood.mean_h));
        let held = outcome.used as f64 * 100.0 / outcome.capacity.max(1) as f64;
        lines.push(Line::new(ID, case, "held", held, "%", Better::Higher));
    }
    Ok(lines)
}

/// One kind of workload of Kueue's generator: class, how many a queue, cores, run time, priority, gap.
type Kind = (&'static str, u64, u64, u64, i32, u64);

/// Kueue's performance test: `test/performance/scheduler/configs/baseline/generator.yaml`.
const KUEUE: [Kind; 3] = [
    ("small", 350, 1, 200, 50, 100),
    ("medium", 100, 5, 500, 100, 500),
    ("large", 50, 20, 1_000, 200, 1_200),
];

/// Five cohorts of six queues with 20 cores each, which may borrow 100 more; 15,000 workloads. Kueue has no
/// nodes, so each cohort's cores are one node.
pub(crate) fn cohorts(_: Effort) -> Result<Vec<Line>, BenchError> {
    const ID: &str = "sched.cohorts";
    let fill = |life: &mut Life<'_>| {
        let start = Time::default();
        let mut number = 0;
        for cohort in 0..5 {
            let pool = format!("cohort-{cohort}");
            let spec = specs::pool(&pool, DeviceMode::Counted, &[]);
            life.at(start, Happening::Fact(Event::Pool(spec)));
            let has = specs::amount(120_000, 0, 0);
            let node = specs::node(cohort, format!("node-{cohort}"), &pool, has);
            life.at(start, Happening::Node(node));
            life.at(start, Happening::Queue(specs::queue(&pool)));
            for queue in 0..6 {
                let name = format!("{pool}-queue-{queue}");
                let quota = specs::quota(specs::amount(20_000, 0, 0), &[("cpu", 120_000)], 1);
                let spec = QueueSpec {
                    parent: Some(pool.clone()),
                    quotas: BTreeMap::from([(pool.clone(), quota)]),
                    ..specs::queue(&name)
                };
                life.at(start, Happening::Queue(spec));
                for (class, count, cores, runs, priority, gap) in KUEUE {
                    for at in 0..count {
                        number += 1;
                        let at = Time::from_ms((at * gap) as i64);
                        let group = GroupSpec {
                            pools: vec![pool.clone()],
                            ..specs::group(1, specs::amount(cores * 1_000, 0, 0))
                        };
                        let mut work =
                            batch(number, &name, at, vec![group], Span::from_ms(runs), class);
                        work.spec.priority = priority;
                        life.arrive(work);
                    }
                }
            }
        }
    };
    let outcome = live("moonshot", fill, None);
    let case = "5x6 queues, 15000 workloads";
    let cores = |class: &str| {
        KUEUE
            .iter()
            .find(|kind| kind.0 == class)
            .map_or(0, |kind| kind.2)
    };
    let useful: u64 = outcome
        .works
        .iter()
        .filter(|(_, fate)| fate.ended.is_some())
        .map(|(work, _)| cores(&work.class) * work.runs.map_or(0, Span::as_ms))
        .sum();
    let all = 600 * outcome.until.since(Time::default()).as_ms();
    let usage = useful as f64 * 100.0 / all.max(1) as f64;
    let mut lines = vec![
        Line::new(ID, case, "useful_usage", usage, "%", Better::Higher)
            .peer("Kueue v0.15", 58.5)
            .aim(97.0),
    ];
    for (class, peer, aim) in [
        ("large", 10.0, 1.0),
        ("medium", 94.0, 15.0),
        ("small", 239.0, 50.0),
    ] {
        let of_class = outcome.works.iter().filter(|(work, _)| work.class == class);
        let admitted: Vec<f64> = of_class
            .map(|(_, fate)| {
                let until = |fate: &Fate| fate.started.unwrap_or(outcome.until).since(fate.arrived);
                until(fate).as_ms() as f64 / 1e3
            })
            .collect();
        let mean = admitted.iter().sum::<f64>() / admitted.len().max(1) as f64;
        lines.push(
            Line::new(
                ID,
                format!("{case}, {class}"),
                "mean_time_to_admission_s",
                mean,
                "s",
                Better::Lower,
            )
            .peer("Kueue v0.15, with API delay", peer)
            .aim(aim),
        );
    }
    let stopped: u64 = outcome.evictions.values().sum();
    lines.push(Line::new(
        ID,
        case,
        "evictions",
        stopped as f64,
        "tasks",
        Better::Lower,
    ));
    let rate = outcome.decisions as f64 / outcome.spent.as_secs_f64().max(1e-9);
    lines.push(
        Line::new(
            ID,
            case,
            "decisions_per_s",
            rate.round(),
            "1/s",
            Better::Higher,
        )
        .peer("Kueue v0.15", 42.7),
    );
    Ok(lines)
}
