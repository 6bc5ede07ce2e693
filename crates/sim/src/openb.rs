//! The openb trace (Weng et al., USENIX ATC 2023): how much of a cluster's GPUs can be handed out.
//!
//! 1,213 GPU nodes; the pods of a list, with random copies until they ask for 130 % of all GPUs, in
//! random order; nothing ends; who does not fit is dropped. The figure is the share of GPU
//! thousandths handed out when arrivals reach 100 % and 130 % of capacity.

use crate::cells::Table;
use crate::data::DataError;
use crate::dice::Dice;
use crate::flat::{Flat, Rule};
use base::{Bytes, MilliCpu, Resources, Span, Time, Uid};
use sched::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// A machine of the list.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Thousandths of cores.
    pub cpu: u64,
    /// Mebibytes.
    pub memory: u64,
    /// How many GPUs.
    pub gpus: u16,
    /// Their model.
    pub model: String,
}

/// A pod of the list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pod {
    /// Thousandths of cores.
    pub cpu: u64,
    /// Mebibytes.
    pub memory: u64,
    /// How many GPUs.
    pub gpus: u64,
    /// Thousandths of each.
    pub milli: u64,
    /// Models that it accepts; empty accepts any.
    pub models: Vec<String>,
}

impl Pod {
    /// Thousandths of GPUs that it asks for in all.
    pub fn gpu_milli(&self) -> u64 {
        self.gpus * self.milli
    }
}

/// Who places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The scheduler core, which learns what is typical from arrivals.
    Moonshot,
    /// A plain rule over plain arrays.
    Plain(Rule),
}

/// What one seed gave.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Percent of GPUs handed out when arrivals reached 100 % of capacity.
    pub at_100: f64,
    /// The same at 130 %.
    pub at_130: f64,
    /// Pods that arrived.
    pub pods: usize,
    /// Time spent deciding.
    pub spent: Duration,
}

/// Reads the machines.
pub fn read_nodes(path: &Path) -> Result<Vec<Machine>, DataError> {
    let table = Table::read(path)?;
    let machines = table.lines().map(|line| {
        Ok(Machine {
            cpu: line.number("cpu_milli")?,
            memory: line.number("memory_mib")?,
            gpus: line.number("gpu")?,
            model: line.text("model")?.to_owned(),
        })
    });
    machines.collect()
}

/// Reads the pods of a list. Lists without a column of models accept any.
pub fn read_pods(path: &Path) -> Result<Vec<Pod>, DataError> {
    let table = Table::read(path)?;
    let has_models = table.has("gpu_spec");
    let pods = table.lines().map(|line| {
        let spec = if has_models {
            line.text("gpu_spec")?
        } else {
            ""
        };
        let mut models: Vec<String> = spec
            .split('|')
            .filter(|model| !model.is_empty())
            .map(str::to_owned)
            .collect();
        models.sort();
        Ok(Pod {
            cpu: line.number("cpu_milli")?,
            memory: line.number("memory_mib")?,
            gpus: line.number("num_gpu")?,
            milli: line.number("gpu_milli")?,
            models,
        })
    });
    pods.collect()
}

/// The arrivals of a seed.
pub fn arrivals(machines: &[Machine], pods: &[Pod], seed: u64) -> Vec<Pod> {
    let mut dice = Dice::new(seed);
    let goal = capacity(machines) * 130 / 100;
    let mut chosen = pods.to_vec();
    dice.shuffle(&mut chosen);
    let mut asked = 0;
    let within = chosen.iter().position(|pod| {
        asked += pod.gpu_milli();
        asked >= goal
    });
    if let Some(last) = within {
        chosen.truncate(last + 1);
        return chosen;
    }
    while asked < goal {
        let pod = &pods[dice.below(pods.len())];
        asked += pod.gpu_milli();
        chosen.push(pod.clone());
    }
    dice.shuffle(&mut chosen);
    chosen
}

/// Thousandths of GPUs of all machines.
pub fn capacity(machines: &[Machine]) -> u64 {
    machines.iter().map(|m| u64::from(m.gpus) * 1_000).sum()
}

/// Places the arrivals of one seed.
pub fn run(machines: &[Machine], pods: &[Pod], policy: Policy, seed: u64) -> Run {
    let arriving = arrivals(machines, pods, seed);
    match policy {
        Policy::Moonshot => run_core(machines, &arriving),
        Policy::Plain(rule) => {
            let mut flat = Flat::new(machines, pods, rule, seed);
            tally(machines, &arriving, |pod| {
                let begin = Instant::now();
                let placed = flat.place(pod);
                (placed, begin.elapsed())
            })
        }
    }
}

fn tally(
    machines: &[Machine],
    arriving: &[Pod],
    mut place: impl FnMut(&Pod) -> (bool, Duration),
) -> Run {
    let all = capacity(machines);
    let (mut asked, mut given) = (0, 0);
    let mut spent = Duration::ZERO;
    let mut at_100 = None;
    let percent = |given: u64| given as f64 * 100.0 / all as f64;
    for pod in arriving {
        let (placed, took) = place(pod);
        spent += took;
        asked += pod.gpu_milli();
        given += if placed { pod.gpu_milli() } else { 0 };
        if asked >= all && at_100.is_none() {
            at_100 = Some(percent(given));
        }
    }
    Run {
        at_100: at_100.unwrap_or_else(|| percent(given)),
        at_130: percent(given),
        pods: arriving.len(),
        spent,
    }
}

/// The machines as nodes of one pool.
pub fn core_events(machines: &[Machine]) -> Vec<Event> {
    let mut events = vec![
        Event::Pool(PoolSpec {
            name: "gpu".to_owned(),
            packing: Packing::BinPack,
            devices: DeviceMode::Named,
            levels: Vec::new(),
        }),
        Event::Queue(QueueSpec {
            name: "all".to_owned(),
            parent: None,
            priority: 0,
            quotas: BTreeMap::new(),
        }),
    ];
    for (at, machine) in machines.iter().enumerate() {
        let device = |number: u16| DeviceSpec {
            id: number.to_string(),
            class: "gpu".to_owned(),
            model: machine.model.clone(),
            memory: Bytes(0),
            healthy: true,
            link_group: 0,
            numa: 0,
        };
        events.push(Event::Node(NodeSpec {
            id: NodeId(at as u32),
            name: format!("openb-{at}"),
            pool: "gpu".to_owned(),
            allocatable: Resources {
                cpu: MilliCpu(machine.cpu),
                memory: Bytes(machine.memory << 20),
                gpu_milli: 0,
                extended: BTreeMap::new(),
            },
            slots_max: 0,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            unschedulable: false,
            devices: (0..machine.gpus).map(device).collect(),
        }));
    }
    events
}

/// A pod as a task.
pub fn core_task(number: usize, pod: &Pod) -> TaskSpec {
    TaskSpec {
        id: TaskId(Uid(number as u128 + 1)),
        generation: 1,
        name: format!("pod-{number}"),
        queue: "all".to_owned(),
        kind: TaskKind::Batch,
        priority: 0,
        submitted: Time::from_ms(number as i64),
        groups: vec![GroupSpec {
            name: "pod".to_owned(),
            count: 1,
            min: 1,
            request: Resources {
                cpu: MilliCpu(pod.cpu),
                memory: Bytes(pod.memory << 20),
                gpu_milli: pod.gpu_milli(),
                extended: BTreeMap::new(),
            },
            gpu_models: pod.models.clone(),
            gpu_memory: Bytes(0),
            node_selector: BTreeMap::new(),
            pools: Vec::new(),
            tolerations: Vec::new(),
            affinity: Affinity::default(),
            topology: None,
            per_node_max: 0,
        }],
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

fn run_core(machines: &[Machine], arriving: &[Pod]) -> Run {
    // A list of models in this trace is a set, so fragmentation comes before its order.
    // Who does not fit is dropped, so there is nobody to keep nodes for.
    let mut core = Sched::new(Config {
        models: ModelOrder::AfterFragmentation,
        backfill: Backfill::Never,
        ..Config::standard()
    });
    for event in core_events(machines) {
        core.apply(event);
    }
    let mut number = 0;
    tally(machines, arriving, |pod| {
        let task = core_task(number, pod);
        let (id, now) = (task.id, task.submitted);
        number += 1;
        let begin = Instant::now();
        core.apply(Event::Task(task));
        let decisions = core.decide(now, 10_000);
        let placed = !decisions.is_empty();
        for decision in decisions {
            core.apply(Event::Committed(decision.id));
        }
        if !placed {
            core.apply(Event::TaskGone(id));
        }
        (placed, begin.elapsed())
    })
}
