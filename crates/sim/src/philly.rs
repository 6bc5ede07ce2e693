//! Microsoft's Philly trace (Jeon et al., USENIX ATC 2019; the derived table of the Pollux artefact):
//! how long jobs wait on a cluster of nodes with eight GPUs.
//!
//! Jobs of up to eight GPUs run on one node, larger ones on whole nodes and the remainder on one more.
//! Run times are known to the simulation alone; only the oracle's order is made from them.

use crate::cells::Table;
use crate::data::DataError;
use base::{Bytes, MilliCpu, Resources, Span, Time, Uid};
use sched::*;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;
use std::time::{Duration, Instant};

/// A job of the trace, in order of arrival.
#[derive(Clone, Debug)]
pub struct Job {
    /// When it came.
    pub submitted: Time,
    /// How long it runs.
    pub runs: Span,
    /// How many GPUs.
    pub gpus: u64,
    /// Whose it is.
    pub owner: String,
}

/// Who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Strictly by arrival: the first that does not fit holds up all others.
    Fifo,
    /// By arrival; others pass where nodes are kept for the first who waits. Owners are queues.
    Moonshot,
    /// By arrival in one queue; others pass where nodes are kept for the first who waits.
    Easy,
    /// The shortest first, known in advance.
    ShortestOracle,
}

/// What a run gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How long each job waited, in the order of the trace.
    pub waits: Vec<Span>,
    /// Used GPU time by all GPU time until the last arrival.
    pub utilisation: f64,
    /// Tasks that were stopped.
    pub evictions: usize,
    /// Time spent in the core.
    pub spent: Duration,
    /// Calls of `decide`.
    pub calls: usize,
}

/// Reads the jobs.
pub fn read(path: &Path) -> Result<Vec<Job>, DataError> {
    let table = Table::read(path)?;
    let mut jobs = Vec::new();
    for line in table.lines() {
        let stamp = line.text("timestamp")?.replacen(' ', "T", 1);
        let submitted: Time = format!("{stamp}Z")
            .parse()
            .map_err(|_| line.bad("timestamp", &stamp))?;
        let seconds: f64 = line.number("duration")?;
        jobs.push(Job {
            submitted,
            runs: Span::from_ms((seconds.max(1.0) * 1_000.0) as u64),
            gpus: line.number("num_gpus")?,
            owner: line.text("cluster")?.to_owned(),
        });
    }
    jobs.sort_by_key(|job| job.submitted);
    Ok(jobs)
}

/// Runs the jobs that fit at all on `nodes` nodes of `gpus` GPUs.
pub fn run(jobs: &[Job], nodes: u32, gpus: u64, order: Order) -> Outcome {
    let mut core = Sched::new(Config {
        backfill: match order {
            Order::Fifo => Backfill::Never,
            Order::Moonshot | Order::Easy | Order::ShortestOracle => Backfill::Easy,
        },
        ..Config::standard()
    });
    start(&mut core, jobs, nodes, gpus, order);
    let mut waits = vec![Span::ZERO; jobs.len()];
    let mut ends: BinaryHeap<Reverse<(Time, usize)>> = BinaryHeap::new();
    let mut arriving = 0;
    let (mut used_ms, mut evictions, mut calls) = (0u128, 0, 0);
    let mut spent = Duration::ZERO;
    let last = jobs.last().map_or(Time::from_ms(0), |job| job.submitted);
    loop {
        let arrival = jobs.get(arriving).map(|job| job.submitted);
        let end = ends.peek().map(|Reverse((time, _))| *time);
        let Some(now) = arrival.into_iter().chain(end).min() else {
            break;
        };
        let mut events = Vec::new();
        while let Some(Reverse((time, number))) = ends.peek().copied()
            && time <= now
        {
            ends.pop();
            for slot in slots(&jobs[number], gpus) {
                events.push(Event::Released {
                    task: id(number),
                    slot,
                });
            }
        }
        while let Some(job) = jobs.get(arriving)
            && job.submitted <= now
        {
            events.push(Event::Task(task(arriving, job, gpus, order)));
            arriving += 1;
        }
        let begin = Instant::now();
        for event in events {
            core.apply(event);
        }
        let decisions = core.decide(now, 1_000_000);
        for decision in &decisions {
            core.apply(Event::Committed(decision.id));
        }
        spent += begin.elapsed();
        calls += 1;
        for decision in decisions {
            match decision.kind {
                DecisionKind::Start { task, .. } => {
                    let number = (task.0.0 - 1) as usize;
                    let job = &jobs[number];
                    waits[number] = now.since(job.submitted);
                    ends.push(Reverse((now + job.runs, number)));
                    let until = (now + job.runs).min(last);
                    used_ms += u128::from(until.since(now).as_ms()) * u128::from(job.gpus);
                }
                DecisionKind::Evict { .. } => evictions += 1,
                DecisionKind::Grow { .. } | DecisionKind::Nominate { .. } => {}
            }
        }
    }
    let first = jobs.first().map_or(last, |job| job.submitted);
    let all_ms = u128::from(last.since(first).as_ms()) * u128::from(u64::from(nodes) * gpus);
    Outcome {
        waits,
        utilisation: used_ms as f64 / all_ms.max(1) as f64,
        evictions,
        spent,
        calls,
    }
}

fn start(core: &mut Sched, jobs: &[Job], nodes: u32, gpus: u64, order: Order) {
    core.apply(Event::Pool(PoolSpec {
        name: "gpu".to_owned(),
        packing: Packing::BinPack,
        devices: DeviceMode::Counted,
        levels: Vec::new(),
    }));
    let mut owners: Vec<&str> = jobs.iter().map(|job| queue(job, order)).collect();
    owners.sort_unstable();
    owners.dedup();
    for name in owners {
        core.apply(Event::Queue(QueueSpec {
            name: name.to_owned(),
            parent: None,
            priority: 0,
            quotas: BTreeMap::new(),
        }));
    }
    for id in 0..nodes {
        core.apply(Event::Node(NodeSpec {
            id: NodeId(id),
            name: format!("node-{id}"),
            pool: "gpu".to_owned(),
            allocatable: Resources {
                cpu: MilliCpu(0),
                memory: Bytes(0),
                gpu_milli: gpus * 1_000,
                extended: BTreeMap::new(),
            },
            slots_max: 0,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            unschedulable: false,
            devices: Vec::new(),
        }));
    }
}

fn queue(job: &Job, order: Order) -> &str {
    match order {
        Order::Moonshot => &job.owner,
        Order::Fifo | Order::Easy | Order::ShortestOracle => "all",
    }
}

fn id(number: usize) -> TaskId {
    TaskId(Uid(number as u128 + 1))
}

/// Whole nodes, then the remainder.
fn parts(job: &Job, gpus: u64) -> Vec<(u32, u64)> {
    let (whole, rest) = ((job.gpus / gpus) as u32, job.gpus % gpus);
    let mut parts = Vec::new();
    if whole > 0 {
        parts.push((whole, gpus));
    }
    if rest > 0 {
        parts.push((1, rest));
    }
    parts
}

fn slots(job: &Job, gpus: u64) -> Vec<SlotId> {
    let parts = parts(job, gpus).into_iter().enumerate();
    parts
        .flat_map(|(group, (count, _))| {
            (0..count).map(move |index| SlotId {
                group: group as u16,
                index,
            })
        })
        .collect()
}

fn task(number: usize, job: &Job, gpus: u64, order: Order) -> TaskSpec {
    let groups = parts(job, gpus).into_iter().map(|(count, each)| GroupSpec {
        name: "worker".to_owned(),
        count,
        min: count,
        request: Resources {
            cpu: MilliCpu(0),
            memory: Bytes(0),
            gpu_milli: each * 1_000,
            extended: BTreeMap::new(),
        },
        gpu_models: Vec::new(),
        gpu_memory: Bytes(0),
        node_selector: BTreeMap::new(),
        pools: Vec::new(),
        tolerations: Vec::new(),
        affinity: Affinity::default(),
        topology: None,
        per_node_max: 0,
    });
    TaskSpec {
        id: id(number),
        generation: 1,
        name: format!("job-{number}"),
        queue: queue(job, order).to_owned(),
        kind: TaskKind::Batch,
        priority: match order {
            Order::ShortestOracle => -((job.runs.as_ms() / 1_000).min(1 << 30) as i32),
            Order::Fifo | Order::Moonshot | Order::Easy => 0,
        },
        submitted: job.submitted,
        groups: groups.collect(),
        preemptible: false,
        min_runtime: Span::ZERO,
        grace: Span::ZERO,
        checkpoints: false,
        time_limit: None,
        expected: None,
        disruption: None,
        readmit: false,
    }
}
