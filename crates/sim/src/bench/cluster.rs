//! Synthetic clusters and arrivals that several benches share, and the stopwatch's sums.

use crate::specs;
use base::Time;
use sched::*;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Steps of one call of `decide`: more than any bench's single arrival needs.
pub(crate) const STEPS: u32 = 10_000;

/// A cluster of equal nodes in one pool, with queues `a` and `b`; every GPU is guaranteed to `b`.
pub(crate) fn cluster(nodes: u32, gpus: u64, racks: u32) -> Sched {
    let mut core = Sched::new(Config::standard());
    let pool = specs::pool("p", DeviceMode::Counted, &["rack"]);
    core.apply(Event::Pool(pool));
    for (name, share) in [("a", 0), ("b", gpus * u64::from(nodes))] {
        let quota = specs::quota(specs::amount(0, 0, share * 1_000), &[], 1);
        core.apply(Event::Queue(QueueSpec {
            quotas: BTreeMap::from([("*".to_owned(), quota)]),
            ..specs::queue(name)
        }));
    }
    for id in 0..nodes {
        let rack = format!("rack-{}", id % racks.max(1));
        let has = specs::amount(64_000, 256 << 30, gpus * 1_000);
        core.apply(Event::Node(NodeSpec {
            slots_max: 110,
            labels: BTreeMap::from([("rack".to_owned(), rack)]),
            ..specs::node(id, format!("node-{id}"), "p", has)
        }));
    }
    core
}

/// A task of one group; memory goes with the CPU.
pub(crate) fn task(number: u64, queue: &str, cpu: u64, gpus: u64, members: u32) -> TaskSpec {
    let each = specs::amount(cpu, cpu << 20, gpus * 1_000);
    let group = specs::group(members, each);
    let mut task = specs::task(number, queue, Time::from_ms(number as i64), vec![group]);
    task.grace = base::Span::from_secs(30);
    task
}

/// Says yes to every decision.
pub(crate) fn commit(core: &mut Sched, decisions: &[Decision]) {
    for decision in decisions {
        core.apply(Event::Committed(decision.id));
    }
}

/// Lets one task arrive and be decided; answers what was decided and the time it took.
pub(crate) fn arrive(core: &mut Sched, spec: TaskSpec) -> (Vec<Decision>, Duration) {
    let now = spec.submitted;
    let begin = Instant::now();
    core.apply(Event::Task(spec));
    let decisions = core.decide(now, STEPS);
    commit(core, &decisions);
    (decisions, begin.elapsed())
}

/// Events a second.
pub(crate) fn per_second(count: u64, spent: Duration) -> f64 {
    (count as f64 / spent.as_secs_f64().max(1e-9)).round()
}

/// A percentile in milliseconds, to the microsecond.
pub(crate) fn percentile_ms(took: &mut [Duration], percent: f64) -> f64 {
    took.sort_unstable();
    let at = (took.len() as f64 * percent / 100.0) as usize;
    let at = at.min(took.len().saturating_sub(1));
    took.get(at).map_or(0.0, |t| ms(*t))
}

/// The middle value: one that the machine disturbed says nothing.
pub(crate) fn middle(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Milliseconds, to the microsecond.
pub(crate) fn ms(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

/// Whether a decision stops somebody.
pub(crate) fn is_evict(decision: &&Decision) -> bool {
    matches!(decision.kind, DecisionKind::Evict { .. })
}
