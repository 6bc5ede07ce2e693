//! Alibaba's disaggregated DLRM trace (2025): inference Apps whose instances take parts of a network card and
//! must not stand together in too great a number.
//!
//! GPU instances (HN) and CPU instances (CN) have machines of their own kind: 96 cores, 1 TiB, 8 GPUs and 200
//! units of network; 192 cores, 2 TiB and 100 units. There are enough of them; what is measured is how few are
//! used. Instances of an App that ask for the same are one group with its most instances a node.

use crate::cells::Table;
use crate::data::DataError;
use crate::policy::Policy;
use crate::specs;
use base::{Bytes, MilliCpu, Resources, Time};
use sched::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// An App with its groups of equal instances.
#[derive(Clone, Debug)]
pub struct App {
    /// Its name.
    pub name: String,
    /// Its instances.
    pub groups: Vec<Group>,
}

/// Equal instances.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// `HN` has GPUs, `CN` has none.
    pub role: String,
    /// Cores.
    pub cpu: u64,
    /// Gibibytes.
    pub memory: u64,
    /// GPUs.
    pub gpus: u64,
    /// Units of network.
    pub network: u64,
    /// Most instances on a node; 0 for any.
    pub per_node: u32,
    /// How many.
    pub count: u32,
}

/// What placing them gave.
#[derive(Clone, Debug)]
pub struct Run {
    /// Instances in all.
    pub instances: u32,
    /// Percent of instances that were placed.
    pub placed_percent: f64,
    /// Nodes with at least one instance.
    pub nodes_used: usize,
    /// No packing can use fewer: the scarcest resource of each kind of node.
    pub nodes_least: u64,
    /// Percent of the used nodes' network that is handed out.
    pub network_percent: f64,
}

/// Reads the Apps, in the order in which they first appear.
pub fn read(path: &Path) -> Result<Vec<App>, DataError> {
    let table = Table::read(path)?;
    let mut apps: Vec<App> = Vec::new();
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    for line in table.lines() {
        let name = line.text("app_name")?.to_owned();
        let memory: f64 = line.number("memory_request")?;
        let per_node: i64 = line.number("max_instance_per_node")?;
        let group = Group {
            role: line.text("role")?.to_owned(),
            cpu: line.number("cpu_request")?,
            memory: memory.ceil() as u64,
            gpus: line.number("gpu_request")?,
            network: line.number("rdma_request")?,
            per_node: u32::try_from(per_node).unwrap_or(0),
            count: 0,
        };
        let at = *numbers.entry(name.clone()).or_insert(apps.len());
        if at == apps.len() {
            apps.push(App {
                name,
                groups: Vec::new(),
            });
        }
        let same = apps[at].groups.iter_mut().find(|known| {
            Group {
                count: 0,
                ..(*known).clone()
            } == group
        });
        match same {
            Some(known) => known.count += 1,
            None => apps[at].groups.push(Group { count: 1, ..group }),
        }
    }
    Ok(apps)
}

/// Cores, gibibytes, GPUs and network of a machine, by role.
const MACHINES: [(&str, [u64; 4]); 2] = [("HN", [96, 1_024, 8, 200]), ("CN", [192, 2_048, 0, 100])];

/// Places every App, one after the other, on more machines than it takes.
pub fn run(apps: &[App], policy: &mut dyn Policy) -> Run {
    let groups = || apps.iter().flat_map(|app| &app.groups);
    policy.apply(Event::Queue(specs::queue("all")));
    let mut id = 0;
    let mut least = 0;
    let mut gpu_nodes = 0;
    for (role, has) in MACHINES {
        policy.apply(Event::Pool(specs::pool(role, DeviceMode::Counted, &[])));
        let asked = |of: fn(&Group) -> u64| -> u64 {
            let here = groups().filter(|group| group.role == role);
            here.map(|group| of(group) * u64::from(group.count)).sum()
        };
        let sums = [
            asked(|g| g.cpu),
            asked(|g| g.memory),
            asked(|g| g.gpus),
            asked(|g| g.network),
        ];
        let needed = sums
            .iter()
            .zip(has)
            .filter(|(_, has)| *has > 0)
            .map(|(sum, has)| sum.div_ceil(has));
        let needed = needed.max().unwrap_or(0);
        least += needed;
        for _ in 0..needed * 2 + 100 {
            let allocatable = amounts(has);
            policy.apply(Event::Node(specs::node(
                id,
                format!("{role}-{id}"),
                role,
                allocatable,
            )));
            id += 1;
        }
        if has[2] > 0 {
            gpu_nodes = id;
        }
    }
    let (mut instances, mut placed, mut network) = (0, 0, 0);
    let mut used: BTreeSet<NodeId> = BTreeSet::new();
    let mut number = 0;
    for app in apps {
        for group in &app.groups {
            number += 1;
            instances += group.count;
            let spec = GroupSpec {
                pools: vec![group.role.clone()],
                per_node_max: group.per_node,
                ..specs::group(
                    group.count,
                    amounts([group.cpu, group.memory, group.gpus, group.network]),
                )
            };
            let now = Time::from_ms(number);
            let task = TaskSpec {
                name: app.name.clone(),
                kind: TaskKind::Service,
                ..specs::task(number as u64, "all", now, vec![spec])
            };
            policy.apply(Event::Task(task));
            for decision in policy.decide(now) {
                policy.apply(Event::Committed(decision.id));
                if let DecisionKind::Start { placements, .. } = decision.kind {
                    placed += placements.len();
                    network += group.network * placements.len() as u64;
                    used.extend(placements.iter().map(|placement| placement.node));
                }
            }
        }
    }
    // Nodes with GPUs have the lower numbers.
    let capacity: u64 = used
        .iter()
        .map(|node| if node.0 < gpu_nodes { 200 } else { 100 })
        .sum();
    Run {
        instances,
        placed_percent: placed as f64 * 100.0 / f64::from(instances.max(1)),
        nodes_used: used.len(),
        nodes_least: least,
        network_percent: network as f64 * 100.0 / capacity.max(1) as f64,
    }
}

fn amounts([cpu, memory, gpus, network]: [u64; 4]) -> Resources {
    let mut extended = BTreeMap::new();
    if network > 0 {
        extended.insert("rdma".to_owned(), network);
    }
    Resources {
        cpu: MilliCpu(cpu * 1_000),
        memory: Bytes(memory << 30),
        gpu_milli: gpus * 1_000,
        extended,
    }
}
