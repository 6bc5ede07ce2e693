//! Pools and nodes: what there is and what is free, as dense columns.
//!
//! Every change of a node is noted in its pool's change log, so that cached scores refresh only what
//! changed. Nothing here knows about tasks or queues.

use crate::amount::{Amount, CPU, EXTENDED, GPU, LANES, MEMORY, SLOTS, UNLIMITED, lane_amount};
use crate::class::Class;
use crate::decision::DeviceShare;
use crate::event::{
    DeviceMode, GroupSpec, NodeId, NodeSpec, Packing, PoolSpec, Taint, TaintEffect, Toleration,
};
use crate::hash::Map;
use crate::names::{Name, Names};
use base::Bytes;

/// Position of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PoolIdx(pub(crate) u32);

/// Position of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeIdx(pub(crate) u32);

/// The pool of nodes that belong to none. It has no spec, so nothing starts there.
pub(crate) const NO_POOL: PoolIdx = PoolIdx(0);

/// A hole in a pool's list of members.
pub(crate) const HOLE: NodeIdx = NodeIdx(u32::MAX);

/// The most devices of one node; more are ignored.
pub(crate) const DEVICES_MAX: usize = 64;

/// One pool with its members and the log of their changes.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) name: String,
    /// `None` where the pool is gone or was only mentioned.
    pub(crate) spec: Option<PoolSpec>,
    /// The extended resources of this pool; position + `EXTENDED` is the lane.
    pub(crate) extended: Vec<Name>,
    /// Nodes by position; holes are reused.
    pub(crate) members: Vec<NodeIdx>,
    holes: Vec<u32>,
    /// How many members there are.
    pub(crate) count: usize,
    /// The largest amount that any member has, for normalising; right after `refresh_largest`.
    pub(crate) largest: Amount,
    largest_stale: bool,
    /// All that the present members have.
    pub(crate) capacity: Amount,
    /// Changes with `largest`, the lanes or the spec: cached scores are then void.
    pub(crate) layout: u32,
    /// Positions that changed, oldest first; the first entry has sequence `log_start`.
    pub(crate) log: Vec<u32>,
    pub(crate) log_start: u64,
    /// Grows whenever something may fit that did not fit before.
    pub(crate) gains: u64,
}

impl Pool {
    /// The sequence that the next change gets.
    pub(crate) fn log_end(&self) -> u64 {
        self.log_start + self.log.len() as u64
    }

    pub(crate) fn lane(&self, resource: Name) -> Option<usize> {
        let at = self.extended.iter().position(|name| *name == resource)?;
        Some(EXTENDED + at)
    }

    fn lane_or_new(&mut self, resource: Name) -> Option<usize> {
        if let Some(lane) = self.lane(resource) {
            return Some(lane);
        }
        if self.extended.len() == LANES - EXTENDED {
            return None;
        }
        self.extended.push(resource);
        self.layout += 1;
        Some(EXTENDED + self.extended.len() - 1)
    }

    pub(crate) fn lane_name<'a>(&self, lane: usize, names: &'a Names) -> &'a str {
        match lane {
            CPU => "cpu",
            MEMORY => "memory",
            GPU => "gpu",
            SLOTS => "slots",
            _ => names.text(self.extended[lane - EXTENDED]),
        }
    }

    pub(crate) fn is_spread(&self) -> bool {
        self.spec
            .as_ref()
            .is_some_and(|spec| spec.packing == Packing::Spread)
    }
}

/// One named device.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) id: Box<str>,
    pub(crate) class: Name,
    pub(crate) model: Name,
    pub(crate) memory: i64,
    /// Thousandths left; below zero where capacity is claimed before it is free.
    pub(crate) left: i32,
    pub(crate) memory_left: i64,
    pub(crate) healthy: bool,
    /// Held, but not in the node's last list.
    pub(crate) missing: bool,
    pub(crate) link_group: u16,
    pub(crate) numa: u16,
}

/// What is rarely read of a node.
#[derive(Debug)]
pub(crate) struct NodeText {
    pub(crate) name: String,
    pub(crate) labels: Box<[(Name, Box<str>)]>,
    pub(crate) taints: Box<[Taint]>,
    pub(crate) unschedulable: bool,
    /// The devices of a node of a pool that counts them.
    counted: Box<[Device]>,
}

/// All nodes as columns.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    by_id: Map<NodeId, NodeIdx>,
    pub(crate) id: Vec<NodeId>,
    pub(crate) pool: Vec<PoolIdx>,
    pub(crate) position: Vec<u32>,
    pub(crate) capacity: Vec<Amount>,
    pub(crate) free: Vec<Amount>,
    /// Empty on nodes whose devices are counted.
    pub(crate) devices: Vec<Box<[Device]>>,
    /// GPU models with their memory, for nodes whose devices are counted.
    pub(crate) models: Vec<Box<[(Name, i64)]>>,
    pub(crate) text: Vec<NodeText>,
    pub(crate) present: Vec<bool>,
    /// Sequence of the last change in its pool's log.
    pub(crate) changed: Vec<u64>,
    /// Sequence of the last change of what the node is, rather than what is free of it.
    pub(crate) respecified: Vec<u64>,
    unused: Vec<NodeIdx>,
}

/// What a member asks of a node of one pool, in that pool's lanes.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) amount: Amount,
    /// Whole GPUs, then the part of one more.
    pub(crate) gpus: u32,
    pub(crate) part: i32,
    pub(crate) gpu_memory: i64,
    pub(crate) models: Vec<Name>,
    /// Named devices of other classes: (class, how many).
    pub(crate) others: Vec<(Name, u32)>,
    /// A resource that no node of the pool has.
    pub(crate) unknown: Option<Name>,
    pub(crate) per_node_max: u32,
}

/// Why a node is out of the question for a class, full or empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Excluded {
    Cordoned,
    Selector(String),
    Taint(String),
    Model,
    GpuMemory,
    Fraction,
    Affinity,
}

impl std::fmt::Display for Excluded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Excluded::Cordoned => f.write_str("being unschedulable"),
            Excluded::Selector(key) => write!(f, "the selector `{key}`"),
            Excluded::Taint(key) => write!(f, "the taint `{key}`"),
            Excluded::Model => f.write_str("the GPU model"),
            Excluded::GpuMemory => f.write_str("the memory of their GPUs"),
            Excluded::Fraction => f.write_str("counted GPUs, which cannot be shared"),
            Excluded::Affinity => f.write_str("the affinity"),
        }
    }
}

/// Pools, nodes and the words they use.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) names: Names,
    pub(crate) pools: Vec<Pool>,
    pool_by_name: Map<String, PoolIdx>,
    pub(crate) nodes: Nodes,
    pub(crate) gpu: Name,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let mut names = Names::default();
        let gpu = names.intern("gpu");
        let mut cluster = Self {
            names,
            pools: Vec::new(),
            pool_by_name: Map::default(),
            nodes: Nodes::default(),
            gpu,
        };
        cluster.push_pool(String::new());
        cluster
    }

    pub(crate) fn pool(&self, idx: PoolIdx) -> &Pool {
        &self.pools[idx.0 as usize]
    }

    pub(crate) fn pool_mut(&mut self, idx: PoolIdx) -> &mut Pool {
        &mut self.pools[idx.0 as usize]
    }

    pub(crate) fn find_pool(&self, name: &str) -> Option<PoolIdx> {
        self.pool_by_name.get(name).copied()
    }

    pub(crate) fn find_node(&self, id: NodeId) -> Option<NodeIdx> {
        self.nodes.by_id.get(&id).copied()
    }

    /// Pools in the order of their names.
    pub(crate) fn pools_by_name(&self) -> Vec<PoolIdx> {
        let mut pools: Vec<PoolIdx> = (1..self.pools.len() as u32).map(PoolIdx).collect();
        pools.sort_by(|a, b| self.pool(*a).name.cmp(&self.pool(*b).name));
        pools
    }

    fn push_pool(&mut self, name: String) -> PoolIdx {
        let idx = PoolIdx(self.pools.len() as u32);
        if !name.is_empty() {
            self.pool_by_name.insert(name.clone(), idx);
        }
        self.pools.push(Pool {
            name,
            spec: None,
            extended: Vec::new(),
            members: Vec::new(),
            holes: Vec::new(),
            count: 0,
            largest: Amount::ZERO,
            largest_stale: false,
            capacity: Amount::ZERO,
            layout: 0,
            log: Vec::new(),
            log_start: 1,
            gains: 0,
        });
        idx
    }

    pub(crate) fn pool_or_new(&mut self, name: &str) -> PoolIdx {
        match self.find_pool(name) {
            Some(idx) => idx,
            None if name.is_empty() => NO_POOL,
            None => self.push_pool(name.to_owned()),
        }
    }

    pub(crate) fn set_pool(&mut self, spec: PoolSpec) -> PoolIdx {
        let idx = self.pool_or_new(&spec.name);
        let pool = self.pool_mut(idx);
        pool.layout += 1;
        pool.gains += 1;
        pool.spec = Some(spec);
        idx
    }

    /// The node's position, made on first mention.
    pub(crate) fn node_or_new(&mut self, id: NodeId) -> NodeIdx {
        if let Some(idx) = self.find_node(id) {
            return idx;
        }
        let text = NodeText {
            name: format!("node {}", id.0),
            labels: Box::default(),
            taints: Box::default(),
            unschedulable: true,
            counted: Box::default(),
        };
        let nodes = &mut self.nodes;
        let idx = nodes.unused.pop().unwrap_or(NodeIdx(nodes.id.len() as u32));
        let at = idx.0 as usize;
        if at == nodes.id.len() {
            nodes.id.push(id);
            nodes.pool.push(NO_POOL);
            nodes.position.push(0);
            nodes.capacity.push(Amount::ZERO);
            nodes.free.push(Amount::ZERO);
            nodes.devices.push(Box::default());
            nodes.models.push(Box::default());
            nodes.text.push(text);
            nodes.present.push(false);
            nodes.changed.push(0);
            nodes.respecified.push(0);
        } else {
            nodes.id[at] = id;
            nodes.capacity[at] = Amount::ZERO;
            nodes.free[at] = Amount::ZERO;
            nodes.devices[at] = Box::default();
            nodes.models[at] = Box::default();
            nodes.text[at] = text;
        }
        nodes.by_id.insert(id, idx);
        self.join(idx, NO_POOL);
        idx
    }

    /// Forgets a node that is gone and holds nothing.
    pub(crate) fn forget_node(&mut self, idx: NodeIdx) {
        let at = idx.0 as usize;
        self.leave(idx);
        self.nodes.by_id.remove(&self.nodes.id[at]);
        self.nodes.unused.push(idx);
    }

    fn join(&mut self, idx: NodeIdx, pool_idx: PoolIdx) {
        let pool = &mut self.pools[pool_idx.0 as usize];
        let position = match pool.holes.pop() {
            Some(position) => position,
            None => {
                pool.members.push(HOLE);
                pool.members.len() as u32 - 1
            }
        };
        pool.members[position as usize] = idx;
        let at = idx.0 as usize;
        self.nodes.pool[at] = pool_idx;
        self.nodes.position[at] = position;
    }

    fn leave(&mut self, idx: NodeIdx) {
        self.touch(idx);
        let at = idx.0 as usize;
        let (capacity, position) = (self.nodes.capacity[at], self.nodes.position[at]);
        let pool = &mut self.pools[self.nodes.pool[at].0 as usize];
        pool.members[position as usize] = HOLE;
        pool.holes.push(position);
        pool.count -= usize::from(self.nodes.present[at]);
        pool.largest_stale = true;
        pool.capacity -= &capacity;
    }

    /// Writes what a node is. All of it is free afterwards: the caller takes again what is held.
    /// `missing` are devices that are held although the node does not list them any more.
    pub(crate) fn set_node(
        &mut self,
        spec: &NodeSpec,
        pool_idx: PoolIdx,
        missing: Vec<Device>,
    ) -> NodeIdx {
        let idx = self.node_or_new(spec.id);
        let at = idx.0 as usize;
        self.leave(idx);
        self.join(idx, pool_idx);
        let named_pool = self
            .pool(pool_idx)
            .spec
            .as_ref()
            .is_some_and(|pool| pool.devices == DeviceMode::Named);
        let mut capacity = Amount::ZERO;
        capacity.0[CPU] = lane_amount(spec.allocatable.cpu.0);
        capacity.0[MEMORY] = lane_amount(spec.allocatable.memory.0);
        capacity.0[GPU] = lane_amount(spec.allocatable.gpu_milli);
        capacity.0[SLOTS] = if spec.slots_max == 0 {
            UNLIMITED
        } else {
            i64::from(spec.slots_max)
        };
        let mut resources: Vec<(Name, i64)> = Vec::new();
        for (resource, amount) in &spec.allocatable.extended {
            resources.push((self.names.intern(resource), lane_amount(*amount)));
        }
        let mut devices = Vec::new();
        let mut models: Vec<(Name, i64)> = Vec::new();
        if !spec.devices.is_empty() {
            capacity.0[GPU] = 0;
        }
        for device in spec.devices.iter().take(DEVICES_MAX) {
            let class = self.names.intern(&device.class);
            let model = self.names.intern(&device.model);
            let memory = lane_amount(device.memory.0);
            if device.healthy && class == self.gpu {
                capacity.0[GPU] += 1_000;
                models.push((model, memory));
            }
            if class != self.gpu {
                // The devices themselves are the truth about their number.
                let amount = i64::from(device.healthy);
                let first = devices.iter().all(|d: &Device| d.class != class);
                match resources.iter_mut().find(|(name, _)| *name == class) {
                    Some((_, sum)) if first => *sum = amount,
                    Some((_, sum)) => *sum += amount,
                    None => resources.push((class, amount)),
                }
            }
            devices.push(Device {
                id: device.id.as_str().into(),
                class,
                model,
                memory,
                left: 1_000,
                memory_left: memory,
                healthy: device.healthy,
                missing: false,
                link_group: device.link_group,
                numa: device.numa,
            });
        }
        devices.extend(missing.into_iter().map(|device| Device {
            healthy: false,
            missing: true,
            left: 1_000,
            memory_left: device.memory,
            ..device
        }));
        for (resource, amount) in resources {
            if let Some(lane) = self.pools[pool_idx.0 as usize].lane_or_new(resource) {
                capacity.0[lane] = amount;
            }
        }
        let mut counted = Vec::new();
        if !named_pool {
            std::mem::swap(&mut devices, &mut counted);
        }
        let pool = &mut self.pools[pool_idx.0 as usize];
        pool.capacity += &capacity;
        pool.count += 1;
        pool.largest_stale = true;
        pool.gains += 1;
        let nodes = &mut self.nodes;
        nodes.capacity[at] = capacity;
        nodes.free[at] = capacity;
        nodes.devices[at] = devices.into_boxed_slice();
        models.sort();
        models.dedup();
        nodes.models[at] = models.into_boxed_slice();
        nodes.present[at] = true;
        let labels: Vec<(Name, Box<str>)> = spec
            .labels
            .iter()
            .map(|(key, value)| (self.names.intern(key), value.as_str().into()))
            .collect();
        self.nodes.text[at] = NodeText {
            name: spec.name.clone(),
            labels: labels.into_boxed_slice(),
            taints: spec.taints.clone().into_boxed_slice(),
            unschedulable: spec.unschedulable,
            counted: counted.into_boxed_slice(),
        };
        self.touch(idx);
        self.nodes.respecified[at] = self.nodes.changed[at];
        idx
    }

    /// Takes a node out of use; what it holds still counts.
    pub(crate) fn node_gone(&mut self, idx: NodeIdx) {
        let at = idx.0 as usize;
        if self.nodes.present[at] {
            let capacity = self.nodes.capacity[at];
            let pool = &mut self.pools[self.nodes.pool[at].0 as usize];
            pool.capacity -= &capacity;
            pool.count -= 1;
            pool.largest_stale = true;
            self.nodes.present[at] = false;
            self.nodes.capacity[at] = Amount::ZERO;
            self.nodes.free[at] -= &capacity;
            self.touch(idx);
            self.nodes.respecified[at] = self.nodes.changed[at];
        }
    }

    /// Hands devices out by identity or by count from now on. Nothing may be held meanwhile.
    pub(crate) fn set_device_mode(&mut self, idx: NodeIdx, mode: DeviceMode) {
        let at = idx.0 as usize;
        let named = &mut self.nodes.devices[at];
        let counted = &mut self.nodes.text[at].counted;
        let wrong = match mode {
            DeviceMode::Named => named.is_empty(),
            DeviceMode::Counted => !named.is_empty(),
        };
        if wrong {
            std::mem::swap(named, counted);
        }
        self.touch(idx);
        self.nodes.respecified[at] = self.nodes.changed[at];
    }

    /// Keeps everything off a node until it is announced again.
    pub(crate) fn cordon(&mut self, idx: NodeIdx) {
        let at = idx.0 as usize;
        self.nodes.text[at].unschedulable = true;
        self.touch(idx);
        self.nodes.respecified[at] = self.nodes.changed[at];
    }

    /// The devices that a node declared, named or counted.
    pub(crate) fn declared_devices(&self, idx: NodeIdx) -> &[Device] {
        let at = idx.0 as usize;
        let named = &self.nodes.devices[at];
        if named.is_empty() {
            &self.nodes.text[at].counted
        } else {
            named
        }
    }

    /// Brings the largest amounts up to date after nodes came, went or changed.
    pub(crate) fn refresh_largest(&mut self) {
        for pool in &mut self.pools {
            if !std::mem::take(&mut pool.largest_stale) {
                continue;
            }
            let mut largest = Amount::ZERO;
            for node in pool.members.iter().filter(|node| **node != HOLE) {
                let capacity = &self.nodes.capacity[node.0 as usize];
                for lane in 0..LANES {
                    largest.0[lane] = largest.0[lane].max(capacity.0[lane]);
                }
            }
            if largest != pool.largest {
                pool.largest = largest;
                pool.layout += 1;
            }
        }
    }

    /// Notes that a node changed.
    pub(crate) fn touch(&mut self, idx: NodeIdx) {
        let at = idx.0 as usize;
        let pool = &mut self.pools[self.nodes.pool[at].0 as usize];
        // Twice the pool's size is as good as a fresh start for whoever reads it.
        let log_max = 1_024 + 2 * pool.members.len();
        if pool.log.len() >= 2 * log_max {
            let cut = pool.log.len() - log_max;
            pool.log.drain(..cut);
            pool.log_start += cut as u64;
        }
        self.nodes.changed[at] = pool.log_end();
        pool.log.push(self.nodes.position[at]);
    }

    /// What a class asks for in a pool's lanes.
    pub(crate) fn ask(&self, class: &Class, pool_idx: PoolIdx) -> Ask {
        let pool = self.pool(pool_idx);
        let request = &class.spec.request;
        let mut amount = Amount::ZERO;
        amount.0[CPU] = lane_amount(request.cpu.0);
        amount.0[MEMORY] = lane_amount(request.memory.0);
        amount.0[GPU] = lane_amount(request.gpu_milli);
        amount.0[SLOTS] = 1;
        let mut unknown = None;
        let mut others = Vec::new();
        for (resource, count) in &request.extended {
            let name = self.names.find(resource);
            match name.and_then(|name| Some((name, pool.lane(name)?))) {
                Some((name, lane)) => {
                    amount.0[lane] = lane_amount(*count);
                    others.push((name, u32::try_from(*count).unwrap_or(u32::MAX)));
                }
                // A name that was never interned has no node either; `gpu` stands for any such name.
                None => unknown = Some(name.unwrap_or(self.gpu)),
            }
        }
        Ask {
            amount,
            gpus: u32::try_from(request.gpu_milli / 1_000).unwrap_or(u32::MAX),
            part: (request.gpu_milli % 1_000) as i32,
            gpu_memory: lane_amount(class.spec.gpu_memory.0),
            models: class.models.clone(),
            others,
            unknown,
            per_node_max: class.spec.per_node_max,
        }
    }

    /// Why a node is out of the question for a class, whatever is free; affinity is not looked at.
    pub(crate) fn excluded(&self, idx: NodeIdx, class: &Class, ask: &Ask) -> Option<Excluded> {
        let at = idx.0 as usize;
        let text = &self.nodes.text[at];
        if text.unschedulable || !self.nodes.present[at] {
            return Some(Excluded::Cordoned);
        }
        for (key, value) in &class.spec.node_selector {
            let matches = self
                .label(idx, key)
                .is_some_and(|have| have == value.as_str());
            if !matches {
                return Some(Excluded::Selector(format!("{key}={value}")));
            }
        }
        for taint in &text.taints {
            let hard = taint.effect != TaintEffect::PreferNoSchedule;
            if hard && !tolerated(&class.spec, taint) {
                return Some(Excluded::Taint(taint.key.clone()));
            }
        }
        if ask.amount.0[GPU] > 0 {
            return self.gpus_excluded(at, ask);
        }
        None
    }

    fn gpus_excluded(&self, at: usize, ask: &Ask) -> Option<Excluded> {
        let devices = &self.nodes.devices[at];
        let models = &self.nodes.models[at];
        if devices.is_empty() {
            // A plugin picks the device: every model of the node must do.
            if ask.part != 0 {
                return Some(Excluded::Fraction);
            }
            let all = |fits: &dyn Fn(&(Name, i64)) -> bool| models.iter().all(fits);
            if !ask.models.is_empty()
                && (models.is_empty() || !all(&|(model, _)| ask.models.contains(model)))
            {
                return Some(Excluded::Model);
            }
            if ask.gpu_memory > 0
                && (models.is_empty() || !all(&|(_, memory)| *memory >= ask.gpu_memory))
            {
                return Some(Excluded::GpuMemory);
            }
            return None;
        }
        let model_fits = |model: &Name| ask.models.is_empty() || ask.models.contains(model);
        if !models.iter().any(|(model, _)| model_fits(model)) {
            return (!ask.models.is_empty()).then_some(Excluded::Model);
        }
        let memory_fits = models
            .iter()
            .any(|(model, memory)| model_fits(model) && *memory >= ask.gpu_memory);
        (!memory_fits).then_some(Excluded::GpuMemory)
    }

    pub(crate) fn label(&self, idx: NodeIdx, key: &str) -> Option<&str> {
        let text = &self.nodes.text[idx.0 as usize];
        let name = self.names.find(key)?;
        let found = text.labels.iter().find(|(key, _)| *key == name);
        match found {
            Some((_, value)) => Some(value),
            None if key == "host" => Some(&text.name),
            None => None,
        }
    }

    /// Whether a taint makes the node a last resort for a class.
    pub(crate) fn disliked(&self, idx: NodeIdx, class: &Class) -> bool {
        self.nodes.text[idx.0 as usize].taints.iter().any(|taint| {
            taint.effect == TaintEffect::PreferNoSchedule && !tolerated(&class.spec, taint)
        })
    }

    /// Whether one member fits now, devices included.
    pub(crate) fn fits(&self, idx: NodeIdx, ask: &Ask) -> bool {
        let at = idx.0 as usize;
        ask.unknown.is_none()
            && self.nodes.free[at].lacks(&ask.amount).is_none()
            && devices_fit(&self.nodes.devices[at], ask, self.gpu)
    }

    /// How many members fit now, up to `max`.
    pub(crate) fn count_fits(&self, idx: NodeIdx, ask: &Ask, max: u32) -> u32 {
        let at = idx.0 as usize;
        if ask.unknown.is_some() {
            return 0;
        }
        let max = if ask.per_node_max > 0 {
            max.min(ask.per_node_max)
        } else {
            max
        };
        let by_lanes = self.nodes.free[at].count(&ask.amount).min(i64::from(max)) as u32;
        let devices = &self.nodes.devices[at];
        if by_lanes == 0 || devices.is_empty() {
            return by_lanes;
        }
        if ask.part == 0 && ask.others.is_empty() {
            if ask.gpus == 0 {
                return by_lanes;
            }
            let whole = devices
                .iter()
                .filter(|d| whole_free(d, ask, self.gpu))
                .count() as u32;
            return by_lanes.min(whole / ask.gpus);
        }
        let mut devices = devices.to_vec();
        for count in 0..by_lanes {
            let Some(shares) = pick(&devices, ask, self.gpu) else {
                return count;
            };
            for share in &shares {
                use_share(&mut devices[share.device as usize], share, -1);
            }
        }
        by_lanes
    }

    /// How many members an empty node of this kind would hold; at most `u16::MAX`.
    pub(crate) fn count_empty(&self, idx: NodeIdx, ask: &Ask) -> u16 {
        let at = idx.0 as usize;
        let mut count = self.nodes.capacity[at].count(&ask.amount);
        if ask.per_node_max > 0 {
            count = count.min(i64::from(ask.per_node_max));
        }
        let devices = &self.nodes.devices[at];
        if count > 0 && !devices.is_empty() && (ask.gpus > 0 || ask.part > 0) {
            let good = devices.iter().filter(|device| {
                let large = device.memory >= ask.gpu_memory;
                device.class == self.gpu && device.healthy && large && model_fits(device, ask)
            });
            let good = good.count() as i64;
            let by_devices = match (ask.gpus, ask.part) {
                (gpus, 0) => good / i64::from(gpus),
                (0, part) => good * (1_000 / i64::from(part)),
                (gpus, _) => good / (i64::from(gpus) + 1),
            };
            count =
                count.min(by_devices.max(i64::from(by_devices == 0 && good > i64::from(ask.gpus))));
        }
        u16::try_from(count.max(0)).unwrap_or(u16::MAX)
    }

    /// The devices one member would get; `None` where they do not fit. Empty where devices are counted.
    pub(crate) fn pick_devices(&self, idx: NodeIdx, ask: &Ask) -> Option<Vec<DeviceShare>> {
        pick(&self.nodes.devices[idx.0 as usize], ask, self.gpu)
    }

    /// The same, with the part of a GPU on a given device.
    pub(crate) fn pick_devices_on(
        &self,
        idx: NodeIdx,
        ask: &Ask,
        device: u16,
    ) -> Option<Vec<DeviceShare>> {
        let devices = &self.nodes.devices[idx.0 as usize];
        let memory = if ask.gpu_memory > 0 {
            part_memory(&devices[device as usize], ask)
        } else {
            0
        };
        let part = DeviceShare {
            device,
            milli: ask.part as u16,
            memory: Bytes(memory as u64),
        };
        if ask.others.is_empty() {
            return Some(vec![part]);
        }
        let others = Ask {
            part: 0,
            ..ask.clone()
        };
        let mut shares = vec![part];
        shares.extend(pick(devices, &others, self.gpu)?);
        Some(shares)
    }

    /// Takes capacity; the caller has checked that it fits, or reports a fact.
    pub(crate) fn take(&mut self, idx: NodeIdx, amount: &Amount, shares: &[DeviceShare]) {
        self.change(idx, amount, shares, -1);
    }

    /// Gives capacity back.
    pub(crate) fn give(&mut self, idx: NodeIdx, amount: &Amount, shares: &[DeviceShare]) {
        self.change(idx, amount, shares, 1);
    }

    /// Gives or takes for a moment: the caller brings the node back before anybody looks.
    pub(crate) fn lend(
        &mut self,
        idx: NodeIdx,
        amount: &Amount,
        shares: &[DeviceShare],
        give: bool,
    ) {
        self.count(idx, amount, shares, if give { 1 } else { -1 });
    }

    fn change(&mut self, idx: NodeIdx, amount: &Amount, shares: &[DeviceShare], sign: i32) {
        self.count(idx, amount, shares, sign);
        self.touch(idx);
    }

    fn count(&mut self, idx: NodeIdx, amount: &Amount, shares: &[DeviceShare], sign: i32) {
        let at = idx.0 as usize;
        let free = &mut self.nodes.free[at];
        if sign < 0 {
            *free -= amount;
        } else {
            *free += amount;
        }
        let devices = &mut self.nodes.devices[at];
        if !devices.is_empty() && (amount.0[GPU] != 0 || !shares.is_empty()) {
            for share in shares {
                // A share of a device that has gone from the node holds nothing.
                if let Some(device) = devices.get_mut(share.device as usize) {
                    use_share(device, share, sign);
                }
            }
            // Sick devices count neither as capacity nor as use.
            free.0[GPU] = devices
                .iter()
                .filter(|d| d.healthy && d.class == self.gpu)
                .map(|d| i64::from(d.left))
                .sum();
        }
    }
}

/// Whether a group consents to a taint.
pub(crate) fn tolerated(group: &GroupSpec, taint: &Taint) -> bool {
    group.tolerations.iter().any(|toleration: &Toleration| {
        (toleration.key.is_empty() || toleration.key == taint.key)
            && toleration
                .value
                .as_ref()
                .is_none_or(|value| *value == taint.value)
            && toleration
                .effect
                .is_none_or(|effect| effect == taint.effect)
    })
}

fn use_share(device: &mut Device, share: &DeviceShare, sign: i32) {
    device.left += sign * i32::from(share.milli);
    device.memory_left += i64::from(sign) * share_memory(device, share);
}

fn share_memory(device: &Device, share: &DeviceShare) -> i64 {
    if share.memory.0 > 0 {
        lane_amount(share.memory.0)
    } else {
        device.memory / 1_000 * i64::from(share.milli)
    }
}

fn model_fits(device: &Device, ask: &Ask) -> bool {
    ask.models.is_empty() || ask.models.contains(&device.model)
}

pub(crate) fn whole_free(device: &Device, ask: &Ask, gpu: Name) -> bool {
    device.class == gpu
        && device.healthy
        && device.left >= 1_000
        && device.memory >= ask.gpu_memory
        && model_fits(device, ask)
}

pub(crate) fn part_free(device: &Device, ask: &Ask, gpu: Name) -> bool {
    let memory = part_memory(device, ask);
    device.class == gpu
        && device.healthy
        && device.left >= ask.part
        && device.memory_left >= memory
        && model_fits(device, ask)
}

fn part_memory(device: &Device, ask: &Ask) -> i64 {
    if ask.gpu_memory > 0 {
        ask.gpu_memory
    } else {
        device.memory / 1_000 * i64::from(ask.part)
    }
}

fn devices_fit(devices: &[Device], ask: &Ask, gpu: Name) -> bool {
    if devices.is_empty() {
        return true;
    }
    if ask.gpus > 0 || ask.part > 0 {
        let (mut whole, mut shared) = (0, 0);
        for device in devices {
            if whole_free(device, ask, gpu) {
                whole += 1;
            } else if ask.part > 0 && part_free(device, ask, gpu) {
                shared += 1;
            }
        }
        let part_needs = u32::from(ask.part > 0 && shared == 0);
        if whole < ask.gpus.saturating_add(part_needs) {
            return false;
        }
    }
    ask.others.iter().all(|(class, count)| {
        let mut of_class = devices.iter().filter(|d| d.class == *class).peekable();
        of_class.peek().is_none()
            || of_class.filter(|d| d.healthy && d.left >= 1_000).count() as u32 >= *count
    })
}

/// Picks devices: a part goes where the least is left over, whole ones to the link group with the
/// fewest free devices that holds them all.
fn pick(devices: &[Device], ask: &Ask, gpu: Name) -> Option<Vec<DeviceShare>> {
    if devices.is_empty() {
        return Some(Vec::new());
    }
    let mut shares = Vec::new();
    if ask.part > 0 {
        let (at, device) = devices
            .iter()
            .enumerate()
            .filter(|(_, d)| part_free(d, ask, gpu))
            .min_by_key(|(at, d)| (d.left, *at))?;
        shares.push(DeviceShare {
            device: at as u16,
            milli: ask.part as u16,
            memory: Bytes(if ask.gpu_memory > 0 {
                part_memory(device, ask) as u64
            } else {
                0
            }),
        });
    }
    if ask.gpus > 0 {
        let taken = shares.first().map(|share| share.device);
        let free: Vec<(u16, &Device)> = devices
            .iter()
            .enumerate()
            .map(|(at, d)| (at as u16, d))
            .filter(|(at, d)| whole_free(d, ask, gpu) && Some(*at) != taken)
            .collect();
        shares.extend(pick_linked(&free, ask.gpus)?.into_iter().map(whole));
    }
    for (class, count) in &ask.others {
        let mut of_class = devices
            .iter()
            .enumerate()
            .filter(|(_, d)| d.class == *class)
            .peekable();
        if of_class.peek().is_none() {
            continue;
        }
        let free: Vec<u16> = of_class
            .filter(|(_, d)| d.healthy && d.left >= 1_000)
            .map(|(at, _)| at as u16)
            .take(*count as usize)
            .collect();
        if free.len() < *count as usize {
            return None;
        }
        shares.extend(free.into_iter().map(whole));
    }
    Some(shares)
}

fn whole(device: u16) -> DeviceShare {
    DeviceShare {
        device,
        milli: 1_000,
        memory: Bytes(0),
    }
}

fn pick_linked(free: &[(u16, &Device)], count: u32) -> Option<Vec<u16>> {
    let count = count as usize;
    if free.len() < count {
        return None;
    }
    let size = |group: u16| free.iter().filter(|(_, d)| d.link_group == group).count();
    // Groups by (is it large enough, how little is left over, number); then NUMA node, then position.
    let mut order: Vec<(usize, u16, u16, u16)> = free
        .iter()
        .map(|(at, d)| {
            let size = size(d.link_group);
            let rank = if size >= count {
                size
            } else {
                2 * DEVICES_MAX - size
            };
            (rank, d.link_group, d.numa, *at)
        })
        .collect();
    order.sort_unstable();
    Some(order.into_iter().take(count).map(|(.., at)| at).collect())
}
