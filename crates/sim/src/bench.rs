//! How fast the core decides: synthetic clusters, one core, wall time of `apply` and `decide` alone.
//!
//! Absolute figures say little on a shared machine, so `basic` runs a calibrator beside itself: the
//! least that any scheduler with cached scores must do, which is to scan the scores of all nodes, take
//! the best and refresh it.

use base::{Bytes, MilliCpu, Resources, Span, Time, Uid};
use sched::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A cluster of equal nodes in one pool, with queues `a` and `b`; `b` owns everything.
fn cluster(nodes: u32, gpus: u16, racks: u32) -> Sched {
    let mut core = Sched::new(Config::standard());
    core.apply(Event::Pool(PoolSpec {
        name: "p".to_owned(),
        packing: Packing::BinPack,
        devices: DeviceMode::Counted,
        levels: vec!["rack".to_owned()],
    }));
    for (name, share) in [("a", 0), ("b", u64::from(gpus) * u64::from(nodes))] {
        let quota = Quota {
            guaranteed: Resources {
                gpu_milli: share * 1_000,
                ..Resources::default()
            },
            limit: BTreeMap::new(),
            weight: 1,
        };
        core.apply(Event::Queue(QueueSpec {
            name: name.to_owned(),
            parent: None,
            priority: 0,
            quotas: BTreeMap::from([("*".to_owned(), quota)]),
        }));
    }
    for id in 0..nodes {
        core.apply(Event::Node(NodeSpec {
            id: NodeId(id),
            name: format!("node-{id}"),
            pool: "p".to_owned(),
            allocatable: Resources {
                cpu: MilliCpu(64_000),
                memory: Bytes(256 << 30),
                gpu_milli: u64::from(gpus) * 1_000,
                extended: BTreeMap::new(),
            },
            slots_max: 110,
            labels: BTreeMap::from([("rack".to_owned(), format!("rack-{}", id % racks.max(1)))]),
            taints: Vec::new(),
            unschedulable: false,
            devices: Vec::new(),
        }));
    }
    core
}

/// What a member asks for.
#[derive(Clone, Copy)]
struct Ask {
    cpu: u64,
    gpus: u64,
    members: u32,
    per_node: u32,
}

fn task(number: u64, queue: &str, ask: Ask) -> TaskSpec {
    TaskSpec {
        id: TaskId(Uid(u128::from(number) + 1)),
        generation: 1,
        name: format!("t{number}"),
        queue: queue.to_owned(),
        kind: TaskKind::Batch,
        priority: 0,
        submitted: Time::from_ms(number as i64),
        groups: vec![GroupSpec {
            name: "worker".to_owned(),
            count: ask.members,
            min: ask.members,
            request: Resources {
                cpu: MilliCpu(ask.cpu),
                memory: Bytes(ask.cpu << 20),
                gpu_milli: ask.gpus * 1_000,
                extended: BTreeMap::new(),
            },
            gpu_models: Vec::new(),
            gpu_memory: Bytes(0),
            node_selector: BTreeMap::new(),
            pools: Vec::new(),
            tolerations: Vec::new(),
            affinity: Affinity::default(),
            topology: None,
            per_node_max: ask.per_node,
        }],
        preemptible: true,
        min_runtime: Span::ZERO,
        grace: Span::from_secs(30),
        checkpoints: false,
        time_limit: None,
        expected: None,
        disruption: None,
        readmit: false,
    }
}

/// Runs a bench by name; `None` where there is none of that name.
pub fn run(name: &str) -> Option<Value> {
    Some(match name {
        "basic" => basic(),
        "large" => large(),
        "gang" => gang(),
        "constraints" => constraints(),
        "topology" => topology(),
        "reclaim_large" => json!([
            reclaim_large(100),
            reclaim_large(1_000),
            reclaim_large(10_000)
        ]),
        "reclaim_many" => reclaim_many(),
        "memory" => memory(),
        _ => return None,
    })
}

fn commit(core: &mut Sched, decisions: &[Decision]) {
    for decision in decisions {
        core.apply(Event::Committed(decision.id));
    }
}

/// Pods one by one, of sixteen kinds.
fn arrive(core: &mut Sched, count: u64) -> (u64, Vec<Duration>) {
    let mut placed = 0;
    let mut took = Vec::with_capacity(count as usize);
    for number in 0..count {
        let kind = number % 16;
        let ask = Ask {
            cpu: 250 * (1 + kind),
            gpus: 0,
            members: 1,
            per_node: 0,
        };
        let spec = task(number, "a", ask);
        let begin = Instant::now();
        core.apply(Event::Task(spec));
        let decisions = core.decide(Time::from_ms(number as i64), 10_000);
        placed += decisions.len() as u64;
        commit(core, &decisions);
        took.push(begin.elapsed());
    }
    (placed, took)
}

fn per_second(count: u64, spent: Duration) -> f64 {
    (count as f64 / spent.as_secs_f64()).round()
}

fn percentile(took: &mut [Duration], percent: usize) -> f64 {
    took.sort_unstable();
    let at = (took.len() * percent / 100).min(took.len().saturating_sub(1));
    took.get(at).map_or(0.0, |t| t.as_secs_f64() * 1e6)
}

fn basic() -> Value {
    let mut core = cluster(5_000, 0, 50);
    let (placed, mut took) = arrive(&mut core, 50_000);
    let spent: Duration = took.iter().sum();
    let rate = per_second(placed, spent);
    let calibrator = calibrate(5_000, 50_000);
    json!({
        "bench": "sched.basic", "nodes": 5_000, "pods": 50_000, "placed": placed,
        "decisions_per_s": rate, "calibrator_per_s": calibrator, "ratio": rate / calibrator,
        "p50_us": percentile(&mut took, 50), "p99_us": percentile(&mut took, 99),
    })
}

/// Scores of one class, scanned whole for each pod.
fn calibrate(nodes: usize, pods: u64) -> f64 {
    let mut free = vec![64_000i64; nodes];
    let mut by_kind: Vec<Vec<i32>> = (0..16).map(|_| vec![0; nodes]).collect();
    let ask = |kind: usize| 250 * (1 + kind as i64);
    for (kind, scores) in by_kind.iter_mut().enumerate() {
        for (at, score) in scores.iter_mut().enumerate() {
            *score = (1 << 20) - (free[at] - ask(kind)) as i32;
        }
    }
    let begin = Instant::now();
    for number in 0..pods {
        let kind = number as usize % 16;
        let mut best = (i32::MIN, 0);
        for (at, score) in by_kind[kind].iter().enumerate() {
            if *score > best.0 {
                best = (*score, at);
            }
        }
        let at = best.1;
        free[at] -= ask(kind);
        for (kind, scores) in by_kind.iter_mut().enumerate() {
            let left = free[at] - ask(kind);
            scores[at] = if left < 0 {
                i32::MIN
            } else {
                (1 << 20) - left as i32
            };
        }
    }
    per_second(pods, begin.elapsed())
}

fn large() -> Value {
    let mut core = cluster(100_000, 0, 1_000);
    let (placed, mut took) = arrive(&mut core, 20_000);
    let spent: Duration = took.iter().sum();
    json!({
        "bench": "sched.large", "nodes": 100_000, "pods": 20_000, "placed": placed,
        "decisions_per_s": per_second(placed, spent),
        "p50_us": percentile(&mut took, 50), "p99_us": percentile(&mut took, 99),
        "max_us": percentile(&mut took, 100),
    })
}

fn gang() -> Value {
    let timed = |nodes: u32, gangs: u64, members: u32, per_node: u32| {
        let mut core = cluster(nodes, 0, 50);
        let specs: Vec<TaskSpec> = (0..gangs)
            .map(|number| {
                let ask = Ask {
                    cpu: 1_000,
                    gpus: 0,
                    members,
                    per_node,
                };
                task(number, "a", ask)
            })
            .collect();
        let begin = Instant::now();
        for spec in specs {
            core.apply(Event::Task(spec));
        }
        let decisions = core.decide(Time::from_ms(0), u32::MAX);
        commit(&mut core, &decisions);
        let spent = begin.elapsed();
        let pods = decisions.len() as u64 * u64::from(members);
        json!({
            "nodes": nodes, "gangs": gangs, "members": members, "pods": pods,
            "pods_per_s": per_second(pods, spent), "ms": spent.as_secs_f64() * 1e3,
        })
    };
    json!({"bench": "sched.gang", "cases": [
        timed(20_000, 20, 1_000, 1), timed(5_000, 3_000, 3, 0),
        timed(5_000, 10, 5_000, 0), timed(20_000, 1, 10_000, 0),
    ]})
}

fn constraints() -> Value {
    let timed = |name: &str, level: &str, with: bool| {
        let mut core = cluster(5_000, 0, 50);
        let count = 5_000;
        let mut took = Duration::ZERO;
        let mut placed = 0;
        for number in 0..count {
            let mut spec = task(
                number,
                "a",
                Ask {
                    cpu: 100,
                    gpus: 0,
                    members: 1,
                    per_node: 0,
                },
            );
            // Ten Apps; their replicas keep apart, or every replica keeps to its App's rack.
            let key = format!("app-{}", number % 10);
            let affinity = &mut spec.groups[0].affinity;
            affinity.keys.push(key.clone());
            if with {
                affinity.with.push((key, level.to_owned()));
            } else {
                affinity.against.push((key, level.to_owned()));
            }
            let begin = Instant::now();
            core.apply(Event::Task(spec));
            let decisions = core.decide(Time::from_ms(number as i64), 10_000);
            placed += decisions.len() as u64;
            commit(&mut core, &decisions);
            took += begin.elapsed();
        }
        json!({"case": name, "placed": placed, "pods": count, "pods_per_s": per_second(count, took)})
    };
    json!({"bench": "sched.constraints", "nodes": 5_000, "cases": [
        timed("anti-affinity by host", "host", false), timed("affinity by rack", "rack", true),
    ]})
}

fn topology() -> Value {
    let mut core = cluster(5_000, 0, 50);
    let begin = Instant::now();
    let mut placed = 0;
    for number in 0..2_250 {
        let mut spec = task(
            number,
            "a",
            Ask {
                cpu: 8_000,
                gpus: 0,
                members: 4,
                per_node: 0,
            },
        );
        spec.groups[0].topology = Some(TopologyRequest {
            level: "rack".to_owned(),
            required: true,
        });
        core.apply(Event::Task(spec));
        let decisions = core.decide(Time::from_ms(number as i64), 10_000);
        placed += decisions.len() as u64 * 4;
        commit(&mut core, &decisions);
    }
    json!({"bench": "sched.topology", "nodes": 5_000, "racks": 50, "placed": placed,
        "pods_per_s": per_second(placed, begin.elapsed())})
}

/// Nodes of eight GPUs, full of one-GPU tasks of `a`.
fn full(nodes: u32) -> Sched {
    let mut core = cluster(nodes, 8, 50);
    let mut number = 0;
    for node in 0..nodes {
        for _ in 0..8 {
            let ask = Ask {
                cpu: 1_000,
                gpus: 1,
                members: 1,
                per_node: 0,
            };
            core.apply(Event::Running(RunningTask {
                spec: task(number, "a", ask),
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

fn reclaim_large(nodes: u32) -> Value {
    let mut core = full(nodes);
    let ask = Ask {
        cpu: 8_000,
        gpus: 8,
        members: nodes / 10,
        per_node: 0,
    };
    let begin = Instant::now();
    core.apply(Event::Task(task(u64::MAX - 1, "b", ask)));
    let decisions = core.decide(Time::from_ms(10_000), 1_000_000);
    let spent = begin.elapsed();
    let victims = decisions.iter().filter(is_evict).count();
    json!({"bench": "sched.reclaim_large", "nodes": nodes, "ms": spent.as_secs_f64() * 1e3,
        "victims": victims, "optimal": nodes / 10 * 8})
}

fn is_evict(decision: &&Decision) -> bool {
    matches!(decision.kind, DecisionKind::Evict { .. })
}

fn reclaim_many() -> Value {
    let mut core = full(500);
    let ask = Ask {
        cpu: 1_000,
        gpus: 1,
        members: 1,
        per_node: 0,
    };
    let specs: Vec<TaskSpec> = (0..4_000).map(|n| task(1_000_000 + n, "b", ask)).collect();
    let begin = Instant::now();
    for spec in specs {
        core.apply(Event::Task(spec));
    }
    let decisions = core.decide(Time::from_ms(10_000), u32::MAX);
    let spent = begin.elapsed();
    json!({"bench": "sched.reclaim_many", "nodes": 500, "running": 4_000, "pending": 4_000,
        "ms": spent.as_secs_f64() * 1e3, "evictions": decisions.iter().filter(is_evict).count()})
}

fn memory() -> Value {
    let mut core = cluster(100_000, 0, 1_000);
    for number in 0..1_000_000 {
        let ask = Ask {
            cpu: 250 * (1 + number % 16),
            gpus: 0,
            members: 1,
            per_node: 0,
        };
        core.apply(Event::Task(task(number, "a", ask)));
    }
    // As the scheduler loop does it: a budget of steps a call.
    let mut placed = 0;
    loop {
        let decisions = core.decide(Time::from_ms(0), 20_000);
        if decisions.is_empty() {
            break;
        }
        commit(&mut core, &decisions);
        placed += decisions.len();
    }
    json!({"bench": "sched.memory", "nodes": 100_000, "tasks": 1_000_000, "placed": placed,
        "peak_rss_mb": rss_mb("VmHWM:"), "rss_mb": rss_mb("VmRSS:")})
}

fn rss_mb(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib >> 10)
}
