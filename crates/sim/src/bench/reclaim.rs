//! Taking guaranteed capacity back from a full cluster: KAI's benchmarks (reference in the README).

use super::cluster::{cluster, is_evict, ms, task};
use super::{BenchError, Better, Effort, Line};
use base::Time;
use sched::*;
use std::time::Instant;

/// Nodes of eight GPUs, full of one-GPU tasks of `a`, which owns nothing.
fn full(nodes: u32) -> Sched {
    let mut core = cluster(nodes, 8, 50);
    let mut number = 0;
    for node in 0..nodes {
        for _ in 0..8 {
            core.apply(Event::Running(RunningTask {
                spec: task(number, "a", 1_000, 1, 1),
                started: Time::from_ms(0),
                placements: vec![Placement {
                    slot: SlotId { group: 0, index: 0 },
                    node: NodeId(node),
                    devices: Vec::new(),
                }],
            }));
            number += 1;
        }
    }
    core.decide(Time::from_ms(1), 10_000);
    core
}

pub(crate) fn large(effort: Effort) -> Result<Vec<Line>, BenchError> {
    const ID: &str = "sched.reclaim_large";
    // KAI's published times: 8.97 s at 500 nodes, not finished in 40 minutes at 1,000.
    let sizes: &[(u32, Option<f64>, Option<f64>)] = match effort {
        Effort::Quick => &[(500, Some(8_970.0), None), (1_000, None, Some(20.0))],
        Effort::Full => &[
            (100, Some(241.0), None),
            (500, Some(8_970.0), None),
            (1_000, None, Some(20.0)),
            (10_000, None, Some(200.0)),
        ],
    };
    let mut lines = Vec::new();
    for (nodes, kai_ms, aim) in sizes {
        let mut core = full(*nodes);
        let begin = Instant::now();
        core.apply(Event::Task(task(u64::MAX - 1, "b", 8_000, 8, nodes / 10)));
        let decisions = core.decide(Time::from_ms(10_000), 1_000_000);
        let spent = begin.elapsed();
        let victims = decisions.iter().filter(is_evict).count();
        let case = format!("{nodes}n");
        let mut line = Line::new(ID, case.clone(), "max_ms", ms(spent), "ms", Better::Lower);
        line.peer = kai_ms.map(|ms| ("KAI", ms));
        line.aim = *aim;
        lines.push(line);
        let optimal = f64::from(nodes / 10 * 8);
        lines.push(
            Line::new(ID, case, "victims", victims as f64, "tasks", Better::Lower)
                .peer("optimum", optimal)
                .aim(optimal),
        );
    }
    Ok(lines)
}

pub(crate) fn many(_: Effort) -> Result<Vec<Line>, BenchError> {
    const ID: &str = "sched.reclaim_many";
    let mut core = full(500);
    let specs: Vec<TaskSpec> = (0..4_000)
        .map(|n| task(1_000_000 + n, "b", 1_000, 1, 1))
        .collect();
    let begin = Instant::now();
    for spec in specs {
        core.apply(Event::Task(spec));
    }
    let decisions = core.decide(Time::from_ms(10_000), u32::MAX);
    let spent = begin.elapsed();
    let evictions = decisions.iter().filter(is_evict).count() as f64;
    let case = "500n-4000+4000";
    Ok(vec![
        Line::new(ID, case, "max_ms", ms(spent), "ms", Better::Lower)
            .peer("KAI", 165_600.0)
            .aim(200.0),
        Line::new(ID, case, "victims", evictions, "tasks", Better::Lower).peer("optimum", 4_000.0),
    ])
}
