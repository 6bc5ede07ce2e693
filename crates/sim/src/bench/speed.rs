//! Decisions a second: single pods, gangs, constraints, topology.

use super::calibrate::calibrate;
use super::cluster::{arrive, cluster, commit, middle, ms, per_second, percentile_ms, task};
use super::{BenchError, Better, Effort, Line};
use base::Time;
use sched::*;
use std::ops::Range;
use std::time::{Duration, Instant};

/// How often the calibrator and the core take turns.
const TURNS: u64 = 20;

/// Pods of sixteen kinds, one by one.
fn pods(core: &mut Sched, numbers: Range<u64>) -> (u64, Vec<Duration>) {
    let mut placed = 0;
    let mut took = Vec::with_capacity(numbers.clone().count());
    for number in numbers {
        let spec = task(number, "a", 250 * (1 + number % 16), 0, 1);
        let (decisions, spent) = arrive(core, spec);
        placed += decisions.len() as u64;
        took.push(spent);
    }
    (placed, took)
}

pub(crate) fn basic(_: Effort) -> Result<Vec<Line>, BenchError> {
    const ID: &str = "sched.basic";
    // The noise of the machine is shared fairly: the calibrator and the core take turns, and the middle of the ratios counts.
    let mut core = cluster(5_000, 0, 50);
    let (mut placed, mut took, mut ratios) = (0, Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let yardstick = calibrate(5_000, 50_000 / TURNS);
        let numbers = turn * 50_000 / TURNS..(turn + 1) * 50_000 / TURNS;
        let (now_placed, now_took) = pods(&mut core, numbers);
        ratios.push(per_second(now_placed, now_took.iter().sum()) / yardstick);
        placed += now_placed;
        took.extend(now_took);
    }
    drop(core);
    let ratio = middle(&ratios);
    let rate = per_second(placed, took.iter().sum());
    let case = "5000n-50000p";
    let mut lines = vec![
        Line::new(ID, case, "decisions_per_s", rate, "1/s", Better::Higher)
            .peer("kube-scheduler CI floor", 810.0)
            .aim(50_000.0),
        Line::new(ID, case, "ratio", ratio, "x", Better::Higher)
            .peer("calibrator", 1.0)
            .aim(0.6),
        Line::new(
            ID,
            case,
            "p99_ms",
            percentile_ms(&mut took, 99.0),
            "ms",
            Better::Lower,
        ),
    ];
    let (placed, mut took) = pods(&mut cluster(100_000, 0, 1_000), 0..20_000);
    let rate = per_second(placed, took.iter().sum());
    let case = "100000n-20000p";
    lines.push(Line::new(
        ID,
        case,
        "decisions_per_s",
        rate,
        "1/s",
        Better::Higher,
    ));
    let p99 = percentile_ms(&mut took, 99.0);
    lines.push(Line::new(ID, case, "p99_ms", p99, "ms", Better::Lower).aim(5.0));
    let worst = percentile_ms(&mut took, 100.0);
    lines.push(Line::new(ID, case, "max_ms", worst, "ms", Better::Lower));
    Ok(lines)
}

pub(crate) fn gang(_: Effort) -> Result<Vec<Line>, BenchError> {
    const ID: &str = "sched.gang";
    let timed = |nodes: u32, gangs: u64, members: u32, per_node: u32| {
        let mut core = cluster(nodes, 0, 50);
        let mut specs: Vec<TaskSpec> = (0..gangs)
            .map(|n| task(n, "a", 1_000, 0, members))
            .collect();
        for spec in &mut specs {
            spec.groups[0].per_node_max = per_node;
        }
        let begin = Instant::now();
        for spec in specs {
            core.apply(Event::Task(spec));
        }
        let decisions = core.decide(Time::from_ms(0), u32::MAX);
        commit(&mut core, &decisions);
        let spent = begin.elapsed();
        (decisions.len() as u64 * u64::from(members), spent)
    };
    let mut lines = Vec::new();
    for (nodes, gangs, members, per_node) in [
        (20_000, 20, 1_000, 1),
        (5_000, 3_000, 3, 0),
        (5_000, 9, 1_000, 0),
        (5_000, 10, 5_000, 0),
    ] {
        let (pods, spent) = timed(nodes, gangs, members, per_node);
        let case = format!("{nodes}n-{gangs}x{members}");
        let rate = per_second(pods, spent);
        let line = Line::new(ID, case, "decisions_per_s", rate, "1/s", Better::Higher);
        lines.push(if nodes == 20_000 {
            line.aim(100_000.0)
        } else {
            line
        });
    }
    let (pods, spent) = timed(20_000, 1, 10_000, 0);
    let case = format!("20000n-1x{pods}");
    lines.push(Line::new(ID, case, "max_ms", ms(spent), "ms", Better::Lower).aim(200.0));
    Ok(lines)
}

/// How replicas of an App stand to each other.
#[derive(Clone, Copy)]
enum Rule {
    Together,
    Apart,
    Spread,
}

/// Ten Apps whose replicas keep apart by host, keep to their App's rack, or spread over racks.
pub(crate) fn constraints(_: Effort) -> Result<Vec<Line>, BenchError> {
    const ID: &str = "sched.constraints";
    const PODS: u64 = 5_000;
    let timed = |level: &str, rule: Rule| {
        let mut core = cluster(5_000, 0, 50);
        let mut took = Duration::ZERO;
        let mut placed = 0;
        for number in 0..PODS {
            let mut spec = task(number, "a", 100, 0, 1);
            let key = format!("app-{}", number % 10);
            let affinity = &mut spec.groups[0].affinity;
            affinity.keys.push(key.clone());
            let label = level.to_owned();
            match rule {
                Rule::Together => affinity.with.push((key, label)),
                Rule::Apart => affinity.against.push((key, label)),
                Rule::Spread => affinity.spread.push(Spread {
                    key,
                    label,
                    skew_max: 1,
                    required: true,
                }),
            }
            let (decisions, spent) = arrive(&mut core, spec);
            placed += decisions.len() as u64;
            took += spent;
        }
        assert_eq!(placed, PODS, "every pod has a place under {level}");
        per_second(PODS, took)
    };
    let rate = |case: &str, value: f64| {
        Line::new(ID, case, "decisions_per_s", value, "1/s", Better::Higher).aim(5_000.0)
    };
    let floor = |line: Line, floor: f64| line.peer("kube-scheduler CI floor", floor);
    Ok(vec![
        floor(
            rate(
                "5000n-5000p required anti-affinity by host",
                timed("host", Rule::Apart),
            ),
            60.0,
        ),
        floor(
            rate(
                "5000n-5000p required affinity by rack",
                timed("rack", Rule::Together),
            ),
            35.0,
        ),
        rate(
            "5000n-5000p required spread over racks",
            timed("rack", Rule::Spread),
        ),
    ])
}

pub(crate) fn topology(_: Effort) -> Result<Vec<Line>, BenchError> {
    const ID: &str = "sched.topology";
    const GANGS: u64 = 2_250;
    let mut core = cluster(5_000, 0, 50);
    let mut took = Vec::new();
    let mut placed = 0;
    let mut whole = 0;
    for number in 0..GANGS {
        let mut spec = task(number, "a", 8_000, 0, 4);
        spec.groups[0].topology = Some(TopologyRequest {
            level: "rack".to_owned(),
            required: true,
        });
        let (decisions, spent) = arrive(&mut core, spec);
        took.push(spent);
        for decision in decisions {
            if let DecisionKind::Start { placements, .. } = decision.kind {
                placed += placements.len() as u64;
                let mut racks: Vec<u32> = placements.iter().map(|p| p.node.0 % 50).collect();
                racks.sort_unstable();
                racks.dedup();
                whole += u64::from(racks.len() == 1);
            }
        }
    }
    let case = "5000n-50racks-2250x4";
    let rate = per_second(placed, took.iter().sum());
    let percent = whole as f64 * 100.0 / GANGS as f64;
    Ok(vec![
        // kubernetes#140611 gives pods a second with the adaptive limit.
        Line::new(ID, case, "decisions_per_s", rate, "1/s", Better::Higher)
            .peer("kube-scheduler TAS", 547.0)
            .aim(547.0),
        Line::new(
            ID,
            case,
            "p99_ms",
            percentile_ms(&mut took, 99.0),
            "ms",
            Better::Lower,
        ),
        Line::new(ID, case, "gangs_in_one_rack", percent, "%", Better::Higher).aim(100.0),
    ])
}
