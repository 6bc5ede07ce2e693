//! The openb trace (Weng et al., USENIX ATC 2023): how much of a cluster's GPUs can be handed out.
//!
//! 1,213 GPU nodes; the pods of a list, with random copies until they ask for 130 % of all GPUs, in
//! random order; nothing ends; who does not fit is dropped. The figure is the share of GPU
//! thousandths handed out when arrivals reach 100 % and 130 % of capacity.

use crate::cells::Table;
use crate::data::DataError;
use crate::dice::Dice;
use crate::plain::{Ask, Order, Plain, Rule};
use crate::policy::{Moonshot, Policy as Scheduler};
use crate::specs;
use base::Time;
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

    fn ask(&self) -> Ask {
        Ask {
            cpu: self.cpu as i64,
            memory: 0,
            gpus: self.gpus as usize,
            milli: self.milli as i64,
            models: self.models.clone(),
            extended: Vec::new(),
        }
    }
}

/// Who places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The scheduler core, which learns what is typical from arrivals.
    Moonshot,
    /// A plain rule over plain lists.
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

/// Places the arrivals of one seed.
pub fn run(machines: &[Machine], pods: &[Pod], policy: Policy, seed: u64) -> Run {
    let arriving = arrivals(machines, pods, seed);
    match policy {
        Policy::Moonshot => {
            // A list of models in this trace is a set, so fragmentation comes before its order.
            // Who does not fit is dropped, so there is nobody to keep nodes for.
            let mut core = Moonshot::new(Config {
                models: ModelOrder::AfterFragmentation,
                backfill: Backfill::Never,
                ..Config::standard()
            });
            tally(machines, &arriving, &mut core)
        }
        Policy::Plain(rule) => {
            let typical = match rule {
                Rule::Fgd => typical(pods),
                Rule::Random
                | Rule::BestFit
                | Rule::DotProduct
                | Rule::GpuPacking
                | Rule::GpuClustering => Vec::new(),
            };
            let mut plain = Plain::new(rule, Order::Strict, typical, seed);
            tally(machines, &arriving, &mut plain)
        }
    }
}

/// The most frequent pods, until they cover 95 % of the list, with their shares of those.
pub fn typical(pods: &[Pod]) -> Vec<(Ask, f64)> {
    let mut counts: BTreeMap<Ask, u64> = BTreeMap::new();
    for pod in pods {
        *counts.entry(pod.ask()).or_default() += 1;
    }
    let mut kinds: Vec<(Ask, u64)> = counts.into_iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut covered = 0;
    let enough = pods.len() as u64 * 95 / 100;
    kinds.retain(|(_, count)| {
        let is_needed = covered < enough;
        covered += if is_needed { *count } else { 0 };
        is_needed
    });
    let weighed = kinds.into_iter();
    weighed
        .map(|(ask, count)| (ask, count as f64 / covered as f64))
        .collect()
}

fn tally(machines: &[Machine], arriving: &[Pod], policy: &mut dyn Scheduler) -> Run {
    for event in core_events(machines) {
        policy.apply(event);
    }
    let all = capacity(machines);
    let (mut asked, mut given) = (0, 0);
    let mut spent = Duration::ZERO;
    let mut at_100 = None;
    let percent = |given: u64| given as f64 * 100.0 / all as f64;
    for (number, pod) in arriving.iter().enumerate() {
        let (placed, took) = arrive(policy, core_task(number, pod));
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

/// Lets one pod arrive; who does not fit is dropped. Answers whether it was placed, and the time it took.
pub(crate) fn arrive(policy: &mut dyn Scheduler, task: TaskSpec) -> (bool, Duration) {
    let (id, now) = (task.id, task.submitted);
    let begin = Instant::now();
    policy.apply(Event::Task(task));
    let decisions = policy.decide(now);
    let placed = !decisions.is_empty();
    for decision in decisions {
        policy.apply(Event::Committed(decision.id));
    }
    if !placed {
        policy.apply(Event::TaskGone(id));
    }
    (placed, begin.elapsed())
}

/// Thousandths of GPUs of all machines.
pub fn capacity(machines: &[Machine]) -> u64 {
    machines.iter().map(|m| u64::from(m.gpus) * 1_000).sum()
}

/// The machines as nodes of one pool.
pub fn core_events(machines: &[Machine]) -> Vec<Event> {
    let mut events = vec![
        Event::Pool(specs::pool("gpu", DeviceMode::Named, &[])),
        Event::Queue(specs::queue("all")),
    ];
    for (at, machine) in machines.iter().enumerate() {
        let has = specs::amount(machine.cpu, machine.memory << 20, 0);
        events.push(Event::Node(NodeSpec {
            devices: specs::gpus(&machine.model, machine.gpus),
            ..specs::node(at as u32, format!("openb-{at}"), "gpu", has)
        }));
    }
    events
}

/// A pod as a task.
pub fn core_task(number: usize, pod: &Pod) -> TaskSpec {
    let group = GroupSpec {
        name: "pod".to_owned(),
        gpu_models: pod.models.clone(),
        ..specs::group(1, specs::amount(pod.cpu, pod.memory << 20, pod.gpu_milli()))
    };
    TaskSpec {
        name: format!("pod-{number}"),
        preemptible: false,
        ..specs::task(
            number as u64,
            "all",
            Time::from_ms(number as i64),
            vec![group],
        )
    }
}
