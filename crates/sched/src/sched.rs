//! The scheduler: the state that events change and decisions are made from.

use crate::amount::Amount;
use crate::board::Boards;
use crate::class::{ClassIdx, Classes, ShapeIdx};
use crate::cluster::{Cluster, HOLE, NodeIdx, PoolIdx};
use crate::config::Config;
use crate::decision::{DecisionId, DeviceShare, Placement};
use crate::domains::Domains;
use crate::event::{Event, NodeId, NodeSpec, PoolSpec, RunningTask, SlotId, TaskId, TaskSpec};
use crate::fragmentation::Typical;
use crate::hash::Map;
use crate::hold::{Nomination, Reservation};
use crate::ledger::Ledger;
use crate::place::Undo;
use crate::task::{Held, Rare, Stage, Task, TaskIdx, Tasks};
use crate::waiting::Waiting;
use base::{Time, Uid};
use std::collections::{BTreeMap, BTreeSet};

/// A decision that is not durable yet.
#[derive(Clone, Debug)]
pub(crate) enum Pending {
    Start {
        task: TaskId,
        /// What it was changed to meanwhile.
        next: Option<Box<TaskSpec>>,
    },
    Grow {
        task: TaskId,
        slots: Vec<SlotId>,
    },
    Evict {
        task: TaskId,
    },
    Nominate {
        task: TaskId,
    },
}

/// The scheduler core. Events in, decisions out; see the crate's head.
#[derive(Debug)]
pub struct Sched {
    pub(crate) config: Config,
    pub(crate) cluster: Cluster,
    pub(crate) domains: Domains,
    pub(crate) typical: Typical,
    pub(crate) classes: Classes,
    pub(crate) boards: Boards,
    pub(crate) ledger: Ledger,
    pub(crate) tasks: Tasks,
    pub(crate) waiting: Waiting,
    /// Who holds seats on a node.
    pub(crate) holders: Vec<Vec<(TaskIdx, SlotId)>>,
    pub(crate) pending: BTreeMap<DecisionId, Pending>,
    pub(crate) decisions_made: u64,
    pub(crate) journal: Vec<Undo>,
    /// Pools by name.
    pub(crate) pool_order: Vec<PoolIdx>,
    /// The gains of each pool that waiting tasks were already told about.
    pub(crate) gains_told: Vec<u64>,
    pub(crate) reservations: BTreeMap<PoolIdx, Reservation>,
    pub(crate) nominations: BTreeMap<TaskId, Nomination>,
    /// Tasks that were told to stop and have not ended, in all and by the App that they disturb.
    pub(crate) stopping: u32,
    /// Tasks that hold something and consent to being stopped.
    pub(crate) consenting: usize,
    pub(crate) disrupted: Map<Uid, u32>,
    /// Nodes on which something may have to leave.
    pub(crate) suspects: BTreeSet<NodeIdx>,
    /// Elastic tasks that run with less than they could use.
    pub(crate) growing: BTreeSet<TaskIdx>,
    pub(crate) growing_is_new: bool,
    pub(crate) growth_next: TaskIdx,
    /// The gains of each pool at which growing was tried.
    pub(crate) growth_seen: Vec<u64>,
}

impl Sched {
    /// A scheduler that knows nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            cluster: Cluster::new(),
            domains: Domains::default(),
            typical: Typical::default(),
            classes: Classes::default(),
            boards: Boards::default(),
            ledger: Ledger::default(),
            tasks: Tasks::default(),
            waiting: Waiting::default(),
            holders: Vec::new(),
            pending: BTreeMap::new(),
            decisions_made: 0,
            journal: Vec::new(),
            pool_order: Vec::new(),
            gains_told: Vec::new(),
            reservations: BTreeMap::new(),
            nominations: BTreeMap::new(),
            stopping: 0,
            consenting: 0,
            disrupted: Map::default(),
            suspects: BTreeSet::new(),
            growing: BTreeSet::new(),
            growing_is_new: false,
            growth_next: TaskIdx(0),
            growth_seen: Vec::new(),
        }
    }

    /// Takes note of a fact. Facts may repeat; what is unknown or outdated is ignored.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Pool(spec) => self.set_pool(spec),
            Event::PoolGone(name) => self.pool_gone(&name),
            Event::Node(spec) => self.set_node(&spec),
            Event::NodeGone(id) => self.node_gone(id),
            Event::Queue(spec) => {
                self.ledger.set(spec);
                self.waiting.wake_all();
            }
            Event::QueueGone(name) => {
                self.ledger.remove(&name);
                self.waiting.wake_all();
            }
            Event::Task(spec) => self.set_task(spec),
            Event::Running(running) => self.set_running(running),
            Event::TaskGone(id) => self.task_gone(id),
            Event::Releasing {
                task,
                slot,
                deadline,
            } => self.releasing(task, slot, deadline),
            Event::Released { task, slot } => self.released(task, slot),
            Event::Committed(id) => self.committed(id),
            Event::Rejected(id) => self.rejected(id),
            Event::Calendar(_) | Event::CalendarGone(_) => {}
        }
    }

    // ---- pools and nodes ----

    fn set_pool(&mut self, spec: PoolSpec) {
        let mode = spec.devices;
        let idx = self.cluster.set_pool(spec);
        self.pool_order = self.cluster.pools_by_name();
        for node in self.cluster.pool(idx).members.clone() {
            if node != HOLE {
                self.without_holders(node, |sched| sched.cluster.set_device_mode(node, mode));
            }
        }
        self.waiting.wake_all();
    }

    fn pool_gone(&mut self, name: &str) {
        let Some(idx) = self.cluster.find_pool(name) else {
            return;
        };
        let pool = self.cluster.pool_mut(idx);
        pool.spec = None;
        for node in pool.members.clone() {
            if node != HOLE {
                self.cluster.cordon(node);
            }
        }
        self.waiting.wake_all();
    }

    fn set_node(&mut self, spec: &NodeSpec) {
        let pool = self.cluster.pool_or_new(&spec.pool);
        self.pool_order = self.cluster.pools_by_name();
        let node = self.node_or_new(spec.id);
        let held: Vec<u16> = self.holders[node.0 as usize]
            .iter()
            .flat_map(|(task, slot)| {
                let task = self.tasks.get(*task);
                let held = task.find(*slot).ok().map(|at| &task.held[at].shares);
                held.into_iter().flatten().map(|share| share.device)
            })
            .collect();
        // Where each device goes. One that is missing but held is kept aside as sick, so that it is
        // not handed out twice when it comes back.
        let mut missing = Vec::new();
        let mut moved = Vec::new();
        for (at, device) in self.cluster.declared_devices(node).iter().enumerate() {
            let found = spec
                .devices
                .iter()
                .position(|other| *other.id == *device.id);
            moved.push(match found {
                Some(position) => position as u16,
                None if held.contains(&(at as u16)) => {
                    missing.push(device.clone());
                    (spec.devices.len() + missing.len() - 1) as u16
                }
                None => u16::MAX,
            });
        }
        self.without_holders(node, |sched| {
            if !moved.iter().copied().eq(0..moved.len() as u16) {
                sched.renumber_devices(node, &moved);
            }
            sched.cluster.set_node(spec, pool, missing);
            sched.domains.node_changed(node, &sched.cluster);
        });
        if !self.holders[node.0 as usize].is_empty() {
            self.suspects.insert(node);
        }
    }

    /// Shares follow their device by identity when a node lists its devices differently.
    fn renumber_devices(&mut self, node: NodeIdx, moved: &[u16]) {
        for (task, slot) in &self.holders[node.0 as usize] {
            let task = self.tasks.get_mut(*task);
            let Ok(at) = task.find(*slot) else { continue };
            for share in &mut task.held[at].shares {
                if let Some(to) = moved.get(share.device as usize) {
                    share.device = *to;
                }
            }
        }
    }

    fn node_gone(&mut self, id: NodeId) {
        let Some(node) = self.cluster.find_node(id) else {
            return;
        };
        self.cluster.node_gone(node);
        self.forget_if_empty(node);
    }

    pub(crate) fn node_or_new(&mut self, id: NodeId) -> NodeIdx {
        let node = self.cluster.node_or_new(id);
        if self.holders.len() <= node.0 as usize {
            self.holders.resize_with(node.0 as usize + 1, Vec::new);
        }
        node
    }

    fn forget_if_empty(&mut self, node: NodeIdx) {
        let at = node.0 as usize;
        let claimed = || {
            let mut seats = self.nominations.values().flat_map(|n| &n.seats);
            seats.any(|seat| seat.node == node)
        };
        if !self.cluster.nodes.present[at] && self.holders[at].is_empty() && !claimed() {
            self.suspects.remove(&node);
            self.cluster.forget_node(node);
        }
    }

    /// Runs a change of what a node is while nothing on it is counted.
    fn without_holders(&mut self, node: NodeIdx, change: impl FnOnce(&mut Self)) {
        // What was planned for the node is planned again on what it has become.
        self.reservations
            .retain(|_, reservation| !reservation.kept.contains_key(&node));
        let nominees: Vec<TaskId> = self
            .nominations
            .iter()
            .filter(|(_, nomination)| nomination.seats.iter().any(|seat| seat.node == node))
            .map(|(id, _)| *id)
            .collect();
        for id in nominees {
            if let Some(idx) = self.tasks.find(id)
                && self.drop_nomination(idx)
            {
                self.enqueue(idx);
            }
        }
        for (task, slot) in self.holders[node.0 as usize].clone() {
            self.count_held(task, slot, false);
        }
        change(self);
        for (task, slot) in self.holders[node.0 as usize].clone() {
            self.count_held(task, slot, true);
        }
    }

    fn count_held(&mut self, idx: TaskIdx, slot: SlotId, add: bool) {
        let task = self.tasks.get(idx);
        let Ok(at) = task.find(slot) else { return };
        let (node, mut shares, queue) =
            (task.held[at].node, task.held[at].shares.clone(), task.queue);
        let class = self.class_of(task.shape, slot);
        let amount = self.seat_amount(class, node);
        let pool = self.cluster.nodes.pool[node.0 as usize];
        if add {
            let is_named = !self.cluster.nodes.devices[node.0 as usize].is_empty();
            if shares.is_empty() && is_named {
                // Whoever placed it did not say where: the devices that we would have named.
                let ask = self.cluster.ask(self.classes.class(class), pool);
                let picked = self.cluster.pick_devices(node, &ask).unwrap_or_default();
                shares = picked.into_boxed_slice();
                self.tasks.get_mut(idx).held[at].shares = shares.clone();
            }
            self.take_seat(node, class, &shares);
            self.ledger.add(queue, pool, &amount);
        } else {
            self.give_seat(node, class, &shares);
            self.ledger.subtract(queue, pool, &amount);
        }
    }

    pub(crate) fn class_of(&self, shape: ShapeIdx, slot: SlotId) -> ClassIdx {
        let parts = &self.classes.shape(shape).parts;
        parts[(slot.group as usize).min(parts.len() - 1)].class
    }

    // ---- tasks ----

    fn set_task(&mut self, spec: TaskSpec) {
        if spec.groups.is_empty() {
            return;
        }
        let Some(idx) = self.tasks.find(spec.id) else {
            self.insert_waiting(spec);
            return;
        };
        let task = self.tasks.get(idx);
        if spec.generation <= task.generation {
            return;
        }
        match task.stage {
            Stage::Waiting => {
                self.remove_waiting(idx);
                self.insert_waiting(spec);
            }
            Stage::Starting(decision) => {
                if let Some(Pending::Start { next, .. }) = self.pending.get_mut(&decision) {
                    *next = Some(Box::new(spec));
                }
            }
            // A running task keeps the spec that it was started with.
            Stage::Running => {}
        }
    }

    fn make_task(&mut self, spec: TaskSpec, stage: Stage) -> Task {
        let shape = self.classes.acquire(&spec, &mut self.cluster.names);
        let mut recount = false;
        let parts = self.classes.shape(shape).parts.clone();
        for part in &parts {
            let class = self.classes.class(part.class);
            if class.has_affinity() || class.topology.is_some() {
                recount |= self.domains.register(class, &self.cluster);
            }
        }
        if recount {
            self.recount_presence();
        }
        if matches!(stage, Stage::Waiting) {
            for part in &parts {
                for pool in self.pools_of(part.class) {
                    let ask = self.cluster.ask(self.classes.class(part.class), pool);
                    self.typical.arrived(pool, &ask, part.count);
                }
            }
        }
        let rare = Rare {
            disruption: spec.disruption,
            evicting: None,
        };
        Task {
            id: spec.id,
            generation: spec.generation,
            name: spec.name.into_boxed_str(),
            queue: self.ledger.find_or_new(&spec.queue),
            shape,
            stage,
            priority: spec.priority,
            submitted: spec.submitted,
            preemptible: spec.preemptible,
            checkpoints: spec.checkpoints,
            readmit: spec.readmit,
            withdrawn: false,
            min_runtime: spec.min_runtime,
            grace: spec.grace,
            time_limit: spec.time_limit,
            started: Time::from_ms(0),
            held: Vec::new(),
            given: Box::default(),
            rare: (rare != Rare::default()).then(|| Box::new(rare)),
        }
    }

    fn recount_presence(&mut self) {
        self.domains.clear_presence();
        let mut seats = Vec::new();
        for (_, task) in self.tasks.iter() {
            for held in &task.held {
                let class = self.class_of(task.shape, held.slot);
                if self.classes.class(class).has_affinity() {
                    seats.push((class, held.node));
                }
            }
        }
        for (class, node) in seats {
            let class = self.classes.class(class);
            self.domains.count(class, node, true, &mut self.cluster);
        }
    }

    fn insert_waiting(&mut self, spec: TaskSpec) {
        let task = self.make_task(spec, Stage::Waiting);
        let idx = self.tasks.insert(task);
        self.enqueue(idx);
    }

    pub(crate) fn enqueue(&mut self, idx: TaskIdx) {
        let task = self.tasks.get(idx);
        let (queue, order) = (task.queue, task.order());
        self.waiting
            .insert(queue, task.shape, task.time_limit, order, idx);
        self.ledger.count_waiting(queue, true);
    }

    /// Takes a task out of the rows, or gives up its nomination.
    pub(crate) fn dequeue(&mut self, idx: TaskIdx) {
        if self.drop_nomination(idx) {
            return;
        }
        let task = self.tasks.get(idx);
        let (queue, order) = (task.queue, task.order());
        self.waiting
            .remove(queue, task.shape, task.time_limit, order);
        self.ledger.count_waiting(queue, false);
    }

    fn remove_waiting(&mut self, idx: TaskIdx) {
        self.dequeue(idx);
        self.forget_task(idx);
    }

    fn forget_task(&mut self, idx: TaskIdx) {
        if self.tasks.get(idx).evicting().is_some() {
            self.count_stopping(idx, false);
        }
        self.growing.remove(&idx);
        let task = self.tasks.get(idx);
        if task.stage != Stage::Waiting && task.preemptible {
            self.consenting -= 1;
        }
        if let Some(task) = self.tasks.remove(idx) {
            for class in self.classes.release(task.shape) {
                self.boards.forget(class, self.cluster.pools.len());
            }
        }
    }

    fn set_running(&mut self, running: RunningTask) {
        if running.spec.groups.is_empty() {
            return;
        }
        let mut marks: Vec<(SlotId, Time)> = Vec::new();
        let mut evicting = None;
        if let Some(idx) = self.tasks.find(running.spec.id) {
            // The fact replaces whatever was assumed; stops that were asked for stay asked for.
            let task = self.tasks.get(idx);
            evicting = task.evicting();
            let releasing = task
                .held
                .iter()
                .filter_map(|h| Some((h.slot, h.releasing?)));
            marks.extend(releasing);
            self.drop_pending_of(idx);
            match self.tasks.get(idx).stage {
                Stage::Waiting => self.remove_waiting(idx),
                Stage::Starting(_) | Stage::Running => {
                    self.release_all(idx);
                    self.forget_task(idx);
                }
            }
        }
        let mut task = self.make_task(running.spec, Stage::Running);
        task.started = running.started;
        self.consenting += usize::from(task.preemptible);
        let groups = self.classes.shape(task.shape).parts.len();
        let idx = self.tasks.insert(task);
        let mut placements = running.placements;
        placements.sort_by_key(|placement| placement.slot);
        placements.dedup_by_key(|placement| placement.slot);
        for placement in placements {
            if (placement.slot.group as usize) < groups {
                let releasing = marks.iter().find(|(slot, _)| *slot == placement.slot);
                let releasing = releasing.map(|(_, deadline)| *deadline);
                self.hold_fact(idx, placement, releasing);
            }
        }
        if self.tasks.get(idx).held.is_empty() {
            self.forget_task(idx);
            return;
        }
        if evicting.is_some() {
            self.tasks.get_mut(idx).set_evicting(evicting);
            self.count_stopping(idx, true);
        }
        for node in self.tasks.get(idx).held.iter().map(|held| held.node) {
            self.suspects.insert(node);
        }
        self.note_growing(idx);
    }

    /// Remembers an elastic task that could use more seats.
    pub(crate) fn note_growing(&mut self, idx: TaskIdx) {
        let task = self.tasks.get(idx);
        let parts = &self.classes.shape(task.shape).parts;
        let numbered = parts.iter().enumerate();
        let wants = numbered
            .filter(|(_, part)| part.count > part.min)
            .any(|(group, part)| task.given(group) < part.count);
        if wants {
            self.growing_is_new |= self.growing.insert(idx);
        }
    }

    /// Counts a seat that somebody holds, whether it fits or not.
    fn hold_fact(&mut self, idx: TaskIdx, placement: Placement, releasing: Option<Time>) {
        let node = self.node_or_new(placement.node);
        let held = Held {
            slot: placement.slot,
            node,
            shares: placement.devices.into_boxed_slice(),
            releasing,
        };
        self.note_held(idx, held);
        self.count_held(idx, placement.slot, true);
    }

    /// Writes a seat into the books without counting its capacity.
    pub(crate) fn note_held(&mut self, idx: TaskIdx, held: Held) {
        self.holders[held.node.0 as usize].push((idx, held.slot));
        let groups = {
            let shape = self.tasks.get(idx).shape;
            self.classes.shape(shape).parts.len()
        };
        let task = self.tasks.get_mut(idx);
        if task.given.is_empty() {
            task.given = vec![0; groups].into_boxed_slice();
        }
        let given = &mut task.given[held.slot.group as usize];
        *given = (*given).max(held.slot.index + 1);
        match task.find(held.slot) {
            Ok(_) => {}
            Err(at) => task.held.insert(at, held),
        }
    }

    /// Gives one seat back.
    pub(crate) fn release_seat(&mut self, idx: TaskIdx, slot: SlotId) {
        self.count_held(idx, slot, false);
        let task = self.tasks.get_mut(idx);
        let Ok(at) = task.find(slot) else { return };
        let held = task.held.remove(at);
        let node = held.node.0 as usize;
        if self.tasks.get(idx).evicting().is_some() {
            let (queue, shape) = (self.tasks.get(idx).queue, self.tasks.get(idx).shape);
            let class = self.class_of(shape, slot);
            let amount = self.seat_amount(class, held.node);
            let pool = self.cluster.nodes.pool[node];
            self.ledger.count_leaving(queue, pool, &amount, false);
        }
        let holders = &mut self.holders[node];
        if let Some(at) = holders.iter().position(|holder| *holder == (idx, slot)) {
            holders.swap_remove(at);
        }
        let pool = self.cluster.nodes.pool[node];
        self.cluster.pool_mut(pool).gains += 1;
        self.forget_if_empty(held.node);
    }

    pub(crate) fn release_all(&mut self, idx: TaskIdx) {
        while let Some(held) = self.tasks.get(idx).held.last() {
            let slot = held.slot;
            self.release_seat(idx, slot);
        }
    }

    fn task_gone(&mut self, id: TaskId) {
        let Some(idx) = self.tasks.find(id) else {
            return;
        };
        match self.tasks.get(idx).stage {
            Stage::Waiting => self.remove_waiting(idx),
            Stage::Starting(_) | Stage::Running => self.tasks.get_mut(idx).withdrawn = true,
        }
    }

    fn releasing(&mut self, id: TaskId, slot: SlotId, deadline: Time) {
        let Some(idx) = self.tasks.find(id) else {
            return;
        };
        let task = self.tasks.get_mut(idx);
        if let Ok(at) = task.find(slot) {
            task.held[at].releasing = Some(deadline);
        }
    }

    fn released(&mut self, id: TaskId, slot: SlotId) {
        let Some(idx) = self.tasks.find(id) else {
            return;
        };
        if self.tasks.get(idx).find(slot).is_err() {
            return;
        }
        self.release_seat(idx, slot);
        if self.tasks.get(idx).held.is_empty() {
            self.drop_pending_of(idx);
            self.forget_task(idx);
        }
    }

    fn drop_pending_of(&mut self, idx: TaskIdx) {
        let id = self.tasks.get(idx).id;
        self.pending.retain(|_, pending| match pending {
            Pending::Start { task, .. }
            | Pending::Grow { task, .. }
            | Pending::Evict { task }
            | Pending::Nominate { task } => *task != id,
        });
    }

    // ---- answers to decisions ----

    fn committed(&mut self, id: DecisionId) {
        if let Some(Pending::Start { task, .. }) = self.pending.remove(&id)
            && let Some(idx) = self.tasks.find(task)
        {
            self.tasks.get_mut(idx).stage = Stage::Running;
            self.note_growing(idx);
        }
    }

    fn rejected(&mut self, id: DecisionId) {
        match self.pending.remove(&id) {
            Some(Pending::Start { task, next }) => {
                let Some(idx) = self.tasks.find(task) else {
                    return;
                };
                self.release_all(idx);
                if self.tasks.get(idx).withdrawn {
                    self.forget_task(idx);
                } else if let Some(spec) = next {
                    self.forget_task(idx);
                    self.insert_waiting(*spec);
                } else {
                    let task = self.tasks.get_mut(idx);
                    self.consenting -= usize::from(task.preemptible);
                    task.stage = Stage::Waiting;
                    task.given = Box::default();
                    self.enqueue(idx);
                }
            }
            Some(Pending::Grow { task, slots }) => {
                let Some(idx) = self.tasks.find(task) else {
                    return;
                };
                for slot in slots {
                    if self.tasks.get(idx).find(slot).is_ok() {
                        self.release_seat(idx, slot);
                    }
                    let given = &mut self.tasks.get_mut(idx).given[slot.group as usize];
                    *given = (*given).min(slot.index);
                }
            }
            Some(Pending::Evict { task }) => {
                if let Some(idx) = self.tasks.find(task) {
                    self.count_stopping(idx, false);
                    let task = self.tasks.get_mut(idx);
                    task.set_evicting(None);
                    for held in &mut task.held {
                        held.releasing = None;
                    }
                    let nodes: Vec<NodeIdx> = task.held.iter().map(|held| held.node).collect();
                    self.suspects.extend(nodes);
                }
            }
            Some(Pending::Nominate { task }) => {
                if let Some(idx) = self.tasks.find(task)
                    && self.drop_nomination(idx)
                {
                    self.enqueue(idx);
                }
            }
            None => {}
        }
    }

    // ---- what others may read ----

    /// How many tasks wait.
    pub fn waiting(&self) -> usize {
        self.waiting.count
    }

    /// How many decisions are not answered yet.
    pub fn unanswered(&self) -> usize {
        self.pending.len()
    }

    /// What a queue and all below it use of a pool; `None` where either is unknown.
    pub fn queue_used(&self, queue: &str, pool: &str) -> Option<base::Resources> {
        let queue = self.ledger.find(queue)?;
        let pool = self.cluster.find_pool(pool)?;
        let used = self.ledger.used(queue, pool);
        Some(self.resources(&used, pool))
    }

    /// How many tasks wait in a queue and below it.
    pub fn queue_waiting(&self, queue: &str) -> usize {
        let found = self.ledger.find(queue);
        found.map_or(0, |queue| self.ledger.queue(queue).waiting)
    }

    /// What a node has and what is free of it; `None` for one that is unknown.
    pub fn node_usage(&self, node: NodeId) -> Option<(base::Resources, base::Resources)> {
        let node = self.cluster.find_node(node)?;
        let at = node.0 as usize;
        let pool = self.cluster.nodes.pool[at];
        Some((
            self.resources(&self.cluster.nodes.capacity[at], pool),
            self.resources(&self.cluster.nodes.free[at], pool),
        ))
    }

    /// Thousandths left of each named device of a node, by position.
    pub fn devices_left(&self, node: NodeId) -> Vec<i32> {
        let Some(node) = self.cluster.find_node(node) else {
            return Vec::new();
        };
        let devices = &self.cluster.nodes.devices[node.0 as usize];
        let present = devices.iter().filter(|device| !device.missing);
        present.map(|device| device.left).collect()
    }

    /// The seats that a task holds, with their devices.
    pub fn placements(&self, task: TaskId) -> Vec<Placement> {
        let Some(idx) = self.tasks.find(task) else {
            return Vec::new();
        };
        let held = self.tasks.get(idx).held.iter();
        held.map(|held| self.placement(held.slot, held.node, &held.shares))
            .collect()
    }

    pub(crate) fn placement(
        &self,
        slot: SlotId,
        node: NodeIdx,
        shares: &[DeviceShare],
    ) -> Placement {
        Placement {
            slot,
            node: self.cluster.nodes.id[node.0 as usize],
            devices: shares.to_vec(),
        }
    }

    fn resources(&self, amount: &Amount, pool: PoolIdx) -> base::Resources {
        use crate::amount::{CPU, EXTENDED, GPU, MEMORY};
        let unsigned = |lane: usize| amount.0[lane].max(0) as u64;
        let extended = self.cluster.pool(pool).extended.iter().enumerate();
        base::Resources {
            cpu: base::MilliCpu(unsigned(CPU)),
            memory: base::Bytes(unsigned(MEMORY)),
            gpu_milli: unsigned(GPU),
            extended: extended
                .map(|(at, name)| {
                    let name = self.cluster.names.text(*name).to_owned();
                    (name, unsigned(EXTENDED + at))
                })
                .filter(|(_, amount)| *amount > 0)
                .collect(),
        }
    }
}
