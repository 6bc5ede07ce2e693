//! Pools and nodes: what there is and what is free, as dense columns.
//!
//! Every change of a node is noted in its pool's change log, so that cached scores refresh only what
//! changed. Nothing here knows about tasks or queues.

use crate::amount::{Amount, CPU, GPU, LANES, MEMORY, SLOTS, UNLIMITED, lane_amount};
use crate::ask::{Ask, Excluded, Other, taint_text, tolerated};
use crate::class::Class;
use crate::decision::DeviceShare;
use crate::devices::{
    DEVICES_MAX, Device, count_devices, count_devices_empty, devices_fit, pick, pick_on,
};
use crate::event::{DeviceMode, NodeId, NodeSpec, PoolSpec, Taint, TaintEffect};
use crate::hash::{Folded, Map};
use crate::names::{Name, Names};
use crate::pool::{HOLE, NO_POOL, Pool, PoolIdx};
use std::hash::{Hash, Hasher};

/// Position of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeIdx(pub(crate) u32);

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

/// What a node declares, in our words.
#[derive(Debug)]
pub(crate) struct Declared {
    capacity: Amount,
    devices: Vec<Device>,
    models: Box<[(Name, i64)]>,
    labels: Box<[(Name, Box<str>)]>,
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
    /// Guaranteed as a whole to some queue.
    pub(crate) bound: Vec<bool>,
    /// A digest of the devices and the free CPU: nodes that are alike lose the same by a member. Zero without devices.
    pub(crate) state: Vec<u64>,
    /// Sequence of the last change in its pool's log.
    pub(crate) changed: Vec<u64>,
    /// Sequence of the last change of what the node is, rather than what is free of it.
    pub(crate) respecified: Vec<u64>,
    unused: Vec<NodeIdx>,
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
        self.pools.push(Pool::new(name));
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
            nodes.bound.push(false);
            nodes.state.push(0);
            nodes.changed.push(0);
            nodes.respecified.push(0);
        } else {
            nodes.id[at] = id;
            nodes.bound[at] = false;
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

    /// What a node is has changed, rather than what is free of it.
    fn note_respecified(&mut self, at: usize) {
        self.nodes.respecified[at] = self.nodes.changed[at];
        self.pools[self.nodes.pool[at].0 as usize].specs += 1;
    }

    fn leave(&mut self, idx: NodeIdx) {
        self.touch(idx);
        let at = idx.0 as usize;
        let (capacity, position) = (self.nodes.capacity[at], self.nodes.position[at]);
        let pool = &mut self.pools[self.nodes.pool[at].0 as usize];
        pool.members[position as usize] = HOLE;
        pool.specs += 1;
        pool.holes.push(position);
        pool.count -= usize::from(self.nodes.present[at]);
        pool.largest_stale = true;
        pool.capacity -= &capacity;
    }

    /// Reads what a node is: words, and lanes of its pool, are known afterwards.
    pub(crate) fn declare(&mut self, spec: &NodeSpec, pool_idx: PoolIdx) -> Declared {
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
        let mut devices: Vec<Device> = Vec::new();
        let mut declared: Vec<Name> = Vec::new();
        let mut models: Vec<(Name, i64)> = Vec::new();
        if !spec.devices.is_empty() {
            capacity.0[GPU] = 0;
        }
        for device in spec.devices.iter().take(DEVICES_MAX) {
            let device = Device::new(device, &mut self.names);
            if device.healthy && device.class == self.gpu {
                capacity.0[GPU] += 1_000;
                models.push((device.model, device.memory));
            }
            // The devices themselves are the truth about what they carry.
            let mut declare = |name: Name, amount: i64| {
                let first = !declared.contains(&name);
                declared.push(name);
                match resources.iter_mut().find(|(other, _)| *other == name) {
                    Some((_, sum)) if first => *sum = amount,
                    Some((_, sum)) => *sum += amount,
                    None => resources.push((name, amount)),
                }
            };
            let well = i64::from(device.healthy);
            if device.class != self.gpu {
                declare(device.class, well);
            }
            for lane in device.lanes() {
                declare(lane.name, well * lane.total);
            }
            for cut in device.cuts() {
                declare(cut.name, well * cut.count_max());
            }
            devices.push(device);
        }
        for (resource, amount) in resources {
            if let Some(lane) = self.pools[pool_idx.0 as usize].lane_or_new(resource) {
                capacity.0[lane] = amount;
            }
        }
        models.sort();
        models.dedup();
        let labels: Vec<(Name, Box<str>)> = spec
            .labels
            .iter()
            .map(|(key, value)| (self.names.intern(key), value.as_str().into()))
            .collect();
        Declared {
            capacity,
            devices,
            models: models.into_boxed_slice(),
            labels: labels.into_boxed_slice(),
        }
    }

    /// Whether a node is already known as it is declared. Nodes say that they are well far more often than they change.
    pub(crate) fn is_known(
        &self,
        idx: NodeIdx,
        spec: &NodeSpec,
        pool_idx: PoolIdx,
        declared: &Declared,
    ) -> bool {
        let at = idx.0 as usize;
        let (nodes, text) = (&self.nodes, &self.nodes.text[at]);
        let devices = self.declared_devices(idx);
        nodes.present[at]
            && nodes.pool[at] == pool_idx
            && nodes.capacity[at] == declared.capacity
            && nodes.models[at] == declared.models
            && text.labels == declared.labels
            && text.name == spec.name
            && text.unschedulable == spec.unschedulable
            && *text.taints == *spec.taints
            && devices.len() == declared.devices.len()
            && devices
                .iter()
                .zip(&declared.devices)
                .all(|(known, device)| known.is_declared_as(device))
    }

    /// Writes what a node is. All of it is free afterwards: the caller takes again what is held.
    /// `missing` are devices that are held although the node does not list them any more.
    pub(crate) fn set_node(
        &mut self,
        spec: &NodeSpec,
        pool_idx: PoolIdx,
        declared: Declared,
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
        let Declared {
            capacity,
            mut devices,
            models,
            labels,
        } = declared;
        devices.extend(missing.into_iter().map(Device::set_aside));
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
        nodes.models[at] = models;
        nodes.present[at] = true;
        self.nodes.text[at] = NodeText {
            name: spec.name.clone(),
            labels,
            taints: spec.taints.clone().into_boxed_slice(),
            unschedulable: spec.unschedulable,
            counted: counted.into_boxed_slice(),
        };
        self.touch(idx);
        self.note_respecified(at);
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
            self.note_respecified(at);
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
        self.note_respecified(at);
    }

    /// Keeps everything off a node until it is announced again.
    pub(crate) fn cordon(&mut self, idx: NodeIdx) {
        let at = idx.0 as usize;
        self.nodes.text[at].unschedulable = true;
        self.touch(idx);
        self.note_respecified(at);
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
        // Once a change, rather than once for each class that is compared with the node.
        self.nodes.state[at] = self.digest(at);
    }

    fn digest(&self, at: usize) -> u64 {
        let devices = &self.nodes.devices[at];
        if devices.is_empty() {
            return 0;
        }
        let mut hasher = Folded::default();
        hasher.write_u64(self.nodes.free[at].0[CPU] as u64);
        for device in devices {
            let usable = device.healthy && device.class == self.gpu;
            let left = if usable { device.left } else { 0 };
            hasher.write_u64((u64::from(device.model.0) << 32) | u64::from(left as u32));
            for taint in device.taints() {
                taint.hash(&mut hasher);
            }
        }
        hasher.finish() | 1
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
                    others.push(Other {
                        name,
                        count: u32::try_from(*count).unwrap_or(u32::MAX),
                        lane,
                    });
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
            within: class.within,
            tolerations: class.spec.tolerations.clone(),
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
                return Some(Excluded::Taint(taint_text(taint)));
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
        let mut gpus = devices.iter().filter(|d| d.class == self.gpu).peekable();
        if let Some(first) = gpus.peek().copied()
            && !gpus.any(|device| device.is_open(ask))
        {
            let mark = first.taints().first();
            return Some(Excluded::Sick(
                mark.map_or("unhealthy".to_owned(), taint_text),
            ));
        }
        let model_fits = |model: &Name| ask.models.is_empty() || ask.models.contains(model);
        if !models.iter().any(|(model, _)| model_fits(model)) {
            return (!ask.models.is_empty()).then_some(Excluded::Model);
        }
        let memory_fits = models
            .iter()
            .any(|(model, memory)| model_fits(model) && *memory >= ask.gpu_memory);
        if !memory_fits {
            return Some(Excluded::GpuMemory);
        }
        None
    }

    pub(crate) fn label(&self, idx: NodeIdx, key: &str) -> Option<&str> {
        let text = &self.nodes.text[idx.0 as usize];
        let name = self.names.find(key);
        let found = text.labels.iter().find(|(key, _)| Some(*key) == name);
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
        let pool = self.pool(self.nodes.pool[at]);
        count_devices(devices, ask, self.gpu, &|name| pool.lane(name), by_lanes)
    }

    /// How many members an empty node of this kind would hold; at most `u16::MAX`.
    pub(crate) fn count_empty(&self, idx: NodeIdx, ask: &Ask) -> u16 {
        let at = idx.0 as usize;
        let mut count = self.nodes.capacity[at].count(&ask.amount);
        if ask.per_node_max > 0 {
            count = count.min(i64::from(ask.per_node_max));
        }
        let devices = &self.nodes.devices[at];
        if let Some(by_devices) = count_devices_empty(devices, ask, self.gpu) {
            count = count.min(by_devices);
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
        pick_on(&self.nodes.devices[idx.0 as usize], ask, self.gpu, device)
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
                    let pool = &self.pools[self.nodes.pool[at].0 as usize];
                    device.use_share(share, amount, &|name| pool.lane(name), sign);
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
