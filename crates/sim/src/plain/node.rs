//! A machine as plain rules see it: what is left of it, device by device.

use base::Time;
use sched::{DeviceShare, GroupSpec, NodeSpec, SlotId, TaintEffect};
use std::collections::BTreeMap;

/// What a member asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ask {
    /// Thousandths of cores.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// How many GPUs.
    pub gpus: usize,
    /// Thousandths of each.
    pub milli: i64,
    /// Models that it accepts; empty accepts any.
    pub models: Vec<String>,
    /// Other resources.
    pub extended: Vec<(String, i64)>,
}

impl Ask {
    pub(super) fn of(group: &GroupSpec) -> Self {
        let gpu = group.request.gpu_milli;
        let (gpus, milli) = match gpu {
            0 => (0, 0),
            1..1_000 => (1, gpu as i64),
            _ => ((gpu / 1_000) as usize, 1_000),
        };
        let extended = group.request.extended.iter();
        Self {
            cpu: group.request.cpu.0 as i64,
            memory: group.request.memory.0 as i64,
            gpus,
            milli,
            models: group.gpu_models.clone(),
            extended: extended
                .map(|(name, units)| (name.clone(), *units as i64))
                .collect(),
        }
    }

    /// Thousandths of GPUs in all.
    pub fn gpu_milli(&self) -> i64 {
        self.gpus as i64 * self.milli
    }

    pub(super) fn accepts(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|accepted| accepted == model)
    }
}

/// A seat that was given.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) slot: SlotId,
    pub(super) node: usize,
    pub(super) devices: Vec<usize>,
    pub(super) ask: Ask,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) spec: NodeSpec,
    pub(super) here: bool,
    pub(super) cpu: i64,
    pub(super) memory: i64,
    pub(super) slots: i64,
    pub(super) extended: BTreeMap<String, i64>,
    /// Thousandths left of each GPU.
    pub(super) left: Vec<i64>,
    pub(super) model: String,
    /// Pods by what they ask of GPUs.
    pub(super) kinds: BTreeMap<(usize, i64), u32>,
    /// Where each GPU stands in the node's devices; empty where devices are only counted.
    named: Vec<u16>,
}

impl Node {
    pub(super) fn new(spec: NodeSpec) -> Self {
        let gpus = spec
            .devices
            .iter()
            .enumerate()
            .filter(|(_, device)| device.class == "gpu");
        let named: Vec<u16> = gpus.map(|(at, _)| at as u16).collect();
        let counted = (spec.allocatable.gpu_milli / 1_000) as usize;
        let count = if spec.devices.is_empty() {
            counted
        } else {
            named.len()
        };
        let model = named
            .first()
            .map(|at| spec.devices[*at as usize].model.clone());
        let extended = spec.allocatable.extended.iter();
        let mut extended: BTreeMap<String, i64> = extended
            .map(|(name, units)| (name.clone(), *units as i64))
            .collect();
        for device in spec
            .devices
            .iter()
            .filter(|device| device.class != "gpu" && device.healthy)
        {
            *extended.entry(device.class.clone()).or_default() += 1;
        }
        let mut left = vec![1_000; count];
        for (gpu, at) in named.iter().enumerate() {
            if !spec.devices[*at as usize].healthy {
                left[gpu] = 0;
            }
        }
        Self {
            here: true,
            cpu: spec.allocatable.cpu.0 as i64,
            memory: spec.allocatable.memory.0 as i64,
            slots: if spec.slots_max == 0 {
                i64::MAX
            } else {
                i64::from(spec.slots_max)
            },
            extended,
            left,
            model: model.unwrap_or_default(),
            kinds: BTreeMap::new(),
            named,
            spec,
        }
    }

    /// Whether a member of the group may be here at all.
    pub(super) fn admits(&self, group: &GroupSpec) -> bool {
        let pools = group.pools.is_empty() || group.pools.contains(&self.spec.pool);
        let labels = &self.spec.labels;
        let selected = group
            .node_selector
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value));
        let tolerated = self.spec.taints.iter().all(|taint| {
            taint.effect == TaintEffect::PreferNoSchedule
                || group.tolerations.iter().any(|toleration| {
                    (toleration.key.is_empty() || toleration.key == taint.key)
                        && toleration
                            .value
                            .as_ref()
                            .is_none_or(|value| *value == taint.value)
                        && toleration
                            .effect
                            .is_none_or(|effect| effect == taint.effect)
                })
        });
        self.here && !self.spec.unschedulable && pools && selected && tolerated
    }

    pub(super) fn is_drained(&self) -> bool {
        self.spec
            .taints
            .iter()
            .any(|taint| taint.effect == TaintEffect::NoExecute)
    }

    pub(super) fn fits(&self, ask: &Ask) -> bool {
        let devices = self.left.iter().filter(|left| **left >= ask.milli).count();
        self.here
            && self.cpu >= ask.cpu
            && self.memory >= ask.memory
            && self.slots > 0
            && (ask.gpus == 0 || (devices >= ask.gpus && ask.accepts(&self.model)))
            && ask
                .extended
                .iter()
                .all(|(name, units)| self.extended.get(name).copied().unwrap_or(0) >= *units)
    }

    pub(super) fn post(&mut self, seat: &Seat, sign: i64) {
        let ask = &seat.ask;
        self.cpu -= sign * ask.cpu;
        self.memory -= sign * ask.memory;
        self.slots -= sign;
        for (name, units) in &ask.extended {
            *self.extended.entry(name.clone()).or_default() -= sign * units;
        }
        for device in &seat.devices {
            if let Some(left) = self.left.get_mut(*device) {
                *left -= sign * ask.milli;
            }
        }
        let kind = self.kinds.entry((ask.gpus, ask.milli)).or_default();
        *kind = kind.saturating_add_signed(sign as i32);
    }

    pub(super) fn shares(&self, seat: &Seat) -> Vec<DeviceShare> {
        let devices = seat
            .devices
            .iter()
            .filter_map(|device| self.named.get(*device));
        devices
            .map(|device| DeviceShare {
                device: *device,
                milli: seat.ask.milli as u16,
                memory: base::Bytes(0),
                partition: None,
            })
            .collect()
    }
}

/// When a task ends at the latest, if it said so.
pub(super) fn ends_by(started: Time, limit: Option<base::Span>) -> Option<Time> {
    limit.map(|limit| started + limit)
}
