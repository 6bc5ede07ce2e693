//! This machine as one or more nodes.

use crate::config::Config;
use base::{Bytes, MilliCpu, Resources, Time};
use engine::{NodeDevice, NodeReport};
use std::collections::BTreeMap;
use std::fs;
use std::time::SystemTime;

/// The clock of this engine.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Time::from_ms(since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }))
}

/// The machine's resources, its GPUs left out.
pub(crate) fn machine() -> Resources {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|total| total.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Resources {
        cpu: MilliCpu(cores * 1_000),
        memory: Bytes(kib.unwrap_or(0) << 10),
        ..Resources::default()
    }
}

/// The logical nodes: equal shares of CPU, memory, ports; GPUs dealt out in blocks.
pub(crate) fn nodes(
    config: &Config,
    mut total: Resources,
    limits_warning: Option<&str>,
) -> Vec<NodeReport> {
    total.subtract(&config.reserve);
    let (devices, gpu_warning) = match config.gpus.devices() {
        Ok(devices) => (devices, None),
        Err(warning) => (Vec::new(), Some(warning)),
    };
    let warnings: Vec<String> = limits_warning
        .map(str::to_owned)
        .into_iter()
        .chain(gpu_warning)
        .collect();
    let n_nodes = config.nodes.max(1);
    let n_ports = (u32::from(config.ports.1.saturating_sub(config.ports.0)) + 1) / n_nodes;
    let share = |i: u32| -> NodeReport {
        let bounds = |i: u32| devices.len() * i as usize / n_nodes as usize;
        let own = devices[bounds(i)..bounds(i + 1)].to_vec();
        let first = u32::from(config.ports.0) + i * n_ports;
        let port = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        NodeReport {
            name: format!("node-{}", i + 1),
            ready: true,
            address: config.address.clone(),
            ports: Some((port(first), port(first + n_ports - 1))),
            allocatable: Resources {
                cpu: MilliCpu(total.cpu.0 / u64::from(n_nodes)),
                memory: Bytes(total.memory.0 / u64::from(n_nodes)),
                gpu_milli: own.len() as u64 * 1_000,
                extended: BTreeMap::new(),
            },
            slots_max: 0,
            taints: Vec::new(),
            labels: labels(&own),
            devices: own,
            warnings: warnings.clone(),
        }
    };
    (0..n_nodes).map(share).collect()
}

fn labels(devices: &[NodeDevice]) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        ("arch".to_owned(), std::env::consts::ARCH.to_owned()),
        ("os".to_owned(), std::env::consts::OS.to_owned()),
        ("engine".to_owned(), "local".to_owned()),
    ]);
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    labels.insert("hostname".to_owned(), hostname.trim().to_owned());
    if let Some(device) = devices.first() {
        labels.insert("gpu.model".to_owned(), device.model.clone());
    }
    labels
}
