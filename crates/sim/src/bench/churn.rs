//! Ten minutes of steady change on a large cluster: does anything grow?

use super::cluster::{cluster, commit, middle, percentile_ms, task};
use super::memory::rss_mb;
use super::{BenchError, Better, Effort, Line};
use crate::specs;
use base::Time;
use sched::*;
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

const NODES: u32 = 10_000;
const RUNNING: u64 = 150_000;
/// A second: 500 arrive, 500 end, 1,000 nodes say that they are well. A round is a hundredth of it.
const ARRIVALS: u64 = 5;
const BEATS: u32 = 10;
const NEVER: u64 = 20_000;
/// Until everybody who ran at the beginning has ended: from then on nothing should change any more.
const TURNOVER_MINUTES: i64 = 5;

pub(crate) fn churn(effort: Effort) -> Result<Vec<Line>, BenchError> {
    const ID: &str = "sched.churn";
    let minutes = match effort {
        Effort::Quick => 2,
        Effort::Full => 10,
    };
    let mut core = cluster(NODES, 0, 100);
    let mut running: VecDeque<TaskId> = VecDeque::new();
    let mut number = 0;
    let mut arrive = |core: &mut Sched, now: Time| {
        number += 1;
        let mut spec = task(number, "a", 1_000 + 250 * (number % 8), 0, 1);
        spec.submitted = now;
        core.apply(Event::Task(spec));
    };
    let started = |core: &mut Sched, running: &mut VecDeque<TaskId>, now: Time| {
        let decisions = core.decide(now, 200_000);
        commit(core, &decisions);
        for decision in &decisions {
            if let DecisionKind::Start { task, .. } = decision.kind {
                running.push_back(task);
            }
        }
    };
    for _ in 0..RUNNING {
        arrive(&mut core, Time::from_ms(0));
    }
    while core.waiting() > 0 {
        started(&mut core, &mut running, Time::from_ms(0));
    }
    // Nobody has a GPU.
    for never in 0..NEVER {
        core.apply(Event::Task(task((1 << 40) + never, "b", 1_000, 1, 1)));
    }
    started(&mut core, &mut running, Time::from_ms(1));
    let beat = |id: u32| {
        let rack = format!("rack-{}", id % 100);
        Event::Node(NodeSpec {
            slots_max: 110,
            labels: BTreeMap::from([("rack".to_owned(), rack)]),
            ..specs::node(
                id,
                format!("node-{id}"),
                "p",
                specs::amount(64_000, 256 << 30, 0),
            )
        })
    };
    let mut p99: Vec<f64> = Vec::new();
    let mut rss: Vec<f64> = Vec::new();
    let mut beating = 0;
    for minute in 0..TURNOVER_MINUTES + minutes {
        let mut took = Vec::with_capacity(6_000);
        for round in 0..6_000 {
            let now = Time::from_ms(1_000 + minute * 60_000 + round * 10);
            let begin = Instant::now();
            for _ in 0..BEATS {
                core.apply(beat(beating));
                beating = (beating + 1) % NODES;
            }
            for _ in 0..ARRIVALS {
                if let Some(task) = running.pop_front() {
                    let slot = SlotId { group: 0, index: 0 };
                    core.apply(Event::Released { task, slot });
                }
                arrive(&mut core, now);
            }
            started(&mut core, &mut running, now);
            took.push(begin.elapsed());
        }
        // The times of a minute are forgotten after it, so that what grows is the core.
        if minute >= TURNOVER_MINUTES {
            p99.push(percentile_ms(&mut took, 99.0));
            rss.push(rss_mb("VmRSS:").unwrap_or(f64::NAN));
        }
    }
    let case = format!("{NODES}n-{RUNNING} running-{NEVER} unschedulable, {minutes} min");
    let worst = p99.iter().copied().fold(0.0, f64::max);
    let (early, late) = p99.split_at(p99.len() / 2);
    let (first, last) = (middle(early), middle(late));
    let growth = (rss[rss.len() - 1] / rss[0] - 1.0) * 100.0;
    let left = core.waiting() as f64 - NEVER as f64;
    Ok(vec![
        Line::new(ID, case.clone(), "p99_ms", worst, "ms", Better::Lower),
        Line::new(ID, case.clone(), "ratio", last / first, "x", Better::Lower)
            .peer("p99 of the first half", 1.0)
            .aim(1.5),
        Line::new(ID, case.clone(), "rss_growth", growth, "%", Better::Lower).aim(2.0),
        Line::new(
            ID,
            case.clone(),
            "rss_mb",
            rss[rss.len() - 1],
            "MB",
            Better::Lower,
        ),
        Line::new(ID, case, "left_waiting", left, "tasks", Better::Lower).aim(0.0),
    ])
}
