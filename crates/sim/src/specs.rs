//! Events with what most simulations leave alone already filled in.

use base::{Bytes, MilliCpu, Resources, Span, Time, Uid};
use sched::*;
use std::collections::BTreeMap;

/// Amounts of the common resources.
pub fn amount(cpu_milli: u64, memory: u64, gpu_milli: u64) -> Resources {
    Resources {
        cpu: MilliCpu(cpu_milli),
        memory: Bytes(memory),
        gpu_milli,
        extended: BTreeMap::new(),
    }
}

/// A pool that packs nodes, whose devices are counted unless `devices` says otherwise.
pub fn pool(name: &str, devices: DeviceMode, levels: &[&str]) -> PoolSpec {
    PoolSpec {
        name: name.to_owned(),
        packing: Packing::BinPack,
        devices,
        levels: levels.iter().map(|level| (*level).to_owned()).collect(),
        half_life: None,
    }
}

/// A node without marks or named devices.
pub fn node(id: u32, name: String, pool: &str, allocatable: Resources) -> NodeSpec {
    NodeSpec {
        id: NodeId(id),
        name,
        pool: pool.to_owned(),
        allocatable,
        slots_max: 0,
        labels: BTreeMap::new(),
        taints: Vec::new(),
        unschedulable: false,
        devices: Vec::new(),
    }
}

/// `count` equal GPUs.
pub fn gpus(model: &str, count: u16) -> Vec<DeviceSpec> {
    let device = |number: u16| DeviceSpec {
        id: format!("gpu-{number}"),
        class: "gpu".to_owned(),
        model: model.to_owned(),
        memory: Bytes(0),
        healthy: true,
        link_group: 0,
        numa: 0,
        taints: Vec::new(),
        lanes: BTreeMap::new(),
        partitions: Vec::new(),
    };
    (0..count).map(device).collect()
}

/// A queue without quotas.
pub fn queue(name: &str) -> QueueSpec {
    QueueSpec {
        name: name.to_owned(),
        parent: None,
        priority: 0,
        order: QueueOrder::Priority,
        quotas: BTreeMap::new(),
    }
}

/// A quota in every pool.
pub fn quota(guaranteed: Resources, limit: &[(&str, u64)], weight: u32) -> Quota {
    let limit = limit.iter();
    Quota {
        guaranteed,
        limit: limit
            .map(|(name, most)| ((*name).to_owned(), *most))
            .collect(),
        weight,
        shapes: Vec::new(),
    }
}

/// Identical members that must all start.
pub fn group(count: u32, request: Resources) -> GroupSpec {
    GroupSpec {
        name: "worker".to_owned(),
        count,
        min: count,
        request,
        gpu_models: Vec::new(),
        gpu_memory: Bytes(0),
        node_selector: BTreeMap::new(),
        pools: Vec::new(),
        tolerations: Vec::new(),
        affinity: Affinity::default(),
        topology: None,
        per_node_max: 0,
    }
}

/// The identity of the task with this number.
pub fn task_id(number: u64) -> TaskId {
    TaskId(Uid(u128::from(number) + 1))
}

/// A batch task that may be stopped at once and saves nothing.
pub fn task(number: u64, queue: &str, submitted: Time, groups: Vec<GroupSpec>) -> TaskSpec {
    TaskSpec {
        id: task_id(number),
        generation: 1,
        name: format!("task-{number}"),
        queue: queue.to_owned(),
        kind: TaskKind::Batch,
        priority: 0,
        submitted,
        groups,
        preemptible: true,
        min_runtime: Span::ZERO,
        grace: Span::ZERO,
        checkpoints: false,
        time_limit: None,
        expected: None,
        disruption: None,
        readmit: false,
    }
}
